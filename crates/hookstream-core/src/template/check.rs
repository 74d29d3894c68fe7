//! Whether placeholders lead anywhere, as far as the data of events is known: by a schema or a sample.

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
