//! Changes of accounts, apps, authorizations and clients.

use hookstream_core::config::{Account, App, is_within};
use hookstream_types::{AccountUid, AppId, AuthorizationId, ClientId, SecretString};
use hookstream_wire::config::{
    AccountRecord, AuthorizationRecord, ClientRecord, Key, Record, Sealed, SealedCredentials, WebhookRecord,
};

use super::plan::{deleted, found, next_meta, written};
use super::{
    AccountSpec, AppSpec, Author, AuthorizationSpec, ClientSpec, CredentialsSpec, Expected, PlannedRecord,
    Refused,
};
use crate::envelope::{Fill, Place};
use crate::state::{CREDENTIALS_FIELD, State};

pub(super) fn put_account(
    state: &State,
    uid: AccountUid,
    spec: &AccountSpec,
    expected: Expected,
    author: Author<'_>,
    fill: Fill<'_>,
) -> Result<PlannedRecord, Refused> {
    let key = Key::Account(uid);
    let old = state.account(uid);
    let meta = next_meta(state, &key, old.map(|record| &record.account.meta), expected, author)?;
    let AccountSpec { name, verification } = spec.clone();
    if let Some(by) = state.account_by_name(&name)
        && by.account.uid != uid
    {
        return Err(Refused::NameTaken { name, by: Key::Account(by.account.uid) });
    }
    let data_key = match old {
        Some(old) => old.data_key.clone(),
        None => state.keyring().new_data_key(uid, fill),
    };
    let account = Account { uid, name, verification, meta };
    Ok(written(Record::Account(AccountRecord { account, data_key })))
}

pub(super) fn delete_account(
    state: &State,
    uid: AccountUid,
    expected: Expected,
) -> Result<PlannedRecord, Refused> {
    let key = Key::Account(uid);
    found(state, &key, state.account(uid).map(|record| &record.account.meta), expected)?;
    let webhook = state.webhooks_of(uid).next().map(|webhook| Key::Webhook(webhook.id));
    let app = || state.apps().find(|app| app.account == uid).map(|app| Key::App(app.id));
    let authorization = || {
        let mut of_account = state.authorizations().filter(|authorization| authorization.account == uid);
        of_account.next().map(|authorization| Key::Authorization(authorization.id))
    };
    let client =
        || state.clients().find(|client| client.account == Some(uid)).map(|client| Key::Client(client.id));
    match webhook.or_else(app).or_else(authorization).or_else(client) {
        Some(by) => Err(Refused::InUse { key, by }),
        None => Ok(deleted(key)),
    }
}

pub(super) fn rewrap_account(
    state: &State,
    uid: AccountUid,
    author: Author<'_>,
    fill: Fill<'_>,
) -> Result<Option<PlannedRecord>, Refused> {
    let key = Key::Account(uid);
    let old = state.account(uid).ok_or_else(|| Refused::Missing { key: key.clone() })?;
    let meta = next_meta(state, &key, Some(&old.account.meta), Expected::Present, author)?;
    let rewrapped = state.keyring().rewrap(uid, &old.data_key, fill);
    let Some(data_key) = rewrapped.map_err(|source| Refused::Unopened { key, source })? else {
        return Ok(None);
    };
    let account = Account { meta, ..old.account.clone() };
    Ok(Some(written(Record::Account(AccountRecord { account, data_key }))))
}

pub(super) fn put_app(
    state: &State,
    id: AppId,
    spec: &AppSpec,
    expected: Expected,
    author: Author<'_>,
) -> Result<PlannedRecord, Refused> {
    let key = Key::App(id);
    let old = state.app(id);
    let meta = next_meta(state, &key, old.map(|app| &app.meta), expected, author)?;
    same_account(state, &key, spec.account, old.map(|app| app.account))?;
    let mut named = state.apps().filter(|app| app.account == spec.account && app.name == spec.name);
    if let Some(by) = named.find(|app| app.id != id) {
        return Err(Refused::NameTaken { name: spec.name.clone(), by: Key::App(by.id) });
    }
    let AppSpec { account, name, description, mut scopes } = spec.clone();
    scopes.sort();
    scopes.dedup();
    Ok(written(Record::App(App { id, account, name, description, scopes, meta })))
}

pub(super) fn delete_app(state: &State, id: AppId, expected: Expected) -> Result<PlannedRecord, Refused> {
    let key = Key::App(id);
    let old = state.app(id);
    found(state, &key, old.map(|app| &app.meta), expected)?;
    let webhook = old.and_then(|app| state.webhooks_of(app.account).find(|webhook| webhook.app == Some(id)));
    let webhook = webhook.map(|webhook| Key::Webhook(webhook.id));
    let client =
        || state.clients().find(|client| client.app == Some(id)).map(|client| Key::Client(client.id));
    match webhook.or_else(client) {
        Some(by) => Err(Refused::InUse { key, by }),
        None => Ok(deleted(key)),
    }
}

pub(super) fn put_authorization(
    state: &State,
    id: AuthorizationId,
    spec: &AuthorizationSpec,
    expected: Expected,
    author: Author<'_>,
    fill: Fill<'_>,
) -> Result<PlannedRecord, Refused> {
    let key = Key::Authorization(id);
    let old = state.authorization(id);
    let meta = next_meta(state, &key, old.map(|old| &old.meta), expected, author)?;
    let account = spec.account;
    same_account(state, &key, account, old.map(|old| old.account))?;
    let mut named =
        state.authorizations().filter(|other| other.account == account && other.name == spec.name);
    if let Some(by) = named.find(|other| other.id != id) {
        return Err(Refused::NameTaken { name: spec.name.clone(), by: Key::Authorization(by.id) });
    }
    // It takes effect for every webhook that uses it, so it must fit all of them.
    let mut users = state.webhooks_of(account).filter(|webhook| webhook.authorization == Some(id));
    if let Some(webhook) = users.find(|webhook| !is_within(&webhook.url, &spec.endpoint)) {
        let (webhook, endpoint) = (Key::Webhook(webhook.id), spec.endpoint.clone());
        return Err(Refused::Elsewhere { key, webhook, endpoint });
    }
    let data_key = state.data_key(account);
    let data_key = data_key.map_err(|source| Refused::Unopened { key: key.clone(), source })?;
    let (field, given) = spec.credentials.secret();
    let sealed = match (given, spec.credentials.kept(old.map(|old| &old.credentials))) {
        (Some(secret), _) => {
            let place = Place { account, record: &key, field: CREDENTIALS_FIELD };
            data_key.seal(&place, secret.expose().as_bytes(), fill)
        }
        (None, Some(kept)) => kept.clone(),
        (None, None) => {
            let field = format!("{}/{field}", spec.credentials.kind());
            return Err(Refused::NothingToKeep { key, field });
        }
    };
    let credentials = match spec.credentials.clone() {
        CredentialsSpec::Header { name, secret, .. } => {
            SealedCredentials::Header { name, value: sealed, secret }
        }
        CredentialsSpec::Basic { user, .. } => SealedCredentials::Basic { user, password: sealed },
        CredentialsSpec::Bearer { .. } => SealedCredentials::Bearer { token: sealed },
        CredentialsSpec::Oauth2 { token_url, client_id, scopes, .. } => {
            SealedCredentials::Oauth2 { token_url, client_id, client_secret: sealed, scopes }
        }
        CredentialsSpec::Mtls { certificate, .. } => SealedCredentials::Mtls { certificate, key: sealed },
    };
    let AuthorizationSpec { name, description, endpoint, .. } = spec.clone();
    Ok(written(Record::Authorization(AuthorizationRecord {
        id,
        account,
        name,
        description,
        endpoint,
        credentials,
        meta,
    })))
}

impl CredentialsSpec {
    /// The secret part, if it is given, and the field that has it.
    pub(crate) fn secret(&self) -> (&'static str, Option<&SecretString>) {
        match self {
            Self::Header { value, .. } => ("value", value.as_ref()),
            Self::Basic { password, .. } => ("password", password.as_ref()),
            Self::Bearer { token } => ("token", token.as_ref()),
            Self::Oauth2 { client_secret, .. } => ("client_secret", client_secret.as_ref()),
            Self::Mtls { key, .. } => ("key", key.as_ref()),
        }
    }

    /// The field that says which they are.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Header { .. } => "header",
            Self::Basic { .. } => "basic",
            Self::Bearer { .. } => "bearer",
            Self::Oauth2 { .. } => "oauth2",
            Self::Mtls { .. } => "mtls",
        }
    }

    /// The secret that stays if none is given.
    pub(crate) fn kept<'a>(&self, old: Option<&'a SealedCredentials>) -> Option<&'a Sealed> {
        let fits = |old: &&SealedCredentials| match (self, old) {
            (Self::Header { name, .. }, SealedCredentials::Header { name: other, .. }) => name == other,
            (Self::Basic { .. }, SealedCredentials::Basic { .. })
            | (Self::Bearer { .. }, SealedCredentials::Bearer { .. }) => true,
            // It must not be sent to another token endpoint than it was given for.
            (Self::Oauth2 { token_url, .. }, SealedCredentials::Oauth2 { token_url: other, .. }) => {
                token_url == other
            }
            // It fits no other.
            (Self::Mtls { certificate, .. }, SealedCredentials::Mtls { certificate: other, .. }) => {
                certificate == other
            }
            _ => false,
        };
        old.filter(fits).map(SealedCredentials::sealed)
    }
}

pub(super) fn delete_authorization(
    state: &State,
    id: AuthorizationId,
    expected: Expected,
) -> Result<PlannedRecord, Refused> {
    let key = Key::Authorization(id);
    let old = state.authorization(id);
    found(state, &key, old.map(|old| &old.meta), expected)?;
    let user = |webhook: &&WebhookRecord| webhook.authorization == Some(id);
    match old.and_then(|old| state.webhooks_of(old.account).find(user)) {
        Some(by) => Err(Refused::InUse { key, by: Key::Webhook(by.id) }),
        None => Ok(deleted(key)),
    }
}

pub(super) fn put_client(
    state: &State,
    id: ClientId,
    spec: &ClientSpec,
    expected: Expected,
    author: Author<'_>,
) -> Result<PlannedRecord, Refused> {
    let key = Key::Client(id);
    let old = state.client(id);
    let meta = next_meta(state, &key, old.map(|old| &old.meta), expected, author)?;
    let ClientSpec { name, account, app, access_type, mut scopes, secrets, disabled } = spec.clone();
    if let Some(account) = account {
        same_account(state, &key, account, old.and_then(|old| old.account))?;
    }
    if let Some(app) = app
        && state.app(app).is_none_or(|app| Some(app.account) != account)
    {
        return Err(Refused::BrokenReference { key, to: Key::App(app) });
    }
    let secrets = secrets.or_else(|| old.map(|old| old.secrets.clone())).unwrap_or_default();
    if secrets.is_empty() {
        return Err(Refused::NoSecret { key });
    }
    scopes.sort();
    scopes.dedup();
    let record = ClientRecord { id, name, account, app, access_type, scopes, secrets, disabled, meta };
    Ok(written(Record::Client(record)))
}

/// Checks that an account is there, and is the one that the resource was created in.
pub(super) fn same_account(
    state: &State,
    key: &Key,
    account: AccountUid,
    old: Option<AccountUid>,
) -> Result<(), Refused> {
    if old.is_some_and(|old| old != account) {
        return Err(Refused::AccountFixed { key: key.clone() });
    }
    if state.account(account).is_none() {
        return Err(Refused::BrokenReference { key: key.clone(), to: Key::Account(account) });
    }
    Ok(())
}
