//! What is taken and what is refused.

use std::fs::File;
use std::sync::Arc;

use kafka_protocol::records::Compression;

use super::support::{ALL, Batch, Fixture, NOW, batch, decode, pair, patched, records};
use crate::log::{AppendError, Fault, LogConfig};

type Expected = fn(&AppendError) -> bool;

/// Whatever is wrong with a request, nothing of it is written.
#[test]
fn what_is_not_valid_is_refused_whole() {
    let good = batch(2).bytes();
    let with = |at: usize, bytes: &[u8]| patched(good.clone(), at, bytes);
    let idempotent = batch(1).producer(7, 0, 0).bytes();
    let mut wrong_crc = good.clone();
    wrong_crc[70] ^= 1;
    let table: Vec<(Vec<u8>, Expected)> = vec![
        (vec![], |error| matches!(error, AppendError::InvalidRecord(_))),
        (good[..40].to_vec(), |error| matches!(error, AppendError::Corrupt { fault: Fault::Short, .. })),
        (good[..70].to_vec(), |error| matches!(error, AppendError::Corrupt { fault: Fault::Cut { .. }, .. })),
        (with(8, &48_i32.to_be_bytes()), |error| {
            matches!(error, AppendError::Corrupt { fault: Fault::Length(48), .. })
        }),
        (with(8, &(-1_i32).to_be_bytes()), |error| {
            matches!(error, AppendError::Corrupt { fault: Fault::Length(-1), .. })
        }),
        (wrong_crc, |error| matches!(error, AppendError::Corrupt { fault: Fault::Crc, .. })),
        (with(16, &[1]), |error| matches!(error, AppendError::Magic { magic: 1 })),
        (with(23, &5_i32.to_be_bytes()), |error| matches!(error, AppendError::InvalidRecord(_))),
        (with(57, &(-1_i32).to_be_bytes()), |error| matches!(error, AppendError::InvalidRecord(_))),
        (with(57, &3_i32.to_be_bytes()), |error| matches!(error, AppendError::InvalidRecord(_))),
        (with(21, &(1_i16 << 5).to_be_bytes()), |error| matches!(error, AppendError::InvalidRecord(_))),
        (with(21, &(1_i16 << 6).to_be_bytes()), |error| matches!(error, AppendError::InvalidRecord(_))),
        (with(21, &5_i16.to_be_bytes()), |error| matches!(error, AppendError::InvalidRecord(_))),
        (with(21, &(1_i16 << 4).to_be_bytes()), |error| matches!(error, AppendError::InvalidRecord(_))),
        (patched(idempotent.clone(), 51, &(-1_i16).to_be_bytes()), |error| {
            matches!(error, AppendError::InvalidRecord(_))
        }),
        (patched(idempotent, 53, &(-1_i32).to_be_bytes()), |error| {
            matches!(error, AppendError::InvalidRecord(_))
        }),
        (records(&[(None, Some(&"x".repeat(2000)))]).bytes(), |error| {
            matches!(error, AppendError::TooLarge { max: 1000, .. })
        }),
    ];
    let mut fixture = Fixture::new(LogConfig { max_message_bytes: 1000, ..LogConfig::default() });
    for (idx, (bad, expected)) in table.into_iter().enumerate() {
        // Behind a good batch it is refused as well, and the good one with it.
        for request in [bad.clone(), [good.clone(), bad].concat()] {
            match fixture.log.append(&request, NOW) {
                Err(error) => assert!(expected(&error), "case {idx}: {error:?}"),
                Ok(appended) => assert_eq!((request, appended.last_offset), (good.clone(), 1), "case {idx}"),
            }
        }
        // Of the first case the good one alone was a request.
        assert_eq!(fixture.log.end_offset(), 2, "case {idx}");
    }
}

#[test]
fn batches_are_kept_as_they_came_but_for_their_place() {
    let mut fixture = Fixture::new(LogConfig::default());
    let (first, second, third) =
        (batch(3).bytes(), batch(2).compressed(Compression::Zstd).bytes(), batch(1).bytes());
    let one = fixture.log.append(&first, NOW).unwrap();
    assert_eq!((one.base_offset, one.last_offset, one.append_time, one.duplicate), (0, 2, None, false));
    let two = fixture.log.append(&[second.clone(), third.clone()].concat(), NOW).unwrap();
    assert_eq!((two.base_offset, two.last_offset, two.start_offset), (3, 5, 0));
    let placed = |batch: &[u8], offset: i64| {
        let mut batch = batch.to_vec();
        batch[..8].copy_from_slice(&offset.to_be_bytes());
        batch[12..16].copy_from_slice(&[0; 4]);
        batch
    };
    let expected = [placed(&first, 0), placed(&second, 3), placed(&third, 5)].concat();
    let read = fixture.log.read(0, ALL, false, false).unwrap();
    assert_eq!(read.records, expected);
    assert_eq!(
        decode(&read.records).iter().map(|record| record.offset).collect::<Vec<_>>(),
        [0, 1, 2, 3, 4, 5]
    );
    assert_eq!((fixture.log.end_offset(), fixture.log.size()), (6, expected.len() as u64));
}

#[test]
fn the_log_may_give_the_time() {
    let mut fixture = Fixture::new(LogConfig { log_append_time: true, ..LogConfig::default() });
    let appended = fixture.log.append(&batch(2).at(&[5, 6]).producer(1, 0, 0).bytes(), NOW).unwrap();
    assert_eq!(appended.append_time, Some(NOW));
    let again = fixture.log.append(&batch(2).at(&[5, 6]).producer(1, 0, 0).bytes(), NOW + 9).unwrap();
    assert_eq!((again.append_time, again.duplicate), (Some(NOW), true));
    let read = fixture.log.read(0, ALL, false, false).unwrap();
    assert_eq!(i64::from_be_bytes(read.records[35..43].try_into().unwrap()), NOW);
    // Decoding checks the checksum.
    assert_eq!(decode(&read.records)[0].timestamp_type, kafka_protocol::records::TimestampType::LogAppend);
}

#[test]
fn compacted_topics_want_keys() {
    let mut fixture = Fixture::new(LogConfig { cleanup_compact: true, ..LogConfig::default() });
    for compression in
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd]
    {
        let refused = fixture.log.append(&batch(1).compressed(compression).bytes(), NOW);
        assert!(matches!(refused, Err(AppendError::InvalidRecord(_))));
        fixture.append(&pair("key", "value").compressed(compression));
    }
    let garbage = patched(pair("key", "value").bytes(), 62, &[0xff; 4]);
    assert!(matches!(fixture.log.append(&garbage, NOW), Err(AppendError::InvalidRecord(_))));
    assert_eq!(fixture.log.end_offset(), 5);
}

#[test]
fn a_full_or_old_segment_is_followed_by_another() {
    let size = batch(1).bytes().len() as u64;
    let config = LogConfig { segment_bytes: 2 * size, segment_ms: 100, ..LogConfig::default() };
    let mut fixture = Fixture::new(config);
    let append = |fixture: &mut Fixture, batch: &Batch, now| fixture.log.append(&batch.bytes(), now).unwrap();
    append(&mut fixture, &batch(1), NOW);
    append(&mut fixture, &batch(1), NOW + 1);
    assert_eq!(fixture.files().len(), 1);
    append(&mut fixture, &batch(1), NOW + 2);
    assert_eq!(fixture.files(), ["00000000000000000000.log", "00000000000000000002.log"]);
    // What a segment holds is durable when it ends.
    assert_eq!(fixture.log.durable_offset(), 2);
    append(&mut fixture, &batch(1), NOW + 102);
    assert_eq!(fixture.files().len(), 3);
    // One that is larger than a segment has one for itself.
    append(&mut fixture, &batch(20), NOW + 103);
    append(&mut fixture, &batch(1), NOW + 104);
    assert_eq!(fixture.files().len(), 5);
    assert_eq!(fixture.read_all(false).len() as u64, fixture.log.size());
    fixture.reopen();
    assert_eq!(fixture.log.end_offset(), 25);
}

#[test]
fn syncing_needs_no_log() {
    let mut fixture = Fixture::new(LogConfig::default());
    fixture.append(&batch(2));
    let syncer = fixture.log.syncer();
    fixture.append(&batch(1));
    assert!(syncer.is_needed());
    assert_eq!((syncer.sync().unwrap(), fixture.log.durable_offset()), (2, 2));
    assert!(!syncer.is_needed() && fixture.log.syncer().is_needed());
    assert_eq!(fixture.log.sync().unwrap(), 3);
    // An older one says how far it is by now.
    assert_eq!(syncer.sync().unwrap(), 3);
}

#[test]
fn what_can_not_be_written_changes_nothing() {
    let mut fixture = Fixture::new(LogConfig::default());
    fixture.append(&batch(1).producer(1, 0, 0));
    let path = fixture.dir.path().join("00000000000000000000.log");
    let read_only = Arc::new(File::open(path).unwrap());
    let file = std::mem::replace(&mut fixture.log.active_mut().file, read_only);
    let error = fixture.log.append(&batch(1).producer(1, 0, 1).bytes(), NOW).unwrap_err();
    assert!(matches!(error, AppendError::Io(_)) && error.to_string().contains("00000000000000000000.log"));
    assert!(fixture.log.append_marker(1, 3, true, NOW).is_err());
    fixture.log.active_mut().file = file;
    assert_eq!(fixture.append(&batch(1).producer(1, 0, 1)), 1);
    assert_eq!(fixture.reopen().cut, None);
    assert_eq!(fixture.log.end_offset(), 2);
}

/// More offsets than a segment has can't come in one request, whatever the headers claim.
#[test]
fn the_number_of_records_has_a_limit() {
    let mut fixture = Fixture::new(LogConfig::default());
    let huge = patched(batch(1).bytes(), 23, &(i32::MAX - 1).to_be_bytes());
    let huge = patched(huge, 57, &i32::MAX.to_be_bytes());
    let refused = fixture.log.append(&[huge.clone(), huge.clone()].concat(), NOW);
    assert!(matches!(refused, Err(AppendError::InvalidRecord(_))));
    for _ in 0..3 {
        fixture.log.append(&huge, NOW).unwrap();
    }
    assert_eq!((fixture.log.end_offset(), fixture.files().len()), (3 * i64::from(i32::MAX), 3));
    fixture.reopen();
    assert_eq!(fixture.log.end_offset(), 3 * i64::from(i32::MAX));
}
