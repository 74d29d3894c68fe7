//! How many deliveries there were, minute by minute, and how long they took: counted while records are taken in, because
//! counting rows would take the longer the more there are.
//!
//! What is counted of everybody has a row for each partition, so that feeders of different partitions don't wait for each
//! other; an account's rows are shared by all, and written in the order of accounts.

use std::collections::BTreeMap;

use hookstream_types::{AccountUid, DeliveryId, Partition, UnixMillis, WebhookId};
use rustc_hash::FxHashMap;
use sqlx::{Any, Transaction};
use uuid::Uuid;

use crate::apply;
use crate::db::{History, Kind};
use crate::entries::Change;
use crate::error::HistoryError;
use crate::fold::{Execution, Outcome};
use crate::sql::{Columns, Sql, Value};

/// A minute's length, in milliseconds.
pub const MINUTE: i64 = 60_000;
/// Up to so many milliseconds an attempt counts for each; those that took longer for one more.
pub const BOUNDS_MS: [u32; 11] = [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 15_000];
const BUCKETS: usize = BOUNDS_MS.len() + 1;
/// Stands for everybody: no account has this uid.
const EVERYBODY: Uuid = Uuid::nil();
/// Of an account's rows.
const ALL_PARTITIONS: i64 = -1;

/// What happened within a minute, or more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub delivered: u64,
    /// Attempts in vain.
    pub failed: u64,
    pub dead: u64,
    pub skipped: u64,
    /// Attempts by how long they took.
    pub took: [u64; BUCKETS],
}

impl Counts {
    fn add(&mut self, change: &Change) {
        let is_made = change.exchange.is_some();
        match change.outcome {
            Outcome::Delivered => self.delivered += 1,
            Outcome::Waiting => self.failed += u64::from(is_made),
            Outcome::Dead => {
                self.dead += 1;
                self.failed += u64::from(is_made);
            }
            Outcome::Skipped => self.skipped += 1,
        }
        if let Some(made) = &change.exchange {
            let is_in = |bound: &u32| made.total_us <= u64::from(*bound) * 1_000;
            let bucket = BOUNDS_MS.iter().position(is_in).unwrap_or(BUCKETS - 1);
            self.took[bucket] += 1;
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        self.delivered += other.delivered;
        self.failed += other.failed;
        self.dead += other.dead;
        self.skipped += other.skipped;
        for (own, others) in self.took.iter_mut().zip(other.took) {
            *own += others;
        }
        self
    }

    /// The time, in milliseconds, that a share of the attempts did not exceed: between a bucket's bounds it is taken to grow
    /// evenly. None: there were none.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "an estimate between two bounds")]
    pub fn quantile_ms(&self, share: f64) -> Option<f64> {
        let all: u64 = self.took.iter().sum();
        if all == 0 {
            return None;
        }
        let wanted = share.clamp(0.0, 1.0) * all as f64;
        let (mut below, mut lower) = (0.0, 0.0);
        for (bucket, count) in self.took.iter().enumerate() {
            // Beyond the last bound nothing is known but that.
            let Some(upper) = BOUNDS_MS.get(bucket).map(|bound| f64::from(*bound)) else {
                return Some(lower);
            };
            let count = *count as f64;
            if count > 0.0 && below + count >= wanted {
                return Some(lower + (upper - lower) * ((wanted - below) / count).clamp(0.0, 1.0));
            }
            below += count;
            lower = upper;
        }
        Some(lower)
    }
}

/// Which row: whose, of which minute, of which partition.
type RowKey = (Uuid, i64, i64);

/// What changes add to the rows.
pub(crate) fn count(
    known: &FxHashMap<DeliveryId, Execution>,
    partition: Partition,
    changes: &[Change],
) -> BTreeMap<RowKey, Counts> {
    let mut rows: BTreeMap<RowKey, Counts> = BTreeMap::new();
    for change in changes {
        let minute = change.at.0.div_euclid(MINUTE);
        rows.entry((EVERYBODY, minute, i64::from(partition.0))).or_default().add(change);
        let account = change.about.as_ref().map(|about| about.account);
        let account = account.or_else(|| known.get(&change.delivery).map(|execution| execution.account));
        if let Some(account) = account {
            rows.entry((account.0, minute, ALL_PARTITIONS)).or_default().add(change);
        }
    }
    rows
}

const COLUMNS: [&str; 4] = ["delivered", "failed", "dead", "skipped"];

/// The names of all columns that are counted in.
fn columns() -> impl Iterator<Item = String> {
    COLUMNS
        .iter()
        .map(|column| (*column).to_owned())
        .chain((0..BUCKETS).map(|bucket| format!("took{bucket}")))
}

/// The columns as the table has them.
pub(crate) fn definitions() -> String {
    columns().map(|column| format!("{column} BIGINT NOT NULL")).collect::<Vec<_>>().join(", ")
}

pub(crate) async fn write(
    kind: Kind,
    tx: &mut Transaction<'static, Any>,
    rows: &BTreeMap<RowKey, Counts>,
) -> Result<(), HistoryError> {
    let names: Vec<String> = columns().collect();
    let into = format!("minutes (scope, minute, part, {})", names.join(", "));
    let add = names.iter().map(|name| format!("{name} = minutes.{name} + excluded.{name}"));
    let end =
        format!(" ON CONFLICT (scope, minute, part) DO UPDATE SET {}", add.collect::<Vec<_>>().join(", "));
    let rows: Vec<(&RowKey, &Counts)> = rows.iter().collect();
    let int = |count: u64| Value::from(i64::try_from(count).unwrap_or(i64::MAX));
    let values = |(key, counts): &(&RowKey, &Counts)| -> Vec<Value> {
        let (scope, minute, part) = **key;
        let mut all = vec![scope.into(), minute.into(), part.into()];
        all.extend([counts.delivered, counts.failed, counts.dead, counts.skipped].map(int));
        all.extend(counts.took.map(int));
        all
    };
    apply::insert(kind, tx, "count deliveries", &into, &rows, values, &end).await.map(drop)
}

impl History {
    /// What happened in each minute that begins at `since` or later and before `until`; those in which nothing did are left
    /// out. `scope`: of this account only.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn minutes(
        &self,
        scope: Option<AccountUid>,
        since: UnixMillis,
        until: UnixMillis,
    ) -> Result<Vec<(UnixMillis, Counts)>, HistoryError> {
        let sums = columns().map(|column| format!("CAST(SUM({column}) AS BIGINT)"));
        let mut sql = Sql::new("SELECT minute, ");
        sql.push(&sums.collect::<Vec<_>>().join(", ")).push(" FROM minutes WHERE scope = ");
        sql.bind(scope.map_or(EVERYBODY, |account| account.0));
        sql.push(" AND minute >= ").bind(since.0.div_euclid(MINUTE));
        sql.push(" AND minute < ")
            .bind(until.0.div_euclid(MINUTE) + i64::from(until.0.rem_euclid(MINUTE) > 0));
        sql.push(" GROUP BY minute ORDER BY minute");
        let failed = HistoryError::sql("count deliveries");
        let rows = sql.query(self.kind).fetch_all(&self.readers).await.map_err(failed)?;
        rows.iter()
            .map(|row| {
                let mut columns = Columns::of(row);
                let minute = UnixMillis(columns.int("minute")? * MINUTE);
                let mut counts = Counts {
                    delivered: columns.number("delivered")?,
                    failed: columns.number("failed")?,
                    dead: columns.number("dead")?,
                    skipped: columns.number("skipped")?,
                    took: [0; BUCKETS],
                };
                for bucket in &mut counts.took {
                    *bucket = columns.number("took")?;
                }
                Ok((minute, counts))
            })
            .collect()
    }

    /// The webhooks whose last deliveries took the longest, in milliseconds: of the last so many executions.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn slowest(
        &self,
        scope: Option<AccountUid>,
        since: UnixMillis,
        limit: usize,
    ) -> Result<Vec<(WebhookId, f64)>, HistoryError> {
        /// Some ten milliseconds.
        const LOOKED_AT: usize = 2_000;
        let mut sql = Sql::new(
            "SELECT e.webhook, a.total_us FROM (SELECT part, last_position, last_idx, webhook FROM executions",
        );
        if let (Kind::Sqlite, Some(_)) = (self.kind, scope) {
            sql.push(" INDEXED BY executions_account");
        }
        sql.push(" WHERE at >= ").bind(since.0);
        if let Some(account) = scope {
            sql.push(" AND account = ").bind(account.0);
        }
        sql.push(&format!(" ORDER BY at DESC, part DESC, position DESC, idx DESC LIMIT {LOOKED_AT}) AS e "));
        sql.push(
            "JOIN attempts a ON a.part = e.part AND a.position = e.last_position AND a.idx = e.last_idx",
        );
        sql.push(" WHERE a.total_us IS NOT NULL");
        let failed = HistoryError::sql("look for slow webhooks");
        let rows = sql.query(self.kind).fetch_all(&self.readers).await.map_err(failed)?;
        let mut sums: FxHashMap<Uuid, (u64, u64)> = FxHashMap::default();
        for row in &rows {
            let mut columns = Columns::of(row);
            let sum = sums.entry(columns.uuid("webhook")?).or_default();
            sum.0 += columns.number::<u64>("total_us")?;
            sum.1 += 1;
        }
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let mean = |(webhook, (sum, count)): (Uuid, (u64, u64))| {
            (WebhookId(webhook), sum as f64 / count as f64 / 1_000.0)
        };
        let mut all: Vec<(WebhookId, f64)> = sums.into_iter().map(mean).collect();
        all.sort_by(|(a, slow), (b, slower)| slower.total_cmp(slow).then(a.cmp(b)));
        all.truncate(limit);
        Ok(all)
    }

    /// Deletes what is older.
    pub(crate) async fn retain_minutes(&self, cutoff: UnixMillis) -> Result<(), HistoryError> {
        let mut sql = Sql::new("DELETE FROM minutes WHERE minute < ");
        sql.bind(cutoff.0.div_euclid(MINUTE));
        let mut tx = self.begin().await?;
        let failed = HistoryError::sql("delete old counts");
        sql.query(self.kind).execute(&mut *tx).await.map_err(&failed)?;
        tx.commit().await.map_err(&failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_the_bounds() {
        let mut counts = Counts::default();
        assert_eq!(counts.quantile_ms(0.5), None);
        counts.took[1] = 10;
        assert_eq!(counts.quantile_ms(0.5), Some(7.5));
        assert_eq!(counts.quantile_ms(1.0), Some(10.0));
        counts.took[11] = 10;
        assert_eq!(counts.quantile_ms(0.99), Some(15_000.0));
        assert_eq!(counts.plus(&counts).took[1], 20);
    }
}
