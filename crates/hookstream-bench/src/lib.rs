//! What the benchmarks share: an installation of their own on a given Kafka, a load, a sink, and figures.
//!
//! The services are the shipped binaries, run as processes, so that what they cost can be told from what the
//! benchmark, the sink and the broker cost.

pub mod cpu;
pub mod figures;
pub mod load;
pub mod sink;
pub mod stack;
