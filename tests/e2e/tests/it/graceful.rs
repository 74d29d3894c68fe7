//! SIGTERM under load: nothing is lost, nothing is sent twice.

use std::time::Duration;

use hookstream_e2e::{Role, Stack};

use crate::load::{self, Load};

/// The request deadline and what ends with it; `shutdown.grace` is 30 s.
const DRAIN: Duration = Duration::from_secs(30);

#[test]
fn each_service_drains() {
    let stack = Stack::new("graceful");
    stack.receiver.keep(0);
    load::configure(&stack);
    let mut services = stack.start_all().map(Some);
    let load = Load::start(&stack);
    for (at, role) in Role::ALL.into_iter().enumerate() {
        load.wait_under_way();
        services[at].take().expect("it runs").terminate(DRAIN);
        services[at] = Some(stack.start(role));
    }
    load.wait_under_way();
    let settled = load.settle();
    assert_eq!(settled.duplicates, 0, "sent twice");
    assert_eq!(settled.ledger.void, 0, "a sender that drained decided after it had left");
}

#[test]
fn a_rolling_restart_of_two_senders() {
    let stack = Stack::new("rolling");
    stack.receiver.keep(0);
    load::configure(&stack);
    let [_ingester, _fanout, first, _api] = stack.start_all();
    let second = stack.start(Role::Sender);
    let load = Load::start(&stack);
    load.wait_under_way();
    let third = stack.start(Role::Sender);
    load.wait_under_way();
    first.terminate(DRAIN);
    load.wait_under_way();
    second.terminate(DRAIN);
    load.wait_under_way();
    let settled = load.settle();
    assert_eq!(settled.duplicates, 0, "sent twice");
    third.terminate(DRAIN);
}
