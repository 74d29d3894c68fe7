//! Taking records in: rows and the offset they reach, in one transaction.

use hookstream_types::{DeliveryId, Offset, OwnerId, Partition, UnixMillis};
use rustc_hash::FxHashMap;
use sqlx::{Any, Transaction};

use crate::audit;
use crate::db::{Feed, History, Kind};
use crate::entries;
use crate::error::HistoryError;
use crate::events;
use crate::fold::{self, Execution, Turn, failure_code, type_code};
use crate::minutes;
use crate::query;
use crate::sql::{Columns, Sql, Value};

/// A record as it stands in its topic.
#[derive(Clone, Debug)]
pub struct Record {
    pub offset: Offset,
    /// When it was appended.
    pub at: UnixMillis,
    /// Of events, which have their attributes there.
    pub headers: Vec<(String, Vec<u8>)>,
    /// A tombstone's is empty.
    pub value: Vec<u8>,
}

/// Records of one partition, in order.
#[derive(Clone, Debug)]
pub struct Batch {
    pub partition: Partition,
    /// What the index has to have reached: [`Position::next`](crate::Position), or whatever if it has none.
    pub from: Offset,
    /// What it has reached after this.
    pub next: Offset,
    pub records: Vec<Record>,
}

/// What came of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    Done {
        /// Rows added.
        rows: u64,
        /// Records that could not be read.
        bad: u64,
        /// Decisions of owners that were no more.
        void: u64,
    },
    /// Nothing was changed: another feeder has moved the partition. Go on from here.
    Elsewhere { next: Offset },
}

/// Rows of a statement: few sizes, so that few statements are prepared.
const CHUNKS: &[usize] = &[100, 10, 1];
/// Records that are read in one go: some hundred microseconds, or some milliseconds of large ones.
const PORTION: usize = 64;
/// Deliveries that are looked up at once.
const LOOKUP: usize = 100;

impl History {
    /// Takes records in, all or none.
    ///
    /// # Errors
    /// If the database does not take them; it is as it was then, and the batch can be given again.
    pub async fn apply(&self, feed: Feed, batch: &Batch) -> Result<Applied, HistoryError> {
        match feed {
            Feed::Attempts => self.apply_attempts(batch).await,
            Feed::Audit => self.apply_audit(batch).await,
            Feed::Events => self.apply_events(batch).await,
        }
    }

    async fn apply_attempts(&self, batch: &Batch) -> Result<Applied, HistoryError> {
        // What takes long is done before the database is held.
        let (mut parsed, mut bad) = (Vec::with_capacity(batch.records.len()), 0);
        for portion in batch.records.chunks(PORTION) {
            let (more, bad_ones) = entries::parse(portion);
            parsed.extend(more);
            bad += bad_ones;
            // Records are large and many; others have work too.
            tokio::task::yield_now().await;
        }
        let mut tx = self.begin().await?;
        let place = self.claim(&mut tx, Feed::Attempts, batch).await?;
        let Some(place) = place else { return self.elsewhere(tx, Feed::Attempts, batch).await };
        let (changes, owner, void) = entries::valid(parsed, place.owner);
        let mut known = load(self.kind, &mut tx, changes.iter().map(|change| change.delivery)).await?;
        let counted = minutes::count(&known, batch.partition, &changes);
        let turns = fold::fold(&mut known, batch.partition, changes);
        let mut changed: Vec<&Execution> = Vec::with_capacity(turns.len());
        let mut seen = rustc_hash::FxHashSet::default();
        for turn in &turns {
            if seen.insert(turn.change.delivery)
                && let Some(execution) = known.get(&turn.change.delivery)
            {
                changed.push(execution);
            }
        }
        write_executions(self.kind, &mut tx, &changed).await?;
        write_turns(self.kind, &mut tx, batch.partition, &turns).await?;
        minutes::write(self.kind, &mut tx, &counted).await?;
        let rows = turns.len() as u64;
        self.advance(&mut tx, Feed::Attempts, batch, owner, rows).await?;
        tx.commit().await.map_err(HistoryError::sql("commit attempts"))?;
        Ok(Applied::Done { rows, bad, void })
    }

    async fn apply_audit(&self, batch: &Batch) -> Result<Applied, HistoryError> {
        let (rows, bad) = audit::parse(&batch.records);
        let mut tx = self.begin().await?;
        if self.claim(&mut tx, Feed::Audit, batch).await?.is_none() {
            return self.elsewhere(tx, Feed::Audit, batch).await;
        }
        audit::write(self.kind, &mut tx, &rows).await?;
        let count = rows.len() as u64;
        self.advance(&mut tx, Feed::Audit, batch, None, count).await?;
        tx.commit().await.map_err(HistoryError::sql("commit audit records"))?;
        Ok(Applied::Done { rows: count, bad, void: 0 })
    }

    async fn apply_events(&self, batch: &Batch) -> Result<Applied, HistoryError> {
        let (mut rows, mut bad) = (Vec::with_capacity(batch.records.len()), 0);
        for portion in batch.records.chunks(PORTION) {
            let (more, bad_ones) = events::parse(batch.partition, portion);
            rows.extend(more);
            bad += bad_ones;
            tokio::task::yield_now().await;
        }
        let mut tx = self.begin().await?;
        if self.claim(&mut tx, Feed::Events, batch).await?.is_none() {
            return self.elsewhere(tx, Feed::Events, batch).await;
        }
        let rows = events::write(self.kind, &mut tx, &rows).await?;
        self.advance(&mut tx, Feed::Events, batch, None, rows).await?;
        tx.commit().await.map_err(HistoryError::sql("commit events"))?;
        Ok(Applied::Done { rows, bad, void: 0 })
    }

    /// Holds the partition if it is where the batch begins.
    async fn claim(
        &self,
        tx: &mut Transaction<'static, Any>,
        feed: Feed,
        batch: &Batch,
    ) -> Result<Option<Place>, HistoryError> {
        let failed = HistoryError::sql("claim a partition");
        let partition = i64::from(batch.partition.0);
        let mut sql = Sql::new("INSERT INTO positions (feed, part, next, rows) VALUES (");
        sql.bind(feed.label())
            .push(", ")
            .bind(partition)
            .push(", -1, 0) ON CONFLICT (feed, part) DO NOTHING");
        sql.query(self.kind).execute(&mut **tx).await.map_err(&failed)?;
        let mut sql = Sql::new("SELECT next, owner FROM positions WHERE feed = ");
        sql.bind(feed.label()).push(" AND part = ").bind(partition);
        if self.kind == Kind::Postgres {
            sql.push(" FOR UPDATE");
        }
        let row = sql.query(self.kind).fetch_one(&mut **tx).await.map_err(&failed)?;
        let mut columns = Columns::of(&row);
        let next = columns.int("next")?;
        let owner = columns.maybe_uuid("owner")?.map(OwnerId);
        Ok((next == -1 || next == batch.from.0).then_some(Place { owner }))
    }

    async fn elsewhere(
        &self,
        mut tx: Transaction<'static, Any>,
        feed: Feed,
        batch: &Batch,
    ) -> Result<Applied, HistoryError> {
        let failed = HistoryError::sql("read a position");
        let mut sql = Sql::new("SELECT next FROM positions WHERE feed = ");
        sql.bind(feed.label()).push(" AND part = ").bind(i64::from(batch.partition.0));
        let row = sql.query(self.kind).fetch_one(&mut *tx).await.map_err(&failed)?;
        let next = Offset(Columns::of(&row).int("next")?);
        tx.rollback().await.map_err(&failed)?;
        Ok(Applied::Elsewhere { next })
    }

    async fn advance(
        &self,
        tx: &mut Transaction<'static, Any>,
        feed: Feed,
        batch: &Batch,
        owner: Option<OwnerId>,
        rows: u64,
    ) -> Result<(), HistoryError> {
        let mut sql = Sql::new("UPDATE positions SET next = ");
        sql.bind(batch.next.0).push(", owner = ").bind(owner.map(|owner| owner.0));
        sql.push(", rows = rows + ").bind(i64::try_from(rows).unwrap_or(i64::MAX));
        sql.push(" WHERE feed = ").bind(feed.label()).push(" AND part = ").bind(i64::from(batch.partition.0));
        sql.query(self.kind).execute(&mut **tx).await.map_err(HistoryError::sql("advance a partition"))?;
        Ok(())
    }
}

struct Place {
    owner: Option<OwnerId>,
}

/// What the index knows about deliveries.
async fn load(
    kind: Kind,
    tx: &mut Transaction<'static, Any>,
    deliveries: impl Iterator<Item = DeliveryId>,
) -> Result<FxHashMap<DeliveryId, Execution>, HistoryError> {
    let mut wanted: Vec<DeliveryId> = deliveries.collect();
    wanted.sort_unstable();
    wanted.dedup();
    let mut known = FxHashMap::default();
    for chunk in wanted.chunks(LOOKUP) {
        let mut sql = Sql::new("SELECT ");
        sql.push(query::EXECUTION).push(" FROM executions WHERE delivery IN (");
        // Filled up, so that it is always the same statement.
        let last = chunk[chunk.len() - 1];
        sql.bind_all((0..LOOKUP).map(|index| chunk.get(index).unwrap_or(&last).0.into())).push(")");
        let rows =
            sql.query(kind).fetch_all(&mut **tx).await.map_err(HistoryError::sql("look deliveries up"))?;
        for row in &rows {
            let execution = query::execution(row)?;
            known.insert(execution.delivery, execution);
        }
    }
    Ok(known)
}

/// Writes rows with as few statements as their sizes allow; returns how many rows are written.
pub(crate) async fn insert<T>(
    kind: Kind,
    tx: &mut Transaction<'static, Any>,
    what: &'static str,
    into: &str,
    rows: &[T],
    values: impl Fn(&T) -> Vec<Value>,
    end: &str,
) -> Result<u64, HistoryError> {
    let (mut rest, mut written) = (rows, 0);
    for size in CHUNKS {
        while rest.len() >= *size {
            let (chunk, after) = rest.split_at(*size);
            rest = after;
            let mut sql = Sql::new("INSERT INTO ");
            sql.push(into).push(" VALUES ");
            for (index, row) in chunk.iter().enumerate() {
                sql.push(if index > 0 { ", (" } else { "(" }).bind_all(values(row)).push(")");
            }
            sql.push(end);
            let done = sql.query(kind).execute(&mut **tx).await.map_err(HistoryError::sql(what))?;
            written += done.rows_affected();
        }
    }
    Ok(written)
}

fn millis(at: UnixMillis) -> i64 {
    at.0
}

async fn write_executions(
    kind: Kind,
    tx: &mut Transaction<'static, Any>,
    executions: &[&Execution],
) -> Result<(), HistoryError> {
    const INTO: &str = "executions (at, part, position, idx, delivery, webhook, account, event, event_type, kind, \
         outcome, reason, due, attempts, status, failure, revision, last_at, last_position, last_idx)";
    const END: &str = " ON CONFLICT (delivery) DO UPDATE SET outcome = excluded.outcome, \
         reason = excluded.reason, due = excluded.due, attempts = excluded.attempts, status = excluded.status, \
         failure = excluded.failure, revision = excluded.revision, last_at = excluded.last_at, \
         last_position = excluded.last_position, last_idx = excluded.last_idx";
    let values = |execution: &&Execution| -> Vec<Value> {
        vec![
            millis(execution.key.at).into(),
            i64::from(execution.key.partition.0).into(),
            execution.key.offset.0.into(),
            i64::from(execution.key.index).into(),
            execution.delivery.0.into(),
            execution.webhook.0.into(),
            execution.account.0.into(),
            execution.event.0.into(),
            execution.event_type.as_str().into(),
            type_code(&execution.event_type).into(),
            execution.outcome.code().into(),
            execution.reason.as_deref().into(),
            execution.due.map(millis).into(),
            i64::from(execution.attempts).into(),
            execution.status.map(i64::from).into(),
            execution.failure.map(failure_code).into(),
            execution.revision.cast_signed().into(),
            millis(execution.last_at).into(),
            execution.last.0.0.into(),
            i64::from(execution.last.1).into(),
        ]
    };
    insert(kind, tx, "write executions", INTO, executions, values, END).await.map(drop)
}

async fn write_turns(
    kind: Kind,
    tx: &mut Transaction<'static, Any>,
    partition: Partition,
    turns: &[Turn],
) -> Result<(), HistoryError> {
    const INTO: &str = "attempts (part, position, idx, at, delivery, run, n, outcome, reason, due, \
         number, started_at, status, failure, total_us, revision, previous_position, previous_idx)";
    let values = |turn: &Turn| -> Vec<Value> {
        let change = &turn.change;
        let made = change.exchange.as_ref();
        vec![
            i64::from(partition.0).into(),
            change.offset.0.into(),
            i64::from(change.index).into(),
            millis(change.at).into(),
            change.delivery.0.into(),
            change.generation.run.into(),
            i64::from(change.generation.n).into(),
            change.outcome.code().into(),
            change.reason.into(),
            change.due.map(millis).into(),
            made.map(|made| i64::from(made.number)).into(),
            made.map(|made| millis(made.started_at)).into(),
            made.and_then(|made| made.status).map(i64::from).into(),
            made.and_then(|made| made.failure).map(failure_code).into(),
            made.map(|made| i64::try_from(made.total_us).unwrap_or(i64::MAX)).into(),
            made.map(|made| made.revision.cast_signed()).into(),
            turn.previous.map(|(offset, _)| offset.0).into(),
            turn.previous.map(|(_, index)| i64::from(index)).into(),
        ]
    };
    insert(kind, tx, "write attempts", INTO, turns, values, "").await.map(drop)
}
