//! Which offsets of one partition are complete, and how far it may be committed.
//!
//! Only offsets that were seen are tracked, so gaps (compaction, aborted transactions) are harmless. The
//! committed offset never passes an incomplete one (rule 2).

use std::collections::BTreeSet;

use hookstream_types::Offset;

/// The state of one partition in one assignment.
#[derive(Clone, Debug)]
pub struct Frontier {
    /// Everything below is complete.
    base: Offset,
    /// The offset after the highest one seen.
    seen: Offset,
    incomplete: BTreeSet<Offset>,
}

impl Frontier {
    /// A partition of which everything below `base` is complete.
    #[must_use]
    pub fn new(base: Offset) -> Self {
        Self { base, seen: base, incomplete: BTreeSet::new() }
    }

    /// Everything below is complete: the offset to commit.
    #[must_use]
    pub fn base(&self) -> Offset {
        self.base
    }

    /// The offset after the highest one seen.
    #[must_use]
    pub fn seen(&self) -> Offset {
        self.seen
    }

    /// How many offsets were seen and are not complete.
    #[must_use]
    pub fn incomplete(&self) -> usize {
        self.incomplete.len()
    }

    /// Takes note of a record. False if it was seen before in this assignment, or lies below the base: then it
    /// must not be handled again.
    pub fn see(&mut self, offset: Offset) -> bool {
        if offset < self.seen {
            return false;
        }
        self.seen = offset.next();
        self.incomplete.insert(offset);
        true
    }

    /// The effects of the record at `offset` are durable. Returns whether the base moved.
    ///
    /// An offset that is not incomplete is passed over: a late acknowledgement changes nothing.
    pub fn complete(&mut self, offset: Offset) -> bool {
        if !self.incomplete.remove(&offset) {
            return false;
        }
        let base = self.incomplete.first().copied().unwrap_or(self.seen);
        let moved = base > self.base;
        self.base = base;
        moved
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the order of completions and however large the gaps, nothing below the base is incomplete.
        #[test]
        fn base_is_the_lowest_incomplete(
            gaps in proptest::collection::vec(1i64..4, 1..60),
            order in proptest::collection::vec(any::<prop::sample::Index>(), 0..60),
        ) {
            let mut frontier = Frontier::new(Offset(0));
            let mut offset = -1;
            let mut open = Vec::new();
            for gap in gaps {
                offset += gap;
                prop_assert!(frontier.see(Offset(offset)));
                prop_assert!(!frontier.see(Offset(offset)));
                open.push(offset);
            }
            let end = offset + 1;
            for index in order {
                if open.is_empty() { break; }
                let done = open.remove(index.index(open.len()));
                frontier.complete(Offset(done));
                frontier.complete(Offset(done));
                let lowest = open.first().copied().unwrap_or(end);
                prop_assert_eq!(frontier.base(), Offset(lowest));
                prop_assert_eq!(frontier.incomplete(), open.len());
            }
        }
    }
}
