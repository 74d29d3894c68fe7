//! Syncing: the leader brings the assignment, the others wait for it.

use bytes::Bytes;

use super::{Group, Phase};
use crate::groups::error::GroupError;
use crate::groups::member::{Member, Wait};
use crate::groups::message::{SyncRequest, Synced, Token};
use crate::groups::outbox::Turn;

impl Group {
    pub(in crate::groups) fn sync(&mut self, request: SyncRequest, token: Token, turn: &mut Turn<'_>) {
        if let Err(error) = self.check_sync(&request) {
            turn.out.sync(token, Err(error));
            return;
        }
        self.on_synced(&request.member_id);
        let leads = self.is_leader(&request.member_id);
        let Some(member) = self.members.get_mut(&request.member_id) else { return };
        member.seen_at = turn.now;
        let earlier = std::mem::replace(&mut member.sync, Wait::For(token)).end();
        turn.out.wait(token, &self.id);
        if let Some(earlier) = earlier {
            turn.out.sync(earlier, Err(GroupError::RebalanceInProgress));
        }
        if self.phase == Phase::Completing {
            if !leads {
                return;
            }
            self.assign(request.assignments);
            self.phase = Phase::Stable;
        }
        self.hand_out(turn);
    }

    fn check_sync(&self, request: &SyncRequest) -> Result<(), GroupError> {
        self.check_member(&request.member_id, request.instance_id.as_deref())?;
        self.check_generation(request.generation)?;
        let differs =
            |asked: &Option<String>, ours: &str| asked.as_deref().is_some_and(|asked| asked != ours);
        if differs(&request.protocol_type, &self.protocol_type) || differs(&request.protocol, &self.protocol)
        {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        match self.phase {
            Phase::Empty { .. } => Err(GroupError::UnknownMemberId),
            Phase::Preparing { .. } => Err(GroupError::RebalanceInProgress),
            Phase::Completing | Phase::Stable => Ok(()),
        }
    }

    /// The member need not be waited for.
    pub(super) fn on_synced(&mut self, member_id: &str) {
        self.unsynced.remove(member_id);
        if self.unsynced.is_empty() {
            self.sync_until = None;
        }
    }

    /// Sets the leader's assignments. A member that the leader left out has nothing to do.
    fn assign(&mut self, assignments: Vec<(String, Bytes)>) {
        for member in self.members.values_mut() {
            member.assignment = Bytes::new();
        }
        for (member_id, assignment) in assignments {
            if let Some(member) = self.members.get_mut(&member_id) {
                member.assignment = assignment;
            }
        }
    }

    /// Answers all syncs.
    fn hand_out(&mut self, turn: &mut Turn<'_>) {
        for member in self.members.values_mut().filter(|member| member.sync.is_on()) {
            member.seen_at = turn.now;
            if let Some(token) = member.sync.end() {
                let (protocol_type, protocol) = (self.protocol_type.clone(), self.protocol.clone());
                let assignment = member.assignment.clone();
                turn.out.sync(token, Ok(Synced { protocol_type, protocol, assignment }));
            }
        }
    }

    /// The assignment will not come: who waits for it is to join again.
    pub(super) fn refuse_syncs(&mut self, turn: &mut Turn<'_>) {
        let tokens = self.members.values_mut().filter(|member| member.sync.is_on()).filter_map(
            |member: &mut Member| {
                member.seen_at = turn.now;
                member.sync.end()
            },
        );
        for token in tokens {
            turn.out.sync(token, Err(GroupError::RebalanceInProgress));
        }
    }
}
