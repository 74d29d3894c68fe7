//! Committed offsets: who may commit, and what is kept.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;

use crate::broker::unique;
use crate::client::{Client, To, error, text};
use crate::coordination::commit_request;
use crate::member::Member;

#[test]
fn a_simple_consumer_commits_to_a_group_that_nobody_is_in() {
    let mut client = Client::new();
    let (group, topic) = (unique("group"), client.topic());
    let none = client.committed(&group, &topic);
    assert_eq!((error(none.error_code), none.committed_offset), (None, -1));
    assert_eq!(none.metadata.unwrap_or_default().as_str(), "");
    let request = commit_request(&group, &topic, 5, "hello").with_generation_id_or_member_epoch(-1);
    assert_eq!(client.commit_as(&request), None);
    let found = client.committed(&group, &topic);
    assert_eq!((found.committed_offset, found.metadata.unwrap().as_str()), (5, "hello"));
    // Going back is allowed.
    assert_eq!(client.commit(&group, &topic, 3), None);
    assert_eq!(client.committed(&group, &topic).committed_offset, 3);
    // All of a group.
    let all = client.fetch_group(&group, None, false).unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!((all[0].0.as_str(), all[0].1.committed_offset), (topic.as_str(), 3));
    assert!(client.fetch_group(&unique("nobody"), None, false).unwrap().is_empty());
}

#[test]
fn the_leader_epoch_of_an_offset_is_kept() {
    let mut client = Client::new();
    let (group, topic) = (unique("group"), client.topic());
    let mut request = commit_request(&group, &topic, 5, "").with_generation_id_or_member_epoch(-1);
    request.topics[0].partitions[0].committed_leader_epoch = 7;
    assert_eq!(client.commit_as(&request), None);
    assert_eq!(client.committed(&group, &topic).committed_leader_epoch, 7);
}

#[test]
fn metadata_is_kept_up_to_4096_bytes() {
    let mut client = Client::new();
    let (group, topic) = (unique("group"), client.topic());
    let most = "m".repeat(4096);
    let request = |offset: i64, metadata: &str| {
        commit_request(&group, &topic, offset, metadata).with_generation_id_or_member_epoch(-1)
    };
    assert_eq!(client.commit_as(&request(1, &most)), None);
    let longer = format!("{most}m");
    assert_eq!(client.commit_as(&request(2, &longer)), Some(ResponseError::OffsetMetadataTooLarge));
    let found = client.committed(&group, &topic);
    assert_eq!((found.committed_offset, found.metadata.unwrap().as_str()), (1, most.as_str()));
}

#[test]
fn metadata_counts_in_bytes_and_may_be_missing() {
    let mut client = Client::new();
    let (group, topic) = (unique("group"), client.topic());
    let mut request = commit_request(&group, &topic, 1, "").with_generation_id_or_member_epoch(-1);
    // 1366 characters of 3 bytes are 4098.
    request.topics[0].partitions[0].committed_metadata = Some(text(&"€".repeat(1366)));
    let wide = client.commit_as(&request);
    request.topics[0].partitions[0].committed_metadata = None;
    assert_eq!(client.commit_as(&request), None);
    assert_eq!(client.committed(&group, &topic).metadata.unwrap_or_default().as_str(), "");
    assert_eq!(
        wide,
        crate::limits::differs("metadata in bytes", None, Some(ResponseError::OffsetMetadataTooLarge))
    );
}

#[test]
fn one_partition_that_is_refused_does_not_hold_up_the_others() {
    let mut client = Client::new();
    let (group, topic) = (unique("group"), client.topic_with(2, &[]));
    let mut request =
        commit_request(&group, &topic, 1, &"m".repeat(5000)).with_generation_id_or_member_epoch(-1);
    let fine = OffsetCommitRequestPartition::default().with_partition_index(1).with_committed_offset(4);
    request.topics[0].partitions.push(fine.with_committed_metadata(Some(text(""))));
    let answer = client.ask(To::Group(&group), &request);
    let mut outcomes: Vec<_> = answer.topics[0]
        .partitions
        .iter()
        .map(|partition| (partition.partition_index, error(partition.error_code)))
        .collect();
    outcomes.sort_by_key(|(partition, _)| *partition);
    assert_eq!(outcomes, [(0, Some(ResponseError::OffsetMetadataTooLarge)), (1, None)]);
    assert_eq!(client.committed(&group, &topic).committed_offset, -1);
}

#[test]
fn offsets_of_unknown_topics_are_refused() {
    let mut client = Client::new();
    let group = unique("group");
    let refused = client.commit(&group, "contract.unknown", 1);
    assert_eq!(refused, Some(ResponseError::UnknownTopicOrPartition));
    assert_eq!(client.committed(&group, "contract.unknown").committed_offset, -1);
}

#[test]
fn only_members_commit_to_a_group_that_is_in_use() {
    let mut client = Client::new();
    let (group, topic) = (unique("group"), client.topic());
    let mut member = Member::new(&group);
    member.join();
    let of = |member: &Member| {
        commit_request(&group, &topic, 1, "")
            .with_generation_id_or_member_epoch(member.generation)
            .with_member_id(member.id())
    };
    let own = of(&member);
    // Until it knows its partitions it has nothing to commit.
    assert_eq!(client.commit_as(&own), Some(ResponseError::RebalanceInProgress));
    let id = member.member_id.clone();
    member.sync(&[(&id, b"all")]).unwrap();
    assert_eq!(client.commit_as(&own), None);
    assert_eq!(client.commit(&group, &topic, 9), Some(ResponseError::UnknownMemberId), "a simple consumer");
    let mut other = own.clone();
    other.generation_id_or_member_epoch += 1;
    assert_eq!(client.commit_as(&other), Some(ResponseError::IllegalGeneration));
    other.generation_id_or_member_epoch -= 1;
    other.member_id = text("nobody");
    assert_eq!(client.commit_as(&other), Some(ResponseError::UnknownMemberId));
    assert_eq!(client.committed(&group, &topic).committed_offset, 1);
    // When all have left, anybody may again, and their generation is over.
    member.leave();
    assert_eq!(client.commit(&group, &topic, 9), None);
    assert_eq!(client.commit_as(&own), Some(ResponseError::UnknownMemberId));
    assert_eq!(client.committed(&group, &topic).committed_offset, 9);
}

#[test]
fn a_generation_of_a_group_that_does_not_exist_is_refused() {
    let mut client = Client::new();
    let (group, topic) = (unique("group"), client.topic());
    let request = commit_request(&group, &topic, 1, "")
        .with_generation_id_or_member_epoch(3)
        .with_member_id(text("somebody"));
    assert_eq!(client.commit_as(&request), Some(ResponseError::IllegalGeneration));
}

#[test]
fn offsets_go_with_their_topic() {
    let mut client = Client::new();
    let (group, topic, other) = (unique("group"), client.topic(), client.topic());
    assert_eq!(client.commit(&group, &topic, 1), None);
    assert_eq!(client.commit(&group, &other, 2), None);
    client.delete_topic(&topic);
    crate::broker::until("the end of the offset", || {
        let all = client.fetch_group(&group, None, false).unwrap();
        (all.len() == 1 && all[0].0 == other).then_some(())
    });
}
