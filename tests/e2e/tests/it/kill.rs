//! `kill -9` under load: nothing is lost, and what is sent twice was in flight.
//!
//! `HOOKSTREAM_E2E_KILLS` says how often; the default keeps the tests short.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use hookstream_e2e::{Arrived, Role, Shape, Stack};

use crate::load::{self, IN_FLIGHT, Load};

fn kills() -> usize {
    std::env::var("HOOKSTREAM_E2E_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(2)
}

/// Kills the only process of a role and starts it again, as often as asked for.
fn kill_and_restart(name: &str, role: Role) {
    let stack = Stack::new(name);
    stack.receiver.keep(0);
    load::configure(&stack);
    let mut services = stack.start_all().map(Some);
    let at = Role::ALL.iter().position(|other| *other == role).expect("it is one of them");
    let load = Load::start(&stack);
    let mut allowed = 0;
    for _ in 0..kills() {
        load.wait_under_way();
        services[at].take().expect("it runs").kill_9();
        if role == Role::Sender {
            // Counts from the beginning: what was never decided stays so.
            allowed = load::undecided(&stack);
        }
        services[at] = Some(stack.start(role));
    }
    load.wait_under_way();
    let settled = load.settle();
    println!(
        "{name}: {} deliveries, {} duplicates, {allowed} allowed",
        settled.deliveries, settled.duplicates
    );
    assert!(
        settled.duplicates <= allowed,
        "{} sent twice, {allowed} in flight at a kill",
        settled.duplicates
    );
}

#[test]
fn ingester() {
    kill_and_restart("kill-ingester", Role::Ingester);
}

#[test]
fn fanout() {
    kill_and_restart("kill-fanout", Role::Fanout);
}

#[test]
fn sender() {
    kill_and_restart("kill-sender", Role::Sender);
}

#[test]
fn another_sender_takes_over() {
    /// More requests than the load has.
    const KEPT: usize = 100_000;
    const VICTIM: &str = "victim/1";
    let stack = Stack::new("takeover");
    stack.receiver.keep(KEPT);
    load::configure(&stack);
    let _services = stack.start_all();
    let mut second = stack.launch(Role::Sender, &[("SENDER__USER_AGENT", VICTIM)]);
    second.wait_ready();
    let load = Load::start(&stack);
    load.wait_under_way();
    second.kill_9();
    load.wait_under_way();
    let settled = load.settle();
    // In flight was what the victim had sent and about which nothing of its is on record.
    let (sent, total) = stack.receiver.seen(|seen| {
        let of_victim = |request: &&Arrived| request.header("user-agent") == Some(VICTIM);
        (seen.last().iter().filter(of_victim).count(), seen.total())
    });
    assert!(usize::try_from(total).expect("it fits") < KEPT, "all requests were kept");
    let decided = settled.ledger.exchanges.iter().filter(|exchange| {
        let headers = exchange["request"]["headers"].as_array().into_iter().flatten();
        headers.into_iter().any(|header| header[0] == "user-agent" && header[1] == VICTIM)
    });
    let in_flight = sent - decided.count();
    assert!(
        settled.duplicates <= in_flight,
        "{} sent twice, {in_flight} in flight at the kill",
        settled.duplicates
    );
}

#[test]
fn broker() {
    let stack = Stack::shaped("kill-broker", Shape { breaks_brokers: true, ..Shape::default() });
    stack.receiver.keep(0);
    load::configure(&stack);
    let _services = stack.start_all();
    let load = Load::start(&stack);
    load.wait_under_way();
    stack.kafka.break_one();
    // Without others to go on with, it comes back at once.
    let others = stack.kafka.replicas() > 1;
    if !others {
        stack.kafka.heal();
    }
    // Healed whatever comes, since the other tests use it too.
    let settled = catch_unwind(AssertUnwindSafe(|| {
        load.wait_under_way();
        load.settle()
    }));
    if others {
        stack.kafka.heal();
    }
    let settled = settled.unwrap_or_else(|panic| resume_unwind(panic));
    println!("kill-broker: {} deliveries, {} duplicates", settled.deliveries, settled.duplicates);
    assert!(
        settled.duplicates <= IN_FLIGHT,
        "{} sent twice, {IN_FLIGHT} in flight at most",
        settled.duplicates
    );
}
