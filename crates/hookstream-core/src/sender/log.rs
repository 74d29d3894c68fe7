//! Inputs from the log: records of the partition, its ledger, its window, and acknowledgements.

use super::*;

impl Owner {
    /// A record of `deliveries[p]`.
    pub fn on_record(
        &mut self,
        offset: Offset,
        at: UnixMillis,
        job: Job,
        view: &View,
        now: Now,
        fx: &mut Vec<Effect>,
    ) {
        if !self.see(offset, at, now, fx) {
            return;
        }
        if let Some((decision, place)) = self.decided.remove(&offset) {
            fx.push(Effect::Observed(Observed::KnownDecided));
            self.window.see(job.state.delivery, job.state.generation, offset, digest(&job.data), at);
            let job = as_decided(job, &decision.verdict, at);
            self.hold(offset, job, Stage::Deciding);
            self.follow(decision, place);
            return;
        }
        let state = &job.state;
        match self.window.see(state.delivery, state.generation, offset, digest(&job.data), at) {
            Seen::New => {}
            Seen::Duplicate => {
                fx.push(Effect::Observed(Observed::Duplicate));
                self.frontier.complete(offset);
                return;
            }
            Seen::IdReused => {
                let message = format!(
                    "delivery `{}` came before with other data: an event id must not be used twice",
                    state.delivery
                );
                let tag = self.tag(Pending::FollowUp(vec![offset]));
                let raw = Rejected::Job(Box::new(job));
                fx.push(Effect::Reject { tag, offset, raw, reason: RejectReason::IdReused, message });
                return;
            }
        }
        let is_ahead = !view.reaches(job.state.config) && !on(Mutant::StaleView);
        self.hold(offset, job, Stage::Queued);
        if is_ahead || !self.ahead.is_empty() {
            self.ahead.push_back(offset);
        } else {
            self.admit(offset, view, now);
        }
    }

    /// A record of `deliveries[p]` that is no job.
    pub fn on_bad_record(
        &mut self,
        offset: Offset,
        at: UnixMillis,
        raw: Bytes,
        message: String,
        now: Now,
        fx: &mut Vec<Effect>,
    ) {
        if !self.see(offset, at, now, fx) {
            return;
        }
        let tag = self.tag(Pending::FollowUp(vec![offset]));
        let raw = Rejected::Bytes(raw);
        fx.push(Effect::Reject { tag, offset, raw, reason: RejectReason::BadJob, message });
    }

    pub(super) fn see(&mut self, offset: Offset, at: UnixMillis, now: Now, fx: &mut Vec<Effect>) -> bool {
        if !self.frontier.see(offset) {
            fx.push(Effect::Observed(Observed::Repeated));
            if on(Mutant::SameOffsetIsDuplicate) {
                self.frontier.complete(offset);
            }
            return false;
        }
        self.last_append = at;
        self.checkpoint(now);
        true
    }

    /// An entry of the ledger.
    pub fn on_ledger(&mut self, at: Offset, entry: Entry) {
        if let Some(reader) = &mut self.reader {
            reader.read(at, entry);
        }
    }

    /// The ledger is read up to the owner record.
    pub fn on_ledger_end(&mut self, now: Now) {
        let Some(reader) = self.reader.take() else { return };
        self.decided = reader.finish();
        // From the offset after the last one decided on, only we decide: at our owner record or after.
        let from =
            self.decided.last_key_value().map_or_else(|| self.frontier.base(), |(offset, _)| offset.next());
        let at = self.last_append;
        let first = self.note.unwrap_or(CommitNote { ledger: Offset(0), owner: None, at });
        self.checkpoints.push_back(Checkpoint { from: self.frontier.base(), note: first });
        let own = CommitNote { ledger: self.owner_at, owner: Some(self.id), at };
        self.checkpoints.push_back(Checkpoint { from, note: own });
        self.end_reading(true, false, now);
    }

    /// A record of the window.
    pub fn on_window(&mut self, at: UnixMillis, state: &JobState, data: &[u8]) {
        // It stands below the base, and so below everything that is handed out.
        const BELOW: Offset = Offset(-1);
        self.window.see(state.delivery, state.generation, BELOW, digest(data), at);
        self.last_append = self.last_append.max(at);
    }

    /// The window is warm.
    pub fn on_window_end(&mut self, now: Now) {
        self.end_reading(false, true, now);
    }

    pub(super) fn end_reading(&mut self, ledger_read: bool, window_read: bool, now: Now) {
        if let Phase::Reading { ledger, window } = &mut self.phase {
            *ledger &= !ledger_read;
            *window &= !window_read;
            if !*ledger && !*window {
                self.phase = Phase::Running;
                self.last_commit = now.mono;
            }
        }
    }

    /// The record named `tag` is durable, at this offset of its partition.
    pub fn on_appended(&mut self, tag: Tag, at: Offset, now: Now, fx: &mut Vec<Effect>) {
        match self.pending.remove(&tag) {
            None => {}
            Some(Pending::Owner) => self.on_claimed(at, now, fx),
            Some(Pending::Decisions(decisions)) => {
                self.ledger_end = self.ledger_end.max(at.next());
                let place = DecidedAt { owner: self.owner_at, decision: at };
                for decision in decisions {
                    self.follow(decision, place);
                }
            }
            Some(Pending::FollowUp(offsets)) => {
                for offset in offsets {
                    self.followed(offset);
                }
            }
        }
    }

    pub(super) fn on_claimed(&mut self, at: Offset, now: Now, fx: &mut Vec<Effect>) {
        if self.phase != Phase::Claiming {
            return;
        }
        self.phase = Phase::Reading { ledger: true, window: true };
        self.owner_at = at;
        self.ledger_end = at.next();
        self.reader = Some(Reader::new(self.frontier.base(), self.note.as_ref()));
        fx.push(Effect::ReadLedger { from: self.note.map(|note| note.ledger), to: at });
        let log_time = self.note.map_or(now.broker, |note| note.at);
        let span = i64::try_from(self.rules.window.as_millis()).unwrap_or(i64::MAX);
        let mut to = self.frontier.base();
        if on(Mutant::WarmUpBeyondBase) {
            to = Offset(to.0 + 20);
        }
        fx.push(Effect::ReadWindow { from: UnixMillis(log_time.0.saturating_sub(span)), to });
    }

    /// The follow-up of this decision is to be produced when the lease allows.
    pub(super) fn follow(&mut self, mut decision: Decision, place: DecidedAt) {
        if on(Mutant::AnotherDue)
            && let Verdict::Retry { due } | Verdict::Deferred { due, .. } = &mut decision.verdict
            && place.owner != self.owner_at
        {
            *due = UnixMillis(due.0 + 700);
        }
        match &decision.verdict {
            Verdict::Delivered | Verdict::Skipped { .. } => self.done(decision.offset),
            Verdict::Deferred { .. } if on(Mutant::DeferralLost) => self.done(decision.offset),
            Verdict::Retry { .. } | Verdict::Deferred { .. } | Verdict::Dead { .. } => {
                self.to_follow.push_back((decision, place));
            }
        }
    }

    pub(super) fn followed(&mut self, offset: Offset) {
        if let Some(Held { stage: Stage::Following { left }, .. }) = self.held.get_mut(&offset)
            && *left > 1
        {
            *left -= 1;
            return;
        }
        self.done(offset);
    }

    pub(super) fn done(&mut self, offset: Offset) {
        self.release(offset);
        self.frontier.complete(offset);
    }

    pub(super) fn hold(&mut self, offset: Offset, job: Job, stage: Stage) {
        self.bytes += job.size();
        self.accounts.entry(job.event.account).or_default().jobs += 1;
        self.held.insert(offset, Held { job, stage });
    }

    pub(super) fn release(&mut self, offset: Offset) {
        if let Some(held) = self.held.remove(&offset) {
            self.bytes = self.bytes.saturating_sub(held.job.size());
            if let Some(share) = self.accounts.get_mut(&held.job.event.account) {
                share.jobs -= 1;
                if share.jobs == 0 {
                    self.accounts.remove(&held.job.event.account);
                }
            }
        }
    }

    pub(super) fn tag(&mut self, pending: Pending) -> Tag {
        self.next_tag += 1;
        self.pending.insert(self.next_tag, pending);
        self.next_tag
    }

    pub(super) fn checkpoint(&mut self, now: Now) {
        /// Checkpoints are this far apart, so that a stuck head keeps few of them.
        const APART: Duration = Duration::from_millis(200);
        if now.mono.since(self.last_checkpoint) >= APART {
            self.last_checkpoint = now.mono;
            let note = CommitNote { ledger: self.ledger_end, owner: Some(self.id), at: self.last_append };
            let from = self.frontier.seen();
            if self.checkpoints.back().is_none_or(|last| last.from < from) {
                self.checkpoints.push_back(Checkpoint { from, note });
            }
        }
    }
}
