//! Batches of records: written as a test wants them, and read.

use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use kafka_protocol::records::{
    Compression, NO_PARTITION_LEADER_EPOCH, Record, RecordBatchDecoder, RecordBatchEncoder,
    RecordEncodeOptions, TimestampType,
};

/// What a batch is made of.
#[derive(Clone, Debug)]
pub struct Batch {
    pub records: Vec<(Option<&'static str>, String)>,
    /// Of its first record; each other comes a millisecond later.
    pub timestamp: i64,
    pub producer: (i64, i16),
    pub sequence: i32,
    pub transactional: bool,
    pub compression: Compression,
}

/// Some time in 2023.
pub const TIME: i64 = 1_700_000_000_000;

pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

impl Batch {
    /// Of values, from nobody in particular, as of now.
    pub fn of(values: &[&str]) -> Self {
        Self {
            records: values.iter().map(|value| (None, (*value).to_owned())).collect(),
            timestamp: now_ms(),
            producer: (-1, -1),
            sequence: -1,
            transactional: false,
            compression: Compression::None,
        }
    }

    pub fn keyed(records: &[(&'static str, &str)]) -> Self {
        let records = records.iter().map(|(key, value)| (Some(*key), (*value).to_owned())).collect();
        Self { records, ..Self::of(&[]) }
    }

    pub fn at(self, timestamp: i64) -> Self {
        Self { timestamp, ..self }
    }

    /// From a producer, with the sequence number of its first record.
    pub fn from(self, producer: (i64, i16), sequence: i32) -> Self {
        Self { producer, sequence, ..self }
    }

    pub fn transactional(self) -> Self {
        Self { transactional: true, ..self }
    }

    pub fn encode(&self) -> BytesMut {
        let records: Vec<Record> =
            (0..).zip(&self.records).map(|(idx, record)| self.record(idx, record)).collect();
        let mut out = BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression: self.compression };
        RecordBatchEncoder::encode(&mut out, &records, &options).unwrap();
        out
    }

    fn record(&self, idx: i32, (key, value): &(Option<&'static str>, String)) -> Record {
        Record {
            transactional: self.transactional,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
            producer_id: self.producer.0,
            producer_epoch: self.producer.1,
            timestamp_type: TimestampType::Creation,
            offset: idx.into(),
            sequence: self.sequence + idx,
            timestamp: self.timestamp + i64::from(idx),
            key: key.map(|key| Bytes::from_static(key.as_bytes())),
            value: Some(Bytes::from(value.clone())),
            headers: Default::default(),
        }
    }
}

/// All records of the whole batches: brokers may cut the last one.
pub fn decode(bytes: &Bytes) -> Vec<Record> {
    let mut records = Vec::new();
    for mut batch in batches(bytes) {
        for set in RecordBatchDecoder::decode_all(&mut batch).unwrap() {
            records.extend(set.records);
        }
    }
    records
}

/// The whole batches.
pub fn batches(bytes: &Bytes) -> Vec<Bytes> {
    let mut batches = Vec::new();
    let mut rest = bytes.clone();
    while let Some(length) = rest.get(8..12) {
        let length = usize::try_from(i32::from_be_bytes(length.try_into().unwrap())).unwrap();
        if rest.len() < 12 + length {
            break;
        }
        batches.push(rest.split_to(12 + length));
    }
    batches
}

/// The values of all records that are for the application, with their offsets.
pub fn values(bytes: &Bytes) -> Vec<(i64, String)> {
    let records = decode(bytes).into_iter().filter(|record| !record.control);
    let value = |record: Record| {
        (record.offset, String::from_utf8(record.value.unwrap_or_default().to_vec()).unwrap())
    };
    records.map(value).collect()
}
