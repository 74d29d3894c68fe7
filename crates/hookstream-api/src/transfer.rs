//! The whole configuration as one document: `apply` makes it so, `export` shows it.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use bytes::Bytes;
use hookstream_config::apply::{Action, Item, Options, Plan, diff};
use hookstream_config::manifest::{Manifest, render};
use hookstream_config::{Change, Refused, WriteError, os_random};
use hookstream_core::config::{Verification, Webhook, WebhookState};
use hookstream_core::request::handshake::Agreed;
use hookstream_types::WebhookId;
use hookstream_wire::config::Key;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::{Bound, Denied, Principal, Scope};
use crate::api::{Api, Shared, document_problem, refused_problem, write_problem};
use crate::description::{Applied, scoped};
use crate::problem::{FieldError, Kind, Problem};
use crate::request::Parameters;
use crate::resources::kinds::credentials_error;
use crate::resources::webhooks::{self, preview};

/// Bytes of a document: some hundred thousand webhooks.
pub const MAX_DOCUMENT_BYTES: usize = 128 * 1024 * 1024;
/// Endpoints that are pinged at a time.
const PINGS: usize = 32;

#[derive(Clone, Copy, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct How {
    /// Show the difference and change nothing.
    #[serde(default)]
    dry_run: bool,
    /// Also delete what the document's sections do not name.
    #[serde(default)]
    prune: bool,
}

/// What was done, or is to be.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// False: a dry run, or nothing was to be done.
    pub applied: bool,
    pub resources: Vec<ResourceOutcome>,
    /// Secrets that were made for new webhooks: shown once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub generated: Vec<GeneratedSecret>,
}

/// What happens to one resource.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceOutcome {
    pub kind: String,
    pub name: String,
    /// `create`, `update`, `delete`, `unchanged`
    pub action: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldOutcome>,
}

/// A field that changes. Of a secret it is said only that it does.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct FieldOutcome {
    pub field: String,
    pub before: String,
    pub after: String,
}

/// A secret that was made here.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct GeneratedSecret {
    /// `account/name`
    pub webhook: String,
    pub secret: String,
}

fn operator(principal: &Principal) -> Result<(), Denied> {
    principal.require(Scope::Admin)?;
    if principal.bound == Bound::Everything { Ok(()) } else { Err(Denied::Scope(Scope::Admin)) }
}

/// Show the configuration as a document that can be applied; without secrets
#[utoipa::path(get, path = "/api/v1/export", tag = "configuration", operation_id = "exportConfiguration",
    responses(
        (status = 200, description = "The document", body = Object),
    ))]
async fn export(State(api): State<Arc<Api>>, principal: Principal) -> Result<axum::Json<Value>, Problem> {
    operator(&principal)?;
    api.refresh().await?;
    Ok(axum::Json(api.look(render::export)))
}

/// Make the configuration match a document; all of it is checked before anything is written
#[utoipa::path(post, path = "/api/v1/apply", tag = "configuration", operation_id = "applyConfiguration",
    params(How),
    request_body(content = Object, description = "As `/api/v1/export` gives it; secrets that are not in it stay"),
    responses(
        (status = 200, description = "What was done, or is to be", body = Outcome), Applied,
    ))]
async fn apply(
    State(api): State<Arc<Api>>,
    principal: Principal,
    Parameters(how): Parameters<How>,
    request: axum::extract::Request,
) -> Result<axum::Json<Outcome>, Problem> {
    operator(&principal)?;
    let body: Bytes = axum::body::to_bytes(request.into_body(), MAX_DOCUMENT_BYTES).await.map_err(|_| {
        let detail =
            format!("the document has more than {MAX_DOCUMENT_BYTES} bytes, or broke off: send it in parts");
        Problem::new(Kind::TooLarge, detail)
    })?;
    // A large one takes seconds.
    let read = tokio::task::spawn_blocking(move || Manifest::parse_json(&body)).await;
    let manifest = read.map_err(|_| Problem::internal())?.map_err(document_problem)?;
    api.refresh().await?;
    let options = Options { prune: how.prune, now: api.now() };
    let planned = Arc::clone(&api);
    let plan = move || planned.look(|state| diff(state, &manifest, options, &mut os_random));
    let plan = tokio::task::spawn_blocking(plan).await.map_err(|_| Problem::internal())?;
    let mut plan = plan.map_err(document_problem)?;
    let errors = egress_errors(&api, &plan);
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    let resources = plan.items.iter().map(outcome).collect();
    let unverified = rehearse(&api, &plan).await?;
    if how.dry_run || plan.is_empty() {
        return Ok(axum::Json(Outcome { applied: false, resources, generated: Vec::new() }));
    }
    let mut agreed = verify(&api, unverified).await?;
    for change in &mut plan.changes {
        if let Change::PutWebhook { id, webhook, .. } = change {
            webhook.agreed = agreed.remove(id).or(webhook.agreed);
        }
    }
    for changes in plan.writes() {
        api.write(&principal, None, changes).await.map_err(|error| refusal(error, &plan))?;
    }
    let generated = plan
        .generated
        .into_iter()
        .map(|(webhook, secret)| GeneratedSecret { webhook, secret: secret.expose().to_owned() });
    Ok(axum::Json(Outcome { applied: true, resources, generated: generated.collect() }))
}

/// What the way out would refuse of what is created or updated, by its place in the document.
fn egress_errors(api: &Api, plan: &Plan) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut add = |kind: &str, place: Option<usize>, found: Vec<FieldError>| {
        let place = place.unwrap_or_default();
        errors.extend(
            found
                .into_iter()
                .map(|error| FieldError { field: format!("/{kind}/{place}{}", error.field), ..error }),
        );
    };
    let mut webhooks = places(&plan.items, "webhook");
    let mut authorizations = places(&plan.items, "authorization");
    for change in &plan.changes {
        match change {
            Change::PutWebhook { id, webhook, .. } => {
                let old = api.look(|state| state.webhook(*id).cloned());
                add("webhooks", webhooks.next(), webhooks::endpoint_errors(api, webhook, old.as_ref()));
            }
            Change::PutAuthorization { authorization, .. } => {
                let error = credentials_error(api, &authorization.credentials);
                add("authorizations", authorizations.next(), error.into_iter().collect());
            }
            _ => {}
        }
    }
    errors
}

/// A webhook that is to be published: its place in the document, how it would be, and whether it is pinged.
type Unverified = (usize, (Webhook, Verification));

/// Whether all of it may be made. What would be published is seen as it would be: with what else the document brings.
async fn rehearse(api: &Api, plan: &Plan) -> Result<Vec<Unverified>, Problem> {
    let places: Vec<usize> = places(&plan.items, "webhook").collect();
    let webhooks = plan.changes.iter().filter_map(|change| match change {
        Change::PutWebhook { id, webhook, .. } => Some((*id, webhook.clone())),
        _ => None,
    });
    let webhooks = places.into_iter().zip(webhooks);
    let published: Vec<_> =
        webhooks.filter(|(_, (_, webhook))| webhook.state == WebhookState::Published).collect();
    let look = move |state: &hookstream_config::State| {
        let preview = |(idx, (id, webhook)): &(usize, (_, Box<_>))| Ok((*idx, preview(state, *id, webhook)?));
        published.iter().map(preview).collect()
    };
    let rehearsed = api.writer.rehearse(plan.changes.clone(), api.now(), look).await;
    rehearsed.map_err(|error| refusal(error, plan))?
}

/// Why it can't be written, with the names that the document has instead of ids.
fn refusal(error: WriteError, plan: &Plan) -> Problem {
    let WriteError::Refused { refused, .. } = error else { return write_problem(error) };
    let mut problem = match &refused {
        // It was there when the difference was found.
        Refused::Missing { .. } => Problem::new(Kind::Changed, String::new()),
        refused => refused_problem(refused),
    };
    if problem.reference != Kind::Internal.reference() {
        problem.detail = refused.to_string();
    }
    let ids = plan.changes.iter().filter_map(|change| match change {
        Change::PutAccount { uid, account, .. } => Some((Key::Account(*uid), &account.name)),
        Change::PutApp { id, app, .. } => Some((Key::App(*id), &app.name)),
        Change::PutAuthorization { id, authorization, .. } => {
            Some((Key::Authorization(*id), &authorization.name))
        }
        Change::PutWebhook { id, webhook, .. } => Some((Key::Webhook(*id), &webhook.name)),
        _ => None,
    });
    for (key, name) in ids {
        problem.detail = problem.detail.replace(&key.to_string(), &format!("{} {name}", key.kind()));
    }
    // They point into one resource, not into the document.
    problem.errors.clear();
    problem
}

/// Pings the endpoints.
async fn verify(api: &Arc<Api>, unverified: Vec<Unverified>) -> Result<BTreeMap<WebhookId, Agreed>, Problem> {
    let mut pinging = tokio::task::JoinSet::new();
    let mut errors = Vec::new();
    let mut agreed = BTreeMap::new();
    let mut note = |(idx, id): (usize, WebhookId), outcome: Result<Option<Agreed>, Problem>| match outcome {
        Ok(None) => {}
        Ok(Some(terms)) => drop(agreed.insert(id, terms)),
        Err(problem) => errors.push((idx, problem.detail)),
    };
    for (idx, preview) in unverified {
        if pinging.len() >= PINGS
            && let Some(Ok((idx, outcome))) = pinging.join_next().await
        {
            note(idx, outcome);
        }
        let api = Arc::clone(api);
        let id = preview.0.id;
        pinging.spawn(async move { ((idx, id), webhooks::verify(&api, preview).await) });
    }
    while let Some(joined) = pinging.join_next().await {
        match joined {
            Ok((idx, outcome)) => note(idx, outcome),
            Err(_) => return Err(Problem::internal()),
        }
    }
    if errors.is_empty() {
        return Ok(agreed);
    }
    errors.sort();
    let errors = errors.into_iter().map(|(idx, detail)| FieldError::new(format!("/webhooks/{idx}"), detail));
    Err(Problem::of_errors(Kind::NotVerified, errors.collect()))
}

/// Where what is created or updated of a kind stands in the document, in its order.
fn places<'a>(items: &'a [Item], kind: &'a str) -> impl Iterator<Item = usize> + 'a {
    let listed = items.iter().filter(move |item| item.kind == kind && item.action != Action::Delete);
    let changed = |(_, item): &(usize, &Item)| item.action != Action::Unchanged;
    listed.enumerate().filter(changed).map(|(idx, _)| idx)
}

fn outcome(item: &Item) -> ResourceOutcome {
    let (action, fields) = match &item.action {
        Action::Create => ("create", &[][..]),
        Action::Update(fields) => ("update", &fields[..]),
        Action::Delete => ("delete", &[][..]),
        Action::Unchanged => ("unchanged", &[][..]),
    };
    let field = |change: &hookstream_config::apply::FieldChange| FieldOutcome {
        field: change.field.clone(),
        before: change.before.clone(),
        after: change.after.clone(),
    };
    ResourceOutcome {
        kind: item.kind.clone().into_owned(),
        name: item.name.clone(),
        action: action.to_owned(),
        fields: fields.iter().map(field).collect(),
    }
}

pub(crate) fn router() -> OpenApiRouter<Shared> {
    scoped(OpenApiRouter::new().routes(routes!(export)).routes(routes!(apply)), Scope::Admin, Scope::Admin)
}
