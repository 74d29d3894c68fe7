//! Delivers jobs, decides once in a log, and runs the retry ladder.
//!
//! The decisions are in `hookstream_core::sender` and `hookstream_core::retry`; here they are driven: records are
//! decoded, effects carried out, requests sent. The drivers are generic over the log, the way out and the
//! observer, so that the simulation runs them unchanged.

pub mod deliveries;
mod http;
mod metrics;
pub mod outbox;
pub mod retries;
mod service;

pub use deliveries::{Deliveries, Egress, Observer, RequestKey};
pub use metrics::SenderMetrics;
pub use retries::Retries;
pub use service::run;
