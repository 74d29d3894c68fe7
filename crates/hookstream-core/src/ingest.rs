//! From a source record to events, or to the reason why not.
//!
//! [`decode`] reads one record as its source's format says. A record may hold several events (a CloudEvents
//! batch), so each outcome has an index; the same record always gives the same outcomes in the same order, and
//! the same ids (design §2.1). Data is passed on byte for byte wherever the format allows it.
//!
//! What claims to be JSON is checked to be JSON, without building a tree of it: in the JSON formats the whole
//! record, in binary CloudEvents the data if its content type is JSON. Data of any other type is not looked at.
//!
//! Nothing here fails: what cannot be an event is a [`Rejection`], which names what is wrong and how to mend it.

mod cloudevents;
mod http;
mod json;
mod mapped;
mod routes;

use std::borrow::Cow;
use std::fmt;

use hookstream_types::limits::{MAX_ATTRIBUTES_BYTES, MAX_EVENT_BYTES};
use hookstream_types::{AccountUid, EventId, Offset, Partition, UnixMillis};
use jiff::Timestamp;

pub use self::http::{Fault, HttpRequest, MAX_BATCH_EVENTS, Refusal, Writer, data_pointer, decode_http};
pub use self::routes::{Routes, TopicProblem};
use crate::config::{DEFAULT_ACCOUNT, DeliveryMode, Format, Source, View};
use crate::event::EventAttributes;

/// A record as its producer wrote it.
#[derive(Clone, Copy)]
pub struct SourceRecord<'a> {
    pub timestamp: UnixMillis,
    /// None: a tombstone.
    pub value: Option<&'a [u8]>,
    pub headers: &'a [(&'a str, &'a [u8])],
}

impl fmt::Debug for SourceRecord<'_> {
    /// Sizes only: a record may hold a customer's data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceRecord")
            .field("timestamp", &self.timestamp)
            .field("value_bytes", &self.value.map(<[u8]>::len))
            .finish_non_exhaustive()
    }
}

/// Where a record stands.
#[derive(Clone, Copy, Debug)]
pub struct Coordinates<'a> {
    pub cluster: &'a str,
    /// The topic's id, or its name where the broker gives none.
    pub topic_id: &'a str,
    pub partition: Partition,
    pub offset: Offset,
}

/// An event as it was found in a record.
#[derive(Clone, Debug)]
pub struct Decoded<'a> {
    pub attributes: EventAttributes,
    pub data: Cow<'a, [u8]>,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $label:literal),* $(,)?) => {
        /// Why a record, or an event in it, is rejected.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[$doc])* $variant),*
        }

        impl Reason {
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name in records, metrics and messages.
            #[must_use]
            pub fn label(self) -> &'static str {
                match self { $(Self::$variant => $label),* }
            }
        }
    };
}

reasons! {
    /// A tombstone, or no bytes.
    Empty = "empty",
    /// Not JSON, not UTF-8, or nested too deeply.
    NotJson = "not_json",
    /// Not a CloudEvent 1.0.
    BadCloudevent = "bad_cloudevent",
    /// The mapping finds nothing, or not a text.
    Unmapped = "unmapped",
    /// Not a Debezium change event.
    BadChange = "bad_change",
    /// The event type is not a valid name.
    BadType = "bad_type",
    /// The time is not RFC 3339.
    BadTime = "bad_time",
    /// The event's account does not exist.
    UnknownAccount = "unknown_account",
    /// The source is strict and the event type is not registered.
    UnregisteredType = "unregistered_type",
    /// The event type is for calls, and this is none; or the other way round.
    DeliveryMode = "delivery_mode",
    /// The event is larger than hookstream takes.
    TooLarge = "too_large",
}

impl Reason {
    /// Whether a newer configuration may accept what an older one does not.
    #[must_use]
    pub fn depends_on_configuration(self) -> bool {
        matches!(self, Self::UnknownAccount | Self::UnregisteredType | Self::DeliveryMode)
    }
}

/// Why something is not an event, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub reason: Reason,
    /// The attribute that is at fault (`type`, `data`, an extension's name); none: the whole.
    pub field: Option<String>,
    /// For people; holds at most short pieces of the record.
    pub message: String,
}

impl Rejection {
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, field: None, message: message.into() }
    }

    /// Names the attribute at fault, unless it is named already.
    fn of(mut self, field: &str) -> Self {
        self.field.get_or_insert_with(|| field.to_owned());
        self
    }
}

/// What a record, or a part of it, is.
type Outcome<'a> = Result<Decoded<'a>, Rejection>;

/// Reads `record` and hands each outcome to `sink`, with its index in the record.
///
/// A record that means nothing (a Debezium tombstone, an empty batch) has no outcome.
pub fn decode<'a>(
    source: &Source,
    record: SourceRecord<'a>,
    at: Coordinates<'_>,
    view: &View,
    mut sink: impl FnMut(u32, Outcome<'a>),
) {
    let decoder = Decoder { source, record, origin: Origin::Record(at), view };
    match &source.format {
        Format::Cloudevents { account } => decoder.cloudevent(account, &mut sink),
        Format::Json { mapping } => sink(0, decoder.mapped(mapping)),
        Format::Debezium { mapping } => {
            if let Some(outcome) = decoder.debezium(mapping).transpose() {
                sink(0, outcome);
            }
        }
        Format::Auto => decoder.auto(&mut sink),
    }
}

/// What every format's reading needs.
#[derive(Clone, Copy)]
struct Decoder<'a, 'c> {
    source: &'c Source,
    record: SourceRecord<'a>,
    origin: Origin<'c>,
    view: &'c View,
}

/// How an event came: what it is named after if it does not name itself, and whose it may be.
#[derive(Clone, Copy)]
enum Origin<'c> {
    Record(Coordinates<'c>),
    Request(&'c Writer<'c>),
}

/// An event before its account, time and limits are checked.
struct Draft<'a> {
    /// `source` and `id`, if the event names itself.
    identity: Option<(Cow<'a, str>, Cow<'a, str>)>,
    event_type: Cow<'a, str>,
    /// None: the record's timestamp.
    time: Option<Cow<'a, str>>,
    /// None: the default account.
    account: Option<Cow<'a, str>>,
    subject: Option<Cow<'a, str>>,
    content_type: Option<Cow<'a, str>>,
    extensions: Vec<(String, String)>,
    data: Cow<'a, [u8]>,
}

impl<'a> Decoder<'a, '_> {
    /// The record's value as text.
    fn text(&self) -> Result<&'a str, Rejection> {
        let value = self.record.value.filter(|value| !value.is_empty()).ok_or_else(|| {
            Rejection::new(Reason::Empty, "the record has no value: a JSON document was expected")
        })?;
        std::str::from_utf8(value).map_err(|error| {
            let at = error.valid_up_to();
            Rejection::new(
                Reason::NotJson,
                format!("the value is not JSON: byte {at} is not UTF-8; encode it as UTF-8"),
            )
        })
    }

    fn finish(&self, draft: Draft<'a>, index: u32) -> Outcome<'a> {
        check_type(&draft.event_type).map_err(|rejection| rejection.of("type"))?;
        let account = self.account(draft.account.as_deref())?;
        if self.source.strict && !self.view.event_types.contains_key(&*draft.event_type) {
            return Err(Rejection::new(
                Reason::UnregisteredType,
                format!(
                    "the event type {} is not registered, and the source `{}` is strict: register it, or set `strict: false`",
                    Quoted(&draft.event_type),
                    self.source.name
                ),
            )
            .of("type"));
        }
        match (self.view.delivery(&draft.event_type), self.source.delivery) {
            (DeliveryMode::Async, DeliveryMode::Async) | (DeliveryMode::Sync, DeliveryMode::Sync) => {}
            (DeliveryMode::Sync, DeliveryMode::Async) => {
                let message = format!(
                    "the event type {} is sync: its webhooks are called by `POST /api/v1/invocations`, or through a \
                     source with `delivery: sync`",
                    Quoted(&draft.event_type)
                );
                return Err(Rejection::new(Reason::DeliveryMode, message).of("type"));
            }
            (DeliveryMode::Async, DeliveryMode::Sync) => {
                let message = format!(
                    "the event type {} is not sync: register it with `delivery: sync`, or send events of it as such",
                    Quoted(&draft.event_type)
                );
                return Err(Rejection::new(Reason::DeliveryMode, message).of("type"));
            }
        }
        let time = match draft.time {
            Some(time) => {
                check_time(&time).map_err(|rejection| rejection.of("time"))?;
                time.into_owned()
            }
            None => format_time(self.record.timestamp),
        };
        if let Some((ce_source, id)) = &draft.identity {
            check_text("id", id)?;
            check_text("source", ce_source)?;
        }
        let event = self.event_id(account, draft.identity.as_ref(), index);
        let (ce_source, id) = match draft.identity {
            Some((ce_source, id)) => (ce_source.into_owned(), id.into_owned()),
            None => (self.source.name.clone(), event.to_string()),
        };
        if let Some(subject) = &draft.subject {
            check_text("subject", subject)?;
        }
        if draft.content_type.as_ref().is_some_and(|text| text.chars().any(char::is_control)) {
            let message = "`datacontenttype` has control characters: mend the producer";
            return Err(Rejection::new(Reason::BadCloudevent, message).of("datacontenttype"));
        }
        let attributes = EventAttributes {
            event,
            account,
            source: self.source.name.clone(),
            id,
            ce_source,
            event_type: draft.event_type.into_owned(),
            subject: draft.subject.map(Cow::into_owned),
            time,
            content_type: draft.content_type.map(Cow::into_owned),
            extensions: draft.extensions,
            produced_at: self.record.timestamp,
        };
        check_size(&attributes, draft.data.len())?;
        Ok(Decoded { attributes, data: draft.data })
    }

    fn event_id(
        &self,
        account: AccountUid,
        identity: Option<&(Cow<'a, str>, Cow<'a, str>)>,
        index: u32,
    ) -> EventId {
        if let Origin::Request(writer) = self.origin
            && let Some(event) = writer.keyed(account, index)
        {
            return event;
        }
        match (identity, self.origin) {
            (Some((ce_source, id)), _) => EventId::of_cloudevent(account, &self.source.name, ce_source, id),
            (None, Origin::Record(at)) => {
                EventId::of_coordinates(at.cluster, at.topic_id, at.partition, at.offset, index)
            }
            (None, Origin::Request(writer)) => writer.fresh,
        }
    }

    fn account(&self, name: Option<&str>) -> Result<AccountUid, Rejection> {
        if let Origin::Request(Writer { account: Some(bound), .. }) = self.origin {
            return self.bound_account(*bound, name);
        }
        let found = self.view.accounts.get(name.unwrap_or(DEFAULT_ACCOUNT)).map(|account| account.uid);
        found.ok_or_else(|| {
            let message = match name {
                Some(name) => format!("there is no account {}: create it, or mend the producer", Quoted(name)),
                None => format!(
                    "the event names no account, and there is no account `{DEFAULT_ACCOUNT}`: create it, or say in \
                     the source `{}` where the account's name stands",
                    self.source.name
                ),
            };
            Rejection::new(Reason::UnknownAccount, message).of("account")
        })
    }

    /// The account that a writer is bound to. Another one is refused in the same words whether it exists or not.
    fn bound_account(&self, bound: AccountUid, name: Option<&str>) -> Result<AccountUid, Rejection> {
        let Some(name) = name else { return Ok(bound) };
        let found = self.view.accounts.get(name).map(|account| account.uid);
        if found == Some(bound) {
            return Ok(bound);
        }
        let message = format!(
            "there is no account {} that this client may write to: leave the account out, it is the client's own",
            Quoted(name)
        );
        Err(Rejection::new(Reason::UnknownAccount, message).of("account"))
    }
}

/// An event type is 1 to 256 letters, digits, `.`, `_` and `-`: what a webhook can name.
fn check_type(name: &str) -> Result<(), Rejection> {
    const MAX: usize = 256;
    let problem = if name.is_empty() {
        "is empty"
    } else if name.len() > MAX {
        "is longer than 256 characters"
    } else if name == "*" || name.ends_with(".*") {
        "is a pattern, which only webhooks may have"
    } else if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
        "has characters other than letters, digits, `.`, `_` and `-`"
    } else {
        return Ok(());
    };
    let message = format!("the event type {} {problem}: use a name such as `order.paid`", Quoted(name));
    Err(Rejection::new(Reason::BadType, message))
}

/// A text that may become a header: not empty, no control characters (CloudEvents 1.0, "Type System").
fn check_text(what: &str, text: &str) -> Result<(), Rejection> {
    let problem = if text.is_empty() {
        "is empty"
    } else if text.chars().any(char::is_control) {
        "has control characters"
    } else {
        return Ok(());
    };
    Err(Rejection::new(Reason::BadCloudevent, format!("`{what}` {problem}: mend the producer")).of(what))
}

fn check_time(time: &str) -> Result<(), Rejection> {
    // jiff reads more than RFC 3339, such as a space or nothing in the place of the `T`.
    let has_t = matches!(time.as_bytes().get(10), Some(b'T' | b't'));
    if has_t && time.parse::<Timestamp>().is_ok() {
        return Ok(());
    }
    let message = format!("the time {} is not RFC 3339: write it as `2026-01-31T12:00:00Z`", Quoted(time));
    Err(Rejection::new(Reason::BadTime, message))
}

/// A record's timestamp as a time, clamped to what RFC 3339 can write: a producer may set it to anything.
fn format_time(timestamp: UnixMillis) -> String {
    /// 9999-12-30T00:00:00Z: the last whole day that a [`Timestamp`] can be in every time zone.
    const LAST: i64 = 253_402_128_000_000;
    let clamped = timestamp.0.clamp(0, LAST);
    Timestamp::from_millisecond(clamped).map(|time| time.to_string()).unwrap_or_default()
}

/// Rule 8: attributes and data together, and attributes alone, are within what every hop can pass on.
fn check_size(attributes: &EventAttributes, data: usize) -> Result<(), Rejection> {
    /// A character becomes at most six in JSON (`\u0000`), and each attribute has some bytes around it.
    const MAX_EXPANSION: usize = 8;
    let size = attributes.size();
    if size * MAX_EXPANSION > MAX_ATTRIBUTES_BYTES {
        let written = serde_json::to_vec(attributes).map_or(usize::MAX, |json| json.len());
        if written > MAX_ATTRIBUTES_BYTES {
            let message = format!(
                "the event's attributes take {written} bytes, and {MAX_ATTRIBUTES_BYTES} is the most: put what is \
                 large into the data"
            );
            return Err(Rejection::new(Reason::TooLarge, message));
        }
    }
    let total = size + data;
    if total > MAX_EVENT_BYTES {
        let message = format!(
            "the event takes {total} bytes, and {MAX_EVENT_BYTES} is the most: send a reference to what is large"
        );
        return Err(Rejection::new(Reason::TooLarge, message));
    }
    Ok(())
}

/// A piece of a record in a message: in backticks, cut, control characters escaped.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MAX: usize = 80;
        f.write_str("`")?;
        for c in self.0.chars().take(MAX) {
            if c.is_control() { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
        }
        f.write_str(if self.0.chars().nth(MAX).is_some() { "…`" } else { "`" })
    }
}

#[cfg(test)]
mod tests;
