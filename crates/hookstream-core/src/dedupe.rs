//! The window in which a job that comes twice is recognised (design §2.1).
//!
//! Stages before the sender repeat a short tail after a crash, so the same job can stand at two offsets of one
//! partition. The one at the higher offset is a duplicate; the same offset read again is not. A window that is
//! too short costs a request with an unchanged `webhook-id`, never a loss.

use std::collections::VecDeque;
use std::time::Duration;

use hookstream_types::{DeliveryId, Generation, Offset, UnixMillis};
use rustc_hash::FxHashMap;

use crate::mutant::{Mutant, on};

/// What a job turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Not seen before, or a later turn of it.
    New,
    /// The same turn or a later one stands at a lower offset.
    Duplicate,
    /// As `Duplicate`, but with other data: somebody used an event id twice.
    IdReused,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    n: u32,
    offset: Offset,
    digest: u64,
}

/// Jobs below the base, and those handed out in this assignment.
#[derive(Clone, Debug)]
pub struct Window {
    span: Duration,
    max_entries: usize,
    entries: FxHashMap<(DeliveryId, i64), Entry>,
    order: VecDeque<(UnixMillis, Offset, DeliveryId, i64)>,
}

/// What an entry costs: key, value, its place in the order, and the table's slack.
pub const ENTRY_BYTES: usize = 128;

impl Window {
    /// A window over `span` of log time with at most `max_entries` entries.
    #[must_use]
    pub fn new(span: Duration, max_entries: usize) -> Self {
        Self { span, max_entries, entries: FxHashMap::default(), order: VecDeque::new() }
    }

    /// Looks a job up and takes note of it.
    ///
    /// `digest` is of the event's data; `at` is when the record was appended.
    pub fn see(
        &mut self,
        delivery: DeliveryId,
        generation: Generation,
        offset: Offset,
        digest: u64,
        at: UnixMillis,
    ) -> Seen {
        let key = (delivery, generation.run);
        if let Some(entry) = self.entries.get(&key) {
            let same_turn_or_later = entry.n >= generation.n || on(Mutant::DedupeWithoutGeneration);
            if same_turn_or_later && entry.offset < offset {
                return if entry.digest == digest { Seen::Duplicate } else { Seen::IdReused };
            }
        }
        // A later turn stays what is remembered: an earlier one that comes again, however late, is still one.
        if self.entries.get(&key).is_none_or(|entry| entry.n <= generation.n) {
            self.entries.insert(key, Entry { n: generation.n, offset, digest });
            self.order.push_back((at, offset, delivery, generation.run));
        }
        self.evict(at);
        Seen::New
    }

    fn evict(&mut self, now: UnixMillis) {
        while let Some((at, offset, delivery, run)) = self.order.front().copied() {
            if self.order.len() <= self.max_entries && at.until(now) <= self.span {
                break;
            }
            self.order.pop_front();
            let key = (delivery, run);
            // A later turn took the entry over: its own place in the order will end it.
            if self.entries.get(&key).is_some_and(|entry| entry.offset == offset) {
                self.entries.remove(&key);
            }
        }
    }

    /// Takes all it remembers for handled, wherever it stands. Only a mutant does this.
    pub fn forget_offsets(&mut self) {
        for entry in self.entries.values_mut() {
            entry.offset = Offset(-1);
        }
    }

    /// How many jobs are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn id(n: u128) -> DeliveryId {
        DeliveryId(Uuid::from_u128(n))
    }

    fn generation(run: i64, n: u32) -> Generation {
        Generation { run, n }
    }

    #[test]
    fn what_is_a_duplicate() {
        let mut window = Window::new(Duration::from_secs(120), 100);
        let mut see = |delivery, run, n, offset| {
            window.see(id(delivery), generation(run, n), Offset(offset), 7, UnixMillis(1_000 + offset))
        };
        assert_eq!(see(1, 0, 0, 10), Seen::New);
        assert_eq!(see(1, 0, 0, 10), Seen::New, "the same offset read again");
        assert_eq!(see(1, 0, 0, 11), Seen::Duplicate);
        assert_eq!(see(1, 0, 1, 12), Seen::New, "its retry");
        assert_eq!(see(1, 0, 0, 13), Seen::Duplicate, "an earlier turn, late");
        assert_eq!(see(1, 0, 1, 14), Seen::Duplicate);
        assert_eq!(see(1, 9, 0, 15), Seen::New, "a replay is a run of its own");
        assert_eq!(see(2, 0, 0, 16), Seen::New);
    }

    #[test]
    fn warming_up_remembers_the_latest_turn() {
        const BELOW: Offset = Offset(-1);
        let mut window = Window::new(Duration::from_secs(120), 100);
        for n in [0, 1, 0] {
            assert_eq!(window.see(id(1), generation(0, n), BELOW, 7, UnixMillis(0)), Seen::New);
        }
        assert_eq!(window.see(id(1), generation(0, 1), Offset(5), 7, UnixMillis(0)), Seen::Duplicate);
    }

    #[test]
    fn an_id_with_other_data() {
        let mut window = Window::new(Duration::from_secs(120), 100);
        assert_eq!(window.see(id(1), generation(0, 0), Offset(1), 7, UnixMillis(0)), Seen::New);
        assert_eq!(window.see(id(1), generation(0, 0), Offset(2), 8, UnixMillis(0)), Seen::IdReused);
    }

    #[test]
    fn it_forgets_by_time_and_by_number() {
        let mut window = Window::new(Duration::from_secs(120), 3);
        let mut see = |delivery, offset, at| {
            window.see(id(delivery), generation(0, 0), Offset(offset), 7, UnixMillis(at))
        };
        assert_eq!(see(1, 1, 0), Seen::New);
        assert_eq!(see(2, 2, 120_000), Seen::New);
        assert_eq!(see(1, 3, 120_000), Seen::Duplicate, "the edge belongs to the window");
        assert_eq!(see(3, 4, 120_001), Seen::New);
        assert_eq!(see(1, 5, 120_001), Seen::New, "forgotten");
        assert_eq!(see(4, 6, 120_001), Seen::New);
        assert_eq!(see(2, 7, 120_001), Seen::New, "pushed out by number");
    }
}
