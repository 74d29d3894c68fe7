//! Packages for Node.js that tests use, fetched once, in a cache.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use crate::cache;

/// The libraries that receivers of webhooks verify with: exactly these versions, and nothing besides.
const RECEIVERS: &str = include_str!("node/receivers.json");
/// Names the directory that has them.
pub const TEST_RECEIVERS: &str = "HOOKSTREAM_TEST_RECEIVERS_NODE";

/// A directory with the packages of receivers.
///
/// # Errors
/// If npm is missing, or the registry can't be reached.
pub fn receivers() -> anyhow::Result<PathBuf> {
    let mut hash = DefaultHasher::new();
    RECEIVERS.hash(&mut hash);
    let dir = cache::dir()?.join(format!("node-receivers-{:016x}", hash.finish()));
    if dir.is_dir() {
        return Ok(dir);
    }
    eprintln!("    fetching node's packages for receivers with npm (once) into {}", dir.display());
    // Made aside and renamed, so that what is interrupted is never taken for whole.
    let aside = dir.with_extension(std::process::id().to_string());
    fs::create_dir_all(&aside).with_context(|| format!("`{}` could not be made", aside.display()))?;
    let result = install(&aside).and_then(|()| match fs::rename(&aside, &dir) {
        // Somebody else was faster, which is as good.
        Err(error) if !dir.is_dir() => {
            Err(error).with_context(|| format!("`{}` could not be made", dir.display()))
        }
        Ok(()) | Err(_) => Ok(dir.clone()),
    });
    fs::remove_dir_all(&aside).ok();
    result
}

fn install(dir: &std::path::Path) -> anyhow::Result<()> {
    let list = dir.join("package.json");
    fs::write(&list, RECEIVERS).with_context(|| format!("`{}` could not be written", list.display()))?;
    let output = Command::new("npm")
        .args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--omit=peer"])
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .context(
            "`npm` could not be started: Node.js with npm is needed (Debian: `apt-get install nodejs npm`)",
        )?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        bail!("the packages could not be fetched with npm; it said:\n{}", String::from_utf8_lossy(&said));
    }
    Ok(())
}
