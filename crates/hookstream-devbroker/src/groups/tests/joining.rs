//! Members join, and join again.

use super::*;

#[test]
fn the_first_member_leads_at_once() {
    let mut broker = Broker::new();
    let token = broker.join(consumer("a"));
    let joined = broker.joined(token);
    assert_eq!((joined.generation, joined.protocol.as_str()), (1, "range"));
    assert_eq!(joined.leader, joined.member_id);
    assert_eq!(joined.member_id, format!("a-{token}"));
    assert_eq!(joined.members.len(), 1);
    assert_eq!(joined.members[0].metadata, subscription(&["orders"]));
    assert_eq!(broker.state(), GroupState::CompletingRebalance);
}

#[test]
fn only_the_leader_gets_the_members_metadata() {
    let mut broker = Broker::new();
    let (leader, follower) = broker.stable_pair(consumer("a"), consumer("b"));
    assert_eq!(leader.members.len(), 2);
    assert_eq!(follower.members, []);
    assert_eq!((follower.leader, follower.generation), (leader.member_id, leader.generation));
}

#[test]
fn a_dynamic_member_is_given_its_id_before_it_joins() {
    let mut broker = Broker::new();
    let request = JoinRequest { require_known_member_id: true, ..consumer("a") };
    let token = broker.join(request.clone());
    let refused = broker.refused(token);
    assert_eq!(refused.error, GroupError::MemberIdRequired);
    assert_eq!(broker.state(), GroupState::Empty);
    let token = broker.join(JoinRequest { member_id: refused.member_id.clone(), ..request });
    assert_eq!(broker.joined(token).member_id, refused.member_id);
}

#[test]
fn a_rebalance_waits_for_who_was_given_an_id() {
    let mut broker = Broker::new();
    let alone = broker.stable_alone(consumer("a"));
    let request = JoinRequest { require_known_member_id: true, ..consumer("b") };
    let token = broker.join(request.clone());
    let given = broker.refused(token).member_id;
    let first = broker.join(again(&consumer("a"), &alone));
    assert!(broker.waits(first));
    let second = broker.join(JoinRequest { member_id: given, ..request });
    assert_eq!(broker.joined(first).generation, 2);
    assert_eq!(broker.joined(second).generation, 2);
}

#[test]
fn a_static_member_needs_no_id_before_it_joins() {
    let mut broker = Broker::new();
    let token = broker.join(JoinRequest { require_known_member_id: true, ..static_consumer("one") });
    assert_eq!(broker.joined(token).member_id, format!("one-{token}"));
}

#[test]
fn a_newcomer_has_all_members_join_again() {
    let mut broker = Broker::new();
    let alone = broker.stable_alone(consumer("a"));
    let newcomer = broker.join(consumer("b"));
    assert!(broker.waits(newcomer));
    assert_eq!(broker.heartbeat(&alone), Err(GroupError::RebalanceInProgress));
    let rejoined = broker.join(again(&consumer("a"), &alone));
    assert_eq!(broker.joined(rejoined).generation, 2);
    assert_eq!(broker.joined(newcomer).generation, 2);
}

#[test]
fn a_follower_that_changes_nothing_is_told_the_generation() {
    let mut broker = Broker::new();
    let (_, follower) = broker.stable_pair(consumer("a"), consumer("b"));
    let token = broker.join(again(&consumer("b"), &follower));
    assert_eq!(broker.joined(token), follower);
    assert_eq!(broker.state(), GroupState::Stable);
}

#[test]
fn a_follower_that_changes_its_topics_has_the_group_rebalance() {
    let mut broker = Broker::new();
    let (_, follower) = broker.stable_pair(consumer("a"), consumer("b"));
    let protocols = vec![("range".to_owned(), subscription(&["orders", "refunds"]))];
    let token = broker.join(JoinRequest { protocols, ..again(&consumer("b"), &follower) });
    assert!(broker.waits(token));
    assert_eq!(broker.state(), GroupState::PreparingRebalance);
}

#[test]
fn the_leaders_join_has_the_group_rebalance() {
    let mut broker = Broker::new();
    let (leader, _) = broker.stable_pair(consumer("a"), consumer("b"));
    let token = broker.join(again(&consumer("a"), &leader));
    assert!(broker.waits(token));
    assert_eq!(broker.state(), GroupState::PreparingRebalance);
}

#[test]
fn who_lost_the_answer_to_its_join_gets_it_again() {
    let mut broker = Broker::new();
    let token = broker.join(consumer("a"));
    let joined = broker.joined(token);
    let token = broker.join(again(&consumer("a"), &joined));
    assert_eq!(broker.joined(token), joined);
}

#[test]
fn a_join_that_is_sent_again_waits_in_place_of_the_first() {
    let mut broker = Broker::new();
    let (_, follower) = broker.stable_pair(consumer("a"), consumer("b"));
    broker.groups.force_rebalance(broker.now, GROUP).expect("it exists");
    let first = broker.join(again(&consumer("b"), &follower));
    let second = broker.join(again(&consumer("b"), &follower));
    assert_eq!(broker.refused(first).error, GroupError::RebalanceInProgress);
    assert!(broker.waits(second));
}

#[test]
fn the_protocol_is_what_most_prefer_of_what_all_support() {
    let rows: &[(&[&[&str]], &str)] = &[
        (&[&["range", "sticky"], &["sticky", "range"], &["sticky", "range"]], "sticky"),
        (&[&["range", "sticky"], &["sticky"], &["range", "sticky"]], "sticky"),
        (&[&["range", "sticky"], &["other", "range"], &["range"]], "range"),
        // Between equals the leader's order decides.
        (&[&["sticky", "range"], &["range", "sticky"]], "sticky"),
        (&[&["range", "sticky"], &["sticky", "range"]], "range"),
    ];
    for (members, chosen) in rows {
        let settings = Settings { initial_rebalance_delay_ms: 3000, ..Settings::default() };
        let mut broker = Broker::with(settings);
        let tokens: Vec<Token> =
            members.iter().map(|protocols| broker.join(preferring("a", protocols))).collect();
        broker.pass(30_000);
        for token in tokens {
            assert_eq!(&broker.joined(token).protocol, chosen, "{members:?}");
        }
    }
}

#[test]
fn who_shares_no_protocol_with_the_group_is_refused() {
    let mut broker = Broker::new();
    let inconsistent = GroupError::InconsistentGroupProtocol;
    assert_eq!(broker.join_error(preferring("a", &[])), inconsistent);
    assert_eq!(
        broker.join_error(JoinRequest { protocol_type: String::new(), ..consumer("a") }),
        inconsistent
    );
    let (_, follower) = broker.stable_pair(consumer("a"), consumer("b"));
    let connect = JoinRequest { protocol_type: "connect".to_owned(), ..consumer("c") };
    assert_eq!(broker.join_error(connect), inconsistent);
    assert_eq!(broker.join_error(preferring("c", &["sticky"])), inconsistent);
    assert_eq!(broker.join_error(again(&preferring("b", &["sticky"]), &follower)), inconsistent);
    assert_eq!(broker.state(), GroupState::Stable);
}

#[test]
fn an_empty_group_takes_any_protocol_type() {
    let mut broker = Broker::new();
    let alone = broker.stable_alone(consumer("a"));
    assert_eq!(broker.leave(&alone.member_id, None), Ok(()));
    let connect = JoinRequest { protocol_type: "connect".to_owned(), ..preferring("c", &["compatible"]) };
    assert_eq!(broker.stable_alone(connect).protocol_type, "connect");
}

#[test]
fn what_a_join_must_hold_to() {
    let id = |member_id: &str| JoinRequest { member_id: member_id.to_owned(), ..consumer("a") };
    let session = |session_timeout_ms| JoinRequest { session_timeout_ms, ..consumer("a") };
    let rows = [
        (JoinRequest { group: String::new(), ..consumer("a") }, GroupError::InvalidGroupId),
        (session(5999), GroupError::InvalidSessionTimeout),
        (session(1_800_001), GroupError::InvalidSessionTimeout),
        (session(-1), GroupError::InvalidSessionTimeout),
        (id("nobody"), GroupError::UnknownMemberId),
    ];
    for (request, error) in rows {
        let mut broker = Broker::new();
        assert_eq!(broker.join_error(request.clone()), error, "no group: {request:?}");
        assert_eq!(broker.state(), GroupState::Dead);
        broker.stable_alone(consumer("b"));
        assert_eq!(broker.join_error(request.clone()), error, "a group: {request:?}");
    }
    for bound in [6000, 1_800_000] {
        let mut broker = Broker::new();
        broker.stable_alone(session(bound));
    }
}

#[test]
fn an_initial_delay_lets_more_members_into_the_first_generation() {
    let settings = Settings { initial_rebalance_delay_ms: 3000, ..Settings::default() };
    let mut broker = Broker::with(settings);
    let first = broker.join(consumer("a"));
    broker.pass(2999);
    let second = broker.join(consumer("b"));
    broker.pass(2);
    // Somebody came, so it is prolonged once more.
    assert!(broker.waits(first));
    broker.pass(2999);
    assert_eq!(broker.joined(first).members.len(), 2);
    assert_eq!(broker.joined(second).generation, 1);
}

#[test]
fn the_initial_delay_ends_with_the_rebalance_timeout() {
    let settings = Settings { initial_rebalance_delay_ms: 3000, ..Settings::default() };
    let mut broker = Broker::with(settings);
    let request = |client_id| JoinRequest { rebalance_timeout_ms: 7000, ..consumer(client_id) };
    let first = broker.join(request("a"));
    for elapsed_s in 1..7 {
        broker.pass(1000);
        broker.join(request("b"));
        assert!(broker.waits(first), "{elapsed_s} s");
    }
    broker.pass(1000);
    assert_eq!(broker.joined(first).members.len(), 7);
}

#[test]
fn a_client_that_has_gone_gets_no_answer() {
    let mut broker = Broker::new();
    let (leader, follower) = broker.stable_pair(consumer("a"), consumer("b"));
    let gone = broker.join(again(&consumer("a"), &leader));
    broker.groups.forget(gone);
    let token = broker.join(again(&consumer("b"), &follower));
    // It counts as joined, and its session ends it if it does not come back.
    assert_eq!(broker.joined(token).generation, leader.generation + 1);
    assert!(broker.waits(gone));
    let token = broker.join(again(&consumer("a"), &leader));
    assert_eq!(broker.joined(token).members.len(), 2);
}

#[test]
fn a_newcomer_that_has_gone_before_it_learned_its_id_is_removed() {
    let mut broker = Broker::new();
    let alone = broker.stable_alone(consumer("a"));
    let gone = broker.join(consumer("b"));
    broker.groups.forget(gone);
    broker.pass(0);
    assert_eq!(broker.members(), std::slice::from_ref(&alone.member_id));
    let token = broker.join(again(&consumer("a"), &alone));
    assert_eq!(broker.joined(token).members.len(), 1);
}
