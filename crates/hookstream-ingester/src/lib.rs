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

use hookstream_config::{Base, ConfigEnd, Follower};
use hookstream_core::config::DeliveryMode;
use hookstream_core::ingest::Routes;
use hookstream_log::admin::Admin;
use hookstream_log::kafka::{Group, GroupSpec, join};
use hookstream_log::pipe::{Driver, Signals, Stats, Stuck};
use hookstream_runtime::{Ctx, HealthHandle, ServiceError};
use hookstream_types::Chain;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

pub use self::function::{Ingest, Parts};
pub use self::metrics::IngesterMetrics;
pub use self::topic_ids::TopicIds;

/// How often it is looked for topics that do not exist, and figures are read.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// What a record that can't be handled yet waits for.
const WAITING: &str = "a record waits for its topic's id or source, or for the newest configuration";

/// Runs the service until it is told to stop.
///
/// # Errors
/// What keeps it from going on.
pub async fn run(ctx: Ctx) -> Result<(), ServiceError> {
    let metrics = IngesterMetrics::register(&ctx.registry)?;
    metrics.touch();
    let identity = ctx.health.component("cluster-id");
    let Some(Base { kafka, topics, follower, partitions, .. }) = Base::ready(&ctx).await? else {
        return Ok(());
    };
    let admin = Arc::new(Admin::new(&kafka)?);
    let cluster = tokio::select! {
        () = ctx.shutdown.cancelled() => return Ok(()),
        cluster = cluster_id(&admin, &identity) => cluster,
    };

    let view = follower.view();
    let (routes, _) = Routes::build(view.sources.values(), DeliveryMode::Async);
    let cores = match ctx.settings.ingester.cores {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get),
        cores => cores,
    };
    let spec = GroupSpec::of_function(topics.group("ingester"), routes.topics().to_vec(), cores);
    let (group, logs) = join(&kafka, spec, ctx.clock.mono_fn())?;
    let (changed_tx, changed) = watch::channel(());
    let (stopped_tx, stopped) = watch::channel(false);
    let topic_ids = Arc::new(TopicIds::default());
    let config_end = Arc::new(ConfigEnd::default());

    let mut threads = Vec::with_capacity(cores);
    for (core, log) in logs.into_iter().enumerate() {
        let parts = Parts {
            cluster: Arc::clone(&cluster),
            topics: Arc::clone(&topics),
            partitions,
            topic_ids: Arc::clone(&topic_ids),
            config_end: Arc::clone(&config_end),
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
        () = config_end.serve(&admin, &topics.config, &changed_tx) => {}
    }
    info!("giving the partitions back");
    group.shutdown().await;
    // The threads hold receivers until they end.
    stopped_tx.send_replace(true);
    Driver::join(threads).await?;
    Ok(())
}

/// Events without an id of their own are named after the cluster.
async fn cluster_id(admin: &Admin, health: &HealthHandle) -> Arc<str> {
    loop {
        match admin.cluster_id().await {
            Ok(id) => {
                health.ready();
                return id.into();
            }
            Err(error) => {
                health.unready("the cluster's id is not known");
                warn!(error = %Chain(&error), "cannot learn the cluster's id; trying again");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
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
        let (routes, problems) = Routes::build(follower.view().sources.values(), DeliveryMode::Async);
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
            self.group.resubscribe(self.routes.topics().to_vec());
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
            self.group.resubscribe(self.routes.topics().to_vec());
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
}

impl Monitor {
    fn new(health: HealthHandle, metrics: &IngesterMetrics, core: usize) -> Self {
        Self { health, metrics: metrics.clone(), core: core.to_string(), last: Stats::default() }
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

        self.health.set(stuck.and_then(|stuck| stuck.reason(WAITING, now)));
    }
}
