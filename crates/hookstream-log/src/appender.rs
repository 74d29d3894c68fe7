//! Appends records of many callers at a time, and tells each when its own are durable.
//!
//! For services that answer requests: an idempotent producer with `acks=all`, polled by a thread of its own.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::KafkaError as RdError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, ProducerContext};
use tokio::sync::oneshot;

use crate::client::{KafkaSettings, Reports};
use crate::error::KafkaError;
use crate::log::OutRecord;
use crate::native;

/// How long a record may take. A caller that waits longer knows that nothing lands later.
pub const DELIVERY_TIMEOUT: Duration = Duration::from_secs(8);
/// Requests that come together go together.
const LINGER: Duration = Duration::from_millis(2);
const POLL: Duration = Duration::from_millis(100);

/// Why records are not appended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAppended {
    /// Certainly not, and they never will be.
    #[error("the records were not written: {reason}")]
    Refused { reason: String },
    /// Some may be.
    #[error("whether the records were written is not known: {reason}")]
    Unknown { reason: String },
}

struct Context {
    reports: Reports,
}

impl rdkafka::ClientContext for Context {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, text: &str) {
        self.reports.log(level, facility, text);
    }

    fn error(&self, error: RdError, reason: &str) {
        self.reports.error(&error, reason);
    }
}

/// The error, and whether the record is certainly not there.
type Answer = Result<(), (RdError, bool)>;

impl ProducerContext for Context {
    type DeliveryOpaque = Box<oneshot::Sender<Answer>>;

    fn delivery(&self, result: &DeliveryResult<'_>, answer: Self::DeliveryOpaque) {
        let result = match result {
            Ok(_) => Ok(()),
            Err((error, message)) => Err((error.clone(), native::is_not_persisted(message))),
        };
        // Nobody waits any more: nothing to tell.
        drop(answer.send(result));
    }
}

/// Appends records; shared by all who ask.
pub struct Appender {
    producer: Arc<BaseProducer<Context>>,
    stop: Arc<AtomicBool>,
    poller: Option<JoinHandle<()>>,
}

impl fmt::Debug for Appender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Appender").finish_non_exhaustive()
    }
}

impl Appender {
    /// # Errors
    /// If the settings are not taken or the thread can't be started. An absent broker is an answer to each caller.
    pub fn start(settings: &KafkaSettings) -> Result<Self, KafkaError> {
        let name = "appender".to_owned();
        let config = settings.producer(DELIVERY_TIMEOUT, LINGER)?;
        let context = Context { reports: Reports::new(name.clone()) };
        let producer = Arc::new(BaseProducer::from_config_and_context(&config, context)?);
        let stop = Arc::new(AtomicBool::new(false));
        let poller = {
            let (producer, stop) = (Arc::clone(&producer), Arc::clone(&stop));
            std::thread::Builder::new().name(name.clone()).spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    producer.poll(POLL);
                }
            })
        };
        let poller = poller.map_err(|source| KafkaError::Thread { name, source })?;
        Ok(Self { producer, stop, poller: Some(poller) })
    }

    /// Appends records in their order; returns when all of them are acknowledged by all in-sync replicas.
    ///
    /// # Errors
    /// [`NotAppended`] says whether some may be there.
    pub async fn append(&self, records: &[OutRecord<'_>]) -> Result<(), NotAppended> {
        let mut answers = Vec::with_capacity(records.len());
        let mut refused = None;
        for record in records {
            let (answer, answered) = oneshot::channel();
            match self.send(record, answer) {
                Ok(()) => answers.push(answered),
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            }
        }
        if let (Some(error), true) = (&refused, answers.is_empty()) {
            return Err(NotAppended::Refused { reason: error.to_string() });
        }
        let mut failed = refused;
        let (mut written, mut unsure) = (0, false);
        for answered in answers {
            match answered.await {
                Ok(Ok(())) => written += 1,
                Ok(Err((error, not_there))) => {
                    unsure |= !not_there;
                    failed = Some(error);
                }
                Err(_) => unsure = true,
            }
        }
        match failed {
            None if !unsure => Ok(()),
            Some(error) if !unsure && written == 0 => Err(NotAppended::Refused { reason: error.to_string() }),
            failed => {
                let stopped = || "the producer stopped".to_owned();
                let reason = failed.map_or_else(stopped, |error| error.to_string());
                Err(NotAppended::Unknown { reason })
            }
        }
    }

    fn send(&self, record: &OutRecord<'_>, answer: oneshot::Sender<Answer>) -> Result<(), RdError> {
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for (name, value) in record.headers {
            headers = headers.insert(Header { key: name, value: Some(*value) });
        }
        let mut out = BaseRecord::<[u8], [u8], Box<oneshot::Sender<Answer>>>::with_opaque_to(
            record.topic,
            Box::new(answer),
        )
        .partition(record.partition.0)
        .headers(headers);
        out.key = record.key;
        out.payload = record.value;
        self.producer.send(out).map_err(|(error, _)| error)
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(poller) = self.poller.take() {
            // A panic was reported by its thread.
            drop(poller.join());
        }
    }
}
