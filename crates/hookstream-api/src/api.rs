//! What the handlers share: the configuration, its writer, the way out, and who is asking.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::FromRef;
use hookstream_config::apply::new_uuid;
use hookstream_config::manifest::ManifestProblem;
use hookstream_config::state::State;
use hookstream_config::writer::{Applied, Write, WriteError};
use hookstream_config::{Change, ConfigWriter, Follower, Refused, os_random};
use hookstream_egress::Client;
use hookstream_runtime::Clock;
use hookstream_types::{AccountUid, Chain, UnixMillis};
use hookstream_wire::config::WriteId;
use uuid::Uuid;

use crate::access::limits::{Limited, Limits};
use crate::access::{Authenticator, Cursors, Denied, Principal};
use crate::console::Links;
use crate::history::Executions;
use crate::metrics::ApiMetrics;
use crate::problem::{FieldError, Kind, Problem};
use crate::sync::Caller;

/// After which a client may ask again while the configuration can't be written.
const WRITE_AGAIN: std::time::Duration = std::time::Duration::from_secs(2);

/// To read what is there.
const READ_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// What the handlers share.
#[derive(Debug)]
pub struct Api {
    pub follower: Arc<Follower>,
    pub writer: ConfigWriter,
    pub egress: Arc<Client>,
    pub authenticator: Arc<Authenticator>,
    pub executions: Arc<Executions>,
    pub cursors: Cursors,
    pub clock: Clock,
    pub user_agent: String,
    /// The name by which endpoints know who sends: that of the API's URL.
    pub origin: String,
    /// How long a webhook's old secret counts after a rotation.
    pub overlap: std::time::Duration,
    /// How often each client may ask, and each person who uses the console.
    pub rates: Limits<String>,
    /// Makes links to portals.
    pub(crate) links: Links,
    /// What clients call it, without a slash at the end.
    pub url: String,
    pub metrics: Arc<ApiMetrics>,
    /// Calls sync webhooks.
    pub(crate) caller: Arc<Caller>,
}

/// What the router is given.
#[derive(Clone, Debug)]
pub struct Shared(pub Arc<Api>);

impl FromRef<Shared> for Arc<Api> {
    fn from_ref(shared: &Shared) -> Self {
        Self::clone(&shared.0)
    }
}

impl FromRef<Shared> for Arc<Authenticator> {
    fn from_ref(shared: &Shared) -> Self {
        Self::clone(&shared.0.authenticator)
    }
}

impl Api {
    #[must_use]
    pub fn now(&self) -> UnixMillis {
        self.clock.wall()
    }

    #[must_use]
    pub fn new_id(&self) -> Uuid {
        new_uuid(self.now(), &mut os_random)
    }

    /// Counts a request of somebody.
    ///
    /// # Errors
    /// If there were too many.
    pub fn take(&self, who: &str) -> Result<(), Limited> {
        let taken = self.rates.take(&who.to_owned(), (self.authenticator.clock)().mono);
        if taken.is_err() {
            self.metrics.rate_limited_total.inc();
        }
        taken
    }

    /// Looks at the configuration as this replica has read it.
    pub fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        self.follower.look(look)
    }

    /// Waits until this replica has read all that is written now, by whomever.
    ///
    /// # Errors
    /// If the log can't be read, or not in time.
    pub async fn refresh(&self) -> Result<(), Problem> {
        let refreshed = tokio::time::timeout(READ_TIMEOUT, self.follower.refresh()).await;
        let reason = match refreshed {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => Chain(&error).to_string(),
            Err(_) => format!("it was not read to its end within {READ_TIMEOUT:?}"),
        };
        tracing::warn!("the configuration can't be read: {reason}");
        Err(Problem::unavailable("the configuration can't be read now: nothing was done", WRITE_AGAIN))
    }

    /// Makes changes, all or none; afterwards this replica shows them.
    ///
    /// # Errors
    /// Why they are not made, or not known to be.
    pub async fn write(
        &self,
        principal: &Principal,
        request: Option<String>,
        changes: Vec<Change>,
    ) -> Result<Applied, WriteError> {
        let id = WriteId(Uuid::new_v4());
        let write = Write { id, actor: principal.client.clone(), request, changes };
        let began = Instant::now();
        let result = self.writer.submit(write).await;
        let shown = async {
            match &result {
                // Events that come after the answer are to be judged by what was written (rule 10).
                Ok(applied) => self.follower.reached(applied.offset).await,
                // Who looks now sees what it was refused by.
                Err(WriteError::Refused { offset, .. }) => self.follower.has_read(*offset).await,
                Err(WriteError::Unavailable { .. } | WriteError::OutcomeUnknown { .. }) => {}
            }
        };
        if tokio::time::timeout(READ_TIMEOUT, shown).await.is_err() {
            // What was written is written.
            tracing::warn!("the configuration that was written is not shown here within {READ_TIMEOUT:?}");
        }
        self.metrics.wrote(began, &result);
        result
    }
}

/// A write that was not made, as an answer.
#[must_use]
pub fn write_problem(error: WriteError) -> Problem {
    match error {
        WriteError::Refused { refused, .. } => refused_problem(&refused),
        WriteError::Unavailable { reason } => {
            tracing::warn!("the configuration can't be written: {reason}");
            Problem::unavailable("the configuration can't be written now: nothing was changed", WRITE_AGAIN)
        }
        WriteError::OutcomeUnknown { reason } => {
            tracing::warn!("whether the configuration was written is not known: {reason}");
            let detail = "whether the change was made is not known: look, or repeat it with `If-Match` or the same \
                          `Idempotency-Key`";
            Problem::new(Kind::OutcomeUnknown, detail).after(WRITE_AGAIN)
        }
    }
}

/// A change that may not be, as an answer.
#[must_use]
pub fn refused_problem(refused: &Refused) -> Problem {
    let detail = refused.to_string();
    let field = |field: &str| Problem::invalid_field(field, detail.clone());
    match refused {
        Refused::RevisionMismatch { .. } => Problem::new(Kind::Changed, detail),
        Refused::Missing { .. } => Problem::from(Denied::NotFound),
        Refused::Exists { .. }
        | Refused::InUse { .. }
        | Refused::Unreadable { .. }
        | Refused::Ended { .. }
        | Refused::TooManyReplays { .. } => Problem::conflict(detail),
        Refused::NameTaken { .. } => {
            let errors = vec![FieldError::new("/name", detail)];
            Problem::of_errors(Kind::Conflict, errors)
        }
        Refused::BrokenReference { to, .. } => field(&format!("/{}", to.kind())),
        Refused::AccountFixed { .. } => field("/account"),
        Refused::NoSecret { .. } => field("/secret"),
        // In files it has another name.
        Refused::NothingToKeep { field: name, .. } if name == "oauth2/client_secret" => {
            field("/oauth2/clientSecret")
        }
        Refused::NothingToKeep { field: name, .. } => field(&format!("/{name}")),
        Refused::Elsewhere { .. } => field("/authorization"),
        Refused::MissingScopes { missing, .. } => {
            let error = |(scope, event_type): &(String, String)| {
                FieldError::new(
                    "/eventTypes",
                    format!("`{event_type}` needs the scope `{scope}`, which the app lacks"),
                )
            };
            Problem::of_errors(Kind::ScopesMissing, missing.iter().map(error).collect())
        }
        Refused::OwnTopic { .. } => field("/topics"),
        Refused::TooLarge { .. } => Problem::new(Kind::TooLarge, detail),
        Refused::Unopened { .. } | Refused::ClusterFixed { .. } => {
            tracing::error!("a change was refused: {}", Chain(refused));
            Problem::internal()
        }
    }
}

/// Fields that are at fault, as an answer.
#[must_use]
pub fn document_problem(problems: Vec<ManifestProblem>) -> Problem {
    let error = |problem: ManifestProblem| FieldError::new(pointer(&problem.place), problem.message);
    Problem::invalid(problems.into_iter().map(error).collect())
}

/// `eventTypes[0]` as a JSON pointer (RFC 6901).
fn pointer(place: &str) -> String {
    if place.is_empty() {
        return String::new();
    }
    let mut out = String::with_capacity(place.len() + 2);
    for part in place.split(['.', '[']) {
        let part = part.trim_end_matches(']');
        out.push('/');
        out.push_str(&part.replace('~', "~0").replace('/', "~1"));
    }
    out
}

/// The account that a request names, as far as the principal may know of it.
///
/// # Errors
/// Nobody's, or another's: not found.
pub fn named_account(
    api: &Api,
    principal: &Principal,
    named: Option<&str>,
) -> Result<Option<AccountUid>, Problem> {
    let Some(named) = named else { return Ok(principal.bound.account()) };
    let found = api.look(|state| hookstream_config::resolve::Names::new(state).account(named));
    let found = found.ok_or(Denied::NotFound)?;
    Ok(Some(principal.account(Some(found))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers() {
        assert_eq!(pointer("eventTypes[0]"), "/eventTypes/0");
        assert_eq!(pointer("headers.x/y~z"), "/headers/x~1y~0z");
        assert_eq!(pointer(""), "");
    }
}
