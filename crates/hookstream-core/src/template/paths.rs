//! Several paths into one JSON document, found in one pass over it.
//!
//! Nothing is parsed that no path leads through, and no value is made: what is found is the text that stands there.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Where in a document: names of members and indexes of elements.
pub(super) type Path = Vec<Box<str>>;

/// Paths, by what they begin with.
#[derive(Clone, Debug, Default)]
pub(super) struct Paths {
    root: Node,
    count: usize,
}

#[derive(Clone, Debug, Default)]
struct Node {
    /// The path that ends here.
    slot: Option<usize>,
    children: Vec<(Box<str>, Node)>,
}

/// The JSON texts that paths lead to.
pub(super) type Found<'a> = Vec<Option<&'a str>>;

impl Paths {
    /// Adds a path; what it leads to is found under the number that is returned.
    pub(super) fn add(&mut self, path: &Path) -> usize {
        let mut node = &mut self.root;
        for name in path {
            let at = node.children.iter().position(|(known, _)| known == name);
            let at = at.unwrap_or_else(|| {
                node.children.push((name.clone(), Node::default()));
                node.children.len() - 1
            });
            node = &mut node.children[at].1;
        }
        *node.slot.get_or_insert_with(|| {
            self.count += 1;
            self.count - 1
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What each path leads to; nothing in what is no JSON.
    pub(super) fn find<'a>(&self, document: &'a [u8]) -> Found<'a> {
        let mut found = vec![None; self.count];
        if !self.is_empty()
            && let Ok(text) = std::str::from_utf8(document)
            && self.root.descend(text.trim_ascii(), &mut found).is_err()
        {
            found.fill(None);
        }
        found
    }
}

impl Node {
    /// Looks at a value, to where a path ends or goes on.
    fn visit<'a>(&self, value: &'a str, found: &mut Found<'a>) -> serde_json::Result<()> {
        if let Some(slot) = self.slot {
            found[slot] = Some(value);
        }
        if self.children.is_empty() { Ok(()) } else { self.descend(value, found) }
    }

    fn descend<'a>(&self, value: &'a str, found: &mut Found<'a>) -> serde_json::Result<()> {
        let mut document = serde_json::Deserializer::from_str(value);
        match value.bytes().next() {
            Some(b'{') => document.deserialize_map(Members { node: self, found })?,
            Some(b'[') => document.deserialize_seq(Elements { node: self, found })?,
            // Nothing is within it.
            _ => return Ok(()),
        }
        document.end()
    }

    fn forget(&self, found: &mut Found<'_>) {
        if let Some(slot) = self.slot {
            found[slot] = None;
        }
        self.children.iter().for_each(|(_, child)| child.forget(found));
    }
}

struct Members<'n, 'f, 'a> {
    node: &'n Node,
    found: &'f mut Found<'a>,
}

impl<'a> Visitor<'a> for Members<'_, '_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut members: M) -> Result<(), M::Error> {
        let Self { node, found } = self;
        // Children that were found by their very name: others that differ in case do not count then.
        let mut exact = vec![false; node.children.len()];
        while let Some(Name(name)) = members.next_key()? {
            let is_wanted = |(at, (known, _)): &(usize, &(Box<str>, Node))| {
                **known == *name || !exact[*at] && is_alike(known, &name)
            };
            let mut wanted = node.children.iter().enumerate().filter(is_wanted).peekable();
            if wanted.peek().is_none() {
                members.next_value::<IgnoredAny>()?;
                continue;
            }
            let value = members.next_value::<&'a RawValue>()?;
            let mut now_exact = Vec::new();
            for (at, (known, child)) in wanted {
                child.forget(found);
                child.visit(value.get(), found).map_err(serde::de::Error::custom)?;
                if **known == *name {
                    now_exact.push(at);
                }
            }
            now_exact.into_iter().for_each(|at| exact[at] = true);
        }
        Ok(())
    }
}

/// A member's name, borrowed if nothing in it is escaped.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Whether two names differ in nothing but case.
pub(super) fn is_alike(one: &str, other: &str) -> bool {
    if one.is_ascii() && other.is_ascii() {
        return one.eq_ignore_ascii_case(other);
    }
    one.chars().flat_map(char::to_lowercase).eq(other.chars().flat_map(char::to_lowercase))
}

struct Elements<'n, 'f, 'a> {
    node: &'n Node,
    found: &'f mut Found<'a>,
}

impl<'a> Visitor<'a> for Elements<'_, '_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<S: SeqAccess<'a>>(self, mut elements: S) -> Result<(), S::Error> {
        let Self { node, found } = self;
        let wanted: Vec<(usize, &Node)> =
            node.children.iter().filter_map(|(name, child)| Some((name.parse().ok()?, child))).collect();
        let mut index = 0;
        loop {
            let child = wanted.iter().find(|(at, _)| *at == index);
            match child {
                None if elements.next_element::<IgnoredAny>()?.is_none() => return Ok(()),
                None => {}
                Some((_, child)) => {
                    let Some(value) = elements.next_element::<&'a RawValue>()? else { return Ok(()) };
                    child.visit(value.get(), found).map_err(serde::de::Error::custom)?;
                }
            }
            index += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found<'a>(document: &'a str, paths: &[&str]) -> Vec<Option<&'a str>> {
        let mut all = Paths::default();
        let slots: Vec<usize> =
            paths.iter().map(|path| all.add(&path.split('.').map(Box::from).collect())).collect();
        let found = all.find(document.as_bytes());
        slots.into_iter().map(|slot| found[slot]).collect()
    }

    #[test]
    fn values_are_found_as_they_are_written() {
        let document =
            r#" {"Booking":{"Id":"a\"b","Total":12.50,"Items":[{"Name":"x"},{"Name":null}]},"n":1e999} "#;
        let paths =
            ["Booking.Id", "Booking.Total", "Booking.Items.1.Name", "Booking.Items.0", "n", "Booking.None"];
        let expected =
            [Some(r#""a\"b""#), Some("12.50"), Some("null"), Some(r#"{"Name":"x"}"#), Some("1e999"), None];
        assert_eq!(found(document, &paths), expected);
    }

    #[test]
    fn case_does_not_matter_unless_it_tells_two_apart() {
        assert_eq!(found(r#"{"BOOKING":{"iD":1}}"#, &["Booking.Id"]), [Some("1")]);
        assert_eq!(found(r#"{"ØRE":1}"#, &["øre"]), [Some("1")]);
        for document in [r#"{"ID":1,"Id":2,"id":3}"#, r#"{"Id":2,"ID":1}"#] {
            assert_eq!(found(document, &["Id"]), [Some("2")], "{document}");
        }
        assert_eq!(
            found(r#"{"A":{"x":1,"y":2}}"#, &["a.x", "A.y", "A.X"]),
            [Some("1"), Some("2"), Some("1")]
        );
        // Nothing stays of what does not count.
        assert_eq!(found(r#"{"a":{"x":1},"A":{"y":2}}"#, &["A.x", "A.y"]), [None, Some("2")]);
    }

    #[test]
    fn a_path_may_end_where_another_goes_on() {
        assert_eq!(found(r#"{"a":{"b":1}}"#, &["a", "a.b"]), [Some(r#"{"b":1}"#), Some("1")]);
        assert_eq!(found(r#"{"a":5}"#, &["a", "a.b"]), [Some("5"), None]);
        assert_eq!(found(r#"[[1],[2]]"#, &["1.0"]), [Some("2")]);
    }

    #[test]
    fn nothing_is_found_in_what_is_no_json() {
        for document in ["", "x", r#"{"a":1"#, r#"{"a":1} x"#, r#"{"a":1,}"#, "\u{feff}{\"a\":1}"] {
            assert_eq!(found(document, &["a"]), [None], "{document}");
        }
    }
}
