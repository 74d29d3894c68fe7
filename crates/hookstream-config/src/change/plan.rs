//! Judging writes: each change against the state and the changes before it.

use hookstream_core::config::Meta;
use hookstream_types::UnixMillis;
use hookstream_types::limits::MAX_RECORD_BYTES;
use hookstream_wire::config::{ClusterRecord, Key, Record};

use super::{Change, Expected, Refused, replay, resources, webhook};
use crate::envelope::Fill;
use crate::state::State;

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
    /// Digest of a request with an `Idempotency-Key`.
    pub request: Option<&'a str>,
}

/// Largest value of a configuration record: what its topic takes, less key and headers.
const MAX_VALUE_BYTES: usize = MAX_RECORD_BYTES - 4096;

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
            if bytes > MAX_VALUE_BYTES {
                return Err(Refused::TooLarge { key: planned.key, bytes, max: MAX_VALUE_BYTES });
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
        Change::PutAccount { uid, account, expected } => {
            resources::put_account(state, *uid, account, *expected, author, fill).map(Some)
        }
        Change::DeleteAccount { uid, expected } => {
            resources::delete_account(state, *uid, *expected).map(Some)
        }
        Change::RewrapAccount { uid } => resources::rewrap_account(state, *uid, author, fill),
        Change::PutSource { source, expected } => {
            let key = Key::Source(source.name.clone());
            let old = state.source(&source.name).map(|source| &source.meta);
            let meta = next_meta(state, &key, old, *expected, author)?;
            // A pattern may match some of them: the ingester passes over their records.
            if let Some(topic) =
                source.topics.iter().chain(&source.reply_topics).find(|topic| state.is_own_topic(topic))
            {
                return Err(Refused::OwnTopic { key, topic: topic.clone() });
            }
            Ok(Some(written(Record::Source(source.clone().record(meta)))))
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
            Ok(Some(written(Record::EventType(event_type.clone().record(meta)))))
        }
        Change::DeleteEventType { name, expected } => {
            let key = Key::EventType(name.clone());
            found(state, &key, state.event_type(name).map(|event_type| &event_type.meta), *expected)?;
            Ok(Some(deleted(key)))
        }
        Change::PutApp { id, app, expected } => {
            resources::put_app(state, *id, app, *expected, author).map(Some)
        }
        Change::DeleteApp { id, expected } => resources::delete_app(state, *id, *expected).map(Some),
        Change::PutAuthorization { id, authorization, expected } => {
            resources::put_authorization(state, *id, authorization, *expected, author, fill).map(Some)
        }
        Change::DeleteAuthorization { id, expected } => {
            resources::delete_authorization(state, *id, *expected).map(Some)
        }
        Change::PutClient { id, client, expected } => {
            resources::put_client(state, *id, client, *expected, author).map(Some)
        }
        Change::DeleteClient { id, expected } => {
            let key = Key::Client(*id);
            found(state, &key, state.client(*id).map(|client| &client.meta), *expected)?;
            Ok(Some(deleted(key)))
        }
        Change::PutWebhook { id, webhook, expected } => {
            webhook::put(state, *id, webhook, *expected, author, fill).map(Some)
        }
        Change::DeleteWebhook { id, expected } => {
            let key = Key::Webhook(*id);
            found(state, &key, state.webhook(*id).map(|webhook| &webhook.meta), *expected)?;
            Ok(Some(deleted(key)))
        }
        Change::SetWebhookState { id, state: to, agreed, expected } => {
            webhook::set_state(state, *id, *to, *agreed, *expected, author)
        }
        Change::RotateSecret { id, secret, until, expected } => {
            webhook::rotate_secret(state, *id, secret, *until, *expected, author, fill).map(Some)
        }
        Change::DisableWebhook { id, revision, url, reason } => {
            Ok(webhook::disable(state, *id, *revision, url, reason, author))
        }
        Change::StartReplay { id, replay } => replay::start(state, *id, replay, author).map(Some),
        Change::SetReplay { id, state: to, reason, progress, expected } => {
            replay::set(state, *id, *to, reason.as_deref(), progress, *expected, author).map(Some)
        }
        Change::CancelReplay { id } => replay::cancel(state, *id, author),
        Change::DeleteReplay { id } => replay::delete(state, *id).map(Some),
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

/// Checks that a resource is what the change expects, and makes what it carries after it.
pub(super) fn next_meta(
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

pub(super) fn meta_after(old: Option<&Meta>, author: Author<'_>) -> Meta {
    Meta {
        revision: old.map_or(1, |old| old.revision.saturating_add(1)),
        created_at: old.map_or(author.now, |old| old.created_at),
        updated_at: author.now,
        actor: author.actor.to_owned(),
        // The request that created it, whatever changes it later.
        request: old.map_or_else(|| author.request.map(str::to_owned), |old| old.request.clone()),
    }
}

/// Checks that a resource that is to be there is what the change expects.
pub(super) fn found(state: &State, key: &Key, old: Option<&Meta>, expected: Expected) -> Result<(), Refused> {
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

pub(super) fn readable(state: &State, key: &Key) -> Result<(), Refused> {
    if state.is_unreadable(key) {
        return Err(Refused::Unreadable { key: key.clone() });
    }
    Ok(())
}

pub(super) fn written(record: Record) -> PlannedRecord {
    let revision = record.meta().map_or(1, |meta| meta.revision);
    PlannedRecord { key: record.key(), record: Some(record), revision }
}

pub(super) fn deleted(key: Key) -> PlannedRecord {
    PlannedRecord { key, record: None, revision: 0 }
}
