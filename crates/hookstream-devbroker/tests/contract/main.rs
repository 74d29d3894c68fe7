//! What clients may rely on, shown on the development broker and on Kafka: the same tests, the same outcomes.
//!
//! `HOOKSTREAM_TEST_KAFKA` names a Kafka (host:port, host:port, …); without it a development broker is started within
//! the process. Where the two differ on purpose, [`limits`] says how.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

#[path = "../support/wait.rs"]
mod wait;

mod broker;
mod client;
mod coordination;
mod member;
mod producer;
mod records;
mod txn;

mod cluster;
mod commits;
mod configs;
mod every_version;
mod fetch;
mod group_admin;
mod groups;
mod idempotence;
mod isolation;
mod limits;
mod list_offsets;
mod produce;
mod retention;
mod statics;
mod topics;
mod transactions;
mod txn_offsets;
mod versions;
