//! `/api/v1/match`: which webhooks an event concerns, as they are configured now, and why the others are not concerned.

use std::sync::Arc;

use axum::extract::State;
use hookstream_config::payload;
use hookstream_core::config::WebhookState;
use hookstream_core::event::EventAttributes;
use hookstream_core::matching::{Interest, Mismatch};
use hookstream_types::WebhookId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::{Denied, Principal, Scope};
use crate::api::{Api, Shared, named_account};
use crate::description::{Missing, scoped};
use crate::history::events::PastEvent;
use crate::problem::Problem;
use crate::request::Typed;
use crate::resources::webhooks::Webhooks;
use crate::resources::{Facts, Kinds as _};

/// Webhooks of either kind that are named at most.
const NAMED: usize = 100;
/// Webhooks that are looked at while the configuration is held.
const AT_A_TIME: usize = 1_000;

/// Which event, and whom it may concern.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MatchRequest {
    /// hookstream's id of an event that was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// Of an event as one might be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// Through which source it would come; else through the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Whose it would be, by name or uid; needed if the token is bound to none, and no webhook is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Its data, for filters; none: the event type's sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<serde_json::Value>,
    /// Only this webhook, by its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
}

/// Whom an event concerns.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Matches {
    pub matching: Vec<Concerned>,
    pub others: Vec<Concerned>,
    /// There are more than are named.
    pub more_matching: bool,
    pub more_others: bool,
}

/// A webhook, and why an event does not concern it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Concerned {
    #[schema(value_type = Uuid)]
    pub webhook: WebhookId,
    pub name: String,
    /// Everything that is in the way; nothing: it is concerned.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
}

/// Why an event does not concern a webhook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Reason {
    /// `account`, `state`, `source`, `eventType`, or `filter`.
    pub code: &'static str,
    pub detail: String,
}

pub(crate) fn router() -> OpenApiRouter<Shared> {
    scoped(OpenApiRouter::new().routes(routes!(show)), Scope::WebhooksRead, Scope::WebhooksRead)
}

/// Show which webhooks an event concerns, and why the others are not concerned
///
/// As they are configured now: of an event that was, `GET /api/v1/executions?event=…` shows who got it.
#[utoipa::path(
    post,
    path = "/api/v1/match",
    operation_id = "matchEvent",
    tag = "webhooks",
    request_body = MatchRequest,
    responses(
        (status = 200, description = "Whom it concerns", body = Matches),
        Missing,
    )
)]
async fn show(
    State(api): State<Arc<Api>>,
    principal: Principal,
    Typed(request): Typed<MatchRequest>,
) -> Result<axum::Json<Matches>, Problem> {
    explain(&api, &principal, request).await.map(axum::Json)
}

/// Which webhooks of the principal an event concerns, and why the others are not concerned.
///
/// # Errors
/// What is wrong with the request.
pub(crate) async fn explain(
    api: &Api,
    principal: &Principal,
    request: MatchRequest,
) -> Result<Matches, Problem> {
    principal.require(Scope::WebhooksRead)?;
    let MatchRequest { event, event_type, source, account, data, webhook } = request;
    let only: Option<WebhookId> = match webhook {
        None => None,
        Some(id) => Some(id.parse().map_err(|_| Denied::NotFound)?),
    };
    let (attributes, data) = match (event, event_type) {
        (Some(_), None) if data.is_some() => {
            return Err(Problem::invalid_field("/data", "the event has its own: name its type instead"));
        }
        (Some(event), None) => {
            let PastEvent { attributes, data } = api.executions.past_event(principal, &event).await?;
            (attributes, data)
        }
        (None, Some(event_type)) => {
            // Whose webhooks are not this one's is told like those that are not there.
            let of_webhook = || api.look(|state| Some(state.webhook(only?)?.account));
            let account = named_account(api, principal, account.as_deref())?.or_else(of_webhook);
            let account = account.ok_or(Denied::AccountNeeded)?;
            let (sample, data) = api.look(|state| payload::sample(state, &event_type, data.as_ref()));
            let source = source.unwrap_or_else(|| "api".to_owned());
            (EventAttributes { account, source, ..sample }, data)
        }
        (Some(_), Some(_)) => {
            return Err(Problem::invalid_field("/event", "name an event or an event type, not both"));
        }
        (None, None) => return Err(Problem::invalid_field("/eventType", "is missing, and `event` too")),
    };
    let mut matches = Matches::default();
    let mut after = String::new();
    loop {
        let last = api.look(|state| {
            let mut last = None;
            for record in Webhooks::each(state, Some(attributes.account), &after).take(AT_A_TIME) {
                let Facts { id, account, app, .. } = Webhooks::facts(record);
                last = Some(id);
                let is_theirs = account.is_some_and(|account| principal.owns(account, app).is_ok());
                if !is_theirs || only.is_some_and(|only| only != record.id) {
                    continue;
                }
                let interest = Interest {
                    account: record.account,
                    state: record.state,
                    source: record.source.as_deref(),
                    event_types: &record.event_types,
                    filter: record.filter.as_deref(),
                };
                let reasons: Vec<Reason> = interest
                    .mismatches(&attributes, &data)
                    .into_iter()
                    .map(|why| reason(why, &interest, &attributes))
                    .collect();
                let (list, more) = if reasons.is_empty() {
                    (&mut matches.matching, &mut matches.more_matching)
                } else {
                    (&mut matches.others, &mut matches.more_others)
                };
                if list.len() < NAMED {
                    list.push(Concerned { webhook: record.id, name: record.name.clone(), reasons });
                } else {
                    *more = true;
                }
            }
            last
        });
        let Some(last) = last else { break };
        after = last;
        tokio::task::yield_now().await;
    }
    if only.is_some() && matches.matching.is_empty() && matches.others.is_empty() {
        return Err(Denied::NotFound.into());
    }
    Ok(matches)
}

fn reason(why: Mismatch, interest: &Interest<'_>, event: &EventAttributes) -> Reason {
    let (code, detail) = match why {
        Mismatch::Account => ("account", "the event is of another account".to_owned()),
        Mismatch::State(state) => {
            let (state, way_out) = match state {
                WebhookState::Draft => ("a draft", "publish it"),
                WebhookState::Unpublished => ("unpublished", "publish it"),
                WebhookState::Disabled => ("disabled", "publish it once its endpoint is well"),
                WebhookState::Published | WebhookState::Paused => ("published", "it takes part"),
            };
            ("state", format!("the webhook is {state}: {way_out}"))
        }
        Mismatch::Source => {
            let wanted = interest.source.unwrap_or_default();
            (
                "source",
                format!(
                    "it takes events of the source `{wanted}`, and this one came through `{}`",
                    event.source
                ),
            )
        }
        Mismatch::EventType => {
            let patterns = interest.event_types.join("`, `");
            ("eventType", format!("`{}` is none of `{patterns}`", event.event_type))
        }
        Mismatch::Filter(fields) if fields.is_empty() => {
            ("filter", "no element of an array satisfies all that the filter says of it".to_owned())
        }
        Mismatch::Filter(fields) => {
            ("filter", format!("the filter is not satisfied at `{}`", fields.join("`, `")))
        }
    };
    Reason { code, detail }
}
