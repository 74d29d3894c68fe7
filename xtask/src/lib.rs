//! What the chores and the end-to-end tests share: a real Kafka and a real PostgreSQL on this machine, and programs in
//! Python.

mod cache;
pub mod kafka;
pub mod postgres;
pub mod python;
