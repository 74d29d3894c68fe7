//! Debian's packages: installed when they are missing, and we may.

use std::io::{Read as _, Seek as _};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};
use nix::unistd::geteuid;

/// Installs packages, without what they merely recommend.
///
/// # Errors
/// If we are not root, or apt-get fails.
pub(crate) fn install(packages: &[&str]) -> anyhow::Result<()> {
    let names = packages.join(" ");
    if !geteuid().is_root() {
        bail!("not installed: run `apt-get install {names}` as root");
    }
    // Standard output may be for a shell to read.
    eprintln!("    installing Debian's {names}");
    let apt = |args: &[&str]| {
        // Somebody else may be installing something.
        let command = [&["-o", "DPkg::Lock::Timeout=300"], args].concat();
        quietly(Command::new("apt-get").args(command).env("DEBIAN_FRONTEND", "noninteractive"))
    };
    apt(&["update", "-qq"])?;
    apt(&[&["install", "-qq", "--yes", "--no-install-recommends"], packages].concat())
}

/// Runs a command; what it says is in the error if it fails.
pub(crate) fn quietly(command: &mut Command) -> anyhow::Result<()> {
    let name = Path::new(command.get_program()).display().to_string();
    let args: Vec<String> = command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect();
    // Into a file: a server that goes on running would keep a pipe open.
    let said = tempfile::tempfile().context("no temporary file")?;
    let status = command
        .stdout(said.try_clone()?)
        .stderr(said.try_clone()?)
        .status()
        .with_context(|| format!("`{name}` could not be started"))?;
    if !status.success() {
        let (mut said, mut text) = (said, String::new());
        said.rewind()?;
        said.read_to_string(&mut text)?;
        bail!("`{name} {}` failed ({status}): {}", args.join(" "), text.trim());
    }
    Ok(())
}
