//! Looking into JSON without building a tree of it: members and pointers as slices of the document.

use std::borrow::Cow;
use std::fmt;

use rustc_hash::FxHashSet;
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::cloudevents::twice;
use super::mapped::unreadable;
use super::{Quoted, Reason, Rejection};

/// Levels of nesting that are taken: more than any event has, and what parsers after us take too.
const MAX_DEPTH: usize = 128;

/// A whole document as a slice: it is valid JSON and not nested too deeply.
pub(super) fn document(text: &str) -> Result<&RawValue, Rejection> {
    check_limits(text)?;
    serde_json::from_str(text).map_err(|error| not_json(&error))
}

/// Checks that bytes are JSON.
pub(super) fn check(bytes: &[u8]) -> Result<(), Rejection> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        Rejection::new(
            Reason::NotJson,
            format!("the data is not JSON: byte {at} is not UTF-8; encode it as UTF-8"),
        )
    })?;
    check_limits(text)?;
    serde_json::from_str(text).map(|IgnoredAny| ()).map_err(|error| {
        let message =
            format!("the data's content type is JSON, and the data is not ({error}): mend either of them");
        Rejection::new(Reason::NotJson, message)
    })
}

fn not_json(error: &serde_json::Error) -> Rejection {
    let message =
        format!("the value is not JSON ({error}): mend the producer, or give the source another format");
    Rejection::new(Reason::NotJson, message)
}

/// Counts brackets and looks at numbers outside of strings; what is not JSON is found by the parser.
fn check_limits(text: &str) -> Result<(), Rejection> {
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (0, 0usize);
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => at = end_of_string(bytes, at),
            b'0'..=b'9' => {
                let start = at - 1;
                let in_number = |byte: &u8| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
                at += bytes[at..].iter().take_while(|byte| in_number(byte)).count();
                check_number(&text[start..at])?;
            }
            _ => {}
        }
        if depth > MAX_DEPTH {
            let message = format!("the JSON is nested deeper than {MAX_DEPTH} levels: flatten it");
            return Err(Rejection::new(Reason::NotJson, message));
        }
    }
    Ok(())
}

/// The position after the string that begins before `at`.
fn end_of_string(bytes: &[u8], mut at: usize) -> usize {
    while let Some(&byte) = bytes.get(at) {
        at += match byte {
            b'"' => return at + 1,
            b'\\' => 2,
            _ => 1,
        };
    }
    bytes.len()
}

/// A number (without its sign) that is infinite to whoever reads it as a double is refused: readers disagree
/// about what it is.
fn check_number(number: &str) -> Result<(), Rejection> {
    /// No number of this many characters without an exponent reaches 1.8e308.
    const MAX_PLAIN: usize = 308;
    let is_plain = number.len() <= MAX_PLAIN && !number.contains(['e', 'E']);
    // What is no number at all is found by the parser.
    if is_plain || !number.parse::<f64>().is_ok_and(f64::is_infinite) {
        return Ok(());
    }
    let message = format!(
        "the JSON has the number {}, which is larger than any that a double can hold: write it as a string",
        Quoted(number)
    );
    Err(Rejection::new(Reason::NotJson, message))
}

/// Checks that no name stands twice in the object itself and in those that the pointers lead through.
pub(super) fn check_unique(json: &RawValue, pointers: &[&str]) -> Result<(), Rejection> {
    let tokens: Vec<&str> = pointers.iter().filter_map(|pointer| pointer.strip_prefix('/')).collect();
    unique_below(json, &tokens)
}

fn unique_below(json: &RawValue, open: &[&str]) -> Result<(), Rejection> {
    let mut seen = FxHashSet::default();
    let mut result = Ok(());
    members(json, |step, value| {
        if result.is_err() {
            return;
        }
        let deeper: Vec<&str> = open
            .iter()
            .filter_map(|path| path.split_once('/'))
            .filter(|(token, _)| step.is(&unescape(token)))
            .map(|(_, rest)| rest)
            .collect();
        if !deeper.is_empty() {
            result = unique_below(value, &deeper);
        }
        if let Step::Name(name) = step
            && result.is_ok()
            && let Some(name) = seen.replace(name)
        {
            result = Err(twice(&name));
        }
    })
    .map_err(unreadable)?;
    result
}

/// A member's name or an element's index.
pub(super) enum Step<'a> {
    Name(Cow<'a, str>),
    Index(usize),
}

impl Step<'_> {
    fn is(&self, token: &str) -> bool {
        match self {
            Self::Name(name) => name == token,
            // RFC 6901: an index has no leading zeros.
            Self::Index(index) => {
                token.parse() == Ok(*index) && (token.len() == 1 || !token.starts_with(['0', '+']))
            }
        }
    }
}

/// Hands each member of an object, or element of an array, to `visit`. Anything else has none.
pub(super) fn members<'a>(
    json: &'a RawValue,
    visit: impl FnMut(Step<'a>, &'a RawValue),
) -> Result<(), serde_json::Error> {
    if !json.get().starts_with(['{', '[']) {
        return Ok(());
    }
    serde_json::Deserializer::from_str(json.get()).deserialize_any(Members(visit))
}

struct Members<F>(F);

impl<'de, F: FnMut(Step<'de>, &'de RawValue)> Visitor<'de> for Members<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some((Text(name), value)) = map.next_entry()? {
            (self.0)(Step::Name(name), value);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        let mut index = 0;
        while let Some(value) = seq.next_element()? {
            (self.0)(Step::Index(index), value);
            index += 1;
        }
        Ok(())
    }
}

/// A text, borrowed if nothing in it is escaped.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(TextVisitor)
    }
}

/// A scalar as text; none if it is null.
///
/// # Errors
/// Says what stands there if it is no scalar.
pub(super) fn scalar(json: &RawValue) -> Result<Option<Cow<'_, str>>, &'static str> {
    match json.get().as_bytes().first() {
        Some(b'"') => match serde_json::from_str(json.get()) {
            Ok(Text(text)) => Ok(Some(text)),
            // Syntax was checked before; half of a surrogate pair was not.
            Err(_) => Err("a text that is not Unicode"),
        },
        Some(b'{') => Err("an object"),
        Some(b'[') => Err("an array"),
        Some(b'n') => Ok(None),
        _ => Ok(Some(Cow::Borrowed(json.get()))),
    }
}

/// What several pointers (RFC 6901) point at, found in one pass; the last of equal names counts.
pub(super) fn pointers<'a, const N: usize>(
    json: &'a RawValue,
    wanted: [Option<&str>; N],
) -> Result<[Option<&'a RawValue>; N], serde_json::Error> {
    let mut found = [None; N];
    let mut open = [None; N];
    for (i, pointer) in wanted.into_iter().enumerate() {
        match pointer {
            None => {}
            Some("") => found[i] = Some(json),
            Some(path) => open[i] = Some(path.strip_prefix('/').unwrap_or(path)),
        }
    }
    descend(json, &open, &mut found)?;
    Ok(found)
}

fn descend<'a, const N: usize>(
    json: &'a RawValue,
    open: &[Option<&str>; N],
    found: &mut [Option<&'a RawValue>; N],
) -> Result<(), serde_json::Error> {
    if open.iter().all(Option::is_none) {
        return Ok(());
    }
    let mut result = Ok(());
    members(json, |step, value| {
        let mut deeper = [None; N];
        for (i, path) in open.iter().enumerate() {
            let Some(path) = path else { continue };
            let (token, rest) =
                path.split_once('/').map_or((*path, None), |(token, rest)| (token, Some(rest)));
            if !step.is(&unescape(token)) {
                continue;
            }
            match rest {
                None => found[i] = Some(value),
                Some(rest) => {
                    found[i] = None;
                    deeper[i] = Some(rest);
                }
            }
        }
        if result.is_ok() {
            result = descend(value, &deeper, found);
        }
    })?;
    result
}

/// `~1` is `/` and `~0` is `~` (RFC 6901 §3).
fn unescape(token: &str) -> Cow<'_, str> {
    if token.contains('~') {
        Cow::Owned(token.replace("~1", "/").replace("~0", "~"))
    } else {
        Cow::Borrowed(token)
    }
}
