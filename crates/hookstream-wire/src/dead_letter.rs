//! Records of `hookstream.dead-letter`: a job's frame, and headers that say why it ended there.

use hookstream_core::decision::DeadReason;
use hookstream_core::job::Job;
use hookstream_types::UnixMillis;
use serde::{Deserialize, Serialize};

/// Name of the header that holds a [`DeadLetter`] as JSON.
pub const HEADER: &str = "hs-dead";

/// Why a delivery was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    pub reason: DeadReason,
    /// The last answer's status; none if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_status: Option<u16>,
    /// What the last attempt failed with, if it got no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    pub attempts: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_attempt_at: Option<UnixMillis>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_attempt_at: Option<UnixMillis>,
}

impl DeadLetter {
    /// Of a job that was given up for `reason`.
    #[must_use]
    pub fn of(job: &Job, reason: DeadReason) -> Self {
        Self {
            reason,
            last_status: job.state.last_status,
            last_failure: job.state.last_failure.clone(),
            attempts: job.state.attempts,
            first_attempt_at: job.state.first_attempt_at,
            last_attempt_at: job.state.last_attempt_at,
        }
    }

    /// The header's value.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("no map here has keys that are not texts")
    }
}
