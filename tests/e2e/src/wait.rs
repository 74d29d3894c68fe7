//! Waiting for what shall come true.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// Long enough for a rebalance after a crash (9 s of session, then work) on a machine that does other things too.
pub const SOON: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(20);

/// Waits until `look` finds something.
///
/// # Panics
/// With `what` if it doesn't within `timeout`.
#[track_caller]
pub fn wait_for<T>(what: &str, timeout: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < timeout, "not within {timeout:?}: {what}");
        sleep(POLL);
    }
}

/// Waits until `condition` holds.
///
/// # Panics
/// With `what` if it doesn't within `timeout`.
#[track_caller]
pub fn wait_until(what: &str, timeout: Duration, mut condition: impl FnMut() -> bool) {
    wait_for(what, timeout, || condition().then_some(()));
}
