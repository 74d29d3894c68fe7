//! What of the groups survives a restart. Members don't: they join again.

use serde::{Deserialize, Serialize};

use super::message::TopicPartition;

/// A change that is durable once it is written. Entries rebuild the state in the order in which they were made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    Committed {
        group: String,
        offsets: Vec<OffsetEntry>,
    },
    /// The offsets take effect if the producer's transaction is committed.
    Held {
        group: String,
        producer_id: i64,
        offsets: Vec<OffsetEntry>,
    },
    /// The producer's transaction has ended, in all groups.
    TxnEnded {
        producer_id: i64,
        committed: bool,
    },
    /// Committed or held.
    OffsetsDeleted {
        group: String,
        partitions: Vec<TopicPartition>,
    },
    GroupDeleted {
        group: String,
    },
}

/// An offset of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetEntry {
    pub partition: TopicPartition,
    pub offset: i64,
    pub leader_epoch: i32,
    pub metadata: String,
}
