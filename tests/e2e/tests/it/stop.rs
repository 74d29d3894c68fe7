//! A sender that stands still past its session and wakes up as a zombie sends nothing for what it has lost.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

use hookstream_e2e::{Arrived, Role, SOON, Stack, wait_until};

use crate::load::{self, Load};

/// Longer than the session (9 s), so that its partitions are certainly another's.
const STILL: Duration = Duration::from_secs(14);
/// More requests than the test can make.
const KEPT: usize = 200_000;

#[test]
fn a_zombie_sends_nothing_for_partitions_it_lost() {
    let stack = Stack::new("zombie");
    stack.receiver.keep(KEPT);
    load::configure(&stack);
    let _pipeline = [stack.start(Role::Ingester), stack.start(Role::Fanout)];
    let mut zombie = stack.launch(Role::Sender, &[("SENDER__USER_AGENT", "zombie/1")]);
    zombie.wait_ready();
    let mut heir = stack.launch(Role::Sender, &[("SENDER__USER_AGENT", "heir/1")]);
    heir.wait_ready();

    let load = Load::start(&stack);
    load.wait_under_way();
    zombie.stop();
    // Not a condition: what is tried is that time goes by.
    sleep(STILL);
    // By now the heir delivers for all.
    load.wait_under_way();
    let woken = Instant::now();
    zombie.resume();
    load.wait_under_way();
    wait_until("the zombie is back", SOON, || zombie.is_ready());
    load.wait_under_way();
    load.settle();

    let all: Vec<Arrived> = stack.receiver.seen(|seen| seen.last().iter().cloned().collect());
    assert!(all.len() < KEPT, "all requests were kept");
    let id = |request: &Arrived| request.header("webhook-id").unwrap_or_default().to_owned();
    let before: BTreeSet<String> = all.iter().filter(|request| request.at < woken).map(id).collect();
    let again = all
        .iter()
        .filter(|request| request.at >= woken && request.header("user-agent") == Some("zombie/1"))
        .filter(|request| before.contains(&id(request)))
        .count();
    assert_eq!(again, 0, "the zombie sent again what the heir had delivered");
}
