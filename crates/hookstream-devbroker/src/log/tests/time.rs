//! Records by their time.

use super::support::{Fixture, NOW, batch, records};
use crate::log::LogConfig;

fn at(fixture: &Fixture, timestamp: i64) -> Option<(i64, i64)> {
    fixture.log.offset_for_time(timestamp).unwrap().map(|found| (found.offset, found.timestamp))
}

fn latest(fixture: &Fixture) -> Option<(i64, i64)> {
    fixture.log.max_timestamp().unwrap().map(|found| (found.offset, found.timestamp))
}

#[test]
fn the_first_record_since_a_time() {
    let size = batch(2).bytes().len() as u64;
    for segment_bytes in [size, 1_000_000] {
        let mut fixture = Fixture::new(LogConfig { segment_bytes, ..LogConfig::default() });
        assert_eq!((at(&fixture, 0), latest(&fixture)), (None, None));
        fixture.append(&batch(2).at(&[10, 20]));
        fixture.append(&batch(2).at(&[50, 15]));
        fixture.append(&batch(2).at(&[30, 50]));
        for _ in 0..2 {
            for (timestamp, expected) in [
                (0, Some((0, 10))),
                (10, Some((0, 10))),
                (11, Some((1, 20))),
                (21, Some((2, 50))),
                (50, Some((2, 50))),
                (51, None),
            ] {
                assert_eq!(at(&fixture, timestamp), expected);
            }
            assert_eq!(latest(&fixture), Some((2, 50)));
            fixture.reopen();
        }
        fixture.log.delete_before(3).unwrap();
        for (timestamp, expected) in
            [(0, Some((3, 15))), (16, Some((4, 30))), (31, Some((5, 50))), (51, None)]
        {
            assert_eq!(at(&fixture, timestamp), expected);
        }
        assert_eq!(latest(&fixture), Some((5, 50)));
        fixture.log.delete_before(6).unwrap();
        assert_eq!((at(&fixture, 0), latest(&fixture)), (None, None));
    }
}

#[test]
fn the_index_leads_to_any_time() {
    let mut fixture = Fixture::new(LogConfig { segment_bytes: 100_000, ..LogConfig::default() });
    let value = "v".repeat(1500);
    for idx in 0..200 {
        // Later ones may be earlier, as with several producers.
        let timestamp = idx * 10 + if idx % 3 == 0 { 25 } else { 0 };
        fixture.append(&records(&[(None, Some(&value))]).at(&[timestamp]));
    }
    let timestamp_of = |idx: i64| idx * 10 + if idx % 3 == 0 { 25 } else { 0 };
    for timestamp in 0..2100 {
        let expected = (0..200).find(|idx| timestamp_of(*idx) >= timestamp);
        assert_eq!(at(&fixture, timestamp), expected.map(|idx| (idx, timestamp_of(idx))), "{timestamp}");
    }
    assert_eq!(latest(&fixture), Some((198, 2005)));
}

#[test]
fn with_the_logs_time_a_batch_has_one_time() {
    let mut fixture = Fixture::new(LogConfig { log_append_time: true, ..LogConfig::default() });
    fixture.append(&batch(3).at(&[1, 2, 3]));
    fixture.log.append(&batch(3).at(&[1, 2, 3]).bytes(), NOW + 5).unwrap();
    assert_eq!(at(&fixture, 2), Some((0, NOW)));
    assert_eq!(at(&fixture, NOW + 1), Some((3, NOW + 5)));
}
