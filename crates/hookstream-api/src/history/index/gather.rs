//! Batches of a partition that follow each other are one: a transaction costs more than a record does. Pure.

use std::collections::BTreeMap;

use hookstream_history::{Batch, Record};
use hookstream_log::scan::OwnRecord;
use hookstream_types::{Offset, Partition};

/// Records that wait at most, and records of a batch at most.
const MOST_RECORDS: usize = 16_000;
/// What they may weigh.
const MOST_BYTES: usize = 32 * 1024 * 1024;

/// What was read and is not in the index yet.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    batches: BTreeMap<Partition, Batch>,
    records: usize,
    bytes: usize,
}

impl Gathered {
    /// What a partition's `from` to `next` holds. It follows what was added of the partition before.
    pub(super) fn add(&mut self, partition: Partition, from: Offset, next: Offset, records: Vec<OwnRecord>) {
        self.records += records.len();
        self.bytes += records.iter().map(|record| record.value.len()).sum::<usize>();
        let batch = self.batches.entry(partition).or_insert_with(|| Batch {
            partition,
            from,
            next,
            records: Vec::new(),
        });
        batch.next = next;
        batch.records.extend(records.into_iter().map(|record| Record {
            offset: record.offset,
            at: record.timestamp,
            headers: record.headers,
            value: record.value,
        }));
    }

    pub(super) fn is_full(&self) -> bool {
        self.records >= MOST_RECORDS || self.bytes >= MOST_BYTES
    }

    pub(super) fn into_batches(self) -> impl Iterator<Item = Batch> {
        self.batches.into_values()
    }
}

/// Cuts off what is in the index already, up to `next`.
pub(super) fn cut(batch: &mut Batch, next: Offset) {
    batch.records.retain(|record| record.offset >= next);
    batch.from = next;
}

#[cfg(test)]
mod tests {
    use hookstream_types::UnixMillis;

    use super::*;

    fn records(offsets: std::ops::Range<i64>) -> Vec<OwnRecord> {
        let record = |offset| OwnRecord {
            offset: Offset(offset),
            timestamp: UnixMillis(1),
            headers: Vec::new(),
            value: vec![0; 10],
        };
        offsets.map(record).collect()
    }

    #[test]
    fn what_follows_is_joined() {
        let mut gathered = Gathered::default();
        gathered.add(Partition(1), Offset(5), Offset(9), records(6..9));
        gathered.add(Partition(0), Offset(0), Offset(1), records(0..1));
        gathered.add(Partition(1), Offset(9), Offset(12), Vec::new());
        assert!(!gathered.is_full());
        gathered.add(Partition(1), Offset(12), Offset(20_012), records(12..20_012));
        assert!(gathered.is_full());
        let mut batches: Vec<Batch> = gathered.into_batches().collect();
        let spans: Vec<_> =
            batches.iter().map(|batch| (batch.partition.0, batch.from.0, batch.next.0)).collect();
        assert_eq!(spans, [(0, 0, 1), (1, 5, 20_012)]);
        assert_eq!(batches[1].records.len(), 20_003);
        cut(&mut batches[1], Offset(13));
        assert_eq!((batches[1].from, batches[1].records[0].offset), (Offset(13), Offset(13)));
    }
}
