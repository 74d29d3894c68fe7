//! Producing what the services consume, and watching topics grow.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use hookstream_types::{Partition, UnixMillis};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{
    BaseRecord, DeliveryResult, NoCustomPartitioner, Producer as _, ProducerContext, ThreadedProducer,
};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};

const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, Default)]
struct Failures(Arc<AtomicU64>);

impl rdkafka::ClientContext for Failures {}

impl ProducerContext for Failures {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_err() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A producer with nothing of hookstream's about it.
pub struct Load {
    producer: ThreadedProducer<Failures, NoCustomPartitioner>,
    failures: Failures,
}

impl std::fmt::Debug for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Load").finish_non_exhaustive()
    }
}

impl Load {
    /// A producer that waits this long for a batch to fill.
    ///
    /// # Errors
    /// If librdkafka does not take its settings.
    pub fn new(bootstrap_servers: &str, linger: Duration) -> anyhow::Result<Self> {
        let failures = Failures::default();
        let producer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap_servers)
            .set("enable.idempotence", "true")
            .set("linger.ms", linger.as_millis().to_string())
            // Topics bound a batch, not a record.
            .set("batch.size", "262144")
            .set("compression.type", "lz4")
            .create_with_context(failures.clone())?;
        Ok(Self { producer, failures })
    }

    /// Produces a record, and waits for room if there is none.
    ///
    /// # Errors
    /// If it is not taken.
    pub fn send(
        &self,
        topic: &str,
        partition: Option<Partition>,
        key: &[u8],
        value: &[u8],
        headers: &[(&str, &str)],
    ) -> anyhow::Result<()> {
        let mut record = BaseRecord::to(topic).payload(value);
        if let Some(partition) = partition {
            record = record.partition(partition.0);
        }
        if !key.is_empty() {
            record = record.key(key);
        }
        if !headers.is_empty() {
            let mut list = OwnedHeaders::new_with_capacity(headers.len());
            for (name, value) in headers {
                list = list.insert(Header { key: name, value: Some(*value) });
            }
            record = record.headers(list);
        }
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err((error, _)) => return Err(error).context("a record was not taken"),
            }
        }
    }

    /// Waits until all is acknowledged.
    ///
    /// # Errors
    /// If something is not.
    pub fn finish(&self) -> anyhow::Result<()> {
        self.producer.flush(PATIENCE)?;
        match self.failures.0.load(Ordering::Relaxed) {
            0 => Ok(()),
            failures => bail!("{failures} records of the load were not acknowledged"),
        }
    }
}

/// Looks at how many records topics have.
pub struct Watch {
    consumer: BaseConsumer,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

impl Watch {
    /// # Errors
    /// If librdkafka does not take its settings.
    pub fn new(bootstrap_servers: &str) -> anyhow::Result<Self> {
        let consumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap_servers)
            // It belongs to none, but librdkafka wants a name.
            .set("group.id", "bench")
            .set("enable.auto.commit", "false")
            .create()?;
        Ok(Self { consumer })
    }

    /// The sum of the ends of a topic's partitions.
    ///
    /// # Errors
    /// If the broker does not say.
    pub fn end(&self, topic: &str, partitions: u32) -> anyhow::Result<u64> {
        let mut sum = 0;
        for partition in 0..i32::try_from(partitions)? {
            let (_, end) = self.consumer.fetch_watermarks(topic, partition, Duration::from_secs(5))?;
            sum += u64::try_from(end)?;
        }
        Ok(sum)
    }

    /// Hands over the first `count` records of a topic, with the time its broker gave them.
    ///
    /// # Errors
    /// If they can't be read.
    pub fn read(
        &self,
        topic: &str,
        partitions: u32,
        count: u64,
        mut each: impl FnMut(UnixMillis, &[u8]),
    ) -> anyhow::Result<()> {
        let mut missing = count;
        let mut all = TopicPartitionList::new();
        for partition in 0..i32::try_from(partitions)? {
            all.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
        self.consumer.assign(&all)?;
        // The load may go on for long: what counts is how long nothing comes.
        let mut by = Instant::now() + PATIENCE;
        while missing > 0 {
            if let Some(record) = self.consumer.poll(Duration::from_millis(100)) {
                let record = record?;
                missing -= 1;
                by = Instant::now() + PATIENCE;
                if let (Some(at), Some(value)) = (record.timestamp().to_millis(), record.payload()) {
                    each(UnixMillis(at), value);
                }
            } else if Instant::now() > by {
                bail!("{missing} records of `{topic}` could not be read");
            }
        }
        self.consumer.unassign()?;
        Ok(())
    }

    /// Waits until a topic has `count` records, and says when it had.
    ///
    /// # Errors
    /// If it has not in time.
    pub fn wait_for(
        &self,
        topic: &str,
        partitions: u32,
        count: u64,
        patience: Duration,
    ) -> anyhow::Result<Instant> {
        let by = Instant::now() + patience;
        loop {
            let end = self.end(topic, partitions)?;
            let now = Instant::now();
            if end >= count {
                return Ok(now);
            }
            if now > by {
                bail!("`{topic}` has {end} records after {} s, not {count}", patience.as_secs());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Letters and digits that don't compress well, the same ones each time.
#[derive(Clone, Debug)]
pub struct Noise(u64);

impl Default for Noise {
    fn default() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }
}

impl Noise {
    pub fn text(&mut self, len: usize) -> String {
        const LETTERS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
        (0..len)
            .map(|_| {
                self.0 ^= self.0 << 13;
                self.0 ^= self.0 >> 7;
                self.0 ^= self.0 << 17;
                char::from(LETTERS[usize::from(self.0.to_le_bytes()[3] & 63)])
            })
            .collect()
    }
}
