//! Bytes between processes: what each topic's records look like.
//!
//! Every record names its version (`"v"`). A reader takes its own version and the one before; an unknown one is
//! an error that says so. Golden tests hold the bytes.

pub mod attempt;
pub mod audit;
mod bad_record;
pub mod command;
pub mod config;
pub mod dead_letter;
pub mod event;
pub mod job;
pub mod matched;
pub mod rejected;
mod topics;

pub use bad_record::{BadRecord, VERSION};
pub use topics::Topics;
