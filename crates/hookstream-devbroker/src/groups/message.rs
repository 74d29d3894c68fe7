//! Requests and answers: what of Kafka's messages the coordinator needs, whatever their version.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::error::GroupError;

/// Names a request that waits for its answer. The caller gives every request a token of its own.
pub type Token = u64;

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicPartition {
    pub topic: String,
    pub partition: i32,
}

/// `JoinGroup`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRequest {
    pub group: String,
    /// Empty: the client has none yet.
    pub member_id: String,
    /// Given by static members (KIP-345).
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout_ms: i32,
    /// Negative: the same as the session timeout (version 0 has no such field).
    pub rebalance_timeout_ms: i32,
    pub protocol_type: String,
    /// Names and metadata, in the order that the member prefers.
    pub protocols: Vec<(String, Bytes)>,
    /// A dynamic member is given its id first, and joins with it (KIP-394, version 4 and later).
    pub require_known_member_id: bool,
    /// The client knows `skip_assignment` (KIP-814, version 9 and later).
    pub supports_skip_assignment: bool,
    /// What makes a new member id unique, should one be needed.
    pub fresh_id: String,
}

/// `SyncGroup`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncRequest {
    pub group: String,
    pub generation: i32,
    pub member_id: String,
    pub instance_id: Option<String>,
    /// Checked if given (version 5 and later).
    pub protocol_type: Option<String>,
    /// Checked if given (version 5 and later).
    pub protocol: Option<String>,
    /// Member ids and their assignments; only the leader's count.
    pub assignments: Vec<(String, Bytes)>,
}

/// `Heartbeat`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatRequest {
    pub group: String,
    pub generation: i32,
    pub member_id: String,
    pub instance_id: Option<String>,
}

/// A member that is to leave: by its id, by its instance id with an empty member id, or by both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaver {
    pub member_id: String,
    pub instance_id: Option<String>,
}

/// What became of one [`Leaver`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    pub leaver: Leaver,
    pub outcome: Result<(), GroupError>,
}

/// `OffsetCommit`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitRequest {
    pub group: String,
    /// Negative: the client takes no part in the group (a simple consumer, or an admin client).
    pub generation: i32,
    pub member_id: String,
    pub instance_id: Option<String>,
    pub offsets: Vec<CommitOffset>,
}

/// `TxnOffsetCommit`. That the producer may write is for the transaction coordinator to check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnCommitRequest {
    pub group: String,
    pub producer_id: i64,
    /// Negative, with an empty member id: not checked (clients before KIP-447).
    pub generation: i32,
    pub member_id: String,
    pub instance_id: Option<String>,
    pub offsets: Vec<CommitOffset>,
}

/// An offset to be committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitOffset {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    /// Negative: not known.
    pub leader_epoch: i32,
    pub metadata: Option<String>,
}

/// What became of one partition of a commit or of a deletion of offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionOutcome {
    pub partition: TopicPartition,
    pub outcome: Result<(), GroupError>,
}

/// Which offsets are to be fetched.
#[derive(Clone, Copy, Debug)]
pub enum Wanted<'a> {
    All,
    These(&'a [TopicPartition]),
}

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedOffset {
    pub partition: TopicPartition,
    /// -1: none is committed, or there is an error.
    pub offset: i64,
    /// -1: not known.
    pub leader_epoch: i32,
    pub metadata: String,
    pub error: Option<GroupError>,
}

/// The answer to a request that may have had to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Join(Result<Joined, JoinRefused>),
    Sync(Result<Synced, GroupError>),
}

/// The member takes part in a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    pub generation: i32,
    pub protocol_type: String,
    pub protocol: String,
    pub leader: String,
    pub member_id: String,
    /// The leader is to leave the assignment as it is (KIP-814).
    pub skip_assignment: bool,
    /// All members, for the leader; empty for others.
    pub members: Vec<JoinedMember>,
}

/// A member as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    pub member_id: String,
    pub instance_id: Option<String>,
    /// The member's metadata for the protocol that was chosen.
    pub metadata: Bytes,
}

/// The member takes no part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRefused {
    pub error: GroupError,
    /// The id that the request gave, the one to join with, or none for a member that was removed.
    pub member_id: String,
}

/// The member's assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    pub protocol_type: String,
    pub protocol: String,
    pub assignment: Bytes,
}

/// How far a group has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupState {
    /// It has no members; it may have offsets.
    Empty,
    /// It waits for its members to join.
    PreparingRebalance,
    /// It waits for the leader's assignment.
    CompletingRebalance,
    Stable,
    /// It does not exist.
    Dead,
}

impl GroupState {
    /// The name that stands in Kafka's messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        }
    }

    /// The state of that name, in whatever case (KIP-518).
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        let states =
            [Self::Empty, Self::PreparingRebalance, Self::CompletingRebalance, Self::Stable, Self::Dead];
        states.into_iter().find(|state| state.name().eq_ignore_ascii_case(name))
    }
}

/// One group of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupListing {
    pub group: String,
    pub state: GroupState,
    /// Empty: it has had no members (since the broker started).
    pub protocol_type: String,
}

/// A group as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    pub group: String,
    pub state: GroupState,
    pub generation: i32,
    pub protocol_type: String,
    /// Empty unless the group is stable.
    pub protocol: String,
    pub leader: Option<String>,
    pub members: Vec<MemberDescription>,
}

/// A member of a described group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberDescription {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    /// Empty unless the group is stable.
    pub metadata: Bytes,
    /// Empty unless the group is stable.
    pub assignment: Bytes,
}
