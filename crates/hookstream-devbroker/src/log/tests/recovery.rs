//! What is found after a crash.

use std::fs::{self, OpenOptions};

use super::support::{Fixture, NOW, batch, files, pair};
use crate::log::{Fault, LogConfig, OpenError, PartitionLog};

fn three_segments() -> Fixture {
    let size = batch(1).bytes().len() as u64;
    let mut fixture = Fixture::new(LogConfig { segment_bytes: 3 * size, ..LogConfig::default() });
    for _ in 0..9 {
        fixture.append(&batch(1));
    }
    assert_eq!(fixture.files().len(), 3);
    fixture
}

/// Wherever a crash ends the last file, the batches before that are there.
#[test]
fn a_torn_end_is_cut() {
    let size = batch(1).bytes().len() as u64;
    for length in 0..3 * size {
        let mut fixture = three_segments();
        let path = fixture.dir.path().join("00000000000000000006.log");
        let before = fixture.read_all(false);
        OpenOptions::new().write(true).open(&path).unwrap().set_len(length).unwrap();
        let recovery = fixture.reopen();
        let whole = length / size;
        assert_eq!(fixture.log.end_offset(), 6 + whole as i64);
        assert_eq!(fixture.read_all(false), before[..usize::try_from((6 + whole) * size).unwrap()]);
        let cut = recovery.cut.map(|cut| (cut.path, cut.position, cut.bytes));
        let torn = length % size;
        assert_eq!(cut, (torn > 0).then_some((path.clone(), whole * size, torn)));
        assert_eq!(fs::metadata(&path).unwrap().len(), whole * size);
        assert_eq!((fixture.append(&batch(1)), fixture.reopen().cut), (6 + whole as i64, None));
    }
}

#[test]
fn a_damaged_end_is_cut() {
    // At a byte of the file: something of the last batch, then zeros behind it as a file system may leave them.
    for (at, fault) in [(16, Fault::Magic(0x42)), (70, Fault::Crc), (8, Fault::Length(0x4200_0000))] {
        let mut fixture = three_segments();
        let size = batch(1).bytes().len();
        let path = fixture.dir.path().join("00000000000000000006.log");
        let mut bytes = fs::read(&path).unwrap();
        bytes[2 * size + at] = 0x42;
        bytes.extend_from_slice(&[0; 100]);
        fs::write(&path, &bytes).unwrap();
        let cut = fixture.reopen().cut.unwrap();
        assert_eq!((cut.position, cut.bytes), (2 * size as u64, size as u64 + 100));
        // A length that can't be true is known by what follows.
        assert!(cut.fault == fault || matches!(cut.fault, Fault::Cut { .. }), "{cut:?}");
        assert_eq!(fixture.log.end_offset(), 8);
    }
}

#[test]
fn an_offset_that_can_not_be_is_a_fault() {
    for offset in [6_i64, 1 << 40, i64::MAX, -1] {
        let mut fixture = three_segments();
        let size = batch(1).bytes().len();
        let path = fixture.dir.path().join("00000000000000000006.log");
        let mut bytes = fs::read(&path).unwrap();
        bytes[2 * size..2 * size + 8].copy_from_slice(&offset.to_be_bytes());
        fs::write(&path, &bytes).unwrap();
        let cut = fixture.reopen().cut.unwrap();
        assert_eq!(cut.fault, Fault::Offset { base_offset: offset, expected: 8 });
        assert_eq!(fixture.log.end_offset(), 8);
    }
}

#[test]
fn damage_before_the_last_segment_is_an_error() {
    let fixture = three_segments();
    let size = batch(1).bytes().len();
    let path = fixture.dir.path().join("00000000000000000003.log");
    let good = fs::read(&path).unwrap();
    let mut bad = good.clone();
    bad[size + 65] ^= 1;
    for bad in [bad, good[..good.len() - 1].to_vec()] {
        fs::write(&path, &bad).unwrap();
        let error = PartitionLog::open(fixture.dir.path(), LogConfig::default(), NOW).unwrap_err();
        let OpenError::Corrupt(error) = error else { panic!("{error:?}") };
        assert_eq!(error.path, path);
        let text = error.to_string();
        assert!(text.contains("00000000000000000003.log") && text.contains(&error.position.to_string()));
    }
    fs::write(&path, &good).unwrap();
    PartitionLog::open(fixture.dir.path(), LogConfig::default(), NOW).unwrap();
}

#[test]
fn the_start_is_remembered() {
    let mut fixture = three_segments();
    assert_eq!(fixture.log.delete_before(4).unwrap(), 4);
    assert_eq!(fixture.log.delete_before(1).unwrap(), 4);
    assert!(fixture.log.delete_before(10).is_err());
    assert!(fixture.log.delete_before(-1).is_err());
    assert_eq!(fixture.files(), ["00000000000000000003.log", "00000000000000000006.log", "log-start-offset"]);
    fixture.reopen();
    assert_eq!((fixture.log.start_offset(), fixture.log.end_offset()), (4, 9));
    assert_eq!(fixture.log.delete_before(9).unwrap(), 9);
    fixture.reopen();
    assert_eq!((fixture.log.start_offset(), fixture.log.end_offset()), (9, 9));
    assert_eq!(fixture.append(&batch(1)), 9);
}

#[test]
fn a_start_beyond_the_end_is_moved_to_it() {
    let mut fixture = three_segments();
    fixture.log.delete_before(8).unwrap();
    let path = fixture.dir.path().join("00000000000000000006.log");
    OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    fixture.reopen();
    assert_eq!((fixture.log.start_offset(), fixture.log.end_offset()), (6, 6));
    for _ in 0..3 {
        fixture.append(&batch(1));
    }
    fixture.reopen();
    assert_eq!((fixture.log.start_offset(), fixture.log.end_offset()), (6, 9));
}

#[test]
fn a_start_that_is_none_is_an_error_that_says_what_to_do() {
    let fixture = three_segments();
    fs::write(fixture.dir.path().join("log-start-offset"), "four").unwrap();
    let error = PartitionLog::open(fixture.dir.path(), LogConfig::default(), NOW).unwrap_err();
    assert!(error.to_string().contains("log-start-offset") && error.to_string().contains("delete it"));
}

#[test]
fn leftovers_go_and_strange_files_stay() {
    let mut fixture = three_segments();
    for name in ["00000000000000000003.cleaned", "log-start-offset.tmp", "notes.txt"] {
        fs::write(fixture.dir.path().join(name), "x").unwrap();
    }
    fixture.reopen();
    assert_eq!((files(fixture.dir.path()).len(), fixture.log.end_offset()), (4, 9));
    assert!(fixture.files().contains(&"notes.txt".to_owned()));
}

/// A directory without segments goes on where its records were deleted.
#[test]
fn a_log_without_segments_starts_where_it_was_told_to() {
    let mut fixture = Fixture::new(LogConfig::default());
    fixture.append(&pair("key", "value"));
    fixture.log.delete_before(1).unwrap();
    fs::remove_file(fixture.dir.path().join("00000000000000000000.log")).unwrap();
    fixture.reopen();
    assert_eq!((fixture.log.start_offset(), fixture.log.end_offset()), (1, 1));
}
