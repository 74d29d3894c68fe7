//! What became of deliveries: a webhook's list, which goes on by itself while it is looked at, and one of them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream::unfold;
use http::StatusCode;
use tokio::time::Instant;

use super::Console;
use super::kinds::query;
use super::page::{self, Page};
use super::replays::moment;
use super::texts::Texts;
use super::visitor::Visitor;
use crate::access::Scope;
use crate::history::{AttemptItem, Body, Execution, ExecutionDetail, Recorded, SentRequest};

/// How often a list is looked at that is followed.
const LOOK: Duration = Duration::from_secs(1);
/// A browser asks anew then, by itself: so who may not look any more sees no more than a minute of it.
const LONGEST: Duration = Duration::from_secs(60);
const OUTCOMES: &[&str] = &["waiting", "delivered", "dead", "skipped"];

pub(super) fn routes() -> Router<Arc<Console>> {
    Router::new()
        .route("/webhooks/{id}/live", get(live))
        .route("/executions/{id}", get(show))
        .route("/executions/{id}/{number}/{which}", get(download))
}

/// Which executions.
#[derive(Debug, Default)]
pub(super) struct Filters {
    pub(super) outcome: String,
    pub(super) status: String,
    pub(super) event: String,
    pub(super) from: String,
    pub(super) to: String,
    cursor: String,
    pub(super) outcomes: &'static [&'static str],
}

impl Filters {
    pub(super) fn read(asked: Option<&str>) -> Self {
        let mut filters = Self { outcomes: OUTCOMES, ..Self::default() };
        for (name, value) in url::form_urlencoded::parse(asked.unwrap_or_default().as_bytes()) {
            let value = value.trim().to_owned();
            match &*name {
                "outcome" => filters.outcome = value,
                "status" => filters.status = value,
                "event" => filters.event = value,
                "from" => filters.from = value,
                "to" => filters.to = value,
                "cursor" => filters.cursor = value,
                _ => {}
            }
        }
        filters
    }

    fn pairs(&self) -> [(&'static str, &str); 5] {
        [
            ("outcome", &self.outcome),
            ("status", &self.status),
            ("event", &self.event),
            ("from", &self.from),
            ("to", &self.to),
        ]
    }

    /// As the API reads them.
    pub(super) fn query(&self) -> String {
        let mut pairs: Vec<(&str, String)> = Vec::new();
        for (name, value) in self.pairs() {
            let value = if matches!(name, "from" | "to") { moment(value) } else { value.to_owned() };
            pairs.push((name, value));
        }
        pairs.push(("cursor", self.cursor.clone()));
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
        query(&pairs)
    }

    pub(super) fn next(&self, cursor: &str) -> String {
        let mut pairs = self.pairs().to_vec();
        pairs.push(("cursor", cursor));
        query(&pairs)
    }

    /// The query that a list is followed with.
    pub(super) fn live(&self) -> String {
        query(&self.pairs())
    }

    /// Only a list's beginning changes.
    pub(super) fn are_live(&self) -> bool {
        self.cursor.is_empty() && self.to.is_empty()
    }

    pub(super) fn are_set(&self) -> bool {
        self.pairs().iter().any(|(_, value)| !value.is_empty()) || !self.cursor.is_empty()
    }
}

/// An execution in a list.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) id: String,
    pub(super) webhook: String,
    pub(super) event: String,
    pub(super) event_type: String,
    pub(super) outcome: &'static str,
    /// A status, or why there is none.
    pub(super) answer: String,
    pub(super) attempts: u32,
    pub(super) created_at: String,
    pub(super) due: String,
}

impl Line {
    pub(super) fn of(execution: Execution) -> Self {
        let status = execution.status.map(|status| status.to_string());
        let answer = execution.failure.map(str::to_owned).or(status).or(execution.reason);
        Self {
            id: execution.delivery_id.to_string(),
            webhook: execution.webhook.to_string(),
            event: execution.event.to_string(),
            event_type: execution.event_type,
            outcome: execution.outcome.label(),
            answer: answer.unwrap_or_default(),
            attempts: execution.attempts,
            created_at: execution.created_at,
            due: execution.due.unwrap_or_default(),
        }
    }
}

impl Texts {
    /// An outcome in words.
    pub(super) fn outcome_name(&self, label: &str) -> &'static str {
        match label {
            "waiting" => self.outcome_waiting,
            "delivered" => self.outcome_delivered,
            "dead" => self.outcome_dead,
            _ => self.outcome_skipped,
        }
    }
}

#[derive(Template)]
#[template(path = "lines.html")]
struct Lines {
    t: &'static Texts,
    base: &'static str,
    lines: Vec<Line>,
}

struct Following {
    console: Arc<Console>,
    visitor: Visitor,
    id: String,
    query: String,
    until: Instant,
    /// What was shown last.
    shown: String,
    is_first: bool,
    _permit: tokio::sync::OwnedSemaphorePermit,
}

impl Following {
    /// The next thing that is new; none: it is over.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        loop {
            if !self.is_first {
                tokio::select! {
                    () = tokio::time::sleep(LOOK) => {}
                    () = self.console.shutdown.cancelled() => return None,
                }
            }
            self.is_first = false;
            if Instant::now() >= self.until {
                return None;
            }
            let executions = &self.console.api.executions;
            let found =
                executions.list_of_webhook(&self.visitor.principal, &self.id, Some(&self.query)).await;
            // What can't be had now may be had in a second.
            let Ok(found) = found else { continue };
            let lines = found.results.into_iter().map(Line::of).collect();
            let html =
                Lines { t: self.visitor.t(), base: self.visitor.base, lines }.render().unwrap_or_default();
            if html != self.shown {
                let event = Event::default().event("lines").data(html.replace('\r', ""));
                self.shown = html;
                return Some((Ok(event), self));
            }
        }
    }
}

async fn live(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
    Path(id): Path<String>,
    RawQuery(asked): RawQuery,
) -> Response {
    let Ok(permit) = Arc::clone(&console.live).try_acquire_owned() else {
        return page::plain(StatusCode::SERVICE_UNAVAILABLE, "Too many lists are followed now.");
    };
    let following = Following {
        query: Filters::read(asked.as_deref()).query(),
        until: Instant::now() + LONGEST,
        console,
        visitor,
        id,
        shown: String::new(),
        is_first: true,
        _permit: permit,
    };
    Sse::new(unfold(following, Following::next)).keep_alive(KeepAlive::default()).into_response()
}

#[derive(Template)]
#[template(path = "execution.html")]
struct ExecutionPage {
    page: Page,
    line: Line,
    webhook_name: String,
    reason: String,
    attempts: Vec<Attempt>,
    may_write: bool,
}

/// An attempt as it is shown.
struct Attempt {
    item: AttemptItem,
    outcome: &'static str,
    /// Why there is no more to see.
    note: Option<&'static str>,
    request_body: Option<Shown>,
    response_body: Option<Shown>,
    timings: Vec<(&'static str, f64)>,
    curl: Option<String>,
}

/// A body as text.
struct Shown {
    text: String,
    is_binary: bool,
    is_cut: bool,
}

impl Shown {
    fn of(body: &Body) -> Self {
        let Body { text, base64, cut } = body;
        match (text, base64) {
            (Some(text), _) => Self { text: page::pretty(text).into_owned(), is_binary: false, is_cut: *cut },
            (None, base64) => {
                Self { text: base64.clone().unwrap_or_default(), is_binary: true, is_cut: *cut }
            }
        }
    }
}

async fn show(State(console): State<Arc<Console>>, visitor: Visitor, Path(id): Path<String>) -> Response {
    let found = match console.api.executions.execution(&visitor.principal, &id).await {
        Ok(found) => found,
        Err(problem) => return page::trouble(&visitor, "webhooks", &problem),
    };
    let t = visitor.t();
    let ExecutionDetail { execution, attempt_log } = found;
    let webhook_name = console.name_of(execution.webhook);
    let reason = execution.reason.clone().unwrap_or_default();
    let attempt = |item: AttemptItem| {
        let note = match item.recorded {
            Recorded::Kept => None,
            Recorded::WithoutBodies => Some(t.only_errors),
            Recorded::NothingSent => Some(t.nothing_sent),
            Recorded::Gone => Some(t.record_gone),
            Recorded::NotRead => Some(t.record_late),
        };
        let timings = item.timings.as_ref().map(|timings| {
            let all = [
                ("DNS", timings.dns_ms),
                ("TCP", timings.connect_ms),
                ("TLS", timings.tls_ms),
                ("TTFB", timings.first_byte_ms),
                (t.total, timings.total_ms),
            ];
            all.into_iter().filter_map(|(name, ms)| Some((name, ms?))).collect()
        });
        Attempt {
            outcome: item.outcome.label(),
            note,
            request_body: item.request.as_ref().and_then(|request| request.body.as_ref()).map(Shown::of),
            response_body: item.response.as_ref().and_then(|response| response.body.as_ref()).map(Shown::of),
            timings: timings.unwrap_or_default(),
            curl: item.request.as_ref().map(curl),
            item,
        }
    };
    let line = Line::of(execution);
    let template = ExecutionPage {
        page: visitor.page("webhooks", format!("{} {}", t.delivery, line.event_type)),
        webhook_name,
        line,
        reason,
        // The newest first: it is the one that matters.
        attempts: attempt_log.into_iter().rev().map(attempt).collect(),
        may_write: visitor.may(Scope::WebhooksWrite),
    };
    page::render(StatusCode::OK, &template)
}

/// The same request as a command. Secrets in it are masked.
fn curl(request: &SentRequest) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let mut command = format!("curl -X {} {}", request.method, quoted(&request.url));
    for header in &request.headers {
        command.push_str(" \\\n  -H ");
        command.push_str(&quoted(&format!("{}: {}", header.name, header.value)));
    }
    if let Some(text) = request.body.as_ref().and_then(|body| body.text.as_ref()) {
        command.push_str(" \\\n  --data-raw ");
        command.push_str(&quoted(text));
    }
    command
}

/// A body as a file: never as something that a browser would open.
async fn download(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
    Path((id, number, which)): Path<(String, usize, String)>,
) -> Response {
    use base64::Engine as _;
    let found = match console.api.executions.execution(&visitor.principal, &id).await {
        Ok(found) => found,
        Err(problem) => return page::trouble(&visitor, "webhooks", &problem),
    };
    let attempt = found.attempt_log.into_iter().find(|item| item.number == u32::try_from(number).ok());
    let body = attempt.and_then(|attempt| match which.as_str() {
        "request" => attempt.request?.body,
        "response" => attempt.response?.body,
        _ => None,
    });
    let Some(Body { text, base64, .. }) = body else { return page::not_found(visitor).await };
    let decoded = base64.and_then(|text| base64::engine::general_purpose::STANDARD.decode(text).ok());
    let bytes = text.map(String::into_bytes).or(decoded).unwrap_or_default();
    let headers = [
        ("content-type", "application/octet-stream"),
        ("content-disposition", "attachment; filename=\"body\""),
    ];
    (headers, bytes).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Header;

    #[test]
    fn a_command_says_what_was_sent_and_nothing_else_runs() {
        let request = SentRequest {
            method: "POST".to_owned(),
            url: "https://a.example/?a='b".to_owned(),
            headers: vec![Header { name: "x".to_owned(), value: "$(id)".to_owned() }],
            body: Some(Body { text: Some("it's\n".to_owned()), base64: None, cut: false }),
        };
        let expected =
            "curl -X POST 'https://a.example/?a='\\''b' \\\n  -H 'x: $(id)' \\\n  --data-raw 'it'\\''s\n'";
        assert_eq!(curl(&request), expected);
    }

    #[test]
    fn times_of_day_are_utc() {
        let filters = Filters::read(Some("outcome=dead&from=2026-01-01T10%3A00&to=&x=1&cursor=c"));
        assert_eq!(filters.query(), "outcome=dead&from=2026-01-01T10%3A00%3A00Z&cursor=c");
        assert!(!filters.are_live() && filters.are_set());
        assert!(Filters::read(None).are_live());
    }
}
