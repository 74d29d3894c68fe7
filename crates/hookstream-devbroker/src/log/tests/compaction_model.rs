//! Whatever is compacted, and whenever it crashes: committed readers see the latest record of every key.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;

use super::support::{Fixture, NOW, decode, records};
use crate::log::batch::BatchHeader;
use crate::log::{LogConfig, PartitionLog, crash};

const RETENTION: i64 = 50;

#[derive(Clone, Debug)]
enum Op {
    Append { producer: Option<i64>, transactional: bool, records: Vec<(u8, bool)> },
    Marker { producer: i64, commit: bool },
    Roll,
    Compact { crash_after: Option<u32> },
    Reopen,
    Wait(i64),
}

fn op() -> impl Strategy<Value = Op> {
    let some_records = proptest::collection::vec((0..6_u8, proptest::bool::weighted(0.7)), 1..4);
    let append = (proptest::option::of(1..4_i64), any::<bool>(), some_records)
        .prop_map(|(producer, transactional, records)| Op::Append { producer, transactional, records });
    let marker = (1..4_i64, any::<bool>()).prop_map(|(producer, commit)| Op::Marker { producer, commit });
    prop_oneof![
        10 => append,
        5 => marker,
        3 => Just(Op::Roll),
        3 => proptest::option::weighted(0.3, 0..8_u32).prop_map(|crash_after| Op::Compact { crash_after }),
        1 => Just(Op::Reopen),
        2 => (0..40_i64).prop_map(Op::Wait),
    ]
}

#[derive(Clone, Debug, PartialEq)]
struct Written {
    key: String,
    value: Option<String>,
    written_ms: i64,
    producer: Option<i64>,
}

/// What was written, and what became of it.
#[derive(Debug, Default)]
struct Model {
    committed: BTreeMap<i64, Written>,
    pending: BTreeMap<i64, BTreeMap<i64, Written>>,
    sequences: BTreeMap<i64, i32>,
    now_ms: i64,
}

impl Model {
    fn last_stable(&self, end: i64) -> i64 {
        self.pending.values().filter_map(|open| open.keys().next()).min().copied().unwrap_or(end)
    }

    /// The latest record of each key, as far as it is stable.
    fn latest(&self, stable: i64) -> BTreeMap<&str, (i64, &Written)> {
        let stable = self.committed.range(..stable);
        stable.map(|(offset, written)| (written.key.as_str(), (*offset, written))).collect()
    }
}

fn append(fixture: &mut Fixture, model: &mut Model, op: (Option<i64>, bool, Vec<(u8, bool)>)) {
    let (producer, transactional, pairs) = op;
    let offset = fixture.log.end_offset();
    let texts: Vec<_> = pairs
        .iter()
        .enumerate()
        .map(|(idx, (key, full))| (format!("k{key}"), full.then(|| format!("v{}", offset + idx as i64))))
        .collect();
    let borrowed: Vec<_> = texts.iter().map(|(key, value)| (Some(key.as_str()), value.as_deref())).collect();
    let mut made = records(&borrowed);
    // A producer in a transaction writes only in it.
    let transactional = producer.is_some_and(|id| transactional || model.pending.contains_key(&id));
    if let Some(id) = producer {
        let sequence = model.sequences.entry(id).or_default();
        made = made.producer(id, 0, *sequence);
        *sequence += i32::try_from(texts.len()).unwrap();
    }
    if transactional {
        made = made.transactional();
    }
    // Whatever was cleaned and opened again, the next number is right.
    let appended = fixture.log.append(&made.bytes(), model.now_ms).unwrap();
    assert_eq!((appended.base_offset, appended.duplicate), (offset, false));
    if producer.is_some() {
        assert!(fixture.log.append(&made.bytes(), model.now_ms).unwrap().duplicate);
    }
    let open = producer.filter(|_| transactional);
    for (idx, (key, value)) in texts.into_iter().enumerate() {
        let written = Written { key, value, written_ms: model.now_ms, producer };
        let target = match open {
            Some(id) => model.pending.entry(id).or_default(),
            None => &mut model.committed,
        };
        target.insert(offset + idx as i64, written);
    }
}

fn step(fixture: &mut Fixture, model: &mut Model, op: Op) {
    match op {
        Op::Append { producer, transactional, records } => {
            append(fixture, model, (producer, transactional, records));
        }
        Op::Marker { producer, commit } => {
            fixture.log.append_marker(producer, 0, commit, model.now_ms).unwrap();
            let ended = model.pending.remove(&producer).unwrap_or_default();
            if commit {
                model.committed.extend(ended);
            }
        }
        Op::Roll if !fixture.log.active().is_empty() => fixture.log.roll(model.now_ms).unwrap(),
        Op::Roll => {}
        Op::Compact { crash_after } => {
            crash::arm(crash_after);
            let result = fixture.log.compact(model.now_ms);
            crash::arm(None);
            if result.is_err() {
                reopen(fixture, model.now_ms);
            }
        }
        Op::Reopen => reopen(fixture, model.now_ms),
        Op::Wait(time) => model.now_ms += time,
    }
}

fn reopen(fixture: &mut Fixture, now_ms: i64) {
    let config = fixture.log.config().clone();
    let (log, recovery) = PartitionLog::open(fixture.dir.path(), config, now_ms).unwrap();
    assert_eq!(recovery.cut, None);
    fixture.log = log;
}

/// Reads as a client does that wants committed records only.
fn consume(log: &PartitionLog) -> BTreeMap<i64, (String, Option<String>)> {
    let mut seen = BTreeMap::new();
    let mut from = log.start_offset();
    loop {
        let read = log.read(from, 400, true, true).unwrap();
        if read.records.is_empty() {
            return seen;
        }
        let mut to_come = read.aborted.clone();
        to_come.sort_by_key(|(_, first)| std::cmp::Reverse(*first));
        let mut aborting = BTreeSet::new();
        let mut rest = read.records;
        while !rest.is_empty() {
            let header = BatchHeader::parse(&rest).unwrap();
            let batch = rest.split_to(header.size);
            while to_come.last().is_some_and(|(_, first)| *first <= header.last_offset()) {
                aborting.insert(to_come.pop().unwrap().0);
            }
            from = header.last_offset() + 1;
            if header.is_control() {
                aborting.remove(&header.producer_id);
            } else if !header.is_transactional() || !aborting.contains(&header.producer_id) {
                seen.extend(decode(&batch).into_iter().map(|record| {
                    let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
                    (record.offset, (text(record.key.unwrap()), record.value.map(text)))
                }));
            }
        }
    }
}

fn compare(log: &PartitionLog, model: &Model) {
    let stable = model.last_stable(log.end_offset());
    assert_eq!(log.last_stable_offset(), stable);
    let seen = consume(log);
    for (offset, (key, value)) in &seen {
        let written = &model.committed[offset];
        assert_eq!((&written.key, &written.value), (key, value), "{offset}");
    }
    for (key, (offset, latest)) in model.latest(stable) {
        // A tombstone may be gone once every reader had the time to see it.
        let may_be_gone = latest.value.is_none() && model.now_ms >= latest.written_ms + RETENTION;
        assert!(seen.contains_key(&offset) || may_be_gone, "{key} at {offset}: {latest:?}");
        if !seen.contains_key(&offset) {
            assert!(seen.values().all(|(other, _)| other != key), "{key} came back");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 4, ..ProptestConfig::default() })]
    #[test]
    fn readers_see_the_latest_of_every_key(
        ops in proptest::collection::vec(op(), 1..80),
        segment_bytes in 150..1500_u64,
    ) {
        let mut fixture = Fixture::new(LogConfig {
            segment_bytes,
            segment_ms: i64::MAX,
            cleanup_compact: true,
            cleanup_delete: false,
            delete_retention_ms: RETENTION,
            ..LogConfig::default()
        });
        let mut model = Model { now_ms: NOW, ..Model::default() };
        for op in ops {
            step(&mut fixture, &mut model, op);
            compare(&fixture.log, &model);
        }
        // All that ended and is old is in one record a key, after two cleanings.
        for id in 1..4 {
            fixture.log.append_marker(id, 0, true, model.now_ms).unwrap();
            let ended = model.pending.remove(&id).unwrap_or_default();
            model.committed.extend(ended);
        }
        for _ in 0..2 {
            fixture.log.roll(model.now_ms).unwrap();
            fixture.log.compact(model.now_ms).unwrap();
            model.now_ms += 2 * RETENTION;
            reopen(&mut fixture, model.now_ms);
        }
        compare(&fixture.log, &model);
        let alive = model.latest(i64::MAX).values().filter(|(_, written)| written.value.is_some()).count();
        let seen = consume(&fixture.log);
        prop_assert_eq!(seen.values().filter(|(_, value)| value.is_some()).count(), alive);
        prop_assert_eq!(seen.len(), alive);
    }
}
