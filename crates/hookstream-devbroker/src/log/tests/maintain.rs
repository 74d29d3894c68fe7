//! What retention deletes.

use super::support::{Fixture, NOW, batch};
use crate::log::LogConfig;

fn size() -> u64 {
    batch(1).bytes().len() as u64
}

/// Four segments of a record each, the first from 100 ms ago, the last from 70 ms ago.
fn four(config: LogConfig) -> Fixture {
    let mut fixture = Fixture::new(LogConfig { segment_bytes: size(), ..config });
    for age in [100, 90, 80, 70] {
        fixture.append(&batch(1).at(&[NOW - age]));
    }
    fixture
}

#[test]
fn old_segments_go() {
    for (retention_ms, start) in [(101, 0), (100, 0), (99, 1), (80, 2), (75, 3), (70, 3), (69, 4), (0, 4)] {
        let config = LogConfig { retention_ms: Some(retention_ms), ..LogConfig::default() };
        let mut fixture = four(config);
        let done = fixture.log.maintain(NOW).unwrap();
        assert_eq!((fixture.log.start_offset(), fixture.log.end_offset()), (start, 4), "{retention_ms}");
        // The last segment ends only if nothing of it is worth keeping.
        assert_eq!((done.rolled, done.deleted_segments as i64), (start == 4, start));
        fixture.reopen();
        assert_eq!((fixture.log.start_offset(), fixture.log.end_offset()), (start, 4));
        assert_eq!(fixture.log.maintain(NOW).unwrap(), crate::log::Maintained::default());
    }
}

/// A young segment keeps the old ones behind it.
#[test]
fn segments_go_from_the_front() {
    let config = LogConfig { segment_bytes: size(), retention_ms: Some(50), ..LogConfig::default() };
    let mut fixture = Fixture::new(config);
    for age in [10, 100, 100] {
        fixture.append(&batch(1).at(&[NOW - age]));
    }
    assert_eq!(fixture.log.maintain(NOW).unwrap().deleted_segments, 0);
}

#[test]
fn what_has_no_time_is_as_old_as_its_writing() {
    let config = LogConfig { segment_bytes: size(), retention_ms: Some(50), ..LogConfig::default() };
    let mut fixture = Fixture::new(config);
    for _ in 0..2 {
        fixture.append(&batch(1).at(&[-1]));
    }
    assert_eq!(fixture.log.maintain(NOW + 50).unwrap().deleted_segments, 0);
    assert_eq!(fixture.log.maintain(NOW + 51).unwrap().deleted_segments, 2);
}

#[test]
fn a_large_log_loses_whole_segments() {
    for (segments, start) in [(0, 3), (1, 3), (2, 2), (3, 1), (4, 0), (9, 0)] {
        for (extra, start) in [(0, start), (1, (start - 1).max(0))] {
            let retention_bytes = Some(segments * size() + if segments == 0 { 0 } else { extra });
            let config = LogConfig { retention_bytes, retention_ms: None, ..LogConfig::default() };
            let mut fixture = four(config);
            fixture.log.maintain(NOW).unwrap();
            let start = if segments == 0 { 3 } else { start };
            assert_eq!(fixture.log.start_offset(), start, "{segments} {extra}");
        }
    }
}

#[test]
fn nothing_goes_if_it_is_not_to_be_deleted() {
    let config = LogConfig {
        retention_ms: Some(0),
        retention_bytes: Some(0),
        cleanup_delete: false,
        ..LogConfig::default()
    };
    let mut fixture = four(config);
    assert_eq!(fixture.log.maintain(NOW).unwrap().deleted_segments, 0);
    // Settings may change.
    let config = LogConfig { cleanup_delete: true, ..fixture.log.config().clone() };
    fixture.log.set_config(config);
    assert_eq!(fixture.log.maintain(NOW).unwrap().deleted_segments, 4);
}

#[test]
fn an_old_segment_ends() {
    let config = LogConfig { segment_ms: 10, ..LogConfig::default() };
    let mut fixture = Fixture::new(config);
    assert!(!fixture.log.maintain(NOW + 100).unwrap().rolled);
    fixture.append(&batch(1));
    assert!(!fixture.log.maintain(NOW + 9).unwrap().rolled);
    assert!(fixture.log.maintain(NOW + 10).unwrap().rolled);
    assert!(!fixture.log.maintain(NOW + 100).unwrap().rolled);
    assert_eq!(fixture.files().len(), 2);
    // Without its record, the end is where it was.
    fixture.log.delete_before(1).unwrap();
    fixture.reopen();
    assert_eq!((fixture.log.start_offset(), fixture.log.end_offset()), (1, 1));
}

/// What is deleted to the end gives back its disk space.
#[test]
fn a_deleted_log_is_empty() {
    let mut fixture = Fixture::new(LogConfig::default());
    fixture.append(&batch(10));
    fixture.log.delete_before(10).unwrap();
    let done = fixture.log.maintain(NOW).unwrap();
    assert_eq!((done.rolled, done.deleted_segments, fixture.log.size()), (true, 1, 0));
}
