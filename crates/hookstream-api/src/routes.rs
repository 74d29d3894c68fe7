//! Paths, methods, and their description: the OpenAPI document is made of these.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::{Principal, Scope};
use crate::api::{Api, Shared};
use crate::description::{Changed, Created, Missing, Nothing, Patch, Unfit, body_optional, scoped};
use crate::problem::{PingReport, Problem};
use crate::request::{Body, ListParameters, Page, Parameters, Typed};
use crate::resources::webhooks::{Action, Webhooks};
use crate::resources::{self, Kinds as _, documents, kinds, merged};

type ApiState = State<Arc<Api>>;

macro_rules! resource {
    ($module:ident: $kind:ty, $document:ident, $unfit:ident, $all:literal, $one:literal, $tag:literal, $about:literal) => {
        mod $module {
            use super::*;
            use documents::$document;

            type Listed = Page<$document>;
            type Patched = Patch<$document>;

            #[utoipa::path(get, path = $all, tag = $tag, operation_id = concat!("list", stringify!($document), "s"),
                summary = concat!("List ", $tag),
                params(ListParameters),
                responses((status = 200, description = "A page", body = Listed), Missing))]
            pub(super) async fn list(
                State(api): ApiState,
                principal: Principal,
                Parameters(parameters): Parameters<ListParameters>,
            ) -> Result<axum::Json<Page<Value>>, Problem> {
                resources::list::<$kind>(&api, &principal, &parameters).await.map(axum::Json)
            }

            #[utoipa::path(post, path = $all, tag = $tag, operation_id = concat!("create", stringify!($document)),
                summary = concat!("Create ", $about),
                request_body = $document,
                params(("Idempotency-Key" = Option<String>, Header, description = "The same again creates nothing more")),
                responses(
                    (status = 201, description = "Created", body = $document, headers(
                        ("ETag", description = "Its revision"),
                        ("Location", description = "Where it is"),
                        ("Idempotency-Replayed", description = "`true`: an earlier request with the key created it"),
                    )),
                    Created, $unfit,
                ))]
            pub(super) async fn create(
                State(api): ApiState,
                principal: Principal,
                headers: HeaderMap,
                Body(body): Body,
            ) -> Result<Response, Problem> {
                resources::create::<$kind>(&api, &principal, &headers, body).await
            }

            #[utoipa::path(get, path = $one, tag = $tag, operation_id = concat!("get", stringify!($document)),
                summary = concat!("Show ", $about),
                params(("id" = String, Path)),
                responses(
                    (status = 200, description = "Here it is", body = $document, headers(("ETag", description = "Its revision"))),
                    Missing,
                ))]
            pub(super) async fn get(
                State(api): ApiState,
                principal: Principal,
                Path(id): Path<String>,
            ) -> Result<Response, Problem> {
                resources::get::<$kind>(&api, &principal, &id)
            }

            #[utoipa::path(put, path = $one, tag = $tag, operation_id = concat!("replace", stringify!($document)),
                summary = concat!("Replace ", $about),
                params(("id" = String, Path), ("If-Match" = Option<String>, Header, description = "The `ETag` that is expected")),
                request_body = $document,
                responses(
                    (status = 200, description = "Replaced", body = $document, headers(("ETag", description = "Its revision"))),
                    Changed, $unfit,
                ))]
            pub(super) async fn replace(
                State(api): ApiState,
                principal: Principal,
                Path(id): Path<String>,
                headers: HeaderMap,
                Body(body): Body,
            ) -> Result<Response, Problem> {
                let updated =
                    resources::update::<$kind>(&api, &principal, &id, &headers, |_| body.clone()).await?;
                Ok(updated.answer(StatusCode::OK))
            }

            #[utoipa::path(patch, path = $one, tag = $tag, operation_id = concat!("update", stringify!($document)),
                summary = concat!("Change ", $about),
                params(("id" = String, Path), ("If-Match" = Option<String>, Header, description = "The `ETag` that is expected")),
                request_body(content = Patched, content_type = "application/merge-patch+json",
                    description = "JSON merge patch (RFC 7396): the fields that change; null removes one. `application/json` is read as the same"),
                responses(
                    (status = 200, description = "Changed", body = $document, headers(("ETag", description = "Its revision"))),
                    Changed, $unfit,
                ))]
            pub(super) async fn change(
                State(api): ApiState,
                principal: Principal,
                Path(id): Path<String>,
                headers: HeaderMap,
                Body(body): Body,
            ) -> Result<Response, Problem> {
                let merge = |document: &Value| merged(document, &body);
                let updated = resources::update::<$kind>(&api, &principal, &id, &headers, merge).await?;
                Ok(updated.answer(StatusCode::OK))
            }

            #[utoipa::path(delete, path = $one, tag = $tag, operation_id = concat!("delete", stringify!($document)),
                summary = concat!("Delete ", $about),
                params(("id" = String, Path), ("If-Match" = Option<String>, Header, description = "The `ETag` that is expected")),
                responses((status = 204, description = "Deleted"), Changed))]
            pub(super) async fn delete(
                State(api): ApiState,
                principal: Principal,
                Path(id): Path<String>,
                headers: HeaderMap,
            ) -> Result<Response, Problem> {
                resources::delete::<$kind>(&api, &principal, &id, &headers).await
            }

            pub(super) fn router() -> OpenApiRouter<Shared> {
                let router = OpenApiRouter::new()
                    .routes(routes!(list, create))
                    .routes(routes!(get, replace, change, delete));
                let write = if <$kind>::OPERATORS { Scope::Admin } else { <$kind>::WRITE };
                scoped(router, <$kind>::READ, write)
            }
        }
    };
}

resource!(accounts: kinds::Accounts, Account, Nothing,
    "/api/v1/accounts", "/api/v1/accounts/{id}", "accounts", "an account");
resource!(sources: kinds::Sources, Source, Nothing,
    "/api/v1/sources", "/api/v1/sources/{id}", "sources", "a source");
resource!(event_types: kinds::EventTypes, EventType, Nothing,
    "/api/v1/event-types", "/api/v1/event-types/{id}", "event types", "an event type");
resource!(apps: kinds::Apps, App, Nothing,
    "/api/v1/apps", "/api/v1/apps/{id}", "apps", "an app");
resource!(authorizations: kinds::Authorizations, Authorization, Nothing,
    "/api/v1/authorizations", "/api/v1/authorizations/{id}", "authorizations", "an authorization");
resource!(clients: kinds::Clients, ApiClient, Nothing,
    "/api/v1/clients", "/api/v1/clients/{id}", "clients", "a client");
resource!(webhooks: Webhooks, Webhook, Unfit,
    "/api/v1/webhooks", "/api/v1/webhooks/{id}", "webhooks", "a webhook");

macro_rules! action {
    ($name:ident, $action:ident, $path:literal, $about:literal) => {
        #[utoipa::path(post, path = $path, tag = "webhooks", operation_id = concat!(stringify!($name), "Webhook"),
            summary = $about,
            params(("id" = String, Path), ("If-Match" = Option<String>, Header, description = "The `ETag` that is expected")),
            responses(
                (status = 200, description = "Done, or so already", body = documents::Webhook, headers(("ETag", description = "Its revision"))),
                Changed, Unfit,
            ))]
        async fn $name(
            State(api): ApiState,
            principal: Principal,
            Path(id): Path<String>,
            headers: HeaderMap,
        ) -> Result<Response, Problem> {
            let shown = resources::webhooks::act(&api, &principal, &id, &headers, Action::$action).await?;
            Ok(shown.answer(StatusCode::OK))
        }
    };
}

action!(publish, Publish, "/api/v1/webhooks/{id}/publish", "Publish a webhook: its endpoint is pinged first");
action!(
    unpublish,
    Unpublish,
    "/api/v1/webhooks/{id}/unpublish",
    "Unpublish a webhook: its waiting deliveries are skipped"
);
action!(pause, Pause, "/api/v1/webhooks/{id}/pause", "Pause a webhook: its deliveries wait");
action!(
    resume,
    Resume,
    "/api/v1/webhooks/{id}/resume",
    "Resume a paused webhook: its endpoint is pinged first"
);

/// Copy a webhook, secrets included, as a draft
#[utoipa::path(post, path = "/api/v1/webhooks/{id}/duplicate", tag = "webhooks", operation_id = "duplicateWebhook",
    params(
        ("id" = String, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "The same again copies nothing more")
    ),
    request_body = documents::WebhookCopy,
    responses(
        (status = 201, description = "The copy", body = documents::Webhook, headers(("ETag", description = "Its revision"))),
        Created,
    ))]
async fn duplicate(
    State(api): ApiState,
    principal: Principal,
    Path(id): Path<String>,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Problem> {
    let copy = resources::webhooks::duplicate(&api, &principal, &id, &headers, &body).await?;
    Ok(copy.answer::<Webhooks>())
}

/// Ping a webhook's endpoint
#[utoipa::path(post, path = "/api/v1/webhooks/{id}/ping", tag = "webhooks", operation_id = "pingWebhook",
    params(("id" = String, Path)),
    responses((status = 200, description = "What came of it, good or bad", body = PingReport), Missing, Unfit))]
async fn ping(
    State(api): ApiState,
    principal: Principal,
    Path(id): Path<String>,
) -> Result<axum::Json<PingReport>, Problem> {
    resources::webhooks::ping_now(&api, &principal, &id).await.map(axum::Json)
}

/// Send a sample event to a webhook's endpoint
#[utoipa::path(post, path = "/api/v1/webhooks/{id}/test", tag = "webhooks", operation_id = "testWebhook",
    params(("id" = String, Path)),
    request_body = documents::TestEvent,
    responses((status = 200, description = "What came of it, good or bad", body = PingReport), Missing, Unfit))]
async fn test(
    State(api): ApiState,
    principal: Principal,
    Path(id): Path<String>,
    Body(body): Body,
) -> Result<axum::Json<PingReport>, Problem> {
    resources::webhooks::test(&api, &principal, &id, &body).await.map(axum::Json)
}

/// Give a webhook a new secret; the old one counts for a while (`overlap`, 24 h)
#[utoipa::path(post, path = "/api/v1/webhooks/{id}/rotate-secret", tag = "webhooks", operation_id = "rotateWebhookSecret",
    params(("id" = String, Path), ("If-Match" = Option<String>, Header, description = "The `ETag` that is expected")),
    request_body = documents::SecretRotation,
    responses(
        (status = 200, description = "It has a new secret", body = documents::Webhook, headers(("ETag", description = "Its revision"))),
        Changed,
    ))]
async fn rotate_secret(
    State(api): ApiState,
    principal: Principal,
    Path(id): Path<String>,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Problem> {
    let shown = resources::webhooks::rotate_secret(&api, &principal, &id, &headers, &body).await?;
    Ok(shown.answer(resources::webhooks::DONE))
}

/// Show what a template makes of an event: of one that was accepted, of these data, or of the sample of a type
#[utoipa::path(post, path = "/api/v1/render", tag = "webhooks", operation_id = "renderTemplate",
    request_body = documents::TemplateTrial,
    responses((status = 200, description = "What it makes", body = documents::RenderedPayload), Unfit))]
async fn render(
    State(api): ApiState,
    principal: Principal,
    Typed(trial): Typed<documents::TemplateTrial>,
) -> Result<axum::Json<documents::RenderedPayload>, Problem> {
    resources::webhooks::render(&api, &principal, trial).await.map(axum::Json)
}

fn actions() -> OpenApiRouter<Shared> {
    let router = OpenApiRouter::new()
        .routes(routes!(publish))
        .routes(routes!(unpublish))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(duplicate))
        .routes(routes!(ping))
        .routes(routes!(test))
        .routes(routes!(rotate_secret));
    scoped(body_optional(router), Webhooks::READ, Webhooks::WRITE)
}

/// All that is done to the configuration, with its description.
pub(crate) fn resources() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .merge(accounts::router())
        .merge(sources::router())
        .merge(event_types::router())
        .merge(apps::router())
        .merge(authorizations::router())
        .merge(clients::router())
        .merge(webhooks::router())
        .merge(actions())
        .merge(scoped(OpenApiRouter::new().routes(routes!(render)), Webhooks::READ, Webhooks::READ))
        .merge(crate::configuration::router())
        .merge(crate::replays::router())
        .merge(crate::sync::invocations::router())
        .merge(crate::transfer::router())
        .merge(crate::portal::router())
        .merge(crate::matching::router())
}
