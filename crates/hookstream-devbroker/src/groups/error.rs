//! What the coordinator refuses, by the names and codes that Kafka's clients know.

/// Why a request, or one partition of it, was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum GroupError {
    #[error("the offset's metadata is longer than the broker keeps")]
    OffsetMetadataTooLarge,
    #[error("the generation is not the group's")]
    IllegalGeneration,
    #[error("the protocol type or the protocols do not fit those of the group's members")]
    InconsistentGroupProtocol,
    #[error("the group id is empty")]
    InvalidGroupId,
    #[error("the member id is not one of the group's members")]
    UnknownMemberId,
    #[error("the session timeout is outside the bounds that the broker sets")]
    InvalidSessionTimeout,
    #[error("the group is rebalancing, so the member is to join again")]
    RebalanceInProgress,
    #[error("the group still has members")]
    NonEmptyGroup,
    #[error("there is no such group")]
    GroupIdNotFound,
    /// KIP-394: the answer carries the id to join with.
    #[error("the member is to join again, with the member id that it was given")]
    MemberIdRequired,
    /// KIP-345: somebody else has joined with the same instance id.
    #[error("the instance id belongs to another member id by now")]
    FencedInstanceId,
    #[error("the group is subscribed to the topic")]
    GroupSubscribedToTopic,
    /// KIP-447: a transaction that is open may still change the offset.
    #[error("the partition has an offset whose transaction is open")]
    UnstableOffsetCommit,
}

impl GroupError {
    /// The code that stands in Kafka's messages.
    #[must_use]
    pub fn code(self) -> i16 {
        match self {
            Self::OffsetMetadataTooLarge => 12,
            Self::IllegalGeneration => 22,
            Self::InconsistentGroupProtocol => 23,
            Self::InvalidGroupId => 24,
            Self::UnknownMemberId => 25,
            Self::InvalidSessionTimeout => 26,
            Self::RebalanceInProgress => 27,
            Self::NonEmptyGroup => 68,
            Self::GroupIdNotFound => 69,
            Self::MemberIdRequired => 79,
            Self::FencedInstanceId => 82,
            Self::GroupSubscribedToTopic => 86,
            Self::UnstableOffsetCommit => 88,
        }
    }
}
