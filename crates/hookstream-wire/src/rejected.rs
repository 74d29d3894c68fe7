//! Rejected records: `hookstream.rejected`.
//!
//! Key, value and headers are the original's, so that a record can be looked at, and produced again once the fault
//! is mended. `hs-` headers come before them and say where it stood and why it was rejected:
//! `hs-v`, `hs-reason` (a label), `hs-message` (for people), `hs-topic`, `hs-partition`, `hs-offset`,
//! `hs-index` (which event of the record), `hs-source`, `hs-produced-at`, `hs-value-bytes` (the original's),
//! and `hs-cut` if the value, the key or a header had to be cut or left out to fit.

use hookstream_types::{Offset, Partition, UnixMillis};

use crate::bad_record::{BadRecord, VERSION};
use crate::event::{Headers, parsed, required};

/// Where a rejected record stood, and why it was rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected<'a> {
    /// A label: a `Reason` of the ingester, or one of a later stage.
    pub reason: &'a str,
    pub message: &'a str,
    pub topic: &'a str,
    pub partition: Partition,
    pub offset: Offset,
    /// Which event of the record, from 0.
    pub index: u32,
    pub source: &'a str,
    pub produced_at: UnixMillis,
    /// Of the original.
    pub value_bytes: usize,
}

/// The record that was rejected.
#[derive(Clone, Copy)]
pub struct Original<'a> {
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a Headers<'a>,
}

impl std::fmt::Debug for Original<'_> {
    /// Sizes only: it may hold a customer's data.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Original").field("value_bytes", &self.value.map(<[u8]>::len)).finish_non_exhaustive()
    }
}

/// What Kafka adds to a record, and to each of its headers, at most.
const RECORD_OVERHEAD: usize = 256;
const HEADER_OVERHEAD: usize = 10;

/// Shows the record to `produce`, cut so that it takes at most `limit` bytes.
///
/// Headers get at most an eighth of that and the key a sixteenth, so that most of the value is kept.
pub fn encode<R>(
    rejected: &Rejected<'_>,
    original: Original<'_>,
    limit: usize,
    produce: impl FnOnce(Option<&[u8]>, Option<&[u8]>, &Headers<'_>) -> R,
) -> R {
    let numbers = [
        VERSION.to_string(),
        rejected.partition.to_string(),
        rejected.offset.to_string(),
        rejected.index.to_string(),
        rejected.produced_at.0.to_string(),
        rejected.value_bytes.to_string(),
    ];
    let [version, partition, offset, index, produced_at, value_bytes] =
        numbers.each_ref().map(String::as_bytes);
    let mut headers: Vec<(&str, &[u8])> = vec![
        ("hs-v", version),
        ("hs-reason", rejected.reason.as_bytes()),
        ("hs-message", rejected.message.as_bytes()),
        ("hs-topic", rejected.topic.as_bytes()),
        ("hs-partition", partition),
        ("hs-offset", offset),
        ("hs-index", index),
        ("hs-source", rejected.source.as_bytes()),
        ("hs-produced-at", produced_at),
        ("hs-value-bytes", value_bytes),
    ];
    let size = |(name, value): &(&str, &[u8])| name.len() + value.len() + HEADER_OVERHEAD;
    let own: usize = headers.iter().map(size).sum::<usize>() + RECORD_OVERHEAD;

    let mut cut = false;
    let mut left = limit / 8;
    for header in original.headers {
        match left.checked_sub(size(header)) {
            Some(rest) => {
                left = rest;
                headers.push(*header);
            }
            None => cut = true,
        }
    }
    let key = original.key.map(|key| &key[..key.len().min(limit / 16)]);
    let taken: usize = headers[10..].iter().map(size).sum::<usize>() + key.map_or(0, <[u8]>::len);
    let room = limit.saturating_sub(own + taken);
    let value = original.value.map(|value| &value[..value.len().min(room)]);
    cut |= key.map(<[u8]>::len) != original.key.map(<[u8]>::len);
    cut |= value.map(<[u8]>::len) != original.value.map(<[u8]>::len);
    if cut {
        headers.insert(10, ("hs-cut", b"true"));
    }
    produce(key, value, &headers)
}

/// Reads why a record was rejected.
///
/// # Errors
/// [`BadRecord`] names the header that is missing or wrong.
pub fn decode<'a>(headers: &Headers<'a>) -> Result<Rejected<'a>, BadRecord> {
    BadRecord::check_version(parsed(headers, "hs-v", "a number")?)?;
    Ok(Rejected {
        reason: required(headers, "hs-reason")?,
        message: required(headers, "hs-message")?,
        topic: required(headers, "hs-topic")?,
        partition: Partition(parsed(headers, "hs-partition", "a number")?),
        offset: Offset(parsed(headers, "hs-offset", "a number")?),
        index: parsed(headers, "hs-index", "a number")?,
        source: required(headers, "hs-source")?,
        produced_at: UnixMillis(parsed(headers, "hs-produced-at", "a number")?),
        value_bytes: parsed(headers, "hs-value-bytes", "a number")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Rejected<'static> {
        Rejected {
            reason: "not_json",
            message: "the value is not JSON",
            topic: "orders",
            partition: Partition(3),
            offset: Offset(42),
            index: 0,
            source: "shop",
            produced_at: UnixMillis(-1),
            value_bytes: 3,
        }
    }

    #[test]
    fn golden_version_1() {
        let original =
            Original { key: Some(b"k"), value: Some(b"{x}"), headers: &[("hs-reason", b"theirs")] };
        encode(&example(), original, 4096, |key, value, headers| {
            let expected: &Headers<'_> = &[
                ("hs-v", b"1"),
                ("hs-reason", b"not_json"),
                ("hs-message", b"the value is not JSON"),
                ("hs-topic", b"orders"),
                ("hs-partition", b"3"),
                ("hs-offset", b"42"),
                ("hs-index", b"0"),
                ("hs-source", b"shop"),
                ("hs-produced-at", b"-1"),
                ("hs-value-bytes", b"3"),
                ("hs-reason", b"theirs"),
            ];
            assert_eq!(headers, expected);
            assert_eq!((key, value), (Some(b"k".as_slice()), Some(b"{x}".as_slice())));
            // Ours come first, so an original's headers of these names change nothing.
            assert_eq!(decode(headers).unwrap(), example());
        });
    }

    #[test]
    fn whatever_the_original_it_fits() {
        let large = vec![b'x'; 10 * 1024 * 1024];
        let headers: Vec<(&str, &[u8])> =
            vec![("small", b"1"), ("large", &large), ("after", b"2"), ("also", &large)];
        for key in [None, Some(large.as_slice())] {
            for limit in [2048, 65_536, 576 * 1024] {
                let original = Original { key, value: Some(&large), headers: &headers };
                encode(&example(), original, limit, |key, value, headers| {
                    let size = key.unwrap_or_default().len()
                        + value.unwrap().len()
                        + headers.iter().map(|(n, v)| n.len() + v.len() + HEADER_OVERHEAD).sum::<usize>();
                    assert!(size <= limit, "{size} > {limit}");
                    assert!(size > limit / 2);
                    let names: Vec<_> = headers[10..].iter().map(|(name, _)| *name).collect();
                    assert_eq!(names, ["hs-cut", "small", "after"]);
                });
            }
        }
    }
}
