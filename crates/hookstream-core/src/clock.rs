//! The broker's clock, estimated from below.
//!
//! A record that the broker stamped with `T` was seen here no earlier than the broker's clock showed `T`. So `T`
//! plus what has passed here since is never ahead of the broker's clock (as far as both run at one speed), and
//! what is not due by it is not due. Machines' own wall clocks, which differ and jump, play no part.

use std::sync::Mutex;
use std::time::Duration;

use hookstream_types::{Mono, UnixMillis};

/// A sample counts for one to two of these: a broker's clock that was set back is noticed after that.
const WINDOW: Duration = Duration::from_secs(30);

/// Shared by all threads of a process.
#[derive(Debug, Default)]
pub struct BrokerClock {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Best differences between the broker's clock and ours: of this window, and of the one before.
    current: Option<i64>,
    previous: Option<i64>,
    window_began: Mono,
}

impl BrokerClock {
    /// The broker stamped a record that we learned of now.
    pub fn sample(&self, stamped: UnixMillis, now: Mono) {
        let mut inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let difference = stamped.0.saturating_sub(millis(now));
        if now.since(inner.window_began) >= WINDOW {
            inner.previous = inner.current.take();
            inner.window_began = now;
        }
        inner.current = Some(inner.current.map_or(difference, |best| best.max(difference)));
    }

    /// The broker's clock, or somewhat less; the epoch if nothing is known of it.
    #[must_use]
    pub fn now(&self, now: Mono) -> UnixMillis {
        let inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        inner
            .current
            .max(inner.previous)
            .map_or(UnixMillis(0), |difference| UnixMillis(difference.saturating_add(millis(now))))
    }

    /// The instant here at which the broker's clock shows `due`; at once if it does already.
    #[must_use]
    pub fn when(&self, due: UnixMillis, now: Mono) -> Mono {
        // One millisecond more: the estimate is cut to whole milliseconds.
        let wait = self.now(now).until(due);
        if wait.is_zero() { now } else { now + wait + Duration::from_millis(1) }
    }
}

fn millis(mono: Mono) -> i64 {
    i64::try_from(mono.0 / 1000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Mono {
        Mono(ms * 1000)
    }

    #[test]
    fn never_ahead_of_the_broker() {
        let clock = BrokerClock::default();
        // The broker's clock is 1,000,000 ms ahead of ours; news of it takes 3 to 40 ms.
        for (sent, seen) in [(100, 140), (200, 203), (300, 325)] {
            clock.sample(UnixMillis(1_000_000 + sent), at(seen));
        }
        assert_eq!(clock.now(at(500)), UnixMillis(1_000_497));
        assert_eq!(clock.when(UnixMillis(1_000_600), at(500)), at(604));
        assert_eq!(clock.when(UnixMillis(1_000_400), at(500)), at(500));
    }

    #[test]
    fn a_clock_set_back_is_noticed() {
        let clock = BrokerClock::default();
        clock.sample(UnixMillis(1_000_000), at(0));
        for second in 1..100u64 {
            clock.sample(UnixMillis(i64::try_from(second * 1000).unwrap()), at(second * 1000));
        }
        assert_eq!(clock.now(at(100_000)), UnixMillis(100_000));
    }
}
