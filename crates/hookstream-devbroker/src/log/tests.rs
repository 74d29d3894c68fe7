//! Rules by table, and sequences of everything against models. Batches are made and read by `kafka-protocol`, so
//! that no mistake is made twice.

mod append;
mod compaction;
mod compaction_model;
mod idempotence;
mod maintain;
mod model;
mod read;
mod recovery;
mod support;
mod time;
mod transactions;
