//! A broker for each test, and programs that are run on it.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use hookstream_devbroker::{DevBroker, Settings};
use rdkafka::ClientConfig;
use tempfile::TempDir;

/// How long a program may take: a JVM starts slowly on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A development broker, and a directory for what programs write.
#[derive(Debug)]
pub struct Bench {
    /// Taken when it ends.
    broker: Option<DevBroker>,
    pub address: String,
    dir: TempDir,
}

impl Bench {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings::new(dir.path().join("data"), ([127, 0, 0, 1], 0).into());
        let broker = DevBroker::start(settings).unwrap();
        Self { address: broker.address().to_string(), broker: Some(broker), dir }
    }

    /// A file with this content.
    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// Runs a program to its end with this input. Returns what it said; it is to succeed.
    pub fn run(&self, command: &mut Command, input: &str) -> String {
        self.start_program(command, input).finish()
    }

    /// Starts a program that goes on by itself.
    pub fn start_program(&self, command: &mut Command, input: &str) -> Program {
        let output = tempfile::tempdir_in(self.dir.path()).unwrap();
        let file = |name: &str| File::create(output.path().join(name)).unwrap();
        command.stdin(Stdio::piped()).stdout(file("stdout")).stderr(file("stderr"));
        let mut child = command.spawn().unwrap_or_else(|error| {
            panic!("{command:?} does not start ({error}): `cargo xtask kafka clients` says what is missing")
        });
        // A program that ends without reading its input says why elsewhere.
        drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
        Program { name: format!("{command:?}"), child, output }
    }

    /// A client of librdkafka, for what the programs can't do.
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.address);
        config
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some(broker) = self.broker.take() {
            broker.stop();
        }
    }
}

/// A program that runs. It is killed if it is dropped.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    output: TempDir,
}

impl Program {
    /// Waits for its end, which is to be a good one. Returns what it said.
    pub fn finish(mut self) -> String {
        let status = self.wait();
        let (said, complained) = (self.said("stdout"), self.said("stderr"));
        assert!(status.success(), "{} ended with {status}\n{said}\n{complained}", self.name);
        said
    }

    fn wait(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            let (said, complained) = (self.said("stdout"), self.said("stderr"));
            assert!(started.elapsed() < PATIENCE, "{} does not end\n{said}\n{complained}", self.name);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn said(&self, stream: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.output.path().join(stream)).unwrap()).into_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It has ended, or nobody wants it any more.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What the environment names.
pub fn from_environment(name: &str) -> PathBuf {
    let found = std::env::var_os(name).map(PathBuf::from).filter(|path| Path::new(path).exists());
    found.unwrap_or_else(|| {
        panic!(
            "`{name}` does not name what the tests need: run `cargo xtask test`, or set what \
             `cargo xtask kafka clients` prints"
        )
    })
}
