//! What happened lately: counts by the minute, times, what waits, and which webhooks are in trouble.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{RawQuery, State};
use hookstream_history::{Counts, Filter, MINUTE, Outcome};
use hookstream_types::{AccountUid, UnixMillis, WebhookId};
use serde::Serialize;
use utoipa::ToSchema;

use super::params::{Params, written};
use super::{Executions, failed};
use crate::access::{Bound, Denied, Principal, Scope};
use crate::description::Missing;
use crate::problem::Problem;

/// What is shown unless the request says.
const USUAL: Duration = Duration::from_secs(3600);
const LONGEST: Duration = Duration::from_secs(31 * 24 * 3600);
/// Points of a line.
const POINTS: i64 = 120;
/// Webhooks that are named.
const NAMED: usize = 10;
/// Executions of an outcome that are looked at.
const LOOKED_AT: usize = 2_000;
const PAGE: usize = 500;
/// Until when what waits is tried again, in seconds.
const WAITS: [(i64, &str); 8] = [
    (5, "5s"),
    (30, "30s"),
    (120, "2m"),
    (600, "10m"),
    (3_600, "1h"),
    (21_600, "6h"),
    (86_400, "24h"),
    (i64::MAX, "later"),
];

/// What happened in a span of time.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    #[schema(format = DateTime)]
    pub from: String,
    #[schema(format = DateTime)]
    pub to: String,
    /// What a point covers.
    pub minutes_per_point: i64,
    pub total: Figures,
    /// The oldest first; points at which nothing happened are there too.
    pub points: Vec<Point>,
    /// Deliveries that are under way or about to be, of all accounts; none for who does not see all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u64>,
    /// What waits for its next attempt, by when that is.
    pub waiting: Vec<Waiting>,
    /// More waits than was looked at.
    pub more_waiting: bool,
    /// The webhooks with the most deliveries that failed lately, and wait or are dead.
    pub failing: Vec<Failing>,
    /// The webhooks whose last deliveries took the longest.
    pub slowest: Vec<Slow>,
}

/// Figures of a span.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    pub delivered: u64,
    /// Attempts in vain.
    pub failed: u64,
    pub dead: u64,
    pub skipped: u64,
    /// Of an attempt, in milliseconds; null: there was none.
    pub p50_ms: Option<f64>,
    pub p95_ms: Option<f64>,
    pub p99_ms: Option<f64>,
}

/// A point of a line.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Point {
    /// Where it begins.
    #[schema(format = DateTime)]
    pub at: String,
    #[serde(skip)]
    pub(crate) unix_seconds: i64,
    #[serde(flatten)]
    pub figures: Figures,
}

/// What waits.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Waiting {
    /// `5s`, `30s`, `2m`, … from now; `later` than a day.
    pub within: &'static str,
    pub count: u64,
}

/// A webhook in trouble.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Failing {
    #[schema(value_type = Uuid)]
    pub webhook: WebhookId,
    pub count: u64,
}

/// A webhook that takes its time.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Slow {
    #[schema(value_type = Uuid)]
    pub webhook: WebhookId,
    pub mean_ms: f64,
}

impl From<&Counts> for Figures {
    fn from(counts: &Counts) -> Self {
        Self {
            delivered: counts.delivered,
            failed: counts.failed,
            dead: counts.dead,
            skipped: counts.skipped,
            p50_ms: counts.quantile_ms(0.5),
            p95_ms: counts.quantile_ms(0.95),
            p99_ms: counts.quantile_ms(0.99),
        }
    }
}

/// Shows what happened lately
///
/// In an account, or, for a token that is bound to none and names none, everywhere. The last hour, unless `from` and `to`
/// say otherwise.
#[utoipa::path(
    get,
    path = "/api/v1/stats",
    operation_id = "getStats",
    tag = "history",
    params(
        ("account" = Option<uuid::Uuid>, Query, description = "In this account"),
        ("from" = Option<String>, Query, description = "From this time on (RFC 3339), at most 31 days before `to`"),
        ("to" = Option<String>, Query, description = "Before this time (RFC 3339); else now"),
    ),
    responses(
        (status = 200, description = "What happened", body = Stats),
        Missing,
    )
)]
pub(super) async fn show(
    State(executions): State<Arc<Executions>>,
    principal: Principal,
    RawQuery(query): RawQuery,
) -> Result<Json<Stats>, Problem> {
    executions.stats(&principal, query.as_deref()).await.map(Json)
}

impl Executions {
    /// What senders have taken or will take at once; an overview is shown without it, too.
    async fn in_flight(&self, principal: &Principal, account: Option<AccountUid>) -> Option<u64> {
        if principal.bound != Bound::Everything || account.is_some() {
            return None;
        }
        let told = self.topics.backlog.records().await;
        told.inspect_err(|error| tracing::warn!(%error, "the overview is shown without what is in flight"))
            .ok()
    }

    /// What happened, as a query asks for it.
    ///
    /// # Errors
    /// What is wrong with the query, or with the index.
    pub async fn stats(&self, principal: &Principal, query: Option<&str>) -> Result<Stats, Problem> {
        principal.require(Scope::HistoryRead)?;
        if let Bound::App { .. } = principal.bound {
            // It is counted by accounts.
            return Err(Denied::NotFound.into());
        }
        let mut params = Params::read(query);
        let named = params.id::<AccountUid>("account");
        let (from, to) = params.span();
        let now = (self.now)();
        let to = to.unwrap_or(now);
        let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let from = from.unwrap_or_else(|| UnixMillis(to.0.saturating_sub(millis(USUAL))));
        if to.0.saturating_sub(from.0) > millis(LONGEST) {
            params.fault("from", "must be at most 31 days before `to`");
        }
        params.finish()?;
        let account = principal.account_if_any(named)?;
        let history = self.history()?;
        let minutes = history.minutes(account, from, to).await.map_err(failed)?;
        let first = from.0.div_euclid(MINUTE);
        let span = to.0.div_euclid(MINUTE) + i64::from(to.0.rem_euclid(MINUTE) > 0) - first;
        let step = (span + POINTS - 1).div_euclid(POINTS).max(1);
        let mut points: BTreeMap<i64, Counts> =
            (0..(span + step - 1).div_euclid(step)).map(|index| (index, Counts::default())).collect();
        let mut total = Counts::default();
        for (at, counts) in &minutes {
            total = total.plus(counts);
            let index = (at.0.div_euclid(MINUTE) - first).div_euclid(step);
            points.entry(index).and_modify(|point| *point = point.plus(counts));
        }
        let point = |(index, counts): (i64, Counts)| {
            let at = UnixMillis((first + index * step) * MINUTE);
            let figures = Figures::from(&counts);
            Point { at: written(at).to_string(), unix_seconds: at.0.div_euclid(1_000), figures }
        };
        let (waiting, more_waiting) = self.unsettled(account, Outcome::Waiting, None).await?;
        let (dead, _) = self.unsettled(account, Outcome::Dead, Some(from)).await?;
        let mut failing: BTreeMap<WebhookId, u64> = BTreeMap::new();
        let mut waits = [0; WAITS.len()];
        for (webhook, due) in &waiting {
            *failing.entry(*webhook).or_default() += 1;
            let left = due.map_or(0, |due| (due.0 - now.0).div_euclid(1_000));
            let index = WAITS.iter().position(|(within, _)| left <= *within).unwrap_or(WAITS.len() - 1);
            waits[index] += 1;
        }
        for (webhook, _) in &dead {
            *failing.entry(*webhook).or_default() += 1;
        }
        let failing = failing.into_iter().map(|(webhook, count)| Failing { webhook, count });
        let mut failing: Vec<Failing> = failing.collect();
        failing.sort_by_key(|failing| std::cmp::Reverse(failing.count));
        failing.truncate(NAMED);
        let slowest = history.slowest(account, from, NAMED).await.map_err(failed)?;
        let waiting = WAITS.iter().zip(waits).map(|((_, within), count)| Waiting { within, count });
        Ok(Stats {
            from: written(from).to_string(),
            to: written(to).to_string(),
            minutes_per_point: step,
            total: Figures::from(&total),
            points: points.into_iter().map(point).collect(),
            waiting: waiting.collect(),
            in_flight: self.in_flight(principal, account).await,
            more_waiting,
            failing,
            slowest: slowest.into_iter().map(|(webhook, mean_ms)| Slow { webhook, mean_ms }).collect(),
        })
    }

    /// Webhooks of executions with this outcome, and when they are due; and whether there are more than was looked at.
    async fn unsettled(
        &self,
        account: Option<AccountUid>,
        outcome: Outcome,
        since: Option<UnixMillis>,
    ) -> Result<(Vec<(WebhookId, Option<UnixMillis>)>, bool), Problem> {
        let filter = Filter { account, outcome: Some(outcome), since, ..Filter::default() };
        let (mut found, mut before) = (Vec::new(), None);
        loop {
            let page = self.history()?.executions(account, &filter, before, PAGE).await.map_err(failed)?;
            found.extend(page.items.into_iter().map(|execution| (execution.webhook, execution.due)));
            before = page.next;
            if before.is_none() || found.len() >= LOOKED_AT {
                return Ok((found, before.is_some()));
            }
        }
    }
}
