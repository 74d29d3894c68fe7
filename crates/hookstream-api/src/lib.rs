//! The REST API.

pub mod access;
