//! One execution, with what was sent and received.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use hookstream_core::replay::Picked;
use hookstream_history::{AttemptRow, Execution, Key};
use hookstream_types::{AccountUid, Chain, DeliveryId};
use hookstream_wire::attempt::{Attempt, decode_attempt};
use tokio::time::{Instant, timeout_at};

use super::view::{AttemptItem, ExecutionDetail, Recorded};
use super::{DEADLINE, Executions, failed};
use crate::access::{Denied, Principal, Scope};
use crate::description::Missing;
use crate::problem::Problem;

/// Shows an execution with its attempts: what was sent, what came back, and how long it took
///
/// What was sent and received is kept for as long as Kafka keeps its records; an attempt whose record is gone says so.
#[utoipa::path(
    get,
    path = "/api/v1/executions/{deliveryId}",
    operation_id = "getExecution",
    tag = "history",
    params(("deliveryId" = uuid::Uuid, Path, description = "The `webhook-id` of its requests")),
    responses(
        (status = 200, description = "The execution", body = ExecutionDetail),
        Missing,
    )
)]
pub(super) async fn show(
    State(executions): State<Arc<Executions>>,
    principal: Principal,
    Path(id): Path<String>,
) -> Result<Json<ExecutionDetail>, Problem> {
    executions.execution(&principal, &id).await.map(Json)
}

impl Executions {
    /// One execution with its attempts.
    ///
    /// # Errors
    /// If it is not there, or not the principal's.
    pub async fn execution(&self, principal: &Principal, id: &str) -> Result<ExecutionDetail, Problem> {
        principal.require(Scope::HistoryRead)?;
        let not_found = || Problem::from(Denied::NotFound);
        let delivery: DeliveryId = id.parse().map_err(|_| not_found())?;
        let found = self.history()?.execution(principal.bound.account(), delivery).await.map_err(failed)?;
        let (execution, rows) = found.ok_or_else(not_found)?;
        if !self.sees(principal, execution.account, execution.webhook) {
            return Err(not_found());
        }
        let attempt_log = self.attempts(&execution, rows).await;
        Ok(ExecutionDetail { execution: execution.into(), attempt_log })
    }

    /// A delivery that is to be made again: whose it is, for which webhook, and where its event stands.
    ///
    /// # Errors
    /// If it is not there, or not the principal's; if its event is not known any more.
    pub async fn picked(
        &self,
        principal: &Principal,
        delivery: DeliveryId,
    ) -> Result<(AccountUid, Picked), Problem> {
        principal.require(Scope::HistoryRead)?;
        let not_found = || Problem::from(Denied::NotFound);
        let (history, bound) = (self.history()?, principal.bound.account());
        let (execution, _) =
            history.execution(bound, delivery).await.map_err(failed)?.ok_or_else(not_found)?;
        if !self.sees(principal, execution.account, execution.webhook) {
            return Err(not_found());
        }
        let event = history.event(bound, execution.event).await.map_err(failed)?;
        let Key { partition, offset, .. } = event.map(|event| event.key).ok_or_else(|| {
            Problem::conflict(
                "the event is not kept any more: if the delivery was given up, replay it from the dead letters",
            )
        })?;
        Ok((execution.account, Picked { delivery, webhook: execution.webhook, partition, offset }))
    }

    /// Attempts with what their records say, as far as those are read in time; the newest first, which matter most.
    async fn attempts(&self, execution: &Execution, rows: Vec<AttemptRow>) -> Vec<AttemptItem> {
        let by = Instant::now() + DEADLINE;
        let permit = timeout_at(by, self.readers.acquire()).await;
        let mut items = Vec::with_capacity(rows.len());
        for row in rows.into_iter().rev() {
            let (partition, offset) = (row.partition, row.offset);
            let mut item = AttemptItem::of(row);
            let left = by.saturating_duration_since(Instant::now());
            if item.number.is_some() && permit.is_ok() && !left.is_zero() {
                match self.fetcher.fetch(&self.topics.attempts, partition, offset, 1, left).await {
                    Ok(records) => match records.first().and_then(|record| read(execution, &record.value)) {
                        Some(attempt) => item.fill(attempt),
                        None => item.recorded = Recorded::Gone,
                    },
                    Err(error) => tracing::warn!(error = %Chain(&error), "an attempt's record was not read"),
                }
            }
            items.push(item);
        }
        items.reverse();
        items
    }
}

/// The exchange of a record, if the record is about this execution: at its place may stand another by now, in a topic
/// that was made anew.
fn read(execution: &Execution, value: &[u8]) -> Option<Attempt<'static>> {
    let attempt = decode_attempt(value).ok().flatten()?;
    let is_same = attempt.account == execution.account
        && attempt.webhook == execution.webhook
        && attempt.event == execution.event;
    is_same.then_some(attempt)
}
