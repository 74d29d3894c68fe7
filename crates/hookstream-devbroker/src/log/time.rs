//! Finding records by their time.

use std::path::Path;

use super::error::{CorruptBatch, IoFailed, LogError};
use super::files;
use super::partition_log::PartitionLog;
use super::record;
use super::scan::{ScanError, Scanned, Scanner};
use super::segment::Segment;

/// A record, by its place and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedOffset {
    pub offset: i64,
    pub timestamp: i64,
}

impl PartitionLog {
    /// The first record whose timestamp is at least this one. Control records count, as in Kafka.
    ///
    /// # Errors
    /// If the system can't read.
    pub fn offset_for_time(&self, timestamp: i64) -> Result<Option<TimedOffset>, LogError> {
        for segment in &self.segments {
            if segment.max_timestamp < timestamp || segment.last_offset < self.start {
                continue;
            }
            let found = self.search(segment, timestamp, |batch| {
                (batch.header.max_timestamp >= timestamp)
                    .then(|| first_since(batch, timestamp, self.start))
                    .flatten()
            })?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The first record with the largest timestamp, if there is a record that has a time.
    ///
    /// # Errors
    /// If the system can't read.
    pub fn max_timestamp(&self) -> Result<Option<TimedOffset>, LogError> {
        let mut largest = -1;
        for segment in &self.segments {
            // Of the first segment a part may be deleted.
            largest = largest.max(if segment.base < self.start {
                self.largest_since_start(segment)?
            } else {
                segment.max_timestamp
            });
        }
        if largest < 0 {
            return Ok(None);
        }
        self.offset_for_time(largest)
    }

    fn largest_since_start(&self, segment: &Segment) -> Result<i64, LogError> {
        let mut largest = -1;
        self.search(segment, i64::MIN, |batch| {
            largest = largest.max(batch.header.max_timestamp);
            None
        })?;
        Ok(largest)
    }

    /// Goes through the batches of a segment that are not deleted, from those with this time on, until one is found.
    fn search(
        &self,
        segment: &Segment,
        timestamp: i64,
        mut find: impl FnMut(&Scanned<'_>) -> Option<TimedOffset>,
    ) -> Result<Option<TimedOffset>, LogError> {
        let position = segment.position_before_time(timestamp).max(segment.position_before(self.start));
        let mut scanner = Scanner::new(&segment.file, position, segment.size, self.start.min(segment.base));
        scanner = scanner.in_small_steps();
        let failed = |error| scan_failed(&self.dir, segment.base, error);
        while let Some(batch) = scanner.next_batch().map_err(failed)? {
            if batch.header.last_offset() < self.start {
                continue;
            }
            if let Some(found) = find(&batch) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// Names the segment that could not be read.
pub(crate) fn scan_failed(dir: &Path, base: i64, error: ScanError) -> LogError {
    let path = files::segment_path(dir, base);
    match error {
        ScanError::Io(source) => IoFailed::new("read", &path, source).into(),
        ScanError::Corrupt { position, fault } => CorruptBatch { path, position, fault }.into(),
    }
}

/// The first record of a batch with such a time. If its records can't be read, the batch stands for them.
fn first_since(batch: &Scanned<'_>, timestamp: i64, start: i64) -> Option<TimedOffset> {
    let header = &batch.header;
    let whole = TimedOffset { offset: header.base_offset.max(start), timestamp: header.max_timestamp };
    let Ok(unpacked) = record::unpack(header, batch.bytes) else { return Some(whole) };
    let Ok(records) = record::parse(header, &unpacked) else { return Some(whole) };
    let mut since = records.iter().filter(|record| record.timestamp >= timestamp && record.offset >= start);
    since.next().map(|record| TimedOffset { offset: record.offset, timestamp: record.timestamp })
}
