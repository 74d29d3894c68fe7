//! The offsets of one group: those that are committed, and those that wait for the end of a transaction.

use std::collections::{BTreeMap, BTreeSet};

use super::error::GroupError;
use super::journal::OffsetEntry;
use super::message::{FetchedOffset, TopicPartition, Wanted};

/// An offset, and when it was written in the order of all of the broker's commits.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Commit {
    offset: i64,
    leader_epoch: i32,
    metadata: String,
    order: u64,
}

/// What a group has committed.
#[derive(Clone, Debug, Default)]
pub(super) struct Offsets {
    committed: BTreeMap<TopicPartition, Commit>,
    /// By producer. No producer's map is empty.
    pending: BTreeMap<i64, BTreeMap<TopicPartition, Commit>>,
    last_commit_at: u64,
}

impl Offsets {
    pub(super) fn is_empty(&self) -> bool {
        self.committed.is_empty() && self.pending.is_empty()
    }

    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(super) fn last_commit_at(&self) -> u64 {
        self.last_commit_at
    }

    pub(super) fn commit(&mut self, entries: Vec<OffsetEntry>, order: u64, now: u64) {
        self.last_commit_at = now;
        self.committed.extend(entries.into_iter().map(|entry| split(entry, order)));
    }

    /// The offsets take effect if the producer's transaction is committed.
    pub(super) fn hold(&mut self, producer_id: i64, entries: Vec<OffsetEntry>, order: u64) {
        if entries.is_empty() {
            return;
        }
        let held = self.pending.entry(producer_id).or_default();
        held.extend(entries.into_iter().map(|entry| split(entry, order)));
    }

    pub(super) fn holds(&self, producer_id: i64) -> bool {
        self.pending.contains_key(&producer_id)
    }

    /// The producer's transaction has ended. A commit that was written after the held one stands.
    pub(super) fn end_txn(&mut self, producer_id: i64, committed: bool, now: u64) {
        let Some(held) = self.pending.remove(&producer_id) else { return };
        if !committed {
            return;
        }
        self.last_commit_at = now;
        for (partition, commit) in held {
            if self.committed.get(&partition).is_none_or(|standing| standing.order < commit.order) {
                self.committed.insert(partition, commit);
            }
        }
    }

    /// Removes a partition's offset, and what transactions hold for it.
    pub(super) fn delete(&mut self, partition: &TopicPartition) {
        self.committed.remove(partition);
        for held in self.pending.values_mut() {
            held.remove(partition);
        }
        self.pending.retain(|_, held| !held.is_empty());
    }

    /// All partitions that have an offset, committed or held.
    pub(super) fn partitions(&self) -> BTreeSet<&TopicPartition> {
        self.committed.keys().chain(self.pending.values().flat_map(BTreeMap::keys)).collect()
    }

    pub(super) fn fetch(&self, wanted: Wanted<'_>, require_stable: bool) -> Vec<FetchedOffset> {
        match wanted {
            Wanted::These(partitions) => {
                partitions.iter().map(|partition| self.fetch_one(partition, require_stable)).collect()
            }
            // A partition that has only a held offset is told only to who has to wait for it.
            Wanted::All if require_stable => {
                self.partitions().into_iter().map(|partition| self.fetch_one(partition, true)).collect()
            }
            Wanted::All => self.committed.keys().map(|partition| self.fetch_one(partition, false)).collect(),
        }
    }

    fn fetch_one(&self, partition: &TopicPartition, require_stable: bool) -> FetchedOffset {
        if require_stable && self.pending.values().any(|held| held.contains_key(partition)) {
            return unstable(partition);
        }
        match self.committed.get(partition) {
            None => not_committed(partition),
            Some(commit) => FetchedOffset {
                partition: partition.clone(),
                offset: commit.offset,
                leader_epoch: commit.leader_epoch,
                metadata: commit.metadata.clone(),
                error: None,
            },
        }
    }

    /// Everything in the order in which it was written, with the producer that holds it.
    pub(super) fn entries(&self) -> Vec<(u64, Option<i64>, OffsetEntry)> {
        let committed = self.committed.iter().map(|(partition, commit)| (None, partition, commit));
        let held = self.pending.iter().flat_map(|(producer_id, held)| {
            held.iter().map(|(partition, commit)| (Some(*producer_id), partition, commit))
        });
        committed
            .chain(held)
            .map(|(producer_id, partition, commit)| (commit.order, producer_id, join(partition, commit)))
            .collect()
    }
}

/// The answer for a partition without an offset.
pub(super) fn not_committed(partition: &TopicPartition) -> FetchedOffset {
    FetchedOffset {
        partition: partition.clone(),
        offset: -1,
        leader_epoch: -1,
        metadata: String::new(),
        error: None,
    }
}

fn unstable(partition: &TopicPartition) -> FetchedOffset {
    FetchedOffset { error: Some(GroupError::UnstableOffsetCommit), ..not_committed(partition) }
}

fn split(entry: OffsetEntry, order: u64) -> (TopicPartition, Commit) {
    let OffsetEntry { partition, offset, leader_epoch, metadata } = entry;
    (partition, Commit { offset, leader_epoch, metadata, order })
}

fn join(partition: &TopicPartition, commit: &Commit) -> OffsetEntry {
    OffsetEntry {
        partition: partition.clone(),
        offset: commit.offset,
        leader_epoch: commit.leader_epoch,
        metadata: commit.metadata.clone(),
    }
}
