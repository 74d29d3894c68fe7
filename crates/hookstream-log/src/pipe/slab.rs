//! Records in flight, in slots that are used again: a steady flow allocates nothing.

use hookstream_types::{Mono, Offset, UnixMillis};

use crate::log::{ProduceError, RecordRef, Token};

/// What an entry stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Record,
    /// What must be durable before everything below `end` is committed.
    Evidence {
        end: Offset,
    },
}

/// A slot. Its token is its index and a serial number, so that a token of an earlier use finds nothing.
#[derive(Debug)]
pub(super) struct Entry<C> {
    serial: u32,
    live: bool,
    pub(super) kind: Kind,
    /// Where its input stands among the inputs.
    pub(super) at: usize,
    pub(super) offset: Offset,
    pub(super) stored: Stored,
    pub(super) cursor: C,
    /// All outputs are produced.
    pub(super) applied: bool,
    pub(super) unacknowledged: u32,
    /// The worst that happened to an output.
    pub(super) failure: Option<ProduceError>,
    /// Times that it was tried in vain.
    pub(super) failures: u32,
    /// Times that an output was too large.
    pub(super) too_large: u32,
    pub(super) retry_at: Mono,
}

impl<C> Entry<C> {
    /// Bytes that the entry counts with.
    pub(super) fn size(&self) -> usize {
        /// The entry itself.
        const FIXED: usize = 256;
        FIXED + self.stored.bytes.len()
    }
}

#[derive(Debug)]
pub(super) struct Slab<C> {
    entries: Vec<Entry<C>>,
    free: Vec<u32>,
    bytes: usize,
    failed: usize,
}

impl<C> Default for Slab<C> {
    fn default() -> Self {
        Self { entries: Vec::new(), free: Vec::new(), bytes: 0, failed: 0 }
    }
}

impl<C: Default> Slab<C> {
    /// Bytes of all entries in use.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn insert(
        &mut self,
        at: usize,
        offset: Offset,
        kind: Kind,
        record: Option<&RecordRef<'_>>,
    ) -> u32 {
        let idx = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry {
                serial: 0,
                live: false,
                kind,
                at,
                offset,
                stored: Stored::default(),
                cursor: C::default(),
                applied: false,
                unacknowledged: 0,
                failure: None,
                failures: 0,
                too_large: 0,
                retry_at: Mono(0),
            });
            u32::try_from(self.entries.len() - 1).expect("limits keep far fewer than 2^32 records in flight")
        });
        let entry = self.get_mut(idx);
        entry.live = true;
        entry.kind = kind;
        entry.at = at;
        entry.offset = offset;
        entry.applied = false;
        entry.unacknowledged = 0;
        entry.failure = None;
        entry.failures = 0;
        entry.too_large = 0;
        entry.retry_at = Mono(0);
        if let Some(record) = record {
            entry.stored.set(record);
        }
        self.bytes += self.get(idx).size();
        idx
    }

    pub(super) fn get(&self, idx: u32) -> &Entry<C> {
        &self.entries[idx as usize]
    }

    pub(super) fn get_mut(&mut self, idx: u32) -> &mut Entry<C> {
        &mut self.entries[idx as usize]
    }

    pub(super) fn token(&self, idx: u32) -> Token {
        u64::from(self.get(idx).serial) << 32 | u64::from(idx)
    }

    /// The entry in use that `token` names.
    pub(super) fn find(&self, token: Token) -> Option<u32> {
        let idx = u32::try_from(token & u64::from(u32::MAX)).ok()?;
        let entry = self.entries.get(idx as usize)?;
        (entry.live && u64::from(entry.serial) == token >> 32).then_some(idx)
    }

    pub(super) fn free(&mut self, idx: u32) {
        self.bytes -= self.get(idx).size();
        self.failed -= usize::from(self.get(idx).failures > 0);
        let entry = self.get_mut(idx);
        entry.live = false;
        entry.serial = entry.serial.wrapping_add(1);
        entry.cursor = C::default();
        entry.stored.clear();
        self.free.push(idx);
    }

    /// Frees the entries of an input.
    pub(super) fn free_all(&mut self, at: usize) {
        for idx in 0..self.entries.len() {
            if self.entries[idx].live && self.entries[idx].at == at {
                self.free(u32::try_from(idx).expect("as checked when it was inserted"));
            }
        }
    }

    /// An input stands elsewhere.
    pub(super) fn move_all(&mut self, from: usize, to: usize) {
        for entry in self.entries.iter_mut().filter(|entry| entry.at == from) {
            entry.at = to;
        }
    }

    /// Entries that were tried in vain.
    pub(super) fn failed(&self) -> usize {
        self.failed
    }

    pub(super) fn count_failure(&mut self, idx: u32) {
        let entry = self.get_mut(idx);
        let first = entry.failures == 0;
        entry.failures += 1;
        self.failed += usize::from(first);
    }
}

/// A copy of a record in one buffer.
#[derive(Debug, Default)]
pub(super) struct Stored {
    timestamp: UnixMillis,
    /// Key, value, and each header's name and value, one after the other.
    bytes: Vec<u8>,
    key: Option<usize>,
    value: Option<usize>,
    /// Lengths of each header's name and value.
    headers: Vec<(usize, usize)>,
}

impl Stored {
    /// A buffer that grew beyond this is not kept for the next record.
    const KEEP: usize = 4 * 1024;

    fn set(&mut self, record: &RecordRef<'_>) {
        self.clear();
        self.timestamp = record.timestamp;
        self.key = record.key.map(<[u8]>::len);
        self.value = record.value.map(<[u8]>::len);
        let headers: usize = record.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.bytes.reserve(self.key.unwrap_or(0) + self.value.unwrap_or(0) + headers);
        self.bytes.extend_from_slice(record.key.unwrap_or_default());
        self.bytes.extend_from_slice(record.value.unwrap_or_default());
        for (name, value) in record.headers {
            self.bytes.extend_from_slice(name.as_bytes());
            self.bytes.extend_from_slice(value);
            self.headers.push((name.len(), value.len()));
        }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(Self::KEEP);
        self.headers.clear();
        self.headers.shrink_to(Self::KEEP / size_of::<(usize, usize)>());
        (self.key, self.value) = (None, None);
    }

    /// Shows the record to `f`.
    pub(super) fn with<R>(&self, offset: Offset, f: impl FnOnce(RecordRef<'_>) -> R) -> R {
        /// More headers than most records have; their slices need no allocation.
        const FEW: usize = 24;
        let mut rest = self.bytes.as_slice();
        let mut next = |len: usize| {
            let (part, after) = rest.split_at(len);
            rest = after;
            part
        };
        let key = self.key.map(&mut next);
        let value = self.value.map(&mut next);
        let mut header = |(name, value): (usize, usize)| {
            (std::str::from_utf8(next(name)).expect("it was copied from a str"), next(value))
        };
        let mut few: [(&str, &[u8]); FEW] = [("", &[]); FEW];
        let many: Vec<_>;
        let headers = if self.headers.len() <= FEW {
            for (slot, lens) in few.iter_mut().zip(&self.headers) {
                *slot = header(*lens);
            }
            &few[..self.headers.len()]
        } else {
            many = self.headers.iter().map(|lens| header(*lens)).collect();
            &many
        };
        f(RecordRef { offset, timestamp: self.timestamp, key, value, headers })
    }
}
