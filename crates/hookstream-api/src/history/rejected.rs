//! `/api/v1/rejected`: the last records that were no events, and why.
//!
//! There is no index of them: they are few, and read from the ends of their topic's partitions.

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use futures_util::stream::{self, StreamExt as _};
use hookstream_types::{Chain, Offset, Partition};
use hookstream_wire::rejected;
use serde::Serialize;
use tokio::time::{Instant, timeout_at};
use utoipa::ToSchema;

use super::params::{Params, written};
use super::{DEADLINE, Executions, view};
use crate::access::{Bound, Denied, Principal, Scope};
use crate::description::Missing;
use crate::problem::Problem;

/// Records of a partition that are looked at.
const LOOKED_AT: i64 = 10;
/// Partitions that are read at a time: a record has half a MiB at most.
const AT_A_TIME: usize = 4;
/// Bytes of a record that are shown.
const SHOWN: usize = 2_048;

/// The last records that were rejected.
#[derive(Debug, Serialize, ToSchema)]
pub struct RejectedPage {
    /// The newest first.
    pub results: Vec<RejectedItem>,
}

/// A record that is no event.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RejectedItem {
    /// When it was rejected.
    #[schema(format = DateTime)]
    pub at: String,
    pub source: String,
    /// Always the same for the same fault.
    pub reason: String,
    /// What is wrong with it.
    pub message: String,
    /// Where it stood.
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    /// Its value, or the beginning of it.
    pub value: Option<view::Body>,
}

/// Lists the last records that were rejected, the newest first
///
/// For operators: what is no event is nobody's. The last ten of each partition are looked at; all of them stand in the topic
/// `rejected`, as they came, to be produced again once the fault is mended.
#[utoipa::path(
    get,
    path = "/api/v1/rejected",
    operation_id = "listRejected",
    tag = "history",
    params(
        ("source" = Option<String>, Query, description = "Of this source"),
        ("limit" = Option<usize>, Query, minimum = 1, maximum = 100, description = "Records at most"),
    ),
    responses(
        (status = 200, description = "The records", body = RejectedPage),
        Missing,
    )
)]
pub(super) async fn list(
    State(executions): State<Arc<Executions>>,
    principal: Principal,
    RawQuery(query): RawQuery,
) -> Result<Json<RejectedPage>, Problem> {
    executions.rejected(&principal, query.as_deref()).await.map(Json)
}

impl Executions {
    /// The last records that were rejected.
    ///
    /// # Errors
    /// What is wrong with the query.
    pub async fn rejected(
        &self,
        principal: &Principal,
        query: Option<&str>,
    ) -> Result<RejectedPage, Problem> {
        principal.require(Scope::HistoryRead)?;
        if principal.bound != Bound::Everything {
            return Err(Denied::NotFound.into());
        }
        let mut params = Params::read(query);
        let source = params.text("source", 300);
        let limit = params.limit();
        params.finish()?;
        let by = Instant::now() + DEADLINE;
        let partitions = stream::iter((0..self.topics.partitions).map(Partition));
        let read = partitions.map(|partition| self.last_of(partition, by)).buffer_unordered(AT_A_TIME);
        let mut found: Vec<(i64, RejectedItem)> = read.concat().await;
        found.retain(|(_, item)| source.as_ref().is_none_or(|source| *source == item.source));
        found.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        found.truncate(limit);
        Ok(RejectedPage { results: found.into_iter().map(|(_, item)| item).collect() })
    }

    /// The last ones of a partition, with their times; none if it is not read in time.
    async fn last_of(&self, partition: Partition, by: Instant) -> Vec<(i64, RejectedItem)> {
        let topic = &self.topics.rejected;
        let read = async {
            let end = timeout_at(by, self.topics.admin.end(topic, partition)).await.ok()?.ok()?;
            let first = Offset((end.0 - LOOKED_AT).max(0));
            let count = usize::try_from(end.0 - first.0).unwrap_or(0);
            let left = by.saturating_duration_since(Instant::now());
            let read = self.fetcher.fetch(topic, partition, first, count, left).await;
            read.inspect_err(|error| tracing::warn!(error = %Chain(error), "rejected records were not read"))
                .ok()
        };
        let records = read.await.unwrap_or_default();
        let item = |record: hookstream_log::scan::OwnRecord| {
            let read = rejected::decode(&record.header_refs()).ok()?;
            let value = &record.value;
            let shown = &value[..value.len().min(SHOWN)];
            let item = RejectedItem {
                at: written(record.timestamp).to_string(),
                source: read.source.to_owned(),
                reason: read.reason.to_owned(),
                message: read.message.to_owned(),
                topic: read.topic.to_owned(),
                partition: read.partition.0,
                offset: read.offset.0,
                value: (!value.is_empty())
                    .then(|| view::Body::beginning(shown, shown.len() < read.value_bytes)),
            };
            Some((record.timestamp.0, item))
        };
        records.into_iter().filter_map(item).collect()
    }
}
