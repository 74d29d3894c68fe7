//! Lists, descriptions, deletions.

use super::*;

fn partitions(topics: &[&str]) -> Vec<TopicPartition> {
    topics.iter().map(|topic| TopicPartition { topic: (*topic).to_owned(), partition: 0 }).collect()
}

#[test]
fn groups_are_listed_by_state() {
    let mut broker = Broker::new();
    broker.stable_alone(consumer("a"));
    let other = CommitRequest { group: "other".to_owned(), ..simple_commit(vec![offset("orders", 0, 1)]) };
    broker.commit(other);
    let names = |states: &[GroupState]| -> Vec<String> {
        broker.groups.list(states).into_iter().map(|listing| listing.group).collect()
    };
    assert_eq!(names(&[]), [GROUP, "other"]);
    assert_eq!(names(&[GroupState::Stable]), [GROUP]);
    assert_eq!(names(&[GroupState::Empty, GroupState::PreparingRebalance]), ["other"]);
    assert_eq!(broker.groups.list(&[])[0].protocol_type, "consumer");
}

#[test]
fn states_are_found_by_their_names() {
    for state in [
        GroupState::Empty,
        GroupState::PreparingRebalance,
        GroupState::CompletingRebalance,
        GroupState::Stable,
        GroupState::Dead,
    ] {
        assert_eq!(GroupState::of_name(state.name()), Some(state));
        assert_eq!(GroupState::of_name(&state.name().to_lowercase()), Some(state));
    }
    assert_eq!(GroupState::of_name("Unknown"), None);
}

#[test]
fn metadata_and_assignments_are_described_while_the_group_is_stable() {
    let mut broker = Broker::new();
    let (leader, follower) = broker.stable_pair(static_consumer("one"), consumer("b"));
    let group = broker.groups.describe(GROUP);
    assert_eq!((group.state, group.generation), (GroupState::Stable, 2));
    assert_eq!((group.protocol_type.as_str(), group.protocol.as_str()), ("consumer", "range"));
    let member =
        |id: &str| group.members.iter().find(|member| member.member_id == id).expect("it is a member");
    assert_eq!(member(&leader.member_id).instance_id.as_deref(), Some("one"));
    let described = member(&follower.member_id);
    assert_eq!((described.client_id.as_str(), described.client_host.as_str()), ("b", "/127.0.0.1"));
    assert_eq!(described.metadata, subscription(&["orders"]));
    assert_eq!(described.assignment, follower.member_id);
    broker.groups.force_rebalance(broker.now, GROUP).expect("it exists");
    let group = broker.groups.describe(GROUP);
    assert_eq!((group.state, group.protocol.as_str()), (GroupState::PreparingRebalance, ""));
    assert!(group.members.iter().all(|member| member.metadata.is_empty() && member.assignment.is_empty()));
}

#[test]
fn an_unknown_group_is_dead() {
    let group = Broker::new().groups.describe(GROUP);
    assert_eq!((group.state, group.members.len()), (GroupState::Dead, 0));
}

#[test]
fn only_a_group_without_members_is_deleted() {
    let mut broker = Broker::new();
    assert_eq!(broker.groups.delete(broker.now, GROUP), Err(GroupError::GroupIdNotFound));
    let alone = broker.stable_alone(consumer("a"));
    broker.commit(member_commit(&alone, vec![offset("orders", 0, 5)]));
    assert_eq!(broker.groups.delete(broker.now, GROUP), Err(GroupError::NonEmptyGroup));
    broker.leave(&alone.member_id, None).expect("it is a member");
    assert_eq!(broker.groups.delete(broker.now, GROUP), Ok(()));
    assert_eq!((broker.state(), broker.offset("orders", 0)), (GroupState::Dead, -1));
}

#[test]
fn offsets_of_subscribed_topics_are_not_deleted() {
    let mut broker = Broker::new();
    let alone = broker.stable_alone(consumer("a"));
    broker.commit(member_commit(&alone, vec![offset("orders", 0, 5), offset("refunds", 0, 6)]));
    let outcomes = broker.groups.delete_offsets(broker.now, GROUP, partitions(&["orders", "refunds"]));
    let outcomes = outcomes_of(&outcomes.expect("they are consumers"));
    assert_eq!(outcomes, [Err(GroupError::GroupSubscribedToTopic), Ok(())]);
    assert_eq!((broker.offset("orders", 0), broker.offset("refunds", 0)), (5, -1));
    broker.leave(&alone.member_id, None).expect("it is a member");
    let outcomes = broker.groups.delete_offsets(broker.now, GROUP, partitions(&["orders"]));
    assert_eq!(outcomes_of(&outcomes.expect("it has no members")), [Ok(())]);
    assert_eq!(broker.offset("orders", 0), -1);
}

#[test]
fn offsets_are_not_deleted_when_the_members_topics_are_not_known() {
    let mut broker = Broker::new();
    let unreadable = vec![("range".to_owned(), Bytes::from_static(b"\0"))];
    let alone = broker.stable_alone(JoinRequest { protocols: unreadable, ..consumer("a") });
    let outcomes = broker.groups.delete_offsets(broker.now, GROUP, partitions(&["refunds"]));
    assert_eq!(
        outcomes_of(&outcomes.expect("they are consumers")),
        [Err(GroupError::GroupSubscribedToTopic)]
    );
    broker.leave(&alone.member_id, None).expect("it is a member");
    broker.stable_alone(JoinRequest { protocol_type: "connect".to_owned(), ..consumer("c") });
    let outcome = broker.groups.delete_offsets(broker.now, GROUP, partitions(&["refunds"]));
    assert_eq!(outcome, Err(GroupError::NonEmptyGroup));
}

#[test]
fn offsets_of_an_unknown_group_are_not_deleted() {
    let mut broker = Broker::new();
    let mut delete = |group| broker.groups.delete_offsets(broker.now, group, partitions(&["orders"]));
    assert_eq!(delete(GROUP), Err(GroupError::GroupIdNotFound));
    assert_eq!(delete(""), Err(GroupError::InvalidGroupId));
}
