//! The configuration log: view, fenced writer, secrets' envelope, apply.

pub mod change;
pub mod envelope;
pub mod state;

pub use change::{Change, EventTypeSpec, Expected, Refused, SourceSpec, WebhookSpec};
pub use envelope::{KeyError, Keyring, OpenError, os_random};
pub use state::{Problem, State};
