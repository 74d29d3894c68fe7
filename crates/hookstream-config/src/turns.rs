//! Whose turn it is: among writers, and among those whose writes a writer has.
//!
//! Several writers take turns, so that none claims while another's transaction is open: that one would be lost, and
//! its claimant wait half a second for the coordinator to end it (librdkafka asks again only then).
//!
//! Who has written a group while others write too leaves them the next: they see its records, and claim while nobody
//! writes. It is a courtesy and no more: nothing that is written rests on it.

use std::collections::BTreeMap;
use std::time::Duration;

use hookstream_types::Mono;

/// How long others are known to write after what they wrote last.
const RIVALRY: Duration = Duration::from_secs(1);
/// What they are left, to claim, to read, and to write a group: so many times what writing one took us. It ends with
/// their first record.
const TURN: u32 = 8;
/// A turn is no shorter...
const SHORTEST_TURN: Duration = Duration::from_millis(300);
/// ...and no longer.
const LONGEST_TURN: Duration = Duration::from_secs(1);

/// Whose turn it is, as far as a writer knows.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// When others were last known to write.
    rivals: Option<Mono>,
    /// Until when it is their turn.
    theirs: Option<Mono>,
}

impl Turns {
    /// How long it is still others' turn.
    pub(crate) fn left(&self, now: Mono) -> Duration {
        self.theirs.map_or(Duration::ZERO, |until| until.since(now))
    }

    /// Others have written: the next turn is ours.
    pub(crate) fn others_wrote(&mut self, now: Mono) {
        *self = Self { rivals: Some(now), theirs: None };
    }

    /// Others have claimed, and are about to write.
    pub(crate) fn fenced(&mut self, now: Mono, wait: Duration) {
        *self = Self { rivals: Some(now), theirs: Some(now + wait) };
    }

    /// We have written, which took so long.
    pub(crate) fn wrote(&mut self, now: Mono, took: Duration) {
        let has_rivals = self.rivals.is_some_and(|at| now.since(at) < RIVALRY);
        let turn = took.saturating_mul(TURN).clamp(SHORTEST_TURN, LONGEST_TURN);
        self.theirs = has_rivals.then_some(now + turn);
    }

    /// They have not used their turn.
    pub(crate) fn unused(&mut self) {
        *self = Self::default();
    }
}

/// Actors that are remembered; when there are more, all are forgotten.
const ACTORS: usize = 1_000;

/// When whose writes were done: of those that exclude each other, that of the actor who has been without for longest is
/// the one.
#[derive(Debug, Default)]
pub(crate) struct Served {
    last: BTreeMap<String, u64>,
    count: u64,
}

impl Served {
    /// The lower, the earlier it is this actor's turn.
    pub(crate) fn rank(&self, actor: &str) -> u64 {
        self.last.get(actor).copied().unwrap_or_default()
    }

    pub(crate) fn served(&mut self, actor: &str) {
        self.count += 1;
        if let Some(last) = self.last.get_mut(actor) {
            *last = self.count;
            return;
        }
        if self.last.len() >= ACTORS {
            self.last.clear();
        }
        self.last.insert(actor.to_owned(), self.count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_millis(10);

    fn at(millis: u64) -> Mono {
        Mono(millis * 1_000)
    }

    #[test]
    fn one_alone_never_waits() {
        let mut turns = Turns::default();
        for now in (0..10).map(at) {
            assert_eq!(turns.left(now), Duration::ZERO);
            turns.wrote(now, QUICK);
        }
    }

    #[test]
    fn others_are_left_one_group() {
        let mut turns = Turns::default();
        turns.others_wrote(at(0));
        assert_eq!(turns.left(at(0)), Duration::ZERO, "it is ours after theirs");
        turns.wrote(at(100), QUICK);
        assert_eq!(turns.left(at(150)), Duration::from_millis(250));
        turns.others_wrote(at(200));
        assert_eq!(turns.left(at(200)), Duration::ZERO);
        turns.wrote(at(300), QUICK);
        assert_eq!(turns.left(at(600)), Duration::ZERO, "they had their time");
        turns.unused();
        turns.wrote(at(601), QUICK);
        assert_eq!(turns.left(at(601)), Duration::ZERO, "they do not write any more");
    }

    #[test]
    fn a_turn_is_as_long_as_writing_takes() {
        for (took, turn) in [(10, 300), (100, 800), (500, 1_000)] {
            let mut turns = Turns::default();
            turns.others_wrote(at(0));
            turns.wrote(at(900), Duration::from_millis(took));
            assert_eq!(turns.left(at(900)), Duration::from_millis(turn));
        }
    }

    #[test]
    fn who_wrote_long_ago_is_no_rival() {
        let mut turns = Turns::default();
        turns.others_wrote(at(0));
        turns.wrote(at(1_000), QUICK);
        assert_eq!(turns.left(at(1_000)), Duration::ZERO);
    }

    #[test]
    fn who_was_served_longest_ago_is_next() {
        let mut served = Served::default();
        for actor in ["ann", "bob", "ann"] {
            served.served(actor);
        }
        let mut actors = ["ann", "bob", "carol"];
        actors.sort_by_key(|actor| served.rank(actor));
        assert_eq!(actors, ["carol", "bob", "ann"]);
        for n in 0..ACTORS {
            served.served(&format!("{n}"));
        }
        assert!(served.last.len() <= ACTORS);
    }

    #[test]
    fn who_is_fenced_leaves_the_other_its_group() {
        let mut turns = Turns::default();
        turns.fenced(at(0), Duration::from_millis(70));
        assert_eq!(turns.left(at(20)), Duration::from_millis(50));
        turns.others_wrote(at(30));
        assert_eq!(turns.left(at(30)), Duration::ZERO);
    }
}
