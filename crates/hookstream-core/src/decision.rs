//! What is decided about a job. The sender decides once, in a log; everything that follows is made from this.

use std::sync::Arc;

use hookstream_types::{AccountUid, DeliveryId, EventId, Generation, Offset, UnixMillis, WebhookId};
use serde::{Deserialize, Serialize};

/// One decision about the job at `offset` of `deliveries[p]`, as it stands in `attempts[p]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The job's offset in `deliveries[p]`.
    pub offset: Offset,
    pub delivery: DeliveryId,
    /// The generation of the job that was decided.
    pub generation: Generation,
    /// What the delivery is, where the decision rests on no attempt that says so. None of a deferral: there are many,
    /// and they are no history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<Box<About>>,
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// What a delivery is: which event, for whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    pub webhook: WebhookId,
    pub account: AccountUid,
    pub event: EventId,
    pub event_type: Arc<str>,
}

/// What becomes of the job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// The endpoint answered 2xx.
    Delivered,
    /// Attempted in vain; tried again when due.
    Retry { due: UnixMillis },
    /// Not attempted; tried again when due.
    Deferred { due: UnixMillis, reason: DeferReason },
    /// Given up; goes to `hookstream.dead-letter`.
    Dead { reason: DeadReason },
    /// Not to be sent any more.
    Skipped { reason: SkipReason },
}

impl Verdict {
    /// Whether the delivery has ended with this.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        match self {
            Self::Delivered | Self::Dead { .. } | Self::Skipped { .. } => true,
            Self::Retry { .. } | Self::Deferred { .. } => false,
        }
    }

    /// When the job is due again, if it is.
    #[must_use]
    pub fn due(&self) -> Option<UnixMillis> {
        match self {
            Self::Retry { due } | Self::Deferred { due, .. } => Some(*due),
            Self::Delivered | Self::Dead { .. } | Self::Skipped { .. } => None,
        }
    }
}

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $label:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $label)] $variant,)*
        }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name in records, metrics and messages.
            #[must_use]
            pub fn label(self) -> &'static str {
                match self { $(Self::$variant => $label),* }
            }
        }
    };
}

labels! {
    /// Why a job was put off without an attempt.
    DeferReason {
        /// The webhook's lane has no room.
        LaneFull = "lane_full",
        /// The webhook is over its rate.
        OverRate = "over_rate",
        /// The endpoint's breaker is open.
        BreakerOpen = "breaker_open",
        /// The webhook is paused.
        Paused = "paused",
    }
}

labels! {
    /// Why a delivery was given up.
    DeadReason {
        /// The retry schedule ended.
        Exhausted = "exhausted",
        /// The endpoint answered with a status for which the webhook forbids retries.
        Rejected = "rejected",
        /// 410: the endpoint asks to stop; the webhook is disabled.
        Gone = "gone",
        /// No request can be made of the job: bad URL, bad header, too large.
        Unsendable = "unsendable",
    }
}

labels! {
    /// Why a job was not sent (design §3, rule 1).
    SkipReason {
        Expired = "expired",
        Unpublished = "unpublished",
        Disabled = "disabled",
        Deleted = "deleted",
        ScopeLost = "scope_lost",
        Cancelled = "cancelled",
        Superseded = "superseded",
    }
}

labels! {
    /// Why an input record was put into `hookstream.rejected`.
    RejectReason {
        /// Not what the source's format says.
        Undecodable = "undecodable",
        /// A mapped field is missing or of the wrong type.
        Unmapped = "unmapped",
        /// Larger than an event may be.
        TooLarge = "too_large",
        /// It names an account that does not exist.
        UnknownAccount = "unknown_account",
        /// Its event type is not a valid name, or not registered with a strict source.
        BadEventType = "bad_event_type",
        /// The id of an earlier event with other data.
        IdReused = "id_reused",
        /// A job record that cannot be read.
        BadJob = "bad_job",
    }
}
