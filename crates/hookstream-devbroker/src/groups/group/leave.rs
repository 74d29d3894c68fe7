//! Leaving: on request, or because nothing is heard of a member any more.

use super::{Group, Phase};
use crate::groups::error::GroupError;
use crate::groups::message::{JoinRefused, Leaver};
use crate::groups::outbox::Turn;

impl Group {
    /// Removes one member of a `LeaveGroup` request (KIP-345: they may be several, and static).
    pub(in crate::groups) fn leave(
        &mut self,
        leaver: &Leaver,
        turn: &mut Turn<'_>,
    ) -> Result<(), GroupError> {
        let instance_id = leaver.instance_id.as_deref();
        if instance_id.is_none() && self.pending.remove(&leaver.member_id).is_some() {
            self.try_complete_join(turn);
            return Ok(());
        }
        let member_id = match instance_id {
            Some(instance_id) if leaver.member_id.is_empty() => {
                self.statics.get(instance_id).cloned().ok_or(GroupError::UnknownMemberId)?
            }
            _ => {
                self.check_member(&leaver.member_id, instance_id)?;
                leaver.member_id.clone()
            }
        };
        self.remove(&member_id, turn);
        self.after_removal(turn);
        Ok(())
    }

    /// The rest of the group goes on without whoever was removed.
    pub(super) fn after_removal(&mut self, turn: &mut Turn<'_>) {
        match self.phase {
            Phase::Empty { .. } => {}
            Phase::Preparing { .. } => self.try_complete_join(turn),
            Phase::Completing | Phase::Stable => self.rebalance(turn),
        }
    }

    /// Takes a member out, and tells it if it waits, so that its client joins as a new member.
    pub(super) fn remove(&mut self, member_id: &str, turn: &mut Turn<'_>) {
        let Some(mut member) = self.members.remove(member_id) else { return };
        if let Some(token) = member.join.end() {
            let refused = JoinRefused { error: GroupError::UnknownMemberId, member_id: String::new() };
            turn.out.join(token, Err(refused));
        }
        if let Some(token) = member.sync.end() {
            turn.out.sync(token, Err(GroupError::UnknownMemberId));
        }
        if let Some(instance_id) = &member.instance_id {
            self.statics.remove(instance_id);
        }
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        self.on_synced(member_id);
    }
}
