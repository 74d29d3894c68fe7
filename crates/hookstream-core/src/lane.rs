//! One webhook's lane through its partition: how many requests at a time, how often, and who has to come back later.
//!
//! A lane never holds its partition: what finds no room here is put off to the retry ladder, with a slot reserved,
//! so that it comes back when the endpoint can be expected to take it.

use std::collections::VecDeque;
use std::time::Duration;

use hookstream_types::limits::MAX_PROBE_INTERVAL;
use hookstream_types::{Mono, Offset};

use crate::breaker::{Breaker, Passage};
use crate::decision::DeferReason;

/// Requests at a time that a lane starts with, before anything is known of the endpoint.
const FIRST_LIMIT: f64 = 8.0;
/// What push-back leaves of the limit.
const BACK_OFF: f64 = 0.7;
/// Jobs that may wait in memory however slow the endpoint is, unless the partition is crowded.
const MIN_QUEUE: usize = 16;
/// How much longer than others who was put off before may wait in memory.
const RETURNING_PATIENCE: u32 = 3;
/// One overload is one signal: the limit shrinks at most this often.
const DECREASE_APART: Duration = Duration::from_secs(1);
/// Before anything is known of an endpoint, it is taken to have served the first limit's requests in this many
/// seconds each.
const UNKNOWN_SERVICE: f64 = 0.005;
/// Slots per second that are reserved at an endpoint that is down: each that comes while it still is costs a record
/// and leads to another deferral, so a great backlog is spread over hours.
const PACE_WHEN_DOWN: f64 = 150.0;
/// Who comes within this time after a probe is due is its probe.
const CALLERS_APART: Duration = Duration::from_secs(5);
/// A rate's burst: what may go out at once after a pause.
const BURST: Duration = Duration::from_millis(100);
/// Requests that the estimate of their time remembers: at twice as many all are halved.
const REMEMBERED: f64 = 64.0;

/// How long a job may wait in memory for its turn. If that comes later, the ladder is the better place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// There is room.
    Ample,
    /// The partition is nearly full, and others come: who waits long here makes them wait.
    Short,
    /// And the account's share of requests is taken up by endpoints that don't answer.
    Spent,
}

/// What a webhook allows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Allowance {
    pub concurrency: u32,
    /// Requests per second; none: no bound.
    pub rate: Option<f64>,
}

/// The lane of one webhook.
#[derive(Clone, Debug)]
pub struct Lane {
    allowance: Allowance,
    breaker: Breaker,
    queue: VecDeque<Offset>,
    in_flight: u32,
    /// Learned number of requests at a time (additive increase, multiplicative decrease).
    limit: f64,
    /// No second decrease before this time: one overload is one signal.
    next_decrease: Mono,
    /// Earliest start of the next request at the configured rate (generic cell rate algorithm).
    next_start: Mono,
    /// The first slot that nobody has reserved.
    next_free: Mono,
    /// When somebody comes who can be a probe, in order. At least [`CALLERS_APART`] apart up to the next probe,
    /// and [`MAX_PROBE_INTERVAL`] from there to the longest slot, so they are some hundreds at most.
    callers: VecDeque<Mono>,
    service: ServiceTime,
}

/// Where a job goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It waits here; its turn comes soon.
    Queued,
    /// It is to come back after this delay.
    Deferred { after: Duration, reason: DeferReason },
}

/// Whether the next queued job may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Start(Offset),
    /// At this time, by the configured rate.
    At(Mono),
    /// When a request ends, or nothing is queued.
    Later,
    /// The breaker is open: what is queued is to be deferred.
    Shut,
}

/// What a request's end says about the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// It works.
    Good,
    /// It answers, but not well (4xx).
    Neutral,
    /// It fails (5xx, no connection).
    Failing,
    /// It asks for less (429, 503) or is too slow.
    PushBack,
}

impl Lane {
    #[must_use]
    pub fn new(allowance: Allowance, shortest_rung: Duration, now: Mono) -> Self {
        Self {
            allowance,
            breaker: Breaker::new(shortest_rung),
            queue: VecDeque::new(),
            in_flight: 0,
            limit: FIRST_LIMIT.min(f64::from(allowance.concurrency.max(1))),
            next_decrease: now,
            next_start: now,
            next_free: now,
            callers: VecDeque::new(),
            service: ServiceTime::new(now),
        }
    }

    /// The webhook was changed.
    pub fn allow(&mut self, allowance: Allowance) {
        self.allowance = allowance;
        self.limit = self.limit.min(f64::from(allowance.concurrency.max(1)));
    }

    /// Takes a job in, or tells it when to come back.
    ///
    /// `deferred` is the job's last deferral: coming back too early at least doubles it.
    pub fn admit(
        &mut self,
        job: Offset,
        deferred: Duration,
        patience: Patience,
        rules: &DeferRules,
        now: Mono,
    ) -> Admission {
        let reason = match self.breaker.passage(now) {
            Passage::Closed { until } => {
                return self.defer(DeferReason::BreakerOpen, until, deferred, rules, now);
            }
            Passage::Probe if !self.queue.is_empty() => {
                let until = now + rules.shortest;
                return self.defer(DeferReason::BreakerOpen, until, deferred, rules, now);
            }
            Passage::Probe => None,
            Passage::Free => self.too_long(patience, !deferred.is_zero(), rules, now),
        };
        match reason {
            None => {
                self.queue.push_back(job);
                Admission::Queued
            }
            Some(reason) => self.defer(reason, now, deferred, rules, now),
        }
    }

    /// Why one job more would wait too long here, if it would. Who has been put off before may wait longer than who
    /// comes for the first time: else those who come would take the slots that were reserved.
    fn too_long(
        &self,
        patience: Patience,
        returning: bool,
        rules: &DeferRules,
        now: Mono,
    ) -> Option<DeferReason> {
        let longest = match patience {
            Patience::Ample => Duration::from_secs(1),
            Patience::Short => Duration::from_millis(100),
            Patience::Spent => return Some(DeferReason::LaneFull),
        };
        let longest = if returning { longest * RETURNING_PATIENCE } else { longest };
        let by_rate = self.allowance.rate.map_or(Duration::ZERO, |rate| {
            (self.next_start + Duration::from_secs_f64(self.queue.len() as f64 / rate.max(MIN_RATE)))
                .since(now)
        });
        if by_rate > longest {
            return Some(DeferReason::OverRate);
        }
        if patience == Patience::Ample && self.queue.len() < MIN_QUEUE {
            return None;
        }
        // Its turn comes when all those ahead that are over the limit have been served.
        let ahead = (self.queue.len() + self.in_flight as usize) as f64 + 1.0 - self.limit.max(1.0);
        let by_limit = ahead.max(0.0) / self.learned_rate(rules.endpoint_share, now);
        (by_limit > longest.as_secs_f64()).then_some(DeferReason::LaneFull)
    }

    /// Takes out the last job in the queue if its turn is not near any more.
    pub fn shed(&mut self, patience: Patience, rules: &DeferRules, now: Mono) -> Option<(Offset, Admission)> {
        let reason = self.too_long(patience, true, rules, now)?;
        let job = self.queue.pop_back()?;
        // It has waited here, so it has not come back too early.
        Some((job, self.defer(reason, now, Duration::ZERO, rules, now)))
    }

    /// The job that waits longest.
    #[must_use]
    pub fn head(&self) -> Option<Offset> {
        self.queue.front().copied()
    }

    /// Reserves the next slot: not before `from`, and one delivery's time after the slot before.
    fn defer(
        &mut self,
        reason: DeferReason,
        from: Mono,
        deferred: Duration,
        rules: &DeferRules,
        now: Mono,
    ) -> Admission {
        let doubled = (deferred * 2).min(rules.longest_again);
        let earliest = from.max(now + rules.shortest);
        let slot = self.next_free.max(earliest).max(now + doubled);
        let slot = slot.min(now + rules.longest);
        let down = reason == DeferReason::BreakerOpen;
        if down && let Some(call) = self.call(earliest, slot, now) {
            return Admission::Deferred { after: call.since(now), reason };
        }
        let rate = self.expected_rate(now);
        let rate = if down { rate.min(PACE_WHEN_DOWN) } else { rate };
        self.next_free = slot + Duration::from_secs_f64(1.0 / rate);
        Admission::Deferred { after: slot.since(now), reason }
    }

    /// When a job that would come at `slot` is to come instead, so that a probe is never wanting for long: at the
    /// next one, and at least every [`MAX_PROBE_INTERVAL`] after it.
    fn call(&mut self, earliest: Mono, slot: Mono, now: Mono) -> Option<Mono> {
        while self.callers.front().is_some_and(|call| *call <= now) {
            self.callers.pop_front();
        }
        // A caller that comes soon after is as good.
        if self.callers.front().is_none_or(|first| *first > earliest + CALLERS_APART) {
            self.callers.push_front(earliest);
            return Some(earliest);
        }
        let call = *self.callers.back()? + MAX_PROBE_INTERVAL;
        if call > slot {
            return None;
        }
        self.callers.push_back(call);
        Some(call)
    }

    /// Deliveries per second to be expected: what is allowed, else what the endpoint can take.
    fn expected_rate(&self, now: Mono) -> f64 {
        // Busy as we may be, more than this does not go out.
        self.allowance.rate.map_or_else(|| self.learned_rate(1.0, now), |rate| rate.max(MIN_RATE))
    }

    /// Deliveries per second that the endpoint can take.
    ///
    /// What it took lately says nothing when there was little to deliver, and slots reserved at that pace would keep
    /// it there: so it is what the limit and the time of one request allow.
    fn learned_rate(&self, endpoint_share: f64, now: Mono) -> f64 {
        let each = self.service.seconds_each(self.in_flight, now) * endpoint_share;
        (self.limit / each).max(MIN_RATE)
    }

    /// Whether the next queued job may start. If it is started, [`Lane::on_start`] is to be told.
    #[must_use]
    pub fn turn(&self, now: Mono) -> Turn {
        let Some(job) = self.queue.front().copied() else { return Turn::Later };
        match self.breaker.passage(now) {
            Passage::Closed { .. } => return Turn::Shut,
            Passage::Probe if self.in_flight > 0 => return Turn::Later,
            Passage::Probe | Passage::Free => {}
        }
        if f64::from(self.in_flight) + 1.0 > self.limit.max(1.0) {
            return Turn::Later;
        }
        if self.allowance.rate.is_some() && self.next_start > now {
            return Turn::At(self.next_start);
        }
        Turn::Start(job)
    }

    /// The job at the head of the queue starts.
    pub fn on_start(&mut self, now: Mono) {
        self.queue.pop_front();
        self.service.pass(self.in_flight, now);
        self.in_flight += 1;
        self.breaker.on_start();
        if let Some(rate) = self.allowance.rate {
            let interval = Duration::from_secs_f64(1.0 / rate.max(MIN_RATE));
            // After a pause at most a burst may go out at once.
            let earliest = Mono(now.0.saturating_sub(u64::try_from(BURST.as_micros()).unwrap_or(0)));
            let earliest = if interval >= BURST { now } else { earliest };
            self.next_start = self.next_start.max(earliest) + interval;
        }
    }

    /// Takes the job at the head out of the queue without starting it.
    pub fn pop(&mut self) -> Option<Offset> {
        self.queue.pop_front()
    }

    /// A request ended, or was cut. Returns whether the breaker opened with this.
    pub fn on_end(&mut self, signal: Signal, now: Mono) -> bool {
        let was_full = f64::from(self.in_flight) + 1.0 > self.limit;
        self.service.pass(self.in_flight, now);
        self.in_flight = self.in_flight.saturating_sub(1);
        match signal {
            Signal::Good | Signal::Neutral => {
                self.breaker.on_success();
                self.service.count();
                if was_full {
                    self.limit =
                        (self.limit + 1.0 / self.limit).min(f64::from(self.allowance.concurrency.max(1)));
                }
                false
            }
            Signal::Failing => self.breaker.on_failure(now),
            Signal::PushBack => {
                if self.next_decrease <= now {
                    self.limit = (self.limit * BACK_OFF).max(1.0);
                    self.next_decrease = now + DECREASE_APART;
                }
                self.breaker.on_failure(now)
            }
        }
    }

    /// Jobs waiting here.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    #[must_use]
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// Nothing would be forgotten with this lane.
    #[must_use]
    pub fn is_idle(&self, now: Mono) -> bool {
        self.queue.is_empty()
            && self.in_flight == 0
            && self.breaker.is_pristine()
            && self.next_free <= now
            && self.next_start <= now
    }
}

/// The slowest rate that is reckoned with: one a day.
const MIN_RATE: f64 = 1.0 / 86_400.0;

/// What a deferral goes by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeferRules {
    /// The shortest rung: nothing comes back sooner.
    pub shortest: Duration,
    /// The longest that doubling leads to.
    pub longest_again: Duration,
    /// The longest that a reserved slot may lie ahead.
    pub longest: Duration,
    /// The part of a request's time that is the endpoint's, from 0.1 to 1. The rest passes here, on a busy core:
    /// putting jobs off would make it busier still.
    pub endpoint_share: f64,
}

/// How long an endpoint works on one delivery, by Little's law: the time of all requests by those that were served.
#[derive(Clone, Debug)]
struct ServiceTime {
    /// Up to here the requests' time is counted.
    until: Mono,
    /// Seconds of all requests together.
    busy: f64,
    served: f64,
}

impl ServiceTime {
    fn new(now: Mono) -> Self {
        Self { until: now, busy: FIRST_LIMIT * UNKNOWN_SERVICE, served: FIRST_LIMIT }
    }

    /// Time has gone by with this many requests in flight.
    fn pass(&mut self, in_flight: u32, now: Mono) {
        self.busy += f64::from(in_flight) * now.since(self.until).as_secs_f64();
        self.until = self.until.max(now);
    }

    fn count(&mut self) {
        self.served += 1.0;
        // Halving both keeps the ratio and lets old requests fade.
        if self.served > 2.0 * REMEMBERED {
            self.served /= 2.0;
            self.busy /= 2.0;
        }
    }

    fn seconds_each(&self, in_flight: u32, now: Mono) -> f64 {
        let busy = self.busy + f64::from(in_flight) * now.since(self.until).as_secs_f64();
        // Even the fastest takes some microseconds.
        (busy / self.served).max(1e-5)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const RULES: DeferRules = DeferRules {
        shortest: Duration::from_secs(5),
        longest_again: Duration::from_secs(3600),
        longest: Duration::from_secs(86_400),
        endpoint_share: 1.0,
    };

    fn at(ms: u64) -> Mono {
        Mono(ms * 1000)
    }

    fn lane(concurrency: u32, rate: Option<f64>) -> Lane {
        Lane::new(Allowance { concurrency, rate }, Duration::from_secs(5), at(0))
    }

    fn admit(lane: &mut Lane, job: i64, now: Mono) -> Admission {
        lane.admit(Offset(job), Duration::ZERO, Patience::Ample, &RULES, now)
    }

    #[test]
    fn a_rate_is_kept_and_slots_follow_each_other() {
        let mut lane = lane(64, Some(100.0));
        let mut deferred = Vec::new();
        for job in 0..300 {
            if let Admission::Deferred { after, reason } = admit(&mut lane, job, at(0)) {
                assert_eq!(reason, DeferReason::OverRate);
                deferred.push(after.as_millis());
            }
        }
        assert_eq!(deferred.len(), 300 - 101, "what one second lets out waits");
        assert_eq!(deferred[..3], [5_000, 5_010, 5_020]);
        // Over a quarter of a second with requests that take no time, no more than the rate and one burst go out.
        let mut started = 0;
        for ms in 0..250 {
            while let Turn::Start(_) = lane.turn(at(ms)) {
                lane.on_start(at(ms));
                lane.on_end(Signal::Good, at(ms));
                started += 1;
            }
        }
        assert!((25..=35).contains(&started), "{started}");
    }

    #[test]
    fn an_endpoint_that_had_little_to_do_is_not_taken_to_be_slow() {
        let mut lane = lane(16, None);
        for second in 0..600 {
            let now = at(second * 1_000);
            assert_eq!(admit(&mut lane, 0, now), Admission::Queued);
            lane.on_start(now);
            lane.on_end(Signal::Good, at(second * 1_000 + 50));
        }
        let now = at(600_000);
        let last = (0..1_000).map(|job| admit(&mut lane, job, now)).last();
        let Some(Admission::Deferred { after, .. }) = last else { panic!("deferred") };
        // Eight at a time, 50 ms each: 160 a second.
        assert!((10..12).contains(&after.as_secs()), "{after:?}");
    }

    #[test]
    fn who_is_served_soon_stays_even_if_there_is_little_room() {
        let mut lane = lane(64, None);
        for ms in 0..1_000 {
            admit(&mut lane, 0, at(ms));
            lane.on_start(at(ms));
            lane.on_end(Signal::Good, at(ms + 1));
        }
        // Eight at a time, 1 ms each: 800 in 100 ms.
        let admitted = |lane: &mut Lane, patience| {
            (0..2_000)
                .filter(|job| {
                    lane.admit(Offset(*job), Duration::ZERO, patience, &RULES, at(1_000)) == Admission::Queued
                })
                .count()
        };
        let short = admitted(&mut lane.clone(), Patience::Short);
        assert!((790..=810).contains(&short), "{short}");
        assert_eq!(admitted(&mut lane.clone(), Patience::Ample), 2_000);
        assert_eq!(admitted(&mut lane.clone(), Patience::Spent), 0);
        let busy = DeferRules { endpoint_share: 0.5, ..RULES };
        let stays = |job: &i64| {
            lane.admit(Offset(*job), Duration::ZERO, Patience::Short, &busy, at(1_000)) == Admission::Queued
        };
        let short = (0..2_000).filter(stays).count();
        assert!((1_590..=1_610).contains(&short), "half of the time was lost here: {short}");
    }

    #[test]
    fn who_waits_for_an_endpoint_that_hangs_is_put_off() {
        let mut lane = lane(64, None);
        for job in 0..100 {
            assert_eq!(admit(&mut lane, job, at(0)), Admission::Queued);
        }
        while let Turn::Start(_) = lane.turn(at(0)) {
            lane.on_start(at(0));
        }
        assert_eq!((lane.in_flight(), lane.queued()), (8, 92));
        assert_eq!(lane.shed(Patience::Short, &RULES, at(1)), None, "nothing is known yet");
        let mut shed = Vec::new();
        while let Some((job, Admission::Deferred { reason, .. })) =
            lane.shed(Patience::Short, &RULES, at(3_000))
        {
            assert_eq!(reason, DeferReason::LaneFull);
            shed.push(job.0);
        }
        assert_eq!(shed, (8..100).rev().collect::<Vec<_>>(), "the last first");
    }

    #[test]
    fn slots_follow_what_a_slow_endpoint_takes() {
        let mut lane = lane(1, None);
        for second in 0..300 {
            admit(&mut lane, 0, at(second * 1_000));
            lane.on_start(at(second * 1_000));
            lane.on_end(Signal::Good, at(second * 1_000 + 1_000));
        }
        let last = (0..100).map(|job| admit(&mut lane, job, at(300_000))).last();
        let Some(Admission::Deferred { after, .. }) = last else { panic!("deferred") };
        assert!((80..100).contains(&after.as_secs()), "one a second: {after:?}");
    }

    #[test]
    fn concurrency_grows_with_success_and_shrinks_with_push_back() {
        let mut lane = lane(64, None);
        let mut now = 0;
        let mut job = 0;
        let mut most = 0;
        for _ in 0..6_000 {
            while admit(&mut lane, job, at(now)) == Admission::Queued && lane.queued() < 100 {
                job += 1;
            }
            while let Turn::Start(_) = lane.turn(at(now)) {
                lane.on_start(at(now));
            }
            most = most.max(lane.in_flight());
            now += 1;
            lane.on_end(Signal::Good, at(now));
        }
        assert_eq!(most, 64);
        for _ in 0..20 {
            now += 1_000;
            lane.on_end(Signal::PushBack, at(now));
            lane.breaker.on_success();
        }
        assert!(lane.limit < 2.0);
    }

    #[test]
    fn an_open_breaker_lets_one_probe_through() {
        let mut lane = lane(64, None);
        for job in 0..10 {
            assert_eq!(admit(&mut lane, job, at(0)), Admission::Queued);
            if let Turn::Start(_) = lane.turn(at(0)) {
                lane.on_start(at(0));
            }
            lane.on_end(Signal::Failing, at(0));
        }
        assert!(lane.breaker().is_open());
        while lane.pop().is_some() {}
        let Admission::Deferred { after, reason } = admit(&mut lane, 20, at(0)) else { panic!("deferred") };
        assert_eq!((after, reason), (Duration::from_secs(5), DeferReason::BreakerOpen));
        assert_eq!(admit(&mut lane, 20, at(5_000)), Admission::Queued, "the probe");
        assert!(matches!(admit(&mut lane, 21, at(5_000)), Admission::Deferred { .. }));
        assert_eq!(lane.turn(at(5_000)), Turn::Start(Offset(20)));
        lane.on_start(at(5_000));
        lane.on_end(Signal::Good, at(5_001));
        assert_eq!(admit(&mut lane, 22, at(5_002)), Admission::Queued);
    }

    #[test]
    fn coming_back_too_early_doubles_the_delay() {
        let mut lane = lane(1, None);
        for job in 0..300 {
            admit(&mut lane, job, at(0));
        }
        let returning = Duration::from_secs(40);
        let stays = |job: &i64| {
            lane.admit(Offset(*job), returning, Patience::Ample, &RULES, at(0)) == Admission::Queued
        };
        assert!(
            (300..900).filter(stays).count() >= 399,
            "who was put off before may wait three times as long"
        );
        let again = lane.admit(Offset(200), returning, Patience::Ample, &RULES, at(0));
        let Admission::Deferred { after, .. } = again else { panic!("deferred") };
        assert!(after >= Duration::from_secs(80), "{after:?}");
        let long = lane.admit(Offset(201), Duration::from_secs(7_000), Patience::Ample, &RULES, at(0));
        let Admission::Deferred { after, .. } = long else { panic!("deferred") };
        assert!(after <= Duration::from_secs(3_601), "{after:?}");
    }

    /// What became of a backlog on an endpoint that was dead for a while.
    #[derive(Debug)]
    struct Played {
        /// Deferrals per job.
        deferrals: f64,
        /// From its return to the first delivery.
        first: Duration,
        /// From its return to the last.
        last: Duration,
    }

    fn play(jobs: i64, dead: Duration) -> Played {
        const TICK: Duration = Duration::from_millis(5);
        let mut lane = lane(64, None);
        let mut coming: BTreeMap<Mono, Vec<(i64, Duration)>> = BTreeMap::new();
        for job in 0..jobs {
            // They are read at 8,000 a second.
            coming.entry(Mono(u64::try_from(job * 125).unwrap())).or_default().push((job, Duration::ZERO));
        }
        let mut delays = vec![Duration::ZERO; usize::try_from(jobs).unwrap()];
        let (mut deferrals, mut done, mut first) = (0, 0, None);
        let (mut now, mut running) = (at(0), Vec::new());
        while done < jobs {
            now = now + TICK;
            let back = at(0) + dead;
            for job in std::mem::take(&mut running) {
                if now < back {
                    lane.on_end(Signal::Failing, now);
                    // This was an attempt: it comes again by the retry schedule.
                    coming.entry(now + Duration::from_secs(30)).or_default().push((job, Duration::ZERO));
                } else {
                    lane.on_end(Signal::Good, now);
                    done += 1;
                    first.get_or_insert_with(|| now.since(back));
                }
            }
            let mut arrived = Vec::new();
            while let Some(entry) = coming.first_entry().filter(|entry| *entry.key() <= now) {
                arrived.extend(entry.remove());
            }
            loop {
                for (job, delay) in arrived.drain(..) {
                    delays[usize::try_from(job).unwrap()] = delay;
                    let admitted = lane.admit(Offset(job), delay, Patience::Ample, &RULES, now);
                    if let Admission::Deferred { after, .. } = admitted {
                        deferrals += 1;
                        coming.entry(now + after).or_default().push((job, after));
                    }
                }
                match lane.turn(now) {
                    Turn::Start(job) => {
                        lane.on_start(now);
                        running.push(job.0);
                    }
                    Turn::Shut => {
                        let job = lane.pop().unwrap().0;
                        arrived.push((job, delays[usize::try_from(job).unwrap()]));
                    }
                    Turn::At(_) | Turn::Later => break,
                }
            }
        }
        let last = now.since(at(0)).saturating_sub(dead);
        Played { deferrals: f64::from(deferrals) / jobs as f64, first: first.unwrap(), last }
    }

    #[test]
    fn a_backlog_of_a_dead_endpoint_costs_little_and_is_not_forgotten() {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        for (jobs, dead, most_deferrals, last) in [
            (1_000_000, minutes(60), 1.7, minutes(180)),
            (20_000, minutes(1), 1.6, minutes(4)),
            (100, minutes(1), 4.0, minutes(1)),
            (100, minutes(60), 20.0, minutes(60)),
            (1, minutes(180), 24.0, MAX_PROBE_INTERVAL),
        ] {
            let played = play(jobs, dead);
            let what = format!("{jobs} jobs, dead for {dead:?}: {played:?}");
            assert!(played.deferrals <= most_deferrals, "{what}");
            assert!(played.first <= MAX_PROBE_INTERVAL + RULES.shortest, "{what}");
            assert!(played.last <= last, "{what}");
        }
    }
}
