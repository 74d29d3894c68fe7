//! What has to be done from time to time: segments end, old ones go, keys are compacted.

use super::compaction::Compacted;
use super::error::{IoFailed, LogError};
use super::partition_log::PartitionLog;
use super::segment::Segment;

/// What maintenance did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Maintained {
    /// The last segment was ended because of its age.
    pub rolled: bool,
    pub deleted_segments: usize,
    pub compacted: Option<Compacted>,
}

impl PartitionLog {
    /// Does all that is due. Compaction may take seconds; a caller that can't hold the log for so long uses
    /// [`PartitionLog::expire`] and the three steps of compaction.
    ///
    /// # Errors
    /// If the system can't read or write, or a segment was damaged since the log was opened.
    pub fn maintain(&mut self, now_ms: i64) -> Result<Maintained, LogError> {
        let mut done = self.expire(now_ms)?;
        if self.is_worth_compacting(now_ms) {
            done.compacted = self.compact(now_ms)?;
        }
        Ok(done)
    }

    /// Ends the last segment if it is old, deletes the oldest ones by time, size and start offset, and forgets
    /// producers that wrote nothing for a day.
    ///
    /// # Errors
    /// If the system can't write.
    pub fn expire(&mut self, now_ms: i64) -> Result<Maintained, IoFailed> {
        self.settle()?;
        self.producers.expire(now_ms);
        let rolled = self.is_roll_due(now_ms) || self.is_all_of_it_old(now_ms);
        if rolled {
            self.roll(now_ms)?;
        }
        let mut deleted_segments = self.delete_below_start()?;
        if self.config.cleanup_delete {
            let old = self.closed().iter().take_while(|segment| self.is_old(segment, now_ms)).count();
            self.delete_oldest(old)?;
            let excess = self.count_excess();
            self.delete_oldest(excess)?;
            deleted_segments += old + excess;
        }
        Ok(Maintained { rolled, deleted_segments, compacted: None })
    }

    /// Whether nothing of the log is worth keeping, so that the last segment has to end before it can go.
    fn is_all_of_it_old(&self, now_ms: i64) -> bool {
        let is_deleted = self.start == self.end_offset();
        let is_old =
            || self.config.cleanup_delete && self.segments.iter().all(|segment| self.is_old(segment, now_ms));
        !self.active().is_empty() && (is_deleted || is_old())
    }

    fn is_old(&self, segment: &Segment, now_ms: i64) -> bool {
        let old = |retention: i64| segment.age_timestamp().saturating_add(retention) < now_ms;
        self.config.retention_ms.is_some_and(|retention| segment.is_empty() || old(retention))
    }

    /// How many of the oldest segments are beyond the size that the log may have.
    fn count_excess(&self) -> usize {
        let Some(limit) = self.config.retention_bytes else { return 0 };
        let mut excess = self.size().saturating_sub(limit);
        let goes = |segment: &&Segment| {
            let goes = 0 < excess && segment.size <= excess;
            excess = excess.saturating_sub(segment.size);
            goes
        };
        self.closed().iter().take_while(goes).count()
    }
}
