//! Changes of webhooks.

use std::sync::Arc;

use hookstream_core::config::{App, Meta, WebhookState, is_within};
use hookstream_core::request::handshake::Agreed;
use hookstream_types::{SecretString, UnixMillis, WebhookId};
use hookstream_wire::config::{Key, Record, SealedHeader, SealedSecret, WebhookRecord};

use super::plan::{meta_after, next_meta, written};
use super::resources::same_account;
use super::{Author, Expected, PlannedRecord, Refused, WebhookSpec};
use crate::envelope::{DataKey, Fill, Place};
use crate::state::{SECRET_FIELD, State, header_field};

/// Secrets that count at a time: more rotations than these drop the oldest.
const MAX_SECRETS: usize = 5;

pub(super) fn put(
    state: &State,
    id: WebhookId,
    spec: &WebhookSpec,
    expected: Expected,
    author: Author<'_>,
    fill: Fill<'_>,
) -> Result<PlannedRecord, Refused> {
    let key = Key::Webhook(id);
    let old = state.webhook(id);
    let meta = next_meta(state, &key, old.map(|webhook| &webhook.meta), expected, author)?;
    check_references(state, &key, spec, old)?;
    if let Some(by) = state.webhook_by_name(spec.account, &spec.name)
        && by.id != id
    {
        return Err(Refused::NameTaken { name: spec.name.clone(), by: Key::Webhook(by.id) });
    }
    let data_key = open_key(state, &key, spec)?;
    let secrets = match (&spec.secrets, old) {
        (Some(secrets), _) => {
            let sealed = secrets.iter();
            sealed.map(|secret| seal_secret(&data_key, &key, &secret.text, secret.until, fill)).collect()
        }
        (None, Some(old)) => old.secrets.clone(),
        (None, None) => Vec::new(),
    };
    if secrets.is_empty() {
        return Err(Refused::NoSecret { key });
    }
    let mut headers = Vec::with_capacity(spec.headers.len());
    for (name, value) in &spec.headers {
        let field = header_field(name);
        let kept = || old?.headers.iter().find(|header| header.name == *name);
        let value = match (value, kept()) {
            (Some(value), _) => {
                let place = Place { account: spec.account, record: &key, field: &field };
                data_key.seal(&place, value.expose().as_bytes(), fill)
            }
            (None, Some(kept)) => kept.value.clone(),
            (None, None) => {
                let field = format!("headers/{name}");
                return Err(Refused::NothingToKeep { key, field });
            }
        };
        headers.push(SealedHeader { name: name.clone(), value });
    }
    Ok(written(Record::Webhook(Arc::new(spec.record(id, headers, secrets, meta)))))
}

impl WebhookSpec {
    /// The record of it, with what is sealed as given.
    pub(crate) fn record(
        &self,
        id: WebhookId,
        headers: Vec<SealedHeader>,
        secrets: Vec<SealedSecret>,
        meta: Meta,
    ) -> WebhookRecord {
        let spec = self.clone();
        WebhookRecord {
            id,
            account: spec.account,
            name: spec.name,
            description: spec.description,
            app: spec.app,
            state: spec.state,
            disabled_reason: spec.disabled_reason,
            source: spec.source,
            event_types: spec.event_types,
            url: spec.url,
            method: spec.method,
            content_type: spec.content_type,
            payload: spec.payload,
            headers,
            secrets,
            signatures: spec.signatures,
            secret_header: spec.secret_header,
            authorization: spec.authorization,
            trust: spec.trust,
            filter: spec.filter,
            retry: spec.retry,
            give_up_on: spec.give_up_on,
            timeout_ms: u64::try_from(spec.timeout.as_millis()).unwrap_or(u64::MAX),
            rate: spec.rate,
            agreed: spec.agreed,
            concurrency: spec.concurrency,
            ttl_ms: spec.ttl_ms,
            log_only_errors: spec.log_only_errors,
            meta,
        }
    }
}

/// Account, source, app with its scopes, and authorization.
fn check_references(
    state: &State,
    key: &Key,
    spec: &WebhookSpec,
    old: Option<&WebhookRecord>,
) -> Result<(), Refused> {
    same_account(state, key, spec.account, old.map(|old| old.account))?;
    let broken = |to| Err(Refused::BrokenReference { key: key.clone(), to });
    if let Some(source) = &spec.source
        && state.source(source).is_none()
    {
        return broken(Key::Source(source.clone()));
    }
    if let Some(id) = spec.app {
        let Some(app) = state.app(id).filter(|app| app.account == spec.account) else {
            return broken(Key::App(id));
        };
        check_scopes(state, app, &spec.event_types)?;
    }
    if let Some(id) = spec.authorization {
        let of_account = state.authorization(id).filter(|found| found.account == spec.account);
        let Some(authorization) = of_account else { return broken(Key::Authorization(id)) };
        if !is_within(&spec.url, &authorization.endpoint) {
            return Err(Refused::Elsewhere {
                key: Key::Authorization(id),
                webhook: key.clone(),
                endpoint: authorization.endpoint.clone(),
            });
        }
    }
    Ok(())
}

fn check_scopes(state: &State, app: &App, patterns: &[String]) -> Result<(), Refused> {
    let missing = app.missing(patterns, state.event_types());
    let missing: Vec<_> =
        missing.map(|(event_type, scope)| (scope.to_owned(), event_type.to_owned())).collect();
    if missing.is_empty() { Ok(()) } else { Err(Refused::MissingScopes { app: Key::App(app.id), missing }) }
}

fn open_key(state: &State, key: &Key, spec: &WebhookSpec) -> Result<DataKey, Refused> {
    state.data_key(spec.account).map_err(|source| Refused::Unopened { key: key.clone(), source })
}

fn seal_secret(
    data_key: &DataKey,
    key: &Key,
    text: &SecretString,
    until: Option<UnixMillis>,
    fill: Fill<'_>,
) -> SealedSecret {
    let place = Place { account: data_key.account(), record: key, field: SECRET_FIELD };
    SealedSecret { text: data_key.seal(&place, text.expose().as_bytes(), fill), until }
}

pub(super) fn set_state(
    state: &State,
    id: WebhookId,
    to: WebhookState,
    agreed: Option<Agreed>,
    expected: Expected,
    author: Author<'_>,
) -> Result<Option<PlannedRecord>, Refused> {
    let key = Key::Webhook(id);
    let old = state.webhook(id);
    let meta = next_meta(state, &key, old.map(|webhook| &webhook.meta), expected, author)?;
    let Some(old) = old.filter(|old| old.state != to) else { return Ok(None) };
    // Who sends again must be what a new webhook would have to be.
    if let Some(app) = old.app.and_then(|id| state.app(id))
        && to == WebhookState::Published
    {
        check_scopes(state, app, &old.event_types)?;
    }
    let agreed = agreed.or(old.agreed);
    let record = WebhookRecord { state: to, disabled_reason: None, agreed, meta, ..old.clone() };
    Ok(Some(written(Record::Webhook(Arc::new(record)))))
}

pub(super) fn rotate_secret(
    state: &State,
    id: WebhookId,
    secret: &SecretString,
    until: UnixMillis,
    expected: Expected,
    author: Author<'_>,
    fill: Fill<'_>,
) -> Result<PlannedRecord, Refused> {
    let key = Key::Webhook(id);
    let old = state.webhook(id);
    let meta = next_meta(state, &key, old.map(|webhook| &webhook.meta), expected, author)?;
    let old = old.ok_or_else(|| Refused::Missing { key: key.clone() })?;
    let data_key = state.data_key(old.account);
    let data_key = data_key.map_err(|source| Refused::Unopened { key: key.clone(), source })?;
    let mut secrets = vec![seal_secret(&data_key, &key, secret, None, fill)];
    let counting = old.secrets.iter().filter(|secret| secret.until.is_none_or(|until| author.now < until));
    secrets.extend(counting.take(MAX_SECRETS - 1).map(|secret| SealedSecret {
        text: secret.text.clone(),
        until: Some(secret.until.map_or(until, |sooner| sooner.min(until))),
    }));
    Ok(written(Record::Webhook(Arc::new(WebhookRecord { secrets, meta, ..old.clone() }))))
}

pub(super) fn disable(
    state: &State,
    id: WebhookId,
    revision: u64,
    url: &str,
    reason: &str,
    author: Author<'_>,
) -> Option<PlannedRecord> {
    let old = state.webhook(id)?;
    let same = old.meta.revision == revision && old.url == url && !state.is_unreadable(&Key::Webhook(id));
    // What takes no part anyway keeps its state: disabling a draft would be a step towards publishing it.
    let takes_part = matches!(old.state, WebhookState::Published | WebhookState::Paused);
    if !same || !takes_part {
        return None;
    }
    Some(written(Record::Webhook(Arc::new(WebhookRecord {
        state: WebhookState::Disabled,
        disabled_reason: Some(reason.to_owned()),
        meta: meta_after(Some(&old.meta), author),
        ..old.clone()
    }))))
}
