//! Audit records: each committed record of the configuration has one, in the same transaction. Only how far a replay has got
//! is nobody's doing.
//!
//! What a resource was and is stands there as its record's JSON, with every sealed value and every hash replaced by
//! `{"sensitiveValuePresent":true}`. Where those stand is told by the records' types: a record that has any is taken
//! apart field by field, so that a new field does not compile before somebody has thought of it.

use std::collections::{BTreeMap, BTreeSet};

use hookstream_core::replay::ReplayState;
use hookstream_types::limits::MAX_RECORD_BYTES;
use hookstream_types::{AccountUid, UnixMillis};
use hookstream_wire::audit::{Action, Audit, omitted, sensitive};
use hookstream_wire::config::{
    AccountRecord, AuthorizationRecord, ClientRecord, HashedSecret, Record, Sealed, SealedCredentials,
    SealedHeader, SealedSecret, WebhookRecord, WriteId,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::change::PlannedRecord;
use crate::state::{CREDENTIALS_FIELD, SECRET_FIELD, header_field};

/// An account's data key, among what changed.
const DATA_KEY_FIELD: &str = "data_key";
/// What the topic takes, less key and headers.
const MAX_BYTES: usize = MAX_RECORD_BYTES - 4096;

/// Who changes something, when, in which write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct By<'a> {
    pub actor: &'a str,
    pub at: UnixMillis,
    pub write: WriteId,
}

/// Whether a change is somebody's doing.
pub(crate) fn is_due(before: Option<&Record>, after: Option<&Record>) -> bool {
    let runs = |record: Option<&Record>| matches!(record, Some(Record::Replay(replay)) if replay.state == ReplayState::Running);
    !(runs(before) && runs(after))
}

/// The value of a change's audit record.
pub(crate) fn encode(planned: &PlannedRecord, before: Option<&Record>, by: By<'_>) -> Vec<u8> {
    let after = planned.record.as_ref();
    let action = match (before, after) {
        (_, None) => Action::Delete,
        (None, Some(_)) => Action::Create,
        (Some(_), Some(_)) => Action::Update,
    };
    let account: Option<AccountUid> = after.or(before).and_then(Record::account);
    let audit = Audit {
        at: by.at,
        actor: by.actor.into(),
        write: by.write.0,
        key: planned.key.to_string().into(),
        account,
        action,
        revision: planned.revision,
        secrets_changed: before.zip(after).map(|(before, after)| changed(before, after)).unwrap_or_default(),
        before: before.map(masked),
        after: after.map(masked),
    };
    fitting(audit, MAX_BYTES)
}

/// The bytes, with what it was left out if they are more than `max`, and then with what it is left out too.
fn fitting(mut audit: Audit<'_>, max: usize) -> Vec<u8> {
    let mut bytes = audit.encode();
    if bytes.len() > max {
        audit.before = audit.before.as_ref().map(omitted);
        bytes = audit.encode();
    }
    if bytes.len() > max {
        audit.after = audit.after.as_ref().map(omitted);
        bytes = audit.encode();
    }
    bytes
}

/// A record's JSON without what is secret.
fn masked(record: &Record) -> Value {
    match record {
        Record::Cluster(record) => plain(record),
        Record::Source(record) => plain(record),
        Record::EventType(record) => plain(record),
        Record::App(record) => plain(record),
        Record::Replay(record) => plain(record),
        Record::Account(AccountRecord { account, data_key }) => {
            with(plain(account), "data_key", mask(data_key))
        }
        Record::Authorization(record) => authorization(record),
        Record::Client(record) => client(record),
        Record::Webhook(record) => webhook(record),
    }
}

fn authorization(record: &AuthorizationRecord) -> Value {
    let AuthorizationRecord { id, account, name, description, endpoint, credentials, meta } = record;
    let credentials = match credentials {
        SealedCredentials::Header { name, value, secret } => {
            json!({ "type": "header", "name": name, "value": mask(value), "secret": secret })
        }
        SealedCredentials::Basic { user, password } => {
            json!({ "type": "basic", "user": user, "password": mask(password) })
        }
        SealedCredentials::Bearer { token } => json!({ "type": "bearer", "token": mask(token) }),
        SealedCredentials::Oauth2 { token_url, client_id, client_secret, scopes } => json!({
            "type": "oauth2",
            "token_url": token_url,
            "client_id": client_id,
            "client_secret": mask(client_secret),
            "scopes": scopes,
        }),
        SealedCredentials::Mtls { certificate, key } => {
            json!({ "type": "mtls", "certificate": certificate, "key": mask(key) })
        }
    };
    let mut shown = plain(meta);
    shown = with(shown, "id", plain(id));
    shown = with(shown, "account", plain(account));
    shown = with(shown, "name", plain(name));
    if let Some(description) = description {
        shown = with(shown, "description", plain(description));
    }
    shown = with(shown, "endpoint", plain(endpoint));
    with(shown, "credentials", credentials)
}

fn client(record: &ClientRecord) -> Value {
    let ClientRecord {
        id: _,
        name: _,
        account: _,
        app: _,
        access_type: _,
        scopes: _,
        secrets,
        disabled: _,
        meta: _,
    } = record;
    let secrets = secrets
        .iter()
        .map(|HashedSecret { hash: _, until }| with_until(json!({ "hash": sensitive() }), *until));
    let rest = plain(&ClientRecord { secrets: Vec::new(), ..record.clone() });
    with(rest, "secrets", secrets.collect())
}

fn webhook(record: &WebhookRecord) -> Value {
    let WebhookRecord {
        headers,
        secrets,
        id: _,
        account: _,
        name: _,
        description: _,
        app: _,
        state: _,
        disabled_reason: _,
        source: _,
        event_types: _,
        url: _,
        method: _,
        content_type: _,
        payload: _,
        signatures: _,
        secret_header: _,
        authorization: _,
        trust: _,
        filter: _,
        retry: _,
        give_up_on: _,
        timeout_ms: _,
        rate: _,
        agreed: _,
        concurrency: _,
        ttl_ms: _,
        log_only_errors: _,
        meta: _,
    } = record;
    let headers =
        headers.iter().map(|SealedHeader { name, value }| json!({ "name": name, "value": mask(value) }));
    let secrets = secrets.iter().map(|SealedSecret { text, until }| with_until(mask(text), *until));
    let rest = plain(&WebhookRecord { headers: Vec::new(), secrets: Vec::new(), ..record.clone() });
    with(with(rest, "headers", headers.collect()), "secrets", secrets.collect())
}

/// The secrets that were set anew, added or removed: their fields, sorted.
fn changed(before: &Record, after: &Record) -> Vec<String> {
    let (before, after) = (secrets(before), secrets(after));
    let fields: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    fields.into_iter().filter(|field| before.get(*field) != after.get(*field)).cloned().collect()
}

/// What is sealed or hashed, by its field. Each sealing has a nonce of its own, so a value that was given again counts
/// as changed; one that was kept does not.
fn secrets(record: &Record) -> BTreeMap<String, Vec<Secret<'_>>> {
    match record {
        Record::Cluster(_)
        | Record::Source(_)
        | Record::EventType(_)
        | Record::App(_)
        | Record::Replay(_) => BTreeMap::new(),
        Record::Account(record) => {
            [(DATA_KEY_FIELD.to_owned(), vec![Secret::Sealed(&record.data_key)])].into()
        }
        Record::Authorization(record) => {
            [(CREDENTIALS_FIELD.to_owned(), vec![Secret::Sealed(record.credentials.sealed())])].into()
        }
        Record::Client(record) => {
            let hashes = record.secrets.iter().map(|secret| Secret::Hash(&secret.hash));
            [(SECRET_FIELD.to_owned(), hashes.collect())].into()
        }
        Record::Webhook(record) => {
            let secrets = record.secrets.iter().map(|secret| Secret::Sealed(&secret.text));
            let secrets = (SECRET_FIELD.to_owned(), secrets.collect());
            let headers = record.headers.iter();
            let headers =
                headers.map(|header| (header_field(&header.name), vec![Secret::Sealed(&header.value)]));
            headers.chain([secrets]).collect()
        }
    }
}

#[derive(PartialEq)]
enum Secret<'a> {
    Sealed(&'a Sealed),
    Hash(&'a str),
}

// === JSON ===

fn mask(_: &Sealed) -> Value {
    sensitive()
}

fn with_until(secret: Value, until: Option<UnixMillis>) -> Value {
    match until {
        Some(until) => with(secret, "until", plain(&until)),
        None => secret,
    }
}

fn plain<T: Serialize>(part: &T) -> Value {
    serde_json::to_value(part).expect("records have text keys and no fallible field")
}

fn with(mut object: Value, name: &str, field: Value) -> Value {
    if let Value::Object(fields) = &mut object {
        fields.insert(name.to_owned(), field);
    }
    object
}

#[cfg(test)]
mod tests;
