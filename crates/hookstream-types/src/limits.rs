//! Every bound in one place, with its reason.

use std::time::Duration;

/// An event's data and attributes together (rule 8): small enough that each later hop can add its own.
pub const MAX_EVENT_BYTES: usize = 512 * 1024;
/// What a hop may add to an event; internal topics take `MAX_EVENT_BYTES + HOP_BYTES`.
pub const HOP_BYTES: usize = 64 * 1024;
/// An event's attributes alone, written as JSON: half of what a hop may add, so that they fit into every hop's record.
pub const MAX_ATTRIBUTES_BYTES: usize = 32 * 1024;
/// `max.message.bytes` of the internal topics, and `message.max.bytes` of the producers.
pub const MAX_RECORD_BYTES: usize = MAX_EVENT_BYTES + HOP_BYTES;

/// Jobs of one partition that are read and not yet complete (design §2.3).
pub const MAX_IN_FLIGHT_PER_PARTITION: usize = 1_000;
/// Bytes of those jobs; with 64 partitions on one process the worst case stays below 256 MiB.
pub const MAX_IN_FLIGHT_BYTES_PER_PARTITION: usize = 4 * 1024 * 1024;

/// Response bytes kept and read; the rest of the body is not waited for.
pub const MAX_RESPONSE_BODY_BYTES: usize = 16 * 1024;
/// Request body bytes kept in the history.
pub const MAX_LOGGED_REQUEST_BODY_BYTES: usize = 16 * 1024;
/// Response header bytes accepted, all together.
pub const MAX_RESPONSE_HEADER_BYTES: usize = 32 * 1024;

/// Kafka's default `offset.metadata.max.bytes`: larger commit metadata fails the commit.
pub const MAX_COMMIT_METADATA_BYTES: usize = 4096;

/// Log time that the dedupe window covers (design §2.1).
pub const DEDUPE_WINDOW: Duration = Duration::from_secs(120);
/// Memory of all dedupe windows of a process.
pub const DEDUPE_WINDOW_BYTES: usize = 64 * 1024 * 1024;

/// Longest delay that `Retry-After` can ask for.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);
/// Longest interval between two probes of an open breaker.
pub const MAX_PROBE_INTERVAL: Duration = Duration::from_secs(600);
/// A deferral that came back too early doubles up to this.
pub const MAX_REDEFERRAL: Duration = Duration::from_secs(3600);

/// Consumer group session time-out; the lease is half of it.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(9);
