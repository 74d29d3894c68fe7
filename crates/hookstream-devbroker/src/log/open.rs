//! Opening a log: what its batches say becomes known again, and what a crash left is put in order.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::batch::{Fault, Marker};
use super::config::LogConfig;
use super::durability::Durability;
use super::error::{CorruptBatch, IoContext, IoFailed, LogError, OpenError};
use super::files;
use super::partition_log::{Cleaning, PartitionLog};
use super::producers::{AbortedTransactions, Producers, marker_of};
use super::scan::{ScanError, Scanned, Scanner};
use super::segment::Segment;

/// What was found wrong, and mended, when a log was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The end of the last segment that was cut, because it held no batches.
    pub cut: Option<Cut>,
}

/// A piece of a file that was cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    pub path: PathBuf,
    pub position: u64,
    pub bytes: u64,
    pub fault: Fault,
}

impl PartitionLog {
    /// Opens the log in a directory, which is made if there is none, and checks all of it.
    ///
    /// # Errors
    /// If the system can't read or write, or a batch is damaged that a crash can't have damaged.
    pub fn open(dir: &Path, config: LogConfig, now_ms: i64) -> Result<(Self, Recovery), OpenError> {
        fs::create_dir_all(dir).context("create", dir)?;
        let mut bases = files::tidy(dir)?;
        let stored_start = files::read_start_offset(dir)?;
        if bases.is_empty() {
            let base = stored_start.unwrap_or(0);
            files::create(&files::segment_path(dir, base))?;
            files::sync_dir(dir)?;
            files::sync_parent(dir)?;
            bases.push(base);
        }
        delete_below(dir, &mut bases, stored_start)?;
        let mut replay = Replay::new(bases[0], stored_start, now_ms);
        let last = bases.len() - 1;
        for (idx, base) in bases.into_iter().enumerate() {
            replay.segment(dir, base, idx == last)?;
        }
        Ok(replay.finish(dir, config)?)
    }
}

/// Deletes the segments that end before the start, so that nothing is known from them.
fn delete_below(dir: &Path, bases: &mut Vec<i64>, start: Option<i64>) -> Result<(), IoFailed> {
    let ends = bases.iter().skip(1);
    let gone = ends.take_while(|end| start.is_some_and(|start| **end <= start)).count();
    for base in bases.drain(..gone) {
        files::remove(&files::segment_path(dir, base))?;
    }
    if gone > 0 { files::sync_dir(dir) } else { Ok(()) }
}

/// The log as far as it was read.
struct Replay {
    segments: Vec<Segment>,
    producers: Producers,
    aborted: AbortedTransactions,
    first_base: i64,
    stored_start: Option<i64>,
    /// The offset after the last batch.
    end: i64,
    cut: Option<Cut>,
    now_ms: i64,
}

impl Replay {
    fn new(first_base: i64, stored_start: Option<i64>, now_ms: i64) -> Self {
        Self {
            segments: Vec::new(),
            producers: Producers::default(),
            aborted: AbortedTransactions::default(),
            first_base,
            stored_start,
            end: first_base,
            cut: None,
            now_ms,
        }
    }

    fn segment(&mut self, dir: &Path, base: i64, is_last: bool) -> Result<(), LogError> {
        let path = files::segment_path(dir, base);
        let file = files::open(&path)?;
        let length = file.metadata().context("read", &path)?.len();
        let mut segment = Segment::new(base, path.clone(), file, self.now_ms);
        self.end = self.end.max(base);
        let file = Arc::clone(&segment.file);
        let mut scanner = Scanner::new(&file, 0, length, self.end);
        loop {
            let result = scanner.next_batch();
            match result.and_then(|batch| batch.map(|batch| self.batch(&mut segment, &batch)).transpose()) {
                Ok(Some(())) => {}
                Ok(None) => break,
                Err(ScanError::Io(error)) => Err(error).context("read", &path)?,
                Err(ScanError::Corrupt { position, fault }) if is_last => {
                    file.set_len(position).context("cut", &path)?;
                    self.cut = Some(Cut { path, position, bytes: length - position, fault });
                    break;
                }
                Err(ScanError::Corrupt { position, fault }) => {
                    return Err(CorruptBatch { path, position, fault }.into());
                }
            }
        }
        self.segments.push(segment);
        Ok(())
    }

    fn batch(&mut self, segment: &mut Segment, batch: &Scanned<'_>) -> Result<(), ScanError> {
        let Scanned { position, header, bytes } = batch;
        // The checksum does not cover the offset, so a wrong one is found only if it is far off.
        if !segment.may_hold(header.last_offset()) {
            let fault = Fault::Offset { base_offset: header.base_offset, expected: self.end };
            return Err(ScanError::Corrupt { position: *position, fault });
        }
        // When it was written is not known, but the client's time is as good a guess as any.
        let written = if header.max_timestamp >= 0 { header.max_timestamp } else { self.now_ms };
        segment.note(header, *position, written.min(self.now_ms));
        self.end = header.last_offset() + 1;
        if !header.is_control() {
            self.producers.on_data(header, self.now_ms);
            return Ok(());
        }
        let Some(marker) = marker_of(header, bytes) else { return Ok(()) };
        let ended = self.producers.on_marker(header, self.now_ms);
        if let (Some(ended), Marker::Abort) = (ended, marker) {
            let last_stable = self.producers.first_open().unwrap_or(self.end);
            self.aborted.push(ended, last_stable);
        }
        Ok(())
    }

    fn finish(mut self, dir: &Path, config: LogConfig) -> Result<(PartitionLog, Recovery), IoFailed> {
        let first_base = self.segments.first().map_or(self.first_base, |segment| segment.base);
        // The start is beyond the end only if a disk lost what it had promised to keep.
        let start = self.stored_start.map_or(first_base, |stored| stored.clamp(first_base, self.end));
        if self.stored_start.is_some_and(|stored| stored > start) {
            files::write_start_offset(dir, start)?;
        }
        self.aborted.forget_before(start);
        let mut log = PartitionLog {
            dir: dir.to_owned(),
            config,
            segments: self.segments,
            start,
            producers: self.producers,
            aborted: self.aborted,
            // What a process wrote before it crashed may not have reached the disk yet.
            durability: Arc::new(Durability::new(-1)),
            cleaning: Cleaning::default(),
            scratch: Vec::new(),
        };
        log.sync()?;
        Ok((log, Recovery { cut: self.cut }))
    }
}
