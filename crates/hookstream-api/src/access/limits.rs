//! How often somebody may: a token bucket for each, in bounded memory.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hookstream_types::Mono;

/// How many at once, and how soon they come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The size of the bucket.
    pub burst: NonZeroU32,
    /// After this one more fits in.
    pub every: Duration,
}

/// It is too much; the next fits in after `retry_after`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many requests: try again in {} s", self.seconds())]
pub struct Limited {
    pub retry_after: Duration,
}

/// A bucket for each key.
///
/// A bucket is one instant: when it is full again (GCRA). One that is full is forgotten, so only those who ask take
/// room. With `capacity` buckets that are not full, those nearest to it are forgotten first: a flood of keys can
/// only make the limit milder.
pub struct Limits<K> {
    rate: Rate,
    capacity: usize,
    full_at: Mutex<HashMap<K, Mono>>,
}

// === impl Rate ===

impl Rate {
    /// `n` per `period`, all of them at once if need be.
    #[must_use]
    pub fn per(n: NonZeroU32, period: Duration) -> Self {
        Self { burst: n, every: period / n.get() }
    }

    /// How long an empty bucket takes to be full.
    fn whole(&self) -> Duration {
        self.every.saturating_mul(self.burst.get())
    }
}

// === impl Limited ===

impl Limited {
    /// For `Retry-After`: whole seconds, never too early.
    #[must_use]
    pub fn seconds(&self) -> u64 {
        self.retry_after.as_millis().div_ceil(1000).max(1).try_into().unwrap_or(u64::MAX)
    }
}

// === impl Limits ===

impl<K: Clone + Eq + Hash> Limits<K> {
    /// With room for at least 1 and at most `capacity` buckets.
    #[must_use]
    pub fn new(rate: Rate, capacity: usize) -> Self {
        Self { rate, capacity: capacity.max(1), full_at: Mutex::default() }
    }

    /// Takes one.
    ///
    /// # Errors
    /// [`Limited`] if the bucket is empty; then nothing is taken.
    pub fn take(&self, key: &K, now: Mono) -> Result<(), Limited> {
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let next = self.fits(full_at.get(key).copied(), now)?;
        if !full_at.contains_key(key) && full_at.len() >= self.capacity {
            make_room(&mut full_at, self.capacity, now);
        }
        full_at.insert(key.clone(), next);
        Ok(())
    }

    /// Whether one could be taken.
    ///
    /// # Errors
    /// [`Limited`] if not.
    pub fn check(&self, key: &K, now: Mono) -> Result<(), Limited> {
        let full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        self.fits(full_at.get(key).copied(), now).map(drop)
    }

    /// When the bucket is full again if one is taken.
    fn fits(&self, full_at: Option<Mono>, now: Mono) -> Result<Mono, Limited> {
        let next = full_at.map_or(now, |full_at| full_at.max(now)) + self.rate.every;
        let wait = next.since(now).saturating_sub(self.rate.whole());
        if wait.is_zero() { Ok(next) } else { Err(Limited { retry_after: wait }) }
    }
}

impl<K> fmt::Debug for Limits<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits").field("rate", &self.rate).finish_non_exhaustive()
    }
}

/// Forgets what is full, and if that is not enough a quarter of the rest, so that it is not done for each key.
fn make_room<K: Clone + Eq + Hash>(full_at: &mut HashMap<K, Mono>, capacity: usize, now: Mono) {
    full_at.retain(|_, at| *at > now);
    if full_at.len() <= capacity - capacity.div_ceil(4) {
        return;
    }
    let mut instants: Vec<Mono> = full_at.values().copied().collect();
    let cut = (instants.len() / 4).min(instants.len() - 1);
    let (_, nearest, _) = instants.select_nth_unstable(cut);
    let nearest = *nearest;
    full_at.retain(|_, at| *at > nearest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Mono {
        Mono(millis * 1000)
    }

    fn ten_a_minute(capacity: usize) -> Limits<u32> {
        Limits::new(Rate::per(NonZeroU32::new(10).unwrap(), Duration::from_secs(60)), capacity)
    }

    #[test]
    fn ten_at_once_then_one_every_six_seconds() {
        let limits = ten_a_minute(100);
        for n in 0..10 {
            assert_eq!(limits.take(&1, at(5)), Ok(()), "{n}");
        }
        let limited = limits.take(&1, at(5)).unwrap_err();
        assert_eq!(limited.retry_after, Duration::from_secs(6));
        assert_eq!(limited.seconds(), 6);
        assert_eq!(limits.check(&1, at(1006)).unwrap_err().seconds(), 5);
        assert!(limits.take(&1, at(6004)).is_err(), "what is refused takes nothing, but time has to pass");
        assert_eq!(limits.check(&1, at(6005)), Ok(()));
        assert_eq!(limits.take(&1, at(6005)), Ok(()));
        assert!(limits.take(&1, at(6005)).is_err());
        // After a minute's quiet it is full, and no fuller.
        let taken = (0..100).filter(|_| limits.take(&1, at(3_600_000)).is_ok()).count();
        assert_eq!(taken, 10);
    }

    #[test]
    fn one_who_floods_limits_nobody_else() {
        let limits = ten_a_minute(100);
        let taken = (0..1000).filter(|_| limits.take(&1, at(0)).is_ok()).count();
        assert_eq!(taken, 10);
        assert_eq!((0..10).filter(|_| limits.take(&2, at(0)).is_ok()).count(), 10);
    }

    #[test]
    fn memory_is_bounded_and_the_emptiest_stay() {
        let limits = ten_a_minute(100);
        for _ in 0..10 {
            limits.take(&u32::MAX, at(0)).unwrap();
        }
        for key in 0..10_000 {
            // Each a little later, so that no two are alike.
            limits.take(&key, at(u64::from(key) / 100)).unwrap();
            assert!(limits.full_at.lock().unwrap().len() <= 100);
        }
        assert!(limits.check(&u32::MAX, at(100)).is_err(), "a flood of keys does not free who is limited");
        for key in 0..10_000 {
            limits.take(&key, at(1_000_000)).unwrap();
        }
        assert!(limits.full_at.lock().unwrap().len() <= 100);
        let tiny = ten_a_minute(0);
        for key in 0..10 {
            tiny.take(&key, at(0)).unwrap();
        }
        assert_eq!(tiny.full_at.lock().unwrap().len(), 1);
    }
}
