//! Reading a YAML document field by field, noting every problem with its place.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use serde_norway::Value;

use super::ManifestProblem;

/// The problems found so far.
#[derive(Debug, Default)]
pub(super) struct Problems(RefCell<Vec<ManifestProblem>>);

impl Problems {
    pub(super) fn into_inner(self) -> Vec<ManifestProblem> {
        self.0.into_inner()
    }
}

/// A value in the document, and where it stands. A method that returns none has noted a problem.
#[derive(Clone, Debug)]
pub(super) struct Node<'a> {
    value: &'a Value,
    place: String,
    problems: &'a Problems,
}

impl<'a> Node<'a> {
    pub(super) fn root(value: &'a Value, problems: &'a Problems) -> Self {
        Self { value, place: String::new(), problems }
    }

    /// Notes a problem here.
    pub(super) fn problem<T>(&self, message: &str) -> Option<T> {
        let problem = ManifestProblem { place: self.place.clone(), message: message.to_owned() };
        self.problems.0.borrow_mut().push(problem);
        None
    }

    pub(super) fn is_text(&self) -> bool {
        self.value.is_string()
    }

    pub(super) fn is_map(&self) -> bool {
        self.value.is_mapping()
    }

    /// Notes fields that are not among these. Goes on, as the others can still be looked at.
    pub(super) fn only(&self, fields: &[&str]) -> Option<()> {
        let Value::Mapping(map) = self.value else {
            return self.problem(&format!("must be a map with the fields {}", listed(fields)));
        };
        for key in map.keys() {
            match key.as_str() {
                Some(key) if fields.contains(&key) => {}
                Some(key) => {
                    self.field_place(key)
                        .problem::<()>(&format!("is not known here; known are {}", listed(fields)));
                }
                None => {
                    self.problem::<()>("has a field whose name is not text");
                }
            }
        }
        Some(())
    }

    pub(super) fn only_if_map(&self, fields: &[&str]) -> Option<()> {
        if self.is_map() { self.only(fields) } else { Some(()) }
    }

    /// A field that is there and not null.
    pub(super) fn get(&self, field: &str) -> Option<Self> {
        let value = self.value.get(field).filter(|value| !value.is_null())?;
        Some(Self { value, ..self.field_place(field) })
    }

    pub(super) fn required(&self, field: &str) -> Option<Self> {
        self.get(field).or_else(|| self.field_place(field).problem("is missing"))
    }

    /// The outer none: a problem was found; the inner: the field is not there.
    pub(super) fn optional<T>(&self, field: &str, read: impl Fn(&Self) -> Option<T>) -> Option<Option<T>> {
        self.get(field).map_or(Some(None), |node| read(&node).map(Some))
    }

    pub(super) fn text(&self, check: impl Fn(&str) -> Result<(), String>) -> Option<String> {
        let Some(text) = self.value.as_str() else { return self.problem("must be text: put it in quotes") };
        match check(text) {
            Ok(()) => Some(text.to_owned()),
            Err(message) => self.problem(&message),
        }
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        self.value.as_bool().or_else(|| self.problem("must be `true` or `false`"))
    }

    pub(super) fn integer(&self, least: u64, most: u64) -> Option<u64> {
        let number = self.value.as_u64().filter(|number| (least..=most).contains(number));
        number.or_else(|| self.problem(&format!("must be a whole number between {least} and {most}")))
    }

    /// Notes nothing.
    pub(super) fn number(&self) -> Option<f64> {
        self.value.as_f64()
    }

    /// One of these words.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let found =
            choices.iter().find(|(word, _)| Some(*word) == self.value.as_str()).map(|(_, choice)| *choice);
        found.or_else(|| {
            let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
            self.problem(&format!("must be one of {}", listed(&words)))
        })
    }

    /// `250ms`, `5s`, `2m`, `1h`, `3d`; or a bare 0.
    pub(super) fn duration(&self) -> Option<Duration> {
        let parsed = match self.value {
            Value::String(text) => parse_duration(text),
            Value::Number(number) if number.as_u64() == Some(0) => Some(Duration::ZERO),
            _ => None,
        };
        parsed.or_else(|| self.problem("must be a duration such as `250ms`, `5s`, `2m`, `1h` or `3d`"))
    }

    /// The items, all of them read even if some are wrong.
    pub(super) fn list<T>(
        &self,
        least: usize,
        most: usize,
        read: impl Fn(&Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Value::Sequence(items) = self.value else { return self.problem("must be a list") };
        if !(least..=most).contains(&items.len()) {
            return self.problem(&format!("must be a list of {least} to {most} items"));
        }
        let item = |(idx, value)| read(&Self { value, place: format!("{}[{idx}]", self.place), ..*self });
        let read: Vec<_> = items.iter().enumerate().map(item).collect();
        read.into_iter().collect()
    }

    pub(super) fn texts(
        &self,
        least: usize,
        most: usize,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Option<Vec<String>> {
        self.list(least, most, |node| node.text(&check))
    }

    /// A list at the top of the file. None: it is not there (or has problems, which are noted).
    pub(super) fn section<T>(&self, field: &str, read: impl Fn(&Self) -> Option<T>) -> Option<Vec<T>> {
        /// More would not fit into a few transactions.
        const MAX_ITEMS: usize = 100_000;
        self.get(field)?.list(0, MAX_ITEMS, read)
    }

    /// The entries of a map.
    pub(super) fn entries(&self) -> Option<Vec<(String, Self)>> {
        let Value::Mapping(map) = self.value else { return self.problem("must be a map") };
        let entry = |(key, value): (&Value, &'a Value)| match key.as_str() {
            Some(key) => Some((key.to_owned(), Self { value, ..self.field_place(key) })),
            None => self.problem("has a field whose name is not text: put it in quotes"),
        };
        let entries: Vec<_> = map.iter().map(entry).collect();
        entries.into_iter().collect()
    }

    /// Notes names that come twice in a section.
    pub(super) fn unique(&self, section: &str, names: &[String]) {
        let mut first: BTreeMap<&str, usize> = BTreeMap::new();
        for (idx, name) in names.iter().enumerate() {
            if let Some(other) = first.insert(name, idx) {
                let node = Self { place: format!("{section}[{idx}].name"), ..*self };
                node.problem::<()>(&format!("`{name}` is {section}[{other}] already"));
            }
        }
    }

    fn field_place(&self, field: &str) -> Self {
        let place = if self.place.is_empty() { field.to_owned() } else { format!("{}.{field}", self.place) };
        Self { place, ..*self }
    }
}

fn listed(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
    quoted.join(", ")
}

fn parse_duration(text: &str) -> Option<Duration> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(split);
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(millis)?))
}
