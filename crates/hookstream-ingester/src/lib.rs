//! Decodes source records into CloudEvents: from the sources' topics to `hookstream.events`, and what is no event to
//! `hookstream.rejected`.
//!
//! What it does to a record is in [`function`]; this is the service around it: it follows the configuration, joins
//! the group `ingester` with the topics of all sources, looks for topics that do not exist, and drives one pipe per
//! core.

mod function;
mod metrics;
mod topic_ids;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use hookstream_config::{Follower, Keyring};
use hookstream_core::ingest::Routes;
use hookstream_log::KafkaSettings;
use hookstream_log::admin::Admin;
use hookstream_log::kafka::{self, Group, GroupSpec};
use hookstream_log::pipe::{Driver, Signals, Stats, Stuck};
use hookstream_runtime::{Ctx, HealthHandle, ServiceError};
use hookstream_types::Chain;
use hookstream_wire::Topics;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

pub use self::function::{Ingest, Parts};
pub use self::metrics::IngesterMetrics;
pub use self::topic_ids::TopicIds;

/// How often it is looked for topics that do not exist, and figures are read.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A pipe that is stuck for longer is not ready.
const PATIENCE: Duration = Duration::from_secs(5);
/// What is subscribed to while there is no source: no topic has an empty name.
const NO_TOPIC: &str = "^$";

/// Runs the service until it is told to stop.
///
/// # Errors
/// What keeps it from going on.
pub async fn run(ctx: Ctx) -> Result<(), ServiceError> {
    let configuration = ctx.health.component("configuration");
    let settings = &ctx.settings;
    let topics = Arc::new(Topics::new(&settings.kafka.namespace, &settings.topics.retry_ladder));
    let log_settings = KafkaSettings {
        bootstrap_servers: settings.kafka.bootstrap_servers.clone(),
        client_id: settings.kafka.client_id.clone(),
        properties: settings.kafka.exposed_properties(),
    };
    let metrics = IngesterMetrics::register(&ctx.registry)?;
    metrics.touch();
    let key = settings.secrets.key_encryption_key().map_err(|problem| problem.to_string())?;
    let keyring = Arc::new(Keyring::from_key(&key)?);
    tokio::select! {
        () = ctx.shutdown.cancelled() => return Ok(()),
        fit = hookstream_config::topics::ready(settings, &log_settings, |what| configuration.unready(what)) => fit?,
    }
    let follower = Arc::new(Follower::start(&log_settings, &topics.config, keyring)?);
    let admin = Arc::new(Admin::new(&log_settings)?);

    let Some(cluster) = until_shutdown(&ctx, prepare(&follower, &admin, &configuration)).await else {
        return Ok(());
    };
    configuration.ready();

    let view = follower.view();
    let (routes, _) = Routes::build(view.sources.values());
    let cores = if settings.ingester.cores == 0 { cpus() } else { settings.ingester.cores };
    let spec = GroupSpec::of_function(topics.group("ingester"), subscription(&routes), cores);
    let (group, logs) = kafka::join(&log_settings, spec, ctx.clock.mono_fn())?;
    let (changed_tx, changed) = watch::channel(());
    let (stopped_tx, stopped) = watch::channel(false);
    let topic_ids = Arc::new(TopicIds::default());
    let partitions = i32::try_from(settings.topics.partitions)?;

    let mut threads = Vec::with_capacity(cores);
    for (core, log) in logs.into_iter().enumerate() {
        let parts = Parts {
            cluster: Arc::clone(&cluster),
            topics: Arc::clone(&topics),
            partitions,
            topic_ids: Arc::clone(&topic_ids),
            metrics: metrics.clone(),
            view: follower.view(),
        };
        let mut monitor = Monitor::new(ctx.health.component(&format!("core-{core}")), &metrics, core);
        let follower = Arc::clone(&follower);
        let clock = ctx.clock;
        let signals = Signals { changed: changed.clone(), stopped: stopped.clone() };
        threads.push(Driver::start(
            format!("ingester-{core}"),
            log,
            ctx.clock.mono_fn(),
            signals,
            move || Ingest::new(parts),
            move |pipe| {
                pipe.function().set_view(&follower.view());
                monitor.look(pipe.stats(), pipe.stuck(), clock.mono());
            },
        )?);
    }

    let mut watcher =
        Watcher { group: &group, admin: &admin, metrics: &metrics, missing: BTreeSet::new(), routes };
    tokio::select! {
        () = ctx.shutdown.cancelled() => {}
        panicked = Driver::first_end(&mut threads) => return Err(panicked.into()),
        () = watcher.watch(&follower, &changed_tx) => {}
        () = topic_ids.serve(&admin, &changed_tx) => {}
    }
    info!("giving the partitions back");
    group.shutdown().await;
    // The threads hold receivers until they end.
    stopped_tx.send_replace(true);
    Driver::join(threads).await?;
    Ok(())
}

/// What must be there before work begins: the configuration, read to its end, and the cluster's id.
async fn prepare(follower: &Follower, admin: &Admin, health: &HealthHandle) -> Arc<str> {
    health.unready("reading the configuration");
    follower.caught_up().await;
    loop {
        match admin.cluster_id().await {
            Ok(id) => return id.into(),
            Err(error) => {
                health.unready("the cluster's id is not known");
                warn!(error = %Chain(&error), "cannot learn the cluster's id; trying again");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn until_shutdown<T>(ctx: &Ctx, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        () = ctx.shutdown.cancelled() => None,
        done = work => Some(done),
    }
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

fn subscription(routes: &Routes) -> Vec<String> {
    if routes.topics().is_empty() { vec![NO_TOPIC.to_owned()] } else { routes.topics().to_vec() }
}

/// Follows the sources: subscribes to their topics, and says which do not exist.
struct Watcher<'a> {
    group: &'a Group,
    admin: &'a Admin,
    metrics: &'a IngesterMetrics,
    missing: BTreeSet<String>,
    routes: Routes,
}

impl Watcher<'_> {
    async fn watch(&mut self, follower: &Follower, changed: &watch::Sender<()>) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut views = follower.subscribe();
        let mut following = true;
        self.on_view(follower, true);
        loop {
            tokio::select! {
                _ = tick.tick() => self.look_for_topics().await,
                // An error means that the process is ending.
                seen = views.changed(), if following => {
                    following = seen.is_ok();
                    self.on_view(follower, false);
                    // Every thread looks at the view again.
                    changed.send_replace(());
                }
            }
        }
    }

    fn on_view(&mut self, follower: &Follower, first: bool) {
        let (routes, problems) = Routes::build(follower.view().sources.values());
        let differs = routes.topics() != self.routes.topics();
        self.routes = routes;
        if !differs && !first {
            return;
        }
        for problem in problems {
            warn!("{problem}");
        }
        self.metrics.subscriptions.set(i64::try_from(self.routes.topics().len()).unwrap_or(i64::MAX));
        if self.routes.topics().is_empty() {
            info!("no source is configured: waiting for one (`hookstream apply`)");
        }
        if differs {
            info!(topics = ?self.routes.topics(), "subscribing to the topics of the sources");
            self.group.resubscribe(subscription(&self.routes));
        }
    }

    /// Warns once of each topic that is named and does not exist.
    async fn look_for_topics(&mut self) {
        self.metrics.lag_records.set(lag(self.group));
        let existing = match self.admin.topics().await {
            Ok(existing) => existing,
            Err(error) => {
                warn!(error = %Chain(&error), "cannot list the topics; trying again");
                return;
            }
        };
        let mut appeared = false;
        let mut missing = BTreeSet::new();
        for (topic, source) in self.routes.named() {
            if existing.contains_key(topic) {
                appeared |= self.missing.contains(topic);
            } else {
                if !self.missing.contains(topic) {
                    warn!(
                        source.name = %source.name,
                        kafka.topic = topic,
                        "the topic `{topic}` of the source `{}` does not exist: create it, or mend the source; all \
                         else goes on",
                        source.name
                    );
                }
                missing.insert(topic.to_owned());
            }
        }
        self.metrics.missing_topics.set(i64::try_from(missing.len()).unwrap_or(i64::MAX));
        self.missing = missing;
        if appeared {
            info!("a topic that was missing exists");
            // The client would find it by itself, but only at its next refresh of metadata.
            self.group.resubscribe(subscription(&self.routes));
        }
    }
}

fn lag(group: &Group) -> i64 {
    let lag: u64 = group.stats().lag.values().map(|lag| lag.records()).sum();
    i64::try_from(lag).unwrap_or(i64::MAX)
}

/// Reports how a core is doing.
struct Monitor {
    health: HealthHandle,
    metrics: IngesterMetrics,
    core: String,
    last: Stats,
    ready: Option<bool>,
}

impl Monitor {
    fn new(health: HealthHandle, metrics: &IngesterMetrics, core: usize) -> Self {
        Self { health, metrics: metrics.clone(), core: core.to_string(), last: Stats::default(), ready: None }
    }

    fn look(&mut self, stats: Stats, stuck: Option<Stuck>, now: hookstream_types::Mono) {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let Self { metrics, last, .. } = self;
        if stats.in_flight != last.in_flight {
            metrics.in_flight.with_label_values(&[&self.core]).set(count(stats.in_flight));
        }
        if stats.inputs != last.inputs {
            metrics.partitions.with_label_values(&[&self.core]).set(count(stats.inputs));
        }
        metrics.produce_retries_total.inc_by(stats.unknown + stats.refused - last.unknown - last.refused);
        *last = stats;

        let reason = match stuck {
            Some(Stuck::Waiting { since }) if now.since(since) > PATIENCE => {
                Some("a record waits for its topic's id or source".to_owned())
            }
            Some(Stuck::Failing { since, error }) if now.since(since) > PATIENCE => {
                Some(format!("producing fails: {error}"))
            }
            Some(_) | None => None,
        };
        if self.ready == Some(reason.is_none()) {
            return;
        }
        self.ready = Some(reason.is_none());
        match reason {
            None => self.health.ready(),
            Some(reason) => {
                warn!(core = %self.core, "the ingester is stuck: {reason}");
                self.health.unready(reason);
            }
        }
    }
}
