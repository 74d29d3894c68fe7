//! What `attempts[p]` says about `deliveries[p]`: who owned it when, and what was decided (design §2.1).
//!
//! An owner appends an owner record before it reads; decisions of any other owner after that record are void. So
//! a process that was taken for dead cannot decide anything any more, whatever it still appends.

use std::collections::BTreeMap;

use hookstream_types::{Offset, OwnerId, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::decision::Decision;
use crate::job::DecidedAt;
use crate::mutant::{Mutant, on};

/// One record of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// From here on only this owner decides.
    Owner(OwnerId),
    /// Decided by that owner; deferrals and skips come many at a time.
    Decisions { owner: OwnerId, decisions: Vec<Decision> },
}

/// What is kept beside a committed offset: where the next owner begins to read the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitNote {
    /// Every decision about the committed offset or a later one stands here or after.
    pub ledger: Offset,
    /// Whose decisions counted at that position; none: nobody's yet.
    pub owner: Option<OwnerId>,
    /// When the records before the committed offset were appended: the dedupe window reaches back from here.
    pub at: UnixMillis,
}

/// Reads the ledger from a committed position to the reader's own owner record.
#[derive(Clone, Debug)]
pub struct Reader {
    base: Offset,
    owner: Option<OwnerId>,
    /// The owner record under which `owner` decides.
    owner_at: Offset,
    decided: BTreeMap<Offset, (Decision, DecidedAt)>,
}

impl Reader {
    /// A reader of decisions about `base` and later offsets.
    #[must_use]
    pub fn new(base: Offset, note: Option<&CommitNote>) -> Self {
        Self {
            base,
            owner: note.and_then(|note| note.owner),
            owner_at: note.map_or(Offset(0), |note| note.ledger),
            decided: BTreeMap::new(),
        }
    }

    /// Takes the next entry in.
    pub fn read(&mut self, at: Offset, entry: Entry) {
        match entry {
            Entry::Owner(owner) => {
                self.owner = Some(owner);
                self.owner_at = at;
            }
            Entry::Decisions { owner, decisions } => {
                if self.owner.is_some_and(|current| current != owner) && !on(Mutant::FencedOwnerHonoured) {
                    return;
                }
                let place = DecidedAt { owner: self.owner_at, decision: at };
                for decision in decisions {
                    if decision.offset >= self.base {
                        self.decided.insert(decision.offset, (decision, place));
                    }
                }
            }
        }
    }

    /// What was decided, by the job's offset.
    #[must_use]
    pub fn finish(self) -> BTreeMap<Offset, (Decision, DecidedAt)> {
        self.decided
    }
}

#[cfg(test)]
mod tests {
    use hookstream_types::{DeliveryId, Generation};
    use uuid::Uuid;

    use super::*;
    use crate::decision::Verdict;

    fn owner(n: u128) -> OwnerId {
        OwnerId(Uuid::from_u128(n))
    }

    fn decided(by: u128, offset: i64) -> Entry {
        let decision = Decision {
            offset: Offset(offset),
            delivery: DeliveryId(Uuid::from_u128(9)),
            generation: Generation::default(),
            about: None,
            verdict: Verdict::Delivered,
        };
        Entry::Decisions { owner: owner(by), decisions: vec![decision] }
    }

    fn offsets(note: Option<CommitNote>, entries: Vec<Entry>) -> Vec<i64> {
        let mut reader = Reader::new(Offset(10), note.as_ref());
        for (at, entry) in entries.into_iter().enumerate() {
            reader.read(Offset(100 + i64::try_from(at).unwrap()), entry);
        }
        reader.finish().into_keys().map(|offset| offset.0).collect()
    }

    #[test]
    fn a_fenced_owner_decides_nothing() {
        let entries = vec![
            Entry::Owner(owner(1)),
            decided(1, 10),
            decided(1, 9),
            Entry::Owner(owner(2)),
            decided(1, 11),
            decided(2, 12),
        ];
        assert_eq!(offsets(None, entries), [10, 12]);
    }

    #[test]
    fn who_owned_the_position_is_in_the_note() {
        let note = CommitNote { ledger: Offset(100), owner: Some(owner(2)), at: UnixMillis(0) };
        assert_eq!(offsets(Some(note), vec![decided(1, 10), decided(2, 11)]), [11]);
    }
}
