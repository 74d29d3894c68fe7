//! JSON Schemas of event types: compiled without fetching anything, and bounded in size and work.
//!
//! - What a schema refers to is inside it: a `$ref` that leads out is refused when the schema is compiled.
//! - Patterns are those of a linear-time engine: no look-around, no back-references.
//! - A schema that multiplies (definitions that refer to each other again and again) is refused by what it would cost
//!   to look at one value. A recursive one can't be judged so: it is [`Schema::is_recursive`], and whoever
//!   validates by it sets a deadline.

use std::collections::{HashMap, HashSet};
use std::fmt;

use jsonschema::{PatternOptions, Retrieve, Uri, Validator};
use serde_json::Value;

use crate::problem::FieldError;

/// Bytes of a schema, written as JSON.
pub const MAX_SCHEMA_BYTES: usize = 256 * 1024;
/// Levels of a schema.
const MAX_DEPTH: usize = 64;
/// Subschemas that may be looked at for one value, references followed.
const MAX_COST: u64 = 20_000;
/// Violations that are listed.
const MAX_VIOLATIONS: usize = 20;
/// Characters of a violation's message, which may quote the data.
const MAX_MESSAGE_CHARS: usize = 300;
/// Bytes of a compiled pattern.
const MAX_PATTERN_BYTES: usize = 1024 * 1024;
/// What `$schema` may be; a fragment `#` at the end is allowed.
const DIALECTS: [&str; 5] = [
    "https://json-schema.org/draft/2020-12/schema",
    "https://json-schema.org/draft/2019-09/schema",
    "http://json-schema.org/draft-07/schema",
    "http://json-schema.org/draft-06/schema",
    "http://json-schema.org/draft-04/schema",
];
/// Keywords whose values are data, not schemas.
const DATA: [&str; 4] = ["const", "enum", "default", "examples"];
/// Keywords whose subschemas count only where they are referred to.
const DEFINITIONS: [&str; 2] = ["$defs", "definitions"];

/// A compiled schema.
pub struct Schema {
    validator: Validator,
    is_recursive: bool,
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema").field("is_recursive", &self.is_recursive).finish_non_exhaustive()
    }
}

/// Compiles a schema.
///
/// # Errors
/// All that is wrong with it, by JSON pointers into it.
pub fn compile(schema: &Value) -> Result<Schema, Vec<FieldError>> {
    let one = |pointer: &str, detail: String| vec![FieldError::new(pointer, detail)];
    if !(schema.is_object() || schema.is_boolean()) {
        return Err(one("", "a schema is a JSON object".to_owned()));
    }
    let size = serde_json::to_vec(schema).map_or(usize::MAX, |json| json.len());
    if size > MAX_SCHEMA_BYTES {
        return Err(one("", format!("the schema takes {size} bytes, and {MAX_SCHEMA_BYTES} is the most")));
    }
    let mut problems = Vec::new();
    look(schema, &mut String::new(), 0, &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut work = Work { root: schema, known: HashMap::new(), open: HashSet::new(), is_recursive: false };
    if work.cost(schema) > MAX_COST {
        let detail = format!(
            "the schema takes more than {MAX_COST} steps for one value, its references followed: make it simpler"
        );
        return Err(one("", detail));
    }
    let is_recursive = work.is_recursive;
    let validator = jsonschema::options()
        .with_retriever(Nothing)
        .with_pattern_options(PatternOptions::regex().size_limit(MAX_PATTERN_BYTES))
        .build(schema)
        .map_err(|error| one(error.instance_path().as_str(), cut(&error.to_string())))?;
    Ok(Schema { validator, is_recursive })
}

impl Schema {
    /// Whether the work for one value has no bound that is known.
    #[must_use]
    pub fn is_recursive(&self) -> bool {
        self.is_recursive
    }

    /// Checks data, which stands at `pointer`.
    ///
    /// # Errors
    /// The first violations, by pointers that begin with `pointer`.
    pub fn validate(&self, data: &[u8], pointer: &str) -> Result<(), Vec<FieldError>> {
        let value: Value = serde_json::from_slice(data).map_err(|error| {
            let detail =
                format!("the data is not JSON ({error}), and the event type has a schema: send JSON");
            vec![FieldError::new(pointer, detail)]
        })?;
        let violations: Vec<_> = self
            .validator
            .iter_errors(&value)
            .take(MAX_VIOLATIONS)
            .map(|error| {
                FieldError::new(format!("{pointer}{}", error.instance_path()), cut(&error.to_string()))
            })
            .collect();
        if violations.is_empty() { Ok(()) } else { Err(violations) }
    }
}

fn cut(message: &str) -> String {
    match message.char_indices().nth(MAX_MESSAGE_CHARS) {
        Some((at, _)) => format!("{}…", &message[..at]),
        None => message.to_owned(),
    }
}

/// Fetches nothing.
struct Nothing;

impl Retrieve for Nothing {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        Err(format!("`{uri}` is outside of the schema, and nothing is fetched").into())
    }
}

/// Finds references that lead out, dialects that are not known, and too many levels.
fn look(schema: &Value, pointer: &mut String, depth: usize, problems: &mut Vec<FieldError>) {
    if depth > MAX_DEPTH {
        let detail = format!("the schema is nested deeper than {MAX_DEPTH} levels: flatten it");
        problems.push(FieldError::new(pointer.as_str(), detail));
        return;
    }
    let length = pointer.len();
    let mut below = |name: &str, value: &Value| {
        pointer.push('/');
        pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
        if let (true, Value::String(target)) = (name.starts_with('$'), value) {
            problems.extend(refused(name, target).map(|detail| FieldError::new(pointer.as_str(), detail)));
        }
        look(value, pointer, depth + 1, problems);
        pointer.truncate(length);
    };
    match schema {
        Value::Object(members) => {
            let schemas = members.iter().filter(|(name, _)| !DATA.contains(&name.as_str()));
            schemas.for_each(|(name, value)| below(name, value));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, value)| below(&index.to_string(), value));
        }
        _ => {}
    }
}

fn refused(keyword: &str, target: &str) -> Option<String> {
    match keyword {
        "$ref" | "$dynamicRef" | "$recursiveRef" if !target.starts_with('#') => Some(format!(
            "`{}` leads out of the schema, and nothing is fetched: put it under `$defs`, and refer to it as `#/$defs/…`",
            cut(target)
        )),
        "$schema" if !DIALECTS.contains(&target.trim_end_matches('#')) => {
            Some(format!("`{}` is no known dialect: leave it out, or write `{}`", cut(target), DIALECTS[0]))
        }
        _ => None,
    }
}

/// Counts the subschemas that are looked at for one value.
struct Work<'a> {
    root: &'a Value,
    /// What references cost, by their pointers.
    known: HashMap<&'a str, u64>,
    /// References that are being followed.
    open: HashSet<&'a str>,
    is_recursive: bool,
}

impl<'a> Work<'a> {
    fn cost(&mut self, schema: &'a Value) -> u64 {
        match schema {
            Value::Object(members) => {
                let mut cost = 1u64;
                for (name, value) in members {
                    let more = match (name.as_str(), value) {
                        ("$ref", Value::String(target)) => self.reference(target),
                        // Below the root it changes where `#` leads.
                        ("$id", Value::String(_)) if !std::ptr::eq(schema, self.root) => {
                            self.is_recursive = true;
                            0
                        }
                        ("$dynamicRef" | "$recursiveRef", Value::String(_)) => {
                            self.is_recursive = true;
                            1
                        }
                        (name, _) if DATA.contains(&name) || DEFINITIONS.contains(&name) => 0,
                        _ => self.cost(value),
                    };
                    cost = cost.saturating_add(more);
                }
                cost
            }
            Value::Array(items) => items.iter().fold(0u64, |cost, item| cost.saturating_add(self.cost(item))),
            _ => 0,
        }
    }

    fn reference(&mut self, target: &'a str) -> u64 {
        if let Some(cost) = self.known.get(target) {
            return *cost;
        }
        let root = self.root;
        // An anchor, or an escaped pointer, is not followed here.
        let Some(schema) = target.strip_prefix('#').and_then(|pointer| root.pointer(pointer)) else {
            self.is_recursive = true;
            return 1;
        };
        if !self.open.insert(target) {
            self.is_recursive = true;
            return 1;
        }
        let cost = self.cost(schema);
        self.open.remove(target);
        self.known.insert(target, cost);
        cost
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn refused(schema: &Value, pointer: &str, part: &str) {
        let problems = compile(schema).unwrap_err();
        assert_eq!(problems[0].field, pointer, "{problems:?}");
        assert!(problems[0].detail.contains(part), "{problems:?}");
    }

    #[test]
    fn violations_point_into_the_data() {
        let schema = json!({"type": "object", "required": ["id"], "properties": {
            "id": {"$ref": "#/$defs/id"}, "items": {"items": {"type": "number"}}},
            "$defs": {"id": {"type": "string", "pattern": "^[a-z]+$"}}});
        let schema = compile(&schema).unwrap();
        assert!(!schema.is_recursive());
        assert_eq!(schema.validate(br#"{"id":"a"}"#, "/data"), Ok(()));
        let violations = schema.validate(br#"{"id":"1","items":[1,"x"]}"#, "/3/data").unwrap_err();
        let fields: HashSet<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(fields, HashSet::from(["/3/data/id", "/3/data/items/1"]));
        assert_eq!(schema.validate(b"{", "").unwrap_err()[0].field, "");
        assert_eq!(schema.validate(b"{}", "/data").unwrap_err()[0].field, "/data");
    }

    #[test]
    fn nothing_is_fetched() {
        for target in ["http://169.254.169.254/", "file:///etc/passwd", "other.json", "//host/a", ""] {
            refused(&json!({"items": {"$ref": target}}), "/items/$ref", "leads out of the schema");
        }
        refused(&json!({"$dynamicRef": "http://a/"}), "/$dynamicRef", "leads out");
        refused(&json!({"$schema": "http://a/schema"}), "/$schema", "no known dialect");
        // The base that `$id` sets changes where `#` leads, but not out of the schema.
        assert!(compile(&json!({"$id": "http://a/b", "$ref": "#/$defs/x"})).is_err());
        assert!(compile(&json!({"const": {"$ref": "http://a/"}})).is_ok());
        for dialect in DIALECTS {
            assert!(compile(&json!({"$schema": dialect})).is_ok(), "{dialect}");
        }
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        refused(&json!([]), "", "JSON object");
        refused(&json!({"type": "strin"}), "/type", "strin");
        refused(&json!({"description": "x".repeat(MAX_SCHEMA_BYTES)}), "", "is the most");
        assert!(compile(&json!({"pattern": "("})).is_err());
        assert!(compile(&json!({"pattern": "(?=a)"})).is_err());
        assert!(compile(&json!({"pattern": "a{1000}{1000}"})).is_err());
        let deep = (0..100).fold(json!({}), |inner, _| json!({"not": inner}));
        assert!(compile(&deep).unwrap_err()[0].detail.contains("nested deeper"));
    }

    #[test]
    fn what_multiplies_is_refused_and_what_recurs_is_marked() {
        let mut definitions = serde_json::Map::new();
        for level in 0..40 {
            let next = format!("#/$defs/l{}", level + 1);
            definitions.insert(format!("l{level}"), json!({"allOf": [{"$ref": next}, {"$ref": next}]}));
        }
        definitions.insert("l40".into(), json!({}));
        refused(&json!({"$ref": "#/$defs/l0", "$defs": definitions}), "", "steps for one value");

        let tree = json!({"properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}, "type": "object"});
        let tree = compile(&tree).unwrap();
        assert!(tree.is_recursive());
        assert_eq!(tree.validate(br#"{"left":{"right":1}}"#, "").unwrap_err()[0].field, "/left/right");
    }
}
