//! The whole configuration as one document: `apply` makes it so, `export` shows it.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use bytes::Bytes;
use hookstream_config::apply::{Action, Item, Options, Plan, diff};
use hookstream_config::manifest::{self, Manifest, render};
use hookstream_config::{Change, os_random};
use hookstream_core::config::Verification;
use hookstream_types::AccountUid;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::{Bound, Denied, Principal, Scope};
use crate::api::{Api, Shared, document_problem, write_problem};
use crate::description::{Applied, scoped};
use crate::problem::{FieldError, Kind, Problem};
use crate::request::Parameters;
use crate::resources::{Kinds as _, Planned, webhooks::Webhooks};

/// Bytes of a document: some hundred thousand webhooks.
const MAX_BYTES: usize = 128 * 1024 * 1024;
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

/// Make the configuration match a document, as a whole or not at all
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
    let body: Bytes = axum::body::to_bytes(request.into_body(), MAX_BYTES)
        .await
        .map_err(|_| Problem::new(Kind::TooLarge, "the document is too large, or broke off"))?;
    let text = std::str::from_utf8(&body).map_err(|_| Problem::invalid_field("", "must be UTF-8"))?;
    let manifest = Manifest::parse(text, &manifest::resolve_nothing).map_err(document_problem)?;
    api.refresh().await?;
    let options = Options { prune: how.prune, now: api.now() };
    let plan = api.look(|state| diff(state, &manifest, options, &mut os_random)).map_err(document_problem)?;
    let resources = plan.items.iter().map(outcome).collect();
    if how.dry_run || plan.is_empty() {
        return Ok(axum::Json(Outcome { applied: false, resources, generated: Vec::new() }));
    }
    verify(&api, &plan).await?;
    let Plan { changes, generated, .. } = plan;
    for part in changes.chunks(hookstream_config::apply::CHANGES_PER_WRITE) {
        api.write(&principal, None, part.to_vec()).await.map_err(write_problem)?;
    }
    let generated = generated
        .into_iter()
        .map(|(webhook, secret)| GeneratedSecret { webhook, secret: secret.expose().to_owned() });
    Ok(axum::Json(Outcome { applied: true, resources, generated: generated.collect() }))
}

/// Pings the endpoints of all webhooks that are to be published, unless their account asks for none.
async fn verify(api: &Arc<Api>, plan: &Plan) -> Result<(), Problem> {
    let mut pinging = tokio::task::JoinSet::new();
    let mut errors = Vec::new();
    let mut note = |name: String, outcome: Result<(), Problem>| {
        if let Err(problem) = outcome {
            errors.push(FieldError::new(name, problem.detail));
        }
    };
    let mut planned: BTreeMap<AccountUid, Verification> = BTreeMap::new();
    for change in &plan.changes {
        if let Change::PutAccount { uid, account, .. } = change {
            planned.insert(*uid, account.verification);
        }
        let Change::PutWebhook { webhook, .. } = change else { continue };
        if planned.get(&webhook.account) == Some(&Verification::None) {
            continue;
        }
        if pinging.len() >= PINGS
            && let Some(Ok((name, outcome))) = pinging.join_next().await
        {
            note(name, outcome);
        }
        let (api, name) = (Arc::clone(api), webhook.name.clone());
        let change = Planned { change: change.clone(), generated: None };
        pinging.spawn(async move { (name, Webhooks::verify(&api, &change).await) });
    }
    while let Some(joined) = pinging.join_next().await {
        match joined {
            Ok((name, outcome)) => note(name, outcome),
            Err(_) => return Err(Problem::internal()),
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Problem::of_errors(Kind::NotVerified, errors)) }
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
        kind: item.kind.to_owned(),
        name: item.name.clone(),
        action: action.to_owned(),
        fields: fields.iter().map(field).collect(),
    }
}

pub(crate) fn router() -> OpenApiRouter<Shared> {
    scoped(OpenApiRouter::new().routes(routes!(export)).routes(routes!(apply)), Scope::Admin, Scope::Admin)
}
