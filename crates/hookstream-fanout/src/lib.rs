//! Matches events and makes one job per webhook

/// Runs the service until it is told to stop.
///
/// # Errors
/// What keeps it from going on.
pub async fn run(ctx: hookstream_runtime::Ctx) -> Result<(), hookstream_runtime::ServiceError> {
    ctx.health.component("fanout").ready();
    ctx.shutdown.cancelled().await;
    Ok(())
}
