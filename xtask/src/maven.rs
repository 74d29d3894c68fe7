//! Libraries of Java's world, fetched once with Maven into a cache.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use crate::cache;

/// Where tests find Event Ruler.
pub const TEST_EVENT_RULER: &str = "HOOKSTREAM_TEST_EVENT_RULER";
/// What filters are compared with.
const EVENT_RULER: &str = "1.8.1";

/// An artifact: group, name and version.
pub(crate) type Artifact<'a> = (&'a str, &'a str, &'a str);

/// The directory with Event Ruler's jars.
pub(crate) fn event_ruler() -> anyhow::Result<PathBuf> {
    let artifact = ("software.amazon.event.ruler", "event-ruler", EVENT_RULER);
    jars("event-ruler", EVENT_RULER, "3 MB", &[artifact])
}

/// The directory with the jars of these artifacts and all that they need; they are fetched if they are not there.
pub(crate) fn jars(
    name: &str,
    version: &str,
    size: &str,
    artifacts: &[Artifact<'_>],
) -> anyhow::Result<PathBuf> {
    let cache = cache::dir()?;
    let dir = cache.join(format!("{name}-{version}"));
    if dir.is_dir() {
        return Ok(dir);
    }
    eprintln!("    fetching {name} {version} with maven (about {size}, once) into {}", dir.display());
    if Command::new("mvn").arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        bail!("`mvn` is missing: install Maven (Debian: `apt-get install maven`)");
    }
    // Fetched aside and renamed, so that what is interrupted is never taken for whole.
    let aside = cache.join(format!("{name}-{version}.{}", std::process::id()));
    fs::create_dir_all(&aside).with_context(|| format!("`{}` could not be made", aside.display()))?;
    let pom = aside.join("pom.xml");
    fs::write(&pom, pom_xml(name, artifacts))
        .with_context(|| format!("`{}` could not be written", pom.display()))?;
    let output = Command::new("mvn")
        .args(["-q", "-B", "-f"])
        .arg(&pom)
        .arg("dependency:copy-dependencies")
        .arg(format!("-DoutputDirectory={}", aside.display()))
        .stdin(Stdio::null())
        .output()
        .context("`mvn` could not be started")?;
    if !output.status.success() {
        let log = String::from_utf8_lossy(&output.stdout).into_owned();
        fs::remove_dir_all(&aside).ok();
        bail!("maven could not fetch {name} {version}:\n{log}");
    }
    if let Err(error) = fs::rename(&aside, &dir) {
        fs::remove_dir_all(&aside).ok();
        // Somebody else was faster, which is as good.
        if !dir.is_dir() {
            return Err(error).with_context(|| format!("`{}` could not be made", dir.display()));
        }
    }
    Ok(dir)
}

fn pom_xml(name: &str, artifacts: &[Artifact<'_>]) -> String {
    let dependency = |(group, artifact, version): &Artifact<'_>| {
        format!(
            "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>"
        )
    };
    let dependencies: String = artifacts.iter().map(dependency).collect();
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>hookstream</groupId><artifactId>{name}</artifactId><version>1</version><packaging>pom</packaging>\
         <dependencies>{dependencies}</dependencies></project>"
    )
}
