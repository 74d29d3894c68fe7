//! What the chores and the end-to-end tests share: a real Kafka and a real PostgreSQL on this machine, and programs in
//! Python and for Node.js.

mod cache;
pub mod kafka;
pub mod node;
pub mod postgres;
pub mod python;

use std::path::PathBuf;

/// Programs and libraries that are not ours and that tests run, each with the variable by which tests find it.
///
/// # Errors
/// If one is missing and can't be fetched.
pub fn packages() -> anyhow::Result<Vec<(&'static str, PathBuf)>> {
    Ok(vec![
        (python::TEST_OPENAPI, python::openapi()?),
        (python::TEST_RECEIVERS, python::receivers()?),
        (node::TEST_RECEIVERS, node::receivers()?),
    ])
}
