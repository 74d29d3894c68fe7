//! The consumer groups of the broker (the classic protocol: KIP-134, 345, 394, 447, 814) and their offsets.
//!
//! - A *member* is a client that takes part in a *group*. One of them, the *leader*, assigns the partitions; the
//!   broker passes metadata and assignments through and reads only which topics consumers subscribe to.
//! - A *generation* is what the members agree on between two *rebalances*. Whoever speaks for another is refused.
//! - A *static* member has an instance id, under which it may come back with another member id.
//! - A *pending* member was given a member id and has not joined with it. An offset is *held* while the transaction
//!   that commits it is open.
//!
//! There is no clock, no randomness and no I/O: `now` (milliseconds, never falling) and fresh ids are arguments, and
//! time passes by [`Groups::poll`] at [`Groups::next_deadline`]. After each call the caller makes what
//! [`Groups::drain_journal`] gives durable, then sends what was returned and what [`Groups::next_answer`] gives.
//!
//! Every token is answered exactly once, unless it is forgotten. What is not here: the consumer protocol of KIP-848,
//! the checks of producers' epochs, and authorisation.

use std::collections::BTreeMap;

mod admin;
mod commits;
pub mod error;
mod group;
pub mod journal;
mod member;
pub mod message;
mod offsets;
mod outbox;
pub mod settings;
mod subscription;

use error::GroupError;
use group::Group;
use journal::Entry;
use message::{Answer, HeartbeatRequest, JoinRefused, JoinRequest, Leaver, Left, SyncRequest, Token};
use outbox::{Outbox, Turn};
use settings::Settings;

/// All groups.
#[derive(Debug)]
pub struct Groups {
    settings: Settings,
    groups: BTreeMap<String, Group>,
    out: Outbox,
    journal: Vec<Entry>,
    /// How many commits there were: of two, which came later.
    commits: u64,
}

// === impl Groups: life ===

impl Groups {
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings, groups: BTreeMap::new(), out: Outbox::default(), journal: Vec::new(), commits: 0 }
    }

    /// The groups as the journal's entries left them, without members. Offsets are kept as if the groups had become
    /// empty now.
    #[must_use]
    pub fn restore(settings: Settings, now: u64, entries: impl IntoIterator<Item = Entry>) -> Self {
        let mut groups = Self::new(settings);
        for entry in entries {
            groups.apply(entry, now);
        }
        groups
    }

    /// The entries that are to be durable before any answer is sent.
    pub fn drain_journal(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.journal)
    }

    /// The next answer to a join or a sync.
    pub fn next_answer(&mut self) -> Option<(Token, Answer)> {
        self.out.next()
    }

    /// The token's client has gone: it is not answered.
    pub fn forget(&mut self, token: Token) {
        let Some(group) = self.out.forget(token) else { return };
        if let Some(group) = self.groups.get_mut(&group) {
            group.forget(token);
        }
    }

    /// When [`Groups::poll`] is to be called at the latest; it may be in the past.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        self.groups.values().filter_map(|group| group.next_deadline(&self.settings)).min()
    }

    /// Ends sessions, rebalances and retentions whose time is up.
    pub fn poll(&mut self, now: u64) {
        let mut expired = Vec::new();
        let mut turn = Turn { now, settings: &self.settings, out: &mut self.out };
        for (id, group) in &mut self.groups {
            group.poll(&mut turn);
            if group.expires_at(&self.settings).is_some_and(|expires_at| expires_at <= now) {
                expired.push(id.clone());
            }
        }
        for id in expired {
            self.remove(id, now);
        }
    }
}

// === impl Groups: membership ===

impl Groups {
    /// A client joins or joins again. The answer comes when the rebalance that this may take is over.
    pub fn join(&mut self, now: u64, token: Token, request: JoinRequest) {
        if let Err(error) = self.check_join(&request) {
            self.out.join(token, Err(JoinRefused { error, member_id: request.member_id }));
            return;
        }
        let mut turn = Turn { now, settings: &self.settings, out: &mut self.out };
        let group =
            self.groups.entry(request.group.clone()).or_insert_with_key(|id| Group::new(id.clone(), now));
        group.join(request, token, &mut turn);
    }

    fn check_join(&self, request: &JoinRequest) -> Result<(), GroupError> {
        check_group_id(&request.group)?;
        let bounds = self.settings.min_session_timeout_ms..=self.settings.max_session_timeout_ms;
        if !u64::try_from(request.session_timeout_ms).is_ok_and(|timeout| bounds.contains(&timeout)) {
            return Err(GroupError::InvalidSessionTimeout);
        }
        // Only who has no id yet may found a group.
        if !request.member_id.is_empty() && !self.groups.contains_key(&request.group) {
            return Err(GroupError::UnknownMemberId);
        }
        Ok(())
    }

    /// A member asks for its assignment, or as the leader brings all. The answer comes when the leader has.
    pub fn sync(&mut self, now: u64, token: Token, request: SyncRequest) {
        let mut turn = Turn { now, settings: &self.settings, out: &mut self.out };
        match find(&mut self.groups, &request.group) {
            Ok(group) => group.sync(request, token, &mut turn),
            Err(error) => self.out.sync(token, Err(error)),
        }
    }

    /// # Errors
    /// [`GroupError::RebalanceInProgress`] if the member is to join again; others if it is not one.
    pub fn heartbeat(&mut self, now: u64, request: &HeartbeatRequest) -> Result<(), GroupError> {
        let group = find(&mut self.groups, &request.group)?;
        group.heartbeat(request.generation, &request.member_id, request.instance_id.as_deref(), now)
    }

    /// Removes members.
    ///
    /// # Errors
    /// [`GroupError::InvalidGroupId`]; what became of each member is in the result.
    pub fn leave(&mut self, now: u64, group: &str, leavers: Vec<Leaver>) -> Result<Vec<Left>, GroupError> {
        check_group_id(group)?;
        let mut turn = Turn { now, settings: &self.settings, out: &mut self.out };
        let mut group = self.groups.get_mut(group);
        let mut leave = |leaver: &Leaver| match &mut group {
            Some(group) => group.leave(leaver, &mut turn),
            None => Err(GroupError::UnknownMemberId),
        };
        Ok(leavers.into_iter().map(|leaver| Left { outcome: leave(&leaver), leaver }).collect())
    }

    /// Has a group rebalance as if a member had come, for tests of clients.
    ///
    /// # Errors
    /// [`GroupError::GroupIdNotFound`]
    pub fn force_rebalance(&mut self, now: u64, group: &str) -> Result<(), GroupError> {
        let mut turn = Turn { now, settings: &self.settings, out: &mut self.out };
        let group = self.groups.get_mut(group).ok_or(GroupError::GroupIdNotFound)?;
        group.force_rebalance(&mut turn);
        Ok(())
    }
}

fn check_group_id(group: &str) -> Result<(), GroupError> {
    if group.is_empty() { Err(GroupError::InvalidGroupId) } else { Ok(()) }
}

/// The group that a member speaks to.
fn find<'a>(groups: &'a mut BTreeMap<String, Group>, id: &str) -> Result<&'a mut Group, GroupError> {
    check_group_id(id)?;
    groups.get_mut(id).ok_or(GroupError::UnknownMemberId)
}

#[cfg(test)]
mod tests;
