//! What a stage needs of a log, and no more.
//!
//! A stage runs on one thread and owns one [`Log`]: a member's share of a consumer group's partitions, an
//! idempotent producer, and readers that it assigns itself. Everything is polled and nothing blocks; the shell
//! waits for [`Log`] to have something (how is the implementation's business) and then calls the stage once.
//! So the same stage runs on Kafka and on the simulated log.
//!
//! Promises that every implementation keeps (the contract suite checks them):
//! - Each assignment of a partition has an [`Input`] of its own, never used again: what is said to an old one
//!   is ignored.
//! - Records of an input come in the order of their offsets, from its base on. An offset may come twice.
//! - A record that was not taken by [`Log::take`] stays where it is: nothing is paused, dropped or fetched again.
//! - After [`LogEvent::Revoking`] the partition stays ours until [`Log::release`] is called or the time is over;
//!   after [`LogEvent::Lost`] it is not ours any more.
//! - Each [`Log::produce`] that returned `Ok` is answered by one [`LogEvent::Produced`].

use std::fmt;
use std::sync::Arc;

use hookstream_types::{Mono, Offset, Partition, UnixMillis};

/// One assignment of one partition, or one reader that the stage opened.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Input(pub u64);

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "input{}", self.0)
    }
}

/// The stage's own name for something it produced.
pub type Token = u64;

/// A record as it stands in the log; borrowed, so that only what is kept is copied.
#[derive(Clone, Copy)]
pub struct RecordRef<'a> {
    pub offset: Offset,
    /// When it was appended (`LogAppendTime`) or created (`CreateTime`), as the topic is configured.
    pub timestamp: UnixMillis,
    pub key: Option<&'a [u8]>,
    /// None: a tombstone.
    pub value: Option<&'a [u8]>,
    /// In order; a name may come more than once.
    pub headers: &'a [(&'a str, &'a [u8])],
}

impl<'a> RecordRef<'a> {
    /// The first header of that name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers.iter().find(|(n, _)| *n == name).map(|(_, value)| *value)
    }
}

impl fmt::Debug for RecordRef<'_> {
    /// Coordinates and sizes only: a record may hold a customer's data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordRef")
            .field("offset", &self.offset)
            .field("timestamp", &self.timestamp)
            .field("value_bytes", &self.value.map(<[u8]>::len))
            .finish_non_exhaustive()
    }
}

/// A record to be appended.
#[derive(Clone, Copy)]
pub struct OutRecord<'a> {
    pub topic: &'a str,
    /// Always named by the stage: see [`hookstream_types::partition_for`].
    pub partition: Partition,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [(&'a str, &'a [u8])],
}

impl fmt::Debug for OutRecord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutRecord")
            .field("topic", &self.topic)
            .field("partition", &self.partition)
            .field("value_bytes", &self.value.map(<[u8]>::len))
            .finish_non_exhaustive()
    }
}

/// Where a record landed. It is durable: all in-sync replicas have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    pub offset: Offset,
    /// The broker's clock when it was appended; none if the topic doesn't stamp its records.
    pub appended_at: Option<UnixMillis>,
}

/// Why a record was not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProduceError {
    /// The broker never takes it (`MSG_SIZE_TOO_LARGE`, an invalid record): do not try again.
    #[error("the record is too large for the topic")]
    TooLarge,
    /// It may or may not have been appended: produce it again.
    #[error("the outcome of producing is not known")]
    Unknown,
    /// The topic does not exist, or we may not write to it: an operator must act; try again later.
    #[error("the topic does not exist or may not be written to")]
    Refused,
}

/// The producer's queue is full: take events, then produce again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Why a partition is not ours any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The session ended: another member may have it already.
    SessionEnded,
    /// The drain took too long.
    DrainTimedOut,
    /// The partition's topic was deleted.
    Deleted,
}

/// Why a reader has nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It reached the offset it was opened to.
    Complete,
    /// What it was to read is not there any more or can't be read; open it again.
    Failed,
}

/// Where a reader starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFrom {
    /// At this offset, or at the first one after it that is still there.
    Offset(Offset),
    /// At the first record of this time or later.
    Time(UnixMillis),
    /// At the first record that is still there.
    Beginning,
}

/// Something that happened to the log's user.
#[derive(Clone, Debug)]
pub enum LogEvent {
    /// A partition of the group is ours. Records come from `base` on.
    Assigned {
        input: Input,
        topic: Arc<str>,
        partition: Partition,
        /// The committed offset, else where the topic begins, never below what is still there.
        base: Offset,
        /// What was committed with it.
        metadata: Option<String>,
    },
    /// The partition is wanted elsewhere (or the process is stopping): drain it and [`Log::release`] it. Nothing
    /// new starts. After `by` it is lost.
    Revoking { input: Input, by: Mono },
    /// The partition is not ours any more: forget it. Nothing of it can be committed.
    Lost { input: Input, why: Lost },
    /// A record was appended, or not.
    Produced { token: Token, result: Result<Ack, ProduceError> },
    /// A reader that [`Log::open`] made has no more to give. Comes after its last record was taken.
    Ended { input: Input, why: Ended },
}

/// What a stage needs of a log.
pub trait Log {
    /// The next thing that happened. Never blocks.
    fn next_event(&mut self) -> Option<LogEvent>;

    /// Hands up to `max` records of `input` to `sink`, and returns how many. Never blocks.
    fn take(&mut self, input: Input, max: usize, sink: &mut dyn FnMut(RecordRef<'_>)) -> usize;

    /// Reads a partition that no group assigns: `from` (inclusive) to `to` (exclusive; none: on and on).
    fn open(&mut self, topic: &str, partition: Partition, from: ReadFrom, to: Option<Offset>) -> Input;

    /// Ends a reader.
    fn close(&mut self, input: Input);

    /// Appends a record; the answer is a [`LogEvent::Produced`] with `token`, which several records may share.
    ///
    /// # Errors
    /// [`Full`] if the producer's queue is full; nothing was appended and nothing will be answered.
    fn produce(&mut self, token: Token, record: OutRecord<'_>) -> Result<(), Full>;

    /// Sends what was produced since the last call: to be called at the end of each turn, so that what belongs
    /// together goes together.
    fn flush(&mut self) {}

    /// Everything of `input` below `offset` is complete. The latest wins; it is carried out soon, and in any case
    /// before [`Log::release`] lets the partition go.
    fn commit(&mut self, input: Input, offset: Offset, metadata: String);

    /// The answer to [`LogEvent::Revoking`]: the partition is drained.
    fn release(&mut self, input: Input);

    /// Until when work may start: the last confirmed contact with the group plus half the session time-out.
    /// In the past: nothing may start.
    fn lease(&self) -> Mono;
}
