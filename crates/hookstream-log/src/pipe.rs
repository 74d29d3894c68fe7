//! The stage of functions of their input: what comes in, and nothing else, says what goes out.
//!
//! A [`Pipe`] takes records of all its inputs, hands each to its [`Function`], which produces outputs, and
//! completes a record when all its outputs are acknowledged. The contiguous prefix of complete records is
//! committed (rule 2), after the function's evidence of it, if it keeps any, is acknowledged.
//!
//! - *Backpressure*: what is in flight is bounded in records and bytes; beyond that nothing is taken, so records
//!   stay in the log.
//! - *Retries*: a record one of whose outputs has an unknown outcome, or was refused, is handed to the function
//!   again, with a growing delay. That repeats outputs, which is harmless: they are the same records.
//! - *Waiting*: a function that can't handle a record yet says so; then nothing after it in that partition is
//!   handled before it (rule 10).
//! - *Drain*: an input that is revoked takes nothing more, waits for its acknowledgements, commits and is released.
//!   One that is lost is forgotten; nothing of it is committed.
//!
//! Whatever the function produces for an input after it was lost does no harm, so the lease plays no part here.

mod shell;
mod slab;

use std::sync::Arc;
use std::time::Duration;

use hookstream_core::frontier::Frontier;
use hookstream_core::mutant::{Mutant, on};
use hookstream_types::{Mono, Offset, Partition};

pub use self::shell::{Driver, Panicked, Signals};
use self::slab::{Entry, Kind, Slab};
use crate::log::{Full, Input, Log, LogEvent, OutRecord, ProduceError, RecordRef, Token};

/// A partition that a function's records come from.
#[derive(Clone, Debug)]
pub struct Place {
    pub input: Input,
    pub topic: Arc<str>,
    pub partition: Partition,
    /// Everything below this was taken from the log, handled or not.
    pub taken: Offset,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// All its outputs are produced.
    Done,
    /// It can't be handled yet; it is handed over again.
    Wait,
}

/// A function from records to records.
pub trait Function {
    /// How far a record is handled whose outputs did not fit into the producer's queue at once.
    type Cursor: Default;

    /// How many offsets one commit may cover: what evidence of them fits into one record.
    const COMMIT_SPAN: i64 = i64::MAX;

    /// Handles a record: produces its outputs.
    ///
    /// # Errors
    /// [`Full`] is handed on as [`Outputs::produce`] returned it. Then the record is handed over again, with the
    /// `cursor` as it was left; a fresh one means: from the start.
    fn apply(
        &mut self,
        record: RecordRef<'_>,
        from: &Place,
        cursor: &mut Self::Cursor,
        outputs: &mut Outputs<'_>,
    ) -> Result<Applied, Full>;

    /// An output of the record is too large for its topic, which no retry mends: says so elsewhere.
    ///
    /// `nth` counts the times that this happened to the record, from 0: what was too large itself must become
    /// smaller, or be left out.
    ///
    /// # Errors
    /// As [`Function::apply`], but always from the start.
    fn too_large(
        &mut self,
        record: RecordRef<'_>,
        from: &Place,
        nth: u32,
        outputs: &mut Outputs<'_>,
    ) -> Result<(), Full>;

    /// The records of `[start, end)` are about to be committed: produces what must be durable before that, or asks to
    /// wait for what it began; then it is asked again a little later, and what comes after is handled meanwhile.
    ///
    /// # Errors
    /// [`Full`] is handed on; then it is asked again.
    fn before_commit(
        &mut self,
        _from: &Place,
        _start: Offset,
        _end: Offset,
        _outputs: &mut Outputs<'_>,
    ) -> Result<Applied, Full> {
        Ok(Applied::Done)
    }

    /// Everything below `end` is handed over to be committed.
    fn committed(&mut self, _from: &Place, _end: Offset) {}

    /// The input is not ours any more.
    fn forget(&mut self, _from: &Place) {}
}

/// Where a function puts its outputs.
pub struct Outputs<'a> {
    log: &'a mut dyn Log,
    token: Token,
    produced: u32,
}

impl std::fmt::Debug for Outputs<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outputs").field("produced", &self.produced).finish_non_exhaustive()
    }
}

impl Outputs<'_> {
    /// Appends a record.
    ///
    /// # Errors
    /// [`Full`] if the producer's queue is full: return it.
    pub fn produce(&mut self, record: OutRecord<'_>) -> Result<(), Full> {
        self.log.produce(self.token, record)?;
        self.produced += 1;
        Ok(())
    }
}

/// What a pipe keeps in flight, and how often it commits.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Records of one input that are taken and not complete.
    pub records_per_input: usize,
    /// Bytes of those records.
    pub bytes_per_input: usize,
    /// Bytes of the records of all inputs.
    pub bytes: usize,
    /// Offsets between the committed one and the last one taken: what a crash repeats.
    pub uncommitted: i64,
    /// Between two commits of an input.
    pub commit_every: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // At 100,000 records a second and 20 ms to an acknowledgement 2,000 are in flight.
            records_per_input: 8_192,
            bytes_per_input: 8 * 1024 * 1024,
            bytes: 64 * 1024 * 1024,
            uncommitted: 100_000,
            commit_every: Duration::from_millis(250),
        }
    }
}

/// Records taken in one step, so that acknowledgements are seen in between.
const STEP_RECORDS: usize = 2_048;
/// Records taken at once from one input, so that inputs take turns.
const TAKE_RECORDS: usize = 64;
/// When a record that waits is looked at again, should nobody call earlier.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// The first delay of a record whose output failed; each further one doubles it.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// The longest such delay.
const LAST_BACKOFF: Duration = Duration::from_secs(10);

fn backoff(failures: u32) -> Duration {
    FIRST_BACKOFF.saturating_mul(1 << failures.min(16)).min(LAST_BACKOFF)
}

/// Counts since the start; what stands is in the other fields.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    pub taken: u64,
    pub completed: u64,
    /// Records that came a second time in one assignment.
    pub repeated: u64,
    pub produced: u64,
    /// Outputs whose outcome is unknown.
    pub unknown: u64,
    /// Outputs whose topic is missing or closed to us.
    pub refused: u64,
    pub too_large: u64,
    pub commits: u64,
    /// Partitions at present.
    pub inputs: usize,
    /// Records at present taken and not complete.
    pub in_flight: usize,
    /// Bytes of them.
    pub bytes: usize,
}

/// What keeps a pipe from going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stuck {
    /// A record waits for the function to be able to handle it.
    Waiting { since: Mono },
    /// Outputs fail.
    Failing { since: Mono, error: ProduceError },
}

impl Stuck {
    /// Why the pipe is not ready, for people; none while it has not lasted longer than is usual.
    ///
    /// `waiting` says what the function waits for.
    #[must_use]
    pub fn reason(self, waiting: &str, now: Mono) -> Option<Arc<str>> {
        const PATIENCE: Duration = Duration::from_secs(5);
        match self {
            Self::Waiting { since } if now.since(since) > PATIENCE => Some(waiting.into()),
            Self::Failing { since, error } if now.since(since) > PATIENCE => {
                Some(format!("producing fails: {error}").into())
            }
            Self::Waiting { .. } | Self::Failing { .. } => None,
        }
    }
}

/// The state of one input.
struct InputState {
    place: Place,
    frontier: Frontier,
    /// Handed over to be committed.
    committed: Offset,
    committed_at: Mono,
    /// Taken and not handled yet, in order. The first may be handled in part.
    queue: std::collections::VecDeque<u32>,
    /// Records taken and not complete.
    in_flight: usize,
    bytes: usize,
    /// Outputs produced and not acknowledged.
    unacknowledged: usize,
    /// Whether evidence is on its way.
    proving: bool,
    /// Evidence that failed is not produced again before this.
    prove_at: Mono,
    /// The last evidence failed.
    unproved: bool,
    /// What one commit covers; halved if its evidence was too large.
    span: i64,
    /// Since when the first of the queue waits.
    waiting: Option<Mono>,
    /// About the largest record of late: how many may be taken at once depends on it.
    largest: usize,
    draining: bool,
}

impl InputState {
    fn idle(&self) -> bool {
        self.unacknowledged == 0 && !self.proving
    }

    /// What the next commit covers, if there is anything to commit.
    fn next_commit(&self) -> Option<Offset> {
        let base = if on(Mutant::PipeCommitEarly) { self.frontier.seen() } else { self.frontier.base() };
        (base > self.committed).then(|| base.min(Offset(self.committed.0.saturating_add(self.span))))
    }

    /// When the next commit is due.
    fn commit_due(&self, every: Duration) -> Option<Mono> {
        if self.proving || self.next_commit().is_none() {
            return None;
        }
        let full = self.frontier.base().0.saturating_sub(self.committed.0) >= self.span;
        let due = if full || self.draining { Mono(0) } else { self.committed_at + every };
        Some(due.max(self.prove_at))
    }
}

/// A function at work on a log.
pub struct Pipe<L, F: Function> {
    log: L,
    function: F,
    limits: Limits,
    inputs: Vec<InputState>,
    slab: Slab<F::Cursor>,
    /// Records that are handed over again, when their time has come.
    retries: Vec<u32>,
    /// Which input is the first to be taken from, so that each is at times.
    turn: usize,
    /// There is more to take at once.
    more: bool,
    /// The producer's queue is full.
    full: bool,
    failing: Option<(Mono, ProduceError)>,
    stats: Stats,
    now: Mono,
}

impl<L: std::fmt::Debug, F: Function> std::fmt::Debug for Pipe<L, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipe").field("log", &self.log).field("stats", &self.stats).finish_non_exhaustive()
    }
}

// === impl Pipe ===

impl<L: Log, F: Function> Pipe<L, F> {
    #[must_use]
    pub fn new(log: L, function: F, limits: Limits) -> Self {
        Self {
            log,
            function,
            limits,
            inputs: Vec::new(),
            slab: Slab::default(),
            retries: Vec::new(),
            turn: 0,
            more: false,
            full: false,
            failing: None,
            stats: Stats::default(),
            now: Mono(0),
        }
    }

    /// The log, to wait on.
    pub fn log(&mut self) -> &mut L {
        &mut self.log
    }

    pub fn function(&mut self) -> &mut F {
        &mut self.function
    }

    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            inputs: self.inputs.len(),
            in_flight: self.inputs.iter().map(|input| input.in_flight).sum(),
            bytes: self.slab.bytes(),
            ..self.stats
        }
    }

    /// What keeps the pipe from going on, if anything does.
    #[must_use]
    pub fn stuck(&self) -> Option<Stuck> {
        let failing = self.failing.map(|(since, error)| Stuck::Failing { since, error });
        failing.or_else(|| {
            let since = self.inputs.iter().filter_map(|input| input.waiting).min()?;
            Some(Stuck::Waiting { since })
        })
    }

    /// Does what can be done at once.
    pub fn step(&mut self, now: Mono) {
        self.now = now;
        self.full = false;
        while let Some(event) = self.log.next_event() {
            self.on_event(event);
        }
        if self.slab.failed() == 0 && self.inputs.iter().all(|input| !input.unproved) {
            self.failing = None;
        }
        self.commit_what_is_due();
        self.retry_what_is_due();
        self.take_turns();
        self.log.flush();
    }

    /// When [`Pipe::step`] should be called, even if the log has nothing new; [`Mono`] 0 is at once.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        let at_once = self.more.then_some(Mono(0));
        let again = (self.full || self.inputs.iter().any(|input| input.waiting.is_some()))
            .then(|| self.now + LOOK_AGAIN);
        let commits = self.inputs.iter().filter_map(|input| input.commit_due(self.limits.commit_every)).min();
        let retries = self.retries.iter().map(|idx| self.slab.get(*idx).retry_at).min();
        [at_once, again, commits, retries].into_iter().flatten().min()
    }

    fn position(&self, input: Input) -> Option<usize> {
        self.inputs.iter().position(|state| state.place.input == input)
    }

    fn on_event(&mut self, event: LogEvent) {
        match event {
            LogEvent::Assigned { input, topic, partition, base, metadata: _ } => {
                self.inputs.push(InputState {
                    place: Place { input, topic, partition, taken: base },
                    frontier: Frontier::new(base),
                    committed: base,
                    committed_at: self.now,
                    queue: std::collections::VecDeque::new(),
                    in_flight: 0,
                    bytes: 0,
                    unacknowledged: 0,
                    proving: false,
                    prove_at: Mono(0),
                    unproved: false,
                    span: F::COMMIT_SPAN,
                    waiting: None,
                    largest: 64 * 1024,
                    draining: false,
                });
            }
            LogEvent::Revoking { input, by: _ } => {
                let Some(at) = self.position(input) else { return };
                self.inputs[at].draining = true;
                self.inputs[at].waiting = None;
                // Nothing of them is waited for: what is not complete is done by the next owner.
                self.inputs[at].queue.clear();
                self.retries.retain(|idx| self.slab.get(*idx).at != at);
                self.release_if_drained(at);
            }
            LogEvent::Lost { input, why: _ } => {
                if let Some(at) = self.position(input) {
                    self.forget(at);
                }
            }
            LogEvent::Produced { token, result } => self.on_produced(token, result.map(|_| ())),
            LogEvent::Ended { .. } => {}
        }
    }

    fn on_produced(&mut self, token: Token, result: Result<(), ProduceError>) {
        // The entry of a token from before a loss is gone, or another's by now.
        let Some(idx) = self.slab.find(token) else { return };
        let entry = self.slab.get_mut(idx);
        entry.unacknowledged -= 1;
        match result {
            Ok(()) => self.stats.produced += 1,
            Err(_) if on(Mutant::FailureIsSuccess) => {}
            Err(error) => {
                match error {
                    ProduceError::Unknown => self.stats.unknown += 1,
                    ProduceError::Refused => self.stats.refused += 1,
                    ProduceError::TooLarge => self.stats.too_large += 1,
                }
                // A retry does not mend what is too large, so that comes first.
                if entry.failure != Some(ProduceError::TooLarge) {
                    entry.failure = Some(error);
                }
            }
        }
        let settled = entry.applied && entry.unacknowledged == 0;
        let at = entry.at;
        self.inputs[at].unacknowledged -= 1;
        if settled {
            self.settle(at, idx);
        }
        self.release_if_drained(at);
    }

    /// All outputs of an entry are answered.
    fn settle(&mut self, at: usize, idx: u32) {
        let entry = self.slab.get_mut(idx);
        let failure = entry.failure.take();
        match (entry.kind, failure) {
            (Kind::Record, None) => {
                self.complete(at, idx);
            }
            (Kind::Record, Some(error)) => {
                entry.applied = false;
                entry.cursor = F::Cursor::default();
                entry.retry_at = self.now;
                if error == ProduceError::TooLarge {
                    entry.too_large += 1;
                    // The first time is the record's fault; a topic that takes nothing at all is not called on and on.
                    if entry.too_large > 1 {
                        entry.retry_at = self.now + backoff(entry.too_large);
                    }
                } else {
                    entry.retry_at = self.now + backoff(entry.failures);
                    self.slab.count_failure(idx);
                    self.fail(error);
                }
                if !self.inputs[at].draining {
                    self.retries.push(idx);
                }
            }
            (Kind::Evidence { end }, outcome) => {
                self.slab.free(idx);
                self.inputs[at].proving = false;
                match outcome {
                    None => self.commit(at, end),
                    Some(ProduceError::TooLarge) if self.inputs[at].span > 1 => {
                        let covered = end.0.saturating_sub(self.inputs[at].committed.0);
                        self.inputs[at].span = (covered / 2).max(1);
                    }
                    Some(error) => {
                        self.inputs[at].prove_at = self.now + LOOK_AGAIN.saturating_mul(4);
                        self.inputs[at].unproved = true;
                        self.fail(error);
                    }
                }
            }
        }
    }

    fn fail(&mut self, error: ProduceError) {
        let since = self.failing.map_or(self.now, |(since, _)| since);
        self.failing = Some((since, error));
    }

    /// A record's effects are durable.
    fn complete(&mut self, at: usize, idx: u32) {
        let state = &mut self.inputs[at];
        let entry = self.slab.get(idx);
        state.frontier.complete(entry.offset);
        state.in_flight -= 1;
        state.bytes -= entry.size();
        self.stats.completed += 1;
        self.slab.free(idx);
    }

    fn commit(&mut self, at: usize, end: Offset) {
        let state = &mut self.inputs[at];
        self.log.commit(state.place.input, end, String::new());
        self.function.committed(&state.place, end);
        state.committed = end;
        state.committed_at = self.now;
        state.unproved = false;
        self.stats.commits += 1;
    }

    fn commit_what_is_due(&mut self) {
        // From behind: a drained input is taken out.
        for at in (0..self.inputs.len()).rev() {
            while self.inputs[at].commit_due(self.limits.commit_every).is_some_and(|due| due <= self.now) {
                if !self.prove(at) {
                    break;
                }
            }
            self.release_if_drained(at);
        }
    }

    /// Produces the evidence of the next commit, and commits at once if there is none. Returns whether it did.
    fn prove(&mut self, at: usize) -> bool {
        let state = &mut self.inputs[at];
        let Some(end) = state.next_commit() else { return false };
        let idx = self.slab.insert(at, end, Kind::Evidence { end }, None);
        let mut outputs = Outputs { log: &mut self.log, token: self.slab.token(idx), produced: 0 };
        let result = self.function.before_commit(&state.place, state.committed, end, &mut outputs);
        let produced = outputs.produced;
        if produced == 0 || on(Mutant::EvidenceNotAwaited) {
            self.slab.free(idx);
            match result {
                Ok(Applied::Done) => self.commit(at, end),
                Ok(Applied::Wait) => self.inputs[at].prove_at = self.now + LOOK_AGAIN,
                Err(Full) => self.full = true,
            }
            return result == Ok(Applied::Done);
        }
        state.proving = true;
        state.unacknowledged += produced as usize;
        let entry = self.slab.get_mut(idx);
        entry.unacknowledged = produced;
        entry.applied = true;
        if result != Ok(Applied::Done) {
            // Evidence in part is no evidence: once it is answered, all of it is made again.
            entry.failure = Some(ProduceError::Unknown);
        }
        false
    }

    fn retry_what_is_due(&mut self) {
        let mut i = 0;
        while i < self.retries.len() && !self.full {
            let idx = self.retries[i];
            if self.slab.get(idx).retry_at > self.now {
                i += 1;
                continue;
            }
            let at = self.slab.get(idx).at;
            // Taken out first: settling it may put it back.
            self.retries.swap_remove(i);
            match self.apply(at, idx) {
                Ok(Applied::Done) => {}
                Ok(Applied::Wait) => {
                    self.slab.get_mut(idx).retry_at = self.now + LOOK_AGAIN;
                    self.retries.push(idx);
                    i += 1;
                }
                Err(Full) => self.retries.push(idx),
            }
        }
    }

    /// Hands the entry's record to the function.
    fn apply(&mut self, at: usize, idx: u32) -> Result<Applied, Full> {
        let state = &mut self.inputs[at];
        let mut outputs = Outputs { log: &mut self.log, token: self.slab.token(idx), produced: 0 };
        let function = &mut self.function;
        let entry = self.slab.get_mut(idx);
        let Entry { stored, cursor, offset, too_large, .. } = entry;
        let result = stored.with(*offset, |record| match too_large.checked_sub(1) {
            None => function.apply(record, &state.place, cursor, &mut outputs),
            Some(nth) => function.too_large(record, &state.place, nth, &mut outputs).map(|()| Applied::Done),
        });
        let produced = outputs.produced;
        entry.unacknowledged += produced;
        state.unacknowledged += produced as usize;
        match result {
            Ok(Applied::Done) => {
                entry.applied = true;
                if entry.unacknowledged == 0 {
                    self.settle(at, idx);
                }
            }
            Ok(Applied::Wait) => {}
            Err(Full) => self.full = true,
        }
        result
    }

    /// Takes from each input in turn what may be taken, and handles it.
    fn take_turns(&mut self) {
        self.more = false;
        let count = self.inputs.len();
        let mut budget = STEP_RECORDS;
        let mut open = count;
        // Rounds of small takes, so that no input has to wait for all of another's.
        while open > 0 && budget > 0 && !self.full {
            open = 0;
            for turn in 0..count {
                let at = (self.turn + turn) % count;
                if self.full {
                    break;
                }
                self.handle_queue(at);
                let room = self.room(at).min(budget);
                if room == 0 {
                    continue;
                }
                let taken = self.take(at, room);
                budget -= taken;
                self.handle_queue(at);
                if taken == room {
                    open += 1;
                }
            }
        }
        self.turn = self.turn.wrapping_add(1) % count.max(1);
        self.more = (open > 0 || budget == 0) && !self.full;
    }

    /// How many records may be taken from an input at once.
    fn room(&self, at: usize) -> usize {
        let state = &self.inputs[at];
        let uncommitted = state.frontier.seen().0.saturating_sub(state.committed.0);
        if state.draining || !state.queue.is_empty() || uncommitted >= self.limits.uncommitted {
            return 0;
        }
        let records = self.limits.records_per_input.saturating_sub(state.in_flight).min(TAKE_RECORDS);
        let bytes = self.limits.bytes_per_input.saturating_sub(state.bytes);
        let all = self.limits.bytes.saturating_sub(self.slab.bytes());
        // One record of any size fits into an input that has none.
        let fit = bytes.min(all) / state.largest.max(1);
        records.min(fit.max(usize::from(state.in_flight == 0)))
    }

    fn take(&mut self, at: usize, room: usize) -> usize {
        let Self { log, inputs, slab, stats, .. } = self;
        let InputState { place, frontier, queue, in_flight, bytes, largest, .. } = &mut inputs[at];
        *largest -= *largest / 16;
        let taken = log.take(place.input, room, &mut |record| {
            if !frontier.see(record.offset) {
                stats.repeated += 1;
                return;
            }
            let idx = slab.insert(at, record.offset, Kind::Record, Some(&record));
            let size = slab.get(idx).size();
            *in_flight += 1;
            *bytes += size;
            *largest = (*largest).max(size);
            queue.push_back(idx);
        });
        place.taken = frontier.seen();
        stats.taken += taken as u64;
        taken
    }

    /// Handles what was taken, in order, until a record waits or the producer is full.
    fn handle_queue(&mut self, at: usize) {
        while let Some(idx) = self.inputs[at].queue.front().copied() {
            if self.full {
                return;
            }
            match self.apply(at, idx) {
                Ok(Applied::Done) => {
                    self.inputs[at].queue.pop_front();
                    self.inputs[at].waiting = None;
                }
                Ok(Applied::Wait) => {
                    self.inputs[at].waiting.get_or_insert(self.now);
                    return;
                }
                Err(Full) => return,
            }
        }
    }

    fn release_if_drained(&mut self, at: usize) {
        let Some(state) = self.inputs.get(at) else { return };
        if state.draining && state.idle() && state.next_commit().is_none() {
            let input = state.place.input;
            self.forget(at);
            self.log.release(input);
        }
    }

    fn forget(&mut self, at: usize) {
        self.retries.retain(|idx| self.slab.get(*idx).at != at);
        self.slab.free_all(at);
        // The last one moves into the gap, and its entries must find it there.
        let state = self.inputs.swap_remove(at);
        self.slab.move_all(self.inputs.len(), at);
        self.function.forget(&state.place);
    }
}

#[cfg(test)]
mod tests;
