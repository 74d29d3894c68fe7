//! Executions, and what each decision makes of them. Pure.

use std::fmt;
use std::str::FromStr;

use hookstream_core::decision::SkipReason;
use hookstream_core::exchange::FailureKind;
use hookstream_types::{AccountUid, DeliveryId, EventId, Offset, Partition, UnixMillis, WebhookId};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::entries::{Change, Made};
use crate::error::HistoryError;

/// How an execution stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Attempted in vain, and to be tried again.
    Waiting,
    Delivered,
    Dead,
    Skipped,
}

impl Outcome {
    pub const ALL: &'static [Self] = &[Self::Waiting, Self::Delivered, Self::Dead, Self::Skipped];

    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
            Self::Skipped => "skipped",
        }
    }

    /// The number in rows: it never changes.
    pub(crate) fn code(self) -> i64 {
        match self {
            Self::Waiting => 0,
            Self::Delivered => 1,
            Self::Dead => 2,
            Self::Skipped => 3,
        }
    }
}

/// The number of a failure in rows: it never changes.
pub(crate) fn failure_code(kind: FailureKind) -> i64 {
    match kind {
        FailureKind::Dns => 0,
        FailureKind::Connect => 1,
        FailureKind::Tls => 2,
        FailureKind::Timeout => 3,
        FailureKind::Protocol => 4,
        FailureKind::Forbidden => 5,
        FailureKind::Unsendable => 6,
        FailureKind::Token => 7,
    }
}

/// The coordinates of an execution's first record: its place among all, newest first, and a page's cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The record's timestamp.
    pub at: UnixMillis,
    pub partition: Partition,
    pub offset: Offset,
    /// Which decision of the record.
    pub index: u32,
}

impl Key {
    /// After all.
    pub(crate) const MAX: Self =
        Self { at: UnixMillis(i64::MAX), partition: Partition(i32::MAX), offset: Offset(i64::MAX), index: 0 };

    /// Before all of that time.
    pub(crate) fn start_of(at: UnixMillis) -> Self {
        Self { at, partition: Partition(-1), offset: Offset(-1), index: 0 }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}.{}", self.at.0, self.partition, self.offset, self.index)
    }
}

impl FromStr for Key {
    type Err = HistoryError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || HistoryError::Cursor { text: text.chars().take(100).collect() };
        let mut parts = text.split('.');
        let mut next = || parts.next().and_then(|part| part.parse::<i64>().ok()).ok_or_else(bad);
        let key = Self {
            at: UnixMillis(next()?),
            partition: Partition(next()?.try_into().map_err(|_| bad())?),
            offset: Offset(next()?),
            index: next()?.try_into().map_err(|_| bad())?,
        };
        if parts.next().is_some() {
            return Err(bad());
        }
        Ok(key)
    }
}

/// One delivery, as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execution {
    /// Where it begins.
    pub key: Key,
    pub delivery: DeliveryId,
    pub webhook: WebhookId,
    pub account: AccountUid,
    pub event: EventId,
    pub event_type: String,
    pub outcome: Outcome,
    /// Why it is dead or skipped.
    pub reason: Option<String>,
    /// When it is tried again.
    pub due: Option<UnixMillis>,
    /// Requests made so far.
    pub attempts: u32,
    /// The last answer's status.
    pub status: Option<u16>,
    /// Why the last request got no answer.
    pub failure: Option<FailureKind>,
    /// The webhook's revision that made the last request.
    pub revision: u64,
    /// When the last thing was decided.
    pub last_at: UnixMillis,
    /// Where that stands.
    pub(crate) last: (Offset, u32),
}

/// A row of `attempts`.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    pub(crate) change: Change,
    /// The execution's row before.
    pub(crate) previous: Option<(Offset, u32)>,
}

/// Takes changes of one partition in: `known` holds what the index knows about their deliveries. Returns the new rows.
///
/// A success that is not listed makes no execution; of one that is listed already, it is the end.
pub(crate) fn fold(
    known: &mut FxHashMap<DeliveryId, Execution>,
    partition: Partition,
    changes: Vec<Change>,
) -> Vec<Turn> {
    let mut turns = Vec::with_capacity(changes.len());
    for change in changes {
        let previous = match known.get_mut(&change.delivery) {
            Some(execution) => {
                let previous = execution.last;
                execution.go_on(&change);
                Some(previous)
            }
            None => {
                if change.exchange.as_ref().is_some_and(|made| made.unlisted) {
                    continue;
                }
                let Some(execution) = Execution::first(partition, &change) else { continue };
                known.insert(change.delivery, execution);
                None
            }
        };
        turns.push(Turn { change, previous });
    }
    turns
}

impl Execution {
    /// The execution that begins with `change`; none if that does not say whose it is.
    fn first(partition: Partition, change: &Change) -> Option<Self> {
        let about = change.about.as_ref()?;
        let mut execution = Self {
            key: Key { at: change.at, partition, offset: change.offset, index: change.index },
            delivery: change.delivery,
            webhook: about.webhook,
            account: about.account,
            event: about.event,
            event_type: about.event_type.to_string(),
            outcome: change.outcome,
            reason: None,
            due: None,
            // What came before it is not in the log any more.
            attempts: change.exchange.as_ref().map_or(0, |made| made.number.saturating_sub(1)),
            status: None,
            failure: None,
            revision: 0,
            last_at: change.at,
            last: (change.offset, change.index),
        };
        execution.take(change);
        Some(execution)
    }

    /// Takes a later change in. A job that a replay has overtaken says nothing of the delivery, and what was delivered stays
    /// so if its repetition is not sent.
    fn go_on(&mut self, change: &Change) {
        let is_superseded = change.reason == Some(SkipReason::Superseded.label());
        let is_repetition = change.generation.run != 0
            && change.outcome == Outcome::Skipped
            && self.outcome == Outcome::Delivered;
        if is_superseded || is_repetition {
            self.last = (change.offset, change.index);
        } else {
            self.take(change);
        }
    }

    fn take(&mut self, change: &Change) {
        self.outcome = change.outcome;
        self.reason = change.reason.map(str::to_owned);
        self.due = change.due;
        self.last_at = change.at;
        self.last = (change.offset, change.index);
        if let Some(Made { status, failure, revision, .. }) = change.exchange {
            self.attempts = self.attempts.saturating_add(1);
            self.status = status;
            self.failure = failure;
            self.revision = revision;
        }
    }
}

/// A short number for an event type, for indexes: equal types have equal ones (FNV-1a, 32 bits).
pub(crate) fn type_code(event_type: &str) -> i64 {
    let hash = event_type
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    i64::from(hash)
}

#[cfg(test)]
mod tests {
    use hookstream_core::decision::About;
    use hookstream_types::Generation;
    use uuid::Uuid;

    use super::*;

    fn change(offset: i64, run: i64, outcome: Outcome, reason: Option<&'static str>) -> Change {
        Change {
            offset: Offset(offset),
            index: 0,
            at: UnixMillis(offset),
            delivery: DeliveryId(Uuid::nil()),
            generation: Generation { run, n: 0 },
            outcome,
            reason,
            due: None,
            about: Some(About {
                webhook: WebhookId(Uuid::nil()),
                account: AccountUid(Uuid::nil()),
                event: EventId(Uuid::nil()),
                event_type: "a.b".into(),
            }),
            exchange: None,
        }
    }

    #[test]
    fn what_a_replay_overtook_says_nothing_of_the_delivery() {
        use Outcome::{Dead, Delivered, Skipped, Waiting};
        let superseded = Some("superseded");
        for (changes, expected) in [
            (vec![(0, Waiting, None), (9, Delivered, None), (0, Skipped, superseded)], Delivered),
            (vec![(0, Dead, Some("exhausted")), (9, Delivered, None)], Delivered),
            (vec![(0, Delivered, None), (9, Skipped, Some("cancelled"))], Delivered),
            (vec![(0, Delivered, None), (9, Dead, Some("exhausted"))], Dead),
            (vec![(0, Dead, Some("exhausted")), (9, Skipped, Some("cancelled"))], Skipped),
            (vec![(0, Skipped, superseded)], Skipped),
        ] {
            let mut known = FxHashMap::default();
            let list = (0..)
                .zip(&changes)
                .map(|(offset, (run, outcome, reason))| change(offset, *run, *outcome, *reason));
            let turns = fold(&mut known, Partition(0), list.collect());
            let execution = &known[&DeliveryId(Uuid::nil())];
            assert_eq!(execution.outcome, expected, "{changes:?}");
            // All of them are in its history, one after the other.
            assert_eq!(turns.len(), changes.len());
            let last = i64::try_from(changes.len()).unwrap() - 1;
            assert_eq!(execution.last, (Offset(last), 0));
        }
    }
}
