//! Packages for Node.js that tests use, fetched once, in a cache.

use std::fs;
use std::path::{Path, PathBuf};
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
    cache::made("node-receivers", RECEIVERS, install)
}

fn install(dir: &Path) -> anyhow::Result<()> {
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
