//! Writes as the only one: whoever claims a name last writes, and all who claimed it before cannot any more.
//!
//! Kafka's transactional producers do that: claiming bumps the name's epoch and ends what the former claimant had
//! begun. Everything here blocks, so it runs on a thread of its own. [`Writer`] is its simple sister: a group of records
//! at a time too, without a name.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hookstream_types::Offset;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError as RdError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};

use crate::client::{KafkaSettings, Reports};
use crate::error::KafkaError;
use crate::log::OutRecord;

/// How long the broker keeps an open transaction of a writer that is gone; readers wait for it.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a record may take; less than the transaction.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);
const COMMIT_TIMEOUT: Duration = Duration::from_secs(15);
const ABORT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a claim may take before it is tried with another client; each further one gets twice as long.
const FIRST_CLAIM: Duration = Duration::from_millis(150);
/// Where Kafka keeps transactions: a topic that is there for whoever claims.
const TRANSACTION_STATE: &str = "__transaction_state";
/// Between looks for a connection.
const CONNECTING: Duration = Duration::from_millis(5);
/// Deliveries are looked for this often.
const POLL: Duration = Duration::from_millis(1);

/// What became of a group of records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All are in the log, at these offsets, and readers see them.
    Committed { offsets: Vec<Offset> },
    /// None is: somebody else has claimed the name.
    Fenced,
    /// All are, or none: claim the name and read the log to find out. Drop the writer.
    Unknown {
        /// Somebody else has claimed the name meanwhile.
        is_fenced: bool,
    },
    /// None is. Drop the writer.
    NotWritten { reason: String },
}

type Delivered = Vec<(usize, Result<Offset, Code>)>;

struct Context {
    reports: Reports,
    delivered: Mutex<Delivered>,
}

impl rdkafka::ClientContext for Context {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, text: &str) {
        self.reports.log(level, facility, text);
    }

    fn error(&self, error: RdError, reason: &str) {
        self.reports.error(&error, reason);
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        let result = match result {
            Ok(message) => Ok(Offset(message.offset())),
            Err((error, _)) => Err(error.rdkafka_error_code().unwrap_or(Code::Unknown)),
        };
        self.delivered.lock().unwrap_or_else(PoisonError::into_inner).push((index, result));
    }
}

/// Writes groups of records, and waits until all replicas have them.
pub struct Writer {
    producer: BaseProducer<Context>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl Writer {
    /// # Errors
    /// If the settings are not taken.
    pub fn open(settings: &KafkaSettings) -> Result<Self, KafkaError> {
        let mut config = settings.producer(DELIVERY_TIMEOUT, Duration::from_millis(1))?;
        // A group is handed over as a whole: nothing is to be waited for.
        config.set("linger.ms", "0");
        let context = Context { reports: Reports::new("writer"), delivered: Mutex::default() };
        Ok(Self { producer: BaseProducer::from_config_and_context(&config, context)? })
    }

    /// Writes `records`, and returns where they are.
    ///
    /// # Errors
    /// [`KafkaError::Refused`] if one of them was not acknowledged; the others may be there.
    pub fn write(&mut self, records: &[OutRecord<'_>]) -> Result<Vec<Offset>, KafkaError> {
        self.send_all(records).map_err(|error| KafkaError::Refused {
            action: format!("write {} records", records.len()),
            reason: error.to_string(),
        })
    }

    fn send_all(&mut self, records: &[OutRecord<'_>]) -> Result<Vec<Offset>, RdError> {
        self.producer.context().delivered.lock().unwrap_or_else(PoisonError::into_inner).clear();
        for (index, record) in records.iter().enumerate() {
            self.send(index, record)?;
        }
        self.deliveries(records.len())
    }

    fn send(&self, index: usize, record: &OutRecord<'_>) -> Result<(), RdError> {
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for (name, value) in record.headers {
            headers = headers.insert(Header { key: name, value: Some(*value) });
        }
        let mut out = BaseRecord::<[u8], [u8], usize>::with_opaque_to(record.topic, index)
            .partition(record.partition.0)
            .headers(headers);
        out.key = record.key;
        out.payload = record.value;
        self.producer.send(out).map_err(|(error, _)| error)
    }

    /// Waits for all deliveries; counted here, because the crate's flush takes 100 ms when anything is in flight.
    fn deliveries(&self, count: usize) -> Result<Vec<Offset>, RdError> {
        let by = Instant::now() + DELIVERY_TIMEOUT + POLL;
        loop {
            let delivered: Delivered = {
                let mut delivered =
                    self.producer.context().delivered.lock().unwrap_or_else(PoisonError::into_inner);
                if delivered.len() < count { Vec::new() } else { std::mem::take(&mut *delivered) }
            };
            if count == 0 || !delivered.is_empty() {
                let mut offsets = vec![Offset(-1); count];
                for (index, result) in delivered {
                    offsets[index] = result.map_err(RdError::MessageProduction)?;
                }
                return Ok(offsets);
            }
            if Instant::now() >= by {
                return Err(RdError::MessageProduction(Code::MessageTimedOut));
            }
            self.producer.poll(POLL);
        }
    }
}

/// A client that is connected, so that its claim takes a moment.
pub struct Claimant {
    settings: KafkaSettings,
    transactional_id: String,
    producer: BaseProducer<Context>,
}

impl Claimant {
    /// Connects, and claims nothing. If no broker answers within `timeout`, the claim will say so.
    ///
    /// # Errors
    /// If the settings are not taken.
    pub fn prepare(
        settings: &KafkaSettings,
        transactional_id: &str,
        timeout: Duration,
    ) -> Result<Self, KafkaError> {
        let mut config = settings.producer(DELIVERY_TIMEOUT, Duration::from_millis(1))?;
        config.set("transactional.id", transactional_id);
        config.set("transaction.timeout.ms", TRANSACTION_TIMEOUT.as_millis().to_string());
        config.set("linger.ms", "0");
        let context = Context { reports: Reports::new(transactional_id), delivered: Mutex::default() };
        let producer = BaseProducer::from_config_and_context(&config, context)?;
        // A claim of a client that has no connection to a broker whose id it knows takes half a second: it looks for its
        // coordinator, finds no way to it, and looks again then.
        let by = Instant::now() + timeout;
        loop {
            let left = by.saturating_duration_since(Instant::now());
            let found = producer.client().fetch_metadata(Some(TRANSACTION_STATE), left);
            if left.is_zero() || found.is_ok_and(|metadata| metadata.orig_broker_id() >= 0) {
                break;
            }
            std::thread::sleep(CONNECTING);
        }
        Ok(Self { settings: settings.clone(), transactional_id: transactional_id.to_owned(), producer })
    }

    /// Claims the name. When this returns, no earlier claimant can write any more, and what it had begun is either
    /// committed or never will be: read the log to its end before deciding anything.
    ///
    /// # Errors
    /// If it takes longer than `timeout`, or the broker refuses.
    pub fn claim(mut self, timeout: Duration) -> Result<FencedWriter, KafkaError> {
        let by = Instant::now() + timeout;
        let left = || by.saturating_duration_since(Instant::now());
        let mut patience = FIRST_CLAIM;
        loop {
            match self.producer.init_transactions(patience.min(left())) {
                Ok(()) => return Ok(FencedWriter { writer: Writer { producer: self.producer } }),
                // The coordinator moves, or ends what the former claimant had begun. A client that is refused for that asks
                // again after half a second, and a new one at once.
                Err(RdError::Transaction(error)) if error.is_retriable() && !left().is_zero() => {
                    patience *= 2;
                    self = Self::prepare(&self.settings, &self.transactional_id, left())?;
                }
                Err(error) => return Err(self.not_claimed(&error)),
            }
        }
    }

    fn not_claimed(&self, error: &RdError) -> KafkaError {
        self.producer.poll(Duration::ZERO);
        let reason = self.producer.context().reports.last_error().unwrap_or_else(|| error.to_string());
        match error.rdkafka_error_code() {
            Some(Code::OperationTimedOut | Code::BrokerTransportFailure | Code::AllBrokersDown) => {
                KafkaError::NoBroker { bootstrap_servers: self.settings.bootstrap_servers.clone(), reason }
            }
            _ => KafkaError::Refused {
                action: format!("claim `{}`", self.transactional_id),
                reason: error.to_string(),
            },
        }
    }
}

impl fmt::Debug for Claimant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claimant").field("transactional_id", &self.transactional_id).finish_non_exhaustive()
    }
}

/// The writer that has claimed a name.
#[derive(Debug)]
pub struct FencedWriter {
    writer: Writer,
}

impl FencedWriter {
    /// Connects and claims a name.
    ///
    /// # Errors
    /// As [`Claimant::claim`].
    pub fn claim(
        settings: &KafkaSettings,
        transactional_id: &str,
        timeout: Duration,
    ) -> Result<Self, KafkaError> {
        let by = Instant::now() + timeout;
        let claimant = Claimant::prepare(settings, transactional_id, timeout)?;
        claimant.claim(by.saturating_duration_since(Instant::now()))
    }

    /// Writes all of `records` or none. After anything but [`Outcome::Committed`] the writer is of no use.
    #[must_use]
    pub fn write(&mut self, records: &[OutRecord<'_>]) -> Outcome {
        if let Err(error) = self.writer.producer.begin_transaction() {
            return not_written(&error);
        }
        let offsets = match self.writer.send_all(records) {
            Ok(offsets) => offsets,
            Err(error) => return self.abort(&error),
        };
        // Nothing is in flight, so this does not run into the crate's slow flush.
        match self.writer.producer.commit_transaction(COMMIT_TIMEOUT) {
            Ok(()) => Outcome::Committed { offsets },
            Err(error) => {
                // Whatever the error: the commit may have been carried out before it.
                tracing::debug!("the outcome of a transaction is not known: {error}");
                Outcome::Unknown { is_fenced: is_fenced(&error) }
            }
        }
    }

    /// Gives the transaction up. It was not committed, so nothing of it will ever be seen, even if the abort fails.
    fn abort(&self, error: &RdError) -> Outcome {
        let outcome = not_written(error);
        if outcome != Outcome::Fenced
            && let Err(error) = self.writer.producer.abort_transaction(ABORT_TIMEOUT)
        {
            if is_fenced(&error) {
                return Outcome::Fenced;
            }
            tracing::warn!("can't abort a transaction: {error}; the broker will");
        }
        outcome
    }
}

fn not_written(error: &RdError) -> Outcome {
    if is_fenced(error) { Outcome::Fenced } else { Outcome::NotWritten { reason: error.to_string() } }
}

fn is_fenced(error: &RdError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::Fenced
                | Code::InvalidProducerEpoch
                | Code::ProducerFenced
                | Code::TransactionCoordinatorFenced
        )
    )
}
