//! Reading: where to read is found under the caller's lock, the reading itself needs none.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::batch::{BatchHeader, Fault, HEADER_BYTES};
use super::error::{CorruptBatch, IoContext, LogError, OutOfRange, RangeError};
use super::partition_log::PartitionLog;
use super::scan::{bytes, index};
use super::segment::INDEX_EVERY;

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// Whole batches. The first one may start before the offset that was asked for.
    pub records: Bytes,
    /// Aborted transactions with records among these, as (producer id, first offset). Empty unless only committed
    /// records were asked for.
    pub aborted: Vec<(i64, i64)>,
    /// Where the log ended when the read was planned.
    pub end: i64,
    pub last_stable: i64,
    pub start: i64,
}

/// Where to read. It holds what it needs, so the log may go on in the meantime.
#[derive(Debug)]
pub struct ReadPlan {
    file: Arc<File>,
    path: Arc<Path>,
    /// A batch at or a little before the first one.
    position: u64,
    /// Where the last batch ends, or a few later ones.
    position_end: u64,
    from: i64,
    /// Batches that start here or later are not read.
    limit: i64,
    max_bytes: usize,
    at_least_one: bool,
    answer: Read,
}

impl PartitionLog {
    /// Reads whole batches from the one with offset `from` on, at most `max_bytes`.
    ///
    /// With `committed` it ends where the oldest open transaction starts. With `at_least_one` the first batch comes
    /// whatever its size.
    ///
    /// # Errors
    /// If the log does not have that offset, or the system can't read.
    pub fn read(
        &self,
        from: i64,
        max_bytes: usize,
        committed: bool,
        at_least_one: bool,
    ) -> Result<Read, RangeError> {
        Ok(self.plan_read(from, max_bytes, committed, at_least_one)?.run()?)
    }

    /// Finds where to read what [`PartitionLog::read`] reads; the plan can run when the log is unlocked.
    ///
    /// # Errors
    /// If the log does not have that offset.
    pub fn plan_read(
        &self,
        from: i64,
        max_bytes: usize,
        committed: bool,
        at_least_one: bool,
    ) -> Result<ReadPlan, OutOfRange> {
        let (start, end, last_stable) = (self.start, self.end_offset(), self.last_stable_offset());
        if from < start || from > end {
            return Err(OutOfRange { offset: from, start, end });
        }
        let limit = if committed { last_stable } else { end };
        let segment = &self.segments[self.segment_with(from)];
        let position = segment.position_before(from);
        // Nothing is to be read at the limit, which is where most reads of a live consumer are.
        let position_end = if from < limit { segment.position_after(limit) } else { position };
        let aborted = if committed && from < limit {
            self.aborted.overlapping(from, limit.min(segment.last_offset + 1))
        } else {
            Vec::new()
        };
        let answer = Read { records: Bytes::new(), aborted, end, last_stable, start };
        Ok(ReadPlan {
            file: Arc::clone(&segment.file),
            path: Arc::clone(&segment.path),
            position,
            position_end,
            from,
            limit,
            max_bytes,
            at_least_one,
            answer,
        })
    }
}

impl ReadPlan {
    /// Reads.
    ///
    /// # Errors
    /// If the system can't, or the file was damaged since the log was opened.
    pub fn run(mut self) -> Result<Read, LogError> {
        let Some((buffer, skipped, first)) = self.find_first()? else {
            return Ok(Read { aborted: Vec::new(), ..self.answer });
        };
        let (records, last_offset) = if first.size > self.max_bytes {
            (self.single(&first, buffer, skipped)?, first.last_offset())
        } else {
            let (end, last_offset) = self.last_batch(&buffer, skipped)?;
            (Bytes::from(buffer).slice(skipped..end), last_offset)
        };
        self.answer.aborted.retain(|(_, first_offset)| *first_offset <= last_offset);
        Ok(Read { records, ..self.answer })
    }

    /// Reads up to `max_bytes` from the first batch on. Returns where it starts in the buffer, and its header.
    fn find_first(&mut self) -> Result<Option<(Vec<u8>, usize, BatchHeader)>, LogError> {
        // What lies before the first batch is at most as much as the index leaves out, and a header to see it.
        let wanted = bytes(self.max_bytes).saturating_add(INDEX_EVERY).saturating_add(bytes(HEADER_BYTES));
        while self.position < self.position_end {
            let buffer = self.read_at(self.position, wanted.min(self.position_end - self.position))?;
            let mut at = 0;
            while at + HEADER_BYTES <= buffer.len() {
                let header = self.header(&buffer, at)?;
                if header.base_offset >= self.limit {
                    return Ok(None);
                }
                if header.last_offset() >= self.from {
                    let fits = header.size <= self.max_bytes || self.at_least_one;
                    return Ok(fits.then_some((buffer, at, header)));
                }
                at += header.size;
            }
            // Compaction took what followed a large batch, so the first one is further on.
            self.position += bytes(at.max(1));
        }
        Ok(None)
    }

    /// Where the last batch ends that may be read, and its last offset. The first one may be.
    fn last_batch(&self, buffer: &[u8], start: usize) -> Result<(usize, i64), LogError> {
        let (mut end, mut last_offset) = (start, self.from);
        while end + HEADER_BYTES <= buffer.len() {
            let header = self.header(buffer, end)?;
            let next = end + header.size;
            if header.base_offset >= self.limit || next - start > self.max_bytes || next > buffer.len() {
                break;
            }
            (end, last_offset) = (next, header.last_offset());
        }
        Ok((end, last_offset))
    }

    /// A batch that is larger than what was asked for.
    fn single(&self, first: &BatchHeader, buffer: Vec<u8>, skipped: usize) -> Result<Bytes, LogError> {
        if skipped + first.size <= buffer.len() {
            return Ok(Bytes::from(buffer).slice(skipped..skipped + first.size));
        }
        Ok(self.read_at(self.position + bytes(skipped), bytes(first.size))?.into())
    }

    fn header(&self, buffer: &[u8], at: usize) -> Result<BatchHeader, LogError> {
        let position = self.position + bytes(at);
        let corrupt = |fault: Fault| CorruptBatch { path: self.path.to_path_buf(), position, fault };
        Ok(BatchHeader::parse(&buffer[at..]).map_err(corrupt)?)
    }

    fn read_at(&self, position: u64, count: u64) -> Result<Vec<u8>, LogError> {
        let mut buffer = vec![0; index(count)];
        let read =
            if count == 0 { io::Result::Ok(()) } else { self.file.read_exact_at(&mut buffer, position) };
        read.context("read", &self.path)?;
        Ok(buffer)
    }
}
