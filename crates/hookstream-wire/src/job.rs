//! Jobs: records of `hookstream.deliveries` and of the retry topics.
//!
//! A job's *frame* is one line of JSON, `{"v":1,"job":{…},"event":{…},"len":N}`, a line feed, and the N bytes of
//! the event's data as they came. A record of `deliveries` is one frame; a record of a retry topic is one or
//! more frames, one after the other, all of one webhook.
//!
//! The line's event part and the data are the same for all jobs of an event, so [`EncodedEvent`] makes them once.

use std::sync::Arc;

use bytes::Bytes;
use hookstream_core::event::EventAttributes;
use hookstream_core::job::{Job, JobState};
use hookstream_types::{Partition, WebhookId, partition_for};
use serde::Deserialize;
use uuid::fmt::Hyphenated;

use crate::bad_record::BadRecord;

/// The part that all jobs of one event have in common, ready to be appended.
#[derive(Debug, Default)]
pub struct EncodedEvent {
    /// `,"event":{…},"len":N}`, a line feed, the data.
    tail: Vec<u8>,
}

/// What a frame may need besides its event and its data: more than ids and numbers can take.
const STATE_BYTES: usize = 512;

impl EncodedEvent {
    #[must_use]
    pub fn new(event: &EventAttributes, data: &[u8]) -> Self {
        let mut encoded = Self::default();
        encoded.set(event, data);
        encoded
    }

    /// Takes another event and keeps the buffer.
    pub fn set(&mut self, event: &EventAttributes, data: &[u8]) {
        self.tail.clear();
        self.tail.reserve(data.len() + STATE_BYTES);
        self.tail.extend_from_slice(b",\"event\":");
        write_json(&mut self.tail, event);
        self.tail.extend_from_slice(b",\"len\":");
        write_json(&mut self.tail, &data.len());
        self.tail.extend_from_slice(b"}\n");
        self.tail.extend_from_slice(data);
    }

    /// Appends the frame of one of the event's jobs.
    pub fn append(&self, state: &JobState, out: &mut Vec<u8>) {
        out.reserve(self.tail.len() + STATE_BYTES);
        out.extend_from_slice(b"{\"v\":1,\"job\":");
        write_json(out, state);
        out.extend_from_slice(&self.tail);
    }
}

fn write_json(out: &mut Vec<u8>, value: &impl serde::Serialize) {
    serde_json::to_writer(out, value)
        .expect("a Vec takes all bytes, and no map here has keys that are not texts");
}

/// Appends the frame of `job`.
pub fn append(job: &Job, out: &mut Vec<u8>) {
    EncodedEvent::new(&job.event, &job.data).append(&job.state, out);
}

/// Reads a record that is one frame.
///
/// # Errors
/// [`BadRecord`] names what is wrong.
pub fn decode(record: &[u8]) -> Result<Job, BadRecord> {
    let (job, rest) = decode_first(record)?;
    if !rest.is_empty() {
        return Err(BadRecord::Length { expected: record.len() - rest.len(), found: record.len() });
    }
    Ok(job)
}

/// Reads a record that is one or more frames.
///
/// # Errors
/// [`BadRecord`] names what is wrong; no job of a record that is damaged somewhere is used.
pub fn decode_all(record: &[u8]) -> Result<Vec<Job>, BadRecord> {
    let mut jobs = Vec::with_capacity(1);
    let mut rest = record;
    loop {
        let (job, after) = decode_first(rest)?;
        jobs.push(job);
        if after.is_empty() {
            return Ok(jobs);
        }
        rest = after;
    }
}

/// Reads the first frame; returns what is after it.
fn decode_first(bytes: &[u8]) -> Result<(Job, &[u8]), BadRecord> {
    #[derive(Deserialize)]
    struct Line {
        v: u32,
        job: JobState,
        event: EventAttributes,
        len: usize,
    }
    if bytes.is_empty() {
        return Err(BadRecord::Empty);
    }
    let end = memchr::memchr(b'\n', bytes).unwrap_or(bytes.len());
    let (json, after) = bytes.split_at(end);
    let line: Line =
        serde_json::from_slice(json).map_err(|source| BadRecord::of_json("first line", json, source))?;
    BadRecord::check_version(line.v)?;
    // Without a line feed even a job without data was cut.
    let after = after.get(1..).ok_or(BadRecord::Length { expected: bytes.len() + 1, found: bytes.len() })?;
    let Some((data, rest)) = after.split_at_checked(line.len) else {
        return Err(BadRecord::Length { expected: (end + 1).saturating_add(line.len), found: bytes.len() });
    };
    let job = Job { state: line.job, event: Arc::new(line.event), data: Bytes::copy_from_slice(data) };
    Ok((job, rest))
}

/// The key of a job's record: the webhook's id as text.
#[must_use]
pub fn partition_key(webhook: WebhookId) -> [u8; Hyphenated::LENGTH] {
    let mut key = [0; Hyphenated::LENGTH];
    webhook.0.hyphenated().encode_lower(&mut key);
    key
}

/// The partition of `deliveries` that all jobs of `webhook` come through (design §2.2).
#[must_use]
pub fn deliveries_partition(webhook: WebhookId, partitions: i32) -> Partition {
    partition_for(&partition_key(webhook), partitions)
}

#[cfg(test)]
mod tests {
    use hookstream_core::job::DecidedAt;
    use hookstream_types::{AccountUid, DeliveryId, EventId, Generation, Offset, UnixMillis};
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn example() -> Job {
        Job {
            state: JobState::new(DeliveryId(Uuid::from_u128(1)), WebhookId(Uuid::from_u128(2)), Offset(7)),
            event: Arc::new(EventAttributes {
                event: EventId(Uuid::from_u128(3)),
                account: AccountUid(Uuid::from_u128(4)),
                source: "orders".into(),
                id: "e-1".into(),
                ce_source: "/shop".into(),
                event_type: "order.paid".into(),
                subject: Some("o-1".into()),
                time: "2026-01-02T03:04:05Z".into(),
                content_type: Some("application/json".into()),
                extensions: vec![("account".into(), "acme".into())],
                produced_at: UnixMillis(1_767_323_045_000),
            }),
            data: Bytes::from_static(b"{\"a\":\n1}"),
        }
    }

    fn encode(job: &Job) -> Vec<u8> {
        let mut out = Vec::new();
        append(job, &mut out);
        out
    }

    #[test]
    fn golden_version_1() {
        let expected = concat!(
            r#"{"v":1,"job":{"delivery":"00000000-0000-0000-0000-000000000001","#,
            r#""webhook":"00000000-0000-0000-0000-000000000002","generation":{"run":0,"n":0},"attempts":0,"config":7},"#,
            r#""event":{"event":"00000000-0000-0000-0000-000000000003","account":"00000000-0000-0000-0000-000000000004","#,
            r#""source":"orders","id":"e-1","ce_source":"/shop","type":"order.paid","subject":"o-1","#,
            r#""time":"2026-01-02T03:04:05Z","content_type":"application/json","extensions":[["account","acme"]],"#,
            r#""produced_at":1767323045000},"len":8}"#,
            "\n{\"a\":\n1}"
        );
        assert_eq!(String::from_utf8(encode(&example())).unwrap(), expected);
        assert_eq!(decode(expected.as_bytes()).unwrap(), example());
    }

    #[test]
    fn golden_version_1_of_a_retry() {
        let mut job = example();
        job.state.generation = Generation { run: 0, n: 2 };
        job.state.attempts = 1;
        job.state.due = Some(UnixMillis(5));
        job.state.first_attempt_at = Some(UnixMillis(3));
        job.state.deferred_ms = 9;
        job.state.decided = Some(DecidedAt { owner: Offset(10), decision: Offset(11) });
        let text = String::from_utf8(encode(&job)).unwrap();
        let expected = concat!(
            r#""generation":{"run":0,"n":2},"attempts":1,"config":7,"due":5,"first_attempt_at":3,"deferred_ms":9,"#,
            r#""decided":{"owner":10,"decision":11}}"#
        );
        assert!(text.contains(expected), "{text}");
        assert_eq!(decode(text.as_bytes()).unwrap(), job);
    }

    #[test]
    fn several_jobs_in_one_record() {
        let (first, mut second) = (example(), example());
        second.data = Bytes::new();
        let mut record = encode(&first);
        append(&second, &mut record);
        append(&first, &mut record);
        assert_eq!(decode_all(&record).unwrap(), [first.clone(), second, first]);
        assert!(matches!(decode(&record), Err(BadRecord::Length { .. })));
    }

    #[test]
    fn errors_name_what_is_wrong() {
        let message = |bytes: &[u8]| decode(bytes).unwrap_err().to_string();
        let good = String::from_utf8(encode(&example())).unwrap();
        assert_eq!(message(b""), "the record has no value: it is a tombstone, and this topic has none");
        let version = "the record is of version 2, and this program reads version 1: upgrade it first";
        assert_eq!(message(good.replace("\"v\":1", "\"v\":2").as_bytes()), version);
        assert_eq!(message(br#"{"v":2,"new":"shape"}"#), version);
        assert_eq!(message(b"\xff\xfe"), "the record's first line is not the JSON that it should be");
        let cut = &good.as_bytes()[..good.len() - 3];
        let expected = format!(
            "the record is {} bytes where it should be {}: it was cut or damaged",
            cut.len(),
            good.len()
        );
        assert_eq!(message(cut), expected);
        let huge = good.replace("\"len\":8", &format!("\"len\":{}", usize::MAX));
        assert!(matches!(decode(huge.as_bytes()), Err(BadRecord::Length { .. })));
    }

    #[test]
    fn a_webhook_has_one_partition() {
        let webhook = WebhookId(Uuid::from_u128(2));
        assert_eq!(&partition_key(webhook), b"00000000-0000-0000-0000-000000000002");
        let text = webhook.to_string();
        assert_eq!(deliveries_partition(webhook, 64), partition_for(text.as_bytes(), 64));
    }

    proptest! {
        #[test]
        fn any_job_comes_back(
            texts in proptest::collection::vec(any::<String>(), 6),
            subject in any::<Option<String>>(),
            extensions in any::<Vec<(String, String)>>(),
            numbers in any::<(i64, u32, u32, i64, u64)>(),
            due in any::<Option<i64>>(),
            data in any::<Vec<u8>>(),
        ) {
            let mut job = example();
            let event = Arc::make_mut(&mut job.event);
            let mut texts = texts.into_iter();
            for field in [&mut event.source, &mut event.id, &mut event.ce_source, &mut event.event_type, &mut event.time] {
                *field = texts.next().unwrap();
            }
            event.content_type = texts.next();
            event.subject = subject;
            event.extensions = extensions;
            job.state.generation = Generation { run: numbers.0, n: numbers.1 };
            job.state.attempts = numbers.2;
            job.state.config = Offset(numbers.3);
            job.state.deferred_ms = numbers.4;
            job.state.due = due.map(UnixMillis);
            job.data = Bytes::from(data);
            prop_assert_eq!(&decode(&encode(&job)).unwrap(), &job);
        }

        #[test]
        fn cut_or_damaged_bytes_never_panic(
            cut in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
        ) {
            let mut bytes = encode(&example());
            bytes.extend(encode(&example()));
            let whole = bytes.len();
            let cut = cut.index(whole);
            prop_assert!(decode(&bytes[..cut]).is_err() || cut == whole / 2);
            let at = at.index(whole);
            bytes[at] = byte;
            decode_all(&bytes).ok();
        }

        #[test]
        fn garbage_never_panics(bytes in any::<Vec<u8>>()) {
            prop_assert!(decode_all(&bytes).is_err());
        }
    }
}
