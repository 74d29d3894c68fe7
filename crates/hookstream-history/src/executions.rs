//! Lists of executions.
//!
//! A list of what is not delivered goes along one part of an index for each outcome, and merges them.

use hookstream_types::{AccountUid, WebhookId};

use crate::db::{History, Kind};
use crate::error::HistoryError;
use crate::fold::{Execution, Key, Outcome, failure_code, type_code};
use crate::query::{self, Filter, Page, StatusFilter};
use crate::scan::{Condition, Listing, Path};
use crate::sql::{Columns, Sql, storable};

impl Filter {
    fn paths(&self) -> Vec<Path> {
        let outcomes = self.undelivered();
        let mut same: Vec<Condition> = Vec::new();
        if let Some(event) = self.event {
            same.push(("event = ", event.0.into()));
            // Not in the index, but an event has few entries; and of another account's nothing is to be told.
            same.extend(self.account.map(|account| ("account = ", account.0.into())));
            return vec![self.path(Some("executions_event"), same, "")];
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
                self.path(Some(partial), same, " AND outcome <> 1")
            };
            return outcomes.iter().map(path).collect();
        }
        if let (None, Some(_), Some(event_type)) = (self.webhook, self.account, &self.event_type) {
            same.push(("kind = ", type_code(event_type).into()));
            return vec![self.path(Some("executions_type"), same, "")];
        }
        vec![self.path(whole, same, "")]
    }

    fn path(&self, index: Option<&'static str>, same: Vec<Condition>, partial: &'static str) -> Path {
        let rest = self.rest(&same);
        Path { index, same, partial, rest }
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
    fn rest(&self, same: &[Condition]) -> Vec<Condition> {
        let mut rest = Vec::new();
        let asked = |column: &str| same.iter().any(|(text, _)| text.starts_with(column));
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
        let listing = Listing {
            table: "executions",
            columns: ", outcome, status, failure, kind",
            paths: filter.paths(),
            since: filter.since,
            until: filter.until,
        };
        let (keys, next) = self.page_keys(&listing, before, limit).await?;
        let rows = self.rows_of("executions", query::EXECUTION, &keys).await?;
        let mut items = rows.iter().map(query::execution).collect::<Result<Vec<_>, _>>()?;
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
        sql.push(" WHERE webhook = ")
            .bind(webhook.0)
            .push(" ORDER BY at DESC, part DESC, position DESC, idx DESC LIMIT 1");
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
}
