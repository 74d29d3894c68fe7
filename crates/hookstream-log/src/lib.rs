//! The log as a trait, and Kafka behind it.
//!
//! **Invariant:** this is the only crate that names rdkafka.

mod log;
#[cfg(any(test, feature = "testing"))]
pub mod memory;
pub mod pipe;

pub use log::{
    Ack, Ended, Full, Input, Log, LogEvent, Lost, OutRecord, ProduceError, ReadFrom, RecordRef, Token,
};
