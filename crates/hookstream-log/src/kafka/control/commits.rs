//! Commits, one at a time, and what their answers say about the lease.
//!
//! A commit that the coordinator accepts, or refuses only because the group is rebalancing, proves that this member
//! was in the group when it was issued. So something is committed often even if nothing changed. (The coordinator
//! answers one request of a connection after the other, and a request to join only when all members have joined or
//! timed out. A commit waits behind it, so the lease should be fresh when that begins: if it takes longer than the
//! lease lasts, work pauses.)

use std::time::Duration;

use hookstream_types::{Mono, Offset};
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::topic_partition_list::{Offset as RdOffset, TopicPartitionList};

use super::super::helper::Key;
use super::{Control, Part, ends_session};
use crate::log::{Input, Lost};
use crate::native::CommitAnswer;

/// What is complete is committed this often,
const INTERVAL: Duration = Duration::from_millis(200);
/// something in any case this often,
const KEEP_ALIVE: Duration = Duration::from_millis(500);
/// and what was refused is tried again after this.
const RETRY: Duration = Duration::from_millis(50);
/// librdkafka answers every commit; this long without an answer is its fault.
const OVERDUE: Duration = Duration::from_secs(60);

/// The commit that waits for its answer.
pub(super) struct Outstanding {
    issued: Mono,
    items: Vec<Item>,
}

struct Item {
    key: Key,
    input: Input,
    what: (Offset, String),
}

impl Control {
    /// Takes over what cores want to be committed.
    pub(super) fn collect_commits(&mut self) {
        for part in self.parts.values_mut() {
            if let Part::Owned(part) = part
                && part.live
                && let Some(what) = part.assignment.take_commit()
                && (part.next.is_some() || what != part.committed)
            {
                part.next = Some(what);
            }
        }
    }

    /// Commits what is due, if no commit is on its way.
    pub(super) fn commit_due(&mut self) {
        let now = self.now();
        if let Some(outstanding) = &self.outstanding {
            if now.since(outstanding.issued) > OVERDUE {
                tracing::error!(group = self.at.spec.group, "a commit was never answered");
                self.outstanding = None;
            }
            return;
        }
        let since = now.since(self.committed_at);
        let flushing = self.revoking.as_ref().is_some_and(|revoking| revoking.flush_by.is_some());
        if since < (if self.urgent || flushing { RETRY } else { INTERVAL }) {
            return;
        }
        self.collect_commits();
        let mut items = Vec::new();
        let mut idle = None;
        for (key, part) in &mut self.parts {
            let Part::Owned(part) = part else { continue };
            if !part.live {
                continue;
            }
            let input = part.assignment.input;
            match part.next.take() {
                Some(what) => items.push(Item { key: key.clone(), input, what }),
                None => idle = Some(Item { key: key.clone(), input, what: part.committed.clone() }),
            }
        }
        if items.is_empty() && since >= KEEP_ALIVE {
            items.extend(idle);
        }
        self.urgent = false;
        if !items.is_empty() {
            self.issue(now, items);
        }
    }

    fn issue(&mut self, now: Mono, items: Vec<Item>) {
        let mut list = TopicPartitionList::with_capacity(items.len());
        for Item { key, what: (offset, metadata), .. } in &items {
            let mut element = list.add_partition(&key.0, key.1.0);
            // An offset of a record always has a representation.
            if element.set_offset(RdOffset::Offset(offset.0)).is_ok() && !metadata.is_empty() {
                element.set_metadata(metadata);
            }
        }
        self.committed_at = now;
        let outstanding = Outstanding { issued: now, items };
        match self.commits.commit(&list) {
            Ok(()) => self.outstanding = Some(outstanding),
            Err(code) => {
                tracing::warn!(group = self.at.spec.group, "can't commit: {code}");
                self.counts.commit_failures += 1;
                for item in outstanding.items {
                    self.restore(item);
                }
            }
        }
    }

    /// Takes in the answers to commits.
    pub(super) fn hear_commits(&mut self) {
        while let Some(answer) = self.commits.answer() {
            // Without a commit of ours it is late beyond measure.
            if let Some(outstanding) = self.outstanding.take() {
                self.on_committed(outstanding, &answer);
            }
        }
    }

    fn on_committed(&mut self, outstanding: Outstanding, answer: &CommitAnswer) {
        let Outstanding { issued, items } = outstanding;
        // An error of the whole request stands in the answer, one of a partition beside it.
        let by_partition =
            answer.code == Code::NoError || answer.entries.iter().any(|entry| entry.code != Code::NoError);
        let mut over = false;
        for item in items {
            let entry = answer
                .entries
                .iter()
                .find(|entry| entry.topic == *item.key.0 && entry.partition == item.key.1.0);
            let code = entry.filter(|_| by_partition).map_or(answer.code, |entry| entry.code);
            match code {
                Code::NoError | Code::RebalanceInProgress | Code::OffsetMetadataTooLarge => {
                    self.at.lease.renew(issued);
                }
                Code::IllegalGeneration => {
                    // Of this member, but of an earlier generation: a rebalance overtook the commit, or the group
                    // went on without us. librdkafka finds out which; until then nothing starts.
                    self.at.lease.end();
                }
                code if ends_session(code) => over = true,
                _ => {}
            }
            if code == Code::NoError {
                self.counts.commits += 1;
                if let Some(Part::Owned(part)) = self.parts.get_mut(&item.key)
                    && part.assignment.input == item.input
                {
                    part.committed = item.what;
                }
                continue;
            }
            self.counts.commit_failures += 1;
            if code != Code::RebalanceInProgress && self.at.consumer.context().due("commit") {
                tracing::warn!(topic = &*item.key.0, partition = item.key.1.0, "a commit failed: {code}");
            }
            let Item { key, input, what: (offset, metadata) } = item;
            // Metadata only saves work after a takeover, so it is what gives way.
            let metadata = if code == Code::OffsetMetadataTooLarge { String::new() } else { metadata };
            self.restore(Item { key, input, what: (offset, metadata) });
        }
        if over {
            let all: Vec<Key> = self.parts.keys().cloned().collect();
            self.lose(&all, Lost::SessionEnded);
        }
    }

    /// What was not committed is still to be, unless there is something later.
    fn restore(&mut self, item: Item) {
        if let Some(Part::Owned(part)) = self.parts.get_mut(&item.key)
            && part.assignment.input == item.input
            && part.live
            && part.next.is_none()
        {
            part.next = Some(item.what);
        }
    }
}
