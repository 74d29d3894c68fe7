//! Offsets that are committed with a transaction (KIP-98, KIP-447).

use kafka_protocol::ResponseError;

use crate::broker::unique;
use crate::client::{Client, error};
use crate::limits;
use crate::member::Member;
use crate::txn::{TIMEOUT_MS, Transaction};

/// A producer whose transaction may commit the group's offsets.
fn begin(topic: &str, group: &str) -> Transaction {
    let mut transaction = Transaction::claim(&unique("offsets"), topic, TIMEOUT_MS);
    assert_eq!(transaction.add_offsets(group), Ok(()));
    transaction
}

#[test]
fn offsets_count_when_the_transaction_is_committed() {
    let mut client = Client::new();
    let (topic, group) = (client.topic(), unique("group"));
    assert_eq!(client.commit(&group, &topic, 1), None);
    let mut transaction = begin(&topic, &group);
    assert_eq!(transaction.commit_offset(&group, 2), Ok(()));
    assert_eq!(client.committed(&group, &topic).committed_offset, 1);
    let unstable = client.committed_as(&group, &topic, true);
    assert_eq!(error(unstable.error_code), Some(ResponseError::UnstableOffsetCommit));
    assert_eq!(unstable.committed_offset, -1);
    transaction.end(true);
    let found = client.committed_as(&group, &topic, true);
    assert_eq!((error(found.error_code), found.committed_offset), (None, 2));
    assert_eq!(found.metadata.unwrap().as_str(), "in a transaction");
}

#[test]
fn offsets_of_an_aborted_transaction_are_dropped() {
    let mut client = Client::new();
    let (topic, group) = (client.topic(), unique("group"));
    let mut transaction = begin(&topic, &group);
    assert_eq!(transaction.commit_offset(&group, 7), Ok(()));
    assert_eq!(client.committed(&group, &topic).committed_offset, -1);
    transaction.end(false);
    let found = client.committed_as(&group, &topic, true);
    assert_eq!((error(found.error_code), found.committed_offset), (None, -1));
}

#[test]
fn only_the_partitions_of_the_transaction_are_unstable() {
    let mut client = Client::new();
    let (topic, other, group) = (client.topic(), client.topic(), unique("group"));
    assert_eq!(client.commit(&group, &other, 5), None);
    assert_eq!(client.commit(&group, &topic, 1), None);
    let mut transaction = begin(&topic, &group);
    assert_eq!(transaction.commit_offset(&group, 2), Ok(()));
    let found = client.committed_as(&group, &other, true);
    assert_eq!((error(found.error_code), found.committed_offset), (None, 5));
    let all = client.fetch_group(&group, None, true).unwrap();
    let mut all: Vec<_> = all.iter().map(|(name, found)| (name.as_str(), error(found.error_code))).collect();
    all.sort_by_key(|(_, failure)| failure.is_some());
    assert_eq!(all, [(other.as_str(), None), (topic.as_str(), Some(ResponseError::UnstableOffsetCommit))]);
    transaction.end(false);
}

/// A partition that has had no commit before the one that is held.
#[test]
fn who_asks_for_all_offsets_is_told_of_those_that_are_only_held_or_not() {
    let mut client = Client::new();
    let (topic, group) = (client.topic(), unique("group"));
    let mut transaction = begin(&topic, &group);
    assert_eq!(transaction.commit_offset(&group, 2), Ok(()));
    let all = client.fetch_group(&group, None, true).unwrap();
    let told: Vec<_> = all.iter().map(|(_, found)| error(found.error_code)).collect();
    let unstable = vec![Some(ResponseError::UnstableOffsetCommit)];
    assert_eq!(told, limits::differs("offsets that are only held", vec![], unstable));
    transaction.end(false);
}

/// A commit that is made in the meantime is older than the end of the transaction, and yet it may be newer than what
/// is held: the order of the commits themselves decides.
#[test]
fn of_two_commits_the_later_one_counts() {
    let mut client = Client::new();
    let (topic, group) = (client.topic(), unique("group"));
    let mut transaction = begin(&topic, &group);
    assert_eq!(transaction.commit_offset(&group, 2), Ok(()));
    assert_eq!(client.commit(&group, &topic, 9), None);
    transaction.end(true);
    assert_eq!(client.committed(&group, &topic).committed_offset, 9);
}

#[test]
fn the_group_has_to_be_added_to_the_transaction() {
    let mut client = Client::new();
    let (topic, group) = (client.topic(), unique("group"));
    let mut transaction = Transaction::begin("offsets", &topic);
    assert_eq!(transaction.commit_offset(&group, 1), Err(ResponseError::InvalidTxnState));
    assert_eq!(client.committed(&group, &topic).committed_offset, -1);
    transaction.end(false);
}

#[test]
fn an_older_epoch_commits_no_offsets() {
    let mut client = Client::new();
    let (topic, group) = (client.topic(), unique("group"));
    let mut first = begin(&topic, &group);
    let mut second = Transaction::claim(&first.id, &topic, TIMEOUT_MS);
    assert_eq!(second.add_offsets(&group), Ok(()));
    assert_eq!(first.commit_offset(&group, 1), Err(ResponseError::InvalidProducerEpoch));
    assert_eq!(second.commit_offset(&group, 2), Ok(()));
    second.end(true);
    assert_eq!(client.committed(&group, &topic).committed_offset, 2);
}

/// KIP-447: a member that was replaced must not commit what it has read.
#[test]
fn a_member_of_another_generation_commits_no_offsets() {
    let mut client = Client::new();
    let (topic, group) = (client.topic(), unique("group"));
    let mut member = Member::new(&group);
    member.join_alone();
    let mut transaction = begin(&topic, &group);
    let own =
        transaction.offsets(&group, 3).with_member_id(member.id()).with_generation_id(member.generation);
    let mut other = own.clone();
    other.generation_id += 1;
    assert_eq!(transaction.commit_offsets(&other), Err(ResponseError::IllegalGeneration));
    let mut other = own.clone();
    other.member_id = crate::client::text("nobody");
    assert_eq!(transaction.commit_offsets(&other), Err(ResponseError::UnknownMemberId));
    assert_eq!(transaction.commit_offsets(&own), Ok(()));
    transaction.end(true);
    assert_eq!(client.committed(&group, &topic).committed_offset, 3);
    member.leave();
}
