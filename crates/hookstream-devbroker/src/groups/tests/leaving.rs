//! Members leave.

use super::*;

#[test]
fn a_member_that_leaves_has_the_others_join_again() {
    let mut broker = Broker::new();
    let (leader, follower) = broker.stable_pair(consumer("a"), consumer("b"));
    assert_eq!(broker.leave(&leader.member_id, None), Ok(()));
    assert_eq!(broker.heartbeat(&follower), Err(GroupError::RebalanceInProgress));
    let token = broker.join(again(&consumer("b"), &follower));
    let joined = broker.joined(token);
    assert_eq!((joined.leader, joined.members.len()), (follower.member_id, 1));
    assert_eq!(broker.leave(&leader.member_id, None), Err(GroupError::UnknownMemberId));
}

#[test]
fn who_is_waited_for_may_leave() {
    let mut broker = Broker::new();
    let (leader, follower) = broker.stable_pair(consumer("a"), consumer("b"));
    let token = broker.join(again(&consumer("a"), &leader));
    assert!(broker.waits(token));
    assert_eq!(broker.leave(&follower.member_id, None), Ok(()));
    assert_eq!(broker.joined(token).members.len(), 1);
}

#[test]
fn who_waits_and_is_made_to_leave_is_told() {
    let mut broker = Broker::new();
    let alone = broker.stable_alone(consumer("a"));
    let newcomer = broker.join(consumer("b"));
    let id = broker.members().into_iter().find(|id| *id != alone.member_id).expect("there are two");
    assert_eq!(broker.leave(&id, None), Ok(()));
    assert_eq!(broker.refused(newcomer).error, GroupError::UnknownMemberId);
    let follower = broker.join(consumer("c"));
    broker.join(again(&consumer("a"), &alone));
    let follower = broker.joined(follower);
    let waiting = broker.sync(sync(&follower));
    assert_eq!(broker.leave(&follower.member_id, None), Ok(()));
    assert_eq!(broker.sync_error(waiting), GroupError::UnknownMemberId);
}

#[test]
fn an_id_that_was_given_may_be_given_back() {
    let mut broker = Broker::new();
    let alone = broker.stable_alone(consumer("a"));
    let token = broker.join(JoinRequest { require_known_member_id: true, ..consumer("b") });
    let given = broker.refused(token).member_id;
    let first = broker.join(again(&consumer("a"), &alone));
    assert!(broker.waits(first));
    assert_eq!(broker.leave(&given, None), Ok(()));
    assert_eq!(broker.joined(first).members.len(), 1);
}

#[test]
fn several_members_leave_at_once_each_with_its_outcome() {
    let mut broker = Broker::new();
    let (one, two) = broker.stable_pair(static_consumer("one"), static_consumer("two"));
    let leaver = |member_id: &str, instance_id: Option<&str>| Leaver {
        member_id: member_id.to_owned(),
        instance_id: instance_id.map(str::to_owned),
    };
    let rows = [
        (leaver("", Some("three")), Err(GroupError::UnknownMemberId)),
        (leaver(&one.member_id, Some("two")), Err(GroupError::FencedInstanceId)),
        (leaver("", None), Err(GroupError::UnknownMemberId)),
        (leaver("", Some("one")), Ok(())),
        (leaver(&one.member_id, None), Err(GroupError::UnknownMemberId)),
        (leaver(&two.member_id, Some("two")), Ok(())),
    ];
    let leavers = rows.iter().map(|(leaver, _)| leaver.clone()).collect();
    let left = broker.groups.leave(broker.now, GROUP, leavers).expect("the group id is not empty");
    for ((leaver, outcome), left) in rows.into_iter().zip(left) {
        assert_eq!((left.leaver, left.outcome), (leaver, outcome));
    }
    assert_eq!(broker.state(), GroupState::Empty);
}

#[test]
fn no_group_can_be_left_without_its_id() {
    let mut broker = Broker::new();
    assert_eq!(broker.groups.leave(0, "", Vec::new()), Err(GroupError::InvalidGroupId));
    assert_eq!(broker.leave("somebody", None), Err(GroupError::UnknownMemberId));
}
