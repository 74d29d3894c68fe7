//! The rebalance itself, and all that happens in a group because time passes.

use super::{Group, InitialDelay, Phase};
use crate::groups::outbox::Turn;
use crate::groups::settings::Settings;

// === impl Group: the rebalance ===

impl Group {
    /// Has all members join again, unless they are at it already.
    pub(super) fn rebalance(&mut self, turn: &mut Turn<'_>) {
        let initial_delay_ms = turn.settings.initial_rebalance_delay_ms;
        match self.phase {
            Phase::Preparing { .. } => return,
            Phase::Empty { .. } if self.members.is_empty() => return,
            Phase::Empty { .. } => {
                let remaining_ms = self.rebalance_timeout_ms().saturating_sub(initial_delay_ms);
                let initial = Some(InitialDelay { remaining_ms, extended: false });
                self.phase = Phase::Preparing { until: turn.now.saturating_add(initial_delay_ms), initial };
                if initial_delay_ms == 0 {
                    self.complete_join(turn);
                }
                return;
            }
            Phase::Completing => self.refuse_syncs(turn),
            Phase::Stable => {}
        }
        self.sync_until = None;
        let until = turn.now.saturating_add(self.rebalance_timeout_ms());
        self.phase = Phase::Preparing { until, initial: None };
        self.try_complete_join(turn);
    }

    /// Begins the next generation if nobody is missing.
    pub(super) fn try_complete_join(&mut self, turn: &mut Turn<'_>) {
        let Phase::Preparing { initial: None, .. } = self.phase else { return };
        let all_joined = self.members.values().all(|member| member.join.is_on());
        // Who was given an id is about to join with it.
        if all_joined && (self.pending.is_empty() || self.members.is_empty()) {
            self.complete_join(turn);
        }
    }

    /// The time to join is up.
    fn on_join_timeout(&mut self, turn: &mut Turn<'_>) {
        let Phase::Preparing { initial, .. } = self.phase else { return };
        match initial {
            Some(InitialDelay { remaining_ms, extended: true }) if remaining_ms > 0 => {
                let delay_ms = turn.settings.initial_rebalance_delay_ms.min(remaining_ms);
                let initial = InitialDelay { remaining_ms: remaining_ms - delay_ms, extended: false };
                let until = turn.now.saturating_add(delay_ms);
                self.phase = Phase::Preparing { until, initial: Some(initial) };
            }
            _ => self.complete_join(turn),
        }
    }

    /// Begins the next generation with those who have joined.
    ///
    /// Static members that have not are kept until their session ends: they may be on their way back (KIP-345).
    fn complete_join(&mut self, turn: &mut Turn<'_>) {
        let missing: Vec<String> = self
            .members
            .values()
            .filter(|member| !member.join.is_on() && !member.is_static())
            .map(|member| member.id.clone())
            .collect();
        for member_id in missing {
            self.remove(&member_id, turn);
        }
        if !self.members.is_empty() && !self.elect() {
            // Only static members are left, and all are missing. The time is at least 1 ms so that it passes.
            let until = turn.now.saturating_add(self.rebalance_timeout_ms().max(1));
            self.phase = Phase::Preparing { until, initial: None };
            return;
        }
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.unsynced.clear();
        if self.members.is_empty() {
            self.leader = None;
            self.protocol.clear();
            self.phase = Phase::Empty { since: turn.now };
            return;
        }
        self.protocol = self.select_protocol();
        self.phase = Phase::Completing;
        self.unsynced.extend(self.members.keys().cloned());
        self.sync_until = Some(turn.now.saturating_add(self.rebalance_timeout_ms()));
        self.answer_joins(turn);
    }

    /// Makes sure that the leader is one who has joined. False if nobody has.
    fn elect(&mut self) -> bool {
        let joined =
            |member_id: &String| self.members.get(member_id).is_some_and(|member| member.join.is_on());
        if self.leader.as_ref().is_some_and(joined) {
            return true;
        }
        let Some(leader) = self.members.keys().find(|member_id| joined(member_id)).cloned() else {
            return false;
        };
        self.leader = Some(leader);
        true
    }

    fn answer_joins(&mut self, turn: &mut Turn<'_>) {
        let member_ids: Vec<String> = self.members.keys().cloned().collect();
        for member_id in member_ids {
            let joined = self.joined(&member_id);
            let Some(member) = self.members.get_mut(&member_id) else { continue };
            member.settle(turn.now);
            if let Some(token) = member.join.end() {
                turn.out.join(token, Ok(joined));
            }
        }
    }
}

// === impl Group: time ===

impl Group {
    /// When [`Group::poll`] has something to do, as things are now.
    pub(in crate::groups) fn next_deadline(&self, settings: &Settings) -> Option<u64> {
        let until = match self.phase {
            Phase::Preparing { until, .. } => Some(until),
            Phase::Empty { .. } | Phase::Completing | Phase::Stable => None,
        };
        let sessions = self.members.values().filter_map(|member| member.session_end(settings));
        let pending = self.pending.values().copied();
        sessions.chain(pending).chain(until).chain(self.sync_until).chain(self.expires_at(settings)).min()
    }

    /// Does what is due.
    pub(in crate::groups) fn poll(&mut self, turn: &mut Turn<'_>) {
        self.expire_pending(turn);
        self.expire_sessions(turn);
        if let Phase::Preparing { until, .. } = self.phase
            && until <= turn.now
        {
            self.on_join_timeout(turn);
        }
        if self.sync_until.is_some_and(|until| until <= turn.now) {
            self.on_sync_timeout(turn);
        }
    }

    fn expire_pending(&mut self, turn: &mut Turn<'_>) {
        let before = self.pending.len();
        self.pending.retain(|_, expires_at| *expires_at > turn.now);
        if self.pending.len() < before {
            self.try_complete_join(turn);
        }
    }

    fn expire_sessions(&mut self, turn: &mut Turn<'_>) {
        let gone = self.members.values().filter(|member| {
            member.session_end(turn.settings).is_some_and(|session_end| session_end <= turn.now)
        });
        let gone: Vec<String> = gone.map(|member| member.id.clone()).collect();
        for member_id in &gone {
            self.remove(member_id, turn);
        }
        if !gone.is_empty() {
            self.after_removal(turn);
        }
    }

    /// Members have joined but not synced: the leader never brought an assignment, or they never asked for it.
    fn on_sync_timeout(&mut self, turn: &mut Turn<'_>) {
        self.sync_until = None;
        for member_id in std::mem::take(&mut self.unsynced) {
            self.remove(&member_id, turn);
        }
        self.after_removal(turn);
    }
}
