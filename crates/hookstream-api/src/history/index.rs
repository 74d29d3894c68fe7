//! Keeps the history index current: from the topics `attempts`, `audit` and `events` into its database.
//!
//! Each feed has a task of its own. Where a topic is read from is told by the index, in whose database a batch and the
//! position that it reaches are one transaction; so a crash repeats what was not committed and nothing else. What the
//! database does not take is tried again until it does; meanwhile the feed's health component says why.

mod feed;
mod gather;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hookstream_history::{Backend, Feed, History, HistoryError, Retained, Retention};
use hookstream_log::admin::Admin;
use hookstream_log::{KafkaError, KafkaSettings};
use hookstream_runtime::{Clock, Health, HealthHandle};
use hookstream_types::Chain;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::feed::Feeder;
use super::metrics::HistoryMetrics;

/// What an index is made of.
#[derive(Clone, Debug)]
pub struct IndexSpec {
    pub backend: Backend,
    pub kafka: KafkaSettings,
    /// The topic of the attempts.
    pub attempts: Arc<str>,
    /// The topic of the audit log.
    pub audit: Arc<str>,
    /// The topic of the events.
    pub events: Arc<str>,
    pub retention: Retention,
}

/// The index, once its database has answered. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Index(Arc<OnceLock<History>>);

/// Feeds an index, until it is stopped.
#[derive(Debug)]
pub struct Indexer {
    index: Index,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// How often what is too old or too much is looked for.
const RETAIN: Duration = Duration::from_secs(60);
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

impl Index {
    /// An index that is open.
    #[must_use]
    pub fn of(history: History) -> Self {
        Self(Arc::new(OnceLock::from(history)))
    }

    /// None: its database has not answered yet.
    #[must_use]
    pub fn history(&self) -> Option<&History> {
        self.0.get()
    }
}

impl Indexer {
    /// Opens the index and feeds it, each as soon as its database and Kafka are there. Makes the health components
    /// `history`, `audit` and `events`: a feed is ready while its database takes what there is.
    ///
    /// # Errors
    /// If Kafka's settings are not taken.
    pub fn start(
        spec: IndexSpec,
        clock: Clock,
        health: &Health,
        metrics: HistoryMetrics,
    ) -> Result<Self, KafkaError> {
        metrics.touch();
        let admin = Arc::new(Admin::new(&spec.kafka)?);
        let (stop, tasks, index) = (CancellationToken::new(), TaskTracker::new(), Index::default());
        let components = ["history", "audit", "events"].map(|name| health.dispensable(name));
        let (inner, opened, stopped) = (tasks.clone(), index.clone(), stop.clone());
        tasks.spawn(async move {
            let opening = open(&spec.backend, &components);
            let Some(history) = stopped.run_until_cancelled(opening).await else { return };
            // It is set here only.
            let history = opened.0.get_or_init(|| history).clone();
            let feeds =
                [(Feed::Attempts, &spec.attempts), (Feed::Audit, &spec.audit), (Feed::Events, &spec.events)];
            for ((feed, topic), health) in feeds.into_iter().zip(components) {
                let feeder = Feeder {
                    feed,
                    topic: Arc::clone(topic),
                    history: history.clone(),
                    kafka: spec.kafka.clone(),
                    admin: Arc::clone(&admin),
                    health,
                    metrics: metrics.clone(),
                    stop: stopped.clone(),
                };
                inner.spawn(feeder.run());
            }
            inner.spawn(retain(history, spec.retention, clock, metrics, stopped));
        });
        Ok(Self { index, stop, tasks })
    }

    #[must_use]
    pub fn index(&self) -> Index {
        self.index.clone()
    }

    /// Ends the feeding: a batch that is under way is committed first. The index can still be asked.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Ever longer waits, until something succeeds.
#[derive(Debug)]
struct Backoff(Duration);

impl Backoff {
    fn new() -> Self {
        Self(FIRST_WAIT)
    }

    async fn wait(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(LONGEST_WAIT);
    }
}

async fn open(backend: &Backend, components: &[HealthHandle]) -> History {
    let mut backoff = Backoff::new();
    loop {
        match History::open(backend).await {
            Ok(history) => return history,
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "the history index can't be opened yet; trying again");
                components.iter().for_each(|component| component.unready(reason(&error)));
            }
        }
        backoff.wait().await;
    }
}

fn reason(error: &HistoryError) -> String {
    Chain(error).to_string()
}

async fn retain(
    history: History,
    retention: Retention,
    clock: Clock,
    metrics: HistoryMetrics,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        match history.retain(&retention, clock.wall()).await {
            Ok(Retained { removed, more }) => {
                metrics.removed_total.inc_by(removed);
                if more {
                    continue;
                }
            }
            Err(error) => {
                metrics.failures_total.with_label_values(&[Feed::Attempts.label()]).inc();
                tracing::warn!(error = %Chain(&error), "old rows of the history index were not deleted");
            }
        }
        if stop.run_until_cancelled(tokio::time::sleep(RETAIN)).await.is_none() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
