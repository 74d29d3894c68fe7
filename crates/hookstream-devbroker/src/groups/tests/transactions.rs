//! Offsets that a transaction commits.

use super::*;

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
fn held_offsets_take_effect_when_the_transaction_is_committed() {
    let mut broker = Broker::new();
    broker.commit(simple_commit(vec![offset("orders", 0, 1)]));
    assert_eq!(
        broker.txn_commit(held(7, vec![offset("orders", 0, 2), offset("orders", 1, 3)])),
        [Ok(()), Ok(())]
    );
    assert_eq!((broker.offset("orders", 0), broker.offset("orders", 1)), (1, -1));
    broker.end_txn(8, true);
    assert_eq!(broker.offset("orders", 0), 1);
    broker.end_txn(7, true);
    assert_eq!((broker.offset("orders", 0), broker.offset("orders", 1)), (2, 3));
}

#[test]
fn held_offsets_are_dropped_when_the_transaction_is_aborted() {
    let mut broker = Broker::new();
    broker.txn_commit(held(7, vec![offset("orders", 0, 2)]));
    broker.end_txn(7, false);
    broker.end_txn(7, true);
    assert_eq!(broker.offset("orders", 0), -1);
}

#[test]
fn stable_offsets_wait_for_open_transactions() {
    let mut broker = Broker::new();
    broker.commit(simple_commit(vec![offset("orders", 0, 1), offset("orders", 1, 1)]));
    broker.txn_commit(held(7, vec![offset("orders", 0, 2), offset("orders", 5, 2)]));
    let unstable = Err(GroupError::UnstableOffsetCommit);
    assert_eq!(broker.fetch("orders", 0, true), unstable);
    assert_eq!(broker.fetch("orders", 0, false), Ok(1));
    assert_eq!(broker.fetch("orders", 1, true), Ok(1));
    let all = |broker: &Broker, require_stable| -> Vec<_> {
        let fetched = broker.groups.fetch(GROUP, Wanted::All, require_stable);
        fetched.iter().map(|one| (one.partition.partition, one.offset, one.error)).collect()
    };
    let error = Some(GroupError::UnstableOffsetCommit);
    assert_eq!(all(&broker, true), [(0, -1, error), (1, 1, None), (5, -1, error)]);
    assert_eq!(all(&broker, false), [(0, 1, None), (1, 1, None)]);
    broker.end_txn(7, false);
    assert_eq!(broker.fetch("orders", 0, true), Ok(1));
}

#[test]
fn the_last_of_several_held_offsets_counts() {
    let mut broker = Broker::new();
    broker.txn_commit(held(7, vec![offset("orders", 0, 2)]));
    broker.txn_commit(held(7, vec![offset("orders", 0, 3)]));
    broker.end_txn(7, true);
    assert_eq!(broker.offset("orders", 0), 3);
}

#[test]
fn a_commit_after_the_held_one_stands() {
    let mut broker = Broker::new();
    broker.txn_commit(held(7, vec![offset("orders", 0, 2)]));
    broker.commit(simple_commit(vec![offset("orders", 0, 9)]));
    broker.end_txn(7, true);
    assert_eq!(broker.offset("orders", 0), 9);
}

#[test]
fn two_producers_hold_offsets_side_by_side() {
    let mut broker = Broker::new();
    broker.txn_commit(held(7, vec![offset("orders", 0, 2)]));
    broker.txn_commit(held(8, vec![offset("orders", 0, 3)]));
    broker.end_txn(8, true);
    assert_eq!(broker.fetch("orders", 0, true), Err(GroupError::UnstableOffsetCommit));
    broker.end_txn(7, true);
    assert_eq!(broker.fetch("orders", 0, true), Ok(3));
}

#[test]
fn what_a_transactional_commit_must_hold_to() {
    let mut broker = Broker::new();
    let offsets = vec![offset("orders", 0, 1)];
    let unnamed = TxnCommitRequest { group: String::new(), ..held(7, offsets.clone()) };
    assert_eq!(broker.txn_commit(unnamed), [Err(GroupError::InvalidGroupId)]);
    let unknown_group = TxnCommitRequest { generation: 1, ..held(7, offsets.clone()) };
    assert_eq!(broker.txn_commit(unknown_group), [Err(GroupError::IllegalGeneration)]);
    let alone = broker.stable_alone(static_consumer("one"));
    let right = TxnCommitRequest {
        generation: alone.generation,
        member_id: alone.member_id,
        instance_id: Some("one".to_owned()),
        ..held(7, offsets.clone())
    };
    let rows = [
        (TxnCommitRequest { generation: 0, ..right.clone() }, Err(GroupError::IllegalGeneration)),
        (
            TxnCommitRequest { member_id: "nobody".to_owned(), ..right.clone() },
            Err(GroupError::FencedInstanceId),
        ),
        (
            TxnCommitRequest { member_id: "nobody".to_owned(), instance_id: None, ..right.clone() },
            Err(GroupError::UnknownMemberId),
        ),
        (right, Ok(())),
        // Producers that know nothing of groups are let through, members or not.
        (held(7, offsets), Ok(())),
    ];
    for (request, outcome) in rows {
        assert_eq!(broker.txn_commit(request.clone()), [outcome], "{request:?}");
    }
}

#[test]
fn a_transactional_commit_is_taken_before_the_sync() {
    let mut broker = Broker::new();
    let token = broker.join(consumer("a"));
    let joined = broker.joined(token);
    assert_eq!(broker.state(), GroupState::CompletingRebalance);
    let request = TxnCommitRequest {
        generation: joined.generation,
        member_id: joined.member_id,
        ..held(7, vec![offset("orders", 0, 1)])
    };
    assert_eq!(broker.txn_commit(request), [Ok(())]);
}

#[test]
fn held_offsets_go_with_their_topic_their_deletion_and_their_group() {
    let delete_topic = |broker: &mut Broker| broker.groups.topic_deleted(broker.now, "orders");
    let delete_offset = |broker: &mut Broker| {
        let partition = TopicPartition { topic: "orders".to_owned(), partition: 0 };
        broker.groups.delete_offsets(broker.now, GROUP, vec![partition]).expect("it has no members");
    };
    let delete_group =
        |broker: &mut Broker| broker.groups.delete(broker.now, GROUP).expect("it has no members");
    for delete in [delete_topic, delete_offset, delete_group] {
        let mut broker = Broker::new();
        broker.txn_commit(held(7, vec![offset("orders", 0, 1)]));
        delete(&mut broker);
        broker.end_txn(7, true);
        assert_eq!(broker.offset("orders", 0), -1);
        assert_eq!(broker.groups.snapshot(), []);
        // The transaction holds nothing any more, so its end changes nothing.
        assert!(!broker.journal.iter().any(|entry| matches!(entry, Entry::TxnEnded { .. })));
    }
}

#[test]
fn a_group_with_held_offsets_does_not_expire() {
    let mut broker = Broker::new();
    let retention_ms = Settings::default().offset_retention_ms;
    broker.txn_commit(held(7, vec![offset("orders", 0, 1)]));
    broker.pass(retention_ms * 2);
    broker.end_txn(7, true);
    broker.pass(retention_ms - 1);
    assert_eq!(broker.offset("orders", 0), 1);
    broker.pass(1);
    assert_eq!(broker.offset("orders", 0), -1);
}
