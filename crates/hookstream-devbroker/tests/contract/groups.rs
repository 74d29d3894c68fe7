//! Consumer groups: who is in, who leads, and who is told to join again.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::JoinGroupResponse;

use crate::broker::{unique, until};
use crate::client::{Client, To, error, text};
use crate::member::{Member, SESSION_MS, subscription};

/// Members that have joined and synced; the first of them leads.
fn pair(group: &str) -> (Member, Member) {
    let (mut first, mut second) = (Member::new(group), Member::new(group));
    first.join_alone();
    let joining = second.start_join();
    until("the rebalance", || (first.heartbeat() == Some(ResponseError::RebalanceInProgress)).then_some(()));
    let answer = first.join();
    second.joined(&joining.answer());
    assert_eq!(answer.leader.as_str(), first.member_id);
    assert_eq!(first.generation, second.generation);
    let syncing = second.start_sync();
    let (one, two) = (first.member_id.clone(), second.member_id.clone());
    assert_eq!(first.sync(&[(&one, b"first"), (&two, b"second")]), Ok(Bytes::from_static(b"first")));
    assert_eq!(&syncing.answer().assignment[..], b"second");
    (first, second)
}

/// The leader joins again, and the other with it. Returns what each is told.
fn rejoin(leader: &mut Member, other: &mut Member) -> (JoinGroupResponse, JoinGroupResponse) {
    let leading = leader.start_join();
    until("the rebalance", || (other.heartbeat() == Some(ResponseError::RebalanceInProgress)).then_some(()));
    let joined = other.join();
    let led = leading.answer();
    leader.joined(&led);
    (led, joined)
}

#[test]
fn a_member_joins_syncs_and_leaves() {
    let mut member = Member::new(&unique("group"));
    let answer = member.join();
    assert_eq!(answer.leader, answer.member_id);
    assert_eq!(answer.generation_id, 1);
    assert_eq!(answer.protocol_name.as_ref().unwrap().as_str(), "range");
    assert_eq!(answer.protocol_type.as_ref().unwrap().as_str(), "consumer");
    let members: Vec<(&str, &[u8])> =
        answer.members.iter().map(|member| (member.member_id.as_str(), &member.metadata[..])).collect();
    assert_eq!(members, [(member.member_id.as_str(), &subscription(&[])[..])]);
    let own = member.member_id.clone();
    assert_eq!(member.sync(&[(&own, b"mine")]), Ok(Bytes::from_static(b"mine")));
    assert_eq!(member.heartbeat(), None);
    // The assignment may be asked for again.
    assert_eq!(member.sync(&[]), Ok(Bytes::from_static(b"mine")));
    member.leave();
    assert_eq!(member.heartbeat(), Some(ResponseError::UnknownMemberId));
    assert_eq!(member.try_leave(), Some(ResponseError::UnknownMemberId));
}

/// KIP-394: so that a client whose first join gets lost leaves no member behind.
#[test]
fn a_member_is_given_its_id_first() {
    let group = unique("group");
    let mut member = Member::new(&group);
    let answer = member.try_join();
    assert_eq!(error(answer.error_code), Some(ResponseError::MemberIdRequired));
    assert!(!answer.member_id.is_empty());
    member.member_id = answer.member_id.to_string();
    assert_eq!(member.join().member_id, answer.member_id);
    // Clients before version 4 know nothing of that, and are in at once.
    let mut old = Member::new(&unique("group"));
    let request = old.join_request();
    let answer = old.client.ask_in(3, To::Group(&old.group), &request);
    assert_eq!(error(answer.error_code), None);
    assert!(!answer.member_id.is_empty());
}

#[test]
fn a_second_member_makes_the_first_join_again() {
    let (mut first, mut second) = pair(&unique("group"));
    assert_eq!(first.generation, 2);
    assert_eq!((first.heartbeat(), second.heartbeat()), (None, None));
    // And its going does so, too.
    second.leave();
    assert_eq!(first.heartbeat(), Some(ResponseError::RebalanceInProgress));
    first.join_alone();
    assert_eq!(first.generation, 3);
    assert_eq!(first.heartbeat(), None);
}

#[test]
fn the_leader_learns_of_all_members_and_others_do_not() {
    let group = unique("group");
    let (mut first, mut second) = pair(&group);
    let (leading, joining) = rejoin(&mut first, &mut second);
    assert_eq!((leading.members.len(), joining.members.len()), (2, 0));
    assert_eq!(leading.leader, joining.leader);
}

/// The leader may have seen new partitions; another member has nothing to tell by joining again as it was.
#[test]
fn only_the_leader_starts_a_rebalance_by_joining_as_it_was() {
    let (mut first, mut second) = pair(&unique("group"));
    let again = second.join();
    assert_eq!((again.generation_id, again.members.len()), (2, 0));
    assert_eq!(first.heartbeat(), None);
    let (_, joined) = rejoin(&mut first, &mut second);
    assert_eq!(joined.generation_id, 3);
}

#[test]
fn a_member_with_other_metadata_starts_a_rebalance() {
    let (mut first, mut second) = pair(&unique("group"));
    second.protocols = vec![("range", subscription(&["contract.other"]))];
    let joining = second.start_join();
    until("the rebalance", || (first.heartbeat() == Some(ResponseError::RebalanceInProgress)).then_some(()));
    let answer = first.join();
    assert_eq!(joining.answer().generation_id, 3);
    let other = answer.members.iter().find(|member| member.member_id.as_str() == second.member_id).unwrap();
    assert_eq!(other.metadata, subscription(&["contract.other"]));
}

#[test]
fn the_protocol_is_one_that_all_members_know() {
    let group = unique("group");
    let of = |names: &[&'static str]| names.iter().map(|name| (*name, subscription(&[]))).collect::<Vec<_>>();
    let mut first = Member { protocols: of(&["new", "old"]), ..Member::new(&group) };
    assert_eq!(first.join().protocol_name.unwrap().as_str(), "new");
    let own = first.member_id.clone();
    assert_eq!(first.sync(&[(&own, b"")]).err(), None);
    let mut second = Member { protocols: of(&["old"]), ..Member::new(&group) };
    let joining = second.start_join();
    until("the rebalance", || (first.heartbeat() == Some(ResponseError::RebalanceInProgress)).then_some(()));
    assert_eq!(first.join().protocol_name.unwrap().as_str(), "old");
    assert_eq!(joining.answer().protocol_name.unwrap().as_str(), "old");
    let mut third = Member { protocols: of(&["another"]), ..Member::new(&group) };
    let refused = error(third.try_join().error_code);
    assert_eq!(refused, Some(ResponseError::InconsistentGroupProtocol));
}

#[test]
fn a_protocol_that_the_group_does_not_have_is_refused_by_sync() {
    let mut member = Member::new(&unique("group"));
    member.join();
    for (kind, name) in [("consumer", "other"), ("connect", "range")] {
        let request = member
            .sync_request(&[])
            .with_protocol_type(Some(text(kind)))
            .with_protocol_name(Some(text(name)));
        let answer = member.client.ask(To::Group(&member.group), &request);
        assert_eq!(error(answer.error_code), Some(ResponseError::InconsistentGroupProtocol));
    }
}

#[test]
fn who_speaks_for_another_generation_is_refused() {
    let mut member = Member::new(&unique("group"));
    member.join_alone();
    for generation in [member.generation - 1, member.generation + 1] {
        let own = std::mem::replace(&mut member.generation, generation);
        assert_eq!(member.heartbeat(), Some(ResponseError::IllegalGeneration));
        assert_eq!(member.sync(&[]), Err(ResponseError::IllegalGeneration));
        member.generation = own;
    }
    assert_eq!(member.heartbeat(), None);
}

#[test]
fn who_is_no_member_is_refused() {
    let group = unique("group");
    let mut member = Member::new(&group);
    member.join_alone();
    let mut stranger = Member { member_id: "nobody".to_owned(), generation: 1, ..Member::new(&group) };
    let unknown = Some(ResponseError::UnknownMemberId);
    assert_eq!(stranger.heartbeat(), unknown);
    assert_eq!(stranger.sync(&[]).err(), unknown);
    assert_eq!(stranger.try_leave(), unknown);
    assert_eq!(error(stranger.try_join().error_code), unknown);
    // Nor is there anybody in a group that does not exist.
    stranger.group = unique("no group");
    assert_eq!(stranger.heartbeat(), unknown);
    assert_eq!(error(stranger.try_join().error_code), unknown);
    assert_eq!(stranger.try_leave(), unknown);
}

#[test]
fn a_group_without_a_name_is_refused() {
    let mut client = Client::new();
    let mut member = Member::new("");
    let address = client.address(To::Any);
    let mut connection = crate::client::Connection::open(&address);
    let answer = connection.ask(9, &member.join_request());
    assert_eq!(error(answer.error_code), Some(ResponseError::InvalidGroupId));
    member.group = "x".to_owned();
}

#[test]
fn a_session_timeout_out_of_bounds_is_refused() {
    for session_ms in [SESSION_MS - 1, 30 * 60 * 1000 + 1, 0, -1] {
        let mut member = Member { session_ms, ..Member::new(&unique("group")) };
        let answer = member.try_join();
        assert_eq!(error(answer.error_code), Some(ResponseError::InvalidSessionTimeout), "{session_ms} ms");
    }
}

#[test]
fn a_member_that_falls_silent_is_removed() {
    let mut member = Member { session_ms: SESSION_MS, ..Member::new(&unique("group")) };
    let mut other = Member::new(&member.group);
    member.join_alone();
    let joined = Instant::now();
    let joining = other.start_join();
    // It does not join again, and its session ends.
    let answer = joining.answer();
    assert_eq!(answer.members.len(), 1, "the other is alone");
    let waited = joined.elapsed();
    assert!((Duration::from_secs(5)..Duration::from_secs(25)).contains(&waited), "{waited:?}");
    assert_eq!(member.heartbeat(), Some(ResponseError::UnknownMemberId));
}

#[test]
fn heartbeats_keep_a_session() {
    let mut member = Member { session_ms: SESSION_MS, ..Member::new(&unique("group")) };
    member.join_alone();
    let joined = Instant::now();
    until("more time than a session takes", || {
        assert_eq!(member.heartbeat(), None);
        (joined.elapsed() > Duration::from_secs(8)).then_some(())
    });
}

/// Who is there waits for the others no longer than they said they would need.
#[test]
fn a_rebalance_ends_without_those_that_do_not_join() {
    let group = unique("group");
    let mut slow = Member { rebalance_ms: 4000, ..Member::new(&group) };
    slow.join_alone();
    let mut quick = Member { rebalance_ms: 4000, ..Member::new(&group) };
    let joining = quick.start_join();
    assert!(!joining.is_answered_within(Duration::from_millis(500)));
    assert_eq!(slow.heartbeat(), Some(ResponseError::RebalanceInProgress));
    let answer = joining.answer();
    assert_eq!((error(answer.error_code), answer.members.len()), (None, 1));
    assert_eq!(slow.heartbeat(), Some(ResponseError::UnknownMemberId));
}

#[test]
fn a_leader_that_goes_leaves_the_others_to_join_again() {
    let (mut first, mut second) = pair(&unique("group"));
    rejoin(&mut first, &mut second);
    // It waits for the assignment of a leader that goes.
    let syncing = second.start_sync();
    assert!(!syncing.is_answered_within(Duration::from_millis(300)));
    first.leave();
    assert_eq!(error(syncing.answer().error_code), Some(ResponseError::RebalanceInProgress));
    assert_eq!(second.join().leader.as_str(), second.member_id);
}
