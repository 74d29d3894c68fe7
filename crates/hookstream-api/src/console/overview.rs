//! How deliveries go: figures, lines over time, what waits, and who is in trouble.

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use axum::routing::get;
use hookstream_types::{UnixMillis, WebhookId};
use http::StatusCode;
use serde_json::json;

use super::Console;
use super::kinds::query;
use super::page::{self, Page};
use super::visitor::Visitor;
use crate::history::stats::{Figures, Stats, Waiting};

/// What can be looked at, in minutes.
const SPANS: &[(&str, i64)] = &[("1h", 60), ("6h", 360), ("24h", 1_440), ("7d", 10_080)];

pub(super) fn routes() -> Router<Arc<Console>> {
    Router::new().route("/overview", get(show))
}

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    page: Page,
    spans: Vec<(&'static str, bool)>,
    total: Figures,
    times: [String; 3],
    rates: String,
    latencies: String,
    points: Vec<(String, Figures)>,
    waiting: Vec<Waiting>,
    more_waiting: bool,
    in_flight: Option<u64>,
    failing: Vec<(WebhookId, String, u64)>,
    slowest: Vec<(WebhookId, String, String)>,
    account: String,
    sees_all: bool,
    is_quiet: bool,
}

fn millis(ms: Option<f64>) -> String {
    match ms {
        None => "–".to_owned(),
        Some(ms) if ms >= 10.0 => format!("{ms:.0} ms"),
        Some(ms) => format!("{ms:.1} ms"),
    }
}

async fn show(State(console): State<Arc<Console>>, visitor: Visitor, RawQuery(asked): RawQuery) -> Response {
    let (mut span, mut account) = (SPANS[0], String::new());
    for (name, value) in url::form_urlencoded::parse(asked.unwrap_or_default().as_bytes()) {
        match &*name {
            "span" => span = SPANS.iter().copied().find(|(label, _)| *label == value).unwrap_or(span),
            "account" => value.trim().clone_into(&mut account),
            _ => {}
        }
    }
    let t = visitor.t();
    let now = console.api.now();
    let from = hookstream_config::manifest::render::time(UnixMillis(now.0 - span.1 * 60_000));
    let uid = console.api.look(|state| hookstream_config::resolve::Names::new(state).account(&account));
    let uid = uid.map(|uid| uid.to_string()).filter(|_| !account.is_empty()).unwrap_or_default();
    let asked = query(&[("from", &from), ("account", &uid)]);
    let stats = match console.api.executions.stats(&visitor.principal, Some(&asked)).await {
        Ok(stats) => stats,
        Err(problem) => return page::trouble(&visitor, "overview", &problem),
    };
    let Stats {
        minutes_per_point, total, points, waiting, more_waiting, in_flight, failing, slowest, ..
    } = stats;
    let seconds: Vec<i64> = points.iter().map(|point| point.unix_seconds).collect();
    #[expect(clippy::cast_precision_loss, reason = "a figure in a chart")]
    let per_minute = |count: u64| (count as f64 / minutes_per_point as f64 * 100.0).round() / 100.0;
    let line = |of: &dyn Fn(&Figures) -> serde_json::Value| -> Vec<serde_json::Value> {
        points.iter().map(|point| of(&point.figures)).collect()
    };
    let rates = json!({ "x": seconds, "unit": "/min", "lines": [
        { "label": t.outcome_delivered, "kind": "good", "y": line(&|figures| json!(per_minute(figures.delivered))) },
        { "label": t.failed, "kind": "warn", "y": line(&|figures| json!(per_minute(figures.failed))) },
        { "label": t.outcome_dead, "kind": "bad", "y": line(&|figures| json!(per_minute(figures.dead))) },
    ] });
    let latencies = json!({ "x": seconds, "unit": "ms", "lines": [
        { "label": "p50", "kind": "good", "y": line(&|figures| json!(figures.p50_ms)) },
        { "label": "p95", "kind": "warn", "y": line(&|figures| json!(figures.p95_ms)) },
        { "label": "p99", "kind": "bad", "y": line(&|figures| json!(figures.p99_ms)) },
    ] });
    let template = OverviewPage {
        page: visitor.page("overview", t.overview),
        spans: SPANS.iter().map(|(label, _)| (*label, *label == span.0)).collect(),
        times: [total.p50_ms, total.p95_ms, total.p99_ms].map(millis),
        is_quiet: total.delivered + total.failed + total.dead + total.skipped == 0,
        total,
        rates: rates.to_string(),
        latencies: latencies.to_string(),
        points: points.into_iter().map(|point| (point.at, point.figures)).collect(),
        waiting,
        more_waiting,
        in_flight,
        failing: failing
            .into_iter()
            .map(|found| (found.webhook, console.name_of(found.webhook), found.count))
            .collect(),
        slowest: slowest
            .into_iter()
            .map(|found| (found.webhook, console.name_of(found.webhook), millis(Some(found.mean_ms))))
            .collect(),
        account,
        sees_all: visitor.sees_all(),
    };
    page::render(StatusCode::OK, &template)
}
