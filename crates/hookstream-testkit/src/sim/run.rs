//! One run: the world, what happens to it, and the report.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hookstream_core::clock::BrokerClock;
use hookstream_core::config::{View, Webhook, WebhookState};
use hookstream_core::event::EventAttributes;
use hookstream_core::exchange::Method;
use hookstream_core::job::{Job, JobState};
use hookstream_core::ladder::Ladder;
use hookstream_core::schedule::RetrySchedule;
use hookstream_core::sender::Rules;
use hookstream_sender::deliveries::Parts;
use hookstream_sender::retries::Partitions;
use hookstream_sender::{Deliveries, Retries};
use hookstream_types::{
    AccountUid, DeliveryId, EventId, Generation, Now, Offset, OwnerId, Secret, UnixMillis, WebhookId,
};
use hookstream_wire::{Topics, job};

use super::books::{Books, Violation};
use super::cluster::{Cluster, Event, Life, LifeState, MS, Manner, SECOND, Script, Shared, TopicPartition};
use super::log::{SimEgress, SimLog, SimObserver};
use super::rng::Rng;

/// What a run is to be like.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seed: u64,
    /// Jobs to be delivered.
    pub jobs: usize,
}

impl Plan {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, jobs: 60 }
    }
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    pub seed: u64,
    pub violations: Vec<Violation>,
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

const DELIVERIES: i32 = 3;
const RETRY: i32 = 2;
const SLOTS: usize = 3;
const WEBHOOKS: usize = 8;
/// Faults and jobs happen before this; then all is well until everything has ended.
const TROUBLE: u64 = 60 * SECOND;
/// A run that is not over by then is stuck.
const END: u64 = 600 * SECOND;

struct Process {
    life: Life,
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
    jobs: Vec<Job>,
    processes: Vec<Option<Process>>,
    rng: Rng,
    steps: u64,
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
        let books = Books::new(Arc::clone(&topics), rungs_ms, calm);
        let mut cluster = Cluster::new(rng.child(), calm, books);
        for (name, partitions) in [
            (&topics.deliveries, DELIVERIES),
            (&topics.attempts, DELIVERIES),
            (&topics.dead_letter, 1),
            (&topics.rejected, 1),
            (&topics.commands, 1),
        ] {
            cluster.create_topic(name, partitions);
        }
        for name in &topics.retry {
            cluster.create_topic(name, RETRY);
        }
        cluster.create_group(&[(Arc::clone(&topics.deliveries), DELIVERIES)]);
        let retry: Vec<(Arc<str>, i32)> = topics.retry.iter().map(|name| (Arc::clone(name), RETRY)).collect();
        cluster.create_group(&retry);

        let webhooks: Vec<Arc<Webhook>> =
            (0..WEBHOOKS).map(|n| Arc::new(webhook(&mut rng, n, calm))).collect();
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
        // Version n of the configuration has the webhooks 0 to n: later ones are made while the run goes on.
        let views: Vec<Arc<View>> = (0..WEBHOOKS)
            .map(|version| Arc::new(view_of(&webhooks[..=version], i64::try_from(version + 1).expect("few"))))
            .collect();
        let mut jobs = Vec::new();
        for n in 0..plan.jobs {
            let job = job_of(&mut rng, n, &webhooks);
            cluster.books.expect(&job);
            jobs.push(job);
        }

        let mut world = Self {
            shared: Rc::new(RefCell::new(cluster)),
            topics,
            ladder,
            views,
            version: 2,
            jobs,
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
        for job in 0..self.jobs.len() {
            let time = rng.between(2_500, 45_000) * MS;
            at(time, Script::Inject { job, again: false });
            // The stage before repeats a tail after a crash.
            if !calm && rng.percent(15) {
                at(time + rng.between(1, 8_000) * MS, Script::Inject { job, again: true });
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
            let deadline = self.next_deadline();
            let next = [event_at, deadline].into_iter().flatten().min().unwrap_or(END);
            let over = now > TROUBLE && self.is_over();
            if next >= END || over || !self.shared.borrow().books.violations.is_empty() {
                break;
            }
            self.shared.borrow_mut().now = next.max(now);
            while self.shared.borrow().next_event_at().is_some_and(|at| at <= next) {
                let Some(event) = self.shared.borrow_mut().pop_event() else { break };
                self.happen(event);
            }
            self.step_all(deadline.is_some_and(|at| at <= next));
        }
        let mut cluster = self.shared.borrow_mut();
        let now = cluster.now;
        cluster.books.check_end(now);
    }

    /// Whether every job has ended.
    fn is_over(&self) -> bool {
        let cluster = self.shared.borrow();
        cluster.books.finished() == cluster.books.jobs()
    }

    fn next_deadline(&self) -> Option<u64> {
        let cluster = self.shared.borrow();
        let deadlines = self.processes.iter().flatten().filter_map(|process| {
            let mono = cluster.mono(process.life);
            let at = [process.deliveries.next_deadline(), process.retries.next_deadline(mono)]
                .into_iter()
                .flatten()
                .min()?;
            let resumes = cluster.lives[process.life].paused_until;
            // A deadline that is past is looked at once in a millisecond.
            Some(cluster.global(process.life, at).max(cluster.now + MS).max(resumes))
        });
        deadlines.min()
    }

    fn step_all(&mut self, everyone: bool) {
        let woken = std::mem::take(&mut self.shared.borrow_mut().woken);
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
            if everyone || woken.contains(&process.life) {
                self.steps += 1;
                process.deliveries.step(now);
                process.retries.step(now);
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

    fn happen(&mut self, event: Event) {
        match event {
            Event::Script(script) => self.act(script),
            Event::Heartbeat => {
                let mut cluster = self.shared.borrow_mut();
                cluster.heartbeat();
                let lives = 0..cluster.lives.len();
                cluster.woken.extend(lives);
            }
            Event::Visible => {
                let mut cluster = self.shared.borrow_mut();
                let lives = 0..cluster.lives.len();
                cluster.woken.extend(lives);
            }
            Event::Land { life, log, token, tp, record, ack, survives } => {
                self.shared.borrow_mut().land(life, log, token, &tp, record, ack, survives);
            }
            Event::GiveUp { log, token } => self.shared.borrow_mut().give_up(log, token),
            Event::Tell { log, event } => self.shared.borrow_mut().tell(log, event),
            Event::Answer { life, key, id, result, retry_after, took } => {
                self.shared.borrow_mut().answer(life, key, id, result, retry_after, took);
            }
        }
    }

    fn act(&mut self, script: Script) {
        let life = |slot: usize| self.processes[slot].as_ref().filter(|p| !p.stopping).map(|p| p.life);
        match script {
            Script::Inject { job, again } => self.inject(job, again),
            Script::Start { slot } => self.start(slot),
            Script::Crash { slot, down } => {
                let Some(life) = self.processes[slot].as_ref().map(|process| process.life) else { return };
                self.processes[slot] = None;
                let mut cluster = self.shared.borrow_mut();
                cluster.crash(life);
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
            Script::Retention => {
                let (deliveries, attempts) =
                    (Arc::clone(&self.topics.deliveries), Arc::clone(&self.topics.attempts));
                self.shared.borrow_mut().delete_old(&deliveries, &attempts);
            }
            Script::ClockJump { slot, by } => {
                if let Some(life) = life(slot) {
                    self.shared.borrow_mut().lives[life].wall_offset += by;
                }
            }
            Script::View { life, version } => {
                let view = Arc::clone(&self.views[version]);
                for process in self.processes.iter_mut().flatten().filter(|process| process.life == life) {
                    process.deliveries.set_view(Arc::clone(&view));
                }
                self.shared.borrow_mut().woken.insert(life);
            }
            Script::Configure { version } => {
                self.version = self.version.max(version);
                let lives: Vec<Life> = self.processes.iter().flatten().map(|process| process.life).collect();
                for life in lives {
                    // A view can be stale for seconds.
                    let delay = self.rng.between(5, 4_000) * MS;
                    let version = self.version;
                    self.shared.borrow_mut().after(delay, Event::Script(Script::View { life, version }));
                }
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
                let version = self.version;
                for process in self.processes.iter().flatten() {
                    let life = process.life;
                    self.shared.borrow_mut().after(SECOND, Event::Script(Script::View { life, version }));
                }
                for slot in 0..SLOTS {
                    self.shared.borrow_mut().after(SECOND, Event::Script(Script::Start { slot }));
                }
            }
        }
    }

    fn inject(&mut self, index: usize, again: bool) {
        let version = i64::try_from(self.version + 1).expect("few");
        let job = &mut self.jobs[index];
        if !again {
            job.state.config = job.state.config.max(Offset(version));
        }
        if job.state.config > Offset(version) {
            // Its webhook is not there yet.
            self.shared.borrow_mut().after(SECOND, Event::Script(Script::Inject { job: index, again }));
            return;
        }
        let mut value = Vec::new();
        job::append(job, &mut value);
        let key = job::partition_key(job.state.webhook).to_vec();
        let tp: TopicPartition =
            (Arc::clone(&self.topics.deliveries), job::deliveries_partition(job.state.webhook, DELIVERIES).0);
        self.shared.borrow_mut().append(&tp, key, value);
    }

    fn start(&mut self, slot: usize) {
        if self.processes[slot].is_some() {
            return;
        }
        let mut cluster = self.shared.borrow_mut();
        let life = cluster.lives.len();
        let mono_offset = self.rng.between(0, 1_000_000) * SECOND;
        let wall_offset = 600_000 - i64::try_from(self.rng.between(0, 1_200_000)).expect("small");
        cluster.lives.push(LifeState {
            alive: true,
            paused_until: 0,
            unseen_until: 0,
            leaving: false,
            mono_offset,
            wall_offset,
            done: Default::default(),
            requests: Default::default(),
        });
        let logs = [cluster.join(life, 0), cluster.join(life, 1)];
        drop(cluster);
        let log = |id| SimLog { shared: Rc::clone(&self.shared), id, life };
        // A process reads the configuration before it works; what comes later reaches it late.
        let view = Arc::clone(&self.views[self.version]);
        let clock = Arc::new(BrokerClock::default());
        let partitions = Partitions { deliveries: DELIVERIES, retry: RETRY, other: 1 };
        let mut jitter = self.rng.child();
        let mut ids = self.rng.child();
        let parts = Parts {
            topics: Arc::clone(&self.topics),
            rules: Arc::new(Rules::new((*self.ladder).clone())),
            partitions,
            clock: Arc::clone(&clock),
            view,
            user_agent: Arc::from("hookstream/sim"),
            jitter: Box::new(move || jitter.unit()),
            fresh_id: Box::new(move || OwnerId(ids.uuid())),
        };
        let egress = SimEgress { shared: Rc::clone(&self.shared), life };
        let observer = SimObserver {
            shared: Rc::clone(&self.shared),
            life,
            group: 0,
            deliveries: Arc::clone(&self.topics.deliveries),
        };
        let deliveries = Deliveries::new(log(logs[0]), egress, observer, parts);
        let retries =
            Retries::new(log(logs[1]), Arc::clone(&self.topics), Arc::clone(&self.ladder), partitions, clock);
        self.processes[slot] = Some(Process { life, deliveries, retries, stopping: false });
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
                    .value
                    .iter()
                    .fold(record.visible, |sum, byte| sum.wrapping_mul(31) ^ u64::from(*byte));
                sum.rotate_left(5) ^ bytes
            })
        });
        Report {
            seed: plan.seed,
            violations,
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

fn webhook(rng: &mut Rng, n: usize, calm: bool) -> Webhook {
    Webhook {
        id: WebhookId(rng.uuid()),
        account: AccountUid(uuid::Uuid::from_u128(1)),
        name: format!("webhook-{n}"),
        state: WebhookState::Published,
        disabled_reason: None,
        source: None,
        event_types: vec!["*".to_owned()],
        url: format!("http://127.0.0.1:9/{n}"),
        method: Method::Post,
        content_type: "application/json".to_owned(),
        headers: Vec::new(),
        secrets: vec![Secret::new(vec![7; 24])],
        retry: RetrySchedule::new([0, 1, 2, 5, 6, 9, 20, 20, 20, 30].map(Duration::from_secs)),
        give_up_on: Vec::new(),
        timeout: Duration::from_secs(5),
        rate: (!calm && rng.percent(30)).then(|| rng.between(1, 5) as f64),
        concurrency: u32::try_from(rng.between(1, 8)).expect("small"),
        log_only_errors: false,
        revision: 1,
    }
}

fn view_of(webhooks: &[Arc<Webhook>], offset: i64) -> View {
    let webhooks = webhooks.iter().map(|webhook| (webhook.id, Arc::clone(webhook))).collect();
    View::new(Offset(offset), Default::default(), Default::default(), Default::default(), webhooks)
}

fn job_of(rng: &mut Rng, n: usize, webhooks: &[Arc<Webhook>]) -> Job {
    let index = usize::try_from(rng.between(0, webhooks.len() as u64 - 1)).expect("small");
    let webhook = &webhooks[index];
    let event = EventId(rng.uuid());
    Job {
        state: JobState {
            delivery: DeliveryId::of(event, webhook.id),
            webhook: webhook.id,
            generation: Generation::default(),
            attempts: 0,
            // The webhook exists from this version of the configuration on.
            config: Offset(i64::try_from(index + 1).expect("few")),
            due: None,
            first_attempt_at: None,
            last_attempt_at: None,
            last_status: None,
            last_failure: None,
            deferred_ms: 0,
            decided: None,
        },
        event: Arc::new(EventAttributes {
            event,
            account: webhook.account,
            source: "sim".to_owned(),
            id: n.to_string(),
            ce_source: "/sim".to_owned(),
            event_type: "job.made".to_owned(),
            subject: None,
            time: "2026-01-01T00:00:00Z".to_owned(),
            content_type: Some("application/json".to_owned()),
            extensions: Vec::new(),
            produced_at: UnixMillis(0),
        }),
        data: Bytes::from(format!("{{\"n\":{n}}}")),
    }
}
