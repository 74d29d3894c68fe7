//! A log in a temporary directory, and batches to put into it.

use std::path::Path;

use bytes::{Bytes, BytesMut};
use kafka_protocol::records::{
    Compression, Record, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use tempfile::TempDir;

use crate::log::{LogConfig, PartitionLog};

/// When the tests take place.
pub(crate) const NOW: i64 = 1_000_000;
pub(crate) const ALL: usize = 1 << 30;

/// A batch as a client makes it.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    records: Vec<(Option<String>, Option<String>, i64)>,
    producer: (i64, i16, i32),
    transactional: bool,
    compression: Compression,
}

/// A batch with so many records without keys.
pub(crate) fn batch(count: usize) -> Batch {
    records(&vec![(None, Some("value")); count])
}

/// A batch with these keys and values.
pub(crate) fn records(records: &[(Option<&str>, Option<&str>)]) -> Batch {
    let owned = |text: &Option<&str>| text.map(str::to_owned);
    Batch {
        records: records.iter().map(|(key, value)| (owned(key), owned(value), NOW)).collect(),
        producer: (-1, -1, -1),
        transactional: false,
        compression: Compression::None,
    }
}

/// A batch with one key and value.
pub(crate) fn pair(key: &str, value: &str) -> Batch {
    records(&[(Some(key), Some(value))])
}

pub(crate) fn tombstone(key: &str) -> Batch {
    records(&[(Some(key), None)])
}

impl Batch {
    pub(crate) fn producer(mut self, id: i64, epoch: i16, sequence: i32) -> Self {
        self.producer = (id, epoch, sequence);
        self
    }

    pub(crate) fn transactional(mut self) -> Self {
        self.transactional = true;
        self
    }

    pub(crate) fn compressed(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Gives the records times.
    pub(crate) fn at(mut self, timestamps: &[i64]) -> Self {
        for (record, timestamp) in self.records.iter_mut().zip(timestamps) {
            record.2 = *timestamp;
        }
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let (producer_id, producer_epoch, first) = self.producer;
        let record =
            |(idx, (key, value, timestamp)): (usize, &(Option<String>, Option<String>, i64))| Record {
                transactional: self.transactional,
                control: false,
                delete_horizon: false,
                partition_leader_epoch: -1,
                producer_id,
                producer_epoch,
                timestamp_type: TimestampType::Creation,
                offset: idx as i64,
                sequence: first.wrapping_add(i32::try_from(idx).unwrap()),
                timestamp: *timestamp,
                key: key.clone().map(Bytes::from),
                value: value.clone().map(Bytes::from),
                headers: [("header".into(), Some(Bytes::from("content")))].into(),
            };
        let records: Vec<_> = self.records.iter().enumerate().map(record).collect();
        let mut bytes = BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression: self.compression };
        RecordBatchEncoder::encode(&mut bytes, &records, &options).unwrap();
        bytes.to_vec()
    }
}

/// Changes a batch and makes its checksum right again.
pub(crate) fn patched(mut batch: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

/// Reads all records of some batches.
pub(crate) fn decode(records: &Bytes) -> Vec<Record> {
    let sets = RecordBatchDecoder::decode_all(&mut records.clone()).unwrap();
    sets.into_iter().flat_map(|set| set.records).collect()
}

/// A log in a directory that goes with it.
pub(crate) struct Fixture {
    pub(crate) dir: TempDir,
    pub(crate) log: PartitionLog,
}

impl Fixture {
    pub(crate) fn new(config: LogConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (log, _) = PartitionLog::open(dir.path(), config, NOW).unwrap();
        Self { dir, log }
    }

    pub(crate) fn append(&mut self, batch: &Batch) -> i64 {
        self.log.append(&batch.bytes(), NOW).unwrap().base_offset
    }

    pub(crate) fn reopen(&mut self) -> crate::log::Recovery {
        let config = self.log.config().clone();
        let (log, recovery) = PartitionLog::open(self.dir.path(), config, NOW).unwrap();
        self.log = log;
        recovery
    }

    /// Everything from the start on, over all segments.
    pub(crate) fn read_all(&self, committed: bool) -> Vec<u8> {
        read_all(&self.log, committed)
    }

    /// All records that a reader without isolation sees, control records apart.
    pub(crate) fn pairs(&self) -> Vec<(i64, String, Option<String>)> {
        let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let data = decode(&self.read_all(false).into()).into_iter().filter(|record| !record.control);
        data.map(|record| (record.offset, record.key.map(text).unwrap_or_default(), record.value.map(text)))
            .collect()
    }

    pub(crate) fn files(&self) -> Vec<String> {
        files(self.dir.path())
    }
}

pub(crate) fn files(dir: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<_> = std::fs::read_dir(dir).unwrap().map(name).collect();
    names.sort();
    names
}

pub(crate) fn read_all(log: &PartitionLog, committed: bool) -> Vec<u8> {
    let mut all = Vec::new();
    let mut from = log.start_offset();
    loop {
        let read = log.read(from, 200, committed, true).unwrap();
        if read.records.is_empty() {
            return all;
        }
        all.extend_from_slice(&read.records);
        from = last_offset(&read.records) + 1;
    }
}

/// The last offset that the batches take, with or without a record.
pub(crate) fn last_offset(batches: &[u8]) -> i64 {
    let mut last = -1;
    let mut rest = batches;
    while !rest.is_empty() {
        let base = i64::from_be_bytes(rest[..8].try_into().unwrap());
        let size = 12 + usize::try_from(i32::from_be_bytes(rest[8..12].try_into().unwrap())).unwrap();
        last = base + i64::from(i32::from_be_bytes(rest[23..27].try_into().unwrap()));
        rest = &rest[size..];
    }
    last
}
