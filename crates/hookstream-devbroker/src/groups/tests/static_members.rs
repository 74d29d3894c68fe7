//! Members that come back under their instance id (KIP-345).

use super::*;

fn beat(broker: &mut Broker, joined: &Joined, instance_id: &str) -> Result<(), GroupError> {
    let request = HeartbeatRequest {
        group: GROUP.to_owned(),
        generation: joined.generation,
        member_id: joined.member_id.clone(),
        instance_id: Some(instance_id.to_owned()),
    };
    broker.groups.heartbeat(broker.now, &request)
}

#[test]
fn a_restarted_follower_takes_its_place_without_a_rebalance() {
    let mut broker = Broker::new();
    let (leader, old) = broker.stable_pair(static_consumer("one"), static_consumer("two"));
    let token = broker.join(static_consumer("two"));
    let new = broker.joined(token);
    assert_eq!((new.generation, &new.leader), (leader.generation, &leader.member_id));
    assert_ne!(new.member_id, old.member_id);
    assert_eq!(broker.state(), GroupState::Stable);
    let token = broker.sync(sync(&new));
    // What the leader gave to the place.
    assert_eq!(broker.synced(token).assignment, old.member_id);
    assert_eq!(beat(&mut broker, &new, "two"), Ok(()));
    assert_eq!(beat(&mut broker, &leader, "one"), Ok(()));
}

#[test]
fn the_old_member_id_is_fenced() {
    let mut broker = Broker::new();
    let (leader, old) = broker.stable_pair(static_consumer("one"), static_consumer("two"));
    broker.join(static_consumer("two"));
    let fenced = GroupError::FencedInstanceId;
    let two = Some("two".to_owned());
    assert_eq!(beat(&mut broker, &old, "two"), Err(fenced));
    let token = broker.sync(SyncRequest { instance_id: two.clone(), ..sync(&old) });
    assert_eq!(broker.sync_error(token), fenced);
    assert_eq!(broker.join_error(again(&static_consumer("two"), &old)), fenced);
    let commit = member_commit(&old, vec![offset("orders", 0, 1)]);
    assert_eq!(broker.commit(CommitRequest { instance_id: two, ..commit }), [Err(fenced)]);
    assert_eq!(broker.leave(&old.member_id, Some("two")), Err(fenced));
    // Without the instance id nothing is known of it.
    assert_eq!(broker.heartbeat(&old), Err(GroupError::UnknownMemberId));
    assert_eq!(beat(&mut broker, &leader, "three"), Err(GroupError::UnknownMemberId));
}

#[test]
fn a_restarted_leader_is_not_told_that_it_leads() {
    let mut broker = Broker::new();
    let (old, _) = broker.stable_pair(static_consumer("one"), static_consumer("two"));
    let token = broker.join(static_consumer("one"));
    let new = broker.joined(token);
    assert_eq!((&new.leader, new.members.len(), new.skip_assignment), (&old.member_id, 0, false));
    assert_eq!(broker.groups.describe(GROUP).leader, Some(new.member_id.clone()));
    assert_eq!(broker.state(), GroupState::Stable);
    // When it joins again, it leads, as the group knows.
    let token = broker.join(again(&static_consumer("one"), &new));
    assert!(broker.waits(token));
}

#[test]
fn a_restarted_leader_that_can_skips_the_assignment() {
    let mut broker = Broker::new();
    let (_, follower) = broker.stable_pair(static_consumer("one"), static_consumer("two"));
    let token = broker.join(JoinRequest { supports_skip_assignment: true, ..static_consumer("one") });
    let new = broker.joined(token);
    assert_eq!((&new.leader, new.skip_assignment), (&new.member_id, true));
    assert_eq!(new.members.len(), 2);
    let token = broker.join(JoinRequest { supports_skip_assignment: true, ..static_consumer("two") });
    let second = broker.joined(token);
    assert_eq!((second.skip_assignment, second.leader), (false, new.member_id));
    assert_ne!(second.member_id, follower.member_id);
}

#[test]
fn a_restart_with_other_topics_or_protocols_has_the_group_rebalance() {
    let other_topics = vec![("range".to_owned(), subscription(&["refunds"]))];
    let both = |names: [&str; 2]| names.map(|name| (name.to_owned(), subscription(&["orders"]))).to_vec();
    let rows = [
        (both(["range", "sticky"]), both(["range", "sticky"]), GroupState::Stable),
        (both(["range", "sticky"]), both(["sticky", "range"]), GroupState::PreparingRebalance),
        (both(["range", "sticky"]), other_topics, GroupState::PreparingRebalance),
    ];
    for (before, after, state) in rows {
        let mut broker = Broker::new();
        let one = JoinRequest { protocols: before, ..static_consumer("one") };
        broker.stable_alone(one.clone());
        let newcomer = broker.join(JoinRequest { instance_id: Some("two".to_owned()), ..one.clone() });
        broker.join(one.clone());
        let newcomer = broker.joined(newcomer);
        assert_eq!(newcomer.protocol, "range");
        let leader = broker.groups.describe(GROUP).leader.expect("it has members");
        let leader = Joined { member_id: leader, ..newcomer.clone() };
        broker.sync(leader_sync(&leader));
        let token = broker.join(JoinRequest { protocols: after.clone(), ..one });
        assert_eq!(broker.state(), state, "{after:?}");
        assert_eq!(broker.waits(token), state != GroupState::Stable);
    }
}

#[test]
fn owned_partitions_in_the_metadata_make_no_rebalance() {
    let mut broker = Broker::new();
    let mut owning = subscription(&["orders"]).to_vec();
    owning.extend([0; 8]);
    let owner =
        JoinRequest { protocols: vec![("range".to_owned(), owning.into())], ..static_consumer("one") };
    let alone = broker.stable_alone(owner);
    let token = broker.join(static_consumer("one"));
    assert_eq!(broker.joined(token).generation, alone.generation);
}

#[test]
fn a_restart_while_the_group_waits_for_the_assignment_has_it_rebalance() {
    let mut broker = Broker::new();
    let alone = broker.stable_alone(static_consumer("one"));
    let follower = broker.join(static_consumer("two"));
    let leader = broker.join(again(&static_consumer("one"), &alone));
    let (leader, follower) = (broker.joined(leader), broker.joined(follower));
    let waiting = broker.sync(sync(&follower));
    let restarted = broker.join(static_consumer("two"));
    // The leader would assign to an id that is no more.
    assert_eq!(broker.sync_error(waiting), GroupError::FencedInstanceId);
    assert_eq!(broker.state(), GroupState::PreparingRebalance);
    let token = broker.join(again(&static_consumer("one"), &leader));
    assert_eq!(broker.joined(token).members.len(), 2);
    assert_eq!(broker.joined(restarted).generation, leader.generation + 1);
}

#[test]
fn a_second_client_with_the_instance_id_ends_the_wait_of_the_first() {
    let mut broker = Broker::new();
    broker.stable_alone(static_consumer("one"));
    let first = broker.join(static_consumer("two"));
    let second = broker.join(static_consumer("two"));
    assert_eq!(broker.refused(first).error, GroupError::FencedInstanceId);
    assert!(broker.waits(second));
    assert_eq!(broker.members().len(), 2);
}

#[test]
fn a_static_member_that_does_not_join_keeps_its_place_until_its_session_ends() {
    let mut broker = Broker::new();
    let patient =
        |request| JoinRequest { session_timeout_ms: 100_000, rebalance_timeout_ms: 20_000, ..request };
    let (_, follower) = broker.stable_pair(patient(static_consumer("one")), patient(consumer("b")));
    broker.groups.force_rebalance(broker.now, GROUP).expect("it exists");
    let token = broker.join(again(&patient(consumer("b")), &follower));
    broker.pass(19_999);
    assert!(broker.waits(token));
    broker.pass(1);
    let joined = broker.joined(token);
    // It has a place in the generation, and another leads.
    assert_eq!((joined.members.len(), &joined.leader), (2, &follower.member_id));
    broker.sync(leader_sync(&joined));
    assert_eq!(broker.state(), GroupState::Stable);
    // It does not sync either.
    broker.pass(20_000);
    assert_eq!(broker.members(), [follower.member_id]);
}

#[test]
fn a_rebalance_that_no_static_member_joins_waits_for_their_sessions() {
    let mut broker = Broker::new();
    let patient = JoinRequest { session_timeout_ms: 100_000, ..static_consumer("one") };
    let alone = broker.stable_alone(JoinRequest { rebalance_timeout_ms: 20_000, ..patient });
    broker.groups.force_rebalance(broker.now, GROUP).expect("it exists");
    broker.pass(99_999);
    assert_eq!(broker.members(), [alone.member_id]);
    assert_eq!(broker.state(), GroupState::PreparingRebalance);
    broker.pass(1);
    assert_eq!(broker.state(), GroupState::Empty);
}

#[test]
fn who_takes_a_place_over_that_has_not_synced_may_sync_for_it() {
    let mut broker = Broker::new();
    let alone = broker.stable_alone(static_consumer("one"));
    broker.join(static_consumer("two"));
    let leader = broker.join(again(&static_consumer("one"), &alone));
    let leader = broker.joined(leader);
    broker.sync(leader_sync(&leader));
    let token = broker.join(static_consumer("two"));
    let new = broker.joined(token);
    let token = broker.sync(sync(&new));
    assert!(!broker.synced(token).assignment.is_empty());
    for _ in 0..20 {
        broker.pass(REBALANCE_MS / 10);
        assert_eq!(beat(&mut broker, &leader, "one"), Ok(()));
        assert_eq!(beat(&mut broker, &new, "two"), Ok(()));
    }
}
