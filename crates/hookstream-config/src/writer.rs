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
//! Each record goes into the log together with its audit record, in one transaction: both are there or neither.
//!
//! [`Machine`] is all of that, on a [`Ledger`]; [`ConfigWriter`] runs it on a thread of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hookstream_types::{Mono, Offset, UnixMillis};
use hookstream_wire::config::{Key, Record, WRITE_HEADER, WriteId};
use tokio::sync::{mpsc, oneshot};

use crate::audit::{self, By};
use crate::change::{Author, Change, PlannedRecord, Refused, Undo, plan, put_back};
use crate::envelope::{Fill, os_random};
use crate::state::State;

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
/// A fenced writer lets the other finish its group: a random wait between these.
const FENCED_WAIT_MS: (u64, u64) = (50, 400);
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
    /// The value of its record in the audit topic; key and headers are the same.
    pub audit: Vec<u8>,
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

    /// Hands over every committed record after those handed over before, up to the end as of the call; returns
    /// the offset that all is read below.
    ///
    /// # Errors
    /// [`Fault`]; what was handed over stays so.
    fn read_to_end(&mut self, each: &mut dyn FnMut(LedgerRecord<'_>)) -> Result<Offset, Fault>;

    /// Writes these and their audit records in one transaction under the claim.
    ///
    /// # Errors
    /// [`Fault`]; the caller claims again before it does anything else.
    fn commit(&mut self, records: &[NewRecord]) -> Result<(), Fault>;
}

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// A view that reaches this shows the write.
    pub offset: Offset,
    /// The revision of each resource that was written; 0: it was deleted. A change that had nothing to do has none.
    pub revisions: Vec<(Key, u64)>,
}

/// Why a write is not answered with [`Applied`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    #[error(transparent)]
    Refused(#[from] Refused),
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
}

struct Pending {
    write: Write,
    /// What the last try was to write.
    revisions: Vec<(Key, u64)>,
    /// A transaction with it was begun, and its outcome has not been read yet.
    tried: bool,
    /// Its id was read in the log.
    found: bool,
    answer: Option<Result<Applied, WriteError>>,
}

/// What becomes of a group if what it was judged by is what is there.
#[derive(Default)]
struct Judged {
    records: Vec<NewRecord>,
    settled: Settled,
}

/// Answers to writes that need no record, by their place in the group: refused, or nothing to do.
type Settled = BTreeMap<usize, Result<Applied, WriteError>>;

impl<L: Ledger> Machine<L> {
    pub fn new(ledger: L, state: State) -> Self {
        Self { ledger, state, claimed: false }
    }

    /// What was read, and nothing else.
    pub fn state(&mut self) -> &mut State {
        &mut self.state
    }

    /// Reads to the end without claiming anything: for those who only look.
    ///
    /// # Errors
    /// [`Fault`] of the log.
    pub fn refresh(&mut self) -> Result<&mut State, Fault> {
        self.read(&mut [])?;
        Ok(&mut self.state)
    }

    /// Commits a group; the answers are in the order of the writes.
    pub fn run(
        &mut self,
        group: Vec<Write>,
        around: &mut dyn Surroundings,
    ) -> Vec<Result<Applied, WriteError>> {
        let deadline = around.mono() + DEADLINE;
        let pending = group.into_iter();
        let mut pending: Vec<Pending> = pending
            .map(|write| Pending { write, revisions: Vec::new(), tried: false, found: false, answer: None })
            .collect();
        while pending.iter().any(|pending| pending.answer.is_none()) {
            let Err(fault) = self.try_once(&mut pending, around) else { continue };
            // Whatever it was: nothing is known before the next claim.
            self.claimed = false;
            let wait = match &fault {
                Fault::Fenced => fenced_wait(around),
                Fault::Failed(_) => FAULT_WAIT,
            };
            tracing::debug!(error = %hookstream_types::Chain(&fault), "a configuration write is tried again");
            if around.mono() + wait >= deadline {
                give_up(&mut pending, &fault);
                break;
            }
            around.pause(wait);
        }
        pending
            .into_iter()
            .map(|pending| {
                pending.answer.unwrap_or_else(|| {
                    Err(WriteError::Unavailable { reason: "the writer stopped".to_owned() })
                })
            })
            .collect()
    }

    /// Claims if need be, judges what has no answer, commits it and reads it back.
    fn try_once(&mut self, pending: &mut [Pending], around: &mut dyn Surroundings) -> Result<(), Fault> {
        let mut is_read = false;
        if !self.claimed {
            if !pending.iter().any(|pending| pending.tried) {
                // What is refused by what is there needs no claim, which would only disturb the one who has it.
                self.read(pending)?;
                let Judged { records, settled } = self.judge(pending, around);
                if records.is_empty() {
                    settle(pending, settled);
                    return Ok(());
                }
            }
            self.ledger.claim()?;
            // Only what is read from here on is final: earlier claimants' transactions have ended.
            self.read(pending)?;
            self.claimed = true;
            is_read = true;
            for pending in pending.iter_mut() {
                pending.tried = false;
            }
        }
        let mut judged = self.judge(pending, around);
        if judged.records.is_empty() && !is_read {
            // No commit will show whether somebody else has written since the last read.
            self.read(pending)?;
            judged = self.judge(pending, around);
        }
        let Judged { records, settled } = judged;
        let is_written = !records.is_empty();
        if is_written {
            for (idx, pending) in pending.iter_mut().enumerate() {
                pending.tried |= pending.answer.is_none() && !settled.contains_key(&idx);
            }
            self.ledger.commit(&records)?;
        }
        // The commit went through, so what they were judged by was what is there.
        settle(pending, settled);
        if is_written {
            self.read(pending)?;
            if pending.iter().any(|pending| pending.answer.is_none()) {
                return Err(Fault::Failed("a committed write was not read back".into()));
            }
        }
        Ok(())
    }

    /// Takes in what is new, and answers the writes that are found in it.
    fn read(&mut self, pending: &mut [Pending]) -> Result<(), Fault> {
        let mut seen = BTreeSet::new();
        let Self { ledger, state, .. } = self;
        let outcome = ledger.read_to_end(&mut |record| {
            state.apply(record.offset, record.key, record.value);
            seen.extend(record.write.and_then(WriteId::from_bytes));
        });
        if let Ok(end) = outcome {
            state.reached(end);
        }
        for pending in pending.iter_mut().filter(|pending| pending.answer.is_none()) {
            // Kept even if reading broke off: these records do not come again.
            pending.found |= seen.contains(&pending.write.id);
            if pending.found && outcome.is_ok() {
                let revisions = std::mem::take(&mut pending.revisions);
                pending.answer = Some(Ok(Applied { offset: state.offset(), revisions }));
            }
        }
        outcome.map(|_| ())
    }

    /// The records of the writes that may be, and the answers to the others. The state stays as it was read.
    fn judge(&mut self, pending: &mut [Pending], around: &mut dyn Surroundings) -> Judged {
        let now = around.wall();
        let mut judged = Judged::default();
        let mut undo = Undo::new();
        let open = pending.iter_mut().enumerate().filter(|(_, pending)| pending.answer.is_none());
        for (idx, pending) in open {
            let Write { actor, request, .. } = &pending.write;
            let author = Author { actor, now, request: request.as_deref() };
            let fill: Fill<'_> = &mut |bytes| around.fill(bytes);
            let first = undo.len();
            match plan(&mut self.state, &pending.write.changes, author, fill, &mut undo) {
                Err(refused) => {
                    judged.settled.insert(idx, Err(refused.into()));
                }
                Ok(planned) if planned.is_empty() => {
                    let offset = self.state.offset();
                    judged.settled.insert(idx, Ok(Applied { offset, revisions: Vec::new() }));
                }
                Ok(planned) => {
                    pending.revisions = planned.iter().map(|r| (r.key.clone(), r.revision)).collect();
                    let by = By { actor, at: now, write: pending.write.id };
                    let before = undo.iter().skip(first).map(|(_, before)| before.as_ref());
                    let records = planned.iter().zip(before);
                    judged.records.extend(records.map(|(record, before)| new_record(record, before, by)));
                }
            }
        }
        put_back(&mut self.state, &mut undo, 0);
        judged
    }
}

fn settle(pending: &mut [Pending], settled: Settled) {
    for (idx, answer) in settled {
        if let Some(pending) = pending.get_mut(idx) {
            pending.answer = Some(answer);
        }
    }
}

fn new_record(planned: &PlannedRecord, before: Option<&Record>, by: By<'_>) -> NewRecord {
    NewRecord {
        key: planned.key.to_string().into_bytes(),
        value: planned.record.as_ref().map(Record::encode),
        headers: vec![(WRITE_HEADER, by.write.to_bytes())],
        audit: audit::encode(planned, before, by),
    }
}

fn give_up(pending: &mut [Pending], fault: &Fault) {
    let reason = hookstream_types::Chain(fault).to_string();
    for pending in pending.iter_mut().filter(|pending| pending.answer.is_none()) {
        let reason = reason.clone();
        pending.answer = Some(Err(if pending.tried {
            WriteError::OutcomeUnknown { reason }
        } else {
            WriteError::Unavailable { reason }
        }));
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
    Write(Write, oneshot::Sender<Result<Applied, WriteError>>),
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
            let looked = planned.map(|_| look(state));
            put_back(state, &mut undo, 0);
            looked
        });
        Ok(rehearsed.await??)
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
    mut requests: mpsc::Receiver<Request>,
) {
    let mut waiting = None;
    while let Some(first) = waiting.take().or_else(|| requests.blocking_recv()) {
        let mut group = Vec::new();
        let mut answers = Vec::new();
        let mut next = Some(first);
        while let Some(request) = next.take() {
            match request {
                Request::Write(write, answer) => {
                    group.push(write);
                    answers.push(answer);
                }
                Request::Look(Look(look)) if group.is_empty() => {
                    look(machine.refresh());
                    break;
                }
                // What was asked for before it is to be seen by it.
                look @ Request::Look(_) => {
                    waiting = Some(look);
                    break;
                }
            }
            if group.len() < GROUP {
                next = requests.try_recv().ok();
            }
        }
        if group.is_empty() {
            continue;
        }
        for (answer, result) in answers.into_iter().zip(machine.run(group, &mut around)) {
            // Nobody waits any more: nothing to tell.
            drop(answer.send(result));
        }
    }
}

#[cfg(test)]
mod tests;
