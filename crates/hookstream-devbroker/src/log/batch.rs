//! The header of a record batch (format 2), and the few bytes of it that a broker writes.
//!
//! A batch is kept as the client sent it. Its offset and leader epoch are not covered by its checksum, so
//! placing it in the log changes nothing else.

use std::fmt;

/// Bytes of a batch before its records.
pub(crate) const HEADER_BYTES: usize = 61;
/// Bytes that a batch's length does not count: the base offset and the length itself.
const PREFIX_BYTES: usize = 12;

const LENGTH: usize = 8;
const LEADER_EPOCH: usize = 12;
const MAGIC: usize = 16;
const CRC: usize = 17;
const ATTRIBUTES: usize = 21;
const LAST_OFFSET_DELTA: usize = 23;
const BASE_TIMESTAMP: usize = 27;
const MAX_TIMESTAMP: usize = 35;
const PRODUCER_ID: usize = 43;
const PRODUCER_EPOCH: usize = 51;
const BASE_SEQUENCE: usize = 53;
const RECORD_COUNT: usize = 57;

const COMPRESSION: i16 = 0b111;
const LOG_APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;
const DELETE_HORIZON: i16 = 1 << 6;

/// What is wrong with the bytes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// They end within the header.
    Short,
    /// The length is less than that of a header.
    Length(i32),
    /// They end before the batch does.
    Cut { size: u64, available: u64 },
    /// The format is not 2.
    Magic(i8),
    /// The checksum is not that of the content.
    Crc,
    /// The number of records can't be.
    Count { records: i32, last_offset_delta: i32 },
    /// The offset is lower than one before it, or too high for the segment.
    Offset { base_offset: i64, expected: i64 },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => write!(f, "there is less than a batch's header"),
            Self::Length(length) => write!(f, "the length can't be {length}"),
            Self::Cut { size, available } => {
                write!(f, "the batch has {size} bytes, of which {available} are there")
            }
            Self::Magic(magic) => write!(f, "the format is {magic}, not 2"),
            Self::Crc => write!(f, "the checksum does not fit the content"),
            Self::Count { records, last_offset_delta } => {
                write!(f, "{records} records do not fit a last offset delta of {last_offset_delta}")
            }
            Self::Offset { base_offset, expected } => {
                write!(f, "the offset can't be {base_offset} where {expected} is due")
            }
        }
    }
}

/// A batch without its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub(crate) base_offset: i64,
    /// All bytes of the batch.
    pub(crate) size: usize,
    pub(crate) attributes: i16,
    pub(crate) last_offset_delta: i32,
    pub(crate) base_timestamp: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) base_sequence: i32,
    pub(crate) record_count: i32,
}

impl BatchHeader {
    /// Reads the header of the batch that `bytes` start with; more may follow it, and its records may be missing.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let header: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(Fault::Short)?;
        // Older formats have it at the same place, and little else.
        let [magic] = field(header, MAGIC);
        if magic != 2 {
            return Err(Fault::Magic(magic.cast_signed()));
        }
        let size = size_of_batch(header)?;
        let parsed = Self {
            base_offset: i64::from_be_bytes(field(header, 0)),
            size,
            attributes: i16::from_be_bytes(field(header, ATTRIBUTES)),
            last_offset_delta: i32::from_be_bytes(field(header, LAST_OFFSET_DELTA)),
            base_timestamp: i64::from_be_bytes(field(header, BASE_TIMESTAMP)),
            max_timestamp: i64::from_be_bytes(field(header, MAX_TIMESTAMP)),
            producer_id: i64::from_be_bytes(field(header, PRODUCER_ID)),
            producer_epoch: i16::from_be_bytes(field(header, PRODUCER_EPOCH)),
            base_sequence: i32::from_be_bytes(field(header, BASE_SEQUENCE)),
            record_count: i32::from_be_bytes(field(header, RECORD_COUNT)),
        };
        // Compaction takes records and leaves their offsets, so there may be fewer, or none.
        let (records, last_offset_delta) = (parsed.record_count, parsed.last_offset_delta);
        if last_offset_delta < 0
            || records < 0
            || records.checked_sub(1).is_none_or(|n| n > last_offset_delta)
        {
            return Err(Fault::Count { records, last_offset_delta });
        }
        Ok(parsed)
    }

    pub(crate) fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(self.last_offset_delta.into())
    }

    /// The sequence number of the last record; numbers start again with 0 after the greatest.
    pub(crate) fn last_sequence(&self) -> i32 {
        let last = i64::from(self.base_sequence) + i64::from(self.last_offset_delta);
        i32::try_from(last % (i64::from(i32::MAX) + 1)).expect("the remainder is at most the greatest i32")
    }

    pub(crate) fn codec(&self) -> i16 {
        self.attributes & COMPRESSION
    }

    pub(crate) fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    pub(crate) fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    pub(crate) fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    pub(crate) fn is_idempotent(&self) -> bool {
        self.producer_id >= 0
    }

    /// Until when tombstones and markers stay, if a cleaning saw them.
    pub(crate) fn delete_horizon(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON != 0).then_some(self.base_timestamp)
    }

    /// This header with a delete horizon, which takes the place of the first timestamp.
    pub(crate) fn with_delete_horizon(self, horizon: i64) -> Self {
        Self { attributes: self.attributes | DELETE_HORIZON, base_timestamp: horizon, ..self }
    }

    /// This header with the time of the log.
    pub(crate) fn with_log_append_time(self, now_ms: i64) -> Self {
        Self { attributes: self.attributes | LOG_APPEND_TIME, max_timestamp: now_ms, ..self }
    }

    /// This header for no records at all.
    pub(crate) fn emptied(self) -> Self {
        Self { attributes: self.attributes & !COMPRESSION, record_count: 0, ..self }
    }

    /// Makes a batch of this header, whose size is not looked at, and the records as they are written.
    pub(crate) fn with_records(&self, records: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes.extend_from_slice(records);
        put(&mut bytes, 0, self.base_offset.to_be_bytes());
        let length =
            i32::try_from(bytes.len() - PREFIX_BYTES).expect("a batch was smaller than 2 GiB before");
        put(&mut bytes, LENGTH, length.to_be_bytes());
        put(&mut bytes, MAGIC, [2]);
        put(&mut bytes, ATTRIBUTES, self.attributes.to_be_bytes());
        put(&mut bytes, LAST_OFFSET_DELTA, self.last_offset_delta.to_be_bytes());
        put(&mut bytes, BASE_TIMESTAMP, self.base_timestamp.to_be_bytes());
        put(&mut bytes, MAX_TIMESTAMP, self.max_timestamp.to_be_bytes());
        put(&mut bytes, PRODUCER_ID, self.producer_id.to_be_bytes());
        put(&mut bytes, PRODUCER_EPOCH, self.producer_epoch.to_be_bytes());
        put(&mut bytes, BASE_SEQUENCE, self.base_sequence.to_be_bytes());
        put(&mut bytes, RECORD_COUNT, self.record_count.to_be_bytes());
        seal(&mut bytes);
        bytes
    }
}

/// All bytes of the batch with this header.
fn size_of_batch(header: &[u8; HEADER_BYTES]) -> Result<usize, Fault> {
    let length = i32::from_be_bytes(field(header, LENGTH));
    let size = usize::try_from(length).ok().map(|length| length + PREFIX_BYTES);
    size.filter(|size| *size >= HEADER_BYTES).ok_or(Fault::Length(length))
}

/// Whether the checksum of a whole batch fits its content.
pub(crate) fn crc_fits(batch: &[u8]) -> bool {
    let crc = u32::from_be_bytes(field(batch, CRC));
    crc == crc32c::crc32c(&batch[ATTRIBUTES..])
}

/// Gives a batch its place in the log. There is one leader for ever, so its epoch is 0.
pub(crate) fn place(batch: &mut [u8], base_offset: i64) {
    put(batch, 0, base_offset.to_be_bytes());
    put(batch, LEADER_EPOCH, 0_i32.to_be_bytes());
}

/// Gives all records of a batch the time of the log.
pub(crate) fn stamp(batch: &mut [u8], now_ms: i64) {
    let attributes = i16::from_be_bytes(field(batch, ATTRIBUTES)) | LOG_APPEND_TIME;
    put(batch, ATTRIBUTES, attributes.to_be_bytes());
    put(batch, MAX_TIMESTAMP, now_ms.to_be_bytes());
    seal(batch);
}

fn seal(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[ATTRIBUTES..]);
    put(batch, CRC, crc.to_be_bytes());
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    *bytes[at..].first_chunk().expect("a header has all its fields")
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marker {
    Abort,
    Commit,
}

impl Marker {
    /// Makes the control batch that ends a transaction.
    pub(crate) fn batch(self, producer_id: i64, epoch: i16, base_offset: i64, now_ms: i64) -> Vec<u8> {
        let header = BatchHeader {
            base_offset,
            size: 0,
            attributes: TRANSACTIONAL | CONTROL,
            last_offset_delta: 0,
            base_timestamp: now_ms,
            max_timestamp: now_ms,
            producer_id,
            producer_epoch: epoch,
            base_sequence: -1,
            record_count: 1,
        };
        let kind = match self {
            Self::Abort => 0,
            Self::Commit => 1,
        };
        // Lengths are zigzag varints, so twice as large as what they say: the record has 16 bytes, its key
        // (version, type) 4, its value (version, coordinator epoch) 6. No attributes, deltas or headers.
        header.with_records(&[32, 0, 0, 0, 8, 0, 0, 0, kind, 12, 0, 0, 0, 0, 0, 0, 0])
    }

    /// What a control record's key says; other kinds than these two end no transaction.
    pub(crate) fn of_key(key: &[u8]) -> Option<Self> {
        match key {
            [_, _, 0, 0, ..] => Some(Self::Abort),
            [_, _, 0, 1, ..] => Some(Self::Commit),
            _ => None,
        }
    }
}
