//! Delivers jobs, decides once in a log, and runs the retry ladder.
//!
//! The decisions are in `hookstream_core::sender` and `hookstream_core::retry`; here they are driven: records are
//! decoded, effects carried out, requests sent. The drivers are generic over the log, the way out and the
//! observer, so that the simulation runs them unchanged.

pub mod deliveries;
pub mod outbox;
pub mod retries;

pub use deliveries::{Deliveries, Egress, Observer, RequestKey};
pub use retries::Retries;

/// Runs the service until it is told to stop.
///
/// # Errors
/// What keeps it from going on.
pub async fn run(ctx: hookstream_runtime::Ctx) -> Result<(), hookstream_runtime::ServiceError> {
    ctx.health.component("sender").ready();
    ctx.shutdown.cancelled().await;
    Ok(())
}
