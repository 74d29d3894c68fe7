//! Delays are topics: a ladder of constant rungs (design §2.4).
//!
//! A record waits on a rung for append time + rung, never for its own due time, so that each partition is first
//! in, first out. Any due time is reached by several rungs and, below the smallest, by a bounded heap.

use std::time::Duration;

/// The rungs, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ladder {
    rungs: Vec<Duration>,
}

/// Why a list of delays is no ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a retry ladder has 1 to 16 different delays of 10 ms to 7 days, in ascending order")]
pub struct BadLadder;

impl Default for Ladder {
    /// 5s 30s 2m 10m 1h 6h 24h.
    fn default() -> Self {
        Self { rungs: [5, 30, 120, 600, 3600, 21_600, 86_400].map(Duration::from_secs).to_vec() }
    }
}

impl Ladder {
    /// # Errors
    /// [`BadLadder`] unless the delays ascend and lie within bounds.
    pub fn new(rungs: Vec<Duration>) -> Result<Self, BadLadder> {
        let in_bounds = |rung: &Duration| (10..=7 * 86_400_000).contains(&rung.as_millis());
        let ascending = rungs.windows(2).all(|pair| pair[0] < pair[1]);
        if !(1..=16).contains(&rungs.len()) || !rungs.iter().all(in_bounds) || !ascending {
            return Err(BadLadder);
        }
        Ok(Self { rungs })
    }

    #[must_use]
    pub fn rungs(&self) -> &[Duration] {
        &self.rungs
    }

    /// The shortest delay that a record can be put off by.
    #[must_use]
    pub fn shortest(&self) -> Duration {
        self.rungs[0]
    }

    /// The longest rung that still fits into `remaining`; none if it is shorter than the smallest.
    #[must_use]
    pub fn longest_within(&self, remaining: Duration) -> Option<usize> {
        self.rungs.iter().rposition(|rung| *rung <= remaining)
    }

    /// A rung's name in topics and metrics: `500ms`, `5s`, `2m`, `24h`.
    #[must_use]
    pub fn label(rung: Duration) -> String {
        let millis = rung.as_millis();
        match millis {
            ms if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
            ms if ms % 60_000 == 0 => format!("{}m", ms / 60_000),
            ms if ms % 1000 == 0 => format!("{}s", ms / 1000),
            ms => format!("{ms}ms"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_design() {
        let names: Vec<_> = Ladder::default().rungs().iter().map(|rung| Ladder::label(*rung)).collect();
        assert_eq!(names, ["5s", "30s", "2m", "10m", "1h", "6h", "24h"]);
    }

    #[test]
    fn the_longest_rung_that_fits() {
        let ladder = Ladder::default();
        assert_eq!(ladder.longest_within(Duration::from_millis(4_999)), None);
        assert_eq!(ladder.longest_within(Duration::from_secs(5)), Some(0));
        assert_eq!(ladder.longest_within(Duration::from_secs(3599)), Some(3));
        assert_eq!(ladder.longest_within(Duration::MAX), Some(6));
    }

    #[test]
    fn what_is_no_ladder() {
        let seconds = |list: &[u64]| Ladder::new(list.iter().copied().map(Duration::from_secs).collect());
        assert_eq!(seconds(&[]), Err(BadLadder));
        assert_eq!(seconds(&[5, 5]), Err(BadLadder));
        assert_eq!(seconds(&[0]), Err(BadLadder));
        assert_eq!(seconds(&[1_000_000]), Err(BadLadder));
        assert!(seconds(&[1, 2]).is_ok());
    }
}
