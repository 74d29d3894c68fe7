//! What the chores and the end-to-end tests share: a real Kafka and a real PostgreSQL on this machine.

pub mod kafka;
pub mod postgres;
