//! The log itself: its state, and the questions that need no file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::config::LogConfig;
use super::durability::{Durability, Syncer};
use super::error::{IoFailed, OutOfRange, RangeError};
use super::files;
use super::producers::{AbortedTransactions, Producers};
use super::segment::Segment;

/// The durable log of one partition. There must be one at a time for a directory.
#[derive(Debug)]
pub struct PartitionLog {
    pub(crate) dir: PathBuf,
    pub(crate) config: LogConfig,
    /// In order; there is at least one, and the last one takes what is appended.
    pub(crate) segments: Vec<Segment>,
    pub(crate) start: i64,
    pub(crate) producers: Producers,
    pub(crate) aborted: AbortedTransactions,
    pub(crate) durability: Arc<Durability>,
    pub(crate) cleaning: Cleaning,
    /// The batches of a request, with their places.
    pub(crate) scratch: Vec<u8>,
}

/// How far compaction is.
#[derive(Debug, Default)]
pub(crate) struct Cleaning {
    /// Everything below was cleaned.
    pub(crate) cleaned_to: i64,
    /// When something that was kept for a while may go.
    pub(crate) next_horizon: Option<i64>,
    /// A swap is committed but failed before its end.
    pub(crate) unfinished: bool,
}

impl PartitionLog {
    /// Where its files are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    #[must_use]
    pub fn config(&self) -> &LogConfig {
        &self.config
    }

    /// Changes the settings. They hold for what is appended, and for all records at the next maintenance.
    pub fn set_config(&mut self, config: LogConfig) {
        self.config = config;
    }

    /// The first offset that may be read.
    #[must_use]
    pub fn start_offset(&self) -> i64 {
        self.start
    }

    /// The offset that the next record gets. There are no replicas, so it is the high watermark too.
    #[must_use]
    pub fn end_offset(&self) -> i64 {
        self.active().last_offset + 1
    }

    /// Every transaction below has ended.
    #[must_use]
    pub fn last_stable_offset(&self) -> i64 {
        let first_open = self.producers.first_open();
        // Retention may delete the beginning of an open transaction.
        first_open.map_or_else(|| self.end_offset(), |offset| offset.max(self.start))
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.segments.iter().map(|segment| segment.size).sum()
    }

    /// Whether a producer has a transaction open here, so that its end needs a marker.
    #[must_use]
    pub fn has_open_transaction(&self, producer_id: i64) -> bool {
        self.producers.open_since(producer_id).is_some()
    }

    /// Refuses lower epochs of a producer from now on. It holds until the log is opened again; a marker's holds
    /// for ever.
    pub fn fence(&mut self, producer_id: i64, epoch: i16, now_ms: i64) {
        self.producers.fence(producer_id, epoch, now_ms);
    }

    /// Everything below is durable.
    #[must_use]
    pub fn durable_offset(&self) -> i64 {
        self.durability.offset()
    }

    /// What makes all that is in the log durable, without the log.
    #[must_use]
    pub fn syncer(&self) -> Syncer {
        let active = self.active();
        Syncer {
            file: Arc::clone(&active.file),
            path: Arc::clone(&active.path),
            offset: self.end_offset(),
            durability: Arc::clone(&self.durability),
        }
    }

    /// Makes all that is in the log durable, and returns its end.
    ///
    /// # Errors
    /// If the system can't write.
    pub fn sync(&mut self) -> Result<i64, IoFailed> {
        self.syncer().sync()
    }

    /// Moves the start: what is before it is not read any more, and its segments are deleted. Returns the start,
    /// which never moves back.
    ///
    /// # Errors
    /// If the log ends before that offset, or the system can't write.
    pub fn delete_before(&mut self, offset: i64) -> Result<i64, RangeError> {
        let (start, end) = (self.start, self.end_offset());
        if offset < 0 || offset > end {
            return Err(OutOfRange { offset, start, end }.into());
        }
        if offset > start {
            // A start beyond the end that a crash leaves would be none.
            self.sync()?;
            files::write_start_offset(&self.dir, offset)?;
            self.start = offset;
            self.delete_below_start()?;
        }
        Ok(self.start)
    }

    /// Deletes the segments that end before the start. Returns how many.
    pub(crate) fn delete_below_start(&mut self) -> Result<usize, IoFailed> {
        let ends = self.segments.iter().skip(1).map(|next| next.base);
        let gone = ends.take_while(|end| *end <= self.start).count();
        self.delete_oldest(gone)?;
        Ok(gone)
    }

    /// Deletes whole segments from the front. The last one stays.
    pub(crate) fn delete_oldest(&mut self, count: usize) -> Result<(), IoFailed> {
        self.settle()?;
        for _ in 0..count {
            // The oldest first, so that a crash leaves no gap.
            let Some([oldest, next, ..]) = self.segments.get(..2) else { break };
            files::remove(&files::segment_path(&self.dir, oldest.base))?;
            self.start = self.start.max(next.base);
            self.segments.remove(0);
        }
        if count > 0 {
            files::sync_dir(&self.dir)?;
            self.aborted.forget_before(self.start);
        }
        Ok(())
    }

    /// Ends the last segment and starts another one. Everything before is durable then.
    pub(crate) fn roll(&mut self, now_ms: i64) -> Result<(), IoFailed> {
        self.sync()?;
        let segment = Segment::create(&self.dir, self.end_offset(), now_ms)?;
        files::sync_dir(&self.dir)?;
        self.segments.push(segment);
        Ok(())
    }

    pub(crate) fn active(&self) -> &Segment {
        self.segments.last().expect("a log has at least one segment")
    }

    pub(crate) fn active_mut(&mut self) -> &mut Segment {
        self.segments.last_mut().expect("a log has at least one segment")
    }

    /// The segments that take nothing more.
    pub(crate) fn closed(&self) -> &[Segment] {
        &self.segments[..self.segments.len() - 1]
    }

    /// The first segment with a batch that ends with this offset or a later one; the last one if there is none.
    pub(crate) fn segment_with(&self, offset: i64) -> usize {
        let mut idx = self.segments.partition_point(|segment| segment.last_offset < offset);
        // Compaction may leave nothing of a segment.
        idx += self.segments[idx..].iter().take_while(|segment| segment.is_empty()).count();
        idx.min(self.segments.len() - 1)
    }
}
