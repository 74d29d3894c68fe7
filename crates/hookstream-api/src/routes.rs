//! Paths, methods, and their description: the OpenAPI document is made of these.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::Principal;
use crate::api::{Api, Shared};
use crate::problem::{PingReport, Problem};
use crate::request::{Body, ListParameters, Page, Parameters};
use crate::resources::webhooks::Action;
use crate::resources::{self, documents, merged};

type ApiState = State<Arc<Api>>;

macro_rules! resource {
    ($module:ident, $kind:ty, $document:ident, $all:literal, $one:literal, $tag:literal) => {
        mod $module {
            use super::*;
            use documents::$document;

            #[doc = concat!("List ", $tag)]
            #[utoipa::path(get, path = $all, tag = $tag, operation_id = concat!("list", stringify!($document), "s"),
                params(ListParameters),
                responses(
                    (status = 200, description = "A page", body = inline(Page<$document>)),
                    (status = 400, description = "A parameter is wrong", body = Problem, content_type = "application/problem+json"),
                    (status = 401, description = "No valid token", body = Problem, content_type = "application/problem+json"),
                    (status = 403, description = "A scope is missing", body = Problem, content_type = "application/problem+json"),
                    (status = 404, description = "The account is not yours", body = Problem, content_type = "application/problem+json"),
                    (status = 429, description = "Too many requests", body = Problem, content_type = "application/problem+json"),
                ))]
            pub(super) async fn list(
                State(api): ApiState,
                principal: Principal,
                Parameters(parameters): Parameters<ListParameters>,
            ) -> Result<axum::Json<Page<Value>>, Problem> {
                resources::list::<$kind>(&api, &principal, &parameters).await.map(axum::Json)
            }

            #[doc = concat!("Create one of ", $tag)]
            #[utoipa::path(post, path = $all, tag = $tag, operation_id = concat!("create", stringify!($document)),
                request_body = $document,
                params(("Idempotency-Key" = Option<String>, Header, description = "The same again creates nothing more")),
                responses(
                    (status = 201, description = "Created", body = $document,
                        headers(("ETag", description = "Its revision"), ("Location", description = "Where it is"))),
                    (status = 400, description = "Fields are at fault: `errors` names each", body = Problem, content_type = "application/problem+json"),
                    (status = 401, description = "No valid token", body = Problem, content_type = "application/problem+json"),
                    (status = 403, description = "A scope is missing", body = Problem, content_type = "application/problem+json"),
                    (status = 404, description = "The account is not yours", body = Problem, content_type = "application/problem+json"),
                    (status = 409, description = "The name is taken, or the key was used for another request", body = Problem, content_type = "application/problem+json"),
                    (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
                    (status = 415, description = "The body is not JSON", body = Problem, content_type = "application/problem+json"),
                    (status = 422, description = "The endpoint was not verified, or scopes are missing", body = Problem, content_type = "application/problem+json"),
                    (status = 503, description = "Nothing was written: try again", body = Problem, content_type = "application/problem+json"),
                    (status = 504, description = "It may have been written: repeat with the same key", body = Problem, content_type = "application/problem+json"),
                ))]
            pub(super) async fn create(
                State(api): ApiState,
                principal: Principal,
                headers: HeaderMap,
                Body(body): Body,
            ) -> Result<Response, Problem> {
                resources::create::<$kind>(&api, &principal, &headers, body).await
            }

            #[doc = concat!("Show one of ", $tag)]
            #[utoipa::path(get, path = $one, tag = $tag, operation_id = concat!("get", stringify!($document)),
                params(("id" = String, Path)),
                responses(
                    (status = 200, description = "Here it is", body = $document, headers(("ETag", description = "Its revision"))),
                    (status = 401, description = "No valid token", body = Problem, content_type = "application/problem+json"),
                    (status = 403, description = "A scope is missing", body = Problem, content_type = "application/problem+json"),
                    (status = 404, description = "There is none, or it is not yours", body = Problem, content_type = "application/problem+json"),
                ))]
            pub(super) async fn get(
                State(api): ApiState,
                principal: Principal,
                Path(id): Path<String>,
            ) -> Result<Response, Problem> {
                resources::get::<$kind>(&api, &principal, &id)
            }

            #[doc = concat!("Replace one of ", $tag)]
            #[utoipa::path(put, path = $one, tag = $tag, operation_id = concat!("replace", stringify!($document)),
                params(("id" = String, Path), ("If-Match" = Option<String>, Header, description = "The `ETag` that is expected")),
                request_body = $document,
                responses(
                    (status = 200, description = "Replaced", body = $document, headers(("ETag", description = "Its revision"))),
                    (status = 400, description = "Fields are at fault", body = Problem, content_type = "application/problem+json"),
                    (status = 404, description = "There is none, or it is not yours", body = Problem, content_type = "application/problem+json"),
                    (status = 409, description = "It conflicts with what is there", body = Problem, content_type = "application/problem+json"),
                    (status = 412, description = "It was changed meanwhile", body = Problem, content_type = "application/problem+json"),
                    (status = 422, description = "The endpoint was not verified, or scopes are missing", body = Problem, content_type = "application/problem+json"),
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

            #[doc = concat!("Change one of ", $tag, " (JSON merge patch, RFC 7396)")]
            #[utoipa::path(patch, path = $one, tag = $tag, operation_id = concat!("update", stringify!($document)),
                params(("id" = String, Path), ("If-Match" = Option<String>, Header, description = "The `ETag` that is expected")),
                request_body(content = Object, description = "The fields that change; null removes one"),
                responses(
                    (status = 200, description = "Changed", body = $document, headers(("ETag", description = "Its revision"))),
                    (status = 400, description = "Fields are at fault", body = Problem, content_type = "application/problem+json"),
                    (status = 404, description = "There is none, or it is not yours", body = Problem, content_type = "application/problem+json"),
                    (status = 409, description = "It conflicts with what is there", body = Problem, content_type = "application/problem+json"),
                    (status = 412, description = "It was changed meanwhile", body = Problem, content_type = "application/problem+json"),
                    (status = 422, description = "The endpoint was not verified, or scopes are missing", body = Problem, content_type = "application/problem+json"),
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

            #[doc = concat!("Delete one of ", $tag)]
            #[utoipa::path(delete, path = $one, tag = $tag, operation_id = concat!("delete", stringify!($document)),
                params(("id" = String, Path), ("If-Match" = Option<String>, Header, description = "The `ETag` that is expected")),
                responses(
                    (status = 204, description = "Deleted"),
                    (status = 404, description = "There is none, or it is not yours", body = Problem, content_type = "application/problem+json"),
                    (status = 409, description = "It is in use", body = Problem, content_type = "application/problem+json"),
                    (status = 412, description = "It was changed meanwhile", body = Problem, content_type = "application/problem+json"),
                ))]
            pub(super) async fn delete(
                State(api): ApiState,
                principal: Principal,
                Path(id): Path<String>,
                headers: HeaderMap,
            ) -> Result<Response, Problem> {
                resources::delete::<$kind>(&api, &principal, &id, &headers).await
            }

            pub(super) fn router() -> OpenApiRouter<Shared> {
                OpenApiRouter::new()
                    .routes(routes!(list, create))
                    .routes(routes!(get, replace, change, delete))
            }
        }
    };
}

resource!(
    accounts,
    resources::kinds::Accounts,
    Account,
    "/api/v1/accounts",
    "/api/v1/accounts/{id}",
    "accounts"
);
resource!(sources, resources::kinds::Sources, Source, "/api/v1/sources", "/api/v1/sources/{id}", "sources");
resource!(
    event_types,
    resources::kinds::EventTypes,
    EventType,
    "/api/v1/event-types",
    "/api/v1/event-types/{id}",
    "event types"
);
resource!(apps, resources::kinds::Apps, App, "/api/v1/apps", "/api/v1/apps/{id}", "apps");
resource!(
    authorizations,
    resources::kinds::Authorizations,
    Authorization,
    "/api/v1/authorizations",
    "/api/v1/authorizations/{id}",
    "authorizations"
);
resource!(
    clients,
    resources::kinds::Clients,
    ApiClient,
    "/api/v1/clients",
    "/api/v1/clients/{id}",
    "clients"
);
resource!(
    webhooks,
    resources::webhooks::Webhooks,
    Webhook,
    "/api/v1/webhooks",
    "/api/v1/webhooks/{id}",
    "webhooks"
);

macro_rules! action {
    ($name:ident, $action:ident, $path:literal, $about:literal) => {
        #[doc = $about]
        #[utoipa::path(post, path = $path, tag = "webhooks", operation_id = concat!(stringify!($name), "Webhook"),
            params(("id" = String, Path), ("If-Match" = Option<String>, Header, description = "The `ETag` that is expected")),
            responses(
                (status = 200, description = "Done, or so already", body = documents::Webhook, headers(("ETag", description = "Its revision"))),
                (status = 404, description = "There is none, or it is not yours", body = Problem, content_type = "application/problem+json"),
                (status = 409, description = "Not from its state", body = Problem, content_type = "application/problem+json"),
                (status = 412, description = "It was changed meanwhile", body = Problem, content_type = "application/problem+json"),
                (status = 422, description = "The endpoint was not verified, or scopes are missing", body = Problem, content_type = "application/problem+json"),
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
    request_body(content = Option<Object>, description = "`name` of the copy"),
    responses(
        (status = 201, description = "The copy", body = documents::Webhook),
        (status = 404, description = "There is none, or it is not yours", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The name is taken", body = Problem, content_type = "application/problem+json"),
    ))]
async fn duplicate(
    State(api): ApiState,
    principal: Principal,
    Path(id): Path<String>,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Problem> {
    let copy = resources::webhooks::duplicate(&api, &principal, &id, &headers, &body).await?;
    Ok(copy.answer::<resources::webhooks::Webhooks>())
}

/// Ping a webhook's endpoint
#[utoipa::path(post, path = "/api/v1/webhooks/{id}/ping", tag = "webhooks", operation_id = "pingWebhook",
    params(("id" = String, Path)),
    responses(
        (status = 200, description = "What came of it, good or bad", body = PingReport),
        (status = 404, description = "There is none, or it is not yours", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "No request can be made", body = Problem, content_type = "application/problem+json"),
    ))]
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
    request_body(content = Option<Object>, description = "`eventType` and `data`; else the sample of its event type"),
    responses(
        (status = 200, description = "What came of it, good or bad", body = PingReport),
        (status = 404, description = "There is none, or it is not yours", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "No request can be made", body = Problem, content_type = "application/problem+json"),
    ))]
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
    request_body(content = Option<Object>, description = "`secret` (else one is made, and shown once) and `overlap`"),
    responses(
        (status = 200, description = "It has a new secret", body = documents::Webhook),
        (status = 400, description = "Fields are at fault", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "There is none, or it is not yours", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "It was changed meanwhile", body = Problem, content_type = "application/problem+json"),
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

#[derive(OpenApi)]
#[openapi(info(
    title = "hookstream",
    description = "Webhooks from Kafka: who gets which events, and what became of them. Errors are problem details \
                   (RFC 9457); each `type` has one status. Send `Authorization: Bearer`, with a token of \
                   `/oauth/token`."
))]
struct Description;

/// All resources, with their description.
pub(crate) fn resources() -> OpenApiRouter<Shared> {
    OpenApiRouter::with_openapi(Description::openapi())
        .merge(accounts::router())
        .merge(sources::router())
        .merge(event_types::router())
        .merge(apps::router())
        .merge(authorizations::router())
        .merge(clients::router())
        .merge(webhooks::router())
        .routes(routes!(publish))
        .routes(routes!(unpublish))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(duplicate))
        .routes(routes!(ping))
        .routes(routes!(test))
        .routes(routes!(rotate_secret))
        .merge(crate::configuration::router())
        .merge(crate::transfer::router())
}
