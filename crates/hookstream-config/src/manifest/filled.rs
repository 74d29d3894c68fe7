//! A file as the document that the API takes: JSON, with values in the place of references.

use std::collections::HashMap;
use std::ptr;

use hookstream_types::SecretString;
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_norway::Value;

/// What references stand for, by the values of the file that are references.
#[derive(Debug, Default)]
pub(super) struct Resolved(HashMap<*const Value, SecretString>);

impl Resolved {
    pub(super) fn put(&mut self, reference: &Value, value: SecretString) {
        self.0.insert(ptr::from_ref(reference), value);
    }

    fn of(&self, value: &Value) -> Option<&SecretString> {
        self.0.get(&ptr::from_ref(value))
    }
}

/// A file's value, to be written with what its references stand for.
#[derive(Clone, Copy)]
pub(super) struct Filled<'a> {
    pub value: &'a Value,
    pub resolved: &'a Resolved,
}

impl Serialize for Filled<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let with = |value| Self { value, ..*self };
        if let Some(secret) = self.resolved.of(self.value) {
            return serializer.serialize_str(secret.expose());
        }
        match self.value {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::Number(number) => number.serialize(serializer),
            Value::String(text) => serializer.serialize_str(text),
            Value::Sequence(items) => serializer.collect_seq(items.iter().map(with)),
            Value::Mapping(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (name, value) in fields {
                    map.serialize_entry(name, &with(value))?;
                }
                map.end()
            }
            // As it was read.
            Value::Tagged(tagged) => with(&tagged.value).serialize(serializer),
        }
    }
}
