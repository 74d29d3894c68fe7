//! What operators ask of groups: what there is, and that it be gone.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, ListGroupsRequest, OffsetDeleteRequest, OffsetDeleteResponse,
};

use crate::broker::unique;
use crate::client::{Client, To, error, text, topic_name};
use crate::coordination::group_id;
use crate::limits;
use crate::member::{Member, subscription};

fn describe(client: &mut Client, group: &str) -> DescribedGroup {
    let request = DescribeGroupsRequest::default().with_groups(vec![group_id(group)]);
    let described = client.ask(To::Group(group), &request).groups.remove(0);
    assert_eq!(error(described.error_code), None);
    described
}

/// Name, protocol type, state and kind of the listed groups that are this one.
fn list(client: &mut Client, group: &str, states: &[&str], types: &[&str]) -> Vec<(String, String, String)> {
    let request = ListGroupsRequest::default()
        .with_states_filter(states.iter().map(|state| text(state)).collect())
        .with_types_filter(types.iter().map(|name| text(name)).collect());
    let answer = client.ask(To::Group(group), &request);
    assert_eq!(error(answer.error_code), None);
    let own = answer.groups.into_iter().filter(|listed| listed.group_id.as_str() == group);
    own.map(|listed| {
        (listed.protocol_type.to_string(), listed.group_state.to_string(), listed.group_type.to_string())
    })
    .collect()
}

fn delete(client: &mut Client, group: &str) -> Option<ResponseError> {
    let request = DeleteGroupsRequest::default().with_groups_names(vec![group_id(group)]);
    error(client.ask(To::Group(group), &request).results[0].error_code)
}

fn delete_offset(client: &mut Client, group: &str, topic: &str) -> OffsetDeleteResponse {
    let partition = OffsetDeleteRequestPartition::default().with_partition_index(0);
    let topic =
        OffsetDeleteRequestTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
    let request = OffsetDeleteRequest::default().with_group_id(group_id(group)).with_topics(vec![topic]);
    client.ask(To::Group(group), &request)
}

#[test]
fn a_group_is_described_with_its_members() {
    let mut client = Client::new();
    let group = unique("group");
    let mut member = Member::fixed(&group, "one").subscribed("contract.some");
    member.join_alone();
    let described = describe(&mut client, &group);
    assert_eq!(described.group_state.as_str(), "Stable");
    assert_eq!((described.protocol_type.as_str(), described.protocol_data.as_str()), ("consumer", "range"));
    let [only] = &described.members[..] else { panic!("{:?}", described.members) };
    assert_eq!(only.member_id.as_str(), member.member_id);
    assert_eq!(only.group_instance_id.as_ref().unwrap().as_str(), "one");
    assert_eq!((only.client_id.as_str(), only.client_host.as_str()), ("contract", "/127.0.0.1"));
    assert_eq!(only.member_metadata, subscription(&["contract.some"]));
    assert_eq!(&only.member_assignment[..], b"all");
}

#[test]
fn a_group_that_rebalances_tells_of_its_members_only_who_they_are() {
    let mut client = Client::new();
    let group = unique("group");
    // A coordinator that moves to another broker forgets what was not synced, and does so when a broker is late.
    let (mut member, described) = crate::broker::until("a group that is known", || {
        let mut member = Member::new(&group);
        member.join();
        let described = describe(&mut client, &group);
        (described.group_state.as_str() != "Dead").then_some((member, described))
    });
    assert_eq!(described.group_state.as_str(), "CompletingRebalance");
    assert_eq!(described.protocol_data.as_str(), "");
    assert_eq!(described.members[0].member_id.as_str(), member.member_id);
    assert!(described.members[0].member_metadata.is_empty());
    assert!(described.members[0].member_assignment.is_empty());
    let id = member.member_id.clone();
    member.sync(&[(&id, b"")]).unwrap();
    let mut other = Member::new(&group);
    let _joining = other.start_join();
    crate::broker::until("the rebalance", || {
        (describe(&mut client, &group).group_state.as_str() == "PreparingRebalance").then_some(())
    });
}

#[test]
fn a_group_that_nobody_is_in_is_empty() {
    let mut client = Client::new();
    let (group, topic) = (unique("group"), client.topic());
    assert_eq!(client.commit(&group, &topic, 1), None);
    let described = describe(&mut client, &group);
    assert_eq!((described.group_state.as_str(), described.members.len()), ("Empty", 0));
    assert_eq!(described.protocol_type.as_str(), "");
    let mut member = Member::new(&group);
    member.join_alone();
    member.leave();
    let described = describe(&mut client, &group);
    assert_eq!((described.group_state.as_str(), described.members.len()), ("Empty", 0));
    assert_eq!(described.protocol_type.as_str(), "consumer");
}

#[test]
fn a_group_that_does_not_exist_is_dead() {
    let mut client = Client::new();
    let group = unique("nobody");
    let described = describe(&mut client, &group);
    assert_eq!((described.group_state.as_str(), described.members.len()), ("Dead", 0));
    // Version 6 says it by an error (KIP-1043), and is not spoken here.
    assert_eq!(list(&mut client, &group, &[], &[]), []);
}

#[test]
fn groups_are_listed_by_state_and_kind() {
    let mut client = Client::new();
    let (group, topic) = (unique("group"), client.topic());
    assert_eq!(client.commit(&group, &topic, 1), None);
    let listed = |kind: &str, state: &str| vec![(kind.to_owned(), state.to_owned(), "classic".to_owned())];
    assert_eq!(list(&mut client, &group, &[], &[]), listed("", "Empty"));
    assert_eq!(list(&mut client, &group, &["Stable"], &[]), []);
    let mut member = Member::new(&group);
    member.join_alone();
    assert_eq!(list(&mut client, &group, &["Stable"], &[]), listed("consumer", "Stable"));
    // Names of states and kinds are in whatever case.
    assert_eq!(list(&mut client, &group, &["empty", "stable"], &["Classic"]), listed("consumer", "Stable"));
    assert_eq!(list(&mut client, &group, &["Empty"], &[]), []);
    assert_eq!(list(&mut client, &group, &[], &["consumer"]), []);
}

#[test]
fn a_group_is_deleted_when_nobody_is_in_it() {
    let mut client = Client::new();
    let (group, topic) = (unique("group"), client.topic());
    assert_eq!(delete(&mut client, &group), Some(ResponseError::GroupIdNotFound));
    assert_eq!(client.commit(&group, &topic, 1), None);
    let mut member = Member::new(&group);
    member.join_alone();
    assert_eq!(delete(&mut client, &group), Some(ResponseError::NonEmptyGroup));
    member.leave();
    assert_eq!(delete(&mut client, &group), None);
    assert_eq!(client.committed(&group, &topic).committed_offset, -1);
    assert_eq!(describe(&mut client, &group).group_state.as_str(), "Dead");
    assert_eq!(delete(&mut client, &group), Some(ResponseError::GroupIdNotFound));
}

#[test]
fn offsets_are_deleted_but_those_that_are_in_use() {
    let mut client = Client::new();
    let (group, used, unused) = (unique("group"), client.topic(), client.topic());
    let answer = delete_offset(&mut client, &group, &used);
    assert_eq!(error(answer.error_code), Some(ResponseError::GroupIdNotFound));
    assert_eq!(client.commit(&group, &used, 1), None);
    assert_eq!(client.commit(&group, &unused, 2), None);
    let mut member = Member::new(&group).subscribed(&used);
    member.join_alone();
    let answer = delete_offset(&mut client, &group, &used);
    assert_eq!(error(answer.error_code), None);
    let refused = error(answer.topics[0].partitions[0].error_code);
    assert_eq!(refused, Some(ResponseError::GroupSubscribedToTopic));
    let answer = delete_offset(&mut client, &group, &unused);
    assert_eq!(error(answer.topics[0].partitions[0].error_code), None);
    assert_eq!(client.committed(&group, &used).committed_offset, 1);
    assert_eq!(client.committed(&group, &unused).committed_offset, -1);
    member.leave();
    let answer = delete_offset(&mut client, &group, &used);
    assert_eq!(error(answer.topics[0].partitions[0].error_code), None);
    assert_eq!(client.committed(&group, &used).committed_offset, -1);
}

/// Groups of the new protocol (KIP-848) are not there: clients that ask for it are told so when they ask for versions.
#[test]
fn the_new_protocol_of_groups_is_offered_or_not() {
    let mut client = Client::new();
    let request = kafka_protocol::messages::ApiVersionsRequest::default();
    let answer = client.ask_in(0, To::Any, &request);
    let offered = answer.api_keys.iter().any(|offered| offered.api_key == 68);
    assert_eq!(offered, limits::differs("consumer group protocol", true, false));
}
