//! `/api/v1/portal-links`: links with which a customer gets to the webhooks that are theirs, and to nothing else.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use hookstream_config::manifest::render;
use hookstream_config::resolve::Names;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::{Bound, Denied, Principal, Scope};
use crate::api::{Api, Shared, named_account};
use crate::console::Portal;
use crate::description::{Missing, scoped};
use crate::problem::Problem;
use crate::request::Typed;

/// How long somebody may work, unless the request says.
const LIFETIME: Duration = Duration::from_secs(3600);
const SHORTEST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Whose portal, and for how long.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PortalRequest {
    /// By name or uid; needed if the token is bound to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// By name or id: only the webhooks of this app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// How long the portal stays open, `1m` to `24h`; else `1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "1h")]
    pub lifetime: Option<String>,
}

/// A link to a portal.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PortalLink {
    /// Who follows it may manage the webhooks: it is a secret.
    pub url: String,
    /// Until when it can be followed.
    #[schema(format = DateTime)]
    pub expires_at: String,
}

pub(crate) fn router() -> OpenApiRouter<Shared> {
    scoped(OpenApiRouter::new().routes(routes!(create)), Scope::WebhooksWrite, Scope::WebhooksWrite)
}

/// Make a link to a portal: the webhooks of one account or app, for the customer whose they are
///
/// The link can be followed for five minutes, and shown in a frame by the origins that the settings name.
#[utoipa::path(
    post,
    path = "/api/v1/portal-links",
    operation_id = "createPortalLink",
    tag = "portal",
    request_body = PortalRequest,
    responses(
        (status = 201, description = "The link", body = PortalLink),
        Missing,
    )
)]
async fn create(
    State(api): State<Arc<Api>>,
    principal: Principal,
    Typed(request): Typed<PortalRequest>,
) -> Result<(StatusCode, axum::Json<PortalLink>), Problem> {
    principal.require(Scope::WebhooksWrite)?;
    let account =
        named_account(&api, &principal, request.account.as_deref())?.ok_or(Denied::AccountNeeded)?;
    let named = request.app.as_deref();
    let named =
        named.map(|app| api.look(|state| Names::new(state).app(account, app)).ok_or(Denied::NotFound));
    let app = match (principal.bound, named.transpose()?) {
        // An app's own client can hand on no more than the app has.
        (Bound::App { app: own, .. }, Some(app)) if app != own => return Err(Denied::NotFound.into()),
        (Bound::App { app, .. }, _) => Some(app),
        (Bound::Everything | Bound::Account(_), app) => app,
    };
    let lifetime = match request.lifetime {
        None => LIFETIME,
        Some(text) => hookstream_settings::parse_duration(&text)
            .ok()
            .filter(|lifetime| (SHORTEST..=LONGEST).contains(lifetime))
            .ok_or_else(|| Problem::invalid_field("/lifetime", "must be `1m` to `24h`"))?,
    };
    let portal = Portal { account, app, by: principal.client };
    let (path, until) = api.links.make(portal, lifetime, api.now()).ok_or_else(Problem::internal)?;
    let link = PortalLink { url: format!("{}{path}", api.url), expires_at: render::time(until) };
    Ok((StatusCode::CREATED, axum::Json(link)))
}
