//! CloudEvents 1.0: the Kafka protocol binding's binary and structured modes, and the JSON event and batch formats.

use std::borrow::Cow;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::value::RawValue;

use super::json::{self, Step};
use super::{Decoder, Draft, Outcome, Quoted, Reason, Rejection};

/// The header that tells the modes apart.
const CONTENT_TYPE: &str = "content-type";
/// What attributes' headers start with in binary mode.
const PREFIX: &str = "ce_";
/// The extension whose value nobody reads: it may have control characters.
const PARTITION_KEY: &str = "partitionkey";

/// How a record holds its event.
enum Mode {
    Binary,
    Structured,
    Batch,
    /// A content type of CloudEvents that is not read.
    Unknown,
}

/// The attributes that are found, each once.
#[derive(Default)]
pub(super) struct Attributes<'a> {
    id: Option<Cow<'a, str>>,
    source: Option<Cow<'a, str>>,
    specversion: Option<Cow<'a, str>>,
    event_type: Option<Cow<'a, str>>,
    time: Option<Cow<'a, str>>,
    subject: Option<Cow<'a, str>>,
    content_type: Option<Cow<'a, str>>,
    extensions: Vec<(String, String)>,
    /// Present without a value, which is as good as absent, but not twice.
    nulls: Vec<Cow<'a, str>>,
}

impl<'a> Attributes<'a> {
    pub(super) fn set(&mut self, name: &str, value: Cow<'a, str>) -> Result<(), Rejection> {
        if self.nulls.iter().any(|null| null == name) {
            return Err(twice(name));
        }
        let slot = match name {
            "id" => &mut self.id,
            "source" => &mut self.source,
            "specversion" => &mut self.specversion,
            "type" => &mut self.event_type,
            "time" => &mut self.time,
            "subject" => &mut self.subject,
            "datacontenttype" => &mut self.content_type,
            _ => return self.set_extension(name, &value),
        };
        if slot.is_some() {
            return Err(twice(name));
        }
        *slot = Some(value);
        Ok(())
    }

    fn set_null(&mut self, name: Cow<'a, str>) -> Result<(), Rejection> {
        let present = match &*name {
            "id" => self.id.is_some(),
            "source" => self.source.is_some(),
            "specversion" => self.specversion.is_some(),
            "type" => self.event_type.is_some(),
            "time" => self.time.is_some(),
            "subject" => self.subject.is_some(),
            "datacontenttype" => self.content_type.is_some(),
            other => self.extensions.iter().any(|(name, _)| name == other),
        };
        if present || self.nulls.contains(&name) {
            return Err(twice(&name));
        }
        self.nulls.push(name);
        Ok(())
    }

    fn set_extension(&mut self, name: &str, value: &str) -> Result<(), Rejection> {
        let valid = (1..=64).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if !valid {
            let message = format!(
                "the extension attribute {} is not named with the letters a to z and digits, 64 at most: rename it",
                Quoted(name)
            );
            return Err(bad(message).of(name));
        }
        if name != PARTITION_KEY && value.chars().any(char::is_control) {
            return Err(bad(format!("`{name}` has control characters: mend the producer")).of(name));
        }
        match self.extensions.binary_search_by(|(other, _)| other.as_str().cmp(name)) {
            Ok(_) => Err(twice(name)),
            Err(at) => {
                self.extensions.insert(at, (name.to_owned(), value.to_owned()));
                Ok(())
            }
        }
    }

    pub(super) fn is_json(&self) -> bool {
        self.content_type.as_deref().is_some_and(is_json)
    }

    pub(super) fn into_draft(self, account: &str, data: Cow<'a, [u8]>) -> Result<Draft<'a>, Rejection> {
        let required = |name: &str, value: Option<Cow<'a, str>>| {
            value.filter(|value| !value.is_empty()).ok_or_else(|| {
                bad(format!("the CloudEvent has no `{name}`: it is required, and must not be empty")).of(name)
            })
        };
        let specversion = required("specversion", self.specversion)?;
        if specversion != "1.0" {
            return Err(bad(format!("`specversion` is {}, and only `1.0` is read", Quoted(&specversion)))
                .of("specversion"));
        }
        let id = required("id", self.id)?;
        let source = required("source", self.source)?;
        let event_type = required("type", self.event_type)?;
        let account = match account {
            "subject" => self.subject.clone(),
            "source" => Some(source.clone()),
            name => self
                .extensions
                .binary_search_by(|(other, _)| other.as_str().cmp(name))
                .ok()
                .map(|at| Cow::Owned(self.extensions[at].1.clone())),
        };
        Ok(Draft {
            identity: Some((source, id)),
            event_type,
            time: self.time,
            account,
            subject: self.subject,
            content_type: self.content_type,
            extensions: self.extensions,
            data,
        })
    }
}

pub(super) fn bad(message: String) -> Rejection {
    Rejection::new(Reason::BadCloudevent, message)
}

pub(super) fn twice(name: &str) -> Rejection {
    bad(format!(
        "the event has {} twice: readers would disagree about which one counts; remove one",
        Quoted(name)
    ))
    .of(name)
}

/// Whether a content type says JSON: `application/json`, `text/json`, or anything `+json`.
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let (kind, subtype) = essence.split_once('/').unwrap_or(("", essence));
    let named = subtype.eq_ignore_ascii_case("json")
        && (kind.eq_ignore_ascii_case("application") || kind.eq_ignore_ascii_case("text"));
    let suffix = subtype.len().checked_sub(5).and_then(|at| subtype.get(at..));
    named || suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case("+json"))
}

impl<'a> Decoder<'a, '_> {
    /// Reads a record as a CloudEvent of whichever mode.
    pub(super) fn cloudevent(&self, account: &str, sink: &mut impl FnMut(u32, Outcome<'a>)) {
        match self.mode() {
            Mode::Binary => sink(0, self.binary(account)),
            Mode::Structured => sink(0, self.document().and_then(|event| self.structured(event, account, 0))),
            Mode::Batch => self.batch(account, sink),
            Mode::Unknown => sink(
                0,
                Err(bad("of the structured CloudEvents formats only `application/cloudevents+json` and \
                         `application/cloudevents-batch+json` are read: use one of them, or binary mode"
                    .to_owned())),
            ),
        }
    }

    /// Whether the record's headers say that it is a CloudEvent.
    pub(super) fn claims_cloudevent(&self) -> bool {
        !matches!(self.mode(), Mode::Binary)
            || self.record.headers.iter().any(|(name, _)| name.starts_with(PREFIX))
    }

    fn mode(&self) -> Mode {
        let header = self.record.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(CONTENT_TYPE));
        let Some((_, value)) = header else { return Mode::Binary };
        let essence = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        match essence.to_ascii_lowercase().as_slice() {
            b"application/cloudevents+json" | b"application/cloudevents" => Mode::Structured,
            b"application/cloudevents-batch+json" => Mode::Batch,
            other if other.starts_with(b"application/cloudevents") => Mode::Unknown,
            _ => Mode::Binary,
        }
    }

    fn document(&self) -> Result<&'a RawValue, Rejection> {
        json::document(self.text()?)
    }

    fn binary(&self, account: &str) -> Outcome<'a> {
        let mut attributes = Attributes::default();
        let mut any = false;
        for (name, value) in self.record.headers {
            let attribute = if let Some(attribute) = name.strip_prefix(PREFIX) {
                any = true;
                attribute
            } else if name.eq_ignore_ascii_case(CONTENT_TYPE) {
                "datacontenttype"
            } else {
                continue;
            };
            let value = std::str::from_utf8(value).map_err(|_| {
                bad(format!("the header {} is not UTF-8: mend the producer", Quoted(name))).of(attribute)
            })?;
            attributes.set(attribute, Cow::Borrowed(value))?;
        }
        if !any {
            return Err(bad("the record has neither `ce_` headers nor the header `content-type: \
                            application/cloudevents+json`: produce CloudEvents, or give the source the format `json`"
                .to_owned()));
        }
        let data = self.record.value.unwrap_or_default();
        if !data.is_empty() && attributes.is_json() {
            json::check(data).map_err(|rejection| rejection.of("data"))?;
        }
        self.finish(attributes.into_draft(account, Cow::Borrowed(data))?, 0)
    }

    fn batch(&self, account: &str, sink: &mut impl FnMut(u32, Outcome<'a>)) {
        let events = match self.document() {
            Ok(events) if events.get().starts_with('[') => events,
            Ok(_) => {
                return sink(
                    0,
                    Err(bad("a CloudEvents batch is a JSON array: mend the producer".to_owned())),
                );
            }
            Err(rejection) => return sink(0, Err(rejection)),
        };
        let mut index = 0;
        let result = json::members(events, |_, event| {
            sink(index, self.structured(event, account, index));
            index += 1;
        });
        if let Err(error) = result {
            sink(index, Err(bad(format!("the batch cannot be read ({error}): mend the producer"))));
        }
    }

    /// Reads an event in the JSON event format.
    pub(super) fn structured(&self, event: &'a RawValue, account: &str, index: u32) -> Outcome<'a> {
        if !event.get().starts_with('{') {
            return Err(bad("a structured CloudEvent is a JSON object: mend the producer".to_owned()));
        }
        let mut attributes = Attributes::default();
        let (mut data, mut data_base64) = (None, None);
        let mut result = Ok(());
        json::members(event, |step, value| {
            let Step::Name(name) = step else { return };
            if result.is_err() {
                return;
            }
            result = match &*name {
                "data" => replace_once(&mut data, value, &name),
                "data_base64" => replace_once(&mut data_base64, value, &name),
                _ => match json::scalar(value) {
                    Ok(Some(value)) => attributes.set(&name, value),
                    Ok(None) => attributes.set_null(name),
                    Err(what) => {
                        Err(bad(format!("the attribute {} is {what}: only data is", Quoted(&name))).of(&name))
                    }
                },
            };
        })
        .map_err(|error| bad(format!("the CloudEvent cannot be read ({error}): mend the producer")))?;
        result?;
        let data = read_data(&mut attributes, data, data_base64)?;
        self.finish(attributes.into_draft(account, data)?, index)
    }
}

fn replace_once<'a>(
    slot: &mut Option<&'a RawValue>,
    value: &'a RawValue,
    name: &str,
) -> Result<(), Rejection> {
    if slot.replace(value).is_some() { Err(twice(name)) } else { Ok(()) }
}

/// The data's bytes (CloudEvents JSON format §3.1): JSON as it stands, a text's content if the content type is not
/// JSON, or decoded base64.
fn read_data<'a>(
    attributes: &mut Attributes<'a>,
    data: Option<&'a RawValue>,
    data_base64: Option<&'a RawValue>,
) -> Result<Cow<'a, [u8]>, Rejection> {
    let text = |value, name: &str| match json::scalar(value) {
        Ok(text) => Ok(text),
        Err(what) => Err(bad(format!("`{name}` is {what}: it should be a text")).of(name)),
    };
    match (data, data_base64) {
        (Some(_), Some(_)) => {
            Err(bad("the CloudEvent has both `data` and `data_base64`: remove one of them".to_owned())
                .of("data_base64"))
        }
        (None, None) => Ok(Cow::Borrowed(&[])),
        (None, Some(base64)) => {
            let encoded = text(base64, "data_base64")?.unwrap_or_default();
            let bytes = BASE64_STANDARD.decode(encoded.as_bytes()).map_err(|error| {
                bad(format!("`data_base64` is not base64 ({error}): mend the producer")).of("data_base64")
            })?;
            if attributes.is_json() {
                json::check(&bytes).map_err(|rejection| rejection.of("data_base64"))?;
            }
            Ok(Cow::Owned(bytes))
        }
        (Some(data), None) => {
            let content_type = attributes.content_type.get_or_insert(Cow::Borrowed("application/json"));
            if is_json(content_type) || !data.get().starts_with('"') {
                return Ok(Cow::Borrowed(data.get().as_bytes()));
            }
            Ok(match text(data, "data")?.unwrap_or_default() {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            })
        }
    }
}
