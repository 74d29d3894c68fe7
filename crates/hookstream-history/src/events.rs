//! Events that were taken in: their attributes, and where their records are.

use std::borrow::Cow;

use hookstream_types::{AccountUid, EventId, Partition, UnixMillis};
use hookstream_wire::event;
use sqlx::any::AnyRow;
use sqlx::{Any, Transaction};

use crate::apply::{self, Record};
use crate::db::{History, Kind};
use crate::error::HistoryError;
use crate::fold::{Key, type_code};
use crate::query::{self, Page};
use crate::scan::{Condition, Listing, Path, values};
use crate::sql::{Columns, Sql, Value, storable};

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRow {
    /// When it was appended, and where its record stands.
    pub key: Key,
    pub event: EventId,
    pub account: AccountUid,
    pub event_type: String,
    /// The name of the configured source.
    pub source: String,
    /// What its maker calls it: the attribute `id` of CloudEvents.
    pub id: String,
    pub subject: Option<String>,
}

/// Which events. What is none does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    pub account: Option<AccountUid>,
    pub event_type: Option<String>,
    pub source: Option<String>,
    pub id: Option<String>,
    pub subject: Option<String>,
    /// Appended at this time or later.
    pub since: Option<UnixMillis>,
    /// Appended before this time.
    pub until: Option<UnixMillis>,
}

const COLUMNS: &str = "at, part, position, idx, event, account, event_type, source, id, subject";

/// Reads records; returns with them how many could not be read.
pub(crate) fn parse(partition: Partition, records: &[Record]) -> (Vec<EventRow>, u64) {
    let mut bad = 0;
    let mut rows = Vec::with_capacity(records.len());
    for record in records {
        let headers: Vec<(&str, &[u8])> =
            record.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        let Ok((read, _)) = event::decode(&headers) else {
            bad += 1;
            continue;
        };
        rows.push(EventRow {
            key: Key { at: record.at, partition, offset: record.offset, index: 0 },
            event: read.event,
            account: read.account,
            event_type: kept(read.event_type),
            source: kept(read.source),
            id: kept(read.id),
            subject: read.subject.map(kept),
        });
    }
    (rows, bad)
}

fn kept(text: String) -> String {
    match storable(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(shorter) => shorter,
    }
}

/// Writes rows; returns how many are new. An event that was taken in twice, as after a crash, is one.
pub(crate) async fn write(
    kind: Kind,
    tx: &mut Transaction<'static, Any>,
    rows: &[EventRow],
) -> Result<u64, HistoryError> {
    const INTO: &str = "events (at, part, position, idx, event, account, event_type, kind, source, id, id_code, subject, subject_code)";
    let row_values = |row: &EventRow| -> Vec<Value> {
        let mut all: Vec<Value> = values(row.key).into();
        all.extend([
            row.event.0.into(),
            row.account.0.into(),
            row.event_type.as_str().into(),
            type_code(&row.event_type).into(),
            row.source.as_str().into(),
            row.id.as_str().into(),
            type_code(&row.id).into(),
            row.subject.as_deref().into(),
            row.subject.as_deref().map(type_code).into(),
        ]);
        all
    };
    apply::insert(kind, tx, "write events", INTO, rows, row_values, " ON CONFLICT (event) DO NOTHING").await
}

impl EventFilter {
    fn listing(&self) -> Listing {
        let mut same: Vec<Condition> = Vec::new();
        let account = self.account.map(|account| ("account = ", account.0.into()));
        let index = if let Some(id) = &self.id {
            same.push(("id_code = ", type_code(id).into()));
            // Not in the index, but few events share an id.
            same.extend(account);
            Some("events_id")
        } else if let Some(account) = account {
            same.push(account);
            if let Some(subject) = &self.subject {
                same.push(("subject_code = ", type_code(subject).into()));
                Some("events_subject")
            } else if let Some(event_type) = &self.event_type {
                same.push(("kind = ", type_code(event_type).into()));
                Some("events_type")
            } else {
                Some("events_account")
            }
        } else {
            None
        };
        let partial = if index == Some("events_subject") { " AND subject_code IS NOT NULL" } else { "" };
        let texts = [
            ("event_type = ", &self.event_type),
            ("source = ", &self.source),
            ("id = ", &self.id),
            ("subject = ", &self.subject),
        ];
        let rest = texts.into_iter().filter_map(|(column, text)| Some((column, text.as_deref()?.into())));
        let rest: Vec<Condition> = rest.collect();
        // What an index does not hold is asked for only where it is needed: each entry's row is read for it.
        let columns = if rest.is_empty() { "" } else { ", event_type, source, id, subject" };
        let paths = vec![Path { index, same, partial, rest }];
        Listing { table: "events", columns, paths, since: self.since, until: self.until }
    }
}

impl History {
    /// Events, the newest first: those that were appended after `before` are left out. `scope`: of this account only.
    ///
    /// A page may come back short: see [`Page::next`].
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn events(
        &self,
        scope: Option<AccountUid>,
        filter: &EventFilter,
        before: Option<Key>,
        limit: usize,
    ) -> Result<Page<EventRow, Key>, HistoryError> {
        let account = match (scope, filter.account) {
            (Some(scope), Some(account)) if scope != account => {
                return Ok(Page { items: Vec::new(), next: None });
            }
            (scope, account) => scope.or(account),
        };
        let stored = |text: &Option<String>| text.clone().map(kept);
        let filter = EventFilter {
            account,
            event_type: stored(&filter.event_type),
            source: stored(&filter.source),
            id: stored(&filter.id),
            subject: stored(&filter.subject),
            ..filter.clone()
        };
        let (keys, next) = self.page_keys(&filter.listing(), before, limit).await?;
        let rows = self.rows_of("events", COLUMNS, &keys).await?;
        let mut items = rows.iter().map(row).collect::<Result<Vec<_>, _>>()?;
        items.sort_unstable_by_key(|event| std::cmp::Reverse(event.key));
        Ok(Page { items, next })
    }

    /// One event. None: there is none, or it is not of `scope`.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn event(
        &self,
        scope: Option<AccountUid>,
        event: EventId,
    ) -> Result<Option<EventRow>, HistoryError> {
        let mut sql = Sql::new("SELECT ");
        sql.push(COLUMNS).push(" FROM events WHERE event = ").bind(event.0);
        let failed = HistoryError::sql("read an event");
        let found = sql.query(self.kind).fetch_optional(&self.readers).await.map_err(failed)?;
        let found = found.as_ref().map(row).transpose()?;
        Ok(found.filter(|found| scope.is_none_or(|scope| scope == found.account)))
    }
}

fn row(row: &AnyRow) -> Result<EventRow, HistoryError> {
    let mut columns = Columns::of(row);
    Ok(EventRow {
        key: query::key(&mut columns)?,
        event: EventId(columns.uuid("event")?),
        account: AccountUid(columns.uuid("account")?),
        event_type: columns.text("event_type")?,
        source: columns.text("source")?,
        id: columns.text("id")?,
        subject: columns.maybe_text("subject")?,
    })
}
