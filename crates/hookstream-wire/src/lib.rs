//! Bytes between processes: what each topic's records look like.
//!
//! Every record names its version (`"v"`). A reader takes its own version and the one before; an unknown one is
//! an error that says so. Golden tests hold the bytes.

pub mod command;
pub mod config;
mod topics;

pub use topics::Topics;
