//! What was given up, and what is delivered again: dead letters, replays and how far they have got, single deliveries.

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::{Path, RawForm, RawQuery, State};
use axum::response::Response;
use axum::routing::{get, post};
use hookstream_core::decision::DeadReason;
use http::StatusCode;

use super::Console;
use super::history::Line;
use super::kinds::query;
use super::page::{self, Page};
use super::texts::Texts;
use super::visitor::Visitor;
use crate::access::Scope;
use crate::api::named_account;
use crate::problem::Problem;
use crate::replays::{
    Replay, ReplayRequest, ReplayedDeadLetters, ReplayedEvents, find, page as replays, start, stop,
};
use crate::request::ReplayParameters;
use crate::resources::Kinds as _;
use crate::resources::webhooks::Webhooks;

/// Webhooks that a form offers.
const OFFERED: usize = 500;

pub(super) fn routes() -> Router<Arc<Console>> {
    Router::new()
        .route("/replays", get(list).post(begin))
        .route("/replays/new", get(new))
        .route("/replays/{id}", get(show))
        .route("/replays/{id}/progress", get(progress))
        .route("/replays/{id}/cancel", post(cancel))
        .route("/dead-letters", get(dead_letters).post(redrive))
        .route("/executions/{id}/resend", post(resend))
}

/// What a form says, or the query that it is filled in with.
#[derive(Clone, Debug, Default)]
struct Asked {
    /// `events` or `deadLetters`.
    of: String,
    account: String,
    webhook: String,
    from: String,
    until: String,
    event_types: String,
    reason: String,
    is_dry: bool,
}

impl Asked {
    fn read(bytes: &[u8]) -> Self {
        let mut asked = Self::default();
        for (name, value) in url::form_urlencoded::parse(bytes) {
            let value = value.trim().to_owned();
            match &*name {
                "of" => asked.of = value,
                "account" => asked.account = value,
                "webhook" => asked.webhook = value,
                "from" => asked.from = value,
                "until" => asked.until = value,
                "eventTypes" => asked.event_types = value,
                "reason" => asked.reason = value,
                "dry" => asked.is_dry = value == "1",
                _ => {}
            }
        }
        if asked.of != "deadLetters" {
            "events".clone_into(&mut asked.of);
        }
        asked
    }

    fn of(replay: &Replay) -> Self {
        let mut asked = Self {
            of: "events".to_owned(),
            account: replay.account.to_string(),
            webhook: replay.webhook.map(|id| id.to_string()).unwrap_or_default(),
            ..Self::default()
        };
        if let Some(events) = &replay.events {
            asked.from.clone_from(&events.from);
            asked.until = events.until.clone().unwrap_or_default();
            asked.event_types = events.event_types.join(" ");
        }
        if let Some(dead) = &replay.dead_letters {
            "deadLetters".clone_into(&mut asked.of);
            asked.from = dead.from.clone().unwrap_or_default();
            asked.until = dead.until.clone().unwrap_or_default();
            asked.event_types = dead.event_types.join(" ");
            asked.reason = dead.reason.clone().unwrap_or_default();
        }
        asked
    }

    fn request(&self) -> ReplayRequest {
        let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let event_types: Vec<String> = self
            .event_types
            .split([' ', ',', '\n', '\r'])
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
        let (from, until) = (moment(&self.from), given(&moment(&self.until)));
        let (mut events, mut dead_letters) = (None, None);
        if self.of == "deadLetters" {
            let reason = given(&self.reason);
            dead_letters = Some(ReplayedDeadLetters { from: given(&from), until, reason, event_types });
        } else {
            events = Some(ReplayedEvents { from, until, event_types });
        }
        ReplayRequest {
            // A webhook's account is known.
            account: given(&self.account).filter(|_| self.webhook.is_empty()),
            webhook: given(&self.webhook),
            events,
            dead_letters,
            deliveries: None,
            dry_run: self.is_dry,
        }
    }
}

/// A field for a time of day names no zone: times are UTC where scripts don't run.
pub(super) fn moment(text: &str) -> String {
    let is_local = !text.is_empty() && !text.ends_with('Z') && !text.contains('+');
    if is_local { format!("{text}:00Z") } else { text.to_owned() }
}

/// A time as a field has it.
fn field_time(text: &str) -> String {
    text.get(..16).unwrap_or(text).to_owned()
}

/// A replay in a list, or alone.
struct Row {
    replay: Replay,
    /// A webhook's name, or nothing: all of them.
    to: String,
    percent: String,
    is_open: bool,
}

impl Row {
    fn of(console: &Console, replay: Replay) -> Self {
        let percent = format!("{:.0}", (replay.progress.unwrap_or_default() * 100.0).floor());
        let is_open = replay.state == "running" || (replay.state == "done" && !replay.dry_run);
        Self {
            to: replay.webhook.map(|id| console.name_of(id)).unwrap_or_default(),
            percent,
            is_open,
            replay,
        }
    }
}

impl Texts {
    /// How a replay stands, in words.
    pub(super) fn replay_state(&self, state: &str) -> &'static str {
        match state {
            "running" => self.replay_running,
            "done" => self.replay_done,
            "cancelled" => self.replay_cancelled,
            _ => self.replay_failed,
        }
    }

    /// What it delivers.
    fn replay_of(&self, row: &Row) -> &'static str {
        match (&row.replay.events, &row.replay.dead_letters) {
            (Some(_), _) => self.replay_events,
            (None, Some(_)) => self.dead_letters,
            (None, None) => self.replay_deliveries,
        }
    }
}

#[derive(Template)]
#[template(path = "replays.html")]
struct ListPage {
    page: Page,
    rows: Vec<Row>,
    may_write: bool,
    next: Option<String>,
}

async fn list(State(console): State<Arc<Console>>, visitor: Visitor, RawQuery(asked): RawQuery) -> Response {
    let asked = asked.unwrap_or_default();
    let cursor = url::form_urlencoded::parse(asked.as_bytes()).find(|(name, _)| name == "cursor");
    let cursor = cursor.map(|(_, value)| value.into_owned());
    let parameters = ReplayParameters { cursor, ..ReplayParameters::default() };
    match replays(&console.api, &visitor.principal, &parameters) {
        Ok(found) => {
            let rows = found.results.into_iter().map(|replay| Row::of(&console, replay)).collect();
            let page = visitor.page("replays", visitor.t().replays);
            let next = found.next.map(|next| query(&[("cursor", &next)]));
            let may_write = visitor.may(Scope::WebhooksWrite);
            page::render(StatusCode::OK, &ListPage { page, rows, may_write, next })
        }
        Err(problem) => page::trouble(&visitor, "replays", &problem),
    }
}

#[derive(Template)]
#[template(path = "replay_new.html")]
struct NewPage {
    page: Page,
    asked: Asked,
    sees_all: bool,
    webhooks: Vec<(String, String)>,
    reasons: Vec<&'static str>,
}

fn form(console: &Console, visitor: &Visitor, mut asked: Asked, problem: Option<Problem>) -> Response {
    let account = Some(asked.account.as_str()).filter(|account| !account.is_empty());
    let account = named_account(&console.api, &visitor.principal, account).unwrap_or(None);
    let webhooks = console.api.look(|state| {
        let all = Webhooks::each(state, account, "");
        let of_them = all.filter(|webhook| visitor.principal.owns(webhook.account, webhook.app).is_ok());
        let mut named: Vec<(String, String)> =
            of_them.take(OFFERED).map(|webhook| (webhook.id.to_string(), webhook.name.clone())).collect();
        named.sort_by(|one, other| one.1.cmp(&other.1));
        named
    });
    let mut page = visitor.page("replays", visitor.t().new_replay);
    let mut status = StatusCode::OK;
    if let Some(problem) = problem {
        page.problem = Some(problem.detail.clone());
        status = page::status_of(&problem);
    }
    asked.from = field_time(&asked.from);
    asked.until = field_time(&asked.until);
    let reasons = DeadReason::ALL.iter().map(|reason| reason.label()).collect();
    page::render(status, &NewPage { page, asked, sees_all: visitor.sees_all(), webhooks, reasons })
}

async fn new(State(console): State<Arc<Console>>, visitor: Visitor, RawQuery(asked): RawQuery) -> Response {
    form(&console, &visitor, Asked::read(asked.unwrap_or_default().as_bytes()), None)
}

async fn begin(State(console): State<Arc<Console>>, visitor: Visitor, RawForm(body): RawForm) -> Response {
    let asked = Asked::read(&body);
    match start(&console.api, &visitor.principal, asked.request()).await {
        Ok(replay) => visitor.to(&format!("replays/{}", replay.id)),
        Err(problem) => form(&console, &visitor, asked, Some(problem)),
    }
}

#[derive(Template)]
#[template(path = "replay.html")]
struct ShowPage {
    page: Page,
    row: Row,
    asked: Asked,
    may_write: bool,
}

#[derive(Template)]
#[template(path = "replay_progress.html")]
struct ProgressPart {
    page: Page,
    row: Row,
    asked: Asked,
    may_write: bool,
}

fn found(console: &Console, visitor: &Visitor, id: &str) -> Result<(Row, Asked), Problem> {
    visitor.principal.require(Scope::WebhooksRead)?;
    let replay = find(&console.api, &visitor.principal, id)?;
    let replay = Replay::of(&replay);
    let asked = Asked::of(&replay);
    Ok((Row::of(console, replay), asked))
}

async fn show(State(console): State<Arc<Console>>, visitor: Visitor, Path(id): Path<String>) -> Response {
    match found(&console, &visitor, &id) {
        Ok((row, asked)) => {
            let page = visitor.page("replays", visitor.t().replay);
            let may_write = visitor.may(Scope::WebhooksWrite);
            page::render(StatusCode::OK, &ShowPage { page, row, asked, may_write })
        }
        Err(problem) => page::trouble(&visitor, "replays", &problem),
    }
}

async fn progress(State(console): State<Arc<Console>>, visitor: Visitor, Path(id): Path<String>) -> Response {
    match found(&console, &visitor, &id) {
        Ok((row, asked)) => {
            let page = visitor.page("replays", visitor.t().replay);
            let may_write = visitor.may(Scope::WebhooksWrite);
            page::render(StatusCode::OK, &ProgressPart { page, row, asked, may_write })
        }
        Err(problem) => page::trouble(&visitor, "replays", &problem),
    }
}

async fn cancel(State(console): State<Arc<Console>>, visitor: Visitor, Path(id): Path<String>) -> Response {
    match stop(&console.api, &visitor.principal, &id).await {
        Ok(replay) => visitor.to(&format!("replays/{}", replay.id)),
        Err(problem) => page::trouble(&visitor, "replays", &problem),
    }
}

async fn resend(State(console): State<Arc<Console>>, visitor: Visitor, Path(id): Path<String>) -> Response {
    let request = ReplayRequest { deliveries: Some(vec![id.clone()]), ..ReplayRequest::default() };
    match start(&console.api, &visitor.principal, request).await {
        Ok(_) => visitor.to(&format!("executions/{id}?done=resent")),
        Err(problem) => page::trouble(&visitor, "webhooks", &problem),
    }
}

#[derive(Template)]
#[template(path = "dead_letters.html")]
struct DeadPage {
    page: Page,
    fields: Vec<(&'static str, &'static str, String)>,
    from: String,
    to: String,
    lines: Vec<(String, Line)>,
    /// The reasons of those shown, with how many there are of each.
    reasons: Vec<(String, usize)>,
    /// The same selection as a replay.
    all: String,
    /// What is asked for, to come back to.
    here: String,
    may_write: bool,
    is_filtered: bool,
    next: Option<String>,
}

async fn dead_letters(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
    RawQuery(asked): RawQuery,
) -> Response {
    dead_page(&console, &visitor, asked.as_deref().unwrap_or_default(), None).await
}

async fn dead_page(console: &Console, visitor: &Visitor, asked: &str, problem: Option<Problem>) -> Response {
    let t = visitor.t();
    let value = |wanted: &str| {
        let found = url::form_urlencoded::parse(asked.as_bytes()).find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let (webhook, event_type, cursor) = (value("webhook"), value("eventType"), value("cursor"));
    let (from, to) = (value("from"), value("to"));
    let (since, until) = (moment(&from), moment(&to));
    let pairs = [
        ("outcome", "dead"),
        ("webhook", &*webhook),
        ("eventType", &*event_type),
        ("from", &*since),
        ("to", &*until),
        ("cursor", &*cursor),
    ];
    let listed = console.api.executions.list(&visitor.principal, Some(&query(&pairs))).await;
    let mut page = visitor.page("dead-letters", t.dead_letters);
    let mut problem = problem;
    let (results, next) = match listed {
        Ok(listed) => (listed.results, listed.next),
        Err(error) => {
            problem = Some(error);
            (Vec::new(), None)
        }
    };
    let mut status = StatusCode::OK;
    if let Some(problem) = problem {
        page.problem = Some(problem.detail.clone());
        status = page::status_of(&problem);
    }
    let mut reasons: Vec<(String, usize)> = Vec::new();
    for reason in results.iter().filter_map(|execution| execution.reason.as_ref()) {
        match reasons.iter_mut().find(|(known, _)| known == reason) {
            Some((_, count)) => *count += 1,
            None => reasons.push((reason.clone(), 1)),
        }
    }
    let lines = results
        .into_iter()
        .map(|execution| (console.name_of(execution.webhook), Line::of(execution)))
        .collect();
    let is_filtered = [&webhook, &event_type, &from, &to].iter().any(|value| !value.is_empty());
    let filters = [("webhook", &*webhook), ("eventType", &*event_type), ("from", &*from), ("to", &*to)];
    let at = |cursor: &str| query(&[&filters[..], &[("cursor", cursor)]].concat());
    let template = DeadPage {
        page,
        here: at(&cursor),
        next: next.map(|cursor| at(&cursor)),
        lines,
        reasons,
        all: query(&[
            ("of", "deadLetters"),
            ("webhook", &webhook),
            ("eventTypes", &event_type),
            ("from", &from),
            ("until", &to),
        ]),
        may_write: visitor.may(Scope::WebhooksWrite),
        is_filtered,
        fields: vec![("webhook", t.webhook_id, webhook), ("eventType", t.event_type, event_type)],
        from,
        to,
    };
    page::render(status, &template)
}

async fn redrive(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
    RawQuery(asked): RawQuery,
    RawForm(body): RawForm,
) -> Response {
    let asked = asked.unwrap_or_default();
    let chosen = url::form_urlencoded::parse(&body).filter(|(name, _)| name == "delivery");
    let deliveries: Vec<String> = chosen.map(|(_, value)| value.into_owned()).collect();
    if deliveries.is_empty() {
        let problem = Problem::invalid_field("", visitor.t().choose_some);
        return dead_page(&console, &visitor, &asked, Some(problem)).await;
    }
    let request = ReplayRequest { deliveries: Some(deliveries), ..ReplayRequest::default() };
    match start(&console.api, &visitor.principal, request).await {
        Ok(replay) => visitor.to(&format!("replays/{}", replay.id)),
        Err(problem) => dead_page(&console, &visitor, &asked, Some(problem)).await,
    }
}
