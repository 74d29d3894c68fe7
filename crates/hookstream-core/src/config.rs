//! What is configured: accounts, sources, event types, webhooks; and the view of it that stages decide by.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hookstream_types::{AccountUid, Offset, Secret, UnixMillis, WebhookId};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::exchange::Method;
use crate::matching::Index;
use crate::schedule::RetrySchedule;

/// What every resource carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Counts the changes, from 1.
    pub revision: u64,
    pub created_at: UnixMillis,
    pub updated_at: UnixMillis,
    /// Who changed it last.
    pub actor: String,
}

/// A tenant: whose events and whose webhooks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Immutable; a re-created account of the same name has another.
    pub uid: AccountUid,
    /// Unique among the accounts that exist.
    pub name: String,
    #[serde(flatten)]
    pub meta: Meta,
}

/// The account of events that name none.
pub const DEFAULT_ACCOUNT: &str = "default";

/// Where events come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Unique.
    pub name: String,
    /// Topic names, or patterns that start with `^` and are anchored at both ends.
    pub topics: Vec<String>,
    pub format: Format,
    /// Only registered event types are accepted.
    #[serde(default)]
    pub strict: bool,
    #[serde(flatten)]
    pub meta: Meta,
}

/// How a source's records are read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// A registered event type. Registration is optional unless a source is strict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventType {
    /// `entity.action`.
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
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
    /// Unique in the account.
    pub name: String,
    pub state: WebhookState,
    /// Why it is disabled.
    pub disabled_reason: Option<String>,
    /// None: events of any source.
    pub source: Option<String>,
    /// Exact names, `prefix.*`, or `*`.
    pub event_types: Vec<String>,
    pub url: String,
    pub method: Method,
    pub content_type: String,
    /// Sent with every request; names are lower case.
    pub headers: Vec<(String, String)>,
    /// Signing keys, the newest first; several while one is being rotated out.
    pub secrets: Vec<Secret>,
    pub retry: RetrySchedule,
    /// Statuses after which it is not tried again.
    pub give_up_on: Vec<u16>,
    /// Over the whole exchange.
    pub timeout: Duration,
    /// Attempts per second; none: unlimited.
    pub rate: Option<f64>,
    /// Requests at a time.
    pub concurrency: u32,
    /// Keep no bodies of successful attempts.
    pub log_only_errors: bool,
    pub revision: u64,
}

/// Request deadline of webhooks that name none.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);
/// Requests at a time to webhooks that name no number.
pub const DEFAULT_CONCURRENCY: u32 = 64;

/// The configuration as of one offset of `hookstream.config`: immutable, shared, replaced as a whole.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The offset after the last applied record.
    pub offset: Offset,
    pub accounts: BTreeMap<String, Arc<Account>>,
    pub sources: BTreeMap<String, Arc<Source>>,
    pub event_types: BTreeMap<String, Arc<EventType>>,
    pub webhooks: FxHashMap<WebhookId, Arc<Webhook>>,
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
        Self { offset, accounts, sources, event_types, webhooks, index }
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
