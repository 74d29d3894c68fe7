//! Lists: which part of an index is gone along, how far, and how several are merged.
//!
//! A list goes along the index that has most in common with its filter, and passes over the entries that do not match.
//! It looks at a bounded number of them: so a filter that matches next to nothing costs no more than any other, and
//! its page comes back short, with a cursor to go on from. Where no index has the list's order, it goes along several
//! parts of one, and merges them.

use std::time::Instant;

use hookstream_types::UnixMillis;
use sqlx::any::AnyRow;

use crate::db::{History, Kind};
use crate::error::HistoryError;
use crate::fold::Key;
use crate::query;
use crate::sql::{Columns, Sql, Value};

/// Items of a page at most.
const MAX_PAGE: usize = 500;
/// Entries that are looked at in the first step; each step after it looks at four times as many, until they are the most.
const FIRST_STEP: usize = 1_000;
/// The time is looked at between steps only: one of whole rows, where no index helps, takes some milliseconds.
const LARGEST_STEP: usize = 8_000;
const ORDER: &str = " ORDER BY at DESC, part DESC, position DESC, idx DESC";

/// What a list is of.
pub(crate) struct Listing {
    pub(crate) table: &'static str,
    /// With `, ` before: what the paths' `rest` is about.
    pub(crate) columns: &'static str,
    /// One at least.
    pub(crate) paths: Vec<Path>,
    pub(crate) since: Option<UnixMillis>,
    pub(crate) until: Option<UnixMillis>,
}

/// An index, or a part of it, in which entries are in the order of the list.
pub(crate) struct Path {
    /// None: the table's own order.
    pub(crate) index: Option<&'static str>,
    /// What all entries of the part have in common: SQL text, and what is bound after it.
    pub(crate) same: Vec<Condition>,
    /// A further condition of the index itself.
    pub(crate) partial: &'static str,
    /// What an entry is still asked for.
    pub(crate) rest: Vec<Condition>,
}

pub(crate) type Condition = (&'static str, Value);

/// What a path gave.
struct Found {
    keys: Vec<Key>,
    /// How far it was looked; none: to its end.
    reached: Option<Key>,
}

impl History {
    /// The keys of a page, the newest first, and where the next one begins.
    pub(crate) async fn page_keys(
        &self,
        listing: &Listing,
        before: Option<Key>,
        limit: usize,
    ) -> Result<(Vec<Key>, Option<Key>), HistoryError> {
        let limit = limit.clamp(1, MAX_PAGE);
        let started = Instant::now();
        let upper = before.unwrap_or(Key::MAX).min(listing.until.map_or(Key::MAX, Key::start_of));
        let entries = self.limits.entries / listing.paths.len().max(1);
        let mut all = Vec::new();
        for path in &listing.paths {
            all.push(self.walk(listing, path, upper, limit, entries, started).await?);
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
        Ok((keys, next))
    }

    async fn walk(
        &self,
        listing: &Listing,
        path: &Path,
        upper: Key,
        limit: usize,
        entries: usize,
        started: Instant,
    ) -> Result<Found, HistoryError> {
        let mut found = Found { keys: Vec::new(), reached: None };
        let (mut upper, mut step, mut left) = (upper, FIRST_STEP.max(limit + 1), entries.max(1));
        loop {
            step = step.min(left);
            let wanted = limit - found.keys.len();
            let asked = if path.rest.is_empty() { wanted.min(step) } else { step };
            let keys = self.step(listing, path, upper, asked, wanted).await?;
            let full = keys.len() == wanted;
            found.keys.extend(keys);
            if full {
                found.reached = found.keys.last().copied();
                return Ok(found);
            }
            if path.rest.is_empty() && asked == wanted {
                return Ok(found);
            }
            let Some(last) = self.last_of_step(listing, path, upper, asked).await? else { return Ok(found) };
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
        listing: &Listing,
        path: &Path,
        upper: Key,
        step: usize,
        limit: usize,
    ) -> Result<Vec<Key>, HistoryError> {
        let mut sql = Sql::new("SELECT at, part, position, idx FROM (");
        self.entries(&mut sql, listing.columns, listing, path, upper);
        sql.push(&format!(" LIMIT {step}) AS scanned"));
        for (index, (text, value)) in path.rest.iter().enumerate() {
            sql.push(if index == 0 { " WHERE " } else { " AND " }).push(text).bind(value.clone());
        }
        sql.push(ORDER).push(&format!(" LIMIT {limit}"));
        self.keys(sql).await
    }

    /// The last of the next `step` entries; none if there are fewer.
    async fn last_of_step(
        &self,
        listing: &Listing,
        path: &Path,
        upper: Key,
        step: usize,
    ) -> Result<Option<Key>, HistoryError> {
        let mut sql = Sql::default();
        self.entries(&mut sql, "", listing, path, upper);
        sql.push(&format!(" LIMIT 1 OFFSET {}", step - 1));
        Ok(self.keys(sql).await?.first().copied())
    }

    fn entries(&self, sql: &mut Sql, columns: &str, listing: &Listing, path: &Path, upper: Key) {
        sql.push("SELECT at, part, position, idx").push(columns).push(" FROM ").push(listing.table);
        if let (Kind::Sqlite, Some(index)) = (self.kind, path.index) {
            sql.push(" INDEXED BY ").push(index);
        }
        sql.push(" WHERE (at, part, position, idx) < (");
        sql.bind_all(values(upper)).push(")");
        if let Some(since) = listing.since {
            sql.push(" AND at >= ").bind(since.0);
        }
        for (text, value) in &path.same {
            sql.push(" AND ").push(text).bind(value.clone());
        }
        sql.push(path.partial).push(ORDER);
    }

    async fn keys(&self, sql: Sql) -> Result<Vec<Key>, HistoryError> {
        let rows = sql.query(self.kind).fetch_all(&self.readers).await.map_err(HistoryError::sql("list"))?;
        rows.iter().map(|row| query::key(&mut Columns::of(row))).collect()
    }

    /// Rows by their keys, in no order.
    pub(crate) async fn rows_of(
        &self,
        table: &str,
        columns: &str,
        keys: &[Key],
    ) -> Result<Vec<AnyRow>, HistoryError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut sql = Sql::new("SELECT ");
        sql.push(columns).push(" FROM ").push(table).push(" WHERE (at, part, position, idx) IN (VALUES ");
        for (index, key) in keys.iter().enumerate() {
            sql.push(if index > 0 { ", (" } else { "(" }).bind_all(values(*key)).push(")");
        }
        sql.push(")");
        sql.query(self.kind).fetch_all(&self.readers).await.map_err(HistoryError::sql("read a page"))
    }
}

pub(crate) fn values(key: Key) -> [Value; 4] {
    [key.at.0.into(), i64::from(key.partition.0).into(), key.offset.0.into(), i64::from(key.index).into()]
}
