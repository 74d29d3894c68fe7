//! `POST /api/v1/invocations`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use bytes::Bytes;
use hookstream_core::config::{DeliveryMode, Format, Source};
use hookstream_core::ingest::{HttpRequest, Writer, decode_http};
use hookstream_types::EventId;
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Answers, DEFAULT_DEADLINE, deadline};
use crate::access::{Principal, Scope};
use crate::api::{Api, Shared, named_account};
use crate::description::{Missing, scoped};
use crate::events::{DEFAULT_SOURCE, refusal};
use crate::problem::{FieldError, Problem};
use crate::request::{Typed, idempotency_key};

/// What sync webhooks are asked.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Invocation {
    /// An event type with `delivery: sync`.
    pub event_type: String,
    /// Whose webhooks, by name or uid; none: those of the token's account, else of `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The event's data, any JSON.
    #[serde(default)]
    pub data: Value,
    /// How long answers are waited for, `100ms` to `30s`; none: `5s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "5s")]
    pub deadline: Option<String>,
}

pub(crate) fn router() -> OpenApiRouter<Shared> {
    scoped(OpenApiRouter::new().routes(routes!(invoke)), Scope::EventsWrite, Scope::EventsWrite)
}

/// Call sync webhooks, and wait for their answers
///
/// Each webhook of the account that is published for the event type is called now, once. 200 has one result for each of
/// them: its answer, or the reason there is none. The same `Idempotency-Key` makes requests with the same `webhook-id`.
#[utoipa::path(post, path = "/api/v1/invocations", operation_id = "invoke", tag = "events",
    params(("Idempotency-Key" = Option<String>, Header, description = "A repeat has the same `webhook-id`s")),
    request_body = Invocation,
    responses((status = 200, description = "What the endpoints answered", body = Answers), Missing))]
async fn invoke(
    State(api): State<Arc<Api>>,
    principal: Principal,
    headers: HeaderMap,
    Typed(asked): Typed<Invocation>,
) -> Result<axum::Json<Answers>, Problem> {
    principal.require(Scope::EventsWrite)?;
    let began = Instant::now();
    let Invocation { event_type, account, subject, data, deadline: patience } = asked;
    let patience = patience.map_or(Ok(DEFAULT_DEADLINE), |text| deadline(&text));
    let patience = patience.map_err(|detail| Problem::invalid_field("/deadline", detail))?;
    let account = named_account(&api, &principal, account.as_deref())?;
    let mut body = json!({ "type": event_type, "data": data });
    if let Some(subject) = subject {
        body["subject"] = json!(subject);
    }
    let body = Bytes::from(body.to_string());
    let source = Source {
        name: DEFAULT_SOURCE.to_owned(),
        format: Format::Auto,
        delivery: DeliveryMode::Sync,
        ..Source::default()
    };
    let request = HttpRequest {
        content_type: Some("application/json"),
        headers: &[],
        body: &body,
        received_at: api.now(),
    };
    let writer = Writer {
        account,
        client: &principal.client,
        idempotency_key: idempotency_key(&headers)?,
        fresh: EventId(api.new_id()),
    };
    let view = api.follower.view();
    let decoded = decode_http(&source, &request, &writer, &view).map_err(|why| as_asked(refusal(why)))?;
    let event = decoded.into_iter().next().ok_or_else(|| Problem::invalid_field("", "is no event"))?;
    let data = Bytes::from(event.data.into_owned());
    api.caller.validate(&event.attributes, &data).await?;
    let (caller, attributes) = (Arc::clone(&api.caller), event.attributes);
    // A client that goes away does not keep what was sent out of the history, nor does the end of this replica.
    let calling = async move { caller.call(attributes, data, began + patience).await };
    let answers = api.caller.track(calling).await.map_err(|_| Problem::internal())?;
    answers.map(axum::Json).map_err(|crowded| {
        tracing::warn!("{crowded}");
        Problem::unavailable("too many calls are under way: nobody was called", Duration::from_secs(1))
    })
}

/// Names fields as they stand in the request.
fn as_asked(mut problem: Problem) -> Problem {
    for FieldError { field, .. } in &mut problem.errors {
        if field == "/type" {
            "/eventType".clone_into(field);
        }
    }
    problem
}
