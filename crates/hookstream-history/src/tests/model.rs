//! The index against a naive one in memory.

use std::collections::BTreeMap;
use std::time::Duration;

use hookstream_core::decision::Verdict;
use hookstream_core::ledger::Entry;
use proptest::prelude::*;

use super::*;
use crate::{Outcome, ScanLimits, StatusFilter};

/// What an index of these logs holds, said in another way: for each delivery all its decisions that count.
fn model(logs: &[(i32, Vec<Record>)]) -> BTreeMap<DeliveryId, (Execution, usize)> {
    let mut all: BTreeMap<DeliveryId, (Execution, usize)> = BTreeMap::new();
    for (partition, records) in logs {
        let mut current = None;
        for record in records {
            let Ok(entry) = attempt::decode(&record.value) else { continue };
            let made = attempt::decode_attempt(&record.value).unwrap();
            let (by, decisions) = match entry {
                Entry::Owner(owner) => {
                    current = Some(owner);
                    continue;
                }
                Entry::Decisions { owner, decisions } => (owner, decisions),
            };
            if current.is_some_and(|current| current != by) {
                continue;
            }
            for (index, decision) in decisions.into_iter().enumerate() {
                let made = made.as_ref().filter(|_| index == 0);
                let (outcome, reason) = match decision.verdict {
                    Verdict::Deferred { .. } => continue,
                    Verdict::Delivered => (Outcome::Delivered, None),
                    Verdict::Retry { .. } => (Outcome::Waiting, None),
                    Verdict::Dead { reason } => (Outcome::Dead, Some(reason.label())),
                    Verdict::Skipped { reason } => (Outcome::Skipped, Some(reason.label())),
                };
                let about = match (made, decision.about) {
                    (Some(made), _) => {
                        Some((made.webhook, made.account, made.event, made.event_type.to_string()))
                    }
                    (None, Some(about)) => {
                        Some((about.webhook, about.account, about.event, about.event_type.to_string()))
                    }
                    (None, None) => None,
                };
                let known = all.contains_key(&decision.delivery);
                if !known && (about.is_none() || made.is_some_and(|made| made.unlisted)) {
                    continue;
                }
                let index = u32::try_from(index).unwrap();
                let (execution, rows) = all.entry(decision.delivery).or_insert_with(|| {
                    let (webhook, account, event, event_type) = about.unwrap();
                    let key =
                        Key { at: record.at, partition: Partition(*partition), offset: record.offset, index };
                    let execution = Execution {
                        key,
                        delivery: decision.delivery,
                        webhook,
                        account,
                        event,
                        event_type: event_type.replace('\0', "\u{fffd}"),
                        outcome,
                        reason: None,
                        due: None,
                        attempts: made.map_or(0, |made| made.number - 1),
                        status: None,
                        failure: None,
                        revision: 0,
                        last_at: record.at,
                        last: (record.offset, index),
                    };
                    (execution, 0)
                });
                *rows += 1;
                execution.outcome = outcome;
                execution.reason = reason.map(str::to_owned);
                execution.due = decision.verdict.due();
                execution.last_at = record.at;
                execution.last = (record.offset, index);
                if let Some(made) = made {
                    execution.attempts += 1;
                    execution.status = made.response.as_ref().map(|response| response.status);
                    execution.failure = made.failure.as_ref().map(|failure| failure.kind);
                    execution.revision = made.revision;
                }
            }
        }
    }
    all
}

fn filter(chance: &mut Chance) -> (Option<AccountUid>, Filter) {
    let scope = (chance.below(3) == 0).then(|| account(chance.below(3)));
    let some = |chance: &mut Chance| chance.below(4) == 0;
    let partition = chance.below(2);
    let filter = Filter {
        account: some(chance).then(|| account(chance.below(3))),
        webhook: some(chance).then(|| WebhookId(id(2, chance.below(4) + 10 * partition))),
        event: (chance.below(6) == 0).then(|| EventId(id(3, chance.below(12) + 100 * partition))),
        event_type: some(chance).then(|| {
            ["order.paid", "user.created\0", "none"][usize::try_from(chance.below(3)).unwrap()].to_owned()
        }),
        outcome: some(chance).then(|| Outcome::ALL[usize::try_from(chance.below(4)).unwrap()]),
        status: some(chance).then(|| {
            if chance.below(2) == 0 {
                StatusFilter::Class(u8::try_from(chance.below(4) + 2).unwrap())
            } else {
                StatusFilter::Exactly([200, 404, 503][usize::try_from(chance.below(3)).unwrap()])
            }
        }),
        failure: some(chance).then(|| FailureKind::ALL[usize::try_from(chance.below(5)).unwrap()]),
        since: some(chance).then(|| UnixMillis(1_000 + chance.below(100).cast_signed())),
        until: some(chance).then(|| UnixMillis(1_000 + chance.below(100).cast_signed())),
    };
    (scope, filter)
}

async fn check(backend: Backend, seed: u64) {
    let mut chance = Chance(seed);
    let entries = usize::try_from(chance.below(40) + 1).unwrap();
    let limits = ScanLimits { entries, time: Duration::from_secs(60) };
    let history = History::open(&backend).await.unwrap().with_limits(limits);
    let logs: Vec<(i32, Vec<Record>)> =
        (0..2).map(|partition| (partition, log(seed, partition, 80))).collect();
    for (partition, records) in &logs {
        feed(&history, *partition, records, &mut chance).await;
    }
    let model = model(&logs);
    for _ in 0..30 {
        let (scope, filter) = filter(&mut chance);
        let asked = Filter {
            event_type: filter.event_type.as_ref().map(|text| text.replace('\0', "\u{fffd}")),
            ..filter.clone()
        };
        let mut expected: Vec<&Execution> = model
            .values()
            .map(|(execution, _)| execution)
            .filter(|execution| {
                scope.is_none_or(|scope| scope == execution.account) && asked.matches(execution)
            })
            .collect();
        expected.sort_unstable_by_key(|execution| std::cmp::Reverse(execution.key));
        let limit = usize::try_from(chance.below(6) + 1).unwrap();
        let found = list(&history, scope, &filter, limit).await;
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{scope:?} {filter:?}");
    }
    for (delivery, (execution, rows)) in &model {
        let (found, attempts) = history.execution(None, *delivery).await.unwrap().unwrap();
        assert_eq!((&found, attempts.len()), (execution, *rows));
        let last = attempts.last().unwrap();
        assert_eq!((last.offset, last.index, last.outcome), (found.last.0, found.last.1, found.outcome));
        assert!(attempts.windows(2).all(|two| (two[0].offset, two[0].index) < (two[1].offset, two[1].index)));
        let other = if execution.account == account(0) { account(1) } else { account(0) };
        assert!(history.execution(Some(other), *delivery).await.unwrap().is_none());
    }
    let rows: usize = model.values().map(|(_, rows)| rows).sum();
    let counted: u64 = history.positions(Feed::Attempts).await.unwrap().values().map(|p| p.rows).sum();
    assert_eq!(counted, rows as u64);
    history.close().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is asked, of whatever log, fed in whatever batches, in pages of whatever size.
    #[test]
    fn the_index_is_the_model(seed: u64) {
        on_each(|backend| check(backend, seed));
    }
}

#[test]
fn cursors_are_read_strictly() {
    let key = Key { at: UnixMillis(5), partition: Partition(6), offset: Offset(7), index: 8 };
    assert_eq!(key.to_string().parse::<Key>().unwrap(), key);
    for bad in ["", "1.2.3", "1.2.3.4.5", "1.2.3.-4", "a.2.3.4", "1.99999999999.3.4"] {
        assert!(bad.parse::<Key>().is_err(), "{bad}");
    }
}
