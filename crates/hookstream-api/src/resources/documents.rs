//! The documents of the resources, for the description of the API: what is read is decided by
//! `hookstream_config::manifest`, and a test holds both together.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// That there is a secret; in a request: the one that is there stays.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sensitive {
    pub sensitive_value_present: bool,
}

/// A secret value: text in a request, never in an answer.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum SecretValue {
    Text(String),
    Present(Sensitive),
}

macro_rules! documents {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {
        $($(#[$doc])*
        #[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
            /// Counts the changes, from 1; also the `ETag`.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schema(read_only)]
            pub revision: Option<u64>,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schema(read_only, format = DateTime)]
            pub created_at: Option<String>,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schema(read_only, format = DateTime)]
            pub updated_at: Option<String>,
            /// Who changed it last.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schema(read_only)]
            pub actor: Option<String>,
        })*
    };
}

documents! {
    /// A tenant: whose events and whose webhooks.
    Account {
        /// Immutable: an account that is made again under the same name has another.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(read_only)]
        uid: Option<String>,
        name: String,
        /// `ping`: an endpoint must answer a ping before a webhook is published. `handshake`: it must consent in the
        /// handshake of CloudEvents' webhooks (`OPTIONS`). `none`: it need not do anything.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(example = "ping")]
        verification: Option<String>,
    }

    /// Topics that events come from, and how their records are read.
    Source {
        name: String,
        /// Names, or patterns `^…$`.
        topics: Vec<String>,
        /// `cloudevents`, `debezium`, `auto`, or an object with `type` and `mapping`.
        format: Value,
        /// Only registered event types are accepted.
        #[serde(default)]
        strict: bool,
        /// `async` (the default), or `sync`: its records call sync webhooks, and are answered.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        delivery: Option<String>,
        /// Where the answers of a `sync` one may go: names, or patterns `^…$`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        reply_topics: Vec<String>,
    }

    /// A registered event type.
    EventType {
        /// `entity.action`.
        #[schema(example = "order.created")]
        name: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(read_only)]
        entity: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(read_only)]
        action: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        description: Option<String>,
        /// JSON Schema of the data.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        schema: Option<Value>,
        /// Data as it may come.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sample: Option<Value>,
        /// An app needs all of them.
        #[serde(default)]
        scopes: Vec<String>,
        /// `async` or `sync`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        delivery: Option<String>,
        /// How long its events are worth delivering; then they are skipped as `expired`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(example = "1h")]
        ttl: Option<String>,
        #[serde(default)]
        deprecated: bool,
    }

    /// What owns webhooks, and is granted scopes.
    App {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(read_only)]
        id: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        account: Option<String>,
        name: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        description: Option<String>,
        #[serde(default)]
        scopes: Vec<String>,
    }

    /// What requests are authorized with: exactly one of `header`, `basic`, `bearer`, `oauth2`, `mtls`.
    Authorization {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(read_only)]
        id: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        account: Option<String>,
        name: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        description: Option<String>,
        /// What the URLs of the webhooks that use it begin with: it is sent nowhere else.
        #[schema(example = "https://crm.example/hooks")]
        endpoint: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        header: Option<HeaderCredentials>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        basic: Option<BasicCredentials>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bearer: Option<BearerCredentials>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        oauth2: Option<Oauth2Credentials>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mtls: Option<MtlsCredentials>,
    }

    /// A client of the API.
    ApiClient {
        /// Its OAuth2 `client_id`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(read_only)]
        id: Option<String>,
        name: String,
        /// The account that it sees; none: all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        account: Option<String>,
        /// The app whose webhooks it sees; none: all of the account.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        app: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        access_type: Option<String>,
        #[serde(default)]
        scopes: Vec<String>,
        #[serde(default)]
        disabled: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(read_only)]
        secret: Option<Sensitive>,
        /// In the answer that created it, and never again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(read_only)]
        client_secret: Option<String>,
    }

    /// An account's subscription of an endpoint to events.
    Webhook {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(read_only)]
        id: Option<String>,
        /// By name or uid; none: the token's, else `default`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        account: Option<String>,
        /// Unique in the account.
        name: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        description: Option<String>,
        /// By name or id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        app: Option<String>,
        /// `draft`, `published` (a new one's), `unpublished`, `paused`, `disabled`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        state: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(read_only)]
        disabled_reason: Option<String>,
        /// Events of this source only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<String>,
        /// With these, `eventTypes` are actions, for each of the entities.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(write_only)]
        entities: Option<Vec<String>>,
        /// Exact names, `prefix.*`, or `*`.
        event_types: Vec<String>,
        #[schema(example = "https://example.com/hooks")]
        url: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(example = "POST")]
        method: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content_type: Option<String>,
        /// `event`, `cloudevents_structured`, `cloudevents_binary`, `profile`, or `{"template": "…"}`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        payload: Option<Value>,
        /// Sent with every request.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        headers: Option<BTreeMap<String, SecretValue>>,
        /// What requests are signed with; made here if a new webhook names none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        secret: Option<SecretValue>,
        /// The secret that was made, in the answer that made it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(read_only)]
        generated_secret: Option<String>,
        /// `standard` (Standard Webhooks `v1`), `standard_ed25519` (`v1a`), `stripe`, `github`, `shopify`,
        /// `{"hmacSha256Hex": "HEADER"}`, `{"httpMessage": "hmac_sha256"}` or `"ed25519"` (RFC 9421), a list of these, or
        /// `none`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signature: Option<Value>,
        /// What Ed25519 signatures verify with, the newest first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(read_only)]
        public_keys: Option<Vec<String>>,
        /// The header that carries the secret itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        secret_header: Option<String>,
        /// By name or id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        authorization: Option<String>,
        /// Whom to believe, if not whom the machine does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tls: Option<TlsTrust>,
        /// Delays before each attempt, the first included.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry: Option<Vec<String>>,
        /// Which of these events, by what they hold: an EventBridge event pattern over attributes and `data`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<Object>, example = json!({ "data": { "country": ["NO", "SE"] } }))]
        filter: Option<Value>,
        /// Statuses after which it is not tried again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        give_up_on: Option<Vec<u16>>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(example = "15s")]
        timeout: Option<String>,
        /// Attempts per second, or such as `30/m`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rate: Option<Value>,
        /// Attempts per second that the endpoint has agreed to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(read_only)]
        allowed_rate: Option<f64>,
        /// Requests at a time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        concurrency: Option<u32>,
        /// How long an event is worth delivering, if that is shorter than its event type's; then it is skipped as `expired`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(example = "1h")]
        ttl: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        log_only_errors: Option<bool>,
        /// Scopes that its app has lost: what needs them is skipped.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(read_only)]
        missing_scopes: Option<Vec<String>>,
    }
}

/// A header.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeaderCredentials {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<SecretValue>,
    /// `SECRET` (the value is shown nowhere) or `PUBLIC`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visibility: Option<String>,
}

/// User name and password (RFC 7617).
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BasicCredentials {
    pub user: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretValue>,
}

/// A bearer token (RFC 6750).
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BearerCredentials {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretValue>,
}

/// Client credentials (RFC 6749 §4.4).
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Oauth2Credentials {
    pub token_url: String,
    pub client_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<SecretValue>,
    #[serde(default)]
    pub scopes: Vec<String>,
}

/// A client certificate and its key, in PEM.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MtlsCredentials {
    /// The leaf first.
    pub certificate: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<SecretValue>,
}

/// Whom a webhook believes its endpoint to be.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TlsTrust {
    /// Certificates (PEM) of the only authorities that are believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// SHA-256 of public keys (SubjectPublicKeyInfo) in base64: the endpoint's certificate must have one of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pins: Vec<String>,
}

/// What a copy of a webhook is to be.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WebhookCopy {
    /// Its name; else one is made of the original's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// The event of a test.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TestEvent {
    /// Else the first that the webhook names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// Else the sample of the event type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
}

/// A template that is tried.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TemplateTrial {
    pub template: String,
    /// What the payload is escaped as; else `application/json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Of a sample event; else `event` names one that was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// The sample event's; else the sample of its type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
    /// hookstream's id of an event that was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// Name or id of the sample event's account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
}

/// What a template makes of an event.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RenderedPayload {
    pub content_type: String,
    pub payload: String,
    /// What would keep a webhook with this template from being saved.
    pub problems: Vec<String>,
}

/// A webhook's next secret.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretRotation {
    /// Else one is made, and shown once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// For how long the old one counts, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "24h")]
    pub overlap: Option<String>,
}

#[cfg(test)]
mod tests;
