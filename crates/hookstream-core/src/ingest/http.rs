//! Events in an HTTP request: CloudEvents HTTP protocol binding 1.0.2 (binary, structured, batch), and plain JSON.
//!
//! | `Content-Type` | read as |
//! | --- | --- |
//! | `application/cloudevents+json` | one event in the JSON event format |
//! | `application/cloudevents-batch+json` | a JSON array of such events, at most [`MAX_BATCH_EVENTS`] |
//! | anything, with `ce-` headers | binary mode: the attributes are the headers, the data is the body |
//! | `application/json` or none, without `ce-` headers | plain JSON, by the source's mapping if it has one |
//!
//! A request is taken as a whole or not at all, and every event that is at fault is named. What a Kafka record may
//! have and a request may not: a name twice on the way to an attribute, and, in plain JSON with a `data` member,
//! members that would be dropped.

use std::borrow::Cow;

use hookstream_types::{AccountUid, EventId, UnixMillis};
use serde_json::value::RawValue;

use super::cloudevents::{Attributes, bad};
use super::json::{self, Step};
use super::mapped::{ACCOUNT, pointer};
use super::{Decoded, Decoder, Origin, Outcome, Quoted, Reason, Rejection, SourceRecord};
use crate::config::{Format, Mapping, Source, View};

/// Events in one request.
pub const MAX_BATCH_EVENTS: usize = 1_000;

/// What attributes' headers start with in binary mode.
const PREFIX: &str = "ce-";
/// The members of a plain JSON document that are read.
const PLAIN: [&str; 6] = ["id", "type", "time", "account", "subject", "data"];

/// A request as it was received, its content coding undone.
#[derive(Clone, Copy, Debug)]
pub struct HttpRequest<'a> {
    pub content_type: Option<&'a str>,
    /// At least those that start with `ce-`; names are lower case.
    pub headers: &'a [(&'a str, &'a [u8])],
    pub body: &'a [u8],
    pub received_at: UnixMillis,
}

/// Who sends a request.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// The account that the client is bound to; none: it may name any.
    pub account: Option<AccountUid>,
    /// The client's id: idempotency keys are its own.
    pub client: &'a str,
    /// Names the request's events instead of what they say of themselves; visible ASCII.
    pub idempotency_key: Option<&'a str>,
    /// The id of an event that has no other.
    pub fresh: EventId,
}

/// What is wrong at one place of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// A JSON pointer into the body (empty: all of it), or the name of a header.
    pub field: String,
    pub reason: Reason,
    pub message: String,
}

/// Why a request is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The content type is none of those that are read; says which are.
    ContentType(String),
    /// One or more of its events are none.
    Faults(Vec<Fault>),
}

/// How the body is read.
enum Mode {
    Binary,
    Structured,
    Batch,
    Plain,
}

/// Reads the events of `request`, which `writer` sends to `source`, in their order.
///
/// # Errors
/// [`Refusal`]: nothing of the request may be taken.
pub fn decode_http<'a>(
    source: &Source,
    request: &HttpRequest<'a>,
    writer: &Writer<'_>,
    view: &View,
) -> Result<Vec<Decoded<'a>>, Refusal> {
    let mode = mode(request)?;
    let record = SourceRecord { timestamp: request.received_at, value: Some(request.body), headers: &[] };
    let decoder = Decoder { source, record, origin: Origin::Request(writer), view };
    let account = match &source.format {
        Format::Cloudevents { account } => account,
        _ => ACCOUNT,
    };
    let outcome = match mode {
        Mode::Binary => {
            decoder.binary_request(request, account).map_err(|rejection| at(header(&rejection), rejection))
        }
        Mode::Batch => return decoder.batch_request(account),
        Mode::Structured | Mode::Plain => decoder.document_request(&mode, account),
    };
    outcome.map(|event| vec![event]).map_err(|fault| Refusal::Faults(vec![fault]))
}

/// The pointer to the data of the event at `index`, which was read from `request`.
#[must_use]
pub fn data_pointer(source: &Source, request: &HttpRequest<'_>, index: usize, data: &[u8]) -> String {
    match (mode(request), &source.format) {
        (Ok(Mode::Batch), _) => format!("/{index}/data"),
        (Ok(Mode::Plain), Format::Json { mapping }) => mapping.data.clone().unwrap_or_default(),
        (Ok(Mode::Structured), _) => "/data".to_owned(),
        // A plain document is its own data if it has no member of that name.
        (Ok(Mode::Plain), _) if data.len() < request.body.trim_ascii().len() => "/data".to_owned(),
        (Ok(Mode::Plain | Mode::Binary) | Err(_), _) => String::new(),
    }
}

fn mode(request: &HttpRequest<'_>) -> Result<Mode, Refusal> {
    let is_binary = request.headers.iter().any(|(name, _)| name.starts_with(PREFIX));
    let Some(content_type) = request.content_type else {
        return Ok(if is_binary { Mode::Binary } else { Mode::Plain });
    };
    let mut parts = content_type.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
    let mode = match essence.as_str() {
        "application/cloudevents+json" | "application/cloudevents" => Mode::Structured,
        "application/cloudevents-batch+json" => Mode::Batch,
        other if other.starts_with("application/cloudevents") => return Err(unread(content_type)),
        _ if is_binary => return Ok(Mode::Binary),
        "application/json" => Mode::Plain,
        _ => return Err(unread(content_type)),
    };
    let charset = parts.filter_map(|parameter| parameter.split_once('=')).find_map(|(name, value)| {
        name.eq_ignore_ascii_case("charset").then(|| value.trim_matches('"').to_ascii_lowercase())
    });
    match charset.as_deref() {
        None | Some("utf-8" | "utf8" | "us-ascii") => Ok(mode),
        Some(_) => Err(unread(content_type)),
    }
}

fn unread(content_type: &str) -> Refusal {
    Refusal::ContentType(format!(
        "the content type {} is not read: send `application/cloudevents+json`, \
         `application/cloudevents-batch+json`, `application/json` (all in UTF-8), or any type with `ce-` headers",
        Quoted(content_type)
    ))
}

fn at(field: String, rejection: Rejection) -> Fault {
    Fault { field, reason: rejection.reason, message: rejection.message }
}

/// The header in which an attribute stands in binary mode.
fn header(rejection: &Rejection) -> String {
    match rejection.field.as_deref() {
        None | Some("data") => String::new(),
        Some("datacontenttype") => "content-type".to_owned(),
        Some(name) => format!("{PREFIX}{name}"),
    }
}

/// The pointer to an attribute of the event that stands at `event`.
fn below(event: &str, rejection: &Rejection) -> String {
    match &rejection.field {
        None => event.to_owned(),
        Some(name) => format!("{event}/{}", name.replace('~', "~0").replace('/', "~1")),
    }
}

/// The pointer that a mapping has for an attribute.
fn mapped(mapping: &Mapping, rejection: &Rejection) -> String {
    let pick = match rejection.field.as_deref() {
        Some("id") => mapping.id.as_ref(),
        Some("type") => Some(&mapping.event_type),
        Some("time") => mapping.time.as_ref(),
        Some("account") => mapping.account.as_ref(),
        Some("subject") => mapping.subject.as_ref(),
        Some("data") => return mapping.data.clone().unwrap_or_default(),
        _ => None,
    };
    pointer(pick).unwrap_or_default().to_owned()
}

impl<'a> Decoder<'a, '_> {
    fn binary_request(&self, request: &HttpRequest<'a>, account: &str) -> Outcome<'a> {
        let mut attributes = Attributes::default();
        for (header, value) in request.headers {
            let Some(name) = header.strip_prefix(PREFIX) else { continue };
            let value = header_value(value)
                .map_err(|problem| bad(format!("the header {} {problem}", Quoted(header))).of(name))?;
            attributes.set(name, value)?;
        }
        if let Some(content_type) = request.content_type {
            attributes.set("datacontenttype", Cow::Borrowed(content_type))?;
        }
        if !request.body.is_empty() && attributes.is_json() {
            json::check(request.body).map_err(|rejection| rejection.of("data"))?;
        }
        self.finish(attributes.into_draft(account, Cow::Borrowed(request.body))?, 0)
    }

    fn document_request(&self, mode: &Mode, account: &str) -> Result<Decoded<'a>, Fault> {
        let document = self.request_document().map_err(|rejection| at(String::new(), rejection))?;
        if let (Mode::Plain, Format::Json { mapping }) = (mode, &self.source.format) {
            return self
                .mapped_request(document, mapping)
                .map_err(|rejection| at(mapped(mapping, &rejection), rejection));
        }
        let outcome = match mode {
            Mode::Plain => self.plain_request(document, account),
            _ => self.structured(document, account, 0),
        };
        outcome.map_err(|rejection| at(below("", &rejection), rejection))
    }

    fn mapped_request(&self, document: &'a RawValue, mapping: &Mapping) -> Outcome<'a> {
        let picks = [
            mapping.id.as_ref(),
            Some(&mapping.event_type),
            mapping.time.as_ref(),
            mapping.account.as_ref(),
            mapping.subject.as_ref(),
        ];
        let mut pointers: Vec<&str> = picks.into_iter().filter_map(pointer).collect();
        pointers.extend(mapping.data.as_deref());
        // The name may stand anywhere on the way of a pointer: the message says it.
        json::check_unique(document, &pointers)
            .map_err(|rejection| Rejection { field: None, ..rejection })?;
        self.mapped(mapping)
    }

    /// Reads what says by its members whether it is a CloudEvent or a plain document.
    fn plain_request(&self, document: &'a RawValue, account: &str) -> Outcome<'a> {
        if !document.get().starts_with('{') {
            let message = "the body is not a JSON object: send one with the member `type`, or a CloudEvents batch \
                           as `application/cloudevents-batch+json`";
            return Err(Rejection::new(Reason::Unmapped, message));
        }
        json::check_unique(document, &[])?;
        let (mut is_cloudevent, mut has_data, mut unknown) = (false, false, None);
        json::members(document, |step, _| {
            let Step::Name(name) = step else { return };
            is_cloudevent |= name == "specversion";
            has_data |= name == "data";
            if !PLAIN.contains(&&*name) {
                unknown.get_or_insert(name);
            }
        })
        .map_err(super::mapped::unreadable)?;
        if is_cloudevent {
            return self.structured(document, account, 0);
        }
        match unknown {
            Some(name) if has_data => {
                let message = format!(
                    "the member {} is none of `id`, `type`, `time`, `account`, `subject` and `data`: remove it, or \
                     put it into `data`",
                    Quoted(&name)
                );
                Err(Rejection::new(Reason::Unmapped, message).of(&name))
            }
            _ => self.plain(document),
        }
    }

    fn batch_request(&self, account: &str) -> Result<Vec<Decoded<'a>>, Refusal> {
        let whole = |rejection| Refusal::Faults(vec![at(String::new(), rejection)]);
        let document = self.request_document().map_err(whole)?;
        if !document.get().starts_with('[') {
            let message = "the body is not a JSON array: a single event is `application/cloudevents+json`";
            return Err(whole(bad(message.to_owned())));
        }
        let mut count = 0;
        json::members(document, |_, _| count += 1)
            .map_err(|error| whole(super::mapped::unreadable(error)))?;
        if count > MAX_BATCH_EVENTS {
            let message = format!(
                "the batch has {count} events, and {MAX_BATCH_EVENTS} is the most: send several requests"
            );
            return Err(whole(Rejection::new(Reason::TooLarge, message)));
        }
        let (mut events, mut faults) = (Vec::with_capacity(count), Vec::new());
        let mut index = 0;
        json::members(document, |_, event| {
            match self.structured(event, account, index) {
                Ok(event) => events.push(event),
                Err(rejection) => faults.push(at(below(&format!("/{index}"), &rejection), rejection)),
            }
            index += 1;
        })
        .map_err(|error| whole(super::mapped::unreadable(error)))?;
        if faults.is_empty() { Ok(events) } else { Err(Refusal::Faults(faults)) }
    }

    fn request_document(&self) -> Result<&'a RawValue, Rejection> {
        if self.record.value.is_none_or(<[u8]>::is_empty) {
            let message = "the body is empty: send a JSON document, or `ce-` headers";
            return Err(Rejection::new(Reason::Empty, message));
        }
        json::document(self.text()?)
    }
}

impl Writer<'_> {
    /// The id that the key gives to the event at `index` of the request. A key has no spaces, so that no key with
    /// an index is another key.
    pub(super) fn keyed(&self, account: AccountUid, index: u32) -> Option<EventId> {
        let key = self.idempotency_key?;
        Some(match index {
            0 => EventId::of_idempotency_key(account, self.client, key),
            _ => EventId::of_idempotency_key(account, self.client, &format!("{key} {index}")),
        })
    }
}

/// A header's value as an attribute's (HTTP protocol binding §3.1.3.2): unquoted, then percent-decoded once.
fn header_value(value: &[u8]) -> Result<Cow<'_, str>, &'static str> {
    let text = std::str::from_utf8(value).map_err(|_| "is not UTF-8: percent-encode it")?;
    let unquoted = match text.strip_prefix('"') {
        None => Cow::Borrowed(text),
        Some(quoted) => Cow::Owned(unquote(quoted).ok_or("begins with a quote and does not end with one")?),
    };
    if !unquoted.contains('%') {
        return Ok(unquoted);
    }
    let mut decoded = Vec::with_capacity(unquoted.len());
    let mut bytes = unquoted.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err("has a `%` without two hexadecimal digits after it: write `%25` for the sign itself");
        };
        decoded.push(u8::try_from(high * 16 + low).unwrap_or_default());
    }
    String::from_utf8(decoded).map(Cow::Owned).map_err(|_| "is not UTF-8 once it is percent-decoded")
}

/// The content of a quoted string (RFC 9110 §5.6.4) after its first quote.
fn unquote(quoted: &str) -> Option<String> {
    let mut out = String::with_capacity(quoted.len());
    let mut chars = quoted.chars();
    loop {
        match chars.next()? {
            '"' => return chars.next().is_none().then_some(out),
            '\\' => out.push(chars.next()?),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests;
