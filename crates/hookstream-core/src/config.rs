//! What is configured: accounts, sources, event types, apps, webhooks; and the view of it that stages decide by.

mod authorization;
mod secret;
mod tls;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hookstream_types::{AccountUid, AppId, Offset, UnixMillis, WebhookId};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::exchange::Method;
use crate::filter::Filter;
use crate::job::Job;
use crate::matching::{Index, pattern_matches};
use crate::replay::Runs;
use crate::schedule::RetrySchedule;
use crate::shared_map::SharedMap;
use crate::signing::Signatures;

pub use self::authorization::{
    Authorization, BadPrefix, ClientCredentials, Credentials, check_prefix, is_within,
};
pub use self::secret::WebhookSecret;
pub use self::tls::{BadPin, Identity, Pin, Tls, Trust};

/// What every resource carries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Counts the changes, from 1.
    pub revision: u64,
    pub created_at: UnixMillis,
    pub updated_at: UnixMillis,
    /// Who changed it last.
    pub actor: String,
    /// Digest of the request that created it, if that came with an `Idempotency-Key`: the same again finds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

/// A tenant: whose events and whose webhooks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Immutable; a re-created account of the same name has another.
    pub uid: AccountUid,
    /// Unique among the accounts that exist.
    pub name: String,
    #[serde(default)]
    pub verification: Verification,
    #[serde(flatten)]
    pub meta: Meta,
}

/// What an endpoint must do before a webhook of the account is published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verification {
    /// Answer a ping with 2xx.
    #[default]
    Ping,
    /// Consent in the handshake of CloudEvents' webhooks.
    Handshake,
    /// Nothing.
    None,
}

/// The account of events that name none.
pub const DEFAULT_ACCOUNT: &str = "default";

/// Where events come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Unique.
    pub name: String,
    /// Topic names, or patterns that start with `^` and are anchored at both ends.
    pub topics: Vec<String>,
    pub format: Format,
    /// Only registered event types are accepted.
    #[serde(default)]
    pub strict: bool,
    /// Sync: its records are calls of sync webhooks, and are answered.
    #[serde(default, skip_serializing_if = "DeliveryMode::is_async")]
    pub delivery: DeliveryMode,
    /// Where answers may go: topic names, or patterns as in `topics`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reply_topics: Vec<String>,
    #[serde(flatten)]
    pub meta: Meta,
}

/// How a source's records are read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Format {
    /// CloudEvents 1.0, Kafka protocol binding: binary and structured mode, told apart by the content type.
    Cloudevents {
        /// The attribute that names the account.
        #[serde(default = "default_account_attribute")]
        account: String,
    },
    /// A JSON document with a mapping.
    Json { mapping: Mapping },
    /// A Debezium change event, with or without its schema envelope.
    Debezium { mapping: DebeziumMapping },
    /// Each record is looked at: CloudEvents (structured or binary), else plain JSON with the fields `id`, `type`,
    /// `time`, `account`, `subject`, `data`. For development.
    #[default]
    Auto,
}

fn default_account_attribute() -> String {
    "account".to_owned()
}

/// Where in a JSON document an attribute stands: a JSON pointer (RFC 6901) or a constant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pick {
    Pointer(String),
    Constant(String),
}

/// How a JSON document becomes an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    /// None: the record's coordinates make the id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Pick>,
    #[serde(rename = "type")]
    pub event_type: Pick,
    /// None: the record's timestamp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Pick>,
    /// None: the default account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Pick>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Pick>,
    /// A pointer; none: the whole document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}

/// How a change event becomes an event: type `<table>.created|updated|deleted|read|truncated`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DebeziumMapping {
    /// Prefix of the event type; none: the table's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// Pointer into the row (`after`, or `before` for a deletion), or a constant; none: the default account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Pick>,
    /// Pointer into the row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Pick>,
}

/// A registered event type. Registration is optional unless a source is strict; schemas, samples and scopes need it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventType {
    /// `entity.action`.
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// JSON Schema of the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<serde_json::Value>,
    /// Data as it may come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<serde_json::Value>,
    /// An app needs all of them to get such events.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    #[serde(default)]
    pub delivery: DeliveryMode,
    /// How long its events are worth delivering, in milliseconds; none: as long as they are tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deprecated: bool,
    #[serde(flatten)]
    pub meta: Meta,
}

/// How events of a type reach their webhooks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryMode {
    /// After the fact, retried.
    #[default]
    Async,
    /// The producer waits for the endpoint's answer.
    Sync,
}

impl DeliveryMode {
    fn is_async(&self) -> bool {
        *self == Self::Async
    }
}

/// What an event type's name begins with, and what happened: `order.line`, `created`.
#[must_use]
pub fn entity_and_action(event_type: &str) -> (&str, &str) {
    event_type.rsplit_once('.').unwrap_or((event_type, ""))
}

/// What owns webhooks, and is granted scopes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    pub id: AppId,
    pub account: AccountUid,
    /// Unique in the account.
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Sorted.
    pub scopes: Vec<String>,
    #[serde(flatten)]
    pub meta: Meta,
}

/// Whether a webhook takes part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WebhookState {
    /// Never published.
    Draft,
    #[default]
    Published,
    /// Was published; not matched, waiting jobs are skipped.
    Unpublished,
    /// Matched and held.
    Paused,
    /// Switched off by the endpoint (410) or for failing; not matched, waiting jobs are skipped.
    Disabled,
}

/// A subscription of an endpoint to events.
#[derive(Clone, Debug, PartialEq)]
pub struct Webhook {
    pub id: WebhookId,
    pub account: AccountUid,
    /// As templates name it.
    pub account_name: Arc<str>,
    /// Unique in the account.
    pub name: String,
    pub description: Option<String>,
    /// None: it belongs to the account itself, and no scopes are asked for.
    pub app: Option<AppId>,
    pub state: WebhookState,
    /// Why it is disabled.
    pub disabled_reason: Option<String>,
    /// None: events of any source.
    pub source: Option<String>,
    /// Exact names, `prefix.*`, or `*`.
    pub event_types: Vec<String>,
    /// None: whatever they hold.
    pub filter: Option<Arc<Filter>>,
    pub url: String,
    pub method: Method,
    pub content_type: String,
    pub payload: Payload,
    /// Sent with every request; names are lower case.
    pub headers: Vec<(String, String)>,
    /// The newest first; several while one is being rotated out.
    pub secrets: Vec<WebhookSecret>,
    pub signatures: Signatures,
    /// The header that carries the newest secret itself, lower case.
    pub secret_header: Option<String>,
    pub authorization: Option<Arc<Authorization>>,
    /// None: whom this machine believes.
    pub trust: Option<Arc<Trust>>,
    pub retry: RetrySchedule,
    /// Statuses after which it is not tried again.
    pub give_up_on: Vec<u16>,
    /// Over the whole exchange.
    pub timeout: Duration,
    /// Attempts per second, also of what the endpoint has agreed to; none: unlimited.
    pub rate: Option<f64>,
    /// Requests at a time.
    pub concurrency: u32,
    /// How long an event is worth delivering, in milliseconds; none: as long as its event type says.
    pub ttl_ms: Option<u64>,
    /// Keep no bodies of successful attempts.
    pub log_only_errors: bool,
    pub revision: u64,
}

/// What a webhook's requests hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Payload {
    /// Type, timestamp and data, in the form of the content type: `{"type":…,"timestamp":…,"data":…}` in JSON.
    #[default]
    Event,
    /// CloudEvents 1.0, HTTP protocol binding: structured mode, in JSON.
    CloudeventsStructured,
    /// CloudEvents 1.0, HTTP protocol binding: binary mode, the data as it is and the attributes in headers.
    CloudeventsBinary,
    /// Which profile had which event, and no data: `{"eventTime":…,"profileType":…,"event":…,"uuid":…,"company":…}`.
    Profile,
    /// Text with placeholders: see [`crate::template`].
    Template { text: String },
}

impl Default for Webhook {
    /// A draft that names nothing.
    fn default() -> Self {
        Self {
            id: WebhookId(uuid::Uuid::nil()),
            account: AccountUid(uuid::Uuid::nil()),
            account_name: Arc::default(),
            name: String::new(),
            description: None,
            app: None,
            state: WebhookState::Draft,
            disabled_reason: None,
            source: None,
            event_types: Vec::new(),
            url: String::new(),
            method: Method::default(),
            content_type: DEFAULT_CONTENT_TYPE.to_owned(),
            payload: Payload::default(),
            headers: Vec::new(),
            secrets: Vec::new(),
            signatures: Signatures::default(),
            secret_header: None,
            authorization: None,
            trust: None,
            filter: None,
            retry: RetrySchedule::default(),
            give_up_on: Vec::new(),
            timeout: DEFAULT_TIMEOUT,
            rate: None,
            ttl_ms: None,
            concurrency: DEFAULT_CONCURRENCY,
            log_only_errors: false,
            revision: 0,
        }
    }
}

/// Content type of webhooks that name none.
pub const DEFAULT_CONTENT_TYPE: &str = "application/json";
/// Request deadline of webhooks that name none.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);
/// Requests at a time to webhooks that name no number.
pub const DEFAULT_CONCURRENCY: u32 = 64;

/// So many webhooks are put into the index one by one.
const FEW_CHANGES: usize = 64;

/// The configuration as of one offset of `hookstream.config`: immutable, shared, replaced as a whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// The offset after the last applied record.
    pub offset: Offset,
    pub accounts: Arc<BTreeMap<String, Arc<Account>>>,
    pub sources: BTreeMap<String, Arc<Source>>,
    pub event_types: BTreeMap<String, Arc<EventType>>,
    pub apps: BTreeMap<AppId, Arc<App>>,
    pub webhooks: SharedMap<WebhookId, Arc<Webhook>>,
    /// Which jobs are overtaken by replays.
    pub runs: Arc<Runs>,
    /// Which of the webhooks an event concerns.
    index: Index,
}

impl View {
    #[must_use]
    pub fn new(
        offset: Offset,
        accounts: BTreeMap<String, Arc<Account>>,
        sources: BTreeMap<String, Arc<Source>>,
        event_types: BTreeMap<String, Arc<EventType>>,
        webhooks: FxHashMap<WebhookId, Arc<Webhook>>,
    ) -> Self {
        let index = Index::build(webhooks.values());
        let webhooks = webhooks.into_iter().collect();
        let accounts = Arc::new(accounts);
        Self {
            offset,
            accounts,
            sources,
            event_types,
            apps: BTreeMap::new(),
            webhooks,
            runs: Arc::default(),
            index,
        }
    }

    /// Replaces webhooks, or takes them out; copies of the view stay as they are. It costs what changes, not what is
    /// there.
    pub fn put_webhooks(&mut self, changes: Vec<(WebhookId, Option<Arc<Webhook>>)>) {
        // So many that it is cheaper to start anew: inserting into a bucket moves what stands behind.
        let is_much = changes.len() > FEW_CHANGES && changes.len() > self.webhooks.len() / 8;
        for (id, webhook) in changes {
            let old = match &webhook {
                Some(webhook) => self.webhooks.insert(id, Arc::clone(webhook)),
                None => self.webhooks.remove(&id),
            };
            if is_much {
                continue;
            }
            if let Some(old) = old {
                self.index.remove(&old);
            }
            if let Some(webhook) = webhook {
                self.index.insert(&webhook);
            }
        }
        if is_much {
            self.index = Index::build(self.webhooks.values());
        }
    }

    /// The view with these apps.
    #[must_use]
    pub fn with_apps(self, apps: BTreeMap<AppId, Arc<App>>) -> Self {
        Self { apps, ..self }
    }

    /// A scope that events of this type need and the webhook's app does not hold (any more). An app that is gone
    /// holds none.
    #[must_use]
    pub fn missing_scope(&self, webhook: &Webhook, event_type: &str) -> Option<&str> {
        let app = self.apps.get(webhook.app.as_ref()?);
        let needed = self.event_types.get(event_type)?.scopes.iter();
        needed.map(String::as_str).find(|scope| !app.is_some_and(|app| app.holds(scope)))
    }

    /// How events of a type reach their webhooks; an unregistered one's are delivered.
    #[must_use]
    pub fn delivery(&self, event_type: &str) -> DeliveryMode {
        self.event_types.get(event_type).map(|known| known.delivery).unwrap_or_default()
    }

    /// When a job is not worth delivering any more: the webhook's or the event type's time to live has passed since the
    /// event was produced, or since somebody asked for it again.
    #[must_use]
    pub fn expiry(&self, webhook: &Webhook, job: &Job) -> Option<UnixMillis> {
        let of_type = self.event_types.get(&job.event.event_type).and_then(|known| known.ttl_ms);
        let ttl = webhook.ttl_ms.into_iter().chain(of_type).min()?;
        let since = job.event.produced_at.0.max(job.state.generation.run);
        Some(UnixMillis(since.saturating_add_unsigned(ttl)))
    }

    /// Which webhooks an event concerns.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Whether all that the maker of an event or job had applied is applied here too (rule 10).
    #[must_use]
    pub fn reaches(&self, offset: Offset) -> bool {
        self.offset >= offset
    }

    #[must_use]
    pub fn webhook(&self, id: WebhookId) -> Option<&Arc<Webhook>> {
        self.webhooks.get(&id)
    }
}

impl App {
    #[must_use]
    pub fn holds(&self, scope: &str) -> bool {
        self.scopes.iter().any(|held| held == scope)
    }

    /// The scopes that a webhook with these patterns needs and this app does not hold, each with an event type
    /// that needs it.
    pub fn missing<'a>(
        &'a self,
        patterns: &'a [String],
        event_types: impl Iterator<Item = &'a EventType> + 'a,
    ) -> impl Iterator<Item = (&'a str, &'a str)> + 'a {
        event_types
            .filter(|known| patterns.iter().any(|pattern| pattern_matches(pattern, &known.name)))
            .flat_map(|known| known.scopes.iter().map(|scope| (known.name.as_str(), scope.as_str())))
            .filter(|(_, scope)| !self.holds(scope))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hookstream_types::{DeliveryId, EventId, Generation};
    use uuid::Uuid;

    use super::*;
    use crate::event::EventAttributes;
    use crate::job::JobState;

    #[test]
    fn the_shorter_time_to_live_counts_from_when_it_was_asked_for() {
        let job = |run: i64| {
            let state = JobState {
                generation: Generation { run, n: 3 },
                ..JobState::new(DeliveryId(Uuid::nil()), WebhookId(Uuid::nil()), Offset(0))
            };
            let event = EventAttributes {
                event: EventId(Uuid::nil()),
                account: AccountUid(Uuid::nil()),
                source: "s".into(),
                id: "1".into(),
                ce_source: "s".into(),
                event_type: "price.changed".into(),
                subject: None,
                time: "2026-01-01T00:00:00Z".into(),
                content_type: None,
                extensions: Vec::new(),
                produced_at: UnixMillis(1_000),
            };
            Job { state, event: Arc::new(event), data: Bytes::new() }
        };
        let view = |ttl_ms| {
            let meta = Meta { revision: 1, ..Meta::default() };
            let known = EventType {
                name: "price.changed".into(),
                description: None,
                schema: None,
                sample: None,
                scopes: Vec::new(),
                delivery: DeliveryMode::Async,
                ttl_ms,
                deprecated: false,
                meta,
            };
            let types = BTreeMap::from([(known.name.clone(), Arc::new(known))]);
            View::new(Offset(0), BTreeMap::new(), BTreeMap::new(), types, FxHashMap::default())
        };
        let at = |of_type, of_webhook, run| {
            let webhook = Webhook { ttl_ms: of_webhook, ..Webhook::default() };
            view(of_type).expiry(&webhook, &job(run)).map(|at| at.0)
        };
        assert_eq!(at(None, None, 0), None);
        assert_eq!(at(Some(500), None, 0), Some(1_500));
        assert_eq!(at(Some(500), Some(100), 0), Some(1_100));
        assert_eq!(at(Some(500), Some(900), 0), Some(1_500));
        assert_eq!(at(None, Some(100), 7_000), Some(7_100), "a replay begins anew");
        assert_eq!(at(Some(u64::MAX), None, 0), Some(i64::MAX));
    }
}
