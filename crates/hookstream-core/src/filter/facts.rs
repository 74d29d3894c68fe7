//! What a filter sees of an event.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::event::EventAttributes;

/// An event as a CloudEvents document, read once for all filters.
#[derive(Clone, Debug)]
pub struct Facts<'a>(Json<'a>);

/// A JSON value that borrows what it can.
#[derive(Clone, Debug)]
pub(super) enum Json<'a> {
    Scalar(Scalar<'a>),
    Array(Vec<Json<'a>>),
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

/// A value that holds nothing else.
#[derive(Clone, Debug)]
pub(super) enum Scalar<'a> {
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'a, str>),
}

/// A number by its value: whole ones exactly, others as near as a double is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    Whole(i128),
    Double(f64),
}

impl<'a> Facts<'a> {
    /// Of an event with these data. Data that are no JSON have no fields.
    #[must_use]
    pub fn of(event: &'a EventAttributes, data: &'a [u8]) -> Self {
        let text = |text: &'a str| Json::Scalar(Scalar::Text(Cow::Borrowed(text)));
        let mut members: Vec<(Cow<'a, str>, Json<'a>)> = vec![
            ("id".into(), text(&event.id)),
            ("source".into(), text(&event.ce_source)),
            ("type".into(), text(&event.event_type)),
            ("time".into(), text(&event.time)),
        ];
        members.extend(event.subject.as_deref().map(|subject| ("subject".into(), text(subject))));
        let content_type = event.content_type.as_deref();
        members.extend(content_type.map(|content_type| ("datacontenttype".into(), text(content_type))));
        members
            .extend(event.extensions.iter().map(|(name, value)| (Cow::Borrowed(name.as_str()), text(value))));
        members.extend(serde_json::from_slice(data).ok().map(|data| ("data".into(), data)));
        Self(Json::Object(members))
    }

    pub(super) fn root(&self) -> &Json<'a> {
        &self.0
    }
}

impl Json<'_> {
    /// Whether a value that holds nothing else stands somewhere at this path.
    pub(super) fn has<S: AsRef<str>>(&self, path: &[S]) -> bool {
        self.any(path, &|_| true)
    }

    /// Whether a value at this path is such.
    pub(super) fn any<S: AsRef<str>>(&self, path: &[S], is_such: &impl Fn(&Scalar<'_>) -> bool) -> bool {
        match self {
            Self::Array(elements) => elements.iter().any(|element| element.any(path, is_such)),
            Self::Object(members) => path.split_first().is_some_and(|(name, rest)| {
                let mut here = members.iter().filter(|(key, _)| key == name.as_ref());
                here.any(|(_, value)| value.any(rest, is_such))
            }),
            Self::Scalar(scalar) => path.is_empty() && is_such(scalar),
        }
    }
}

impl Number {
    pub(super) fn of(number: &serde_json::Number) -> Self {
        let whole = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
        whole.map_or_else(|| Self::of_double(number.as_f64().unwrap_or(f64::NAN)), Self::Whole)
    }

    fn of_double(double: f64) -> Self {
        /// Below it every whole double is an exact number.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        #[expect(clippy::cast_possible_truncation, reason = "it is whole and small")]
        let whole = (double.fract() == 0.0 && double.abs() <= EXACT).then_some(double as i128);
        whole.map_or(Self::Double(double), Self::Whole)
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.partial_cmp(other) == Some(std::cmp::Ordering::Equal)
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        #[expect(clippy::cast_precision_loss, reason = "the other is no whole number, or a huge one")]
        let double = |number: &Self| match number {
            Self::Whole(whole) => *whole as f64,
            Self::Double(double) => *double,
        };
        match (self, other) {
            (Self::Whole(one), Self::Whole(other)) => Some(one.cmp(other)),
            (one, other) => double(one).partial_cmp(&double(other)),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Json<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Json<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Json::Scalar(Scalar::Null))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
                Ok(Json::Scalar(Scalar::Bool(value)))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
                Ok(Json::Scalar(Scalar::Number(Number::Whole(value.into()))))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
                Ok(Json::Scalar(Scalar::Number(Number::Whole(value.into()))))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
                Ok(Json::Scalar(Scalar::Number(Number::of_double(value))))
            }

            fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Self::Value, E> {
                Ok(Json::Scalar(Scalar::Text(Cow::Borrowed(value))))
            }

            fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
                Ok(Json::Scalar(Scalar::Text(Cow::Owned(value.to_owned()))))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = seq.next_element()? {
                    elements.push(element);
                }
                Ok(Json::Array(elements))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                /// A member's name, borrowed if it has no escapes.
                struct Name<'a>(Cow<'a, str>);

                impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
                    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                        struct Names;

                        impl<'de> Visitor<'de> for Names {
                            type Value = Name<'de>;

                            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                                f.write_str("a name")
                            }

                            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                                Ok(Name(Cow::Borrowed(name)))
                            }

                            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                                Ok(Name(Cow::Owned(name.to_owned())))
                            }
                        }
                        deserializer.deserialize_str(Names)
                    }
                }
                let mut members = Vec::new();
                while let Some((Name(name), value)) = map.next_entry()? {
                    members.push((name, value));
                }
                Ok(Json::Object(members))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}
