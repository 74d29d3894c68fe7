//! Validating events by the schemas of their event types, each compiled once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tracing::{error, warn};

use super::Declared;
use super::schema::{Schema, compile};
use crate::problem::{FieldError, Kind, Problem};

/// Event types whose compiled schemas are kept.
const MAX_KEPT: usize = 10_000;
/// Threads that may be validating by recursive schemas, also those whose deadline has passed: a thread can't be
/// stopped.
const MAX_THREADS: usize = 4;

/// The compiled schemas.
#[derive(Debug)]
pub struct Schemas {
    kept: Mutex<HashMap<String, (u64, Arc<Schema>)>>,
    threads: Arc<Semaphore>,
    deadline: Duration,
}

/// A schema, the data that must follow it, and the data's pointer.
pub type Check<'a> = (Arc<Schema>, &'a [u8], String);

impl Schemas {
    pub fn new(deadline: Duration) -> Self {
        Self { kept: Mutex::default(), threads: Arc::new(Semaphore::new(MAX_THREADS)), deadline }
    }

    /// The compiled schema of an event type.
    pub fn get(&self, event_type: &str, declared: &Declared) -> Result<Arc<Schema>, Problem> {
        let lock = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((revision, schema)) = lock().get(event_type)
            && *revision == declared.revision
        {
            return Ok(Arc::clone(schema));
        }
        let schema = compile(&declared.schema).map(Arc::new).map_err(|problems| {
            error!(
                ?problems,
                "the schema of the event type `{event_type}` can't be compiled: write it again"
            );
            Problem::internal()
        })?;
        let mut kept = lock();
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(event_type.to_owned(), (declared.revision, Arc::clone(&schema)));
        Ok(schema)
    }

    /// Checks all of a request's data.
    pub async fn validate(&self, checks: Vec<Check<'_>>) -> Result<(), Problem> {
        let (recursive, plain): (Vec<_>, Vec<_>) =
            checks.into_iter().partition(|(schema, ..)| schema.is_recursive());
        let mut violations = violations(&plain);
        if !recursive.is_empty() {
            violations.extend(self.on_a_thread(recursive).await?);
        }
        if violations.is_empty() {
            Ok(())
        } else {
            Err(Problem::of_errors(Kind::SchemaViolation, violations))
        }
    }

    async fn on_a_thread(&self, checks: Vec<Check<'_>>) -> Result<Vec<FieldError>, Problem> {
        let busy = || {
            let detail = "validating the events takes too long now; none of them was written: send them again later, \
                          or make the schema simpler";
            Problem::unavailable(detail, Duration::from_secs(1))
        };
        let permit = Arc::clone(&self.threads).try_acquire_owned().map_err(|_| busy())?;
        let checks: Vec<(Arc<Schema>, Vec<u8>, String)> =
            checks.into_iter().map(|(schema, data, pointer)| (schema, data.to_vec(), pointer)).collect();
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            violations(&checks)
        });
        match tokio::time::timeout(self.deadline, task).await {
            Ok(Ok(violations)) => Ok(violations),
            Ok(Err(failed)) => {
                error!(%failed, "a validation failed");
                Err(Problem::internal())
            }
            Err(_) => {
                warn!("a recursive schema takes longer than {:?}", self.deadline);
                Err(busy())
            }
        }
    }
}

/// Violations of at most this many are listed.
fn violations<D: AsRef<[u8]>>(checks: &[(Arc<Schema>, D, String)]) -> Vec<FieldError> {
    const MAX: usize = 1_000;
    let found =
        checks.iter().filter_map(|(schema, data, pointer)| schema.validate(data.as_ref(), pointer).err());
    found.flatten().take(MAX).collect()
}
