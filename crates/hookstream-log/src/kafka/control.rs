//! The control thread: rebalances, commits, the lease.
//!
//! librdkafka delivers a rebalance as an event and waits until it is answered with an (un)assignment. So nothing is
//! done inside its callback: the event is noted, and this loop goes on polling, committing and hearing the cores
//! until the answer can be given. An assignment is answered at once with *no* partition; each is added when its
//! committed offset is known, so that one that can't be read holds up nothing else.

mod commits;
mod figures;
mod member;
mod partition;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hookstream_types::{Mono, Partition};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset as RdOffset, TopicPartitionList};

use super::assignment::{Assignment, Inbox, ToCore};
use super::helper::{Answer, Helper, Job, Key};
use super::lease::Lease;
use super::{Clock, GroupSpec, GroupStats};
use crate::client::NO_TOPIC;
use crate::error::KafkaError;
use crate::log::{Input, Lost};
use crate::native::{Commits, Queue};

use commits::Outstanding;
pub(crate) use member::MemberContext;
use member::Rebalance;
use partition::{Owned, Part};

/// What the handle asks for.
#[derive(Debug)]
pub(crate) enum Command {
    Subscribe(Vec<String>),
    Stop,
}

/// A revocation that is being drained.
struct Revoking {
    owned: Vec<Key>,
    /// The end of the drain.
    by: Mono,
    /// The end of the last commits, once the drain is over.
    flush_by: Option<Mono>,
}

/// While something is going on, answers are looked for this often; else this seldom.
const BUSY_POLL: Duration = Duration::from_millis(5);
const IDLE_POLL: Duration = Duration::from_millis(50);
/// Until a partition whose committed offset could not be read is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// How long the last commits of a revoked partition may take.
const FLUSH: Duration = Duration::from_secs(3);
/// How long cores may take to let go of queues at the end.
const LET_GO: Duration = Duration::from_secs(2);

pub(super) struct Parts {
    pub(super) spec: GroupSpec,
    pub(super) clock: Clock,
    pub(super) consumer: Arc<BaseConsumer<MemberContext>>,
    pub(super) inboxes: Vec<Arc<Inbox>>,
    pub(super) lease: Arc<Lease>,
    pub(super) stats: Arc<Mutex<GroupStats>>,
    pub(super) inputs: Arc<AtomicU64>,
    pub(super) helper: Helper,
    pub(super) answers: Receiver<Answer>,
    pub(super) commands: Receiver<Command>,
    pub(super) stopped: tokio::sync::watch::Sender<bool>,
}

/// The control thread's state.
pub(super) struct Control {
    at: Parts,
    /// Everything the group assigned to this member.
    parts: BTreeMap<Key, Part>,
    /// Former assignments whose queue a core may still hold.
    lingering: Vec<Arc<Assignment>>,
    revoking: Option<Revoking>,
    commits: Commits,
    outstanding: Option<Outstanding>,
    /// When the last commit was issued.
    committed_at: Mono,
    /// A first commit of something just assigned is due.
    urgent: bool,
    tickets: u64,
    ends: BTreeMap<Key, i64>,
    ends_asked: Mono,
    stats_at: Mono,
    counts: GroupStats,
    /// Partitions of which a record came through the main queue.
    strays: BTreeSet<Key>,
    /// Leaving, and until when at most.
    stopping: Option<Mono>,
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("group", &self.at.spec.group).finish_non_exhaustive()
    }
}

impl Control {
    /// Starts the thread.
    pub(super) fn start(parts: Parts) -> Result<(), KafkaError> {
        let name = format!("{}-control", parts.spec.group);
        let native = parts.consumer.client().native_ptr();
        let commits = Commits::new(Arc::clone(&parts.consumer) as _, native);
        let control = Self {
            at: parts,
            parts: BTreeMap::new(),
            lingering: Vec::new(),
            revoking: None,
            commits,
            outstanding: None,
            committed_at: Mono(0),
            urgent: false,
            tickets: 0,
            ends: BTreeMap::new(),
            ends_asked: Mono(0),
            stats_at: Mono(0),
            counts: GroupStats::default(),
            strays: BTreeSet::new(),
            stopping: None,
        };
        std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || control.run())
            .map(drop)
            .map_err(|source| KafkaError::Thread { name, source })
    }

    fn now(&self) -> Mono {
        (self.at.clock)()
    }

    fn run(mut self) {
        let topics = self.at.spec.topics.clone();
        self.subscribe(&topics);
        loop {
            self.poll();
            self.hear_commands();
            while self.revoking.is_none()
                && let Some(rebalance) = self.at.consumer.context().next_rebalance()
            {
                self.counts.rebalances += 1;
                match rebalance {
                    Rebalance::Assign(partitions) => self.on_assign(partitions),
                    Rebalance::Revoke { partitions, lost } => self.on_revoke(partitions, lost),
                }
            }
            self.hear_answers();
            self.hear_commits();
            if self.revoking.is_some() {
                self.drain();
            } else {
                self.reassign_strays();
                self.assign_ready();
            }
            self.commit_due();
            self.publish();
            let done = self.parts.is_empty() && self.revoking.is_none();
            if self.stopping.is_some_and(|by| done || self.now() >= by) {
                break;
            }
        }
        self.leave();
    }

    fn subscribe(&self, topics: &[String]) {
        let topics: Vec<&str> =
            if topics.is_empty() { vec![NO_TOPIC] } else { topics.iter().map(String::as_str).collect() };
        if let Err(error) = self.at.consumer.subscribe(&topics) {
            tracing::error!(group = self.at.spec.group, "can't subscribe to {topics:?}: {error}");
        }
    }

    fn poll(&mut self) {
        let busy = self.revoking.is_some()
            || self.outstanding.is_some()
            || self.stopping.is_some()
            || self.parts.values().any(|part| !matches!(part, Part::Owned(_)));
        let mut wait = if busy { BUSY_POLL } else { IDLE_POLL };
        // Errors went to the context already. Bounded, so that a storm of reports delays nothing else.
        for _ in 0..100 {
            match self.at.consumer.poll(wait) {
                Some(Ok(stray)) => {
                    self.strays.insert((Arc::from(stray.topic()), Partition(stray.partition())));
                }
                Some(Err(_)) => {}
                None => break,
            }
            wait = Duration::ZERO;
        }
    }

    /// Records came through the main queue, so their partitions' own queues miss them: begin again at what is
    /// committed. Not within a revocation: giving partitions back is its answer.
    fn reassign_strays(&mut self) {
        for key in std::mem::take(&mut self.strays) {
            if !matches!(self.parts.get(&key), Some(Part::Owned(_))) {
                continue;
            }
            tracing::error!(
                topic = &*key.0,
                partition = key.1.0,
                "a record missed its queue; assigning the partition anew"
            );
            self.lose(std::slice::from_ref(&key), Lost::SessionEnded);
            self.unassign(std::slice::from_ref(&key));
            self.parts.insert(key, Part::Asking);
        }
    }

    fn hear_commands(&mut self) {
        while let Ok(command) = self.at.commands.try_recv() {
            match command {
                Command::Subscribe(topics) if self.stopping.is_none() => self.subscribe(&topics),
                Command::Subscribe(_) => {}
                Command::Stop => {
                    if self.stopping.is_none() {
                        let most = self.at.spec.drain_timeout + 2 * FLUSH;
                        self.stopping = Some(self.now() + most);
                        self.at.consumer.unsubscribe();
                    }
                }
            }
        }
    }

    fn on_assign(&mut self, partitions: Vec<Key>) {
        tracing::info!(group = self.at.spec.group, partitions = partitions.len(), "assigned");
        // A partition that is ours already can't be assigned again without having been revoked.
        let again: Vec<Key> = partitions
            .iter()
            .filter(|key| matches!(self.parts.get(*key), Some(Part::Owned(_))))
            .cloned()
            .collect();
        if !again.is_empty() {
            self.lose(&again, Lost::SessionEnded);
            self.unassign(&again);
        }
        for key in partitions {
            self.parts.insert(key, Part::Asking);
        }
        if let Err(error) = self.at.consumer.incremental_assign(&TopicPartitionList::new()) {
            tracing::error!(group = self.at.spec.group, "can't take over an assignment: {error}");
        }
    }

    fn on_revoke(&mut self, partitions: Vec<Key>, lost: bool) {
        tracing::info!(group = self.at.spec.group, partitions = partitions.len(), lost, "revoked");
        // A session that ends takes everything; librdkafka calls the partitions of deleted topics lost as well.
        let all = self.parts.keys().all(|key| partitions.contains(key));
        let (owned, waiting): (Vec<Key>, Vec<Key>) =
            partitions.into_iter().partition(|key| matches!(self.parts.get(key), Some(Part::Owned(_))));
        for key in waiting {
            self.parts.remove(&key);
        }
        if lost {
            self.lose(&owned, if all { Lost::SessionEnded } else { Lost::Deleted });
            self.unassign(&owned);
            return;
        }
        let by = self.now() + self.at.spec.drain_timeout;
        for key in &owned {
            if let Some(Part::Owned(part)) = self.parts.get(key) {
                let input = part.assignment.input;
                self.inbox(key.1).push(ToCore::Revoking { input, by });
            }
        }
        self.revoking = Some(Revoking { owned, by, flush_by: None });
    }

    /// Goes on with a revocation: drain, last commits, answer.
    fn drain(&mut self) {
        let now = self.now();
        if self.at.consumer.assignment_lost()
            && let Some(revoking) = self.revoking.take()
        {
            self.lose(&revoking.owned, Lost::SessionEnded);
            self.unassign(&revoking.owned);
            return;
        }
        let Some(revoking) = &self.revoking else { return };
        let (owned, by, flush_by) = (revoking.owned.clone(), revoking.by, revoking.flush_by);
        let Some(flush_by) = flush_by else {
            let held: Vec<Key> = owned
                .iter()
                .filter(|key| matches!(self.parts.get(*key), Some(Part::Owned(part)) if part.is_held()))
                .cloned()
                .collect();
            if !held.is_empty() && now < by {
                return;
            }
            if !held.is_empty() {
                tracing::warn!(
                    group = self.at.spec.group,
                    partitions = held.len(),
                    "a drain took too long; what is not complete is done again by the next owner"
                );
                self.collect_commits();
                self.lose(&held, Lost::DrainTimedOut);
            }
            if let Some(revoking) = &mut self.revoking {
                revoking.flush_by = Some(now + FLUSH);
            }
            return;
        };
        self.collect_commits();
        let dirty =
            owned.iter().any(|key| matches!(self.parts.get(key), Some(Part::Owned(part)) if part.is_dirty()));
        if (dirty || self.outstanding.is_some()) && now < flush_by {
            return;
        }
        if dirty {
            tracing::warn!(
                group = self.at.spec.group,
                "the last commits of a revoked partition were not confirmed"
            );
        }
        self.revoking = None;
        self.unassign(&owned);
    }

    /// Tells cores that partitions are lost. They stay in librdkafka's assignment until [`Control::unassign`].
    fn lose(&mut self, keys: &[Key], why: Lost) {
        if why == Lost::SessionEnded {
            self.at.lease.end();
        }
        let epoch = self.at.lease.begin_epoch();
        let mut any = false;
        for key in keys {
            let Some(Part::Owned(part)) = self.parts.get_mut(key) else { continue };
            // What was complete when a drain took too long is still committed, before the partition is given back.
            part.live &= why == Lost::DrainTimedOut;
            if !std::mem::replace(&mut part.told, true) {
                any = true;
                let input = part.assignment.input;
                self.inbox(key.1).push(ToCore::Lost { input, why });
            }
        }
        if any {
            self.counts.losses += 1;
        }
        for inbox in &self.at.inboxes {
            inbox.push(ToCore::Epoch(epoch));
        }
    }

    /// Answers a revocation: the partitions leave librdkafka's assignment.
    fn unassign(&mut self, keys: &[Key]) {
        let mut list = TopicPartitionList::with_capacity(keys.len());
        for key in keys {
            if let Some(Part::Owned(part)) = self.parts.remove(key) {
                list.add_partition(&key.0, key.1.0);
                self.lingering.push(part.assignment);
            }
            self.ends.remove(key);
        }
        if let Err(error) = self.at.consumer.incremental_unassign(&list) {
            tracing::error!(group = self.at.spec.group, "can't give partitions back: {error}");
        }
    }

    fn hear_answers(&mut self) {
        while let Ok(answer) = self.at.answers.try_recv() {
            match answer {
                Answer::Starts { ticket, starts } => {
                    let retry_at = self.now() + RETRY;
                    for (key, start) in starts {
                        let Some(part) = self.parts.get_mut(&key) else { continue };
                        if !part.waits_for(ticket) {
                            continue;
                        }
                        *part = match start {
                            Ok(start) => Part::Ready(start),
                            Err(reason) => {
                                if self.at.consumer.context().due("starts") {
                                    tracing::warn!(
                                        topic = &*key.0,
                                        partition = key.1.0,
                                        "can't read the committed offset: {reason}; the partition waits"
                                    );
                                }
                                Part::Failed { retry_at }
                            }
                        };
                    }
                }
                Answer::Ends(ends) => self.ends.extend(ends),
            }
        }
    }

    /// Asks for offsets that are missing, and assigns the partitions whose offsets are known.
    fn assign_ready(&mut self) {
        let now = self.now();
        self.lingering.retain(|assignment| !assignment.was_let_go());
        if self.parts.values().all(|part| matches!(part, Part::Owned(_))) {
            return;
        }
        let ticket = self.ticket();
        let mut ask = Vec::new();
        for (key, part) in &mut self.parts {
            if part.is_to_be_asked(now) {
                *part = Part::Asked { ticket };
                ask.push(key.clone());
            }
        }
        if !ask.is_empty()
            && let Err(Job::Starts { partitions, .. }) =
                self.at.helper.give(Job::Starts { ticket, partitions: ask })
        {
            for key in partitions {
                self.parts.insert(key, Part::Failed { retry_at: now + RETRY });
            }
        }

        let lingers = |key: &Key| {
            self.lingering.iter().any(|former| *former.topic == *key.0 && former.partition == key.1)
        };
        let ready: Vec<Key> = self
            .parts
            .iter()
            .filter(|(key, part)| matches!(part, Part::Ready(_)) && !lingers(key))
            .map(|(key, _)| key.clone())
            .collect();
        if ready.is_empty() {
            return;
        }
        // The queues are split before the partitions are assigned: a record fetched earlier would miss its queue.
        let mut list = TopicPartitionList::with_capacity(ready.len());
        let mut queues = Vec::with_capacity(ready.len());
        for key in ready {
            let Some(Part::Ready(start)) = self.parts.remove(&key) else { continue };
            let client = Arc::clone(&self.at.consumer) as Arc<dyn std::any::Any + Send + Sync>;
            let native = self.at.consumer.client().native_ptr();
            let queue = Queue::of_partition(client, native, &key.0, key.1.0);
            let offset = RdOffset::Offset(start.base);
            match queue {
                Some(queue) if list.add_partition_offset(&key.0, key.1.0, offset).is_ok() => {
                    queues.push((key, start, queue));
                }
                _ => {
                    self.parts.insert(key, Part::Failed { retry_at: now + RETRY });
                }
            }
        }
        if let Err(error) = self.at.consumer.incremental_assign(&list) {
            tracing::warn!(group = self.at.spec.group, "can't assign partitions: {error}; trying again");
            for (key, start, _) in queues {
                drop(start);
                self.parts.insert(key, Part::Failed { retry_at: now + RETRY });
            }
            return;
        }
        for (key, start, queue) in queues {
            let input = Input(self.at.inputs.fetch_add(1, Ordering::Relaxed));
            let assignment = Arc::new(Assignment::new(input, Arc::clone(&key.0), key.1));
            let base = hookstream_types::Offset(start.base);
            let metadata = start.metadata.clone();
            self.inbox(key.1).push(ToCore::Assigned {
                assignment: Arc::clone(&assignment),
                queue,
                base,
                metadata,
            });
            self.parts.insert(key, Part::Owned(Owned::new(assignment, base, start.metadata)));
        }
        self.urgent = true;
    }

    fn inbox(&self, partition: Partition) -> &Inbox {
        let cores = self.at.inboxes.len();
        &self.at.inboxes[usize::try_from(partition.0).unwrap_or(0) % cores]
    }

    fn ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    fn leave(mut self) {
        let left: Vec<Key> = self.parts.keys().cloned().collect();
        if !left.is_empty() {
            self.lose(&left, Lost::DrainTimedOut);
            self.unassign(&left);
        }
        let by = self.now() + LET_GO;
        while self.now() < by && !self.lingering.iter().all(|former| former.was_let_go()) {
            std::thread::sleep(BUSY_POLL);
        }
        self.at.lease.end();
        let Self { at, commits, .. } = self;
        let Parts { consumer, stopped, helper, .. } = at;
        consumer.context().close();
        drop(helper);
        drop(commits);
        // Closes the client, unless a core still holds a queue of it; the group was left before in any case.
        drop(consumer);
        stopped.send_replace(true);
    }
}

/// Whether an error of the group means that the session is over.
fn ends_session(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::UnknownMemberId | RDKafkaErrorCode::FencedInstanceId)
}
