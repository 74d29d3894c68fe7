//! Evidence of fan-out: `hookstream.matched`.
//!
//! A record says what was made of one range of one partition of `hookstream.events`, and is durable before that
//! range is committed: for each event that matched anything, how many jobs were made and the XOR of their delivery
//! ids. `hookstream verify` compares that with what `attempts` decided. An event that is not listed matched
//! nothing. After a crash a range may be covered again, perhaps cut differently: the later record counts for all
//! that it covers. An event that the ingester wrote twice, for the same reason, stands at two offsets with one id and
//! has the same deliveries: it counts once.
//!
//! The value is one line of JSON, `{"v":1,"partition":P,"from":F,"to":T,"config":C,"events":N}`, a line feed, and
//! N entries of 36 bytes: event id, count (big endian), XOR.

use hookstream_types::{DeliveryId, EventId, Offset, Partition};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::bad_record::{BadRecord, VERSION};

/// Bytes of an event's entry.
pub const ENTRY_BYTES: usize = 16 + 4 + 16;

/// The range that a record covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Of `hookstream.events`.
    pub partition: Partition,
    /// Inclusive.
    pub from: Offset,
    /// Exclusive.
    pub to: Offset,
    /// The newest config offset that an event of the range was matched with.
    pub config: Offset,
}

/// What was made of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matched {
    pub event: EventId,
    /// How many jobs.
    pub count: u32,
    /// Of their delivery ids.
    pub xor: u128,
}

impl Matched {
    #[must_use]
    pub fn new(event: EventId) -> Self {
        Self { event, count: 0, xor: 0 }
    }

    /// Counts a job in.
    pub fn add(&mut self, delivery: DeliveryId) {
        self.count += 1;
        self.xor ^= delivery.0.as_u128();
    }
}

#[derive(Serialize, Deserialize)]
struct Line {
    v: u32,
    partition: Partition,
    from: Offset,
    to: Offset,
    config: Offset,
    events: usize,
}

/// Appends the record's value to `out`.
pub fn encode(range: &Range, events: impl ExactSizeIterator<Item = Matched>, out: &mut Vec<u8>) {
    let Range { partition, from, to, config } = *range;
    let line = Line { v: VERSION, partition, from, to, config, events: events.len() };
    out.reserve(128 + events.len() * ENTRY_BYTES);
    serde_json::to_writer(&mut *out, &line).expect("a Vec takes all bytes, and numbers are JSON");
    out.push(b'\n');
    for event in events {
        out.extend_from_slice(event.event.0.as_bytes());
        out.extend_from_slice(&event.count.to_be_bytes());
        out.extend_from_slice(&event.xor.to_be_bytes());
    }
}

/// Reads a record's value.
///
/// # Errors
/// [`BadRecord`] names what is wrong.
pub fn decode(record: &[u8]) -> Result<(Range, Vec<Matched>), BadRecord> {
    let end = memchr::memchr(b'\n', record).unwrap_or(record.len());
    let (json, entries) = record.split_at(end);
    let line: Line =
        serde_json::from_slice(json).map_err(|source| BadRecord::of_json("first line", json, source))?;
    BadRecord::check_version(line.v)?;
    let entries = entries.get(1..).unwrap_or_default();
    let expected = line.events.saturating_mul(ENTRY_BYTES);
    if entries.len() != expected {
        let expected = (end + 1).saturating_add(expected);
        return Err(BadRecord::Length { expected, found: record.len() });
    }
    let (entries, _) = entries.as_chunks::<ENTRY_BYTES>();
    let events = entries.iter().map(|entry| {
        let part = |from: usize| -> [u8; 16] { std::array::from_fn(|i| entry[from + i]) };
        let count = std::array::from_fn(|i| entry[16 + i]);
        Matched {
            event: EventId(Uuid::from_bytes(part(0))),
            count: u32::from_be_bytes(count),
            xor: u128::from_be_bytes(part(20)),
        }
    });
    let range = Range { partition: line.partition, from: line.from, to: line.to, config: line.config };
    Ok((range, events.collect()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn golden_version_1() {
        let range = Range { partition: Partition(3), from: Offset(5), to: Offset(9), config: Offset(7) };
        let mut matched = Matched::new(EventId(Uuid::from_u128(1)));
        matched.add(DeliveryId(Uuid::from_u128(6)));
        matched.add(DeliveryId(Uuid::from_u128(3)));
        let mut out = Vec::new();
        encode(&range, [matched].into_iter(), &mut out);
        let mut expected =
            b"{\"v\":1,\"partition\":3,\"from\":5,\"to\":9,\"config\":7,\"events\":1}\n".to_vec();
        expected.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        expected.extend([0, 0, 0, 2]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5]);
        assert_eq!(out, expected);
        assert_eq!(decode(&out).unwrap(), (range, vec![matched]));
        assert!(matches!(decode(&out[..out.len() - 1]), Err(BadRecord::Length { .. })));
    }

    proptest! {
        #[test]
        fn any_range_comes_back(numbers in any::<(i32, i64, i64, i64)>(), events in any::<Vec<(u128, u32, u128)>>()) {
            let (partition, from, to, config) = numbers;
            let range =
                Range { partition: Partition(partition), from: Offset(from), to: Offset(to), config: Offset(config) };
            let events: Vec<_> = events
                .into_iter()
                .map(|(id, count, xor)| Matched { event: EventId(Uuid::from_u128(id)), count, xor })
                .collect();
            let mut out = Vec::new();
            encode(&range, events.iter().copied(), &mut out);
            prop_assert_eq!(decode(&out).unwrap(), (range, events));
        }

        #[test]
        fn garbage_never_panics(bytes in any::<Vec<u8>>()) {
            prop_assert!(decode(&bytes).is_err());
        }
    }
}
