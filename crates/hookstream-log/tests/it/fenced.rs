//! The fenced writer, and readers past what transactions leave in the log.

use std::time::Duration;

use hookstream_log::fenced::{FencedWriter, Outcome};
use hookstream_log::{Ended, Log, OutRecord, ReadFrom};
use hookstream_types::{Offset, Partition};

use crate::kafka::{Kafka, unique};
use hookstream_log::contract::{Bench, Driver, until};

const CLAIM: Duration = Duration::from_secs(30);

fn record<'a>(topic: &'a str, value: &'a [u8]) -> OutRecord<'a> {
    OutRecord { topic, partition: Partition(0), key: Some(b"k"), value: Some(value), headers: &[] }
}

#[test]
fn the_last_to_claim_a_name_fences_the_others() {
    let mut bench = Kafka::new();
    let topic = bench.topic(1);
    let id = unique("writer");
    let mut first = FencedWriter::claim(bench.settings(), &id, CLAIM).unwrap();
    let outcome = first.write(&[record(&topic, b"a"), record(&topic, b"b")]);
    assert_eq!(outcome, Outcome::Committed { offsets: vec![Offset(0), Offset(1)] });
    let mut second = FencedWriter::claim(bench.settings(), &id, CLAIM).unwrap();
    assert_eq!(first.write(&[record(&topic, b"zombie")]), Outcome::Fenced);
    // Offset 2 is the commit of the first.
    let Outcome::Committed { offsets } = second.write(&[record(&topic, b"c")]) else {
        panic!("it is the last")
    };
    assert!(offsets[0].0 >= 3);
    assert_eq!(second.write(&[]), Outcome::Committed { offsets: Vec::new() });
}

#[test]
fn a_group_that_can_not_be_written_is_not_written_at_all() {
    let mut bench = Kafka::new();
    let topic = bench.topic(1);
    let id = unique("writer");
    let mut writer = FencedWriter::claim(bench.settings(), &id, CLAIM).unwrap();
    let huge = vec![b'x'; 10 * 1024 * 1024];
    let outcome = writer.write(&[record(&topic, b"a"), record(&topic, &huge)]);
    assert!(matches!(outcome, Outcome::NotWritten { .. }), "{outcome:?}");
    drop(writer);
    let mut writer = FencedWriter::claim(bench.settings(), &id, CLAIM).unwrap();
    assert!(matches!(writer.write(&[record(&topic, b"b")]), Outcome::Committed { .. }));

    let (_member, log) = bench.join("g", &topic);
    let mut driver = Driver::new(log);
    until(&mut bench, "the committed record", |_| {
        driver.pump();
        !driver.values().is_empty()
    });
    assert_eq!(driver.values(), ["b"]);
}

/// The last offsets before the end are control records and aborted ones: they never come as records.
#[test]
fn a_reader_completes_over_a_gap_at_its_end() {
    let mut bench = Kafka::new();
    let topic = bench.topic(1);
    let mut writer = FencedWriter::claim(bench.settings(), &unique("writer"), CLAIM).unwrap();
    assert!(matches!(writer.write(&[record(&topic, b"a"), record(&topic, b"b")]), Outcome::Committed { .. }));
    let (_member, log) = bench.join("g", &topic);
    let mut driver = Driver::new(log);
    driver.taking = false;
    for (from, expected) in [(0, 2), (1, 1), (2, 0)] {
        let input = driver.log.open(&topic, Partition(0), ReadFrom::Offset(Offset(from)), Some(Offset(3)));
        until(&mut bench, "the end", |_| {
            driver.pump();
            driver.take(input);
            driver.ended.contains_key(&input)
        });
        assert_eq!((driver.ended[&input], driver.seen[&input].len()), (Ended::Complete, expected));
        driver.log.close(input);
    }
}
