//! Clients (librdkafka) that go on whatever happens to the broker.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Looks again and again, until there is something.
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    crate::wait::until(PATIENCE, what, look)
}

/// Patient, and quick to come back.
pub fn config(address: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", address)
        .set("reconnect.backoff.ms", "20")
        .set("reconnect.backoff.max.ms", "200")
        .set("retry.backoff.ms", "20")
        .set("topic.metadata.refresh.fast.interval.ms", "50");
    config
}

pub fn create_topic(address: &str, name: &str, partitions: i32) {
    let admin: AdminClient<DefaultClientContext> = config(address).create().unwrap();
    let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let made = runtime.block_on(admin.create_topics([&topic], &AdminOptions::new())).unwrap();
    assert_eq!(made, [Ok(name.to_owned())]);
}

/// Counts what is acknowledged, and keeps what fails.
#[derive(Clone, Debug, Default)]
pub struct Acks {
    count: Arc<AtomicUsize>,
    failures: Arc<Mutex<Vec<String>>>,
}

impl ClientContext for Acks {}

impl ProducerContext for Acks {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => drop(self.count.fetch_add(1, Ordering::SeqCst)),
            Err((error, _)) => {
                self.failures.lock().unwrap_or_else(PoisonError::into_inner).push(error.to_string());
            }
        }
    }
}

impl Acks {
    pub fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    pub fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// An idempotent producer of numbers, in their order, to partition 0.
pub struct Numbers {
    producer: ThreadedProducer<Acks>,
    pub acks: Acks,
    topic: String,
    pub sent: usize,
}

impl Numbers {
    pub fn new(address: &str, topic: &str) -> Self {
        let acks = Acks::default();
        let mut config = config(address);
        // Small batches, so that many requests are on their way.
        config.set("enable.idempotence", "true").set("linger.ms", "1").set("batch.num.messages", "20");
        let producer = config.create_with_context(acks.clone()).unwrap();
        Self { producer, acks, topic: topic.to_owned(), sent: 0 }
    }

    pub fn send(&mut self, count: usize) {
        for _ in 0..count {
            let value = self.sent.to_string();
            let record = BaseRecord::<str, str>::to(&self.topic).partition(0).payload(&value);
            self.producer.send(record).map_err(|(error, _)| error).unwrap();
            self.sent += 1;
        }
    }

    /// Sends until so many have been acknowledged, with some more on their way then.
    pub fn send_until_acknowledged(&mut self, count: usize) {
        until("acknowledgements", || {
            if self.sent < self.acks.count() + 1000 {
                self.send(100);
            }
            (self.acks.count() >= count).then_some(())
        });
    }

    /// Waits until all that was sent is acknowledged.
    pub fn finish(&mut self) {
        self.producer.flush(PATIENCE).unwrap();
        assert_eq!(self.acks.failures(), [""; 0]);
        assert_eq!(self.acks.count(), self.sent);
    }
}

/// All values of partition 0, as somebody reads them who comes now.
pub fn read_all(address: &str, topic: &str) -> Vec<String> {
    let mut config = config(address);
    config.set("group.id", "reader").set("enable.partition.eof", "true").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut assignment = rdkafka::TopicPartitionList::new();
    assignment.add_partition_offset(topic, 0, rdkafka::Offset::Beginning).unwrap();
    consumer.assign(&assignment).unwrap();
    let mut values = Vec::new();
    let started = Instant::now();
    loop {
        assert!(started.elapsed() < PATIENCE, "the end does not come after {} records", values.len());
        match consumer.poll(Duration::from_millis(100)) {
            None => {}
            Some(Ok(message)) => values.push(text(message.payload().unwrap())),
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => return values,
            // It is told of connections that end, and goes on by itself.
            Some(Err(error)) => eprintln!("a reader goes on after: {error}"),
        }
    }
}

/// The numbers below this, in their order and each once.
pub fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|n| n.to_string()).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Counts assignments.
#[derive(Clone, Debug, Default)]
pub struct Assignments(Arc<AtomicUsize>);

impl ClientContext for Assignments {}

impl ConsumerContext for Assignments {
    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if matches!(rebalance, Rebalance::Assign(_)) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// A member of a group, which commits what it has read.
pub struct Reader {
    consumer: BaseConsumer<Assignments>,
    assignments: Assignments,
    pub values: Vec<String>,
}

impl Reader {
    pub fn new(address: &str, group: &str, topic: &str) -> Self {
        let assignments = Assignments::default();
        let mut config = config(address);
        config
            .set("group.id", group)
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false")
            .set("session.timeout.ms", "6000")
            .set("heartbeat.interval.ms", "200");
        let consumer: BaseConsumer<Assignments> = config.create_with_context(assignments.clone()).unwrap();
        consumer.subscribe(&[topic]).unwrap();
        Self { consumer, assignments, values: Vec::new() }
    }

    /// How often it was given its partitions.
    pub fn assignments(&self) -> usize {
        self.assignments.0.load(Ordering::SeqCst)
    }

    /// Takes the next record if there is one soon.
    pub fn step(&mut self) {
        match self.consumer.poll(Duration::from_millis(20)) {
            Some(Ok(message)) => {
                self.values.push(text(message.payload().unwrap()));
                // What can't be committed now is by a later commit.
                drop(self.consumer.commit_message(&message, CommitMode::Async));
            }
            Some(Err(error)) => eprintln!("a member goes on after: {error}"),
            None => {}
        }
    }

    /// What it has read, without what it read again after it was interrupted.
    pub fn distinct(&self) -> Vec<String> {
        let mut seen = std::collections::BTreeSet::new();
        self.values.iter().filter(|value| seen.insert(*value)).cloned().collect()
    }
}
