//! Who changed what.

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use hookstream_history::{AuditEntry, AuditFilter};
use hookstream_types::{AccountUid, Offset};
use hookstream_wire::audit::{self, Action};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::params::{Params, written};
use super::{Executions, failed, list_name};
use crate::access::cursor::{BadCursor, List, MAX_CURSOR_BYTES};
use crate::access::{Bound, Denied, Principal, Scope};
use crate::description::Missing;
use crate::problem::Problem;

/// A page of changes, the newest first.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditPage {
    pub results: Vec<AuditItem>,
    /// The `cursor` of the next page; null: this is the last.
    pub next: Option<String>,
    pub more_results: bool,
}

/// A change of a resource; secrets are masked.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditItem {
    #[schema(format = DateTime)]
    pub at: String,
    /// Who changed it.
    pub actor: String,
    /// What was changed at once has one.
    pub write: Uuid,
    /// `webhook`, `account`, …
    pub resource: String,
    pub id: String,
    /// Null of what belongs to no account.
    #[schema(value_type = Option<Uuid>)]
    pub account: Option<AccountUid>,
    pub action: AuditAction,
    /// The revision that the change made.
    pub revision: u64,
    /// Null: it was not there.
    pub before: Option<Value>,
    /// Null: it is not there any more.
    pub after: Option<Value>,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum AuditAction {
    Create,
    Update,
    Delete,
}

/// Bytes of a name.
const MAX_NAME: usize = 300;

/// Lists changes of the configuration, the newest first
///
/// An account's own; with a token that is bound to none and has the scope `admin`, everybody's.
#[utoipa::path(
    get,
    path = "/api/v1/audit",
    operation_id = "listAuditItems",
    tag = "history",
    params(
        ("account" = Option<uuid::Uuid>, Query, description = "Of this account's resources"),
        ("actor" = Option<String>, Query, description = "Who changed it"),
        ("resource" = Option<String>, Query, description = "`webhook`, `account`, `app`, `source`, `event-type`, `authorization` or `client`"),
        ("id" = Option<String>, Query, description = "The resource's id; with `resource`"),
        ("from" = Option<String>, Query, description = "At this time or later (RFC 3339)"),
        ("to" = Option<String>, Query, description = "Before this time (RFC 3339)"),
        ("limit" = Option<usize>, Query, minimum = 1, maximum = 100, description = "Changes of a page"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before, with the same filters"),
    ),
    responses(
        (status = 200, description = "A page", body = AuditPage),
        Missing,
    )
)]
pub(super) async fn list(
    State(executions): State<Arc<Executions>>,
    principal: Principal,
    RawQuery(query): RawQuery,
) -> Result<Json<AuditPage>, Problem> {
    executions.audit(&principal, query.as_deref()).await.map(Json)
}

impl Executions {
    /// A page of changes, as a query asks for it.
    ///
    /// # Errors
    /// What is wrong with the query, or with the index.
    pub async fn audit(&self, principal: &Principal, query: Option<&str>) -> Result<AuditPage, Problem> {
        let scope = match principal.bound {
            Bound::Account(_) => Scope::WebhooksRead,
            // An app has webhooks, and no part in the changes of its account.
            Bound::App { .. } => return Err(Denied::NotFound.into()),
            Bound::Everything => Scope::Admin,
        };
        principal.require(scope)?;
        let mut params = Params::read(query);
        let named = params.id::<AccountUid>("account");
        let actor = params.text("actor", MAX_NAME);
        let kind = params.text("resource", MAX_NAME);
        let resource = params.text("id", MAX_NAME);
        if resource.is_some() && !params.has("resource") {
            params.fault("id", "needs `resource`, which says of what kind it is");
        }
        let (since, until) = params.span();
        let limit = params.limit();
        let cursor = params.text("cursor", MAX_CURSOR_BYTES);
        let name = list_name("audit", principal, params.filters());
        params.finish()?;
        let account = principal.account_if_any(named)?;
        let list = List { name: &name, account };
        let before = cursor.map(|cursor| {
            let position = self.cursor(&list, &cursor)?;
            position.parse().map(Offset).map_err(|_| BadCursor)
        });
        let before =
            before.transpose().map_err(|error| Problem::invalid_field("cursor", error.to_string()))?;
        let filter = AuditFilter { account, actor, kind, resource, since, until };
        let bound = principal.bound.account();
        let page = self.history()?.audit(bound, &filter, before, limit).await.map_err(failed)?;
        let next = page.next.map(|offset| self.cursors.make(&list, offset.to_string().as_bytes()));
        let results = page.items.into_iter().map(item).collect();
        Ok(AuditPage { results, more_results: next.is_some(), next })
    }
}

fn item(entry: AuditEntry) -> AuditItem {
    // The index took it in because it could be read.
    let record = audit::decode(entry.record.as_bytes()).ok();
    let revision = record.as_ref().map_or(0, |record| record.revision);
    let write = record.as_ref().map(|record| record.write).unwrap_or_default();
    let (before, after) = record.map(|record| (record.before, record.after)).unwrap_or_default();
    AuditItem {
        at: written(entry.at).to_string(),
        actor: entry.actor,
        write,
        resource: entry.kind,
        id: entry.resource,
        account: entry.account,
        action: match entry.action {
            Action::Create => AuditAction::Create,
            Action::Update => AuditAction::Update,
            Action::Delete => AuditAction::Delete,
        },
        revision,
        before,
        after,
    }
}
