//! Writes what stays of segments.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::super::batch::BatchHeader;
use super::super::crash;
use super::super::error::{IoContext, IoFailed, LogError};
use super::super::files;
use super::super::record::{self, Record};
use super::super::scan::Scanner;
use super::super::segment::Segment;
use super::super::time::scan_failed;
use super::latest::Latest;
use super::{Compaction, Source};

/// How much is written at once.
const WRITE_BYTES: usize = 1024 * 1024;

/// What became of a group of segments.
pub(super) enum Written {
    /// Nothing is to go.
    Same,
    Changed(Segment),
}

/// What becomes of a batch.
enum Verdict {
    Stays,
    Goes,
    Becomes(Vec<u8>),
}

/// Goes through all that is cleaned, in order.
pub(super) struct Rewriter<'a> {
    task: &'a Compaction,
    latest: &'a Latest,
    /// Producers whose transaction, the marker of which is still to come, has a record that stays.
    with_records: HashSet<i64>,
    next_horizon: Option<i64>,
}

impl<'a> Rewriter<'a> {
    pub(super) fn new(task: &'a Compaction, latest: &'a Latest) -> Self {
        Self { task, latest, with_records: HashSet::new(), next_horizon: None }
    }

    /// When the first of what was kept for a while may go.
    pub(super) fn next_horizon(&self) -> Option<i64> {
        self.next_horizon
    }

    /// Writes what stays of neighbours to one new file.
    pub(super) fn write(&mut self, group: &[Source]) -> Result<Written, LogError> {
        let mut output = Output::create(&self.task.dir, group)?;
        let mut changed = group.len() > 1;
        for source in group {
            let mut scanner = Scanner::new(&source.file, 0, source.size, source.base);
            let failed = |error| scan_failed(&self.task.dir, source.base, error);
            while let Some(batch) = scanner.next_batch().map_err(failed)? {
                match self.judge(&batch.header, batch.bytes) {
                    Verdict::Stays => output.push(batch.header, batch.bytes)?,
                    Verdict::Goes => changed = true,
                    Verdict::Becomes(bytes) => {
                        changed = true;
                        let header = BatchHeader::parse(&bytes).expect("a batch made here has a header");
                        output.push(header, &bytes)?;
                    }
                }
            }
        }
        if changed {
            return Ok(Written::Changed(output.finish()?));
        }
        files::remove(&output.path)?;
        Ok(Written::Same)
    }

    fn judge(&mut self, header: &BatchHeader, batch: &[u8]) -> Verdict {
        if header.is_control() {
            self.judge_marker(header, batch)
        } else if self.latest.is_aborted(header) {
            self.empty(header)
        } else {
            self.judge_data(header, batch)
        }
    }

    fn judge_marker(&mut self, header: &BatchHeader, batch: &[u8]) -> Verdict {
        let has_records = self.with_records.remove(&header.producer_id);
        if has_records || self.task.evidence.contains(&header.last_offset()) {
            return Verdict::Stays;
        }
        match header.delete_horizon() {
            Some(horizon) if horizon <= self.task.now_ms => Verdict::Goes,
            Some(horizon) => {
                self.keep_until(horizon);
                Verdict::Stays
            }
            None => {
                let horizon = self.new_horizon();
                let Ok(unpacked) = record::unpack(header, batch) else { return Verdict::Stays };
                let Ok(records) = record::parse(header, &unpacked) else { return Verdict::Stays };
                self.rebuild(header, Some(horizon), &records)
            }
        }
    }

    fn judge_data(&mut self, header: &BatchHeader, batch: &[u8]) -> Verdict {
        let unpacked = record::unpack(header, batch);
        let unpacked = unpacked.as_deref().map_err(|unreadable| *unreadable);
        let Ok(records) = unpacked.and_then(|unpacked| record::parse(header, unpacked)) else {
            self.note_records(header);
            return Verdict::Stays;
        };
        let horizon = header.delete_horizon();
        let is_past = horizon.is_some_and(|horizon| horizon <= self.task.now_ms);
        let stays = |record: &&Record<'_>| {
            let is_latest = record.key.is_some_and(|key| !self.latest.is_outdated(key, record.offset));
            is_latest && (!record.is_tombstone || !is_past)
        };
        let kept: Vec<_> = records.iter().filter(stays).copied().collect();
        if kept.is_empty() {
            return self.empty(header);
        }
        self.note_records(header);
        let has_tombstones = kept.iter().any(|record| record.is_tombstone);
        let new_horizon = (has_tombstones && horizon.is_none()).then(|| self.new_horizon());
        if let Some(horizon) = horizon.filter(|_| has_tombstones).or(new_horizon) {
            self.keep_until(horizon);
        }
        if kept.len() == records.len() && new_horizon.is_none() {
            return Verdict::Stays;
        }
        self.rebuild(header, new_horizon, &kept)
    }

    /// The marker of this batch's transaction is needed.
    fn note_records(&mut self, header: &BatchHeader) {
        if header.is_transactional() {
            self.with_records.insert(header.producer_id);
        }
    }

    /// No record stays; the batch does if a producer's numbers are known from it.
    fn empty(&self, header: &BatchHeader) -> Verdict {
        if !self.task.evidence.contains(&header.last_offset()) {
            Verdict::Goes
        } else if header.record_count == 0 {
            Verdict::Stays
        } else {
            Verdict::Becomes(header.emptied().with_records(&[]))
        }
    }

    fn rebuild(&mut self, header: &BatchHeader, horizon: Option<i64>, kept: &[Record<'_>]) -> Verdict {
        let new = horizon.map_or(*header, |horizon| header.with_delete_horizon(horizon));
        if let Some(horizon) = horizon {
            self.keep_until(horizon);
        }
        // Only times that no clock shows can't be written relative to another one.
        record::rebuild(&new, header.base_timestamp, kept).map_or(Verdict::Stays, Verdict::Becomes)
    }

    fn new_horizon(&self) -> i64 {
        self.task.now_ms.saturating_add(self.task.delete_retention_ms)
    }

    fn keep_until(&mut self, horizon: i64) {
        self.next_horizon = Some(self.next_horizon.map_or(horizon, |next| next.min(horizon)));
    }
}

/// A new segment under its temporary name.
struct Output {
    segment: Segment,
    path: PathBuf,
    final_path: PathBuf,
    buffer: Vec<u8>,
    headers: Vec<BatchHeader>,
    last_write_ms: i64,
}

impl Output {
    fn create(dir: &Path, group: &[Source]) -> Result<Self, IoFailed> {
        let base = group[0].base;
        let path = files::cleaned_path(dir, base);
        let last_write_ms = group.iter().map(|source| source.last_write_ms).max().unwrap_or(0);
        let segment = Segment::new(base, path.clone(), files::create(&path)?, last_write_ms);
        let final_path = files::segment_path(dir, base);
        Ok(Self { segment, path, final_path, buffer: Vec::new(), headers: Vec::new(), last_write_ms })
    }

    fn push(&mut self, header: BatchHeader, batch: &[u8]) -> Result<(), IoFailed> {
        self.buffer.extend_from_slice(batch);
        self.headers.push(header);
        if self.buffer.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), IoFailed> {
        self.segment.append(&self.buffer, &self.headers, self.last_write_ms)?;
        self.buffer.clear();
        self.headers.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<Segment, IoFailed> {
        crash::point().context("write to", &self.path)?;
        self.flush()?;
        self.segment.file.sync_all().context("sync", &self.path)?;
        crash::point().context("sync", &self.path)?;
        self.segment.path = self.final_path.into();
        Ok(self.segment)
    }
}
