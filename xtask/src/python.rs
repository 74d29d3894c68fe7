//! Programs in Python that tests use, each with a Python of its own that is made once, in a cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use crate::cache;

/// The generator of clients from the API's description, and a validator of such descriptions: exactly these versions.
const OPENAPI: &str = include_str!("python/openapi.txt");
/// The libraries that receivers of webhooks verify with: exactly these versions.
const RECEIVERS: &str = include_str!("python/receivers.txt");
/// Names the Python that has them.
pub const TEST_RECEIVERS: &str = "HOOKSTREAM_TEST_RECEIVERS_PYTHON";
/// Names the Python that generates clients.
pub const TEST_OPENAPI: &str = "HOOKSTREAM_TEST_OPENAPI_PYTHON";

/// A Python that generates clients of the API.
///
/// # Errors
/// If Python is missing, or the registry can't be reached.
pub fn openapi() -> anyhow::Result<PathBuf> {
    python("openapi", OPENAPI)
}

/// A Python that verifies webhooks as receivers do.
///
/// # Errors
/// If Python is missing, or the registry can't be reached.
pub fn receivers() -> anyhow::Result<PathBuf> {
    python("receivers", RECEIVERS)
}

/// A Python with exactly these packages (lines as of a requirements file), and none that they ask for besides.
pub(crate) fn python(name: &str, requirements: &str) -> anyhow::Result<PathBuf> {
    // Only the interpreter is used, and it finds its packages beside itself.
    let dir = cache::made(&format!("python-{name}"), requirements, |dir| make(dir, requirements))?;
    Ok(dir.join("bin/python"))
}

fn make(dir: &Path, requirements: &str) -> anyhow::Result<()> {
    let run = |command: &mut Command, advice: &str| -> anyhow::Result<()> {
        let output = command.stdin(Stdio::null()).output();
        let output = output.with_context(|| format!("`python3` could not be started: {advice}"))?;
        if !output.status.success() {
            let said = [output.stdout, output.stderr].concat();
            bail!("{advice}; python said:\n{}", String::from_utf8_lossy(&said));
        }
        Ok(())
    };
    run(
        Command::new("python3").args(["-m", "venv"]).arg(dir),
        "Python with its `venv` is needed (Debian: `apt-get install python3-venv`)",
    )?;
    let list = dir.join("requirements.txt");
    fs::write(&list, requirements).with_context(|| format!("`{}` could not be written", list.display()))?;
    run(
        Command::new(dir.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "-r"])
            .arg(&list),
        "the packages could not be fetched with pip",
    )
}
