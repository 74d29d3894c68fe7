//! Who changed what: the rows of `hookstream.audit`.

use hookstream_types::{AccountUid, Offset, UnixMillis};
use hookstream_wire::audit::{self, Action};
use sqlx::{Any, Transaction};

use crate::apply::{self, Record};
use crate::db::{History, Kind};
use crate::error::HistoryError;
use crate::query::Page;
use crate::sql::{Columns, Sql, Value, storable};

/// A change of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    pub offset: Offset,
    /// On the writer's clock.
    pub at: UnixMillis,
    pub account: Option<AccountUid>,
    pub actor: String,
    /// `webhook`, `account`, …
    pub kind: String,
    pub resource: String,
    pub action: Action,
    /// The record: [`hookstream_wire::audit::decode`] reads it.
    pub record: String,
}

/// Which changes. What is none does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    pub account: Option<AccountUid>,
    pub actor: Option<String>,
    pub kind: Option<String>,
    pub resource: Option<String>,
    /// At this time or later.
    pub since: Option<UnixMillis>,
    /// Before this time.
    pub until: Option<UnixMillis>,
}

/// Items of a page at most.
const MAX_PAGE: usize = 500;

/// Reads records; returns with them how many could not be read.
pub(crate) fn parse(records: &[Record]) -> (Vec<AuditEntry>, u64) {
    let mut bad = 0;
    let mut rows = Vec::with_capacity(records.len());
    for record in records {
        let (Ok(read), Ok(text)) = (audit::decode(&record.value), std::str::from_utf8(&record.value)) else {
            bad += 1;
            continue;
        };
        let (kind, resource) = read.resource();
        rows.push(AuditEntry {
            offset: record.offset,
            at: read.at,
            account: read.account,
            actor: storable(&read.actor).into_owned(),
            kind: storable(kind).into_owned(),
            resource: storable(resource).into_owned(),
            action: read.action,
            record: text.to_owned(),
        });
    }
    (rows, bad)
}

pub(crate) async fn write(
    kind: Kind,
    tx: &mut Transaction<'static, Any>,
    rows: &[AuditEntry],
) -> Result<(), HistoryError> {
    const INTO: &str = "audit (position, at, account, actor, kind, resource, action, record)";
    let values = |row: &AuditEntry| -> Vec<Value> {
        vec![
            row.offset.0.into(),
            row.at.0.into(),
            row.account.map(|account| account.0).into(),
            row.actor.as_str().into(),
            row.kind.as_str().into(),
            row.resource.as_str().into(),
            row.action.label().into(),
            row.record.as_str().into(),
        ]
    };
    apply::insert(kind, tx, "write audit records", INTO, rows, values, "").await.map(drop)
}

impl History {
    /// Changes, the newest first: those at `before` and after it are left out. `scope`: of this account only.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn audit(
        &self,
        scope: Option<AccountUid>,
        filter: &AuditFilter,
        before: Option<Offset>,
        limit: usize,
    ) -> Result<Page<AuditEntry, Offset>, HistoryError> {
        let limit = limit.clamp(1, MAX_PAGE);
        let mut sql = Sql::new(
            "SELECT position, at, account, actor, kind, resource, action, record FROM audit WHERE position < ",
        );
        sql.bind(before.map_or(i64::MAX, |before| before.0));
        for account in scope.iter().chain(&filter.account) {
            sql.push(" AND account = ").bind(account.0);
        }
        let texts = [("actor", &filter.actor), ("kind", &filter.kind), ("resource", &filter.resource)];
        for (column, text) in texts {
            if let Some(text) = text {
                sql.push(" AND ").push(column).push(" = ").bind(&*storable(text));
            }
        }
        if let Some(since) = filter.since {
            sql.push(" AND at >= ").bind(since.0);
        }
        if let Some(until) = filter.until {
            sql.push(" AND at < ").bind(until.0);
        }
        sql.push(&format!(" ORDER BY position DESC LIMIT {}", limit + 1));
        let failed = HistoryError::sql("list audit records");
        let rows = sql.query(self.kind).fetch_all(&self.readers).await.map_err(failed)?;
        let mut items = rows
            .iter()
            .map(|row| {
                let mut columns = Columns::of(row);
                Ok(AuditEntry {
                    offset: Offset(columns.int("position")?),
                    at: UnixMillis(columns.int("at")?),
                    account: columns.maybe_uuid("account")?.map(AccountUid),
                    actor: columns.text("actor")?,
                    kind: columns.text("kind")?,
                    resource: columns.text("resource")?,
                    action: action(&columns.text("action")?)?,
                    record: columns.text("record")?,
                })
            })
            .collect::<Result<Vec<_>, HistoryError>>()?;
        let more = items.len() > limit;
        items.truncate(limit);
        let next = if more { items.last().map(|item| item.offset) } else { None };
        Ok(Page { items, next })
    }
}

fn action(label: &str) -> Result<Action, HistoryError> {
    let found = Action::ALL.iter().find(|action| action.label() == label);
    found.copied().ok_or(HistoryError::BadRow { column: "action" })
}
