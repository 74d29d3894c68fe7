//! What compaction keeps, and crashes at each of its steps.

use std::fs;

use kafka_protocol::records::Compression;

use super::support::{ALL, Batch, Fixture, NOW, batch, decode, pair, records, tombstone};
use crate::log::{AppendError, LogConfig, crash};

fn compacted() -> LogConfig {
    LogConfig {
        cleanup_compact: true,
        cleanup_delete: false,
        delete_retention_ms: 50,
        ..LogConfig::default()
    }
}

/// A log whose batches so far are in closed segments.
fn closed(batches: &[Batch]) -> Fixture {
    let mut fixture = Fixture::new(compacted());
    for batch in batches {
        fixture.append(batch);
        fixture.log.roll(NOW).unwrap();
    }
    fixture
}

fn compact(fixture: &mut Fixture, now: i64) {
    fixture.log.compact(now).unwrap().unwrap();
}

fn pairs(fixture: &Fixture) -> Vec<(i64, String, String)> {
    let value = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    fixture.pairs().into_iter().map(|(offset, key, text)| (offset, key, value(text))).collect()
}

fn expect(fixture: &Fixture, expected: &[(i64, &str, &str)]) {
    let expected: Vec<_> =
        expected.iter().map(|(offset, key, text)| (*offset, (*key).to_owned(), (*text).to_owned())).collect();
    assert_eq!(pairs(fixture), expected);
}

#[test]
fn the_latest_of_each_key_stays_where_it_was() {
    let codecs =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    for codec in codecs {
        let three = records(&[(Some("a"), Some("1")), (Some("b"), Some("1")), (Some("a"), Some("2"))]);
        let mut fixture = closed(&[three.compressed(codec), pair("c", "1"), pair("b", "2")]);
        fixture.append(&pair("a", "3"));
        compact(&mut fixture, NOW);
        for _ in 0..2 {
            // The last segment is not looked at.
            expect(&fixture, &[(2, "a", "2"), (3, "c", "1"), (4, "b", "2"), (5, "a", "3")]);
            assert_eq!((fixture.log.start_offset(), fixture.log.end_offset()), (0, 6));
            fixture.reopen();
        }
        let kept = decode(&fixture.log.read(0, ALL, false, true).unwrap().records);
        assert_eq!(kept[0].headers[&b"header"[..]], Some("content".into()));
        assert_eq!(fixture.files().len(), 2);
        fixture.log.roll(NOW).unwrap();
        compact(&mut fixture, NOW);
        expect(&fixture, &[(3, "c", "1"), (4, "b", "2"), (5, "a", "3")]);
    }
}

#[test]
fn tombstones_stay_for_their_time() {
    let old = records(&[(Some("a"), None), (Some("c"), Some("1"))]).at(&[NOW - 7, NOW - 9]);
    let mut fixture = closed(&[pair("a", "1"), pair("b", "1"), old, tombstone("b")]);
    compact(&mut fixture, NOW);
    let times = |fixture: &Fixture| -> Vec<i64> {
        decode(&fixture.read_all(false).into()).iter().map(|record| record.timestamp).collect()
    };
    for now in [NOW, NOW + 49] {
        expect(&fixture, &[(2, "a", "-"), (3, "c", "1"), (4, "b", "-")]);
        // The delete horizon is not seen in the records.
        assert_eq!(times(&fixture), [NOW - 7, NOW - 9, NOW]);
        compact(&mut fixture, now);
        fixture.reopen();
        compact(&mut fixture, now);
        assert!(!fixture.log.is_worth_compacting(now));
    }
    // Nothing was written since, but something may go.
    assert!(fixture.log.is_worth_compacting(NOW + 50));
    assert!(fixture.log.maintain(NOW + 50).unwrap().compacted.is_some());
    expect(&fixture, &[(3, "c", "1")]);
    assert!(!fixture.log.is_worth_compacting(NOW + 1000));
    fixture.reopen();
    assert_eq!((fixture.log.start_offset(), fixture.log.end_offset()), (0, 5));
    assert_eq!(times(&fixture), [NOW - 9]);
}

#[test]
fn aborted_records_go_and_markers_follow_their_records() {
    let part = |producer, sequence, key: &str| pair(key, "1").producer(producer, 0, sequence).transactional();
    let mut fixture = closed(&[pair("a", "0"), part(1, 0, "a"), part(2, 0, "b"), part(2, 1, "c")]);
    fixture.log.append_marker(1, 0, false, NOW).unwrap(); // 4
    fixture.log.append_marker(2, 0, true, NOW).unwrap(); // 5
    fixture.append(&part(1, 1, "d")); // 6
    fixture.log.append_marker(1, 0, true, NOW).unwrap(); // 7
    fixture.append(&part(2, 2, "e")); // 8
    fixture.log.append_marker(2, 0, true, NOW).unwrap(); // 9
    fixture.log.roll(NOW).unwrap();
    let controls = |fixture: &Fixture| -> Vec<i64> {
        let all = decode(&fixture.read_all(false).into()).into_iter();
        all.filter(|record| record.control).map(|record| record.offset).collect()
    };
    compact(&mut fixture, NOW);
    for _ in 0..2 {
        expect(&fixture, &[(0, "a", "0"), (2, "b", "1"), (3, "c", "1"), (6, "d", "1"), (8, "e", "1")]);
        // The marker of the aborted one stays for a while.
        assert_eq!(controls(&fixture), [4, 5, 7, 9]);
        assert_eq!(fixture.log.read(0, ALL, true, true).unwrap().aborted, []);
        assert_eq!(fixture.log.last_stable_offset(), 10);
        fixture.reopen();
    }
    compact(&mut fixture, NOW + 49);
    assert_eq!(controls(&fixture), [4, 5, 7, 9]);
    compact(&mut fixture, NOW + 50);
    assert_eq!(controls(&fixture), [5, 7, 9]);
    // Committed records of the same keys take the others' place, and their markers' time begins.
    for key in ["b", "c", "d", "e"] {
        fixture.append(&pair(key, "2"));
    }
    fixture.log.roll(NOW).unwrap();
    compact(&mut fixture, NOW + 60);
    // What the producers' last markers are is known from them.
    assert_eq!(controls(&fixture), [5, 7, 9]);
    compact(&mut fixture, NOW + 110);
    for _ in 0..2 {
        assert_eq!(controls(&fixture), [7, 9]);
        assert_eq!(fixture.log.last_stable_offset(), 14);
        assert!(fixture.log.append(&part(2, 2, "e").bytes(), NOW).unwrap().duplicate);
        assert!(fixture.log.append(&part(1, 0, "a").bytes(), NOW).unwrap().duplicate);
        fixture.reopen();
    }
}

/// A batch without records stays if its numbers are needed.
#[test]
fn producers_are_known_after_a_cleaning() {
    let mut fixture = closed(&[
        pair("a", "1").producer(1, 3, 0).transactional().compressed(Compression::Gzip),
        pair("a", "1").producer(2, 0, 7),
    ]);
    fixture.log.append_marker(1, 4, false, NOW).unwrap();
    fixture.append(&pair("a", "3"));
    fixture.log.roll(NOW).unwrap();
    for now in [NOW, NOW + 50, NOW + 100] {
        compact(&mut fixture, now);
        fixture.reopen();
        expect(&fixture, &[(3, "a", "3")]);
        let fenced = fixture.log.append(&pair("a", "1").producer(1, 3, 1).bytes(), NOW);
        assert!(matches!(fenced, Err(AppendError::InvalidProducerEpoch { current: 4, .. })));
        assert!(fixture.log.append(&pair("a", "1").producer(2, 0, 7).bytes(), NOW).unwrap().duplicate);
        assert!(!fixture.log.has_open_transaction(1));
    }
    // Once they are forgotten, it goes.
    const DAY: i64 = 24 * 60 * 60 * 1000;
    fixture.log.expire(NOW + 2 * DAY).unwrap();
    fixture.reopen();
    fixture.log.expire(NOW + 2 * DAY).unwrap();
    compact(&mut fixture, NOW + 2 * DAY);
    compact(&mut fixture, NOW + 3 * DAY);
    assert_eq!(fixture.read_all(false).len(), pair("a", "3").bytes().len());
}

#[test]
fn only_what_is_stable_and_old_enough_is_cleaned() {
    let mut fixture = closed(&[pair("a", "1"), pair("a", "2")]);
    fixture.append(&pair("t", "1").producer(1, 0, 0).transactional());
    fixture.log.roll(NOW).unwrap();
    fixture.append(&pair("a", "3"));
    fixture.log.roll(NOW).unwrap();
    compact(&mut fixture, NOW);
    expect(&fixture, &[(1, "a", "2"), (2, "t", "1"), (3, "a", "3")]);
    fixture.log.append_marker(1, 0, true, NOW).unwrap();
    fixture.log.set_config(LogConfig { min_compaction_lag_ms: 100, ..compacted() });
    assert!(fixture.log.compaction(NOW + 99).is_none());
    compact(&mut fixture, NOW + 100);
    expect(&fixture, &[(2, "t", "1"), (3, "a", "3")]);
}

#[test]
fn it_is_worth_while_if_half_is_dirty() {
    let mut fixture = closed(&[]);
    fixture.append(&pair("a", "1"));
    fixture.append(&pair("z", "1"));
    assert_eq!(fixture.log.dirty_ratio(NOW), 0.0);
    fixture.log.roll(NOW).unwrap();
    assert_eq!(fixture.log.dirty_ratio(NOW), 1.0);
    assert!(fixture.log.maintain(NOW).unwrap().compacted.is_some());
    assert_eq!(fixture.log.dirty_ratio(NOW), 0.0);
    for key in ["b", "c"] {
        assert!(!fixture.log.is_worth_compacting(NOW));
        fixture.append(&pair(key, "1"));
        fixture.log.roll(NOW).unwrap();
    }
    assert!(fixture.log.is_worth_compacting(NOW));
    fixture.log.set_config(LogConfig { cleanup_compact: false, ..compacted() });
    assert!(!fixture.log.is_worth_compacting(NOW));
    assert!(fixture.log.compact(NOW).unwrap().is_none());
}

/// Of some segments nothing is left; readers pass them.
#[test]
fn empty_segments_are_passed() {
    let mut fixture = closed(&[]);
    let size = pair("a", "1").bytes().len() as u64;
    fixture.log.set_config(LogConfig { segment_bytes: size, ..compacted() });
    for key in ["a", "a", "b", "a", "a"] {
        fixture.append(&pair(key, "1"));
    }
    compact(&mut fixture, NOW);
    for _ in 0..2 {
        expect(&fixture, &[(2, "b", "1"), (3, "a", "1"), (4, "a", "1")]);
        assert_eq!(fixture.files().len(), 5);
        let found = fixture.log.offset_for_time(0).unwrap().map(|found| found.offset);
        assert_eq!(found, Some(2));
        fixture.reopen();
    }
}

/// Records without keys, from before the topic was compacted, go as in Kafka; what can't be read stays.
#[test]
fn what_came_before_the_topic_was_compacted() {
    let mut fixture = closed(&[]);
    fixture.log.set_config(LogConfig::default());
    fixture.append(&batch(1));
    let garbage = super::support::patched(pair("key", "value").bytes(), 62, &[0xff; 4]);
    fixture.log.append(&garbage, NOW).unwrap();
    fixture.append(&pair("a", "1"));
    fixture.log.roll(NOW).unwrap();
    fixture.log.set_config(compacted());
    compact(&mut fixture, NOW);
    assert_eq!(fixture.read_all(false).len(), garbage.len() + pair("a", "1").bytes().len());
}

#[test]
fn the_log_goes_on_while_it_is_cleaned() {
    let mut fixture = closed(&[pair("a", "1"), pair("a", "2"), pair("b", "1")]);
    let cleaning = fixture.log.compaction(NOW).unwrap();
    fixture.append(&pair("a", "3"));
    let cleaned = cleaning.clean().unwrap();
    let old = fixture.log.plan_read(0, ALL, false, true).unwrap();
    fixture.log.install(cleaned).unwrap();
    expect(&fixture, &[(1, "a", "2"), (2, "b", "1"), (3, "a", "3")]);
    assert_eq!(decode(&old.run().unwrap().records)[0].offset, 0);
    // What is deleted meanwhile does not come back.
    fixture.log.roll(NOW).unwrap();
    let cleaned = fixture.log.compaction(NOW).unwrap().clean().unwrap();
    fixture.log.delete_before(4).unwrap();
    fixture.log.install(cleaned).unwrap();
    assert_eq!(fixture.files(), ["00000000000000000004.log", "log-start-offset"]);
}

/// A crash at any step leaves each group of segments as it was or cleaned, and the next cleaning does the rest.
#[test]
fn a_crash_at_any_step_loses_nothing() {
    let batches = || {
        let value = "x".repeat(100);
        let keys = ["a", "b", "a", "c", "d", "b", "e", "c"];
        keys.map(|key| pair(key, &value)).to_vec()
    };
    let latest = |fixture: &Fixture| {
        let all = fixture.pairs().into_iter().map(|(offset, key, _)| (key, offset));
        all.collect::<std::collections::BTreeMap<_, _>>()
    };
    let mut steps = 0;
    loop {
        let mut fixture = closed(&batches());
        let size = pair("a", &"x".repeat(100)).bytes().len() as u64;
        fixture.log.set_config(LogConfig { segment_bytes: 3 * size, ..compacted() });
        let before = latest(&fixture);
        crash::arm(Some(steps));
        let result = fixture.log.compact(NOW);
        crash::arm(None);
        // Until it is opened again, the log shows the same.
        assert_eq!((latest(&fixture), fixture.log.end_offset()), (before.clone(), 8));
        if steps % 2 == 0 {
            fixture.reopen();
        } else {
            fixture.log.maintain(NOW).unwrap();
        }
        assert_eq!((latest(&fixture), fixture.log.end_offset()), (before.clone(), 8), "step {steps}");
        assert!(fixture.files().iter().all(|name| !name.ends_with(".swap")), "step {steps}");
        compact(&mut fixture, NOW);
        fixture.reopen();
        assert_eq!(latest(&fixture), before);
        assert_eq!(fixture.pairs().len(), before.len(), "step {steps}");
        if result.is_ok() {
            break;
        }
        steps += 1;
    }
    assert!(steps > 10, "{steps}");
}

/// If the directory is copied at the commit of a swap, both the old and the new segments are in it.
#[test]
fn a_committed_swap_is_finished() {
    let mut fixture = closed(&[pair("a", "1"), pair("a", "2"), pair("b", "1")]);
    // Two points in writing, one before the first deletion.
    crash::arm(Some(2));
    assert!(fixture.log.compact(NOW).is_err());
    crash::arm(None);
    let swap = "00000000000000000000-00000000000000000003.swap".to_owned();
    assert!(fixture.files().contains(&swap) && fixture.files().len() == 5);
    fs::write(fixture.dir.path().join("00000000000000000001.cleaned"), "half").unwrap();
    fixture.reopen();
    assert_eq!(fixture.files(), ["00000000000000000000.log", "00000000000000000003.log"]);
    expect(&fixture, &[(1, "a", "2"), (2, "b", "1")]);
}
