//! `hookstream apply`: the difference between what is configured and what a file asks for, and making it so.
//!
//! Resources are matched by name, webhooks by account and name. [`diff`] is pure; the plan carries the expected
//! revisions, so that a change made by somebody else meanwhile stops it instead of being overwritten.
//! What the file does not mention is left alone, unless pruning is asked for; and then only in sections that the
//! file has.

mod compare;

use std::borrow::Cow;
use std::collections::BTreeSet;

use hookstream_core::config::{DEFAULT_ACCOUNT, WebhookSecret};
use hookstream_types::{AccountUid, AppId, AuthorizationId, SecretString, UnixMillis, WebhookId};
use hookstream_wire::config::{Key, SealedCredentials};
use uuid::Uuid;

use crate::change::{Change, CredentialsSpec, Expected};
use crate::envelope::{Fill, os_random};
use crate::manifest::{AccountDocument, Manifest, ManifestProblem, WebhookDocument, resolve_nothing};
use crate::resolve::Names;
use crate::state::State;
use crate::writer::{Applied, ConfigWriter, WriteError};

/// Bytes of a generated signing key.
const GENERATED_SECRET_BYTES: usize = 32;
/// Changes in one transaction; a longer plan takes several, each whole.
pub const CHANGES_PER_WRITE: usize = 1_000;

/// What happens to one resource.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Create,
    /// Field, before, after.
    Update(Vec<FieldChange>),
    Unchanged,
    Delete,
}

/// A field that changes. Secrets are shown as "changed" only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldChange {
    pub field: String,
    pub before: String,
    pub after: String,
}

/// One line of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// `webhook`, `source`…
    pub kind: Cow<'static, str>,
    /// For a webhook: `account/name`.
    pub name: String,
    pub action: Action,
}

/// What is to be done so that the configuration matches a file.
#[derive(Debug)]
pub struct Plan {
    pub items: Vec<Item>,
    /// In an order in which each finds what it refers to.
    pub changes: Vec<Change>,
    /// Signing keys made for new webhooks without one (`account/name`, `whsec_…`): to be shown once.
    pub generated: Vec<(String, SecretString)>,
}

/// What a diff needs besides its inputs.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Delete what the file's sections do not mention.
    pub prune: bool,
    pub now: UnixMillis,
}

struct Differ<'a> {
    state: &'a State,
    options: Options,
    fill: Fill<'a>,
    plan: Plan,
    deletions: Vec<Change>,
    names: Names<'a>,
    problems: Vec<ManifestProblem>,
}

/// The difference between the state and a file.
///
/// # Errors
/// The places in the file that refer to what neither is there nor is created.
pub fn diff(
    state: &State,
    manifest: &Manifest,
    options: Options,
    fill: Fill<'_>,
) -> Result<Plan, Vec<ManifestProblem>> {
    let plan = Plan { items: Vec::new(), changes: Vec::new(), generated: Vec::new() };
    let names = Names::new(state);
    let mut differ =
        Differ { state, options, fill, plan, deletions: Vec::new(), names, problems: Vec::new() };
    differ.accounts(manifest);
    differ.sources(manifest);
    differ.event_types(manifest);
    differ.apps(manifest);
    differ.authorizations(manifest);
    differ.webhooks(manifest);
    if !differ.problems.is_empty() {
        return Err(differ.problems);
    }
    // Webhooks go first, then what they refer to.
    differ.deletions.reverse();
    let Differ { mut plan, deletions, .. } = differ;
    plan.changes.extend(deletions);
    Ok(plan)
}

impl Differ<'_> {
    fn item(&mut self, kind: &'static str, name: &str, action: Action) {
        self.plan.items.push(Item { kind: Cow::Borrowed(kind), name: name.to_owned(), action });
    }

    fn delete(&mut self, kind: &'static str, name: &str, change: Change) {
        self.deletions.push(change);
        self.item(kind, name, Action::Delete);
    }

    /// Notes references that lead nowhere.
    fn found<T>(&mut self, place: String, outcome: Result<T, Vec<ManifestProblem>>) -> Option<T> {
        match outcome {
            Ok(found) => Some(found),
            Err(problems) => {
                self.problems.extend(problems.into_iter().map(|problem| ManifestProblem {
                    place: format!("{place}.{}", problem.place),
                    message: format!("{}: list it in the file", problem.message),
                }));
                None
            }
        }
    }

    fn accounts(&mut self, manifest: &Manifest) {
        let state = self.state;
        let mut wanted: Vec<AccountDocument> = manifest.accounts.iter().flatten().cloned().collect();
        // The default account needs no mention.
        let default_used =
            manifest.webhooks.iter().flatten().any(|webhook| webhook.account == DEFAULT_ACCOUNT);
        if default_used && !wanted.iter().any(|account| account.name == DEFAULT_ACCOUNT) {
            wanted.push(AccountDocument { name: DEFAULT_ACCOUNT.to_owned(), verification: None });
        }
        for document in &wanted {
            let old = state.account_by_name(&document.name).map(|record| &record.account);
            let uid = old.map_or_else(|| AccountUid(self.new_uuid()), |old| old.uid);
            self.names.add_account(&document.name, uid);
            let account = document.spec(old.map(|old| old.verification));
            let fields = old.map(|old| compare::account(old, &account));
            let revision = old.map(|old| old.meta.revision);
            let change = |expected| Change::PutAccount { uid, account, expected };
            self.put("account", &document.name, fields, revision, change);
        }
        if !self.options.prune || manifest.accounts.is_none() {
            return;
        }
        for record in state.accounts() {
            let account = &record.account;
            if !wanted.iter().any(|wanted| wanted.name == account.name) && account.name != DEFAULT_ACCOUNT {
                let expected = Expected::Revision(account.meta.revision);
                self.delete("account", &account.name, Change::DeleteAccount { uid: account.uid, expected });
            }
        }
    }

    fn sources(&mut self, manifest: &Manifest) {
        let Some(wanted) = &manifest.sources else { return };
        let state = self.state;
        for source in wanted {
            let old = state.source(&source.name);
            let fields = old.map(|old| compare::source(old, source));
            let revision = old.map(|old| old.meta.revision);
            let change = |expected| Change::PutSource { source: source.clone(), expected };
            self.put("source", &source.name, fields, revision, change);
        }
        let wanted: BTreeSet<&str> = wanted.iter().map(|source| source.name.as_str()).collect();
        let prune = self.options.prune;
        for source in state.sources().filter(|s| prune && !wanted.contains(s.name.as_str())) {
            let expected = Expected::Revision(source.meta.revision);
            self.delete("source", &source.name, Change::DeleteSource { name: source.name.clone(), expected });
        }
    }

    fn event_types(&mut self, manifest: &Manifest) {
        let Some(wanted) = &manifest.event_types else { return };
        let state = self.state;
        for event_type in wanted {
            let old = state.event_type(&event_type.name);
            let fields = old.map(|old| compare::event_type(old, event_type));
            let revision = old.map(|old| old.meta.revision);
            let change = |expected| Change::PutEventType { event_type: event_type.clone(), expected };
            self.put("event type", &event_type.name, fields, revision, change);
        }
        let wanted: BTreeSet<&str> = wanted.iter().map(|wanted| wanted.name.as_str()).collect();
        let prune = self.options.prune;
        for old in state.event_types().filter(|e| prune && !wanted.contains(e.name.as_str())) {
            let expected = Expected::Revision(old.meta.revision);
            self.delete(
                "event type",
                &old.name,
                Change::DeleteEventType { name: old.name.clone(), expected },
            );
        }
    }

    fn apps(&mut self, manifest: &Manifest) {
        let Some(wanted) = &manifest.apps else { return };
        let state = self.state;
        let mut kept = BTreeSet::new();
        for (idx, document) in wanted.iter().enumerate() {
            let spec = self.names.resolve_app(document);
            let Some(app) = self.found(format!("apps[{idx}]"), spec) else { continue };
            let old = Names::new(state).app(app.account, &app.name).and_then(|id| state.app(id));
            let id = old.map_or_else(|| AppId(self.new_uuid()), |old| old.id);
            kept.insert(id);
            self.names.add_app(app.account, &app.name, id);
            let fields = old.map(|old| compare::app(state, old, &app));
            let name = format!("{}/{}", document.account, document.name);
            let change = |expected| Change::PutApp { id, app, expected };
            self.put("app", &name, fields, old.map(|old| old.meta.revision), change);
        }
        let prune = self.options.prune;
        for old in state.apps().filter(|app| prune && !kept.contains(&app.id)) {
            let expected = Expected::Revision(old.meta.revision);
            let name = self.name(old.account, &old.name);
            self.delete("app", &name, Change::DeleteApp { id: old.id, expected });
        }
    }

    fn authorizations(&mut self, manifest: &Manifest) {
        let Some(wanted) = &manifest.authorizations else { return };
        let state = self.state;
        let mut kept = BTreeSet::new();
        for (idx, document) in wanted.iter().enumerate() {
            let spec = self.names.resolve_authorization(document);
            let Some(spec) = self.found(format!("authorizations[{idx}]"), spec) else { continue };
            let old = Names::new(state).authorization(spec.account, &spec.name);
            let old = old.and_then(|id| state.authorization(id));
            let id = old.map_or_else(|| AuthorizationId(self.new_uuid()), |old| old.id);
            kept.insert(id);
            self.names.add_authorization(spec.account, &spec.name, id);
            self.keeps_credentials(idx, &spec.credentials, old.map(|old| &old.credentials));
            let fields = old.map(|old| compare::authorization(state, old, &spec));
            let name = format!("{}/{}", document.account, document.name);
            let authorization = Box::new(spec);
            let change = |expected| Change::PutAuthorization { id, authorization, expected };
            self.put("authorization", &name, fields, old.map(|old| old.meta.revision), change);
        }
        let prune = self.options.prune;
        for old in state.authorizations().filter(|a| prune && !kept.contains(&a.id)) {
            let expected = Expected::Revision(old.meta.revision);
            let name = self.name(old.account, &old.name);
            self.delete("authorization", &name, Change::DeleteAuthorization { id: old.id, expected });
        }
    }

    fn webhooks(&mut self, manifest: &Manifest) {
        let Some(wanted) = &manifest.webhooks else { return };
        let state = self.state;
        let mut kept = BTreeSet::new();
        for (idx, webhook) in wanted.iter().enumerate() {
            let place = format!("webhooks[{idx}]");
            kept.extend(self.webhook(&place, webhook));
            if let Some(source) = &webhook.source {
                let listed = manifest.sources.iter().flatten().any(|listed| listed.name == *source);
                let stays = state.source(source).is_some() && !self.deletes(&Key::Source(source.clone()));
                if !listed && !stays {
                    let message = format!("there is no source `{source}`: list it under `sources`");
                    self.problems.push(ManifestProblem { place: format!("{place}.source"), message });
                }
            }
        }
        let prune = self.options.prune;
        for old in state.webhooks().filter(|old| prune && !kept.contains(&old.id)) {
            let expected = Expected::Revision(old.meta.revision);
            let name = self.name(old.account, &old.name);
            self.delete("webhook", &name, Change::DeleteWebhook { id: old.id, expected });
        }
    }

    fn deletes(&self, key: &Key) -> bool {
        self.deletions.iter().any(|change| {
            matches!((change, key), (Change::DeleteSource { name, .. }, Key::Source(other)) if name == other)
        })
    }

    fn name(&self, account: AccountUid, name: &str) -> String {
        let account = self.state.account(account).map_or("?", |record| &record.account.name);
        format!("{account}/{name}")
    }

    /// Returns the id of a webhook that is there already.
    fn webhook(&mut self, place: &str, wanted: &WebhookDocument) -> Option<WebhookId> {
        let state = self.state;
        let name = format!("{}/{}", wanted.account, wanted.name);
        let old = self.names.account(&wanted.account);
        let old = old.and_then(|account| state.webhook_by_name(account, &wanted.name));
        let spec = self.names.resolve_webhook(wanted, old);
        let mut spec = self.found(place.to_owned(), spec)?;
        let has = |name: &str| old.is_some_and(|old| old.headers.iter().any(|header| header.name == name));
        for (header, _) in spec.headers.iter().filter(|(name, value)| value.is_none() && !has(name)) {
            self.nothing_to_keep(format!("{place}.headers.{header}"));
        }
        let Some(old) = old else {
            let id = WebhookId(self.new_uuid());
            if spec.secrets.is_none() {
                let secret = new_secret(self.fill);
                self.plan.generated.push((name.clone(), secret.text.clone()));
                spec.secrets = Some(vec![secret]);
            }
            let webhook = Box::new(spec);
            self.plan.changes.push(Change::PutWebhook { id, webhook, expected: Expected::Absent });
            self.item("webhook", &name, Action::Create);
            return None;
        };
        let fields = compare::webhook(state, old, &spec);
        let (id, revision) = (old.id, old.meta.revision);
        let change = |expected| Change::PutWebhook { id, webhook: Box::new(spec), expected };
        self.put("webhook", &name, Some(fields), Some(revision), change);
        Some(id)
    }

    fn keeps_credentials(&mut self, idx: usize, new: &CredentialsSpec, old: Option<&SealedCredentials>) {
        if let (field, None) = new.secret()
            && new.kept(old).is_none()
        {
            self.nothing_to_keep(format!("authorizations[{idx}].{}.{field}", new.kind()));
        }
    }

    /// Notes a secret that is to stay as it is, where there is none.
    fn nothing_to_keep(&mut self, place: String) {
        let message = "there is no value yet that could stay: give one, in a file best as `{env: NAME}` or `{file: PATH}`";
        self.problems.push(ManifestProblem { place, message: message.to_owned() });
    }

    /// Notes one resource: created without a revision, else updated if fields differ.
    fn put(
        &mut self,
        kind: &'static str,
        name: &str,
        fields: Option<Vec<FieldChange>>,
        revision: Option<u64>,
        change: impl FnOnce(Expected) -> Change,
    ) {
        match (fields, revision) {
            (Some(fields), Some(_)) if fields.is_empty() => self.item(kind, name, Action::Unchanged),
            (Some(fields), Some(revision)) => {
                self.plan.changes.push(change(Expected::Revision(revision)));
                self.item(kind, name, Action::Update(fields));
            }
            _ => {
                self.plan.changes.push(change(Expected::Absent));
                self.item(kind, name, Action::Create);
            }
        }
    }

    fn new_uuid(&mut self) -> Uuid {
        new_uuid(self.options.now, self.fill)
    }
}

/// UUIDv7: sorted by time, random otherwise.
pub fn new_uuid(now: UnixMillis, fill: Fill<'_>) -> Uuid {
    let mut random = [0; 10];
    fill(&mut random);
    let millis = u64::try_from(now.0).unwrap_or_default();
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

/// A secret in the form of Standard Webhooks.
pub fn new_secret(fill: Fill<'_>) -> WebhookSecret {
    let mut bytes = zeroize::Zeroizing::new([0; GENERATED_SECRET_BYTES]);
    fill(bytes.as_mut_slice());
    WebhookSecret::of_key(bytes.as_slice())
}

impl Plan {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Makes it so; returns the last write's answer, or none if there is nothing to do.
    ///
    /// # Errors
    /// [`WriteError`]; of a plan with more than [`CHANGES_PER_WRITE`] changes an earlier part may have been made.
    pub async fn execute(&self, writer: &ConfigWriter, actor: &str) -> Result<Option<Applied>, WriteError> {
        let mut applied = None;
        for changes in self.writes() {
            applied = Some(writer.write(actor, changes).await?);
        }
        Ok(applied)
    }

    /// The changes, in writes of no more than [`CHANGES_PER_WRITE`].
    pub fn writes(&self) -> impl Iterator<Item = Vec<Change>> {
        self.changes.chunks(CHANGES_PER_WRITE).map(<[Change]>::to_vec)
    }
}

/// What happens, for a terminal: one line for each resource that changes, with its fields; no secret in it.
#[must_use]
pub fn shown(items: &[Item]) -> String {
    let mut out = String::new();
    for Item { kind, name, action } in items {
        match action {
            Action::Create => out.push_str(&format!("+ {kind} {name}\n")),
            Action::Delete => out.push_str(&format!("- {kind} {name}\n")),
            Action::Update(fields) => {
                out.push_str(&format!("~ {kind} {name}\n"));
                for FieldChange { field, before, after } in fields {
                    out.push_str(&format!("    {field}: {before} -> {after}\n"));
                }
            }
            Action::Unchanged => {}
        }
    }
    let (created, updated, deleted, unchanged) = counts(items);
    out.push_str(&format!(
        "{created} to create, {updated} to update, {deleted} to delete, {unchanged} unchanged\n"
    ));
    out
}

/// How many are created, updated, deleted, unchanged.
fn counts(items: &[Item]) -> (usize, usize, usize, usize) {
    let count = |of: fn(&Action) -> bool| items.iter().filter(|item| of(&item.action)).count();
    (
        count(|action| matches!(action, Action::Create)),
        count(|action| matches!(action, Action::Update(_))),
        count(|action| matches!(action, Action::Delete)),
        count(|action| matches!(action, Action::Unchanged)),
    )
}

/// Why [`make_so`] did not.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("the configuration can't be applied: {}", listed(.0))]
    Unfit(Vec<ManifestProblem>),
    #[error(transparent)]
    Write(#[from] WriteError),
}

fn listed(problems: &[ManifestProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Makes the configuration match a text of the program's own, which refers to nothing: no endpoint is pinged.
///
/// # Errors
/// [`ApplyError`].
pub async fn make_so(
    writer: &ConfigWriter,
    text: &str,
    now: UnixMillis,
    actor: &str,
) -> Result<Option<Applied>, ApplyError> {
    let manifest = Manifest::parse(text, &resolve_nothing).map_err(ApplyError::Unfit)?;
    let options = Options { prune: false, now };
    let plan = writer.read(move |state| diff(state, &manifest, options, &mut os_random)).await?;
    Ok(plan.map_err(ApplyError::Unfit)?.execute(writer, actor).await?)
}

#[cfg(test)]
mod tests;
