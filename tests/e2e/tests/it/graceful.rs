//! SIGTERM under load: nothing is lost, nothing is sent twice.

use std::time::Duration;

use hookstream_e2e::{Role, Stack};

use crate::load::Load;

/// The request deadline and what ends with it; `shutdown.grace` is 30 s.
const DRAIN: Duration = Duration::from_secs(30);

#[test]
fn each_service_drains() {
    let stack = Stack::new("graceful");
    let mut load = Load::new(&stack);
    let mut services = stack.start_all().map(Some);
    for (at, role) in Role::ALL.into_iter().enumerate() {
        load.burst();
        load.wait_under_way();
        services[at].take().expect("it runs").terminate(DRAIN);
        services[at] = Some(stack.start(role));
    }
    load.burst();
    let (ledger, duplicates) = load.settle();
    assert_eq!(duplicates, 0, "sent twice");
    assert_eq!(ledger.void, 0, "a sender that drained decided after it had left");
}

#[test]
fn a_rolling_restart_of_two_senders() {
    let stack = Stack::new("rolling");
    let mut load = Load::new(&stack);
    let [_ingester, _fanout, first] = stack.start_all();
    let second = stack.start(Role::Sender);
    load.burst();
    load.wait_under_way();
    let third = stack.start(Role::Sender);
    load.burst();
    first.terminate(DRAIN);
    load.burst();
    load.wait_under_way();
    second.terminate(DRAIN);
    let (_, duplicates) = load.settle();
    assert_eq!(duplicates, 0, "sent twice");
    third.terminate(DRAIN);
}
