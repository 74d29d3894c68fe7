//! When to try again: the webhook's schedule, `Retry-After`, and additive jitter.

use std::time::Duration;

use hookstream_types::limits::MAX_RETRY_AFTER;
use serde::{Deserialize, Serialize};

/// Delays before each attempt, the first included (normally 0).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RetrySchedule {
    /// Milliseconds.
    delays: Vec<u64>,
}

const MINUTE: u64 = 60 * 1000;
const HOUR: u64 = 60 * MINUTE;

impl Default for RetrySchedule {
    /// Ten attempts over 75 h 35 m.
    fn default() -> Self {
        Self {
            delays: vec![
                0,
                5_000,
                5 * MINUTE,
                30 * MINUTE,
                2 * HOUR,
                5 * HOUR,
                10 * HOUR,
                14 * HOUR,
                20 * HOUR,
                24 * HOUR,
            ],
        }
    }
}

/// Part of a delay that jitter may add: 10 %.
const JITTER_PERCENT: u32 = 10;

impl RetrySchedule {
    /// A schedule of these delays.
    #[must_use]
    pub fn new(delays: impl IntoIterator<Item = Duration>) -> Self {
        Self {
            delays: delays.into_iter().map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)).collect(),
        }
    }

    /// How many attempts there are at most.
    #[must_use]
    pub fn attempts(&self) -> usize {
        self.delays.len()
    }

    /// From the first attempt to the last, without jitter.
    #[must_use]
    pub fn total(&self) -> Duration {
        Duration::from_millis(self.delays.iter().fold(0, |sum: u64, delay| sum.saturating_add(*delay)))
    }

    /// The delay after `attempts` attempts; none when the schedule has ended.
    ///
    /// `jitter` lies between 0 and 1 and only adds, so that no attempt is early. `retry_after` can lengthen
    /// the delay, up to 24 h, and never shortens it.
    #[must_use]
    pub fn delay_after(&self, attempts: u32, retry_after: Option<Duration>, jitter: f64) -> Option<Duration> {
        let planned = Duration::from_millis(*self.delays.get(usize::try_from(attempts).ok()?)?);
        let asked = retry_after.unwrap_or_default().min(MAX_RETRY_AFTER);
        let jittered = |delay: Duration| delay + delay.mul_f64(jitter.clamp(0.0, 1.0)) * JITTER_PERCENT / 100;
        // The bound is one for what comes of it, jitter included; a schedule's own delays may be longer.
        Some(jittered(planned).max(jittered(asked).min(MAX_RETRY_AFTER)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_ten_attempts_over_75_h_35_m() {
        let schedule = RetrySchedule::default();
        assert_eq!(schedule.attempts(), 10);
        // 5 s stand beside the 75 h 35 m.
        assert_eq!(schedule.total(), Duration::from_secs(75 * 3600 + 35 * 60 + 5));
        assert_eq!(schedule.delay_after(1, None, 0.0), Some(Duration::from_secs(5)));
        assert_eq!(schedule.delay_after(10, None, 0.0), None);
    }

    #[test]
    fn retry_after_lengthens_and_is_clamped() {
        let schedule = RetrySchedule::default();
        let after = |secs| schedule.delay_after(1, Some(Duration::from_secs(secs)), 0.0).unwrap();
        assert_eq!(after(1), Duration::from_secs(5));
        assert_eq!(after(60), Duration::from_secs(60));
        assert_eq!(after(u64::MAX), MAX_RETRY_AFTER);
    }

    #[test]
    fn no_jitter_leads_beyond_what_retry_after_may_ask_for() {
        let schedule = RetrySchedule::new([Duration::ZERO, Duration::from_secs(5), 3 * MAX_RETRY_AFTER]);
        let after = |attempts, asked, jitter| schedule.delay_after(attempts, Some(asked), jitter).unwrap();
        assert_eq!(after(1, Duration::MAX, 1.0), MAX_RETRY_AFTER);
        assert_eq!(after(1, MAX_RETRY_AFTER - Duration::from_secs(60), 1.0), MAX_RETRY_AFTER);
        assert_eq!(after(1, Duration::from_secs(60), 1.0), Duration::from_secs(66));
        // The webhook's own schedule is its own affair.
        assert_eq!(after(2, Duration::MAX, 1.0), MAX_RETRY_AFTER.mul_f64(3.3));
    }

    #[test]
    fn jitter_only_adds() {
        let schedule = RetrySchedule::default();
        assert_eq!(schedule.delay_after(1, None, 1.0), Some(Duration::from_millis(5_500)));
    }
}
