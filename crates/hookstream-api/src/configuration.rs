//! `/api/v1/configuration`: webhooks as the profile platform knows them, with four operations and six fields.
//!
//! They are the same webhooks: profile types × event types are the event types `TRAVELLER.UPDATE`…, the payload is a
//! profile's notification, signed over its body. Who wants more sends more: every other field of a webhook may be there.

use std::ops::ControlFlow;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use hookstream_core::config::entity_and_action;
use hookstream_wire::config::WebhookRecord;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::{Principal, Scope};
use crate::api::{Api, Shared};
use crate::description::{Changed, Created, Patch, Unfit, scoped};
use crate::problem::{FieldError, Problem};
use crate::request::{Body, ListParameters, Parameters};
use crate::resources::documents::Sensitive;
use crate::resources::webhooks::Webhooks;
use crate::resources::{self, Kinds as _, merged};

/// The header of the signature, unless the webhook says.
const SIGNATURE_HEADER: &str = "X-Signature";

/// A webhook in a list.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProfileWebhook {
    pub uuid: String,
    pub name: String,
    /// `TRAVELLER`, `CORPORATE`
    pub profile_types: Vec<String>,
    /// `CREATE`, `UPDATE`, `DELETE`
    pub event_types: Vec<String>,
    pub url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Sensitive>,
}

/// A new webhook.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NewProfileWebhook {
    pub name: String,
    pub profile_types: Vec<String>,
    pub event_types: Vec<String>,
    pub url: String,
    pub secret: String,
    /// `DRAFT`: it stays inactive, and is not pinged, until it is published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

type Patched = Patch<NewProfileWebhook>;

/// A page.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProfilePage {
    pub more_results: bool,
    pub results: Vec<ProfileWebhook>,
}

#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Search {
    /// Free text; may be empty, must be there.
    #[param(required = true)]
    q: Option<String>,
    /// From 0.
    #[param(value_type = Option<u64>, default = 0)]
    page: Option<String>,
    /// 1 to 100.
    #[param(value_type = Option<u64>, default = 10, minimum = 1, maximum = 100)]
    page_size: Option<String>,
}

impl Search {
    fn checked(&self) -> Result<(String, usize, usize), Problem> {
        let mut errors = Vec::new();
        let mut number = |name: &str, text: &Option<String>, usual: usize, least: usize, most: usize| {
            let Some(text) = text else { return usual };
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let parsed = text.parse::<usize>().ok().filter(|_| digits).filter(|n| (least..=most).contains(n));
            parsed.unwrap_or_else(|| {
                let bounds = if most == usize::MAX {
                    format!("{least} or more")
                } else {
                    format!("{least} to {most}")
                };
                errors.push(FieldError::new(name, format!("must be a number, {bounds}")));
                usual
            })
        };
        let page = number("page", &self.page, 0, 0, usize::MAX);
        let page_size = number("pageSize", &self.page_size, 10, 1, 100);
        if self.q.is_none() {
            errors.insert(0, FieldError::new("q", "is missing: send `q=` for all"));
        }
        if errors.is_empty() {
            Ok((self.q.clone().unwrap_or_default(), page, page_size))
        } else {
            Err(Problem::invalid(errors))
        }
    }
}

/// Search webhooks
#[utoipa::path(get, path = "/api/v1/configuration/webhooks", tag = "profile platform", operation_id = "searchProfileWebhooks",
    params(Search),
    responses(
        (status = 200, description = "A page", body = ProfilePage),
    ))]
async fn search(
    State(api): State<Arc<Api>>,
    principal: Principal,
    Parameters(search): Parameters<Search>,
) -> Result<axum::Json<Value>, Problem> {
    principal.require(Scope::WebhooksRead)?;
    let (words, page, page_size) = search.checked()?;
    let words = words.to_lowercase();
    let mut results = Vec::new();
    let mut more = false;
    let mut skip = page.saturating_mul(page_size);
    let take = |_, document: Value| {
        if !resources::has_text(&document, &words) {
            return ControlFlow::Continue(());
        }
        if skip > 0 {
            skip -= 1;
        } else if results.len() == page_size {
            more = true;
            return ControlFlow::Break(());
        } else {
            results.push(shown(&document, false));
        }
        ControlFlow::Continue(())
    };
    let asked = ListParameters::default();
    let matches = |webhook: &WebhookRecord| Webhooks::matches(webhook, &asked, &words);
    let account = principal.bound.account();
    resources::scan::<Webhooks>(&api, &principal, account, String::new(), matches, take).await;
    Ok(axum::Json(json!({ "moreResults": more, "results": results })))
}

/// Register a webhook: its URL is pinged first
#[utoipa::path(post, path = "/api/v1/configuration/webhook", tag = "profile platform", operation_id = "createProfileWebhook",
    request_body = NewProfileWebhook,
    responses(
        (status = 201, description = "Registered", body = ProfileWebhook),
        Created, Unfit,
    ))]
async fn create(
    State(api): State<Arc<Api>>,
    principal: Principal,
    headers: HeaderMap,
    Body(mut body): Body,
) -> Result<Response, Problem> {
    principal.require(Scope::WebhooksWrite)?;
    body.remove("uuid");
    let missing: Vec<_> = ["name", "profileTypes", "eventTypes", "url", "secret"]
        .into_iter()
        .filter(|field| !body.contains_key(*field))
        .map(|field| FieldError::new(format!("/{field}"), "is missing"))
        .collect();
    if !missing.is_empty() {
        return Err(Problem::invalid(missing));
    }
    let body = rich(body);
    let created = resources::create_one::<Webhooks>(&api, &principal, &headers, body).await.map_err(named)?;
    Ok((StatusCode::CREATED, axum::Json(shown(&created.shown.document, true))).into_response())
}

/// Change a webhook: its URL is pinged first
#[utoipa::path(patch, path = "/api/v1/configuration/webhook/{uuid}", tag = "profile platform", operation_id = "updateProfileWebhook",
    params(("uuid" = String, Path)),
    request_body(content = Patched, content_type = "application/merge-patch+json",
        description = "The fields that change; `application/json` is read as the same"),
    responses(
        (status = 200, description = "Changed", body = ProfileWebhook),
        Changed, Unfit,
    ))]
async fn change(
    State(api): State<Arc<Api>>,
    principal: Principal,
    Path(uuid): Path<String>,
    headers: HeaderMap,
    Body(mut body): Body,
) -> Result<axum::Json<Value>, Problem> {
    body.remove("uuid");
    let merge = |document: &Value| {
        let mut patch = body.clone();
        if patch.contains_key("profileTypes") || patch.contains_key("eventTypes") {
            let (entities, actions) = halves(document);
            let entities = patch.remove("profileTypes").unwrap_or_else(|| json!(entities));
            patch.entry("eventTypes").or_insert_with(|| json!(actions));
            patch.insert("entities".to_owned(), entities);
        }
        merged(document, &patch)
    };
    let changed =
        resources::update::<Webhooks>(&api, &principal, &uuid, &headers, merge).await.map_err(named)?;
    Ok(axum::Json(shown(&changed.document, true)))
}

/// Remove a webhook
#[utoipa::path(delete, path = "/api/v1/configuration/webhook/{uuid}", tag = "profile platform", operation_id = "deleteProfileWebhook",
    params(("uuid" = String, Path)),
    responses(
        (status = 204, description = "Removed"),
        Changed,
    ))]
async fn remove(
    State(api): State<Arc<Api>>,
    principal: Principal,
    Path(uuid): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    resources::delete::<Webhooks>(&api, &principal, &uuid, &headers).await
}

pub(crate) fn router() -> OpenApiRouter<Shared> {
    let router =
        OpenApiRouter::new().routes(routes!(search)).routes(routes!(create)).routes(routes!(change, remove));
    scoped(router, Webhooks::READ, Webhooks::WRITE)
}

/// The webhook's document of a request's, with what is usual here.
fn rich(mut body: Map<String, Value>) -> Map<String, Value> {
    if let Some(entities) = body.remove("profileTypes") {
        body.insert("entities".to_owned(), entities);
    }
    body.entry("payload").or_insert_with(|| json!("profile"));
    body.entry("signature").or_insert_with(|| json!({ "hmacSha256Hex": SIGNATURE_HEADER }));
    body
}

/// Profile types and event types, each once, in their order.
fn halves(document: &Value) -> (Vec<String>, Vec<String>) {
    let patterns = document.get("eventTypes").and_then(Value::as_array);
    let (mut entities, mut actions): (Vec<String>, Vec<String>) = Default::default();
    for pattern in patterns.into_iter().flatten().filter_map(Value::as_str) {
        let (entity, action) = entity_and_action(pattern);
        for (list, part) in [(&mut entities, entity), (&mut actions, action)] {
            if !part.is_empty() && !list.iter().any(|known| known == part) {
                list.push(part.to_owned());
            }
        }
    }
    (entities, actions)
}

fn shown(document: &Value, with_secret: bool) -> Value {
    let (profile_types, event_types) = halves(document);
    let mut out = json!({
        "uuid": document["id"],
        "name": document["name"],
        "profileTypes": profile_types,
        "eventTypes": event_types,
        "url": document["url"],
    });
    if with_secret {
        out["secret"] = json!({ "sensitiveValuePresent": true });
    }
    out
}

/// Fields by the names that they have here.
fn named(mut problem: Problem) -> Problem {
    for error in &mut problem.errors {
        if let Some(rest) = error.field.strip_prefix("/entities") {
            error.field = format!("/profileTypes{rest}");
        }
    }
    problem.detail = problem.detail.replace("/entities", "/profileTypes");
    problem
}
