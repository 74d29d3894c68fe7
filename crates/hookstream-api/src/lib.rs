//! The REST API: what comes in over HTTP, checked and handed on.

pub mod access;
pub mod commands;
pub mod events;
pub mod problem;
pub mod server;

#[cfg(test)]
mod testing;
