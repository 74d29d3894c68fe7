//! The books of a run: what may never happen is noticed when it happens.
//!
//! They know the log and nothing of the stages' insides: a decision counts when it stands in `attempts` and no
//! other owner's record stands between its owner's and it.

mod intake;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hookstream_core::config::Webhook;
use hookstream_core::decision::{Decision, Verdict};
use hookstream_core::job::Job;
use hookstream_core::ledger::Entry;
use hookstream_types::{DeliveryId, Generation, Offset, OwnerId, UnixMillis};
use hookstream_wire::{Topics, attempt, job};

pub(super) use self::intake::Expected;
use self::intake::Intake;
use super::cluster::{Life, MS, PartitionLog, Record, TopicPartition};

/// Something that may never happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The simulation's time in milliseconds.
    pub at_ms: u64,
    pub what: String,
}

type Turn = (DeliveryId, Generation);

#[derive(Debug)]
struct Valid {
    verdict: Verdict,
}

#[derive(Debug, Clone)]
struct Place {
    seq: u64,
    tp: TopicPartition,
    offset: Offset,
    at: UnixMillis,
}

#[derive(Debug)]
struct Sent {
    life: Life,
    ended: bool,
}

#[derive(Debug, Default)]
struct Ledger {
    owner: Option<OwnerId>,
    /// Valid decisions by the job's offset.
    decided: BTreeMap<Offset, Decision>,
}

/// The books.
#[derive(Debug)]
pub(super) struct Books {
    topics: Arc<Topics>,
    rungs_ms: Vec<i64>,
    /// No faults: then lateness and duplicates are violations too.
    calm: bool,
    seq: u64,
    intake: Intake,
    /// What fan-out made.
    jobs: BTreeSet<DeliveryId>,
    ended: BTreeSet<DeliveryId>,
    ledgers: BTreeMap<i32, Ledger>,
    valid: BTreeMap<Turn, Valid>,
    places: BTreeMap<Turn, Vec<Place>>,
    sent: BTreeMap<Turn, Vec<Sent>>,
    received: BTreeMap<DeliveryId, u32>,
    buried: BTreeSet<DeliveryId>,
    pub(super) violations: Vec<Violation>,
    pub(super) repeated_requests: u64,
    pub(super) requests: u64,
    pub(super) late_most_ms: i64,
}

impl Books {
    /// `webhooks[n]` exists from config offset n + 1 on.
    pub(super) fn new(
        topics: Arc<Topics>,
        rungs_ms: Vec<i64>,
        calm: bool,
        webhooks: Vec<Arc<Webhook>>,
    ) -> Self {
        Self {
            intake: Intake::new(Arc::clone(&topics), webhooks),
            topics,
            rungs_ms,
            calm,
            seq: 0,
            jobs: BTreeSet::new(),
            ended: BTreeSet::new(),
            ledgers: BTreeMap::new(),
            valid: BTreeMap::new(),
            places: BTreeMap::new(),
            sent: BTreeMap::new(),
            received: BTreeMap::new(),
            buried: BTreeSet::new(),
            violations: Vec::new(),
            repeated_requests: 0,
            requests: 0,
            late_most_ms: 0,
        }
    }

    /// What is to come of a source record.
    pub(super) fn expect(&mut self, tp: &TopicPartition, offset: Offset, at: UnixMillis, expected: Expected) {
        self.intake.expect(tp, offset, at, expected);
    }

    fn violation(&mut self, now: u64, what: String) {
        self.violations.push(Violation { at_ms: now / MS, what });
    }

    fn rung_of(&self, topic: &Arc<str>) -> Option<usize> {
        self.topics.retry.iter().position(|name| name == topic)
    }

    // === the log ===

    pub(super) fn on_append(&mut self, tp: &TopicPartition, record: &Record, now: u64) {
        self.seq += 1;
        let value = record.payload.value();
        let problems = self.intake.on_append(tp, record);
        self.violations_of(problems, now);
        if tp.0 == self.topics.attempts {
            match attempt::decode(value) {
                Ok(entry) => self.on_entry(tp.1, entry, now),
                Err(error) => {
                    self.violation(now, format!("attempts holds a record that can't be read: {error}"))
                }
            }
        } else if tp.0 == self.topics.deliveries || self.rung_of(&tp.0).is_some() {
            match job::decode_all(value) {
                Ok(jobs) => {
                    for job in jobs {
                        self.on_job(tp, record, &job, now);
                    }
                }
                Err(error) => {
                    self.violation(now, format!("{} holds a record that can't be read: {error}", tp.0))
                }
            }
        } else if tp.0 == self.topics.dead_letter
            && let Ok(job) = job::decode(value)
        {
            self.buried.insert(job.state.delivery);
            if !matches!(self.valid.get(&turn(&job)), Some(Valid { verdict: Verdict::Dead { .. } })) {
                self.violation(
                    now,
                    format!("{} is in dead-letter and was not decided dead", job.state.delivery),
                );
            }
        }
    }

    fn violations_of(&mut self, problems: Vec<String>, now: u64) {
        for problem in problems {
            self.violation(now, problem);
        }
    }

    fn on_entry(&mut self, partition: i32, entry: Entry, now: u64) {
        let ledger = self.ledgers.entry(partition).or_default();
        let (owner, decisions) = match entry {
            Entry::Owner(owner) => {
                ledger.owner = Some(owner);
                return;
            }
            Entry::Decisions { owner, decisions } => (owner, decisions),
        };
        if ledger.owner != Some(owner) {
            return;
        }
        for decision in decisions {
            self.ledgers.entry(partition).or_default().decided.insert(decision.offset, decision.clone());
            self.on_decision(decision, now);
        }
    }

    fn on_decision(&mut self, decision: Decision, now: u64) {
        let id = decision.delivery;
        let turn = (id, decision.generation);
        // No run deletes or disables a webhook.
        if let Verdict::Skipped { reason } = decision.verdict {
            self.violation(
                now,
                format!("{id} was skipped ({}) although its webhook is there", reason.label()),
            );
        }
        match self.valid.get(&turn) {
            Some(before) if before.verdict != decision.verdict => {
                let what = format!(
                    "{id} {:?} was decided twice: {:?}, {:?}",
                    decision.generation, before.verdict, decision.verdict
                );
                self.violation(now, what);
            }
            Some(_) => {}
            None => {
                if decision.verdict.is_terminal() && !self.ended.insert(id) {
                    self.violation(now, format!("{id} ended twice"));
                }
                self.valid.insert(turn, Valid { verdict: decision.verdict });
            }
        }
    }

    fn on_job(&mut self, tp: &TopicPartition, record: &Record, job: &Job, now: u64) {
        let (offset, at) = (record.offset, record.at);
        if job.state.generation == Generation::default() {
            self.jobs.insert(job.state.delivery);
            let problems = self.intake.on_job(tp, record, job);
            self.violations_of(problems, now);
        }
        let turn = turn(job);
        let id = job.state.delivery;
        let (seq, generation) = (self.seq, job.state.generation);
        let before = self.places.get(&turn).cloned().unwrap_or_default();
        if generation.n > 0 {
            let decided = (id, Generation { run: generation.run, n: generation.n - 1 });
            match self.valid.get(&decided).map(|valid| valid.verdict.due()) {
                None => self
                    .violation(now, format!("{id} {generation:?} stands in {} before it was decided", tp.0)),
                Some(None) => self.violation(now, format!("{id} {generation:?} follows from an end")),
                Some(due) if due != job.state.due => {
                    self.violation(
                        now,
                        format!("{id} {generation:?} is due at {:?}, decided was {due:?}", job.state.due),
                    );
                }
                Some(_) => {}
            }
            let waited = before.iter().any(|place| {
                self.rung_of(&place.tp.0).is_some_and(|rung| at.0 >= place.at.0 + self.rungs_ms[rung])
            });
            if tp.0 == self.topics.deliveries && !waited {
                self.violation(
                    now,
                    format!("{id} {generation:?} left its rung before the rung's time was over"),
                );
            }
            if tp.0 == self.topics.deliveries
                && let Some(due) = job.state.due
            {
                if at < due {
                    self.violation(now, format!("{id} {generation:?} is back {} ms early", due.0 - at.0));
                }
                self.late_most_ms = self.late_most_ms.max(at.0 - due.0);
                if self.calm && at.0 > due.0 + 1_000 {
                    self.violation(now, format!("{id} {generation:?} is back {} ms late", at.0 - due.0));
                }
            }
        }
        self.places.entry(turn).or_default().push(Place { seq, tp: tp.clone(), offset, at });
    }

    /// Rule 2: no offset is committed before the effects of its record are durable.
    pub(super) fn on_commit(
        &mut self,
        tp: &TopicPartition,
        from: i64,
        to: i64,
        log: &PartitionLog,
        now: u64,
    ) {
        if to < from {
            self.violation(now, format!("the commit of {tp:?} went back from {from} to {to}"));
        }
        let problems = self.intake.on_commit(tp, from, to, log);
        self.violations_of(problems, now);
        if tp.0 != self.topics.deliveries && self.rung_of(&tp.0).is_none() {
            return;
        }
        for record in log.from(from).iter().take_while(|record| record.offset.0 < to) {
            let Ok(jobs) = job::decode_all(record.payload.value()) else { continue };
            for job in jobs {
                let fine = if tp.0 == self.topics.deliveries {
                    self.is_settled(tp, record.offset, &job)
                } else {
                    self.was_moved(tp, record.offset, &job)
                };
                if !fine {
                    let what = format!(
                        "{}/{} was committed past offset {}, whose job {} {:?} is not settled",
                        tp.0, tp.1, record.offset, job.state.delivery, job.state.generation
                    );
                    self.violation(now, what);
                }
            }
        }
    }

    fn is_settled(&self, tp: &TopicPartition, offset: Offset, job: &Job) -> bool {
        let decision = self.ledgers.get(&tp.1).and_then(|ledger| ledger.decided.get(&offset));
        match decision {
            Some(decision) => match decision.verdict {
                Verdict::Delivered | Verdict::Skipped { .. } => true,
                Verdict::Dead { .. } => self.buried.contains(&job.state.delivery),
                Verdict::Retry { .. } | Verdict::Deferred { .. } => {
                    self.places.contains_key(&(job.state.delivery, decision.generation.next()))
                }
            },
            // Dropped: then the same turn or a later one stands at a lower offset.
            None => {
                let id = job.state.delivery;
                let later = (id, job.state.generation)..=(id, LAST);
                self.places
                    .range(later)
                    .flat_map(|(_, places)| places)
                    .any(|place| place.tp == *tp && place.offset < offset)
            }
        }
    }

    fn was_moved(&self, tp: &TopicPartition, offset: Offset, job: &Job) -> bool {
        let Some(places) = self.places.get(&turn(job)) else { return false };
        let here =
            places.iter().find(|place| place.tp == *tp && place.offset == offset).map(|place| place.seq);
        here.is_some_and(|here| places.iter().any(|place| place.seq > here))
    }

    // === the endpoints ===

    pub(super) fn on_start(
        &mut self,
        life: Life,
        is_owner: bool,
        partition: i32,
        job: &Job,
        now: u64,
        broker: UnixMillis,
    ) {
        self.requests += 1;
        let turn = turn(job);
        let name = format!("{} {:?}", turn.0, turn.1);
        if !is_owner {
            self.violation(now, format!("{name} is sent by a process that lost partition {partition}"));
        }
        if let Some(valid) = self.valid.get(&turn) {
            let what = format!("{name} is sent although it was decided: {:?}", valid.verdict);
            self.violation(now, what);
        }
        if let Some(due) = job.state.due
            && broker < due
        {
            self.violation(now, format!("{name} is sent {} ms early", due.0 - broker.0));
        }
        let before = self.sent.entry(turn).or_default();
        let again = !before.is_empty();
        let twice_at_once = before.iter().any(|sent| sent.life == life && !sent.ended);
        before.push(Sent { life, ended: false });
        if again {
            self.repeated_requests += 1;
        }
        if twice_at_once && self.calm {
            self.violation(now, format!("{name} is sent twice by one process"));
        }
        if again && self.calm {
            self.violation(now, format!("{name} is sent again although nothing failed"));
        }
    }

    pub(super) fn on_end(&mut self, life: Life, job: &Job) {
        for sent in self.sent.entry(turn(job)).or_default() {
            sent.ended |= sent.life == life;
        }
    }

    pub(super) fn on_received(&mut self, delivery: DeliveryId, _generation: Generation, _now: u64) {
        *self.received.entry(delivery).or_default() += 1;
    }

    // === the end ===

    /// Jobs that have ended.
    pub(super) fn finished(&self) -> usize {
        self.jobs.intersection(&self.ended).count()
    }

    pub(super) fn jobs(&self) -> usize {
        self.jobs.len()
    }

    /// Events and jobs that are missing, and jobs that were decided delivered although no endpoint ever said so.
    pub(super) fn check_end(&mut self, now: u64) {
        // A run that a violation ended is not at its end.
        if self.violations.is_empty() {
            let problems = self.intake.at_the_end();
            self.violations_of(problems, now);
        }
        let ghosts: Vec<DeliveryId> = self
            .valid
            .iter()
            .filter(|((id, _), valid)| valid.verdict == Verdict::Delivered && !self.received.contains_key(id))
            .map(|((id, _), _)| *id)
            .collect();
        for id in ghosts {
            self.violation(now, format!("{id} counts as delivered and no endpoint has it"));
        }
    }

    /// Jobs that have not ended.
    pub(super) fn unfinished(&self) -> Vec<DeliveryId> {
        self.jobs.difference(&self.ended).copied().collect()
    }
}

/// Later than every generation of live traffic.
const LAST: Generation = Generation { run: i64::MAX, n: u32::MAX };

fn turn(job: &Job) -> Turn {
    (job.state.delivery, job.state.generation)
}
