//! Which `Idempotency-Key`s were used for what (draft-ietf-httpapi-idempotency-key-header).
//!
//! This is the memory of one replica, bounded in time and number. It is not what makes a repeat harmless: the ids of
//! events are made of the key ([`EventId::of_idempotency_key`]), so that a repeat which reaches another replica, or
//! comes after the memory is lost, makes the same event again, which later stages recognise. What the memory adds is
//! an early answer: a repeat is not appended again, and a key that is used for something else is refused (409).
//!
//! A second request with a key whose first is still under way is refused (409, with `Retry-After`), not made to wait.
//! A key is free again if its request was certainly not written, and only then.
//!
//! [`EventId::of_idempotency_key`]: hookstream_types::EventId::of_idempotency_key

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// SHA-256.
pub type Digest = [u8; 32];

/// The bounds of the memory.
#[derive(Clone, Copy, Debug)]
pub struct KeyLimits {
    pub window: Duration,
    /// Keys; each takes about 200 bytes. The oldest are forgotten first.
    pub count: usize,
}

impl Default for KeyLimits {
    fn default() -> Self {
        Self { window: Duration::from_secs(24 * 3600), count: 100_000 }
    }
}

/// The memory.
#[derive(Debug)]
pub struct Keys {
    limits: KeyLimits,
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    entries: HashMap<Digest, Entry>,
    /// The oldest first; what was freed since is still in it.
    order: VecDeque<(Instant, Digest, u64)>,
    /// Counts entries, to tell one from a later one with the same key.
    serial: u64,
}

#[derive(Debug)]
struct Entry {
    serial: u64,
    /// Of what the key was first used for.
    request: Digest,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Holds whether an earlier request may have been written.
    UnderWay {
        may_be_written: bool,
    },
    MayBeWritten,
    Written,
}

/// What a key is, at a request that has it.
#[derive(Debug)]
pub enum Claim<'a> {
    /// The request is the first, or repeats one whose outcome is not known: to be carried out.
    Granted(Granted<'a>),
    /// The same request was carried out.
    Written,
    /// A request with the key is under way.
    UnderWay,
    /// The key was used for another request.
    Reused,
}

/// A key that is in use. If it is dropped without its outcome, that is taken for unknown.
#[derive(Debug)]
pub struct Granted<'a> {
    keys: &'a Keys,
    name: Digest,
    serial: u64,
    settled: Option<Settled>,
}

#[derive(Clone, Copy, Debug)]
enum Settled {
    Written,
    NotWritten,
}

impl Keys {
    #[must_use]
    pub fn new(limits: KeyLimits) -> Self {
        Self { limits, used: Mutex::default() }
    }

    /// Claims a key for a request; `name` is the digest of the client and its key.
    pub fn claim(&self, name: Digest, request: Digest, now: Instant) -> Claim<'_> {
        let mut used = self.lock();
        used.forget(self.limits, now);
        let granted = |serial| Claim::Granted(Granted { keys: self, name, serial, settled: None });
        if let Some(entry) = used.entries.get_mut(&name) {
            return match entry.state {
                _ if entry.request != request => Claim::Reused,
                State::UnderWay { .. } => Claim::UnderWay,
                State::Written => Claim::Written,
                State::MayBeWritten => {
                    entry.state = State::UnderWay { may_be_written: true };
                    granted(entry.serial)
                }
            };
        }
        used.serial += 1;
        let serial = used.serial;
        let state = State::UnderWay { may_be_written: false };
        used.entries.insert(name, Entry { serial, request, state });
        used.order.push_back((now, name, serial));
        granted(serial)
    }

    fn lock(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Used {
    fn forget(&mut self, limits: KeyLimits, now: Instant) {
        while let Some((since, name, serial)) = self.order.front().copied() {
            let is_old = now.saturating_duration_since(since) >= limits.window;
            if !is_old && self.order.len() < limits.count {
                return;
            }
            self.order.pop_front();
            if self.entries.get(&name).is_some_and(|entry| entry.serial == serial) {
                self.entries.remove(&name);
            }
        }
    }
}

impl Granted<'_> {
    /// The request was carried out.
    pub fn written(mut self) {
        self.settled = Some(Settled::Written);
    }

    /// Nothing was carried out: the key is free, unless an earlier request with it may have been.
    pub fn not_written(mut self) {
        self.settled = Some(Settled::NotWritten);
    }
}

impl Drop for Granted<'_> {
    fn drop(&mut self) {
        let mut used = self.keys.lock();
        let Some(entry) = used.entries.get_mut(&self.name).filter(|entry| entry.serial == self.serial) else {
            return;
        };
        let was_unknown = entry.state == State::UnderWay { may_be_written: true };
        match self.settled {
            Some(Settled::Written) => entry.state = State::Written,
            Some(Settled::NotWritten) if !was_unknown => drop(used.entries.remove(&self.name)),
            Some(Settled::NotWritten) | None => entry.state = State::MayBeWritten,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: Digest = [1; 32];
    const REQUEST: Digest = [2; 32];
    const OTHER: Digest = [3; 32];

    fn keys(count: usize) -> (Keys, Instant) {
        (Keys::new(KeyLimits { window: Duration::from_secs(10), count }), Instant::now())
    }

    #[track_caller]
    fn granted<'a>(keys: &'a Keys, name: Digest, now: Instant) -> Granted<'a> {
        match keys.claim(name, REQUEST, now) {
            Claim::Granted(granted) => granted,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_key_is_for_one_request() {
        let (keys, now) = keys(9);
        let first = granted(&keys, NAME, now);
        assert!(matches!(keys.claim(NAME, REQUEST, now), Claim::UnderWay));
        assert!(matches!(keys.claim(NAME, OTHER, now), Claim::Reused));
        first.written();
        assert!(matches!(keys.claim(NAME, REQUEST, now), Claim::Written));
        assert!(matches!(keys.claim(NAME, OTHER, now), Claim::Reused));
    }

    #[test]
    fn a_key_is_free_only_if_nothing_was_written_under_it() {
        let (keys, now) = keys(9);
        granted(&keys, NAME, now).not_written();
        let Claim::Granted(other) = keys.claim(NAME, OTHER, now) else { panic!() };
        other.not_written();
        // Dropped, as when the client goes away: the outcome is not known.
        drop(granted(&keys, NAME, now));
        assert!(matches!(keys.claim(NAME, OTHER, now), Claim::Reused));
        granted(&keys, NAME, now).not_written();
        assert!(matches!(keys.claim(NAME, OTHER, now), Claim::Reused));
        granted(&keys, NAME, now).written();
        assert!(matches!(keys.claim(NAME, REQUEST, now), Claim::Written));
    }

    #[test]
    fn keys_are_forgotten_by_age_and_by_number() {
        let (keys, now) = keys(2);
        granted(&keys, NAME, now).written();
        let late = now + Duration::from_secs(10);
        granted(&keys, NAME, late).written();
        granted(&keys, [7; 32], late).written();
        granted(&keys, [8; 32], late).written();
        // A request that is under way when it is forgotten settles nothing.
        let forgotten = granted(&keys, NAME, late);
        granted(&keys, [9; 32], late).written();
        granted(&keys, [10; 32], late).written();
        forgotten.written();
        granted(&keys, NAME, late).written();
        let used = keys.lock();
        assert!(used.order.len() <= 2 && used.entries.len() <= 2);
    }

    #[test]
    fn freed_keys_do_not_pile_up() {
        let (keys, now) = keys(5);
        for _ in 0..100 {
            granted(&keys, NAME, now).not_written();
        }
        assert!(keys.lock().order.len() <= 5 && keys.lock().entries.is_empty());
    }
}
