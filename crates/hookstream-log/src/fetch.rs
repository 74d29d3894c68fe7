//! Reads records by their coordinates, for people to look at and to deliver again.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hookstream_types::{Offset, Partition, UnixMillis};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError as RdError, RDKafkaErrorCode};
use rdkafka::{Offset as RdOffset, TopicPartitionList};
use tokio::sync::Mutex;

use crate::client::{KafkaSettings, Reports, report_through};
use crate::error::KafkaError;
use crate::kafka::Scratch;
use crate::native::{self, Polled, Reader};
use crate::scan::{OwnRecord, Wanted};

struct Context {
    reports: Reports,
}
report_through!(Context);
impl ConsumerContext for Context {}

/// Little is wanted, and what is fetched beyond it is thrown away.
const PREFETCH_BYTES: usize = 512 * 1024;
/// How long a look into the queue waits.
const WAIT: Duration = Duration::from_millis(20);
/// Reads that can be under way at once.
const LANES: usize = 8;
/// For offsets.
const OFFSETS_TIMEOUT: Duration = Duration::from_secs(10);

/// Why records could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("partition {partition} of `{topic}` was not read within {} ms: {reason}", within.as_millis())]
    Late { topic: String, partition: Partition, within: Duration, reason: String },
    #[error("`{topic}` can't be read")]
    Topic { topic: String },
    #[error("the offsets of `{topic}` were not told")]
    Offsets {
        topic: String,
        #[source]
        source: RdError,
    },
    #[error("the read was broken off")]
    Stopped,
}

/// A client that reads what it is asked for. Clones share it.
#[derive(Clone)]
pub struct Fetcher {
    consumer: Arc<BaseConsumer<Context>>,
    /// A client can read a partition once at a time: each partition has one of these locks.
    lanes: Arc<[Arc<Mutex<()>>]>,
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetcher").finish_non_exhaustive()
    }
}

impl Fetcher {
    /// # Errors
    /// If the settings are not taken.
    pub fn new(settings: &KafkaSettings) -> Result<Self, KafkaError> {
        let config = settings.reader(true, PREFETCH_BYTES)?;
        let context = Context { reports: Reports::new("fetch") };
        let consumer = Arc::new(BaseConsumer::from_config_and_context(&config, context)?);
        Ok(Self { consumer, lanes: (0..LANES).map(|_| Arc::default()).collect() })
    }

    /// Offsets of partitions, for readers of committed records.
    ///
    /// # Errors
    /// [`FetchError::Offsets`] if Kafka does not tell them.
    pub async fn offsets(
        &self,
        topic: &str,
        partitions: Vec<Partition>,
        at: At,
    ) -> Result<BTreeMap<Partition, Offset>, FetchError> {
        let (consumer, name) = (Arc::clone(&self.consumer), topic.to_owned());
        let asked = tokio::task::spawn_blocking(move || offsets(&consumer, &name, &partitions, at)).await;
        let asked = asked.map_err(|_| FetchError::Stopped)?;
        asked.map_err(|source| FetchError::Offsets { topic: topic.to_owned(), source })
    }

    /// The records of a partition from `offset` on, up to `count` offsets; what is not there (any more) is left out.
    ///
    /// # Errors
    /// [`FetchError::Late`] if Kafka does not answer `within` that time.
    pub async fn fetch(
        &self,
        topic: &str,
        partition: Partition,
        offset: Offset,
        count: usize,
        within: Duration,
    ) -> Result<Vec<OwnRecord>, FetchError> {
        let by = Instant::now() + within;
        let late = |reason: &str| FetchError::Late {
            topic: topic.to_owned(),
            partition,
            within,
            reason: reason.to_owned(),
        };
        let lane = usize::try_from(partition.0.unsigned_abs()).unwrap_or(0) % LANES;
        let lane = Arc::clone(&self.lanes[lane]).lock_owned();
        let Ok(lane) = tokio::time::timeout(within, lane).await else {
            return Err(late("others are read"));
        };
        let (consumer, name) = (Arc::clone(&self.consumer), topic.to_owned());
        let read = tokio::task::spawn_blocking(move || {
            // Held until the reader is gone, even if nobody waits for it any more.
            let _lane = lane;
            read(&consumer, &name, partition, offset, count, by)
        });
        match read.await {
            Ok(Ok(Some(records))) => Ok(records),
            Ok(Ok(None)) => {
                let reason = self.consumer.context().reports.last_error();
                Err(late(reason.as_deref().unwrap_or("no broker answers")))
            }
            Ok(Err(())) => Err(FetchError::Topic { topic: topic.to_owned() }),
            Err(_) => Err(FetchError::Stopped),
        }
    }
}

/// What offsets of partitions are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// Of the first record that was appended then or later; else the end.
    Time(UnixMillis),
    End,
}

fn offsets(
    consumer: &BaseConsumer<Context>,
    topic: &str,
    partitions: &[Partition],
    at: At,
) -> Result<BTreeMap<Partition, Offset>, RdError> {
    let ask = |time: RdOffset| {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            list.add_partition_offset(topic, partition.0, time)?;
        }
        consumer.offsets_for_times(list, OFFSETS_TIMEOUT)
    };
    let at = match at {
        At::Time(time) => RdOffset::Offset(time.0.max(0)),
        At::End => RdOffset::End,
    };
    let (mut found, mut beyond) = (BTreeMap::new(), false);
    for entry in native::entries(&ask(at)?) {
        if entry.code != RDKafkaErrorCode::NoError {
            return Err(RdError::OffsetFetch(entry.code));
        }
        beyond |= entry.offset < 0;
        found.insert(Partition(entry.partition), Offset(entry.offset));
    }
    if beyond {
        // Nothing was appended since then.
        for entry in native::entries(&ask(RdOffset::End)?) {
            let offset = found.entry(Partition(entry.partition)).or_insert(Offset(-1));
            if offset.0 < 0 {
                *offset = Offset(entry.offset.max(0));
            }
        }
    }
    Ok(found)
}

/// None: too late. An error: the topic's name can't be one.
fn read(
    consumer: &Arc<BaseConsumer<Context>>,
    topic: &str,
    partition: Partition,
    offset: Offset,
    count: usize,
    by: Instant,
) -> Result<Option<Vec<OwnRecord>>, ()> {
    let end = offset.0.saturating_add(i64::try_from(count).unwrap_or(i64::MAX));
    if count == 0 || offset.0 < 0 {
        return Ok(Some(Vec::new()));
    }
    let client = Arc::clone(consumer) as Arc<dyn Any + Send + Sync>;
    let native = consumer.client().native_ptr();
    let reader = Reader::start(&client, native, topic, partition.0, offset.0, || {}).ok_or(())?;
    let mut scratch = Scratch::default();
    let mut records = Vec::new();
    let mut complete = false;
    while !complete {
        let now = Instant::now();
        if now >= by {
            return Ok(None);
        }
        reader.queue().drain(16, WAIT.min(by - now), &mut |polled| match polled {
            Polled::Record(record) => {
                let at = record.offset().0;
                if offset.0 <= at && at < end && !complete {
                    scratch
                        .hand_over(&record, &mut |record| records.push(OwnRecord::of(record, Wanted::Both)));
                }
                complete |= at >= end - 1 || at < offset.0;
            }
            Polled::End(_) => complete = true,
            // The client tries again; what it says is in the error if the time is over.
            Polled::Failed(..) => {}
        });
        // Errors went to the context; there are no records in the main queue.
        drop(consumer.poll(Duration::ZERO));
    }
    Ok(Some(records))
}
