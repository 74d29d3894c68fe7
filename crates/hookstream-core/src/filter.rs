//! Content filters: which events a webhook wants, by what they hold.
//!
//! A filter is an [EventBridge event pattern](https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-event-patterns.html)
//! over the event as a CloudEvents document: its attributes at the top (`type`, `source`, `id`, `subject`, `time`,
//! `datacontenttype`, extensions), the payload under `data`. What is not JSON has no fields.
//!
//! As Event Ruler has it: a field is something that holds nothing else; a pattern's fields must all be satisfied, each by
//! one of its alternatives; of an array any element will do, but what a pattern says of objects in an array must be
//! true of one of them; and `{"exists": false}` is about the whole event. Numbers are compared by value. A name that
//! stands twice in an object of the event counts twice, which RFC 8259 leaves open.

mod compile;
mod condition;
mod facts;

use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use self::condition::Condition;
pub use self::facts::Facts;
use self::facts::Json;

/// Bytes of a filter, as JSON.
pub const MAX_BYTES: usize = 8 * 1024;
/// Objects in objects.
const MAX_DEPTH: usize = 16;
/// Alternatives of all fields together.
const MAX_TESTS: usize = 200;
/// Patterns without `$or` that come to the same.
const MAX_CLAUSES: usize = 64;
/// `*` of all wildcards together.
const MAX_STARS: usize = 20;
/// Fields that are named when an event is not wanted.
const MAX_NAMED: usize = 8;

/// A filter, compiled.
#[derive(Clone, Debug)]
pub struct Filter {
    /// As it was written.
    pattern: Arc<Value>,
    /// One of them must hold.
    clauses: Box<[Node]>,
}

/// As it was written.
impl Serialize for Filter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.pattern.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Filter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let pattern = Value::deserialize(deserializer)?;
        Self::compile(&Arc::new(pattern)).map_err(D::Error::custom)
    }
}

/// Filters are the same if they are written the same.
impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.pattern, &other.pattern) || self.pattern == other.pattern
    }
}

/// What is wrong with a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pointer}: {message}")]
pub struct FilterError {
    /// Where: a JSON pointer (RFC 6901) into the filter; empty: all of it.
    pub pointer: String,
    /// What it is, and the way out.
    pub message: String,
}

/// Names, from the top.
type Path<'n> = &'n [Box<str>];

/// What is asked of a place in the event.
#[derive(Clone, Debug, Default)]
struct Node {
    /// One of them must be true of the value here, if there are any.
    tests: Box<[Condition]>,
    /// `tests` allow that there is no value.
    may_be_absent: bool,
    /// The path to here, for `may_be_absent`.
    path: Box<[Box<str>]>,
    children: Vec<(Box<str>, Node)>,
}

impl Filter {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// What is wrong first, and where.
    pub fn compile(pattern: &Arc<Value>) -> Result<Self, FilterError> {
        let clauses = compile::clauses(pattern)?.into_boxed_slice();
        Ok(Self { pattern: Arc::clone(pattern), clauses })
    }

    /// As it was written.
    #[must_use]
    pub fn pattern(&self) -> &Arc<Value> {
        &self.pattern
    }

    /// Whether an event is wanted.
    #[must_use]
    pub fn matches(&self, facts: &Facts<'_>) -> bool {
        self.clauses.iter().any(|clause| {
            // Looked for once, not at each element of an array.
            let mut absent = Vec::new();
            clause.absent(facts.root(), &mut absent);
            clause.holds(Some(facts.root()), &absent)
        })
    }

    /// The fields that keep an event from being wanted, as JSON pointers: of that way to satisfy the filter which lacks
    /// least. None: each of them is satisfied, but not by one element of an array.
    #[must_use]
    pub fn mismatches(&self, facts: &Facts<'_>) -> Vec<String> {
        let missing = |clause: &Node| {
            let mut missing = Vec::new();
            clause.missing(facts.root(), &mut missing);
            missing
        };
        let mut least = self.clauses.iter().map(missing).min_by_key(Vec::len).unwrap_or_default();
        least.truncate(MAX_NAMED);
        least
    }
}

impl Node {
    /// Gathers the paths of which nothing may be there, and nothing is.
    fn absent<'n>(&'n self, root: &Json<'_>, absent: &mut Vec<Path<'n>>) {
        if self.may_be_absent && !root.has(&self.path) {
            absent.push(&self.path);
        }
        for (_, child) in &self.children {
            child.absent(root, absent);
        }
    }

    /// Whether all that is asked holds of a value here.
    fn holds(&self, value: Option<&Json<'_>>, absent: &[Path<'_>]) -> bool {
        match value {
            Some(Json::Array(elements)) if !elements.is_empty() => {
                elements.iter().any(|element| self.holds(Some(element), absent))
            }
            Some(Json::Object(members)) => {
                self.holds_without(absent)
                    && self.children.iter().all(|(name, child)| {
                        let mut found = false;
                        let mut here = members.iter().filter(|(key, _)| *key == **name);
                        here.any(|(_, value)| {
                            found = true;
                            child.holds(Some(value), absent)
                        }) || (!found && child.holds(None, absent))
                    })
            }
            Some(Json::Scalar(scalar)) => {
                (self.tests.is_empty()
                    || self.tests.iter().any(|test| test.is_true_of(scalar))
                    || self.holds_without(absent))
                    && self.children.iter().all(|(_, child)| child.holds(None, absent))
            }
            Some(Json::Array(_)) | None => {
                self.holds_without(absent) && self.children.iter().all(|(_, child)| child.holds(None, absent))
            }
        }
    }

    /// Whether the tests hold of no value: there is none anywhere in the event.
    fn holds_without(&self, absent: &[Path<'_>]) -> bool {
        self.tests.is_empty()
            || (self.may_be_absent && absent.iter().any(|path| std::ptr::eq(*path, &*self.path)))
    }

    /// Names the fields below that no value of the event satisfies.
    fn missing(&self, root: &Json<'_>, missing: &mut Vec<String>) {
        if !self.tests.is_empty() && (!self.may_be_absent || root.has(&self.path)) {
            let is_satisfied =
                |scalar: &facts::Scalar<'_>| self.tests.iter().any(|test| test.is_true_of(scalar));
            if !root.any(&self.path, &is_satisfied) {
                missing.push(pointer(&self.path));
            }
        }
        for (_, child) in &self.children {
            child.missing(root, missing);
        }
    }
}

/// A JSON pointer (RFC 6901).
fn pointer<S: AsRef<str>>(path: &[S]) -> String {
    path.iter().map(|name| format!("/{}", name.as_ref().replace('~', "~0").replace('/', "~1"))).collect()
}

#[cfg(test)]
mod tests;
