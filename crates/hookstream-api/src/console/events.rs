//! Events that were accepted: found by what they are, and one with its data and its deliveries.

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use axum::routing::get;
use http::StatusCode;

use super::Console;
use super::history::Line;
use super::kinds::query;
use super::page::{self, Page};
use super::replays::moment;
use super::visitor::Visitor;
use crate::history::Recorded;
use crate::history::events::{EventDetail, EventItem};
use crate::matching::{MatchRequest, Matches, explain};

pub(super) fn routes() -> Router<Arc<Console>> {
    Router::new().route("/events", get(list)).route("/events/{event}", get(show))
}

#[derive(Template)]
#[template(path = "events.html")]
struct ListPage {
    page: Page,
    rows: Vec<EventItem>,
    fields: Vec<(&'static str, &'static str, String)>,
    is_filtered: bool,
    next: Option<String>,
}

async fn list(State(console): State<Arc<Console>>, visitor: Visitor, RawQuery(asked): RawQuery) -> Response {
    let t = visitor.t();
    let mut fields = vec![
        ("id", t.maker_id, String::new()),
        ("eventType", t.event_type, String::new()),
        ("subject", t.subject, String::new()),
        ("source", t.source, String::new()),
        ("from", t.from, String::new()),
        ("to", t.to, String::new()),
    ];
    if visitor.sees_all() {
        fields.push(("account", t.account, String::new()));
    }
    let mut cursor = String::new();
    for (name, value) in url::form_urlencoded::parse(asked.unwrap_or_default().as_bytes()) {
        if name == "cursor" {
            cursor = value.into_owned();
        } else if let Some((.., field)) = fields.iter_mut().find(|(known, ..)| *known == name) {
            value.trim().clone_into(field);
        }
    }
    let is_filtered = fields.iter().any(|(.., value)| !value.is_empty());
    let pairs = |cursor: &str| {
        let mut pairs: Vec<(&str, &str)> =
            fields.iter().map(|(name, _, value)| (*name, value.as_str())).collect();
        pairs.push(("cursor", cursor));
        query(&pairs)
    };
    // Of the account, the identity: people know accounts by their names.
    let named = |name: &str| {
        let uid = console.api.look(|state| hookstream_config::resolve::Names::new(state).account(name));
        uid.map_or_else(|| name.to_owned(), |uid| uid.to_string())
    };
    let values: Vec<(&str, String)> = fields
        .iter()
        .map(|(name, _, value)| match *name {
            "account" => (*name, named(value)),
            "from" | "to" => (*name, moment(value)),
            _ => (*name, value.clone()),
        })
        .chain([("cursor", cursor.clone())])
        .collect();
    let values: Vec<(&str, &str)> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut page = visitor.page("events", t.events);
    let mut status = StatusCode::OK;
    let (rows, next) = match console.api.executions.events(&visitor.principal, Some(&query(&values))).await {
        Ok(found) => (found.results, found.next),
        Err(problem) => {
            page.problem = Some(problem.detail.clone());
            status = page::status_of(&problem);
            (Vec::new(), None)
        }
    };
    let next = next.map(|cursor| pairs(&cursor));
    page::render(status, &ListPage { page, rows, fields, is_filtered, next })
}

#[derive(Template)]
#[template(path = "event.html")]
struct EventPage {
    page: Page,
    facts: Vec<(String, String)>,
    accepted_at: String,
    note: Option<&'static str>,
    data: Option<String>,
    is_binary: bool,
    lines: Vec<(String, Line)>,
    /// As it is configured now.
    matches: Option<Matches>,
}

async fn show(State(console): State<Arc<Console>>, visitor: Visitor, Path(event): Path<String>) -> Response {
    let detail = match console.api.executions.event(&visitor.principal, &event).await {
        Ok(detail) => detail,
        Err(problem) => return page::trouble(&visitor, "events", &problem),
    };
    let t = visitor.t();
    let asked = query(&[("event", &event), ("limit", "100")]);
    let executions = console.api.executions.list(&visitor.principal, Some(&asked)).await;
    let executions = executions.map(|page| page.results).unwrap_or_default();
    let lines = executions
        .into_iter()
        .map(|execution| (console.name_of(execution.webhook), Line::of(execution)))
        .collect();
    let asked = MatchRequest { event: Some(event), ..MatchRequest::default() };
    // An event whose data is not kept any more is shown without.
    let matches = explain(&console.api, &visitor.principal, asked).await.ok();
    let EventDetail { event, recorded, time, origin, extensions, content_type, data } = detail;
    let account =
        console.api.look(|state| state.account(event.account).map(|record| record.account.name.clone()));
    let mut facts = vec![
        (t.event_id.to_owned(), event.event.to_string()),
        (t.maker_id.to_owned(), event.id),
        (t.subject.to_owned(), event.subject.unwrap_or_default()),
        (t.account.to_owned(), account.unwrap_or_else(|| event.account.to_string())),
        (t.source.to_owned(), event.source),
        ("source".to_owned(), origin.unwrap_or_default()),
        (t.happened.to_owned(), time.unwrap_or_default()),
        (t.content_type.to_owned(), content_type.unwrap_or_default()),
    ];
    facts.extend(extensions);
    facts.retain(|(_, value)| !value.is_empty());
    let note = match recorded {
        Recorded::Gone => Some(t.record_gone),
        Recorded::NotRead => Some(t.record_late),
        Recorded::Kept | Recorded::WithoutBodies | Recorded::NothingSent => None,
    };
    let is_binary = data.as_ref().is_some_and(|data| data.text.is_none());
    let data = data.and_then(|data| data.text.or(data.base64));
    let template = EventPage {
        page: visitor.page("events", event.event_type),
        facts,
        accepted_at: event.accepted_at,
        note,
        data: data.map(|data| page::pretty(&data).into_owned()),
        is_binary,
        lines,
        matches,
    };
    page::render(StatusCode::OK, &template)
}
