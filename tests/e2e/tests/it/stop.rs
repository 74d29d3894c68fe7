//! A sender that stands still past its session and wakes up as a zombie sends nothing for what it has lost.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

use hookstream_e2e::{Arrived, Role, SOON, Stack, wait_until};

use crate::load::{Load, RECOVERY};

/// Longer than the session (9 s), so that its partitions are certainly another's.
const STILL: Duration = Duration::from_secs(14);

#[test]
fn a_zombie_sends_nothing_for_partitions_it_lost() {
    let stack = Stack::new("zombie");
    let mut load = Load::new(&stack);
    let keep = 100_000;
    stack.receiver.keep(keep);
    let _pipeline = [stack.start(Role::Ingester), stack.start(Role::Fanout)];
    let mut zombie = stack.launch(Role::Sender, &[("SENDER__USER_AGENT", "zombie/1")]);
    zombie.wait_ready();
    let mut heir = stack.launch(Role::Sender, &[("SENDER__USER_AGENT", "heir/1")]);
    heir.wait_ready();

    load.burst();
    load.wait_under_way();
    zombie.stop();
    let stopped = Instant::now();
    load.burst();
    // The heir takes over and delivers all there is, while the zombie stands still.
    stack.wait_distinct(load.deliveries(), RECOVERY);
    sleep(STILL.saturating_sub(stopped.elapsed()));
    let woken = Instant::now();
    zombie.resume();
    load.burst();
    load.settle();
    wait_until("the zombie is back", SOON, || zombie.is_ready());

    let all: Vec<Arrived> = stack.receiver.seen(|seen| seen.last().iter().cloned().collect());
    assert!(all.len() < keep, "all requests were kept");
    let id = |request: &Arrived| request.header("webhook-id").unwrap_or_default().to_owned();
    let before: BTreeSet<String> = all.iter().filter(|request| request.at < woken).map(id).collect();
    let again = all
        .iter()
        .filter(|request| request.at >= woken && request.header("user-agent") == Some("zombie/1"))
        .filter(|request| before.contains(&id(request)))
        .count();
    assert_eq!(again, 0, "the zombie sent again what the heir had delivered");
}
