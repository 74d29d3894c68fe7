//! The log as a trait, and Kafka behind it.
//!
//! [`Log`] is what a stage needs; [`kafka`] is how it gets it from a consumer group. Beside it: [`admin`] makes and
//! checks topics, [`tail`] follows a compacted topic, [`scan`] all
//! partitions of one, [`fetch`] reads single records, [`fenced`] writes as the only one.
//!
//! **Invariant:** this is the only crate that names rdkafka.

pub mod admin;
pub mod appender;
pub mod backlog;
mod client;
#[cfg(any(test, feature = "testing"))]
pub mod contract;
mod error;
pub mod fenced;
pub mod fetch;
pub mod kafka;
mod log;
#[cfg(any(test, feature = "testing"))]
pub mod memory;
pub mod pipe;
pub mod scan;

mod native;
pub mod tail;

pub use client::KafkaSettings;
pub use error::KafkaError;
pub use log::{
    Ack, Ended, Full, Input, Log, LogEvent, Lost, OutRecord, ProduceError, ReadFrom, RecordRef, Token,
};
