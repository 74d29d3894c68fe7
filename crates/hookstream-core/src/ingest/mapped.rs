//! Plain JSON with a mapping, Debezium change events, and records that are looked at first.

use std::borrow::Cow;

use hookstream_types::UnixMillis;
use serde_json::value::RawValue;

use super::json;
use super::{Decoder, Draft, Outcome, Quoted, Reason, Rejection, format_time};
use crate::config::{DebeziumMapping, Mapping, Pick};

const JSON: Cow<'static, str> = Cow::Borrowed("application/json");

/// The attribute that names the account where nothing is configured.
pub(super) const ACCOUNT: &str = "account";

fn unmapped(message: String) -> Rejection {
    Rejection::new(Reason::Unmapped, message)
}

/// The pointer of a pick, if it is one.
pub(super) fn pointer(pick: Option<&Pick>) -> Option<&str> {
    match pick? {
        Pick::Pointer(pointer) => Some(pointer),
        Pick::Constant(_) => None,
    }
}

/// What a pick gives; none if it points at nothing or null.
fn picked<'a>(
    what: &str,
    pick: &Pick,
    found: Option<&'a RawValue>,
) -> Result<Option<Cow<'a, str>>, Rejection> {
    match (pick, found) {
        (Pick::Constant(text), _) => Ok(Some(Cow::Owned(text.clone()))),
        (Pick::Pointer(_), None) => Ok(None),
        (Pick::Pointer(pointer), Some(value)) => json::scalar(value).map_err(|found| {
            unmapped(format!(
                "the pointer {} of `{what}` points at {found}: it should be a text",
                Quoted(pointer)
            ))
            .of(what)
        }),
    }
}

/// What a pick gives that must give something.
fn required<'a>(what: &str, pick: &Pick, found: Option<&'a RawValue>) -> Result<Cow<'a, str>, Rejection> {
    picked(what, pick, found)?.ok_or_else(|| {
        let pointer = pointer(Some(pick)).unwrap_or_default();
        unmapped(format!(
            "the pointer {} of `{what}` points at nothing: mend the source's mapping or the producer",
            Quoted(pointer)
        ))
        .of(what)
    })
}

/// A time: RFC 3339, or a number of seconds or milliseconds since 1970.
fn time(text: Cow<'_, str>) -> Cow<'_, str> {
    /// Seconds reach this in the year 5138, milliseconds in 1973.
    const FIRST_MILLIS: u64 = 100_000_000_000;
    match text.parse::<i64>() {
        Ok(seconds) if seconds.unsigned_abs() < FIRST_MILLIS => {
            Cow::Owned(format_time(UnixMillis(seconds * 1000)))
        }
        Ok(millis) => Cow::Owned(format_time(UnixMillis(millis))),
        Err(_) => text,
    }
}

impl<'a> Decoder<'a, '_> {
    /// Reads a JSON document with a mapping.
    pub(super) fn mapped(&self, mapping: &Mapping) -> Outcome<'a> {
        let document = json::document(self.text()?)?;
        let wanted = [
            pointer(mapping.id.as_ref()),
            pointer(Some(&mapping.event_type)),
            pointer(mapping.time.as_ref()),
            pointer(mapping.account.as_ref()),
            pointer(mapping.subject.as_ref()),
            mapping.data.as_deref(),
        ];
        let [id, event_type, at, account, subject, data] =
            json::pointers(document, wanted).map_err(unreadable)?;
        let id = mapping.id.as_ref().map(|pick| required("id", pick, id)).transpose()?;
        let data = match (&mapping.data, data) {
            (None, _) => document,
            (Some(_), Some(data)) => data,
            (Some(pointer), None) => {
                return Err(unmapped(format!(
                    "the pointer {} of `data` points at nothing: mend the source's mapping or the producer",
                    Quoted(pointer)
                ))
                .of("data"));
            }
        };
        let draft = Draft {
            identity: id.map(|id| (Cow::Owned(self.source.name.clone()), id)),
            event_type: required("type", &mapping.event_type, event_type)?,
            time: mapping.time.as_ref().map(|pick| picked("time", pick, at)).transpose()?.flatten().map(time),
            // An account that is configured and missing must not make the event somebody else's.
            account: mapping.account.as_ref().map(|pick| required("account", pick, account)).transpose()?,
            subject: mapping
                .subject
                .as_ref()
                .map(|pick| picked("subject", pick, subject))
                .transpose()?
                .flatten(),
            content_type: Some(JSON),
            extensions: Vec::new(),
            data: Cow::Borrowed(data.get().as_bytes()),
        };
        self.finish(draft, 0)
    }

    /// Reads a record whose format its source does not name.
    pub(super) fn auto(&self, sink: &mut impl FnMut(u32, Outcome<'a>)) {
        if self.claims_cloudevent() {
            return self.cloudevent(ACCOUNT, sink);
        }
        let outcome = self.text().and_then(json::document).and_then(|document| {
            match json::pointers(document, [Some("/specversion")]).map_err(unreadable)? {
                [Some(_)] => self.structured(document, ACCOUNT, 0),
                [None] => self.plain(document),
            }
        });
        sink(0, outcome);
    }

    /// Reads a JSON document by the fields `id`, `type`, `time`, `account`, `subject` and `data`.
    pub(super) fn plain(&self, document: &'a RawValue) -> Outcome<'a> {
        let names = ["/id", "/type", "/time", "/account", "/subject", "/data"];
        let [id, event_type, at, account, subject, data] =
            json::pointers(document, names.map(Some)).map_err(unreadable)?;
        let field = |name: &str, found: Option<&'a RawValue>| match found.map(json::scalar) {
            None => Ok(None),
            Some(Ok(text)) => Ok(text),
            Some(Err(what)) => {
                Err(unmapped(format!("the field `{name}` is {what}: it should be a text")).of(name))
            }
        };
        let event_type = field("type", event_type)?.ok_or_else(|| {
            unmapped(
                "the document has no field `type`: add it, or give the source a format with a mapping"
                    .to_owned(),
            )
            .of("type")
        })?;
        let draft = Draft {
            identity: field("id", id)?.map(|id| (Cow::Owned(self.source.name.clone()), id)),
            event_type,
            time: field("time", at)?.map(time),
            account: field("account", account)?,
            subject: field("subject", subject)?,
            content_type: Some(JSON),
            extensions: Vec::new(),
            data: Cow::Borrowed(data.unwrap_or(document).get().as_bytes()),
        };
        self.finish(draft, 0)
    }

    /// Reads a Debezium change event; none if it means nothing (a tombstone after a deletion).
    pub(super) fn debezium(
        &self,
        mapping: &DebeziumMapping,
    ) -> Result<Option<super::Decoded<'a>>, Rejection> {
        if self.record.value.is_none_or(<[u8]>::is_empty) {
            return Ok(None);
        }
        let mut change = json::document(self.text()?)?;
        if let [Some(_), Some(payload)] =
            json::pointers(change, [Some("/schema"), Some("/payload")]).map_err(unreadable)?
        {
            change = payload;
        }
        if change.get() == "null" {
            return Ok(None);
        }
        let names =
            ["/op", "/before", "/after", "/ts_ms", "/source/ts_ms", "/source/table", "/source/collection"];
        let [op, before, after, ts, source_ts, table, collection] =
            json::pointers(change, names.map(Some)).map_err(unreadable)?;
        let text = |found: Option<&'a RawValue>| found.and_then(|value| json::scalar(value).ok().flatten());
        let action = match text(op).as_deref() {
            Some("c") => "created",
            Some("u") => "updated",
            Some("d") => "deleted",
            Some("r") => "read",
            Some("t") => "truncated",
            Some(other) => {
                return Err(bad_change(format!(
                    "`op` is {}, which is no change of a row: keep such records out of the source's topics",
                    Quoted(other)
                )));
            }
            None => {
                return Err(bad_change(
                    "the document has no `op`, so it is no Debezium change event: mend the connector (without the \
                     transformation `ExtractNewRecordState`), or give the source the format `json`"
                        .to_owned(),
                ));
            }
        };
        let entity = match &mapping.entity {
            Some(entity) => Cow::Borrowed(entity.as_str()),
            None => text(table).or_else(|| text(collection)).ok_or_else(|| {
                bad_change(
                    "the change event has no `source.table`: name the `entity` in the source".to_owned(),
                )
            })?,
        };
        let event_type = Cow::Owned(format!("{entity}.{action}"));
        let row = if action == "deleted" { before } else { after };
        let wanted = [pointer(mapping.account.as_ref()), pointer(mapping.subject.as_ref())];
        let [account, subject] = match row {
            Some(row) => json::pointers(row, wanted).map_err(unreadable)?,
            None => [None, None],
        };
        let draft = Draft {
            identity: None,
            event_type,
            time: text(source_ts).or_else(|| text(ts)).map(time),
            account: mapping.account.as_ref().map(|pick| required("account", pick, account)).transpose()?,
            subject: mapping
                .subject
                .as_ref()
                .map(|pick| picked("subject", pick, subject))
                .transpose()?
                .flatten(),
            content_type: Some(JSON),
            extensions: Vec::new(),
            data: Cow::Borrowed(change.get().as_bytes()),
        };
        self.finish(draft, 0).map(Some)
    }
}

fn bad_change(message: String) -> Rejection {
    Rejection::new(Reason::BadChange, message)
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` hands over")]
pub(super) fn unreadable(error: serde_json::Error) -> Rejection {
    Rejection::new(Reason::NotJson, format!("the value cannot be read ({error}): mend the producer"))
}
