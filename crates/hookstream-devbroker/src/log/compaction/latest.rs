//! Which record is the latest with its key.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::path::Path;

use super::super::batch::BatchHeader;
use super::super::error::LogError;
use super::super::producers::Ended;
use super::super::record;
use super::super::scan::{Scanned, Scanner};
use super::super::time::scan_failed;
use super::Source;

/// Beyond so many keys a cleaning leaves what comes later to the next one: about 250 MB, a little more than Kafka
/// takes for them.
const MAX_KEYS: usize = 5_000_000;

/// The latest offsets of keys, and what is needed to tell which records count.
#[derive(Debug)]
pub(super) struct Latest {
    /// By 128 bits of the key's hash. Kafka does likewise: that two keys share them does not happen.
    offsets: HashMap<u128, i64, BuildHasherDefault<Folded>>,
    high: RandomState,
    low: RandomState,
    /// By producer: from the first offset to the marker.
    aborted: HashMap<i64, Vec<(i64, i64)>>,
}

impl Latest {
    pub(super) fn new(aborted: &[Ended]) -> Self {
        let mut by_producer: HashMap<i64, Vec<(i64, i64)>> = HashMap::new();
        for ended in aborted {
            by_producer.entry(ended.producer_id).or_default().push((ended.first_offset, ended.last_offset));
        }
        Self {
            offsets: HashMap::default(),
            high: RandomState::new(),
            low: RandomState::new(),
            aborted: by_producer,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.offsets.len() >= MAX_KEYS
    }

    /// Takes note of all records of a segment. Later segments come later.
    pub(super) fn add(&mut self, dir: &Path, source: &Source) -> Result<(), LogError> {
        let mut scanner = Scanner::new(&source.file, 0, source.size, source.base);
        let failed = |error| scan_failed(dir, source.base, error);
        while let Some(batch) = scanner.next_batch().map_err(failed)? {
            self.add_batch(&batch);
        }
        Ok(())
    }

    fn add_batch(&mut self, batch: &Scanned<'_>) {
        let header = &batch.header;
        if header.is_control() || self.is_aborted(header) {
            return;
        }
        let Ok(unpacked) = record::unpack(header, batch.bytes) else { return };
        let Ok(records) = record::parse(header, &unpacked) else { return };
        for record in &records {
            if let Some(key) = record.key {
                self.offsets.insert(self.hash(key), record.offset);
            }
        }
    }

    /// Whether a later record with this key is known.
    pub(super) fn is_outdated(&self, key: &[u8], offset: i64) -> bool {
        self.offsets.get(&self.hash(key)).is_some_and(|latest| *latest > offset)
    }

    /// Whether a batch is part of a transaction that was aborted.
    pub(super) fn is_aborted(&self, header: &BatchHeader) -> bool {
        let Some(ended) = self.aborted.get(&header.producer_id).filter(|_| header.is_transactional()) else {
            return false;
        };
        let idx = ended.partition_point(|(_, marker)| *marker < header.base_offset);
        ended.get(idx).is_some_and(|(first, _)| *first <= header.base_offset)
    }

    fn hash(&self, key: &[u8]) -> u128 {
        u128::from(self.high.hash_one(key)) << 64 | u128::from(self.low.hash_one(key))
    }
}

/// The hash of something that is a hash already.
#[derive(Debug, Default)]
pub(super) struct Folded(u64);

impl Hasher for Folded {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 ^= u64::from_ne_bytes(word);
        }
    }
}
