//! Clients of Kafka that are not ours, for the tests of the development broker: Kafka's own tools in Java, and
//! kafka-python, fetched once into a cache.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::bail;

use super::jars;
use crate::python::python;

/// Written in Python alone, by others than Kafka's and librdkafka's authors.
const KAFKA_PYTHON: &str = "kafka-python==3.0.12\n";

/// Where they are.
#[derive(Clone, Debug)]
pub struct Clients {
    /// The directory with Kafka's jars.
    pub jars: PathBuf,
    /// A Python that has kafka-python.
    pub python: PathBuf,
}

impl Clients {
    /// Fetches what is not there.
    ///
    /// # Errors
    /// If Java, Maven, Python or kcat is missing, or a registry can't be reached.
    pub fn fetch() -> anyhow::Result<Self> {
        jars::check_java()?;
        let kcat = Command::new("kcat").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if kcat.is_err() {
            bail!("`kcat` is missing: install it (Debian: `apt-get install kcat`)");
        }
        Ok(Self { jars: jars::jars()?, python: python("kafka", KAFKA_PYTHON)? })
    }

    /// The environment in which the tests find them.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, &Path); 2] {
        [("HOOKSTREAM_TEST_KAFKA_HOME", &self.jars), ("HOOKSTREAM_TEST_PYTHON", &self.python)]
    }
}
