//! A partition that the group assigned to this member.

use std::sync::Arc;

use hookstream_types::{Mono, Offset};

use super::super::assignment::Assignment;
use super::super::helper::Start;

/// How far the taking over of a partition is.
pub(super) enum Part {
    /// Its offsets are to be asked for.
    Asking,
    Asked {
        ticket: u64,
    },
    /// They could not be read: ask again then.
    Failed {
        retry_at: Mono,
    },
    /// They are known; it can be assigned when its former queue was let go.
    Ready(Start),
    Owned(Owned),
}

impl Part {
    pub(super) fn is_to_be_asked(&self, now: Mono) -> bool {
        match self {
            Self::Asking => true,
            Self::Failed { retry_at } => now >= *retry_at,
            Self::Asked { .. } | Self::Ready(_) | Self::Owned(_) => false,
        }
    }

    /// Whether an answer with this ticket is for it: one for an earlier assignment is not.
    pub(super) fn waits_for(&self, ticket: u64) -> bool {
        matches!(self, Self::Asked { ticket: asked } if *asked == ticket)
    }
}

/// A partition that a core has.
pub(super) struct Owned {
    pub(super) assignment: Arc<Assignment>,
    /// What the broker has, as far as known.
    pub(super) committed: (Offset, String),
    /// What it is to have.
    pub(super) next: Option<(Offset, String)>,
    /// Still this member's to commit.
    pub(super) live: bool,
    /// The core was told that it is lost.
    pub(super) told: bool,
}

impl Owned {
    /// The base is to be committed at once, as it is: that brings the first lease.
    pub(super) fn new(assignment: Arc<Assignment>, base: Offset, metadata: Option<String>) -> Self {
        let committed = (base, metadata.unwrap_or_default());
        Self { assignment, next: Some(committed.clone()), committed, live: true, told: false }
    }

    /// Whether the core still works on it.
    pub(super) fn is_held(&self) -> bool {
        !self.told && !self.assignment.is_released()
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.live && self.next.is_some()
    }
}
