//! What the targets share.

use hookstream_core::event::EventAttributes;
use hookstream_types::{AccountUid, EventId, UnixMillis};
use uuid::Uuid;

/// 2026-11-23T12:00:00Z
pub const NOW: UnixMillis = UnixMillis(1_795_435_200_000);

/// An event of no importance.
#[must_use]
pub fn event() -> EventAttributes {
    EventAttributes {
        event: EventId(Uuid::from_u128(3)),
        account: AccountUid(Uuid::from_u128(2)),
        source: "shop".to_owned(),
        id: "o-4711".to_owned(),
        ce_source: "/shop".to_owned(),
        event_type: "order.created".to_owned(),
        subject: Some("a \"b\" <c>".to_owned()),
        time: "2026-11-23T12:00:00Z".to_owned(),
        content_type: Some("application/json".to_owned()),
        extensions: Vec::new(),
        produced_at: NOW,
    }
}

/// Two texts of one input, at the first line's end.
#[must_use]
pub fn two(input: &[u8]) -> (&[u8], &[u8]) {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    (&input[..end], input.get(end + 1..).unwrap_or_default())
}
