//! The configuration: a log, the view of it, its one writer at a time, its secrets, and `apply`.
//!
//! [`follower`] keeps a service's view current, and [`end`] tells whether it is. [`writer`] is how anything is changed: judged by [`change`]
//! against [`state`], with secrets sealed by [`envelope`]. [`manifest`] and [`apply`] make the configuration match
//! a file; [`checks`] says what fields may be. [`base`] is how a service comes to all of this at its start.

pub mod apply;
mod audit;
pub mod base;
pub mod change;
pub mod checks;
pub mod end;
pub mod envelope;
pub mod follower;
pub mod kafka;
pub mod manifest;
pub mod payload;
pub mod resolve;
pub mod state;
#[cfg(test)]
mod testing;
pub mod topics;
mod turns;
pub mod writer;

pub use base::Base;
pub use change::{Change, Expected, Refused};
pub use end::ConfigEnd;
pub use envelope::{KeyError, Keyring, OpenError, os_random};
pub use follower::Follower;
pub use manifest::{Manifest, ManifestProblem};
pub use state::{Problem, State};
pub use writer::{Applied, ConfigWriter, WriteError};
