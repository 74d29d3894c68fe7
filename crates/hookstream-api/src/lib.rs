//! The REST API: what comes in over HTTP, checked and handed on.

pub mod access;
pub mod events;
pub mod history;
pub mod problem;
pub mod server;

#[cfg(test)]
mod testing;
