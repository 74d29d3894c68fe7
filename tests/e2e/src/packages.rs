//! Programs and libraries that are not ours: found by the environment that `cargo xtask test` sets, and
//! `cargo xtask packages` prints.

use std::path::PathBuf;

/// What a variable names.
///
/// # Panics
/// If there is nothing.
#[must_use]
#[track_caller]
pub fn package(variable: &str) -> PathBuf {
    let found = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.exists());
    found.unwrap_or_else(|| {
        panic!(
            "`{variable}` names nothing: run `cargo xtask test`, or set what `cargo xtask packages` prints"
        )
    })
}
