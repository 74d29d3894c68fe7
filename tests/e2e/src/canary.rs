//! Secrets that must turn up nowhere, and the search for them.
//!
//! What is looked for is written here anew: what masks secrets is not asked what forms they have.

use std::collections::BTreeMap;

use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::Value;

/// Layers of escapes that are looked behind.
const LAYERS: usize = 3;

/// Secrets, each by what it is.
#[derive(Clone, Debug, Default)]
pub struct Canaries {
    secrets: BTreeMap<String, String>,
}

/// The search for all forms of all of them.
#[derive(Debug)]
pub struct Search {
    forms: Vec<(String, Vec<u8>)>,
    automaton: AhoCorasick,
}

impl Canaries {
    /// # Panics
    /// If it is so short that chance could make it.
    pub fn add(&mut self, name: &str, secret: &str) {
        assert!(secret.len() >= 12, "`{secret}` may stand anywhere");
        self.secrets.insert(name.to_owned(), secret.to_owned());
    }

    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        self.secrets.get(name).map_or_else(|| panic!("no canary `{name}`"), String::as_str)
    }

    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn search(&self) -> Search {
        let mut forms = Vec::new();
        for (name, secret) in &self.secrets {
            forms.extend(encodings(secret).into_iter().map(|(how, text)| (format!("{name}, {how}"), text)));
        }
        let automaton = AhoCorasick::new(forms.iter().map(|(_, form)| form)).expect("a few hundred patterns");
        Search { forms, automaton }
    }
}

impl Search {
    /// Which secrets are in there, and in what form.
    #[must_use]
    pub fn find(&self, text: &[u8]) -> Vec<&str> {
        let mut found = Vec::new();
        self.look(text, LAYERS, &mut found);
        if let Ok(document) = serde_json::from_slice(text) {
            self.look_into(&document, &mut found);
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// # Panics
    /// If there is one in it.
    #[track_caller]
    pub fn none_in(&self, place: &str, text: impl AsRef<[u8]>) {
        let found = self.find(text.as_ref());
        assert!(found.is_empty(), "{place} holds {found:?}:\n{}", String::from_utf8_lossy(text.as_ref()));
    }

    fn look<'a>(&'a self, text: &[u8], layers: usize, found: &mut Vec<&'a str>) {
        let forms = self.automaton.find_overlapping_iter(text);
        found.extend(forms.map(|form| self.forms[form.pattern().as_usize()].0.as_str()));
        let Some(layers) = layers.checked_sub(1) else { return };
        for unescaped in [unescaped_json(text), unescaped_percent(text)].into_iter().flatten() {
            self.look(&unescaped, layers, found);
        }
    }

    /// Bodies that are no text stand in base64.
    fn look_into<'a>(&'a self, document: &Value, found: &mut Vec<&'a str>) {
        match document {
            Value::String(text) => {
                if let Ok(bytes) = STANDARD.decode(text) {
                    self.look(&bytes, LAYERS, found);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.look_into(item, found)),
            Value::Object(fields) => fields.values().for_each(|field| self.look_into(field, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// A secret in all the forms that it can come back in. Escapes are undone where it is looked for.
fn encodings(secret: &str) -> Vec<(String, Vec<u8>)> {
    let bytes = secret.as_bytes();
    let mut forms: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |how: &str, text: Vec<u8>| {
        if !forms.iter().any(|(_, other)| *other == text) {
            forms.push((how.to_owned(), text));
        }
    };
    add("as it is", bytes.to_vec());
    add("as in a form", secret.replace(' ', "+").into_bytes());
    add("in hexadecimal", hex(bytes).into_bytes());
    add("in hexadecimal", hex(bytes).to_ascii_uppercase().into_bytes());
    let json = secret.replace('\\', "\\\\").replace('"', "\\\"");
    for (what, text) in [("", secret), (" of JSON", json.as_str())] {
        for shift in 0..3 {
            let shifted = [&b"..."[..shift], text.as_bytes()].concat();
            for encoded in [STANDARD_NO_PAD.encode(&shifted), URL_SAFE_NO_PAD.encode(&shifted)] {
                // Only the characters that are made of nothing but the secret.
                let own = &encoded[(shift * 8).div_ceil(6)..shifted.len() * 8 / 6];
                add(&format!("in base64{what}, {shift} bytes in"), own.as_bytes().to_vec());
            }
        }
    }
    forms
}

/// Bytes in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// None: there is nothing to undo.
fn unescaped_json(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        let (byte, after) = match (first, tail) {
            (b'\\', [b'u', digits @ ..]) if digits.len() >= 4 => {
                let code = std::str::from_utf8(&digits[..4]).ok();
                let code = code.and_then(|code| u32::from_str_radix(code, 16).ok()).and_then(char::from_u32);
                let mut buffer = [0; 4];
                out.extend_from_slice(code.unwrap_or(' ').encode_utf8(&mut buffer).as_bytes());
                rest = &digits[4..];
                continue;
            }
            (b'\\', [byte @ (b'"' | b'\\' | b'/'), after @ ..]) => (*byte, after),
            (byte, after) => (*byte, after),
        };
        out.push(byte);
        rest = after;
    }
    (out.len() < text.len()).then_some(out)
}

/// None: there is nothing to undo.
fn unescaped_percent(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        if let (b'%', [high, low, after @ ..]) = (first, tail)
            && let (Some(high), Some(low)) = (digit(*high), digit(*low))
        {
            out.push(high << 4 | low);
            rest = after;
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    (out.len() < text.len()).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_there() {
        let mut canaries = Canaries::default();
        canaries.add("token", "cAn4ry\"t/o+k&en");
        let search = canaries.search();
        let secret = canaries.get("token");
        let quoted = serde_json::to_string(secret).unwrap();
        for text in [
            format!("<{secret}>"),
            quoted.clone(),
            serde_json::to_string(&quoted).unwrap(),
            "cAn4ry%22t%2Fo%2bk%26en".to_owned(),
            "cAn4ry\\u0022t\\/o+k\\u0026en".to_owned(),
            STANDARD.encode(format!("a: {secret}\n")),
            STANDARD.encode(format!("ab: {quoted}")),
            hex(secret.as_bytes()),
            serde_json::json!({ "base64": STANDARD.encode([b"\xff", secret.as_bytes()].concat()) })
                .to_string(),
        ] {
            assert!(!search.find(text.as_bytes()).is_empty(), "{text}");
        }
        assert!(search.find(b"cAn4ry is a bird").is_empty());
    }
}
