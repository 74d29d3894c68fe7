//! A core's readers of partitions that no group assigns.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hookstream_types::{Mono, Offset, Partition};
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};

use super::Clock;
use super::assignment::Inbox;
use super::core::{POLL_ANYWAY, Scratch};
use super::helper::{Helper, Job, Key};
use crate::client::{Reports, report_through};
use crate::error::KafkaError;
use crate::log::{Ended, Input, ReadFrom, RecordRef};
use crate::native::{Code, Polled, Reader};

/// The context of a client that only reads.
pub(crate) struct ReaderContext {
    reports: Reports,
}

report_through!(ReaderContext);
impl ConsumerContext for ReaderContext {}

/// A client, and what it reads: a client can read a partition once at a time.
struct Client {
    consumer: Arc<BaseConsumer<ReaderContext>>,
    busy: Arc<Mutex<HashSet<Key>>>,
}

/// A reader that is read; when it is dropped (where that may wait), its client can read the partition again.
struct Running {
    reader: Option<Reader>,
    key: Key,
    busy: Arc<Mutex<HashSet<Key>>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.reader.take());
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

struct Open {
    topic: Arc<str>,
    partition: Partition,
    to: Option<Offset>,
    /// None until it is known where to start, and after the end.
    running: Option<Running>,
    readable: Arc<AtomicBool>,
    polled: Mono,
}

/// What readers are made of.
pub(super) struct Parts {
    pub(super) config: ClientConfig,
    pub(super) name: String,
    pub(super) clock: Clock,
    pub(super) helper: Helper,
    pub(super) inbox: Arc<Inbox>,
}

pub(super) struct Readers {
    config: ClientConfig,
    name: String,
    clock: Clock,
    helper: Helper,
    inbox: Arc<Inbox>,
    clients: Vec<Client>,
    open: HashMap<Input, Open>,
    served: Mono,
}

impl Readers {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { config, name, clock, helper, inbox } = parts;
        Self {
            config,
            name,
            clock,
            helper,
            inbox,
            clients: Vec::new(),
            open: HashMap::new(),
            served: Mono(0),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub(super) fn contains(&self, input: Input) -> bool {
        self.open.contains_key(&input)
    }

    /// Opens a reader; returns how it ended if it did at once.
    pub(super) fn open(
        &mut self,
        input: Input,
        topic: &str,
        partition: Partition,
        from: ReadFrom,
        to: Option<Offset>,
    ) -> Option<Ended> {
        let open = Open {
            topic: Arc::from(topic),
            partition,
            to,
            running: None,
            readable: Arc::new(AtomicBool::new(true)),
            polled: (self.clock)(),
        };
        let topic = Arc::clone(&open.topic);
        self.open.insert(input, open);
        match from {
            ReadFrom::Offset(offset) => self.start(input, offset.0.max(0)),
            ReadFrom::Beginning if to.is_some_and(|to| to.0 <= 0) => Some(Ended::Complete),
            ReadFrom::Beginning => self.start(input, Reader::BEGINNING),
            ReadFrom::Time(at) => {
                let Ok(client) = self.client(&(Arc::clone(&topic), partition)) else {
                    return Some(Ended::Failed);
                };
                let consumer = Arc::clone(&self.clients[client].consumer);
                let inbox = Arc::clone(&self.inbox);
                let job = Job::ReadFrom { consumer, topic, partition, at, input, inbox };
                self.helper.give(job).err().map(|_| Ended::Failed)
            }
        }
    }

    /// It is known where a reader starts (none: it can't be told).
    pub(super) fn on_read_from(&mut self, input: Input, offset: Option<i64>) -> Option<Ended> {
        if !self.open.contains_key(&input) {
            return None;
        }
        match offset {
            Some(offset) => self.start(input, offset),
            None => Some(Ended::Failed),
        }
    }

    fn start(&mut self, input: Input, offset: i64) -> Option<Ended> {
        let open = &self.open[&input];
        if open.to.is_some_and(|to| offset >= to.0) {
            return Some(Ended::Complete);
        }
        let key = (Arc::clone(&open.topic), open.partition);
        let (readable, wake) = (Arc::clone(&open.readable), Arc::clone(&self.inbox.wake));
        let client = match self.client(&key) {
            Ok(client) => &self.clients[client],
            Err(error) => {
                tracing::error!("can't read `{}`: {error}", key.0);
                return Some(Ended::Failed);
            }
        };
        let any = Arc::clone(&client.consumer) as Arc<dyn std::any::Any + Send + Sync>;
        let native = client.consumer.client().native_ptr();
        let reader = Reader::start(&any, native, &key.0, key.1.0, offset, move || {
            readable.store(true, Ordering::Release);
            wake.notify_one();
        });
        let Some(reader) = reader else { return Some(Ended::Failed) };
        client.busy.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
        let running = Running { reader: Some(reader), key, busy: Arc::clone(&client.busy) };
        if let Some(open) = self.open.get_mut(&input) {
            open.running = Some(running);
        }
        None
    }

    /// A client that doesn't read `key`.
    fn client(&mut self, key: &Key) -> Result<usize, KafkaError> {
        let free =
            |client: &Client| !client.busy.lock().unwrap_or_else(PoisonError::into_inner).contains(key);
        if let Some(index) = self.clients.iter().position(free) {
            return Ok(index);
        }
        let context = ReaderContext { reports: Reports::new(self.name.clone()) };
        let consumer = Arc::new(BaseConsumer::from_config_and_context(&self.config, context)?);
        self.clients.push(Client { consumer, busy: Arc::default() });
        Ok(self.clients.len() - 1)
    }

    /// Hands over records; returns how many, and how the reader ended if it did.
    pub(super) fn take(
        &mut self,
        input: Input,
        max: usize,
        scratch: &mut Scratch,
        sink: &mut dyn FnMut(RecordRef<'_>),
    ) -> (usize, Option<Ended>) {
        let now = (self.clock)();
        self.serve(now);
        let Some(open) = self.open.get_mut(&input) else { return (0, None) };
        let Some(running) = &open.running else { return (0, None) };
        let Some(reader) = &running.reader else { return (0, None) };
        if !open.readable.swap(false, Ordering::AcqRel) && now.since(open.polled) < POLL_ANYWAY {
            return (0, None);
        }
        open.polled = now;
        let (mut taken, mut ended) = (0, None);
        let to = open.to.map_or(i64::MAX, |to| to.0);
        let seen = reader.queue().drain(max, Duration::ZERO, &mut |polled| {
            if ended.is_some() {
                return;
            }
            match polled {
                Polled::Record(record) => {
                    let offset = record.offset().0;
                    if offset < to {
                        taken += 1;
                        scratch.hand_over(&record, sink);
                    }
                    if offset >= to - 1 {
                        ended = Some(Ended::Complete);
                    }
                }
                // What is left below `to` are gaps: control records, or what compaction or retention took.
                Polled::End(offset) if offset.0 >= to => ended = Some(Ended::Complete),
                Polled::End(_) => {}
                Polled::Failed(code, text) => {
                    let gone = matches!(
                        code,
                        Code::UnknownTopic
                            | Code::UnknownPartition
                            | Code::UnknownTopicOrPartition
                            | Code::InvalidTopic
                            | Code::TopicAuthorizationFailed
                    );
                    tracing::warn!(topic = &*open.topic, partition = open.partition.0, "reading: {text}");
                    if gone {
                        ended = Some(Ended::Failed);
                    }
                }
            }
        });
        if seen >= max {
            open.readable.store(true, Ordering::Release);
        }
        if ended.is_some() {
            self.stop(input);
        }
        (taken, ended)
    }

    /// Ends a reader.
    pub(super) fn close(&mut self, input: Input) {
        self.stop(input);
        self.open.remove(&input);
    }

    fn stop(&mut self, input: Input) {
        let running = self.open.get_mut(&input).and_then(|open| open.running.take());
        if let Some(running) = running {
            // If the helper is overwhelmed or gone, it is dropped here, which waits for a thread of librdkafka.
            drop(self.helper.give(Job::Drop(Box::new(running))));
        }
    }

    /// Lets the clients report what they have to.
    fn serve(&mut self, now: Mono) {
        if now.since(self.served) < POLL_ANYWAY {
            return;
        }
        self.served = now;
        for client in &self.clients {
            // Errors went to the context; there are no records in a reader's main queue.
            drop(client.consumer.poll(Duration::ZERO));
        }
    }
}
