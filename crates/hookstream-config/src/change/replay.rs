//! Changes of replays.

use std::sync::Arc;

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
    let is_running =
        |replay: &&Arc<Replay>| replay.account == account && replay.state == ReplayState::Running;
    let running = state.replays().filter(is_running).count();
    if running >= MOST {
        return Err(Refused::TooManyReplays { found: running });
    }
    // So that it is greater even if clocks differ, and never 0.
    let last = state.replays().map(|replay| replay.run).max().unwrap_or(0);
    let run = author.now.0.max(last.saturating_add(1));
    let (by, state, progress) = (author.actor.to_owned(), ReplayState::Running, Progress::default());
    let replay =
        Replay { id, run, by, account, webhook, selection, dry_run, state, reason: None, progress, meta };
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
    let old = state.replay(id).ok_or(Refused::Missing { key })?;
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use hookstream_core::replay::{Selection, Span};
    use hookstream_types::{AccountUid, DeliveryId, Offset, Partition, UnixMillis};
    use uuid::Uuid;

    use super::*;
    use crate::change::plan::{Undo, plan};
    use crate::change::{Change, Expected};
    use crate::testing::{self, account, counter, webhook, webhook_id};

    const ACME: AccountUid = AccountUid(Uuid::from_u128(1));

    fn spec(webhook: Option<u128>) -> Box<ReplaySpec> {
        let selection =
            Selection::Events { from: UnixMillis(0), until: UnixMillis(9), event_types: Vec::new() };
        Box::new(ReplaySpec { account: ACME, webhook: webhook.map(webhook_id), selection, dry_run: false })
    }

    fn id(n: u128) -> ReplayId {
        ReplayId(Uuid::from_u128(n))
    }

    fn write(state: &mut State, now: i64, change: Change) -> Result<(), Refused> {
        let author = Author { actor: "ann", now: UnixMillis(now), request: None };
        plan(state, &[change], author, &mut counter(), &mut Undo::new()).map(drop)
    }

    fn begun() -> State {
        let mut state = testing::state();
        write(
            &mut state,
            1,
            Change::PutAccount { uid: ACME, account: account("acme"), expected: Expected::Absent },
        )
        .unwrap();
        let put = Change::PutWebhook {
            id: webhook_id(7),
            webhook: Box::new(webhook(ACME)),
            expected: Expected::Absent,
        };
        write(&mut state, 1, put).unwrap();
        state
    }

    #[test]
    fn runs_grow_whatever_the_clocks_say() {
        let mut state = begun();
        for (n, now) in [(1, 1_000), (2, 1_000), (3, 500), (4, 2_000)] {
            write(&mut state, now, Change::StartReplay { id: id(n), replay: spec(Some(7)) }).unwrap();
        }
        let runs: Vec<_> = state.replays().map(|replay| replay.run).collect();
        assert_eq!(runs, [1_000, 1_001, 1_002, 2_000]);
        let missing = write(&mut state, 1, Change::StartReplay { id: id(5), replay: spec(Some(8)) });
        assert!(matches!(missing, Err(Refused::BrokenReference { .. })), "{missing:?}");
    }

    #[test]
    fn an_account_has_not_too_many() {
        let mut state = begun();
        for n in 0..MOST as u128 {
            write(&mut state, 1, Change::StartReplay { id: id(n), replay: spec(None) }).unwrap();
        }
        let one_more = || Change::StartReplay { id: id(1_000), replay: spec(None) };
        assert_eq!(write(&mut state, 1, one_more()), Err(Refused::TooManyReplays { found: MOST }));
        write(&mut state, 1, Change::CancelReplay { id: id(3) }).unwrap();
        write(&mut state, 1, one_more()).unwrap();
    }

    #[test]
    fn what_has_ended_goes_on_no_more_and_what_is_done_can_be_cancelled() {
        let mut state = begun();
        write(&mut state, 1, Change::StartReplay { id: id(1), replay: spec(None) }).unwrap();
        let run = state.replay(id(1)).unwrap().run;
        let spans =
            BTreeMap::from([(Partition(3), Span { first: Offset(0), next: Offset(1), end: Offset(2) })]);
        let progress = Progress { spans, looked: 1, ..Progress::default() };
        let set = |to, revision| Change::SetReplay {
            id: id(1),
            state: to,
            reason: None,
            progress: progress.clone(),
            expected: Expected::Revision(revision),
        };
        write(&mut state, 2, set(ReplayState::Running, 1)).unwrap();
        let outdated = write(&mut state, 3, set(ReplayState::Running, 1));
        assert!(matches!(outdated, Err(Refused::RevisionMismatch { found: 2, .. })), "{outdated:?}");
        write(&mut state, 4, set(ReplayState::Done, 2)).unwrap();
        assert!(matches!(write(&mut state, 5, set(ReplayState::Running, 3)), Err(Refused::Ended { .. })));
        let delivery = DeliveryId(Uuid::nil());
        assert_eq!(state.view().runs.overtaken(delivery, run), None);
        write(&mut state, 6, Change::CancelReplay { id: id(1) }).unwrap();
        assert!(state.view().runs.overtaken(delivery, run).is_some(), "its jobs may wait for days");
        write(&mut state, 7, Change::DeleteReplay { id: id(1) }).unwrap();
        assert_eq!(state.view().runs.overtaken(delivery, run), None);
    }
}
