//! Whatever is appended, repeated, ended, deleted and torn off: the log is what a list of batches would be.

use std::collections::BTreeMap;
use std::fs::OpenOptions;

use proptest::prelude::*;
use proptest::sample::Index;

use super::support::{ALL, Fixture, NOW, batch, last_offset};
use crate::log::{AppendError, LogConfig};

#[derive(Clone, Debug)]
enum Op {
    Append { producer: Option<i64>, count: usize, transactional: bool, epoch: Epoch, sequence: Sequence },
    Marker { producer: i64, commit: bool, bump: bool },
    Delete(Index),
    Maintain,
    Reopen,
    Truncate(Index),
}

#[derive(Clone, Copy, Debug)]
enum Epoch {
    Same,
    Lower,
    Higher,
}

#[derive(Clone, Copy, Debug)]
enum Sequence {
    Right,
    /// So many batches ago.
    Again(usize),
    Gap(i32),
}

fn op() -> impl Strategy<Value = Op> {
    let epoch = prop_oneof![8 => Just(Epoch::Same), 1 => Just(Epoch::Lower), 1 => Just(Epoch::Higher)];
    let sequence = prop_oneof![
        6 => Just(Sequence::Right),
        1 => (0..7_usize).prop_map(Sequence::Again),
        1 => (1..4).prop_map(Sequence::Gap),
    ];
    let append = (proptest::option::of(1..4_i64), 1..5_usize, any::<bool>(), epoch, sequence).prop_map(
        |(producer, count, transactional, epoch, sequence)| Op::Append {
            producer,
            count,
            transactional,
            epoch,
            sequence,
        },
    );
    let marker = (1..4_i64, any::<bool>(), proptest::bool::weighted(0.2))
        .prop_map(|(producer, commit, bump)| Op::Marker { producer, commit, bump });
    prop_oneof![
        12 => append,
        5 => marker,
        1 => any::<Index>().prop_map(Op::Delete),
        1 => Just(Op::Maintain),
        2 => Just(Op::Reopen),
        1 => any::<Index>().prop_map(Op::Truncate),
    ]
}

#[derive(Debug, PartialEq)]
enum Verdict {
    Taken,
    Repeated(i64),
    OutOfOrder,
    Fenced,
    OutsideOfTransaction,
}

#[derive(Clone, Debug)]
struct Entry {
    base: i64,
    count: i64,
    bytes: Vec<u8>,
    producer: Option<(i64, i16, i32)>,
    transactional: bool,
    /// Of a marker: whether it commits.
    commit: Option<bool>,
}

#[derive(Clone, Debug, Default)]
struct Producer {
    epoch: i16,
    /// Of this epoch: first sequence number, records, offset.
    sent: Vec<(i32, i64, i64)>,
    any_sequence: bool,
    open: Option<i64>,
}

impl Producer {
    fn next(&self) -> Option<i32> {
        let after = |(first, count, _): &(i32, i64, i64)| {
            i32::try_from((i64::from(*first) + count) % (1 << 31)).unwrap()
        };
        self.sent.last().map(after).or(if self.any_sequence { None } else { Some(0) })
    }
}

#[derive(Debug, Default)]
struct Model {
    entries: Vec<Entry>,
    start: i64,
    end: i64,
    producers: BTreeMap<i64, Producer>,
    /// Producer, first offset, offset of the marker.
    aborted: Vec<(i64, i64, i64)>,
}

impl Model {
    fn judge(&self, entry: &Entry) -> Verdict {
        let Some((id, epoch, sequence)) = entry.producer else { return Verdict::Taken };
        let Some(known) = self.producers.get(&id) else { return Verdict::Taken };
        let recent = &known.sent[known.sent.len().saturating_sub(5)..];
        let same = recent.iter().find(|(first, count, _)| (*first, *count) == (sequence, entry.count));
        match same {
            Some((_, _, base)) if known.epoch == epoch => return Verdict::Repeated(*base),
            _ => {}
        }
        if epoch < known.epoch {
            return Verdict::Fenced;
        }
        let expected = if epoch > known.epoch { Some(0) } else { known.next() };
        if expected.is_some_and(|expected| expected != sequence) {
            return Verdict::OutOfOrder;
        }
        if known.open.is_some() && !entry.transactional {
            return Verdict::OutsideOfTransaction;
        }
        Verdict::Taken
    }

    fn push(&mut self, entry: Entry) {
        self.end = entry.base + entry.count;
        self.learn(&entry);
        self.entries.push(entry);
    }

    fn learn(&mut self, entry: &Entry) {
        let Some((id, epoch, sequence)) = entry.producer else { return };
        let unknown = Producer { epoch, any_sequence: true, ..Producer::default() };
        let known = self.producers.entry(id).or_insert(unknown);
        if known.epoch < epoch {
            *known = Producer { epoch, open: known.open, ..Producer::default() };
        }
        match entry.commit {
            None => {
                known.sent.push((sequence, entry.count, entry.base));
                if entry.transactional && known.open.is_none() {
                    known.open = Some(entry.base);
                }
            }
            Some(commit) => {
                if let (Some(first), false) = (known.open.take(), commit) {
                    self.aborted.push((id, first, entry.base));
                }
            }
        }
    }

    /// Knows what the batches say from here on, and nothing else.
    fn rebuild(&mut self, first: i64) {
        self.entries.retain(|entry| entry.base >= first);
        self.producers.clear();
        self.aborted.clear();
        for entry in self.entries.clone() {
            self.learn(&entry);
        }
    }

    fn last_stable(&self) -> i64 {
        let open = self.producers.values().filter_map(|producer| producer.open).min();
        open.map_or(self.end, |open| open.max(self.start))
    }

    /// All batches with an offset in a range.
    fn bytes(&self, from: i64, to: i64) -> Vec<u8> {
        let within = |entry: &&Entry| from < to && entry.base + entry.count > from && entry.base < to;
        self.entries.iter().filter(within).flat_map(|entry| entry.bytes.clone()).collect()
    }

    /// The batch that a producer would send.
    fn compose(
        &self,
        producer: Option<i64>,
        count: usize,
        transactional: bool,
        epoch: Epoch,
        sequence: Sequence,
    ) -> Entry {
        let mut made = batch(count);
        let mut identity = None;
        if let Some(id) = producer {
            // The third producer's numbers are about to start again.
            let fresh = if id == 3 { i32::MAX - 3 } else { 0 };
            let known = self.producers.get(&id);
            let (current, next) = known.map_or((9, None), |known| (known.epoch, known.next()));
            let sent = known.map_or(&[][..], |known| &known.sent);
            let epoch = match epoch {
                Epoch::Same => current,
                Epoch::Lower => current - 1,
                Epoch::Higher => current + 1,
            };
            let (sequence, count) = match sequence {
                Sequence::Again(ago) if ago < sent.len() => {
                    let (first, count, _) = sent[sent.len() - 1 - ago];
                    (first, usize::try_from(count).unwrap())
                }
                Sequence::Gap(gap) => (next.unwrap_or(fresh).wrapping_add(gap) & i32::MAX, count),
                _ if epoch > current => (0, count),
                _ => (next.unwrap_or(fresh), count),
            };
            made = batch(count).producer(id, epoch, sequence);
            identity = Some((id, epoch, sequence));
        }
        let transactional = transactional && producer.is_some();
        if transactional {
            made = made.transactional();
        }
        let bytes = made.bytes();
        let count = i64::from(i32::from_be_bytes(bytes[57..61].try_into().unwrap()));
        Entry { base: self.end, count, bytes, producer: identity, transactional, commit: None }
    }
}

fn placed(mut entry: Entry) -> Entry {
    entry.bytes[..8].copy_from_slice(&entry.base.to_be_bytes());
    entry.bytes[12..16].copy_from_slice(&[0; 4]);
    entry
}

fn send(fixture: &mut Fixture, entry: &Entry) -> Verdict {
    match fixture.log.append(&entry.bytes, NOW) {
        Ok(appended) if appended.duplicate => Verdict::Repeated(appended.base_offset),
        Ok(appended) => {
            assert_eq!(
                (appended.base_offset, appended.last_offset),
                (entry.base, entry.base + entry.count - 1)
            );
            Verdict::Taken
        }
        Err(AppendError::OutOfOrderSequence { .. }) => Verdict::OutOfOrder,
        Err(AppendError::InvalidProducerEpoch { .. }) => Verdict::Fenced,
        Err(AppendError::InvalidTxnState { .. }) => Verdict::OutsideOfTransaction,
        Err(error) => panic!("{error:?}"),
    }
}

fn step(fixture: &mut Fixture, model: &mut Model, op: Op) {
    match op {
        Op::Append { producer, count, transactional, epoch, sequence } => {
            let entry = model.compose(producer, count, transactional, epoch, sequence);
            let expected = model.judge(&entry);
            assert_eq!(send(fixture, &entry), expected, "{entry:?}");
            if expected == Verdict::Taken {
                model.push(placed(entry));
            }
        }
        Op::Marker { producer, commit, bump } => {
            let known = model.producers.get(&producer).map_or(9, |known| known.epoch);
            let epoch = known + i16::from(bump);
            let base = fixture.log.append_marker(producer, epoch, commit, NOW).unwrap();
            assert_eq!(base, model.end);
            let bytes = fixture.log.read(base, ALL, false, true).unwrap().records.to_vec();
            let producer = Some((producer, epoch, -1));
            model.push(Entry { base, count: 1, bytes, producer, transactional: true, commit: Some(commit) });
        }
        Op::Delete(index) => {
            let offset = index.index(usize::try_from(model.end + 1).unwrap()) as i64;
            model.start = model.start.max(offset);
            assert_eq!(fixture.log.delete_before(offset).unwrap(), model.start);
        }
        Op::Maintain => {
            fixture.log.maintain(NOW).unwrap();
            model.start = model.start.max(fixture.log.segments[0].base);
            let without_oldest = fixture.log.size() - fixture.log.segments[0].size;
            assert!(without_oldest <= 3000, "{without_oldest}");
        }
        Op::Reopen => {
            assert_eq!(fixture.reopen().cut, None);
            model.rebuild(fixture.log.segments[0].base);
        }
        Op::Truncate(index) => truncate(fixture, model, index),
    }
}

/// Tears off a part of the last file.
fn truncate(fixture: &mut Fixture, model: &mut Model, index: Index) {
    let active = fixture.log.active();
    let (base, size) = (active.base, active.size);
    let length = index.index(usize::try_from(size).unwrap() + 1) as u64;
    let path = fixture.dir.path().join(format!("{base:020}.log"));
    OpenOptions::new().write(true).open(path).unwrap().set_len(length).unwrap();
    let recovery = fixture.reopen();
    // Batches of the file are there up to the first one that is not whole.
    let mut position = 0;
    model.entries.retain(|entry| {
        position += if entry.base < base { 0 } else { entry.bytes.len() as u64 };
        position <= length
    });
    let in_file = model.entries.iter().filter(|entry| entry.base >= base);
    let whole: u64 = in_file.map(|entry| entry.bytes.len() as u64).sum();
    assert_eq!(recovery.cut.map(|cut| cut.bytes), (whole < length).then(|| length - whole));
    model.end = model.entries.last().map_or(base, |entry| entry.base + entry.count).max(base);
    model.start = model.start.min(model.end);
    model.rebuild(fixture.log.segments[0].base);
}

fn compare(fixture: &Fixture, model: &Model, at: Index, max_bytes: usize) {
    let log = &fixture.log;
    assert_eq!((log.start_offset(), log.end_offset()), (model.start, model.end));
    assert_eq!(log.last_stable_offset(), model.last_stable());
    for id in 1..4 {
        let open = model.producers.get(&id).is_some_and(|producer| producer.open.is_some());
        assert_eq!(log.has_open_transaction(id), open);
    }
    assert_eq!(fixture.read_all(false), model.bytes(model.start, model.end));
    assert_eq!(fixture.read_all(true), model.bytes(model.start, model.last_stable()));
    let from = model.start + at.index(usize::try_from(model.end - model.start + 1).unwrap()) as i64;
    let read = log.read(from, max_bytes, true, true).unwrap();
    let last = last_offset(&read.records);
    let overlaps = |(_, first, marker): &&(i64, i64, i64)| *first <= last && *marker >= from;
    let expected: Vec<_> =
        model.aborted.iter().filter(overlaps).map(|(id, first, _)| (*id, *first)).collect();
    assert_eq!(read.aborted, expected, "{from}..={last}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 4, ..ProptestConfig::default() })]
    #[test]
    fn the_log_is_a_list_of_batches(
        ops in proptest::collection::vec((op(), any::<Index>(), 0..1500_usize), 1..60),
        segment_bytes in 200..2000_u64,
    ) {
        let mut fixture = Fixture::new(LogConfig {
            segment_bytes,
            retention_bytes: Some(3000),
            retention_ms: None,
            ..LogConfig::default()
        });
        let mut model = Model::default();
        for (op, at, max_bytes) in ops {
            step(&mut fixture, &mut model, op);
            compare(&fixture, &model, at, max_bytes);
        }
    }
}
