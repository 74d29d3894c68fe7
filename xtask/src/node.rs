//! Packages for Node.js that tests use, fetched once, in a cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use crate::cache;

/// The libraries that receivers of webhooks verify with: exactly these versions, and nothing besides.
const RECEIVERS: &str = include_str!("node/receivers.json");
/// What looks for obstacles in web pages, for those who can't see, hear or point: exactly this version.
const AXE: &str = include_str!("node/axe.json");
/// Names the directory that has the packages of receivers.
pub const TEST_RECEIVERS: &str = "HOOKSTREAM_TEST_RECEIVERS_NODE";
/// Names axe's script, to be run in a page.
pub const TEST_AXE: &str = "HOOKSTREAM_TEST_AXE";

/// A directory with the packages of receivers.
///
/// # Errors
/// If npm is missing, or the registry can't be reached.
pub fn receivers() -> anyhow::Result<PathBuf> {
    packages("receivers", RECEIVERS)
}

/// The script of axe.
///
/// # Errors
/// If npm is missing, or the registry can't be reached.
pub fn axe() -> anyhow::Result<PathBuf> {
    Ok(packages("axe", AXE)?.join("node_modules/axe-core/axe.min.js"))
}

/// A directory with exactly the packages that `list` (a `package.json`) names.
fn packages(name: &str, list: &str) -> anyhow::Result<PathBuf> {
    cache::made(&format!("node-{name}"), list, |dir| install(dir, list))
}

fn install(dir: &Path, list: &str) -> anyhow::Result<()> {
    let file = dir.join("package.json");
    fs::write(&file, list).with_context(|| format!("`{}` could not be written", file.display()))?;
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
