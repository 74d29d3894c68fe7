//! The configuration log: view, fenced writer, secrets' envelope, apply.

pub mod change;
pub mod checks;
pub mod envelope;
pub mod manifest;
pub mod state;
#[cfg(test)]
mod testing;
pub mod writer;

pub use change::{Change, EventTypeSpec, Expected, Refused, SourceSpec, WebhookSpec};
pub use envelope::{KeyError, Keyring, OpenError, os_random};
pub use state::{Problem, State};
pub use writer::{Applied, ConfigWriter, WriteError};
