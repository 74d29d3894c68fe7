//! One group: its members, the phase it is in, and its offsets.
//!
//! The phases are those of Kafka's classic protocol:
//!
//! ```text
//! Empty ──join──▶ Preparing ──all joined, or time is up──▶ Completing ──leader's sync──▶ Stable
//!                     ▲                                        │                           │
//!                     └──────── a member joins, leaves, expires or asks for other ─────────┘
//! ```
//!
//! A group that nobody joined falls from Preparing back to Empty.

use std::collections::{BTreeMap, BTreeSet};

use super::error::GroupError;
use super::member::Member;
use super::message::{GroupDescription, GroupListing, GroupState, JoinedMember, Token};
use super::offsets::Offsets;
use super::outbox::Turn;
use super::settings::Settings;
use super::subscription;

mod join;
mod leave;
mod rebalance;
mod sync;

/// Where the group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Empty {
        since: u64,
    },
    /// Members join.
    Preparing {
        /// Who has not joined by then is removed.
        until: u64,
        initial: Option<InitialDelay>,
    },
    /// The leader is to bring the assignment.
    Completing,
    Stable,
}

/// An empty group waits for more members than the first (KIP-134).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct InitialDelay {
    /// By how much the wait may be prolonged yet.
    remaining_ms: u64,
    /// Somebody has joined since the wait began or was prolonged.
    extended: bool,
}

/// A consumer group.
#[derive(Debug)]
pub(super) struct Group {
    id: String,
    phase: Phase,
    generation: i32,
    protocol_type: String,
    /// The protocol that this generation uses.
    protocol: String,
    leader: Option<String>,
    members: BTreeMap<String, Member>,
    /// Member ids by instance id.
    statics: BTreeMap<String, String>,
    /// Member ids that were given to clients that have not joined with them, and when they expire (KIP-394).
    pending: BTreeMap<String, u64>,
    /// Members that have not synced in this generation.
    unsynced: BTreeSet<String>,
    /// Who is still in `unsynced` by then is removed.
    sync_until: Option<u64>,
    pub(super) offsets: Offsets,
}

// === impl Group: asked ===

impl Group {
    pub(super) fn new(id: String, now: u64) -> Self {
        Self {
            id,
            phase: Phase::Empty { since: now },
            generation: 0,
            protocol_type: String::new(),
            protocol: String::new(),
            leader: None,
            members: BTreeMap::new(),
            statics: BTreeMap::new(),
            pending: BTreeMap::new(),
            unsynced: BTreeSet::new(),
            sync_until: None,
            offsets: Offsets::default(),
        }
    }

    pub(super) fn state(&self) -> GroupState {
        match self.phase {
            Phase::Empty { .. } => GroupState::Empty,
            Phase::Preparing { .. } => GroupState::PreparingRebalance,
            Phase::Completing => GroupState::CompletingRebalance,
            Phase::Stable => GroupState::Stable,
        }
    }

    pub(super) fn list(&self) -> GroupListing {
        GroupListing {
            group: self.id.clone(),
            state: self.state(),
            protocol_type: self.protocol_type.clone(),
        }
    }

    pub(super) fn describe(&self) -> GroupDescription {
        let stable_protocol = (self.phase == Phase::Stable).then_some(self.protocol.as_str());
        GroupDescription {
            group: self.id.clone(),
            state: self.state(),
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: stable_protocol.unwrap_or_default().to_owned(),
            leader: self.leader.clone(),
            members: self.members.values().map(|member| member.describe(stable_protocol)).collect(),
        }
    }

    /// Whether a commit may be made; `in_txn`: it takes effect with its transaction only.
    pub(super) fn check_commit(
        &self,
        generation: i32,
        member_id: &str,
        instance_id: Option<&str>,
        in_txn: bool,
    ) -> Result<(), GroupError> {
        if generation < 0 && matches!(self.phase, Phase::Empty { .. }) {
            return Ok(());
        }
        if generation >= 0 || !member_id.is_empty() || instance_id.is_some() {
            self.check_member(member_id, instance_id)?;
            self.check_generation(generation)?;
        } else if !in_txn {
            return Err(GroupError::UnknownMemberId);
        }
        // The member has the generation from its join, but not its assignment.
        if !in_txn && self.phase == Phase::Completing {
            return Err(GroupError::RebalanceInProgress);
        }
        Ok(())
    }

    /// Whether offsets may be deleted while the group is as it is.
    pub(super) fn check_offset_deletion(&self) -> Result<(), GroupError> {
        let empty = matches!(self.phase, Phase::Empty { .. });
        if empty || self.protocol_type == subscription::CONSUMER {
            return Ok(());
        }
        Err(GroupError::NonEmptyGroup)
    }

    /// Whether a consumer of the group subscribes to the topic. Metadata that can't be read may name any topic.
    pub(super) fn subscribes_to(&self, topic: &str) -> bool {
        self.members
            .values()
            .flat_map(|member| &member.protocols)
            .any(|(_, metadata)| subscription::topics(metadata).is_none_or(|topics| topics.contains(topic)))
    }

    /// When nothing of the group is worth keeping any more (KIP-211); none while it is in use.
    pub(super) fn expires_at(&self, settings: &Settings) -> Option<u64> {
        let Phase::Empty { since } = self.phase else { return None };
        if !self.pending.is_empty() || self.offsets.has_pending() {
            return None;
        }
        let kept = if self.offsets.is_empty() {
            settings.empty_group_retention_ms
        } else {
            settings.offset_retention_ms
        };
        Some(since.max(self.offsets.last_commit_at()).saturating_add(kept))
    }

    fn check_generation(&self, generation: i32) -> Result<(), GroupError> {
        if generation == self.generation { Ok(()) } else { Err(GroupError::IllegalGeneration) }
    }

    /// Whether the member id, with its instance id if there is one, is a member's.
    fn check_member(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), GroupError> {
        if let Some(instance_id) = instance_id {
            let current = self.statics.get(instance_id).ok_or(GroupError::UnknownMemberId)?;
            if current != member_id {
                return Err(GroupError::FencedInstanceId);
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(GroupError::UnknownMemberId) }
    }

    fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    /// The longest time that a member wants to have for joining again.
    fn rebalance_timeout_ms(&self) -> u64 {
        self.members.values().map(|member| member.rebalance_timeout_ms).max().unwrap_or(0)
    }

    /// The protocol that most members prefer among those that all support. Between equals, the leader's order
    /// decides.
    fn select_protocol(&self) -> String {
        let supported = |protocol: &str| self.members.values().all(|member| member.supports(protocol));
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some((name, _)) = member.protocols.iter().find(|(name, _)| supported(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        let leader = self.leader.as_ref().and_then(|leader| self.members.get(leader));
        let rank = |protocol: &str| {
            leader.and_then(|leader| leader.protocols.iter().position(|(name, _)| name == protocol))
        };
        let most = votes.into_iter().max_by_key(|(name, votes)| (*votes, std::cmp::Reverse(rank(name))));
        most.map(|(name, _)| name.to_owned()).unwrap_or_default()
    }

    /// All members, as the leader needs to know them.
    fn roster(&self) -> Vec<JoinedMember> {
        let joined = |member: &Member| JoinedMember {
            member_id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            metadata: member.metadata(&self.protocol),
        };
        self.members.values().map(joined).collect()
    }
}

// === impl Group: told ===

impl Group {
    /// The member is alive.
    pub(super) fn touch(&mut self, member_id: &str, now: u64) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.seen_at = now;
        }
    }

    pub(super) fn heartbeat(
        &mut self,
        generation: i32,
        member_id: &str,
        instance_id: Option<&str>,
        now: u64,
    ) -> Result<(), GroupError> {
        self.check_member(member_id, instance_id)?;
        self.check_generation(generation)?;
        self.touch(member_id, now);
        match self.phase {
            Phase::Preparing { .. } => Err(GroupError::RebalanceInProgress),
            // Members begin with heartbeats after their join.
            Phase::Completing | Phase::Stable => Ok(()),
            Phase::Empty { .. } => Err(GroupError::UnknownMemberId),
        }
    }

    /// The token's client has gone.
    pub(super) fn forget(&mut self, token: Token) {
        for member in self.members.values_mut() {
            member.forget(token);
        }
    }

    /// Has the members join again though nothing has changed.
    pub(super) fn force_rebalance(&mut self, turn: &mut Turn<'_>) {
        self.rebalance(turn);
    }
}
