//! Whether placeholders lead anywhere, as far as the data of events is known: by a schema or a sample.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::paths::is_alike;
use super::{Part, Template, TemplateError, What};

/// Members that are named in a message.
const MAX_NAMED: usize = 8;
/// Schemas within a schema that are looked at for one path: they may refer to each other, and to themselves.
const MAX_SCHEMAS: usize = 1_000;

/// What the data of an event type looks like. What neither a schema nor a sample excludes may be there.
#[derive(Clone, Copy, Debug)]
pub struct Shape<'a> {
    pub event_type: &'a str,
    /// JSON Schema.
    pub schema: Option<&'a Value>,
    pub sample: Option<&'a Value>,
}

/// Paths that are proposed of one event type, and how long they get.
const MAX_PATHS: usize = 200;
const MAX_STEPS: usize = 8;

/// What is known about a path.
enum Led {
    /// There is something, or may be.
    Somewhere,
    /// There is nothing but these members.
    Nowhere(Vec<String>),
}

impl Template {
    /// Placeholders that lead nowhere in the data of any of these event types.
    #[must_use]
    pub fn unknown(&self, shapes: &[Shape<'_>]) -> Vec<TemplateError> {
        self.placeholders().filter_map(|placeholder| {
            let What::Path { path, .. } = &placeholder.what else { return None };
            let mut nowhere = None;
            for shape in shapes {
                match shape.lead(path) {
                    Led::Somewhere => return None,
                    Led::Nowhere(members) => nowhere = nowhere.or(Some((shape.event_type, members))),
                }
            }
            let (event_type, members) = nowhere?;
            let name = path.join(".");
            let there_is = if members.is_empty() {
                String::new()
            } else {
                format!("; there is {}", members.join(", "))
            };
            let message = format!(
                "`[{name}]` leads nowhere in the data of `{event_type}`{there_is} (for a bracket as it is, write `[[`)"
            );
            Some(placeholder.at.error(message))
        })
        .collect()
    }

    fn placeholders(&self) -> impl Iterator<Item = &super::Placeholder> {
        self.parts.iter().filter_map(|part| match part {
            Part::Placeholder(placeholder) => Some(placeholder),
            Part::Text(_) => None,
        })
    }
}

impl Shape<'_> {
    /// Paths that lead to something as placeholders have them: to what holds nothing else, and `0` for any element.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Listed::default();
        if let Some(sample) = self.sample {
            paths.of_sample(sample, "");
        }
        if let Some(schema) = self.schema {
            paths.of_schema(schema, schema, "", &mut { MAX_SCHEMAS });
        }
        paths.0.into_iter().collect()
    }

    fn lead(&self, path: &[Box<str>]) -> Led {
        let in_sample = self.sample.map(|sample| in_sample(sample, path));
        if let Some(Led::Somewhere) = in_sample {
            return Led::Somewhere;
        }
        // What a sample lacks may be there all the same, if a schema has it.
        match (self.schema, in_sample) {
            (Some(schema), _) => in_schema(schema, schema, path, &mut { MAX_SCHEMAS }),
            (None, Some(led)) => led,
            (None, None) => Led::Somewhere,
        }
    }
}

fn named(members: &Map<String, Value>) -> Led {
    Led::Nowhere(members.keys().take(MAX_NAMED).map(|name| format!("`{name}`")).collect())
}

fn member<'v>(members: &'v Map<String, Value>, name: &str) -> Option<&'v Value> {
    members
        .get(name)
        .or_else(|| members.iter().find(|(known, _)| is_alike(known, name)).map(|(_, value)| value))
}

fn in_sample(value: &Value, path: &[Box<str>]) -> Led {
    let Some((step, rest)) = path.split_first() else { return Led::Somewhere };
    let next = match value {
        Value::Object(members) => match member(members, step) {
            Some(next) => next,
            None => return named(members),
        },
        // Other events may have more of them, which look the same.
        Value::Array(elements) if step.parse::<usize>().is_ok() => match elements.first() {
            Some(first) => first,
            None => return Led::Somewhere,
        },
        // Something stands there in other events.
        Value::Null => return Led::Somewhere,
        _ => return Led::Nowhere(Vec::new()),
    };
    in_sample(next, rest)
}

fn in_schema(root: &Value, schema: &Value, path: &[Box<str>], left: &mut usize) -> Led {
    let Some((step, rest)) = path.split_first() else { return Led::Somewhere };
    *left = left.saturating_sub(1);
    if *left == 0 {
        return Led::Somewhere;
    }
    // `true` allows everything, and `false` nothing.
    let Some(keywords) = schema.as_object() else {
        return if schema == &Value::Bool(false) { Led::Nowhere(Vec::new()) } else { Led::Somewhere };
    };
    if let Some(reference) = keywords.get("$ref").and_then(Value::as_str) {
        let found = reference.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
        return match found {
            Some(found) => in_schema(root, found, path, left),
            None => Led::Somewhere,
        };
    }
    let mut excluded = None;
    let properties = keywords.get("properties").and_then(Value::as_object);
    if let Some(properties) = properties {
        match member(properties, step) {
            Some(next) => match in_schema(root, next, rest, left) {
                Led::Somewhere => return Led::Somewhere,
                nowhere => excluded = Some(nowhere),
            },
            // What is not named may be there by the schema's letter; as a placeholder it is most likely a mistake.
            None if is_closed(keywords) => excluded = Some(named(properties)),
            None => {}
        }
    }
    if step.parse::<usize>().is_ok()
        && let Some(items) = keywords.get("items")
    {
        return in_schema(root, items, rest, left);
    }
    for combined in ["allOf", "anyOf", "oneOf"] {
        for part in keywords.get(combined).and_then(Value::as_array).into_iter().flatten() {
            match in_schema(root, part, path, left) {
                Led::Somewhere => return Led::Somewhere,
                nowhere => excluded = excluded.or(Some(nowhere)),
            }
        }
    }
    excluded.unwrap_or_else(|| {
        let is_scalar = keywords
            .get("type")
            .and_then(Value::as_str)
            .is_some_and(|kind| matches!(kind, "string" | "number" | "integer" | "boolean" | "null"));
        if is_scalar { Led::Nowhere(Vec::new()) } else { Led::Somewhere }
    })
}

/// Paths, as they are gathered.
#[derive(Default)]
struct Listed(BTreeSet<String>);

impl Listed {
    fn add(&mut self, path: &str) {
        if !path.is_empty() && self.0.len() < MAX_PATHS {
            self.0.insert(path.to_owned());
        }
    }

    fn of_sample(&mut self, value: &Value, path: &str) {
        match value {
            Value::Object(members) if !members.is_empty() => {
                for (name, value) in members {
                    if let Some(path) = longer(path, name) {
                        self.of_sample(value, &path);
                    }
                }
            }
            Value::Array(elements) if !elements.is_empty() => {
                if let Some(path) = longer(path, "0") {
                    self.of_sample(&elements[0], &path);
                }
            }
            _ => self.add(path),
        }
    }

    fn of_schema(&mut self, root: &Value, schema: &Value, path: &str, left: &mut usize) {
        *left = left.saturating_sub(1);
        let Some(keywords) = schema.as_object().filter(|_| *left > 0) else { return self.add(path) };
        let reference = keywords.get("$ref").and_then(Value::as_str);
        if let Some(pointer) = reference.and_then(|reference| reference.strip_prefix('#')) {
            return match root.pointer(pointer) {
                Some(found) => self.of_schema(root, found, path, left),
                None => self.add(path),
            };
        }
        let mut is_leaf = true;
        let properties = keywords.get("properties").and_then(Value::as_object);
        for (name, schema) in properties.into_iter().flatten() {
            if let Some(path) = longer(path, name) {
                is_leaf = false;
                self.of_schema(root, schema, &path, left);
            }
        }
        if let Some(items) = keywords.get("items")
            && let Some(path) = longer(path, "0")
        {
            is_leaf = false;
            self.of_schema(root, items, &path, left);
        }
        for combined in ["allOf", "anyOf", "oneOf"] {
            for part in keywords.get(combined).and_then(Value::as_array).into_iter().flatten() {
                is_leaf = false;
                self.of_schema(root, part, path, left);
            }
        }
        if is_leaf {
            self.add(path);
        }
    }
}

/// A path with one more step; none: it is too long, or the name can't stand in a placeholder as it is.
fn longer(path: &str, name: &str) -> Option<String> {
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '$' | '@');
    if path.matches('.').count() + 1 >= MAX_STEPS || name.is_empty() || !name.chars().all(is_plain) {
        return None;
    }
    Some(if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") })
}

/// Whether properties that are not named are most likely not there.
fn is_closed(keywords: &Map<String, Value>) -> bool {
    let open = ["additionalProperties", "patternProperties", "unevaluatedProperties"];
    open.iter().all(|keyword| keywords.get(*keyword).is_none_or(|value| value == &Value::Bool(false)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::template::Language;

    fn unknown(template: &str, schema: Option<Value>, sample: Option<Value>) -> Vec<String> {
        let template = Template::compile(template, Language::Text).unwrap();
        let shape = Shape { event_type: "a.b", schema: schema.as_ref(), sample: sample.as_ref() };
        template.unknown(&[shape]).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn by_a_sample() {
        let sample = json!({ "Booking": { "Id": 1, "Guests": [{ "Name": "x" }], "Note": null, "Tags": [] } });
        let known =
            "[EventType] [booking.id] [Booking.Guests.7.Name] [Booking.Note.Text] [Booking.Tags.0] [Data]";
        assert_eq!(unknown(known, None, Some(sample.clone())), [""; 0]);
        assert_eq!(
            unknown("x [Booking.Idd]\n[Booking.Id.x] [Booking.Guests.Name]", None, Some(sample)),
            [
                "line 1, column 3: `[Booking.Idd]` leads nowhere in the data of `a.b`; there is `Guests`, `Id`, \
                 `Note`, `Tags` (for a bracket as it is, write `[[`)",
                "line 2, column 1: `[Booking.Id.x]` leads nowhere in the data of `a.b` (for a bracket as it is, write `[[`)",
                "line 2, column 16: `[Booking.Guests.Name]` leads nowhere in the data of `a.b` (for a bracket as it \
                 is, write `[[`)",
            ]
        );
    }

    #[test]
    fn by_a_schema() {
        let schema = json!({
            "type": "object",
            "properties": {
                "booking": { "$ref": "#/$defs/booking" },
                "open": { "type": "object", "properties": { "a": true }, "additionalProperties": true },
                "free": { "type": "object" }
            },
            "$defs": { "booking": {
                "allOf": [{ "properties": { "id": { "type": "string" } } }, { "properties": { "total": { "type": "number" } } }],
                "type": "object",
            } },
        });
        let known = "[Booking.ID] [booking.total] [open.b] [free.x.y]";
        assert_eq!(unknown(known, Some(schema.clone()), None), [""; 0]);
        for path in ["Booking.None", "other", "booking.id.x"] {
            assert_eq!(unknown(&format!("[{path}]"), Some(schema.clone()), None).len(), 1, "{path}");
        }
        // A sample that has it is as good.
        let sample = json!({ "other": 1 });
        assert_eq!(unknown("[other]", Some(schema), Some(sample)), [""; 0]);
    }

    #[test]
    fn paths_are_those_that_lead_somewhere() {
        let sample = json!({
            "Booking": { "Id": 1, "Guests": [{ "Name": "x", "a.b": 1 }, { "Other": 1 }], "Note": null, "Tags": [] },
        });
        let schema = json!({
            "properties": { "Booking": { "$ref": "#/$defs/booking" }, "lines": { "items": { "type": "string" } } },
            "$defs": { "booking": { "allOf": [{ "properties": { "Total": { "type": "number" } } }, { "type": "object" }] } },
        });
        let shape = Shape { event_type: "a.b", schema: Some(&schema), sample: Some(&sample) };
        let paths = shape.paths();
        assert_eq!(
            paths,
            [
                "Booking",
                "Booking.Guests.0.Name",
                "Booking.Id",
                "Booking.Note",
                "Booking.Tags",
                "Booking.Total",
                "lines.0"
            ]
        );
        let placeholders: Vec<_> = paths.iter().map(|path| format!("[{path}]")).collect();
        assert_eq!(unknown(&placeholders.concat(), Some(schema), Some(sample)), [""; 0]);
    }

    #[test]
    fn paths_are_bounded() {
        let mut deep = json!(1);
        for _ in 0..50 {
            deep = json!({ "a": deep });
        }
        let wide: Map<String, Value> = (0..1_000).map(|n| (format!("w{n}"), deep.clone())).collect();
        let sample = Value::Object(wide.clone());
        let shape = Shape { event_type: "a.b", schema: None, sample: Some(&sample) };
        assert_eq!(shape.paths(), [""; 0]);
        let sample = json!({ "a": 1, "b": wide });
        assert_eq!(Shape { sample: Some(&sample), ..shape }.paths(), ["a"]);
        let flat: Value = (0..1_000).map(|n| (format!("w{n}"), json!(1))).collect::<Map<_, _>>().into();
        assert_eq!(Shape { sample: Some(&flat), ..shape }.paths().len(), MAX_PATHS);
        let schema = json!({ "$ref": "#" });
        assert_eq!(Shape { schema: Some(&schema), ..shape }.paths(), [""; 0]);
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        let schema = json!({ "$ref": "#/$defs/a", "$defs": { "a": { "$ref": "#/$defs/a" } } });
        assert_eq!(unknown("[x]", Some(schema), None), [""; 0]);
        let twice = json!({ "allOf": [{ "$ref": "#" }, { "$ref": "#" }], "type": "string" });
        assert_eq!(unknown("[x]", Some(twice), None), [""; 0]);
    }

    #[test]
    fn nothing_is_unknown_where_nothing_is_known() {
        assert_eq!(unknown("[x]", None, None), [""; 0]);
        assert_eq!(Template::compile("[x]", Language::Text).unwrap().unknown(&[]), []);
    }
}
