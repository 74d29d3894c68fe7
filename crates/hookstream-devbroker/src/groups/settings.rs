//! What the coordinator may be told. The defaults are Kafka's, but for the initial rebalance delay.

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const DAY: u64 = 24 * 60 * MINUTE;

/// Bounds and delays of all groups. Times are in milliseconds, like every `now`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `group.min.session.timeout.ms`
    pub min_session_timeout_ms: u64,
    /// `group.max.session.timeout.ms`
    pub max_session_timeout_ms: u64,
    /// `group.initial.rebalance.delay.ms`: how long an empty group waits for more members after the first. It is 3 s
    /// in Kafka and 0 here, as whoever develops does not want to wait.
    pub initial_rebalance_delay_ms: u64,
    /// How long a member may wait in its first join. Such a member does not send heartbeats, so nothing else would
    /// end it if its client is gone.
    pub new_member_join_timeout_ms: u64,
    /// `offset.metadata.max.bytes`
    pub max_offset_metadata_bytes: usize,
    /// `offsets.retention.minutes`: how long the offsets of a group without members are kept (KIP-211).
    pub offset_retention_ms: u64,
    /// How long a group with neither members nor offsets is kept. In Kafka that is up to
    /// `offsets.retention.check.interval.ms`.
    pub empty_group_retention_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            min_session_timeout_ms: 6 * SECOND,
            max_session_timeout_ms: 30 * MINUTE,
            initial_rebalance_delay_ms: 0,
            new_member_join_timeout_ms: 5 * MINUTE,
            max_offset_metadata_bytes: 4096,
            offset_retention_ms: 7 * DAY,
            empty_group_retention_ms: 10 * MINUTE,
        }
    }
}
