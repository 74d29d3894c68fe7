//! The leader assigns.

use super::*;

#[test]
fn followers_wait_for_the_leaders_assignment() {
    let mut broker = Broker::new();
    let alone = broker.stable_alone(consumer("a"));
    let follower = broker.join(consumer("b"));
    let leader = broker.join(again(&consumer("a"), &alone));
    let (leader, follower) = (broker.joined(leader), broker.joined(follower));
    let waiting = broker.sync(sync(&follower));
    assert!(broker.waits(waiting));
    assert_eq!(broker.state(), GroupState::CompletingRebalance);
    let token = broker.sync(leader_sync(&leader));
    assert_eq!(broker.synced(token).assignment, leader.member_id);
    assert_eq!(broker.synced(waiting).assignment, follower.member_id);
    assert_eq!(broker.synced(waiting).protocol, "range");
    assert_eq!(broker.state(), GroupState::Stable);
}

#[test]
fn a_sync_in_a_stable_group_gets_the_assignment_at_once() {
    let mut broker = Broker::new();
    let (_, follower) = broker.stable_pair(consumer("a"), consumer("b"));
    let token = broker.sync(sync(&follower));
    assert_eq!(broker.synced(token).assignment, follower.member_id);
}

#[test]
fn a_followers_assignments_do_not_count() {
    let mut broker = Broker::new();
    let (leader, follower) = broker.stable_pair(consumer("a"), consumer("b"));
    let assignments = vec![(follower.member_id.clone(), Bytes::from_static(b"everything"))];
    let token = broker.sync(SyncRequest { assignments, ..sync(&follower) });
    assert_eq!(broker.synced(token).assignment, follower.member_id);
    let token = broker.sync(sync(&leader));
    assert_eq!(broker.synced(token).assignment, leader.member_id);
}

#[test]
fn a_member_that_the_leader_left_out_has_nothing_to_do() {
    let mut broker = Broker::new();
    let token = broker.join(consumer("a"));
    let joined = broker.joined(token);
    let assignments = vec![("a stranger".to_owned(), Bytes::from_static(b"x"))];
    let token = broker.sync(SyncRequest { assignments, ..sync(&joined) });
    assert_eq!(broker.synced(token).assignment, Bytes::new());
    assert_eq!(broker.members(), [joined.member_id]);
}

#[test]
fn what_a_sync_must_hold_to() {
    let mut broker = Broker::new();
    let (_, follower) = broker.stable_pair(consumer("a"), consumer("b"));
    let right = sync(&follower);
    let rows = [
        (SyncRequest { group: String::new(), ..right.clone() }, GroupError::InvalidGroupId),
        (SyncRequest { group: "other".to_owned(), ..right.clone() }, GroupError::UnknownMemberId),
        (SyncRequest { member_id: "nobody".to_owned(), ..right.clone() }, GroupError::UnknownMemberId),
        (SyncRequest { generation: 1, ..right.clone() }, GroupError::IllegalGeneration),
        (
            SyncRequest { protocol_type: Some("connect".to_owned()), ..right.clone() },
            GroupError::InconsistentGroupProtocol,
        ),
        (
            SyncRequest { protocol: Some("sticky".to_owned()), ..right.clone() },
            GroupError::InconsistentGroupProtocol,
        ),
    ];
    for (request, error) in rows {
        let token = broker.sync(request.clone());
        assert_eq!(broker.sync_error(token), error, "{request:?}");
    }
    let token = broker.sync(SyncRequest { protocol_type: None, protocol: None, ..right.clone() });
    broker.synced(token);
    broker.groups.force_rebalance(broker.now, GROUP).expect("it exists");
    let token = broker.sync(right);
    assert_eq!(broker.sync_error(token), GroupError::RebalanceInProgress);
}

#[test]
fn a_rebalance_has_waiting_syncs_join_again() {
    let mut broker = Broker::new();
    let alone = broker.stable_alone(consumer("a"));
    let follower = broker.join(consumer("b"));
    broker.join(again(&consumer("a"), &alone));
    let follower = broker.joined(follower);
    let waiting = broker.sync(sync(&follower));
    broker.join(consumer("c"));
    assert_eq!(broker.sync_error(waiting), GroupError::RebalanceInProgress);
    assert_eq!(broker.state(), GroupState::PreparingRebalance);
}

#[test]
fn a_sync_that_is_sent_again_waits_in_place_of_the_first() {
    let mut broker = Broker::new();
    let alone = broker.stable_alone(consumer("a"));
    let follower = broker.join(consumer("b"));
    broker.join(again(&consumer("a"), &alone));
    let follower = broker.joined(follower);
    let first = broker.sync(sync(&follower));
    let second = broker.sync(sync(&follower));
    assert_eq!(broker.sync_error(first), GroupError::RebalanceInProgress);
    assert!(broker.waits(second));
}

#[test]
fn members_that_do_not_sync_in_time_are_removed() {
    let mut broker = Broker::new();
    let long_session = |client_id| JoinRequest { session_timeout_ms: 300_000, ..consumer(client_id) };
    let alone = broker.stable_alone(long_session("a"));
    let follower = broker.join(long_session("b"));
    let leader = broker.join(again(&long_session("a"), &alone));
    let (leader, follower) = (broker.joined(leader), broker.joined(follower));
    let waiting = broker.sync(sync(&follower));
    broker.pass(REBALANCE_MS - 1);
    assert!(broker.waits(waiting));
    broker.pass(1);
    // The leader never brought the assignment.
    assert_eq!(broker.sync_error(waiting), GroupError::RebalanceInProgress);
    assert_eq!(broker.members(), std::slice::from_ref(&follower.member_id));
    assert_eq!(broker.heartbeat(&leader), Err(GroupError::UnknownMemberId));
    let token = broker.join(again(&long_session("b"), &follower));
    assert_eq!(broker.joined(token).leader, follower.member_id);
}

#[test]
fn a_follower_that_does_not_sync_in_time_is_removed_from_a_stable_group() {
    let mut broker = Broker::new();
    let long_session = |client_id| JoinRequest { session_timeout_ms: 300_000, ..consumer(client_id) };
    let alone = broker.stable_alone(long_session("a"));
    broker.join(long_session("b"));
    let leader = broker.join(again(&long_session("a"), &alone));
    let leader = broker.joined(leader);
    broker.sync(leader_sync(&leader));
    assert_eq!(broker.state(), GroupState::Stable);
    broker.pass(REBALANCE_MS);
    assert_eq!(broker.members(), [leader.member_id]);
    assert_eq!(broker.state(), GroupState::PreparingRebalance);
}

#[test]
fn a_client_that_has_gone_gets_no_assignment() {
    let mut broker = Broker::new();
    let alone = broker.stable_alone(consumer("a"));
    let follower = broker.join(consumer("b"));
    let leader = broker.join(again(&consumer("a"), &alone));
    let (leader, follower) = (broker.joined(leader), broker.joined(follower));
    let gone = broker.sync(sync(&follower));
    broker.groups.forget(gone);
    broker.sync(leader_sync(&leader));
    assert!(broker.waits(gone));
    broker.pass(SESSION_MS - 1);
    broker.heartbeat(&leader).expect("the group is stable");
    broker.pass(1);
    assert_eq!(broker.members(), [leader.member_id]);
}

#[test]
fn an_assignment_ends_with_its_generation() {
    let mut broker = Broker::new();
    let (leader, follower) = broker.stable_pair(consumer("a"), consumer("b"));
    let tokens = [broker.join(again(&consumer("a"), &leader)), broker.join(again(&consumer("b"), &follower))];
    let [leader, follower] = tokens.map(|token| broker.joined(token));
    broker.sync(SyncRequest { assignments: Vec::new(), ..sync(&leader) });
    let token = broker.sync(sync(&follower));
    assert_eq!(broker.synced(token).assignment, Bytes::new());
}
