//! One file of batches, and what is known of it in memory.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::batch::BatchHeader;
use super::error::{IoContext, IoFailed};
use super::files;
use super::scan::bytes;

/// How far apart indexed batches start, at least; so a batch is found by looking through so many bytes at most.
pub(crate) const INDEX_EVERY: u64 = 4096;

/// A batch whose position is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    /// From the segment's base offset on.
    offset: u32,
    position: u32,
    /// The largest timestamp of the batches before it.
    max_timestamp_before: i64,
}

/// A part of the log.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) base: i64,
    /// Shared, as every read names it in its errors.
    pub(crate) path: Arc<Path>,
    pub(crate) file: Arc<File>,
    pub(crate) size: u64,
    /// The last offset in it; what is before the base while there is none.
    pub(crate) last_offset: i64,
    /// The largest timestamp in it, or -1.
    pub(crate) max_timestamp: i64,
    /// When the first batch was written, if there is one.
    pub(crate) first_write_ms: Option<i64>,
    pub(crate) last_write_ms: i64,
    index: Vec<Entry>,
}

impl Segment {
    pub(crate) fn new(base: i64, path: PathBuf, file: File, now_ms: i64) -> Self {
        Self {
            base,
            path: path.into(),
            file: Arc::new(file),
            size: 0,
            last_offset: base - 1,
            max_timestamp: -1,
            first_write_ms: None,
            last_write_ms: now_ms,
            index: Vec::new(),
        }
    }

    pub(crate) fn create(dir: &Path, base: i64, now_ms: i64) -> Result<Self, IoFailed> {
        let path = files::segment_path(dir, base);
        let file = files::create(&path)?;
        Ok(Self::new(base, path, file, now_ms))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// Whether so many bytes, the last of which is the record with `last_offset`, may be appended here.
    pub(crate) fn has_room(&self, last_offset: i64, size: u64) -> bool {
        let limit = u64::try_from(i32::MAX).expect("it is positive");
        self.may_hold(last_offset) && self.size + size <= limit
    }

    /// Whether an offset is close enough to the base, as all offsets of a segment are.
    pub(crate) fn may_hold(&self, offset: i64) -> bool {
        offset.checked_sub(self.base).is_some_and(|delta| delta <= i64::from(i32::MAX))
    }

    /// The time that retention goes by: the largest timestamp, or the last write if there is none.
    pub(crate) fn age_timestamp(&self) -> i64 {
        if self.max_timestamp >= 0 { self.max_timestamp } else { self.last_write_ms }
    }

    /// Writes batches that have their places. After an error the segment is as it was.
    pub(crate) fn append(
        &mut self,
        batches: &[u8],
        headers: &[BatchHeader],
        now_ms: i64,
    ) -> Result<(), IoFailed> {
        if let Err(error) = self.file.write_all_at(batches, self.size) {
            // What was written in part must not be found behind the next batch. If this fails too, a shorter
            // batch over it leaves bytes that are cut at the next start, as their offsets are too low.
            drop(self.file.set_len(self.size));
            return Err(error).context("write to", &self.path);
        }
        let mut position = self.size;
        for header in headers {
            self.note(header, position, now_ms);
            position += bytes(header.size);
        }
        Ok(())
    }

    /// Takes note of the batch at the end.
    pub(crate) fn note(&mut self, header: &BatchHeader, position: u64, now_ms: i64) {
        let indexed = self.index.last().map(|entry| u64::from(entry.position));
        if indexed.is_none_or(|indexed| position - indexed >= INDEX_EVERY) {
            // Both fit, as `has_room` sees to it; a batch that is not indexed would only take longer to find.
            let offset = u32::try_from(header.base_offset - self.base);
            if let (Ok(offset), Ok(position)) = (offset, u32::try_from(position)) {
                self.index.push(Entry { offset, position, max_timestamp_before: self.max_timestamp });
            }
        }
        self.size = position + bytes(header.size);
        self.last_offset = header.last_offset();
        if header.record_count > 0 {
            self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
        }
        self.first_write_ms.get_or_insert(now_ms);
        self.last_write_ms = now_ms;
    }

    /// A batch at or before the one with this offset, at most [`INDEX_EVERY`] bytes before it.
    pub(crate) fn position_before(&self, offset: i64) -> u64 {
        let after = self.index.partition_point(|entry| self.offset_of(entry) <= offset);
        after.checked_sub(1).map_or(0, |idx| self.index[idx].position.into())
    }

    /// Where batches that start at this offset or later may begin; everything below it is before.
    pub(crate) fn position_after(&self, offset: i64) -> u64 {
        if offset > self.last_offset {
            return self.size;
        }
        let after = self.index.partition_point(|entry| self.offset_of(entry) < offset);
        self.index.get(after).map_or(self.size, |entry| entry.position.into())
    }

    /// A batch at or before the first one that has this timestamp or a larger one.
    pub(crate) fn position_before_time(&self, timestamp: i64) -> u64 {
        let after = self.index.partition_point(|entry| entry.max_timestamp_before < timestamp);
        after.checked_sub(1).map_or(0, |idx| self.index[idx].position.into())
    }

    fn offset_of(&self, entry: &Entry) -> i64 {
        self.base + i64::from(entry.offset)
    }
}
