//! The service: one thread per core with its own runtime, partitions, lanes, connections and producer, and one for
//! the retry readers (design §7).

use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hookstream_config::{Base, Follower};
use hookstream_core::clock::BrokerClock;
use hookstream_core::ladder::Ladder;
use hookstream_core::sender::Rules;
use hookstream_egress::Client;
use hookstream_log::kafka::{Group, GroupSpec, KafkaLog, join};
use hookstream_runtime::{Clock, Ctx, HealthHandle, ServiceError};
use hookstream_types::{Mono, Now, OwnerId, UnixMillis};
use hookstream_wire::Topics;
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use crate::deliveries::{Deliveries, Parts};
use crate::http::Http;
use crate::metrics::{Counter, SenderMetrics};
use crate::retries::{Partitions, Retries};

/// How often gauges are set.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long a core may wait for something before it is not ready.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a partition that is wanted elsewhere may be drained: the longest request and its decision.
const DRAIN: Duration = Duration::from_secs(25);

/// Memory for the records of one partition that are fetched and not taken: there are many retry partitions, and
/// what they hold waits.
const DELIVERIES_PREFETCH: usize = 512 * 1024;
const RETRY_PREFETCH: usize = 128 * 1024;

/// How long a decision may wait for others, which saves requests: nobody waits for it but the commit, and a retry that
/// is seconds away. What is not decided yet is sent again after a crash, so it is short.
const DECISIONS_LINGER: Duration = Duration::from_millis(10);

/// What is still unanswered by the end of this is cut, and there must be time left to decide and commit that.
fn drain_timeout(grace: Duration) -> Duration {
    const REST: Duration = Duration::from_secs(5);
    DRAIN.min(grace.saturating_sub(REST).max(grace / 2))
}

/// What all threads share.
#[derive(Clone)]
struct Common {
    ctx: Ctx,
    topics: Arc<Topics>,
    ladder: Arc<Ladder>,
    partitions: Partitions,
    broker: Arc<BrokerClock>,
    follower: Arc<Follower>,
    metrics: SenderMetrics,
    stopped: watch::Receiver<bool>,
}

/// Runs the service until it is told to stop.
///
/// # Errors
/// What keeps it from going on.
pub async fn run(ctx: Ctx) -> Result<(), ServiceError> {
    let settings = Arc::clone(&ctx.settings);
    let ladder = Arc::new(settings.topics.retry_ladder.clone());
    let metrics = SenderMetrics::register(&ctx.registry)?;
    let rungs: Vec<String> = ladder.rungs().iter().map(|rung| Ladder::label(*rung)).collect();
    metrics.touch(&rungs);
    let Some(Base { kafka, topics, follower, partitions, .. }) = Base::ready(&ctx).await? else {
        return Ok(());
    };

    let (stopped_tx, stopped) = watch::channel(false);
    let common = Common {
        topics: Arc::clone(&topics),
        ladder,
        partitions: Partitions {
            deliveries: partitions,
            retry: i32::try_from(settings.topics.retry_partitions)?,
            other: partitions,
        },
        broker: Arc::new(BrokerClock::default()),
        follower,
        metrics: metrics.clone(),
        stopped,
        ctx: ctx.clone(),
    };

    let cores = settings.sender.threads();
    let spec = GroupSpec {
        drain_timeout: drain_timeout(settings.shutdown.grace),
        prefetch_bytes: DELIVERIES_PREFETCH,
        linger: DECISIONS_LINGER,
        ..GroupSpec::new(topics.group("sender"), vec![topics.deliveries.to_string()], cores)
    };
    let (deliveries, logs) = join(&kafka, spec, ctx.clock.mono_fn())?;
    let mut threads = Vec::with_capacity(cores + 1);
    for (core, log) in logs.into_iter().enumerate() {
        let health = ctx.health.component(&format!("core-{core}"));
        let common = common.clone();
        let client = Client::new(&settings.egress)?;
        threads.push(thread(format!("sender-{core}"), async move |wake| {
            deliver(common, log, client, wake, core, health).await;
        })?);
    }
    let names = topics.retry.iter().map(ToString::to_string).collect();
    let spec =
        GroupSpec { prefetch_bytes: RETRY_PREFETCH, ..GroupSpec::new(topics.group("retry"), names, 1) };
    let (retries, logs) = join(&kafka, spec, ctx.clock.mono_fn())?;
    for log in logs {
        let common = common.clone();
        threads.push(thread("sender-retry".to_owned(), async move |_| retry(common, log).await)?);
    }

    tokio::select! {
        () = ctx.shutdown.cancelled() => {}
        () = watch_lag(&deliveries, &retries, &topics, &rungs, &metrics) => {}
    }
    info!("giving the partitions back");
    tokio::join!(deliveries.shutdown(), retries.shutdown());
    stopped_tx.send_replace(true);
    for thread in threads {
        let joined = tokio::task::spawn_blocking(move || thread.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            warn!("a thread of the sender panicked");
        }
    }
    Ok(())
}

/// A thread with a runtime of its own, on which nothing blocks.
fn thread<F>(name: String, body: F) -> Result<JoinHandle<()>, ServiceError>
where
    F: AsyncFnOnce(Rc<Notify>) + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, body(Rc::new(Notify::new())));
    })?;
    Ok(thread)
}

fn now(clock: &Clock) -> Now {
    Now { mono: clock.mono(), wall: clock.wall(), broker: UnixMillis(0) }
}

async fn deliver(
    common: Common,
    log: KafkaLog,
    client: Client,
    wake: Rc<Notify>,
    core: usize,
    health: HealthHandle,
) {
    let Common { ctx, topics, ladder, partitions, broker, follower, metrics, mut stopped } = common;
    let rules = Rules {
        max_in_flight: ctx.settings.sender.max_in_flight_per_partition,
        ..Rules::new((*ladder).clone())
    };
    let parts = Parts {
        topics,
        rules: Arc::new(rules),
        partitions,
        clock: broker,
        view: follower.view(),
        user_agent: Arc::from(ctx.settings.sender.user_agent()),
        jitter: Box::new(|| f64::from(random_u32()) / f64::from(u32::MAX)),
        fresh_id: Box::new(|| OwnerId(uuid::Uuid::new_v4())),
    };
    let http = Http::new(client, Rc::clone(&wake));
    let mut deliveries = Deliveries::new(log, http, Counter::new(metrics.clone()), parts);
    let mut views = follower.subscribe();
    let mut monitor = Monitor { health, metrics, core: core.to_string(), looked: Mono(0), stuck_since: None };
    let clock = ctx.clock;
    let mut load = Load::default();
    loop {
        if let Some(idle) = load.look(clock.mono()) {
            deliveries.set_idle(idle);
        }
        deliveries.step(now(&clock));
        monitor.look(&deliveries, clock.mono());
        let until = deliveries.next_deadline();
        if until.is_some_and(|at| at <= clock.mono()) {
            // Requests have their turn on each round, however busy the log is.
            tokio::task::yield_now().await;
            if *stopped.borrow() {
                break;
            }
            if views.has_changed().unwrap_or(false) {
                views.mark_unchanged();
                deliveries.set_view(follower.view());
            }
            continue;
        }
        tokio::select! {
            seen = views.changed() => {
                if seen.is_ok() {
                    views.mark_unchanged();
                    deliveries.set_view(follower.view());
                }
            }
            _ = stopped.wait_for(|stopped| *stopped) => break,
            () = wake.notified() => {}
            () = deliveries.log().changed(until) => {}
        }
    }
}

async fn retry(common: Common, log: KafkaLog) {
    let Common { ctx, topics, ladder, partitions, broker, metrics, mut stopped, .. } = common;
    let mut retries = Retries::new(log, topics, ladder, partitions, broker);
    let clock = ctx.clock;
    let mut moved = 0;
    loop {
        retries.step(now(&clock));
        metrics.retries_due_total.inc_by(retries.moved() - moved);
        moved = retries.moved();
        metrics.retry_held.set(i64::try_from(retries.held()).unwrap_or(i64::MAX));
        metrics.retry_overdue_seconds.set(retries.overdue(clock.mono()).as_secs_f64());
        let until = retries.next_deadline(clock.mono());
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => break,
            () = retries.log().changed(until) => {}
        }
    }
}

/// Not for secrets: spreads retries.
fn random_u32() -> u32 {
    let bytes = uuid::Uuid::new_v4().into_bytes();
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// How busy this thread's runtime is.
#[derive(Default)]
struct Load {
    looked: Mono,
    busy: Duration,
}

impl Load {
    /// The part of the time since the last look that the thread was idle, if it is time to look.
    fn look(&mut self, now: Mono) -> Option<f64> {
        const EVERY: Duration = Duration::from_millis(50);
        let past = now.since(self.looked);
        if past < EVERY {
            return None;
        }
        let busy = tokio::runtime::Handle::current().metrics().worker_total_busy_duration(0);
        let spent = busy.saturating_sub(self.busy);
        (self.looked, self.busy) = (now, busy);
        Some(1.0 - spent.as_secs_f64() / past.as_secs_f64())
    }
}

/// Reports how a core is doing.
struct Monitor {
    health: HealthHandle,
    metrics: SenderMetrics,
    core: String,
    looked: Mono,
    stuck_since: Option<Mono>,
}

impl Monitor {
    fn look(&mut self, deliveries: &Deliveries<KafkaLog, Http, Counter>, now: Mono) {
        if self.looked != Mono(0) && now.since(self.looked) < LOOK_EVERY {
            return;
        }
        self.looked = now;
        let gauge = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.metrics.in_flight.with_label_values(&[&self.core]).set(gauge(deliveries.in_flight()));
        self.metrics.partitions.with_label_values(&[&self.core]).set(gauge(deliveries.partitions()));
        let lanes = deliveries.lanes();
        self.metrics.lane_queued.with_label_values(&[&self.core]).set(gauge(lanes.queued));
        for (state, count) in [("open", lanes.open), ("busy", lanes.busy)] {
            self.metrics.lanes.with_label_values(&[self.core.as_str(), state]).set(gauge(count));
        }
        let reason = match (deliveries.awaits(), deliveries.is_running()) {
            (Some(offset), _) => {
                Some(format!("a job was made by configuration {offset}, which was not read here yet"))
            }
            (None, false) => Some("claiming partitions".to_owned()),
            (None, true) => None,
        };
        if reason.is_none() {
            self.stuck_since = None;
        }
        let since = reason.is_some().then(|| *self.stuck_since.get_or_insert(now));
        let lasts = since.is_some_and(|since| now.since(since) >= PATIENCE);
        if reason.is_none() || lasts {
            self.health.set(reason.map(Into::into));
        }
    }
}

async fn watch_lag(
    deliveries: &Group,
    retries: &Group,
    topics: &Topics,
    rungs: &[String],
    metrics: &SenderMetrics,
) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    loop {
        tick.tick().await;
        let lag: u64 = deliveries.stats().lag.values().map(|lag| lag.records()).sum();
        metrics.lag_records.set(i64::try_from(lag).unwrap_or(i64::MAX));
        let stats = retries.stats();
        for (name, rung) in topics.retry.iter().zip(rungs) {
            let waiting: u64 =
                stats.lag.iter().filter(|((topic, _), _)| topic == name).map(|(_, lag)| lag.records()).sum();
            metrics
                .retry_waiting_records
                .with_label_values(&[rung])
                .set(i64::try_from(waiting).unwrap_or(i64::MAX));
        }
    }
}
