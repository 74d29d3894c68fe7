//! A job: one event on its way to one webhook.

use std::sync::Arc;

use bytes::Bytes;
use hookstream_types::{DeliveryId, Generation, Offset, UnixMillis, WebhookId};
use serde::{Deserialize, Serialize};

use crate::event::EventAttributes;

/// What changes from turn to turn of a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobState {
    pub delivery: DeliveryId,
    pub webhook: WebhookId,
    /// Which turn this is.
    #[serde(default)]
    pub generation: Generation,
    /// Attempts made so far.
    #[serde(default)]
    pub attempts: u32,
    /// The config offset that the job's maker had applied (rule 10).
    pub config: Offset,
    /// When the next attempt may start, on the broker's clock; none for a job that is due at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<UnixMillis>,
    /// When the first attempt started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_attempt_at: Option<UnixMillis>,
    /// When the last attempt ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_attempt_at: Option<UnixMillis>,
    /// The last answer's status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_status: Option<u16>,
    /// What the last attempt failed with, if it got no answer: a failure kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// The last deferral's length in milliseconds: one that comes back too early at least doubles it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub deferred_ms: u64,
    /// The decision this turn follows from: the owner record's and the decision's offsets in `attempts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided: Option<DecidedAt>,
}

impl JobState {
    /// Of a live delivery's first turn, due at once.
    #[must_use]
    pub fn new(delivery: DeliveryId, webhook: WebhookId, config: Offset) -> Self {
        Self {
            delivery,
            webhook,
            generation: Generation::default(),
            attempts: 0,
            config,
            due: None,
            first_attempt_at: None,
            last_attempt_at: None,
            last_status: None,
            last_failure: None,
            deferred_ms: 0,
            decided: None,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Where in `attempts[p]` a turn was decided, and under which ownership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecidedAt {
    /// Offset of the owner record.
    pub owner: Offset,
    /// Offset of the decision.
    pub decision: Offset,
}

/// A job with all that its request needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub state: JobState,
    /// Shared by the jobs of one event.
    pub event: Arc<EventAttributes>,
    /// Fixed when the job is made; URL, secret and template are read just before each attempt.
    pub data: Bytes,
}

impl Job {
    /// Bytes that the job counts with against the in-flight bound.
    #[must_use]
    pub fn size(&self) -> usize {
        /// The fixed part: ids, numbers, allocation overhead.
        const FIXED: usize = 256;
        FIXED + self.event.size() + self.data.len()
    }
}
