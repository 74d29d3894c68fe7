//! The description of the API (OpenAPI 3.1), which clients are generated from: what all operations have in common is
//! said here, once; the rest stands at their handlers.
//!
//! Problems are described by status, from [`Kind`]: an operation refers to `#/components/responses/NotFound`. Those
//! that any request with a token may meet are added by [`scoped`], with the scope that the token needs; what an
//! operation can meet besides it names itself ([`Missing`], [`Created`], …).

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::marker::PhantomData;

use http::StatusCode;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::Schema;
use utoipa::openapi::security::{
    ClientCredentials, Flow, HttpAuthScheme, HttpBuilder, OAuth2, Scopes, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{Content, Header, Ref, RefOr, Required, Server};
use utoipa::{IntoResponses, OpenApi, PartialSchema, ToSchema};
use utoipa_axum::router::OpenApiRouter;

use crate::access::Scope;
use crate::access::oauth;
use crate::problem::{Kind, MEDIA_TYPE, Problem};

/// Names of the security schemes.
const BEARER: &str = "bearer";
const OAUTH2: &str = "oauth2";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "hookstream",
        description = "Webhooks from Kafka: who gets which events, and what became of them. Errors are problem \
                       details (RFC 9457); each `type` has one status. Send `Authorization: Bearer`, with a token of \
                       `/oauth/token`."
    ),
    tags(
        (name = "webhooks", description = "Subscriptions of endpoints to events"),
        (name = "replays", description = "What is delivered again"),
        (name = "authorizations", description = "What requests to endpoints are authorized with"),
        (name = "apps", description = "What owns webhooks, and is granted scopes"),
        (name = "event types", description = "Registered event types"),
        (name = "sources", description = "Topics that events come from"),
        (name = "accounts", description = "Tenants"),
        (name = "clients", description = "Clients of this API"),
        (name = "events", description = "Events over HTTP"),
        (name = "history", description = "What became of deliveries, and who changed what"),
        (name = "configuration", description = "The whole configuration as one document"),
        (name = "profile platform", description = "Webhooks as a profile platform's clients know them"),
        (name = "portal", description = "Links with which customers manage the webhooks that are theirs"),
        (name = "tokens", description = "Access tokens (RFC 6749)"),
    )
)]
struct Common;

/// What does not depend on any operation, of an API that clients call `url`.
pub(crate) fn common(url: &str) -> utoipa::openapi::OpenApi {
    let url = url.trim_end_matches('/');
    let mut description = Common::openapi();
    description.servers = Some(vec![Server::new(if url.is_empty() { "/" } else { url })]);
    let components = description.components.get_or_insert_default();
    let mut schemas = vec![(Problem::name().into(), Problem::schema())];
    Problem::schemas(&mut schemas);
    components.schemas.extend(schemas);
    components.responses = problems();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(
        "An access token: ours, one of an outside issuer that the settings name, or the operator's own.",
    ));
    components.add_security_scheme(BEARER, SecurityScheme::Http(bearer.build()));
    let scopes = Scopes::from_iter(Scope::ALL.map(|scope| (scope.as_str(), scope.about())));
    let flow = ClientCredentials::new(format!("{url}{}", oauth::PATH), scopes);
    let oauth2 = OAuth2::new([Flow::ClientCredentials(flow)]);
    components.add_security_scheme(OAUTH2, SecurityScheme::OAuth2(oauth2));
    description
}

/// Says of all operations of a router that they need a token, with which scope, and what every request with a token
/// may meet: `read` is for those that only look, `write` for the others.
pub(crate) fn scoped<S>(mut router: OpenApiRouter<S>, read: Scope, write: Scope) -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
{
    for item in router.get_openapi_mut().paths.paths.values_mut() {
        for (method, operation) in operations(item) {
            let scope = if method == "get" { read } else { write };
            let none: [&str; 0] = [];
            operation.security = Some(vec![
                SecurityRequirement::new(OAUTH2, [scope.as_str()]),
                SecurityRequirement::new(BEARER, none),
            ]);
            let mut met = OfToken::responses();
            if operation.request_body.is_some() {
                met.extend(OfBody::responses());
            }
            for (status, response) in met {
                operation.responses.responses.entry(status).or_insert(response);
            }
        }
    }
    router
}

/// Says of all operations of a router that their bodies may be left out.
pub(crate) fn body_optional<S>(mut router: OpenApiRouter<S>) -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
{
    for item in router.get_openapi_mut().paths.paths.values_mut() {
        for (_, operation) in operations(item) {
            if let Some(RefOr::T(body)) = &mut operation.request_body {
                body.required = Some(Required::False);
            }
        }
    }
    router
}

/// Says of all operations of a router that they need no token.
pub(crate) fn open<S>(mut router: OpenApiRouter<S>) -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
{
    for item in router.get_openapi_mut().paths.paths.values_mut() {
        operations(item).for_each(|(_, operation)| operation.security = Some(Vec::new()));
    }
    router
}

/// The operations of a path, with their methods.
fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    let all = [("get", get), ("put", put), ("post", post), ("delete", delete), ("patch", patch)];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// A response for each status that a kind of problem has.
fn problems() -> BTreeMap<String, RefOr<Response>> {
    let mut by_status: BTreeMap<StatusCode, Vec<Kind>> = BTreeMap::new();
    for kind in Kind::ALL {
        by_status.entry(kind.status()).or_default().push(*kind);
    }
    let response = |(status, kinds): (StatusCode, Vec<Kind>)| {
        let lines = kinds.iter().map(|kind| format!("`{}`: {}.", kind.reference(), kind.title()));
        let mut response = ResponseBuilder::new()
            .description(lines.collect::<Vec<_>>().join(" "))
            .content(MEDIA_TYPE, Content::new(Some(Ref::from_schema_name(Problem::name()))));
        for (name, about) in headers(status) {
            let mut header = Header::new(String::schema());
            header.description = Some((*about).to_owned());
            response = response.header(*name, header);
        }
        (component(status), RefOr::T(response.build()))
    };
    by_status.into_iter().map(response).collect()
}

/// What a problem of this status says in its headers, too.
fn headers(status: StatusCode) -> &'static [(&'static str, &'static str)] {
    match status {
        StatusCode::UNAUTHORIZED => &[("WWW-Authenticate", "What is wrong with the token (RFC 6750)")],
        StatusCode::FORBIDDEN => &[("WWW-Authenticate", "The scope that is missing (RFC 6750)")],
        StatusCode::PRECONDITION_FAILED => &[("ETag", "The revision that it has")],
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            &[("Retry-After", "Seconds to wait")]
        }
        _ => &[],
    }
}

/// The name of the response of a status: `NotFound`.
fn component(status: StatusCode) -> String {
    status.canonical_reason().unwrap_or_default().replace(' ', "")
}

macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident = [$($status:ident),*];)*) => {$(
        $(#[$doc])*
        pub(crate) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                let statuses: &[StatusCode] = &[$(StatusCode::$status),*];
                let response = |status: &StatusCode| {
                    (status.as_str().to_owned(), RefOr::Ref(Ref::from_response_name(component(*status))))
                };
                statuses.iter().map(response).collect()
            }
        }
    )*};
}

problems! {
    /// What a request with a token may meet.
    OfToken = [BAD_REQUEST, UNAUTHORIZED, FORBIDDEN, TOO_MANY_REQUESTS, INTERNAL_SERVER_ERROR, SERVICE_UNAVAILABLE];
    /// What a request with a body may meet.
    OfBody = [PAYLOAD_TOO_LARGE, UNSUPPORTED_MEDIA_TYPE];
    /// What is asked for may not be there.
    Missing = [NOT_FOUND];
    /// Something is to be made.
    Created = [NOT_FOUND, CONFLICT, GATEWAY_TIMEOUT];
    /// What is there is to be changed or deleted.
    Changed = [NOT_FOUND, CONFLICT, PRECONDITION_FAILED, GATEWAY_TIMEOUT];
    /// The whole is to be made so.
    Applied = [CONFLICT, PRECONDITION_FAILED, UNPROCESSABLE_ENTITY, GATEWAY_TIMEOUT];
    /// An endpoint may not be fit, or scopes not be there.
    Unfit = [UNPROCESSABLE_ENTITY];
    /// No more than all others.
    Nothing = [];
    /// Events are to be written.
    Written = [NOT_FOUND, REQUEST_TIMEOUT, CONFLICT, UNPROCESSABLE_ENTITY, GATEWAY_TIMEOUT];
}

/// A JSON merge patch (RFC 7396) of a `T`: none of its fields has to be there.
pub(crate) struct Patch<T>(PhantomData<T>);

impl<T: ToSchema> PartialSchema for Patch<T> {
    fn schema() -> RefOr<Schema> {
        let RefOr::T(Schema::Object(mut object)) = T::schema() else { return T::schema() };
        object.required.clear();
        object.properties.retain(|_, property| !is_read_only(property));
        let about = format!("The fields of {} that change; null removes one.", T::name());
        object.description = Some(about);
        RefOr::T(Schema::Object(object))
    }
}

impl<T: ToSchema> ToSchema for Patch<T> {
    fn name() -> Cow<'static, str> {
        format!("{}Patch", T::name()).into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        T::schemas(schemas);
    }
}

fn is_read_only(property: &RefOr<Schema>) -> bool {
    let property = serde_json::to_value(property).unwrap_or_default();
    // Of a list it is said of the items.
    property["readOnly"] == true || property["items"]["readOnly"] == true
}
