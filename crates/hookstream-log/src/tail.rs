//! Follows a compacted topic of one partition from its beginning, for ever.
//!
//! **Position** is the offset that is read next. It counts what is not handed over too: control records of
//! transactions and what compaction took. So "caught up" is a matter of position, never of the last record.

use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use hookstream_types::{Offset, Partition};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use tokio::sync::watch;

use crate::client::{KafkaSettings, PREFETCH_BYTES, Reports, report_through};
use crate::error::KafkaError;
use crate::kafka::Scratch;
use crate::log::RecordRef;
use crate::native::{Code, Polled, Reader};

struct Context {
    reports: Reports,
}
report_through!(Context);
impl ConsumerContext for Context {}

/// How long a read waits for something; also how long a stop takes.
const WAIT: Duration = Duration::from_millis(100);
const RETRY: Duration = Duration::from_millis(500);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// Records between two reports of progress.
const BATCH: usize = 256;

/// How far a tail is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The offset that is read next.
    pub position: Offset,
    /// Where the topic ended when the tail started, once that is known.
    pub end_at_start: Option<Offset>,
}

impl Progress {
    /// Whether everything was read that was there at the start.
    #[must_use]
    pub fn is_caught_up(self) -> bool {
        self.end_at_start.is_some_and(|end| self.position >= end)
    }

    /// Whether every record was handed over of a topic that ends there and that only transactions write.
    ///
    /// The mark that ends a transaction takes an offset too, and that a reader is past it shows only when a fetch has
    /// waited in vain. A single offset before the end can be nothing else: after a record stands the mark of its own.
    #[must_use]
    pub fn is_at(self, end: Offset) -> bool {
        self.position.next() >= end
    }
}

/// A topic that is followed. Dropping it stops that.
pub struct Tail {
    settings: KafkaSettings,
    topic: String,
    partition: Partition,
    end: OnceLock<End>,
    progress: watch::Receiver<Progress>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Tail {
    /// Follows a partition on a thread of its own; only committed records are handed over, in order.
    ///
    /// If the topic is made anew or its log is cut, it is read from its beginning again.
    ///
    /// # Errors
    /// If the settings are not taken or the thread can't be started. An absent broker is waited for.
    pub fn start(
        settings: &KafkaSettings,
        topic: &str,
        partition: Partition,
        on_record: impl FnMut(RecordRef<'_>) + Send + 'static,
    ) -> Result<Self, KafkaError> {
        let name = format!("tail-{topic}");
        let config = settings.reader(true, PREFETCH_BYTES)?;
        let context = Context { reports: Reports::new(name.clone()) };
        let consumer = Arc::new(BaseConsumer::from_config_and_context(&config, context)?);
        let (progress, seen) = watch::channel(Progress { position: Offset(0), end_at_start: None });
        let stop = Arc::new(AtomicBool::new(false));
        let follower = Follower {
            consumer,
            topic: topic.to_owned(),
            partition,
            progress,
            stop: Arc::clone(&stop),
            on_record,
        };
        let thread = std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || follower.run())
            .map_err(|source| KafkaError::Thread { name, source })?;
        let topic = topic.to_owned();
        let (settings, end) = (settings.clone(), OnceLock::new());
        Ok(Self { settings, topic, partition, end, progress: seen, stop, thread: Some(thread) })
    }

    #[must_use]
    pub fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// To wait for progress without holding the tail.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// To ask where the topic ends without holding the tail.
    ///
    /// # Errors
    /// If the settings are not taken.
    pub fn end(&self) -> Result<End, KafkaError> {
        if let Some(end) = self.end.get() {
            return Ok(end.clone());
        }
        let context = Context { reports: Reports::new(format!("end-{}", self.topic)) };
        let config = self.settings.reader(true, PREFETCH_BYTES)?;
        let consumer = Arc::new(BaseConsumer::from_config_and_context(&config, context)?);
        let end = End { consumer, topic: self.topic.clone(), partition: self.partition };
        Ok(self.end.get_or_init(|| end).clone())
    }

    /// Waits until everything was handed over that was there at the start.
    pub async fn caught_up(&self) {
        wait(self.progress.clone(), |progress| progress.is_caught_up()).await;
    }

    /// Waits until everything below `offset` was handed over.
    pub async fn reached(&self, offset: Offset) {
        wait(self.progress.clone(), |progress| progress.position >= offset).await;
    }

    /// Waits until every record was handed over of a topic that ends there and that only transactions write.
    pub async fn at(&self, end: Offset) {
        wait(self.progress.clone(), |progress| progress.is_at(end)).await;
    }
}

impl fmt::Debug for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tail").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// Asks where a topic ends for readers of committed records, with a client of its own: a broker answers the requests of
/// one connection in turn, and on the tail's its fetch waits.
#[derive(Clone)]
pub struct End {
    consumer: Arc<BaseConsumer<Context>>,
    topic: String,
    partition: Partition,
}

impl End {
    /// The end as of now. Blocks for a round trip.
    ///
    /// # Errors
    /// If no broker answers in time.
    pub fn ask(&self) -> Result<Offset, KafkaError> {
        let found = self.consumer.fetch_watermarks(&self.topic, self.partition.0, REQUEST_TIMEOUT);
        found.map(|(_, end)| Offset(end)).map_err(|error| {
            let reason = self.consumer.context().reports.last_error();
            KafkaError::Refused {
                action: format!("ask for the end of `{}`", self.topic),
                reason: reason.unwrap_or_else(|| error.to_string()),
            }
        })
    }
}

impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("End").field("topic", &self.topic).finish_non_exhaustive()
    }
}

async fn wait(mut progress: watch::Receiver<Progress>, done: impl Fn(&Progress) -> bool) {
    if progress.wait_for(|progress| done(progress)).await.is_err() {
        // The thread ends only with the tail, and the tail is borrowed: it panicked in `on_record`.
        std::future::pending::<()>().await;
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic was reported by its thread.
            drop(thread.join());
        }
    }
}

struct Follower<F> {
    consumer: Arc<BaseConsumer<Context>>,
    topic: String,
    partition: Partition,
    progress: watch::Sender<Progress>,
    stop: Arc<AtomicBool>,
    on_record: F,
}

impl<F: FnMut(RecordRef<'_>)> Follower<F> {
    fn run(mut self) {
        let mut scratch = Scratch::default();
        while !self.stopped() {
            if self.progress.borrow().end_at_start.is_none() && !self.find_end() {
                std::thread::park_timeout(RETRY);
                continue;
            }
            if self.follow(&mut scratch) {
                return;
            }
            std::thread::park_timeout(RETRY);
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Asks where the topic ends. The end is that of committed records: the client reads only those.
    fn find_end(&self) -> bool {
        let found = self.consumer.fetch_watermarks(&self.topic, self.partition.0, REQUEST_TIMEOUT);
        self.serve();
        match found {
            Ok((_, end)) => {
                self.progress.send_modify(|progress| progress.end_at_start = Some(Offset(end)));
                true
            }
            Err(error) => {
                if self.consumer.context().reports.due("end") {
                    let reason = self.consumer.context().reports.last_error();
                    let reason = reason.unwrap_or_else(|| error.to_string());
                    tracing::warn!(topic = self.topic, "can't follow the topic yet: {reason}; trying again");
                }
                false
            }
        }
    }

    /// Reads until stopped (true), or until the topic is gone.
    fn follow(&mut self, scratch: &mut Scratch) -> bool {
        let client = Arc::clone(&self.consumer) as Arc<dyn Any + Send + Sync>;
        let native = self.consumer.client().native_ptr();
        let reader = Reader::start(&client, native, &self.topic, self.partition.0, Reader::BEGINNING, || {});
        let Some(reader) = reader else {
            if self.consumer.context().reports.due("start") {
                tracing::error!("can't read the topic `{}`: it can't be one", self.topic);
            }
            return false;
        };
        let mut gone = false;
        while !gone {
            if self.stopped() {
                return true;
            }
            let mut position = None;
            let (on_record, topic) = (&mut self.on_record, &self.topic);
            reader.queue().drain(BATCH, WAIT, &mut |polled| match polled {
                Polled::Record(record) => {
                    position = Some(record.offset().next());
                    scratch.hand_over(&record, on_record);
                }
                Polled::End(offset) => position = Some(offset),
                Polled::Failed(code, text) => {
                    tracing::warn!(topic, "following the topic: {text}");
                    gone |= matches!(
                        code,
                        Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicOrPartition
                    );
                }
            });
            if let Some(position) = position {
                self.progress.send_if_modified(|progress| {
                    let moved = progress.position != position;
                    progress.position = position;
                    moved
                });
            }
            self.serve();
        }
        false
    }

    /// Lets the client report what it has to.
    fn serve(&self) {
        // Errors went to the context; there are no records in the main queue.
        drop(self.consumer.poll(Duration::ZERO));
    }
}
