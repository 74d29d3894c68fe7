//! The records of a batch, unpacked only where a single record matters: keys, tombstones and exact times.
//!
//! A record's bytes are kept as they are, so whatever its headers hold survives a cleaning.

use std::borrow::Cow;

use bytes::Bytes;
use kafka_protocol::compression::{Compressor, Decompressor, Gzip, Lz4, Snappy, Zstd};

use super::batch::{BatchHeader, HEADER_BYTES};

/// The records of a batch can't be read, although its checksum is right: its client wrote them so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

/// A record in its batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) is_tombstone: bool,
    attributes: u8,
    /// What the record says, relative to its batch.
    timestamp_delta: i64,
    /// Everything after the timestamp.
    rest: &'a [u8],
}

/// Unpacks the records of a whole batch.
pub(crate) fn unpack<'a>(header: &BatchHeader, batch: &'a [u8]) -> Result<Cow<'a, [u8]>, Unreadable> {
    let packed = &batch[HEADER_BYTES..header.size];
    if header.codec() == 0 {
        return Ok(Cow::Borrowed(packed));
    }
    let mut packed = Bytes::copy_from_slice(packed);
    let packed = &mut packed;
    let unpacked = match header.codec() {
        1 => Gzip::decompress(packed, |bytes| Ok(std::mem::take(bytes))),
        2 => Snappy::decompress(packed, |bytes| Ok(std::mem::take(bytes))),
        3 => Lz4::decompress(packed, |bytes| Ok(std::mem::take(bytes))),
        4 => Zstd::decompress(packed, |bytes| Ok(std::mem::take(bytes))),
        _ => return Err(Unreadable),
    };
    unpacked.map(|bytes| Cow::Owned(bytes.into())).map_err(|_| Unreadable)
}

fn pack(codec: i16, records: Vec<u8>) -> Result<Vec<u8>, Unreadable> {
    let mut packed = bytes::BytesMut::new();
    let result = match codec {
        0 => return Ok(records),
        1 => Gzip::compress(&mut packed, |out| write(out, &records)),
        2 => Snappy::compress(&mut packed, |out| write(out, &records)),
        3 => Lz4::compress(&mut packed, |out| write(out, &records)),
        4 => Zstd::compress(&mut packed, |out| write(out, &records)),
        _ => return Err(Unreadable),
    };
    result.map(|()| packed.into()).map_err(|_| Unreadable)
}

fn write<E>(out: &mut bytes::BytesMut, records: &[u8]) -> Result<(), E> {
    out.extend_from_slice(records);
    Ok(())
}

/// Reads all records of an unpacked batch. There must be as many as the header says.
pub(crate) fn parse<'a>(header: &BatchHeader, unpacked: &'a [u8]) -> Result<Vec<Record<'a>>, Unreadable> {
    let mut cursor = Cursor(unpacked);
    let mut records = Vec::new();
    for _ in 0..header.record_count {
        records.push(next_record(header, &mut cursor).ok_or(Unreadable)?);
    }
    if cursor.0.is_empty() { Ok(records) } else { Err(Unreadable) }
}

fn next_record<'a>(header: &BatchHeader, cursor: &mut Cursor<'a>) -> Option<Record<'a>> {
    let length = usize::try_from(cursor.varint()?).ok()?;
    let mut body = Cursor(cursor.take(length)?);
    let [attributes] = *body.take(1)? else { return None };
    let timestamp_delta = body.varint()?;
    let rest = body.0;
    let offset_delta = body.varint()?;
    if !(0..=i64::from(header.last_offset_delta)).contains(&offset_delta) {
        return None;
    }
    let key = body.optional()?;
    let value = body.optional()?;
    let timestamp = if header.is_log_append_time() {
        header.max_timestamp
    } else {
        header.base_timestamp.checked_add(timestamp_delta)?
    };
    let offset = header.base_offset.checked_add(offset_delta)?;
    Some(Record { offset, timestamp, key, is_tombstone: value.is_none(), attributes, timestamp_delta, rest })
}

/// Makes a batch of some of the records of another one. Offsets, sequence numbers and packing stay.
///
/// `header` is that of the new batch; its first timestamp may be another one, as records follow.
pub(crate) fn rebuild(
    header: &BatchHeader,
    old_base_timestamp: i64,
    kept: &[Record<'_>],
) -> Result<Vec<u8>, Unreadable> {
    let mut records = Vec::new();
    for record in kept {
        let delta = old_base_timestamp.checked_add(record.timestamp_delta);
        let delta = delta.and_then(|time| time.checked_sub(header.base_timestamp)).ok_or(Unreadable)?;
        put_record(&mut records, record, delta);
    }
    let mut header =
        BatchHeader { record_count: i32::try_from(kept.len()).map_err(|_| Unreadable)?, ..*header };
    if !header.is_log_append_time() {
        let latest = kept.iter().map(|record| record.timestamp).max();
        header.max_timestamp = latest.unwrap_or(header.max_timestamp);
    }
    Ok(header.with_records(&pack(header.codec(), records)?))
}

fn put_record(out: &mut Vec<u8>, record: &Record<'_>, timestamp_delta: i64) {
    let mut delta = Vec::with_capacity(10);
    put_varint(&mut delta, timestamp_delta);
    let length = 1 + delta.len() + record.rest.len();
    put_varint(out, i64::try_from(length).expect("a record is smaller than its batch"));
    out.push(record.attributes);
    out.extend_from_slice(&delta);
    out.extend_from_slice(record.rest);
}

/// Writes a number in zigzag form, seven bits a byte, the lowest first.
fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push(rest.to_le_bytes()[0] | 0x80);
        rest >>= 7;
    }
    out.push(rest.to_le_bytes()[0]);
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<i64> {
        let mut value = 0_u64;
        for (idx, byte) in self.0.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * idx);
            if byte & 0x80 == 0 {
                self.0 = &self.0[idx + 1..];
                return Some((value >> 1).cast_signed() ^ -((value & 1).cast_signed()));
            }
        }
        None
    }

    /// Bytes after their length; -1 stands for none.
    fn optional(&mut self) -> Option<Option<&'a [u8]>> {
        match self.varint()? {
            -1 => Some(None),
            length => Some(Some(self.take(usize::try_from(length).ok()?)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn varints_come_back(value: i64) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            let mut cursor = Cursor(&bytes);
            prop_assert_eq!(cursor.varint(), Some(value));
            prop_assert!(cursor.0.is_empty());
        }

        /// Whatever a client writes, reading it ends with an answer.
        #[test]
        fn any_bytes_are_readable_or_not(mut bytes in proptest::collection::vec(any::<u8>(), 61..300), codec in 0..8_i16) {
            let header = BatchHeader {
                base_offset: 7,
                size: bytes.len(),
                attributes: codec,
                last_offset_delta: 5,
                base_timestamp: i64::MAX - 3,
                max_timestamp: 0,
                producer_id: -1,
                producer_epoch: -1,
                base_sequence: -1,
                record_count: 3,
            };
            bytes[61..].iter_mut().step_by(3).for_each(|byte| *byte &= 15);
            if let Ok(unpacked) = unpack(&header, &bytes) {
                drop(parse(&header, &unpacked));
            }
        }
    }
}
