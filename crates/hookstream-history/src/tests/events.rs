//! Events against a naive list of them.

use std::time::Duration;

use hookstream_core::event::EventAttributes;
use hookstream_wire::event;

use super::*;
use crate::{EventFilter, EventRow, Retention, ScanLimits};

fn pick<'a>(chance: &mut Chance, of: &[&'a str]) -> &'a str {
    of[usize::try_from(chance.below(of.len() as u64)).unwrap()]
}

const TYPES: &[&str] = &["order.paid", "order.shipped", "user.created"];
const SUBJECTS: &[&str] = &["7", "8", "a\0b"];

/// Records of a partition, with what they say; an event may come twice.
fn events(partition: i32, count: i64) -> Vec<(Record, EventRow)> {
    let mut chance = Chance(u64::try_from(partition).unwrap() + 5);
    let mut all = Vec::new();
    for offset in 0..count {
        let n = chance.below(40);
        // What makes an event's id makes the rest of it.
        let mut of_event = Chance(n + 100 * u64::try_from(partition).unwrap());
        let subject = (of_event.below(3) > 0).then(|| pick(&mut of_event, SUBJECTS).to_owned());
        let attributes = EventAttributes {
            event: EventId(id(3, n + 100 * u64::try_from(partition).unwrap())),
            account: account(of_event.below(3)),
            source: pick(&mut of_event, &["shop", "billing"]).to_owned(),
            id: format!("e-{}", n % 8),
            ce_source: "/shop".to_owned(),
            event_type: pick(&mut of_event, TYPES).to_owned(),
            subject,
            time: "2026-01-02T03:04:05Z".to_owned(),
            content_type: None,
            extensions: Vec::new(),
            produced_at: UnixMillis(0),
        };
        let at = 1_000 + offset / 2;
        let headers = event::encode(&attributes, Offset(1), |headers| {
            headers.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect()
        });
        let row = EventRow {
            key: Key {
                at: UnixMillis(at),
                partition: Partition(partition),
                offset: Offset(offset),
                index: 0,
            },
            event: attributes.event,
            account: attributes.account,
            event_type: attributes.event_type,
            source: attributes.source,
            id: attributes.id,
            subject: attributes.subject.map(|subject| subject.replace('\0', "\u{fffd}")),
        };
        let record = Record { offset: Offset(offset), at: UnixMillis(at), headers, value: Vec::new() };
        all.push((record, row));
    }
    all
}

async fn take_in(history: &History, partition: i32, from: i64, records: Vec<Record>) -> Applied {
    let next = records.last().unwrap().offset.next();
    let batch = Batch { partition: Partition(partition), from: Offset(from), next, records };
    history.apply(Feed::Events, &batch).await.unwrap()
}

/// All pages of a list.
async fn listed(history: &History, scope: Option<AccountUid>, filter: &EventFilter) -> Vec<EventRow> {
    let (mut all, mut before) = (Vec::new(), None);
    loop {
        let page = history.events(scope, filter, before, 4).await.unwrap();
        all.extend(page.items);
        let Some(next) = page.next else { return all };
        assert!(before.is_none_or(|before| next < before), "a cursor moves on");
        before = Some(next);
    }
}

fn matches(filter: &EventFilter, row: &EventRow) -> bool {
    let text = |asked: &Option<String>, found: &str| {
        asked.as_ref().is_none_or(|asked| asked.replace('\0', "\u{fffd}") == found)
    };
    filter.account.is_none_or(|account| account == row.account)
        && text(&filter.event_type, &row.event_type)
        && text(&filter.source, &row.source)
        && text(&filter.id, &row.id)
        && (filter.subject.is_none() || text(&filter.subject, row.subject.as_deref().unwrap_or("none")))
        && filter.since.is_none_or(|since| since <= row.key.at)
        && filter.until.is_none_or(|until| row.key.at < until)
}

#[test]
fn events_are_found_by_what_they_are() {
    on_each(|backend| async move {
        let limits = ScanLimits { entries: 7, time: Duration::from_secs(1) };
        let history = History::open(&backend).await.unwrap().with_limits(limits);
        let mut model: Vec<EventRow> = Vec::new();
        for partition in 0..2 {
            let all = events(partition, 120);
            for (_, row) in &all {
                if !model.iter().any(|known| known.event == row.event) {
                    model.push(row.clone());
                }
            }
            let mut records: Vec<Record> = all.into_iter().map(|(record, _)| record).collect();
            records.push(record(120, 1_100, b"no event".to_vec()));
            let rest = records.split_off(50);
            take_in(&history, partition, 0, records).await;
            let applied = take_in(&history, partition, 50, rest.clone()).await;
            assert!(matches!(applied, Applied::Done { bad: 1, .. }), "{applied:?}");
            assert!(matches!(take_in(&history, partition, 50, rest).await, Applied::Elsewhere { .. }));
        }
        model.sort_unstable_by_key(|row| std::cmp::Reverse(row.key));
        let rows: u64 = history.positions(Feed::Events).await.unwrap().values().map(|found| found.rows).sum();
        assert_eq!(rows, model.len() as u64, "what came twice is one");
        let mut chance = Chance(3);
        for _ in 0..300 {
            let mut some = || chance.below(3) == 0;
            let asked = [some(), some(), some(), some(), some(), some()];
            let mut text = |asked: bool, of: &[&str]| asked.then(|| pick(&mut chance, of).to_owned());
            let filter = EventFilter {
                event_type: text(asked[0], TYPES),
                source: text(asked[1], &["shop", "billing"]),
                id: text(asked[2], &["e-1", "e-2", "none"]),
                subject: text(asked[3], SUBJECTS),
                account: asked[4].then(|| account(chance.below(3))),
                since: asked[5].then(|| UnixMillis(1_000 + chance.below(60).cast_signed())),
                until: asked[0].then(|| UnixMillis(1_000 + chance.below(60).cast_signed())),
            };
            let scope = (chance.below(2) == 0).then(|| account(chance.below(3)));
            let expected: Vec<&EventRow> = model
                .iter()
                .filter(|row| matches(&filter, row) && scope.is_none_or(|scope| scope == row.account))
                .collect();
            let found = listed(&history, scope, &filter).await;
            assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{scope:?} {filter:?}");
        }
        let one = &model[3];
        let other = account((0..).find(|n| account(*n) != one.account).unwrap());
        assert_eq!(history.event(None, one.event).await.unwrap().as_ref(), Some(one));
        assert_eq!(history.event(Some(one.account), one.event).await.unwrap().as_ref(), Some(one));
        assert_eq!(history.event(Some(other), one.event).await.unwrap(), None);
        assert!(history.follow(Feed::Events, "1").await.is_ok_and(|another| !another));
        assert!(history.follow(Feed::Events, "2").await.is_ok_and(|another| another));
        assert!(listed(&history, None, &EventFilter::default()).await.is_empty());
        history.close().await;
    });
}

#[test]
fn events_that_are_too_old_or_too_many_go() {
    on_each(|backend| async move {
        let history = History::open(&backend).await.unwrap();
        let mut all = 0;
        for partition in 0..2 {
            let records = events(partition, 100).into_iter().map(|(record, _)| record).collect();
            let Applied::Done { rows, .. } = take_in(&history, partition, 0, records).await else { panic!() };
            all += rows;
        }
        let count = async || {
            let rows: u64 =
                history.positions(Feed::Events).await.unwrap().values().map(|found| found.rows).sum();
            let left = listed(&history, None, &EventFilter::default()).await;
            assert_eq!(rows, left.len() as u64);
            (rows, left.last().map(|row| row.key.at.0))
        };
        let none = Retention { age: None, rows: None, bytes: None };
        let retained = async |retention: Retention| {
            history.retain(&retention, UnixMillis(11_010)).await.unwrap().removed
        };
        assert_eq!(retained(none).await, 0);
        let removed = retained(Retention { age: Some(Duration::from_secs(10)), ..none }).await;
        let (rows, oldest) = count().await;
        assert_eq!(rows + removed, all);
        assert!(removed > 0 && oldest >= Some(1_010), "{removed} {oldest:?}");
        let removed = retained(Retention { rows: Some(7), ..none }).await;
        assert_eq!(count().await.0, 7);
        assert_eq!(removed, rows - 7);
        history.close().await;
    });
}
