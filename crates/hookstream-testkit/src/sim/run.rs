//! One run: the world, what happens to it, and the report.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hookstream_config::ConfigEnd;
use hookstream_core::clock::BrokerClock;
use hookstream_core::config::{View, Webhook};
use hookstream_core::ladder::Ladder;
use hookstream_core::sender::Rules;
use hookstream_fanout::{FanoutMetrics, Match};
use hookstream_ingester::{Ingest, IngesterMetrics, TopicIds};
use hookstream_log::pipe::{Limits, Pipe};
use hookstream_sender::deliveries::Parts;
use hookstream_sender::retries::Partitions;
use hookstream_sender::{Deliveries, Retries};
use hookstream_types::{Now, Offset, OwnerId, UnixMillis};
use hookstream_wire::Topics;
use prometheus::Registry;

use super::books::{Books, Violation};
use super::cluster::{Cluster, Event, Faults, Life, MS, Manner, SECOND, Script, Shared};
use super::inputs::{CLUSTER, SOURCE_TOPICS, SourceRecord, source_record, topic_id, view_of, webhook};
use super::log::{SimEgress, SimLog, SimObserver};
use super::rng::Rng;

/// What a run is to be like.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seed: u64,
    /// Records to be produced to the sources' topics, besides those that come twice.
    pub records: usize,
}

impl Plan {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, records: 24 }
    }
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    pub seed: u64,
    pub violations: Vec<Violation>,
    pub faults: Faults,
    pub jobs: usize,
    /// Jobs that ended.
    pub finished: usize,
    pub requests: u64,
    /// Requests for a turn that had been sent before.
    pub repeated_requests: u64,
    pub processes: usize,
    /// The simulation's time when it was over.
    pub seconds: u64,
    /// How late the latest job came back to `deliveries`.
    pub late_most_ms: i64,
    /// Changes with anything that happened: two runs of one seed have the same.
    pub fingerprint: u64,
}

/// Of `events`, `matched`, `rejected`, `deliveries` and `attempts`.
pub(super) const PARTITIONS: i32 = 3;
const RETRY: i32 = 2;
const SLOTS: usize = 3;
const WEBHOOKS: usize = 8;
/// Faults and jobs happen before this; then all is well until everything has ended.
const TROUBLE: u64 = 60 * SECOND;
/// A run that is not over by then is stuck.
const END: u64 = 600 * SECOND;

/// The groups, as they are created.
const SENDER: usize = 0;
const RETRIES: usize = 1;
const INGESTER: usize = 2;
const FANOUT: usize = 3;
/// What has a view of its own, and gets it when it gets it: ingester, fan-out, sender.
const STAGES: usize = 3;

struct Process {
    life: Life,
    topic_ids: Arc<TopicIds>,
    config_end: Arc<ConfigEnd>,
    ingester: Pipe<SimLog, Ingest>,
    fanout: Pipe<SimLog, Match>,
    /// The version of the configuration that each stage has.
    versions: [usize; STAGES],
    deliveries: Deliveries<SimLog, SimEgress, SimObserver>,
    retries: Retries<SimLog>,
    stopping: bool,
}

struct World {
    shared: Shared,
    topics: Arc<Topics>,
    ladder: Arc<Ladder>,
    views: Vec<Arc<View>>,
    version: usize,
    records: Vec<SourceRecord>,
    processes: Vec<Option<Process>>,
    rng: Rng,
    steps: u64,
}

impl Process {
    /// `end` is where the configuration ends.
    fn step(&mut self, now: Now, end: Offset) {
        if let Some(question) = self.config_end.pending() {
            self.config_end.learn(question, end);
        }
        for (topic, _) in SOURCE_TOPICS {
            self.topic_ids.learn(topic, Some(&topic_id(topic)));
        }
        self.ingester.step(now.mono);
        self.fanout.step(now.mono);
        self.deliveries.step(now);
        self.retries.step(now);
    }

    /// A stage learns of a version of the configuration; none goes back to an older one.
    fn set_view(&mut self, stage: usize, version: usize, view: &Arc<View>) {
        if version <= self.versions[stage] {
            return;
        }
        self.versions[stage] = version;
        match stage {
            0 => self.ingester.function().set_view(view),
            1 => self.fanout.function().set_view(Arc::clone(view)),
            _ => self.deliveries.set_view(Arc::clone(view)),
        }
    }
}

/// Runs one seed to its end.
///
/// # Panics
/// If the simulation itself is at fault.
#[must_use]
pub fn run(plan: Plan) -> Report {
    let mut world = World::new(plan);
    world.play();
    world.report(plan)
}

impl World {
    fn new(plan: Plan) -> Self {
        let mut rng = Rng::new(plan.seed);
        let calm = rng.percent(15);
        let ladder =
            Arc::new(Ladder::new([1, 4, 15].map(Duration::from_secs).to_vec()).expect("the delays ascend"));
        let topics = Arc::new(Topics::new("sim", &ladder));
        let rungs_ms = vec![1_000, 4_000, 15_000];
        let webhooks: Vec<Arc<Webhook>> =
            (0..WEBHOOKS).map(|n| Arc::new(webhook(&mut rng, n, calm))).collect();
        let books = Books::new(Arc::clone(&topics), rungs_ms, calm, webhooks.clone());
        let mut cluster = Cluster::new(rng.child(), calm, books);
        for (name, partitions) in [
            (&topics.events, PARTITIONS),
            (&topics.matched, PARTITIONS),
            (&topics.rejected, PARTITIONS),
            (&topics.deliveries, PARTITIONS),
            (&topics.attempts, PARTITIONS),
            (&topics.dead_letter, 1),
            (&topics.commands, 1),
        ] {
            cluster.create_topic(name, partitions);
        }
        for name in &topics.retry {
            cluster.create_topic(name, RETRY);
        }
        let sources = SOURCE_TOPICS.map(|(name, partitions)| (Arc::from(name), partitions));
        for (name, partitions) in &sources {
            cluster.create_topic(name, *partitions);
        }
        cluster.create_group(&[(Arc::clone(&topics.deliveries), PARTITIONS)]);
        let retry: Vec<(Arc<str>, i32)> = topics.retry.iter().map(|name| (Arc::clone(name), RETRY)).collect();
        cluster.create_group(&retry);
        cluster.create_group(&sources);
        cluster.create_group(&[(Arc::clone(&topics.events), PARTITIONS)]);

        for webhook in &webhooks {
            let manner = match rng.between(0, 9) {
                0..=3 => Manner::Good,
                4..=5 => Manner::Flaky,
                6 => Manner::Slow,
                7 => Manner::Hanging,
                8 => Manner::Failing,
                _ => Manner::TooMany,
            };
            cluster.manners.insert(webhook.id, manner);
        }
        // Later webhooks, and the source of CloudEvents, are made while the run goes on.
        let views = (0..WEBHOOKS).map(|version| Arc::new(view_of(&webhooks, version))).collect();
        let records = (0..plan.records).map(|n| source_record(&mut rng, n)).collect();

        let mut world = Self {
            shared: Rc::new(RefCell::new(cluster)),
            topics,
            ladder,
            views,
            version: 2,
            records,
            processes: (0..SLOTS).map(|_| None).collect(),
            rng: rng.child(),
            steps: 0,
        };
        world.script(&mut rng, calm);
        world
    }

    /// Writes down all that is going to happen.
    fn script(&mut self, rng: &mut Rng, calm: bool) {
        let mut cluster = self.shared.borrow_mut();
        let mut at = |time: u64, script: Script| cluster.at(time, Event::Script(script));
        for slot in 0..SLOTS {
            at(rng.between(0, 2_000) * MS, Script::Start { slot });
        }
        for version in 3..WEBHOOKS {
            at(rng.between(1_000, 20_000) * MS, Script::Configure { version });
        }
        for record in 0..self.records.len() {
            let time = rng.between(2_500, 45_000) * MS;
            at(time, Script::Source { record });
            // Its producer repeats itself.
            if rng.percent(15) {
                at(time + rng.between(1, 8_000) * MS, Script::Source { record });
            }
        }
        if !calm {
            for _ in 0..rng.between(2, 9) {
                let time = rng.between(3_000, 55_000) * MS;
                let slot = usize::try_from(rng.between(0, 2)).expect("small");
                let long = rng.between(100, 25_000) * MS;
                at(
                    time,
                    match rng.between(0, 9) {
                        0..=2 => Script::Crash { slot, down: rng.between(0, 15_000) * MS },
                        3 => Script::Pause { slot, time: long },
                        4..=5 => Script::Hide { slot, time: long },
                        6 => Script::Stop { slot, down: rng.between(0, 10_000) * MS },
                        7 => Script::Shuffle,
                        8 => Script::ClockJump {
                            slot,
                            by: 3_600_000 - i64::try_from(rng.between(0, 7_200_000)).expect("small"),
                        },
                        _ => Script::Retention,
                    },
                );
            }
        }
        at(TROUBLE, Script::Heal);
        drop(cluster);
        self.shared.borrow_mut().at(0, Event::Heartbeat);
    }

    fn play(&mut self) {
        loop {
            let (event_at, now) = {
                let cluster = self.shared.borrow();
                (cluster.next_event_at(), cluster.now)
            };
            let deadlines = self.deadlines();
            let deadline = deadlines.iter().map(|(_, at)| *at).min();
            let next = [event_at, deadline].into_iter().flatten().min().unwrap_or(END);
            let over = now > TROUBLE && self.is_over();
            if next >= END || over || !self.shared.borrow().books.violations.is_empty() {
                break;
            }
            self.shared.borrow_mut().now = next.max(now);
            while self.shared.borrow().next_event_at().is_some_and(|at| at <= next) {
                let Some(event) = self.shared.borrow_mut().pop_event() else { break };
                let script = self.shared.borrow_mut().handle(event);
                if let Some(script) = script {
                    self.act(script);
                }
            }
            let due = deadlines.into_iter().filter(|(_, at)| *at <= next).map(|(life, _)| life);
            self.shared.borrow_mut().woken.extend(due);
            self.step_all();
        }
        let mut cluster = self.shared.borrow_mut();
        let now = cluster.now;
        cluster.books.check_end(now);
    }

    /// Whether all that was produced has been matched, and every job has ended.
    fn is_over(&self) -> bool {
        let cluster = self.shared.borrow();
        cluster.is_done(INGESTER)
            && cluster.is_done(FANOUT)
            && cluster.books.finished() == cluster.books.jobs()
    }

    /// When each process wants to be called, whatever happens.
    fn deadlines(&self) -> Vec<(Life, u64)> {
        let cluster = self.shared.borrow();
        let deadlines = self.processes.iter().flatten().filter_map(|process| {
            let mono = cluster.mono(process.life);
            let at = [
                process.ingester.next_deadline(),
                process.fanout.next_deadline(),
                process.deliveries.next_deadline(),
                process.retries.next_deadline(mono),
            ]
            .into_iter()
            .flatten()
            .min()?;
            let resumes = cluster.lives[process.life].paused_until;
            // A deadline that is past is looked at once in a millisecond.
            Some((process.life, cluster.global(process.life, at).max(cluster.now + MS).max(resumes)))
        });
        deadlines.collect()
    }

    fn step_all(&mut self) {
        let woken = std::mem::take(&mut self.shared.borrow_mut().woken);
        let end = self.views[self.version].offset;
        for process in self.processes.iter_mut().flatten() {
            let now = {
                let cluster = self.shared.borrow();
                if !cluster.runs(process.life) {
                    // What it was told is still there when it goes on.
                    continue;
                }
                let wall = UnixMillis(cluster.broker_now().0 + cluster.lives[process.life].wall_offset);
                Now { mono: cluster.mono(process.life), wall, broker: UnixMillis(0) }
            };
            if woken.contains(&process.life) {
                self.steps += 1;
                process.step(now, end);
            }
        }
        self.finish_stopping();
    }

    fn finish_stopping(&mut self) {
        for slot in 0..SLOTS {
            let Some(process) = &self.processes[slot] else { continue };
            if process.stopping && self.shared.borrow().owns_nothing(process.life) {
                let life = process.life;
                self.shared.borrow_mut().crash(life);
                self.processes[slot] = None;
            }
        }
    }

    fn act(&mut self, script: Script) {
        let life = |slot: usize| self.processes[slot].as_ref().filter(|p| !p.stopping).map(|p| p.life);
        match script {
            Script::Source { record } => self.produce(record),
            Script::Start { slot } => self.start(slot),
            Script::Crash { slot, down } => {
                let Some(life) = self.processes[slot].as_ref().map(|process| process.life) else { return };
                self.processes[slot] = None;
                let mut cluster = self.shared.borrow_mut();
                cluster.crash(life);
                cluster.faults.crashes += 1;
                cluster.after(down, Event::Script(Script::Start { slot }));
            }
            Script::Pause { slot, time } => {
                if let Some(life) = life(slot) {
                    let mut cluster = self.shared.borrow_mut();
                    cluster.lives[life].paused_until = cluster.now + time;
                    let at = cluster.now + time;
                    cluster.at(at, Event::Visible);
                }
            }
            Script::Hide { slot, time } => {
                if let Some(life) = life(slot) {
                    let mut cluster = self.shared.borrow_mut();
                    cluster.lives[life].unseen_until = cluster.now + time;
                }
            }
            Script::Stop { slot, down } => {
                if let Some(life) = life(slot) {
                    if let Some(process) = &mut self.processes[slot] {
                        process.stopping = true;
                    }
                    let mut cluster = self.shared.borrow_mut();
                    cluster.leave(life);
                    cluster.after(down + 12 * SECOND, Event::Script(Script::Start { slot }));
                }
            }
            Script::Shuffle => self.shared.borrow_mut().shuffle(),
            Script::Retention => self.shared.borrow_mut().delete_old(&self.topics.attempts),
            Script::ClockJump { slot, by } => {
                if let Some(life) = life(slot) {
                    self.shared.borrow_mut().lives[life].wall_offset += by;
                }
            }
            Script::View { life, stage, version } => {
                let view = &self.views[version];
                for process in self.processes.iter_mut().flatten().filter(|process| process.life == life) {
                    process.set_view(stage, version, view);
                }
                self.shared.borrow_mut().woken.insert(life);
            }
            Script::Configure { version } => {
                self.version = self.version.max(version);
                // A view can be stale for seconds.
                self.spread_view(5, 4_000);
            }
            Script::Heal => {
                let mut cluster = self.shared.borrow_mut();
                cluster.calm = true;
                let now = cluster.now;
                for life in &mut cluster.lives {
                    life.unseen_until = now;
                    life.paused_until = life.paused_until.min(now);
                }
                drop(cluster);
                self.spread_view(1_000, 1_000);
                for slot in 0..SLOTS {
                    self.shared.borrow_mut().after(SECOND, Event::Script(Script::Start { slot }));
                }
            }
        }
    }

    /// Every stage of every process learns of the newest configuration, each after so many milliseconds.
    fn spread_view(&mut self, soonest: u64, latest: u64) {
        let version = self.version;
        for process in self.processes.iter().flatten() {
            for stage in 0..STAGES {
                let script = Script::View { life: process.life, stage, version };
                let delay = self.rng.between(soonest, latest) * MS;
                self.shared.borrow_mut().after(delay, Event::Script(script));
            }
        }
    }

    /// A source's producer appends a record.
    fn produce(&mut self, record: usize) {
        let (nth, record) = (record, &self.records[record]);
        let mut cluster = self.shared.borrow_mut();
        if record.since > self.version {
            // An account has events only after it was made.
            cluster.after(self.rng.between(1, 500) * MS, Event::Script(Script::Source { record: nth }));
            return;
        }
        let ack = cluster.append(&record.tp, record.payload.clone());
        let at = ack.appended_at.expect("the simulated log stamps all records");
        cluster.books.expect(&record.tp, ack.offset, at, record.expected_at(ack.offset));
    }

    fn start(&mut self, slot: usize) {
        if self.processes[slot].is_some() {
            return;
        }
        let mut cluster = self.shared.borrow_mut();
        let mono_offset = self.rng.between(0, 1_000_000) * SECOND;
        let wall_offset = 600_000 - i64::try_from(self.rng.between(0, 1_200_000)).expect("small");
        let life = cluster.begin_life(mono_offset, wall_offset);
        let logs = [SENDER, RETRIES, INGESTER, FANOUT].map(|group| cluster.join(life, group));
        drop(cluster);
        let log = |group: usize| SimLog { shared: Rc::clone(&self.shared), id: logs[group], life };
        // A process reads the configuration before it works; what comes later reaches it late.
        let view = Arc::clone(&self.views[self.version]);
        let clock = Arc::new(BrokerClock::default());
        let partitions = Partitions { deliveries: PARTITIONS, retry: RETRY, other: 1 };
        let mut jitter = self.rng.child();
        let mut ids = self.rng.child();
        let parts = Parts {
            topics: Arc::clone(&self.topics),
            rules: Arc::new(Rules::new((*self.ladder).clone())),
            partitions,
            clock: Arc::clone(&clock),
            view: Arc::clone(&view),
            user_agent: Arc::from("hookstream/sim"),
            jitter: Box::new(move || jitter.unit()),
            fresh_id: Box::new(move || OwnerId(ids.uuid())),
        };
        let egress = SimEgress { shared: Rc::clone(&self.shared), life };
        let observer = SimObserver {
            shared: Rc::clone(&self.shared),
            life,
            group: SENDER,
            deliveries: Arc::clone(&self.topics.deliveries),
        };
        let deliveries = Deliveries::new(log(SENDER), egress, observer, parts);
        let retries =
            Retries::new(log(RETRIES), Arc::clone(&self.topics), Arc::clone(&self.ladder), partitions, clock);
        // Small, so that bounds are reached.
        let limits = Limits { records_per_input: 6, uncommitted: 12, ..Limits::default() };
        let registry = Registry::new();
        let topic_ids = Arc::new(TopicIds::default());
        let config_end = Arc::new(ConfigEnd::default());
        let ingest = Ingest::new(hookstream_ingester::Parts {
            cluster: Arc::from(CLUSTER),
            topics: Arc::clone(&self.topics),
            partitions: PARTITIONS,
            topic_ids: Arc::clone(&topic_ids),
            config_end: Arc::clone(&config_end),
            metrics: IngesterMetrics::register(&registry).expect("the registry is new"),
            view: Arc::clone(&view),
        });
        let matching = Match::new(hookstream_fanout::Parts {
            topics: Arc::clone(&self.topics),
            partitions: PARTITIONS,
            metrics: FanoutMetrics::register(&registry).expect("the names differ from the ingester's"),
            view,
        });
        self.processes[slot] = Some(Process {
            life,
            topic_ids,
            config_end,
            ingester: Pipe::new(log(INGESTER), ingest, limits),
            fanout: Pipe::new(log(FANOUT), matching, limits),
            versions: [self.version; STAGES],
            deliveries,
            retries,
            stopping: false,
        });
        self.shared.borrow_mut().woken.insert(life);
    }

    fn report(self, plan: Plan) -> Report {
        let cluster = self.shared.borrow();
        if std::env::var_os("HOOKSTREAM_SIM_TRACE").is_some() {
            cluster.trace();
        }
        let books = &cluster.books;
        let mut violations = books.violations.clone();
        let (jobs, finished) = (books.jobs(), books.finished());
        let seconds = cluster.now / SECOND;
        if violations.is_empty() && finished < jobs {
            let left = books.unfinished();
            violations.push(Violation {
                at_ms: cluster.now / MS,
                what: format!("{} of {jobs} jobs never ended: {:?}", left.len(), left.first()),
            });
        }
        let fingerprint = cluster.topics.values().fold(self.steps ^ cluster.now, |sum, log| {
            log.records.iter().fold(sum, |sum, record| {
                let bytes = record
                    .payload
                    .value()
                    .iter()
                    .fold(record.visible, |sum, byte| sum.wrapping_mul(31) ^ u64::from(*byte));
                sum.rotate_left(5) ^ bytes
            })
        });
        Report {
            seed: plan.seed,
            violations,
            faults: cluster.faults,
            jobs,
            finished,
            requests: books.requests,
            repeated_requests: books.repeated_requests,
            processes: cluster.lives.len(),
            seconds,
            late_most_ms: books.late_most_ms,
            fingerprint,
        }
    }
}
