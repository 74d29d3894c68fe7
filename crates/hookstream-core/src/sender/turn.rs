//! The turn of the shell: start, decide, follow up, commit, drain.

use super::*;

impl Owner {
    /// Does what can be done now: starts, decides, follows up, commits. To be called after the inputs of a turn and
    /// at [`Owner::next_deadline`].
    pub fn poll(&mut self, view: &View, lease: Mono, now: Now, fx: &mut Vec<Effect>) {
        let leased = now.mono < lease || on(Mutant::NoLease);
        match self.phase {
            Phase::Assigned => {
                // An owner record voids what others decide: only who holds the partition may write one.
                if leased {
                    self.phase = Phase::Claiming;
                    let tag = self.tag(Pending::Owner);
                    fx.push(Effect::Append { tag, entry: Entry::Owner(self.id), attempt_of: None });
                }
                return;
            }
            Phase::Claiming | Phase::Reading { .. } | Phase::Drained => return,
            Phase::Running => {
                self.catch_up(view, now);
                if leased {
                    self.dispatch(view, now, fx);
                }
                self.shed(now);
            }
            Phase::Draining { cut_at, cut } => {
                if !cut && now.mono >= cut_at {
                    self.phase = Phase::Draining { cut_at, cut: true };
                    self.cut(fx);
                }
            }
        }
        self.decide(fx);
        if leased {
            self.follow_up(view, now, fx);
        }
        self.commit(now, fx);
        if matches!(self.phase, Phase::Draining { .. }) && self.is_settled() {
            self.phase = Phase::Drained;
            self.commit_now(now, fx);
            fx.push(Effect::Drained);
        }
    }

    /// When [`Owner::poll`] has something to do even if nothing happens.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        let timer = self.timers.first_key_value().map(|(at, _)| *at);
        let commit =
            (self.frontier.base() > self.committed).then(|| self.last_commit + self.rules.commit_every);
        let cut = match self.phase {
            Phase::Draining { cut_at, cut: false } => Some(cut_at),
            Phase::Assigned
            | Phase::Claiming
            | Phase::Reading { .. }
            | Phase::Running
            | Phase::Draining { .. }
            | Phase::Drained => None,
        };
        let shed = (self.phase == Phase::Running
            && self.is_crowded()
            && self.lanes.values().any(|lane| lane.queued() > 0))
        .then_some(self.next_shed);
        [timer, commit, cut, shed].into_iter().flatten().min()
    }

    /// The partition is wanted elsewhere: nothing new starts, and what is under way ends by `by`.
    pub fn drain(&mut self, by: Mono, fx: &mut Vec<Effect>) {
        match self.phase {
            Phase::Assigned | Phase::Reading { .. } => {
                self.phase = Phase::Drained;
                fx.push(Effect::Drained);
            }
            // The owner record is under way: landing after the next owner's it would void that one's decisions, so
            // the partition is not let go before it has landed.
            Phase::Claiming | Phase::Running => {
                let margin = u64::try_from(DRAIN_MARGIN.as_micros()).unwrap_or(0);
                self.phase = Phase::Draining { cut_at: Mono(by.0.saturating_sub(margin)), cut: false };
                // Who has not started stays where it is: the next owner reads it again.
                let queued: Vec<Offset> = self
                    .held
                    .iter()
                    .filter(|(_, held)| held.stage == Stage::Queued)
                    .map(|(offset, _)| *offset)
                    .collect();
                for offset in queued {
                    self.release(offset);
                }
                self.ahead.clear();
                self.timers.clear();
                self.blocked.clear();
                self.runnable.clear();
            }
            Phase::Draining { .. } | Phase::Drained => {}
        }
    }

    pub(super) fn is_settled(&self) -> bool {
        self.undecided.is_empty()
            && self.to_follow.is_empty()
            && self.pending.is_empty()
            && self.held.values().all(|held| held.stage == Stage::Queued)
    }

    pub(super) fn cut(&mut self, fx: &mut Vec<Effect>) {
        let mut offsets: Vec<Offset> = self
            .held
            .iter()
            .filter(|(_, held)| held.stage == Stage::Requesting)
            .map(|(offset, _)| *offset)
            .collect();
        offsets.sort_unstable();
        fx.extend(offsets.into_iter().map(|offset| Effect::Cut { offset }));
    }

    /// Jobs that waited for the view, now that it may be there.
    pub(super) fn catch_up(&mut self, view: &View, now: Now) {
        while let Some(offset) = self.ahead.front().copied() {
            let Some(held) = self.held.get(&offset) else {
                self.ahead.pop_front();
                continue;
            };
            if !view.reaches(held.job.state.config) {
                break;
            }
            self.ahead.pop_front();
            self.admit(offset, view, now);
        }
    }

    pub(super) fn dispatch(&mut self, view: &View, now: Now, fx: &mut Vec<Effect>) {
        while let Some(entry) = self.timers.first_entry().filter(|entry| *entry.key() <= now.mono) {
            self.runnable.extend(entry.remove());
        }
        while let Some(id) = self.runnable.pop_front() {
            while let Some(lane) = self.lanes.get_mut(&id) {
                match lane.turn(now.mono) {
                    Turn::Later => {
                        if lane.is_idle(now.mono) && self.lanes.len() > MAX_IDLE_LANES {
                            self.lanes.remove(&id);
                        }
                        break;
                    }
                    Turn::At(at) => {
                        let waiting = self.timers.entry(at).or_default();
                        if !waiting.contains(&id) {
                            waiting.push(id);
                        }
                        break;
                    }
                    Turn::Shut => {
                        if let Some(offset) = lane.pop() {
                            self.admit(offset, view, now);
                        }
                    }
                    Turn::Start(offset) => {
                        if !self.start_request(offset, id, view, now, fx) {
                            self.blocked.insert(id);
                            break;
                        }
                    }
                }
            }
        }
    }

    /// State, URL and secret are those of this moment. Returns whether the account may have this request.
    pub(super) fn start_request(
        &mut self,
        offset: Offset,
        id: WebhookId,
        view: &View,
        now: Now,
        fx: &mut Vec<Effect>,
    ) -> bool {
        let limit = self.account_limit();
        let Some(lane) = self.lanes.get_mut(&id) else { return true };
        let Some(held) = self.held.get_mut(&offset) else {
            lane.pop();
            return true;
        };
        match eligibility(view, &held.job, now.broker) {
            Ok(webhook) => {
                let share = self.accounts.entry(held.job.event.account).or_default();
                if share.requests >= limit {
                    share.full_since.get_or_insert(now.mono);
                    return false;
                }
                share.requests += 1;
                lane.on_start(now.mono);
                held.stage = Stage::Requesting;
                held.job.state.first_attempt_at.get_or_insert(now.wall);
                fx.push(Effect::Start { offset, webhook: Arc::clone(webhook) });
            }
            Err(Ineligible::Skip(reason)) => {
                lane.pop();
                self.skip(offset, reason);
            }
            Err(Ineligible::Hold) => {
                lane.pop();
                let deferred = held.job.state.deferred_ms;
                self.defer_held(offset, Duration::from_millis(deferred), now);
            }
        }
        true
    }

    /// Deferrals and skips of this turn, many to a record.
    pub(super) fn decide(&mut self, fx: &mut Vec<Effect>) {
        while !self.undecided.is_empty() {
            let mut text = 0;
            let fit = self.undecided.iter().take(MAX_DECISIONS).take_while(|decision| {
                text += decision.about.as_ref().map_or(0, |about| about.event_type.len());
                text <= MAX_DECISIONS_TEXT
            });
            // One alone always fits: an event's attributes are smaller than that.
            let fit = fit.count().max(1);
            let rest = self.undecided.split_off(fit);
            let decisions = std::mem::replace(&mut self.undecided, rest);
            self.append(decisions, None, fx);
        }
    }

    /// What follows from decisions that are durable.
    pub(super) fn follow_up(&mut self, view: &View, now: Now, fx: &mut Vec<Effect>) {
        let mut bundles: BTreeMap<WebhookId, (Vec<(Offset, Job)>, usize)> = BTreeMap::new();
        while let Some((decision, place)) = self.to_follow.pop_front() {
            let offset = decision.offset;
            let Some(held) = self.held.get_mut(&offset) else { continue };
            held.stage = Stage::Following { left: 1 };
            match decision.verdict {
                Verdict::Delivered | Verdict::Skipped { .. } => {}
                Verdict::Retry { due } | Verdict::Deferred { due, .. } => {
                    let deferral = matches!(decision.verdict, Verdict::Deferred { .. });
                    let job = next_turn(&held.job, decision.generation, due, deferral, place, view.offset);
                    let (bundle, bytes) = bundles.entry(job.state.webhook).or_default();
                    *bytes += job.size();
                    bundle.push((offset, job));
                    if bundle.len() >= MAX_BUNDLE || *bytes >= MAX_BUNDLE_BYTES {
                        let bundle = std::mem::take(bundle);
                        *bytes = 0;
                        self.put_off(bundle, now, fx);
                    }
                }
                Verdict::Dead { reason } => {
                    let job = Box::new(held.job.clone());
                    let webhook = view.webhook(job.state.webhook).cloned();
                    let tag = self.tag(Pending::FollowUp(vec![offset]));
                    fx.push(Effect::Bury { tag, job, reason });
                    if reason == DeadReason::Gone
                        && let Some(webhook) = webhook
                    {
                        if let Some(held) = self.held.get_mut(&offset) {
                            held.stage = Stage::Following { left: 2 };
                        }
                        let tag = self.tag(Pending::FollowUp(vec![offset]));
                        fx.push(Effect::Disable { tag, webhook, reason });
                    }
                }
            }
        }
        for (bundle, _) in bundles.into_values() {
            self.put_off(bundle, now, fx);
        }
    }

    pub(super) fn put_off(&mut self, bundle: Vec<(Offset, Job)>, now: Now, fx: &mut Vec<Effect>) {
        let Some(due) = bundle.iter().filter_map(|(_, job)| job.state.due).min() else { return };
        // A due time that has come meanwhile (a repeated follow-up) still passes through the shortest rung.
        let rung = self.rules.ladder.longest_within(now.broker.until(due)).unwrap_or(0);
        let (offsets, jobs) = bundle.into_iter().unzip();
        let tag = self.tag(Pending::FollowUp(offsets));
        fx.push(Effect::PutOff { tag, rung, jobs });
    }

    pub(super) fn commit(&mut self, now: Now, fx: &mut Vec<Effect>) {
        if now.mono.since(self.last_commit) >= self.rules.commit_every {
            self.commit_now(now, fx);
        }
    }

    pub(super) fn commit_now(&mut self, now: Now, fx: &mut Vec<Effect>) {
        let mut base = self.frontier.base();
        if on(Mutant::CommitEarly) {
            base = self.frontier.seen();
        }
        if base <= self.committed {
            return;
        }
        while self.checkpoints.get(1).is_some_and(|next| next.from <= base) {
            self.checkpoints.pop_front();
        }
        let Some(checkpoint) = self.checkpoints.front() else { return };
        let note = checkpoint.note;
        self.committed = base;
        self.last_commit = now.mono;
        fx.push(Effect::Commit { base, note });
    }
}
