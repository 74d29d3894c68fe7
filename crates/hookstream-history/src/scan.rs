//! Lists of executions: which index is gone along, how far, and how several are merged.
//!
//! A list goes along the index that has most in common with its filter, and passes over the entries that do not match.
//! It looks at a bounded number of them: so a filter that matches next to nothing costs no more than any other, and
//! its page comes back short, with a cursor to go on from. A list of what is not delivered goes along one part of an
//! index for each outcome, and merges them.

use std::time::Instant;

use hookstream_types::{AccountUid, WebhookId};

use crate::db::{History, Kind};
use crate::error::HistoryError;
use crate::fold::{Execution, Key, Outcome, failure_code, type_code};
use crate::query::{self, Filter, Page, StatusFilter};
use crate::sql::{Columns, Sql, Value, storable};

/// Items of a page at most.
const MAX_PAGE: usize = 500;
/// Entries that are looked at in the first step; each step after it looks at four times as many, until they are the most.
const FIRST_STEP: usize = 1_000;
/// The time is looked at between steps only: one of whole rows, where no index helps, takes some milliseconds.
const LARGEST_STEP: usize = 8_000;
const ORDER: &str = " ORDER BY at DESC, part DESC, position DESC, idx DESC";

/// An index, or a part of it, in which entries are in the order of the list.
struct Path {
    index: Option<&'static str>,
    /// SQL text, and what is bound after it.
    same: Vec<(&'static str, Value)>,
    /// Further conditions of the index itself.
    partial: bool,
}

impl Filter {
    fn paths(&self) -> Vec<Path> {
        let outcomes = self.undelivered();
        let mut same: Vec<(&'static str, Value)> = Vec::new();
        if let Some(event) = self.event {
            same.push(("event = ", event.0.into()));
            // Not in the index, but an event has few entries; and of another account's nothing is to be told.
            same.extend(self.account.map(|account| ("account = ", account.0.into())));
            return vec![Path { index: Some("executions_event"), same, partial: false }];
        }
        let (whole, partial) = if let Some(webhook) = self.webhook {
            same.push(("webhook = ", webhook.0.into()));
            (Some("executions_webhook"), "undelivered_webhook")
        } else if let Some(account) = self.account {
            same.push(("account = ", account.0.into()));
            (Some("executions_account"), "undelivered_account")
        } else {
            (None, "undelivered")
        };
        if let Some(outcomes) = outcomes {
            let path = |outcome: &Outcome| {
                let mut same = same.clone();
                same.push(("outcome = ", outcome.code().into()));
                Path { index: Some(partial), same, partial: true }
            };
            return outcomes.iter().map(path).collect();
        }
        if let (None, Some(_), Some(event_type)) = (self.webhook, self.account, &self.event_type) {
            same.push(("kind = ", type_code(event_type).into()));
            return vec![Path { index: Some("executions_type"), same, partial: false }];
        }
        vec![Path { index: whole, same, partial: false }]
    }

    /// The outcomes that can match, if delivered is none of them.
    fn undelivered(&self) -> Option<Vec<Outcome>> {
        let fails = self.failure.is_some()
            || self.status.is_some_and(|status| match status {
                StatusFilter::Exactly(status) => !(200..=299).contains(&status),
                StatusFilter::Class(class) => class != 2,
            });
        match self.outcome {
            Some(Outcome::Delivered) => None,
            Some(outcome) => Some(vec![outcome]),
            None if fails => Some(vec![Outcome::Waiting, Outcome::Dead, Outcome::Skipped]),
            None => None,
        }
    }

    /// What an entry is still asked for.
    fn rest(&self, path: &Path) -> Vec<(&'static str, Value)> {
        let mut rest = Vec::new();
        let asked = |column: &str| path.same.iter().any(|(text, _)| text.starts_with(column));
        if let Some(outcome) = self.outcome.filter(|_| !asked("outcome")) {
            rest.push(("outcome = ", outcome.code().into()));
        }
        if let Some(status) = self.status {
            let (low, high) = status.range();
            rest.push(("status >= ", low.into()));
            rest.push(("status <= ", high.into()));
        }
        if let Some(failure) = self.failure {
            rest.push(("failure = ", failure_code(failure).into()));
        }
        if let Some(event_type) = self.event_type.as_ref().filter(|_| !asked("kind")) {
            rest.push(("kind = ", type_code(event_type).into()));
        }
        rest
    }
}

/// What a path gave.
struct Found {
    keys: Vec<Key>,
    /// How far it was looked; none: to its end.
    reached: Option<Key>,
}

impl History {
    /// Executions, the newest first: those that began after `before` are left out. `scope`: of this account only.
    ///
    /// A page may come back short: see [`Page::next`].
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn executions(
        &self,
        scope: Option<AccountUid>,
        filter: &Filter,
        before: Option<Key>,
        limit: usize,
    ) -> Result<Page<Execution, Key>, HistoryError> {
        let empty = Page { items: Vec::new(), next: None };
        let account = match (scope, filter.account) {
            (Some(scope), Some(account)) if scope != account => return Ok(empty),
            (scope, account) => scope.or(account),
        };
        let event_type = filter.event_type.as_deref().map(|event_type| storable(event_type).into_owned());
        let filter = Filter { account, event_type, ..filter.clone() };
        if let Some(account) = account
            && self.is_anothers(&filter, account).await?
        {
            return Ok(empty);
        }
        let limit = limit.clamp(1, MAX_PAGE);
        let started = Instant::now();
        let upper = before.unwrap_or(Key::MAX).min(filter.until.map_or(Key::MAX, Key::start_of));
        let paths = filter.paths();
        let entries = self.limits.entries / paths.len();
        let mut all = Vec::new();
        for path in &paths {
            all.push(self.walk(&filter, path, upper, limit, entries, started).await?);
        }
        // What lies below where some path stopped may have others between.
        let reached = all.iter().filter_map(|found| found.reached).max();
        let mut keys: Vec<Key> = all.into_iter().flat_map(|found| found.keys).collect();
        keys.retain(|key| reached.is_none_or(|reached| *key >= reached));
        keys.sort_unstable_by(|a, b| b.cmp(a));
        let mut next = reached;
        if keys.len() > limit {
            keys.truncate(limit);
            next = keys.last().copied();
        }
        let mut items = self.read(&keys).await?;
        // Meanwhile some may have changed; types may share a code; and whose rows they are is looked at once more.
        items.retain(|execution| filter.matches(execution));
        items.sort_unstable_by_key(|execution| std::cmp::Reverse(execution.key));
        Ok(Page { items, next })
    }

    /// Whose a webhook's executions are; none: there are none.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn account_of(&self, webhook: WebhookId) -> Result<Option<AccountUid>, HistoryError> {
        let mut sql = Sql::new("SELECT account FROM executions");
        if self.kind == Kind::Sqlite {
            sql.push(" INDEXED BY executions_webhook");
        }
        sql.push(" WHERE webhook = ").bind(webhook.0).push(ORDER).push(" LIMIT 1");
        let failed = HistoryError::sql("look an account up");
        let row = sql.query(self.kind).fetch_optional(&self.readers).await.map_err(failed)?;
        row.map(|row| Columns::of(&row).uuid("account").map(AccountUid)).transpose()
    }

    /// Whether a list would go along the entries of a webhook of another account: it has none of this one's, and a page
    /// that is short of them would tell that they are there.
    async fn is_anothers(&self, filter: &Filter, account: AccountUid) -> Result<bool, HistoryError> {
        let (Some(webhook), None) = (filter.webhook, filter.event) else { return Ok(false) };
        let found = self.account_of(webhook).await?;
        Ok(found.is_some_and(|found| found != account))
    }

    async fn walk(
        &self,
        filter: &Filter,
        path: &Path,
        upper: Key,
        limit: usize,
        entries: usize,
        started: Instant,
    ) -> Result<Found, HistoryError> {
        let rest = filter.rest(path);
        let mut found = Found { keys: Vec::new(), reached: None };
        let (mut upper, mut step, mut left) = (upper, FIRST_STEP.max(limit + 1), entries.max(1));
        loop {
            step = step.min(left);
            let wanted = limit - found.keys.len();
            let asked = if rest.is_empty() { wanted.min(step) } else { step };
            let keys = self.step(filter, path, &rest, upper, asked, wanted).await?;
            let full = keys.len() == wanted;
            found.keys.extend(keys);
            if full {
                found.reached = found.keys.last().copied();
                return Ok(found);
            }
            if rest.is_empty() && asked == wanted {
                return Ok(found);
            }
            let Some(last) = self.last_of_step(filter, path, upper, asked).await? else { return Ok(found) };
            left -= asked.min(left);
            if left == 0 || started.elapsed() >= self.limits.time {
                found.reached = Some(last);
                return Ok(found);
            }
            upper = last;
            step = (step * 4).min(LARGEST_STEP.max(limit + 1));
        }
    }

    /// Those of the next `step` entries below `upper` that match, `limit` of them at most.
    async fn step(
        &self,
        filter: &Filter,
        path: &Path,
        rest: &[(&'static str, Value)],
        upper: Key,
        step: usize,
        limit: usize,
    ) -> Result<Vec<Key>, HistoryError> {
        let mut sql = Sql::new("SELECT at, part, position, idx FROM (");
        self.entries(
            &mut sql,
            "at, part, position, idx, outcome, status, failure, kind",
            filter,
            path,
            upper,
        );
        sql.push(&format!(" LIMIT {step}) AS scanned"));
        for (index, (text, value)) in rest.iter().enumerate() {
            sql.push(if index == 0 { " WHERE " } else { " AND " }).push(text).bind(value.clone());
        }
        sql.push(ORDER).push(&format!(" LIMIT {limit}"));
        self.keys(sql).await
    }

    /// The last of the next `step` entries; none if there are fewer.
    async fn last_of_step(
        &self,
        filter: &Filter,
        path: &Path,
        upper: Key,
        step: usize,
    ) -> Result<Option<Key>, HistoryError> {
        let mut sql = Sql::default();
        self.entries(&mut sql, "at, part, position, idx", filter, path, upper);
        sql.push(&format!(" LIMIT 1 OFFSET {}", step - 1));
        Ok(self.keys(sql).await?.first().copied())
    }

    fn entries(&self, sql: &mut Sql, columns: &str, filter: &Filter, path: &Path, upper: Key) {
        sql.push("SELECT ").push(columns).push(" FROM executions");
        if let (Kind::Sqlite, Some(index)) = (self.kind, path.index) {
            sql.push(" INDEXED BY ").push(index);
        }
        sql.push(" WHERE (at, part, position, idx) < (");
        sql.bind_all(values(upper)).push(")");
        if let Some(since) = filter.since {
            sql.push(" AND at >= ").bind(since.0);
        }
        for (text, value) in &path.same {
            sql.push(" AND ").push(text).bind(value.clone());
        }
        if path.partial {
            sql.push(" AND outcome <> 1");
        }
        sql.push(ORDER);
    }

    async fn keys(&self, sql: Sql) -> Result<Vec<Key>, HistoryError> {
        let rows = sql
            .query(self.kind)
            .fetch_all(&self.readers)
            .await
            .map_err(HistoryError::sql("list executions"))?;
        rows.iter().map(|row| query::key(&mut Columns::of(row))).collect()
    }

    async fn read(&self, keys: &[Key]) -> Result<Vec<Execution>, HistoryError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut sql = Sql::new("SELECT ");
        sql.push(query::EXECUTION).push(" FROM executions WHERE (at, part, position, idx) IN (VALUES ");
        for (index, key) in keys.iter().enumerate() {
            sql.push(if index > 0 { ", (" } else { "(" }).bind_all(values(*key)).push(")");
        }
        sql.push(")");
        let rows = sql
            .query(self.kind)
            .fetch_all(&self.readers)
            .await
            .map_err(HistoryError::sql("read executions"))?;
        rows.iter().map(query::execution).collect()
    }
}

fn values(key: Key) -> [Value; 4] {
    [key.at.0.into(), i64::from(key.partition.0).into(), key.offset.0.into(), i64::from(key.index).into()]
}
