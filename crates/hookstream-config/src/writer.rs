//! The writer of the configuration: any number of processes, one at a time (design §4).
//!
//! Kafka's fencing of a transactional id makes the writes serialisable. A writer *claims* the id, which ends
//! whatever an earlier claimant had begun; reads the log to its end; judges its writes by what it read; and
//! commits them in one transaction, which fails if somebody else has claimed meanwhile. So what was judged by
//! is what is there.
//!
//! A write that needs no record, because it is refused or there is nothing to do, is judged by no less: by a state that
//! a commit of its group has proved, or that was read to the end after the write came.
//!
//! **Invariant:** a write is answered "done" only after our own reader has seen its id in the log. After any
//! error the outcome is unknown until the id has been claimed again and the log read to its end; then it is
//! there or it never will be.
//!
//! Each record goes into the log together with its audit record, in one transaction: both are there or neither. How far a
//! replay has got is nobody's doing, and has none.
//!
//! Writers that meet take [turns](crate::turns).
//!
//! [`Machine`] is all of that, on a [`Ledger`]; [`ConfigWriter`] runs it on a thread of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hookstream_types::{Mono, Offset, UnixMillis};
use hookstream_wire::config::{Record, WRITE_HEADER, WriteId};
use tokio::sync::{mpsc, oneshot};

use crate::audit::{self, By};
use crate::change::{Author, Change, PlannedRecord, Refused, Undo, plan, put_back};
use crate::envelope::os_random;
use crate::state::State;
use crate::turns::{Served, Turns};

/// Name of the writers' transactional id, within a namespace.
#[must_use]
pub fn transactional_id(namespace: &str) -> String {
    format!("{namespace}-config-writer")
}

/// Writes that wait; more wait at the caller.
const QUEUE: usize = 256;
/// Writes in one transaction.
const GROUP: usize = 64;
/// From taking up a write to its answer: above one transaction time-out and a claim.
const DEADLINE: Duration = Duration::from_secs(30);
/// The same for a write of which nothing was begun: to give it up loses nothing.
const PATIENCE: Duration = Duration::from_secs(5);
/// A fenced writer lets the other finish its group: a random time between these at most.
const FENCED_WAIT_MS: (u64, u64) = (50, 400);
/// A group waits for more that would go with it: this part of what the last one took, if that was of several...
const GATHERING: u32 = 4;
/// ...but no longer than this.
const LONGEST_GATHERING: Duration = Duration::from_millis(25);
/// Between tries while the log does not answer.
const FAULT_WAIT: Duration = Duration::from_millis(200);

/// A record of the log.
#[derive(Clone, Copy, Debug)]
pub struct LedgerRecord<'a> {
    pub offset: Offset,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    /// The value of the header [`WRITE_HEADER`].
    pub write: Option<&'a [u8]>,
}

/// A record to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRecord {
    pub key: Vec<u8>,
    /// None: a tombstone.
    pub value: Option<Vec<u8>>,
    /// In order.
    pub headers: Vec<(&'static str, Vec<u8>)>,
    /// The value of its record in the audit topic; key and headers are the same. None of what nobody did.
    pub audit: Option<Vec<u8>>,
}

/// What the log did not do.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Another writer has claimed the id. Normally the transaction was aborted, but its commit may have come
    /// first with its answer lost.
    #[error("another writer of the configuration has taken over")]
    Fenced,
    /// Anything else; what was begun may or may not be done.
    #[error("the configuration's log failed")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What the writer needs of the log. Every call blocks.
pub trait Ledger {
    /// Drops what was claimed, and claims anew: when it returns, every transaction of an earlier claimant has
    /// been committed or aborted.
    ///
    /// # Errors
    /// [`Fault`]; then nothing is claimed.
    fn claim(&mut self) -> Result<(), Fault>;

    /// Hands over every committed record after those handed over before, up to the end as of the call.
    ///
    /// # Errors
    /// [`Fault`]; what was handed over stays so.
    fn read_to_end(&mut self, each: &mut dyn FnMut(LedgerRecord<'_>)) -> Result<(), Fault>;

    /// Waits until there is a record that was not handed over, but no longer than this.
    fn wait_for_more(&mut self, most: Duration);

    /// Writes these and their audit records in one transaction under the claim.
    ///
    /// # Errors
    /// [`Fault`]; the caller claims again before it does anything else.
    fn commit(&mut self, records: &[NewRecord]) -> Result<(), Fault>;
}

/// Where writes come from, and their answers go.
pub trait Desk {
    /// Writes that are there, so many at most; waits for none.
    fn more(&mut self, most: usize) -> Vec<Write>;

    fn answer(&mut self, write: WriteId, answer: Answer);
}

/// What became of a write.
pub type Answer = Result<Applied, WriteError>;

/// What is not pure, passed in.
pub trait Surroundings {
    fn mono(&mut self) -> Mono;
    fn wall(&mut self) -> UnixMillis;
    fn fill(&mut self, bytes: &mut [u8]);
    fn pause(&mut self, wait: Duration);
}

/// Several changes, all or none.
#[derive(Clone, Debug)]
pub struct Write {
    /// Unique; a fresh one for each write.
    pub id: WriteId,
    /// Who asks.
    pub actor: String,
    /// Digest of the request, if it came with an `Idempotency-Key`.
    pub request: Option<String>,
    pub changes: Vec<Change>,
}

/// A write that is in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// A view that reaches this shows the write.
    pub offset: Offset,
    /// As it was written, whatever others have written since. A change that had nothing to do has none.
    pub written: Vec<PlannedRecord>,
}

/// Why a write is not answered with [`Applied`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    #[error("{refused}")]
    Refused {
        /// A view that reaches this shows what it was refused by.
        offset: Offset,
        refused: Refused,
    },
    /// It did not happen and will not.
    #[error("the configuration can't be written at the moment: {reason}")]
    Unavailable { reason: String },
    /// It may have happened: look before asking again.
    #[error("whether the write happened is not known: {reason}")]
    OutcomeUnknown { reason: String },
}

/// Judges and commits groups of writes.
#[derive(Debug)]
pub struct Machine<L> {
    ledger: L,
    state: State,
    claimed: bool,
    turns: Turns,
    served: Served,
    /// Everything was read once: from then on, what is new has just been written.
    follows: bool,
}

struct Pending {
    write: Write,
    /// What the last try was to write.
    planned: Vec<PlannedRecord>,
    /// A transaction with it was begun, and its outcome has not been read yet.
    tried: bool,
    /// Its id was read in the log.
    found: bool,
}

impl Pending {
    fn new(write: Write) -> Self {
        Self { write, planned: Vec::new(), tried: false, found: false }
    }
}

/// What becomes of a group if what it was judged by is what is there.
#[derive(Default)]
struct Judged {
    records: Vec<NewRecord>,
    /// Answers to writes that need no record: refused, or nothing to do.
    settled: Vec<(WriteId, Answer)>,
}

/// Writes that have no answer yet, and where the answers go.
struct Group<'a> {
    pending: Vec<Pending>,
    desk: &'a mut dyn Desk,
}

impl Group<'_> {
    /// Takes in what has come meanwhile.
    fn gather(&mut self) {
        let room = GROUP.saturating_sub(self.pending.len());
        self.pending.extend(self.desk.more(room).into_iter().map(Pending::new));
    }

    fn is_tried(&self) -> bool {
        self.pending.iter().any(|pending| pending.tried)
    }

    fn settle(&mut self, settled: Vec<(WriteId, Answer)>) {
        for (id, answer) in settled {
            self.pending.retain(|pending| pending.write.id != id);
            self.desk.answer(id, answer);
        }
    }

    /// What was begun has no outcome.
    fn give_up(&mut self, fault: &Fault) {
        self.give_up_what_was_not_begun(fault);
        let unknown = |reason| WriteError::OutcomeUnknown { reason };
        self.refuse(fault, unknown, |_| true);
    }

    fn give_up_what_was_not_begun(&mut self, fault: &Fault) {
        let unavailable = |reason| WriteError::Unavailable { reason };
        self.refuse(fault, unavailable, |pending| !pending.tried);
    }

    fn refuse(
        &mut self,
        fault: &Fault,
        error: impl Fn(String) -> WriteError,
        is_it: impl Fn(&Pending) -> bool,
    ) {
        let reason = hookstream_types::Chain(fault).to_string();
        let refused = self.pending.iter().filter(|pending| is_it(pending));
        let refused = refused.map(|pending| (pending.write.id, Err(error(reason.clone())))).collect();
        self.settle(refused);
    }
}

impl<L: Ledger> Machine<L> {
    pub fn new(ledger: L, state: State) -> Self {
        Self {
            ledger,
            state,
            claimed: false,
            turns: Turns::default(),
            served: Served::default(),
            follows: false,
        }
    }

    /// What was read, and nothing else.
    pub fn state(&mut self) -> &mut State {
        &mut self.state
    }

    /// Reads to the end without claiming anything: for those who only look.
    ///
    /// # Errors
    /// [`Fault`] of the log.
    pub fn refresh(&mut self, around: &mut dyn Surroundings) -> Result<&mut State, Fault> {
        self.read(&mut Group { pending: Vec::new(), desk: &mut Nobody }, around)?;
        Ok(&mut self.state)
    }

    /// Answers this write, and those that are gathered with it.
    pub fn run(&mut self, first: Write, desk: &mut dyn Desk, around: &mut dyn Surroundings) {
        let began = around.mono();
        let mut group = Group { pending: vec![Pending::new(first)], desk };
        group.gather();
        while !group.pending.is_empty() {
            let Err(fault) = self.try_once(&mut group, around) else { continue };
            // Whatever it was: nothing is known before the next claim.
            self.claimed = false;
            tracing::debug!(error = %hookstream_types::Chain(&fault), "a configuration write is tried again");
            let wait = match &fault {
                Fault::Fenced => fenced_wait(around),
                Fault::Failed(_) => FAULT_WAIT,
            };
            let waited = around.mono().since(began) + wait;
            if waited >= DEADLINE {
                group.give_up(&fault);
            } else if waited >= PATIENCE {
                group.give_up_what_was_not_begun(&fault);
            }
            if group.pending.is_empty() {
                return;
            }
            match fault {
                Fault::Fenced => self.turns.fenced(around.mono(), wait),
                Fault::Failed(_) => around.pause(wait),
            }
        }
    }

    /// Claims if need be, judges, commits and reads back; or finds that it is others' turn, and lets them have it.
    fn try_once(&mut self, group: &mut Group<'_>, around: &mut dyn Surroundings) -> Result<(), Fault> {
        let mut is_read = false;
        if !self.claimed && !group.is_tried() {
            // What is refused by what is there needs no claim, which would only disturb the one who has it.
            self.read(group, around)?;
            let outdated = self.outdated(&group.pending, around);
            group.settle(outdated);
            let Judged { records, settled } = self.judge(&mut group.pending, around);
            if records.is_empty() {
                group.settle(settled);
                return Ok(());
            }
        }
        let left = self.turns.left(around.mono());
        if !left.is_zero() {
            self.ledger.wait_for_more(left);
            if !self.read(group, around)? {
                self.turns.unused();
            }
            // What they wrote may refuse what waited.
            return Ok(());
        }
        if !self.claimed {
            self.ledger.claim()?;
            // Only what is read from here on is final: earlier claimants' transactions have ended.
            self.read(group, around)?;
            group.gather();
            self.claimed = true;
            is_read = true;
            for pending in &mut group.pending {
                pending.tried = false;
            }
        }
        let mut judged = self.judge(&mut group.pending, around);
        if judged.records.is_empty() && !is_read {
            // No commit will show whether somebody else has written since the last read.
            self.read(group, around)?;
            judged = self.judge(&mut group.pending, around);
        }
        let Judged { records, settled } = judged;
        let is_written = !records.is_empty();
        if is_written {
            for pending in &mut group.pending {
                pending.tried |= settled.iter().all(|(id, _)| *id != pending.write.id);
            }
            let began = around.mono();
            self.ledger.commit(&records)?;
            let now = around.mono();
            self.turns.wrote(now, now.since(began));
            self.read(group, around)?;
        }
        // The commit went through, so what they were judged by was what is there; and by now it is read.
        let offset = self.state.offset();
        group.settle(settled.into_iter().map(|(id, answer)| (id, at(offset, answer))).collect());
        if is_written && !group.pending.is_empty() {
            return Err(Fault::Failed("a committed write was not read back".into()));
        }
        Ok(())
    }

    /// Takes in what is new, and answers the writes that are found in it. Returns whether others have written.
    fn read(&mut self, group: &mut Group<'_>, around: &mut dyn Surroundings) -> Result<bool, Fault> {
        let mut seen = BTreeSet::new();
        let mut others = false;
        let Self { ledger, state, .. } = self;
        let outcome = ledger.read_to_end(&mut |record| {
            state.apply(record.offset, record.key, record.value);
            let write = record.write.and_then(WriteId::from_bytes);
            others |= write.is_none_or(|id| group.pending.iter().all(|pending| pending.write.id != id));
            seen.extend(write);
        });
        for pending in &mut group.pending {
            // Kept even if reading broke off: these records do not come again.
            pending.found |= seen.contains(&pending.write.id);
        }
        others &= self.follows;
        if others {
            // They have claimed, or ours would not be there before them.
            self.claimed = false;
            self.turns.others_wrote(around.mono());
        }
        outcome?;
        self.follows = true;
        let offset = self.state.offset();
        let found = group.pending.iter_mut().filter(|pending| pending.found).map(|pending| {
            self.served.served(&pending.write.actor);
            let written = std::mem::take(&mut pending.planned);
            (pending.write.id, Ok(Applied { offset, written }))
        });
        let found = found.collect();
        group.settle(found);
        Ok(others)
    }

    /// Writes that expect a revision that is no more: whatever else is written, it does not come back.
    fn outdated(&mut self, pending: &[Pending], around: &mut dyn Surroundings) -> Vec<(WriteId, Answer)> {
        let now = around.wall();
        let refusal = |pending: &Pending| {
            let mut undo = Undo::new();
            let planned = self.plan(&pending.write, now, around, &mut undo);
            put_back(&mut self.state, &mut undo, 0);
            match planned {
                Err(refused @ Refused::RevisionMismatch { .. }) => {
                    Some((pending.write.id, Err(self.refused(refused))))
                }
                Err(_) | Ok(_) => None,
            }
        };
        pending.iter().filter_map(refusal).collect()
    }

    /// The records of the writes that may be, and the answers to the others. The state stays as it was read.
    fn judge(&mut self, group: &mut [Pending], around: &mut dyn Surroundings) -> Judged {
        let now = around.wall();
        let mut judged = Judged::default();
        let mut undo = Undo::new();
        // They came together; an actor's own stay in their order.
        group.sort_by_key(|pending| self.served.rank(&pending.write.actor));
        for Pending { write, planned: kept, .. } in group {
            let first = undo.len();
            match self.plan(write, now, around, &mut undo) {
                Err(refused) => judged.settled.push((write.id, Err(self.refused(refused)))),
                Ok(planned) if planned.is_empty() => {
                    let offset = self.state.offset();
                    judged.settled.push((write.id, Ok(Applied { offset, written: Vec::new() })));
                }
                Ok(planned) => {
                    let by = By { actor: &write.actor, at: now, write: write.id };
                    let before = undo.iter().skip(first).map(|(_, before)| before.as_ref());
                    let records = planned.iter().zip(before);
                    judged.records.extend(records.map(|(record, before)| new_record(record, before, by)));
                    *kept = planned;
                }
            }
        }
        put_back(&mut self.state, &mut undo, 0);
        judged
    }

    fn plan(
        &mut self,
        write: &Write,
        now: UnixMillis,
        around: &mut dyn Surroundings,
        undo: &mut Undo,
    ) -> Result<Vec<PlannedRecord>, Refused> {
        let author = Author { actor: &write.actor, now, request: write.request.as_deref() };
        plan(&mut self.state, &write.changes, author, &mut |bytes| around.fill(bytes), undo)
    }

    fn refused(&self, refused: Refused) -> WriteError {
        WriteError::Refused { offset: self.state.offset(), refused }
    }
}

/// For who only looks.
struct Nobody;

impl Desk for Nobody {
    fn more(&mut self, _most: usize) -> Vec<Write> {
        Vec::new()
    }

    fn answer(&mut self, _write: WriteId, _answer: Answer) {}
}

/// The same answer, of a state that has been read so far.
fn at(read: Offset, mut answer: Answer) -> Answer {
    let (Ok(Applied { offset, .. }) | Err(WriteError::Refused { offset, .. })) = &mut answer else {
        return answer;
    };
    *offset = read;
    answer
}

fn new_record(planned: &PlannedRecord, before: Option<&Record>, by: By<'_>) -> NewRecord {
    NewRecord {
        key: planned.key.to_string().into_bytes(),
        value: planned.record.as_ref().map(Record::encode),
        headers: vec![(WRITE_HEADER, by.write.to_bytes())],
        audit: audit::is_due(before, planned.record.as_ref()).then(|| audit::encode(planned, before, by)),
    }
}

fn fenced_wait(around: &mut dyn Surroundings) -> Duration {
    let mut bytes = [0; 8];
    around.fill(&mut bytes);
    let (least, most) = FENCED_WAIT_MS;
    Duration::from_millis(least + u64::from_le_bytes(bytes) % (most - least + 1))
}

// === The thread ===

/// A handle to the writer's thread; clones share it. The thread ends when the last handle is gone.
#[derive(Clone, Debug)]
pub struct ConfigWriter {
    queue: mpsc::Sender<Request>,
}

#[derive(Debug)]
enum Request {
    Write(Write, oneshot::Sender<Answer>),
    /// Looks at the newest state.
    Look(Look),
}

type Looking = dyn FnOnce(Result<&mut State, Fault>) + Send;

struct Look(Box<Looking>);

impl std::fmt::Debug for Look {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Look")
    }
}

impl ConfigWriter {
    /// Starts the thread. `make` runs there, as a log's client may not be `Send`.
    ///
    /// # Errors
    /// If the operating system gives no thread.
    pub fn start<L, S>(
        make: impl FnOnce() -> (Machine<L>, S) + Send + 'static,
    ) -> Result<Self, std::io::Error>
    where
        L: Ledger + 'static,
        S: Surroundings + 'static,
    {
        let (queue, requests) = mpsc::channel(QUEUE);
        std::thread::Builder::new().name("config-writer".to_owned()).spawn(move || {
            let (machine, around) = make();
            serve(machine, around, requests);
        })?;
        Ok(Self { queue })
    }

    /// Makes these changes, all or none, with an id of its own.
    ///
    /// # Errors
    /// [`WriteError`], which says whether the write may have happened.
    pub async fn write(&self, actor: &str, changes: Vec<Change>) -> Result<Applied, WriteError> {
        let id = WriteId(uuid::Uuid::new_v4());
        self.submit(Write { id, actor: actor.to_owned(), request: None, changes }).await
    }

    /// Makes the changes of a write, all or none.
    ///
    /// # Errors
    /// [`WriteError`], which says whether the write may have happened.
    pub async fn submit(&self, write: Write) -> Result<Applied, WriteError> {
        let (answer, answered) = oneshot::channel();
        if self.queue.send(Request::Write(write, answer)).await.is_err() {
            return Err(WriteError::Unavailable { reason: "the writer has stopped".to_owned() });
        }
        let stopped = || WriteError::OutcomeUnknown { reason: "the writer stopped at work".to_owned() };
        answered.await.map_err(|_| stopped())?
    }

    /// Looks at the state as of now: read to the end of the log, with no claim.
    ///
    /// # Errors
    /// [`WriteError::Unavailable`] if the log can't be read.
    pub async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&State) -> T + Send + 'static,
    ) -> Result<T, WriteError> {
        self.look(|state| look(state)).await
    }

    /// Looks at the state as it would be with these changes, which are not made. Whether they may be depends only on what
    /// others change meanwhile.
    ///
    /// # Errors
    /// [`WriteError::Refused`] if they may not; [`WriteError::Unavailable`] if the log can't be read.
    pub async fn rehearse<T: Send + 'static>(
        &self,
        changes: Vec<Change>,
        now: UnixMillis,
        look: impl FnOnce(&State) -> T + Send + 'static,
    ) -> Result<T, WriteError> {
        let rehearsed = self.look(move |state| {
            let mut undo = Undo::new();
            let author = Author { actor: "", now, request: None };
            let planned = plan(state, &changes, author, &mut os_random, &mut undo);
            let offset = state.offset();
            let looked = planned.map(|_| look(state));
            put_back(state, &mut undo, 0);
            looked.map_err(|refused| WriteError::Refused { offset, refused })
        });
        rehearsed.await?
    }

    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&mut State) -> T + Send + 'static,
    ) -> Result<T, WriteError> {
        let (answer, answered) = oneshot::channel();
        let look = Look(Box::new(move |state| {
            let result = state.map(look).map_err(|fault| WriteError::Unavailable {
                reason: hookstream_types::Chain(&fault).to_string(),
            });
            // Nobody waits any more: nothing to tell.
            drop(answer.send(result));
        }));
        let stopped = || WriteError::Unavailable { reason: "the writer has stopped".to_owned() };
        self.queue.send(Request::Look(look)).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }

    /// Switches a webhook off if its revision and URL are still those. Asking twice does no harm.
    ///
    /// # Errors
    /// [`WriteError`]; unless it was refused, ask again.
    pub async fn disable(
        &self,
        actor: &str,
        command: &hookstream_wire::command::Disable,
    ) -> Result<Applied, WriteError> {
        let change = Change::DisableWebhook {
            id: command.webhook,
            revision: command.revision,
            url: command.url.clone(),
            reason: command.reason.clone(),
        };
        self.write(actor, vec![change]).await
    }
}

fn serve<L: Ledger>(
    mut machine: Machine<L>,
    mut around: impl Surroundings,
    requests: mpsc::Receiver<Request>,
) {
    let mut queue = Queue { requests, next: None, answers: BTreeMap::new(), taken: 0 };
    let mut gathering = Duration::ZERO;
    while let Some(request) = queue.wait() {
        match request {
            Request::Look(Look(look)) => look(machine.refresh(&mut around)),
            Request::Write(write, answer) => {
                if !gathering.is_zero() {
                    around.pause(gathering);
                }
                let began = around.mono();
                queue.taken = 0;
                let first = queue.take(write, answer);
                machine.run(first, &mut queue, &mut around);
                let took = around.mono().since(began);
                tracing::debug!(writes = queue.taken, ?took, "a group of writes is answered");
                let is_alone = queue.taken <= 1;
                gathering = if is_alone { Duration::ZERO } else { (took / GATHERING).min(LONGEST_GATHERING) };
            }
        }
    }
}

/// What the thread is asked for.
struct Queue {
    requests: mpsc::Receiver<Request>,
    /// Taken from the requests and not done: what was asked for before it comes first.
    next: Option<Request>,
    answers: BTreeMap<WriteId, oneshot::Sender<Answer>>,
    /// Writes in the group.
    taken: usize,
}

impl Queue {
    fn wait(&mut self) -> Option<Request> {
        self.next.take().or_else(|| self.requests.blocking_recv())
    }

    fn take(&mut self, write: Write, answer: oneshot::Sender<Answer>) -> Write {
        self.taken += 1;
        self.answers.insert(write.id, answer);
        write
    }
}

impl Desk for Queue {
    fn more(&mut self, most: usize) -> Vec<Write> {
        let mut more = Vec::new();
        while more.len() < most && self.next.is_none() {
            match self.requests.try_recv() {
                Ok(Request::Write(write, answer)) => more.push(self.take(write, answer)),
                // What was asked for before it is to be seen by it.
                Ok(look @ Request::Look(_)) => self.next = Some(look),
                Err(_) => break,
            }
        }
        more
    }

    fn answer(&mut self, write: WriteId, answer: Answer) {
        if let Some(asked) = self.answers.remove(&write) {
            // Nobody waits any more: nothing to tell.
            drop(asked.send(answer));
        }
    }
}

#[cfg(test)]
mod tests;
