//! A real Kafka on this machine: combined brokers and controllers (KRaft), without Docker.
//!
//! A cluster is a directory: `node-N/` with its settings, data, log and pid file. A pid file names a broker only while
//! the process of that pid runs with that node's settings; whatever else has the pid by now is left alone.

mod clients;
mod jars;
pub mod protocol;

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub use clients::Clients;
pub use jars::VERSION;

/// The id that all these clusters have: they live on one machine and never meet.
const CLUSTER_ID: &str = "hookstreamAAAAAAAAAAAA";
/// A JVM's start, the election and the recovery of the logs, on two busy cores.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// A controlled shutdown moves the leaders away first.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);

/// What to create.
#[derive(Debug)]
pub struct Spec {
    /// Each broker's port and that of its controller, on the loopback interface.
    pub ports: Vec<(u16, u16)>,
}

/// A cluster in a directory, running or not.
#[derive(Clone, Debug)]
pub struct Cluster {
    dir: PathBuf,
    nodes: Vec<Node>,
}

/// One broker with its controller.
#[derive(Clone, Debug)]
pub struct Node {
    dir: PathBuf,
    port: u16,
}

impl Cluster {
    /// Lays out and formats a new cluster.
    ///
    /// # Errors
    /// If Java or the jars can't be had, or the directory holds something already.
    pub fn create(dir: &Path, spec: &Spec) -> anyhow::Result<Self> {
        ensure!(!spec.ports.is_empty(), "a cluster has at least one broker");
        jars::check_java()?;
        let jars = jars::jars()?;
        fs::create_dir_all(dir).with_context(|| format!("`{}` could not be made", dir.display()))?;
        let dir = dir.canonicalize().with_context(|| format!("`{}` could not be read", dir.display()))?;
        ensure!(
            fs::read_dir(&dir)?.next().is_none(),
            "`{}` is not empty: name another directory, or empty it",
            dir.display()
        );
        let mut formatting = Vec::new();
        for (index, (port, _)) in spec.ports.iter().enumerate() {
            let node = Node { dir: dir.join(format!("node-{}", index + 1)), port: *port };
            fs::create_dir(&node.dir)
                .with_context(|| format!("`{}` could not be made", node.dir.display()))?;
            fs::write(node.settings_file(), settings(&node, index, spec))?;
            // Side by side: each is a JVM's start.
            formatting.push((node.clone(), node.format(&jars)?));
        }
        let mut nodes = Vec::new();
        for (node, child) in formatting {
            let output = child.wait_with_output().context("kafka's formatter could not be waited for")?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr);
                bail!("`{}` could not be formatted: {}", node.dir.display(), said.trim());
            }
            nodes.push(node);
        }
        // Last: a directory without it is no cluster.
        let ports: Vec<String> = nodes.iter().map(|node| node.port.to_string()).collect();
        fs::write(dir.join("ports"), ports.join("\n"))?;
        Ok(Self { dir, nodes })
    }

    /// The cluster in `dir`.
    ///
    /// # Errors
    /// If there is none.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        let ports = fs::read_to_string(dir.join("ports"))
            .with_context(|| format!("there is no cluster in `{}`", dir.display()))?;
        let dir = dir.canonicalize().with_context(|| format!("`{}` could not be read", dir.display()))?;
        let mut nodes = Vec::new();
        for (index, port) in ports.lines().enumerate() {
            let port = port.parse().with_context(|| format!("`{}/ports` is damaged", dir.display()))?;
            nodes.push(Node { dir: dir.join(format!("node-{}", index + 1)), port });
        }
        Ok(Self { dir, nodes })
    }

    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// What clients are given.
    #[must_use]
    pub fn bootstrap_servers(&self) -> String {
        self.nodes.iter().map(|node| node.address().to_string()).collect::<Vec<_>>().join(",")
    }

    /// Starts what does not run, and waits until each broker sees them all.
    ///
    /// # Errors
    /// If one ends, or they are not there in time; the end of its log is in the error.
    pub fn start(&self) -> anyhow::Result<()> {
        let mut children = Vec::new();
        for node in self.nodes.iter().filter(|node| node.pid().is_none()) {
            children.push((node, node.spawn()?));
        }
        let result = self.wait_until_whole(&mut children);
        if result.is_err() {
            // Half a cluster is of no use, and would hold the ports.
            for (_, child) in &mut children {
                child.kill().ok();
                child.wait().ok();
            }
        }
        result
    }

    fn wait_until_whole(&self, children: &mut [(&Node, Child)]) -> anyhow::Result<()> {
        let started = Instant::now();
        let mut said = Duration::from_secs(10);
        loop {
            for (node, child) in children.iter_mut() {
                if let Some(status) = child.try_wait()? {
                    bail!(
                        "kafka at {} ended ({status}); its log ends with:\n{}",
                        node.address(),
                        node.log_tail()
                    );
                }
            }
            let whole = self.nodes.iter().all(|node| {
                protocol::metadata(node.address())
                    .is_ok_and(|metadata| metadata.brokers.len() == self.nodes.len())
            });
            if whole {
                return Ok(());
            }
            let waited = started.elapsed();
            if waited > START_TIMEOUT {
                let logs: Vec<String> = self.nodes.iter().map(Node::log_tail).collect();
                bail!(
                    "kafka is not up after {} s; the logs end with:\n{}",
                    waited.as_secs(),
                    logs.join("\n")
                );
            }
            if waited > said {
                println!("    waiting for kafka ({} s)", waited.as_secs());
                said += Duration::from_secs(10);
            }
            std::thread::sleep(POLL);
        }
    }

    /// Stops what runs, and says how many that were.
    ///
    /// # Errors
    /// If one does not end even when killed.
    pub fn stop(&self) -> anyhow::Result<usize> {
        let running: Vec<(&Node, Pid)> =
            self.nodes.iter().filter_map(|node| Some((node, node.pid()?))).collect();
        // All at once: a controlled shutdown waits for a quorum that is going away too, so they get little time.
        for (_, pid) in &running {
            signal(*pid, Signal::SIGTERM)?;
        }
        for (node, pid) in &running {
            if !node.wait_for_end(STOP_TIMEOUT) {
                signal(*pid, Signal::SIGKILL)?;
                ensure!(
                    node.wait_for_end(STOP_TIMEOUT),
                    "kafka at {} (pid {pid}) does not end",
                    node.address()
                );
            }
            fs::remove_file(node.pid_file()).ok();
        }
        Ok(running.len())
    }

    /// Deletes its data, settings and logs. It must have been stopped.
    ///
    /// # Errors
    /// If one still runs, or a file can't be deleted.
    pub fn delete(&self) -> anyhow::Result<()> {
        ensure!(self.nodes.iter().all(|node| node.pid().is_none()), "a broker still runs");
        fs::remove_dir_all(&self.dir)
            .with_context(|| format!("`{}` could not be deleted", self.dir.display()))
    }
}

impl Node {
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The broker's process, if it runs.
    #[must_use]
    pub fn pid(&self) -> Option<Pid> {
        let pid = fs::read_to_string(self.pid_file()).ok()?.trim().parse().ok()?;
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let settings = self.settings_file();
        command
            .split(|byte| *byte == 0)
            .any(|arg| arg == settings.as_os_str().as_encoded_bytes())
            .then(|| Pid::from_raw(pid))
    }

    /// Ends the broker as a power cut would.
    ///
    /// # Errors
    /// If it does not run.
    pub fn kill(&self) -> anyhow::Result<()> {
        let pid = self.pid().with_context(|| format!("kafka at {} does not run", self.address()))?;
        signal(pid, Signal::SIGKILL)?;
        ensure!(self.wait_for_end(STOP_TIMEOUT), "kafka at {} (pid {pid}) does not end", self.address());
        Ok(())
    }

    fn settings_file(&self) -> PathBuf {
        self.dir.join("server.properties")
    }

    fn pid_file(&self) -> PathBuf {
        self.dir.join("pid")
    }

    fn format(&self, jars: &Path) -> anyhow::Result<Child> {
        java(jars, "kafka.tools.StorageTool", &["-Xmx96m", "-XX:TieredStopAtLevel=1"])
            .args(["format", "-t", CLUSTER_ID, "-c"])
            .arg(self.settings_file())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("`java` could not be started")
    }

    fn spawn(&self) -> anyhow::Result<Child> {
        let log = File::options().create(true).append(true).open(self.dir.join("log"))?;
        let child =
            java(&jars::jars()?, "kafka.Kafka", &["-Xms128m", "-Xmx512m", "-Xmn192m", "-XX:+UseSerialGC"])
                .arg(self.settings_file())
                .stdout(log.try_clone()?)
                .stderr(log)
                // It outlives the chore that starts it, and an interrupt at the terminal is not meant for it.
                .process_group(0)
                .spawn()
                .context("`java` could not be started")?;
        fs::write(self.pid_file(), child.id().to_string())?;
        Ok(child)
    }

    /// Whether its process is gone within `timeout`.
    fn wait_for_end(&self, timeout: Duration) -> bool {
        let started = Instant::now();
        while self.pid().is_some() {
            if started.elapsed() > timeout {
                return false;
            }
            std::thread::sleep(POLL);
        }
        true
    }

    /// The last part of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        const BYTES: u64 = 4096;
        let read = || -> std::io::Result<String> {
            let mut file = File::open(self.dir.join("log"))?;
            let size = file.metadata()?.len();
            file.seek(SeekFrom::Start(size.saturating_sub(BYTES)))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        read().unwrap_or_default()
    }
}

fn java(jars: &Path, main: &str, options: &[&str]) -> Command {
    let mut command = Command::new("java");
    command
        .args(options)
        .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
        .arg("-Dorg.slf4j.simpleLogger.showDateTime=true")
        .arg("-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS")
        .arg("-cp")
        .arg(jars.join("*"))
        .arg(main)
        .stdin(Stdio::null());
    command
}

fn signal(pid: Pid, signal: Signal) -> anyhow::Result<()> {
    match kill(pid, signal) {
        // It ended by itself in the meantime.
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("no signal to process {pid}")),
    }
}

/// Small, quick to elect and to notice a broker's death; nothing is made by accident.
fn settings(node: &Node, index: usize, spec: &Spec) -> String {
    let brokers = spec.ports.len();
    let (port, controller) = spec.ports[index];
    let voters: Vec<String> = spec
        .ports
        .iter()
        .enumerate()
        .map(|(index, (_, controller))| format!("{}@127.0.0.1:{controller}", index + 1))
        .collect();
    // Two of three are enough to go on writing when one dies.
    let in_sync = if brokers > 2 { 2 } else { 1 };
    format!(
        "node.id={id}
process.roles=broker,controller
controller.quorum.voters={voters}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
num.partitions=1
default.replication.factor={brokers}
min.insync.replicas={in_sync}
offsets.topic.num.partitions=4
offsets.topic.replication.factor={brokers}
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor={brokers}
transaction.state.log.min.isr={in_sync}
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor={brokers}
share.coordinator.state.topic.min.isr={in_sync}
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
controller.quorum.election.timeout.ms=1000
controller.quorum.fetch.timeout.ms=2000
replica.lag.time.max.ms=5000
unclean.leader.election.enable=false
num.network.threads=2
num.io.threads=4
num.recovery.threads.per.data.dir=1
log.cleaner.threads=1
log.cleaner.dedupe.buffer.size=16777216
log.index.size.max.bytes=2097152
log.segment.bytes=134217728
controlled.shutdown.enable=true
",
        id = index + 1,
        voters = voters.join(","),
        data = node.dir.join("data").display(),
    )
}
