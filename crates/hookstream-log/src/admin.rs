//! Makes topics, and tells how those that exist differ from what is needed.
//!
//! Nothing that exists is changed: a difference is for an operator to judge.

mod spec;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hookstream_types::{Offset, Partition};
use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, OwnedResourceSpecifier, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError as RdError, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseProducer, Producer as _};

use crate::client::{KafkaSettings, Reports, report_through};
use crate::error::KafkaError;
use crate::native;

pub use spec::{Cleanup, Difference, TopicSpec, What};

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How often an absent broker is tried.
const RETRY: Duration = Duration::from_millis(500);
/// How often it is said that there is none.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);
/// How long a topic that was just made may take to have leaders, and to be known to all brokers.
const LEADERS: Duration = Duration::from_secs(15);
/// How often it is looked whether that is so.
const AGAIN: Duration = Duration::from_millis(100);

struct Context {
    reports: Reports,
}
report_through!(Context);
impl rdkafka::producer::ProducerContext for Context {
    type DeliveryOpaque = ();
    fn delivery(&self, _: &rdkafka::producer::DeliveryResult<'_>, (): ()) {}
}

/// Makes and describes topics.
pub struct Admin {
    bootstrap_servers: String,
    client: AdminClient<Context>,
    /// For requests that the administration client can't make.
    plain: Arc<BaseProducer<Context>>,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("bootstrap_servers", &self.bootstrap_servers).finish_non_exhaustive()
    }
}

impl Admin {
    /// Makes the client; talks to nobody yet.
    ///
    /// # Errors
    /// If the settings are not taken.
    pub fn new(settings: &KafkaSettings) -> Result<Self, KafkaError> {
        let config = settings.plain()?;
        let context = || Context { reports: Reports::new("admin") };
        Ok(Self {
            bootstrap_servers: settings.bootstrap_servers.clone(),
            client: AdminClient::from_config_and_context(&config, context())?,
            plain: Arc::new(BaseProducer::from_config_and_context(&config, context())?),
        })
    }

    /// Waits until a broker answers, and says every few seconds that none does. Gives up after `patience`, if any.
    ///
    /// # Errors
    /// [`KafkaError::NoBroker`] after `patience`.
    pub async fn wait_for_broker(&self, patience: Option<Duration>) -> Result<(), KafkaError> {
        let started = Instant::now();
        let mut said: Option<Instant> = None;
        loop {
            let error = match self.metadata(Duration::from_secs(2)).await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            if patience.is_some_and(|patience| started.elapsed() >= patience) {
                return Err(error);
            }
            if said.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL) {
                said = Some(Instant::now());
                tracing::warn!("{error}; trying again");
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// All topics and how many partitions each has.
    ///
    /// # Errors
    /// If no broker answers.
    pub async fn topics(&self) -> Result<BTreeMap<String, i32>, KafkaError> {
        Ok(self
            .metadata(REQUEST_TIMEOUT)
            .await?
            .into_iter()
            .map(|(name, seen)| (name, seen.partitions))
            .collect())
    }

    /// Makes the topics that don't exist yet, and returns their names.
    ///
    /// # Errors
    /// If a topic can't be made, or no broker answers.
    pub async fn create_missing(&self, specs: &[TopicSpec]) -> Result<Vec<String>, KafkaError> {
        let existing = self.metadata(REQUEST_TIMEOUT).await?;
        let missing: Vec<&TopicSpec> =
            specs.iter().filter(|spec| !existing.contains_key(&spec.name)).collect();
        if missing.is_empty() {
            return Ok(Vec::new());
        }
        let configurations: Vec<_> = missing.iter().map(|spec| spec.configuration()).collect();
        let topics: Vec<NewTopic<'_>> = missing
            .iter()
            .zip(&configurations)
            .map(|(spec, configuration)| {
                let replication = TopicReplication::Fixed(spec.replication_factor);
                let mut topic = NewTopic::new(&spec.name, spec.partitions, replication);
                for (name, value) in configuration {
                    topic = topic.set(name, value);
                }
                topic
            })
            .collect();
        let options = AdminOptions::new()
            .request_timeout(Some(REQUEST_TIMEOUT * 2))
            .operation_timeout(Some(REQUEST_TIMEOUT));
        let results = self
            .client
            .create_topics(&topics, &options)
            .await
            .map_err(|error| self.explain("create topics", &error))?;
        let mut created = Vec::new();
        for result in results {
            match result {
                Ok(name) => created.push(name),
                // Somebody else was faster.
                Err((_, Code::TopicAlreadyExists)) => {}
                Err((name, code)) => {
                    let action = format!("create the topic `{name}`");
                    return Err(KafkaError::Refused { action, reason: code.to_string() });
                }
            }
        }
        self.wait_for_leaders(specs).await?;
        Ok(created)
    }

    /// How the topics that exist differ from what is needed, and which don't exist.
    ///
    /// # Errors
    /// If no broker answers, or topics may not be described.
    pub async fn check(&self, specs: &[TopicSpec]) -> Result<Vec<Difference>, KafkaError> {
        let existing = self.metadata(REQUEST_TIMEOUT).await?;
        let present: Vec<&TopicSpec> =
            specs.iter().filter(|spec| existing.contains_key(&spec.name)).collect();
        let configurations = self.configurations(&present).await?;
        let mut differences = Vec::new();
        for spec in specs {
            match (existing.get(&spec.name), configurations.get(spec.name.as_str())) {
                (Some(seen), Some(configuration)) => {
                    differences.extend(spec.compare(seen.partitions, configuration));
                }
                _ => differences.push(Difference { topic: spec.name.clone(), what: What::Missing }),
            }
        }
        Ok(differences)
    }

    /// How topics that exist are configured, by name.
    async fn configurations(
        &self,
        present: &[&TopicSpec],
    ) -> Result<BTreeMap<String, Configuration>, KafkaError> {
        let by = Instant::now() + LEADERS;
        let mut told = BTreeMap::new();
        loop {
            let asked: Vec<&TopicSpec> =
                present.iter().copied().filter(|spec| !told.contains_key(&spec.name)).collect();
            let Some(first) = asked.first() else { return Ok(told) };
            if Instant::now() >= by {
                return Err(KafkaError::Refused {
                    action: format!("describe the topic `{}`", first.name),
                    reason: "the broker does not tell its configuration: may this client describe it?"
                        .to_owned(),
                });
            }
            let resources: Vec<_> = asked.iter().map(|spec| ResourceSpecifier::Topic(&spec.name)).collect();
            let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
            let described = self
                .client
                .describe_configs(&resources, &options)
                .await
                .map_err(|error| self.explain("describe topics", &error))?;
            told.extend(described.into_iter().filter_map(|resource| configuration(resource.ok()?)));
            if told.len() < present.len() {
                tokio::time::sleep(AGAIN).await;
            }
        }
    }

    /// Deletes topics; those that don't exist are fine.
    ///
    /// # Errors
    /// If a topic can't be deleted, or no broker answers.
    pub async fn delete(&self, topics: &[&str]) -> Result<(), KafkaError> {
        let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
        let results = self
            .client
            .delete_topics(topics, &options)
            .await
            .map_err(|error| self.explain("delete topics", &error))?;
        for result in results {
            if let Err((name, code)) = result
                && code != Code::UnknownTopicOrPartition
            {
                let action = format!("delete the topic `{name}`");
                return Err(KafkaError::Refused { action, reason: code.to_string() });
            }
        }
        Ok(())
    }

    /// The cluster's id: what coordinates in it are relative to.
    ///
    /// # Errors
    /// If no broker answers.
    pub async fn cluster_id(&self) -> Result<String, KafkaError> {
        let plain = Arc::clone(&self.plain);
        let id = blocking(move || plain.client().fetch_cluster_id(REQUEST_TIMEOUT)).await;
        id.ok_or_else(|| self.no_broker("the cluster's id was not told in time"))
    }

    /// The topics' ids, in their order; none where the topic does not exist or the broker gives no ids.
    ///
    /// # Errors
    /// If no broker answers.
    pub async fn topic_ids(&self, topics: &[&str]) -> Result<Vec<Option<String>>, KafkaError> {
        let plain = Arc::clone(&self.plain);
        let topics: Vec<String> = topics.iter().map(|topic| (*topic).to_owned()).collect();
        let ids = blocking(move || {
            let names: Vec<&str> = topics.iter().map(String::as_str).collect();
            let native = plain.client().native_ptr();
            native::topic_ids(plain, native, &names, REQUEST_TIMEOUT)
        })
        .await;
        ids.map_err(|code| self.explain("describe topics", &RdError::AdminOp(code)))
    }

    /// Where a partition ends for readers of committed records, as of now.
    ///
    /// # Errors
    /// If no broker answers.
    pub async fn end(&self, topic: &str, partition: Partition) -> Result<Offset, KafkaError> {
        let plain = Arc::clone(&self.plain);
        let name = topic.to_owned();
        let marks =
            blocking(move || plain.client().fetch_watermarks(&name, partition.0, REQUEST_TIMEOUT)).await;
        let action = || format!("ask for the end of `{topic}`");
        marks.map(|(_, end)| Offset(end)).map_err(|error| self.explain(&action(), &error))
    }

    async fn metadata(&self, timeout: Duration) -> Result<BTreeMap<String, Seen>, KafkaError> {
        let plain = Arc::clone(&self.plain);
        let metadata = blocking(move || {
            let metadata = plain.client().fetch_metadata(None, timeout)?;
            Ok(metadata
                .topics()
                .iter()
                .filter(|topic| topic.error().is_none())
                .map(|topic| {
                    let partitions = topic.partitions();
                    let led = partitions.iter().all(|partition| partition.leader() >= 0);
                    let partitions = i32::try_from(partitions.len()).unwrap_or(i32::MAX);
                    (topic.name().to_owned(), Seen { partitions, led })
                })
                .collect())
        })
        .await;
        metadata.map_err(|error: RdError| self.explain("list topics", &error))
    }

    async fn wait_for_leaders(&self, specs: &[TopicSpec]) -> Result<(), KafkaError> {
        let by = Instant::now() + LEADERS;
        loop {
            let seen = self.metadata(REQUEST_TIMEOUT).await?;
            if specs
                .iter()
                .all(|spec| seen.get(&spec.name).is_some_and(|seen| seen.led && seen.partitions > 0))
            {
                return Ok(());
            }
            if Instant::now() >= by {
                let reason = "their partitions have no leaders yet".to_owned();
                return Err(KafkaError::Refused { action: "create topics".to_owned(), reason });
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn explain(&self, action: &str, error: &RdError) -> KafkaError {
        let code = match error {
            RdError::AdminOp(code) => Some(*code),
            other => other.rdkafka_error_code(),
        };
        let unreachable = matches!(
            code,
            Some(
                Code::BrokerTransportFailure
                    | Code::AllBrokersDown
                    | Code::OperationTimedOut
                    | Code::RequestTimedOut
                    | Code::Resolve
            )
        );
        if unreachable {
            return self.no_broker(&error.to_string());
        }
        KafkaError::Refused { action: action.to_owned(), reason: error.to_string() }
    }

    fn no_broker(&self, reason: &str) -> KafkaError {
        // The connection's own error says more, if there is one.
        self.plain.poll(Duration::ZERO);
        while {
            let served = &self.plain.context().reports.served;
            let before = served.load(std::sync::atomic::Ordering::Relaxed);
            self.plain.poll(Duration::ZERO);
            served.load(std::sync::atomic::Ordering::Relaxed) != before
        } {}
        let reason = self.plain.context().reports.last_error().unwrap_or_else(|| reason.to_owned());
        KafkaError::NoBroker { bootstrap_servers: self.bootstrap_servers.clone(), reason }
    }
}

type Configuration = BTreeMap<String, String>;

/// A topic and its configuration as a broker told it; none if it told nothing.
///
/// The client passes over the error that a broker answers for one topic, such as that it does not know it yet. What is
/// left is a topic without a single entry, which no topic is.
fn configuration(resource: ConfigResource) -> Option<(String, Configuration)> {
    let OwnedResourceSpecifier::Topic(name) = resource.specifier else { return None };
    let entries: Configuration =
        resource.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect();
    (!entries.is_empty()).then_some((name, entries))
}

/// What the metadata say about a topic.
struct Seen {
    partitions: i32,
    /// Every partition has a leader.
    led: bool,
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::admin::{ConfigEntry, ConfigSource};

    use super::*;

    #[test]
    fn a_broker_that_does_not_know_a_topic_yet_tells_nothing() {
        let resource =
            |entries| ConfigResource { specifier: OwnedResourceSpecifier::Topic("t".to_owned()), entries };
        assert_eq!(configuration(resource(Vec::new())), None);
        let entry = ConfigEntry {
            name: "cleanup.policy".to_owned(),
            value: Some("compact".to_owned()),
            source: ConfigSource::DynamicTopic,
            is_read_only: false,
            is_default: false,
            is_sensitive: false,
        };
        let told = configuration(resource(vec![entry]));
        let entries = Configuration::from([("cleanup.policy".to_owned(), "compact".to_owned())]);
        assert_eq!(told, Some(("t".to_owned(), entries)));
    }
}
