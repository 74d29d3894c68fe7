//! Following all partitions of a topic, and reading single records.

use std::collections::BTreeMap;
use std::time::Duration;

use hookstream_log::contract::{Bench, Driver, until};
use hookstream_log::fetch::Fetcher;
use hookstream_log::scan::{Scan, ScanSpec, Scanned, Wanted};
use hookstream_types::{Offset, Partition};

use crate::kafka::{Kafka, unique};

const PATIENCE: Duration = Duration::from_secs(30);

fn fill(bench: &mut Kafka, topic: &str, partitions: i32, values: std::ops::Range<u32>) {
    let (_member, log) = bench.join(&unique("g"), topic);
    let mut driver = Driver::new(log);
    let mut count = 0;
    for value in values {
        for partition in 0..partitions {
            driver.produce(topic, partition, value.to_string().as_bytes());
            count += 1;
        }
    }
    until(bench, "the acknowledgements", |_| {
        driver.pump();
        driver.produced.len() == count
    });
}

/// Takes until each partition is read up to `end`, and checks that batches follow each other.
fn take(
    bench: &Kafka,
    scan: &mut Scan,
    from: &BTreeMap<Partition, Offset>,
    partitions: i32,
    end: i64,
) -> BTreeMap<Partition, Vec<i64>> {
    let mut positions: BTreeMap<Partition, Offset> = (0..partitions)
        .map(|p| (Partition(p), from.get(&Partition(p)).copied().unwrap_or_default()))
        .collect();
    let mut seen: BTreeMap<Partition, Vec<i64>> = BTreeMap::new();
    while positions.values().any(|position| position.0 < end) {
        let next =
            bench.block_on(async { tokio::time::timeout(PATIENCE, scan.next()).await }).unwrap().unwrap();
        let Scanned::Batch { partition, from, next, records } = next else { panic!("{next:?}") };
        assert_eq!(positions.insert(partition, next), Some(from));
        assert!(records.iter().all(|record| from <= record.offset && record.offset < next));
        seen.entry(partition).or_default().extend(records.iter().map(|record| record.offset.0));
    }
    seen
}

#[test]
fn a_scan_goes_on_where_it_is_told_and_follows() {
    let mut bench = Kafka::new();
    let topic = bench.topic(3);
    fill(&mut bench, &topic, 3, 0..50);
    let from = BTreeMap::from([(Partition(1), Offset(20))]);
    let spec = ScanSpec { records: 7, waiting: 1, ..ScanSpec::new(&topic, from.clone(), Wanted::Values) };
    let mut scan = Scan::start(bench.settings(), spec).unwrap();
    let seen = take(&bench, &mut scan, &from, 3, 50);
    assert_eq!(seen[&Partition(0)], (0..50).collect::<Vec<_>>());
    assert_eq!(seen[&Partition(1)], (20..50).collect::<Vec<_>>());
    fill(&mut bench, &topic, 3, 50..60);
    let from = (0..3).map(|p| (Partition(p), Offset(50))).collect();
    let seen = take(&bench, &mut scan, &from, 3, 60);
    assert_eq!(seen[&Partition(2)], (50..60).collect::<Vec<_>>());
}

#[test]
fn nobody_takes_and_the_scan_can_still_be_dropped() {
    let mut bench = Kafka::new();
    let topic = bench.topic(1);
    fill(&mut bench, &topic, 1, 0..50);
    let spec = ScanSpec { records: 1, waiting: 1, ..ScanSpec::new(&topic, BTreeMap::new(), Wanted::Values) };
    let mut scan = Scan::start(bench.settings(), spec).unwrap();
    let first = bench.block_on(async { tokio::time::timeout(PATIENCE, scan.next()).await }).unwrap();
    assert!(first.is_some());
    drop(scan);
}

#[test]
fn what_retention_took_is_passed_over() {
    let mut bench = Kafka::new();
    let topic = bench.topic(1);
    fill(&mut bench, &topic, 1, 0..50);
    bench.delete_records(&topic, 30);
    let from = BTreeMap::from([(Partition(0), Offset(10))]);
    let mut scan =
        Scan::start(bench.settings(), ScanSpec::new(&topic, from.clone(), Wanted::Values)).unwrap();
    let seen = take(&bench, &mut scan, &from, 1, 50);
    assert_eq!(seen[&Partition(0)], (30..50).collect::<Vec<_>>());
}

#[test]
fn a_topic_that_is_shorter_than_it_was_is_read_anew() {
    let mut bench = Kafka::new();
    let topic = bench.topic(1);
    fill(&mut bench, &topic, 1, 0..5);
    let from = BTreeMap::from([(Partition(0), Offset(1_000))]);
    let mut scan = Scan::start(bench.settings(), ScanSpec::new(&topic, from, Wanted::Values)).unwrap();
    let next = bench.block_on(async { tokio::time::timeout(PATIENCE, scan.next()).await }).unwrap().unwrap();
    assert_eq!(next, Scanned::Restarted { partition: Partition(0) });
    assert_eq!(take(&bench, &mut scan, &BTreeMap::new(), 1, 5)[&Partition(0)], [0, 1, 2, 3, 4]);
}

#[test]
fn records_are_fetched_by_their_coordinates() {
    let mut bench = Kafka::new();
    let topic = bench.topic(2);
    fill(&mut bench, &topic, 2, 0..50);
    bench.delete_records(&topic, 10);
    let fetcher = Fetcher::new(bench.settings()).unwrap();
    let fetch = |partition, offset, count| {
        let read = fetcher.fetch(&topic, Partition(partition), Offset(offset), count, PATIENCE);
        let records = bench.block_on(read).unwrap();
        records
            .into_iter()
            .map(|record| (record.offset.0, String::from_utf8(record.value).unwrap()))
            .collect::<Vec<_>>()
    };
    assert_eq!(fetch(1, 20, 1), [(20, "20".to_owned())]);
    assert_eq!(fetch(0, 48, 9), [(48, "48".to_owned()), (49, "49".to_owned())]);
    assert!(fetch(0, 3, 1).is_empty(), "retention took it");
    assert!(fetch(0, 50, 1).is_empty(), "it is not there yet");
    assert!(fetch(0, 900, 1).is_empty());
    let both = async {
        tokio::join!(
            fetcher.fetch(&topic, Partition(1), Offset(1), 1, PATIENCE),
            fetcher.fetch(&topic, Partition(1), Offset(2), 1, PATIENCE),
        )
    };
    let (one, two) = bench.block_on(both);
    assert_eq!((one.unwrap()[0].offset, two.unwrap()[0].offset), (Offset(1), Offset(2)));
    let missing = fetcher.fetch("test.not-there", Partition(0), Offset(0), 1, Duration::from_millis(300));
    let error = bench.block_on(missing).unwrap_err();
    assert!(error.to_string().contains("test.not-there"), "{error}");
}
