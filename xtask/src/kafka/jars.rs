//! Kafka's jars, and the Java that they need.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::bail;

use crate::maven;

/// The Kafka that everything is tested with.
pub const VERSION: &str = "4.2.0";
/// The logging façade's version that this Kafka is built against; its `simple` back end writes to standard error.
const SLF4J: &str = "1.7.36";
/// Kafka's brokers need at least this Java.
const JAVA: u32 = 17;

/// The directory with the jars; they are fetched if they are not there.
pub(super) fn jars() -> anyhow::Result<PathBuf> {
    let artifacts = [
        ("org.apache.kafka", "kafka_2.13", VERSION),
        ("org.apache.kafka", "kafka-tools", VERSION),
        ("org.slf4j", "slf4j-simple", SLF4J),
    ];
    maven::jars("kafka", VERSION, "60 MB", &artifacts)
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
