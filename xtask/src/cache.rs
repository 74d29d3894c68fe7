//! Where things are kept that are fetched once.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// `$HOOKSTREAM_CACHE`, else the user's cache directory.
pub(crate) fn dir() -> anyhow::Result<PathBuf> {
    if let Some(dir) = std::env::var_os("HOOKSTREAM_CACHE") {
        return Ok(PathBuf::from(dir));
    }
    if let Some(dir) = std::env::var_os("XDG_CACHE_HOME") {
        return Ok(Path::new(&dir).join("hookstream"));
    }
    let home = std::env::var_os("HOME").context("neither `HOOKSTREAM_CACHE` nor `HOME` is set")?;
    Ok(Path::new(&home).join(".cache/hookstream"))
}
