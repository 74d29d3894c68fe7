//! What is too old or too much is deleted, a step at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use hookstream_types::{Partition, UnixMillis};
use sqlx::{Any, Transaction};

use crate::db::{Feed, History, Kind};
use crate::error::HistoryError;
use crate::query;
use crate::scan::values;
use crate::sql::{Columns, Sql};

/// What is kept of the attempts, and of the events. What is none is not bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    pub age: Option<Duration>,
    /// Rows of attempts, and rows of events.
    pub rows: Option<u64>,
    /// Of the SQLite file, without what is free in it. In PostgreSQL, which does not say: 800 for each row.
    pub bytes: Option<u64>,
}

impl Default for Retention {
    fn default() -> Self {
        Self { age: Some(Duration::from_secs(7 * 24 * 3600)), rows: Some(10_000_000), bytes: None }
    }
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retained {
    /// Rows deleted.
    pub removed: u64,
    /// There is more to delete: call again.
    pub more: bool,
}

/// Rows of a step: some ten milliseconds, which a feeder may have to wait.
const STEP: u64 = 1_000;
const KEY: &str = "at, part, position, idx";
/// An attempt with its share of its execution and of the indexes.
const BYTES_OF_ROW: u64 = 800;

impl History {
    /// Deletes at most a thousand attempts, and as many events, that are too old or too many: attempts of the partition
    /// whose first is the oldest.
    ///
    /// An execution goes with its last attempt.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn retain(&self, retention: &Retention, now: UnixMillis) -> Result<Retained, HistoryError> {
        let cutoff = retention.age.map_or(UnixMillis(i64::MIN), |age| {
            let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
            UnixMillis(now.0.saturating_sub(age))
        });
        if retention.age.is_some() {
            self.retain_minutes(cutoff).await?;
        }
        let events = self.retain_events(retention, cutoff).await?;
        let removed = events + self.retain_attempts(retention, cutoff).await?;
        Ok(Retained { removed, more: removed > 0 })
    }

    /// How many rows there are too many.
    async fn excess(&self, retention: &Retention, rows: u64) -> Result<u64, HistoryError> {
        let bytes = match (retention.bytes, self.kind) {
            (None, _) => 0,
            (Some(_), Kind::Postgres) => rows * BYTES_OF_ROW,
            (Some(_), Kind::Sqlite) => self.file_bytes().await?,
        };
        let excess = rows.saturating_sub(retention.rows.unwrap_or(u64::MAX));
        let is_large = retention.bytes.is_some_and(|most| bytes > most);
        Ok(if is_large { excess.max(STEP) } else { excess })
    }

    async fn retain_attempts(&self, retention: &Retention, cutoff: UnixMillis) -> Result<u64, HistoryError> {
        let positions = self.positions(Feed::Attempts).await?;
        let rows: u64 = positions.values().map(|position| position.rows).sum();
        let excess = self.excess(retention, rows).await?;
        let mut oldest: Option<(UnixMillis, Partition)> = None;
        for partition in positions.iter().filter(|(_, position)| position.rows > 0).map(|(p, _)| *p) {
            let mut sql = Sql::new("SELECT at FROM attempts WHERE part = ");
            sql.bind(i64::from(partition.0)).push(" ORDER BY part, position, idx LIMIT 1");
            let failed = HistoryError::sql("look for old attempts");
            let row = sql.query(self.kind).fetch_optional(&self.readers).await.map_err(failed)?;
            let Some(row) = row else { continue };
            let first = (UnixMillis(Columns::of(&row).int("at")?), partition);
            oldest = Some(oldest.map_or(first, |oldest| oldest.min(first)));
        }
        let Some((at, partition)) = oldest else { return Ok(0) };
        if excess == 0 && at >= cutoff {
            return Ok(0);
        }
        let mut tx = self.begin().await?;
        let removed = self.remove(&mut tx, partition, excess.min(STEP), cutoff).await?;
        tx.commit().await.map_err(HistoryError::sql("commit a deletion"))?;
        Ok(removed)
    }

    async fn retain_events(&self, retention: &Retention, cutoff: UnixMillis) -> Result<u64, HistoryError> {
        let failed = HistoryError::sql("delete old events");
        let rows = self.positions(Feed::Events).await?.values().map(|position| position.rows).sum();
        if rows == 0 {
            return Ok(0);
        }
        let excess = self.excess(retention, rows).await?.min(STEP);
        let sql =
            Sql::new(&format!("SELECT at, part, position, idx FROM events ORDER BY {KEY} LIMIT {STEP}"));
        let found = sql.query(self.kind).fetch_all(&self.readers).await.map_err(&failed)?;
        let mut last = None;
        for (row, n) in found.iter().zip(0..) {
            let key = query::key(&mut Columns::of(row))?;
            if n >= excess && key.at >= cutoff {
                break;
            }
            last = Some(key);
        }
        let Some(last) = last else { return Ok(0) };
        let mut tx = self.begin().await?;
        let mut sql = Sql::new(&format!("DELETE FROM events WHERE ({KEY}) <= ("));
        sql.bind_all(values(last)).push(") RETURNING part");
        let gone = sql.query(self.kind).fetch_all(&mut *tx).await.map_err(&failed)?;
        let mut by_partition: BTreeMap<i64, u64> = BTreeMap::new();
        for row in &gone {
            *by_partition.entry(Columns::of(row).int("part")?).or_default() += 1;
        }
        for (partition, removed) in by_partition {
            self.uncount(&mut tx, Feed::Events, partition, removed).await?;
        }
        tx.commit().await.map_err(HistoryError::sql("commit a deletion"))?;
        Ok(gone.len() as u64)
    }

    async fn uncount(
        &self,
        tx: &mut Transaction<'static, Any>,
        feed: Feed,
        partition: i64,
        removed: u64,
    ) -> Result<(), HistoryError> {
        let mut sql = Sql::new("UPDATE positions SET rows = rows - ");
        sql.bind(i64::try_from(removed).unwrap_or(i64::MAX)).push(" WHERE feed = ");
        sql.bind(feed.label()).push(" AND part = ").bind(partition);
        sql.query(self.kind).execute(&mut **tx).await.map_err(HistoryError::sql("count rows"))?;
        Ok(())
    }

    async fn file_bytes(&self) -> Result<u64, HistoryError> {
        let sql = Sql::new(
            "SELECT (SELECT page_count FROM pragma_page_count) - (SELECT freelist_count FROM pragma_freelist_count), \
             (SELECT page_size FROM pragma_page_size)",
        );
        let failed = HistoryError::sql("measure");
        let row = sql.query(self.kind).fetch_one(&self.readers).await.map_err(failed)?;
        let mut columns = Columns::of(&row);
        let pages: u64 = columns.number("page_count")?;
        Ok(pages * columns.number::<u64>("page_size")?)
    }

    /// Deletes a partition's first rows: `excess` of them, and those before `cutoff`.
    async fn remove(
        &self,
        tx: &mut Transaction<'static, Any>,
        partition: Partition,
        excess: u64,
        cutoff: UnixMillis,
    ) -> Result<u64, HistoryError> {
        let failed = HistoryError::sql("delete old attempts");
        let part = i64::from(partition.0);
        if self.kind == Kind::Postgres {
            let mut sql = Sql::new("SELECT 1 FROM positions WHERE feed = ");
            sql.bind(Feed::Attempts.label()).push(" AND part = ").bind(part).push(" FOR UPDATE");
            sql.query(self.kind).fetch_optional(&mut **tx).await.map_err(&failed)?;
        }
        let mut sql = Sql::new("SELECT position, idx, at, delivery FROM attempts WHERE part = ");
        sql.bind(part).push(&format!(" ORDER BY part, position, idx LIMIT {STEP}"));
        let rows = sql.query(self.kind).fetch_all(&mut **tx).await.map_err(&failed)?;
        let mut last = None;
        let mut deliveries = Vec::new();
        for row in &rows {
            let mut columns = Columns::of(row);
            let place = (columns.int("position")?, columns.int("idx")?);
            if deliveries.len() as u64 >= excess && columns.int("at")? >= cutoff.0 {
                break;
            }
            let mut columns = Columns::of(row);
            for column in ["position", "idx", "at"] {
                columns.int(column)?;
            }
            deliveries.push(columns.uuid("delivery")?);
            last = Some(place);
        }
        let Some((position, index)) = last else { return Ok(0) };
        let removed = deliveries.len() as u64;
        deliveries.sort_unstable();
        deliveries.dedup();
        for chunk in deliveries.chunks(100) {
            let mut sql = Sql::new("DELETE FROM executions WHERE part = ");
            sql.bind(part).push(" AND (last_position, last_idx) <= (").bind(position).push(", ").bind(index);
            sql.push(") AND delivery IN (").bind_all(chunk.iter().map(|id| (*id).into())).push(")");
            sql.query(self.kind).execute(&mut **tx).await.map_err(&failed)?;
        }
        let mut sql = Sql::new("DELETE FROM attempts WHERE part = ");
        sql.bind(part).push(" AND (position, idx) <= (").bind(position).push(", ").bind(index).push(")");
        sql.query(self.kind).execute(&mut **tx).await.map_err(&failed)?;
        self.uncount(tx, Feed::Attempts, part, removed).await?;
        Ok(removed)
    }
}
