//! Changes of the configuration: what is asked for, and whether it may be.
//!
//! `plan` turns one write (several changes, all or none) into records, judged by the state and by the writes
//! before it. Pure: time, actor and randomness are arguments.

use std::time::Duration;

use hookstream_core::config::{Account, EventType, Format, Meta, Source, WebhookState};
use hookstream_core::exchange::Method;
use hookstream_core::schedule::RetrySchedule;
use hookstream_types::{AccountUid, Secret, UnixMillis, WebhookId};
use hookstream_wire::config::{AccountRecord, ClusterRecord, Key, Record, SealedHeader, WebhookRecord};

use crate::envelope::{Fill, OpenError, Place};
use crate::state::{SECRET_FIELD, State, header_field};

/// What a change expects to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Nothing: it is created.
    Absent,
    /// This revision.
    Revision(u64),
    /// It exists, whatever its revision.
    Present,
}

/// One change of one resource.
#[derive(Clone, Debug)]
pub enum Change {
    /// Fixes what is fixed once; the same again changes nothing.
    InitCluster {
        namespace: String,
        partitions: i32,
        format: u32,
    },
    PutAccount {
        uid: AccountUid,
        name: String,
        expected: Expected,
    },
    /// Refused while the account has webhooks. Destroys the account's data key.
    DeleteAccount {
        uid: AccountUid,
        expected: Expected,
    },
    /// Seals the account's data key with the newest key-encryption key.
    RewrapAccount {
        uid: AccountUid,
    },
    PutSource {
        source: SourceSpec,
        expected: Expected,
    },
    /// Refused while a webhook names the source.
    DeleteSource {
        name: String,
        expected: Expected,
    },
    PutEventType {
        event_type: EventTypeSpec,
        expected: Expected,
    },
    DeleteEventType {
        name: String,
        expected: Expected,
    },
    PutWebhook {
        id: WebhookId,
        webhook: Box<WebhookSpec>,
        expected: Expected,
    },
    DeleteWebhook {
        id: WebhookId,
        expected: Expected,
    },
    /// Switches a webhook off if its revision and URL are still those; else nothing happens.
    DisableWebhook {
        id: WebhookId,
        revision: u64,
        url: String,
        reason: String,
    },
}

/// A source, without what the writer adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceSpec {
    pub name: String,
    pub topics: Vec<String>,
    pub format: Format,
    pub strict: bool,
}

/// An event type, without what the writer adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventTypeSpec {
    pub name: String,
    pub description: Option<String>,
}

/// A webhook, without what the writer adds, in clear.
#[derive(Clone, Debug, PartialEq)]
pub struct WebhookSpec {
    pub account: AccountUid,
    pub name: String,
    pub state: WebhookState,
    pub disabled_reason: Option<String>,
    pub source: Option<String>,
    pub event_types: Vec<String>,
    pub url: String,
    pub method: Method,
    pub content_type: String,
    pub headers: Vec<(String, String)>,
    /// None: those that it has.
    pub secrets: Option<Vec<Secret>>,
    pub retry: RetrySchedule,
    pub give_up_on: Vec<u16>,
    pub timeout: Duration,
    pub rate: Option<f64>,
    pub concurrency: u32,
    pub log_only_errors: bool,
}

/// Why a write is refused: nothing of it happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Somebody else changed it: read it again.
    #[error("`{key}` has revision {found}, not {expected}: it was changed meanwhile")]
    RevisionMismatch { key: Key, expected: u64, found: u64 },
    #[error("`{key}` does not exist")]
    Missing { key: Key },
    #[error("`{key}` exists already")]
    Exists { key: Key },
    #[error("the name `{name}` is taken by `{by}`")]
    NameTaken { name: String, by: Key },
    #[error("`{key}` refers to `{to}`, which does not exist")]
    BrokenReference { key: Key, to: String },
    #[error("`{key}` is still used by `{by}`: remove that first")]
    InUse { key: Key, by: Key },
    #[error(
        "the newest record of `{key}` can't be read, so that a change could lose something: upgrade, or delete it"
    )]
    Unreadable { key: Key },
    #[error("the secrets of `{key}` can't be opened")]
    Unopened {
        key: Key,
        #[source]
        source: OpenError,
    },
    #[error("the cluster was created with {what} {found}, which can't be changed to {asked}")]
    ClusterFixed { what: &'static str, found: String, asked: String },
    #[error("a webhook can't move to another account")]
    AccountFixed { key: Key },
    #[error("`{key}` needs a secret")]
    NoSecret { key: Key },
    #[error("`{key}` names hookstream's own topic `{topic}`: its records are no domain events; leave it out")]
    OwnTopic { key: Key, topic: String },
    #[error("`{key}` takes {bytes} bytes, more than a record may have ({max})")]
    TooLarge { key: Key, bytes: usize, max: usize },
}

impl Refused {
    /// Whether it is a matter of time: the same write could have been right earlier or can be later.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::RevisionMismatch { .. }
            | Self::Exists { .. }
            | Self::NameTaken { .. }
            | Self::InUse { .. } => true,
            Self::Missing { .. }
            | Self::BrokenReference { .. }
            | Self::Unreadable { .. }
            | Self::Unopened { .. }
            | Self::ClusterFixed { .. }
            | Self::AccountFixed { .. }
            | Self::NoSecret { .. }
            | Self::OwnTopic { .. }
            | Self::TooLarge { .. } => false,
        }
    }
}

/// One record to be written; no value: the resource is deleted.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedRecord {
    pub key: Key,
    pub record: Option<Record>,
    /// The resource's revision after it; 0 for a deletion.
    pub revision: u64,
}

/// Who asks, and when.
#[derive(Clone, Copy, Debug)]
pub struct Author<'a> {
    pub actor: &'a str,
    pub now: UnixMillis,
}

/// Largest value of a configuration record: Kafka's default `max.message.bytes` less key and headers.
const MAX_RECORD_BYTES: usize = 1024 * 1024 - 4096;

/// What was in the state before; put back in reverse order.
pub(crate) type Undo = Vec<(Key, Option<Record>)>;

/// Judges one write and applies it to the state.
///
/// The caller puts back what `undo` collects once it has judged its group: the state holds only what was read.
///
/// # Errors
/// [`Refused`], with the state as it was.
pub(crate) fn plan(
    state: &mut State,
    changes: &[Change],
    author: Author<'_>,
    fill: Fill<'_>,
    undo: &mut Undo,
) -> Result<Vec<PlannedRecord>, Refused> {
    let before = undo.len();
    let mut records = Vec::with_capacity(changes.len());
    for change in changes {
        let outcome = judge(state, change, author, fill).and_then(|planned| {
            let Some(planned) = planned else { return Ok(()) };
            let bytes = planned.record.as_ref().map_or(0, |record| record.encode().len());
            if bytes > MAX_RECORD_BYTES {
                return Err(Refused::TooLarge { key: planned.key, bytes, max: MAX_RECORD_BYTES });
            }
            undo.push((planned.key.clone(), state.put(&planned.key, planned.record.clone())));
            records.push(planned);
            Ok(())
        });
        if let Err(refused) = outcome {
            put_back(state, undo, before);
            return Err(refused);
        }
    }
    Ok(records)
}

/// Takes back all changes after the first `keep`.
pub(crate) fn put_back(state: &mut State, undo: &mut Undo, keep: usize) {
    while undo.len() > keep {
        let Some((key, old)) = undo.pop() else { break };
        drop(state.put(&key, old));
    }
}

/// The record that a change makes; none if there is nothing to change.
fn judge(
    state: &State,
    change: &Change,
    author: Author<'_>,
    fill: Fill<'_>,
) -> Result<Option<PlannedRecord>, Refused> {
    match change {
        Change::InitCluster { namespace, partitions, format } => {
            init_cluster(state, namespace, *partitions, *format, author)
        }
        Change::PutAccount { uid, name, expected } => put_account(state, *uid, name, *expected, author, fill),
        Change::DeleteAccount { uid, expected } => {
            let key = Key::Account(*uid);
            found(state, &key, state.account(*uid).map(|record| &record.account.meta), *expected)?;
            if let Some(by) = state.webhooks_of(*uid).next() {
                return Err(Refused::InUse { key, by: Key::Webhook(by.id) });
            }
            Ok(Some(deleted(key)))
        }
        Change::RewrapAccount { uid } => rewrap_account(state, *uid, author, fill),
        Change::PutSource { source, expected } => {
            let key = Key::Source(source.name.clone());
            let old = state.source(&source.name).map(|source| &source.meta);
            let meta = next_meta(state, &key, old, *expected, author)?;
            // A pattern may match some of them: the ingester passes over their records.
            if let Some(topic) = source.topics.iter().find(|topic| state.is_own_topic(topic)) {
                return Err(Refused::OwnTopic { key, topic: topic.clone() });
            }
            let SourceSpec { name, topics, format, strict } = source.clone();
            Ok(Some(written(Record::Source(Source { name, topics, format, strict, meta }))))
        }
        Change::DeleteSource { name, expected } => {
            let key = Key::Source(name.clone());
            found(state, &key, state.source(name).map(|source| &source.meta), *expected)?;
            if let Some(by) = state.webhooks().find(|webhook| webhook.source.as_deref() == Some(name)) {
                return Err(Refused::InUse { key, by: Key::Webhook(by.id) });
            }
            Ok(Some(deleted(key)))
        }
        Change::PutEventType { event_type, expected } => {
            let key = Key::EventType(event_type.name.clone());
            let old = state.event_type(&event_type.name).map(|event_type| &event_type.meta);
            let meta = next_meta(state, &key, old, *expected, author)?;
            let EventTypeSpec { name, description } = event_type.clone();
            Ok(Some(written(Record::EventType(EventType { name, description, meta }))))
        }
        Change::DeleteEventType { name, expected } => {
            let key = Key::EventType(name.clone());
            found(state, &key, state.event_type(name).map(|event_type| &event_type.meta), *expected)?;
            Ok(Some(deleted(key)))
        }
        Change::PutWebhook { id, webhook, expected } => {
            put_webhook(state, *id, webhook, *expected, author, fill).map(Some)
        }
        Change::DeleteWebhook { id, expected } => {
            let key = Key::Webhook(*id);
            found(state, &key, state.webhook(*id).map(|webhook| &webhook.meta), *expected)?;
            Ok(Some(deleted(key)))
        }
        Change::DisableWebhook { id, revision, url, reason } => {
            Ok(disable_webhook(state, *id, *revision, url, reason, author))
        }
    }
}

fn init_cluster(
    state: &State,
    namespace: &str,
    partitions: i32,
    format: u32,
    author: Author<'_>,
) -> Result<Option<PlannedRecord>, Refused> {
    readable(state, &Key::Cluster)?;
    let fixed = |what, found: String, asked: String| Err(Refused::ClusterFixed { what, found, asked });
    match state.cluster() {
        Some(found) if found.namespace != namespace => {
            fixed("namespace", found.namespace.clone(), namespace.to_owned())
        }
        Some(found) if found.partitions != partitions => {
            fixed("partition count", found.partitions.to_string(), partitions.to_string())
        }
        Some(found) if found.format != format => {
            fixed("format version", found.format.to_string(), format.to_string())
        }
        Some(_) => Ok(None),
        None => {
            let namespace = namespace.to_owned();
            let record = ClusterRecord { namespace, partitions, format, created_at: author.now };
            Ok(Some(written(Record::Cluster(record))))
        }
    }
}

fn put_account(
    state: &State,
    uid: AccountUid,
    name: &str,
    expected: Expected,
    author: Author<'_>,
    fill: Fill<'_>,
) -> Result<Option<PlannedRecord>, Refused> {
    let key = Key::Account(uid);
    let old = state.account(uid);
    let meta = next_meta(state, &key, old.map(|record| &record.account.meta), expected, author)?;
    if let Some(by) = state.account_by_name(name)
        && by.account.uid != uid
    {
        return Err(Refused::NameTaken { name: name.to_owned(), by: Key::Account(by.account.uid) });
    }
    let data_key = match old {
        Some(old) => old.data_key.clone(),
        None => state.keyring().new_data_key(uid, fill),
    };
    let account = Account { uid, name: name.to_owned(), meta };
    Ok(Some(written(Record::Account(AccountRecord { account, data_key }))))
}

fn rewrap_account(
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

fn put_webhook(
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
    if old.is_some_and(|old| old.account != spec.account) {
        return Err(Refused::AccountFixed { key });
    }
    if state.account(spec.account).is_none() {
        return Err(Refused::BrokenReference { key, to: Key::Account(spec.account).to_string() });
    }
    if let Some(source) = &spec.source
        && state.source(source).is_none()
    {
        return Err(Refused::BrokenReference { key, to: Key::Source(source.clone()).to_string() });
    }
    if let Some(by) = state.webhook_by_name(spec.account, &spec.name)
        && by.id != id
    {
        return Err(Refused::NameTaken { name: spec.name.clone(), by: Key::Webhook(by.id) });
    }
    let data_key = state.data_key(spec.account);
    let data_key = data_key.map_err(|source| Refused::Unopened { key: key.clone(), source })?;
    let account = spec.account;
    let secrets = match (&spec.secrets, old) {
        (Some(secrets), _) => {
            let place = Place { account, record: &key, field: SECRET_FIELD };
            secrets.iter().map(|secret| data_key.seal(&place, secret.expose(), fill)).collect()
        }
        (None, Some(old)) => old.secrets.clone(),
        (None, None) => Vec::new(),
    };
    if secrets.is_empty() {
        return Err(Refused::NoSecret { key });
    }
    let seal_header = |(name, value): &(String, String)| {
        let field = header_field(name);
        let place = Place { account, record: &key, field: &field };
        SealedHeader { name: name.clone(), value: data_key.seal(&place, value.as_bytes(), fill) }
    };
    let headers = spec.headers.iter().map(seal_header).collect();
    Ok(written(Record::Webhook(WebhookRecord {
        id,
        account: spec.account,
        name: spec.name.clone(),
        state: spec.state,
        disabled_reason: spec.disabled_reason.clone(),
        source: spec.source.clone(),
        event_types: spec.event_types.clone(),
        url: spec.url.clone(),
        method: spec.method,
        content_type: spec.content_type.clone(),
        headers,
        secrets,
        retry: spec.retry.clone(),
        give_up_on: spec.give_up_on.clone(),
        timeout_ms: u64::try_from(spec.timeout.as_millis()).unwrap_or(u64::MAX),
        rate: spec.rate,
        concurrency: spec.concurrency,
        log_only_errors: spec.log_only_errors,
        meta,
    })))
}

fn disable_webhook(
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
    Some(written(Record::Webhook(WebhookRecord {
        state: WebhookState::Disabled,
        disabled_reason: Some(reason.to_owned()),
        meta: meta_after(Some(&old.meta), author),
        ..old.clone()
    })))
}

/// Checks that a resource is what the change expects, and makes what it carries after it.
fn next_meta(
    state: &State,
    key: &Key,
    old: Option<&Meta>,
    expected: Expected,
    author: Author<'_>,
) -> Result<Meta, Refused> {
    readable(state, key)?;
    match (expected, old) {
        (Expected::Absent, None) => {}
        (Expected::Absent, Some(_)) => return Err(Refused::Exists { key: key.clone() }),
        (Expected::Present | Expected::Revision(_), _) => found(state, key, old, expected)?,
    }
    Ok(meta_after(old, author))
}

fn meta_after(old: Option<&Meta>, author: Author<'_>) -> Meta {
    Meta {
        revision: old.map_or(1, |old| old.revision.saturating_add(1)),
        created_at: old.map_or(author.now, |old| old.created_at),
        updated_at: author.now,
        actor: author.actor.to_owned(),
    }
}

/// Checks that a resource that is to be there is what the change expects.
fn found(state: &State, key: &Key, old: Option<&Meta>, expected: Expected) -> Result<(), Refused> {
    // What can't be read has no revision to compare, and deleting it is the way out.
    if state.is_unreadable(key) && expected == Expected::Present {
        return Ok(());
    }
    let old = old.ok_or_else(|| Refused::Missing { key: key.clone() })?;
    match expected {
        Expected::Revision(expected) if expected != old.revision => {
            Err(Refused::RevisionMismatch { key: key.clone(), expected, found: old.revision })
        }
        Expected::Absent => Err(Refused::Exists { key: key.clone() }),
        Expected::Revision(_) | Expected::Present => Ok(()),
    }
}

fn readable(state: &State, key: &Key) -> Result<(), Refused> {
    if state.is_unreadable(key) {
        return Err(Refused::Unreadable { key: key.clone() });
    }
    Ok(())
}

fn written(record: Record) -> PlannedRecord {
    let revision = match &record {
        Record::Cluster(_) => 1,
        Record::Account(record) => record.account.meta.revision,
        Record::Source(source) => source.meta.revision,
        Record::EventType(event_type) => event_type.meta.revision,
        Record::Webhook(webhook) => webhook.meta.revision,
    };
    PlannedRecord { key: record.key(), record: Some(record), revision }
}

fn deleted(key: Key) -> PlannedRecord {
    PlannedRecord { key, record: None, revision: 0 }
}
