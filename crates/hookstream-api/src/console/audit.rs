//! Who changed what.

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use axum::routing::get;
use http::StatusCode;
use serde_json::Value;

use super::Console;
use super::kinds::{query, text};
use super::page::{self, Page};
use super::visitor::Visitor;
use crate::history::{AuditAction, AuditItem};

pub(super) fn routes() -> Router<Arc<Console>> {
    Router::new().route("/audit", get(list))
}

#[derive(Template)]
#[template(path = "audit.html")]
struct ListPage {
    page: Page,
    rows: Vec<Row>,
    actor: String,
    next: Option<String>,
}

struct Row {
    at: String,
    actor: String,
    action: &'static str,
    kind: String,
    name: String,
    changes: Vec<(String, String, String)>,
}

async fn list(State(console): State<Arc<Console>>, visitor: Visitor, RawQuery(asked): RawQuery) -> Response {
    let (mut actor, mut cursor) = (String::new(), String::new());
    for (name, value) in url::form_urlencoded::parse(asked.unwrap_or_default().as_bytes()) {
        match &*name {
            "actor" => value.trim().clone_into(&mut actor),
            "cursor" => cursor = value.into_owned(),
            _ => {}
        }
    }
    let asked = query(&[("actor", &actor), ("cursor", &cursor)]);
    let found = match console.api.executions.audit(&visitor.principal, Some(&asked)).await {
        Ok(found) => found,
        Err(problem) => return page::trouble(&visitor, "audit", &problem),
    };
    let t = visitor.t();
    let row = |item: AuditItem| {
        let action = match item.action {
            AuditAction::Create => t.created_by,
            AuditAction::Update => t.updated_by,
            AuditAction::Delete => t.deleted_by,
        };
        let of = |value: &Option<Value>| text(value.as_ref().and_then(|value| value.get("name")));
        let name = [of(&item.after), of(&item.before), item.id].into_iter().find(|name| !name.is_empty());
        Row {
            at: item.at,
            actor: item.actor,
            action,
            kind: item.resource,
            name: name.unwrap_or_default(),
            changes: changes(item.before.as_ref(), item.after.as_ref()),
        }
    };
    let template = ListPage {
        page: visitor.page("audit", t.audit),
        rows: found.results.into_iter().map(row).collect(),
        next: found.next.map(|cursor| query(&[("actor", &actor), ("cursor", &cursor)])),
        actor,
    };
    page::render(StatusCode::OK, &template)
}

/// The fields that are another's than before.
fn changes(before: Option<&Value>, after: Option<&Value>) -> Vec<(String, String, String)> {
    /// What changes with every change.
    const ALWAYS: &[&str] = &["revision", "updatedAt", "updated_at", "actor", "meta"];
    let of = |value: Option<&'_ Value>| value.and_then(Value::as_object).cloned().unwrap_or_default();
    let (before, after) = (of(before), of(after));
    if before.is_empty() || after.is_empty() {
        return Vec::new();
    }
    let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
    names.sort_unstable();
    names.dedup();
    names
        .into_iter()
        .filter(|name| !ALWAYS.contains(&name.as_str()) && before.get(*name) != after.get(*name))
        .map(|name| (name.clone(), text(before.get(name)), text(after.get(name))))
        .collect()
}
