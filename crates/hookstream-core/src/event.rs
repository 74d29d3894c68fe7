//! An accepted event: CloudEvents attributes, hookstream's own identity of it, and its data as bytes.

use bytes::Bytes;
use hookstream_types::{AccountUid, EventId, Offset, UnixMillis};
use serde::{Deserialize, Serialize};

/// What is known about an event without looking into its data.
///
/// The CloudEvents attributes keep their names (CloudEvents 1.0 §3); the rest is hookstream's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventAttributes {
    /// hookstream's id of the event.
    pub event: EventId,
    /// Whose event it is.
    pub account: AccountUid,
    /// The configured source that it came through.
    pub source: String,
    /// CloudEvents `id`, as the producer gave it.
    pub id: String,
    /// CloudEvents `source`.
    pub ce_source: String,
    /// CloudEvents `type`: the event type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// CloudEvents `subject`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// CloudEvents `time`, as the producer gave it (RFC 3339), else the source record's timestamp.
    pub time: String,
    /// CloudEvents `datacontenttype`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Extension attributes, in the order of their names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extensions: Vec<(String, String)>,
    /// When the source record was produced: latencies are counted from here.
    pub produced_at: UnixMillis,
}

/// An accepted event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub attributes: EventAttributes,
    /// The config offset that its maker had applied (rule 10).
    pub config: Offset,
    pub data: Bytes,
}

impl EventAttributes {
    /// The key of the event's record in `hookstream.events`: account, then subject, so that what concerns one
    /// subject stays in order.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}", self.account, self.subject.as_deref().unwrap_or(""))
    }

    /// Bytes that the attributes count with against the event's size limit.
    #[must_use]
    pub fn size(&self) -> usize {
        self.source.len()
            + self.id.len()
            + self.ce_source.len()
            + self.event_type.len()
            + self.subject.as_ref().map_or(0, String::len)
            + self.time.len()
            + self.content_type.as_ref().map_or(0, String::len)
            + self.extensions.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
    }
}
