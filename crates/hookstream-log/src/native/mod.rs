//! What librdkafka can do and the rdkafka crate does not bind.
//!
//! The crate's own calls lack five things that correctness here rests on: the offset at which a partition's end
//! was reached, the answer to an asynchronous commit (librdkafka sends it only to a queue named with the commit),
//! header names and commit metadata that are not UTF-8 (the crate panics on both, and both come from outside),
//! the queue that a single reader fills, and whether a record that failed is certainly not there. All of it is here, behind functions that can't be misused.
//!
//! **Invariant:** every queue keeps its client alive, and is destroyed before it.

#![expect(unsafe_code, reason = "bindings to librdkafka calls that the rdkafka crate lacks")]

mod commit;
mod queue;
mod reader;
mod status;
mod topics;

pub(crate) use commit::{CommitAnswer, Commits, Entry, entries};
pub(crate) use queue::{Code, Polled, Queue, Record};
pub(crate) use reader::Reader;
pub(crate) use status::is_not_persisted;
pub(crate) use topics::topic_ids;
