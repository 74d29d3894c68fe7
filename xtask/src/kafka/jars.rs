//! Kafka's jars, fetched once with Maven into a cache.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use crate::cache;

/// The Kafka that everything is tested with.
pub const VERSION: &str = "4.2.0";
/// The logging façade's version that this Kafka is built against; its `simple` back end writes to standard error.
const SLF4J: &str = "1.7.36";
/// Kafka's brokers need at least this Java.
const JAVA: u32 = 17;

/// The directory with the jars; they are fetched if they are not there.
pub(super) fn jars() -> anyhow::Result<PathBuf> {
    let cache = cache::dir()?;
    let dir = cache.join(format!("kafka-{VERSION}"));
    if dir.is_dir() {
        return Ok(dir);
    }
    eprintln!("    fetching kafka {VERSION} with maven (about 60 MB, once) into {}", dir.display());
    if Command::new("mvn").arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        bail!("`mvn` is missing: install Maven (Debian: `apt-get install maven`)");
    }
    // Fetched aside and renamed, so that what is interrupted is never taken for whole.
    let aside = cache.join(format!("kafka-{VERSION}.{}", std::process::id()));
    fs::create_dir_all(&aside).with_context(|| format!("`{}` could not be made", aside.display()))?;
    let pom = aside.join("pom.xml");
    fs::write(&pom, pom_xml()).with_context(|| format!("`{}` could not be written", pom.display()))?;
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
        bail!("maven could not fetch kafka {VERSION}:\n{log}");
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

/// Checks that there is a Java that runs this Kafka.
pub(super) fn check_java() -> anyhow::Result<()> {
    let wanted =
        || format!("install Java {JAVA} or later (Debian: `apt-get install openjdk-17-jre-headless`)");
    let Ok(output) = Command::new("java").arg("-version").stdin(Stdio::null()).output() else {
        bail!("`java` is missing: {}", wanted());
    };
    let text = String::from_utf8_lossy(&output.stderr);
    match major(&text) {
        Some(major) if major >= JAVA => Ok(()),
        Some(major) => bail!("this is Java {major}: {}", wanted()),
        None => bail!("`java -version` says nothing known: {}", wanted()),
    }
}

/// The major version in `openjdk version "17.0.15" 2025-04-15`; `1.8` is 1, which is old enough.
fn major(text: &str) -> Option<u32> {
    let (_, rest) = text.split_once("version \"")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit())?;
    rest[..digits].parse().ok()
}

fn pom_xml() -> String {
    let dependency = |group: &str, artifact: &str, version: &str| {
        format!(
            "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>"
        )
    };
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>hookstream</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>\
         <dependencies>{}{}{}</dependencies></project>",
        dependency("org.apache.kafka", "kafka_2.13", VERSION),
        dependency("org.apache.kafka", "kafka-tools", VERSION),
        dependency("org.slf4j", "slf4j-simple", SLF4J),
    )
}

#[cfg(test)]
mod tests {
    use super::major;

    #[test]
    fn java_versions() {
        assert_eq!(major("openjdk version \"17.0.15\" 2025-04-15\n"), Some(17));
        assert_eq!(major("java version \"1.8.0_292\"\n"), Some(1));
        assert_eq!(major("openjdk version \"21\" 2023-09-19"), Some(21));
        assert_eq!(major("sh: java: not found"), None);
    }
}
