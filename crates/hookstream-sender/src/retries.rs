//! Drives the retry readers of one thread over a log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hookstream_core::clock::BrokerClock;
use hookstream_core::decision::RejectReason;
use hookstream_core::job::Job;
use hookstream_core::ladder::Ladder;
use hookstream_core::retry::{Effect, Rung};
use hookstream_log::{Input, Log, LogEvent};
use hookstream_types::{Chain, Mono, Now, Offset, Partition, partition_for};
use hookstream_wire::{Topics, job};

use crate::outbox::{Outbox, Outgoing, Settled};

/// How many partitions the topics have that jobs are moved to.
#[derive(Clone, Copy, Debug)]
pub struct Partitions {
    pub deliveries: i32,
    pub retry: i32,
    pub other: i32,
}

/// How long a record waits that has become too large for its topic.
pub(crate) const TOO_LARGE_AGAIN: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Slot {
    topic: Arc<str>,
    partition: Partition,
    rung: Rung,
}

/// All retry partitions that one thread reads.
#[derive(Debug)]
pub struct Retries<L> {
    log: L,
    topics: Arc<Topics>,
    ladder: Arc<Ladder>,
    partitions: Partitions,
    clock: Arc<BrokerClock>,
    rungs: BTreeMap<Input, Slot>,
    outbox: Outbox,
    commit_every: Duration,
    /// Records were left where they are although there is room for them.
    more: bool,
    moved: u64,
}

impl<L: Log> Retries<L> {
    #[must_use]
    pub fn new(
        log: L,
        topics: Arc<Topics>,
        ladder: Arc<Ladder>,
        partitions: Partitions,
        clock: Arc<BrokerClock>,
    ) -> Self {
        Self {
            log,
            topics,
            ladder,
            partitions,
            clock,
            rungs: BTreeMap::new(),
            outbox: Outbox::default(),
            commit_every: Duration::from_millis(200),
            more: false,
            moved: 0,
        }
    }

    /// Everything that can be done now.
    pub fn step(&mut self, now: Now) {
        self.more = false;
        while let Some(event) = self.log.next_event() {
            self.on_event(event, now);
        }
        let lease = self.log.lease();
        self.outbox.poll(&mut self.log, lease, now.mono);
        let inputs: Vec<Input> = self.rungs.keys().copied().collect();
        let mut fx = Vec::new();
        for input in inputs {
            self.take(input, now, &mut fx);
            if let Some(slot) = self.rungs.get_mut(&input) {
                slot.rung.poll(Now { broker: self.clock.now(now.mono), ..now }, &mut fx);
            }
            self.apply(input, &mut fx, now);
        }
        self.log.flush();
        self.more &= self.rungs.values().any(|slot| slot.rung.room() > 0);
    }

    fn take(&mut self, input: Input, now: Now, fx: &mut Vec<Effect>) {
        let Some(slot) = self.rungs.get_mut(&input) else { return };
        let room = slot.rung.room();
        if room == 0 {
            return;
        }
        let (rung, clock) = (&mut slot.rung, &self.clock);
        let taken = self.log.take(input, room, &mut |record| {
            clock.sample(record.timestamp, now.mono);
            match job::decode_all(record.value.unwrap_or_default()) {
                Ok(jobs) => rung.on_record(record.offset, record.timestamp, jobs),
                Err(error) => {
                    let raw = Bytes::copy_from_slice(record.value.unwrap_or_default());
                    rung.on_bad_record(record.offset, raw, Chain(&error).to_string(), fx);
                }
            }
        });
        self.more |= taken == room;
    }

    fn on_event(&mut self, event: LogEvent, now: Now) {
        match event {
            LogEvent::Assigned { input, topic, partition, base, .. } => {
                if let Some(rung) = self.topics.retry.iter().position(|name| *name == topic) {
                    let rung = Rung::new(Arc::clone(&self.ladder), rung, base, self.commit_every);
                    self.rungs.insert(input, Slot { topic, partition, rung });
                }
            }
            LogEvent::Revoking { input, .. } => match self.rungs.get_mut(&input) {
                Some(slot) => slot.rung.drain(),
                None => self.log.release(input),
            },
            LogEvent::Lost { input, .. } => {
                self.rungs.remove(&input);
                self.outbox.forget(input);
            }
            LogEvent::Produced { token, result } => match self.outbox.on_produced(token, result, now.mono) {
                Some(Settled::Appended { input, tag, ack }) => {
                    if let Some(stamped) = ack.appended_at {
                        self.clock.sample(stamped, now.mono);
                    }
                    if let Some(slot) = self.rungs.get_mut(&input) {
                        slot.rung.on_appended(tag);
                    }
                }
                // It fitted before it came here: it is kept and tried again, so that an operator who lowered the
                // topic's limit loses nothing.
                Some(Settled::TooLarge(record)) => {
                    tracing::error!(
                        topic = %record.topic,
                        bytes = record.value.len(),
                        "the topic's max.message.bytes is too small for a job: raise it"
                    );
                    self.outbox.send_later(*record, now.mono + TOO_LARGE_AGAIN);
                }
                None => {}
            },
            LogEvent::Ended { .. } => {}
        }
    }

    fn apply(&mut self, input: Input, fx: &mut Vec<Effect>, now: Now) {
        for effect in fx.drain(..) {
            match effect {
                Effect::Hop { tag, rung, jobs } => {
                    let record = put_off(&self.topics, self.partitions.retry, rung, &jobs, input, tag);
                    self.outbox.send(&mut self.log, record, now.mono);
                }
                Effect::Deliver { tag, job } => {
                    self.moved += 1;
                    let record = deliver(&self.topics, self.partitions.deliveries, &job, input, tag);
                    self.outbox.send(&mut self.log, record, now.mono);
                }
                Effect::Reject { tag, offset, raw, message } => {
                    if let Some(slot) = self.rungs.get(&input) {
                        let at = At { topic: &slot.topic, partition: slot.partition, offset };
                        let (bad, topics) = (RejectReason::BadJob, &self.topics);
                        let record =
                            reject(topics, self.partitions.other, at, &raw, bad, &message, input, tag);
                        self.outbox.send(&mut self.log, record, now.mono);
                    }
                }
                Effect::Commit { base } => self.log.commit(input, base, String::new()),
                Effect::Drained => {
                    self.rungs.remove(&input);
                    self.outbox.forget(input);
                    self.log.release(input);
                }
            }
        }
    }

    /// When [`Retries::step`] has something to do even if nothing happens.
    #[must_use]
    pub fn next_deadline(&self, now: Mono) -> Option<Mono> {
        if self.more {
            return Some(now);
        }
        let rungs = self.rungs.values().flat_map(|slot| {
            let due = slot.rung.next_due().map(|due| self.clock.when(due, now));
            [due, slot.rung.next_commit()].into_iter().flatten()
        });
        rungs.chain(self.outbox.next_deadline()).min()
    }

    /// Jobs given back to `deliveries` so far.
    #[must_use]
    pub fn moved(&self) -> u64 {
        self.moved
    }

    /// By how much the record that is most overdue is late; zero if none is.
    #[must_use]
    pub fn overdue(&self, now: Mono) -> Duration {
        let due = self.rungs.values().filter_map(|slot| slot.rung.next_due()).min();
        due.map_or(Duration::ZERO, |due| due.until(self.clock.now(now)))
    }

    /// Jobs and records held in memory.
    #[must_use]
    pub fn held(&self) -> usize {
        self.rungs.values().map(|slot| slot.rung.held()).sum()
    }

    pub fn log(&mut self) -> &mut L {
        &mut self.log
    }

    /// Whether no partition is held any more.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.rungs.is_empty()
    }
}

/// Jobs of one webhook as one record of a rung.
pub(crate) fn put_off(
    topics: &Topics,
    partitions: i32,
    rung: usize,
    jobs: &[Job],
    input: Input,
    tag: u64,
) -> Outgoing {
    let mut value = Vec::new();
    for job in jobs {
        job::append(job, &mut value);
    }
    let key = jobs.first().map(|job| job::partition_key(job.state.webhook).to_vec()).unwrap_or_default();
    Outgoing {
        topic: Arc::clone(&topics.retry[rung]),
        partition: partition_for(&key, partitions),
        key,
        value,
        headers: Vec::new(),
        input,
        tag,
    }
}

fn deliver(topics: &Topics, partitions: i32, job: &Job, input: Input, tag: u64) -> Outgoing {
    let mut value = Vec::new();
    job::append(job, &mut value);
    Outgoing {
        topic: Arc::clone(&topics.deliveries),
        partition: job::deliveries_partition(job.state.webhook, partitions),
        key: job::partition_key(job.state.webhook).to_vec(),
        value,
        headers: Vec::new(),
        input,
        tag,
    }
}

/// Where a rejected record stands.
pub(crate) struct At<'a> {
    pub topic: &'a Arc<str>,
    pub partition: Partition,
    pub offset: Offset,
}

#[expect(clippy::too_many_arguments, reason = "a record's parts, named at each call")]
pub(crate) fn reject(
    topics: &Topics,
    partitions: i32,
    at: At<'_>,
    value: &[u8],
    reason: RejectReason,
    message: &str,
    input: Input,
    tag: u64,
) -> Outgoing {
    let key = format!("{}/{}/{}", at.topic, at.partition, at.offset).into_bytes();
    let headers = vec![
        ("hs-reason", reason.label().as_bytes().to_vec()),
        ("hs-message", message.as_bytes().to_vec()),
        ("hs-topic", at.topic.as_bytes().to_vec()),
        ("hs-partition", at.partition.to_string().into_bytes()),
        ("hs-offset", at.offset.to_string().into_bytes()),
    ];
    Outgoing {
        topic: Arc::clone(&topics.rejected),
        partition: partition_for(&key, partitions),
        key,
        value: value.to_vec(),
        headers,
        input,
        tag,
    }
}
