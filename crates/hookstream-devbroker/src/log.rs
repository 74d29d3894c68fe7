//! The durable log of one partition: segments of Kafka record batches in a directory.
//!
//! - A **batch** is the unit of everything: it is checked, written and read whole, as its client sent it.
//! - A **segment** is a file of batches; only the last one grows. The **start** is the first offset that may be
//!   read, the **end** the next one to be given.
//! - The **last stable offset** is where the oldest open transaction starts; committed readers stop there.
//!
//! Nothing but batches is stored, the start apart: indexes, producers and transactions are read from the batches
//! when the log is opened. A torn end, as a crash leaves it, is cut then.
//!
//! The caller holds a lock, has the clock, and decides when to sync. There are no threads and no replicas here.

mod append;
mod batch;
mod compaction;
mod config;
mod crash;
mod durability;
mod error;
mod files;
mod maintain;
mod open;
mod partition_log;
mod producers;
mod read;
mod record;
mod scan;
mod segment;
mod time;

pub use append::Appended;
pub use batch::Fault;
pub use compaction::{Cleaned, Compacted, Compaction};
pub use config::LogConfig;
pub use durability::Syncer;
pub use error::{AppendError, CorruptBatch, IoFailed, LogError, OpenError, OutOfRange, RangeError};
pub use maintain::Maintained;
pub use open::{Cut, Recovery};
pub use partition_log::PartitionLog;
pub use read::{Read, ReadPlan};
pub use time::TimedOffset;

#[cfg(test)]
mod tests;

/// Who wrote the first batch of a request, and whether within a transaction.
pub(crate) fn producer_of(records: &[u8]) -> Option<(i64, i16, bool)> {
    let header = batch::BatchHeader::parse(records).ok()?;
    Some((header.producer_id, header.producer_epoch, header.is_transactional()))
}
