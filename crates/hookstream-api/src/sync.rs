//! Sync webhooks: who asks waits for the endpoints' answers.
//!
//! All that is published for an event type with `delivery: sync` is called at once, within one deadline, with the same
//! templates, signatures and guard as deliveries have. Nothing is tried again, and nobody waits for room: a webhook that
//! is over its limits is not called, and the answer says so. Attempts are written after the answer, as history; they are
//! no decisions about jobs ([`OwnerId::DIRECT`]).

pub(crate) mod invocations;
pub(crate) mod requests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::future::join_all;
use hookstream_config::{Base, Follower};
use hookstream_core::config::{View, Webhook, WebhookState};
use hookstream_core::decision::{About, DeadReason, Decision, SkipReason, Verdict};
use hookstream_core::event::EventAttributes;
use hookstream_core::exchange::{Exchange, FailureKind, Response};
use hookstream_core::job::{Job, JobState};
use hookstream_core::lane::Allowance;
use hookstream_core::ledger::Entry;
use hookstream_core::outcome::{self, classify};
use hookstream_core::redact::Redactor;
use hookstream_core::request::Prepared;
use hookstream_core::turnstile::{Full, Turnstiles};
use hookstream_egress::Client;
use hookstream_log::OutRecord;
use hookstream_log::appender::Appender;
use hookstream_runtime::Clock;
use hookstream_types::{Chain, DeliveryId, EventId, Generation, Offset, OwnerId, WebhookId};
use hookstream_wire::attempt::{self, Attempt};
use hookstream_wire::job::deliveries_partition;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use tracing::warn;
use utoipa::ToSchema;

use crate::bridges::Configured;
use crate::events::Catalogue as _;
use crate::events::validation::Schemas;
use crate::problem::Problem;

/// Webhooks that one call reaches. More are named and not called.
const MOST_CALLED: usize = 100;
/// Calls that are under way, or whose attempts are not written yet.
const MOST_UNDER_WAY: usize = 1_000;
/// For data by a recursive schema.
const VALIDATION: Duration = Duration::from_millis(500);
/// Webhooks whose requests are kept prepared.
const MOST_PREPARED: usize = 10_000;

hookstream_runtime::metrics! { "hookstream_api"
    /// What is told of sync webhooks.
    pub(crate) struct SyncMetrics {
        /// Sync webhooks that were to be called, by outcome.
        sync_calls_total: IntCounterVec["outcome"],
        /// Time from a call's beginning to all answers.
        sync_call_seconds: Histogram,
        /// Attempts of sync webhooks that were not written down.
        sync_attempts_lost_total: IntCounter,
    }
}

/// What came of calling a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CallOutcome {
    /// The endpoint answered with 2xx.
    Answered,
    /// The endpoint answered with another status.
    Refused,
    /// There is no answer.
    Failed,
    /// The deadline was over before it was called.
    Expired,
    /// It is paused.
    Paused,
    /// Its app lacks a scope of the event type.
    ScopeLost,
    /// It is called as often, or by as many, as it allows.
    Busy,
    /// No request can be made.
    Unsendable,
    /// Too many webhooks are for this event type.
    TooMany,
}

impl CallOutcome {
    const ALL: [Self; 9] = [
        Self::Answered,
        Self::Refused,
        Self::Failed,
        Self::Expired,
        Self::Paused,
        Self::ScopeLost,
        Self::Busy,
        Self::Unsendable,
        Self::TooMany,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Paused => "paused",
            Self::ScopeLost => "scope_lost",
            Self::Busy => "busy",
            Self::Unsendable => "unsendable",
            Self::TooMany => "too_many",
        }
    }
}

/// What the endpoints answered.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Answers {
    /// hookstream's id of the event.
    #[schema(value_type = Uuid)]
    pub event: EventId,
    /// One for each webhook, in the order of their ids.
    pub results: Vec<CallResult>,
    /// Why there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A webhook's answer, or the reason there is none.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallResult {
    #[schema(value_type = Uuid)]
    pub webhook: WebhookId,
    pub name: String,
    /// The request's `webhook-id`, by which it is found in the history.
    #[schema(value_type = Uuid)]
    pub delivery_id: DeliveryId,
    pub outcome: CallOutcome,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<AnswerHeader>,
    /// The body, if it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The body, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
    /// The body was longer than what is kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub body_truncated: bool,
    /// How long the exchange took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_ms: Option<u64>,
    /// Why there is no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A header of an answer.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AnswerHeader {
    pub name: String,
    pub value: String,
}

/// As many calls are under way as this replica takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MOST_UNDER_WAY} calls are under way on this replica: try again, or run more replicas")]
pub(crate) struct Crowded;

/// Calls sync webhooks.
#[derive(Debug)]
pub(crate) struct Caller {
    follower: Arc<Follower>,
    egress: Arc<Client>,
    log: Arc<AttemptLog>,
    clock: Clock,
    user_agent: String,
    /// Among whom limits are divided.
    replicas: u32,
    turnstiles: Mutex<Turnstiles>,
    prepared: Mutex<HashMap<WebhookId, Arc<Ready>>>,
    room: Arc<Semaphore>,
    /// Calls that came over HTTP, and attempts that are being written.
    tasks: TaskTracker,
    schemas: Schemas,
    metrics: Arc<SyncMetrics>,
}

/// Where attempts are written.
#[derive(Debug)]
struct AttemptLog {
    appender: Appender,
    topic: Arc<str>,
    partitions: i32,
    metrics: Arc<SyncMetrics>,
}

/// What is made once of a webhook.
#[derive(Debug)]
struct Ready {
    prepared: Prepared,
    redactor: Redactor,
}

/// Somebody who is let through leaves, whatever happens.
struct Passing<'a> {
    turnstiles: &'a Mutex<Turnstiles>,
    webhook: WebhookId,
}

impl Drop for Passing<'_> {
    fn drop(&mut self) {
        lock(self.turnstiles).leave(self.webhook);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Caller {
    /// # Errors
    /// If Kafka's settings are not taken.
    pub(crate) fn new(
        base: &Base,
        egress: Arc<Client>,
        clock: Clock,
        user_agent: &str,
        replicas: u32,
        metrics: SyncMetrics,
    ) -> Result<Self, hookstream_runtime::ServiceError> {
        let outcomes = CallOutcome::ALL.map(CallOutcome::label);
        hookstream_runtime::touch(&metrics.sync_calls_total, &[&outcomes]);
        let metrics = Arc::new(metrics);
        let log = AttemptLog {
            appender: Appender::start(&base.kafka)?,
            topic: Arc::clone(&base.topics.attempts),
            partitions: base.partitions,
            metrics: Arc::clone(&metrics),
        };
        Ok(Self {
            follower: Arc::clone(&base.follower),
            egress,
            log: Arc::new(log),
            clock,
            user_agent: user_agent.to_owned(),
            replicas,
            turnstiles: Mutex::default(),
            prepared: Mutex::default(),
            room: Arc::new(Semaphore::new(MOST_UNDER_WAY)),
            tasks: TaskTracker::new(),
            schemas: Schemas::new(VALIDATION),
            metrics,
        })
    }

    /// Checks data by their event type's schema, if it has one.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(crate) async fn validate(&self, event: &EventAttributes, data: &[u8]) -> Result<(), Problem> {
        let (name, view) = (&event.event_type, self.follower.view());
        let declared = Configured(Arc::clone(&self.follower)).schema(&view, name);
        let Some(declared) = declared else { return Ok(()) };
        let schema = self.schemas.get(name, &declared)?;
        self.schemas.validate(vec![(schema, data, "/data".to_owned())]).await
    }

    /// Calls all webhooks that an event of a sync type concerns; returns when each has answered, or can't any more.
    ///
    /// # Errors
    /// [`Crowded`]: nobody was called.
    pub(crate) async fn call(
        &self,
        event: EventAttributes,
        data: Bytes,
        deadline: Instant,
    ) -> Result<Answers, Crowded> {
        let permit = Arc::clone(&self.room).try_acquire_owned().map_err(|_| Crowded)?;
        // Given back when the last attempt is written: what is not written yet takes room, too.
        let permit = Arc::new(permit);
        let began = Instant::now();
        let view = self.follower.view();
        let mut webhooks = Vec::new();
        view.index().matches(&event, &data, |webhook| webhooks.push(Arc::clone(webhook)));
        webhooks.sort_unstable_by_key(|webhook| webhook.id);
        let event = Arc::new(event);
        let calls = webhooks.iter().enumerate().map(|(place, webhook)| {
            let state = JobState::new(DeliveryId::of(event.event, webhook.id), webhook.id, view.offset);
            let job = Job { state, event: Arc::clone(&event), data: data.clone() };
            self.call_one(&view, webhook, job, deadline, place < MOST_CALLED, &permit)
        });
        let results = join_all(calls).await;
        for result in &results {
            self.metrics.sync_calls_total.with_label_values(&[result.outcome.label()]).inc();
        }
        self.metrics.sync_call_seconds.observe(began.elapsed().as_secs_f64());
        let reason =
            results.is_empty().then(|| format!("no webhook of the account takes `{}`", event.event_type));
        Ok(Answers { event: event.event, results, reason })
    }

    async fn call_one(
        &self,
        view: &View,
        webhook: &Arc<Webhook>,
        job: Job,
        deadline: Instant,
        is_within: bool,
        permit: &Arc<OwnedSemaphorePermit>,
    ) -> CallResult {
        let mut result = CallResult {
            webhook: webhook.id,
            name: webhook.name.clone(),
            delivery_id: job.state.delivery,
            outcome: CallOutcome::Answered,
            status: None,
            headers: Vec::new(),
            body: None,
            body_base64: None,
            body_truncated: false,
            time_ms: None,
            reason: None,
        };
        let not_called = |result: CallResult, outcome, reason: String| CallResult {
            outcome,
            reason: Some(reason),
            ..result
        };
        if !is_within {
            let reason = format!("one call reaches {MOST_CALLED} webhooks at most");
            return not_called(result, CallOutcome::TooMany, reason);
        }
        if webhook.state == WebhookState::Paused {
            return not_called(result, CallOutcome::Paused, "the webhook is paused: resume it".to_owned());
        }
        if let Some(scope) = view.missing_scope(webhook, &job.event.event_type) {
            let reason = format!("the webhook's app does not hold the scope `{scope}`");
            self.skipped(&job, SkipReason::ScopeLost, permit);
            return not_called(result, CallOutcome::ScopeLost, reason);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            self.skipped(&job, SkipReason::Expired, permit);
            return not_called(result, CallOutcome::Expired, "the deadline is over".to_owned());
        }
        let ready = match self.ready(webhook) {
            Ok(ready) => ready,
            Err(reason) => return not_called(result, CallOutcome::Unsendable, reason),
        };
        let started_at = self.clock.wall();
        let mut request = match ready.prepared.request(&job, started_at) {
            Ok(request) => request,
            Err(error) => return not_called(result, CallOutcome::Unsendable, Chain(&error).to_string()),
        };
        request.deadline = request.deadline.min(left);
        let allowance = Allowance { concurrency: webhook.concurrency, rate: webhook.rate };
        let entered =
            lock(&self.turnstiles).enter(webhook.id, allowance.shared_by(self.replicas), self.clock.mono());
        let passing = match entered {
            Ok(()) => Passing { turnstiles: &self.turnstiles, webhook: webhook.id },
            Err(full) => {
                let reason = match full {
                    Full::Concurrency => "as many calls are under way as it takes (`concurrency`)",
                    Full::Rate => "it was called as often as it takes (`rate`)",
                };
                return not_called(result, CallOutcome::Busy, reason.to_owned());
            }
        };
        let exchange = self.egress.exchange(&request).await;
        drop(passing);
        result.time_ms = Some(u64::try_from(exchange.timings.total.as_millis()).unwrap_or(u64::MAX));
        match &exchange.result {
            Ok(response) => answered(&mut result, response, &ready.redactor),
            Err(failure) => {
                let is_of_the_call =
                    request.deadline < webhook.timeout && failure.kind == FailureKind::Timeout;
                result.outcome = CallOutcome::Failed;
                result.reason = Some(if is_of_the_call {
                    "it did not answer within the deadline".to_owned()
                } else {
                    ready.redactor.text(&failure.message).into_owned()
                });
            }
        }
        let verdict = verdict(&exchange, webhook, self.clock);
        let unlisted = webhook.log_only_errors && verdict == Verdict::Delivered;
        let revision = webhook.revision;
        let made =
            Attempt::of(&job, &request, &exchange, started_at, revision, unlisted, &ready.redactor).encode();
        self.write(&job, verdict, None, Some(&made), permit);
        result
    }

    fn ready(&self, webhook: &Arc<Webhook>) -> Result<Arc<Ready>, String> {
        let mut prepared = lock(&self.prepared);
        if let Some(ready) = prepared.get(&webhook.id)
            && Arc::ptr_eq(ready.prepared.webhook(), webhook)
        {
            return Ok(Arc::clone(ready));
        }
        let made = Prepared::new(Arc::clone(webhook), &self.user_agent);
        let made = made.map_err(|error| Chain(&error).to_string())?;
        let ready = Arc::new(Ready { prepared: made, redactor: Redactor::new(webhook) });
        if prepared.len() >= MOST_PREPARED {
            prepared.clear();
        }
        prepared.insert(webhook.id, Arc::clone(&ready));
        Ok(ready)
    }

    fn skipped(&self, job: &Job, reason: SkipReason, permit: &Arc<OwnedSemaphorePermit>) {
        let about = About {
            webhook: job.state.webhook,
            account: job.event.account,
            event: job.event.event,
            event_type: job.event.event_type.as_str().into(),
        };
        self.write(job, Verdict::Skipped { reason }, Some(about), None, permit);
    }

    /// Writes down what came of a call, while the answer is on its way.
    fn write(
        &self,
        job: &Job,
        verdict: Verdict,
        about: Option<About>,
        made: Option<&attempt::Encoded>,
        permit: &Arc<OwnedSemaphorePermit>,
    ) {
        let decision = Decision {
            // About no job: before all that there are.
            offset: Offset(-1),
            delivery: job.state.delivery,
            generation: Generation::default(),
            about: about.map(Box::new),
            verdict,
        };
        let entry = Entry::Decisions { owner: OwnerId::DIRECT, decisions: vec![decision] };
        let mut value = Vec::new();
        attempt::encode(&entry, made, &mut value);
        let (log, webhook, permit) = (Arc::clone(&self.log), job.state.webhook, Arc::clone(permit));
        self.tasks.spawn(async move {
            log.append(webhook, &value).await;
            drop(permit);
        });
    }

    /// Does something to its end, whether anybody waits for it or not, and before [`Caller::finish`] is done.
    pub(crate) fn track<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.tasks.spawn(work)
    }

    /// Waits until all that is tracked is done, and all attempts are written.
    pub(crate) async fn finish(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl AttemptLog {
    async fn append(&self, webhook: WebhookId, value: &[u8]) {
        let record = OutRecord {
            topic: &self.topic,
            partition: deliveries_partition(webhook, self.partitions),
            key: None,
            value: Some(value),
            headers: &[],
        };
        if let Err(error) = self.appender.append(&[record]).await {
            self.metrics.sync_attempts_lost_total.inc();
            warn!(%webhook, error = %Chain(&error), "an attempt is not in the history");
        }
    }
}

fn answered(result: &mut CallResult, response: &Response, redactor: &Redactor) {
    if !(200..300).contains(&response.status) {
        result.outcome = CallOutcome::Refused;
        result.reason = Some(format!("the endpoint answered with {}", response.status));
    }
    result.status = Some(response.status);
    let header = |(name, value): &(String, String)| AnswerHeader {
        name: redactor.header_name(name).into_owned(),
        value: redactor.text(value).into_owned(),
    };
    result.headers = response.headers.iter().map(header).collect();
    result.body_truncated = response.truncated;
    let body = redactor.body(&response.body, response.truncated);
    match std::str::from_utf8(&body) {
        Ok(text) => result.body = Some(text.to_owned()),
        Err(_) => result.body_base64 = Some(STANDARD.encode(&body)),
    }
}

/// What the history says of it: there is no second attempt.
fn verdict(exchange: &Exchange, webhook: &Webhook, clock: Clock) -> Verdict {
    match classify(exchange, webhook, clock.wall()) {
        outcome::Outcome::Delivered => Verdict::Delivered,
        outcome::Outcome::Retry { .. } => Verdict::Dead { reason: DeadReason::Exhausted },
        outcome::Outcome::GiveUp(reason) => Verdict::Dead { reason },
    }
}

/// The shortest and the longest time that somebody may wait for answers, and how long they do who don't say.
pub(crate) const DEADLINES: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(30);
pub(crate) const DEFAULT_DEADLINE: Duration = Duration::from_secs(5);

/// Reads a deadline: `1500ms`, `5s`.
///
/// # Errors
/// What it must be.
pub(crate) fn deadline(text: &str) -> Result<Duration, &'static str> {
    let read = hookstream_settings::parse_duration(text).ok();
    read.filter(|deadline| DEADLINES.contains(deadline))
        .ok_or("must be a time from `100ms` to `30s`, such as `5s`")
}
