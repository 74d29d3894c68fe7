//! An endpoint that fails again and again is left alone, but for one probe now and then.

use std::time::Duration;

use hookstream_types::Mono;
use hookstream_types::limits::MAX_PROBE_INTERVAL;

/// Failures in a row that open the breaker.
const OPENS_AFTER: u32 = 10;

/// Whether requests may go to an endpoint.
#[derive(Clone, Debug)]
pub struct Breaker {
    first_interval: Duration,
    failures: u32,
    open: Option<Open>,
}

#[derive(Clone, Debug)]
struct Open {
    interval: Duration,
    next_probe: Mono,
    probing: bool,
}

/// What the breaker says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    Free,
    /// This one request may go, and its outcome decides.
    Probe,
    /// Not before this time.
    Closed {
        until: Mono,
    },
}

impl Breaker {
    /// A breaker that, once open, lets the first probe through after `first_interval`.
    #[must_use]
    pub fn new(first_interval: Duration) -> Self {
        Self { first_interval, failures: 0, open: None }
    }

    /// Whether a request may start now. Starting it is to be told by [`Breaker::on_start`].
    #[must_use]
    pub fn passage(&self, now: Mono) -> Passage {
        match &self.open {
            None => Passage::Free,
            Some(open) if !open.probing && open.next_probe <= now => Passage::Probe,
            Some(open) if open.probing => {
                Passage::Closed { until: (now + open.interval).max(open.next_probe) }
            }
            Some(open) => Passage::Closed { until: open.next_probe },
        }
    }

    /// A request has started.
    pub fn on_start(&mut self) {
        if let Some(open) = &mut self.open {
            open.probing = true;
        }
    }

    /// The endpoint answered, whatever it thinks of the request.
    pub fn on_success(&mut self) {
        self.failures = 0;
        self.open = None;
    }

    /// The endpoint failed. Returns whether the breaker opened with this.
    pub fn on_failure(&mut self, now: Mono) -> bool {
        self.failures = self.failures.saturating_add(1);
        match &mut self.open {
            // Requests that were under way when it opened say nothing new.
            Some(open) if !open.probing => false,
            Some(open) => {
                open.interval = (open.interval * 2).min(MAX_PROBE_INTERVAL);
                open.next_probe = now + open.interval;
                open.probing = false;
                false
            }
            None if self.failures >= OPENS_AFTER => {
                let interval = self.first_interval.min(MAX_PROBE_INTERVAL);
                self.open = Some(Open { interval, next_probe: now + interval, probing: false });
                true
            }
            None => false,
        }
    }

    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Nothing is known against the endpoint.
    #[must_use]
    pub fn is_pristine(&self) -> bool {
        self.failures == 0 && self.open.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn probes_at_doubling_intervals_up_to_ten_minutes() {
        let mut breaker = Breaker::new(Duration::from_secs(5));
        let mut now = Mono(0);
        for _ in 0..OPENS_AFTER {
            assert_eq!(breaker.passage(now), Passage::Free);
            breaker.on_failure(now);
        }
        let mut waits = Vec::new();
        for _ in 0..9 {
            let Passage::Closed { until } = breaker.passage(now) else { panic!("open") };
            waits.push(until.since(now).as_secs());
            now = until;
            assert_eq!(breaker.passage(now), Passage::Probe);
            breaker.on_start();
            assert!(matches!(breaker.passage(now), Passage::Closed { .. }), "one probe at a time");
            breaker.on_failure(now);
        }
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 320, 600, 600]);
        now = Mono(now.0 + 600 * SECOND);
        assert_eq!(breaker.passage(now), Passage::Probe);
        breaker.on_start();
        breaker.on_success();
        assert_eq!(breaker.passage(now), Passage::Free);
    }

    #[test]
    fn stragglers_do_not_double_the_interval() {
        let mut breaker = Breaker::new(Duration::from_secs(5));
        for _ in 0..100 {
            breaker.on_failure(Mono(0));
        }
        assert_eq!(breaker.passage(Mono(0)), Passage::Closed { until: Mono(5 * SECOND) });
    }
}
