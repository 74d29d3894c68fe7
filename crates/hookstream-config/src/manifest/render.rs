//! Resources as documents that can be read again: for the API, and for `hookstream export`.
//!
//! **Invariant:** no secret is written, only that there is one (`{"sensitiveValuePresent":true}`); read again, that
//! means "as it is".

use std::time::Duration;

use hookstream_core::config::{App, EventType, Meta, Payload, Source, Verification, entity_and_action};
use hookstream_core::ladder::Ladder;
use hookstream_core::schedule::RetrySchedule;
use hookstream_core::signing::{Algorithm, Profile, Signatures};
use hookstream_types::{AccountUid, UnixMillis};
use hookstream_wire::config::{
    AccountRecord, AuthorizationRecord, ClientRecord, SealedCredentials, WebhookRecord,
};
use serde::ser::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::fields::camel;
use crate::state::State;

/// Which form a document has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// JSON of the API: `eventTypes`, with what is only shown.
    Api,
    /// A file: `event_types`, with what can be set and no more, and names for ids.
    File,
}

struct Document {
    form: Form,
    fields: Map<String, Value>,
}

impl Document {
    fn new(form: Form) -> Self {
        Self { form, fields: Map::new() }
    }

    fn name(&self, field: &str) -> String {
        if self.form == Form::Api { camel(field) } else { field.to_owned() }
    }

    fn put(&mut self, field: &str, value: impl Into<Value>) {
        let name = self.name(field);
        self.fields.insert(name, value.into());
    }

    fn put_some(&mut self, field: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.put(field, value);
        }
    }

    /// In the API only.
    fn show(&mut self, field: &str, value: impl Into<Value>) {
        if self.form == Form::Api {
            self.put(field, value);
        }
    }

    fn kept(&self) -> Value {
        let mut map = Map::new();
        map.insert(self.name("sensitive_value_present"), Value::Bool(true));
        Value::Object(map)
    }

    fn meta(mut self, meta: &Meta) -> Value {
        self.show("revision", meta.revision);
        self.show("created_at", time(meta.created_at));
        self.show("updated_at", time(meta.updated_at));
        self.show("actor", meta.actor.as_str());
        Value::Object(self.fields)
    }
}

/// RFC 3339.
#[must_use]
pub fn time(at: UnixMillis) -> String {
    jiff::Timestamp::from_millisecond(at.0).unwrap_or_default().to_string()
}

fn duration(duration: Duration) -> String {
    if duration.is_zero() { "0s".to_owned() } else { Ladder::label(duration) }
}

fn retry(schedule: &RetrySchedule) -> Vec<String> {
    (0..).map_while(|n| schedule.delay_after(n, None, 0.0)).map(duration).collect()
}

fn account_name(state: &State, uid: AccountUid) -> String {
    state.account(uid).map_or_else(|| uid.to_string(), |record| record.account.name.clone())
}

/// An account.
#[must_use]
pub fn account(record: &AccountRecord, form: Form) -> Value {
    let mut document = Document::new(form);
    let account = &record.account;
    document.show("uid", account.uid.to_string());
    document.put("name", account.name.as_str());
    let verification = match account.verification {
        Verification::Ping => "ping",
        Verification::Handshake => "handshake",
        Verification::None => "none",
    };
    document.put("verification", verification);
    document.meta(&account.meta)
}

/// A source.
#[must_use]
pub fn source(source: &Source, form: Form) -> Value {
    let mut document = Document::new(form);
    document.put("name", source.name.as_str());
    document.put("topics", source.topics.clone());
    document.put("format", json!(source.format));
    document.put("strict", source.strict);
    document.put("delivery", json!(source.delivery));
    if !source.reply_topics.is_empty() {
        document.put("replyTopics", source.reply_topics.clone());
    }
    document.meta(&source.meta)
}

/// An event type.
#[must_use]
pub fn event_type(event_type: &EventType, form: Form) -> Value {
    let mut document = Document::new(form);
    let (entity, action) = entity_and_action(&event_type.name);
    document.put("name", event_type.name.as_str());
    document.show("entity", entity);
    document.show("action", action);
    document.put_some("description", event_type.description.as_deref());
    document.put_some("schema", event_type.schema.clone());
    document.put_some("sample", event_type.sample.clone());
    document.put("scopes", event_type.scopes.clone());
    document.put("delivery", json!(event_type.delivery));
    document.put_some("ttl", event_type.ttl_ms.map(|ttl| duration(Duration::from_millis(ttl))));
    document.put("deprecated", event_type.deprecated);
    document.meta(&event_type.meta)
}

/// An app.
#[must_use]
pub fn app(state: &State, app: &App, form: Form) -> Value {
    let mut document = Document::new(form);
    document.show("id", app.id.to_string());
    document.put("account", account_name(state, app.account));
    document.put("name", app.name.as_str());
    document.put_some("description", app.description.as_deref());
    document.put("scopes", app.scopes.clone());
    document.meta(&app.meta)
}

/// An authorization. The value of a public header is shown, if it can be opened.
#[must_use]
pub fn authorization(state: &State, record: &AuthorizationRecord, form: Form) -> Value {
    let mut document = Document::new(form);
    document.show("id", record.id.to_string());
    document.put("account", account_name(state, record.account));
    document.put("name", record.name.as_str());
    document.put_some("description", record.description.as_deref());
    document.put("endpoint", record.endpoint.as_str());
    let mut inner = Document::new(form);
    let kept = document.kept();
    let kind = match &record.credentials {
        SealedCredentials::Header { name, secret, .. } => {
            inner.put("name", name.as_str());
            let public = if *secret { None } else { state.public_value(record) };
            inner.put("value", public.map_or(kept, Value::String));
            inner.put("visibility", if *secret { "SECRET" } else { "PUBLIC" });
            "header"
        }
        SealedCredentials::Basic { user, .. } => {
            inner.put("user", user.as_str());
            inner.put("password", kept);
            "basic"
        }
        SealedCredentials::Bearer { .. } => {
            inner.put("token", kept);
            "bearer"
        }
        SealedCredentials::Oauth2 { token_url, client_id, scopes, .. } => {
            inner.put("token_url", token_url.as_str());
            inner.put("client_id", client_id.as_str());
            inner.put("client_secret", kept);
            inner.put("scopes", scopes.clone());
            "oauth2"
        }
        SealedCredentials::Mtls { certificate, .. } => {
            inner.put("certificate", certificate.as_str());
            inner.put("key", kept);
            "mtls"
        }
    };
    document.put(kind, Value::Object(inner.fields));
    document.meta(&record.meta)
}

/// A client of the API.
#[must_use]
pub fn client(state: &State, record: &ClientRecord) -> Value {
    let mut document = Document::new(Form::Api);
    document.put("id", record.id.to_string());
    document.put("name", record.name.as_str());
    document.put_some("account", record.account.map(|account| account_name(state, account)));
    document.put_some("app", record.app.map(|app| app.to_string()));
    document.put_some("access_type", record.access_type.as_deref());
    document.put("scopes", record.scopes.clone());
    document.put("disabled", record.disabled);
    let kept = document.kept();
    document.put("secret", kept);
    document.meta(&record.meta)
}

/// A webhook.
#[must_use]
pub fn webhook(state: &State, record: &WebhookRecord, form: Form) -> Value {
    let mut document = Document::new(form);
    document.show("id", record.id.to_string());
    document.put("account", account_name(state, record.account));
    document.put("name", record.name.as_str());
    document.put_some("description", record.description.as_deref());
    let app = record.app.map(|id| match (form, state.app(id)) {
        (Form::File, Some(app)) => app.name.clone(),
        _ => id.to_string(),
    });
    document.put_some("app", app);
    document.put("state", json!(record.state));
    if let Some(reason) = &record.disabled_reason {
        document.show("disabled_reason", reason.as_str());
    }
    document.put_some("source", record.source.as_deref());
    document.put("event_types", record.event_types.clone());
    document.put("url", record.url.as_str());
    document.put("method", record.method.as_str());
    document.put("content_type", record.content_type.as_str());
    let payload = match &record.payload {
        Payload::Event => json!("event"),
        Payload::CloudeventsStructured => json!("cloudevents_structured"),
        Payload::CloudeventsBinary => json!("cloudevents_binary"),
        Payload::Profile => json!("profile"),
        Payload::Template { text } => json!({ "template": text }),
    };
    document.put("payload", payload);
    let kept = document.kept();
    let headers: Map<_, _> =
        record.headers.iter().map(|header| (header.name.clone(), kept.clone())).collect();
    document.put("headers", headers);
    document.show("secret", kept);
    document.put("signature", signatures(&document, &record.signatures));
    let public_keys = if form == Form::Api { state.public_keys(record) } else { Vec::new() };
    if !public_keys.is_empty() {
        document.show("public_keys", public_keys);
    }
    document.put_some("secret_header", record.secret_header.as_deref());
    let authorization = record.authorization.map(|id| match (form, state.authorization(id)) {
        (Form::File, Some(authorization)) => authorization.name.clone(),
        _ => id.to_string(),
    });
    document.put_some("authorization", authorization);
    document.put_some("filter", record.filter.as_ref().map(|filter| Value::clone(filter.pattern())));
    document.put_some("tls", record.trust.as_ref().map(|trust| json!(trust)));
    document.put("retry", retry(&record.retry));
    document.put("give_up_on", record.give_up_on.clone());
    document.put("timeout", duration(Duration::from_millis(record.timeout_ms)));
    document.put_some("rate", record.rate);
    if let Some(rate) = record.agreed.and_then(|agreed| agreed.rate) {
        document.show("allowed_rate", rate);
    }
    document.put("concurrency", record.concurrency);
    document.put_some("ttl", record.ttl_ms.map(|ttl| duration(Duration::from_millis(ttl))));
    document.put("log_only_errors", record.log_only_errors);
    let missing = missing_scopes(state, record);
    if !missing.is_empty() {
        document.show("missing_scopes", missing);
    }
    document.meta(&record.meta)
}

/// One, a list, or `none`.
fn signatures(document: &Document, signatures: &Signatures) -> Value {
    let one = |profile: &Profile| match profile {
        Profile::Standard => json!("standard"),
        Profile::StandardEd25519 => json!("standard_ed25519"),
        Profile::Stripe => json!("stripe"),
        Profile::Github => json!("github"),
        Profile::Shopify => json!("shopify"),
        Profile::HmacSha256Hex { header } => json!({ document.name("hmac_sha256_hex"): header }),
        Profile::HttpMessage { algorithm } => {
            let algorithm = match algorithm {
                Algorithm::HmacSha256 => "hmac_sha256",
                Algorithm::Ed25519 => "ed25519",
            };
            json!({ document.name("http_message"): algorithm })
        }
    };
    match signatures.profiles() {
        [] => json!("none"),
        [only] => one(only),
        several => several.iter().map(one).collect(),
    }
}

/// Scopes that the webhook's app has lost: what needs them is not delivered.
fn missing_scopes(state: &State, record: &WebhookRecord) -> Vec<String> {
    let Some(app) = record.app.and_then(|id| state.app(id)) else { return Vec::new() };
    let missing = app.missing(&record.event_types, state.event_types());
    let mut scopes: Vec<_> = missing.map(|(_, scope)| scope.to_owned()).collect();
    scopes.sort();
    scopes.dedup();
    scopes
}

/// All that a file can hold, as a file, in the order of names. Clients of the API are not in it: their secrets can't
/// be made again.
#[must_use]
pub fn export(state: &State) -> Value {
    let form = Form::File;
    json!({
        "accounts": by_name(state.accounts().map(|found| account(found, form))),
        "sources": by_name(state.sources().map(|found| source(found, form))),
        "event_types": by_name(state.event_types().map(|found| event_type(found, form))),
        "apps": by_name(state.apps().map(|found| app(state, found, form))),
        "authorizations": by_name(state.authorizations().map(|found| authorization(state, found, form))),
        "webhooks": by_name(state.webhooks().map(|found| webhook(state, found, form))),
    })
}

/// What stands above an export.
const ABOUT: &str = "\
# The configuration, as `hookstream export` wrote it; `hookstream apply -f` makes it so.
# Secrets are not in it. Where one is, `sensitive_value_present: true` says so, and means that it stays as it is; to apply
# this where there is none yet, put a value there: text, `{env: NAME}` or `{file: PATH}`. Signing secrets are left out: they
# stay, and a new webhook gets a new one unless it has a `secret` here. Clients of the API are not in it either.
";

/// An export as the text of a file.
///
/// # Errors
/// If it can't be written as YAML.
pub fn to_yaml(export: &Value) -> Result<String, serde_norway::Error> {
    /// Each needs only what stands before it.
    const SECTIONS: &[&str] = &["accounts", "sources", "event_types", "apps", "authorizations", "webhooks"];
    /// What a person looks for first.
    const FIELDS: &[&str] = &["account", "name", "description"];
    let text = serde_norway::to_string(&Ordered { value: export, first: &[SECTIONS, FIELDS] })?;
    Ok(format!("{ABOUT}{text}"))
}

/// JSON in whose maps some fields stand first, by level; lists have no level of their own.
struct Ordered<'a> {
    value: &'a Value,
    first: &'a [&'a [&'a str]],
}

impl Serialize for Ordered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (self.value, self.first) {
            (Value::Array(items), first) => {
                serializer.collect_seq(items.iter().map(|value| Ordered { value, first }))
            }
            (Value::Object(fields), [first, below @ ..]) => {
                let leading = first.iter().filter_map(|name| fields.get_key_value(*name));
                let others = fields.iter().filter(|(name, _)| !first.contains(&name.as_str()));
                let within = |(name, value)| (name, Ordered { value, first: below });
                serializer.collect_map(leading.chain(others).map(within))
            }
            (value, _) => value.serialize(serializer),
        }
    }
}

/// Ids, in whose order they come, are another installation's others.
fn by_name(documents: impl Iterator<Item = Value>) -> Vec<Value> {
    let mut documents: Vec<_> = documents.collect();
    let text = |document: &Value, field: &str| document[field].as_str().unwrap_or_default().to_owned();
    documents.sort_by_cached_key(|document| (text(document, "account"), text(document, "name")));
    documents
}
