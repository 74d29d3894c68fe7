//! Changes of the configuration: what is asked for, and whether it may be.
//!
//! [`plan()`] turns one write (several changes, all or none) into records, judged by the state and by the writes
//! before it. Pure: time, actor and randomness are arguments.

use std::sync::Arc;
use std::time::Duration;

use hookstream_core::config::{
    DeliveryMode, EventType, Format, Meta, Payload, Source, Trust, Verification, WebhookSecret, WebhookState,
};
use hookstream_core::exchange::Method;
use hookstream_core::filter::Filter;
use hookstream_core::replay::{Progress, ReplayState, Selection};
use hookstream_core::request::handshake::Agreed;
use hookstream_core::schedule::RetrySchedule;
use hookstream_core::signing::Signatures;
use hookstream_types::{
    AccountUid, AppId, AuthorizationId, ClientId, ReplayId, SecretString, UnixMillis, WebhookId,
};
use hookstream_wire::config::{HashedSecret, Key};

use crate::envelope::OpenError;

mod plan;
mod replay;
mod resources;
mod webhook;

pub use plan::{Author, PlannedRecord};
pub(crate) use plan::{Undo, plan, put_back};

/// What a change expects to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Nothing: it is created.
    Absent,
    /// This revision.
    Revision(u64),
    /// It exists, whatever its revision.
    Present,
}

/// One change of one resource.
#[derive(Clone, Debug)]
pub enum Change {
    /// Fixes what is fixed once; the same again changes nothing.
    InitCluster {
        namespace: String,
        partitions: i32,
        format: u32,
    },
    PutAccount {
        uid: AccountUid,
        account: AccountSpec,
        expected: Expected,
    },
    /// Refused while the account has anything. Destroys the account's data key.
    DeleteAccount {
        uid: AccountUid,
        expected: Expected,
    },
    /// Seals the account's data key with the newest key-encryption key.
    RewrapAccount {
        uid: AccountUid,
    },
    PutSource {
        source: SourceSpec,
        expected: Expected,
    },
    /// Refused while a webhook names the source.
    DeleteSource {
        name: String,
        expected: Expected,
    },
    PutEventType {
        event_type: EventTypeSpec,
        expected: Expected,
    },
    DeleteEventType {
        name: String,
        expected: Expected,
    },
    PutApp {
        id: AppId,
        app: AppSpec,
        expected: Expected,
    },
    /// Refused while a webhook or a client is the app's.
    DeleteApp {
        id: AppId,
        expected: Expected,
    },
    PutAuthorization {
        id: AuthorizationId,
        authorization: Box<AuthorizationSpec>,
        expected: Expected,
    },
    /// Refused while a webhook uses it.
    DeleteAuthorization {
        id: AuthorizationId,
        expected: Expected,
    },
    PutClient {
        id: ClientId,
        client: Box<ClientSpec>,
        expected: Expected,
    },
    DeleteClient {
        id: ClientId,
        expected: Expected,
    },
    PutWebhook {
        id: WebhookId,
        webhook: Box<WebhookSpec>,
        expected: Expected,
    },
    DeleteWebhook {
        id: WebhookId,
        expected: Expected,
    },
    /// Nothing if it is in that state already.
    SetWebhookState {
        id: WebhookId,
        state: WebhookState,
        /// None: as it was.
        agreed: Option<Agreed>,
        expected: Expected,
    },
    /// Gives a webhook a new secret; those that it has count until `until`.
    RotateSecret {
        id: WebhookId,
        secret: SecretString,
        until: UnixMillis,
        expected: Expected,
    },
    /// Switches a webhook off if its revision and URL are still those; else nothing happens.
    DisableWebhook {
        id: WebhookId,
        revision: u64,
        url: String,
        reason: String,
    },
    StartReplay {
        id: ReplayId,
        replay: Box<ReplaySpec>,
    },
    /// How far a replay has got, which must still run.
    SetReplay {
        id: ReplayId,
        state: ReplayState,
        reason: Option<String>,
        progress: Progress,
        expected: Expected,
    },
    /// Nothing if it has ended.
    CancelReplay {
        id: ReplayId,
    },
    DeleteReplay {
        id: ReplayId,
    },
}

/// A replay, without what the writer adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplaySpec {
    pub account: AccountUid,
    pub webhook: Option<WebhookId>,
    pub selection: Selection,
    pub dry_run: bool,
}

/// An account, without what the writer adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountSpec {
    pub name: String,
    pub verification: Verification,
}

/// A source, without what the writer adds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceSpec {
    pub name: String,
    pub topics: Vec<String>,
    pub format: Format,
    pub strict: bool,
    pub delivery: DeliveryMode,
    pub reply_topics: Vec<String>,
}

impl SourceSpec {
    pub(crate) fn record(self, meta: Meta) -> Source {
        let Self { name, topics, format, strict, delivery, reply_topics } = self;
        Source { name, topics, format, strict, delivery, reply_topics, meta }
    }
}

/// An event type, without what the writer adds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventTypeSpec {
    pub name: String,
    pub description: Option<String>,
    pub schema: Option<serde_json::Value>,
    pub sample: Option<serde_json::Value>,
    pub scopes: Vec<String>,
    pub delivery: DeliveryMode,
    pub ttl_ms: Option<u64>,
    pub deprecated: bool,
}

impl EventTypeSpec {
    pub(crate) fn record(self, meta: Meta) -> EventType {
        let Self { name, description, schema, sample, scopes, delivery, ttl_ms, deprecated } = self;
        EventType { name, description, schema, sample, scopes, delivery, ttl_ms, deprecated, meta }
    }
}

/// An app, without what the writer adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppSpec {
    pub account: AccountUid,
    pub name: String,
    pub description: Option<String>,
    pub scopes: Vec<String>,
}

/// An authorization, without what the writer adds, in clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationSpec {
    pub account: AccountUid,
    pub name: String,
    pub description: Option<String>,
    pub endpoint: String,
    pub credentials: CredentialsSpec,
}

/// Credentials in clear. A secret part that is none: the one that is there, if the type is the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialsSpec {
    Header { name: String, value: Option<SecretString>, secret: bool },
    Basic { user: String, password: Option<SecretString> },
    Bearer { token: Option<SecretString> },
    Oauth2 { token_url: String, client_id: String, client_secret: Option<SecretString>, scopes: Vec<String> },
    Mtls { certificate: String, key: Option<SecretString> },
}

/// A client of the API, without what the writer adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSpec {
    pub name: String,
    pub account: Option<AccountUid>,
    pub app: Option<AppId>,
    pub access_type: Option<String>,
    pub scopes: Vec<String>,
    /// None: those that it has.
    pub secrets: Option<Vec<HashedSecret>>,
    pub disabled: bool,
}

/// A webhook, without what the writer adds, in clear.
#[derive(Clone, Debug, PartialEq)]
pub struct WebhookSpec {
    pub account: AccountUid,
    pub name: String,
    pub description: Option<String>,
    pub app: Option<AppId>,
    pub state: WebhookState,
    pub disabled_reason: Option<String>,
    pub source: Option<String>,
    pub event_types: Vec<String>,
    pub url: String,
    pub method: Method,
    pub content_type: String,
    pub payload: Payload,
    /// Names are lower case. No value: the one that it has.
    pub headers: Vec<(String, Option<SecretString>)>,
    /// None: those that it has.
    pub secrets: Option<Vec<WebhookSecret>>,
    pub signatures: Signatures,
    pub secret_header: Option<String>,
    pub authorization: Option<AuthorizationId>,
    pub trust: Option<Arc<Trust>>,
    pub filter: Option<Arc<Filter>>,
    pub retry: RetrySchedule,
    pub give_up_on: Vec<u16>,
    pub timeout: Duration,
    pub rate: Option<f64>,
    pub agreed: Option<Agreed>,
    pub concurrency: u32,
    pub ttl_ms: Option<u64>,
    pub log_only_errors: bool,
}

/// Why a write is refused: nothing of it happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Somebody else changed it: read it again.
    #[error("`{key}` has revision {found}, not {expected}: it was changed meanwhile")]
    RevisionMismatch { key: Key, expected: u64, found: u64 },
    #[error("`{key}` does not exist")]
    Missing { key: Key },
    #[error("`{key}` exists already")]
    Exists { key: Key },
    #[error("the name `{name}` is taken by `{by}`")]
    NameTaken { name: String, by: Key },
    #[error("`{key}` refers to `{to}`, which does not exist")]
    BrokenReference { key: Key, to: Key },
    #[error("`{key}` is still used by `{by}`: remove that first")]
    InUse { key: Key, by: Key },
    #[error(
        "the newest record of `{key}` can't be read, so that a change could lose something: upgrade, or delete it"
    )]
    Unreadable { key: Key },
    #[error("the secrets of `{key}` can't be opened")]
    Unopened {
        key: Key,
        #[source]
        source: OpenError,
    },
    #[error("the cluster was created with {what} {found}, which can't be changed to {asked}")]
    ClusterFixed { what: &'static str, found: String, asked: String },
    #[error("`{key}` can't move to another account")]
    AccountFixed { key: Key },
    #[error("`{key}` needs a secret")]
    NoSecret { key: Key },
    #[error("`{key}` has no `{field}` whose value could be kept: give one")]
    NothingToKeep {
        key: Key,
        /// In the document, with what it stands in: `mtls/key`.
        field: String,
    },
    #[error("`{key}` is for endpoints below `{endpoint}`, and `{webhook}` calls another")]
    Elsewhere { key: Key, webhook: Key, endpoint: String },
    #[error("`{app}` lacks the scopes that the event types need: {}", list(.missing))]
    MissingScopes {
        app: Key,
        /// Scope, and an event type that needs it.
        missing: Vec<(String, String)>,
    },
    #[error("`{key}` names hookstream's own topic `{topic}`: its records are no domain events; leave it out")]
    OwnTopic { key: Key, topic: String },
    #[error("`{key}` has ended already")]
    Ended { key: Key },
    #[error(
        "{found} replays of the account are running, the most there may be: wait for one to end, or cancel it"
    )]
    TooManyReplays { found: usize },
    #[error("`{key}` takes {bytes} bytes, more than a record may have ({max})")]
    TooLarge { key: Key, bytes: usize, max: usize },
}

fn list(missing: &[(String, String)]) -> String {
    let each = missing.iter().map(|(scope, event_type)| format!("`{scope}` (`{event_type}`)"));
    each.collect::<Vec<_>>().join(", ")
}
