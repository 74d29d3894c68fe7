//! How much of a topic a consumer group has still to do.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError as RdError;
use rdkafka::{Offset as RdOffset, TopicPartitionList};

use crate::client::{KafkaSettings, Reports, report_through};
use crate::error::KafkaError;
use crate::native;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
const PREFETCH_BYTES: usize = 64 * 1024;

struct Context {
    reports: Reports,
}
report_through!(Context);
impl ConsumerContext for Context {}

/// Looks at a group from outside, without being a member.
#[derive(Clone)]
pub struct Backlog {
    consumer: Arc<BaseConsumer<Context>>,
    topic: Arc<str>,
    partitions: i32,
}

impl fmt::Debug for Backlog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backlog").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// A backlog is not told.
#[derive(Debug, thiserror::Error)]
#[error("how far a group has got in `{topic}` was not told: {reason}")]
pub struct NotTold {
    topic: Arc<str>,
    reason: String,
}

impl Backlog {
    /// # Errors
    /// If the settings are not taken.
    pub fn new(
        settings: &KafkaSettings,
        group: &str,
        topic: Arc<str>,
        partitions: i32,
    ) -> Result<Self, KafkaError> {
        let mut config = settings.reader(true, PREFETCH_BYTES)?;
        config.set("group.id", group);
        let context = Context { reports: Reports::new("backlog") };
        let consumer = Arc::new(BaseConsumer::from_config_and_context(&config, context)?);
        Ok(Self { consumer, topic, partitions })
    }

    /// Records that the group has not completed. Of a partition of which it has completed nothing, all that there are.
    ///
    /// # Errors
    /// If no broker answers.
    pub async fn records(&self) -> Result<u64, NotTold> {
        let this = self.clone();
        let looked = tokio::task::spawn_blocking(move || this.look()).await;
        let not_told = |reason: String| NotTold { topic: Arc::clone(&self.topic), reason };
        match looked {
            Ok(Ok(records)) => Ok(records),
            Ok(Err(error)) => {
                let reason = self.consumer.context().reports.last_error();
                Err(not_told(reason.unwrap_or_else(|| error.to_string())))
            }
            Err(_) => Err(not_told("it was broken off".to_owned())),
        }
    }

    fn look(&self) -> Result<u64, RdError> {
        let list = |at: RdOffset| {
            let mut list = TopicPartitionList::new();
            for partition in 0..self.partitions {
                list.add_partition_offset(&self.topic, partition, at)?;
            }
            Ok::<_, RdError>(list)
        };
        let offsets = |found: TopicPartitionList| -> Vec<(i32, i64)> {
            native::entries(&found).into_iter().map(|entry| (entry.partition, entry.offset)).collect()
        };
        let committed = self.consumer.committed_offsets(list(RdOffset::Invalid)?, REQUEST_TIMEOUT)?;
        let firsts = self.consumer.offsets_for_times(list(RdOffset::Beginning)?, REQUEST_TIMEOUT)?;
        let ends = self.consumer.offsets_for_times(list(RdOffset::End)?, REQUEST_TIMEOUT)?;
        let (committed, firsts) = (offsets(committed), offsets(firsts));
        let of = |all: &[(i32, i64)], partition: i32| {
            all.iter().find(|(other, _)| *other == partition).map_or(0, |(_, offset)| *offset)
        };
        let left = offsets(ends).into_iter().map(|(partition, end)| {
            let done = of(&committed, partition).max(of(&firsts, partition)).max(0);
            u64::try_from(end - done).unwrap_or(0)
        });
        Ok(left.sum())
    }
}
