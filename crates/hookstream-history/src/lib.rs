//! The history index: which executions there were, how each stands, and where its attempts are in Kafka.
//!
//! An **execution** is one delivery (event × webhook) with all that was decided about it. The index is a view of
//! `hookstream.attempts`, `hookstream.audit` and `hookstream.events`: it is fed with their records ([`History::apply`]), holds rows but no
//! bodies, and can be deleted: it is built again. Rows, and the offset up to which records were taken in, are one
//! transaction of the database. A page's cursor is made of a record's coordinates, so that any replica's index
//! continues it.
//!
//! **Invariants:** what a fenced owner decided is not in the index (see `hookstream_core::ledger`); a record is taken in
//! once, whoever feeds; the same records in other batches make the same rows; a question that has a scope is answered
//! from that account's rows only.

mod apply;
mod audit;
mod db;
mod entries;
mod error;
mod events;
mod executions;
mod fold;
mod minutes;
mod query;
mod retain;
mod scan;
mod schema;
mod sql;
#[cfg(test)]
mod tests;

pub use apply::{Applied, Batch, Record};
pub use audit::{AuditEntry, AuditFilter};
pub use db::{Backend, Feed, History, Position, ScanLimits};
pub use error::HistoryError;
pub use events::{EventFilter, EventRow};
pub use fold::{Execution, Key, Outcome};
pub use minutes::{BOUNDS_MS, Counts, MINUTE};
pub use query::{AttemptRow, Filter, Page, StatusFilter};
pub use retain::{Retained, Retention};
