//! A core's idempotent producer.
//!
//! **One batch at a time per partition.** librdkafka lets an idempotent producer have no more than five *messages* of
//! a partition in flight before it holds back the next request, and while it holds back records whose `linger.ms` is
//! over, the broker's thread does not sleep but spins (`rd_kafka_toppar_producer_serve` sets a wake-up time that has
//! passed). So records are kept here until the partition's last batch is answered, and then handed over together:
//! the busier a partition, the larger its batches, and nobody spins.
//!
//! **A record's whole life fits into the time-out**, the wait here included: the lease rests on nothing landing later.
//! So a part of the time-out is for waiting, the rest is librdkafka's, and who has waited longer is not handed over.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hookstream_types::{Offset, Partition, UnixMillis};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError as RdError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, Message, OwnedHeaders, Timestamp};
use rdkafka::producer::{
    BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext, PurgeConfig,
};
use rustc_hash::FxHashMap;
use tokio::sync::Notify;

use crate::client::{KafkaSettings, Reports};
use crate::error::KafkaError;
use crate::log::{Ack, Full, LogEvent, OutRecord, ProduceError, Token};
use crate::native::Queue;

/// A record's number at this producer: it travels through librdkafka in place of a pointer. Tokens don't, because
/// several records may have the same.
type Number = usize;

/// What librdkafka calls back; all of it while the core polls.
struct Context {
    reports: Reports,
    delivered: Mutex<VecDeque<(Number, Result<Ack, ProduceError>)>>,
    /// The producer can do nothing more.
    fatal: AtomicBool,
}

impl rdkafka::ClientContext for Context {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, text: &str) {
        self.reports.log(level, facility, text);
    }

    fn error(&self, error: RdError, reason: &str) {
        if matches!(error, RdError::Global(Code::Fatal)) {
            self.fatal.store(true, Ordering::Relaxed);
        }
        self.reports.error(&error, reason);
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: Number) {
        self.reports.served.fetch_add(1, Ordering::Relaxed);
        let outcome = match result {
            Ok(message) => Ok(Ack {
                offset: Offset(message.offset()),
                appended_at: match message.timestamp() {
                    Timestamp::LogAppendTime(millis) => Some(UnixMillis(millis)),
                    Timestamp::CreateTime(_) | Timestamp::NotAvailable => None,
                },
            }),
            Err((error, message)) => {
                if matches!(error, RdError::MessageProduction(Code::Fatal)) {
                    self.fatal.store(true, Ordering::Relaxed);
                }
                let why = classify(error);
                if self.reports.due("produce") {
                    tracing::warn!(
                        topic = message.topic(),
                        partition = message.partition(),
                        "a record was not acknowledged: {error}"
                    );
                }
                Err(why)
            }
        };
        self.delivered.lock().unwrap_or_else(PoisonError::into_inner).push_back((number, outcome));
    }
}

/// What an error means for the record.
fn classify(error: &RdError) -> ProduceError {
    let RdError::MessageProduction(code) = error else { return ProduceError::Unknown };
    match code {
        Code::MessageSizeTooLarge
        | Code::MessageBatchTooLarge
        | Code::InvalidMessageSize
        | Code::InvalidRecord => ProduceError::TooLarge,
        Code::UnknownTopic
        | Code::UnknownPartition
        | Code::UnknownTopicOrPartition
        | Code::InvalidTopic
        | Code::TopicAuthorizationFailed
        | Code::ClusterAuthorizationFailed => ProduceError::Refused,
        _ => ProduceError::Unknown,
    }
}

/// A client and its wake-up.
struct Client {
    /// Before the producer: dropping it takes the wake-up away.
    _main: Queue,
    producer: Arc<BaseProducer<Context>>,
}

/// Records and bytes that may wait here.
const MAX_WAITING: usize = 50_000;
const MAX_WAITING_BYTES: usize = 32 * 1024 * 1024;

/// The part of the time-out that a record may wait here: one in so many.
const WAIT_PART: u32 = 4;

/// A record that waits for the batch before it.
struct Waiting {
    since: Instant,
    token: Token,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Option<OwnedHeaders>,
}

impl Waiting {
    fn bytes(&self) -> usize {
        let len = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        len(&self.key) + len(&self.value)
    }
}

/// One partition's records.
struct Batches {
    topic: Arc<str>,
    partition: Partition,
    /// Handed over and not answered.
    in_flight: usize,
    waiting: VecDeque<Waiting>,
}

/// Where a partition's batches are in [`Producer::batches`].
type Index = usize;

/// Appends records, and tells what became of each, exactly once.
pub(super) struct Producer {
    settings: KafkaSettings,
    name: String,
    timeout: Duration,
    linger: Duration,
    wake: Arc<Notify>,
    client: Client,
    /// The client is purged and will be replaced when all of its records are answered.
    failing: bool,
    batches: Vec<Batches>,
    /// By topic and partition.
    index: FxHashMap<Arc<str>, FxHashMap<Partition, Index>>,
    /// Partitions whose next batch can be handed over.
    ready: Vec<Index>,
    /// Handed over and not answered.
    sent: FxHashMap<Number, (Token, Index)>,
    next: Number,
    waiting: usize,
    waiting_bytes: usize,
    /// Outcomes that are known without a broker.
    local: VecDeque<(Token, ProduceError)>,
}

impl Producer {
    pub(super) fn new(
        settings: KafkaSettings,
        name: String,
        (timeout, linger): (Duration, Duration),
        wake: Arc<Notify>,
    ) -> Result<Self, KafkaError> {
        let client = connect(&settings, &name, (timeout, linger), &wake)?;
        Ok(Self {
            settings,
            name,
            timeout,
            linger,
            wake,
            client,
            failing: false,
            batches: Vec::new(),
            index: FxHashMap::default(),
            ready: Vec::new(),
            sent: FxHashMap::default(),
            next: 0,
            waiting: 0,
            waiting_bytes: 0,
            local: VecDeque::new(),
        })
    }

    pub(super) fn in_flight(&self) -> usize {
        self.sent.len() + self.waiting
    }

    /// Takes a record, which goes out with [`Producer::flush`].
    pub(super) fn produce(&mut self, token: Token, record: OutRecord<'_>) -> Result<(), Full> {
        if self.failing || self.waiting >= MAX_WAITING || self.waiting_bytes >= MAX_WAITING_BYTES {
            return Err(Full);
        }
        let mut headers = None;
        if !record.headers.is_empty() {
            let mut owned = OwnedHeaders::new_with_capacity(record.headers.len());
            for (name, value) in record.headers {
                owned = owned.insert(Header { key: name, value: Some(*value) });
            }
            headers = Some(owned);
        }
        let waiting = Waiting {
            since: Instant::now(),
            token,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers,
        };
        let index = self.index(record.topic, record.partition);
        let batches = &mut self.batches[index];
        if batches.in_flight == 0 && batches.waiting.is_empty() {
            self.ready.push(index);
        }
        self.waiting += 1;
        self.waiting_bytes += waiting.bytes();
        batches.waiting.push_back(waiting);
        Ok(())
    }

    fn index(&mut self, topic: &str, partition: Partition) -> Index {
        if let Some(index) = self.index.get(topic).and_then(|partitions| partitions.get(&partition)) {
            return *index;
        }
        let name =
            self.index.get_key_value(topic).map_or_else(|| Arc::from(topic), |(name, _)| Arc::clone(name));
        let index = self.batches.len();
        self.index.entry(Arc::clone(&name)).or_default().insert(partition, index);
        self.batches.push(Batches { topic: name, partition, in_flight: 0, waiting: VecDeque::new() });
        index
    }

    /// Hands over what has waited for its partition's last batch, and what was produced since.
    pub(super) fn flush(&mut self) {
        if self.failing {
            return;
        }
        self.expire();
        let mut full = Vec::new();
        while let Some(index) = self.ready.pop() {
            while let Some(waiting) = self.batches[index].waiting.pop_front() {
                let bytes = waiting.bytes();
                if let Err(waiting) = self.hand_over(index, waiting) {
                    self.batches[index].waiting.push_front(waiting);
                    if self.batches[index].in_flight == 0 {
                        full.push(index);
                    }
                    break;
                }
                self.waiting -= 1;
                self.waiting_bytes -= bytes;
            }
        }
        self.ready = full;
    }

    /// Answers those that have waited too long: stopped in between, we may have lost what let us produce them.
    fn expire(&mut self) {
        if self.waiting == 0 {
            return;
        }
        let (now, longest) = (Instant::now(), self.timeout / WAIT_PART);
        for batches in &mut self.batches {
            // They are in order, so the first is the oldest.
            while let Some(waiting) =
                batches.waiting.pop_front_if(|waiting| now.duration_since(waiting.since) >= longest)
            {
                self.waiting -= 1;
                self.waiting_bytes -= waiting.bytes();
                self.local.push_back((waiting.token, ProduceError::Unknown));
            }
        }
        if !self.local.is_empty() {
            self.wake.notify_one();
        }
    }

    fn hand_over(&mut self, index: Index, waiting: Waiting) -> Result<(), Waiting> {
        let Batches { topic, partition, in_flight, .. } = &mut self.batches[index];
        let Waiting { since, token, key, value, headers } = waiting;
        self.next = self.next.wrapping_add(1);
        let mut out =
            BaseRecord::<[u8], [u8], Number>::with_opaque_to(topic, self.next).partition(partition.0);
        out.key = key.as_deref();
        out.payload = value.as_deref();
        out.headers = headers;
        match self.client.producer.send(out) {
            Ok(()) => {
                *in_flight += 1;
                self.sent.insert(self.next, (token, index));
                Ok(())
            }
            Err((RdError::MessageProduction(Code::QueueFull), out)) => {
                let headers = out.headers;
                Err(Waiting { since, token, key, value, headers })
            }
            Err((error, _)) => {
                if matches!(error, RdError::MessageProduction(Code::Fatal)) {
                    self.client.producer.context().fatal.store(true, Ordering::Relaxed);
                }
                // A topic's name with a zero byte is the only other error: no such topic can exist.
                let why =
                    if matches!(error, RdError::Nul(_)) { ProduceError::Refused } else { classify(&error) };
                self.local.push_back((token, why));
                self.wake.notify_one();
                Ok(())
            }
        }
    }

    pub(super) fn next_event(&mut self) -> Option<LogEvent> {
        if let Some((token, why)) = self.local.pop_front() {
            return Some(LogEvent::Produced { token, result: Err(why) });
        }
        let context = Arc::clone(self.client.producer.context());
        let mut outcome = pop(&context);
        if outcome.is_none() {
            // One poll serves one event; they come in batches, so all of them are served.
            loop {
                let served = context.reports.served.load(Ordering::Relaxed);
                self.client.producer.poll(Duration::ZERO);
                if context.reports.served.load(Ordering::Relaxed) == served {
                    break;
                }
            }
            outcome = pop(&context);
        }
        if context.fatal.load(Ordering::Relaxed) {
            self.replace();
        }
        let (number, result) = outcome?;
        let (token, index) = self.sent.remove(&number)?;
        let batches = &mut self.batches[index];
        batches.in_flight -= 1;
        if batches.in_flight == 0 && !batches.waiting.is_empty() {
            self.ready.push(index);
        }
        Some(LogEvent::Produced { token, result })
    }

    /// After a fatal error: everything outstanding is answered with "unknown", then there is another client.
    fn replace(&mut self) {
        if !self.failing {
            self.failing = true;
            let reason =
                self.client.producer.client().fatal_error().map(|(_, reason)| reason).unwrap_or_default();
            tracing::error!(
                producer = self.name.as_str(),
                "a fatal producer error; starting another producer: {reason}"
            );
            self.client.producer.purge(PurgeConfig::default().queue().inflight());
            // What was not handed over is answered like what was.
            self.ready.clear();
            for batches in &mut self.batches {
                let unsent = batches.waiting.drain(..).map(|waiting| (waiting.token, ProduceError::Unknown));
                self.local.extend(unsent);
            }
            (self.waiting, self.waiting_bytes) = (0, 0);
        }
        if !self.sent.is_empty() {
            self.wake.notify_one();
            return;
        }
        match connect(&self.settings, &self.name, (self.timeout, self.linger), &self.wake) {
            Ok(client) => {
                let old = std::mem::replace(&mut self.client, client);
                self.failing = false;
                // Dropping it waits for its threads. If there is no thread for that, the closure is dropped here.
                drop(std::thread::Builder::new().name("producer-drop".to_owned()).spawn(move || drop(old)));
            }
            Err(error) => {
                if self.client.producer.context().reports.due("replace") {
                    tracing::error!(producer = self.name.as_str(), "can't start another producer: {error}");
                }
            }
        }
    }
}

fn pop(context: &Context) -> Option<(Number, Result<Ack, ProduceError>)> {
    context.delivered.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
}

fn connect(
    settings: &KafkaSettings,
    name: &str,
    (timeout, linger): (Duration, Duration),
    wake: &Arc<Notify>,
) -> Result<Client, KafkaError> {
    let context =
        Context { reports: Reports::new(name), delivered: Mutex::default(), fatal: AtomicBool::new(false) };
    let config = settings.producer(timeout - timeout / WAIT_PART, linger)?;
    let producer = Arc::new(BaseProducer::from_config_and_context(&config, context)?);
    let mut main = Queue::main(Arc::clone(&producer) as _, producer.client().native_ptr());
    let wake = Arc::clone(wake);
    main.set_wake(move || wake.notify_one());
    Ok(Client { _main: main, producer })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fatal error is librdkafka's last word about a producer; the core must not notice more than unknown
    /// outcomes.
    #[test]
    fn a_fatal_error_leaves_nothing_unanswered_and_is_not_the_end() {
        let cluster = rdkafka::mocking::MockCluster::new(1).unwrap();
        cluster.create_topic("t", 1, 1).unwrap();
        let settings = KafkaSettings {
            bootstrap_servers: cluster.bootstrap_servers(),
            client_id: "test".to_owned(),
            properties: vec![("linger.ms".to_owned(), "1000".to_owned())],
        };
        let wake = Arc::new(Notify::new());
        let mut producer =
            Producer::new(settings, "test".to_owned(), (Duration::from_secs(4), Duration::ZERO), wake)
                .unwrap();
        let record =
            OutRecord { topic: "t", partition: Partition(0), key: None, value: Some(b"v"), headers: &[] };
        let mut answers = std::collections::BTreeMap::new();
        let mut collect = |producer: &mut Producer, count: usize| {
            let by = Instant::now() + Duration::from_secs(20);
            while answers.len() < count {
                assert!(Instant::now() < by, "{answers:?}");
                producer.flush();
                while let Some(LogEvent::Produced { token, result }) = producer.next_event() {
                    assert!(answers.insert(token, result).is_none());
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            answers.clone()
        };
        for token in 0..10 {
            producer.produce(token, record).unwrap();
        }
        producer.flush();
        let native = producer.client.producer.client().native_ptr();
        #[expect(unsafe_code, reason = "the crate does not bind the test hook")]
        // SAFETY: the client is alive, and the reason is a C string.
        unsafe {
            let code = rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
            rdkafka::bindings::rd_kafka_test_fatal_error(native, code, c"a test".as_ptr());
        }
        let answered = collect(&mut producer, 10);
        assert!(answered.values().all(|result| matches!(result, Ok(_) | Err(ProduceError::Unknown))));
        let by = Instant::now() + Duration::from_secs(20);
        while producer.produce(10, record).is_err() {
            assert!(Instant::now() < by, "another producer takes over");
            assert!(producer.next_event().is_none());
        }
        let answered = collect(&mut producer, 11);
        assert!(answered[&10].is_ok() || answered[&10] == Err(ProduceError::Unknown));
        producer.produce(11, record).unwrap();
        assert!(collect(&mut producer, 12)[&11].is_ok());
    }

    #[test]
    fn who_has_waited_too_long_is_not_sent_any_more() {
        let settings = KafkaSettings {
            bootstrap_servers: "127.0.0.1:1".to_owned(),
            client_id: "test".to_owned(),
            properties: Vec::new(),
        };
        let timeout = Duration::from_secs(8);
        let mut producer =
            Producer::new(settings, "test".to_owned(), (timeout, Duration::ZERO), Arc::new(Notify::new()))
                .unwrap();
        let record =
            OutRecord { topic: "t", partition: Partition(0), key: None, value: Some(b"v"), headers: &[] };
        producer.produce(1, record).unwrap();
        producer.flush();
        producer.produce(2, record).unwrap();
        let age = |producer: &mut Producer, by: Duration| {
            for waiting in producer.batches.iter_mut().flat_map(|batches| &mut batches.waiting) {
                waiting.since = waiting.since.checked_sub(by).unwrap();
            }
            producer.flush();
            producer.next_event()
        };
        let early = age(&mut producer, timeout / (2 * WAIT_PART));
        assert!(early.is_none(), "{early:?}");
        assert_eq!(producer.in_flight(), 2);
        let late = age(&mut producer, timeout / (2 * WAIT_PART));
        assert!(
            matches!(late, Some(LogEvent::Produced { token: 2, result: Err(ProduceError::Unknown) })),
            "{late:?}"
        );
        assert_eq!((producer.in_flight(), producer.waiting_bytes), (1, 0), "only the first was handed over");
    }

    #[test]
    fn only_what_the_broker_never_takes_is_too_large() {
        let of = |code| classify(&RdError::MessageProduction(code));
        assert_eq!(of(Code::MessageSizeTooLarge), ProduceError::TooLarge);
        assert_eq!(of(Code::InvalidRecord), ProduceError::TooLarge);
        assert_eq!(of(Code::UnknownTopicOrPartition), ProduceError::Refused);
        assert_eq!(of(Code::MessageTimedOut), ProduceError::Unknown);
        assert_eq!(of(Code::NotEnoughReplicas), ProduceError::Unknown);
    }
}
