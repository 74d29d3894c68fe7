//! Changes of replays.

use hookstream_core::replay::{Progress, Replay, ReplayState};
use hookstream_types::ReplayId;
use hookstream_wire::config::{Key, Record};

use super::plan::{deleted, found, meta_after, next_meta, written};
use super::resources::same_account;
use super::{Author, Expected, PlannedRecord, Refused, ReplaySpec};
use crate::state::State;

/// Replays of one account that may run at a time.
const MOST: usize = 100;

pub(super) fn start(
    state: &State,
    id: ReplayId,
    spec: &ReplaySpec,
    author: Author<'_>,
) -> Result<PlannedRecord, Refused> {
    let key = Key::Replay(id);
    let old = state.replay(id).map(|replay| &replay.meta);
    let meta = next_meta(state, &key, old, Expected::Absent, author)?;
    let ReplaySpec { account, webhook, selection, dry_run } = spec.clone();
    same_account(state, &key, account, None)?;
    if let Some(webhook) = webhook
        && state.webhook(webhook).is_none_or(|webhook| webhook.account != account)
    {
        return Err(Refused::BrokenReference { key, to: Key::Webhook(webhook) });
    }
    let running = state.replays().filter(|replay| {
        replay.account == account && replay.state == ReplayState::Running && !replay.dry_run
    });
    let running = running.count();
    if running >= MOST {
        return Err(Refused::TooManyReplays { found: running });
    }
    // So that it is greater even if clocks differ, and never 0.
    let last = state.replays().map(|replay| replay.run).max().unwrap_or(0);
    let run = author.now.0.max(last.saturating_add(1));
    let (state, progress) = (ReplayState::Running, Progress::default());
    let replay =
        Replay { id, run, account, webhook, selection, dry_run, state, reason: None, progress, meta };
    Ok(written(Record::Replay(replay)))
}

pub(super) fn set(
    state: &State,
    id: ReplayId,
    to: ReplayState,
    reason: Option<&str>,
    progress: &Progress,
    expected: Expected,
    author: Author<'_>,
) -> Result<PlannedRecord, Refused> {
    let key = Key::Replay(id);
    let old = state.replay(id);
    let meta = next_meta(state, &key, old.map(|old| &old.meta), expected, author)?;
    let old = old.ok_or_else(|| Refused::Missing { key: key.clone() })?;
    if old.state != ReplayState::Running {
        return Err(Refused::Ended { key });
    }
    let reason = reason.map(str::to_owned);
    let replay = Replay { state: to, reason, progress: progress.clone(), meta, ..Replay::clone(old) };
    Ok(written(Record::Replay(replay)))
}

pub(super) fn cancel(
    state: &State,
    id: ReplayId,
    author: Author<'_>,
) -> Result<Option<PlannedRecord>, Refused> {
    let key = Key::Replay(id);
    let old = state.replay(id).ok_or_else(|| Refused::Missing { key })?;
    // One that has made all its jobs can still be stopped: they may wait for days.
    if !matches!(old.state, ReplayState::Running | ReplayState::Done)
        || old.dry_run && old.state == ReplayState::Done
    {
        return Ok(None);
    }
    let meta = meta_after(Some(&old.meta), author);
    let replay = Replay { state: ReplayState::Cancelled, meta, ..Replay::clone(old) };
    Ok(Some(written(Record::Replay(replay))))
}

pub(super) fn delete(state: &State, id: ReplayId) -> Result<PlannedRecord, Refused> {
    let key = Key::Replay(id);
    found(state, &key, state.replay(id).map(|replay| &replay.meta), Expected::Present)?;
    Ok(deleted(key))
}
