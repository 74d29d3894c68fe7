//! Clients of Kafka that are not ours, for the tests of the development broker: Kafka's own tools in Java, and
//! kafka-python, fetched once into a cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use super::jars;

/// Written in Python alone, by others than Kafka's and librdkafka's authors.
const KAFKA_PYTHON: &str = "3.0.12";

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
        Ok(Self { jars: jars::jars()?, python: python()? })
    }

    /// The environment in which the tests find them.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, &Path); 2] {
        [("HOOKSTREAM_TEST_KAFKA_HOME", &self.jars), ("HOOKSTREAM_TEST_PYTHON", &self.python)]
    }
}

fn python() -> anyhow::Result<PathBuf> {
    let cache = jars::cache_dir()?;
    let dir = cache.join(format!("kafka-python-{KAFKA_PYTHON}"));
    let python = |dir: &Path| dir.join("bin/python");
    if dir.is_dir() {
        return Ok(python(&dir));
    }
    eprintln!("    fetching kafka-python {KAFKA_PYTHON} with pip (once) into {}", dir.display());
    // Made aside and renamed, so that what is interrupted is never taken for whole. Only the interpreter is used, and
    // it finds its packages beside itself.
    let aside = cache.join(format!("kafka-python-{KAFKA_PYTHON}.{}", std::process::id()));
    fs::create_dir_all(&cache).with_context(|| format!("`{}` could not be made", cache.display()))?;
    let result = make_python(&aside).and_then(|()| match fs::rename(&aside, &dir) {
        // Somebody else was faster, which is as good.
        Err(error) if !dir.is_dir() => {
            Err(error).with_context(|| format!("`{}` could not be made", dir.display()))
        }
        Ok(()) | Err(_) => Ok(python(&dir)),
    });
    fs::remove_dir_all(&aside).ok();
    result
}

fn make_python(dir: &Path) -> anyhow::Result<()> {
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
    run(
        Command::new(dir.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"])
            .arg(format!("kafka-python=={KAFKA_PYTHON}")),
        "kafka-python could not be fetched with pip",
    )
}
