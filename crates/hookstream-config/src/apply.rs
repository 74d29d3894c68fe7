//! `hookstream apply`: the difference between what is configured and what a file asks for, and making it so.
//!
//! Resources are matched by name, webhooks by account and name. [`diff`] is pure; the plan carries the expected
//! revisions, so that a change made by somebody else meanwhile stops it instead of being overwritten.
//! What the file does not mention is left alone, unless pruning is asked for; and then only in sections that the
//! file has.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hookstream_core::config::{DEFAULT_ACCOUNT, Webhook, WebhookState};
use hookstream_types::{AccountUid, Secret, SecretString, UnixMillis, WebhookId};
use uuid::Uuid;

use crate::change::{Change, EventTypeSpec, Expected, SourceSpec, WebhookSpec};
use crate::checks::SECRET_PREFIX;
use crate::envelope::Fill;
use crate::manifest::{Manifest, ManifestProblem, ManifestWebhook};
use crate::state::State;
use crate::writer::{Applied, ConfigWriter, WriteError};

/// Bytes of a generated signing key.
const GENERATED_SECRET_BYTES: usize = 32;
/// Changes in one transaction; a longer plan takes several, each whole.
const CHANGES_PER_WRITE: usize = 1_000;

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
    pub field: &'static str,
    pub before: String,
    pub after: String,
}

/// One line of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// `webhook`, `source`…
    pub kind: &'static str,
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
    /// By name, those to be created included.
    accounts: BTreeMap<String, AccountUid>,
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
    let accounts = state.accounts().map(|r| (r.account.name.clone(), r.account.uid)).collect();
    let plan = Plan { items: Vec::new(), changes: Vec::new(), generated: Vec::new() };
    let mut differ = Differ { state, options, fill, plan, deletions: Vec::new(), accounts };
    differ.accounts(manifest);
    differ.sources(manifest);
    differ.event_types(manifest);
    differ.webhooks(manifest)?;
    // Webhooks go first, then what they refer to.
    differ.deletions.reverse();
    let Differ { mut plan, deletions, .. } = differ;
    plan.changes.extend(deletions);
    Ok(plan)
}

impl Differ<'_> {
    fn item(&mut self, kind: &'static str, name: &str, action: Action) {
        self.plan.items.push(Item { kind, name: name.to_owned(), action });
    }

    fn accounts(&mut self, manifest: &Manifest) {
        let mut wanted: Vec<&str> = manifest.accounts.iter().flatten().map(String::as_str).collect();
        // The default account needs no mention.
        let default_used =
            manifest.webhooks.iter().flatten().any(|webhook| webhook.account == DEFAULT_ACCOUNT);
        if default_used && !wanted.contains(&DEFAULT_ACCOUNT) {
            wanted.push(DEFAULT_ACCOUNT);
        }
        for name in &wanted {
            if self.accounts.contains_key(*name) {
                self.item("account", name, Action::Unchanged);
                continue;
            }
            let uid = AccountUid(self.new_uuid());
            self.accounts.insert((*name).to_owned(), uid);
            let change = Change::PutAccount { uid, name: (*name).to_owned(), expected: Expected::Absent };
            self.plan.changes.push(change);
            self.item("account", name, Action::Create);
        }
        if !self.options.prune || manifest.accounts.is_none() {
            return;
        }
        let state = self.state;
        for record in state.accounts() {
            let name = record.account.name.as_str();
            if !wanted.contains(&name) && name != DEFAULT_ACCOUNT {
                let expected = Expected::Revision(record.account.meta.revision);
                self.deletions.push(Change::DeleteAccount { uid: record.account.uid, expected });
                self.item("account", name, Action::Delete);
            }
        }
    }

    fn sources(&mut self, manifest: &Manifest) {
        let Some(wanted) = &manifest.sources else { return };
        let state = self.state;
        for source in wanted {
            let old = state.source(&source.name);
            let fields = old.map(|old| {
                let mut fields = Fields::default();
                fields.compare("topics", &old.topics.join(", "), &source.topics.join(", "));
                fields.compare("format", &json(&old.format), &json(&source.format));
                fields.compare("strict", &old.strict, &source.strict);
                fields.0
            });
            let expected = old.map(|old| old.meta.revision);
            let change = |expected| Change::PutSource { source: source.clone(), expected };
            self.put("source", &source.name, fields, expected, change);
        }
        let wanted: BTreeSet<&str> = wanted.iter().map(|source: &SourceSpec| source.name.as_str()).collect();
        for source in state.sources().filter(|s| self.options.prune && !wanted.contains(s.name.as_str())) {
            let expected = Expected::Revision(source.meta.revision);
            self.deletions.push(Change::DeleteSource { name: source.name.clone(), expected });
            self.plan.items.push(Item { kind: "source", name: source.name.clone(), action: Action::Delete });
        }
    }

    fn event_types(&mut self, manifest: &Manifest) {
        let Some(wanted) = &manifest.event_types else { return };
        let state = self.state;
        for event_type in wanted {
            let old = state.event_type(&event_type.name);
            let fields = old.map(|old| {
                let mut fields = Fields::default();
                let text = |text: &Option<String>| text.clone().unwrap_or_default();
                fields.compare("description", &text(&old.description), &text(&event_type.description));
                fields.0
            });
            let expected = old.map(|old| old.meta.revision);
            let change = |expected| Change::PutEventType { event_type: event_type.clone(), expected };
            self.put("event type", &event_type.name, fields, expected, change);
        }
        let wanted: BTreeSet<&str> =
            wanted.iter().map(|wanted: &EventTypeSpec| wanted.name.as_str()).collect();
        for old in state.event_types().filter(|e| self.options.prune && !wanted.contains(e.name.as_str())) {
            let expected = Expected::Revision(old.meta.revision);
            self.deletions.push(Change::DeleteEventType { name: old.name.clone(), expected });
            self.plan.items.push(Item { kind: "event type", name: old.name.clone(), action: Action::Delete });
        }
    }

    fn webhooks(&mut self, manifest: &Manifest) -> Result<(), Vec<ManifestProblem>> {
        let Some(wanted) = &manifest.webhooks else { return Ok(()) };
        let state = self.state;
        let mut problems = Vec::new();
        let mut kept = BTreeSet::new();
        let gone: BTreeSet<String> = self
            .deletions
            .iter()
            .filter_map(|change| {
                if let Change::DeleteSource { name, .. } = change { Some(name.clone()) } else { None }
            })
            .collect();
        for (idx, webhook) in wanted.iter().enumerate() {
            let mut problem = |field: &str, message: String| {
                problems.push(ManifestProblem { place: format!("webhooks[{idx}].{field}"), message });
            };
            let account = self.accounts.get(&webhook.account).copied();
            if account.is_none() {
                problem(
                    "account",
                    format!("there is no account `{}`: list it under `accounts`", webhook.account),
                );
            }
            if let Some(source) = &webhook.source {
                let listed = manifest.sources.iter().flatten().any(|listed| listed.name == *source);
                if !listed && (state.source(source).is_none() || gone.contains(source)) {
                    problem("source", format!("there is no source `{source}`: list it under `sources`"));
                }
            }
            let Some(account) = account else { continue };
            kept.extend(self.webhook(account, webhook));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        for old in state.webhooks().filter(|old| self.options.prune && !kept.contains(&old.id)) {
            let expected = Expected::Revision(old.meta.revision);
            self.deletions.push(Change::DeleteWebhook { id: old.id, expected });
            let account = state.account(old.account).map_or("?", |record| &record.account.name);
            let name = format!("{account}/{}", old.name);
            self.plan.items.push(Item { kind: "webhook", name, action: Action::Delete });
        }
        Ok(())
    }

    /// Returns the id of a webhook that is there already.
    fn webhook(&mut self, account: AccountUid, wanted: &ManifestWebhook) -> Option<WebhookId> {
        let state = self.state;
        let name = format!("{}/{}", wanted.account, wanted.name);
        let Some(old) = state.webhook_by_name(account, &wanted.name) else {
            let id = WebhookId(self.new_uuid());
            let mut spec = spec(account, wanted, WebhookState::Published, None);
            if spec.secrets.is_none() {
                let mut bytes = vec![0; GENERATED_SECRET_BYTES];
                (self.fill)(&mut bytes);
                let text = SecretString::new(format!("{SECRET_PREFIX}{}", STANDARD.encode(&bytes)));
                self.plan.generated.push((name.clone(), text));
                spec.secrets = Some(vec![Secret::new(bytes)]);
            }
            let webhook = Box::new(spec);
            self.plan.changes.push(Change::PutWebhook { id, webhook, expected: Expected::Absent });
            self.item("webhook", &name, Action::Create);
            return None;
        };
        let spec = spec(account, wanted, old.state, old.disabled_reason.clone());
        // Secrets that can't be opened can't be compared: the file's take their place.
        let opened = state.open(old).ok();
        let fields = compare_webhook(old, opened.as_ref(), &spec);
        let revision = old.meta.revision;
        let id = old.id;
        let change = |expected| Change::PutWebhook { id, webhook: Box::new(spec), expected };
        self.put("webhook", &name, Some(fields), Some(revision), change);
        Some(id)
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

    /// UUIDv7: sorted by time, random otherwise.
    fn new_uuid(&mut self) -> Uuid {
        let mut random = [0; 10];
        (self.fill)(&mut random);
        let millis = u64::try_from(self.options.now.0).unwrap_or_default();
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }
}

fn spec(
    account: AccountUid,
    wanted: &ManifestWebhook,
    state: WebhookState,
    disabled_reason: Option<String>,
) -> WebhookSpec {
    let state = wanted.state.unwrap_or(state);
    WebhookSpec {
        account,
        name: wanted.name.clone(),
        state,
        disabled_reason: disabled_reason.filter(|_| state == WebhookState::Disabled),
        source: wanted.source.clone(),
        event_types: wanted.event_types.clone(),
        url: wanted.url.clone(),
        method: wanted.method,
        content_type: wanted.content_type.clone(),
        headers: wanted.headers.clone(),
        secrets: wanted.secrets.clone(),
        retry: wanted.retry.clone(),
        give_up_on: wanted.give_up_on.clone(),
        timeout: wanted.timeout,
        rate: wanted.rate,
        concurrency: wanted.concurrency,
        log_only_errors: wanted.log_only_errors,
    }
}

fn compare_webhook(
    old: &hookstream_wire::config::WebhookRecord,
    opened: Option<&Webhook>,
    new: &WebhookSpec,
) -> Vec<FieldChange> {
    let mut fields = Fields::default();
    let list = |items: &[u16]| items.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
    let source = |source: &Option<String>| source.clone().unwrap_or_else(|| "any".to_owned());
    fields.compare("state", &json(&old.state), &json(&new.state));
    fields.compare("source", &source(&old.source), &source(&new.source));
    fields.compare("event_types", &old.event_types.join(", "), &new.event_types.join(", "));
    fields.compare("url", &old.url, &new.url);
    fields.compare("method", &old.method.as_str(), &new.method.as_str());
    fields.compare("content_type", &old.content_type, &new.content_type);
    fields.compare("retry", &retry_text(&old.retry), &retry_text(&new.retry));
    fields.compare("give_up_on", &list(&old.give_up_on), &list(&new.give_up_on));
    let timeout = std::time::Duration::from_millis(old.timeout_ms);
    fields.compare("timeout", &format!("{timeout:?}"), &format!("{:?}", new.timeout));
    // JSON readers may be off by the last bit.
    let rate = |rate: Option<f64>| rate.map_or_else(|| "unlimited".to_owned(), |rate| format!("{rate:.6}/s"));
    fields.compare("rate", &rate(old.rate), &rate(new.rate));
    fields.compare("concurrency", &old.concurrency, &new.concurrency);
    fields.compare("log_only_errors", &old.log_only_errors, &new.log_only_errors);
    let names = |names: Vec<&str>| names.join(", ");
    let old_names = names(old.headers.iter().map(|header| header.name.as_str()).collect());
    let new_names = names(new.headers.iter().map(|(name, _)| name.as_str()).collect());
    fields.compare("headers", &old_names, &new_names);
    let same_headers = opened.is_some_and(|opened| opened.headers == new.headers);
    if old_names == new_names && !same_headers && !new.headers.is_empty() {
        fields.changed("headers");
    }
    let same_secrets =
        new.secrets.as_ref().is_none_or(|new| opened.is_some_and(|opened| opened.secrets == *new));
    if !same_secrets {
        fields.changed("secret");
    }
    fields.0
}

/// `0s, 5s, 5m`.
fn retry_text(schedule: &hookstream_core::schedule::RetrySchedule) -> String {
    let delay = |n| schedule.delay_after(n, None, 0.0);
    let delays = (0..).map_while(delay).map(hookstream_core::ladder::Ladder::label);
    delays.map(|label| if label == "0h" { "0s".to_owned() } else { label }).collect::<Vec<_>>().join(", ")
}

fn json<T: serde::Serialize>(value: &T) -> String {
    let text = serde_json::to_string(value).unwrap_or_default();
    text.trim_matches('"').to_owned()
}

#[derive(Default)]
struct Fields(Vec<FieldChange>);

impl Fields {
    fn compare<T: PartialEq + fmt::Display>(&mut self, field: &'static str, before: &T, after: &T) {
        if before != after {
            self.0.push(FieldChange { field, before: before.to_string(), after: after.to_string() });
        }
    }

    fn changed(&mut self, field: &'static str) {
        self.0.push(FieldChange { field, before: "…".to_owned(), after: "changed".to_owned() });
    }
}

impl Plan {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// How many are created, updated, deleted, unchanged.
    #[must_use]
    pub fn counts(&self) -> (usize, usize, usize, usize) {
        let count = |of: fn(&Action) -> bool| self.items.iter().filter(|item| of(&item.action)).count();
        (
            count(|action| matches!(action, Action::Create)),
            count(|action| matches!(action, Action::Update(_))),
            count(|action| matches!(action, Action::Delete)),
            count(|action| matches!(action, Action::Unchanged)),
        )
    }

    /// The plan for a terminal: one line for each resource that changes, with its fields; no secret in it.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = String::new();
        for Item { kind, name, action } in &self.items {
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
        let (created, updated, deleted, unchanged) = self.counts();
        out.push_str(&format!(
            "{created} to create, {updated} to update, {deleted} to delete, {unchanged} unchanged\n"
        ));
        out
    }

    /// Makes it so; returns the last write's answer, or none if there is nothing to do.
    ///
    /// # Errors
    /// [`WriteError`]; of a plan with more than a thousand changes an earlier part may have been made.
    pub async fn execute(self, writer: &ConfigWriter, actor: &str) -> Result<Option<Applied>, WriteError> {
        let mut applied = None;
        for changes in self.changes.chunks(CHANGES_PER_WRITE) {
            applied = Some(writer.write(actor, changes.to_vec()).await?);
        }
        Ok(applied)
    }
}

#[cfg(test)]
mod tests;
