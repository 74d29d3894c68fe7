//! Offsets: committed, held in transactions, fetched, deleted. Each change is a journal entry that is applied, by
//! the same code in operation and at a restart.

use super::error::GroupError;
use super::group::Group;
use super::journal::{Entry, OffsetEntry};
use super::message::{
    CommitOffset, CommitRequest, FetchedOffset, PartitionOutcome, TopicPartition, TxnCommitRequest, Wanted,
};
use super::{Groups, check_group_id, offsets};

// === impl Groups: offsets ===

impl Groups {
    /// Commits offsets. If the member or the group is refused, each partition says so.
    pub fn commit(&mut self, now: u64, request: CommitRequest) -> Vec<PartitionOutcome> {
        let CommitRequest { group, generation, member_id, instance_id, offsets } = request;
        if let Err(error) = self.check_commit(&group, generation, &member_id, instance_id.as_deref(), false) {
            return refuse_all(offsets, error);
        }
        if let Some(group) = self.groups.get_mut(&group) {
            group.touch(&member_id, now);
        }
        let (outcomes, offsets) = self.sort_out(offsets);
        self.record(Entry::Committed { group, offsets }, now);
        outcomes
    }

    /// Holds offsets until [`Groups::end_txn`] (KIP-98, KIP-447).
    pub fn txn_commit(&mut self, now: u64, request: TxnCommitRequest) -> Vec<PartitionOutcome> {
        let TxnCommitRequest { group, producer_id, generation, member_id, instance_id, offsets } = request;
        let checked = check_group_id(&group)
            .and_then(|()| self.check_commit(&group, generation, &member_id, instance_id.as_deref(), true));
        if let Err(error) = checked {
            return refuse_all(offsets, error);
        }
        let (outcomes, offsets) = self.sort_out(offsets);
        self.record(Entry::Held { group, producer_id, offsets }, now);
        outcomes
    }

    /// The producer's transaction has ended: what was held takes effect, or is dropped.
    pub fn end_txn(&mut self, now: u64, producer_id: i64, committed: bool) {
        if self.groups.values().any(|group| group.offsets.holds(producer_id)) {
            self.record(Entry::TxnEnded { producer_id, committed }, now);
        }
    }

    /// The committed offsets, in the order asked for. With `require_stable`, a partition that an open transaction
    /// may change is refused (KIP-447).
    #[must_use]
    pub fn fetch(&self, group: &str, wanted: Wanted<'_>, require_stable: bool) -> Vec<FetchedOffset> {
        match (self.groups.get(group), wanted) {
            (Some(group), wanted) => group.offsets.fetch(wanted, require_stable),
            (None, Wanted::These(partitions)) => partitions.iter().map(offsets::not_committed).collect(),
            (None, Wanted::All) => Vec::new(),
        }
    }

    /// Deletes offsets of topics that no member subscribes to (KIP-496).
    ///
    /// # Errors
    /// [`GroupError::GroupIdNotFound`], or [`GroupError::NonEmptyGroup`] if the members are no consumers, so that
    /// the broker can't know their topics.
    pub fn delete_offsets(
        &mut self,
        now: u64,
        group: &str,
        partitions: Vec<TopicPartition>,
    ) -> Result<Vec<PartitionOutcome>, GroupError> {
        check_group_id(group)?;
        let found = self.groups.get(group).ok_or(GroupError::GroupIdNotFound)?;
        found.check_offset_deletion()?;
        let outcome = |partition: TopicPartition| {
            let subscribed = found.subscribes_to(&partition.topic);
            let outcome = if subscribed { Err(GroupError::GroupSubscribedToTopic) } else { Ok(()) };
            PartitionOutcome { partition, outcome }
        };
        let outcomes: Vec<PartitionOutcome> = partitions.into_iter().map(outcome).collect();
        let deleted = outcomes.iter().filter(|outcome| outcome.outcome.is_ok());
        let partitions = deleted.map(|outcome| outcome.partition.clone()).collect();
        self.record(Entry::OffsetsDeleted { group: group.to_owned(), partitions }, now);
        Ok(outcomes)
    }

    /// The topic is gone, and its offsets with it, in all groups.
    pub fn topic_deleted(&mut self, now: u64, topic: &str) {
        let of_topic = |group: &Group| -> Vec<TopicPartition> {
            let partitions = group.offsets.partitions().into_iter();
            partitions.filter(|partition| partition.topic == topic).cloned().collect()
        };
        let groups = self.groups.iter();
        let entries: Vec<Entry> = groups
            .map(|(id, group)| Entry::OffsetsDeleted { group: id.clone(), partitions: of_topic(group) })
            .collect();
        for entry in entries {
            self.record(entry, now);
        }
    }

    fn check_commit(
        &self,
        group: &str,
        generation: i32,
        member_id: &str,
        instance_id: Option<&str>,
        in_txn: bool,
    ) -> Result<(), GroupError> {
        match self.groups.get(group) {
            Some(group) => group.check_commit(generation, member_id, instance_id, in_txn),
            // Who takes no part in a group may found one by its commit.
            None if generation < 0 => Ok(()),
            None => Err(GroupError::IllegalGeneration),
        }
    }

    /// What becomes of each partition, and the offsets that are kept.
    fn sort_out(&self, offsets: Vec<CommitOffset>) -> (Vec<PartitionOutcome>, Vec<OffsetEntry>) {
        let mut outcomes = Vec::with_capacity(offsets.len());
        let mut kept = Vec::with_capacity(offsets.len());
        for CommitOffset { topic, partition, offset, leader_epoch, metadata } in offsets {
            let partition = TopicPartition { topic, partition };
            let metadata = metadata.unwrap_or_default();
            let fits = metadata.len() <= self.settings.max_offset_metadata_bytes;
            let outcome = if fits { Ok(()) } else { Err(GroupError::OffsetMetadataTooLarge) };
            outcomes.push(PartitionOutcome { partition: partition.clone(), outcome });
            if fits {
                kept.push(OffsetEntry { partition, offset, leader_epoch, metadata });
            }
        }
        (outcomes, kept)
    }
}

fn refuse_all(offsets: Vec<CommitOffset>, error: GroupError) -> Vec<PartitionOutcome> {
    let partitions =
        offsets.into_iter().map(|offset| TopicPartition { topic: offset.topic, partition: offset.partition });
    partitions.map(|partition| PartitionOutcome { partition, outcome: Err(error) }).collect()
}

// === impl Groups: journal ===

impl Groups {
    /// The fewest entries that rebuild the present state, for a journal that is to be compacted. Entries that have
    /// not been drained yet are contained in it.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Entry> {
        self.groups.iter().flat_map(|(id, group)| snapshot_of(id, group)).collect()
    }

    /// Makes a change, and has it made durable. What changes nothing is left out.
    pub(super) fn record(&mut self, entry: Entry, now: u64) {
        let is_empty = match &entry {
            Entry::Committed { offsets, .. } | Entry::Held { offsets, .. } => offsets.is_empty(),
            Entry::OffsetsDeleted { partitions, .. } => partitions.is_empty(),
            Entry::TxnEnded { .. } | Entry::GroupDeleted { .. } => false,
        };
        if !is_empty {
            self.apply(entry.clone(), now);
            self.journal.push(entry);
        }
    }

    pub(super) fn apply(&mut self, entry: Entry, now: u64) {
        match entry {
            Entry::Committed { group, offsets } => {
                let order = self.next_commit();
                self.group_of(group, now).offsets.commit(offsets, order, now);
            }
            Entry::Held { group, producer_id, offsets } => {
                let order = self.next_commit();
                self.group_of(group, now).offsets.hold(producer_id, offsets, order);
            }
            Entry::TxnEnded { producer_id, committed } => {
                for group in self.groups.values_mut() {
                    group.offsets.end_txn(producer_id, committed, now);
                }
            }
            Entry::OffsetsDeleted { group, partitions } => {
                if let Some(group) = self.groups.get_mut(&group) {
                    partitions.iter().for_each(|partition| group.offsets.delete(partition));
                }
            }
            Entry::GroupDeleted { group } => {
                self.groups.remove(&group);
            }
        }
    }

    fn next_commit(&mut self) -> u64 {
        self.commits += 1;
        self.commits
    }

    fn group_of(&mut self, id: String, now: u64) -> &mut Group {
        self.groups.entry(id).or_insert_with_key(|id| Group::new(id.clone(), now))
    }
}

/// A group's offsets in the order of their commits, so that a held one that is older than what was committed after
/// it stays so.
fn snapshot_of(id: &str, group: &Group) -> Vec<Entry> {
    let mut commits = group.offsets.entries();
    commits.sort_by_key(|(order, ..)| *order);
    let runs = commits.chunk_by(|one, next| one.1 == next.1);
    runs.map(|run| {
        let offsets = run.iter().map(|(.., offset)| offset.clone()).collect();
        match run[0].1 {
            None => Entry::Committed { group: id.to_owned(), offsets },
            Some(producer_id) => Entry::Held { group: id.to_owned(), producer_id, offsets },
        }
    })
    .collect()
}
