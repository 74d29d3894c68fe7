//! What only the development broker is asked: to be killed, to find its files torn, and to fail on purpose.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

#[path = "../support/wait.rs"]
mod wait;

mod clients;
mod faults;
mod files;
mod kills;
mod program;
mod rebalances;
mod restarts;
mod starts;
