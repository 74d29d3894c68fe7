//! Who may commit, and what is fetched.

use super::*;

#[test]
fn a_member_commits_and_fetches() {
    let mut broker = Broker::new();
    let alone = broker.stable_alone(consumer("a"));
    let mut first = offset("orders", 0, 5);
    first.leader_epoch = 3;
    first.metadata = Some("note".to_owned());
    let outcomes = broker.commit(member_commit(&alone, vec![first, offset("orders", 2, 7)]));
    assert_eq!(outcomes, [Ok(()), Ok(())]);
    let all = broker.groups.fetch(GROUP, Wanted::All, true);
    assert_eq!(all.len(), 2);
    assert_eq!((all[0].offset, all[0].leader_epoch, all[0].metadata.as_str()), (5, 3, "note"));
    assert_eq!((all[1].partition.partition, all[1].offset, all[1].leader_epoch), (2, 7, -1));
    assert_eq!(broker.offset("orders", 1), -1);
}

#[test]
fn who_takes_no_part_commits_only_while_the_group_has_no_members() {
    let mut broker = Broker::new();
    assert_eq!(broker.commit(simple_commit(vec![offset("orders", 0, 1)])), [Ok(())]);
    let alone = broker.stable_alone(consumer("a"));
    let refused = [Err(GroupError::UnknownMemberId)];
    assert_eq!(broker.commit(simple_commit(vec![offset("orders", 0, 2)])), refused);
    assert_eq!(broker.offset("orders", 0), 1);
    broker.leave(&alone.member_id, None).expect("it is a member");
    assert_eq!(broker.commit(simple_commit(vec![offset("orders", 0, 3)])), [Ok(())]);
    assert_eq!(broker.offset("orders", 0), 3);
}

#[test]
fn what_a_commit_must_hold_to() {
    let mut broker = Broker::new();
    let offsets = vec![offset("orders", 0, 1)];
    let unknown_group = CommitRequest { generation: 3, ..simple_commit(offsets.clone()) };
    assert_eq!(broker.commit(unknown_group), [Err(GroupError::IllegalGeneration)]);
    let alone = broker.stable_alone(consumer("a"));
    let right = member_commit(&alone, offsets);
    let rows = [
        (CommitRequest { generation: 0, ..right.clone() }, GroupError::IllegalGeneration),
        (CommitRequest { generation: -1, ..right.clone() }, GroupError::IllegalGeneration),
        (CommitRequest { member_id: "nobody".to_owned(), ..right.clone() }, GroupError::UnknownMemberId),
        (CommitRequest { instance_id: Some("one".to_owned()), ..right.clone() }, GroupError::UnknownMemberId),
    ];
    for (request, error) in rows {
        assert_eq!(broker.commit(request.clone()), [Err(error)], "{request:?}");
    }
    assert_eq!(broker.commit(right), [Ok(())]);
}

#[test]
fn a_commit_is_taken_before_the_member_joins_again_but_not_before_it_syncs() {
    let mut broker = Broker::new();
    let (leader, follower) = broker.stable_pair(consumer("a"), consumer("b"));
    broker.join(again(&consumer("a"), &leader));
    assert_eq!(broker.state(), GroupState::PreparingRebalance);
    assert_eq!(broker.commit(member_commit(&follower, vec![offset("orders", 0, 1)])), [Ok(())]);
    let token = broker.join(again(&consumer("b"), &follower));
    let follower = broker.joined(token);
    assert_eq!(broker.state(), GroupState::CompletingRebalance);
    let refused = [Err(GroupError::RebalanceInProgress)];
    assert_eq!(broker.commit(member_commit(&follower, vec![offset("orders", 0, 2)])), refused);
}

#[test]
fn a_commit_keeps_the_member() {
    let mut broker = Broker::new();
    let alone = broker.stable_alone(consumer("a"));
    for count in 0..5 {
        broker.pass(SESSION_MS - 1);
        assert_eq!(broker.commit(member_commit(&alone, vec![offset("orders", 0, count)])), [Ok(())]);
    }
    assert_eq!(broker.members(), [alone.member_id]);
}

#[test]
fn metadata_that_is_too_long_is_refused_for_its_partition() {
    let mut broker = Broker::new();
    let with = |partition, length| CommitOffset {
        metadata: Some("x".repeat(length)),
        ..offset("orders", partition, 9)
    };
    let outcomes = broker.commit(simple_commit(vec![with(0, 4096), with(1, 4097)]));
    assert_eq!(outcomes, [Ok(()), Err(GroupError::OffsetMetadataTooLarge)]);
    assert_eq!((broker.offset("orders", 0), broker.offset("orders", 1)), (9, -1));
}

#[test]
fn nothing_is_committed_in_an_unknown_group() {
    let broker = Broker::new();
    assert_eq!(broker.offset("orders", 0), -1);
    assert_eq!(broker.groups.fetch(GROUP, Wanted::All, true), []);
}

#[test]
fn a_deleted_topics_offsets_are_gone_from_all_groups() {
    let mut broker = Broker::new();
    broker.commit(simple_commit(vec![offset("orders", 0, 1), offset("refunds", 0, 2)]));
    let other = CommitRequest { group: "other".to_owned(), ..simple_commit(vec![offset("orders", 1, 3)]) };
    broker.commit(other);
    broker.groups.topic_deleted(broker.now, "orders");
    assert_eq!((broker.offset("orders", 0), broker.offset("refunds", 0)), (-1, 2));
    assert_eq!(broker.groups.fetch("other", Wanted::All, false), []);
}
