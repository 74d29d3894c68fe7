//! `application/x-www-form-urlencoded`, strictly: what is not UTF-8 or ends within an escape is refused, not mended.

/// Decodes one name or value; none if it is malformed.
pub(super) fn decode(text: &[u8]) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => hex(*bytes.next()?)? << 4 | hex(*bytes.next()?)?,
            byte => *byte,
        });
    }
    String::from_utf8(out).ok()
}

/// The pairs of a form, in order; none if one is malformed.
pub(super) fn pairs(form: &[u8]) -> Option<Vec<(String, String)>> {
    form.split(|byte| *byte == b'&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let end = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
            Some((decode(&pair[..end])?, decode(pair.get(end + 1..).unwrap_or_default())?))
        })
        .collect()
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn forms() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            pairs(b"a=1&b=x+y%2B%c3%A9&&c&=d&e=f=g"),
            Some(vec![pair("a", "1"), pair("b", "x y+é"), pair("c", ""), pair("", "d"), pair("e", "f=g")])
        );
        assert_eq!(pairs(b""), Some(vec![]));
        for bad in ["a=%", "a=%2", "a=%zz", "a=%+1", "a=%ff", "%c3=1"] {
            assert_eq!(pairs(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(pairs(b"a=\xff"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(form in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(pairs(&form));
        }
    }
}
