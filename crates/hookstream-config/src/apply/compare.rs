//! What differs between a resource and what a file asks for: by the documents of both.

use hookstream_core::config::{Account, App, EventType, Source};
use hookstream_types::SecretString;
use hookstream_wire::config::{
    AccountRecord, AuthorizationRecord, Sealed, SealedCredentials, SealedHeader, WebhookRecord,
};
use serde_json::Value;

use super::FieldChange;
use crate::change::{
    AccountSpec, AppSpec, AuthorizationSpec, CredentialsSpec, EventTypeSpec, SourceSpec, WebhookSpec,
};
use crate::manifest::render::{self, Form};
use crate::state::State;

/// The fields that are not the same in two documents.
fn documents(before: &Value, after: &Value) -> Vec<FieldChange> {
    let field = |document: &Value, name: &str| document.get(name).map(text).unwrap_or_default();
    let names = before.as_object().into_iter().chain(after.as_object()).flat_map(|fields| fields.keys());
    let mut seen: Vec<&String> = Vec::new();
    let mut changes = Vec::new();
    for name in names {
        if !seen.contains(&name) && before.get(name) != after.get(name) {
            let (before, after) = (field(before, name), field(after, name));
            changes.push(FieldChange { field: name.clone(), before, after });
        }
        seen.push(name);
    }
    changes
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        Value::Object(fields) if fields.values().all(is_kept) => {
            fields.keys().cloned().collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

fn is_kept(value: &Value) -> bool {
    value.get("sensitive_value_present").is_some()
}

/// Secrets are shown as "changed" only.
fn changed(field: &str) -> FieldChange {
    FieldChange { field: field.to_owned(), before: "…".to_owned(), after: "changed".to_owned() }
}

pub(super) fn account(old: &Account, new: &AccountSpec) -> Vec<FieldChange> {
    let document = |account: Account| {
        let data_key = placeholder();
        render::account(&AccountRecord { account, data_key }, Form::File)
    };
    let AccountSpec { name, verification } = new.clone();
    documents(&document(old.clone()), &document(Account { name, verification, ..old.clone() }))
}

pub(super) fn source(old: &Source, new: &SourceSpec) -> Vec<FieldChange> {
    let new = new.clone().record(old.meta.clone());
    documents(&render::source(old, Form::File), &render::source(&new, Form::File))
}

pub(super) fn event_type(old: &EventType, new: &EventTypeSpec) -> Vec<FieldChange> {
    let new = new.clone().record(old.meta.clone());
    documents(&render::event_type(old, Form::File), &render::event_type(&new, Form::File))
}

pub(super) fn app(state: &State, old: &App, new: &AppSpec) -> Vec<FieldChange> {
    let AppSpec { account, name, description, scopes } = new.clone();
    let new = App { id: old.id, account, name, description, scopes, meta: old.meta.clone() };
    documents(&render::app(state, old, Form::File), &render::app(state, &new, Form::File))
}

pub(super) fn authorization(
    state: &State,
    old: &AuthorizationRecord,
    new: &AuthorizationSpec,
) -> Vec<FieldChange> {
    let value = placeholder();
    let (credentials, given) = match new.credentials.clone() {
        CredentialsSpec::Header { name, value: given, secret } => {
            (SealedCredentials::Header { name, value, secret }, given)
        }
        CredentialsSpec::Basic { user, password } => {
            (SealedCredentials::Basic { user, password: value }, password)
        }
        CredentialsSpec::Bearer { token } => (SealedCredentials::Bearer { token: value }, token),
        CredentialsSpec::Oauth2 { token_url, client_id, client_secret, scopes } => {
            (SealedCredentials::Oauth2 { token_url, client_id, client_secret: value, scopes }, client_secret)
        }
        CredentialsSpec::Mtls { certificate, key } => {
            (SealedCredentials::Mtls { certificate, key: value }, key)
        }
    };
    // A public value can't be opened from a placeholder: both documents are compared without values.
    let hidden = |mut record: AuthorizationRecord| {
        if let SealedCredentials::Header { value, .. } = &mut record.credentials {
            *value = placeholder();
        }
        render::authorization(state, &record, Form::File)
    };
    let AuthorizationSpec { account, name, description, endpoint, .. } = new.clone();
    let (id, meta) = (old.id, old.meta.clone());
    let new = AuthorizationRecord { id, account, name, description, endpoint, credentials, meta };
    let mut fields = documents(&hidden(old.clone()), &hidden(new));
    // What can't be opened can't be compared: the file's takes its place.
    let same = |given: &SecretString| state.secret_part(old).is_some_and(|old| old == *given);
    if given.is_some_and(|given| !same(&given)) {
        fields.push(changed("credentials"));
    }
    fields
}

pub(super) fn webhook(state: &State, old: &WebhookRecord, new: &WebhookSpec) -> Vec<FieldChange> {
    let opened = state.open(old).ok();
    let header = |(name, _): &(String, Option<SecretString>)| SealedHeader {
        name: name.clone(),
        value: placeholder(),
    };
    let headers = new.headers.iter().map(header).collect();
    let mut after = new.record(old.id, headers, Vec::new(), old.meta.clone());
    // JSON readers may be off by the last bit.
    if let (Some(before), Some(rate)) = (old.rate, &mut after.rate)
        && (before - *rate).abs() < 1e-6
    {
        *rate = before;
    }
    let mut fields =
        documents(&render::webhook(state, old, Form::File), &render::webhook(state, &after, Form::File));
    let same_value = |(name, value): &(String, Option<SecretString>)| {
        let Some(value) = value else { return true };
        let mut headers = opened.iter().flat_map(|opened| &opened.headers);
        headers.any(|(old_name, old)| old_name == name && old == value.expose())
    };
    let listed = fields.iter().any(|change| change.field == "headers");
    if !listed && !new.headers.iter().all(same_value) {
        fields.push(changed("headers"));
    }
    let same_secrets =
        new.secrets.as_ref().is_none_or(|new| opened.is_some_and(|opened| opened.secrets == *new));
    if !same_secrets {
        fields.push(changed("secret"));
    }
    fields
}

fn placeholder() -> Sealed {
    Sealed { key: String::new(), nonce: Vec::new(), ciphertext: Vec::new() }
}
