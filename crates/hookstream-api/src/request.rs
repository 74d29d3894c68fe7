//! What the handlers read of a request besides its path: a JSON body, preconditions, idempotency keys, pages.

use std::borrow::Cow;

use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use bytes::Bytes;
use hookstream_types::WebhookId;
use http::header::{CONTENT_TYPE, IF_MATCH};
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema, Type};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{IntoParams, PartialSchema, ToSchema};
use uuid::Uuid;

use crate::access::Principal;
use crate::problem::{FieldError, Kind, Problem};

/// Bytes of a body.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Bytes of an `Idempotency-Key`.
const MAX_KEY_BYTES: usize = 255;
/// Items of a page, unless the request says.
pub(crate) const DEFAULT_LIMIT: usize = 50;
pub(crate) const MAX_LIMIT: usize = 100;
/// Namespace of ids that are made of idempotency keys.
const KEY_NAMESPACE: Uuid = Uuid::from_u128(0x6f0c_9b1e_52a4_4d0b_9a6e_1f6d_35f0_0a03);

/// A JSON object as the body.
#[derive(Debug)]
pub struct Body(pub Map<String, Value>);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let essence = content_type.map(|text| text.split(';').next().unwrap_or_default().trim());
        let is_json = essence.is_some_and(|essence| {
            ["application/json", "application/merge-patch+json"]
                .iter()
                .any(|known| essence.eq_ignore_ascii_case(known))
        });
        let bytes = read(request).await?;
        if !is_json && !bytes.is_empty() {
            let detail = "send JSON, with `Content-Type: application/json`";
            return Err(Problem::new(Kind::UnsupportedMediaType, detail));
        }
        if bytes.is_empty() {
            return Ok(Self(Map::new()));
        }
        match crate::access::strict_object(&bytes) {
            Some(object) => Ok(Self(object)),
            None => Err(Problem::invalid_field("", "must be a JSON object in which every name stands once")),
        }
    }
}

/// A JSON object as the body, read as what it is to be; a field that is not known is an error.
#[derive(Debug)]
pub struct Typed<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Typed<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let Body(body) = Body::from_request(request, state).await?;
        let read = serde_json::from_value(Value::Object(body));
        read.map(Self).map_err(|error| Problem::invalid_field("", error.to_string()))
    }
}

async fn read(request: Request) -> Result<Bytes, Problem> {
    axum::body::to_bytes(request.into_body(), MAX_BODY_BYTES).await.map_err(|_| {
        let detail = format!("the body has more than {MAX_BODY_BYTES} bytes, or broke off");
        Problem::new(Kind::TooLarge, detail)
    })
}

/// Query parameters; an unknown or wrong one is named.
#[derive(Debug)]
pub struct Parameters<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match Query::<T>::try_from_uri(&parts.uri) {
            Ok(Query(parameters)) => Ok(Self(parameters)),
            Err(rejection) => {
                let text = rejection.body_text();
                let detail = text.split_once(": ").map_or(text.as_str(), |(_, rest)| rest);
                let field = detail.split('`').nth(1).or_else(|| detail.split(':').next()).unwrap_or_default();
                Err(Problem::invalid(vec![FieldError::new(field, detail)]))
            }
        }
    }
}

/// What `If-Match` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing, or that it exists.
    None,
    Revision(u64),
}

/// A revision as an entity tag (RFC 9110 §8.8.3).
#[must_use]
pub fn etag(revision: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{revision}\"")).expect("digits are a header value")
}

/// Reads `If-Match`.
///
/// # Errors
/// If it is not one revision, or `*`.
pub fn if_match(headers: &HeaderMap) -> Result<Precondition, Problem> {
    let Some(value) = headers.get(IF_MATCH) else { return Ok(Precondition::None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(Precondition::None);
    }
    let revision = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let revision = revision.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    match revision.and_then(|text| text.parse().ok()) {
        Some(revision) => Ok(Precondition::Revision(revision)),
        None => {
            Err(Problem::invalid_field("If-Match", "must be `*` or one `ETag` as it came, such as `\"3\"`"))
        }
    }
}

/// An `Idempotency-Key`, and what it is for.
#[derive(Clone, Debug)]
pub struct Idempotency {
    /// The id of what the request creates: the same whenever it is sent.
    pub id: Uuid,
    /// Of the request's content.
    pub digest: String,
}

/// Reads `Idempotency-Key`.
///
/// # Errors
/// If it is none.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| (1..=MAX_KEY_BYTES).contains(&key.len()));
    let fault = || Problem::invalid_field("Idempotency-Key", "must have 1 to 255 visible ASCII characters");
    key.ok_or_else(fault).map(Some)
}

/// Reads `Idempotency-Key` of a request of this principal that creates a `kind`.
///
/// # Errors
/// If it is none.
pub fn idempotency(
    headers: &HeaderMap,
    principal: &Principal,
    kind: &str,
    body: &Map<String, Value>,
) -> Result<Option<Idempotency>, Problem> {
    let Some(key) = idempotency_key(headers)? else { return Ok(None) };
    let parts = [principal.client.as_bytes(), kind.as_bytes(), key.as_bytes()];
    let id = Uuid::new_v5(&KEY_NAMESPACE, &framed(&parts));
    // Maps are sorted, so that the same content has the same digest.
    let content = serde_json::to_vec(body).unwrap_or_default();
    let digest = Sha256::digest(framed(&[kind.as_bytes(), &content]));
    let digest = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Some(Idempotency { id, digest }))
}

/// Each part after its length.
fn framed(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts {
        out.extend_from_slice(&(part.len() as u64).to_be_bytes());
        out.extend_from_slice(part);
    }
    out
}

/// Which page of a list.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ListParameters {
    /// Free text: in the name, the description, the URL or the event types; any case.
    pub q: Option<String>,
    /// An account, by name or uid.
    pub account: Option<String>,
    /// An app, by id.
    pub app: Option<String>,
    /// `draft`, `published`, `unpublished`, `paused` or `disabled`.
    pub state: Option<String>,
    /// Webhooks that get events of this type.
    pub event_type: Option<String>,
    /// Items of a page.
    #[param(minimum = 1, maximum = 100)]
    pub limit: Option<usize>,
    /// `next` of the page before.
    pub cursor: Option<String>,
}

impl ListParameters {
    /// # Errors
    /// If it is out of bounds.
    pub fn limit(&self) -> Result<usize, Problem> {
        page_limit(self.limit)
    }

    /// The filters as they stand in a cursor.
    #[must_use]
    pub fn filters(&self) -> String {
        format!("{:?} {:?} {:?} {:?} {:?}", self.q, self.account, self.app, self.state, self.event_type)
    }
}

fn page_limit(asked: Option<usize>) -> Result<usize, Problem> {
    let limit = asked.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Problem::invalid_field("limit", format!("must be 1 to {MAX_LIMIT}")));
    }
    Ok(limit)
}

/// Which replays.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ReplayParameters {
    /// An account, by name or uid.
    pub account: Option<String>,
    /// To this webhook.
    #[param(value_type = Option<Uuid>)]
    pub webhook: Option<WebhookId>,
    /// `running`, `done`, `cancelled` or `failed`.
    pub state: Option<String>,
    /// Replays of a page.
    #[param(minimum = 1, maximum = 100)]
    pub limit: Option<usize>,
    /// `next` of the page before.
    pub cursor: Option<String>,
}

impl ReplayParameters {
    /// # Errors
    /// If it is out of bounds.
    pub fn limit(&self) -> Result<usize, Problem> {
        page_limit(self.limit)
    }
}

/// A page of a list.
#[derive(Clone, Debug, serde::Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    pub results: Vec<T>,
    /// There are more.
    pub more_results: bool,
    /// For the next page, as `cursor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl<T: ToSchema> PartialSchema for Page<T> {
    fn schema() -> RefOr<Schema> {
        let next = ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("For the next page, as `cursor`."));
        let more = ObjectBuilder::new().schema_type(Type::Boolean).description(Some("There are more."));
        let page = ObjectBuilder::new()
            .description(Some("A page of a list."))
            .property("results", ArrayBuilder::new().items(Ref::from_schema_name(T::name())))
            .required("results")
            .property("moreResults", more)
            .required("moreResults")
            .property("next", next);
        RefOr::T(page.into())
    }
}

impl<T: ToSchema> ToSchema for Page<T> {
    fn name() -> Cow<'static, str> {
        format!("{}Page", T::name()).into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((T::name().into(), T::schema()));
        T::schemas(schemas);
    }
}
