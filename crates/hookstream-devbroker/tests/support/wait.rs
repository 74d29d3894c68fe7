//! Waiting for what comes by itself, for the tests of all targets.

use std::time::{Duration, Instant};

/// Between two looks: nothing tells of what another process does.
const AGAIN: Duration = Duration::from_millis(5);

/// Looks again and again, until there is something.
pub fn until<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < patience, "{what} does not come");
        std::thread::sleep(AGAIN);
    }
}
