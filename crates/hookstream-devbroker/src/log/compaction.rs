//! Compaction: of the records with a key only the latest stays.
//!
//! It works on closed segments below the last stable offset, in three steps, so that the log is only held for the
//! first and the last: [`PartitionLog::compaction`] takes stock, [`Compaction::clean`] writes new segments beside the
//! old ones, [`PartitionLog::install`] puts them in their place.
//!
//! What stays is decided as in Kafka:
//! - a record, if none with its key comes later, it has a key, and its transaction was not aborted;
//! - a tombstone besides only until its *delete horizon*: the time of the first cleaning that saw it and
//!   `delete.retention.ms`. The batch carries it in place of its first timestamp;
//! - a marker, as long as its transaction has records, and then until a delete horizon of its own;
//! - a batch, if need be without records, that a live producer's last sequence numbers are known from.
//!
//! Offsets never change. A batch whose records can't be read stays as it is.

mod latest;
mod rewrite;

use std::collections::HashSet;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use self::latest::Latest;
use self::rewrite::{Rewriter, Written};
use super::error::{IoFailed, LogError};
use super::files;
use super::partition_log::PartitionLog;
use super::producers::Ended;
use super::segment::Segment;

/// Below this part of bytes that were never cleaned a cleaning is not worth its while (Kafka's default).
const MIN_DIRTY_RATIO: f64 = 0.5;

/// A closed segment, as it was when stock was taken.
#[derive(Debug)]
struct Source {
    base: i64,
    /// The base offset of the next segment.
    end: i64,
    last_offset: i64,
    size: u64,
    last_write_ms: i64,
    file: Arc<File>,
}

/// What a cleaning needs to know of the log.
#[derive(Debug)]
pub struct Compaction {
    dir: PathBuf,
    sources: Vec<Source>,
    /// What is below was cleaned before.
    dirty_from: i64,
    aborted: Vec<Ended>,
    /// Last offsets of batches that producers are known from.
    evidence: HashSet<i64>,
    segment_bytes: u64,
    delete_retention_ms: i64,
    now_ms: i64,
}

/// What a cleaning wrote; nothing of it counts before it is installed.
#[derive(Debug)]
#[must_use = "the cleaned segments take the place of the old ones only when they are installed"]
pub struct Cleaned {
    groups: Vec<CleanedGroup>,
    cleaned_to: i64,
    next_horizon: Option<i64>,
}

/// Segments that become one.
#[derive(Debug)]
struct CleanedGroup {
    sources: Vec<Arc<File>>,
    base: i64,
    end: i64,
    segment: Segment,
}

/// What a cleaning did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    pub bytes_before: u64,
    pub bytes_after: u64,
}

impl PartitionLog {
    /// Which part of what could be cleaned was never cleaned, from 0 to 1.
    #[must_use]
    pub fn dirty_ratio(&self, now_ms: i64) -> f64 {
        let cleanable = self.cleanable(now_ms);
        let size = |segments: &[Segment]| segments.iter().map(|segment| segment.size).sum::<u64>();
        let clean = cleanable.partition_point(|segment| segment.base < self.cleaning.cleaned_to);
        let (clean, dirty) = cleanable.split_at(clean);
        let (clean, dirty) = (size(clean), size(dirty));
        if dirty == 0 {
            return 0.0;
        }
        ratio(dirty, clean + dirty)
    }

    /// Whether half of it was never cleaned, or something that was kept for a while may go.
    #[must_use]
    pub fn is_worth_compacting(&self, now_ms: i64) -> bool {
        self.config.cleanup_compact
            && (self.dirty_ratio(now_ms) >= MIN_DIRTY_RATIO
                || self.cleaning.next_horizon.is_some_and(|horizon| horizon <= now_ms))
    }

    /// Takes stock for a cleaning, if there is anything that may be cleaned. There may be one at a time.
    #[must_use]
    pub fn compaction(&self, now_ms: i64) -> Option<Compaction> {
        let cleanable = self.cleanable(now_ms);
        let end = self.segments.get(cleanable.len())?.base;
        if !self.config.cleanup_compact || cleanable.is_empty() || self.cleaning.unfinished {
            return None;
        }
        let ends = self.segments.iter().skip(1).map(|next| next.base);
        let source = |(segment, end): (&Segment, i64)| Source {
            base: segment.base,
            end,
            last_offset: segment.last_offset,
            size: segment.size,
            last_write_ms: segment.last_write_ms,
            file: Arc::clone(&segment.file),
        };
        Some(Compaction {
            dir: self.dir.clone(),
            sources: cleanable.iter().zip(ends).map(source).collect(),
            dirty_from: self.cleaning.cleaned_to,
            aborted: self.aborted.started_before(end).collect(),
            evidence: self.producers.evidence(now_ms),
            segment_bytes: self.config.segment_bytes,
            delete_retention_ms: self.config.delete_retention_ms,
            now_ms,
        })
    }

    /// Closed segments in which every transaction has ended and every record is old enough.
    fn cleanable(&self, now_ms: i64) -> &[Segment] {
        let stable = self.last_stable_offset();
        let young = now_ms.saturating_sub(self.config.min_compaction_lag_ms);
        let may = |pair: &&[Segment]| {
            let old = self.config.min_compaction_lag_ms == 0 || pair[0].age_timestamp() <= young;
            pair[1].base <= stable && old
        };
        &self.segments[..self.segments.windows(2).take_while(may).count()]
    }

    /// Puts cleaned segments into the place of those they were made of. What was deleted meanwhile stays so.
    ///
    /// A crash leaves a group of segments either as it was or cleaned.
    ///
    /// # Errors
    /// If the system can't write.
    pub fn install(&mut self, cleaned: Cleaned) -> Result<Compacted, IoFailed> {
        let mut done = Compacted::default();
        for group in cleaned.groups {
            let Some(first) = self.position_of(&group.sources) else {
                files::remove(&files::cleaned_path(&self.dir, group.base))?;
                continue;
            };
            files::commit_swap(&self.dir, group.base, group.end)?;
            // From here on there is no way back, so what fails is tried again.
            self.cleaning.unfinished = true;
            done.bytes_after += group.segment.size;
            let old = self.segments.splice(first..first + group.sources.len(), [group.segment]);
            done.bytes_before += old.map(|segment| segment.size).sum::<u64>();
            files::finish_swap(&self.dir, group.base, group.end)?;
            self.cleaning.unfinished = false;
        }
        self.cleaning.cleaned_to = self.cleaning.cleaned_to.max(cleaned.cleaned_to);
        self.cleaning.next_horizon = cleaned.next_horizon;
        // Their records are gone; those that end later may have some that were not cleaned.
        self.aborted.forget_before(cleaned.cleaned_to);
        Ok(done)
    }

    /// Where these very segments are.
    fn position_of(&self, sources: &[Arc<File>]) -> Option<usize> {
        let same = |window: &[Segment]| {
            window.iter().zip(sources).all(|(segment, source)| Arc::ptr_eq(&segment.file, source))
        };
        self.closed().windows(sources.len()).position(same)
    }

    /// Ends a swap that failed halfway.
    pub(crate) fn settle(&mut self) -> Result<(), IoFailed> {
        if self.cleaning.unfinished {
            files::finish_swaps(&self.dir)?;
            self.cleaning.unfinished = false;
        }
        Ok(())
    }

    /// Cleans at once, with the log held. Returns `None` if there is nothing that may be cleaned.
    ///
    /// # Errors
    /// If the system can't read or write, or a segment was damaged since the log was opened.
    pub fn compact(&mut self, now_ms: i64) -> Result<Option<Compacted>, LogError> {
        let Some(compaction) = self.compaction(now_ms) else { return Ok(None) };
        Ok(Some(self.install(compaction.clean()?)?))
    }
}

/// A part of a whole; precise enough for sizes that no disk has.
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

impl Compaction {
    /// Writes new segments for those that change. It reads the old ones twice, and needs about 50 bytes of memory
    /// for each different key.
    ///
    /// # Errors
    /// If the system can't read or write, or a segment was damaged since the log was opened.
    pub fn clean(&self) -> Result<Cleaned, LogError> {
        let mut latest = Latest::new(&self.aborted);
        let mut count = 0;
        for source in &self.sources {
            if source.base >= self.dirty_from {
                if latest.is_full() {
                    break;
                }
                latest.add(&self.dir, source)?;
            }
            count += 1;
        }
        let sources = &self.sources[..count];
        let mut rewriter = Rewriter::new(self, &latest);
        let mut groups = Vec::new();
        for group in self.groups(sources) {
            if let Written::Changed(segment) = rewriter.write(group)? {
                let (base, end) = (group[0].base, group[group.len() - 1].end);
                let sources = group.iter().map(|source| Arc::clone(&source.file)).collect();
                groups.push(CleanedGroup { sources, base, end, segment });
            }
        }
        let cleaned_to = sources.last().map_or(self.dirty_from, |source| source.end);
        Ok(Cleaned { groups, cleaned_to, next_horizon: rewriter.next_horizon() })
    }

    /// Neighbours that fit into one segment even if nothing of them goes.
    fn groups<'a>(&self, sources: &'a [Source]) -> Vec<&'a [Source]> {
        let mut groups = Vec::new();
        let mut rest = sources;
        while let Some(first) = rest.first() {
            let mut size = 0;
            let fits = |source: &&Source| {
                size += source.size;
                size <= self.segment_bytes && source.last_offset - first.base <= i64::from(i32::MAX)
            };
            let count = rest.iter().take_while(fits).count();
            let (group, others) = rest.split_at(count.max(1));
            groups.push(group);
            rest = others;
        }
        groups
    }
}
