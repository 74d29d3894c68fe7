//! Files: what is broken, cut off, of another version, or deleted; and what is too old.

use std::time::Duration;

use super::*;
use crate::{AuditFilter, Retained, Retention};

#[test]
fn what_is_fed_is_there_after_reopening_and_what_was_cut_off_is_not() {
    on_each(|backend| async move {
        let records = log(7, 0, 40);
        let (first, second) = records.split_at(20);
        let history = History::open(&backend).await.unwrap();
        let mut chance = Chance(1);
        feed(&history, 0, first, &mut chance).await;
        let listed = list(&history, None, &Filter::default(), 10).await;
        let position = history.positions(Feed::Attempts).await.unwrap()[&Partition(0)];
        let next = second[second.len() - 1].offset.next();
        let batch = Batch { partition: Partition(0), from: position.next, next, records: second.to_vec() };
        // Cut off at each place where it waits for the database.
        for polls in 0..40 {
            let mut applying = Box::pin(history.apply(Feed::Attempts, &batch));
            let mut left = polls;
            let cut = std::future::poll_fn(|context| {
                if left == 0 {
                    return std::task::Poll::Ready(true);
                }
                left -= 1;
                applying.as_mut().poll(context).map(|done| {
                    assert!(matches!(done.unwrap(), Applied::Done { .. } | Applied::Elsewhere { .. }));
                    false
                })
            })
            .await;
            drop(applying);
            if !cut {
                break;
            }
        }
        history.close().await;
        let history = History::open(&backend).await.unwrap();
        let reached = history.positions(Feed::Attempts).await.unwrap()[&Partition(0)];
        if reached == position {
            assert_eq!(list(&history, None, &Filter::default(), 10).await, listed);
            assert!(matches!(history.apply(Feed::Attempts, &batch).await.unwrap(), Applied::Done { .. }));
        }
        assert_eq!(history.positions(Feed::Attempts).await.unwrap()[&Partition(0)].next, next);
        assert_eq!(history.apply(Feed::Attempts, &batch).await.unwrap(), Applied::Elsewhere { next });
        let fresh = history.executions(None, &Filter::default(), None, 500).await.unwrap();
        history.close().await;
        let twin = other_of(&backend);
        let history = History::open(&twin).await.unwrap();
        feed(&history, 0, &records, &mut chance).await;
        assert_eq!(history.executions(None, &Filter::default(), None, 500).await.unwrap(), fresh);
        history.close().await;
    });
}

/// Another index in the same place.
fn other_of(backend: &Backend) -> Backend {
    match backend {
        Backend::Sqlite { path } => Backend::Sqlite { path: path.with_extension("other") },
        Backend::Postgres { url, schema } => {
            Backend::Postgres { url: url.clone(), schema: format!("{schema}_other") }
        }
    }
}

#[tokio::test]
async fn a_file_that_can_not_be_used_is_moved_aside() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history with space?.db");
    let backend = Backend::Sqlite { path: path.clone() };
    std::fs::write(&path, vec![b'x'; 8192]).unwrap();
    let history = History::open(&backend).await.unwrap();
    feed(&history, 0, &log(1, 0, 20), &mut Chance(1)).await;
    assert!(dir.path().join("history with space?.db.aside").exists());
    sqlx::query("UPDATE version SET number = 0").execute(&history.writer).await.unwrap();
    history.close().await;
    let history = History::open(&backend).await.unwrap();
    assert!(history.positions(Feed::Attempts).await.unwrap().is_empty(), "built anew");
    history.close().await;
}

#[test]
fn a_topic_that_was_made_anew_is_another() {
    on_each(|backend| async move {
        let history = History::open(&backend).await.unwrap();
        assert!(!history.follow(Feed::Attempts, "a").await.unwrap());
        feed(&history, 0, &log(1, 0, 20), &mut Chance(1)).await;
        assert!(!history.follow(Feed::Attempts, "a").await.unwrap());
        assert!(!list(&history, None, &Filter::default(), 10).await.is_empty());
        assert!(history.follow(Feed::Attempts, "b").await.unwrap());
        assert!(list(&history, None, &Filter::default(), 10).await.is_empty());
        assert!(history.positions(Feed::Attempts).await.unwrap().is_empty());
        history.close().await;
    });
}

#[test]
fn what_is_too_old_or_too_much_goes() {
    on_each(|backend| async move {
        let history = History::open(&backend).await.unwrap();
        for partition in 0..2 {
            let records: Vec<Record> = (0..2_500)
                .map(|n| {
                    let (delivery, about) = about(n, u64::try_from(partition).unwrap());
                    let made = exchange(&about, 1, Ok(200), false);
                    let decision = decision(delivery, 0, Verdict::Delivered, None);
                    let n = n.cast_signed();
                    record(n, 1_000 + n, decided(1, vec![decision], Some(&made)))
                })
                .collect();
            let batch =
                Batch { partition: Partition(partition), from: Offset(0), next: Offset(2_500), records };
            history.apply(Feed::Attempts, &batch).await.unwrap();
        }
        let rest = async |retention: Retention| {
            let mut removed = 0;
            while let Retained { removed: n, more: true } =
                history.retain(&retention, UnixMillis(12_000)).await.unwrap()
            {
                assert!(n <= 1_000, "a step is bounded");
                removed += n;
            }
            let listed = list(&history, None, &Filter::default(), 500).await;
            (removed, listed.len(), listed.iter().map(|execution| execution.key.at.0).min())
        };
        let none = Retention { age: None, rows: None, bytes: None };
        assert_eq!(rest(none).await, (0, 5_000, Some(1_000)));
        let age = Some(Duration::from_secs(10));
        assert_eq!(rest(Retention { age, ..none }).await, (2_000, 3_000, Some(2_000)));
        let (removed, left, _) = rest(Retention { rows: Some(700), ..none }).await;
        assert_eq!((removed, left), (2_300, 700));
        // An empty SQLite file has pages of its own.
        let (_, left, _) = rest(Retention { bytes: Some(1), ..none }).await;
        assert_eq!(left, 0);
        history.close().await;
    });
}

#[test]
fn what_happened_is_counted_by_the_minute() {
    on_each(|backend| async move {
        let history = History::open(&backend).await.unwrap();
        // Three partitions, two accounts; a record in ten seconds.
        for partition in 0..3_u64 {
            let records: Vec<Record> = (0..30)
                .map(|n| {
                    let (delivery, about) = about(n + 100 * partition, partition);
                    let is_good = n % 3 > 0;
                    let made =
                        exchange(&about, 1, if is_good { Ok(200) } else { Ok(500) }, is_good && n % 2 == 0);
                    let verdict = if is_good {
                        Verdict::Delivered
                    } else {
                        Verdict::Dead { reason: DeadReason::Exhausted }
                    };
                    let decision = decision(delivery, 1, verdict, None);
                    let n = n.cast_signed();
                    record(n, n * 10_000, decided(1, vec![decision], Some(&made)))
                })
                .collect();
            feed(&history, i32::try_from(partition).unwrap(), &records, &mut Chance(partition)).await;
        }
        let whole = (UnixMillis(0), UnixMillis(1_000_000));
        let minutes = history.minutes(None, whole.0, whole.1).await.unwrap();
        assert_eq!(
            minutes.iter().map(|(at, _)| at.0).collect::<Vec<_>>(),
            [0, 60_000, 120_000, 180_000, 240_000]
        );
        for (_, counts) in &minutes {
            // Successes that are not listed count as well.
            assert_eq!((counts.delivered, counts.failed, counts.dead, counts.took[0]), (12, 6, 6, 18));
        }
        let one = history.minutes(Some(account(1)), UnixMillis(60_000), UnixMillis(180_000)).await.unwrap();
        assert_eq!(one.len(), 2);
        assert_eq!((one[0].1.delivered, one[0].1.dead), (4, 2));
        assert!(history.minutes(Some(account(7)), whole.0, whole.1).await.unwrap().is_empty());
        let slow = history.slowest(Some(account(1)), UnixMillis(0), 5).await.unwrap();
        assert_eq!(slow, [(WebhookId(id(2, 1)), 0.7)]);
        assert_eq!(history.slowest(None, UnixMillis(0), 2).await.unwrap().len(), 2);
        let age = Retention { age: Some(Duration::from_secs(100)), rows: None, bytes: None };
        history.retain(&age, UnixMillis(280_000)).await.unwrap();
        assert_eq!(history.minutes(None, whole.0, whole.1).await.unwrap().len(), 2);
        history.close().await;
    });
}

#[test]
fn who_changed_what() {
    use hookstream_wire::audit::{Action, Audit};
    on_each(|backend| async move {
        let history = History::open(&backend).await.unwrap();
        let records = (0..20_u64).map(|n| {
            let audit = Audit {
                at: UnixMillis(n.cast_signed()),
                actor: ["ann", "bob\0"][usize::try_from(n % 2).unwrap()].into(),
                write: id(5, n),
                key: format!("webhook/{}", n % 5).into(),
                account: (n % 4 != 0).then(|| account(n % 4)),
                action: Action::ALL[usize::try_from(n % 3).unwrap()],
                revision: n,
                secrets_changed: Vec::new(),
                before: None,
                after: Some(serde_json::json!({ "name": n })),
            };
            record(n.cast_signed() * 2, 5, audit.encode())
        });
        let mut records: Vec<Record> = records.collect();
        records.push(record(50, 5, Vec::new()));
        let batch = Batch { partition: Partition(0), from: Offset(0), next: Offset(51), records };
        assert_eq!(
            history.apply(Feed::Audit, &batch).await.unwrap(),
            Applied::Done { rows: 20, bad: 1, void: 0 }
        );
        let all = async |scope, filter: AuditFilter| {
            let (mut offsets, mut before) = (Vec::new(), None);
            loop {
                let page = history.audit(scope, &filter, before, 3).await.unwrap();
                offsets.extend(page.items.iter().map(|item| item.offset.0 / 2));
                before = page.next;
                if before.is_none() {
                    return offsets;
                }
            }
        };
        assert_eq!(all(None, AuditFilter::default()).await, (0..20).rev().collect::<Vec<_>>());
        assert_eq!(all(Some(account(1)), AuditFilter::default()).await, [17, 13, 9, 5, 1]);
        let other = AuditFilter { account: Some(account(2)), ..AuditFilter::default() };
        assert!(all(Some(account(1)), other).await.is_empty(), "a scope can't be widened");
        let bob = AuditFilter {
            actor: Some("bob\0".to_owned()),
            since: Some(UnixMillis(15)),
            ..AuditFilter::default()
        };
        assert_eq!(all(None, bob).await, [19, 17, 15]);
        let one = AuditFilter {
            kind: Some("webhook".to_owned()),
            resource: Some("3".to_owned()),
            until: Some(UnixMillis(13)),
            ..AuditFilter::default()
        };
        assert_eq!(all(None, one).await, [8, 3]);
        history.close().await;
    });
}
