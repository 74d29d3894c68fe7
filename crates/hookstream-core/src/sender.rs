//! The owner of `deliveries[p]`: takes jobs, lets them be sent, decides once in the ledger, and follows up.
//!
//! A pure state machine, one per partition and assignment. Its life: append an owner record → when that is
//! acknowledged, read the ledger up to it and warm the dedupe window up to the base → run → drain. Per job: HTTP →
//! decision acknowledged → follow-up, made *from the decision*, acknowledged → offset complete.
//!
//! Invariants: a request or a follow-up starts only while the lease holds; the follow-up of a decision is the same
//! whoever produces it; the base passes an offset only when all of this is durable.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hookstream_types::{
    AccountUid, DeliveryId, Generation, Mono, Now, Offset, OwnerId, UnixMillis, WebhookId, limits,
};
use rustc_hash::FxHashMap;

use crate::config::{View, Webhook, WebhookState};
use crate::decision::{DeadReason, Decision, DeferReason, RejectReason, SkipReason, Verdict};
use crate::dedupe::{Seen, Window};
use crate::exchange::{Exchange, FailureKind};
use crate::frontier::Frontier;
use crate::job::{DecidedAt, Job, JobState};
use crate::ladder::Ladder;
use crate::lane::{Admission, Allowance, DeferRules, Lane, Signal, Turn};
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

    fn defer(&self) -> DeferRules {
        DeferRules {
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
/// Part of the in-flight bound beyond which only what can start at once may stay.
const CROWDED_PERCENT: usize = 80;
/// Part of the in-flight bound that one account may hold while it waits.
const ACCOUNT_PERCENT: usize = 60;
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
    accounts: FxHashMap<AccountUid, usize>,
    lanes: FxHashMap<WebhookId, Lane>,
    /// Lanes that may have something to start.
    runnable: VecDeque<WebhookId>,
    /// Lanes that wait for their rate.
    timers: BTreeMap<Mono, Vec<WebhookId>>,
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

    /// How many records may be taken now.
    #[must_use]
    pub fn room(&self) -> usize {
        if self.phase != Phase::Running || !self.ahead.is_empty() || self.bytes >= self.rules.max_bytes {
            return 0;
        }
        self.rules.max_in_flight.saturating_sub(self.frontier.incomplete())
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

// === inputs: the log ===

impl Owner {
    /// A record of `deliveries[p]`.
    pub fn on_record(
        &mut self,
        offset: Offset,
        at: UnixMillis,
        job: Job,
        view: &View,
        now: Now,
        fx: &mut Vec<Effect>,
    ) {
        if !self.see(offset, at, now, fx) {
            return;
        }
        if let Some((decision, place)) = self.decided.remove(&offset) {
            fx.push(Effect::Observed(Observed::KnownDecided));
            self.window.see(job.state.delivery, job.state.generation, offset, digest(&job.data), at);
            let job = as_decided(job, &decision.verdict, at);
            self.hold(offset, job, Stage::Deciding);
            self.follow(decision, place);
            return;
        }
        let state = &job.state;
        match self.window.see(state.delivery, state.generation, offset, digest(&job.data), at) {
            Seen::New => {}
            Seen::Duplicate => {
                fx.push(Effect::Observed(Observed::Duplicate));
                self.frontier.complete(offset);
                return;
            }
            Seen::IdReused => {
                let message = format!(
                    "delivery `{}` came before with other data: an event id must not be used twice",
                    state.delivery
                );
                let tag = self.tag(Pending::FollowUp(vec![offset]));
                let raw = Rejected::Job(Box::new(job));
                fx.push(Effect::Reject { tag, offset, raw, reason: RejectReason::IdReused, message });
                return;
            }
        }
        let is_ahead = !view.reaches(job.state.config) && !on(Mutant::StaleView);
        self.hold(offset, job, Stage::Queued);
        if is_ahead || !self.ahead.is_empty() {
            self.ahead.push_back(offset);
        } else {
            self.admit(offset, view, now);
        }
    }

    /// A record of `deliveries[p]` that is no job.
    pub fn on_bad_record(
        &mut self,
        offset: Offset,
        at: UnixMillis,
        raw: Bytes,
        message: String,
        now: Now,
        fx: &mut Vec<Effect>,
    ) {
        if !self.see(offset, at, now, fx) {
            return;
        }
        let tag = self.tag(Pending::FollowUp(vec![offset]));
        let raw = Rejected::Bytes(raw);
        fx.push(Effect::Reject { tag, offset, raw, reason: RejectReason::BadJob, message });
    }

    fn see(&mut self, offset: Offset, at: UnixMillis, now: Now, fx: &mut Vec<Effect>) -> bool {
        if !self.frontier.see(offset) {
            fx.push(Effect::Observed(Observed::Repeated));
            if on(Mutant::SameOffsetIsDuplicate) {
                self.frontier.complete(offset);
            }
            return false;
        }
        self.last_append = at;
        self.checkpoint(now);
        true
    }

    /// An entry of the ledger.
    pub fn on_ledger(&mut self, at: Offset, entry: Entry) {
        if let Some(reader) = &mut self.reader {
            reader.read(at, entry);
        }
    }

    /// The ledger is read up to the owner record.
    pub fn on_ledger_end(&mut self, now: Now) {
        let Some(reader) = self.reader.take() else { return };
        self.decided = reader.finish();
        // From the offset after the last one decided on, only we decide: at our owner record or after.
        let from = self.decided.last_key_value().map_or(self.frontier.base(), |(offset, _)| offset.next());
        let at = self.last_append;
        let first = self.note.unwrap_or(CommitNote { ledger: Offset(0), owner: None, at });
        self.checkpoints.push_back(Checkpoint { from: self.frontier.base(), note: first });
        let own = CommitNote { ledger: self.owner_at, owner: Some(self.id), at };
        self.checkpoints.push_back(Checkpoint { from, note: own });
        self.end_reading(true, false, now);
    }

    /// A record of the window.
    pub fn on_window(&mut self, at: UnixMillis, state: &JobState, data: &[u8]) {
        // It stands below the base, and so below everything that is handed out.
        const BELOW: Offset = Offset(-1);
        self.window.see(state.delivery, state.generation, BELOW, digest(data), at);
        self.last_append = self.last_append.max(at);
    }

    /// The window is warm.
    pub fn on_window_end(&mut self, now: Now) {
        self.end_reading(false, true, now);
    }

    fn end_reading(&mut self, ledger_read: bool, window_read: bool, now: Now) {
        if let Phase::Reading { ledger, window } = &mut self.phase {
            *ledger &= !ledger_read;
            *window &= !window_read;
            if !*ledger && !*window {
                self.phase = Phase::Running;
                self.last_commit = now.mono;
            }
        }
    }

    /// The record named `tag` is durable, at this offset of its partition.
    pub fn on_appended(&mut self, tag: Tag, at: Offset, now: Now, fx: &mut Vec<Effect>) {
        match self.pending.remove(&tag) {
            None => {}
            Some(Pending::Owner) => self.on_claimed(at, now, fx),
            Some(Pending::Decisions(decisions)) => {
                self.ledger_end = self.ledger_end.max(at.next());
                let place = DecidedAt { owner: self.owner_at, decision: at };
                for decision in decisions {
                    self.follow(decision, place);
                }
            }
            Some(Pending::FollowUp(offsets)) => {
                for offset in offsets {
                    self.followed(offset);
                }
            }
        }
    }

    fn on_claimed(&mut self, at: Offset, now: Now, fx: &mut Vec<Effect>) {
        if self.phase != Phase::Claiming {
            return;
        }
        self.phase = Phase::Reading { ledger: true, window: true };
        self.owner_at = at;
        self.ledger_end = at.next();
        self.reader = Some(Reader::new(self.frontier.base(), self.note.as_ref()));
        fx.push(Effect::ReadLedger { from: self.note.map(|note| note.ledger), to: at });
        let log_time = self.note.map_or(now.broker, |note| note.at);
        let span = i64::try_from(self.rules.window.as_millis()).unwrap_or(i64::MAX);
        let mut to = self.frontier.base();
        if on(Mutant::WarmUpBeyondBase) {
            to = Offset(to.0 + 20);
        }
        fx.push(Effect::ReadWindow { from: UnixMillis(log_time.0.saturating_sub(span)), to });
    }

    /// The follow-up of this decision is to be produced when the lease allows.
    fn follow(&mut self, mut decision: Decision, place: DecidedAt) {
        if on(Mutant::AnotherDue)
            && let Verdict::Retry { due } | Verdict::Deferred { due, .. } = &mut decision.verdict
            && place.owner != self.owner_at
        {
            *due = UnixMillis(due.0 + 700);
        }
        match &decision.verdict {
            Verdict::Delivered | Verdict::Skipped { .. } => self.done(decision.offset),
            Verdict::Deferred { .. } if on(Mutant::DeferralLost) => self.done(decision.offset),
            Verdict::Retry { .. } | Verdict::Deferred { .. } | Verdict::Dead { .. } => {
                self.to_follow.push_back((decision, place));
            }
        }
    }

    fn followed(&mut self, offset: Offset) {
        if let Some(Held { stage: Stage::Following { left }, .. }) = self.held.get_mut(&offset)
            && *left > 1
        {
            *left -= 1;
            return;
        }
        self.done(offset);
    }

    fn done(&mut self, offset: Offset) {
        self.release(offset);
        self.frontier.complete(offset);
    }

    fn hold(&mut self, offset: Offset, job: Job, stage: Stage) {
        self.bytes += job.size();
        *self.accounts.entry(job.event.account).or_default() += 1;
        self.held.insert(offset, Held { job, stage });
    }

    fn release(&mut self, offset: Offset) {
        if let Some(held) = self.held.remove(&offset) {
            self.bytes = self.bytes.saturating_sub(held.job.size());
            if let Some(count) = self.accounts.get_mut(&held.job.event.account) {
                *count -= 1;
                if *count == 0 {
                    self.accounts.remove(&held.job.event.account);
                }
            }
        }
    }

    fn tag(&mut self, pending: Pending) -> Tag {
        self.next_tag += 1;
        self.pending.insert(self.next_tag, pending);
        self.next_tag
    }

    fn checkpoint(&mut self, now: Now) {
        /// Checkpoints are this far apart, so that a stuck head keeps few of them.
        const APART: Duration = Duration::from_millis(200);
        if now.mono.since(self.last_checkpoint) >= APART {
            self.last_checkpoint = now.mono;
            let note = CommitNote { ledger: self.ledger_end, owner: Some(self.id), at: self.last_append };
            let from = self.frontier.seen();
            if self.checkpoints.back().is_none_or(|last| last.from < from) {
                self.checkpoints.push_back(Checkpoint { from, note });
            }
        }
    }
}

// === inputs: the endpoint ===

impl Owner {
    /// What came of the request for the job at `offset`. `jitter` lies between 0 and 1.
    pub fn on_exchange(
        &mut self,
        offset: Offset,
        end: &End,
        view: &View,
        now: Now,
        jitter: f64,
        fx: &mut Vec<Effect>,
    ) {
        let End { outcome, signal, .. } = *end;
        let Some(held) = self.held.get_mut(&offset) else { return };
        if held.stage != Stage::Requesting {
            return;
        }
        held.stage = Stage::Deciding;
        held.job.state.attempts = held.job.state.attempts.saturating_add(1);
        held.job.state.last_attempt_at = Some(now.wall);
        held.job.state.last_status = end.status;
        held.job.state.last_failure = end.failure.map(|kind| kind.label().to_owned());
        let state = held.job.state.clone();
        if let Some(lane) = self.lanes.get_mut(&state.webhook) {
            if lane.on_end(signal, now.mono) {
                fx.push(Effect::Observed(Observed::BreakerOpened));
            }
            self.runnable.push_back(state.webhook);
        }
        let verdict = match outcome {
            Outcome::Delivered => Verdict::Delivered,
            Outcome::GiveUp(reason) => Verdict::Dead { reason },
            Outcome::Retry { after, .. } => {
                let delay = view
                    .webhook(state.webhook)
                    .map_or(Some(Duration::ZERO), |w| w.retry.delay_after(state.attempts, after, jitter));
                match delay {
                    Some(delay) => {
                        Verdict::Retry { due: now.broker + delay.max(self.rules.ladder.shortest()) }
                    }
                    None => Verdict::Dead { reason: DeadReason::Exhausted },
                }
            }
        };
        let decision = Decision { offset, delivery: state.delivery, generation: state.generation, verdict };
        self.append(vec![decision], Some(offset), fx);
    }

    fn append(&mut self, decisions: Vec<Decision>, attempt_of: Option<Offset>, fx: &mut Vec<Effect>) {
        if on(Mutant::FollowUpBeforeDecision) {
            let place = DecidedAt { owner: self.owner_at, decision: self.ledger_end };
            for decision in decisions.clone() {
                self.follow(decision, place);
            }
            let tag = self.tag(Pending::Decisions(Vec::new()));
            fx.push(Effect::Append {
                tag,
                entry: Entry::Decisions { owner: self.id, decisions },
                attempt_of,
            });
            return;
        }
        let tag = self.tag(Pending::Decisions(decisions.clone()));
        fx.push(Effect::Append { tag, entry: Entry::Decisions { owner: self.id, decisions }, attempt_of });
    }

    fn admit(&mut self, offset: Offset, view: &View, now: Now) {
        let Some(held) = self.held.get(&offset) else { return };
        let state = &held.job.state;
        let id = state.webhook;
        let deferred = Duration::from_millis(state.deferred_ms);
        let webhook = match eligibility(view, id) {
            Ok(webhook) => webhook,
            Err(Ineligible::Skip(reason)) => return self.skip(offset, reason),
            Err(Ineligible::Hold) => return self.defer_held(offset, deferred, now),
        };
        let cap = self.rules.max_in_flight;
        let account_jobs = self.accounts.get(&held.job.event.account).copied().unwrap_or(0);
        let crowded = self.frontier.incomplete() * 100 > cap * CROWDED_PERCENT
            || account_jobs * 100 > cap * ACCOUNT_PERCENT
            || self.bytes * 100 > self.rules.max_bytes * CROWDED_PERCENT;
        let allowance = Allowance { concurrency: webhook.concurrency, rate: webhook.rate };
        let shortest = self.rules.ladder.shortest();
        let lane = self.lanes.entry(id).or_insert_with(|| Lane::new(allowance, shortest, now.mono));
        lane.allow(allowance);
        match lane.admit(offset, deferred, crowded, &self.rules.defer(), now.mono) {
            Admission::Queued => self.runnable.push_back(id),
            Admission::Deferred { after, reason } => self.defer(offset, after, reason, now),
        }
    }

    fn defer_held(&mut self, offset: Offset, deferred: Duration, now: Now) {
        /// A paused webhook's jobs come by at least this often, so that resuming takes effect soon.
        const LONGEST_PAUSE: Duration = Duration::from_secs(600);
        let shortest = self.rules.ladder.shortest();
        let after = (deferred * 2).min(LONGEST_PAUSE).max(shortest);
        self.defer(offset, after, DeferReason::Paused, now);
    }

    fn defer(&mut self, offset: Offset, after: Duration, reason: DeferReason, now: Now) {
        let Some(held) = self.held.get_mut(&offset) else { return };
        held.stage = Stage::Deciding;
        held.job.state.deferred_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        let state = &held.job.state;
        let verdict = Verdict::Deferred { due: now.broker + after, reason };
        let decision = Decision { offset, delivery: state.delivery, generation: state.generation, verdict };
        self.undecided.push(decision);
    }

    fn skip(&mut self, offset: Offset, reason: SkipReason) {
        let Some(held) = self.held.get_mut(&offset) else { return };
        held.stage = Stage::Deciding;
        let state = &held.job.state;
        let verdict = Verdict::Skipped { reason };
        let decision = Decision { offset, delivery: state.delivery, generation: state.generation, verdict };
        self.undecided.push(decision);
    }
}

// === the turn of the shell ===

impl Owner {
    /// Does what can be done now: starts, decides, follows up, commits. To be called after the inputs of a turn and
    /// at [`Owner::next_deadline`].
    pub fn poll(&mut self, view: &View, lease: Mono, now: Now, fx: &mut Vec<Effect>) {
        let leased = now.mono < lease || on(Mutant::NoLease);
        match self.phase {
            Phase::Assigned => {
                // An owner record voids what others decide: only who holds the partition may write one.
                if leased {
                    self.phase = Phase::Claiming;
                    let tag = self.tag(Pending::Owner);
                    fx.push(Effect::Append { tag, entry: Entry::Owner(self.id), attempt_of: None });
                }
                return;
            }
            Phase::Claiming | Phase::Reading { .. } | Phase::Drained => return,
            Phase::Running => {
                self.catch_up(view, now);
                if leased {
                    self.dispatch(view, now, fx);
                }
            }
            Phase::Draining { cut_at, cut } => {
                if !cut && now.mono >= cut_at {
                    self.phase = Phase::Draining { cut_at, cut: true };
                    self.cut(fx);
                }
            }
        }
        self.decide(fx);
        if leased {
            self.follow_up(view, now, fx);
        }
        self.commit(now, fx);
        if matches!(self.phase, Phase::Draining { .. }) && self.is_settled() {
            self.phase = Phase::Drained;
            self.commit_now(now, fx);
            fx.push(Effect::Drained);
        }
    }

    /// When [`Owner::poll`] has something to do even if nothing happens.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        let timer = self.timers.first_key_value().map(|(at, _)| *at);
        let commit =
            (self.frontier.base() > self.committed).then(|| self.last_commit + self.rules.commit_every);
        let cut = match self.phase {
            Phase::Draining { cut_at, cut: false } => Some(cut_at),
            Phase::Assigned
            | Phase::Claiming
            | Phase::Reading { .. }
            | Phase::Running
            | Phase::Draining { .. }
            | Phase::Drained => None,
        };
        [timer, commit, cut].into_iter().flatten().min()
    }

    /// The partition is wanted elsewhere: nothing new starts, and what is under way ends by `by`.
    pub fn drain(&mut self, by: Mono, fx: &mut Vec<Effect>) {
        match self.phase {
            Phase::Assigned | Phase::Reading { .. } => {
                self.phase = Phase::Drained;
                fx.push(Effect::Drained);
            }
            // The owner record is under way: landing after the next owner's it would void that one's decisions, so
            // the partition is not let go before it has landed.
            Phase::Claiming | Phase::Running => {
                let margin = u64::try_from(DRAIN_MARGIN.as_micros()).unwrap_or(0);
                self.phase = Phase::Draining { cut_at: Mono(by.0.saturating_sub(margin)), cut: false };
                // Who has not started stays where it is: the next owner reads it again.
                let queued: Vec<Offset> = self
                    .held
                    .iter()
                    .filter(|(_, held)| held.stage == Stage::Queued)
                    .map(|(offset, _)| *offset)
                    .collect();
                for offset in queued {
                    self.release(offset);
                }
                self.ahead.clear();
                self.timers.clear();
                self.runnable.clear();
            }
            Phase::Draining { .. } | Phase::Drained => {}
        }
    }

    fn is_settled(&self) -> bool {
        self.undecided.is_empty()
            && self.to_follow.is_empty()
            && self.pending.is_empty()
            && self.held.values().all(|held| held.stage == Stage::Queued)
    }

    fn cut(&mut self, fx: &mut Vec<Effect>) {
        let mut offsets: Vec<Offset> = self
            .held
            .iter()
            .filter(|(_, held)| held.stage == Stage::Requesting)
            .map(|(offset, _)| *offset)
            .collect();
        offsets.sort_unstable();
        fx.extend(offsets.into_iter().map(|offset| Effect::Cut { offset }));
    }

    /// Jobs that waited for the view, now that it may be there.
    fn catch_up(&mut self, view: &View, now: Now) {
        while let Some(offset) = self.ahead.front().copied() {
            let Some(held) = self.held.get(&offset) else {
                self.ahead.pop_front();
                continue;
            };
            if !view.reaches(held.job.state.config) {
                break;
            }
            self.ahead.pop_front();
            self.admit(offset, view, now);
        }
    }

    fn dispatch(&mut self, view: &View, now: Now, fx: &mut Vec<Effect>) {
        while let Some(entry) = self.timers.first_entry().filter(|entry| *entry.key() <= now.mono) {
            self.runnable.extend(entry.remove());
        }
        while let Some(id) = self.runnable.pop_front() {
            loop {
                let Some(lane) = self.lanes.get_mut(&id) else { break };
                match lane.turn(now.mono) {
                    Turn::Later => {
                        if lane.is_idle(now.mono) && self.lanes.len() > MAX_IDLE_LANES {
                            self.lanes.remove(&id);
                        }
                        break;
                    }
                    Turn::At(at) => {
                        let waiting = self.timers.entry(at).or_default();
                        if !waiting.contains(&id) {
                            waiting.push(id);
                        }
                        break;
                    }
                    Turn::Shut => {
                        if let Some(offset) = lane.pop() {
                            self.admit(offset, view, now);
                        }
                    }
                    Turn::Start(offset) => self.start_request(offset, id, view, now, fx),
                }
            }
        }
    }

    /// State, URL and secret are those of this moment.
    fn start_request(&mut self, offset: Offset, id: WebhookId, view: &View, now: Now, fx: &mut Vec<Effect>) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        match eligibility(view, id) {
            Ok(webhook) => {
                lane.on_start(now.mono);
                if let Some(held) = self.held.get_mut(&offset) {
                    held.stage = Stage::Requesting;
                    held.job.state.first_attempt_at.get_or_insert(now.wall);
                }
                fx.push(Effect::Start { offset, webhook: Arc::clone(webhook) });
            }
            Err(Ineligible::Skip(reason)) => {
                lane.pop();
                self.skip(offset, reason);
            }
            Err(Ineligible::Hold) => {
                lane.pop();
                let deferred = self.held.get(&offset).map_or(0, |held| held.job.state.deferred_ms);
                self.defer_held(offset, Duration::from_millis(deferred), now);
            }
        }
    }

    /// Deferrals and skips of this turn, many to a record.
    fn decide(&mut self, fx: &mut Vec<Effect>) {
        while !self.undecided.is_empty() {
            let rest = self.undecided.split_off(self.undecided.len().min(MAX_DECISIONS));
            let decisions = std::mem::replace(&mut self.undecided, rest);
            self.append(decisions, None, fx);
        }
    }

    /// What follows from decisions that are durable.
    fn follow_up(&mut self, view: &View, now: Now, fx: &mut Vec<Effect>) {
        let mut bundles: BTreeMap<WebhookId, Vec<(Offset, Job)>> = BTreeMap::new();
        while let Some((decision, place)) = self.to_follow.pop_front() {
            let offset = decision.offset;
            let Some(held) = self.held.get_mut(&offset) else { continue };
            held.stage = Stage::Following { left: 1 };
            match decision.verdict {
                Verdict::Delivered | Verdict::Skipped { .. } => {}
                Verdict::Retry { due } | Verdict::Deferred { due, .. } => {
                    let deferral = matches!(decision.verdict, Verdict::Deferred { .. });
                    let job = next_turn(&held.job, decision.generation, due, deferral, place, view.offset);
                    let bundle = bundles.entry(job.state.webhook).or_default();
                    bundle.push((offset, job));
                    let bytes: usize = bundle.iter().map(|(_, job)| job.size()).sum();
                    if bundle.len() >= MAX_BUNDLE || bytes >= MAX_BUNDLE_BYTES {
                        let bundle = std::mem::take(bundle);
                        self.put_off(bundle, now, fx);
                    }
                }
                Verdict::Dead { reason } => {
                    let job = Box::new(held.job.clone());
                    let webhook = view.webhook(job.state.webhook).cloned();
                    let tag = self.tag(Pending::FollowUp(vec![offset]));
                    fx.push(Effect::Bury { tag, job, reason });
                    if reason == DeadReason::Gone
                        && let Some(webhook) = webhook
                    {
                        if let Some(held) = self.held.get_mut(&offset) {
                            held.stage = Stage::Following { left: 2 };
                        }
                        let tag = self.tag(Pending::FollowUp(vec![offset]));
                        fx.push(Effect::Disable { tag, webhook, reason });
                    }
                }
            }
        }
        for bundle in bundles.into_values() {
            self.put_off(bundle, now, fx);
        }
    }

    fn put_off(&mut self, bundle: Vec<(Offset, Job)>, now: Now, fx: &mut Vec<Effect>) {
        let Some(due) = bundle.iter().filter_map(|(_, job)| job.state.due).min() else { return };
        // A due time that has come meanwhile (a repeated follow-up) still passes through the shortest rung.
        let rung = self.rules.ladder.longest_within(now.broker.until(due)).unwrap_or(0);
        let (offsets, jobs) = bundle.into_iter().unzip();
        let tag = self.tag(Pending::FollowUp(offsets));
        fx.push(Effect::PutOff { tag, rung, jobs });
    }

    fn commit(&mut self, now: Now, fx: &mut Vec<Effect>) {
        if now.mono.since(self.last_commit) >= self.rules.commit_every {
            self.commit_now(now, fx);
        }
    }

    fn commit_now(&mut self, now: Now, fx: &mut Vec<Effect>) {
        let mut base = self.frontier.base();
        if on(Mutant::CommitEarly) {
            base = self.frontier.seen();
        }
        if base <= self.committed {
            return;
        }
        while self.checkpoints.get(1).is_some_and(|next| next.from <= base) {
            self.checkpoints.pop_front();
        }
        let Some(checkpoint) = self.checkpoints.front() else { return };
        let note = checkpoint.note;
        self.committed = base;
        self.last_commit = now.mono;
        fx.push(Effect::Commit { base, note });
    }
}

/// Lanes kept although nothing is to be remembered of them.
const MAX_IDLE_LANES: usize = 1_000;

enum Ineligible {
    Skip(SkipReason),
    Hold,
}

/// Whether a webhook's jobs may be sent (design §3, states).
fn eligibility(view: &View, id: WebhookId) -> Result<&Arc<Webhook>, Ineligible> {
    let webhook = view.webhook(id).ok_or(Ineligible::Skip(SkipReason::Deleted))?;
    match webhook.state {
        WebhookState::Published => Ok(webhook),
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

/// The identity of a turn, for tests and logs.
#[must_use]
pub fn turn_of(state: &JobState) -> (DeliveryId, Generation) {
    (state.delivery, state.generation)
}
