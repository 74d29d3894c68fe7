//! What a reader gets.

use super::support::{ALL, Fixture, NOW, batch, decode, last_offset, pair, records};
use crate::log::{LogConfig, OutOfRange, RangeError};

fn offsets(fixture: &Fixture, from: i64, max_bytes: usize, at_least_one: bool) -> Vec<i64> {
    let read = fixture.log.read(from, max_bytes, false, at_least_one).unwrap();
    decode(&read.records).iter().map(|record| record.offset).collect()
}

#[test]
fn whole_batches_up_to_a_size() {
    let mut fixture = Fixture::new(LogConfig::default());
    let size = batch(2).bytes().len();
    for _ in 0..3 {
        fixture.append(&batch(2));
    }
    for from in [0, 1] {
        assert_eq!(offsets(&fixture, from, ALL, false), [0, 1, 2, 3, 4, 5]);
        assert_eq!(offsets(&fixture, from, 2 * size, false), [0, 1, 2, 3]);
        assert_eq!(offsets(&fixture, from, 2 * size - 1, false), [0, 1]);
        assert!(offsets(&fixture, from, size - 1, false).is_empty());
        assert_eq!(offsets(&fixture, from, 0, true), [0, 1]);
    }
    assert!(offsets(&fixture, 6, ALL, true).is_empty());
    let read = fixture.log.read(5, ALL, false, true).unwrap();
    assert_eq!((read.start, read.last_stable, read.end), (0, 6, 6));
}

#[test]
fn only_what_the_log_has() {
    let mut fixture = Fixture::new(LogConfig::default());
    fixture.append(&batch(4));
    fixture.log.delete_before(2).unwrap();
    for offset in [-1, 1, 5] {
        match fixture.log.read(offset, ALL, false, true) {
            Err(RangeError::OutOfRange(error)) => assert_eq!(error, OutOfRange { offset, start: 2, end: 4 }),
            other => panic!("{other:?}"),
        }
    }
    // The batch is whole; a client leaves out what it did not ask for.
    assert_eq!(offsets(&fixture, 2, ALL, true), [0, 1, 2, 3]);
}

/// Batches of all sizes around the index's step are found, whatever is asked for.
#[test]
fn every_offset_is_found() {
    for segment_bytes in [20_000, 1_000_000] {
        let mut fixture = Fixture::new(LogConfig { segment_bytes, ..LogConfig::default() });
        let mut bases = Vec::new();
        for size in [1, 100, 4000, 4090, 9000, 50, 5, 30_000, 1, 2000, 2000, 3, 40].repeat(3) {
            let value = "v".repeat(size);
            bases.push(fixture.append(&records(&[(None, Some(&value)), (None, Some(&value))])));
        }
        for _ in 0..2 {
            for from in 0..fixture.log.end_offset() {
                let expected = *bases.iter().rfind(|base| **base <= from).unwrap();
                for max_bytes in [0, 300, 5000, 10_000, ALL] {
                    let got = offsets(&fixture, from, max_bytes, true);
                    assert_eq!(got[0], expected, "{from} {max_bytes}");
                }
            }
            fixture.reopen();
        }
    }
}

/// After a compaction the next batch may be far from where its offset would be.
#[test]
fn gaps_are_passed() {
    let config = LogConfig { cleanup_compact: true, segment_bytes: 300_000, ..LogConfig::default() };
    let mut fixture = Fixture::new(config);
    fixture.append(&pair("large", &"x".repeat(100_000)));
    for idx in 0..50 {
        fixture.append(&pair("again", &idx.to_string()));
    }
    fixture.append(&pair("other", &"x".repeat(250_000)));
    fixture.append(&pair("again", "last"));
    fixture.append(&pair("end", &"x".repeat(290_000)));
    fixture.log.compact(NOW).unwrap().unwrap();
    assert_eq!(fixture.files().len(), 3);
    for from in 1..=51 {
        assert_eq!(offsets(&fixture, from, 10, true), [51]);
    }
    assert_eq!(offsets(&fixture, 52, ALL, true), [52]);
    assert!(fixture.log.read(1, 1000, false, false).unwrap().records.is_empty());
}

#[test]
fn a_plan_outlives_what_it_reads() {
    let size = batch(1).bytes().len() as u64;
    let mut fixture = Fixture::new(LogConfig { segment_bytes: size, ..LogConfig::default() });
    fixture.append(&batch(1));
    let plan = fixture.log.plan_read(0, ALL, false, true).unwrap();
    let at_end = fixture.log.plan_read(1, ALL, false, true).unwrap();
    fixture.append(&batch(1));
    fixture.log.delete_before(1).unwrap();
    assert_eq!(last_offset(&plan.run().unwrap().records), 0);
    assert!(at_end.run().unwrap().records.is_empty());
}
