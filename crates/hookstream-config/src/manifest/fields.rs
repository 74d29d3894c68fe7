//! Reading a document field by field, noting every problem with its place.
//!
//! Names of fields may be written `event_types` or `eventTypes`: files have the first, JSON the second.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use hookstream_types::{SecretString, UnixMillis};
use serde_norway::Value;

use super::ManifestProblem;
use super::filled::Resolved;

/// What resources show besides what can be set: passed over in documents that come back.
const SHOWN: &[&str] = &[
    "id",
    "uid",
    "uuid",
    "revision",
    "createdAt",
    "updatedAt",
    "actor",
    "disabledReason",
    "allowedRate",
    "missingScopes",
    "publicKeys",
    "entity",
    "action",
];

/// The problems found so far, and what references stand for.
#[derive(Debug, Default)]
pub(super) struct Problems {
    found: RefCell<Vec<ManifestProblem>>,
    resolved: RefCell<Resolved>,
    /// Of a document of the API's.
    is_json: bool,
}

impl Problems {
    pub(super) fn of_json() -> Self {
        Self { is_json: true, ..Self::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.borrow().is_empty()
    }

    pub(super) fn into_inner(self) -> Vec<ManifestProblem> {
        self.found.into_inner()
    }

    pub(super) fn into_resolved(self) -> Resolved {
        self.resolved.into_inner()
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
        self.problems.found.borrow_mut().push(problem);
        None
    }

    /// At the place within that a JSON pointer names.
    pub(super) fn problem_within<T>(&self, pointer: &str, message: &str) -> Option<T> {
        let mut place = self.place.clone();
        for name in pointer.split('/').skip(1) {
            place.push('.');
            place.push_str(&name.replace("~1", "/").replace("~0", "~"));
        }
        self.problems.found.borrow_mut().push(ManifestProblem { place, message: message.to_owned() });
        None
    }

    /// Notes what the reference that stands here stands for.
    pub(super) fn resolved(&self, value: &SecretString) {
        self.problems.resolved.borrow_mut().put(self.value, value.clone());
    }

    pub(super) fn is_text(&self) -> bool {
        self.value.is_string()
    }

    pub(super) fn is_text_of(&self, text: &str) -> bool {
        self.value.as_str() == Some(text)
    }

    pub(super) fn is_list(&self) -> bool {
        self.value.is_sequence()
    }

    pub(super) fn is_map(&self) -> bool {
        self.value.is_mapping()
    }

    /// Notes fields that are not among these. Goes on, as the others can still be looked at.
    pub(super) fn only(&self, fields: &[&str]) -> Option<()> {
        let Value::Mapping(map) = self.value else {
            return self.problem(&format!("must be a map with the fields {}", self.listed(fields)));
        };
        for key in map.keys() {
            match key.as_str() {
                Some(key) if self.problems.is_json && SHOWN.contains(&key) => {}
                Some(key) if fields.iter().any(|field| *field == key || camel(field) == key) => {}
                Some(key) => {
                    self.field_place(key)
                        .problem::<()>(&format!("is not known here; known are {}", self.listed(fields)));
                }
                None => {
                    self.problem::<()>("has a field whose name is not text");
                }
            }
        }
        Some(())
    }

    /// Names of fields, as the document writes them.
    fn listed(&self, fields: &[&str]) -> String {
        let name = |field: &&str| if self.problems.is_json { camel(field) } else { (*field).to_owned() };
        let names: Vec<_> = fields.iter().map(name).collect();
        listed(&names.iter().map(String::as_str).collect::<Vec<_>>())
    }

    pub(super) fn only_if_map(&self, fields: &[&str]) -> Option<()> {
        if self.is_map() { self.only(fields) } else { Some(()) }
    }

    /// A field that is there and not null.
    pub(super) fn get(&self, field: &str) -> Option<Self> {
        let (name, value) = match self.value.get(field) {
            Some(value) => (field.to_owned(), value),
            None => {
                let camel = camel(field);
                let value = self.value.get(&camel)?;
                (camel, value)
            }
        };
        Some(Self { value, ..self.field_place(&name) }).filter(|node| !node.value.is_null())
    }

    /// Whether it is `{sensitiveValuePresent: true}`, as secrets are shown: the value that is there stays.
    pub(super) fn is_kept(&self) -> bool {
        self.get("sensitive_value_present").is_some_and(|node| node.value.as_bool() == Some(true))
    }

    /// Any JSON.
    pub(super) fn json(&self) -> Option<serde_json::Value> {
        match serde_norway::from_value(self.value.clone()) {
            Ok(value) => Some(value),
            Err(_) => self.problem("must be what JSON can say: maps with text keys, no tags"),
        }
    }

    pub(super) fn required(&self, field: &str) -> Option<Self> {
        self.get(field).or_else(|| {
            let name = if self.problems.is_json { camel(field) } else { field.to_owned() };
            self.field_place(&name).problem("is missing")
        })
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

    /// One of these words, in any case.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let found = choices
            .iter()
            .find(|(word, _)| self.value.as_str().is_some_and(|text| text.eq_ignore_ascii_case(word)));
        let found = found.map(|(_, choice)| *choice);
        found.or_else(|| {
            let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
            self.problem(&format!("must be one of {}", listed(&words)))
        })
    }

    /// RFC 3339.
    pub(super) fn time(&self) -> Option<UnixMillis> {
        let parsed = self.value.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
        let parsed = parsed.map(|time| UnixMillis(time.as_millisecond()));
        parsed.or_else(|| self.problem("must be a time such as `2026-01-31T12:00:00Z`"))
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
        /// Whatever is exported can be applied: the bound on a document's bytes is reached before.
        const MAX_ITEMS: usize = 1_000_000;
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

/// `event_types` as `eventTypes`.
pub(super) fn camel(snake: &str) -> String {
    let mut parts = snake.split('_');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut chars = part.chars();
        out.extend(chars.next().map(|first| first.to_ascii_uppercase()));
        out.push_str(chars.as_str());
    }
    out
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
