//! Pages of executions, and one execution with its attempts.

use hookstream_core::exchange::FailureKind;
use hookstream_types::{
    AccountUid, DeliveryId, EventId, Generation, Offset, Partition, UnixMillis, WebhookId,
};
use sqlx::any::AnyRow;

use crate::db::History;
use crate::error::HistoryError;
use crate::fold::{Execution, Key, Outcome, failure_code};
use crate::sql::{Columns, Sql};

/// Which executions. What is none does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub account: Option<AccountUid>,
    pub webhook: Option<WebhookId>,
    pub event: Option<EventId>,
    pub event_type: Option<String>,
    /// As they stand now.
    pub outcome: Option<Outcome>,
    /// Of the last answer.
    pub status: Option<StatusFilter>,
    /// Of the last request.
    pub failure: Option<FailureKind>,
    /// Begun at this time or later.
    pub since: Option<UnixMillis>,
    /// Begun before this time.
    pub until: Option<UnixMillis>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusFilter {
    Exactly(u16),
    /// The first digit: 5 for `5xx`.
    Class(u8),
}

impl StatusFilter {
    /// The lowest and the highest.
    pub(crate) fn range(self) -> (i64, i64) {
        match self {
            Self::Exactly(status) => (status.into(), status.into()),
            Self::Class(class) => (i64::from(class) * 100, i64::from(class) * 100 + 99),
        }
    }
}

impl Filter {
    /// Whether this is one of them.
    #[must_use]
    pub fn matches(&self, execution: &Execution) -> bool {
        let in_range = |status: StatusFilter| {
            let (low, high) = status.range();
            execution.status.is_some_and(|status| low <= i64::from(status) && i64::from(status) <= high)
        };
        self.account.is_none_or(|account| account == execution.account)
            && self.webhook.is_none_or(|webhook| webhook == execution.webhook)
            && self.event.is_none_or(|event| event == execution.event)
            && self.event_type.as_ref().is_none_or(|event_type| *event_type == execution.event_type)
            && self.outcome.is_none_or(|outcome| outcome == execution.outcome)
            && self.status.is_none_or(in_range)
            && self.failure.is_none_or(|failure| execution.failure == Some(failure))
            && self.since.is_none_or(|since| since <= execution.key.at)
            && self.until.is_none_or(|until| execution.key.at < until)
    }
}

/// Part of a list, the newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T, C> {
    pub items: Vec<T>,
    /// Where the next page begins; none: there is no more. A page may hold fewer items than asked for, even none, and yet
    /// have a next one: so much was looked at, and more is to be looked at.
    pub next: Option<C>,
}

/// One decision about a delivery, with the attempt that it rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRow {
    /// Where its record stands: request and response are read from there.
    pub partition: Partition,
    pub offset: Offset,
    /// Which decision of the record.
    pub index: u32,
    /// When it was decided, by the record's timestamp.
    pub at: UnixMillis,
    pub generation: Generation,
    pub outcome: Outcome,
    /// Why it is dead or skipped.
    pub reason: Option<String>,
    pub due: Option<UnixMillis>,
    /// 1 for the first; none: nothing was sent.
    pub number: Option<u32>,
    /// On the sender's clock.
    pub started_at: Option<UnixMillis>,
    pub status: Option<u16>,
    pub failure: Option<FailureKind>,
    pub total_us: Option<u64>,
    pub revision: Option<u64>,
}

/// Rows of one execution that are shown at most: the newest.
const MAX_ATTEMPTS: usize = 1_000;

impl History {
    /// One execution with all that was decided about it, the oldest first. None: there is none, or it is not of `scope`.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn execution(
        &self,
        scope: Option<AccountUid>,
        delivery: DeliveryId,
    ) -> Result<Option<(Execution, Vec<AttemptRow>)>, HistoryError> {
        let failed = HistoryError::sql("read an execution");
        let mut sql = Sql::new("SELECT ");
        sql.push(EXECUTION).push(" FROM executions WHERE delivery = ").bind(delivery.0);
        let row = sql.query(self.kind).fetch_optional(&self.readers).await.map_err(&failed)?;
        let Some(row) = row else { return Ok(None) };
        let execution = execution(&row)?;
        if scope.is_some_and(|scope| scope != execution.account) {
            return Ok(None);
        }
        const ROW: &str = "part, position, idx, at, run, n, outcome, reason, due, number, started_at, status, failure, \
             total_us, revision, previous_position, previous_idx";
        let partition = i64::from(execution.key.partition.0);
        let mut sql = Sql::new("WITH RECURSIVE chain AS (SELECT ");
        sql.push(ROW).push(", 1 AS depth FROM attempts WHERE part = ").bind(partition);
        sql.push(" AND position = ").bind(execution.last.0.0);
        sql.push(" AND idx = ").bind(i64::from(execution.last.1));
        let columns: Vec<String> = ROW.split(", ").map(|column| format!("a.{column}")).collect();
        sql.push(" UNION ALL SELECT ")
            .push(&columns.join(", "))
            .push(", c.depth + 1 FROM chain c JOIN attempts a ON a.part = ");
        sql.bind(partition).push(" AND a.position = c.previous_position AND a.idx = c.previous_idx ");
        sql.push(&format!("WHERE c.depth < {MAX_ATTEMPTS}) SELECT {ROW} FROM chain ORDER BY position, idx"));
        let rows = sql.query(self.kind).fetch_all(&self.readers).await.map_err(&failed)?;
        let attempts = rows.iter().map(attempt).collect::<Result<_, _>>()?;
        Ok(Some((execution, attempts)))
    }
}

fn attempt(row: &AnyRow) -> Result<AttemptRow, HistoryError> {
    let mut columns = Columns::of(row);
    Ok(AttemptRow {
        partition: Partition(columns.number("part")?),
        offset: Offset(columns.int("position")?),
        index: columns.number("idx")?,
        at: UnixMillis(columns.int("at")?),
        generation: Generation { run: columns.int("run")?, n: columns.number("n")? },
        outcome: outcome(columns.int("outcome")?)?,
        reason: columns.maybe_text("reason")?,
        due: columns.maybe_int("due")?.map(UnixMillis),
        number: columns.maybe_number("number")?,
        started_at: columns.maybe_int("started_at")?.map(UnixMillis),
        status: columns.maybe_number("status")?,
        failure: columns.maybe_int("failure")?.map(failure).transpose()?,
        total_us: columns.maybe_number("total_us")?,
        revision: columns.maybe_int("revision")?.map(i64::cast_unsigned),
    })
}

/// What [`execution`] reads.
pub(crate) const EXECUTION: &str = "at, part, position, idx, delivery, webhook, account, event, event_type, outcome, \
     reason, due, attempts, status, failure, revision, last_at, last_position, last_idx";

pub(crate) fn execution(row: &AnyRow) -> Result<Execution, HistoryError> {
    let mut columns = Columns::of(row);
    Ok(Execution {
        key: key(&mut columns)?,
        delivery: DeliveryId(columns.uuid("delivery")?),
        webhook: WebhookId(columns.uuid("webhook")?),
        account: AccountUid(columns.uuid("account")?),
        event: EventId(columns.uuid("event")?),
        event_type: columns.text("event_type")?,
        outcome: outcome(columns.int("outcome")?)?,
        reason: columns.maybe_text("reason")?,
        due: columns.maybe_int("due")?.map(UnixMillis),
        attempts: columns.number("attempts")?,
        status: columns.maybe_number("status")?,
        failure: columns.maybe_int("failure")?.map(failure).transpose()?,
        revision: columns.int("revision")?.cast_unsigned(),
        last_at: UnixMillis(columns.int("last_at")?),
        last: (Offset(columns.int("last_position")?), columns.number("last_idx")?),
    })
}

pub(crate) fn key(columns: &mut Columns<'_>) -> Result<Key, HistoryError> {
    Ok(Key {
        at: UnixMillis(columns.int("at")?),
        partition: Partition(columns.number("part")?),
        offset: Offset(columns.int("position")?),
        index: columns.number("idx")?,
    })
}

fn outcome(code: i64) -> Result<Outcome, HistoryError> {
    let found = Outcome::ALL.iter().find(|outcome| outcome.code() == code);
    found.copied().ok_or(HistoryError::BadRow { column: "outcome" })
}

fn failure(code: i64) -> Result<FailureKind, HistoryError> {
    let found = FailureKind::ALL.iter().find(|kind| failure_code(**kind) == code);
    found.copied().ok_or(HistoryError::BadRow { column: "failure" })
}
