//! Executions and attempts as the API shows them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hookstream_history::{AttemptRow, Outcome};
use hookstream_types::{AccountUid, DeliveryId, EventId, UnixMillis, WebhookId};
use hookstream_wire::attempt;
use serde::Serialize;
use utoipa::ToSchema;

use super::params::written;

/// A page of executions, the newest first.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionPage {
    /// May be fewer than asked for, even none, though there are more.
    pub results: Vec<Execution>,
    /// The `cursor` of the next page; null: this is the last.
    pub next: Option<String>,
    pub more_results: bool,
}

/// An event's delivery to a webhook, as it stands.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Execution {
    /// The `webhook-id` of its requests.
    #[schema(value_type = Uuid)]
    pub delivery_id: DeliveryId,
    #[schema(value_type = Uuid)]
    pub webhook: WebhookId,
    #[schema(value_type = Uuid)]
    pub account: AccountUid,
    #[schema(value_type = Uuid)]
    pub event: EventId,
    pub event_type: String,
    /// `waiting` for its next attempt, `delivered`, `dead` or `skipped`.
    #[schema(value_type = String)]
    pub outcome: Outcome,
    /// Why it is dead or skipped.
    pub reason: Option<String>,
    /// When it is tried again.
    #[schema(format = DateTime)]
    pub due: Option<String>,
    /// Requests made.
    pub attempts: u32,
    /// Of the last answer.
    pub status: Option<u16>,
    /// Why the last request got no answer.
    pub failure: Option<&'static str>,
    /// The webhook's revision that made the last request.
    pub revision: u64,
    /// When the first thing was decided about it.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When the last thing was.
    #[schema(format = DateTime)]
    pub updated_at: String,
}

/// An execution with all that was decided about it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExecutionDetail {
    #[serde(flatten)]
    pub execution: Execution,
    /// The oldest first; of very many, the newest.
    #[serde(rename = "attemptLog")]
    pub attempt_log: Vec<AttemptItem>,
}

/// A decision, and the request that it rests on.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttemptItem {
    /// 1 for the first request; null: nothing was sent.
    pub number: Option<u32>,
    /// When it was decided.
    #[schema(format = DateTime)]
    pub at: String,
    /// When the request was begun.
    #[schema(format = DateTime)]
    pub started_at: Option<String>,
    #[schema(value_type = String)]
    pub outcome: Outcome,
    /// Why it is dead or skipped.
    pub reason: Option<String>,
    /// When it was to be tried again.
    #[schema(format = DateTime)]
    pub due: Option<String>,
    /// The webhook's revision that made the request.
    pub revision: Option<u64>,
    pub status: Option<u16>,
    pub failure: Option<Failure>,
    pub timings: Option<Timings>,
    pub recorded: Recorded,
    pub request: Option<SentRequest>,
    pub response: Option<ReceivedResponse>,
}

/// Whether there are request and response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum Recorded {
    /// They are here.
    Kept,
    /// Without bodies: the webhook logs only errors, and this was a success.
    WithoutBodies,
    /// Nothing was sent.
    NothingSent,
    /// The record is too old, and was deleted.
    Gone,
    /// The record was not read in time: ask again.
    NotRead,
}

/// Why there was no answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct Failure {
    pub kind: &'static str,
    pub message: Option<String>,
}

/// Milliseconds; a part that did not happen is null.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Timings {
    pub dns_ms: Option<f64>,
    pub connect_ms: Option<f64>,
    pub tls_ms: Option<f64>,
    pub first_byte_ms: Option<f64>,
    pub total_ms: Option<f64>,
}

/// What was sent; secrets are masked.
#[derive(Debug, Serialize, ToSchema)]
pub struct SentRequest {
    pub method: String,
    pub url: String,
    pub headers: Vec<Header>,
    pub body: Option<Body>,
}

/// What came back; secrets are masked.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReceivedResponse {
    pub status: u16,
    pub headers: Vec<Header>,
    pub body: Option<Body>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Header {
    pub name: String,
    pub value: String,
}

/// A body, or the beginning of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Body {
    /// Where it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Where it isn't.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// It was longer.
    pub cut: bool,
}

impl Body {
    /// A body of which nothing is left out.
    pub(super) fn whole(bytes: &[u8]) -> Self {
        Self::beginning(bytes, false)
    }

    /// A body, or the beginning of it, which may end within a character.
    pub(super) fn beginning(bytes: &[u8], cut: bool) -> Self {
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => Some(text),
            Err(error) if cut && error.error_len().is_none() => {
                std::str::from_utf8(&bytes[..error.valid_up_to()]).ok()
            }
            Err(_) => None,
        };
        match text {
            Some(text) => Self { text: Some(text.to_owned()), base64: None, cut },
            None => Self { text: None, base64: Some(STANDARD.encode(bytes)), cut },
        }
    }
}

fn time(at: UnixMillis) -> String {
    written(at).to_string()
}

/// Microseconds as milliseconds.
fn millis(micros: u64) -> f64 {
    // Exact up to 2⁵³ µs, which are 285 years.
    #[expect(clippy::cast_precision_loss, reason = "no request takes centuries")]
    let micros = micros as f64;
    micros / 1000.0
}

impl From<hookstream_history::Execution> for Execution {
    fn from(execution: hookstream_history::Execution) -> Self {
        Self {
            delivery_id: execution.delivery,
            webhook: execution.webhook,
            account: execution.account,
            event: execution.event,
            event_type: execution.event_type,
            outcome: execution.outcome,
            reason: execution.reason,
            due: execution.due.map(time),
            attempts: execution.attempts,
            status: execution.status,
            failure: execution.failure.map(|failure| failure.label()),
            revision: execution.revision,
            created_at: time(execution.key.at),
            updated_at: time(execution.last_at),
        }
    }
}

impl AttemptItem {
    /// What the index knows of it.
    pub(super) fn of(row: AttemptRow) -> Self {
        let total_ms = row.total_us.map(millis);
        let none = Timings { dns_ms: None, connect_ms: None, tls_ms: None, first_byte_ms: None, total_ms };
        Self {
            number: row.number,
            at: time(row.at),
            started_at: row.started_at.map(time),
            outcome: row.outcome,
            reason: row.reason,
            due: row.due.map(time),
            revision: row.revision,
            status: row.status,
            failure: row.failure.map(|kind| Failure { kind: kind.label(), message: None }),
            timings: total_ms.map(|_| none),
            recorded: if row.number.is_some() { Recorded::NotRead } else { Recorded::NothingSent },
            request: None,
            response: None,
        }
    }

    /// With what its record says.
    pub(super) fn fill(&mut self, attempt: attempt::Attempt<'static>) {
        self.recorded = if attempt.unlisted { Recorded::WithoutBodies } else { Recorded::Kept };
        let timings = attempt.timings;
        self.timings = Some(Timings {
            dns_ms: timings.dns_us.map(millis),
            connect_ms: timings.connect_us.map(millis),
            tls_ms: timings.tls_us.map(millis),
            first_byte_ms: timings.first_byte_us.map(millis),
            total_ms: Some(millis(timings.total_us)),
        });
        self.failure = attempt.failure.map(|failure| Failure {
            kind: failure.kind.label(),
            message: Some(failure.message.into_owned()),
        });
        self.request = Some(SentRequest {
            method: attempt.request.method.into_owned(),
            url: attempt.request.url.into_owned(),
            headers: headers(attempt.request.headers),
            body: attempt.request.body.map(body),
        });
        self.response = attempt.response.map(|response| ReceivedResponse {
            status: response.status,
            headers: headers(response.headers),
            body: response.body.map(body),
        });
    }
}

type Text = std::borrow::Cow<'static, str>;

fn headers(headers: Vec<(Text, Text)>) -> Vec<Header> {
    let header = |(name, value): (Text, Text)| Header { name: name.into_owned(), value: value.into_owned() };
    headers.into_iter().map(header).collect()
}

fn body(body: attempt::Body<'static>) -> Body {
    Body { text: body.text.map(Text::into_owned), base64: body.base64, cut: body.cut }
}
