//! How every client is configured, and what it reports.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hookstream_types::limits;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError as RdError, RDKafkaErrorCode};

use crate::error::KafkaError;

/// How to reach Kafka.
#[derive(Clone)]
pub struct KafkaSettings {
    /// `host:port`, separated by commas.
    pub bootstrap_servers: String,
    pub client_id: String,
    /// Further properties of librdkafka: TLS, SASL and the like.
    pub properties: Vec<(String, String)>,
}

impl fmt::Debug for KafkaSettings {
    /// Without the properties' values: some are passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSettings")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("client_id", &self.client_id)
            .field("properties", &self.properties.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .finish()
    }
}

/// What correctness rests on, and so is nobody's to configure.
const RESERVED: &[&str] = &[
    "acks",
    "allow.auto.create.topics",
    "auto.offset.reset",
    "bootstrap.servers",
    "check.crcs",
    "client.id",
    "delivery.timeout.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "group.protocol",
    "heartbeat.interval.ms",
    "isolation.level",
    "max.poll.interval.ms",
    "message.timeout.ms",
    "metadata.broker.list",
    "partition.assignment.strategy",
    "request.required.acks",
    "session.timeout.ms",
    "transaction.timeout.ms",
    "transactional.id",
];

impl KafkaSettings {
    fn base(&self) -> Result<ClientConfig, KafkaError> {
        let mut config = ClientConfig::new();
        // Soon back after a broker restarted: the default waits up to 10 s.
        config.set("reconnect.backoff.max.ms", "2000");
        config.set("socket.keepalive.enable", "true");
        for (name, value) in &self.properties {
            if RESERVED.contains(&name.as_str()) {
                return Err(KafkaError::Reserved { property: name.clone() });
            }
            // Only consumers know it, and others would warn of it.
            if name != FETCH_WAIT {
                config.set(name, value);
            }
        }
        config.set("bootstrap.servers", &self.bootstrap_servers);
        config.set("client.id", &self.client_id);
        config.set_log_level(RDKafkaLogLevel::Warning);
        Ok(config)
    }

    /// For requests only: metadata, offsets, administration.
    pub(crate) fn plain(&self) -> Result<ClientConfig, KafkaError> {
        self.base()
    }

    fn fetching(&self, read_committed: bool, prefetch_bytes: usize) -> Result<ClientConfig, KafkaError> {
        let mut config = self.base()?;
        config.set("enable.auto.commit", "false");
        config.set("enable.auto.offset.store", "false");
        // Retention that passed a reader costs what it deleted, and not what is left as well.
        config.set("auto.offset.reset", "earliest");
        config.set("isolation.level", if read_committed { "read_committed" } else { "read_uncommitted" });
        config.set("check.crcs", "true");
        config.set("allow.auto.create.topics", "false");
        config.set("topic.metadata.refresh.interval.ms", "10000");
        // Each partition has these bounds for itself. The first is looked at before a fetch, and the second counts
        // what is fetched as it was compressed, so a queue can grow by that times the compression beyond the first.
        config.set("queued.max.messages.kbytes", (prefetch_bytes / 1024).max(1).to_string());
        config.set("fetch.message.max.bytes", (prefetch_bytes / 8).max(1024).to_string());
        // Small records weigh more than their bytes.
        config.set("queued.min.messages", (prefetch_bytes / 512).max(100).to_string());
        // The default of 1 s would cap the throughput at a queue a second.
        config.set("fetch.queue.backoff.ms", "5");
        config.set("fetch.error.backoff.ms", "100");
        // Records come at once anyway; the end of a topic is told, and new partitions are asked for, so much later.
        config.set(FETCH_WAIT, "100");
        Ok(config)
    }

    /// For a member of a consumer group.
    pub(crate) fn member(
        &self,
        group: &str,
        read_committed: bool,
        prefetch_bytes: usize,
    ) -> Result<ClientConfig, KafkaError> {
        let mut config = self.fetching(read_committed, prefetch_bytes)?;
        config.set("group.id", group);
        if let Some((_, wait)) = self.properties.iter().find(|(name, _)| name == FETCH_WAIT) {
            config.set(FETCH_WAIT, wait);
        }
        config.set("partition.assignment.strategy", "cooperative-sticky");
        config.set("session.timeout.ms", limits::SESSION_TIMEOUT.as_millis().to_string());
        // Who takes over learns of it with a heartbeat, after the session has ended.
        config.set("heartbeat.interval.ms", "1000");
        // How long the others wait for this member in a rebalance: longer than it drains.
        config.set("max.poll.interval.ms", MAX_POLL_INTERVAL.as_millis().to_string());
        Ok(config)
    }

    /// For readers that no group assigns.
    pub(crate) fn reader(
        &self,
        read_committed: bool,
        prefetch_bytes: usize,
    ) -> Result<ClientConfig, KafkaError> {
        let mut config = self.fetching(read_committed, prefetch_bytes)?;
        config.set("enable.partition.eof", "true");
        Ok(config)
    }

    /// For an idempotent producer that gives up a record after `timeout`.
    pub(crate) fn producer(&self, timeout: Duration, linger: Duration) -> Result<ClientConfig, KafkaError> {
        let mut config = self.base()?;
        config.set("enable.idempotence", "true");
        config.set("acks", "all");
        config.set("linger.ms", linger.as_millis().to_string());
        config.set("compression.type", "lz4");
        config.set("partitioner", "murmur2_random");
        config.set("allow.auto.create.topics", "false");
        config.set("message.timeout.ms", timeout.as_millis().to_string());
        // A record of the largest size passes here and is judged by its topic.
        config.set("message.max.bytes", (limits::MAX_RECORD_BYTES + PRODUCER_HEADROOM).to_string());
        // A topic's `max.message.bytes` bounds a batch, not a record: a batch must not grow past it.
        config.set("batch.size", (limits::MAX_RECORD_BYTES - PRODUCER_HEADROOM).to_string());
        config.set("queue.buffering.max.messages", "100000");
        config.set("queue.buffering.max.kbytes", "65536");
        // Else an unknown topic looks for 30 s like one that was just made.
        config.set("topic.metadata.propagation.max.ms", (timeout.as_millis() / 2).min(10_000).to_string());
        config.set("retry.backoff.ms", "20");
        Ok(config)
    }
}

/// The rebalance time-out; a drain must be over before it.
pub(crate) const MAX_POLL_INTERVAL: Duration = Duration::from_secs(60);
/// How much of a partition is fetched ahead, unless told otherwise.
pub(crate) const PREFETCH_BYTES: usize = 1024 * 1024;
/// What is subscribed to while there is nothing to read: no topic has an empty name, and a client that subscribes to
/// nothing leaves its group.
pub(crate) const NO_TOPIC: &str = "^$";
/// An operator may give members of groups a longer one, for fewer requests while nothing happens.
const FETCH_WAIT: &str = "fetch.wait.max.ms";
/// Room for what Kafka's record format adds.
const PRODUCER_HEADROOM: usize = 16 * 1024;
/// The same report comes at most so often.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// Passes on what a client reports, without its repetitions, and remembers the last error for messages.
#[derive(Debug)]
pub(crate) struct Reports {
    name: String,
    seen: Mutex<HashMap<String, Instant>>,
    last: Mutex<Option<String>>,
    /// How often librdkafka had something to say: tells whether polling served anything.
    pub(crate) served: AtomicU64,
}

impl Reports {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), seen: Mutex::default(), last: Mutex::default(), served: AtomicU64::new(0) }
    }

    /// Whether it is time to say `what` again.
    pub(crate) fn due(&self, what: &str) -> bool {
        let now = Instant::now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|_, at| now.duration_since(*at) < REPORT_INTERVAL);
        if seen.contains_key(what) {
            return false;
        }
        seen.insert(what.to_owned(), now);
        true
    }

    pub(crate) fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.served.fetch_add(1, Ordering::Relaxed);
        let client = self.name.as_str();
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => {
                if self.due(facility) {
                    tracing::warn!(target: "librdkafka", client, facility, "{text}");
                }
            }
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                tracing::info!(target: "librdkafka", client, facility, "{text}");
            }
            RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", client, facility, "{text}"),
        }
    }

    pub(crate) fn error(&self, error: &RdError, reason: &str) {
        self.served.fetch_add(1, Ordering::Relaxed);
        let code = match error {
            RdError::Global(code) => *code,
            _ => RDKafkaErrorCode::Unknown,
        };
        // Reaching the end of a partition is reported as an error.
        if code == RDKafkaErrorCode::PartitionEOF {
            return;
        }
        // That nothing is there of nothing is no news.
        if code == RDKafkaErrorCode::UnknownTopicOrPartition && reason.contains(NO_TOPIC) {
            return;
        }
        // "All brokers down" says less than the connection error before it.
        if code != RDKafkaErrorCode::AllBrokersDown {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
        }
        if self.due(reason) {
            tracing::warn!(client = self.name.as_str(), "Kafka: {reason}");
        }
    }

    /// The last error, for a message that says why.
    pub(crate) fn last_error(&self) -> Option<String> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Forwards a client's reports to the `reports` field of its context.
macro_rules! report_through {
    ($context:ty) => {
        impl rdkafka::ClientContext for $context {
            fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, text: &str) {
                self.reports.log(level, facility, text);
            }

            fn error(&self, error: rdkafka::error::KafkaError, reason: &str) {
                self.reports.error(&error, reason);
            }
        }
    };
}
pub(crate) use report_through;

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(properties: &[(&str, &str)]) -> KafkaSettings {
        KafkaSettings {
            bootstrap_servers: "127.0.0.1:1".to_owned(),
            client_id: "test".to_owned(),
            properties: properties.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        }
    }

    #[test]
    fn what_correctness_rests_on_is_reserved() {
        let error =
            settings(&[("enable.auto.commit", "true")]).member("g", true, PREFETCH_BYTES).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the Kafka property `enable.auto.commit` is set by hookstream itself; remove it"
        );
    }

    #[test]
    fn a_password_is_never_shown() {
        let settings = settings(&[("sasl.password", "hunter2")]);
        assert!(!format!("{settings:?}").contains("hunter2"));
    }

    #[test]
    fn every_configuration_is_accepted_by_librdkafka() {
        let settings = settings(&[]);
        for config in [
            settings.plain(),
            settings.member("g", true, PREFETCH_BYTES),
            settings.reader(false, PREFETCH_BYTES),
            settings.producer(Duration::from_secs(4), Duration::ZERO),
        ] {
            config.unwrap().create_native_config().unwrap();
        }
    }

    #[test]
    fn a_batch_fits_into_a_topic_that_takes_the_largest_record() {
        let config = settings(&[]).producer(Duration::from_secs(4), Duration::ZERO).unwrap();
        let batch: usize = config.get("batch.size").unwrap().parse().unwrap();
        assert!(batch < limits::MAX_RECORD_BYTES);
    }
}
