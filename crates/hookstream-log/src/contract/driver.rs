//! What the contract suite needs of a log's implementation, and a stage that notes everything.

use std::collections::BTreeMap;
use std::time::Duration;

use hookstream_types::{Mono, Offset, Partition};

use crate::log::{Ack, Ended, Input, Log, LogEvent, Lost, OutRecord, ProduceError, RecordRef};

/// A log that the suite can be run on.
pub trait Bench {
    type Log: Log;
    /// The membership of one process in a group.
    type Member;

    /// Makes a topic.
    fn topic(&mut self, partitions: i32) -> String;
    /// A process joins a group, with one core.
    fn join(&mut self, group: &str, topic: &str) -> (Self::Member, Self::Log);
    /// Begins to leave the group as a process does that is stopped; the log is driven on meanwhile.
    fn leave(&mut self, member: Self::Member) -> Self::Member;
    fn has_left(&mut self, member: &Self::Member) -> bool;
    /// The process dies: nothing it had left to do is done.
    fn kill(&mut self, member: Self::Member, log: Self::Log);
    /// Lets a little time pass.
    fn step(&mut self);
    fn now(&self) -> Mono;
}

/// A partition as a stage sees it.
#[derive(Debug)]
pub struct Held {
    pub topic: String,
    pub partition: Partition,
    pub base: Offset,
    pub metadata: Option<String>,
    pub revoking: Option<Mono>,
}

/// A record as it was handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub offset: Offset,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Seen {
    #[must_use]
    pub fn of(record: RecordRef<'_>) -> Self {
        Self {
            offset: record.offset,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record
                .headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.to_vec()))
                .collect(),
        }
    }

    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8(self.value.clone().unwrap()).unwrap()
    }
}

/// Drives a log, and notes what it says.
#[derive(Debug)]
pub struct Driver<L> {
    pub log: L,
    pub held: BTreeMap<Input, Held>,
    pub seen: BTreeMap<Input, Vec<Seen>>,
    pub produced: BTreeMap<u64, Result<Ack, ProduceError>>,
    pub lost: Vec<(Input, Lost)>,
    pub ended: BTreeMap<Input, Ended>,
    /// Whether records are taken.
    pub taking: bool,
    /// Whether what was taken is committed, and a partition that is wanted elsewhere released, at once.
    pub completing: bool,
    tokens: u64,
}

impl<L: Log> Driver<L> {
    #[must_use]
    pub fn new(log: L) -> Self {
        Self {
            log,
            held: BTreeMap::new(),
            seen: BTreeMap::new(),
            produced: BTreeMap::new(),
            lost: Vec::new(),
            ended: BTreeMap::new(),
            taking: true,
            completing: true,
            tokens: 0,
        }
    }

    /// Takes in what there is.
    pub fn pump(&mut self) {
        while let Some(event) = self.log.next_event() {
            self.on_event(event);
        }
        if self.taking {
            let inputs: Vec<Input> = self.held.keys().copied().collect();
            for input in inputs {
                self.take(input);
            }
        }
        self.log.flush();
    }

    pub fn on_event(&mut self, event: LogEvent) {
        match event {
            LogEvent::Assigned { input, topic, partition, base, metadata } => {
                let held = Held { topic: topic.to_string(), partition, base, metadata, revoking: None };
                assert!(
                    !self.held.values().any(|h| h.topic == held.topic && h.partition == held.partition),
                    "{partition:?} was assigned again before it was released or lost"
                );
                assert!(self.held.insert(input, held).is_none(), "{input:?} was used before");
            }
            LogEvent::Revoking { input, by } => {
                self.held.get_mut(&input).expect("what is revoked was assigned").revoking = Some(by);
                if self.completing {
                    self.release(input);
                }
            }
            LogEvent::Lost { input, why } => {
                self.held.remove(&input).expect("what is lost was assigned");
                self.lost.push((input, why));
            }
            LogEvent::Produced { token, result } => {
                assert!(self.produced.insert(token, result).is_none(), "token {token} was answered twice");
            }
            LogEvent::Ended { input, why } => {
                self.ended.insert(input, why);
            }
        }
    }

    pub fn take(&mut self, input: Input) {
        let seen = self.seen.entry(input).or_default();
        let taken = self.log.take(input, 100, &mut |record| seen.push(Seen::of(record)));
        if taken > 0 && self.completing && self.held.contains_key(&input) {
            let next = self.seen[&input].last().unwrap().offset.next();
            self.log.commit(input, next, format!("after {next}"));
        }
    }

    /// Commits what was taken, and gives the partition back.
    pub fn release(&mut self, input: Input) {
        self.log.release(input);
        self.held.remove(&input);
    }

    pub fn produce(&mut self, topic: &str, partition: i32, value: &[u8]) -> u64 {
        self.tokens += 1;
        let record = OutRecord {
            topic,
            partition: Partition(partition),
            key: Some(b"k"),
            value: Some(value),
            headers: &[],
        };
        self.log.produce(self.tokens, record).expect("the queue has room");
        self.tokens
    }

    /// The values of everything taken, in order of input and offset.
    #[must_use]
    pub fn values(&self) -> Vec<String> {
        self.seen.values().flatten().map(Seen::text).collect()
    }

    #[must_use]
    pub fn input_of(&self, partition: i32) -> Option<Input> {
        self.held.iter().find(|(_, held)| held.partition.0 == partition).map(|(input, _)| *input)
    }
}

/// Lets the bench's time pass until `done`.
#[track_caller]
pub fn until<B: Bench>(bench: &mut B, what: &str, mut done: impl FnMut(&mut B) -> bool) {
    let by = bench.now() + Duration::from_secs(60);
    while !done(bench) {
        assert!(bench.now() < by, "waited in vain: {what}");
        bench.step();
    }
}
