//! Lists of executions.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use hookstream_core::exchange::FailureKind;
use hookstream_history::{Filter, Key, Outcome, StatusFilter};
use hookstream_types::{AccountUid, WebhookId};

use super::params::Params;
use super::view::ExecutionPage;
use super::{Executions, failed, list_name};
use crate::access::cursor::List;
use crate::access::{Bound, Denied, Principal, Scope};
use crate::description::Missing;
use crate::problem::Problem;

/// Pages of an account that are looked at for one of an app.
const APP_ROUNDS: usize = 5;
/// Bytes of an event type.
const MAX_TYPE: usize = 256;

/// Lists executions, the newest first
///
/// An account's own: the token says which account. With a token that is bound to none, `account` may name one.
#[utoipa::path(
    get,
    path = "/api/v1/executions",
    operation_id = "listExecutions",
    tag = "history",
    params(
        ("account" = Option<uuid::Uuid>, Query, description = "Of this account"),
        ("webhook" = Option<uuid::Uuid>, Query, description = "Of this webhook"),
        ("event" = Option<uuid::Uuid>, Query, description = "Of this event"),
        ("eventType" = Option<String>, Query, description = "Of events of this type"),
        ("outcome" = Option<String>, Query, description = "`waiting`, `delivered`, `dead` or `skipped`"),
        ("status" = Option<String>, Query, description = "Of the last answer: `500`, or `5xx`"),
        ("failure" = Option<String>, Query, description = "Of the last request: `dns`, `connect`, `tls`, `timeout`, `protocol`, `forbidden` or `unsendable`"),
        ("from" = Option<String>, Query, description = "Begun at this time or later (RFC 3339)"),
        ("to" = Option<String>, Query, description = "Begun before this time (RFC 3339)"),
        ("limit" = Option<usize>, Query, minimum = 1, maximum = 100, description = "Executions of a page"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before, with the same filters"),
    ),
    responses(
        (status = 200, description = "A page", body = ExecutionPage),
        Missing,
    )
)]
pub(super) async fn list(
    State(executions): State<Arc<Executions>>,
    principal: Principal,
    RawQuery(query): RawQuery,
) -> Result<Json<ExecutionPage>, Problem> {
    executions.list(&principal, query.as_deref()).await.map(Json)
}

/// Lists a webhook's executions, the newest first
///
/// Those of a deleted webhook, too.
#[utoipa::path(
    get,
    path = "/api/v1/webhooks/{id}/executions",
    operation_id = "listWebhookExecutions",
    tag = "history",
    params(
        ("id" = uuid::Uuid, Path, description = "The webhook"),
        ("account" = Option<uuid::Uuid>, Query, description = "Of this account"),
        ("event" = Option<uuid::Uuid>, Query, description = "Of this event"),
        ("eventType" = Option<String>, Query, description = "Of events of this type"),
        ("outcome" = Option<String>, Query, description = "`waiting`, `delivered`, `dead` or `skipped`"),
        ("status" = Option<String>, Query, description = "Of the last answer: `500`, or `5xx`"),
        ("failure" = Option<String>, Query, description = "Of the last request: `dns`, `connect`, `tls`, `timeout`, `protocol`, `forbidden` or `unsendable`"),
        ("from" = Option<String>, Query, description = "Begun at this time or later (RFC 3339)"),
        ("to" = Option<String>, Query, description = "Begun before this time (RFC 3339)"),
        ("limit" = Option<usize>, Query, minimum = 1, maximum = 100, description = "Executions of a page"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before, with the same filters"),
    ),
    responses(
        (status = 200, description = "A page", body = ExecutionPage),
        Missing,
    )
)]
pub(super) async fn list_of_webhook(
    State(executions): State<Arc<Executions>>,
    principal: Principal,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<ExecutionPage>, Problem> {
    executions.list_of_webhook(&principal, &id, query.as_deref()).await.map(Json)
}

/// What a request asks for.
struct Asked {
    filter: Filter,
    /// The only account whose executions may be shown.
    scope: Option<AccountUid>,
    /// What its cursors belong to.
    list: String,
    before: Option<Key>,
    limit: usize,
}

impl Executions {
    /// A page of executions, as a query asks for it.
    ///
    /// # Errors
    /// What is wrong with the query, or with the index.
    pub async fn list(&self, principal: &Principal, query: Option<&str>) -> Result<ExecutionPage, Problem> {
        principal.require(Scope::HistoryRead)?;
        let mut params = Params::read(query);
        let webhook = params.id("webhook");
        if let Some(webhook) = webhook
            && self.is_anothers(principal, webhook)
        {
            // All else is read first: what is wrong with it is told in any case.
            self.read(principal, params, Some(webhook))?;
            return Ok(ExecutionPage { results: Vec::new(), next: None, more_results: false });
        }
        let asked = self.read(principal, params, webhook)?;
        self.page(principal, asked).await
    }

    /// A page of a webhook's executions.
    ///
    /// # Errors
    /// If the webhook is not the principal's; what is wrong with the query, or with the index.
    pub async fn list_of_webhook(
        &self,
        principal: &Principal,
        id: &str,
        query: Option<&str>,
    ) -> Result<ExecutionPage, Problem> {
        principal.require(Scope::HistoryRead)?;
        let not_found = || Problem::from(Denied::NotFound);
        let webhook: WebhookId = id.parse().map_err(|_| not_found())?;
        if self.is_anothers(principal, webhook) {
            return Err(not_found());
        }
        if self.owner.app_of(webhook).is_none() {
            // It was deleted, or never was.
            let account = self.history()?.account_of(webhook).await.map_err(failed)?;
            let account = account.ok_or_else(not_found)?;
            principal.owns(account, None)?;
        }
        let asked = self.read(principal, Params::read(query), Some(webhook))?;
        self.page(principal, asked).await
    }

    /// Whether a webhook that is there is somebody else's.
    fn is_anothers(&self, principal: &Principal, webhook: WebhookId) -> bool {
        match self.owner.app_of(webhook) {
            Some((account, app)) => principal.owns(account, app).is_err(),
            None => matches!(principal.bound, Bound::App { .. }),
        }
    }

    fn read(
        &self,
        principal: &Principal,
        mut params: Params,
        webhook: Option<WebhookId>,
    ) -> Result<Asked, Problem> {
        let named = params.id::<AccountUid>("account");
        let event = params.id("event");
        let event_type = params.text("eventType", MAX_TYPE);
        let outcome = params.one_of("outcome", Outcome::ALL, Outcome::label);
        let status = params.take("status", status);
        let failure = params.one_of("failure", FailureKind::ALL, FailureKind::label);
        let (since, until) = params.span();
        let limit = params.limit();
        let cursor = params.text("cursor", crate::access::cursor::MAX_CURSOR_BYTES);
        let webhook_filter = webhook.map(|webhook| format!("&webhook={webhook}")).unwrap_or_default();
        let list = list_name("executions", principal, &format!("{}{webhook_filter}", params.filters()));
        params.finish()?;
        let account = principal.account_if_any(named)?;
        let scope = principal.bound.account();
        let before = self.key(&List { name: &list, account }, cursor)?;
        let filter = Filter { account, webhook, event, event_type, outcome, status, failure, since, until };
        Ok(Asked { filter, scope, list, before, limit })
    }

    async fn page(&self, principal: &Principal, asked: Asked) -> Result<ExecutionPage, Problem> {
        let Asked { filter, scope, list, mut before, limit } = asked;
        let history = self.history()?;
        let rounds = if matches!(principal.bound, Bound::App { .. }) { APP_ROUNDS } else { 1 };
        let mut results = Vec::new();
        for _ in 0..rounds {
            let wanted = limit - results.len();
            let page = history.executions(scope, &filter, before, wanted).await.map_err(failed)?;
            let seen = page.items.into_iter().filter(|item| self.sees(principal, item.account, item.webhook));
            results.extend(seen.map(Into::into));
            before = page.next;
            if before.is_none() || results.len() == limit {
                break;
            }
        }
        let list = List { name: &list, account: filter.account };
        let next = before.map(|key| self.cursors.make(&list, key.to_string().as_bytes()));
        Ok(ExecutionPage { results, more_results: next.is_some(), next })
    }
}

fn status(text: &str) -> Result<StatusFilter, String> {
    match text.as_bytes() {
        [class @ b'1'..=b'5', b'x', b'x'] => Ok(StatusFilter::Class(class - b'0')),
        [b'1'..=b'9', b'0'..=b'9', b'0'..=b'9'] => {
            text.parse().map(StatusFilter::Exactly).map_err(|_| "must be a status".to_owned())
        }
        _ => Err("must be a status, as `500`, or a class of them, as `5xx`".to_owned()),
    }
}
