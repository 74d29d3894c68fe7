//! Payloads as text with placeholders: `{"type": "[EventType]", "booking": [Booking.Id]}`.
//!
//! | placeholder | stands for |
//! | --- | --- |
//! | `[EventType]`, `[EventId]`, `[EventTime]`, `[Subject]`, `[Source]` | the event's CloudEvents attributes |
//! | `[Account]` | the name of the event's account |
//! | `[Data]` | the event's data, all of it |
//! | `[Booking.Id]`, `[Items.0.Name]`, `[Data.Subject]` | what a path leads to in the data |
//!
//! Names have no case. A format may follow (`[EventTime:dd.MM.yyyy]`, `[Booking.Currency:lower]`), and what to write if
//! there is nothing (`[Booking.Note|none]`). `[[` is a bracket where a placeholder would begin otherwise; all other
//! brackets are what they are, so that arrays need no escaping.
//!
//! What is put in is escaped for where it stands: within a string of JSON or beside one, in text, attributes and CDATA of
//! markup, in a form. So no value can end what it stands in. A template is compiled once; a payload is made in one pass
//! over the data, without making values of what no path leads to, and is bounded.

mod check;
mod parse;
mod paths;
mod time;

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::event::EventAttributes;
pub use check::Shape;
use paths::{Found, Path, Paths};
use time::TimeFormat;

/// Longest text of a template, in bytes.
pub const MAX_TEMPLATE_BYTES: usize = 64 * 1024;
/// Most placeholders of a template.
pub const MAX_PLACEHOLDERS: usize = 500;
/// Most steps of a path.
const MAX_STEPS: usize = 16;
/// Largest payload that a template makes, in bytes.
pub const MAX_PAYLOAD_BYTES: usize = 1024 * 1024;

/// What a payload is escaped as; by its content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    Json,
    Xml,
    Html,
    /// `application/x-www-form-urlencoded`.
    Form,
    /// Anything else: what is put in stays as it is.
    Text,
}

impl Language {
    #[must_use]
    pub fn of(content_type: &str) -> Self {
        let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match media.as_str() {
            "application/json" | "text/json" => Self::Json,
            "application/xml" | "text/xml" => Self::Xml,
            "text/html" => Self::Html,
            "application/x-www-form-urlencoded" => Self::Form,
            _ if media.ends_with("+json") => Self::Json,
            _ if media.ends_with("+xml") => Self::Xml,
            _ => Self::Text,
        }
    }
}

/// What is wrong with a template, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct TemplateError {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    pub message: String,
}

/// A template that is ready to make payloads.
#[derive(Clone)]
pub struct Template {
    parts: Vec<Part>,
    paths: Paths,
    /// Of the text between placeholders.
    text_bytes: usize,
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").field("parts", &self.parts.len()).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug)]
enum Part {
    Text(Box<str>),
    Placeholder(Placeholder),
}

#[derive(Clone, Debug)]
struct Placeholder {
    what: What,
    format: Option<Format>,
    default: Option<Given>,
    stands: Stands,
    /// Where its bracket is.
    at: Place,
}

/// In a template's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    line: usize,
    column: usize,
}

impl Place {
    fn error(self, message: impl Into<String>) -> TemplateError {
        TemplateError { line: self.line, column: self.column, message: message.into() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    EventType,
    EventId,
    EventTime,
    Subject,
    Source,
    Account,
    Data,
    Path { path: Path, slot: usize },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Format {
    Time(TimeFormat),
    Lower,
    Upper,
    /// As JSON text, whatever it stands in.
    Json,
    Base64,
}

/// Where a placeholder stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    /// Where JSON has a value.
    JsonValue,
    JsonString,
    Markup,
    Cdata,
    Form,
    Text,
}

/// What a template says is to stand where there is nothing.
#[derive(Clone, Debug)]
enum Given {
    Text(Box<str>),
    /// JSON that is no string.
    Json(Box<str>),
}

impl Given {
    fn of(default: &str) -> Self {
        let is_value = !default.starts_with('"') && is_json(default);
        if is_value { Self::Json(Box::from(default)) } else { Self::Text(Box::from(default)) }
    }

    fn value(&self) -> Value<'_> {
        match self {
            Self::Text(given) => text(given),
            Self::Json(given) => Value::Json(given),
        }
    }
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok()
}

/// What a payload is made of.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    pub event: &'a EventAttributes,
    /// The name of the event's account.
    pub account: &'a str,
    pub data: &'a Bytes,
}

/// Why there is no payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPayload {
    #[error("the payload that the template makes has more than {MAX_PAYLOAD_BYTES} bytes")]
    TooLarge,
}

/// What stands for a placeholder.
enum Value<'a> {
    Missing,
    Text(Cow<'a, str>),
    /// JSON that is no string: a number, `true`, an object…
    Json(&'a str),
}

impl Template {
    /// Compiles a template's text.
    ///
    /// # Errors
    /// What is wrong first, and where.
    pub fn compile(text: &str, language: Language) -> Result<Self, TemplateError> {
        parse::template(text, language)
    }

    /// The payload for an event.
    ///
    /// # Errors
    /// [`NoPayload`] if it would be too large.
    pub fn render(&self, input: Input<'_>) -> Result<Vec<u8>, NoPayload> {
        let found = self.paths.find(input.data);
        let mut out = Vec::with_capacity(self.text_bytes + 64 * self.parts.len());
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Placeholder(placeholder) => placeholder.render(input, &found, &mut out),
            }
            if out.len() > MAX_PAYLOAD_BYTES {
                return Err(NoPayload::TooLarge);
            }
        }
        Ok(out)
    }
}

impl Placeholder {
    fn render(&self, input: Input<'_>, found: &Found<'_>, out: &mut Vec<u8>) {
        let value = match self.what.value(input, found) {
            Value::Missing => self.default.as_ref().map_or(Value::Missing, Given::value),
            value => value,
        };
        self.stands.push(self.formatted(value), out);
    }

    fn formatted<'a>(&self, value: Value<'a>) -> Value<'a> {
        let Some(format) = &self.format else { return value };
        let text = match (&value, format) {
            (Value::Missing, _) => return value,
            (Value::Text(text), Format::Json) => return Value::Text(Cow::Owned(json_string(text))),
            (Value::Json(json), Format::Json) => return Value::Text(Cow::Borrowed(json)),
            (Value::Text(text), _) => text,
            (Value::Json(json), _) => *json,
        };
        let formatted = match format {
            Format::Time(format) => format.format(text),
            Format::Lower => Some(text.to_lowercase()),
            Format::Upper => Some(text.to_uppercase()),
            Format::Base64 => Some(STANDARD.encode(text)),
            Format::Json => None,
        };
        formatted.map_or(value, |text| Value::Text(Cow::Owned(text)))
    }
}

impl What {
    fn value<'a>(&self, input: Input<'a>, found: &Found<'a>) -> Value<'a> {
        let EventAttributes { event_type, id, time, subject, ce_source, content_type, .. } = input.event;
        match self {
            Self::EventType => text(event_type),
            Self::EventId => text(id),
            Self::EventTime => text(time),
            Self::Subject => subject.as_deref().map_or(Value::Missing, text),
            Self::Source => text(ce_source),
            Self::Account => text(input.account),
            Self::Data => all(content_type.as_deref(), input.data),
            Self::Path { slot, .. } => found.get(*slot).copied().flatten().map_or(Value::Missing, json),
        }
    }
}

fn text(text: &str) -> Value<'_> {
    Value::Text(Cow::Borrowed(text))
}

fn json(json: &str) -> Value<'_> {
    if json == "null" {
        return Value::Missing;
    }
    if !json.starts_with('"') {
        return Value::Json(json);
    }
    match serde_json::from_str(json) {
        Ok(JsonText(text)) => Value::Text(text),
        // JSON by its letter, but half of a surrogate pair is no text.
        Err(_) => Value::Missing,
    }
}

/// A string of JSON, borrowed if nothing in it is escaped.
#[derive(serde::Deserialize)]
struct JsonText<'a>(#[serde(borrow)] Cow<'a, str>);

/// All of an event's data, by what its producer said that it is: what is no JSON all the same is text, or it could end
/// what it stands in.
fn all<'a>(content_type: Option<&str>, data: &'a [u8]) -> Value<'a> {
    if data.is_empty() {
        return Value::Missing;
    }
    let is_said_json = content_type.is_none_or(|content_type| Language::of(content_type) == Language::Json);
    match std::str::from_utf8(data) {
        Ok(data) if is_said_json && is_json(data) => json(data.trim_ascii()),
        Ok(data) => text(data),
        Err(_) => Value::Text(Cow::Owned(STANDARD.encode(data))),
    }
}

fn json_string(text: &str) -> String {
    serde_json::to_string(text).expect("a string is JSON")
}

impl Stands {
    fn push(self, value: Value<'_>, out: &mut Vec<u8>) {
        let text = match (self, &value) {
            (Self::JsonValue, Value::Missing) => return out.extend_from_slice(b"null"),
            (Self::JsonValue, Value::Json(json)) => return out.extend_from_slice(json.as_bytes()),
            (Self::JsonValue, Value::Text(text)) => {
                return out.extend_from_slice(json_string(text).as_bytes());
            }
            (_, Value::Missing) => return,
            (_, Value::Text(text)) => text,
            (_, Value::Json(json)) => *json,
        };
        match self {
            Self::JsonValue | Self::JsonString => {
                let quoted = json_string(text);
                out.extend_from_slice(quoted.get(1..quoted.len() - 1).unwrap_or_default().as_bytes());
            }
            Self::Markup => text.chars().for_each(|c| push_markup(c, out)),
            Self::Cdata => push_cdata(text, out),
            Self::Form => push_form(text, out),
            Self::Text => out.extend_from_slice(text.as_bytes()),
        }
    }
}

fn push_char(c: char, out: &mut Vec<u8>) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

/// What XML has no way to write (XML 1.0 §2.2) becomes U+FFFD.
fn allowed(c: char) -> char {
    match c {
        '\t' | '\n' | '\r' => c,
        '\0'..'\u{20}' | '\u{fffe}' | '\u{ffff}' => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

fn push_markup(c: char, out: &mut Vec<u8>) {
    match c {
        '&' => out.extend_from_slice(b"&amp;"),
        '<' => out.extend_from_slice(b"&lt;"),
        '>' => out.extend_from_slice(b"&gt;"),
        '"' => out.extend_from_slice(b"&quot;"),
        '\'' => out.extend_from_slice(b"&#39;"),
        // A parser makes one line end of it, or in an attribute a space.
        '\r' => out.extend_from_slice(b"&#13;"),
        c => push_char(allowed(c), out),
    }
}

/// `]]>` would end it: one section ends between its brackets, and another begins.
fn push_cdata(text: &str, out: &mut Vec<u8>) {
    for c in text.chars() {
        if c == '>' && out.ends_with(b"]]") {
            out.extend_from_slice(b"]]><![CDATA[");
        }
        push_char(allowed(c), out);
    }
    // Nor may it end with what the template goes on with.
    if text.ends_with(']') {
        out.extend_from_slice(b"]]><![CDATA[");
    }
}

/// Percent-encoding of forms (WHATWG URL, "application/x-www-form-urlencoded serializing").
fn push_form(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => out.push(byte),
            b' ' => out.push(b'+'),
            byte => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests;
