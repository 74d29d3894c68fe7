//! `cargo xtask test`: everything that must hold, in one command, with a Kafka and a PostgreSQL of its own.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use cargo_metadata::MetadataCommand;
use xtask::kafka::{Clients, Cluster, Spec};
use xtask::postgres::Server;

use crate::run::Counts;
use crate::{run, tidy};

/// Brokers of the tests' own cluster: enough that one can die and writes to all replicas still count.
pub(crate) const BROKERS: usize = 3;
/// Packages, each with the program of its name, that the end-to-end tests run.
const PROGRAMS: &[&str] = &[
    "hookstream",
    "hookstream-devbroker",
    "hookstream-ingester",
    "hookstream-fanout",
    "hookstream-sender",
    "hookstream-api",
];

/// Formatting, lints, tidy, then all tests. Stops at the first step that fails.
pub fn test(quick: bool) -> anyhow::Result<()> {
    let mut steps = Steps::default();
    let result = steps.all(quick);
    steps.print();
    result
}

#[derive(Debug, Default)]
struct Steps {
    done: Vec<(&'static str, Duration, bool)>,
    counts: Counts,
}

impl Steps {
    fn all(&mut self, quick: bool) -> anyhow::Result<()> {
        self.step("formatting", || run::run(run::cargo().args(["fmt", "--all", "--check"])))?;
        self.step("tidy", tidy::tidy)?;
        self.step("clippy", || {
            let args = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
            run::run(run::cargo().args(args))
        })?;
        if quick {
            let mut counts = Counts::default();
            let result = self.step("tests without kafka", || without_kafka(&mut counts));
            self.counts = counts;
            return result;
        }
        let services = self.step("build services", || build_services(Profile::Debug))?;
        self.step("build tests", || {
            run::run(run::cargo().args(["test", "--workspace", "--locked", "--no-run", "--quiet"]))
        })?;
        let clients = self.step("clients", Clients::fetch)?;
        let packages = self.step("packages", xtask::packages)?;
        let kafka = self.step("kafka up", || OwnKafka::start("test", BROKERS))?;
        let postgres = self.step("postgresql up", || OwnPostgres::start("test"))?;
        let mut tests = run::cargo();
        tests.args(["test", "--workspace", "--locked", "--no-fail-fast"]);
        tests.env("HOOKSTREAM_TEST_BIN", &services).envs(clients.environment());
        tests.envs(packages.iter().map(|(name, path)| (name, path)));
        kafka.name_to(&mut tests);
        tests.env(TEST_POSTGRES, postgres.url());
        let mut counts = Counts::default();
        let result = self.step("tests", || run::run_tests(&mut tests, &mut counts));
        self.step("kafka and postgresql down", || {
            drop(kafka);
            drop(postgres);
            Ok(())
        })?;
        // What was just shown on Kafka is to hold on the development broker as well.
        let mut contract = run::cargo();
        contract.args(["test", "--locked", "--package", DEVBROKER, "--test", "contract"]);
        let contract = self.step("contract, without kafka", || run::run_tests(&mut contract, &mut counts));
        let mut e2e = run::cargo();
        e2e.args(["test", "--locked", "--no-fail-fast", "--package", "hookstream-e2e", "--test", "it"]);
        // What a browser shows does not depend on who keeps the log, nor what a filter means.
        e2e.args(["--", "--skip", "console", "--skip", "event_ruler"]);
        e2e.env("HOOKSTREAM_TEST_BIN", services).envs(packages);
        let e2e = self.step("end to end, without kafka", || run::run_tests(&mut e2e, &mut counts));
        self.counts = counts;
        result.and(contract).and(e2e)
    }

    fn step<T>(&mut self, name: &'static str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        println!("==> {name}");
        let started = Instant::now();
        let result = work();
        self.done.push((name, started.elapsed(), result.is_ok()));
        result.with_context(|| format!("{name} failed"))
    }

    fn print(&self) {
        println!("\n==> summary");
        for (name, took, good) in &self.done {
            let mark = if *good { "ok" } else { "FAILED" };
            println!("    {name:<26} {:>7.1} s  {mark}", took.as_secs_f64());
        }
        let total: Duration = self.done.iter().map(|(_, took, _)| *took).sum();
        println!("    {:<26} {:>7.1} s\n", "total", total.as_secs_f64());
        let Counts { passed, failed, skipped } = self.counts;
        println!("{passed} passed, {failed} failed, {skipped} skipped");
    }
}

/// The package whose broker stands in for Kafka.
const DEVBROKER: &str = "hookstream-devbroker";

/// Unit and property tests of all crates, and the integration tests of those that need no Kafka.
fn without_kafka(counts: &mut Counts) -> anyhow::Result<()> {
    let tests = ["test", "--workspace", "--locked", "--no-fail-fast", "--exclude", "hookstream-e2e"];
    run::run_tests(run::cargo().args(tests).args(["--lib", "--bins"]), counts)?;
    let with_kafka =
        ["--exclude", "hookstream-log", "--exclude", "hookstream-config", "--exclude", DEVBROKER];
    run::run_tests(run::cargo().args(tests).args(with_kafka).args(["--test", "*"]), counts)?;
    let devbroker = ["test", "--locked", "--no-fail-fast", "--package", DEVBROKER];
    run::run_tests(run::cargo().args(devbroker).args(["--test", "contract", "--test", "embedded"]), counts)
}

/// How programs are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    Debug,
    Release,
}

/// Builds the programs as they are shipped, and puts them where the building of tests does not replace them.
///
/// Built together with the tests they would have the features that tests ask for: faults on purpose among them.
pub(crate) fn build_services(profile: Profile) -> anyhow::Result<PathBuf> {
    let mut build = run::cargo();
    build.args(["build", "--locked", "--bins"]);
    if profile == Profile::Release {
        build.arg("--release");
    }
    build.args(PROGRAMS.iter().flat_map(|program| ["--package", program]));
    // With it, foreign crates have the features that they have in the whole workspace, and OpenSSL and librdkafka are
    // compiled once instead of twice.
    build.args(["--package", "xtask"]);
    run::run(&mut build)?;
    let metadata = MetadataCommand::new().no_deps().exec().context("`cargo metadata` failed")?;
    let built = metadata.target_directory.join(match profile {
        Profile::Debug => "debug",
        Profile::Release => "release",
    });
    let services = built.join("services");
    fs::create_dir_all(&services).with_context(|| format!("`{services}` could not be made"))?;
    for program in PROGRAMS {
        let to = services.join(program);
        // One that still runs can't be written over, but it can be replaced.
        fs::remove_file(&to).ok();
        fs::copy(built.join(program), &to).with_context(|| format!("`{to}` could not be written"))?;
    }
    Ok(services.into_std_path_buf())
}

/// A cluster that goes away with this process: on success, on failure, and when it is interrupted.
#[derive(Debug)]
pub struct OwnKafka {
    cluster: Cluster,
}

impl OwnKafka {
    /// Starts it; `purpose` is in its directory's name.
    pub fn start(purpose: &str, brokers: usize) -> anyhow::Result<Self> {
        let dir = std::env::temp_dir().join(format!("hookstream-{purpose}-{}", std::process::id()));
        let cluster = Cluster::create(&dir, &Spec { ports: free_ports(brokers)? })?;
        let interrupted = cluster.clone();
        on_interrupt(move || end(&interrupted))?;
        // Under its guard before it starts: what starts half-way is torn down too.
        let kafka = Self { cluster };
        kafka.cluster.start()?;
        println!("    {}, logs in {}", kafka.cluster.bootstrap_servers(), dir.display());
        Ok(kafka)
    }

    pub fn bootstrap_servers(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// Tells a command where it is.
    pub(crate) fn name_to(&self, command: &mut Command) {
        command.env("HOOKSTREAM_TEST_KAFKA", self.cluster.bootstrap_servers());
        command.env("HOOKSTREAM_TEST_KAFKA_DIR", self.cluster.dir());
    }
}

impl Drop for OwnKafka {
    fn drop(&mut self) {
        end(&self.cluster);
    }
}

/// Names the PostgreSQL that tests and benchmarks are to use.
pub(crate) const TEST_POSTGRES: &str = "HOOKSTREAM_TEST_POSTGRES";

/// A PostgreSQL that goes away with this process, as [`OwnKafka`] does.
#[derive(Debug)]
pub struct OwnPostgres {
    server: Server,
}

impl OwnPostgres {
    /// Starts it; `purpose` is in its directory's name.
    pub fn start(purpose: &str) -> anyhow::Result<Self> {
        let dir = std::env::temp_dir().join(format!("hookstream-{purpose}-postgres-{}", std::process::id()));
        let server = Server::create(&dir)?;
        let interrupted = server.clone();
        on_interrupt(move || end_postgres(&interrupted))?;
        let postgres = Self { server };
        postgres.server.start()?;
        println!("    {}, log in {}", postgres.server.url(), dir.display());
        Ok(postgres)
    }

    pub fn url(&self) -> String {
        self.server.url()
    }
}

impl Drop for OwnPostgres {
    fn drop(&mut self) {
        end_postgres(&self.server);
    }
}

fn end_postgres(server: &Server) {
    if let Err(error) = server.stop().and_then(|()| server.delete()) {
        eprintln!("warning: the postgresql that was started for this is left behind: {error:#}");
    }
}

type Undo = Box<dyn FnOnce() + Send>;

/// Does this, too, before an interrupted process ends.
fn on_interrupt(undo: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
    static UNDO: Mutex<Vec<Undo>> = Mutex::new(Vec::new());
    let mut all = UNDO.lock().unwrap_or_else(PoisonError::into_inner);
    all.push(Box::new(undo));
    if all.len() == 1 {
        let interrupted = || {
            let all = std::mem::take(&mut *UNDO.lock().unwrap_or_else(PoisonError::into_inner));
            all.into_iter().for_each(|undo| undo());
            std::process::exit(130);
        };
        ctrlc::set_handler(interrupted).context("the signal handler could not be set")?;
    }
    Ok(())
}

fn end(cluster: &Cluster) {
    if let Err(error) = cluster.stop().and_then(|_| cluster.delete()) {
        eprintln!("warning: the kafka that was started for this is left behind: {error:#}");
    }
}

/// Ports that nobody listens at, a broker's and its controller's in turn.
///
/// They are free only until somebody takes them; all are held at once, so that they differ.
fn free_ports(brokers: usize) -> anyhow::Result<Vec<(u16, u16)>> {
    let held = (0..2 * brokers)
        .map(|_| TcpListener::bind(("127.0.0.1", 0)))
        .collect::<Result<Vec<_>, _>>()
        .context("no free port")?;
    let ports = held
        .iter()
        .map(|listener| Ok(listener.local_addr()?.port()))
        .collect::<std::io::Result<Vec<u16>>>()
        .context("no free port")?;
    Ok(ports.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}
