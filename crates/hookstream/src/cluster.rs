//! The Kafka cluster, as the commands need it: hookstream-log does the work, here its errors get exit codes.

use std::time::Duration;

use hookstream_config::base::{FORMAT, kafka_settings};
use hookstream_config::{Change, ConfigWriter, WriteError};
use hookstream_log::admin::{Admin, Difference, TopicSpec};
use hookstream_log::fenced::Writer;
use hookstream_log::{KafkaError, KafkaSettings, OutRecord};
use hookstream_settings::Settings;
use hookstream_types::limits::MAX_RECORD_BYTES;
use hookstream_types::{Partition, partition_for};
use tokio::runtime::Runtime;

use crate::failure::Failure;

/// After this long without an answer, a person is told that something is waited for.
const FIRST_PATIENCE: Duration = Duration::from_secs(2);
/// How much longer a broker may take.
const MORE_PATIENCE: Duration = Duration::from_secs(13);
/// Records and bytes that are written together: far below the client's queue.
const BATCH_RECORDS: usize = 1000;
const BATCH_BYTES: usize = 1024 * 1024;

/// Who made the change, in the configuration's records.
const ACTOR: &str = "hookstream topics create";

/// An event for a source topic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event<'a> {
    pub key: Option<&'a str>,
    pub value: &'a [u8],
    pub headers: &'a [(&'static str, &'static str)],
}

/// A cluster that answers.
#[derive(Debug)]
pub(crate) struct Cluster {
    runtime: Runtime,
    settings: KafkaSettings,
    admin: Admin,
}

impl Cluster {
    /// Asks for the cluster, and says so if it takes long.
    pub(crate) fn connect(settings: &Settings) -> Result<Self, Failure> {
        let settings = kafka_settings(&settings.kafka);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let admin = Admin::new(&settings).map_err(failure)?;
        if runtime.block_on(admin.wait_for_broker(Some(FIRST_PATIENCE))).is_err() {
            eprintln!("waiting for a broker of `{}`", settings.bootstrap_servers);
            runtime.block_on(admin.wait_for_broker(Some(MORE_PATIENCE))).map_err(failure)?;
        }
        Ok(Self { runtime, settings, admin })
    }

    /// Creates what is missing; returns the names of what was created.
    pub(crate) fn create_topics(&self, specs: &[TopicSpec]) -> Result<Vec<String>, KafkaError> {
        self.runtime.block_on(self.admin.create_missing(specs))
    }

    /// How the topics differ from the settings.
    pub(crate) fn check_topics(&self, specs: &[TopicSpec]) -> Result<Vec<Difference>, Failure> {
        self.runtime.block_on(self.admin.check(specs)).map_err(failure)
    }

    /// Puts on record what can't be changed any more: the partition count. The same again changes nothing.
    pub(crate) fn record(&self, settings: &Settings, writer: &ConfigWriter) -> Result<(), Failure> {
        let namespace = settings.kafka.namespace.clone();
        let partitions = hookstream_config::base::partitions(settings);
        let change = Change::InitCluster { namespace, partitions, format: FORMAT };
        self.runtime.block_on(writer.write(ACTOR, vec![change])).map(drop).map_err(write_failure)
    }

    pub(crate) fn has_topic(&self, topic: &str) -> Result<bool, Failure> {
        Ok(self.runtime.block_on(self.admin.topics()).map_err(failure)?.contains_key(topic))
    }

    /// Runs something that waits for the cluster.
    pub(crate) fn block_on<F: Future>(&self, work: F) -> F::Output {
        self.runtime.block_on(work)
    }

    /// A producer to a topic that exists.
    pub(crate) fn producer(&self, topic: &str) -> Result<Producer, Failure> {
        let topics = self.runtime.block_on(self.admin.topics()).map_err(failure)?;
        let partitions =
            topics.get(topic).copied().filter(|partitions| *partitions > 0).ok_or_else(|| {
                Failure::Other(format!("there is no topic `{topic}`; create it, or correct the name").into())
            })?;
        let writer = Writer::open(&self.settings).map_err(failure)?;
        Ok(Producer { writer, topic: topic.to_owned(), partitions, next: 0, batch: Vec::new(), bytes: 0 })
    }
}

/// A producer to one topic.
#[derive(Debug)]
pub(crate) struct Producer {
    writer: Writer,
    topic: String,
    partitions: i32,
    /// The partition of the next record that has no key.
    next: i32,
    batch: Vec<Owned>,
    bytes: usize,
}

#[derive(Debug)]
struct Owned {
    partition: Partition,
    key: Option<String>,
    value: Vec<u8>,
    headers: Vec<(&'static str, &'static [u8])>,
}

impl Producer {
    /// Produces one event; it is durable after the next [`Producer::flush`].
    pub(crate) fn send(&mut self, event: Event<'_>) -> Result<(), Failure> {
        let bytes = event.value.len() + event.key.map_or(0, str::len);
        if bytes > MAX_RECORD_BYTES {
            let message =
                format!("a record of {bytes} bytes is more than hookstream takes ({MAX_RECORD_BYTES})");
            return Err(Failure::usage(message));
        }
        if self.batch.len() == BATCH_RECORDS || self.bytes + bytes > BATCH_BYTES {
            self.flush()?;
        }
        let partition = if let Some(key) = event.key {
            partition_for(key.as_bytes(), self.partitions)
        } else {
            self.next = (self.next + 1) % self.partitions;
            Partition(self.next)
        };
        self.bytes += bytes;
        self.batch.push(Owned {
            partition,
            key: event.key.map(str::to_owned),
            value: event.value.to_vec(),
            headers: event.headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect(),
        });
        Ok(())
    }

    /// Writes what was sent, and waits until all replicas have it.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let records: Vec<_> = self
            .batch
            .iter()
            .map(|record| OutRecord {
                topic: &self.topic,
                partition: record.partition,
                key: record.key.as_deref().map(str::as_bytes),
                value: Some(&record.value),
                headers: &record.headers,
            })
            .collect();
        self.writer.write(&records).map_err(|error| {
            Failure::Other(format!("could not write to `{}`: {error}", self.topic).into())
        })?;
        self.batch.clear();
        self.bytes = 0;
        Ok(())
    }
}

/// The exit code is the error's.
pub(crate) fn failure(error: KafkaError) -> Failure {
    match error {
        KafkaError::NoBroker { .. } => Failure::Unavailable(error.into()),
        KafkaError::Property { .. } | KafkaError::Reserved { .. } => Failure::usage(error),
        KafkaError::Refused { .. }
        | KafkaError::Client(_)
        | KafkaError::Thread { .. }
        | KafkaError::Spec(_) => Failure::Other(error.into()),
    }
}

/// The exit code is the error's.
pub(crate) fn write_failure(error: WriteError) -> Failure {
    match error {
        WriteError::Unavailable { .. } => Failure::Unavailable(error.into()),
        WriteError::Refused { .. } | WriteError::OutcomeUnknown { .. } => Failure::Other(error.into()),
    }
}
