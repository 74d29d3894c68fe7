//! Records of `hookstream.config`: compacted, one per resource, the newest counts.
//!
//! The key is `<kind>/<id>`, the value JSON with `"v":1`; no value: the resource is deleted. Each record carries
//! the id of the write that made it (header [`WRITE_HEADER`]), so that a writer whose commit had no answer can
//! look whether it happened.
//!
//! **Invariant:** no secret stands here in clear. Signing keys and header values are [`Sealed`] by the account's
//! data key, which stands in the account's record, itself sealed by the key-encryption key.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use hookstream_core::config::{Account, App, EventType, Meta, Payload, Source, Trust, WebhookState};
use hookstream_core::exchange::Method;
use hookstream_core::filter::Filter;
use hookstream_core::replay::Replay;
use hookstream_core::request::handshake::Agreed;
use hookstream_core::schedule::RetrySchedule;
use hookstream_core::signing::Signatures;
use hookstream_types::{AccountUid, AppId, AuthorizationId, ClientId, ReplayId, UnixMillis, WebhookId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Header with the [`WriteId`] of the write that a record belongs to.
pub const WRITE_HEADER: &str = "hs-write";

/// The version that is written.
const VERSION: u32 = 1;

/// One write: all of its records or none are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub Uuid);

impl WriteId {
    /// The header's value.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        self.0.to_string().into_bytes()
    }

    /// None if it is no write id.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Uuid::try_parse_ascii(bytes).ok().map(Self)
    }
}

impl fmt::Display for WriteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a record is about: its key in the log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// The one record of what was fixed when the topics were created.
    Cluster,
    Account(AccountUid),
    /// By name.
    Source(String),
    /// By name.
    EventType(String),
    App(AppId),
    Authorization(AuthorizationId),
    Client(ClientId),
    Webhook(WebhookId),
    Replay(ReplayId),
}

/// The id of the one cluster record.
const CLUSTER_ID: &str = "main";

impl Key {
    /// The kind, as it stands in the key.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Account(_) => "account",
            Self::Source(_) => "source",
            Self::EventType(_) => "event-type",
            Self::App(_) => "app",
            Self::Authorization(_) => "authorization",
            Self::Client(_) => "client",
            Self::Webhook(_) => "webhook",
            Self::Replay(_) => "replay",
        }
    }

    /// # Errors
    /// [`ConfigError`] if it is no key of a kind that this version knows.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ConfigError> {
        std::str::from_utf8(bytes).map_err(|_| ConfigError::KeyNotText)?.parse()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind();
        match self {
            Self::Cluster => write!(f, "{kind}/{CLUSTER_ID}"),
            Self::Account(uid) => write!(f, "{kind}/{uid}"),
            Self::Source(name) | Self::EventType(name) => write!(f, "{kind}/{name}"),
            Self::App(id) => write!(f, "{kind}/{id}"),
            Self::Authorization(id) => write!(f, "{kind}/{id}"),
            Self::Client(id) => write!(f, "{kind}/{id}"),
            Self::Webhook(id) => write!(f, "{kind}/{id}"),
            Self::Replay(id) => write!(f, "{kind}/{id}"),
        }
    }
}

impl FromStr for Key {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ConfigError::BadKey { key: shortened(text) };
        let (kind, id) = text.split_once('/').ok_or_else(bad)?;
        if id.is_empty() {
            return Err(bad());
        }
        // Only the form that we write: two spellings of one UUID would be two resources to the log's compaction.
        let uuid = || match Uuid::parse_str(id) {
            Ok(uuid) if uuid.to_string() == id => Ok(uuid),
            _ => Err(bad()),
        };
        match kind {
            "cluster" if id == CLUSTER_ID => Ok(Self::Cluster),
            "cluster" => Err(bad()),
            "account" => Ok(Self::Account(AccountUid(uuid()?))),
            "source" => Ok(Self::Source(id.to_owned())),
            "event-type" => Ok(Self::EventType(id.to_owned())),
            "app" => Ok(Self::App(AppId(uuid()?))),
            "authorization" => Ok(Self::Authorization(AuthorizationId(uuid()?))),
            "client" => Ok(Self::Client(ClientId(uuid()?))),
            "webhook" => Ok(Self::Webhook(WebhookId(uuid()?))),
            "replay" => Ok(Self::Replay(ReplayId(uuid()?))),
            _ => Err(ConfigError::UnknownKind { kind: shortened(kind) }),
        }
    }
}

/// Something encrypted and authenticated, together with where it belongs (the associated data is not stored).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// Which key sealed it: the key-encryption key for a data key, the account's data key for all else.
    pub key: String,
    #[serde(with = "base64_text")]
    pub nonce: Vec<u8>,
    #[serde(with = "base64_text")]
    pub ciphertext: Vec<u8>,
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed(by {})", self.key)
    }
}

/// What is fixed when the topics are created, and checked by every service at its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRecord {
    pub namespace: String,
    /// Partitions of `deliveries` and of all topics that have as many.
    pub partitions: i32,
    /// Version of the records in the topics.
    pub format: u32,
    pub created_at: UnixMillis,
}

/// An account, and the key that its secrets are sealed with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountRecord {
    #[serde(flatten)]
    pub account: Account,
    pub data_key: Sealed,
}

/// A webhook's secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedSecret {
    /// The text that a receiver has.
    #[serde(flatten)]
    pub text: Sealed,
    /// It is being rotated out, and counts until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<UnixMillis>,
}

/// What requests are authorized with. The fields are those of [`hookstream_core::config::Authorization`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorizationRecord {
    pub id: AuthorizationId,
    pub account: AccountUid,
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    pub endpoint: String,
    pub credentials: SealedCredentials,
    #[serde(flatten)]
    pub meta: Meta,
}

/// Credentials, with their secret parts sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum SealedCredentials {
    Header {
        name: String,
        value: Sealed,
        /// Its value is shown nowhere.
        secret: bool,
    },
    Basic {
        user: String,
        password: Sealed,
    },
    Bearer {
        token: Sealed,
    },
    Oauth2 {
        token_url: String,
        client_id: String,
        client_secret: Sealed,
        scopes: Vec<String>,
    },
    Mtls {
        certificate: String,
        key: Sealed,
    },
}

impl SealedCredentials {
    /// The one part that is sealed.
    #[must_use]
    pub fn sealed(&self) -> &Sealed {
        match self {
            Self::Header { value, .. } => value,
            Self::Basic { password, .. } => password,
            Self::Bearer { token } => token,
            Self::Oauth2 { client_secret, .. } => client_secret,
            Self::Mtls { key, .. } => key,
        }
    }
}

/// A client of the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientRecord {
    pub id: ClientId,
    pub name: String,
    /// None: it sees all accounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountUid>,
    /// It sees this app's webhooks only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_type: Option<String>,
    /// As they are asked for; sorted.
    pub scopes: Vec<String>,
    /// The newest first.
    pub secrets: Vec<HashedSecret>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    #[serde(flatten)]
    pub meta: Meta,
}

/// A client's secret, of which only a hash is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashedSecret {
    pub hash: String,
    /// It is being rotated out, and counts until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<UnixMillis>,
}

/// A header of a webhook's requests. Values are sealed whatever the name: people put tokens into any of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedHeader {
    /// Lower case.
    pub name: String,
    pub value: Sealed,
}

/// A webhook, with its secrets sealed. The fields are those of [`hookstream_core::config::Webhook`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WebhookRecord {
    pub id: WebhookId,
    pub account: AccountUid,
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppId>,
    pub state: WebhookState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled_reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    pub event_types: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Arc<Filter>>,
    pub url: String,
    pub method: Method,
    pub content_type: String,
    #[serde(default, skip_serializing_if = "is_default")]
    pub payload: Payload,
    #[serde(default)]
    pub headers: Vec<SealedHeader>,
    pub secrets: Vec<SealedSecret>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub signatures: Signatures,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_header: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization: Option<AuthorizationId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<Arc<Trust>>,
    /// Milliseconds.
    pub retry: RetrySchedule,
    #[serde(default)]
    pub give_up_on: Vec<u16>,
    pub timeout_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// What its endpoint has agreed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreed: Option<Agreed>,
    pub concurrency: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    #[serde(default)]
    pub log_only_errors: bool,
    #[serde(flatten)]
    pub meta: Meta,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A resource as it stands in the log.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    Cluster(ClusterRecord),
    Account(AccountRecord),
    Source(Source),
    EventType(EventType),
    App(App),
    Authorization(AuthorizationRecord),
    Client(ClientRecord),
    Webhook(Arc<WebhookRecord>),
    Replay(Replay),
}

impl Record {
    #[must_use]
    pub fn key(&self) -> Key {
        match self {
            Self::Cluster(_) => Key::Cluster,
            Self::Account(record) => Key::Account(record.account.uid),
            Self::Source(source) => Key::Source(source.name.clone()),
            Self::EventType(event_type) => Key::EventType(event_type.name.clone()),
            Self::App(app) => Key::App(app.id),
            Self::Authorization(authorization) => Key::Authorization(authorization.id),
            Self::Client(client) => Key::Client(client.id),
            Self::Webhook(webhook) => Key::Webhook(webhook.id),
            Self::Replay(replay) => Key::Replay(replay.id),
        }
    }

    /// What it carries besides; the cluster's record has none.
    #[must_use]
    pub fn meta(&self) -> Option<&Meta> {
        match self {
            Self::Cluster(_) => None,
            Self::Account(record) => Some(&record.account.meta),
            Self::Source(source) => Some(&source.meta),
            Self::EventType(event_type) => Some(&event_type.meta),
            Self::App(app) => Some(&app.meta),
            Self::Authorization(authorization) => Some(&authorization.meta),
            Self::Client(client) => Some(&client.meta),
            Self::Webhook(webhook) => Some(&webhook.meta),
            Self::Replay(replay) => Some(&replay.meta),
        }
    }

    /// Whose it is, if it is an account's.
    #[must_use]
    pub fn account(&self) -> Option<AccountUid> {
        match self {
            Self::Cluster(_) | Self::Source(_) | Self::EventType(_) => None,
            Self::Account(record) => Some(record.account.uid),
            Self::App(app) => Some(app.account),
            Self::Authorization(authorization) => Some(authorization.account),
            Self::Client(client) => client.account,
            Self::Webhook(webhook) => Some(webhook.account),
            Self::Replay(replay) => Some(replay.account),
        }
    }

    /// The value's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Cluster(body) => versioned(body),
            Self::Account(body) => versioned(body),
            Self::Source(body) => versioned(body),
            Self::EventType(body) => versioned(body),
            Self::App(body) => versioned(body),
            Self::Authorization(body) => versioned(body),
            Self::Client(body) => versioned(body),
            Self::Webhook(body) => versioned(body),
            Self::Replay(body) => versioned(body),
        }
    }

    /// Reads the value that stands at `key`.
    ///
    /// # Errors
    /// [`ConfigError`] if the value is not what its key says, in a version that we know.
    pub fn decode(key: &Key, value: &[u8]) -> Result<Self, ConfigError> {
        let at = || key.to_string();
        check_version(value, &at)?;
        let record = match key {
            Key::Cluster => Self::Cluster(parse(value, &at)?),
            Key::Account(_) => Self::Account(parse(value, &at)?),
            Key::Source(_) => Self::Source(parse(value, &at)?),
            Key::EventType(_) => Self::EventType(parse(value, &at)?),
            Key::App(_) => Self::App(parse(value, &at)?),
            Key::Authorization(_) => Self::Authorization(parse(value, &at)?),
            Key::Client(_) => Self::Client(parse(value, &at)?),
            Key::Webhook(_) => Self::Webhook(parse(value, &at)?),
            Key::Replay(_) => Self::Replay(parse(value, &at)?),
        };
        if record.key() != *key {
            return Err(ConfigError::WrongKey { key: at(), found: shortened(&record.key().to_string()) });
        }
        if let Self::Webhook(webhook) = &record {
            // A lane with such figures would never send, or never stop.
            let agreed = webhook.agreed.and_then(|agreed| agreed.rate);
            let mut rates = [webhook.rate, agreed].into_iter().flatten();
            let rate_ok = rates.all(|rate| rate.is_finite() && rate > 0.0);
            if !rate_ok || webhook.concurrency == 0 || webhook.timeout_ms == 0 {
                return Err(ConfigError::OutOfRange { key: at() });
            }
        }
        Ok(record)
    }
}

/// Why a record of the configuration can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("a configuration record's key is not text")]
    KeyNotText,
    #[error("`{key}` is no configuration key: expected `<kind>/<id>`")]
    BadKey { key: String },
    #[error("configuration of kind `{kind}` is not known to this version: upgrade this service")]
    UnknownKind { kind: String },
    #[error(
        "the configuration record `{key}` has version {version}, and this service knows {VERSION}: upgrade it"
    )]
    UnknownVersion { key: String, version: u64 },
    #[error("the configuration record `{key}` can't be read")]
    Malformed {
        key: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("the configuration record `{key}` holds `{found}`")]
    WrongKey { key: String, found: String },
    #[error("the configuration record `{key}` has a rate, concurrency or time-out of zero or less")]
    OutOfRange { key: String },
}

#[derive(Serialize)]
struct Versioned<'a, T> {
    v: u32,
    #[serde(flatten)]
    body: &'a T,
}

#[derive(Deserialize)]
struct Version {
    v: u64,
}

fn versioned<T: Serialize>(body: &T) -> Vec<u8> {
    serde_json::to_vec(&Versioned { v: VERSION, body }).expect("records have text keys and no fallible field")
}

fn check_version(value: &[u8], key: &dyn Fn() -> String) -> Result<(), ConfigError> {
    let version = parse::<Version>(value, key)?.v;
    if version != u64::from(VERSION) {
        return Err(ConfigError::UnknownVersion { key: key(), version });
    }
    Ok(())
}

fn parse<T: DeserializeOwned>(value: &[u8], key: &dyn Fn() -> String) -> Result<T, ConfigError> {
    serde_json::from_slice(value).map_err(|source| ConfigError::Malformed { key: key(), source })
}

/// Foreign text in an error message, cut to what a line can take.
pub(crate) fn shortened(text: &str) -> String {
    const MAX_CHARS: usize = 80;
    match text.char_indices().nth(MAX_CHARS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// Bytes as base64 text in JSON.
mod base64_text {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
