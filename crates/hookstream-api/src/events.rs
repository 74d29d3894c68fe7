//! `POST /api/v1/events`: events over HTTP.
//!
//! A request has one event or a batch (what is read is told in [`hookstream_core::ingest::decode_http`]), for the
//! source that `?source=` or the header `hookstream-source` names, else the source `http`, which needs no
//! configuration. It is taken as a whole or not at all:
//!
//! | status | means |
//! | --- | --- |
//! | 202 | every event is written, acknowledged by all in-sync replicas; the body has their ids |
//! | 4xx | nothing is written; 409 is about the `Idempotency-Key`, 422 about an event type's schema |
//! | 503 | nothing is written; the same request may be sent again after `Retry-After` |
//! | 504 | it may be written or not; to be sent again with the same `Idempotency-Key`, or events that name themselves |
//!
//! Whose events they are is told by the [`Client`] that a layer above has put into the request's extensions, never by
//! the body: an account that a bound client may not write to does not exist for it (404). No parameter names a Kafka
//! topic or partition.

mod body;
mod description;
pub mod idempotency;
mod request;
pub mod schema;
pub(crate) mod validation;

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use hookstream_core::config::{DeliveryMode, Format, Meta, Source, View};
use hookstream_core::event::Event;
use hookstream_core::ingest::{Decoded, HttpRequest, Reason, Refusal, Writer, data_pointer, decode_http};
use hookstream_types::{AccountUid, EventId, UnixMillis};
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tracing::warn;
use utoipa::{OpenApi as _, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

pub use self::body::BodyLimits;
use self::body::Reader;
use self::idempotency::{Claim, Digest, Granted, KeyLimits, Keys};
use self::request::Asked;
use self::validation::Schemas;
use crate::access::Scope;
use crate::description::{Written, scoped};
use crate::problem::{FieldError, Kind, Problem};

/// Where the handler is.
pub const PATH: &str = "/api/v1/events";
/// The source of events that name none.
pub const DEFAULT_SOURCE: &str = "http";

/// Where accepted events go.
pub trait EventSink: Send + Sync + 'static {
    /// Appends events, in their order; returns when all of them are acknowledged by all in-sync replicas.
    ///
    /// If the future is dropped, they may be appended or not.
    fn append(&self, events: Vec<Event>) -> impl Future<Output = Result<(), SinkError>> + Send;
}

/// Why events are not appended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// Certainly none of them is, nor will be.
    #[error("the events were not written: {reason}")]
    NotWritten { reason: String },
    /// Any of them may be, or may become so.
    #[error("whether the events were written is not known: {reason}")]
    Unknown { reason: String },
}

/// What is configured.
pub trait Catalogue: Send + Sync + 'static {
    /// The newest view.
    fn view(&self) -> Arc<View>;

    /// The schema of an event type in `view`, if it has one.
    fn schema(&self, view: &View, event_type: &str) -> Option<Declared>;
}

/// The schema of an event type.
#[derive(Clone, Debug)]
pub struct Declared {
    /// Of the event type: the compiled schema is kept for as long as it is the same.
    pub revision: u64,
    pub schema: Arc<Value>,
}

/// Who sends a request: an extension of it, put there by whoever authenticates.
#[derive(Clone, Debug)]
pub struct Client {
    /// Idempotency keys are the client's own.
    pub id: Arc<str>,
    /// The account that it is bound to; none: it may name any, and those that name none are `default`'s.
    pub account: Option<AccountUid>,
}

/// The bounds of the handler.
#[derive(Clone, Copy, Debug)]
pub struct EventLimits {
    pub body: BodyLimits,
    pub keys: KeyLimits,
    /// For the acknowledgement; longer than the sink's own deadline.
    pub append: Duration,
    /// For the validation of a request's events by recursive schemas.
    pub validation: Duration,
}

impl Default for EventLimits {
    fn default() -> Self {
        Self {
            body: BodyLimits::default(),
            keys: KeyLimits::default(),
            append: Duration::from_secs(15),
            validation: Duration::from_secs(1),
        }
    }
}

/// What the handler works with.
pub struct Events<S, C> {
    sink: S,
    catalogue: C,
    limits: EventLimits,
    wall: Arc<dyn Fn() -> UnixMillis + Send + Sync>,
    reader: Reader,
    keys: Keys,
    schemas: Schemas,
}

impl<S, C> fmt::Debug for Events<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// What was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Accepted {
    /// In the order of the request.
    pub events: Vec<AcceptedEvent>,
}

/// An event that was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AcceptedEvent {
    /// hookstream's id of the event, by which it is found in the history.
    #[schema(value_type = Uuid)]
    pub id: EventId,
    #[serde(rename = "type")]
    pub event_type: String,
}

impl<S: EventSink, C: Catalogue> Events<S, C> {
    /// `wall` is the wall clock.
    pub fn new(
        sink: S,
        catalogue: C,
        wall: Arc<dyn Fn() -> UnixMillis + Send + Sync>,
        limits: EventLimits,
    ) -> Self {
        let (reader, keys) = (Reader::new(limits.body), Keys::new(limits.keys));
        Self { sink, catalogue, limits, wall, reader, keys, schemas: Schemas::new(limits.validation) }
    }

    /// The route, with its description; the layer that authenticates goes around it.
    pub fn router(self: Arc<Self>) -> OpenApiRouter {
        Self::routes().with_state(self)
    }

    pub(crate) fn routes() -> OpenApiRouter<Arc<Self>> {
        let router = OpenApiRouter::with_openapi(description::Described::openapi());
        scoped(router.route(PATH, post(handle::<S, C>)), Scope::EventsWrite, Scope::EventsWrite)
    }

    async fn accept(&self, request: Request) -> Result<Accepted, Problem> {
        let (parts, body) = request.into_parts();
        let client = parts.extensions.get::<Client>().cloned().ok_or_else(|| {
            Problem::new(Kind::Unauthenticated, "the request has no token: send `Authorization: Bearer …`")
        })?;
        let asked = Asked::read(&parts)?;
        let body = self.reader.read(&parts.headers, body).await?;
        let view = self.catalogue.view();
        let source = source(&view, asked.source.as_deref())?;
        let request = HttpRequest {
            content_type: asked.content_type.as_deref(),
            headers: &asked.headers,
            body: &body.bytes,
            received_at: (self.wall)(),
        };
        let writer = Writer {
            account: client.account,
            client: &client.id,
            idempotency_key: asked.key.as_deref(),
            fresh: EventId(Uuid::now_v7()),
        };
        let decoded = decode_http(&source, &request, &writer, &view).map_err(refusal)?;
        self.validate(&view, &source, &request, &decoded).await?;
        let accepted = Accepted { events: decoded.iter().map(accepted).collect() };
        let key = match &asked.key {
            None => None,
            Some(key) => match self.claim(&client, key, &source, &request, &decoded)? {
                Some(granted) => Some(granted),
                None => return Ok(accepted),
            },
        };
        let events = decoded.into_iter().map(|event| finished(event, &view, &body.bytes)).collect();
        self.append(events, key).await?;
        Ok(accepted)
    }

    async fn validate(
        &self,
        view: &View,
        source: &Source,
        request: &HttpRequest<'_>,
        decoded: &[Decoded<'_>],
    ) -> Result<(), Problem> {
        let mut checks = Vec::new();
        for (index, event) in decoded.iter().enumerate() {
            let name = &event.attributes.event_type;
            let Some(declared) = self.catalogue.schema(view, name) else { continue };
            let pointer = data_pointer(source, request, index, &event.data);
            checks.push((self.schemas.get(name, &declared)?, event.data.as_ref(), pointer));
        }
        self.schemas.validate(checks).await
    }

    /// None: the same request was carried out before.
    fn claim(
        &self,
        client: &Client,
        key: &str,
        source: &Source,
        request: &HttpRequest<'_>,
        decoded: &[Decoded<'_>],
    ) -> Result<Option<Granted<'_>>, Problem> {
        let name = digest([client.id.as_bytes(), key.as_bytes()]);
        // The ids have the account in them, which may be another one though the request is the same.
        let ids = decoded.iter().flat_map(|event| *event.attributes.event.0.as_bytes()).collect::<Vec<u8>>();
        let content_type = request.content_type.unwrap_or_default();
        let parts = [source.name.as_bytes(), content_type.as_bytes(), request.body, &ids];
        let headers = request.headers.iter().flat_map(|(name, value)| [name.as_bytes(), value]);
        match self.keys.claim(name, digest(parts.into_iter().chain(headers)), Instant::now()) {
            Claim::Granted(granted) => Ok(Some(granted)),
            Claim::Written => Ok(None),
            Claim::UnderWay => {
                let detail = "a request with this `Idempotency-Key` is under way: send it again later";
                Err(Problem::new(Kind::KeyInUse, detail).after(Duration::from_secs(1)))
            }
            Claim::Reused => {
                let detail = "this `Idempotency-Key` was used for a request with another body: use a new key";
                Err(Problem::new(Kind::KeyReused, detail))
            }
        }
    }

    async fn append(&self, events: Vec<Event>, key: Option<Granted<'_>>) -> Result<(), Problem> {
        let appended = tokio::time::timeout(self.limits.append, self.sink.append(events)).await;
        let appended = appended.unwrap_or_else(|_| {
            Err(SinkError::Unknown { reason: format!("no acknowledgement within {:?}", self.limits.append) })
        });
        match &appended {
            Ok(()) => {
                if let Some(key) = key {
                    key.written();
                }
                Ok(())
            }
            Err(error @ SinkError::NotWritten { .. }) => {
                if let Some(key) = key {
                    key.not_written();
                }
                warn!(%error, "events are refused");
                let detail =
                    "Kafka does not take events now, and none of these was written: send them again later";
                Err(Problem::unavailable(detail, Duration::from_secs(1)))
            }
            Err(error @ SinkError::Unknown { .. }) => {
                warn!(%error, "the outcome of a request is not known");
                let detail = "Kafka did not acknowledge the events in time, and may have them or not: send the same \
                              request with the same `Idempotency-Key` again";
                Err(Problem::new(Kind::OutcomeUnknown, detail).after(Duration::from_secs(1)))
            }
        }
    }
}

/// Send events: one, or a batch, as a whole or not at all
///
/// Plain JSON, or CloudEvents 1.0: structured, in a batch, or in binary mode with `ce-` headers and any content type.
/// 202 means that all in-sync replicas have them. A batch (`application/cloudevents-batch+json`) is an array of at most
/// 1,000 CloudEvents; it is not among the bodies below because generated clients tell bodies apart by their classes.
#[utoipa::path(post, path = PATH, tag = "events", operation_id = "sendEvents",
    params(
        ("source" = Option<String>, Query, description = "The source whose mapping and rules apply; none: `http`"),
        ("Hookstream-Source" = Option<String>, Header, description = "The same, where a query can't be set"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same again writes nothing more"),
    ),
    request_body(content(
        (description::PlainEvent = "application/json"),
        (description::CloudEvent = "application/cloudevents+json"),
    )),
    responses((status = 202, description = "All are written", body = Accepted), Written))]
async fn handle<S: EventSink, C: Catalogue>(
    State(events): State<Arc<Events<S, C>>>,
    request: Request,
) -> Result<Response, Infallible> {
    Ok(match events.accept(request).await {
        Ok(accepted) => (StatusCode::ACCEPTED, axum::Json(accepted)).into_response(),
        Err(problem) => problem.into_response(),
    })
}

fn source(view: &View, name: Option<&str>) -> Result<Arc<Source>, Problem> {
    let wanted = name.unwrap_or(DEFAULT_SOURCE);
    if let Some(source) = view.sources.get(wanted) {
        if source.delivery == DeliveryMode::Sync {
            let detail =
                format!("the source `{wanted}` is for calls of sync webhooks: `POST /api/v1/invocations`");
            return Err(Problem::invalid_field("source", detail));
        }
        return Ok(Arc::clone(source));
    }
    if wanted == DEFAULT_SOURCE {
        let meta = Meta {
            revision: 1,
            created_at: UnixMillis(0),
            updated_at: UnixMillis(0),
            actor: "hookstream".to_owned(),
            request: None,
        };
        let name = DEFAULT_SOURCE.to_owned();
        return Ok(Arc::new(Source {
            name,
            topics: Vec::new(),
            format: Format::Auto,
            meta,
            ..Source::default()
        }));
    }
    Err(Problem::not_found(format!("there is no source `{wanted}`: name one that exists, or none")))
}

pub(crate) fn refusal(refusal: Refusal) -> Problem {
    let faults = match refusal {
        Refusal::ContentType(message) => return Problem::new(Kind::UnsupportedMediaType, message),
        Refusal::Faults(faults) => faults,
    };
    let all = |reason| faults.iter().all(|fault| fault.reason == reason);
    let kind = if all(Reason::UnknownAccount) {
        Kind::NotFound
    } else if all(Reason::TooLarge) {
        Kind::TooLarge
    } else {
        Kind::Invalid
    };
    let errors = faults.into_iter().map(|fault| FieldError::new(fault.field, fault.message)).collect();
    Problem::of_errors(kind, errors)
}

fn accepted(event: &Decoded<'_>) -> AcceptedEvent {
    AcceptedEvent { id: event.attributes.event, event_type: event.attributes.event_type.clone() }
}

fn finished(event: Decoded<'_>, view: &View, body: &Bytes) -> Event {
    let data = match event.data {
        // What is borrowed is a part of the body.
        std::borrow::Cow::Borrowed(data) => body.slice_ref(data),
        std::borrow::Cow::Owned(data) => Bytes::from(data),
    };
    Event { attributes: event.attributes, config: view.offset, data }
}

/// The digest of parts, each preceded by its length.
fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Digest {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests;
