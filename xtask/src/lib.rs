//! What the chores and the end-to-end tests share: a real Kafka on this machine.

pub mod kafka;
