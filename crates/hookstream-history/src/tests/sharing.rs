//! Several feeders of one index, and several indexes of one log.

use super::*;

/// Feeds a log from wherever the index is, as one replica of several does.
async fn feed_along(history: &History, records: &[Record], seed: u64) {
    let mut chance = Chance(seed);
    let mut from = Offset(0);
    loop {
        let rest: Vec<Record> = records.iter().filter(|record| record.offset >= from).cloned().collect();
        let size = usize::try_from(chance.below(7) + 1).unwrap().min(rest.len());
        let Some(last) = rest[..size].last() else { return };
        let next = last.offset.next();
        let batch = Batch { partition: Partition(0), from, next, records: rest[..size].to_vec() };
        from = match history.apply(Feed::Attempts, &batch).await.unwrap() {
            Applied::Done { .. } => next,
            Applied::Elsewhere { next } => next,
        };
    }
}

#[test]
fn two_feeders_take_each_record_in_once() {
    on_each(|backend| async move {
        let records = log(3, 0, 200);
        let one = History::open(&backend).await.unwrap();
        let two = History::open(&backend).await.unwrap();
        tokio::join!(
            feed_along(&one, &records, 1),
            feed_along(&two, &records, 2),
            feed_along(&two, &records, 3)
        );
        let shared = list(&one, None, &Filter::default(), 50).await;
        let rows = one.positions(Feed::Attempts).await.unwrap();
        one.close().await;
        two.close().await;
        let dir = tempfile::tempdir().unwrap();
        let alone = Backend::Sqlite { path: dir.path().join("alone.db") };
        let alone = History::open(&alone).await.unwrap();
        feed(&alone, 0, &records, &mut Chance(9)).await;
        assert_eq!(list(&alone, None, &Filter::default(), 7).await, shared);
        assert_eq!(alone.positions(Feed::Attempts).await.unwrap(), rows);
        alone.close().await;
    });
}

#[test]
fn indexes_that_are_opened_at_once_are_made_once() {
    on_each(|backend| async move {
        // A file has one process, and so is opened once.
        if matches!(backend, Backend::Postgres { .. }) {
            let (one, two, three) =
                tokio::join!(History::open(&backend), History::open(&backend), History::open(&backend));
            for history in [one, two, three] {
                history.unwrap().close().await;
            }
        }
    });
}
