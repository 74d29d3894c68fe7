//! `/api/v1/events`, `/api/v1/executions`, `/api/v1/audit`: what came in, what became of it, and who changed what.
//!
//! [`index`] keeps an index of the topics `events`, `attempts` and `audit`, from which lists are answered; what was sent and
//! received stands in Kafka, and is read there when one execution is asked for. Lists are the newest first, in pages;
//! a page may come back short and yet have a next one, since it looks at a bounded part of the index.
//!
//! **Invariants:** a principal that is bound to an account sees that account's history, whatever it asks for; one that
//! is bound to an app that of the app's webhooks; all else is *not found*, as if it were not there. A cursor belongs to
//! its list: its account, its app and its filters. A record that is read for its bodies must be about the execution
//! that was asked for.

mod audit;
mod detail;
pub mod events;
mod executions;
pub mod index;
mod metrics;
pub(crate) mod params;
pub mod rejected;
pub mod stats;
mod view;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRef;
use hookstream_history::{History, HistoryError, Key};
use hookstream_log::admin::Admin;
use hookstream_log::backlog::Backlog;
use hookstream_log::fetch::Fetcher;
use hookstream_types::{AccountUid, AppId, Chain, UnixMillis, WebhookId};
use tokio::sync::Semaphore;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::authenticate::Authenticator;
use crate::access::cursor::{BadCursor, Cursors, List};
use crate::access::{Bound, Principal, Scope};
use crate::description::scoped;
use crate::problem::Problem;

pub use self::audit::{AuditAction, AuditItem, AuditPage};
pub use self::index::{Index, IndexSpec, Indexer};
pub use self::metrics::HistoryMetrics;
pub use self::view::{
    AttemptItem, Body, Execution, ExecutionDetail, ExecutionPage, Failure, Header, ReceivedResponse,
    Recorded, SentRequest, Timings,
};

/// Whose webhooks are.
pub trait Owner: Send + Sync + 'static {
    /// None: there is no such webhook, or not any more.
    fn app_of(&self, webhook: WebhookId) -> Option<(AccountUid, Option<AppId>)>;
}

/// What time it is.
pub type Now = Arc<dyn Fn() -> UnixMillis + Send + Sync>;

/// For reading the records of an execution.
const DEADLINE: Duration = Duration::from_secs(5);
/// Executions whose records are read at a time; more wait.
const READERS: usize = 16;

/// The topics that records are read from, for people to look at.
#[derive(Clone, Debug)]
pub struct HistoryTopics {
    pub attempts: Arc<str>,
    pub events: Arc<str>,
    pub rejected: Arc<str>,
    /// Of each of them.
    pub partitions: i32,
    /// Knows where partitions end.
    pub admin: Arc<Admin>,
    /// What the senders have still to do.
    pub backlog: Backlog,
}

/// What the routes work with.
pub struct Executions {
    index: Index,
    fetcher: Fetcher,
    topics: HistoryTopics,
    cursors: Cursors,
    owner: Arc<dyn Owner>,
    now: Now,
    readers: Semaphore,
}

impl fmt::Debug for Executions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executions").field("topics", &self.topics).finish_non_exhaustive()
    }
}

#[derive(Clone)]
pub(crate) struct Routes {
    executions: Arc<Executions>,
    authenticator: Arc<Authenticator>,
}

impl FromRef<Routes> for Arc<Executions> {
    fn from_ref(routes: &Routes) -> Self {
        Arc::clone(&routes.executions)
    }
}

impl FromRef<Routes> for Arc<Authenticator> {
    fn from_ref(routes: &Routes) -> Self {
        Arc::clone(&routes.authenticator)
    }
}

/// The routes, with their description.
pub fn router(executions: Arc<Executions>, authenticator: Arc<Authenticator>) -> OpenApiRouter {
    routes().with_state(Routes { executions, authenticator })
}

pub(crate) fn routes() -> OpenApiRouter<Routes> {
    let executions = OpenApiRouter::new()
        .routes(routes!(executions::list))
        .routes(routes!(executions::list_of_webhook))
        .routes(routes!(detail::show))
        .routes(routes!(events::list))
        .routes(routes!(events::show))
        .routes(routes!(stats::show))
        .routes(routes!(rejected::list));
    let audit = OpenApiRouter::new().routes(routes!(audit::list));
    // With a token that is bound to no account it is `admin`.
    let audit = scoped(audit, Scope::WebhooksRead, Scope::WebhooksRead);
    scoped(executions, Scope::HistoryRead, Scope::HistoryRead).merge(audit)
}

impl Executions {
    #[must_use]
    pub fn new(
        index: Index,
        fetcher: Fetcher,
        topics: HistoryTopics,
        cursors: Cursors,
        owner: Arc<dyn Owner>,
        now: Now,
    ) -> Self {
        Self { index, fetcher, topics, cursors, owner, now, readers: Semaphore::new(READERS) }
    }

    fn history(&self) -> Result<&History, Problem> {
        self.index.history().ok_or_else(unavailable)
    }

    /// Whether something of this account and webhook is the principal's to see. What is left of a deleted webhook is
    /// its account's.
    fn sees(&self, principal: &Principal, account: AccountUid, webhook: WebhookId) -> bool {
        let app = self.owner.app_of(webhook).and_then(|(_, app)| app);
        principal.owns(account, app).is_ok()
    }

    fn cursor(&self, list: &List<'_>, text: &str) -> Result<String, BadCursor> {
        let position = self.cursors.read(list, text)?;
        String::from_utf8(position).map_err(|_| BadCursor)
    }

    /// Where a page of a list begins that is ordered by keys.
    fn key(&self, list: &List<'_>, cursor: Option<String>) -> Result<Option<Key>, Problem> {
        let fault = |detail: String| Problem::invalid_field("cursor", detail);
        let Some(cursor) = cursor else { return Ok(None) };
        let position = self.cursor(list, &cursor).map_err(|error| fault(error.to_string()))?;
        position.parse().map(Some).map_err(|error: HistoryError| fault(error.to_string()))
    }
}

/// A list's name, which its cursors belong to.
fn list_name(list: &str, principal: &Principal, filters: &str) -> String {
    match principal.bound {
        Bound::App { app, .. } => format!("{list} of {app}?{filters}"),
        Bound::Everything | Bound::Account(_) => format!("{list}?{filters}"),
    }
}

fn failed(error: HistoryError) -> Problem {
    tracing::warn!(error = %Chain(&error), "the history can't be read");
    unavailable()
}

fn unavailable() -> Problem {
    Problem::unavailable("the history can't be read now: ask again later", Duration::from_secs(1))
}

#[cfg(test)]
mod tests;
