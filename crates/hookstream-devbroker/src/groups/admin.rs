//! What operators ask of groups.

use super::Groups;
use super::error::GroupError;
use super::journal::Entry;
use super::message::{GroupDescription, GroupListing, GroupState};

impl Groups {
    /// The groups in one of the states, or all if none is named (KIP-518).
    #[must_use]
    pub fn list(&self, states: &[GroupState]) -> Vec<GroupListing> {
        let wanted = |listing: &GroupListing| states.is_empty() || states.contains(&listing.state);
        self.groups.values().map(|group| group.list()).filter(wanted).collect()
    }

    /// The group as it is now. One that does not exist is [`GroupState::Dead`], as in Kafka.
    #[must_use]
    pub fn describe(&self, group: &str) -> GroupDescription {
        match self.groups.get(group) {
            Some(group) => group.describe(),
            None => GroupDescription {
                group: group.to_owned(),
                state: GroupState::Dead,
                generation: -1,
                protocol_type: String::new(),
                protocol: String::new(),
                leader: None,
                members: Vec::new(),
            },
        }
    }

    /// Deletes a group without members, with its offsets.
    ///
    /// # Errors
    /// [`GroupError::NonEmptyGroup`] or [`GroupError::GroupIdNotFound`].
    pub fn delete(&mut self, now: u64, group: &str) -> Result<(), GroupError> {
        match self.groups.get(group).map(|group| group.state()) {
            None | Some(GroupState::Dead) => Err(GroupError::GroupIdNotFound),
            Some(GroupState::Empty) => {
                self.remove(group.to_owned(), now);
                Ok(())
            }
            Some(GroupState::PreparingRebalance | GroupState::CompletingRebalance | GroupState::Stable) => {
                Err(GroupError::NonEmptyGroup)
            }
        }
    }

    /// Ends a group that has no members. If it has no offsets, nothing of it is durable.
    pub(super) fn remove(&mut self, group: String, now: u64) {
        if self.groups.get(&group).is_some_and(|group| group.offsets.is_empty()) {
            self.groups.remove(&group);
        } else {
            self.record(Entry::GroupDeleted { group }, now);
        }
    }
}
