//! Events that were accepted: lists, and one with its data.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use bytes::Bytes;
use hookstream_core::event::EventAttributes;
use hookstream_history::{EventFilter, EventRow, Key};
use hookstream_types::{AccountUid, Chain, EventId};
use hookstream_wire::event;
use serde::Serialize;
use tokio::time::{Instant, timeout_at};
use utoipa::ToSchema;

use super::params::{Params, written};
use super::view::{self, Recorded};
use super::{DEADLINE, Executions, failed, list_name};
use crate::access::cursor::{List, MAX_CURSOR_BYTES};
use crate::access::{Bound, Denied, Principal, Scope};
use crate::description::Missing;
use crate::problem::Problem;

/// Bytes of a text that is looked for.
const MAX_TEXT: usize = 2_048;

/// A page of events, the newest first.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventPage {
    /// May be fewer than asked for, even none, though there are more.
    pub results: Vec<EventItem>,
    /// The `cursor` of the next page; null: this is the last.
    pub next: Option<String>,
    pub more_results: bool,
}

/// An event that was accepted.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventItem {
    /// hookstream's id of it.
    #[schema(value_type = Uuid)]
    pub event: EventId,
    #[schema(value_type = Uuid)]
    pub account: AccountUid,
    pub event_type: String,
    /// The name of the configured source; `api` if it came over HTTP.
    pub source: String,
    /// What its maker calls it.
    pub id: String,
    pub subject: Option<String>,
    /// When it was accepted.
    #[schema(format = DateTime)]
    pub accepted_at: String,
}

/// An event with its data.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventDetail {
    #[serde(flatten)]
    pub event: EventItem,
    pub recorded: Recorded,
    /// When it happened, as its maker says.
    pub time: Option<String>,
    /// Its attribute `source`: of whom its maker says it comes.
    pub origin: Option<String>,
    /// What else its maker says of it.
    pub extensions: BTreeMap<String, String>,
    pub content_type: Option<String>,
    pub data: Option<view::Body>,
}

/// An event as it was accepted.
#[derive(Clone, Debug)]
pub struct PastEvent {
    pub attributes: EventAttributes,
    pub data: Bytes,
}

/// Lists the events that were accepted, the newest first
///
/// An account's own: the token says which account. With a token that is bound to none, `account` may name one, and must
/// where `subject` is asked for.
#[utoipa::path(
    get,
    path = "/api/v1/events",
    operation_id = "listEvents",
    tag = "events",
    params(
        ("account" = Option<uuid::Uuid>, Query, description = "Of this account"),
        ("eventType" = Option<String>, Query, description = "Of this type"),
        ("id" = Option<String>, Query, description = "That their maker calls so"),
        ("subject" = Option<String>, Query, description = "About this subject"),
        ("source" = Option<String>, Query, description = "Of this configured source"),
        ("from" = Option<String>, Query, description = "Accepted at this time or later (RFC 3339)"),
        ("to" = Option<String>, Query, description = "Accepted before this time (RFC 3339)"),
        ("limit" = Option<usize>, Query, minimum = 1, maximum = 100, description = "Events of a page"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before, with the same filters"),
    ),
    responses(
        (status = 200, description = "A page", body = EventPage),
        Missing,
    )
)]
pub(super) async fn list(
    State(executions): State<Arc<Executions>>,
    principal: Principal,
    RawQuery(query): RawQuery,
) -> Result<Json<EventPage>, Problem> {
    executions.events(&principal, query.as_deref()).await.map(Json)
}

/// Shows an event with its data
///
/// Data is kept for as long as Kafka keeps its record.
#[utoipa::path(
    get,
    path = "/api/v1/events/{event}",
    operation_id = "getEvent",
    tag = "events",
    params(("event" = uuid::Uuid, Path, description = "hookstream's id of it")),
    responses(
        (status = 200, description = "The event", body = EventDetail),
        Missing,
    )
)]
pub(super) async fn show(
    State(executions): State<Arc<Executions>>,
    principal: Principal,
    Path(event): Path<String>,
) -> Result<Json<EventDetail>, Problem> {
    executions.event(&principal, &event).await.map(Json)
}

impl Executions {
    /// A page of events, as a query asks for it.
    ///
    /// # Errors
    /// What is wrong with the query, or with the index.
    pub async fn events(&self, principal: &Principal, query: Option<&str>) -> Result<EventPage, Problem> {
        sees_events(principal)?;
        let mut params = Params::read(query);
        let named = params.id::<AccountUid>("account");
        let event_type = params.text("eventType", MAX_TEXT);
        let id = params.text("id", MAX_TEXT);
        let subject = params.text("subject", MAX_TEXT);
        let source = params.text("source", MAX_TEXT);
        let (since, until) = params.span();
        let limit = params.limit();
        let cursor = params.text("cursor", MAX_CURSOR_BYTES);
        let name = list_name("events", principal, params.filters());
        let account = principal.account_if_any(named)?;
        if subject.is_some() && account.is_none() {
            params.fault("subject", "needs `account`: a subject is an account's own");
        }
        params.finish()?;
        let list = List { name: &name, account };
        let before = self.key(&list, cursor)?;
        let filter = EventFilter { account, event_type, source, id, subject, since, until };
        let bound = principal.bound.account();
        let page = self.history()?.events(bound, &filter, before, limit).await.map_err(failed)?;
        let next = page.next.map(|key| self.cursors.make(&list, key.to_string().as_bytes()));
        let results = page.items.into_iter().map(EventItem::from).collect();
        Ok(EventPage { results, more_results: next.is_some(), next })
    }

    /// One event, with its data if its record is still there.
    ///
    /// # Errors
    /// If it is not there, or not the principal's.
    pub async fn event(&self, principal: &Principal, event: &str) -> Result<EventDetail, Problem> {
        let row = self.event_row(principal, event).await?;
        let (recorded, past) = self.read_event(&row).await;
        let mut detail = EventDetail {
            event: row.into(),
            recorded,
            time: None,
            origin: None,
            extensions: BTreeMap::new(),
            content_type: None,
            data: None,
        };
        if let Some(PastEvent { attributes, data }) = past {
            detail.time = Some(attributes.time);
            detail.origin = Some(attributes.ce_source);
            detail.extensions = attributes.extensions.into_iter().collect();
            detail.content_type = attributes.content_type;
            detail.data = (!data.is_empty()).then(|| view::Body::whole(&data));
        }
        Ok(detail)
    }

    /// One event as it was accepted.
    ///
    /// # Errors
    /// If it is not there (any more), or not the principal's.
    pub async fn past_event(&self, principal: &Principal, event: &str) -> Result<PastEvent, Problem> {
        let row = self.event_row(principal, event).await?;
        match self.read_event(&row).await {
            (_, Some(past)) => Ok(past),
            (Recorded::Gone, None) => Err(Problem::not_found("the event's data is not kept any more")),
            (_, None) => Err(super::unavailable()),
        }
    }

    async fn event_row(&self, principal: &Principal, event: &str) -> Result<EventRow, Problem> {
        sees_events(principal)?;
        let not_found = || Problem::from(Denied::NotFound);
        let event: EventId = event.parse().map_err(|_| not_found())?;
        let bound = principal.bound.account();
        self.history()?.event(bound, event).await.map_err(failed)?.ok_or_else(not_found)
    }

    async fn read_event(&self, row: &EventRow) -> (Recorded, Option<PastEvent>) {
        let by = Instant::now() + DEADLINE;
        let Ok(_permit) = timeout_at(by, self.readers.acquire()).await else {
            return (Recorded::NotRead, None);
        };
        let Key { partition, offset, .. } = row.key;
        let left = by.saturating_duration_since(Instant::now());
        let records = match self.fetcher.fetch(&self.topics.events, partition, offset, 1, left).await {
            Ok(records) => records,
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "an event's record was not read");
                return (Recorded::NotRead, None);
            }
        };
        let past = records.into_iter().next().and_then(|record| {
            let (attributes, _) = event::decode(&record.header_refs()).ok()?;
            // At its place may stand another by now, in a topic that was made anew.
            let is_same = attributes.event == row.event && attributes.account == row.account;
            is_same.then(|| PastEvent { attributes, data: Bytes::from(record.value) })
        });
        (if past.is_some() { Recorded::Kept } else { Recorded::Gone }, past)
    }
}

/// An app has webhooks; its account's events are not its own.
fn sees_events(principal: &Principal) -> Result<(), Denied> {
    principal.require(Scope::HistoryRead)?;
    match principal.bound {
        Bound::App { .. } => Err(Denied::NotFound),
        Bound::Account(_) | Bound::Everything => Ok(()),
    }
}

impl From<EventRow> for EventItem {
    fn from(row: EventRow) -> Self {
        Self {
            event: row.event,
            account: row.account,
            event_type: row.event_type,
            source: row.source,
            id: row.id,
            subject: row.subject,
            accepted_at: written(row.key.at).to_string(),
        }
    }
}
