//! What the log knows of its producers: who may write, what comes next, and which transactions are open.
//!
//! **Epoch** is the number of a producer's incarnation; lower ones are fenced. **Sequence numbers** count a
//! producer's records in this partition, so a repeated batch is found and a lost one is missed. All of it
//! follows from the batches of the log, so it is rebuilt from them. Only fences without a marker are lost then.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::batch::{BatchHeader, Marker};
use super::error::AppendError;

/// A producer that wrote nothing for so long is forgotten: a day, as in Kafka.
const EXPIRES_AFTER_MS: i64 = 24 * 60 * 60 * 1000;
/// A client has at most five batches on their way.
const REMEMBERED: usize = 5;

/// A batch that was appended, as its repetition is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) base_offset: i64,
    pub(crate) last_offset: i64,
    pub(crate) max_timestamp: i64,
    first_sequence: i32,
    last_sequence: i32,
}

impl Sent {
    fn of(header: &BatchHeader) -> Self {
        Self {
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            max_timestamp: header.max_timestamp,
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
        }
    }
}

/// The last batches of a producer, in order. A ring would be no simpler for five.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct LastSent {
    batches: [Sent; REMEMBERED],
    count: usize,
}

impl LastSent {
    fn push(&mut self, sent: Sent) {
        if self.count == REMEMBERED {
            self.batches.rotate_left(1);
            self.count -= 1;
        }
        self.batches[self.count] = sent;
        self.count += 1;
    }

    fn as_slice(&self) -> &[Sent] {
        &self.batches[..self.count]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Producer {
    epoch: i16,
    sent: LastSent,
    /// Nothing is known of its numbers, because its batches are gone or it was only fenced: any may come.
    any_sequence: bool,
    /// The first offset of its open transaction.
    open: Option<i64>,
    /// Where it, or its coordinator, wrote last.
    last_offset: i64,
    last_write_ms: i64,
}

impl Producer {
    fn unknown(epoch: i16, now_ms: i64) -> Self {
        Self {
            epoch,
            sent: LastSent::default(),
            any_sequence: true,
            open: None,
            last_offset: -1,
            last_write_ms: now_ms,
        }
    }

    fn move_to(&mut self, epoch: i16) {
        if epoch != self.epoch {
            self.epoch = epoch;
            self.sent = LastSent::default();
            self.any_sequence = false;
        }
    }

    /// The number that the batch must start with; none if any will do.
    fn expected_sequence(&self, epoch: i16) -> Option<i32> {
        if epoch != self.epoch {
            return Some(0);
        }
        match self.sent.as_slice().last() {
            Some(sent) => Some(sent.last_sequence.checked_add(1).unwrap_or(0)),
            None => (!self.any_sequence).then_some(0),
        }
    }

    fn repeats(&self, header: &BatchHeader) -> Option<Sent> {
        let same = |sent: &&Sent| {
            sent.first_sequence == header.base_sequence && sent.last_sequence == header.last_sequence()
        };
        self.sent.as_slice().iter().find(same).copied().filter(|_| self.epoch == header.producer_epoch)
    }

    fn admit(&self, header: &BatchHeader) -> Result<Option<Sent>, AppendError> {
        let producer_id = header.producer_id;
        // A repetition is answered first: it was right when it came for the first time.
        if let Some(sent) = self.repeats(header) {
            return Ok(Some(sent));
        }
        if header.producer_epoch < self.epoch {
            let (epoch, current) = (header.producer_epoch, self.epoch);
            return Err(AppendError::InvalidProducerEpoch { producer_id, epoch, current });
        }
        let sequence = header.base_sequence;
        if let Some(expected) = self.expected_sequence(header.producer_epoch)
            && sequence != expected
        {
            return Err(AppendError::OutOfOrderSequence { producer_id, sequence, expected });
        }
        if self.open.is_some() && !header.is_transactional() {
            return Err(AppendError::InvalidTxnState { producer_id });
        }
        Ok(None)
    }

    fn on_data(&mut self, header: &BatchHeader, now_ms: i64) {
        self.move_to(header.producer_epoch);
        self.sent.push(Sent::of(header));
        self.last_offset = header.last_offset();
        self.last_write_ms = now_ms;
        // A batch that compaction emptied only carries its numbers; its transaction ended long ago.
        if header.is_transactional() && header.record_count > 0 {
            self.open.get_or_insert(header.base_offset);
        }
    }

    fn is_expired(&self, now_ms: i64) -> bool {
        self.open.is_none() && self.last_write_ms.saturating_add(EXPIRES_AFTER_MS) <= now_ms
    }
}

/// A transaction that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) producer_id: i64,
    pub(crate) first_offset: i64,
    /// The offset of its marker.
    pub(crate) last_offset: i64,
}

/// All producers of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    known: HashMap<i64, Producer>,
    /// Open transactions: the producer by the first offset.
    open: BTreeMap<i64, i64>,
}

impl Producers {
    fn get(&self, producer_id: i64, now_ms: i64) -> Option<&Producer> {
        self.known.get(&producer_id).filter(|producer| !producer.is_expired(now_ms))
    }

    /// Begins to check what a request wants to append.
    pub(crate) fn check(&self, now_ms: i64) -> Check<'_> {
        Check { producers: self, changed: Vec::new(), now_ms }
    }

    /// Takes note of a batch that is in the log, at whatever place it was given.
    pub(crate) fn on_data(&mut self, header: &BatchHeader, now_ms: i64) {
        if !header.is_idempotent() {
            return;
        }
        let id = header.producer_id;
        let unknown = || Producer::unknown(header.producer_epoch, now_ms);
        let producer = self.known.entry(id).or_insert_with(unknown);
        if producer.is_expired(now_ms) {
            *producer = unknown();
        }
        let was_open = producer.open.is_some();
        producer.on_data(header, now_ms);
        if let Some(first_offset) = producer.open.filter(|_| !was_open) {
            self.open.insert(first_offset, id);
        }
    }

    /// Whether a marker of this epoch may be written.
    pub(crate) fn check_marker(&self, producer_id: i64, epoch: i16, now_ms: i64) -> Result<(), AppendError> {
        match self.get(producer_id, now_ms) {
            Some(producer) if epoch < producer.epoch => {
                Err(AppendError::InvalidProducerEpoch { producer_id, epoch, current: producer.epoch })
            }
            _ => Ok(()),
        }
    }

    /// Takes note of a marker that is in the log. Returns the transaction that it ended.
    pub(crate) fn on_marker(&mut self, header: &BatchHeader, now_ms: i64) -> Option<Ended> {
        let producer_id = header.producer_id;
        self.fence(producer_id, header.producer_epoch, now_ms);
        let producer = self.known.get_mut(&producer_id)?;
        producer.last_offset = header.last_offset();
        producer.last_write_ms = now_ms;
        let first_offset = producer.open.take()?;
        self.open.remove(&first_offset);
        Some(Ended { producer_id, first_offset, last_offset: header.last_offset() })
    }

    /// Refuses epochs lower than this one from now on.
    pub(crate) fn fence(&mut self, producer_id: i64, epoch: i16, now_ms: i64) {
        let unknown = Producer::unknown(epoch, now_ms);
        let producer = self.known.entry(producer_id).or_insert(unknown);
        if producer.is_expired(now_ms) {
            *producer = unknown;
        }
        if epoch > producer.epoch {
            producer.move_to(epoch);
        }
    }

    pub(crate) fn open_since(&self, producer_id: i64) -> Option<i64> {
        self.known.get(&producer_id)?.open
    }

    /// The first offset of the oldest open transaction.
    pub(crate) fn first_open(&self) -> Option<i64> {
        self.open.first_key_value().map(|(offset, _)| *offset)
    }

    pub(crate) fn expire(&mut self, now_ms: i64) {
        self.known.retain(|_, producer| !producer.is_expired(now_ms));
    }

    /// The last offsets of the batches that this knowledge is rebuilt from.
    pub(crate) fn evidence(&self, now_ms: i64) -> HashSet<i64> {
        let live = self.known.values().filter(|producer| !producer.is_expired(now_ms));
        live.flat_map(|producer| {
            let sent = producer.sent.as_slice().iter().map(|sent| sent.last_offset);
            sent.chain([producer.last_offset]).collect::<Vec<_>>()
        })
        .collect()
    }
}

/// The batches of one request, each checked as if those before it were in the log.
#[derive(Debug)]
pub(crate) struct Check<'a> {
    producers: &'a Producers,
    changed: Vec<(i64, Producer)>,
    now_ms: i64,
}

impl Check<'_> {
    /// Checks a batch that has its place already. Returns the batch that it repeats, if it does.
    pub(crate) fn admit(&mut self, header: &BatchHeader) -> Result<Option<Sent>, AppendError> {
        if !header.is_idempotent() {
            return Ok(None);
        }
        let id = header.producer_id;
        let changed = self.changed.iter().position(|(changed, _)| *changed == id);
        let before = match changed {
            Some(idx) => Some(&self.changed[idx].1),
            None => self.producers.get(id, self.now_ms),
        };
        if let Some(sent) = before.map(|producer| producer.admit(header)).transpose()?.flatten() {
            return Ok(Some(sent));
        }
        let mut after =
            before.copied().unwrap_or_else(|| Producer::unknown(header.producer_epoch, self.now_ms));
        after.on_data(header, self.now_ms);
        match changed {
            Some(idx) => self.changed[idx].1 = after,
            None => self.changed.push((id, after)),
        }
        Ok(None)
    }
}

/// An aborted transaction of which records may still be in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Aborted {
    pub(crate) transaction: Ended,
    /// The last stable offset after it ended: transactions that end later start there or after it.
    last_stable: i64,
}

/// The aborted transactions, in the order in which they ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AbortedTransactions(Vec<Aborted>);

impl AbortedTransactions {
    pub(crate) fn push(&mut self, transaction: Ended, last_stable: i64) {
        self.0.push(Aborted { transaction, last_stable });
    }

    /// Those with offsets in `from..to`, as (producer id, first offset).
    pub(crate) fn overlapping(&self, from: i64, to: i64) -> Vec<(i64, i64)> {
        let mut found = Vec::new();
        let first = self.0.partition_point(|aborted| aborted.transaction.last_offset < from);
        for Aborted { transaction, last_stable } in &self.0[first..] {
            if transaction.first_offset < to {
                found.push((transaction.producer_id, transaction.first_offset));
            }
            if *last_stable >= to {
                break;
            }
        }
        found
    }

    /// Those that started below an offset.
    pub(crate) fn started_before(&self, offset: i64) -> impl Iterator<Item = Ended> + '_ {
        self.0.iter().map(|aborted| aborted.transaction).filter(move |ended| ended.first_offset < offset)
    }

    /// Forgets those that ended below an offset: none of their records is left.
    pub(crate) fn forget_before(&mut self, offset: i64) {
        let gone = self.0.partition_point(|aborted| aborted.transaction.last_offset < offset);
        self.0.drain(..gone);
    }
}

/// What a control batch means, if it is a marker.
pub(crate) fn marker_of(header: &BatchHeader, batch: &[u8]) -> Option<Marker> {
    let unpacked = super::record::unpack(header, batch).ok()?;
    let records = super::record::parse(header, &unpacked).ok()?;
    Marker::of_key(records.first()?.key?)
}
