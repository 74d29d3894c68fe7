//! Inputs from the endpoint, and what is decided about a job.

use super::*;

impl Owner {
    /// What came of the request for the job at `offset`. `jitter` lies between 0 and 1.
    pub fn on_exchange(
        &mut self,
        offset: Offset,
        end: &End,
        view: &View,
        now: Now,
        jitter: f64,
        fx: &mut Vec<Effect>,
    ) {
        let End { outcome, signal, .. } = *end;
        let Some(held) = self.held.get_mut(&offset) else { return };
        if held.stage != Stage::Requesting {
            return;
        }
        held.stage = Stage::Deciding;
        held.job.state.attempts = held.job.state.attempts.saturating_add(1);
        held.job.state.last_attempt_at = Some(now.wall);
        held.job.state.last_status = end.status;
        held.job.state.last_failure = end.failure.map(|kind| kind.label().to_owned());
        let state = held.job.state.clone();
        if let Some(share) = self.accounts.get_mut(&held.job.event.account) {
            share.requests = share.requests.saturating_sub(1);
            if share.full_since.take().is_some() {
                self.runnable.extend(std::mem::take(&mut self.blocked));
            }
        }
        if let Some(lane) = self.lanes.get_mut(&state.webhook) {
            if lane.on_end(signal, now.mono) {
                fx.push(Effect::Observed(Observed::BreakerOpened));
            }
            self.runnable.push_back(state.webhook);
        }
        let verdict = match outcome {
            Outcome::Delivered => Verdict::Delivered,
            Outcome::GiveUp(reason) => Verdict::Dead { reason },
            Outcome::Retry { after, .. } => {
                let delay = view
                    .webhook(state.webhook)
                    .map_or(Some(Duration::ZERO), |w| w.retry.delay_after(state.attempts, after, jitter));
                match delay {
                    Some(delay) => {
                        Verdict::Retry { due: now.broker + delay.max(self.rules.ladder.shortest()) }
                    }
                    None => Verdict::Dead { reason: DeadReason::Exhausted },
                }
            }
        };
        let decision =
            Decision { offset, delivery: state.delivery, generation: state.generation, about: None, verdict };
        self.append(vec![decision], Some(offset), fx);
    }

    pub(super) fn append(
        &mut self,
        decisions: Vec<Decision>,
        attempt_of: Option<Offset>,
        fx: &mut Vec<Effect>,
    ) {
        if on(Mutant::FollowUpBeforeDecision) {
            let place = DecidedAt { owner: self.owner_at, decision: self.ledger_end };
            for decision in decisions.clone() {
                self.follow(decision, place);
            }
            let tag = self.tag(Pending::Decisions(Vec::new()));
            fx.push(Effect::Append {
                tag,
                entry: Entry::Decisions { owner: self.id, decisions },
                attempt_of,
            });
            return;
        }
        let tag = self.tag(Pending::Decisions(decisions.clone()));
        fx.push(Effect::Append { tag, entry: Entry::Decisions { owner: self.id, decisions }, attempt_of });
    }

    /// How long this account's jobs may wait in memory now.
    pub(super) fn patience(&self, account: AccountUid, now: Mono) -> Patience {
        if !self.is_crowded() {
            return Patience::Ample;
        }
        if self.accounts.get(&account).is_some_and(|share| share.is_stuck(now)) {
            return Patience::Spent;
        }
        if now < self.others_until { Patience::Short } else { Patience::Ample }
    }

    /// Puts those off who would wait too long: admitted when there was room, or when their endpoint was faster.
    pub(super) fn shed(&mut self, now: Now) {
        if now.mono < self.next_shed || !self.is_crowded() {
            return;
        }
        self.next_shed = now.mono + SHED_EVERY;
        let rules = self.rules.defer(self.endpoint_share);
        let mut shed = Vec::new();
        for (id, lane) in &self.lanes {
            let Some(head) = lane.head().and_then(|offset| self.held.get(&offset)) else { continue };
            shed.push((*id, self.patience(head.job.event.account, now.mono)));
        }
        for (id, patience) in shed {
            while let Some((offset, Admission::Deferred { after, reason })) =
                self.lanes.get_mut(&id).and_then(|lane| lane.shed(patience, &rules, now.mono))
            {
                self.defer(offset, after, reason, now);
            }
        }
    }

    pub(super) fn admit(&mut self, offset: Offset, view: &View, now: Now) {
        let Some(held) = self.held.get(&offset) else { return };
        let state = &held.job.state;
        let id = state.webhook;
        let deferred = Duration::from_millis(state.deferred_ms);
        let webhook = match eligibility(view, &held.job, now.broker) {
            Ok(webhook) => webhook,
            Err(Ineligible::Skip(reason)) => return self.skip(offset, reason),
            Err(Ineligible::Hold) => return self.defer_held(offset, deferred, now),
        };
        let patience = self.patience(held.job.event.account, now.mono);
        let idle = self.lanes.get(&id).is_none_or(|lane| lane.queued() == 0 && lane.in_flight() == 0);
        if idle && self.is_crowded() {
            self.others_until = now.mono + OTHERS_FOR;
        }
        let allowance = Allowance { concurrency: webhook.concurrency, rate: webhook.rate };
        let shortest = self.rules.ladder.shortest();
        let lane = self.lanes.entry(id).or_insert_with(|| Lane::new(allowance, shortest, now.mono));
        lane.allow(allowance);
        match lane.admit(offset, deferred, patience, &self.rules.defer(self.endpoint_share), now.mono) {
            Admission::Queued => self.runnable.push_back(id),
            Admission::Deferred { after, reason } => self.defer(offset, after, reason, now),
        }
    }

    pub(super) fn defer_held(&mut self, offset: Offset, deferred: Duration, now: Now) {
        /// A paused webhook's jobs come by at least this often, so that resuming takes effect soon.
        const LONGEST_PAUSE: Duration = Duration::from_secs(600);
        let shortest = self.rules.ladder.shortest();
        let after = (deferred * 2).min(LONGEST_PAUSE).max(shortest);
        self.defer(offset, after, DeferReason::Paused, now);
    }

    pub(super) fn defer(&mut self, offset: Offset, after: Duration, reason: DeferReason, now: Now) {
        let Some(held) = self.held.get_mut(&offset) else { return };
        held.stage = Stage::Deciding;
        held.job.state.deferred_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        let state = &held.job.state;
        let verdict = Verdict::Deferred { due: now.broker + after, reason };
        let decision =
            Decision { offset, delivery: state.delivery, generation: state.generation, about: None, verdict };
        self.undecided.push(decision);
    }

    pub(super) fn skip(&mut self, offset: Offset, reason: SkipReason) {
        let Some(held) = self.held.get_mut(&offset) else { return };
        held.stage = Stage::Deciding;
        let (state, event) = (&held.job.state, &held.job.event);
        let about = About {
            webhook: state.webhook,
            account: event.account,
            event: event.event,
            event_type: Arc::from(&*event.event_type),
        };
        let decision = Decision {
            offset,
            delivery: state.delivery,
            generation: state.generation,
            about: Some(Box::new(about)),
            verdict: Verdict::Skipped { reason },
        };
        self.undecided.push(decision);
    }
}
