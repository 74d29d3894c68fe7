//! From documents, which name things, to specifications, which hold their ids.

use std::collections::BTreeMap;

use hookstream_core::config::WebhookState;
use hookstream_types::{AccountUid, AppId, AuthorizationId};
use hookstream_wire::config::{ClientRecord, WebhookRecord};
use uuid::Uuid;

use crate::change::{AppSpec, AuthorizationSpec, ClientSpec, WebhookSpec};
use crate::manifest::{AppDocument, AuthorizationDocument, ClientDocument, ManifestProblem, WebhookDocument};
use crate::payload;
use crate::state::State;

/// What names stand for: what is configured, and what is about to be.
#[derive(Debug)]
pub struct Names<'a> {
    state: &'a State,
    accounts: BTreeMap<String, AccountUid>,
    apps: BTreeMap<(AccountUid, String), AppId>,
    authorizations: BTreeMap<(AccountUid, String), AuthorizationId>,
}

impl<'a> Names<'a> {
    #[must_use]
    pub fn new(state: &'a State) -> Self {
        Self { state, accounts: BTreeMap::new(), apps: BTreeMap::new(), authorizations: BTreeMap::new() }
    }

    pub(crate) fn add_account(&mut self, name: &str, uid: AccountUid) {
        self.accounts.insert(name.to_owned(), uid);
    }

    pub(crate) fn add_app(&mut self, account: AccountUid, name: &str, id: AppId) {
        self.apps.insert((account, name.to_owned()), id);
    }

    pub(crate) fn add_authorization(&mut self, account: AccountUid, name: &str, id: AuthorizationId) {
        self.authorizations.insert((account, name.to_owned()), id);
    }

    /// An account by name or uid.
    #[must_use]
    pub fn account(&self, text: &str) -> Option<AccountUid> {
        let by_name = || self.state.account_by_name(text).map(|record| record.account.uid);
        let by_uid = || {
            let uid = AccountUid(Uuid::try_parse(text).ok()?);
            self.state.account(uid).map(|_| uid)
        };
        self.accounts.get(text).copied().or_else(by_name).or_else(by_uid)
    }

    /// An app of the account, by name or id.
    #[must_use]
    pub fn app(&self, account: AccountUid, text: &str) -> Option<AppId> {
        let id = Uuid::try_parse(text).ok().map(AppId);
        let mut apps = self.state.apps().filter(|app| app.account == account);
        let known = || apps.find(|app| app.name == text || Some(app.id) == id).map(|app| app.id);
        self.apps.get(&(account, text.to_owned())).copied().or_else(known)
    }

    /// An authorization of the account, by name or id.
    #[must_use]
    pub fn authorization(&self, account: AccountUid, text: &str) -> Option<AuthorizationId> {
        let id = Uuid::try_parse(text).ok().map(AuthorizationId);
        let mut of_account = self.state.authorizations().filter(|found| found.account == account);
        let known =
            || of_account.find(|found| found.name == text || Some(found.id) == id).map(|found| found.id);
        self.authorizations.get(&(account, text.to_owned())).copied().or_else(known)
    }

    /// # Errors
    /// What does not exist.
    pub fn resolve_app(&self, document: &AppDocument) -> Result<AppSpec, Vec<ManifestProblem>> {
        let mut problems = Missing::default();
        let account = problems.required("account", &document.account, self.account(&document.account));
        let AppDocument { name, description, scopes, .. } = document.clone();
        problems.none_or(|| Some(AppSpec { account: account?, name, description, scopes }))
    }

    /// # Errors
    /// What does not exist.
    pub fn resolve_authorization(
        &self,
        document: &AuthorizationDocument,
    ) -> Result<AuthorizationSpec, Vec<ManifestProblem>> {
        let mut problems = Missing::default();
        let account = problems.required("account", &document.account, self.account(&document.account));
        let AuthorizationDocument { name, description, endpoint, credentials, .. } = document.clone();
        problems.none_or(|| {
            Some(AuthorizationSpec { account: account?, name, description, endpoint, credentials })
        })
    }

    /// # Errors
    /// What does not exist.
    pub fn resolve_client(
        &self,
        document: &ClientDocument,
        old: Option<&ClientRecord>,
    ) -> Result<ClientSpec, Vec<ManifestProblem>> {
        let mut problems = Missing::default();
        let account = document.account.as_deref();
        let account = account.and_then(|text| problems.required("account", text, self.account(text)));
        let app = document.app.as_deref().and_then(|text| {
            let Some(account) = account else {
                problems.note("app", "needs `account`: an app belongs to one".to_owned());
                return None;
            };
            problems.required("app", text, self.app(account, text))
        });
        let ClientDocument { name, access_type, scopes, disabled, .. } = document.clone();
        let secrets = old.map(|old| old.secrets.clone());
        problems.none_or(|| Some(ClientSpec { name, account, app, access_type, scopes, secrets, disabled }))
    }

    /// A new webhook is published unless the document says otherwise.
    ///
    /// # Errors
    /// What does not exist.
    pub fn resolve_webhook(
        &self,
        document: &WebhookDocument,
        old: Option<&WebhookRecord>,
    ) -> Result<WebhookSpec, Vec<ManifestProblem>> {
        let mut problems = Missing::default();
        let account = problems.required("account", &document.account, self.account(&document.account));
        let of_account = |find: &dyn Fn(AccountUid) -> Option<Uuid>| account.and_then(find);
        let app = document.app.as_deref().and_then(|text| {
            let found = of_account(&|account| self.app(account, text).map(|id| id.0));
            problems.required("app", text, found).map(AppId)
        });
        let authorization = document.authorization.as_deref().and_then(|text| {
            let found = of_account(&|account| self.authorization(account, text).map(|id| id.0));
            problems.required("authorization", text, found).map(AuthorizationId)
        });
        // What was let in stays in, whatever became of its event types.
        let as_before = old.is_some_and(|old| {
            let WebhookRecord { payload, content_type, event_types, .. } = old;
            (payload, content_type, event_types)
                == (&document.payload, &document.content_type, &document.event_types)
        });
        if !as_before {
            for message in payload::problems(self.state, document) {
                problems.note("payload.template", message);
            }
        }
        let state = document.state.or_else(|| old.map(|old| old.state)).unwrap_or_default();
        let reason = old.and_then(|old| old.disabled_reason.clone());
        // Another endpoint has agreed to nothing yet.
        let agreed = old.filter(|old| old.url == document.url).and_then(|old| old.agreed);
        let document = document.clone();
        problems.none_or(|| {
            Some(WebhookSpec {
                account: account?,
                name: document.name,
                description: document.description,
                app,
                state,
                disabled_reason: reason.filter(|_| state == WebhookState::Disabled),
                source: document.source,
                event_types: document.event_types,
                url: document.url,
                method: document.method,
                content_type: document.content_type,
                payload: document.payload,
                headers: document.headers,
                secrets: document.secrets,
                signatures: document.signatures,
                secret_header: document.secret_header,
                authorization,
                trust: document.trust,
                filter: document.filter,
                retry: document.retry,
                give_up_on: document.give_up_on,
                timeout: document.timeout,
                rate: document.rate,
                agreed,
                concurrency: document.concurrency,
                ttl_ms: document.ttl_ms,
                log_only_errors: document.log_only_errors,
            })
        })
    }
}

/// References that lead nowhere.
#[derive(Default)]
struct Missing(Vec<ManifestProblem>);

impl Missing {
    fn note(&mut self, field: &str, message: String) {
        self.0.push(ManifestProblem { place: field.to_owned(), message });
    }

    fn required<T>(&mut self, field: &str, text: &str, found: Option<T>) -> Option<T> {
        if found.is_none() {
            self.note(field, format!("there is no {field} `{text}`"));
        }
        found
    }

    fn none_or<T>(self, make: impl FnOnce() -> Option<T>) -> Result<T, Vec<ManifestProblem>> {
        if self.0.is_empty() { make().ok_or(Vec::new()) } else { Err(self.0) }
    }
}
