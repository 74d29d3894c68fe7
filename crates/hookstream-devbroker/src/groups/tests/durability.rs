//! What a restart finds.

use super::*;

fn restored(broker: &Broker, entries: Vec<Entry>) -> Groups {
    Groups::restore(Settings::default(), broker.now, entries)
}

fn held(producer_id: i64, offsets: Vec<CommitOffset>) -> TxnCommitRequest {
    TxnCommitRequest {
        group: GROUP.to_owned(),
        producer_id,
        generation: -1,
        member_id: String::new(),
        instance_id: None,
        offsets,
    }
}

#[test]
fn the_journal_rebuilds_offsets_and_open_transactions() {
    let mut broker = Broker::new();
    broker.commit(simple_commit(vec![offset("orders", 0, 1), offset("refunds", 0, 2)]));
    broker.txn_commit(held(7, vec![offset("orders", 1, 3)]));
    broker.txn_commit(held(8, vec![offset("orders", 2, 4)]));
    broker.end_txn(8, true);
    broker.groups.topic_deleted(broker.now, "refunds");
    broker.collect();
    let mut groups = restored(&broker, broker.journal.clone());
    assert_eq!(groups.snapshot(), broker.groups.snapshot());
    assert_eq!(groups.drain_journal(), []);
    groups.end_txn(broker.now, 7, true);
    let offsets: Vec<i64> = groups.fetch(GROUP, Wanted::All, true).iter().map(|one| one.offset).collect();
    assert_eq!(offsets, [1, 3, 4]);
}

#[test]
fn a_snapshot_keeps_which_commit_came_later() {
    for commit_first in [true, false] {
        let mut broker = Broker::new();
        let commit = simple_commit(vec![offset("orders", 0, 1)]);
        if commit_first {
            broker.commit(commit.clone());
        }
        broker.txn_commit(held(7, vec![offset("orders", 0, 2)]));
        if !commit_first {
            broker.commit(commit);
        }
        let mut groups = restored(&broker, broker.groups.snapshot());
        groups.end_txn(broker.now, 7, true);
        let fetched = groups.fetch(GROUP, Wanted::All, true);
        assert_eq!(fetched[0].offset, if commit_first { 2 } else { 1 });
    }
}

#[test]
fn members_are_not_durable() {
    let mut broker = Broker::new();
    let alone = broker.stable_alone(consumer("a"));
    assert_eq!(broker.journal, []);
    broker.commit(member_commit(&alone, vec![offset("orders", 0, 1)]));
    broker.groups = restored(&broker, broker.journal.clone());
    assert_eq!(broker.state(), GroupState::Empty);
    assert_eq!(broker.heartbeat(&alone), Err(GroupError::UnknownMemberId));
    assert_eq!(broker.offset("orders", 0), 1);
}

#[test]
fn retention_begins_anew_with_a_restart() {
    let mut broker = Broker::new();
    let retention_ms = Settings::default().offset_retention_ms;
    broker.commit(simple_commit(vec![offset("orders", 0, 1)]));
    broker.pass(retention_ms - 1);
    broker.groups = restored(&broker, broker.journal.clone());
    broker.pass(retention_ms - 1);
    assert_eq!(broker.offset("orders", 0), 1);
    broker.pass(1);
    assert_eq!(broker.offset("orders", 0), -1);
}

#[test]
fn what_changes_nothing_is_not_written() {
    let mut broker = Broker::new();
    broker.commit(simple_commit(Vec::new()));
    broker.end_txn(7, true);
    broker.groups.topic_deleted(broker.now, "orders");
    broker.stable_alone(consumer("a"));
    let outcomes = broker.groups.delete_offsets(broker.now, GROUP, Vec::new());
    assert_eq!(outcomes, Ok(Vec::new()));
    broker.collect();
    assert_eq!(broker.journal, []);
}
