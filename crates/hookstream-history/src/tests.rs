mod events;
mod files;
mod model;
mod sharing;

use std::future::Future;

use hookstream_core::decision::{About, DeadReason, Decision, DeferReason, SkipReason, Verdict};
use hookstream_core::exchange::FailureKind;
use hookstream_core::ledger::Entry;
use hookstream_types::{
    AccountUid, DeliveryId, EventId, Generation, Offset, OwnerId, Partition, UnixMillis, WebhookId,
};
use hookstream_wire::attempt::{self, Attempt, LoggedFailure, LoggedRequest, LoggedResponse, LoggedTimings};
use uuid::Uuid;

use crate::{Applied, Backend, Batch, Execution, Feed, Filter, History, Key, Record};

/// Runs on both databases, on an index of its own each time.
pub(super) fn on_each<F: Future<Output = ()>>(test: impl Fn(Backend) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    runtime.block_on(test(Backend::Sqlite { path: dir.path().join("history.db") }));
    if let Ok(url) = std::env::var("HOOKSTREAM_TEST_POSTGRES") {
        let schema = format!("test_{}", Uuid::new_v4().simple());
        runtime.block_on(test(Backend::Postgres { url, schema }));
    }
}

/// A source of chance that can be repeated.
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

pub(super) fn id(kind: u128, n: u64) -> Uuid {
    Uuid::from_u128(kind << 64 | u128::from(n))
}

pub(super) fn account(n: u64) -> AccountUid {
    AccountUid(id(1, n))
}

/// Which event for which webhook: with its delivery, the same each time.
pub(super) fn about(event: u64, webhook: u64) -> (DeliveryId, About) {
    let about = About {
        webhook: WebhookId(id(2, webhook)),
        account: account(webhook % 3),
        event: EventId(id(3, event)),
        event_type: ["order.paid", "order.shipped", "user.created\0"][usize::try_from(event % 3).unwrap()]
            .into(),
    };
    (DeliveryId::of(about.event, about.webhook), about)
}

pub(super) fn record(offset: i64, at: i64, value: Vec<u8>) -> Record {
    Record { offset: Offset(offset), at: UnixMillis(at), headers: Vec::new(), value }
}

pub(super) fn owner_record(owner: u64) -> Vec<u8> {
    let mut value = Vec::new();
    attempt::encode(&Entry::Owner(OwnerId(id(9, owner))), None, &mut value);
    value
}

pub(super) fn decided(owner: u64, decisions: Vec<Decision>, attempt: Option<&Attempt<'_>>) -> Vec<u8> {
    let mut value = Vec::new();
    let entry = Entry::Decisions { owner: OwnerId(id(9, owner)), decisions };
    attempt::encode(&entry, attempt.map(Attempt::encode).as_ref(), &mut value);
    value
}

pub(super) fn decision(delivery: DeliveryId, n: u32, verdict: Verdict, about: Option<About>) -> Decision {
    Decision {
        offset: Offset(0),
        delivery,
        generation: Generation { run: 0, n },
        about: about.map(Box::new),
        verdict,
    }
}

pub(super) fn exchange(
    about: &About,
    number: u32,
    result: Result<u16, FailureKind>,
    unlisted: bool,
) -> Attempt<'static> {
    Attempt {
        webhook: about.webhook,
        account: about.account,
        event: about.event,
        event_type: about.event_type.to_string().into(),
        number,
        revision: 4,
        unlisted,
        started_at: UnixMillis(1),
        request: LoggedRequest {
            method: "POST".into(),
            url: "https://a.example/".into(),
            headers: Vec::new(),
            body: None,
        },
        response: result.ok().map(|status| LoggedResponse { status, headers: Vec::new(), body: None }),
        failure: result.err().map(|kind| LoggedFailure { kind, message: "no".into() }),
        timings: LoggedTimings {
            dns_us: None,
            connect_us: None,
            tls_us: None,
            first_byte_us: None,
            total_us: 700,
        },
    }
}

/// A log of one partition, as senders write it, with what is wrong in real ones too.
pub(super) fn log(seed: u64, partition: i32, count: i64) -> Vec<Record> {
    let mut chance = Chance(seed.wrapping_mul(31).wrapping_add(u64::try_from(partition).unwrap()));
    let mut owner = 1;
    let mut attempts = std::collections::HashMap::new();
    let mut records = Vec::new();
    let (mut offset, mut at) = (chance.below(5).cast_signed(), 1_000);
    for _ in 0..count {
        at += chance.below(3).cast_signed();
        let by = if owner > 1 && chance.below(10) == 0 { owner - 1 } else { owner };
        let (delivery, about) = about(
            chance.below(12) + 100 * u64::try_from(partition).unwrap(),
            chance.below(4) + 10 * u64::try_from(partition).unwrap(),
        );
        let value = match chance.below(20) {
            0 => {
                owner += 1;
                owner_record(owner)
            }
            1 => b"nonsense".to_vec(),
            2 => {
                let verdict = || Verdict::Skipped { reason: SkipReason::Deleted };
                let deferred = Verdict::Deferred { due: UnixMillis(9), reason: DeferReason::Paused };
                let (second, other) = self::about(
                    77 + 100 * u64::try_from(partition).unwrap(),
                    3 + 10 * u64::try_from(partition).unwrap(),
                );
                let all = vec![
                    decision(delivery, 1, verdict(), Some(about)),
                    decision(second, 1, deferred, None),
                    decision(second, 1, verdict(), if chance.below(2) == 0 { Some(other) } else { None }),
                ];
                decided(by, all, None)
            }
            _ => {
                let number = attempts.entry(delivery).or_insert(0_u32);
                *number += 1;
                let status = [200, 204, 404, 500, 503][usize::try_from(chance.below(5)).unwrap()];
                let result = if chance.below(4) == 0 {
                    Err(FailureKind::ALL[usize::try_from(chance.below(4)).unwrap()])
                } else {
                    Ok(status)
                };
                let good = result.is_ok_and(|status| status < 300);
                let verdict = match chance.below(3) {
                    _ if good => Verdict::Delivered,
                    0 => Verdict::Dead { reason: DeadReason::Exhausted },
                    _ => Verdict::Retry { due: UnixMillis(at + 50) },
                };
                let made = exchange(&about, *number, result, good && chance.below(3) == 0);
                decided(by, vec![decision(delivery, *number, verdict, None)], Some(&made))
            }
        };
        records.push(record(offset, at, value));
        offset += 1 + chance.below(2).cast_signed();
    }
    records
}

/// Feeds a log in batches whose sizes chance gives.
pub(super) async fn feed(history: &History, partition: i32, records: &[Record], chance: &mut Chance) {
    let mut rest = records;
    let mut from = Offset(0);
    while !rest.is_empty() {
        let size = usize::try_from(chance.below(9) + 1).unwrap().min(rest.len());
        let (batch, after) = rest.split_at(size);
        rest = after;
        let next = batch[size - 1].offset.next();
        let batch = Batch { partition: Partition(partition), from, next, records: batch.to_vec() };
        assert!(matches!(history.apply(Feed::Attempts, &batch).await.unwrap(), Applied::Done { .. }));
        from = next;
    }
}

/// All pages of a list.
pub(super) async fn list(
    history: &History,
    scope: Option<AccountUid>,
    filter: &Filter,
    limit: usize,
) -> Vec<Execution> {
    let mut all: Vec<Execution> = Vec::new();
    let mut before: Option<Key> = None;
    loop {
        let page = history.executions(scope, filter, before, limit).await.unwrap();
        assert!(page.items.len() <= limit);
        all.extend(page.items);
        let Some(next) = page.next else { return all };
        assert!(before.is_none_or(|before| next < before), "a cursor moves on");
        // As clients send it.
        before = Some(next.to_string().parse().unwrap());
    }
}
