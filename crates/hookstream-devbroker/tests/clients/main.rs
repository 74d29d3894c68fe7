//! Clients that we did not write use the development broker: Kafka's own tools, kcat (librdkafka) and kafka-python.
//!
//! They are found by the environment that `cargo xtask test` sets, and `cargo xtask kafka clients` prints.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod java;
mod kcat;
mod programs;
mod python;
