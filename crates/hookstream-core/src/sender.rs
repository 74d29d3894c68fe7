//! The owner of `deliveries[p]`: takes jobs, lets them be sent, decides once in the ledger, and follows up.
//!
//! A pure state machine, one per partition and assignment. Its life: append an owner record → when that is
//! acknowledged, read the ledger up to it and warm the dedupe window up to the base → run → drain. Per job: HTTP →
//! decision acknowledged → follow-up, made *from the decision*, acknowledged → offset complete.
//!
//! Invariants: a request or a follow-up starts only while the lease holds; the follow-up of a decision is the same
//! whoever produces it; the base passes an offset only when all of this is durable.

mod endpoint;
mod log;
mod turn;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hookstream_types::{AccountUid, Generation, Mono, Now, Offset, OwnerId, UnixMillis, WebhookId, limits};
use rustc_hash::FxHashMap;

use crate::config::{View, Webhook, WebhookState};
use crate::decision::{About, DeadReason, Decision, DeferReason, RejectReason, SkipReason, Verdict};
use crate::dedupe::{Seen, Window};
use crate::exchange::{Exchange, FailureKind};
use crate::frontier::Frontier;
use crate::job::{DecidedAt, Job, JobState};
use crate::ladder::Ladder;
use crate::lane::{Admission, Allowance, DeferRules, Lane, Patience, Signal, Turn};
use crate::ledger::{CommitNote, Entry, Reader};
use crate::mutant::{Mutant, on};
use crate::outcome::{self, Outcome};

/// How a sender works; the same for all its partitions.
#[derive(Clone, Debug)]
pub struct Rules {
    pub ladder: Ladder,
    /// Jobs read and not complete.
    pub max_in_flight: usize,
    /// Bytes of those.
    pub max_bytes: usize,
    /// Log time that the dedupe window covers.
    pub window: Duration,
    /// Jobs that it holds at most.
    pub window_entries: usize,
    /// The longest that doubling a deferral leads to.
    pub longest_redeferral: Duration,
    /// How often a moved base is committed.
    pub commit_every: Duration,
}

impl Rules {
    #[must_use]
    pub fn new(ladder: Ladder) -> Self {
        Self {
            ladder,
            max_in_flight: limits::MAX_IN_FLIGHT_PER_PARTITION,
            max_bytes: limits::MAX_IN_FLIGHT_BYTES_PER_PARTITION,
            window: limits::DEDUPE_WINDOW,
            window_entries: 64 * 1024,
            longest_redeferral: limits::MAX_REDEFERRAL,
            commit_every: Duration::from_millis(200),
        }
    }

    fn defer(&self, endpoint_share: f64) -> DeferRules {
        DeferRules {
            endpoint_share,
            shortest: self.ladder.shortest(),
            longest_again: self.longest_redeferral.max(self.ladder.shortest()),
            longest: Duration::from_secs(86_400),
        }
    }
}

/// Jobs in one record of the ladder, and their bytes: what is put off together hops together.
const MAX_BUNDLE: usize = 128;
const MAX_BUNDLE_BYTES: usize = 256 * 1024;
/// Decisions in one record.
const MAX_DECISIONS: usize = 256;
/// Bytes of the event types that they name: with the rest of 256 decisions well below a record's bound.
const MAX_DECISIONS_TEXT: usize = 128 * 1024;
/// Part of the in-flight bound beyond which nobody may wait long in memory if others come.
const CROWDED_PERCENT: usize = 80;
/// Part of the in-flight bound that one account's requests may take: they can't be put off any more.
const ACCOUNT_PERCENT: usize = 60;
/// An account whose share was used up for this long has endpoints that don't answer.
const STUCK_AFTER: Duration = Duration::from_millis(100);
/// Who came to an idle lane of a crowded partition had to wait for others. For this long there are likely to be more;
/// without them nobody is better off if those who wait are put off.
const OTHERS_FOR: Duration = Duration::from_secs(10);
/// How often a crowded partition looks for those who wait too long.
const SHED_EVERY: Duration = Duration::from_millis(50);
/// What a drain leaves for decisions and follow-ups after the last request is cut.
const DRAIN_MARGIN: Duration = Duration::from_secs(3);

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub struct End {
    pub outcome: Outcome,
    pub signal: Signal,
    /// The answer's status, if there was an answer.
    pub status: Option<u16>,
    /// Why there was none.
    pub failure: Option<FailureKind>,
}

impl End {
    /// What an exchange means for the delivery, and what it says about the endpoint.
    #[must_use]
    pub fn of(exchange: &Exchange, webhook: &Webhook, now: UnixMillis) -> Self {
        let outcome = outcome::classify(exchange, webhook, now);
        let status = exchange.result.as_ref().ok().map(|response| response.status);
        let signal = match outcome {
            Outcome::Delivered => Signal::Good,
            Outcome::GiveUp(_) => Signal::Neutral,
            Outcome::Retry { backpressure: true, .. } => Signal::PushBack,
            // It answers: what it thinks of the request says nothing against the endpoint.
            Outcome::Retry { .. } if status.is_some_and(|status| status < 500) => Signal::Neutral,
            Outcome::Retry { .. } => Signal::Failing,
        };
        let failure = exchange.result.as_ref().err().map(|failure| failure.kind);
        Self { outcome, signal, status, failure }
    }
}

/// Names an effect whose end the machine wants to hear of.
pub type Tag = u64;

/// What the shell is to do.
#[derive(Debug)]
pub enum Effect {
    /// Append to `attempts[p]`. `attempt_of`: the exchange of this offset belongs to the record.
    Append {
        tag: Tag,
        entry: Entry,
        attempt_of: Option<Offset>,
    },
    /// Append jobs of one webhook to this rung of the ladder, as one record.
    PutOff {
        tag: Tag,
        rung: usize,
        jobs: Vec<Job>,
    },
    /// Append to `hookstream.dead-letter`.
    Bury {
        tag: Tag,
        job: Box<Job>,
        reason: DeadReason,
    },
    /// Append to `hookstream.commands`: the endpoint asks to stop.
    Disable {
        tag: Tag,
        webhook: Arc<Webhook>,
        reason: DeadReason,
    },
    /// Append a record that cannot be handled to `hookstream.rejected`.
    Reject {
        tag: Tag,
        offset: Offset,
        raw: Rejected,
        reason: RejectReason,
        message: String,
    },
    /// Send the job at this offset ([`Owner::job`]) now; answer with [`Owner::on_exchange`].
    Start {
        offset: Offset,
        webhook: Arc<Webhook>,
    },
    /// End the request of this offset; answer with [`Owner::on_exchange`].
    Cut {
        offset: Offset,
    },
    /// Read the ledger: [`Owner::on_ledger`] per entry, then [`Owner::on_ledger_end`]. `from` none: from its beginning.
    ReadLedger {
        from: Option<Offset>,
        to: Offset,
    },
    /// Read `deliveries[p]` from a time up to (not including) the base: [`Owner::on_window`], then
    /// [`Owner::on_window_end`].
    ReadWindow {
        from: UnixMillis,
        to: Offset,
    },
    Commit {
        base: Offset,
        note: CommitNote,
    },
    /// Nothing is left to do: the partition can be released.
    Drained,
    /// For metrics.
    Observed(Observed),
}

/// What is rejected.
#[derive(Debug)]
pub enum Rejected {
    /// Bytes that are no job.
    Bytes(Bytes),
    Job(Box<Job>),
}

/// Things worth counting that have no effect of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    Duplicate,
    Repeated,
    BreakerOpened,
    /// Decided by an earlier owner: not sent again.
    KnownDecided,
}

/// How lanes are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneCounts {
    /// Behind an open breaker.
    pub open: usize,
    /// With requests under way.
    pub busy: usize,
    /// Jobs that wait in lanes.
    pub queued: usize,
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Phase {
    Assigned,
    /// The owner record is under way.
    Claiming,
    /// Ledger and window are being read; which of them is still to come.
    Reading {
        ledger: bool,
        window: bool,
    },
    Running,
    Draining {
        cut_at: Mono,
        cut: bool,
    },
    Drained,
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Stage {
    Queued,
    Requesting,
    Deciding,
    Following { left: u8 },
}

#[derive(Debug)]
struct Held {
    job: Job,
    stage: Stage,
}

#[derive(Debug)]
enum Pending {
    Owner,
    Decisions(Vec<Decision>),
    FollowUp(Vec<Offset>),
}

/// What one account has here.
#[derive(Debug, Default, Clone, Copy)]
struct Share {
    jobs: usize,
    requests: usize,
    /// Since when it may have no request more.
    full_since: Option<Mono>,
}

impl Share {
    fn is_stuck(&self, now: Mono) -> bool {
        self.full_since.is_some_and(|since| now.since(since) >= STUCK_AFTER)
    }
}

#[derive(Debug, Clone, Copy)]
struct Checkpoint {
    /// Decisions about this offset or later ones stand at `note.ledger` or after.
    from: Offset,
    note: CommitNote,
}

/// One assignment of one partition of `deliveries`.
#[derive(Debug)]
pub struct Owner {
    rules: Arc<Rules>,
    id: OwnerId,
    owner_at: Offset,
    phase: Phase,
    frontier: Frontier,
    note: Option<CommitNote>,
    checkpoints: VecDeque<Checkpoint>,
    ledger_end: Offset,
    reader: Option<Reader>,
    decided: BTreeMap<Offset, (Decision, DecidedAt)>,
    window: Window,
    last_append: UnixMillis,
    held: FxHashMap<Offset, Held>,
    bytes: usize,
    accounts: FxHashMap<AccountUid, Share>,
    lanes: FxHashMap<WebhookId, Lane>,
    /// Lanes that may have something to start.
    runnable: VecDeque<WebhookId>,
    /// Lanes that wait for their rate.
    timers: BTreeMap<Mono, Vec<WebhookId>>,
    /// Lanes that wait for a request of their account to end.
    blocked: BTreeSet<WebhookId>,
    /// When to look next for those who wait too long.
    next_shed: Mono,
    /// Until then we know of jobs that could go at once if those who wait did not take all the room.
    others_until: Mono,
    endpoint_share: f64,
    /// Jobs whose maker knew a newer configuration than we do.
    ahead: VecDeque<Offset>,
    undecided: Vec<Decision>,
    to_follow: VecDeque<(Decision, DecidedAt)>,
    pending: FxHashMap<Tag, Pending>,
    next_tag: Tag,
    committed: Offset,
    last_commit: Mono,
    last_checkpoint: Mono,
}

impl Owner {
    /// A new assignment: everything below `base` is complete, and `note` was committed with it.
    ///
    /// `id` is fresh for each assignment.
    #[must_use]
    pub fn new(rules: Arc<Rules>, id: OwnerId, base: Offset, note: Option<CommitNote>) -> Self {
        let window = Window::new(rules.window, rules.window_entries);
        Self {
            rules,
            id,
            owner_at: Offset(0),
            phase: Phase::Assigned,
            frontier: Frontier::new(base),
            note,
            checkpoints: VecDeque::new(),
            ledger_end: Offset(0),
            reader: None,
            decided: BTreeMap::new(),
            window,
            last_append: note.map_or(UnixMillis(0), |note| note.at),
            held: FxHashMap::default(),
            bytes: 0,
            accounts: FxHashMap::default(),
            lanes: FxHashMap::default(),
            runnable: VecDeque::new(),
            timers: BTreeMap::new(),
            blocked: BTreeSet::new(),
            next_shed: Mono(0),
            others_until: Mono(0),
            endpoint_share: 1.0,
            ahead: VecDeque::new(),
            undecided: Vec::new(),
            to_follow: VecDeque::new(),
            pending: FxHashMap::default(),
            next_tag: 0,
            committed: base,
            last_commit: Mono(0),
            last_checkpoint: Mono(0),
        }
    }

    #[must_use]
    pub fn id(&self) -> OwnerId {
        self.id
    }

    /// The part of its time that the core is idle: what a request takes beyond it is not the endpoint's doing.
    pub fn set_idle(&mut self, idle: f64) {
        self.endpoint_share = idle.clamp(0.1, 1.0);
    }

    /// How many records may be taken now.
    #[must_use]
    pub fn room(&self) -> usize {
        if self.phase != Phase::Running || !self.ahead.is_empty() || self.bytes >= self.rules.max_bytes {
            return 0;
        }
        self.rules.max_in_flight.saturating_sub(self.frontier.incomplete())
    }

    /// Little room is left.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        self.frontier.incomplete() * 100 > self.rules.max_in_flight * CROWDED_PERCENT
            || self.bytes * 100 > self.rules.max_bytes * CROWDED_PERCENT
    }

    fn account_limit(&self) -> usize {
        (self.rules.max_in_flight * ACCOUNT_PERCENT / 100).max(1)
    }

    /// The job at an offset that is being handled.
    #[must_use]
    pub fn job(&self, offset: Offset) -> Option<&Job> {
        self.held.get(&offset).map(|held| &held.job)
    }

    /// The lowest offset that is not complete.
    #[must_use]
    pub fn base(&self) -> Offset {
        self.frontier.base()
    }

    #[must_use]
    pub fn is_running(&self) -> bool {
        self.phase == Phase::Running
    }

    /// Whether a job waits for a newer configuration than the view it was offered last.
    #[must_use]
    pub fn awaits(&self) -> Option<Offset> {
        let offset = self.ahead.front()?;
        self.held.get(offset).map(|held| held.job.state.config)
    }

    /// Requests under way.
    #[must_use]
    pub fn requesting(&self) -> usize {
        self.lanes.values().map(|lane| lane.in_flight() as usize).sum()
    }

    /// How the lanes are.
    #[must_use]
    pub fn lanes(&self) -> LaneCounts {
        let mut counts = LaneCounts::default();
        for lane in self.lanes.values() {
            counts.open += usize::from(lane.breaker().is_open());
            counts.busy += usize::from(!lane.breaker().is_open() && lane.in_flight() > 0);
            counts.queued += lane.queued();
        }
        counts
    }

    /// Takes part of another owner's window over. Only a mutant does this.
    pub fn adopt_window(&mut self, window: Window) {
        self.window = window;
    }

    /// Gives the window away. Only a mutant wants it.
    #[must_use]
    pub fn into_window(self) -> Window {
        self.window
    }
}

/// Lanes kept although nothing is to be remembered of them.
const MAX_IDLE_LANES: usize = 1_000;

enum Ineligible {
    Skip(SkipReason),
    Hold,
}

/// Whether a webhook's jobs may be sent (design §3, states).
fn eligibility<'a>(view: &'a View, job: &Job, broker: UnixMillis) -> Result<&'a Arc<Webhook>, Ineligible> {
    if let Some(reason) = view.runs.overtaken(job.state.delivery, job.state.generation.run) {
        return Err(Ineligible::Skip(reason));
    }
    let webhook = view.webhook(job.state.webhook).ok_or(Ineligible::Skip(SkipReason::Deleted))?;
    if view.expiry(webhook, job).is_some_and(|expiry| expiry <= broker) {
        return Err(Ineligible::Skip(SkipReason::Expired));
    }
    match webhook.state {
        WebhookState::Published => match view.missing_scope(webhook, &job.event.event_type) {
            None => Ok(webhook),
            Some(_) => Err(Ineligible::Skip(SkipReason::ScopeLost)),
        },
        WebhookState::Paused => Err(Ineligible::Hold),
        WebhookState::Draft | WebhookState::Unpublished => Err(Ineligible::Skip(SkipReason::Unpublished)),
        WebhookState::Disabled => Err(Ineligible::Skip(SkipReason::Disabled)),
    }
}

/// The job that follows from a decision: the same, whoever makes it.
fn next_turn(
    job: &Job,
    decided: Generation,
    due: UnixMillis,
    deferral: bool,
    place: DecidedAt,
    config: Offset,
) -> Job {
    let state = JobState {
        delivery: job.state.delivery,
        webhook: job.state.webhook,
        generation: decided.next(),
        attempts: job.state.attempts,
        config: job.state.config.max(config),
        due: Some(due),
        first_attempt_at: job.state.first_attempt_at,
        last_attempt_at: job.state.last_attempt_at,
        last_status: job.state.last_status,
        last_failure: job.state.last_failure.clone(),
        deferred_ms: if deferral { job.state.deferred_ms } else { 0 },
        decided: Some(place),
    };
    Job { state, event: Arc::clone(&job.event), data: job.data.clone() }
}

/// The job as it stood when an earlier owner decided about it.
fn as_decided(mut job: Job, verdict: &Verdict, at: UnixMillis) -> Job {
    match verdict {
        Verdict::Retry { .. } | Verdict::Dead { .. } => {
            job.state.attempts = job.state.attempts.saturating_add(1);
            job.state.first_attempt_at.get_or_insert(at);
        }
        Verdict::Deferred { due, .. } => {
            let deferred = u64::try_from(at.until(*due).as_millis()).unwrap_or(u64::MAX);
            job.state.deferred_ms = job.state.deferred_ms.max(deferred);
        }
        Verdict::Delivered | Verdict::Skipped { .. } => {}
    }
    job
}

/// Tells data apart; no security rests on it.
fn digest(data: &[u8]) -> u64 {
    use std::hash::Hasher;
    let mut hasher = rustc_hash::FxHasher::default();
    hasher.write(data);
    hasher.finish()
}
