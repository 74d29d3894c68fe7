//! Static members (KIP-345): who comes back under its instance id goes on where it was.

use kafka_protocol::ResponseError;

use crate::broker::unique;
use crate::client::{Client, To, error, text};
use crate::coordination::commit_request;
use crate::member::Member;

#[test]
fn a_static_member_is_not_asked_for_its_id() {
    let mut member = Member::fixed(&unique("group"), "one");
    let answer = member.join();
    assert_eq!(answer.members[0].group_instance_id.as_ref().unwrap().as_str(), "one");
    assert!(!answer.member_id.is_empty());
}

#[test]
fn a_static_member_that_comes_back_replaces_itself_without_a_rebalance() {
    let group = unique("group");
    let mut before = Member::fixed(&group, "one");
    before.join_alone();
    let mut after = Member::fixed(&group, "one");
    let answer = after.join();
    assert_eq!(answer.generation_id, before.generation);
    assert_ne!(after.member_id, before.member_id);
    // It leads, and is told to leave the assignment as it is (KIP-814).
    assert!(answer.skip_assignment);
    assert_eq!(answer.leader.as_str(), after.member_id);
    assert_eq!(&after.sync(&[]).unwrap()[..], b"all");
    assert_eq!(after.heartbeat(), None);
}

#[test]
fn a_static_member_that_was_replaced_is_fenced() {
    let mut client = Client::new();
    let (group, topic) = (unique("group"), client.topic());
    let mut before = Member::fixed(&group, "one");
    before.join_alone();
    let mut after = Member::fixed(&group, "one");
    after.join();
    after.sync(&[]).unwrap();
    let fenced = Some(ResponseError::FencedInstanceId);
    assert_eq!(before.heartbeat(), fenced);
    assert_eq!(before.sync(&[]).err(), fenced);
    assert_eq!(error(before.try_join().error_code), fenced);
    assert_eq!(before.try_leave(), fenced);
    let commit = commit_request(&group, &topic, 1, "")
        .with_generation_id_or_member_epoch(before.generation)
        .with_member_id(before.id())
        .with_group_instance_id(Some(text("one")));
    assert_eq!(client.commit_as(&commit), fenced);
    assert_eq!(after.heartbeat(), None);
}

#[test]
fn an_unknown_instance_id_is_no_members() {
    let group = unique("group");
    let mut member = Member::fixed(&group, "one");
    member.join_alone();
    member.instance_id = Some("two".to_owned());
    assert_eq!(member.heartbeat(), Some(ResponseError::UnknownMemberId));
}

#[test]
fn an_operator_removes_a_static_member_by_its_instance_id() {
    let group = unique("group");
    let mut member = Member::fixed(&group, "one");
    member.join_alone();
    let mut operator = Member::fixed(&group, "one");
    assert_eq!(operator.try_leave(), None);
    assert_eq!(member.heartbeat(), Some(ResponseError::UnknownMemberId));
    let mut nobody = Member::fixed(&group, "nobody");
    assert_eq!(nobody.try_leave(), Some(ResponseError::UnknownMemberId));
}

#[test]
fn several_members_are_removed_at_once() {
    let group = unique("group");
    let mut member = Member::fixed(&group, "one");
    member.join_alone();
    let identity = |instance: &str| {
        kafka_protocol::messages::leave_group_request::MemberIdentity::default()
            .with_group_instance_id(Some(text(instance)))
    };
    let request = kafka_protocol::messages::LeaveGroupRequest::default()
        .with_group_id(crate::coordination::group_id(&group))
        .with_members(vec![identity("one"), identity("two")]);
    let answer = member.client.ask(To::Group(&group), &request);
    assert_eq!(error(answer.error_code), None);
    let outcomes: Vec<_> = answer
        .members
        .iter()
        .map(|left| (left.group_instance_id.as_ref().unwrap().to_string(), error(left.error_code)))
        .collect();
    assert_eq!(
        outcomes,
        [("one".to_owned(), None), ("two".to_owned(), Some(ResponseError::UnknownMemberId))]
    );
}
