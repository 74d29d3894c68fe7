//! What the chores and the end-to-end tests share: a real Kafka, a real PostgreSQL and a real browser on this machine,
//! and programs in Python and for Node.js.

mod apt;
mod cache;
pub mod chromium;
pub mod kafka;
mod maven;
pub mod node;
pub mod postgres;
pub mod python;

use std::path::PathBuf;

/// Programs and libraries that are not ours and that tests run, each with the variable by which tests find it.
///
/// # Errors
/// If one is missing and can't be fetched.
pub fn packages() -> anyhow::Result<Vec<(&'static str, PathBuf)>> {
    let mut packages = vec![
        (python::TEST_OPENAPI, python::openapi()?),
        (python::TEST_RECEIVERS, python::receivers()?),
        (node::TEST_RECEIVERS, node::receivers()?),
        (node::TEST_AXE, node::axe()?),
        (maven::TEST_EVENT_RULER, maven::event_ruler()?),
    ];
    packages.extend(chromium::programs()?);
    Ok(packages)
}
