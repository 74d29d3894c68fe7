//! `/api/v1/replays`: events that are delivered once more, or for the first time to a webhook that is new; dead letters that get
//! another chance; and single deliveries that are made again now.

mod run;

use std::sync::Arc;

use axum::extract::{Path, State};
use hookstream_config::Change;
use hookstream_config::change::ReplaySpec;
use hookstream_config::manifest::render;
use hookstream_core::config::WebhookState;
use hookstream_core::decision::DeadReason;
use hookstream_core::replay::{self, ReplayState, Selection};
use hookstream_types::{AccountUid, DeliveryId, ReplayId, UnixMillis, WebhookId};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::{Bound, Denied, Principal, Scope};
use crate::api::{Api, Shared, named_account, write_problem};
use crate::description::{Created, Missing, scoped};
use crate::history::params;
use crate::problem::Problem;
use crate::request::{Page, Parameters, ReplayParameters, Typed};

pub(crate) use self::run::Replayer;

/// Deliveries that one replay may name.
const MOST_DELIVERIES: usize = 100;
/// Patterns that one replay may name.
const MOST_TYPES: usize = 100;

/// What is to be delivered again: one of `events`, `deadLetters` and `deliveries`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReplayRequest {
    /// Whose, by name or uid; needed if the token is bound to none and no webhook is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// To this webhook, by its id; else to all of the account that want the events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
    /// Events of a time, also from before the webhook was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<ReplayedEvents>,
    /// Deliveries that were given up, and still are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letters: Option<ReplayedDeadLetters>,
    /// These deliveries, now, by their ids, a hundred at most; what waits of them is overtaken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deliveries: Option<Vec<String>>,
    /// Only count what would be delivered.
    #[serde(default)]
    pub dry_run: bool,
}

/// Events that were accepted within a time.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReplayedEvents {
    /// Accepted then or later (RFC 3339).
    #[schema(format = DateTime)]
    pub from: String,
    /// Accepted before then (RFC 3339); else before the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub until: Option<String>,
    /// Names, `prefix.*`, or `*`; none: all that the webhook takes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub event_types: Vec<String>,
}

/// Deliveries that were given up within a time.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReplayedDeadLetters {
    /// Given up then or later (RFC 3339); else whenever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub from: Option<String>,
    /// Given up before then (RFC 3339); else before the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub until: Option<String>,
    /// Only for this reason: `exhausted`, `rejected`, `gone` or `unsendable`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Names, `prefix.*`, or `*`; none: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub event_types: Vec<String>,
}

/// A replay, and how far it has got.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Replay {
    #[schema(value_type = Uuid)]
    pub id: ReplayId,
    /// Its requests have this number in the header `hookstream-replay`.
    pub run: i64,
    #[schema(value_type = Uuid)]
    pub account: AccountUid,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    pub webhook: Option<WebhookId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<ReplayedEvents>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letters: Option<ReplayedDeadLetters>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deliveries: Option<Vec<String>>,
    pub dry_run: bool,
    /// `running`, `done` (all is on its way), `cancelled` or `failed`.
    pub state: String,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The part of the log that is read, from 0 to 1; none before it has begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<f64>,
    /// Records that were looked at.
    pub looked: u64,
    /// Deliveries that were selected.
    pub selected: u64,
    /// Deliveries that were put on their way.
    pub sent: u64,
    #[schema(format = DateTime)]
    pub created_at: String,
    #[schema(format = DateTime)]
    pub updated_at: String,
    /// Who asked for it.
    pub created_by: String,
}

impl Replay {
    pub(crate) fn of(replay: &replay::Replay) -> Self {
        let (mut events, mut dead_letters, mut deliveries) = (None, None, None);
        match &replay.selection {
            Selection::Events { from, until, event_types } => {
                let (from, until) = (render::time(*from), Some(render::time(*until)));
                events = Some(ReplayedEvents { from, until, event_types: event_types.clone() });
            }
            Selection::DeadLetters { from, until, reason, event_types } => {
                dead_letters = Some(ReplayedDeadLetters {
                    from: (from.0 > 0).then(|| render::time(*from)),
                    until: Some(render::time(*until)),
                    reason: reason.map(|reason| reason.label().to_owned()),
                    event_types: event_types.clone(),
                });
            }
            Selection::Deliveries { deliveries: picked } => {
                deliveries = Some(picked.iter().map(|picked| picked.delivery.to_string()).collect());
            }
        }
        let is_done = replay.state == ReplayState::Done;
        Self {
            id: replay.id,
            run: replay.run,
            account: replay.account,
            webhook: replay.webhook,
            events,
            dead_letters,
            deliveries,
            dry_run: replay.dry_run,
            state: replay.state.label().to_owned(),
            reason: replay.reason.clone(),
            progress: if is_done { Some(1.0) } else { replay.progress.part() },
            looked: replay.progress.looked,
            selected: replay.progress.selected,
            sent: replay.progress.sent,
            created_at: render::time(replay.meta.created_at),
            updated_at: render::time(replay.meta.updated_at),
            created_by: replay.by.clone(),
        }
    }
}

type Listed = Page<Replay>;

pub(crate) fn router() -> OpenApiRouter<Shared> {
    let router =
        OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get)).routes(routes!(cancel));
    scoped(router, Scope::WebhooksRead, Scope::WebhooksWrite)
}

/// List replays, the newest first
///
/// Those that ended are kept for 30 days, and the last 1,000.
#[utoipa::path(get, path = "/api/v1/replays", operation_id = "listReplays", tag = "replays",
    params(ReplayParameters),
    responses((status = 200, description = "A page", body = Listed), Missing))]
async fn list(
    State(api): State<Arc<Api>>,
    principal: Principal,
    Parameters(parameters): Parameters<ReplayParameters>,
) -> Result<axum::Json<Page<Replay>>, Problem> {
    page(&api, &principal, &parameters).map(axum::Json)
}

/// Deliver again
///
/// Events, dead letters, or single deliveries. Requests have the same `webhook-id` as before, and the header
/// `hookstream-replay`. A replay waits for its webhooks, so that live events hardly wait for it.
#[utoipa::path(post, path = "/api/v1/replays", operation_id = "createReplay", tag = "replays",
    request_body = ReplayRequest,
    responses((status = 201, description = "It is begun", body = Replay), Created))]
async fn create(
    State(api): State<Arc<Api>>,
    principal: Principal,
    Typed(request): Typed<ReplayRequest>,
) -> Result<(StatusCode, axum::Json<Replay>), Problem> {
    Ok((StatusCode::CREATED, axum::Json(start(&api, &principal, request).await?)))
}

/// Show how far a replay has got
#[utoipa::path(get, path = "/api/v1/replays/{id}", operation_id = "getReplay", tag = "replays",
    params(("id" = uuid::Uuid, Path)),
    responses((status = 200, description = "Here it is", body = Replay), Missing))]
async fn get(
    State(api): State<Arc<Api>>,
    principal: Principal,
    Path(id): Path<String>,
) -> Result<axum::Json<Replay>, Problem> {
    principal.require(Scope::WebhooksRead)?;
    find(&api, &principal, &id).map(|replay| axum::Json(Replay::of(&replay)))
}

/// Cancel a replay
///
/// What it has put on its way and has not arrived is not delivered. Nothing happens to one that was cancelled or has failed.
#[utoipa::path(post, path = "/api/v1/replays/{id}/cancel", operation_id = "cancelReplay", tag = "replays",
    params(("id" = uuid::Uuid, Path)),
    responses((status = 200, description = "It is cancelled", body = Replay), Missing))]
async fn cancel(
    State(api): State<Arc<Api>>,
    principal: Principal,
    Path(id): Path<String>,
) -> Result<axum::Json<Replay>, Problem> {
    stop(&api, &principal, &id).await.map(axum::Json)
}

/// A page of the principal's replays.
///
/// # Errors
/// What is wrong with the parameters.
pub(crate) fn page(
    api: &Api,
    principal: &Principal,
    parameters: &ReplayParameters,
) -> Result<Page<Replay>, Problem> {
    principal.require(Scope::WebhooksRead)?;
    let limit = parameters.limit()?;
    let ReplayParameters { account, webhook, state, cursor, .. } = parameters;
    let account = named_account(api, principal, account.as_deref())?;
    let wanted = match state {
        None => None,
        Some(text) => {
            let known = ReplayState::ALL.iter().find(|state| state.label() == text);
            let detail = "must be `running`, `done`, `cancelled` or `failed`";
            Some(*known.ok_or_else(|| Problem::invalid_field("state", detail))?)
        }
    };
    let before: Option<ReplayId> = match cursor {
        None => None,
        Some(text) => {
            Some(text.parse().map_err(|_| Problem::invalid_field("cursor", "is no page's `next`"))?)
        }
    };
    let mut found: Vec<Replay> = api.look(|all| {
        let is_wanted = |replay: &&Arc<replay::Replay>| {
            before.is_none_or(|before| replay.id < before)
                && account.is_none_or(|account| replay.account == account)
                && webhook.is_none_or(|webhook| replay.webhook == Some(webhook))
                && wanted.is_none_or(|wanted| replay.state == wanted)
                && sees(all, principal, replay)
        };
        all.replays().rev().filter(is_wanted).take(limit + 1).map(|replay| Replay::of(replay)).collect()
    });
    let more_results = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more_results).map(|last| last.id.to_string());
    Ok(Page { results: found, more_results, next })
}

/// An app's own see what is of its webhooks only.
fn sees(state: &hookstream_config::state::State, principal: &Principal, replay: &replay::Replay) -> bool {
    let app_of = |id: WebhookId| state.webhook(id).and_then(|webhook| webhook.app);
    let is_theirs = |id: WebhookId| principal.owns(replay.account, app_of(id)).is_ok();
    match (principal.bound, replay.webhook, &replay.selection) {
        (Bound::App { .. }, Some(webhook), _) => is_theirs(webhook),
        (Bound::App { .. }, None, Selection::Deliveries { deliveries }) => {
            deliveries.iter().all(|picked| is_theirs(picked.webhook))
        }
        _ => principal.owns(replay.account, None).is_ok(),
    }
}

/// One replay that is the principal's.
///
/// # Errors
/// If there is none.
pub(crate) fn find(api: &Api, principal: &Principal, id: &str) -> Result<Arc<replay::Replay>, Problem> {
    let id: ReplayId = id.parse().map_err(|_| Denied::NotFound)?;
    let found = api.look(|state| state.replay(id).filter(|replay| sees(state, principal, replay)).cloned());
    Ok(found.ok_or(Denied::NotFound)?)
}

/// Cancels a replay.
///
/// # Errors
/// If there is none, or it can't be written.
pub(crate) async fn stop(api: &Api, principal: &Principal, id: &str) -> Result<Replay, Problem> {
    principal.require(Scope::WebhooksWrite)?;
    let replay = find(api, principal, id)?;
    api.write(principal, None, vec![Change::CancelReplay { id: replay.id }]).await.map_err(write_problem)?;
    find(api, principal, id).map(|replay| Replay::of(&replay))
}

/// Begins a replay.
///
/// # Errors
/// What is wrong with the request.
pub(crate) async fn start(
    api: &Api,
    principal: &Principal,
    request: ReplayRequest,
) -> Result<Replay, Problem> {
    principal.require(Scope::WebhooksWrite)?;
    let ReplayRequest { account, webhook, events, dead_letters, deliveries, dry_run } = request;
    let webhook: Option<WebhookId> = match &webhook {
        None => None,
        Some(id) => Some(id.parse().map_err(|_| Denied::NotFound)?),
    };
    let mut account = named_account(api, principal, account.as_deref())?;
    if let Some(id) = webhook {
        let of = ready(api, principal, id)?;
        if account.is_some_and(|account| account != of) {
            return Err(Denied::NotFound.into());
        }
        account = Some(of);
    }
    let now = api.now();
    let selection = match (events, dead_letters, deliveries) {
        (Some(events), None, None) => {
            let from = time("/events/from", &events.from)?;
            let until = until("/events/until", from, events.until.as_deref(), now)?;
            let event_types = patterns("/events/eventTypes", events.event_types)?;
            Selection::Events { from, until, event_types }
        }
        (None, Some(dead), None) => {
            let from = dead.from.as_deref().map(|from| time("/deadLetters/from", from));
            let from = from.transpose()?.unwrap_or(UnixMillis(0));
            let until = until("/deadLetters/until", from, dead.until.as_deref(), now)?;
            let event_types = patterns("/deadLetters/eventTypes", dead.event_types)?;
            let reason = dead.reason.as_deref().map(dead_reason).transpose()?;
            Selection::DeadLetters { from, until, reason, event_types }
        }
        (None, None, Some(deliveries)) => {
            if !(1..=MOST_DELIVERIES).contains(&deliveries.len()) {
                return Err(Problem::invalid_field("/deliveries", format!("names 1 to {MOST_DELIVERIES}")));
            }
            let mut picked = Vec::with_capacity(deliveries.len());
            for (index, id) in deliveries.iter().enumerate() {
                let place = || format!("/deliveries/{index}");
                let id: DeliveryId =
                    id.parse().map_err(|_| Problem::invalid_field(place(), "is no delivery's id"))?;
                let (of, one) = api.executions.picked(principal, id).await?;
                if account.is_some_and(|account| account != of) || webhook.is_some_and(|id| id != one.webhook)
                {
                    return Err(Problem::invalid_field(place(), "is of another webhook or account"));
                }
                ready(api, principal, one.webhook)?;
                account = Some(of);
                picked.push(one);
            }
            Selection::Deliveries { deliveries: picked }
        }
        _ => {
            let detail = "name one of `events`, `deadLetters` and `deliveries`";
            return Err(Problem::invalid_field("", detail));
        }
    };
    let is_of_all = webhook.is_none() && !matches!(selection, Selection::Deliveries { .. });
    if is_of_all && matches!(principal.bound, Bound::App { .. }) {
        return Err(Problem::invalid_field("/webhook", "is missing: an app replays to its own webhooks"));
    }
    let account = account.ok_or(Denied::AccountNeeded)?;
    let id = ReplayId(api.new_id());
    let spec = Box::new(ReplaySpec { account, webhook, selection, dry_run });
    let change = Change::StartReplay { id, replay: spec };
    api.write(principal, None, vec![change]).await.map_err(write_problem)?;
    find(api, principal, &id.to_string()).map(|replay| Replay::of(&replay))
}

/// Whose a webhook is that takes part.
fn ready(api: &Api, principal: &Principal, id: WebhookId) -> Result<AccountUid, Problem> {
    let found = api.look(|state| {
        state.webhook(id).map(|webhook| (webhook.account, webhook.app, webhook.state, webhook.name.clone()))
    });
    let (account, app, state, name) = found.ok_or(Denied::NotFound)?;
    principal.owns(account, app)?;
    match state {
        WebhookState::Published | WebhookState::Paused => Ok(account),
        WebhookState::Draft | WebhookState::Unpublished | WebhookState::Disabled => {
            Err(Problem::conflict(format!("the webhook `{name}` gets nothing now: publish it first")))
        }
    }
}

fn time(place: &str, text: &str) -> Result<UnixMillis, Problem> {
    params::time(text).map_err(|detail| Problem::invalid_field(place, detail))
}

fn until(place: &str, from: UnixMillis, text: Option<&str>, now: UnixMillis) -> Result<UnixMillis, Problem> {
    // What comes later comes by itself.
    let until = text.map(|text| time(place, text)).transpose()?.unwrap_or(now).min(now);
    if until < from {
        return Err(Problem::invalid_field(place, "must be after `from`"));
    }
    Ok(until)
}

fn patterns(place: &str, patterns: Vec<String>) -> Result<Vec<String>, Problem> {
    if patterns.len() > MOST_TYPES || patterns.iter().any(|pattern| pattern.len() > 256) {
        return Err(Problem::invalid_field(
            place,
            format!("has at most {MOST_TYPES} names of 256 characters"),
        ));
    }
    Ok(patterns)
}

fn dead_reason(text: &str) -> Result<DeadReason, Problem> {
    let known = DeadReason::ALL.iter().find(|reason| reason.label() == text);
    let detail = "must be `exhausted`, `rejected`, `gone` or `unsendable`";
    known.copied().ok_or_else(|| Problem::invalid_field("/deadLetters/reason", detail))
}
