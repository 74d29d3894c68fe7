//! Writing: everything is checked before a byte is written.

use super::batch::{self, BatchHeader, Fault, Marker};
use super::config::LogConfig;
use super::error::{AppendError, IoFailed};
use super::partition_log::PartitionLog;
use super::producers::Sent;
use super::record;
use super::scan::{bytes, index};

/// Where records are in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    pub base_offset: i64,
    pub last_offset: i64,
    /// The time that the log gave the records, if it gives any.
    pub append_time: Option<i64>,
    /// They were there already: their producer repeated itself.
    pub duplicate: bool,
    /// Where the log starts.
    pub start_offset: i64,
}

/// A buffer larger than this is not kept for the next request.
const SCRATCH_BYTES: usize = 1024 * 1024;
/// The codecs that Kafka has: none, gzip, snappy, lz4 and zstd.
const CODECS: i16 = 5;

impl PartitionLog {
    /// Appends what a Produce request has for this partition: one batch or more.
    ///
    /// Of repeated batches nothing is written, and the answer is where they are.
    ///
    /// # Errors
    /// If anything is wrong with one of them; then none is written.
    pub fn append(&mut self, records: &[u8], now_ms: i64) -> Result<Appended, AppendError> {
        let mut headers = parse(records, &self.config)?;
        place(&mut headers, self.end_offset(), now_ms, &self.config)?;
        let (first, last) = (headers[0], headers[headers.len() - 1]);
        if let Some((first, last)) = self.repeated(&headers, now_ms)? {
            let time = last.max_timestamp;
            return Ok(self.answer(first.base_offset, last.last_offset, time, true));
        }
        self.make_room(last.last_offset(), bytes(records.len()), now_ms)?;
        self.write(records, &headers, now_ms)?;
        for header in &headers {
            self.producers.on_data(header, now_ms);
        }
        Ok(self.answer(first.base_offset, last.last_offset(), now_ms, false))
    }

    fn answer(&self, base_offset: i64, last_offset: i64, time: i64, duplicate: bool) -> Appended {
        let append_time = self.config.log_append_time.then_some(time);
        Appended { base_offset, last_offset, append_time, duplicate, start_offset: self.start }
    }

    /// Checks what the producers may write. Returns the first and the last batch that are repeated, if all are.
    fn repeated(&self, headers: &[BatchHeader], now_ms: i64) -> Result<Option<(Sent, Sent)>, AppendError> {
        let mut check = self.producers.check(now_ms);
        let mut found: Option<(Sent, Sent)> = None;
        for (idx, header) in headers.iter().enumerate() {
            let sent = check.admit(header)?;
            if idx > 0 && sent.is_some() != found.is_some() {
                // A client since Kafka 0.11 sends one batch a partition, so a mixture is none of theirs.
                return Err(AppendError::InvalidRecord(
                    "some of the batches are repeated and others are not",
                ));
            }
            found = sent.map(|sent| (found.map_or(sent, |(first, _)| first), sent));
        }
        Ok(found)
    }

    /// Starts another segment if the last one must not take this.
    fn make_room(&mut self, last_offset: i64, size: u64, now_ms: i64) -> Result<(), IoFailed> {
        let active = self.active();
        if active.is_empty() {
            return Ok(());
        }
        let is_full = active.size + size > self.config.segment_bytes || !active.has_room(last_offset, size);
        if is_full || self.is_roll_due(now_ms) {
            self.roll(now_ms)?;
        }
        Ok(())
    }

    /// Whether the last segment took its first batch too long ago.
    pub(crate) fn is_roll_due(&self, now_ms: i64) -> bool {
        let due = |first: i64| first.saturating_add(self.config.segment_ms) <= now_ms;
        self.active().first_write_ms.is_some_and(due)
    }

    /// Writes batches with their places to the last segment.
    fn write(&mut self, records: &[u8], headers: &[BatchHeader], now_ms: i64) -> Result<(), IoFailed> {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        scratch.extend_from_slice(records);
        let mut rest = scratch.as_mut_slice();
        for header in headers {
            let (batch, others) = rest.split_at_mut(header.size);
            rest = others;
            batch::place(batch, header.base_offset);
            // A marker has its time already.
            if self.config.log_append_time && !header.is_control() {
                batch::stamp(batch, now_ms);
            }
        }
        let written = self.active_mut().append(&scratch, headers, now_ms);
        if scratch.capacity() <= SCRATCH_BYTES {
            self.scratch = scratch;
        }
        written
    }

    /// Ends a producer's transaction, and returns the offset of the marker that says so.
    ///
    /// The marker is written even if none is open here; see [`PartitionLog::has_open_transaction`]. Lower epochs
    /// of the producer are fenced from now on.
    ///
    /// # Errors
    /// If the producer has a higher epoch already, or the system can't write.
    pub fn append_marker(
        &mut self,
        producer_id: i64,
        epoch: i16,
        commit: bool,
        now_ms: i64,
    ) -> Result<i64, AppendError> {
        self.producers.check_marker(producer_id, epoch, now_ms)?;
        let marker = if commit { Marker::Commit } else { Marker::Abort };
        let offset = self.end_offset();
        let batch = marker.batch(producer_id, epoch, offset, now_ms);
        let header = BatchHeader::parse(&batch).expect("a marker made here is a batch");
        self.make_room(offset, bytes(batch.len()), now_ms)?;
        self.write(&batch, &[header], now_ms)?;
        let ended = self.producers.on_marker(&header, now_ms);
        if let (Some(ended), Marker::Abort) = (ended, marker) {
            let last_stable = self.last_stable_offset();
            self.aborted.push(ended, last_stable);
        }
        Ok(offset)
    }
}

/// Takes a request apart and checks all of it that does not depend on what is in the log.
fn parse(records: &[u8], config: &LogConfig) -> Result<Vec<BatchHeader>, AppendError> {
    let max = index(i32::MAX.unsigned_abs().into());
    if records.len() > max {
        return Err(AppendError::TooLarge { size: records.len(), max });
    }
    let mut headers = Vec::with_capacity(1);
    let mut rest = records;
    while !rest.is_empty() {
        let position = records.len() - rest.len();
        let header = parse_batch(rest, position, config)?;
        headers.push(header);
        rest = &rest[header.size..];
    }
    if headers.is_empty() {
        return Err(AppendError::InvalidRecord("there is none"));
    }
    Ok(headers)
}

fn parse_batch(rest: &[u8], position: usize, config: &LogConfig) -> Result<BatchHeader, AppendError> {
    let corrupt = |fault| AppendError::Corrupt { position, fault };
    let header = BatchHeader::parse(rest).map_err(|fault| match fault {
        Fault::Magic(magic) => AppendError::Magic { magic },
        Fault::Count { .. } => AppendError::InvalidRecord("the number of records can't be"),
        fault => corrupt(fault),
    })?;
    let size = header.size;
    if size > config.max_message_bytes {
        return Err(AppendError::TooLarge { size, max: config.max_message_bytes });
    }
    let Some(batch) = rest.get(..size) else {
        return Err(corrupt(Fault::Cut { size: bytes(size), available: bytes(rest.len()) }));
    };
    if !batch::crc_fits(batch) {
        return Err(corrupt(Fault::Crc));
    }
    check_header(&header).map_err(AppendError::InvalidRecord)?;
    if config.cleanup_compact {
        check_keys(&header, batch).map_err(AppendError::InvalidRecord)?;
    }
    Ok(header)
}

fn check_header(header: &BatchHeader) -> Result<(), &'static str> {
    if header.record_count == 0 || header.record_count - 1 != header.last_offset_delta {
        return Err("its number of records is not that of its offsets");
    }
    if header.is_control() || header.delete_horizon().is_some() {
        return Err("only the broker writes control records and delete horizons");
    }
    if header.codec() >= CODECS {
        return Err("its compression is none that Kafka has");
    }
    if header.is_idempotent() && (header.producer_epoch < 0 || header.base_sequence < 0) {
        return Err("its producer has an id, but no epoch or no sequence number");
    }
    if header.is_transactional() && !header.is_idempotent() {
        return Err("it is part of a transaction, but its producer has no id");
    }
    Ok(())
}

fn check_keys(header: &BatchHeader, batch: &[u8]) -> Result<(), &'static str> {
    let unpacked = record::unpack(header, batch).map_err(|_| "its records can't be unpacked")?;
    let records = record::parse(header, &unpacked).map_err(|_| "its records can't be read")?;
    if records.iter().any(|record| record.key.is_none()) {
        return Err("a record has no key, but the topic is compacted");
    }
    Ok(())
}

/// Gives the batches of a request the offsets from `end` on, and the time of the log if it is to have its own.
fn place(headers: &mut [BatchHeader], end: i64, now_ms: i64, config: &LogConfig) -> Result<(), AppendError> {
    let mut next = end;
    for header in headers {
        header.base_offset = next;
        next = header.last_offset() + 1;
        if config.log_append_time {
            *header = header.with_log_append_time(now_ms);
        }
    }
    if next - end > i64::from(i32::MAX) {
        return Err(AppendError::InvalidRecord("there are more records than a segment has offsets"));
    }
    Ok(())
}
