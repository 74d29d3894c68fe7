//! Figures for metrics.

use std::sync::PoisonError;
use std::time::Duration;

use super::super::Lag;
use super::super::helper::{Job, Key};
use super::{Control, Part};

/// How often the ends of partitions are asked for.
const ENDS_INTERVAL: Duration = Duration::from_secs(5);
const INTERVAL: Duration = Duration::from_millis(500);

impl Control {
    /// Publishes the figures, now and then.
    pub(super) fn publish(&mut self) {
        let now = self.now();
        if now.since(self.stats_at) < INTERVAL {
            return;
        }
        self.stats_at = now;
        let owned = |part: &Part| matches!(part, Part::Owned(_));
        if now.since(self.ends_asked) >= ENDS_INTERVAL {
            self.ends_asked = now;
            let partitions: Vec<Key> =
                self.parts.iter().filter(|(_, part)| owned(part)).map(|(key, _)| key.clone()).collect();
            if !partitions.is_empty() {
                // A helper that has too much to do answers next time.
                drop(self.at.helper.give(Job::Ends { partitions }));
            }
        }
        self.counts.waiting = self.parts.values().filter(|part| !owned(part)).count();
        self.counts.lag = self
            .parts
            .iter()
            .filter_map(|(key, part)| {
                let Part::Owned(part) = part else { return None };
                let end = *self.ends.get(key)?;
                Some((key.clone(), Lag { committed: part.committed.0.0, end }))
            })
            .collect();
        *self.at.stats.lock().unwrap_or_else(PoisonError::into_inner) = self.counts.clone();
    }
}
