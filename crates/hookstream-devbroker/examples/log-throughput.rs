//! Prints how fast a log appends, reads and opens, in MB/s: `throughput [directory] [MiB]`.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use hookstream_devbroker::log::{LogConfig, PartitionLog};
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};

const NOW: i64 = 1_700_000_000_000;

fn batch(records: usize, value: usize, producer: Option<i64>) -> Vec<u8> {
    let record = |idx: usize| Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: producer.unwrap_or(-1),
        producer_epoch: if producer.is_some() { 0 } else { -1 },
        timestamp_type: TimestampType::Creation,
        offset: idx as i64,
        sequence: i32::try_from(idx).unwrap_or(0) - i32::from(producer.is_none()),
        timestamp: NOW,
        key: Some(Bytes::from(format!("key-{idx}"))),
        value: Some(Bytes::from(vec![b'x'; value])),
        headers: Default::default(),
    };
    let records: Vec<_> = (0..records).map(record).collect();
    let mut bytes = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut bytes, &records, &options).expect("the records are valid");
    bytes.to_vec()
}

/// Gives an idempotent batch its number; the checksum covers it.
fn number(batch: &mut [u8], sequence: usize) {
    let sequence = i32::try_from(sequence & 0x7fff_ffff).expect("it has 31 bits");
    batch[53..57].copy_from_slice(&sequence.to_be_bytes());
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

fn report(what: &str, start: Instant, bytes: u64, calls: u64) {
    let seconds = start.elapsed().as_secs_f64();
    let rate = bytes as f64 / 1e6 / seconds;
    println!("  {what:<26} {rate:>8.0} MB/s  {:>8.2} µs a call", seconds * 1e6 / calls as f64);
}

fn measure(dir: &Path, total: u64, records: usize, value: usize, producer: Option<i64>) {
    drop(std::fs::remove_dir_all(dir));
    let mut batch = batch(records, value, producer);
    let calls = (total / batch.len() as u64).max(1);
    println!("{records} records of {value} bytes a batch ({} bytes), producer {producer:?}", batch.len());
    // So large that none of them ends meanwhile, which would sync it.
    let config = LogConfig { segment_bytes: 2 << 30, ..LogConfig::default() };
    let (mut log, _) = PartitionLog::open(dir, config.clone(), NOW).expect("it opens");
    let start = Instant::now();
    for idx in 0..usize::try_from(calls).expect("it fits") {
        if producer.is_some() {
            number(&mut batch, idx * records);
        }
        black_box(log.append(&batch, NOW).expect("it is taken"));
    }
    report("append", start, log.size(), calls);
    let start = Instant::now();
    log.sync().expect("it syncs");
    report("sync", start, log.size(), 1);
    for max_bytes in [1 << 20, 64 << 10] {
        read(&log, max_bytes);
    }
    tail(&mut log, &batch, producer, usize::try_from(calls).expect("it fits") * records);
    let size = log.size();
    drop(log);
    let start = Instant::now();
    let (log, _) = PartitionLog::open(dir, config, NOW).expect("it opens");
    report("open", start, size, 1);
    black_box(log);
}

fn read(log: &PartitionLog, max_bytes: usize) {
    let start = Instant::now();
    let (mut from, mut calls, mut bytes) = (log.start_offset(), 0, 0);
    loop {
        let read = log.read(from, max_bytes, true, true).expect("it reads");
        if read.records.is_empty() {
            break;
        }
        bytes += read.records.len() as u64;
        calls += 1;
        // Where the last batch ends is known from the headers, as a consumer knows it.
        let mut rest = &read.records[..];
        while let Some(header) = rest.get(..61) {
            let int = |at: usize| i32::from_be_bytes(header[at..at + 4].try_into().expect("four bytes"));
            from += i64::from(int(23)) + 1;
            rest = &rest[12 + usize::try_from(int(8)).expect("it is positive")..];
        }
    }
    report(&format!("read {} KiB at a time", max_bytes >> 10), start, bytes, calls);
}

/// A consumer that follows closely: one batch is written, one read, one empty read.
fn tail(log: &mut PartitionLog, batch: &[u8], producer: Option<i64>, sent: usize) {
    let mut batch = batch.to_vec();
    let (mut read, mut empty) = (0.0, 0.0);
    let count = if batch.len() > 1 << 19 { 200 } else { 5000 };
    let records =
        usize::try_from(i32::from_be_bytes(batch[57..61].try_into().expect("four bytes"))).unwrap_or(1);
    for idx in 0..count {
        if producer.is_some() {
            number(&mut batch, sent + idx * records);
        }
        let from = log.append(&batch, NOW).expect("it is taken").base_offset;
        let start = Instant::now();
        black_box(log.read(from, 1 << 20, true, true).expect("it reads"));
        read += start.elapsed().as_secs_f64();
        let start = Instant::now();
        black_box(log.read(log.end_offset(), 1 << 20, true, true).expect("it reads"));
        empty += start.elapsed().as_secs_f64();
    }
    let micros = |seconds: f64| seconds * 1e6 / count as f64;
    println!(
        "  {:<26} {:>8.2} µs, at the end {:.2} µs",
        "read of the newest batch",
        micros(read),
        micros(empty)
    );
}

fn main() {
    let mut args = std::env::args().skip(1);
    let dir = args.next().map_or_else(|| std::env::temp_dir().join("devlog-throughput"), PathBuf::from);
    let mib: u64 = args.next().and_then(|mib| mib.parse().ok()).unwrap_or(1024);
    measure(&dir, mib << 20, 1000, 1000, Some(1));
    measure(&dir, mib << 20, 100, 1000, None);
    measure(&dir, mib << 20, 1, 1000, Some(1));
    measure(&dir, mib << 18, 1, 100, Some(1));
    drop(std::fs::remove_dir_all(&dir));
}
