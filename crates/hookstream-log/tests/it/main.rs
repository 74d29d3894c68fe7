//! The contract of the log, on a real Kafka, and what only Kafka has.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod admin;
mod fenced;
mod group;
mod kafka;
mod lease;
mod scan;
mod tail;

mod contract {
    hookstream_log::contract_suite!(crate::kafka::Kafka::new());
}
