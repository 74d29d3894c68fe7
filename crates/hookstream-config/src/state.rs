//! The configuration, materialised from its log. Pure: records go in, a [`View`] comes out.
//!
//! What can't be read or opened never stops anything, is listed in [`State::problems`], and loses no delivery:
//! - A webhook whose secrets can't be opened, or whose newest record can't be read, is shown as *paused*: its
//!   events are matched and its jobs held, and nothing leaves unsigned.
//! - A webhook of which no record can be read is shown as a paused one that matches nothing: new events can't be
//!   matched without knowing what it asks for, but its waiting jobs are held instead of skipped as deleted.
//! - Any other record that can't be read leaves the last readable one in force.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use hookstream_core::config::{
    Account, App, Authorization, ClientCredentials, Credentials, EventType, Meta, Source, View, Webhook,
    WebhookSecret, WebhookState,
};
use hookstream_core::replay::{Replay, Runs};
use hookstream_core::signing::SigningKey;
use hookstream_types::{
    AccountUid, AppId, AuthorizationId, Chain, ClientId, Offset, ReplayId, SecretString, WebhookId,
};
use hookstream_wire::config::{
    AccountRecord, AuthorizationRecord, ClientRecord, ClusterRecord, Key, Record, Sealed, SealedCredentials,
    SealedSecret, WebhookRecord,
};
use uuid::Uuid;

use crate::change::WebhookSpec;
use crate::envelope::{DataKey, Keyring, OpenError, Place};

/// Field of a signing key, in the associated data.
pub(crate) const SECRET_FIELD: &str = "secret";

/// Field of an authorization's secret part, in the associated data.
pub(crate) const CREDENTIALS_FIELD: &str = "credentials";

/// Field of a header's value, in the associated data.
pub(crate) fn header_field(name: &str) -> String {
    format!("header/{name}")
}

/// Everything that is configured.
#[derive(Debug)]
pub struct State {
    keyring: Arc<Keyring>,
    /// After the last applied record.
    offset: Offset,
    cluster: Option<ClusterRecord>,
    accounts: BTreeMap<AccountUid, Arc<AccountRecord>>,
    sources: BTreeMap<String, Arc<Source>>,
    event_types: BTreeMap<String, Arc<EventType>>,
    apps: BTreeMap<AppId, Arc<App>>,
    authorizations: BTreeMap<AuthorizationId, Arc<AuthorizationRecord>>,
    clients: BTreeMap<ClientId, Arc<ClientRecord>>,
    webhooks: BTreeMap<WebhookId, Arc<WebhookRecord>>,
    replays: BTreeMap<ReplayId, Arc<Replay>>,
    account_names: BTreeSet<(String, AccountUid)>,
    webhook_names: BTreeSet<(AccountUid, String, WebhookId)>,
    webhook_ids: BTreeSet<(AccountUid, WebhookId)>,
    /// Records that can't be read, by their key's text.
    unreadable: BTreeMap<String, String>,
    /// Webhooks among those.
    unreadable_webhooks: BTreeSet<WebhookId>,
    /// Webhooks that are to be opened, or taken out, before the next view.
    unopened: BTreeSet<WebhookId>,
    /// Webhooks that the last view held, and why.
    held: BTreeMap<WebhookId, OpenError>,
    /// Made anew when an account changed.
    shown_accounts: Option<Arc<BTreeMap<String, Arc<Account>>>>,
    /// Made anew when a replay began, was cancelled, or went.
    shown_runs: Option<Arc<Runs>>,
    /// The last one: the next is made of it.
    last_view: View,
}

/// A record that is left out of the view, or held.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The record's key.
    pub key: String,
    /// For people; holds no secret.
    pub message: String,
}

impl State {
    #[must_use]
    pub fn new(keyring: Arc<Keyring>) -> Self {
        Self {
            keyring,
            offset: Offset::default(),
            cluster: None,
            accounts: BTreeMap::new(),
            sources: BTreeMap::new(),
            event_types: BTreeMap::new(),
            apps: BTreeMap::new(),
            authorizations: BTreeMap::new(),
            clients: BTreeMap::new(),
            webhooks: BTreeMap::new(),
            replays: BTreeMap::new(),
            account_names: BTreeSet::new(),
            webhook_names: BTreeSet::new(),
            webhook_ids: BTreeSet::new(),
            unreadable: BTreeMap::new(),
            unreadable_webhooks: BTreeSet::new(),
            unopened: BTreeSet::new(),
            held: BTreeMap::new(),
            shown_accounts: None,
            shown_runs: None,
            last_view: View::default(),
        }
    }

    /// Takes in a record of the log.
    pub fn apply(&mut self, offset: Offset, key: Option<&[u8]>, value: Option<&[u8]>) {
        self.offset = self.offset.max(offset.next());
        let key = key.unwrap_or_default();
        let key_text = String::from_utf8_lossy(key).into_owned();
        let parsed = Key::from_bytes(key);
        let id = if let Ok(Key::Webhook(id)) = &parsed { Some(*id) } else { None };
        let outcome = parsed.and_then(|key| {
            let record = value.map(|value| Record::decode(&key, value)).transpose()?;
            Ok((key, record))
        });
        match outcome {
            Ok((key, record)) => {
                self.unreadable.remove(&key_text);
                if let Some(id) = id {
                    self.unreadable_webhooks.remove(&id);
                }
                drop(self.put(&key, record));
            }
            Err(_) if value.is_none() => {
                self.unreadable.remove(&key_text);
            }
            Err(error) => {
                self.unreadable.insert(key_text, Chain(&error).to_string());
                if let Some(id) = id {
                    self.unreadable_webhooks.insert(id);
                    self.unopened.insert(id);
                }
            }
        }
    }

    /// Records that everything below `offset` is applied (the end of a log may hold no records but markers).
    pub fn reached(&mut self, offset: Offset) {
        self.offset = self.offset.max(offset);
    }

    /// Sets or removes a resource; returns what stood there, so that it can be put back.
    pub(crate) fn put(&mut self, key: &Key, record: Option<Record>) -> Option<Record> {
        match key {
            Key::Cluster => {
                let record = if let Some(Record::Cluster(record)) = record { Some(record) } else { None };
                std::mem::replace(&mut self.cluster, record).map(Record::Cluster)
            }
            Key::Account(uid) => {
                let old = self.accounts.remove(uid);
                if let Some(old) = &old {
                    self.account_names.remove(&(old.account.name.clone(), *uid));
                }
                if let Some(Record::Account(record)) = record {
                    self.account_names.insert((record.account.name.clone(), *uid));
                    self.accounts.insert(*uid, Arc::new(record));
                }
                self.shown_accounts = None;
                let seen =
                    |record: &Arc<AccountRecord>| (record.data_key.clone(), record.account.name.clone());
                if old.as_ref().map(seen) != self.accounts.get(uid).map(seen) {
                    let ids: Vec<_> = self.webhooks_of(*uid).map(|webhook| webhook.id).collect();
                    self.unopened.extend(ids);
                }
                old.map(|old| Record::Account(Arc::unwrap_or_clone(old)))
            }
            Key::Source(name) => {
                let old = self.sources.remove(name);
                if let Some(Record::Source(source)) = record {
                    self.sources.insert(name.clone(), Arc::new(source));
                }
                old.map(|old| Record::Source(Arc::unwrap_or_clone(old)))
            }
            Key::EventType(name) => {
                let old = self.event_types.remove(name);
                if let Some(Record::EventType(event_type)) = record {
                    self.event_types.insert(name.clone(), Arc::new(event_type));
                }
                old.map(|old| Record::EventType(Arc::unwrap_or_clone(old)))
            }
            Key::App(id) => {
                let old = self.apps.remove(id);
                if let Some(Record::App(app)) = record {
                    self.apps.insert(*id, Arc::new(app));
                }
                old.map(|old| Record::App(Arc::unwrap_or_clone(old)))
            }
            Key::Authorization(id) => {
                let old = self.authorizations.remove(id);
                let mut account = old.as_ref().map(|old| old.account);
                if let Some(Record::Authorization(authorization)) = record {
                    account = Some(authorization.account);
                    self.authorizations.insert(*id, Arc::new(authorization));
                }
                // It takes effect for every webhook that uses it.
                let users = account.into_iter().flat_map(|account| self.webhooks_of(account));
                let users = users.filter(|webhook| webhook.authorization == Some(*id));
                let users: Vec<_> = users.map(|webhook| webhook.id).collect();
                self.unopened.extend(users);
                old.map(|old| Record::Authorization(Arc::unwrap_or_clone(old)))
            }
            Key::Client(id) => {
                let old = self.clients.remove(id);
                if let Some(Record::Client(client)) = record {
                    self.clients.insert(*id, Arc::new(client));
                }
                old.map(|old| Record::Client(Arc::unwrap_or_clone(old)))
            }
            Key::Webhook(id) => {
                let old = self.webhooks.remove(id);
                if let Some(old) = &old {
                    self.webhook_names.remove(&(old.account, old.name.clone(), *id));
                    self.webhook_ids.remove(&(old.account, *id));
                }
                self.unopened.insert(*id);
                if let Some(Record::Webhook(record)) = record {
                    self.webhook_names.insert((record.account, record.name.clone(), *id));
                    self.webhook_ids.insert((record.account, *id));
                    self.webhooks.insert(*id, record);
                }
                old.map(Record::Webhook)
            }
            Key::Replay(id) => {
                let old = self.replays.remove(id);
                if let Some(Record::Replay(replay)) = record {
                    self.replays.insert(*id, Arc::new(replay));
                }
                let seen = |replay: &Arc<Replay>| replay.state;
                if old.as_ref().map(seen) != self.replays.get(id).map(seen) {
                    self.shown_runs = None;
                }
                old.map(|old| Record::Replay(Arc::unwrap_or_clone(old)))
            }
        }
    }

    /// The view that stages decide by. It shares with the one before what did not change.
    #[must_use]
    pub fn view(&mut self) -> View {
        let changes = self.open_changed();
        self.last_view.put_webhooks(changes);
        let accounts = self.shown_accounts.get_or_insert_with(|| {
            let accounts = self.accounts.values();
            let accounts =
                accounts.map(|record| (record.account.name.clone(), Arc::new(record.account.clone())));
            Arc::new(accounts.collect())
        });
        self.last_view.accounts = Arc::clone(accounts);
        let runs = self
            .shown_runs
            .get_or_insert_with(|| Arc::new(Runs::new(self.replays.values().map(|replay| &**replay))));
        self.last_view.runs = Arc::clone(runs);
        self.last_view.offset = self.offset;
        self.last_view.sources.clone_from(&self.sources);
        self.last_view.event_types.clone_from(&self.event_types);
        self.last_view.apps.clone_from(&self.apps);
        self.last_view.clone()
    }

    /// What is left out of the last view, or held there, and why.
    pub fn problems(&self) -> impl Iterator<Item = Problem> {
        let unreadable = self.unreadable.iter();
        let unreadable =
            unreadable.map(|(key, message)| Problem { key: key.clone(), message: message.clone() });
        let held = self.held.iter().map(|(id, error)| Problem {
            key: Key::Webhook(*id).to_string(),
            message: format!("the webhook is held: {error}"),
        });
        unreadable.chain(held)
    }

    /// The offset after the last applied record.
    #[must_use]
    pub fn offset(&self) -> Offset {
        self.offset
    }

    /// Whether a topic is one of hookstream's, by its name.
    pub(crate) fn is_own_topic(&self, topic: &str) -> bool {
        let namespace = self.cluster().map(|cluster| cluster.namespace.as_str());
        namespace
            .and_then(|namespace| topic.strip_prefix(namespace))
            .is_some_and(|rest| rest.starts_with('.'))
    }

    #[must_use]
    pub fn cluster(&self) -> Option<&ClusterRecord> {
        self.cluster.as_ref()
    }

    #[must_use]
    pub fn account(&self, uid: AccountUid) -> Option<&AccountRecord> {
        self.accounts.get(&uid).map(|record| &**record)
    }

    #[must_use]
    pub fn account_by_name(&self, name: &str) -> Option<&AccountRecord> {
        let from = (name.to_owned(), AccountUid(Uuid::nil()));
        let (found, uid) = self.account_names.range(from..).next()?;
        (found == name).then(|| self.account(*uid))?
    }

    pub fn accounts(&self) -> impl Iterator<Item = &AccountRecord> {
        self.accounts.values().map(|record| &**record)
    }

    #[must_use]
    pub fn source(&self, name: &str) -> Option<&Source> {
        self.sources.get(name).map(|source| &**source)
    }

    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        self.sources.values().map(|source| &**source)
    }

    #[must_use]
    pub fn event_type(&self, name: &str) -> Option<&EventType> {
        self.event_types.get(name).map(|event_type| &**event_type)
    }

    pub fn event_types(&self) -> impl Iterator<Item = &EventType> {
        self.event_types.values().map(|event_type| &**event_type)
    }

    #[must_use]
    pub fn app(&self, id: AppId) -> Option<&App> {
        self.apps.get(&id).map(|app| &**app)
    }

    pub fn apps(&self) -> impl Iterator<Item = &App> {
        self.apps.values().map(|app| &**app)
    }

    #[must_use]
    pub fn authorization(&self, id: AuthorizationId) -> Option<&AuthorizationRecord> {
        self.authorizations.get(&id).map(|authorization| &**authorization)
    }

    pub fn authorizations(&self) -> impl Iterator<Item = &AuthorizationRecord> {
        self.authorizations.values().map(|authorization| &**authorization)
    }

    #[must_use]
    pub fn client(&self, id: ClientId) -> Option<&ClientRecord> {
        self.clients.get(&id).map(|client| &**client)
    }

    pub fn clients(&self) -> impl Iterator<Item = &ClientRecord> {
        self.clients.values().map(|client| &**client)
    }

    #[must_use]
    pub fn replay(&self, id: ReplayId) -> Option<&Arc<Replay>> {
        self.replays.get(&id)
    }

    /// In the order in which they were asked for.
    pub fn replays(&self) -> impl DoubleEndedIterator<Item = &Arc<Replay>> {
        self.replays.values()
    }

    #[must_use]
    pub fn webhook(&self, id: WebhookId) -> Option<&WebhookRecord> {
        self.webhooks.get(&id).map(|record| &**record)
    }

    #[must_use]
    pub fn webhook_by_name(&self, account: AccountUid, name: &str) -> Option<&WebhookRecord> {
        let from = (account, name.to_owned(), WebhookId(Uuid::nil()));
        let (found_account, found, id) = self.webhook_names.range(from..).next()?;
        (*found_account == account && found == name).then(|| self.webhook(*id))?
    }

    pub fn webhooks(&self) -> impl Iterator<Item = &WebhookRecord> {
        self.webhooks.values().map(|record| &**record)
    }

    /// The webhooks of one account, in the order of their ids.
    pub fn webhooks_of(&self, account: AccountUid) -> impl Iterator<Item = &WebhookRecord> {
        self.webhooks_of_after(account, WebhookId(Uuid::nil()))
    }

    /// The webhooks of one account, or of all, with greater ids than this, in the order of their ids.
    pub fn webhooks_after(
        &self,
        account: Option<AccountUid>,
        after: WebhookId,
    ) -> Box<dyn Iterator<Item = &WebhookRecord> + '_> {
        match account {
            Some(account) => Box::new(self.webhooks_of_after(account, after)),
            None => {
                let from = (Bound::Excluded(after), Bound::Unbounded);
                Box::new(self.webhooks.range(from).map(|(_, record)| &**record))
            }
        }
    }

    fn webhooks_of_after(
        &self,
        account: AccountUid,
        after: WebhookId,
    ) -> impl Iterator<Item = &WebhookRecord> {
        let from = (Bound::Excluded((account, after)), Bound::Unbounded);
        let ids = self.webhook_ids.range(from).take_while(move |(of, _)| *of == account);
        ids.filter_map(|(_, id)| self.webhook(*id))
    }

    /// Whether the newest record at this key can't be read: only deleting it is safe.
    #[must_use]
    pub fn is_unreadable(&self, key: &Key) -> bool {
        !self.unreadable.is_empty() && self.unreadable.contains_key(&key.to_string())
    }

    #[must_use]
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// An account's data key, opened.
    ///
    /// # Errors
    /// [`OpenError`] if there is no such account or its data key can't be opened.
    pub fn data_key(&self, account: AccountUid) -> Result<DataKey, OpenError> {
        let record = self.account(account).ok_or(OpenError::NoAccount)?;
        self.keyring.data_key(account, &record.data_key)
    }

    /// A webhook with its secrets opened.
    ///
    /// # Errors
    /// [`OpenError`] if one of them can't be opened.
    pub fn open(&self, record: &WebhookRecord) -> Result<Webhook, OpenError> {
        self.open_with(&self.data_key(record.account)?, record)
    }

    /// The value of an authorization's public header.
    #[must_use]
    pub fn public_value(&self, record: &AuthorizationRecord) -> Option<String> {
        let is_public = matches!(record.credentials, SealedCredentials::Header { secret: false, .. });
        is_public.then(|| self.secret_part(record).map(|value| value.expose().to_owned()))?
    }

    /// What a webhook's Ed25519 signatures verify with, the newest first; none if it has no such signatures, or its secrets
    /// can't be opened.
    #[must_use]
    pub fn public_keys(&self, record: &WebhookRecord) -> Vec<String> {
        if !record.signatures.have_public_key() {
            return Vec::new();
        }
        let Ok(data_key) = self.data_key(record.account) else { return Vec::new() };
        let key = Key::Webhook(record.id);
        let public = |secret: &SealedSecret| {
            let text = open_text(&data_key, &key, SECRET_FIELD, &secret.text).ok()?;
            Some(SigningKey::new(&WebhookSecret::new(text)).public_key())
        };
        record.secrets.iter().filter_map(public).collect()
    }

    /// The sealed part of an authorization, opened.
    pub(crate) fn secret_part(&self, record: &AuthorizationRecord) -> Option<SecretString> {
        let data_key = self.data_key(record.account).ok()?;
        let sealed = record.credentials.sealed();
        open_text(&data_key, &Key::Authorization(record.id), CREDENTIALS_FIELD, sealed).ok()
    }

    /// The webhook that a specification would make, with its secrets opened: to try it before it is written.
    ///
    /// # Errors
    /// [`OpenError`] if what it keeps can't be opened.
    pub fn preview(&self, id: WebhookId, spec: &WebhookSpec) -> Result<Webhook, OpenError> {
        let old = self.webhook(id).map(|record| self.open(record)).transpose()?;
        let old_secrets = || old.as_ref().map(|old| old.secrets.clone()).unwrap_or_default();
        let header = |(name, value): &(String, Option<SecretString>)| {
            let kept = || old.iter().flat_map(|old| &old.headers).find(|(other, _)| other == name);
            let value = value.as_ref().map(|value| value.expose().to_owned());
            (name.clone(), value.or_else(|| kept().map(|(_, value)| value.clone())).unwrap_or_default())
        };
        let authorization = spec.authorization.and_then(|id| self.authorization(id));
        let authorization = authorization.filter(|found| found.account == spec.account);
        let open = |record| open_authorization(&self.data_key(spec.account)?, record).map(Arc::new);
        let unsealed = spec.record(id, Vec::new(), Vec::new(), Meta::default());
        Ok(Webhook {
            headers: spec.headers.iter().map(header).collect(),
            secrets: spec.secrets.clone().unwrap_or_else(old_secrets),
            authorization: authorization.map(open).transpose()?,
            account_name: self.account_name(spec.account),
            ..without_secrets(&unsealed)
        })
    }

    fn account_name(&self, account: AccountUid) -> Arc<str> {
        self.accounts.get(&account).map(|record| Arc::from(record.account.name.as_str())).unwrap_or_default()
    }

    fn open_with(&self, data_key: &DataKey, record: &WebhookRecord) -> Result<Webhook, OpenError> {
        let mut webhook = open(data_key, record)?;
        webhook.account_name = self.account_name(record.account);
        if let Some(id) = record.authorization {
            let found = self.authorization(id).filter(|found| found.account == record.account);
            let opened = open_authorization(data_key, found.ok_or(OpenError::NoAuthorization)?)?;
            webhook.authorization = Some(Arc::new(opened));
        }
        Ok(webhook)
    }

    /// The webhooks that changed since the last view, as the next one shows them: opened, with one opening of the data
    /// key for each account.
    fn open_changed(&mut self) -> Vec<(WebhookId, Option<Arc<Webhook>>)> {
        let mut data_keys: BTreeMap<AccountUid, Result<DataKey, OpenError>> = BTreeMap::new();
        let unopened = std::mem::take(&mut self.unopened);
        let mut changes = Vec::with_capacity(unopened.len());
        for id in unopened {
            let unreadable = self.unreadable_webhooks.contains(&id);
            self.held.remove(&id);
            let Some(record) = self.webhooks.get(&id).map(Arc::clone) else {
                changes.push((id, unreadable.then(|| Arc::new(placeholder(id)))));
                continue;
            };
            let data_key =
                data_keys.entry(record.account).or_insert_with(|| self.data_key(record.account)).clone();
            let webhook = match data_key.and_then(|data_key| self.open_with(&data_key, &record)) {
                Ok(webhook) if unreadable => held(webhook),
                Ok(webhook) => webhook,
                Err(error) => {
                    self.held.insert(id, error);
                    held(without_secrets(&record))
                }
            };
            changes.push((id, Some(Arc::new(webhook))));
        }
        changes
    }
}

fn open(data_key: &DataKey, record: &WebhookRecord) -> Result<Webhook, OpenError> {
    let key = Key::Webhook(record.id);
    let open = |field: &str, sealed: &Sealed| open_text(data_key, &key, field, sealed);
    let mut webhook = without_secrets(record);
    for secret in &record.secrets {
        let text = open(SECRET_FIELD, &secret.text)?;
        webhook.secrets.push(WebhookSecret { text, until: secret.until });
    }
    for header in &record.headers {
        let value = open(&header_field(&header.name), &header.value)?;
        webhook.headers.push((header.name.clone(), value.expose().to_owned()));
    }
    Ok(webhook)
}

fn open_text(data_key: &DataKey, key: &Key, field: &str, sealed: &Sealed) -> Result<SecretString, OpenError> {
    let place = Place { account: data_key.account(), record: key, field };
    let opened = data_key.open(&place, sealed)?;
    let text = String::from_utf8(opened.expose().to_vec()).map_err(|_| OpenError::Damaged)?;
    Ok(SecretString::new(text))
}

fn open_authorization(data_key: &DataKey, record: &AuthorizationRecord) -> Result<Authorization, OpenError> {
    let key = Key::Authorization(record.id);
    let secret_part = open_text(data_key, &key, CREDENTIALS_FIELD, record.credentials.sealed())?;
    let credentials = match &record.credentials {
        SealedCredentials::Header { name, secret, .. } => {
            Credentials::Header { name: name.clone(), value: secret_part, secret: *secret }
        }
        SealedCredentials::Basic { user, .. } => {
            Credentials::Basic { user: user.clone(), password: secret_part }
        }
        SealedCredentials::Bearer { .. } => Credentials::Bearer { token: secret_part },
        SealedCredentials::Oauth2 { token_url, client_id, scopes, .. } => {
            Credentials::Oauth2(ClientCredentials {
                token_url: token_url.clone(),
                client_id: client_id.clone(),
                client_secret: secret_part,
                scopes: scopes.clone(),
            })
        }
        SealedCredentials::Mtls { certificate, .. } => {
            Credentials::Mtls { certificate: certificate.clone(), key: secret_part }
        }
    };
    Ok(Authorization {
        id: record.id,
        account: record.account,
        name: record.name.clone(),
        endpoint: record.endpoint.clone(),
        credentials,
        revision: record.meta.revision,
    })
}

fn without_secrets(record: &WebhookRecord) -> Webhook {
    Webhook {
        id: record.id,
        account: record.account,
        account_name: Arc::default(),
        name: record.name.clone(),
        description: record.description.clone(),
        app: record.app,
        state: record.state,
        disabled_reason: record.disabled_reason.clone(),
        source: record.source.clone(),
        event_types: record.event_types.clone(),
        url: record.url.clone(),
        method: record.method,
        content_type: record.content_type.clone(),
        payload: record.payload.clone(),
        headers: Vec::new(),
        secrets: Vec::new(),
        signatures: record.signatures.clone(),
        secret_header: record.secret_header.clone(),
        authorization: None,
        trust: record.trust.clone(),
        filter: record.filter.clone(),
        retry: record.retry.clone(),
        give_up_on: record.give_up_on.clone(),
        timeout: Duration::from_millis(record.timeout_ms),
        rate: least(record.rate, record.agreed.and_then(|agreed| agreed.rate)),
        concurrency: record.concurrency,
        ttl_ms: record.ttl_ms,
        log_only_errors: record.log_only_errors,
        revision: record.meta.revision,
    }
}

/// The stricter of two limits.
fn least(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    one.into_iter().chain(other).reduce(f64::min)
}

/// The webhook, not sent to: paused, unless it takes no part anyway.
fn held(mut webhook: Webhook) -> Webhook {
    if webhook.state == WebhookState::Published {
        webhook.state = WebhookState::Paused;
    }
    webhook
}

/// Stands for a webhook of which nothing can be read.
fn placeholder(id: WebhookId) -> Webhook {
    Webhook { id, state: WebhookState::Paused, ..Webhook::default() }
}

#[cfg(test)]
mod tests;
