//! Replays: deliveries that are made again, or for the first time, because somebody asks for it.
//!
//! Each has a *run*, a number that its jobs carry ([`Generation::run`](hookstream_types::Generation)): live traffic is
//! run 0, and a later replay has a greater one. [`Runs`] says which jobs that are still on their way have been overtaken by
//! that; [`Windows`] how many jobs a replay may have on their way at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use hookstream_types::{AccountUid, DeliveryId, Mono, Offset, Partition, ReplayId, UnixMillis, WebhookId};
use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};

use crate::config::Meta;
use crate::decision::{DeadReason, SkipReason, Verdict};
use crate::matching::pattern_matches;

/// Somebody's wish to have things delivered again, and how far it has been carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    pub id: ReplayId,
    /// Greater than that of every replay before.
    pub run: i64,
    /// Who asked for it.
    pub by: String,
    pub account: AccountUid,
    /// None: all webhooks of the account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookId>,
    pub selection: Selection,
    /// Only counts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    pub state: ReplayState,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default)]
    pub progress: Progress,
    #[serde(flatten)]
    pub meta: Meta,
}

/// What is delivered again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "snake_case")]
pub enum Selection {
    /// Events that were accepted within a time, also before the webhook was there.
    Events {
        from: UnixMillis,
        /// Exclusive.
        until: UnixMillis,
        /// Patterns; none: all that the webhook takes.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        event_types: Vec<String>,
    },
    /// Deliveries that were given up within a time.
    DeadLetters {
        from: UnixMillis,
        /// Exclusive.
        until: UnixMillis,
        /// None: whatever the reason.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<DeadReason>,
        /// Patterns; none: all types.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        event_types: Vec<String>,
    },
    /// These deliveries, now: what else is on its way for them is overtaken.
    Deliveries { deliveries: Vec<Picked> },
}

impl Selection {
    /// Whether events of this type are among it.
    #[must_use]
    pub fn takes(&self, event_type: &str) -> bool {
        match self {
            Self::Events { event_types, .. } | Self::DeadLetters { event_types, .. } => {
                event_types.is_empty()
                    || event_types.iter().any(|pattern| pattern_matches(pattern, event_type))
            }
            Self::Deliveries { .. } => true,
        }
    }
}

/// A delivery, and where its event stands in `hookstream.events`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Picked {
    pub delivery: DeliveryId,
    pub webhook: WebhookId,
    pub partition: Partition,
    pub offset: Offset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayState {
    Running,
    /// All that was selected is on its way, or was counted.
    Done,
    /// Somebody stopped it: what is on its way is not delivered.
    Cancelled,
    /// It can't go on.
    Failed,
}

impl ReplayState {
    pub const ALL: &'static [Self] = &[Self::Running, Self::Done, Self::Cancelled, Self::Failed];

    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }
}

/// How far a replay has got.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What is read of each partition; empty before it has begun.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub spans: BTreeMap<Partition, Span>,
    /// Records that were looked at.
    pub looked: u64,
    /// Deliveries that were selected.
    pub selected: u64,
    /// Jobs that were made of them.
    pub sent: u64,
}

/// From the first record that is not handled yet to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    pub first: Offset,
    pub next: Offset,
    /// Exclusive.
    pub end: Offset,
}

impl Progress {
    /// The part that is handled, from 0 to 1; none before it has begun.
    #[must_use]
    pub fn part(&self) -> Option<f64> {
        let sum = |of: fn(&Span) -> i64| self.spans.values().map(of).sum::<i64>();
        let all = sum(|span| span.end.0 - span.first.0);
        let done = sum(|span| span.next.0.min(span.end.0) - span.first.0);
        if self.spans.is_empty() {
            return None;
        }
        Some(if all <= 0 { 1.0 } else { done as f64 / all as f64 })
    }

    /// Whether there is nothing left to read.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.spans.values().all(|span| span.next >= span.end)
    }
}

/// What replays mean for jobs that are on their way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    cancelled: FxHashSet<i64>,
    /// The latest run of deliveries that were picked one by one.
    latest: FxHashMap<DeliveryId, i64>,
}

impl Runs {
    #[must_use]
    pub fn new<'a>(replays: impl Iterator<Item = &'a Replay>) -> Self {
        let mut runs = Self::default();
        for replay in replays.filter(|replay| !replay.dry_run) {
            match (replay.state, &replay.selection) {
                (ReplayState::Cancelled, _) => drop(runs.cancelled.insert(replay.run)),
                // Only once its jobs are there: what waits must not be given up for one that can't be made.
                (ReplayState::Done, Selection::Deliveries { deliveries }) => {
                    for picked in deliveries {
                        let latest = runs.latest.entry(picked.delivery).or_default();
                        *latest = replay.run.max(*latest);
                    }
                }
                _ => {}
            }
        }
        runs
    }

    /// Why a delivery's job of this run is not to be sent any more, if so.
    #[must_use]
    pub fn overtaken(&self, delivery: DeliveryId, run: i64) -> Option<SkipReason> {
        if self.cancelled.contains(&run) {
            return Some(SkipReason::Cancelled);
        }
        let is_older = self.latest.get(&delivery).is_some_and(|latest| run < *latest);
        is_older.then_some(SkipReason::Superseded)
    }
}

/// Jobs that a replay may have on their way to a webhook at first, and at least.
const LEAST: usize = 16;
/// And at most: a lane of a quick endpoint takes them without making live events wait long.
const MOST: usize = 256;

/// A job of which nothing was heard for so long is none that will be heard of: the sender has recognised it as a duplicate.
const LOST_AFTER: Duration = Duration::from_secs(600);

/// How many jobs a replay may have on their way to each webhook: more while its lane takes them, few once one is put off.
///
/// A job that is put off stays on its way, so a replay waits for an endpoint that is down or slow; one that was tried in vain
/// does not: its retries are the ladder's.
#[derive(Clone, Debug, Default)]
pub struct Windows {
    windows: FxHashMap<WebhookId, Window>,
    /// Jobs on their way.
    open: FxHashMap<DeliveryId, Open>,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    limit: usize,
    open: usize,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    webhook: WebhookId,
    /// None: it was put off, and will be heard of.
    since: Option<Mono>,
}

impl Windows {
    /// Takes room for a job, if there is any.
    pub fn take(&mut self, webhook: WebhookId, delivery: DeliveryId, now: Mono) -> bool {
        if !self.has_room(webhook) {
            self.forget_lost(now);
        }
        if !self.has_room(webhook) {
            return false;
        }
        // Twice the same takes one place.
        if self.open.insert(delivery, Open { webhook, since: Some(now) }).is_none() {
            self.windows.entry(webhook).or_insert(Window { limit: LEAST, open: 0 }).open += 1;
        }
        true
    }

    fn has_room(&self, webhook: WebhookId) -> bool {
        self.windows.get(&webhook).is_none_or(|window| window.open < window.limit)
    }

    fn forget_lost(&mut self, now: Mono) {
        let windows = &mut self.windows;
        self.open.retain(|_, open| {
            let is_lost = open.since.is_some_and(|since| now.since(since) >= LOST_AFTER);
            if is_lost && let Some(window) = windows.get_mut(&open.webhook) {
                window.open -= 1;
            }
            !is_lost
        });
    }

    /// Something was decided about a job of the replay. Returns whether it was on its way.
    pub fn decided(&mut self, delivery: DeliveryId, verdict: &Verdict) -> bool {
        let Some(open) = self.open.get_mut(&delivery) else { return false };
        let Some(window) = self.windows.get_mut(&open.webhook) else { return false };
        match verdict {
            Verdict::Deferred { .. } => {
                open.since = None;
                window.limit = (window.limit / 2).max(LEAST);
            }
            Verdict::Delivered | Verdict::Retry { .. } | Verdict::Dead { .. } | Verdict::Skipped { .. } => {
                self.open.remove(&delivery);
                window.open -= 1;
                window.limit = (window.limit + 1).min(MOST);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::decision::DeferReason;

    fn delivery(n: u128) -> DeliveryId {
        DeliveryId(Uuid::from_u128(n))
    }

    fn replay(run: i64, state: ReplayState, of: &[u128]) -> Replay {
        let picked = |n: &u128| Picked {
            delivery: delivery(*n),
            webhook: WebhookId(Uuid::nil()),
            partition: Partition(0),
            offset: Offset(0),
        };
        Replay {
            id: ReplayId(Uuid::from_u128(run.unsigned_abs().into())),
            run,
            by: String::new(),
            account: AccountUid(Uuid::nil()),
            webhook: None,
            selection: Selection::Deliveries { deliveries: of.iter().map(picked).collect() },
            dry_run: false,
            state,
            reason: None,
            progress: Progress::default(),
            meta: Meta::default(),
        }
    }

    #[test]
    fn what_is_overtaken() {
        use ReplayState::{Cancelled, Done, Failed, Running};
        let replays = [
            replay(10, Done, &[1, 2]),
            replay(20, Done, &[2]),
            replay(30, Cancelled, &[1]),
            // Their jobs may not be there.
            replay(40, Running, &[1, 2, 3]),
            replay(50, Failed, &[1, 2, 3]),
        ];
        let runs = Runs::new(replays.iter());
        for (of, run, expected) in [
            (1, 0, Some(SkipReason::Superseded)),
            (1, 10, None),
            (2, 10, Some(SkipReason::Superseded)),
            (2, 20, None),
            (3, 0, None),
            (1, 30, Some(SkipReason::Cancelled)),
            (3, 30, Some(SkipReason::Cancelled)),
        ] {
            assert_eq!(runs.overtaken(delivery(of), run), expected, "{of} of run {run}");
        }
        let dry = Replay { dry_run: true, ..replay(10, Done, &[1]) };
        assert_eq!(Runs::new([dry].iter()), Runs::default());
    }

    const SHOP: WebhookId = WebhookId(Uuid::from_u128(1));
    const OTHER: WebhookId = WebhookId(Uuid::from_u128(2));

    /// Takes all the room that there is; says how much that was.
    fn fill(windows: &mut Windows, first: u128, now: Mono) -> usize {
        (0..).take_while(|n| windows.take(SHOP, delivery(first + n), now)).count()
    }

    #[test]
    fn a_window_opens_while_jobs_are_taken_and_closes_when_one_is_put_off() {
        let put_off = Verdict::Deferred { due: UnixMillis(0), reason: DeferReason::LaneFull };
        let mut windows = Windows::default();
        assert_eq!(fill(&mut windows, 0, Mono(0)), LEAST);
        assert!(windows.take(OTHER, delivery(5_000), Mono(0)), "each webhook has a window");
        for n in 0..LEAST as u128 {
            assert!(windows.decided(delivery(n), &Verdict::Delivered));
        }
        for n in 1_000..2_000 {
            assert!(windows.take(SHOP, delivery(n), Mono(0)));
            assert!(windows.decided(delivery(n), &Verdict::Delivered));
        }
        assert_eq!(fill(&mut windows, 2_000, Mono(0)), MOST);
        for _ in 0..10 {
            assert!(windows.decided(delivery(2_000), &put_off));
        }
        for n in 2_000..2_000 + (MOST - LEAST) as u128 {
            assert!(!windows.take(SHOP, delivery(9_000), Mono(0)), "what is put off is on its way");
            windows.decided(delivery(n), &put_off);
            assert!(windows.decided(delivery(n), &Verdict::Retry { due: UnixMillis(0) }));
            // An answer that comes twice says nothing.
            assert!(!windows.decided(delivery(n), &put_off));
            windows.decided(delivery(2_000 + (MOST - 1) as u128), &put_off);
        }
    }

    #[test]
    fn what_is_never_heard_of_takes_no_room_for_ever() {
        let after = |seconds: u64| Mono(seconds * 1_000_000);
        let put_off = Verdict::Deferred { due: UnixMillis(0), reason: DeferReason::Paused };
        let mut windows = Windows::default();
        assert_eq!(fill(&mut windows, 0, after(0)), LEAST);
        for n in 0..6 {
            windows.decided(delivery(n), &put_off);
        }
        assert!(!windows.take(SHOP, delivery(100), after(599)));
        // Those that were put off will be heard of.
        assert_eq!(fill(&mut windows, 100, after(600)), LEAST - 6);
        assert!(windows.take(OTHER, delivery(300), after(600)));
        assert!(windows.take(OTHER, delivery(300), after(600)));
        assert_eq!(windows.windows[&OTHER].open, 1, "twice the same takes one place");
    }

    #[test]
    fn how_far_it_is() {
        let span = |first, next, end| Span { first: Offset(first), next: Offset(next), end: Offset(end) };
        let progress = |spans: &[Span]| Progress {
            spans: (0..).map(Partition).zip(spans.iter().copied()).collect(),
            ..Progress::default()
        };
        assert_eq!(Progress::default().part(), None);
        assert_eq!(progress(&[span(5, 5, 5)]).part(), Some(1.0));
        assert_eq!(progress(&[span(0, 5, 10), span(0, 12, 10)]).part(), Some(0.75));
        assert!(!progress(&[span(0, 5, 10), span(0, 12, 10)]).is_read());
        assert!(progress(&[span(0, 12, 10)]).is_read());
    }
}
