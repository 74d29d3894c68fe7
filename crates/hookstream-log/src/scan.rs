//! Follows the partitions of a topic from given offsets, without a group: for a view that keeps its own positions.
//!
//! Records come in batches of one partition, and a bounded number of them waits: who takes none stops the reading, and
//! nothing else. **Position** is the offset that is read next; a batch says from which to which it goes, and what
//! lies between without being handed over (what retention deleted, control records) is passed over with it.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use hookstream_types::{Offset, Partition, UnixMillis};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use tokio::sync::mpsc;

use crate::client::{KafkaSettings, Reports, report_through};
use crate::error::KafkaError;
use crate::kafka::Scratch;
use crate::log::RecordRef;
use crate::native::{Code, Polled, Reader};

struct Context {
    reports: Reports,
}
report_through!(Context);
impl ConsumerContext for Context {}

/// A record of its own.
#[derive(Clone, PartialEq, Eq)]
pub struct OwnRecord {
    pub offset: Offset,
    /// When it was appended or created, as the topic is configured.
    pub timestamp: UnixMillis,
    /// Those of a record that was asked for with them.
    pub headers: Vec<(String, Vec<u8>)>,
    /// A tombstone's is empty.
    pub value: Vec<u8>,
}

/// What is copied of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Values,
    Headers,
    Both,
}

impl OwnRecord {
    /// Its headers, as decoders take them.
    #[must_use]
    pub fn header_refs(&self) -> Vec<(&str, &[u8])> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect()
    }
}

impl std::fmt::Debug for OwnRecord {
    /// Coordinates and sizes only: a record may hold a customer's data.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnRecord")
            .field("offset", &self.offset)
            .field("value_bytes", &self.value.len())
            .finish_non_exhaustive()
    }
}

impl OwnRecord {
    pub(crate) fn of(record: RecordRef<'_>, wanted: Wanted) -> Self {
        let value = record.value.filter(|_| wanted != Wanted::Headers).unwrap_or_default().to_vec();
        let headers = if wanted == Wanted::Values { &[] } else { record.headers };
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect();
        Self { offset: record.offset, timestamp: record.timestamp, headers, value }
    }
}

/// What a scan hands over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scanned {
    /// What lies between two positions of a partition.
    Batch { partition: Partition, from: Offset, next: Offset, records: Vec<OwnRecord> },
    /// The partition is shorter than it was: its topic was made anew. It is read from its beginning again, and what was
    /// read before is not there any more. A topic that has grown longer since is told by its id
    /// ([`Admin::topic_ids`](crate::admin::Admin::topic_ids)) alone.
    Restarted { partition: Partition },
}

/// Where a scan starts.
#[derive(Clone, Debug)]
pub struct ScanSpec {
    pub topic: String,
    /// Positions; of other partitions, their beginning.
    pub from: BTreeMap<Partition, Offset>,
    /// Only the partitions that have positions.
    pub only_those: bool,
    pub wanted: Wanted,
    /// Batches that wait at most.
    pub waiting: usize,
    /// Records of a batch at most.
    pub records: usize,
}

impl ScanSpec {
    #[must_use]
    pub fn new(topic: impl Into<String>, from: BTreeMap<Partition, Offset>, wanted: Wanted) -> Self {
        Self { topic: topic.into(), from, only_those: false, wanted, waiting: 8, records: 2_000 }
    }
}

/// Of each partition this much is fetched ahead.
const PREFETCH_BYTES: usize = 256 * 1024;
/// Bytes after which a batch is full.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// How long a thread that nobody wakes waits.
const WAIT: Duration = Duration::from_millis(100);
const RETRY: Duration = Duration::from_millis(500);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// A topic that is followed. Dropping it stops that.
#[derive(Debug)]
pub struct Scan {
    batches: Option<mpsc::Receiver<Scanned>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Scan {
    /// Follows a topic on a thread of its own. An absent broker or topic is waited for.
    ///
    /// # Errors
    /// If the settings are not taken or the thread can't be started.
    pub fn start(settings: &KafkaSettings, spec: ScanSpec) -> Result<Self, KafkaError> {
        let name = format!("scan-{}", spec.topic);
        let config = settings.reader(true, PREFETCH_BYTES)?;
        let context = Context { reports: Reports::new(name.clone()) };
        let consumer = Arc::new(BaseConsumer::from_config_and_context(&config, context)?);
        let (send, batches) = mpsc::channel(spec.waiting.max(1));
        let stop = Arc::new(AtomicBool::new(false));
        let scanner = Scanner { consumer, spec, send, stop: Arc::clone(&stop) };
        let thread = std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || scanner.run())
            .map_err(|source| KafkaError::Thread { name, source })?;
        Ok(Self { batches: Some(batches), stop, thread: Some(thread) })
    }

    /// What comes next; none: the scan's thread has ended, which it does only by a panic.
    pub async fn next(&mut self) -> Option<Scanned> {
        self.batches.as_mut()?.recv().await
    }
}

impl Drop for Scan {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // A thread that waits for room is told that nobody comes.
        drop(self.batches.take());
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic was reported by its thread.
            drop(thread.join());
        }
    }
}

struct Scanner {
    consumer: Arc<BaseConsumer<Context>>,
    spec: ScanSpec,
    send: mpsc::Sender<Scanned>,
    stop: Arc<AtomicBool>,
}

struct Followed {
    partition: Partition,
    position: Offset,
    reader: Reader,
    readable: Arc<AtomicBool>,
}

/// Why partitions are not followed any more.
enum Stopped {
    /// Nobody wants them.
    Unwanted,
    /// The topic is gone.
    Gone,
}

impl Scanner {
    fn run(mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            if let Some(partitions) = self.partitions()
                && let Some(followed) = self.open(&partitions)
                && matches!(self.follow(followed), Stopped::Unwanted)
            {
                return;
            }
            std::thread::park_timeout(RETRY);
        }
    }

    /// Asks which partitions there are.
    fn partitions(&self) -> Option<Vec<Partition>> {
        let found = self.consumer.fetch_metadata(Some(&self.spec.topic), REQUEST_TIMEOUT);
        self.serve();
        let reason = match found {
            Ok(metadata) => {
                let topic = metadata.topics().iter().find(|topic| topic.name() == self.spec.topic)?;
                if topic.error().is_none() && !topic.partitions().is_empty() {
                    let there = topic.partitions().iter().map(|found| Partition(found.id()));
                    let is_wanted = |partition: &Partition| {
                        !self.spec.only_those || self.spec.from.contains_key(partition)
                    };
                    return Some(there.filter(is_wanted).collect());
                }
                "it is not there".to_owned()
            }
            Err(error) => self.consumer.context().reports.last_error().unwrap_or_else(|| error.to_string()),
        };
        if self.consumer.context().reports.due("partitions") {
            tracing::warn!(topic = self.spec.topic, "can't follow the topic yet: {reason}; trying again");
        }
        None
    }

    fn open(&self, partitions: &[Partition]) -> Option<Vec<Followed>> {
        let client = Arc::clone(&self.consumer) as Arc<dyn Any + Send + Sync>;
        let native = self.consumer.client().native_ptr();
        let mut followed = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let position = self.spec.from.get(partition).copied().unwrap_or(Offset(0));
            let readable = Arc::new(AtomicBool::new(true));
            let (wake, thread): (_, Thread) = (Arc::clone(&readable), std::thread::current());
            let reader =
                Reader::start(&client, native, &self.spec.topic, partition.0, position.0, move || {
                    wake.store(true, Ordering::Release);
                    thread.unpark();
                });
            let Some(reader) = reader else {
                if self.consumer.context().reports.due("start") {
                    tracing::error!("can't read the topic `{}`: it can't be one", self.spec.topic);
                }
                return None;
            };
            followed.push(Followed { partition: *partition, position, reader, readable });
        }
        Some(followed)
    }

    fn follow(&mut self, mut followed: Vec<Followed>) -> Stopped {
        let mut scratch = Scratch::default();
        loop {
            let mut more = false;
            for one in &mut followed {
                if self.stop.load(Ordering::Relaxed) {
                    return Stopped::Unwanted;
                }
                if !one.readable.swap(false, Ordering::AcqRel) {
                    continue;
                }
                match self.take(one, &mut scratch) {
                    Ok(full) => {
                        more |= full;
                        if full {
                            one.readable.store(true, Ordering::Release);
                        }
                    }
                    Err(stopped) => return stopped,
                }
                // Of what is read again after the topic was gone, only what is new.
                self.spec.from.insert(one.partition, one.position);
            }
            self.serve();
            if !more {
                std::thread::park_timeout(WAIT);
            }
        }
    }

    /// Hands over what is there of a partition; returns whether there may be more.
    fn take(&self, one: &mut Followed, scratch: &mut Scratch) -> Result<bool, Stopped> {
        let (mut records, mut bytes, mut gone, mut ended) = (Vec::new(), 0, false, None);
        // In small portions, so that large records don't make a huge batch.
        const PORTION: usize = 64;
        let (most, wanted) = (self.spec.records.max(1), self.spec.wanted);
        loop {
            let portion = PORTION.min(most - records.len());
            let n = one.reader.queue().drain(portion, Duration::ZERO, &mut |polled| match polled {
                Polled::Record(record) => scratch.hand_over(&record, &mut |record| {
                    ended = None;
                    bytes += record.value.map_or(0, <[u8]>::len);
                    records.push(OwnRecord::of(record, wanted));
                }),
                Polled::End(offset) => ended = Some(offset),
                Polled::Failed(code, text) => {
                    tracing::warn!(topic = self.spec.topic, "following the topic: {text}");
                    gone |= matches!(
                        code,
                        Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicOrPartition
                    );
                }
            });
            if n < portion || records.len() >= most || bytes >= BATCH_BYTES {
                let full = n == portion;
                self.hand_over(one, records, ended)?;
                return if gone { Err(Stopped::Gone) } else { Ok(full) };
            }
        }
    }

    fn hand_over(
        &self,
        one: &mut Followed,
        mut records: Vec<OwnRecord>,
        ended: Option<Offset>,
    ) -> Result<(), Stopped> {
        let first = records.first().map(|record| record.offset).or(ended);
        if first.is_some_and(|first| first < one.position) {
            one.position = Offset(0);
            self.send(Scanned::Restarted { partition: one.partition })?;
        }
        let Some(next) = ended.or_else(|| records.last().map(|record| record.offset.next())) else {
            return Ok(());
        };
        if next == one.position && records.is_empty() {
            return Ok(());
        }
        records.retain(|record| record.offset >= one.position);
        let (partition, from) = (one.partition, one.position);
        one.position = next;
        self.send(Scanned::Batch { partition, from, next, records })
    }

    fn send(&self, scanned: Scanned) -> Result<(), Stopped> {
        self.send.blocking_send(scanned).map_err(|_| Stopped::Unwanted)
    }

    /// Lets the client report what it has to.
    fn serve(&self) {
        // Errors went to the context; there are no records in the main queue.
        drop(self.consumer.poll(Duration::ZERO));
    }
}
