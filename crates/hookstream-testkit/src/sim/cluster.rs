//! The simulated brokers, network and endpoints.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hookstream_core::exchange::{Exchange, Failure, FailureKind, Response, Timings};
use hookstream_log::{Ack, Input, LogEvent, Lost, OutRecord, ProduceError, Token};
use hookstream_sender::RequestKey;
use hookstream_types::{DeliveryId, Generation, Mono, Offset, Partition, UnixMillis, limits};

use super::books::Books;
use super::rng::Rng;

pub(super) type Shared = Rc<RefCell<Cluster>>;
/// A process's life, from start to crash; a restart is another.
pub(super) type Life = usize;
/// A member of a group: one life has one per group.
pub(super) type LogId = usize;

pub(super) const MS: u64 = 1_000;
pub(super) const SECOND: u64 = 1_000_000;
const SESSION: u64 = limits::SESSION_TIMEOUT.as_secs() * SECOND;
/// How long a partition may take to drain.
const DRAIN: u64 = 12 * SECOND;
/// The brokers' clock at the beginning.
pub(super) const BROKER_EPOCH: i64 = 1_800_000_000_000;

/// What a producer puts into a record.
#[derive(Debug, Clone, Default)]
pub(super) struct Payload {
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) headers: Vec<(String, Vec<u8>)>,
}

impl Payload {
    pub(super) fn of(record: &OutRecord<'_>) -> Self {
        let headers = record.headers.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec()));
        Self {
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: headers.collect(),
        }
    }

    /// The value; none is empty.
    pub(super) fn value(&self) -> &[u8] {
        self.value.as_deref().unwrap_or_default()
    }

    pub(super) fn headers(&self) -> Vec<(&str, &[u8])> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect()
    }

    fn size(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.key.as_ref().map_or(0, Vec::len) + self.value().len() + headers
    }
}

#[derive(Debug)]
pub(super) struct Record {
    pub(super) offset: Offset,
    pub(super) at: UnixMillis,
    pub(super) visible: u64,
    pub(super) payload: Payload,
}

#[derive(Debug, Default)]
pub(super) struct PartitionLog {
    pub(super) start: i64,
    pub(super) records: Vec<Rc<Record>>,
}

impl PartitionLog {
    pub(super) fn end(&self) -> i64 {
        self.start + i64::try_from(self.records.len()).expect("few records")
    }

    /// Records from an offset on.
    pub(super) fn from(&self, offset: i64) -> &[Rc<Record>] {
        let skip = usize::try_from((offset - self.start).max(0)).expect("not negative");
        self.records.get(skip..).unwrap_or_default()
    }
}

pub(super) type TopicPartition = (Arc<str>, i32);

#[derive(Debug)]
pub(super) struct InputState {
    pub(super) tp: TopicPartition,
    pub(super) base: i64,
    pub(super) next: i64,
    pub(super) to: Option<i64>,
    pub(super) is_reader: bool,
    /// The stage knows that it has it.
    pub(super) known: bool,
    pub(super) ended: bool,
}

#[derive(Debug)]
pub(super) struct LogState {
    pub(super) life: Life,
    pub(super) group: usize,
    pub(super) queue: VecDeque<LogEvent>,
    pub(super) inputs: BTreeMap<Input, InputState>,
    pub(super) last_contact: u64,
    /// When what was produced last to a partition lands: later records don't overtake it.
    pub(super) landing: BTreeMap<TopicPartition, u64>,
    /// What is to be told to the coordinator when it is in sight again.
    pending: BTreeMap<Input, Pending>,
}

#[derive(Debug)]
struct Pending {
    tp: TopicPartition,
    commit: Option<(Offset, String)>,
    release: bool,
}

/// What went wrong on purpose, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Processes that ended without a word.
    pub crashes: u64,
    /// Processes that were taken for dead and were not.
    pub zombies: u64,
    /// Records handed over once more in one assignment.
    pub reread: u64,
    /// Records whose producer was told that their outcome is unknown.
    pub unknown: u64,
    /// Of those, records that landed all the same.
    pub landed_unknown: u64,
    /// Acknowledgements that took a tenth of a second or more.
    pub late_acks: u64,
    /// Partitions given to another process.
    pub handovers: u64,
}

impl std::ops::AddAssign for Faults {
    fn add_assign(&mut self, other: Self) {
        self.crashes += other.crashes;
        self.zombies += other.zombies;
        self.reread += other.reread;
        self.unknown += other.unknown;
        self.landed_unknown += other.landed_unknown;
        self.late_acks += other.late_acks;
        self.handovers += other.handovers;
    }
}

#[derive(Debug, Clone, Copy)]
struct Ownership {
    log: LogId,
    input: Input,
    revoked_by: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Group {
    partitions: Vec<TopicPartition>,
    members: Vec<LogId>,
    rotation: usize,
    owners: BTreeMap<TopicPartition, Ownership>,
    pub(super) committed: BTreeMap<TopicPartition, (i64, String)>,
}

#[derive(Debug)]
pub(super) struct LifeState {
    pub(super) alive: bool,
    pub(super) paused_until: u64,
    /// Out of the group coordinator's sight until then; all else works.
    pub(super) unseen_until: u64,
    /// Stopping: it will not join again.
    pub(super) leaving: bool,
    pub(super) mono_offset: u64,
    pub(super) wall_offset: i64,
    pub(super) done: VecDeque<(RequestKey, Exchange)>,
    /// Requests of which this life still wants to hear.
    pub(super) requests: BTreeMap<RequestKey, u64>,
}

/// Something that will happen.
#[derive(Debug)]
pub(super) enum Event {
    Land {
        life: Life,
        log: LogId,
        token: Token,
        tp: TopicPartition,
        payload: Payload,
        ack: Option<u64>,
        survives: bool,
    },
    GiveUp {
        log: LogId,
        token: Token,
    },
    Tell {
        log: LogId,
        event: LogEvent,
    },
    Answer {
        life: Life,
        key: RequestKey,
        id: u64,
        result: Result<u16, FailureKind>,
        retry_after: Option<u64>,
        took: u64,
    },
    Heartbeat,
    Visible,
    Script(Script),
}

/// What the run does to the processes.
#[derive(Debug, Clone)]
pub(super) enum Script {
    Source { record: usize },
    Crash { slot: usize, down: u64 },
    Start { slot: usize },
    Pause { slot: usize, time: u64 },
    Hide { slot: usize, time: u64 },
    Stop { slot: usize, down: u64 },
    Shuffle,
    Retention,
    ClockJump { slot: usize, by: i64 },
    View { life: Life, stage: usize, version: usize },
    Configure { version: usize },
    Heal,
}

/// How an endpoint behaves.
#[derive(Debug, Clone, Copy)]
pub(super) enum Manner {
    Good,
    Flaky,
    Slow,
    Hanging,
    Failing,
    TooMany,
}

pub(super) struct Cluster {
    pub(super) now: u64,
    seq: u64,
    heap: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    pub(super) topics: BTreeMap<TopicPartition, PartitionLog>,
    pub(super) groups: Vec<Group>,
    pub(super) logs: Vec<LogState>,
    pub(super) lives: Vec<LifeState>,
    next_input: u64,
    next_request: u64,
    pub(super) rng: Rng,
    pub(super) calm: bool,
    pub(super) manners: BTreeMap<hookstream_types::WebhookId, Manner>,
    /// Lives that have something to do now.
    pub(super) woken: BTreeSet<Life>,
    pub(super) books: Books,
    pub(super) faults: Faults,
    notes: Vec<(u64, String)>,
    /// The job that the next request is for.
    pub(super) starting: Option<(DeliveryId, Generation, hookstream_types::WebhookId)>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("now", &self.now).finish_non_exhaustive()
    }
}

impl Cluster {
    pub(super) fn new(rng: Rng, calm: bool, books: Books) -> Self {
        Self {
            now: 0,
            seq: 0,
            heap: BinaryHeap::new(),
            events: BTreeMap::new(),
            topics: BTreeMap::new(),
            groups: Vec::new(),
            logs: Vec::new(),
            lives: Vec::new(),
            next_input: 0,
            next_request: 0,
            rng,
            calm,
            manners: BTreeMap::new(),
            woken: BTreeSet::new(),
            books,
            faults: Faults::default(),
            notes: Vec::new(),
            starting: None,
        }
    }

    /// Prints the whole log, in the order of time: for a person who looks for what went wrong.
    #[expect(clippy::print_stderr, reason = "asked for by an environment variable")]
    pub(super) fn trace(&self) {
        let mut lines: Vec<(u64, String)> = Vec::new();
        for ((topic, partition), log) in &self.topics {
            for record in &log.records {
                let text = String::from_utf8_lossy(record.payload.value());
                let short: String = text.lines().next().unwrap_or_default().chars().take(420).collect();
                lines.push((
                    record.visible,
                    format!("{topic}/{partition}@{} t={} {short}", record.offset, record.at.0 - BROKER_EPOCH),
                ));
            }
        }
        lines.extend(self.notes.iter().cloned());
        lines.sort();
        for (_, line) in lines {
            eprintln!("{line}");
        }
    }

    /// For [`Cluster::trace`].
    pub(super) fn note(&mut self, text: String) {
        self.notes.push((self.now, format!("# t={} {text}", self.now / MS)));
    }

    pub(super) fn broker_now(&self) -> UnixMillis {
        UnixMillis(BROKER_EPOCH + i64::try_from(self.now / MS).expect("a short run"))
    }

    pub(super) fn mono(&self, life: Life) -> Mono {
        Mono(self.now + self.lives[life].mono_offset)
    }

    /// The simulation's time of a life's monotonic instant.
    pub(super) fn global(&self, life: Life, mono: Mono) -> u64 {
        mono.0.saturating_sub(self.lives[life].mono_offset)
    }

    pub(super) fn at(&mut self, time: u64, event: Event) {
        self.seq += 1;
        self.heap.push(Reverse((time.max(self.now), self.seq)));
        self.events.insert(self.seq, event);
    }

    pub(super) fn after(&mut self, delay: u64, event: Event) {
        self.at(self.now + delay, event);
    }

    pub(super) fn fresh_input(&mut self) -> Input {
        self.next_input += 1;
        Input(self.next_input)
    }

    pub(super) fn next_event_at(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    pub(super) fn pop_event(&mut self) -> Option<Event> {
        let Reverse((_, seq)) = self.heap.pop()?;
        self.events.remove(&seq)
    }

    pub(super) fn create_topic(&mut self, name: &Arc<str>, partitions: i32) {
        for partition in 0..partitions {
            self.topics.insert((Arc::clone(name), partition), PartitionLog::default());
        }
    }

    pub(super) fn create_group(&mut self, topics: &[(Arc<str>, i32)]) -> usize {
        let partitions =
            topics.iter().flat_map(|(name, count)| (0..*count).map(|p| (Arc::clone(name), p))).collect();
        self.groups.push(Group {
            partitions,
            members: Vec::new(),
            rotation: 0,
            owners: BTreeMap::new(),
            committed: BTreeMap::new(),
        });
        self.groups.len() - 1
    }

    pub(super) fn runs(&self, life: Life) -> bool {
        let life = &self.lives[life];
        life.alive && life.paused_until <= self.now
    }

    fn is_seen(&self, life: Life) -> bool {
        self.runs(life) && self.lives[life].unseen_until <= self.now
    }

    pub(super) fn tell(&mut self, log: LogId, event: LogEvent) {
        self.logs[log].queue.push_back(event);
        self.woken.insert(self.logs[log].life);
    }

    // === records ===

    pub(super) fn append(&mut self, tp: &TopicPartition, payload: Payload) -> Ack {
        let at = self.broker_now();
        let visible = self.now + self.rng.between(1, 10) * MS;
        let partition = self.topics.get_mut(tp).expect("the topic exists");
        let offset = Offset(partition.end());
        let record = Rc::new(Record { offset, at, visible, payload });
        partition.records.push(Rc::clone(&record));
        self.books.on_append(tp, &record, self.now);
        // Readers wake when it becomes visible.
        self.at(visible, Event::Visible);
        Ack { offset, appended_at: Some(at) }
    }

    pub(super) fn produce(&mut self, log: LogId, token: Token, tp: TopicPartition, payload: Payload) {
        /// Nothing lands later than this: the producer's message time-out is shorter than the lease.
        const LATEST: u64 = 3_500 * MS;
        let refusal = if payload.size() > limits::MAX_RECORD_BYTES {
            Some(ProduceError::TooLarge)
        } else if !self.topics.contains_key(&tp) {
            Some(ProduceError::Refused)
        } else {
            None
        };
        if let Some(error) = refusal {
            let event = LogEvent::Produced { token, result: Err(error) };
            return self.after(MS, Event::Tell { log, event });
        }
        let life = self.logs[log].life;
        let (mut land, mut ack, mut lands) =
            (self.rng.between(500, 5 * MS), Some(self.rng.between(500, 5 * MS)), true);
        if !self.calm {
            match self.rng.between(0, 999) {
                // The acknowledgement comes late, or after a take-over.
                0..40 => ack = Some(self.rng.between(100 * MS, 3 * SECOND)),
                // It is lost.
                40..70 => ack = None,
                // The record lands late.
                70..100 => land = self.rng.between(100 * MS, LATEST),
                100..110 => {
                    land = self.rng.between(100 * MS, LATEST);
                    ack = None;
                }
                // It never lands.
                110..130 => {
                    lands = false;
                    ack = None;
                }
                _ => {}
            }
        }
        let previous = self.logs[log].landing.get(&tp).copied().unwrap_or(0);
        let time = (self.now + land).max(previous);
        if time > self.now + LATEST {
            lands = false;
            ack = None;
        }
        self.faults.late_acks += u64::from(ack.is_some_and(|ack| ack >= 100 * MS));
        self.faults.landed_unknown += u64::from(lands && ack.is_none());
        if lands {
            self.logs[log].landing.insert(tp.clone(), time);
            let survives = self.rng.percent(50);
            self.at(time, Event::Land { life, log, token, tp, payload, ack, survives });
        }
        if ack.is_none() {
            self.after(4 * SECOND, Event::GiveUp { log, token });
        }
    }

    /// Lets something happen; what the run's script says is handed back.
    pub(super) fn handle(&mut self, event: Event) -> Option<Script> {
        match event {
            Event::Script(script) => return Some(script),
            Event::Heartbeat => {
                self.heartbeat();
                self.woken.extend(0..self.lives.len());
            }
            Event::Visible => self.woken.extend(0..self.lives.len()),
            Event::Land { life, log, token, tp, payload, ack, survives } => {
                if !self.lives[life].alive && !survives {
                    return None;
                }
                let landed = self.append(&tp, payload);
                if let Some(delay) = ack {
                    let event = LogEvent::Produced { token, result: Ok(landed) };
                    self.after(delay, Event::Tell { log, event });
                }
            }
            Event::GiveUp { log, token } => {
                self.faults.unknown += 1;
                self.tell(log, LogEvent::Produced { token, result: Err(ProduceError::Unknown) });
            }
            Event::Tell { log, event } => self.tell(log, event),
            Event::Answer { life, key, id, result, retry_after, took } => {
                self.answer(life, key, id, result, retry_after, took);
            }
        }
        None
    }

    /// Deletes what is old and not needed by the protocol any more (days of retention, in seconds).
    pub(super) fn delete_old(&mut self, attempts: &Arc<str>) {
        let horizon = self.now.saturating_sub(150 * SECOND);
        let mut keep_from: BTreeMap<TopicPartition, i64> = BTreeMap::new();
        for group in &self.groups {
            for (tp, (base, note)) in &group.committed {
                keep_from.insert(tp.clone(), *base);
                if let Ok(note) = serde_json::from_str::<hookstream_core::ledger::CommitNote>(note) {
                    keep_from.insert((Arc::clone(attempts), tp.1), note.ledger.0);
                }
            }
        }
        for (tp, partition) in &mut self.topics {
            let Some(keep_from) = keep_from.get(tp) else { continue };
            let old = partition
                .records
                .iter()
                .take_while(|record| record.visible < horizon && record.offset.0 < *keep_from)
                .count();
            partition.records.drain(..old);
            partition.start += i64::try_from(old).expect("few records");
        }
    }

    // === the group ===

    /// A process starts; its clocks are off by so much.
    pub(super) fn begin_life(&mut self, mono_offset: u64, wall_offset: i64) -> Life {
        self.lives.push(LifeState {
            alive: true,
            paused_until: 0,
            unseen_until: 0,
            leaving: false,
            mono_offset,
            wall_offset,
            done: VecDeque::new(),
            requests: BTreeMap::new(),
        });
        self.lives.len() - 1
    }

    pub(super) fn join(&mut self, life: Life, group: usize) -> LogId {
        let id = self.logs.len();
        self.logs.push(LogState {
            life,
            group,
            queue: VecDeque::new(),
            inputs: BTreeMap::new(),
            last_contact: self.now,
            landing: BTreeMap::new(),
            pending: BTreeMap::new(),
        });
        self.groups[group].members.push(id);
        self.rebalance(group);
        id
    }

    pub(super) fn shuffle(&mut self) {
        for group in 0..self.groups.len() {
            self.groups[group].rotation += 1;
            self.rebalance(group);
        }
    }

    pub(super) fn rebalance(&mut self, group: usize) {
        let by = self.now + DRAIN;
        let mut told = Vec::new();
        let mut free = Vec::new();
        let state = &mut self.groups[group];
        for (index, tp) in state.partitions.iter().enumerate() {
            let wanted = (!state.members.is_empty())
                .then(|| state.members[(index + state.rotation) % state.members.len()]);
            match state.owners.get_mut(tp) {
                Some(owner) if Some(owner.log) != wanted && owner.revoked_by.is_none() => {
                    owner.revoked_by = Some(by);
                    told.push((owner.log, owner.input));
                }
                Some(_) => {}
                None => free.extend(wanted.map(|log| (tp.clone(), log))),
            }
        }
        for (log, input) in told {
            let by = Mono(by + self.lives[self.logs[log].life].mono_offset);
            self.tell(log, LogEvent::Revoking { input, by });
        }
        for (tp, log) in free {
            self.assign(group, tp, log);
        }
    }

    fn assign(&mut self, group: usize, tp: TopicPartition, log: LogId) {
        let input = self.fresh_input();
        let start = self.topics[&tp].start;
        let committed = self.groups[group].committed.get(&tp);
        let base = committed.map_or(start, |(offset, _)| (*offset).max(start));
        let metadata = committed.map(|(_, metadata)| metadata.clone());
        self.faults.handovers += u64::from(committed.is_some());
        self.groups[group].owners.insert(tp.clone(), Ownership { log, input, revoked_by: None });
        let state = InputState {
            tp: tp.clone(),
            base,
            next: base,
            to: None,
            is_reader: false,
            known: false,
            ended: false,
        };
        self.logs[log].inputs.insert(input, state);
        self.note(format!(
            "assign {tp:?} to log {log} of life {} as {input:?} from {base}",
            self.logs[log].life
        ));
        let (topic, partition) = tp;
        self.tell(
            log,
            LogEvent::Assigned {
                input,
                topic,
                partition: Partition(partition),
                base: Offset(base),
                metadata,
            },
        );
    }

    /// The group's owner of a partition, as the brokers see it.
    pub(super) fn owner_life(&self, group: usize, tp: &TopicPartition) -> Option<Life> {
        self.groups[group].owners.get(tp).map(|owner| self.logs[owner.log].life)
    }

    pub(super) fn commit(&mut self, log: LogId, input: Input, offset: Offset, metadata: String) {
        let Some(tp) = self.logs[log].inputs.get(&input).map(|state| state.tp.clone()) else { return };
        if self.is_seen(self.logs[log].life) {
            self.carry_out_pending(log);
            self.carry_out_commit(log, input, tp, offset, metadata);
        } else {
            self.pend(log, input, tp).commit = Some((offset, metadata));
        }
    }

    fn pend(&mut self, log: LogId, input: Input, tp: TopicPartition) -> &mut Pending {
        let none = Pending { tp, commit: None, release: false };
        self.logs[log].pending.entry(input).or_insert(none)
    }

    fn carry_out_commit(
        &mut self,
        log: LogId,
        input: Input,
        tp: TopicPartition,
        offset: Offset,
        metadata: String,
    ) {
        let group = self.logs[log].group;
        // Kafka's generations fence who is not a member any more; who lost the partition must not try.
        if self.groups[group].owners.get(&tp).is_none_or(|owner| owner.input != input) {
            return;
        }
        self.note(format!("commit {tp:?} {offset} by log {log} {metadata}"));
        let previous =
            self.groups[group].committed.get(&tp).map_or(self.topics[&tp].start, |(base, _)| *base);
        self.books.on_commit(&tp, previous, offset.0, self.topics.get(&tp).expect("it exists"), self.now);
        self.groups[group].committed.insert(tp, (offset.0, metadata));
    }

    pub(super) fn release(&mut self, log: LogId, input: Input) {
        let Some(state) = self.logs[log].inputs.remove(&input) else { return };
        if self.is_seen(self.logs[log].life) {
            self.carry_out_pending(log);
            self.carry_out_release(log, input, &state.tp);
        } else {
            self.pend(log, input, state.tp).release = true;
        }
    }

    fn carry_out_release(&mut self, log: LogId, input: Input, tp: &TopicPartition) {
        let group = self.logs[log].group;
        if self.groups[group].owners.get(tp).is_some_and(|owner| owner.input == input) {
            self.groups[group].owners.remove(tp);
            self.rebalance(group);
        }
    }

    /// In sight again: what was committed and released meanwhile is carried out.
    fn carry_out_pending(&mut self, log: LogId) {
        for (input, Pending { tp, commit, release }) in std::mem::take(&mut self.logs[log].pending) {
            if let Some((offset, metadata)) = commit {
                self.carry_out_commit(log, input, tp.clone(), offset, metadata);
            }
            if release {
                self.carry_out_release(log, input, &tp);
            }
        }
    }

    /// Whether a group has committed all there is.
    pub(super) fn is_done(&self, group: usize) -> bool {
        let group = &self.groups[group];
        group.partitions.iter().all(|tp| {
            let log = &self.topics[tp];
            log.end() == group.committed.get(tp).map_or(log.start, |(offset, _)| *offset)
        })
    }

    /// Leaves all groups; what is owned drains first.
    pub(super) fn leave(&mut self, life: Life) {
        self.lives[life].leaving = true;
        for group in 0..self.groups.len() {
            let logs = &self.logs;
            self.groups[group].members.retain(|log| logs[*log].life != life);
            self.rebalance(group);
        }
    }

    /// Whether a life owns nothing any more.
    pub(super) fn owns_nothing(&self, life: Life) -> bool {
        self.groups.iter().all(|group| group.owners.values().all(|owner| self.logs[owner.log].life != life))
    }

    /// Twice a second: who is alive says so, and who has not been heard of loses what it has.
    fn heartbeat(&mut self) {
        for group in 0..self.groups.len() {
            for log in 0..self.logs.len() {
                if self.logs[log].group != group || !self.lives[self.logs[log].life].alive {
                    continue;
                }
                let is_member = self.groups[group].members.contains(&log);
                if self.is_seen(self.logs[log].life) {
                    self.carry_out_pending(log);
                    if is_member {
                        self.logs[log].last_contact = self.now;
                    } else if self.logs[log].last_contact > 0 && !self.lives[self.logs[log].life].leaving {
                        self.expelled_learns(group, log);
                    }
                }
            }
            let expired: Vec<LogId> = self.groups[group]
                .members
                .iter()
                .copied()
                .filter(|log| self.now.saturating_sub(self.logs[*log].last_contact) > SESSION)
                .collect();
            for log in expired {
                // Once per process, not once per group.
                self.faults.zombies += u64::from(group == 0 && self.lives[self.logs[log].life].alive);
                self.groups[group].members.retain(|member| *member != log);
                self.groups[group].owners.retain(|_, owner| owner.log != log);
                self.rebalance(group);
            }
            // Who left or stopped and drains too slowly.
            let late: Vec<(TopicPartition, Ownership)> = self.groups[group]
                .owners
                .iter()
                .filter(|(_, owner)| owner.revoked_by.is_some_and(|by| by < self.now))
                .map(|(tp, owner)| (tp.clone(), *owner))
                .collect();
            for (tp, owner) in late {
                self.groups[group].owners.remove(&tp);
                self.tell(owner.log, LogEvent::Lost { input: owner.input, why: Lost::DrainTimedOut });
                self.logs[owner.log].inputs.remove(&owner.input);
                self.rebalance(group);
            }
        }
        self.after(500 * MS, Event::Heartbeat);
    }

    /// Back in sight, a member that was expelled learns of it, and joins anew.
    fn expelled_learns(&mut self, group: usize, log: LogId) {
        let lost: Vec<Input> = self.logs[log]
            .inputs
            .iter()
            .filter(|(_, state)| !state.is_reader)
            .map(|(input, _)| *input)
            .collect();
        for input in lost {
            self.logs[log].inputs.remove(&input);
            self.tell(log, LogEvent::Lost { input, why: Lost::SessionEnded });
        }
        self.logs[log].last_contact = self.now;
        self.groups[group].members.push(log);
        self.rebalance(group);
    }

    /// A life ends without a word; the brokers notice later.
    pub(super) fn crash(&mut self, life: Life) {
        self.lives[life].alive = false;
        self.lives[life].requests.clear();
    }

    // === endpoints ===

    pub(super) fn request(&mut self, life: Life, key: RequestKey, deadline: Duration) {
        let Some((delivery, generation, webhook)) = self.starting.take() else { return };
        self.next_request += 1;
        let id = self.next_request;
        self.lives[life].requests.insert(key, id);
        let deadline = u64::try_from(deadline.as_micros()).expect("short");
        let manner = if self.calm {
            Manner::Good
        } else {
            self.manners.get(&webhook).copied().unwrap_or(Manner::Good)
        };
        let quick = self.rng.between(2, 50) * MS;
        let (result, took, retry_after) = match manner {
            Manner::Good => (Ok(200), quick, None),
            Manner::Flaky if self.rng.percent(40) => (Ok(500), quick, None),
            Manner::Flaky => (Ok(204), quick, None),
            Manner::Slow => (Ok(200), self.rng.between(500, 3_000) * MS, None),
            Manner::Hanging => (Err(FailureKind::Timeout), deadline, None),
            Manner::Failing => (Err(FailureKind::Connect), quick, None),
            Manner::TooMany if self.rng.percent(60) => (Ok(429), quick, Some(self.rng.between(1, 6))),
            Manner::TooMany => (Ok(200), quick, None),
        };
        if matches!(result, Ok(200..=299)) {
            self.books.on_received(delivery, generation, self.now);
        }
        self.after(took, Event::Answer { life, key, id, result, retry_after, took });
    }

    fn answer(
        &mut self,
        life: Life,
        key: RequestKey,
        id: u64,
        result: Result<u16, FailureKind>,
        retry_after: Option<u64>,
        took: u64,
    ) {
        if self.lives[life].requests.get(&key) != Some(&id) {
            return;
        }
        self.lives[life].requests.remove(&key);
        let result = match result {
            Ok(status) => Ok(Response {
                status,
                headers: retry_after
                    .map(|secs| ("retry-after".to_owned(), secs.to_string()))
                    .into_iter()
                    .collect(),
                body: Bytes::new(),
                truncated: false,
            }),
            Err(kind) => Err(Failure { kind, message: kind.label().to_owned() }),
        };
        let timings = Timings { total: Duration::from_micros(took), ..Timings::default() };
        self.lives[life].done.push_back((key, Exchange { result, timings }));
        self.woken.insert(life);
    }
}
