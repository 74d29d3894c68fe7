//! Webhooks: the list with its health, what can be done with one, and its form.

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use futures_util::future::join_all;
use hookstream_config::payload;
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value};

use super::Console;
use super::form::{Field, Form, Input, Of, Part};
use super::history::{self, Line};
use super::kinds::{self, Screen, Screened, SecretPage, encoded, main, may_write, query, text};
use super::page::{self, Page};
use super::visitor::Visitor;
use crate::history::ExecutionPage;
use crate::problem::{PingReport, Problem};
use crate::request::{ListParameters, Parameters};
use crate::resources::documents::TemplateTrial;
use crate::resources::webhooks::{self as operations, Action, Webhooks};
use crate::resources::{self, Shown};

impl Screened for Webhooks {
    const SCREEN: &'static Screen = &Screen::of(|t| t.webhooks, FIELDS);
}

const FIELDS: &[Field] = &[
    main("name", |t| t.name, Input::Line).required(),
    main("description", |t| t.description, Input::Line),
    main("account", |t| t.account, Input::Of(Of::Accounts)).hint(|t| t.entity_hint).fixed(),
    main("app", |t| t.app, Input::Of(Of::Apps)).fixed(),
    main("url", |t| t.url, Input::Line).hint(|t| t.url_hint).required(),
    main("source", |t| t.source, Input::Of(Of::Sources)),
    main("eventTypes", |t| t.events, Input::EventTypes).hint(|t| t.events_hint).required(),
    main("state", |t| t.state, Input::Choice(&["published", "draft"])).fixed(),
    main("method", |t| t.method, Input::Choice(&["POST", "PUT", "PATCH", "DELETE", "GET"]))
        .part(Part::Content),
    main("contentType", |t| t.content_type, Input::Proposed(CONTENT_TYPES))
        .hint(|t| t.content_type_hint)
        .part(Part::Content),
    main("filter", |t| t.filter_field, Input::Json).hint(|t| t.filter_hint),
    main("payload", |t| t.payload, Input::Payload).hint(|t| t.template_hint).part(Part::Content),
    main("headers", |t| t.headers, Input::Rows).hint(|t| t.headers_hint).part(Part::Content),
    main("secret", |t| t.secret, Input::Secret).hint(|t| t.secret_hint).part(Part::Trust),
    main("signature", |t| t.signature, Input::Signatures).part(Part::Trust),
    main("secretHeader", |t| t.secret_header, Input::Line).part(Part::Trust),
    main("authorization", |t| t.authorization, Input::Of(Of::Authorizations)).part(Part::Trust),
    main("logOnlyErrors", |t| t.log_only_errors, Input::Check).part(Part::Trust),
    main("retry", |t| t.retry, Input::Lines).hint(|t| t.retry_hint).part(Part::Advanced),
    main("giveUpOn", |t| t.give_up_on, Input::Numbers).part(Part::Advanced),
    main("timeout", |t| t.timeout, Input::Line).hint(|t| t.timeout_hint).part(Part::Advanced),
    main("rate", |t| t.rate, Input::Rate).hint(|t| t.rate_hint).part(Part::Advanced),
    main("ttl", |t| t.ttl, Input::Line).hint(|t| t.ttl_hint).part(Part::Advanced),
    main("concurrency", |t| t.concurrency, Input::Number).part(Part::Advanced),
    main("tls.ca", |t| t.ca, Input::Area).part(Part::Advanced),
    main("tls.pins", |t| t.pins, Input::Lines).part(Part::Advanced),
];

const CONTENT_TYPES: &[&str] = &[
    "application/json",
    "application/xml",
    "text/plain",
    "application/x-www-form-urlencoded",
    "application/cloudevents+json",
];
const STATES: &[&str] = &["published", "draft", "unpublished", "paused", "disabled"];
/// Event types that a row shows.
const SHOWN_TYPES: usize = 3;
/// Deliveries that a webhook's health is told from.
const HEALTH: usize = 10;
/// Webhooks of a page.
const ROWS: usize = 25;

pub(super) fn routes() -> Router<Arc<Console>> {
    Router::new()
        .route("/webhooks", get(list).post(kinds::create::<Webhooks>))
        .merge(kinds::form_routes::<Webhooks>())
        .route("/webhooks/{id}", get(show))
        .route("/webhooks/{id}/publish", post(publish))
        .route("/webhooks/{id}/unpublish", post(unpublish))
        .route("/webhooks/{id}/pause", post(pause))
        .route("/webhooks/{id}/resume", post(resume))
        .route("/webhooks/{id}/duplicate", post(duplicate))
        .route("/webhooks/{id}/ping", post(ping))
        .route("/webhooks/{id}/test", post(test))
        .route("/webhooks/{id}/rotate-secret", post(rotate))
        .route("/preview", post(preview))
        .route("/secret", post(secret))
}

#[derive(Template)]
#[template(path = "webhooks.html")]
struct ListPage {
    page: Page,
    rows: Vec<Row>,
    q: String,
    state: String,
    event_type: String,
    account: String,
    states: &'static [&'static str],
    sees_all: bool,
    is_filtered: bool,
    next: Option<String>,
    may_write: bool,
}

/// A webhook of the list.
struct Row {
    id: String,
    name: String,
    url: String,
    event_types: Vec<String>,
    more_types: usize,
    state: String,
    account: String,
    app: String,
    health: Option<Health>,
    has_lost_scopes: bool,
}

/// What became of the last deliveries.
struct Health {
    /// Outcomes, the oldest first.
    last: Vec<&'static str>,
    delivered: usize,
    /// Those that are decided.
    of: usize,
    last_failure: Option<(String, String)>,
}

async fn list(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
    parameters: Result<Parameters<ListParameters>, Problem>,
) -> Response {
    let Parameters(mut parameters) = parameters.unwrap_or_else(|_| Parameters(ListParameters::default()));
    for filter in [
        &mut parameters.q,
        &mut parameters.state,
        &mut parameters.event_type,
        &mut parameters.account,
        &mut parameters.app,
    ] {
        // A form sends what is left empty, too.
        *filter = filter.take().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    }
    parameters.limit = Some(ROWS);
    let listed = resources::list::<Webhooks>(&console.api, &visitor.principal, &parameters).await;
    let found = match listed {
        Ok(found) => found,
        Err(problem) => return page::trouble(&visitor, "webhooks", &problem),
    };
    let health = join_all(found.results.iter().map(|document| health(&console, &visitor, document))).await;
    let rows: Vec<Row> =
        found.results.iter().zip(health).map(|(document, health)| row(&console, document, health)).collect();
    let ListParameters { q, account, state, event_type, .. } = parameters;
    let [q, account, state, event_type] = [q, account, state, event_type].map(Option::unwrap_or_default);
    let next = found.next.map(|cursor| {
        let pairs = [
            ("q", q.as_str()),
            ("account", &account),
            ("state", &state),
            ("eventType", &event_type),
            ("cursor", &cursor),
        ];
        query(&pairs)
    });
    let template = ListPage {
        page: visitor.page("webhooks", visitor.t().webhooks),
        rows,
        is_filtered: [&q, &account, &state, &event_type].iter().any(|text| !text.is_empty()),
        q,
        state,
        event_type,
        account,
        states: STATES,
        sees_all: visitor.sees_all(),
        next,
        may_write: may_write::<Webhooks>(&visitor),
    };
    page::render(StatusCode::OK, &template)
}

fn row(console: &Console, document: &Value, health: Option<Health>) -> Row {
    let of = |field: &str| text(document.get(field));
    let types = document.get("eventTypes").and_then(Value::as_array);
    let mut event_types: Vec<String> = types.into_iter().flatten().map(|item| text(Some(item))).collect();
    let more_types = event_types.len().saturating_sub(SHOWN_TYPES);
    event_types.truncate(SHOWN_TYPES);
    let app = console.api.look(|state| {
        let app = state.app(of("app").parse().ok()?)?;
        Some(app.name.clone())
    });
    Row {
        id: of("id"),
        name: of("name"),
        url: of("url"),
        event_types,
        more_types,
        state: of("state"),
        account: of("account"),
        app: app.unwrap_or_default(),
        health,
        has_lost_scopes: document.get("missingScopes").is_some(),
    }
}

async fn health(console: &Console, visitor: &Visitor, document: &Value) -> Option<Health> {
    if !kinds::sees_history(visitor) {
        return None;
    }
    let id = text(document.get("id"));
    let asked = format!("limit={HEALTH}");
    let page = console.api.executions.list_of_webhook(&visitor.principal, &id, Some(&asked)).await;
    // Without the history the list is still a list.
    let ExecutionPage { results, .. } = page.ok()?;
    let decided = results.iter().filter(|execution| execution.outcome.label() != "waiting");
    let (mut delivered, mut of) = (0, 0);
    for execution in decided {
        of += 1;
        delivered += usize::from(execution.outcome.label() == "delivered");
    }
    let failed = results.iter().find(|execution| execution.outcome.label() != "delivered");
    let last_failure = failed.map(|execution| {
        let status = execution.status.map(|status| status.to_string());
        let why = execution.failure.map(str::to_owned).or(status).or_else(|| execution.reason.clone());
        (why.unwrap_or_default(), execution.updated_at.clone())
    });
    let last = results.iter().rev().map(|execution| execution.outcome.label()).collect();
    Some(Health { last, delivered, of, last_failure })
}

/// A webhook with what was done and what can be done.
#[derive(Template)]
#[template(path = "webhook.html")]
struct WebhookPage {
    page: Page,
    id: String,
    name: String,
    url: String,
    state: String,
    reason: String,
    event_types: Vec<String>,
    facts: Vec<(&'static str, String)>,
    /// In the order in which they are likely to be wanted.
    actions: Vec<(&'static str, &'static str)>,
    may_write: bool,
    report: Option<Report>,
    sees_history: bool,
    filters: history::Filters,
    lines: Vec<Line>,
    /// As the API numbers them.
    next: Option<String>,
    is_live: bool,
}

/// What an endpoint has said to a ping.
struct Report {
    success: bool,
    status: Option<u16>,
    time_ms: u64,
    reason: String,
}

impl From<PingReport> for Report {
    fn from(report: PingReport) -> Self {
        let PingReport { success, status, time_ms, reason } = report;
        Self { success, status, time_ms, reason: reason.unwrap_or_default() }
    }
}

async fn show(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
    Path(id): Path<String>,
    axum::extract::RawQuery(asked): axum::extract::RawQuery,
) -> Response {
    webhook_page(&console, &visitor, &id, asked.as_deref(), Ok(None)).await
}

async fn webhook_page(
    console: &Console,
    visitor: &Visitor,
    id: &str,
    asked: Option<&str>,
    result: Result<Option<Report>, Problem>,
) -> Response {
    let shown: Shown = match kinds::shown::<Webhooks>(console, visitor, id) {
        Ok(shown) => shown,
        Err(problem) => return page::trouble(visitor, "webhooks", &problem),
    };
    let t = visitor.t();
    let filters = history::Filters::read(asked);
    let sees_history = kinds::sees_history(visitor);
    let mut page = visitor.page("webhooks", text(shown.document.get("name")));
    let mut status = StatusCode::OK;
    let listed = match sees_history {
        false => Ok(None),
        true => {
            let query = filters.query();
            let listed = console.api.executions.list_of_webhook(&visitor.principal, id, Some(&query)).await;
            listed.map(Some)
        }
    };
    let (lines, next) = match listed {
        Ok(None) => (Vec::new(), None),
        Ok(Some(found)) => (found.results.into_iter().map(Line::of).collect(), found.next),
        Err(problem) => {
            page.problem = Some(problem.detail.clone());
            status = page::status_of(&problem);
            (Vec::new(), None)
        }
    };
    let report = match result {
        Ok(report) => report,
        Err(problem) => {
            page.problem = Some(problem.detail.clone());
            status = page::status_of(&problem);
            problem.ping.map(|report| Report::from(*report))
        }
    };
    let of = |field: &str| text(shown.document.get(field));
    let state = of("state");
    let mut facts = vec![(t.account, of("account")), (t.source, of("source")), (t.method, of("method"))];
    facts.push((t.content_type, of("contentType")));
    facts.push((t.updated, format!("{} ({})", of("updatedAt"), of("actor"))));
    facts.retain(|(_, value)| !value.is_empty());
    let types = shown.document.get("eventTypes").and_then(Value::as_array);
    let template = WebhookPage {
        page,
        id: shown.id.clone(),
        name: of("name"),
        url: of("url"),
        reason: of("disabledReason"),
        event_types: types.into_iter().flatten().map(|item| text(Some(item))).collect(),
        facts,
        actions: match state.as_str() {
            "published" => vec![("unpublish", t.unpublish), ("pause", t.pause)],
            "paused" => vec![("resume", t.resume), ("unpublish", t.unpublish)],
            _ => vec![("publish", t.publish)],
        },
        state,
        may_write: may_write::<Webhooks>(visitor),
        report,
        sees_history,
        is_live: filters.are_live(),
        next: next.map(|cursor| filters.next(&cursor)),
        filters,
        lines,
    };
    page::render(status, &template)
}

async fn act(console: &Arc<Console>, visitor: &Visitor, id: &str, action: Action, done: &str) -> Response {
    let acted = operations::act(&console.api, &visitor.principal, id, &HeaderMap::new(), action).await;
    match acted {
        Ok(_) => visitor.to(&format!("webhooks/{}?done={done}", encoded(id))),
        Err(problem) => webhook_page(console, visitor, id, None, Err(problem)).await,
    }
}

macro_rules! actions {
    ($($name:ident, $action:ident, $done:literal;)*) => {
        $(async fn $name(State(console): State<Arc<Console>>, visitor: Visitor, Path(id): Path<String>) -> Response {
            act(&console, &visitor, &id, Action::$action, $done).await
        })*
    };
}

actions! {
    publish, Publish, "published";
    unpublish, Unpublish, "unpublished";
    pause, Pause, "paused";
    resume, Resume, "resumed";
}

async fn duplicate(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
    Path(id): Path<String>,
) -> Response {
    let (headers, body) = (HeaderMap::new(), Map::new());
    match operations::duplicate(&console.api, &visitor.principal, &id, &headers, &body).await {
        Ok(copy) => visitor.to(&format!("webhooks/{}/edit?done=duplicated", encoded(&copy.shown.id))),
        Err(problem) => webhook_page(&console, &visitor, &id, None, Err(problem)).await,
    }
}

async fn ping(State(console): State<Arc<Console>>, visitor: Visitor, Path(id): Path<String>) -> Response {
    let said = operations::ping_now(&console.api, &visitor.principal, &id).await;
    webhook_page(&console, &visitor, &id, None, said.map(|report| Some(report.into()))).await
}

async fn test(State(console): State<Arc<Console>>, visitor: Visitor, Path(id): Path<String>) -> Response {
    let said = operations::test(&console.api, &visitor.principal, &id, &Map::new()).await;
    webhook_page(&console, &visitor, &id, None, said.map(|report| Some(report.into()))).await
}

async fn rotate(State(console): State<Arc<Console>>, visitor: Visitor, Path(id): Path<String>) -> Response {
    let (headers, body) = (HeaderMap::new(), Map::new());
    match operations::rotate_secret(&console.api, &visitor.principal, &id, &headers, &body).await {
        Ok(shown) => {
            let name = text(shown.document.get("name"));
            let secret = text(shown.document.get("generatedSecret"));
            let to = visitor.path(&format!("webhooks/{}", encoded(&id)));
            let page = visitor.page("webhooks", name.clone());
            page::render(StatusCode::OK, &SecretPage { page, name, id: None, secret, to })
        }
        Err(problem) => webhook_page(&console, &visitor, &id, None, Err(problem)).await,
    }
}

#[derive(Template)]
#[template(path = "preview.html")]
struct Preview {
    t: &'static super::texts::Texts,
    payload: Option<String>,
    problems: Vec<String>,
    /// Paths into the data of the chosen event types.
    placeholders: String,
}

/// What becomes of a sample, while somebody types.
async fn preview(State(console): State<Arc<Console>>, visitor: Visitor, request: Request) -> Response {
    let form = match Form::read(request.into_body()).await {
        Ok(form) => form,
        Err(problem) => return page::plain(page::status_of(&problem), "The form is too large."),
    };
    let chosen = form.chosen("eventTypes");
    let placeholders = console.api.look(|state| payload::placeholders(state, &chosen)).join(" ");
    let mut template = Preview { t: visitor.t(), payload: None, problems: Vec::new(), placeholders };
    if form.get("payload") != "template" {
        return page::render(StatusCode::OK, &template);
    }
    let some = |name: &str| Some(form.get(name).trim().to_owned()).filter(|text| !text.is_empty());
    let chosen = chosen.iter().find(|name| !name.contains('*')).map(|name| (*name).to_owned());
    let trial = TemplateTrial {
        template: form.get("payload.template").replace("\r\n", "\n"),
        content_type: some("contentType"),
        event_type: Some(chosen.unwrap_or_else(|| "hookstream.test".to_owned())),
        data: None,
        event: None,
        account: some("account").filter(|_| visitor.sees_all()),
    };
    match operations::render(&console.api, &visitor.principal, trial).await {
        Ok(rendered) => {
            template.payload = Some(rendered.payload);
            template.problems = rendered.problems;
        }
        Err(problem) => {
            template.problems = problem.errors.into_iter().map(|error| error.detail).collect();
            if template.problems.is_empty() {
                template.problems.push(problem.detail);
            }
        }
    }
    page::render(StatusCode::OK, &template)
}

#[derive(Template)]
#[template(path = "secret_input.html")]
struct SecretInput {
    secret: String,
}

/// A new secret into the form, to be copied from there before it is saved.
async fn secret(_: Visitor) -> Response {
    let secret = hookstream_config::apply::new_secret(&mut hookstream_config::os_random);
    let secret = secret.text.expose().to_owned();
    page::render(StatusCode::OK, &SecretInput { secret })
}
