//! `kill -9` under load: nothing is lost, and what is sent twice was in flight.
//!
//! `HOOKSTREAM_E2E_KILLS` says how often; the default keeps the test short.

use hookstream_e2e::{Role, Shape, Stack};

use crate::load::Load;

fn kills() -> usize {
    std::env::var("HOOKSTREAM_E2E_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(2)
}

/// Kills the only process of a role, starts it again, as often as asked for; returns the duplicates that may be.
fn kill_and_restart(name: &str, role: Role) {
    let stack = Stack::new(name);
    let mut load = Load::new(&stack);
    let mut services = stack.start_all().map(Some);
    let at = Role::ALL.iter().position(|other| *other == role).expect("it is one of them");
    let mut allowed = 0;
    for _ in 0..kills() {
        load.burst();
        load.wait_under_way();
        services[at].take().expect("it runs").kill_9();
        if role == Role::Sender {
            // The same ones can be in flight again at the next kill.
            let duplicates = stack.receiver.seen(|seen| seen.duplicates());
            allowed +=
                load.undecided().saturating_sub(usize::try_from(duplicates).expect("it fits").min(allowed));
        }
        services[at] = Some(stack.start(role));
    }
    load.burst();
    let (_, duplicates) = load.settle();
    println!("{name}: {} deliveries, {duplicates} duplicates of {allowed} allowed", load.deliveries());
    assert!(duplicates <= allowed, "{duplicates} duplicates, though only {allowed} were in flight");
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
    let stack = Stack::new("takeover");
    let mut load = Load::new(&stack);
    let _services = stack.start_all();
    let second = stack.start(Role::Sender);
    load.burst();
    load.wait_under_way();
    second.kill_9();
    load.burst();
    let (_, duplicates) = load.settle();
    // Both senders together have no more than this in flight.
    let bound = crate::load::WEBHOOKS * 16 * 2;
    assert!(duplicates <= bound, "{duplicates} duplicates, with at most {bound} in flight");
}

#[test]
fn broker() {
    let stack = Stack::shaped("kill-broker", Shape { breaks_brokers: true, ..Shape::default() });
    let nodes = stack.kafka.nodes();
    if nodes.len() < 3 {
        println!("needs three brokers of `cargo xtask test`: nothing to see");
        return;
    }
    let mut load = Load::new(&stack);
    let _services = stack.start_all();
    load.burst();
    load.wait_under_way();
    nodes[1].kill().expect("a running broker can be killed");
    load.burst();
    // Healed whatever comes, since other tests use it too.
    let settled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| load.settle()));
    stack.kafka.heal();
    let (_, duplicates) = settled.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    assert_eq!(duplicates, 0, "no sender died");
}
