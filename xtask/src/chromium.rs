//! A real browser on this machine, for tests of the console: Debian's Chromium, and the chromedriver of the same version.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::apt;

/// Names the browser.
pub const TEST_CHROMIUM: &str = "HOOKSTREAM_TEST_CHROMIUM";
/// Names the program that drives it, and speaks WebDriver.
pub const TEST_CHROMEDRIVER: &str = "HOOKSTREAM_TEST_CHROMEDRIVER";

/// The browser and its driver, each with the variable by which tests find it.
///
/// # Errors
/// If they are neither there nor can be installed.
pub fn programs() -> anyhow::Result<[(&'static str, PathBuf); 2]> {
    if let Some(programs) = found() {
        return Ok(programs);
    }
    // A machine without any fonts shows no text.
    apt::install(&["chromium", "chromium-driver", "fonts-dejavu-core"])
        .context("Chromium and chromedriver can't be had")?;
    found().context(
        "the packages `chromium` and `chromium-driver` put no `chromium` and `chromedriver` on the PATH",
    )
}

fn found() -> Option<[(&'static str, PathBuf); 2]> {
    Some([(TEST_CHROMIUM, on_path("chromium")?), (TEST_CHROMEDRIVER, on_path("chromedriver")?)])
}

fn on_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(name)).find(|path| path.is_file())
}
