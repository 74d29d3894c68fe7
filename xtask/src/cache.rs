//! Where things are kept that are fetched once.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
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

/// A directory that is made of `content` once: `make` fills it.
///
/// It is made aside and renamed, so that what is interrupted is never taken for whole.
pub(crate) fn made(
    name: &str,
    content: &str,
    make: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<PathBuf> {
    let mut hash = DefaultHasher::new();
    content.hash(&mut hash);
    let dir = dir()?.join(format!("{name}-{:016x}", hash.finish()));
    if dir.is_dir() {
        return Ok(dir);
    }
    eprintln!("    fetching the packages `{name}` (once) into {}", dir.display());
    let aside = dir.with_extension(std::process::id().to_string());
    fs::create_dir_all(&aside).with_context(|| format!("`{}` could not be made", aside.display()))?;
    let result = make(&aside).and_then(|()| match fs::rename(&aside, &dir) {
        // Somebody else was faster, which is as good.
        Err(error) if !dir.is_dir() => {
            Err(error).with_context(|| format!("`{}` could not be made", dir.display()))
        }
        Ok(()) | Err(_) => Ok(dir.clone()),
    });
    fs::remove_dir_all(&aside).ok();
    result
}
