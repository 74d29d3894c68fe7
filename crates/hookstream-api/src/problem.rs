//! Errors of the API as RFC 9457 problem details: one [`Kind`] per thing that a caller can react to.
//!
//! `type` is stable and is what programs branch on; `title` is the same for every problem of a kind; `detail` and
//! `errors` are for people and say the way out.

use std::borrow::Cow;
use std::num::NonZeroU32;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The media type of problems.
pub const MEDIA_TYPE: &str = "application/problem+json";

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $status:ident, $slug:literal, $title:literal);* $(;)?) => {
        /// What a problem is; stable, each with one status.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kind {
            $($(#[$doc])* $variant),*
        }

        impl Kind {
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            #[must_use]
            pub fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status),* }
            }

            /// The `type`: a reference relative to the API.
            #[must_use]
            pub fn reference(self) -> &'static str {
                match self { $(Self::$variant => concat!("/problems/", $slug)),* }
            }

            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),* }
            }
        }
    };
}

kinds! {
    /// A parameter, header or body is not what it must be; `errors` names each.
    Invalid = BAD_REQUEST, "invalid-request", "The request is not valid";
    /// There is no token, or none that counts.
    Unauthenticated = UNAUTHORIZED, "unauthenticated", "The request is not authenticated";
    /// The token's scopes do not cover it.
    Forbidden = FORBIDDEN, "forbidden", "The token does not allow this";
    /// It does not exist, or is somebody else's.
    NotFound = NOT_FOUND, "not-found", "There is no such thing";
    MethodNotAllowed = METHOD_NOT_ALLOWED, "method-not-allowed", "The method is not allowed here";
    /// The body did not come in time.
    Timeout = REQUEST_TIMEOUT, "request-timeout", "The request took too long to arrive";
    /// What is there excludes it: a name that is taken, a thing that is in use.
    Conflict = CONFLICT, "conflict", "The request conflicts with what is there";
    /// The `Idempotency-Key` belongs to another request.
    KeyReused = CONFLICT, "idempotency-key-reused", "The idempotency key belongs to another request";
    /// A request with the `Idempotency-Key` is under way.
    KeyInUse = CONFLICT, "idempotency-key-in-use", "A request with the idempotency key is under way";
    /// It was changed by somebody else in between.
    Changed = PRECONDITION_FAILED, "changed", "It was changed in between";
    TooLarge = PAYLOAD_TOO_LARGE, "too-large", "The request is too large";
    UnsupportedMediaType = UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The body's type is not read";
    /// The data of an event does not follow the schema of its event type; `errors` points into it.
    SchemaViolation = UNPROCESSABLE_ENTITY, "schema-violation", "The data does not follow the event type's schema";
    /// The app does not hold the scopes that the event types need.
    ScopesMissing = UNPROCESSABLE_ENTITY, "scopes-missing", "The app lacks scopes";
    /// The endpoint did not answer the ping as it must; nothing was changed.
    NotVerified = UNPROCESSABLE_ENTITY, "endpoint-not-verified", "The endpoint did not accept the ping";
    /// What is configured can't be sent by this version.
    NotSendable = UNPROCESSABLE_ENTITY, "not-sendable", "The webhook can't be published";
    /// The change needs `If-Match`.
    PreconditionRequired = PRECONDITION_REQUIRED, "precondition-required", "The request must name the revision";
    RateLimited = TOO_MANY_REQUESTS, "rate-limited", "There were too many requests";
    Internal = INTERNAL_SERVER_ERROR, "internal", "The server failed";
    /// Nothing was done, and the same request may succeed later.
    Unavailable = SERVICE_UNAVAILABLE, "unavailable", "The service is not available now";
    /// It may have been done or not: the same request is to be sent again.
    OutcomeUnknown = GATEWAY_TIMEOUT, "outcome-unknown", "Whether it was done is not known";
}

/// An error of the API (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// What kind of problem it is: a stable reference.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "/problems/invalid-request")]
    pub reference: Cow<'static, str>,
    /// The kind in words, always the same.
    #[schema(value_type = String)]
    pub title: Cow<'static, str>,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// What is wrong here, and the way out.
    pub detail: String,
    /// Every place that is at fault.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// Seconds to wait before the same request is sent again; also `Retry-After`.
    #[serde(default, rename = "retryAfter", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>)]
    pub retry_after: Option<NonZeroU32>,
    /// What came of the ping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ping: Option<Box<PingReport>>,
    #[serde(skip)]
    headers: Option<Box<HeaderMap>>,
}

/// What came of a ping, or of a test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PingReport {
    /// It answered with 2xx.
    pub success: bool,
    /// The endpoint's answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// How long it took, in milliseconds.
    pub time_ms: u64,
    /// Why there is no answer, or why it is not good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One place that is at fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// A JSON pointer into the body (empty: all of it), or the name of a header or query parameter.
    pub field: String,
    /// What is wrong with it, and the way out.
    pub detail: String,
}

impl FieldError {
    pub fn new(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { field: field.into(), detail: detail.into() }
    }
}

impl Problem {
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            reference: Cow::Borrowed(kind.reference()),
            title: Cow::Borrowed(kind.title()),
            status: kind.status().as_u16(),
            detail: detail.into(),
            errors: Vec::new(),
            retry_after: None,
            ping: None,
            headers: None,
        }
    }

    /// One or more places of the request that are not valid; `detail` says it of the first.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        Self::of_errors(Kind::Invalid, errors)
    }

    /// One place of the request that is not valid.
    pub fn invalid_field(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::invalid(vec![FieldError::new(field, detail)])
    }

    /// A problem whose detail is that of the first of `errors`.
    pub fn of_errors(kind: Kind, errors: Vec<FieldError>) -> Self {
        let first = errors.first().map(|error| match error.field.as_str() {
            "" => error.detail.clone(),
            field => format!("{field}: {}", error.detail),
        });
        let more = match errors.len() {
            0 | 1 => String::new(),
            count => format!(" (and {} more)", count - 1),
        };
        let detail = format!("{}{more}", first.as_deref().unwrap_or_else(|| kind.title()));
        Self { errors, ..Self::new(kind, detail) }
    }

    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, detail)
    }

    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, detail)
    }

    /// Nothing was done, and it may be tried again after `after`.
    pub fn unavailable(detail: impl Into<String>, after: Duration) -> Self {
        Self::new(Kind::Unavailable, detail).after(after)
    }

    /// A failure of ours. What it is stands in the log, not in the answer.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(Kind::Internal, "the server failed to answer; its log says why")
    }

    /// Asks to wait, in whole seconds and at least one.
    #[must_use]
    pub fn after(mut self, after: Duration) -> Self {
        let whole = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        self.retry_after =
            Some(NonZeroU32::try_from(u32::try_from(whole).unwrap_or(u32::MAX)).unwrap_or(NonZeroU32::MIN));
        self
    }

    /// Adds a header to the response (`WWW-Authenticate`, `Allow`).
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.get_or_insert_default().append(name, value);
        self
    }

    #[must_use]
    pub fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (self.status_code(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds.get()));
        }
        if let Some(more) = self.headers {
            headers.extend(*more);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn kinds_have_references_of_their_own() {
        let references: BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.reference()).collect();
        assert_eq!(references.len(), Kind::ALL.len());
        assert!(Kind::ALL.iter().all(|kind| kind.status().as_u16() >= 400));
    }

    #[test]
    fn a_problem_as_json_and_as_a_response() {
        let errors = vec![FieldError::new("/id", "is empty"), FieldError::new("", "is late")];
        let problem = Problem::invalid(errors).after(Duration::from_millis(1100));
        let json = r#"{"type":"/problems/invalid-request","title":"The request is not valid","status":400,"#
            .to_owned()
            + r#""detail":"/id: is empty (and 1 more)","errors":[{"field":"/id","detail":"is empty"},"#
            + r#"{"field":"","detail":"is late"}],"retryAfter":2}"#;
        assert_eq!(serde_json::to_string(&problem).unwrap(), json);
        assert_eq!(serde_json::from_str::<Problem>(&json).unwrap(), problem);

        let response = problem.into_response();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert_eq!(response.headers()[CONTENT_TYPE], MEDIA_TYPE);
        assert_eq!(response.headers()[RETRY_AFTER], "2");
    }
}
