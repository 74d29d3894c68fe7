//! A text with its escapes undone, and where each part of it stood.

use std::ops::Range;

use memchr::memchr;

/// A way of writing bytes that are not to stand as they are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Escape {
    /// RFC 3986: `%2F`.
    Percent,
    /// RFC 8259: `\/`, `\u002f`.
    Json,
}

/// A text with one kind of its escapes undone.
#[derive(Debug)]
pub(super) struct Unescaped {
    text: Vec<u8>,
    /// In order; each reaches to the next.
    runs: Vec<Run>,
    original_len: usize,
}

/// A part of the text: what stood as it is, or one escape.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// Its place here.
    at: usize,
    /// Its place in the original.
    original: usize,
    is_escape: bool,
}

/// What stands at an escape's mark.
enum Read {
    /// These bytes (as many as the second number says), written with so many.
    Bytes([u8; 4], usize, usize),
    /// The text ends within it.
    Incomplete,
    /// It is none.
    None,
}

impl Unescaped {
    /// None: there are no such escapes. `cut`: an escape that the end of the text goes through is left out.
    pub(super) fn of(original: &[u8], escape: Escape, cut: bool) -> Option<Self> {
        let mark = match escape {
            Escape::Percent => b'%',
            Escape::Json => b'\\',
        };
        let mut next = memchr(mark, original)?;
        let mut out = Self { text: Vec::new(), runs: Vec::new(), original_len: original.len() };
        let mut kept = 0;
        loop {
            let rest = &original[next..];
            let read = match escape {
                Escape::Percent => percent(rest),
                Escape::Json => json(rest),
            };
            let after = match read {
                Read::Bytes(bytes, len, written) => {
                    out.push(&original[kept..next], kept, false);
                    out.push(&bytes[..len], next, true);
                    kept = next + written;
                    kept
                }
                Read::Incomplete if cut => {
                    out.push(&original[kept..next], kept, false);
                    return Some(out);
                }
                Read::Incomplete | Read::None => next + 1,
            };
            match memchr(mark, &original[after..]) {
                Some(at) => next = after + at,
                None => break,
            }
        }
        if out.runs.is_empty() {
            return None;
        }
        out.push(&original[kept..], kept, false);
        Some(out)
    }

    fn push(&mut self, bytes: &[u8], original: usize, is_escape: bool) {
        if !bytes.is_empty() {
            self.runs.push(Run { at: self.text.len(), original, is_escape });
            self.text.extend_from_slice(bytes);
        }
    }

    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Where a part of the text, which is not empty, stood. What was left out at the end goes with the last byte.
    pub(super) fn original(&self, part: Range<usize>) -> Range<usize> {
        let start = self.place(part.start).start;
        let end = if part.end == self.text.len() { self.original_len } else { self.place(part.end - 1).end };
        start..end
    }

    /// Where one byte stood.
    fn place(&self, at: usize) -> Range<usize> {
        let after = self.runs.partition_point(|run| run.at <= at);
        let Some(run) = after.checked_sub(1).map(|idx| self.runs[idx]) else { return 0..0 };
        if run.is_escape {
            let end = self.runs.get(after).map_or(self.original_len, |next| next.original);
            return run.original..end;
        }
        let start = run.original + (at - run.at);
        start..start + 1
    }
}

fn percent(rest: &[u8]) -> Read {
    match (rest.get(1).map(|byte| hex(*byte)), rest.get(2).map(|byte| hex(*byte))) {
        (Some(Some(high)), Some(Some(low))) => Read::Bytes([high << 4 | low, 0, 0, 0], 1, 3),
        (None | Some(Some(_)), None) => Read::Incomplete,
        _ => Read::None,
    }
}

fn json(rest: &[u8]) -> Read {
    let simple = |byte| Read::Bytes([byte, 0, 0, 0], 1, 2);
    match rest.get(1) {
        None => Read::Incomplete,
        Some(byte @ (b'"' | b'\\' | b'/')) => simple(*byte),
        Some(b'n') => simple(b'\n'),
        Some(b't') => simple(b'\t'),
        Some(b'r') => simple(b'\r'),
        Some(b'b') => simple(8),
        Some(b'f') => simple(12),
        Some(b'u') => {
            let digits = &rest[2..rest.len().min(6)];
            let mut code = 0;
            for digit in digits {
                let Some(value) = hex(*digit) else { return Read::None };
                code = code << 4 | u32::from(value);
            }
            if digits.len() < 4 {
                return Read::Incomplete;
            }
            // Secrets are ASCII: half of a pair is part of none.
            let mut bytes = [0; 4];
            let len =
                char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER).encode_utf8(&mut bytes).len();
            Read::Bytes(bytes, len, 6)
        }
        Some(_) => Read::None,
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, escape: Escape, cut: bool, expected: Option<&str>) {
        let unescaped = Unescaped::of(text.as_bytes(), escape, cut);
        let shown = unescaped.as_ref().map(|found| String::from_utf8_lossy(found.text()).into_owned());
        assert_eq!(shown.as_deref(), expected, "{text}");
    }

    #[test]
    fn texts() {
        for (text, expected) in [
            ("plain", None),
            ("100% sure", None),
            ("%", None),
            ("a%2Fb%2fc", Some("a/b/c")),
            ("%%41%4", Some("%A%4")),
            ("%252F", Some("%2F")),
        ] {
            check(text, Escape::Percent, false, expected);
        }
        for (text, expected) in [
            (r"C:\dir", None),
            (r#"a\"b\\c\/d\n"#, Some("a\"b\\c/d\n")),
            (r"\u003c\u00e9\ud800", Some("<é\u{fffd}")),
            (r"\u00", None),
            (r"\\u003c", Some(r"\u003c")),
        ] {
            check(text, Escape::Json, false, expected);
        }
    }

    #[test]
    fn an_escape_that_is_cut_is_left_out() {
        for text in ["ab%", "ab%2"] {
            check(text, Escape::Percent, true, Some("ab"));
        }
        for text in [r"ab\", r"ab\u", r"ab\u00"] {
            check(text, Escape::Json, true, Some("ab"));
        }
        check("ab%2x", Escape::Percent, true, None);
    }

    #[test]
    fn places() {
        let found = Unescaped::of(b"ab%2Fcd%2Fe", Escape::Percent, false).unwrap();
        assert_eq!(found.text(), b"ab/cd/e");
        assert_eq!(found.original(1..2), 1..2);
        assert_eq!(found.original(2..3), 2..5);
        assert_eq!(found.original(1..4), 1..6);
        assert_eq!(found.original(5..7), 7..11);
    }

    proptest! {
        /// What stood at a part's place is, unescaped, that part.
        #[test]
        fn places_are_right(parts in proptest::collection::vec("[a-c]|%25|%2F|%|\\\\\\\\|\\\\u0041", 1..20), at in 0usize..20, len in 1usize..20) {
            let text = parts.concat();
            for escape in [Escape::Percent, Escape::Json] {
                let Some(found) = Unescaped::of(text.as_bytes(), escape, false) else { continue };
                let start = at.min(found.text().len() - 1);
                let end = (start + len).min(found.text().len());
                let original = &text.as_bytes()[found.original(start..end)];
                let again = Unescaped::of(original, escape, false);
                let again = again.as_ref().map_or(original, Unescaped::text);
                prop_assert_eq!(again, &found.text()[start..end]);
            }
        }

        #[test]
        fn any_bytes(bytes in proptest::collection::vec(prop_oneof![Just(b'%'), Just(b'\\'), Just(b'u'), any::<u8>()], 0..60), cut: bool) {
            for escape in [Escape::Percent, Escape::Json] {
                if let Some(found) = Unescaped::of(&bytes, escape, cut) && !found.text().is_empty() {
                    prop_assert_eq!(found.original(0..found.text().len()), 0..bytes.len());
                }
            }
        }
    }
}
