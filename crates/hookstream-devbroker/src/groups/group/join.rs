//! Joining: who is let in, and whether it takes a rebalance.

use bytes::Bytes;

use super::{Group, Phase};
use crate::groups::error::GroupError;
use crate::groups::member::{Member, Wait};
use crate::groups::message::{JoinRefused, JoinRequest, Joined, Token};
use crate::groups::outbox::Turn;
use crate::groups::subscription;

impl Group {
    pub(in crate::groups) fn join(&mut self, request: JoinRequest, token: Token, turn: &mut Turn<'_>) {
        let claimed = request.member_id.clone();
        let admitted = if !self.supports(&request.protocol_type, &request.protocols) {
            Err(JoinRefused { error: GroupError::InconsistentGroupProtocol, member_id: claimed })
        } else if claimed.is_empty() {
            self.join_as_newcomer(request, token, turn)
        } else if request.instance_id.is_none() && self.pending.remove(&claimed).is_some() {
            self.add(claimed, request, token, turn);
            Ok(())
        } else {
            let known = self.check_member(&claimed, request.instance_id.as_deref());
            known
                .map(|()| self.rejoin(request, token, turn))
                .map_err(|error| JoinRefused { error, member_id: claimed })
        };
        if let Err(refused) = admitted {
            turn.out.join(token, Err(refused));
        }
        self.try_complete_join(turn);
    }

    /// Whether there would be a protocol that all members support.
    fn supports(&self, protocol_type: &str, protocols: &[(String, Bytes)]) -> bool {
        if self.members.is_empty() {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        let by_all = |name: &str| self.members.values().all(|member| member.supports(name));
        protocol_type == self.protocol_type && protocols.iter().any(|(name, _)| by_all(name))
    }

    fn join_as_newcomer(
        &mut self,
        request: JoinRequest,
        token: Token,
        turn: &mut Turn<'_>,
    ) -> Result<(), JoinRefused> {
        let prefix = request.instance_id.as_ref().unwrap_or(&request.client_id);
        let fresh = format!("{prefix}-{}", request.fresh_id);
        let Some(instance_id) = &request.instance_id else {
            if request.require_known_member_id {
                let session_timeout_ms = u64::try_from(request.session_timeout_ms).unwrap_or(0);
                self.pending.insert(fresh.clone(), turn.now.saturating_add(session_timeout_ms));
                return Err(JoinRefused { error: GroupError::MemberIdRequired, member_id: fresh });
            }
            self.add(fresh, request, token, turn);
            return Ok(());
        };
        match self.statics.get(instance_id).cloned() {
            None => self.add(fresh, request, token, turn),
            Some(old) => self.take_over(&old, fresh, request, token, turn),
        }
        Ok(())
    }

    fn add(&mut self, id: String, request: JoinRequest, token: Token, turn: &mut Turn<'_>) {
        if self.members.is_empty() {
            self.protocol_type.clone_from(&request.protocol_type);
        }
        if let Phase::Preparing { initial: Some(initial), .. } = &mut self.phase {
            initial.extended = true;
        }
        if let Some(instance_id) = &request.instance_id {
            self.statics.insert(instance_id.clone(), id.clone());
        }
        self.leader.get_or_insert_with(|| id.clone());
        turn.out.wait(token, &self.id);
        self.members.insert(id.clone(), Member::new(id, request, token, turn.now));
        self.rebalance(turn);
    }

    /// A member joins again.
    fn rejoin(&mut self, request: JoinRequest, token: Token, turn: &mut Turn<'_>) {
        let id = request.member_id.clone();
        let changed = self.members.get(&id).is_none_or(|member| member.protocols != request.protocols);
        let rebalances = match self.phase {
            Phase::Preparing { .. } | Phase::Empty { .. } => true,
            // It may have lost the answer to its join.
            Phase::Completing => changed,
            // The leader asks for another assignment so.
            Phase::Stable => changed || self.is_leader(&id),
        };
        if rebalances {
            self.update(&id, request, token, turn);
            self.rebalance(turn);
        } else {
            self.touch(&id, turn.now);
            turn.out.join(token, Ok(self.joined(&id)));
        }
    }

    /// The member waits in its join, with what the request says of it.
    fn update(&mut self, id: &str, request: JoinRequest, token: Token, turn: &mut Turn<'_>) {
        let Some(member) = self.members.get_mut(id) else { return };
        member.update(request, turn.now);
        let earlier = std::mem::replace(&mut member.join, Wait::For(token)).end();
        turn.out.wait(token, &self.id);
        if let Some(earlier) = earlier {
            // The client has sent the request again, so this answer is only for whoever still waits for it.
            let refused = JoinRefused { error: GroupError::RebalanceInProgress, member_id: id.to_owned() };
            turn.out.join(earlier, Err(refused));
        }
    }

    /// A static member was restarted: it takes the place that its instance id has, and the old member id is fenced
    /// (KIP-345). If nothing changes by that for the others, there is no rebalance.
    fn take_over(&mut self, old: &str, id: String, request: JoinRequest, token: Token, turn: &mut Turn<'_>) {
        let led = self.is_leader(old);
        let before = self.rename(old, &id, turn);
        let protocols = request.protocols.clone();
        let skips = request.supports_skip_assignment;
        self.update(&id, request, token, turn);
        let unchanged = self.phase == Phase::Stable && self.still_fits(&before, &protocols);
        if !unchanged {
            self.rebalance(turn);
            return;
        }
        let mut joined = self.joined(&id);
        if led && skips {
            joined.skip_assignment = true;
        } else if led {
            // A client that can't skip the assignment must not take itself for the leader: it would assign anew.
            old.clone_into(&mut joined.leader);
            joined.members = Vec::new();
        }
        let Some(member) = self.members.get_mut(&id) else { return };
        member.settle(turn.now);
        if let Some(token) = member.join.end() {
            turn.out.join(token, Ok(joined));
        }
    }

    /// Gives a member another id. Returns its protocols.
    fn rename(&mut self, old: &str, id: &str, turn: &mut Turn<'_>) -> Vec<(String, Bytes)> {
        let Some(mut member) = self.members.remove(old) else { return Vec::new() };
        if let Some(token) = member.join.end() {
            let refused = JoinRefused { error: GroupError::FencedInstanceId, member_id: old.to_owned() };
            turn.out.join(token, Err(refused));
        }
        if let Some(token) = member.sync.end() {
            turn.out.sync(token, Err(GroupError::FencedInstanceId));
        }
        if self.is_leader(old) {
            self.leader = Some(id.to_owned());
        }
        if self.unsynced.remove(old) {
            self.unsynced.insert(id.to_owned());
        }
        if let Some(instance_id) = &member.instance_id {
            self.statics.insert(instance_id.clone(), id.to_owned());
        }
        id.clone_into(&mut member.id);
        let protocols = member.protocols.clone();
        self.members.insert(id.to_owned(), member);
        protocols
    }

    /// Whether the generation would come out the same if a member had these protocols in place of those.
    fn still_fits(&self, before: &[(String, Bytes)], after: &[(String, Bytes)]) -> bool {
        if self.select_protocol() != self.protocol {
            return false;
        }
        let metadata = |protocols: &[(String, Bytes)]| {
            let found = protocols.iter().find(|(name, _)| *name == self.protocol);
            found.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
        };
        subscription::same(&self.protocol_type, &metadata(before), &metadata(after))
    }

    /// What a member is told of the generation.
    pub(super) fn joined(&self, member_id: &str) -> Joined {
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            member_id: member_id.to_owned(),
            skip_assignment: false,
            members: if self.is_leader(member_id) { self.roster() } else { Vec::new() },
        }
    }
}
