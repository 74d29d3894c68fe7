//! Sessions, rebalances and retentions that end.

use super::*;

#[test]
fn a_member_that_is_not_heard_of_is_removed() {
    let mut broker = Broker::new();
    let (leader, follower) = broker.stable_pair(consumer("a"), consumer("b"));
    broker.pass(SESSION_MS - 1);
    broker.heartbeat(&leader).expect("it is stable");
    assert_eq!(broker.members().len(), 2);
    broker.pass(1);
    assert_eq!(broker.members(), std::slice::from_ref(&leader.member_id));
    assert_eq!(broker.heartbeat(&follower), Err(GroupError::UnknownMemberId));
    assert_eq!(broker.heartbeat(&leader), Err(GroupError::RebalanceInProgress));
}

#[test]
fn the_last_members_end_leaves_the_group_empty() {
    let mut broker = Broker::new();
    let alone = broker.stable_alone(consumer("a"));
    broker.pass(SESSION_MS);
    let group = broker.groups.describe(GROUP);
    assert_eq!((group.state, group.generation), (GroupState::Empty, 2));
    assert_eq!(broker.heartbeat(&alone), Err(GroupError::UnknownMemberId));
    assert_eq!(broker.stable_alone(consumer("a")).generation, 3);
}

#[test]
fn what_a_heartbeat_must_hold_to() {
    let mut broker = Broker::new();
    let alone = broker.stable_alone(consumer("a"));
    let beat = |broker: &mut Broker, group: &str, generation, member_id: &str| {
        let (group, member_id) = (group.to_owned(), member_id.to_owned());
        let request = HeartbeatRequest { group, generation, member_id, instance_id: None };
        broker.groups.heartbeat(broker.now, &request)
    };
    assert_eq!(beat(&mut broker, "", 1, &alone.member_id), Err(GroupError::InvalidGroupId));
    assert_eq!(beat(&mut broker, "other", 1, &alone.member_id), Err(GroupError::UnknownMemberId));
    assert_eq!(beat(&mut broker, GROUP, 1, "nobody"), Err(GroupError::UnknownMemberId));
    assert_eq!(beat(&mut broker, GROUP, 0, &alone.member_id), Err(GroupError::IllegalGeneration));
    assert_eq!(beat(&mut broker, GROUP, 1, &alone.member_id), Ok(()));
}

#[test]
fn members_may_beat_before_the_assignment_comes() {
    let mut broker = Broker::new();
    let token = broker.join(consumer("a"));
    let joined = broker.joined(token);
    for _ in 0..5 {
        broker.pass(SESSION_MS - 1);
        assert_eq!(broker.heartbeat(&joined), Ok(()));
    }
}

#[test]
fn a_heartbeat_in_a_rebalance_keeps_the_member() {
    let mut broker = Broker::new();
    let alone = broker.stable_alone(consumer("a"));
    let newcomer = broker.join(consumer("b"));
    for _ in 0..5 {
        broker.pass(SESSION_MS - 1);
        assert_eq!(broker.heartbeat(&alone), Err(GroupError::RebalanceInProgress));
    }
    assert_eq!(broker.members().len(), 2);
    assert!(broker.waits(newcomer));
}

#[test]
fn who_does_not_join_within_the_longest_rebalance_timeout_is_removed() {
    let mut broker = Broker::new();
    let patient = |client_id| JoinRequest { rebalance_timeout_ms: 100_000, ..consumer(client_id) };
    let (leader, slow) = broker.stable_pair(consumer("a"), patient("b"));
    let token = broker.join(again(&consumer("a"), &leader));
    for _ in 0..12 {
        broker.pass(8000);
        assert_eq!(broker.heartbeat(&slow), Err(GroupError::RebalanceInProgress));
    }
    broker.pass(3999);
    assert!(broker.waits(token));
    broker.pass(1);
    assert_eq!(broker.joined(token).members.len(), 1);
    assert_eq!(broker.heartbeat(&slow), Err(GroupError::UnknownMemberId));
}

#[test]
fn a_leader_that_does_not_join_is_followed_by_one_that_has() {
    let mut broker = Broker::new();
    let (leader, follower) = broker.stable_pair(consumer("a"), consumer("b"));
    broker.groups.force_rebalance(broker.now, GROUP).expect("it exists");
    let token = broker.join(again(&consumer("b"), &follower));
    broker.pass(SESSION_MS);
    let joined = broker.joined(token);
    assert_eq!((joined.leader, joined.members.len()), (follower.member_id, 1));
    assert_eq!(broker.heartbeat(&leader), Err(GroupError::UnknownMemberId));
}

#[test]
fn who_waits_is_alive() {
    let mut broker = Broker::new();
    let (leader, slow) = broker.stable_pair(consumer("a"), consumer("b"));
    let join = broker.join(again(&consumer("a"), &leader));
    for _ in 0..5 {
        broker.pass(SESSION_MS - 1);
        assert_eq!(broker.heartbeat(&slow), Err(GroupError::RebalanceInProgress));
    }
    let last = broker.join(again(&consumer("b"), &slow));
    let (leader, slow) = (broker.joined(join), broker.joined(last));
    let sync = broker.sync(sync(&slow));
    for _ in 0..5 {
        broker.pass(SESSION_MS - 1);
        assert_eq!(broker.heartbeat(&leader), Ok(()));
    }
    broker.sync(leader_sync(&leader));
    broker.synced(sync);
    // The session begins with the answer.
    broker.pass(SESSION_MS - 1);
    assert_eq!(broker.heartbeat(&slow), Ok(()));
}

#[test]
fn an_id_that_is_not_joined_with_expires_with_the_session() {
    let mut broker = Broker::new();
    let alone = broker.stable_alone(consumer("a"));
    let request = JoinRequest { require_known_member_id: true, ..consumer("b") };
    let token = broker.join(request.clone());
    let given = broker.refused(token).member_id;
    broker.pass(SESSION_MS - 1);
    broker.heartbeat(&alone).expect("it is stable");
    let first = broker.join(again(&consumer("a"), &alone));
    assert!(broker.waits(first));
    broker.pass(1);
    assert_eq!(broker.joined(first).members.len(), 1);
    assert_eq!(broker.join_error(JoinRequest { member_id: given, ..request }), GroupError::UnknownMemberId);
}

#[test]
fn a_first_join_does_not_wait_for_ever() {
    let mut broker = Broker::new();
    let patient = |client_id| JoinRequest { rebalance_timeout_ms: 900_000, ..consumer(client_id) };
    let alone = broker.stable_alone(patient("a"));
    let newcomer = broker.join(consumer("b"));
    for _ in 0..60 {
        assert!(broker.waits(newcomer));
        broker.pass(5000);
        assert_eq!(broker.heartbeat(&alone), Err(GroupError::RebalanceInProgress));
    }
    assert_eq!(broker.refused(newcomer).error, GroupError::UnknownMemberId);
    assert_eq!(broker.members(), [alone.member_id]);
}

#[test]
fn who_has_joined_before_waits_as_long_as_the_rebalance_takes() {
    let mut broker = Broker::new();
    let patient = |client_id| JoinRequest { rebalance_timeout_ms: 900_000, ..consumer(client_id) };
    let (leader, slow) = broker.stable_pair(patient("a"), patient("b"));
    let token = broker.join(again(&patient("a"), &leader));
    for _ in 0..100 {
        broker.pass(5000);
        assert_eq!(broker.heartbeat(&slow), Err(GroupError::RebalanceInProgress));
    }
    broker.join(again(&patient("b"), &slow));
    assert_eq!(broker.joined(token).members.len(), 2);
}

#[test]
fn without_a_rebalance_timeout_the_session_timeout_holds() {
    let mut broker = Broker::new();
    let old = |client_id| JoinRequest { rebalance_timeout_ms: -1, ..consumer(client_id) };
    let (leader, slow) = broker.stable_pair(old("a"), old("b"));
    let token = broker.join(again(&old("a"), &leader));
    broker.pass(SESSION_MS - 1);
    broker.heartbeat(&slow).expect_err("it rebalances");
    assert!(broker.waits(token));
    broker.pass(1);
    assert_eq!(broker.joined(token).members.len(), 1);
}

#[test]
fn a_forced_rebalance_has_all_members_join_again() {
    let mut broker = Broker::new();
    let (leader, follower) = broker.stable_pair(consumer("a"), consumer("b"));
    assert_eq!(broker.groups.force_rebalance(broker.now, "other"), Err(GroupError::GroupIdNotFound));
    assert_eq!(broker.groups.force_rebalance(broker.now, GROUP), Ok(()));
    for member in [&leader, &follower] {
        assert_eq!(broker.heartbeat(member), Err(GroupError::RebalanceInProgress));
    }
    let tokens = [broker.join(again(&consumer("a"), &leader)), broker.join(again(&consumer("b"), &follower))];
    for token in tokens {
        assert_eq!(broker.joined(token).generation, leader.generation + 1);
    }
}

#[test]
fn offsets_expire_when_the_group_has_been_empty_for_long() {
    let settings = Settings { offset_retention_ms: 500_000, ..Settings::default() };
    let mut broker = Broker::with(settings);
    let alone = broker.stable_alone(consumer("a"));
    assert_eq!(broker.commit(member_commit(&alone, vec![offset("orders", 0, 5)])), [Ok(())]);
    for _ in 0..100 {
        broker.pass(SESSION_MS - 1);
        broker.heartbeat(&alone).expect("it is stable");
    }
    assert_eq!(broker.leave(&alone.member_id, None), Ok(()));
    broker.pass(499_999);
    assert_eq!(broker.offset("orders", 0), 5);
    broker.pass(1);
    assert_eq!(broker.offset("orders", 0), -1);
    assert_eq!(broker.state(), GroupState::Dead);
    assert_eq!(broker.journal.last(), Some(&Entry::GroupDeleted { group: GROUP.to_owned() }));
}

#[test]
fn a_commit_keeps_an_empty_groups_offsets() {
    let settings = Settings { offset_retention_ms: 500_000, ..Settings::default() };
    let mut broker = Broker::with(settings);
    for count in 0..3 {
        assert_eq!(broker.commit(simple_commit(vec![offset("orders", count, 5)])), [Ok(())]);
        broker.pass(499_999);
    }
    assert_eq!(broker.offset("orders", 0), 5);
    broker.pass(1);
    assert_eq!(broker.offset("orders", 0), -1);
}

#[test]
fn a_group_with_neither_members_nor_offsets_is_dropped_soon() {
    let mut broker = Broker::new();
    let alone = broker.stable_alone(consumer("a"));
    broker.leave(&alone.member_id, None).expect("it is a member");
    broker.pass(599_999);
    assert_eq!(broker.state(), GroupState::Empty);
    broker.pass(1);
    assert_eq!(broker.state(), GroupState::Dead);
    assert_eq!(broker.journal, []);
    assert_eq!(broker.groups.next_deadline(), None);
}
