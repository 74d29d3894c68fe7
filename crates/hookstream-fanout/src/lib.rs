//! Matches events and makes one job per webhook: from `hookstream.events` to `hookstream.deliveries`.
//!
//! What it does to an event is in [`function`]; this is the service around it: it follows the configuration, joins
//! the group `fanout`, and drives one pipe per core.

mod function;
mod metrics;

use std::sync::Arc;
use std::time::Duration;

use hookstream_config::{Base, Follower};
use hookstream_log::kafka::{Group, GroupSpec, join};
use hookstream_log::pipe::{Driver, Signals, Stats, Stuck};
use hookstream_runtime::{Ctx, HealthHandle, ServiceError};
use hookstream_types::Mono;
use tokio::sync::watch;
use tracing::info;

pub use self::function::{Match, Parts};
pub use self::metrics::FanoutMetrics;

/// How often the lag is read.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// What an event that can't be handled yet waits for.
const WAITING: &str = "an event was made by a newer configuration than was read here";

/// Runs the service until it is told to stop.
///
/// # Errors
/// What keeps it from going on.
pub async fn run(ctx: Ctx) -> Result<(), ServiceError> {
    let metrics = FanoutMetrics::register(&ctx.registry)?;
    metrics.touch();
    let Some(Base { kafka, topics, follower, partitions, .. }) = Base::ready(&ctx).await? else {
        return Ok(());
    };

    let (changed_tx, changed) = watch::channel(());
    let (stopped_tx, stopped) = watch::channel(false);
    let signals = Signals { changed, stopped };
    let cores = match ctx.settings.fanout.cores {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get),
        cores => cores,
    };
    let spec = GroupSpec::of_function(topics.group("fanout"), vec![topics.events.to_string()], cores);
    let (group, logs) = join(&kafka, spec, ctx.clock.mono_fn())?;
    let clock = ctx.clock;
    let mut threads = Vec::with_capacity(cores);
    for (core, log) in logs.into_iter().enumerate() {
        let parts = Parts {
            topics: Arc::clone(&topics),
            partitions,
            metrics: metrics.clone(),
            view: follower.view(),
        };
        let mut monitor =
            Monitor::new(ctx.health.component(&format!("core-{core}")), &metrics, core.to_string());
        let follower = Arc::clone(&follower);
        threads.push(Driver::start(
            format!("fanout-{core}"),
            log,
            ctx.clock.mono_fn(),
            signals.clone(),
            move || Match::new(parts),
            move |pipe| {
                pipe.function().set_view(follower.view());
                monitor.look(pipe.stats(), pipe.stuck(), clock.mono());
            },
        )?);
    }

    tokio::select! {
        () = ctx.shutdown.cancelled() => {}
        panicked = Driver::first_end(&mut threads) => return Err(panicked.into()),
        () = watch_over(&follower, &group, &metrics, &changed_tx) => {}
    }
    info!("giving the partitions back");
    group.shutdown().await;
    // The threads hold receivers until they end.
    stopped_tx.send_replace(true);
    Driver::join(threads).await?;
    Ok(())
}

/// Tells the threads of a new view, and reads the lag.
async fn watch_over(
    follower: &Follower,
    group: &Group,
    metrics: &FanoutMetrics,
    changed: &watch::Sender<()>,
) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    let mut views = follower.subscribe();
    let mut following = true;
    loop {
        tokio::select! {
            // An error means that the process is ending.
            seen = views.changed(), if following => {
                following = seen.is_ok();
                changed.send_replace(());
            }
            _ = tick.tick() => {
                let lag: u64 = group.stats().lag.values().map(|lag| lag.records()).sum();
                metrics.lag_records.set(i64::try_from(lag).unwrap_or(i64::MAX));
            }
        }
    }
}

/// Reports how a core is doing.
struct Monitor {
    health: HealthHandle,
    metrics: FanoutMetrics,
    core: String,
    last: Stats,
}

impl Monitor {
    fn new(health: HealthHandle, metrics: &FanoutMetrics, core: String) -> Self {
        Self { health, metrics: metrics.clone(), core, last: Stats::default() }
    }

    fn look(&mut self, stats: Stats, stuck: Option<Stuck>, now: Mono) {
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
