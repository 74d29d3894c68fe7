//! What a topic says about its log.

/// The settings of a partition's log; named as in Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// A segment does not grow beyond this, unless one request is larger. At most 2 GiB count.
    pub segment_bytes: u64,
    /// A segment takes nothing more so long after its first batch.
    pub segment_ms: i64,
    /// How long records stay; for ever if `None`.
    pub retention_ms: Option<i64>,
    /// How large the log may grow, in whole segments; without limit if `None`.
    pub retention_bytes: Option<u64>,
    /// Whether old segments are deleted.
    pub cleanup_delete: bool,
    /// Whether only the latest record of a key stays.
    pub cleanup_compact: bool,
    /// The largest batch.
    pub max_message_bytes: usize,
    /// How long a tombstone stays after the first cleaning that saw it.
    pub delete_retention_ms: i64,
    /// How old a record is at least when it is compacted away.
    pub min_compaction_lag_ms: i64,
    /// Whether records get the time of the log, not that of their client.
    pub log_append_time: bool,
}

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 1024 * 1024 * 1024,
            segment_ms: 7 * DAY_MS,
            retention_ms: Some(7 * DAY_MS),
            retention_bytes: None,
            cleanup_delete: true,
            cleanup_compact: false,
            // Kafka's default: 1 MiB and the overhead of a batch.
            max_message_bytes: 1024 * 1024 + 12,
            delete_retention_ms: DAY_MS,
            min_compaction_lag_ms: 0,
            log_append_time: false,
        }
    }
}
