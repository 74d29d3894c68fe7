//! The process's clocks, read in one place.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hookstream_types::{Mono, UnixMillis};

/// The monotonic clock, which began when the process did, and the machine's wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// Starts the monotonic clock at 0. Once per process: times of two clocks can't be compared.
    #[must_use]
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Microseconds since the clock was started.
    #[must_use]
    pub fn mono(&self) -> Mono {
        Mono(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// The wall clock: for what people and receivers read.
    #[must_use]
    pub fn wall(&self) -> UnixMillis {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMillis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }

    /// The instant at which `mono` is reached, to sleep until it; none if no clock will ever show it.
    #[must_use]
    pub fn instant(&self, mono: Mono) -> Option<Instant> {
        if mono == Mono::MAX { None } else { self.origin.checked_add(Duration::from_micros(mono.0)) }
    }

    /// The monotonic clock as a function, for crates that don't know this one.
    #[must_use]
    pub fn mono_fn(&self) -> Arc<dyn Fn() -> Mono + Send + Sync> {
        let clock = *self;
        Arc::new(move || clock.mono())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_ascends_and_can_be_turned_back_into_instants() {
        let clock = Clock::start();
        let first = clock.mono();
        assert!(clock.mono_fn()() >= first);
        assert!(clock.instant(first).unwrap() <= Instant::now());
        assert_eq!(clock.instant(Mono::MAX), None);
        assert!(clock.wall().0 > 1_700_000_000_000);
    }
}
