//! The reader of one partition of one rung: waits, then moves jobs on (design §2.4).
//!
//! A record waits for *append time + rung*, never for its jobs' due times, so the partition is first in, first
//! out and only its head is watched. Then each job hops to the longest rung that still fits, or, if less than the
//! shortest rung is left, waits in a bounded heap and goes back to `deliveries`. Nothing is dropped here as a
//! duplicate: only the sender can tell.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hookstream_types::{Mono, Now, Offset, UnixMillis};
use rustc_hash::FxHashMap;

use crate::frontier::Frontier;
use crate::job::Job;
use crate::ladder::Ladder;
use crate::mutant::{Mutant, on};

/// Names an effect whose end the machine wants to hear of.
pub type Tag = u64;

/// What the shell is to do.
#[derive(Debug)]
pub enum Effect {
    /// Append jobs of one webhook to this rung, as one record.
    Hop {
        tag: Tag,
        rung: usize,
        jobs: Vec<Job>,
    },
    /// Append the job to `deliveries`.
    Deliver {
        tag: Tag,
        job: Job,
    },
    /// Append a record that cannot be read to `rejected`.
    Reject {
        tag: Tag,
        offset: Offset,
        raw: Bytes,
        message: String,
    },
    Commit {
        base: Offset,
    },
    /// Nothing is left to do: the partition can be released.
    Drained,
}

/// Records that are read and wait for their time, and jobs in the heap: what a partition may hold in memory.
const MAX_WAITING: usize = 64;
const MAX_HEAP: usize = 10_000;
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// Records moved and not yet acknowledged.
const MAX_MOVING: usize = 1_000;

#[derive(Debug)]
struct Waiting {
    offset: Offset,
    /// When its time on the rung is over, on the broker's clock.
    until: UnixMillis,
    jobs: Vec<Job>,
}

/// One assignment of one partition of one rung.
#[derive(Debug)]
pub struct Rung {
    ladder: Arc<Ladder>,
    rung: Duration,
    commit_every: Duration,
    frontier: Frontier,
    waiting: VecDeque<Waiting>,
    /// Jobs that are due soon: (due, order of arrival) → job.
    heap: BinaryHeap<Reverse<(UnixMillis, u64)>>,
    soon: FxHashMap<u64, (Offset, Job)>,
    next_soon: u64,
    /// Parts of a record that are not yet durable elsewhere.
    parts: BTreeMap<Offset, usize>,
    pending: FxHashMap<Tag, Offset>,
    next_tag: Tag,
    bytes: usize,
    draining: bool,
    drained: bool,
    committed: Offset,
    last_commit: Mono,
    /// Only a mutant remembers.
    seen: BTreeSet<hookstream_types::DeliveryId>,
}

impl Rung {
    /// A new assignment of a partition of the rung `rung`.
    #[must_use]
    pub fn new(ladder: Arc<Ladder>, rung: usize, base: Offset, commit_every: Duration) -> Self {
        let rung = ladder.rungs()[rung];
        Self {
            ladder,
            rung,
            commit_every,
            frontier: Frontier::new(base),
            waiting: VecDeque::new(),
            heap: BinaryHeap::new(),
            soon: FxHashMap::default(),
            next_soon: 0,
            parts: BTreeMap::new(),
            pending: FxHashMap::default(),
            next_tag: 0,
            bytes: 0,
            draining: false,
            drained: false,
            committed: base,
            last_commit: Mono(0),
            seen: BTreeSet::new(),
        }
    }

    /// How many records may be taken now.
    #[must_use]
    pub fn room(&self) -> usize {
        let full = self.draining
            || self.bytes >= MAX_BYTES
            || self.soon.len() >= MAX_HEAP
            || self.frontier.incomplete() >= MAX_HEAP + MAX_MOVING
            || self.pending.len() >= MAX_MOVING;
        if full { 0 } else { MAX_WAITING.saturating_sub(self.waiting.len()) }
    }

    /// A record of the rung, appended at `at`.
    pub fn on_record(&mut self, offset: Offset, at: UnixMillis, jobs: Vec<Job>) {
        if self.draining || !self.frontier.see(offset) {
            return;
        }
        let jobs: Vec<Job> = if on(Mutant::DedupeInRetryReader) {
            jobs.into_iter().filter(|job| self.seen.insert(job.state.delivery)).collect()
        } else {
            jobs
        };
        if jobs.is_empty() {
            self.frontier.complete(offset);
            return;
        }
        let mut until = at + self.rung;
        if on(Mutant::WaitForDue) {
            until = jobs.iter().filter_map(|job| job.state.due).max().unwrap_or(until);
        }
        if on(Mutant::RetryEarly) {
            until = at + self.rung / 2;
        }
        self.bytes += jobs.iter().map(Job::size).sum::<usize>();
        self.waiting.push_back(Waiting { offset, until, jobs });
    }

    /// A record that holds no jobs.
    pub fn on_bad_record(&mut self, offset: Offset, raw: Bytes, message: String, fx: &mut Vec<Effect>) {
        if self.draining || !self.frontier.see(offset) {
            return;
        }
        let tag = self.tag(offset);
        fx.push(Effect::Reject { tag, offset, raw, message });
    }

    /// What was named `tag` is durable.
    pub fn on_appended(&mut self, tag: Tag) {
        let Some(offset) = self.pending.remove(&tag) else { return };
        if let Some(parts) = self.parts.get_mut(&offset) {
            *parts -= 1;
            if *parts == 0 {
                self.parts.remove(&offset);
                self.frontier.complete(offset);
            }
        }
    }

    /// Moves what is due, and commits.
    pub fn poll(&mut self, now: Now, fx: &mut Vec<Effect>) {
        if self.drained {
            return;
        }
        if !self.draining {
            self.move_on(now, fx);
            self.deliver_due(now, fx);
        }
        let settled = self.draining && self.pending.is_empty();
        let base = self.frontier.base();
        let due = now.mono.since(self.last_commit) >= self.commit_every;
        if base > self.committed && (due || settled) {
            self.committed = base;
            self.last_commit = now.mono;
            fx.push(Effect::Commit { base });
        }
        if settled {
            self.drained = true;
            fx.push(Effect::Drained);
        }
    }

    fn move_on(&mut self, now: Now, fx: &mut Vec<Effect>) {
        while self.soon.len() < MAX_HEAP && self.pending.len() < MAX_MOVING {
            let Some(head) = self.waiting.pop_front_if(|head| head.until <= now.broker) else { break };
            let mut hop: Vec<Job> = Vec::new();
            for job in head.jobs {
                let due =
                    if on(Mutant::RetryEarly) { now.broker } else { job.state.due.unwrap_or(now.broker) };
                *self.parts.entry(head.offset).or_default() += 1;
                if now.broker.until(due) >= self.ladder.shortest() {
                    hop.push(job);
                } else {
                    self.next_soon += 1;
                    self.heap.push(Reverse((due, self.next_soon)));
                    self.soon.insert(self.next_soon, (head.offset, job));
                }
            }
            if hop.is_empty() {
                continue;
            }
            if let Some(parts) = self.parts.get_mut(&head.offset) {
                *parts -= hop.len() - 1;
            }
            self.bytes = self.bytes.saturating_sub(hop.iter().map(Job::size).sum());
            let due = hop.iter().filter_map(|job| job.state.due).min().unwrap_or(now.broker);
            let rung = self.ladder.longest_within(now.broker.until(due)).unwrap_or(0);
            let tag = self.tag_part(head.offset);
            fx.push(Effect::Hop { tag, rung, jobs: hop });
        }
    }

    fn deliver_due(&mut self, now: Now, fx: &mut Vec<Effect>) {
        while self.pending.len() < MAX_MOVING {
            let Some(Reverse((_, key))) =
                self.heap.peek().copied().filter(|Reverse((due, _))| *due <= now.broker)
            else {
                break;
            };
            self.heap.pop();
            if let Some((offset, job)) = self.soon.remove(&key) {
                self.bytes = self.bytes.saturating_sub(job.size());
                let tag = self.tag_part(offset);
                fx.push(Effect::Deliver { tag, job });
            }
        }
    }

    fn tag(&mut self, offset: Offset) -> Tag {
        *self.parts.entry(offset).or_default() += 1;
        self.tag_part(offset)
    }

    fn tag_part(&mut self, offset: Offset) -> Tag {
        self.next_tag += 1;
        self.pending.insert(self.next_tag, offset);
        self.next_tag
    }

    /// When the next job is due or the next record's time is over, on the broker's clock.
    #[must_use]
    pub fn next_due(&self) -> Option<UnixMillis> {
        if self.draining {
            return None;
        }
        let head = self.waiting.front().map(|head| head.until);
        let soon = self.heap.peek().map(|Reverse((due, _))| *due);
        [head, soon].into_iter().flatten().min()
    }

    /// When a commit is due.
    #[must_use]
    pub fn next_commit(&self) -> Option<Mono> {
        (self.frontier.base() > self.committed).then(|| self.last_commit + self.commit_every)
    }

    /// Jobs and records held in memory.
    #[must_use]
    pub fn held(&self) -> usize {
        self.waiting.len() + self.soon.len()
    }

    /// The partition is wanted elsewhere: what waits is read again by the next owner.
    pub fn drain(&mut self) {
        self.draining = true;
        self.waiting.clear();
        self.heap.clear();
        self.soon.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use hookstream_types::{AccountUid, DeliveryId, EventId, WebhookId};
    use uuid::Uuid;

    use super::*;
    use crate::event::EventAttributes;
    use crate::job::JobState;

    fn job(id: u128, due: i64) -> Job {
        Job {
            state: JobState {
                attempts: 1,
                due: Some(UnixMillis(due)),
                ..JobState::new(DeliveryId(Uuid::from_u128(id)), WebhookId(Uuid::nil()), Offset(0))
            },
            event: Arc::new(EventAttributes {
                event: EventId(Uuid::nil()),
                account: AccountUid(Uuid::nil()),
                source: "s".into(),
                id: "1".into(),
                ce_source: "/s".into(),
                event_type: "a.b".into(),
                subject: None,
                time: "2026-01-01T00:00:00Z".into(),
                content_type: None,
                extensions: vec![],
                produced_at: UnixMillis(0),
            }),
            data: Bytes::from_static(b"{}"),
        }
    }

    fn now(ms: i64) -> Now {
        Now { mono: Mono(ms.unsigned_abs() * 1000), wall: UnixMillis(ms), broker: UnixMillis(ms) }
    }

    /// What is done at a time, in words.
    fn at(rung: &mut Rung, ms: i64) -> Vec<String> {
        let mut fx = Vec::new();
        rung.poll(now(ms), &mut fx);
        fx.iter()
            .map(|effect| match effect {
                Effect::Hop { rung, jobs, tag } => format!("hop {tag} to {rung}: {} jobs", jobs.len()),
                Effect::Deliver { tag, job } => format!("deliver {tag}: {}", job.state.delivery.0.as_u128()),
                Effect::Reject { offset, .. } => format!("reject {offset}"),
                Effect::Commit { base } => format!("commit {base}"),
                Effect::Drained => "drained".into(),
            })
            .collect()
    }

    #[test]
    fn waits_for_append_time_plus_rung_then_hops_or_holds_until_due() {
        let mut rung = Rung::new(Arc::new(Ladder::default()), 1, Offset(0), Duration::ZERO);
        // On the 30 s rung: due at 47 s (hops 5 s, 5 s, 5 s, then the heap), at 32 s (heap), at 31 s (heap).
        rung.on_record(Offset(0), UnixMillis(0), vec![job(1, 47_000), job(2, 32_000)]);
        rung.on_record(Offset(1), UnixMillis(500), vec![job(3, 31_000)]);
        assert_eq!(rung.next_due(), Some(UnixMillis(30_000)));
        assert!(at(&mut rung, 29_999).is_empty());
        assert_eq!(at(&mut rung, 30_000), ["hop 1 to 0: 1 jobs"]);
        rung.on_appended(1);
        assert_eq!(rung.next_due(), Some(UnixMillis(30_500)));
        assert!(at(&mut rung, 30_999).is_empty());
        assert_eq!(at(&mut rung, 31_000), ["deliver 2: 3"]);
        rung.on_appended(2);
        assert!(at(&mut rung, 31_999).is_empty(), "offset 0 is not complete");
        assert_eq!(at(&mut rung, 32_000), ["deliver 3: 2"]);
        rung.on_appended(3);
        assert_eq!(at(&mut rung, 32_001), ["commit 2"]);
    }

    #[test]
    fn a_drain_waits_for_what_is_under_way_only() {
        let mut rung = Rung::new(Arc::new(Ladder::default()), 0, Offset(0), Duration::ZERO);
        rung.on_record(Offset(0), UnixMillis(0), vec![job(1, 5_000)]);
        rung.on_record(Offset(1), UnixMillis(0), vec![job(2, 9_000)]);
        assert_eq!(at(&mut rung, 5_000), ["deliver 1: 1"]);
        rung.drain();
        assert_eq!(rung.room(), 0);
        assert!(at(&mut rung, 9_000).is_empty());
        rung.on_appended(1);
        assert_eq!(at(&mut rung, 9_001), ["commit 1", "drained"]);
    }
}
