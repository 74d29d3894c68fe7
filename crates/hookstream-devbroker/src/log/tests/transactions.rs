//! Transactions, as readers of committed records see them.

use super::support::{ALL, Batch, Fixture, NOW, batch, decode};
use crate::log::{AppendError, LogConfig};

fn part(producer: i64, sequence: i32) -> Batch {
    batch(1).producer(producer, 0, sequence).transactional()
}

fn committed(fixture: &Fixture, from: i64) -> (Vec<i64>, Vec<(i64, i64)>) {
    let read = fixture.log.read(from, ALL, true, true).unwrap();
    (decode(&read.records).iter().map(|record| record.offset).collect(), read.aborted)
}

#[test]
fn committed_readers_stop_at_the_oldest_open_transaction() {
    let mut fixture = Fixture::new(LogConfig::default());
    fixture.append(&batch(1));
    fixture.append(&part(1, 0));
    fixture.append(&part(2, 0));
    fixture.append(&part(1, 1));
    for _ in 0..2 {
        assert_eq!((fixture.log.last_stable_offset(), fixture.log.end_offset()), (1, 4));
        assert_eq!(committed(&fixture, 0), (vec![0], vec![]));
        assert_eq!(committed(&fixture, 2), (vec![], vec![]));
        assert_eq!(fixture.log.read(0, ALL, false, true).unwrap().aborted, []);
        fixture.reopen();
    }
    assert_eq!(fixture.log.append_marker(1, 0, false, NOW).unwrap(), 4);
    assert_eq!(fixture.log.last_stable_offset(), 2);
    assert_eq!(committed(&fixture, 0), (vec![0, 1], vec![(1, 1)]));
    assert_eq!(fixture.log.append_marker(2, 0, true, NOW).unwrap(), 5);
    for _ in 0..2 {
        assert_eq!(fixture.log.last_stable_offset(), 6);
        assert_eq!(committed(&fixture, 0), (vec![0, 1, 2, 3, 4, 5], vec![(1, 1)]));
        assert_eq!(committed(&fixture, 5), (vec![5], vec![]));
        fixture.reopen();
    }
}

#[test]
fn markers_are_as_kafka_writes_them() {
    let mut fixture = Fixture::new(LogConfig { log_append_time: true, ..LogConfig::default() });
    for commit in [false, true] {
        let offset = fixture.log.append_marker(9, 3, commit, NOW).unwrap();
        let records = decode(&fixture.log.read(offset, ALL, false, true).unwrap().records);
        let [marker] = &records[..] else { panic!("{records:?}") };
        assert!(marker.control && marker.transactional);
        assert_eq!((marker.producer_id, marker.producer_epoch, marker.timestamp), (9, 3, NOW));
        assert_eq!(marker.key.as_deref(), Some(&[0, 0, 0, u8::from(commit)][..]));
        assert_eq!(marker.value.as_deref(), Some(&[0; 6][..]));
        assert_eq!((marker.sequence, marker.offset), (-1, offset));
    }
}

#[test]
fn what_is_aborted_is_said_for_the_range_that_is_read() {
    let mut fixture = Fixture::new(LogConfig::default());
    // 0 a of 1, 1 b of 2, 2 abort of 1, 3 c of 1, 4 commit of 1, 5 d of 1, 6 abort of 2, 7 abort of 1
    fixture.append(&part(1, 0));
    fixture.append(&part(2, 0));
    fixture.log.append_marker(1, 0, false, NOW).unwrap();
    fixture.append(&part(1, 1));
    fixture.log.append_marker(1, 0, true, NOW).unwrap();
    fixture.append(&part(1, 2));
    fixture.log.append_marker(2, 0, false, NOW).unwrap();
    fixture.log.append_marker(1, 0, false, NOW).unwrap();
    for _ in 0..2 {
        assert_eq!(committed(&fixture, 0).1, [(1, 0), (2, 1), (1, 5)]);
        assert_eq!(committed(&fixture, 2).1, [(1, 0), (2, 1), (1, 5)]);
        assert_eq!(committed(&fixture, 3).1, [(2, 1), (1, 5)]);
        assert_eq!(committed(&fixture, 7).1, [(1, 5)]);
        assert_eq!(fixture.log.read(3, 1, true, true).unwrap().aborted, [(2, 1)]);
        assert_eq!(fixture.log.read(0, 1, true, true).unwrap().aborted, [(1, 0)]);
        fixture.reopen();
    }
}

#[test]
fn an_open_transaction_binds_its_producer() {
    let mut fixture = Fixture::new(LogConfig::default());
    fixture.append(&part(1, 0));
    assert!(fixture.log.has_open_transaction(1) && !fixture.log.has_open_transaction(2));
    let outside = batch(1).producer(1, 0, 1).bytes();
    assert!(matches!(
        fixture.log.append(&outside, NOW),
        Err(AppendError::InvalidTxnState { producer_id: 1 })
    ));
    let mixed = [part(2, 0).bytes(), batch(1).producer(2, 0, 1).bytes()].concat();
    assert!(matches!(fixture.log.append(&mixed, NOW), Err(AppendError::InvalidTxnState { producer_id: 2 })));
    fixture.log.append_marker(1, 0, true, NOW).unwrap();
    assert!(!fixture.log.has_open_transaction(1));
    fixture.log.append(&outside, NOW).unwrap();
    // A producer with a transaction is not forgotten.
    fixture.append(&part(1, 2));
    fixture.log.expire(i64::MAX / 2).unwrap();
    assert!(fixture.log.has_open_transaction(1));
}

#[test]
fn a_marker_fences_older_epochs_for_ever() {
    let mut fixture = Fixture::new(LogConfig::default());
    fixture.append(&part(1, 0));
    fixture.log.append_marker(1, 2, false, NOW).unwrap();
    for _ in 0..2 {
        assert_eq!(committed(&fixture, 0).1, [(1, 0)]);
        let old = fixture.log.append(&part(1, 1).bytes(), NOW);
        assert!(matches!(old, Err(AppendError::InvalidProducerEpoch { epoch: 0, current: 2, .. })));
        let marker = fixture.log.append_marker(1, 1, true, NOW);
        assert!(matches!(marker, Err(AppendError::InvalidProducerEpoch { epoch: 1, current: 2, .. })));
        let next = |sequence| batch(1).producer(1, 2, sequence).bytes();
        let gap = fixture.log.append(&next(1), NOW);
        assert!(matches!(gap, Err(AppendError::OutOfOrderSequence { expected: 0, .. })));
        fixture.reopen();
    }
    // Within an epoch the numbers go on after a marker.
    fixture.append(&part(3, 0));
    fixture.log.append_marker(3, 0, true, NOW).unwrap();
    assert!(fixture.log.append(&part(3, 0).bytes(), NOW).unwrap().duplicate);
    fixture.append(&part(3, 1));
}

/// Segments that only wait for their deletion say nothing any more.
#[test]
fn a_deleted_transaction_is_unknown_after_a_restart() {
    let mut fixture = Fixture::new(LogConfig { segment_bytes: 100, ..LogConfig::default() });
    fixture.append(&part(1, 0));
    fixture.log.delete_before(1).unwrap();
    fixture.append(&batch(3));
    assert!(fixture.log.has_open_transaction(1));
    assert_eq!((fixture.log.start_offset(), fixture.log.last_stable_offset()), (1, 1));
    for _ in 0..2 {
        fixture.reopen();
        assert!(!fixture.log.has_open_transaction(1));
        assert_eq!((fixture.log.start_offset(), fixture.log.last_stable_offset()), (1, 4));
    }
}

#[test]
fn deleting_the_beginning_of_a_transaction_leaves_the_rest_open() {
    let size = part(1, 0).bytes().len() as u64;
    let mut fixture = Fixture::new(LogConfig { segment_bytes: size, ..LogConfig::default() });
    fixture.append(&part(1, 0));
    fixture.append(&part(1, 1));
    fixture.append(&part(1, 2));
    fixture.log.delete_before(1).unwrap();
    for _ in 0..2 {
        assert_eq!((fixture.log.start_offset(), fixture.log.last_stable_offset()), (1, 1));
        assert!(fixture.log.has_open_transaction(1));
        fixture.reopen();
    }
    fixture.log.append_marker(1, 0, false, NOW).unwrap();
    assert_eq!(committed(&fixture, 1).1, [(1, 1)]);
}
