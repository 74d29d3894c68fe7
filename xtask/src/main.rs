//! The project's chores: `cargo xtask <chore>`. They need nothing but the toolchain, and for Kafka a JDK and Maven.

mod fuzz;
mod run;
mod test;
mod tidy;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, bail};
use clap::{Parser, Subcommand};
use xtask::kafka::protocol::{self, NewTopic};
use xtask::kafka::{Clients, Cluster, Spec};
use xtask::postgres::Server;

use test::{OwnKafka, OwnPostgres, TEST_POSTGRES};

/// Names the Kafka that a benchmark is to use; without it one is started for it.
const BENCH_KAFKA: &str = "HOOKSTREAM_BENCH_KAFKA";

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "The project's chores")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// A real Kafka on this machine, for work by hand
    #[command(subcommand)]
    Kafka(Kafka),
    /// A real PostgreSQL on this machine, for work by hand
    #[command(subcommand)]
    Postgres(Postgres),
    /// Fetch the programs and libraries that are not ours and that tests run, and say which environment they are found in
    Packages,
    /// Everything that must hold: formatting, lints, tidy, and all tests against a Kafka and a
    /// PostgreSQL of their own
    Test {
        /// Leave out what needs Kafka or PostgreSQL
        #[arg(long)]
        quick: bool,
    },
    /// Check the repository's own rules: dependency edges, lints, module docs, file sizes
    Tidy,
    /// Run a benchmark, optimised
    Bench {
        /// Its name: the binary `bench-<NAME>`; without it the benchmarks are listed
        name: Option<String>,
        /// Passed on to the benchmark
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Feed what strangers write to our readers, guided by coverage: url, header, retry_after, template, record
    Fuzz {
        /// Only these
        targets: Vec<String>,
        /// For each
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// Prove under load what is promised: hundred-thousand, kills, backlog; on a Kafka of its own
    Prove {
        /// Its name and its options
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        args: Vec<String>,
    },
    /// Run the simulation over many seeds, or one seed again
    Sim {
        /// How many seeds
        #[arg(long, default_value_t = 1000, conflicts_with = "seed")]
        seeds: u64,
        /// Only this one, with its trace
        #[arg(long)]
        seed: Option<u64>,
    },
}

#[derive(Debug, Subcommand)]
enum Kafka {
    /// Start it; the first time its jars are fetched with Maven
    Up {
        /// 1 or 3
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=3))]
        brokers: u16,
        /// The first broker's port; the others follow
        #[arg(long, default_value_t = 9092, value_parser = clap::value_parser!(u16).range(1024..=55_000))]
        port: u16,
        /// Where its data, logs and pid files are
        #[arg(long, default_value = ".kafka")]
        dir: PathBuf,
    },
    /// Stop it; its data stays
    Down {
        #[arg(long, default_value = ".kafka")]
        dir: PathBuf,
        /// Delete its data too
        #[arg(long)]
        delete: bool,
    },
    /// Make a topic for events, with as many copies as there are brokers
    Topic {
        name: String,
        #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(i32).range(1..=1000))]
        partitions: i32,
        #[arg(long, default_value = ".kafka")]
        dir: PathBuf,
    },
    /// Fetch the clients that tests of the development broker use, and say which environment they are found in
    Clients,
    /// Say which brokers run and answer; exits with 1 if one does not
    Status {
        #[arg(long, default_value = ".kafka")]
        dir: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum Postgres {
    /// Start it at a free port; the first time Debian's package is installed
    Up {
        /// Where its data and its log are
        #[arg(long, default_value = ".postgres")]
        dir: PathBuf,
    },
    /// Stop it; its data stays
    Down {
        #[arg(long, default_value = ".postgres")]
        dir: PathBuf,
        /// Delete its data too
        #[arg(long)]
        delete: bool,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().chore {
        Chore::Kafka(Kafka::Up { brokers, port, dir }) => up(brokers, port, &dir),
        Chore::Kafka(Kafka::Down { dir, delete }) => down(&dir, delete),
        Chore::Kafka(Kafka::Topic { name, partitions, dir }) => topic(&name, partitions, &dir),
        Chore::Kafka(Kafka::Clients) => clients(),
        Chore::Kafka(Kafka::Status { dir }) => status(&dir),
        Chore::Postgres(Postgres::Up { dir }) => postgres_up(&dir),
        Chore::Postgres(Postgres::Down { dir, delete }) => postgres_down(&dir, delete),
        Chore::Packages => packages(),
        Chore::Test { quick } => test::test(quick),
        Chore::Tidy => tidy::tidy(),
        Chore::Bench { name, args } => bench(name.as_deref(), &args),
        Chore::Fuzz { targets, seconds } => fuzz::fuzz(&targets, seconds),
        Chore::Prove { args } => prove(&args),
        Chore::Sim { seeds, seed } => sim(seeds, seed),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn up(brokers: u16, port: u16, dir: &Path) -> anyhow::Result<()> {
    let started = Instant::now();
    if let Ok(cluster) = Cluster::open(dir) {
        let running = cluster.nodes().iter().filter(|node| node.pid().is_some()).count();
        if running == cluster.nodes().len() {
            println!("kafka runs already in {}: {}", dir.display(), cluster.bootstrap_servers());
            return Ok(());
        }
        if cluster.nodes().len() != usize::from(brokers) || cluster.nodes()[0].port() != port {
            bail!(
                "`{}` holds a cluster of {} broker(s) at {}: start it with the same options, or remove it with `cargo xtask kafka down --delete`",
                dir.display(),
                cluster.nodes().len(),
                cluster.bootstrap_servers(),
            );
        }
        cluster.start()?;
        println!("kafka is up at {} ({:.1} s)", cluster.bootstrap_servers(), started.elapsed().as_secs_f64());
        return Ok(());
    }
    let ports = (0..brokers).map(|n| (port + n, port + n + 10_000)).collect();
    let cluster = Cluster::create(dir, &Spec { ports })?;
    cluster.start()?;
    println!("kafka is up at {} ({:.1} s)", cluster.bootstrap_servers(), started.elapsed().as_secs_f64());
    Ok(())
}

fn down(dir: &Path, delete: bool) -> anyhow::Result<()> {
    match Cluster::open(dir) {
        Ok(cluster) => {
            let stopped = cluster.stop()?;
            println!("{stopped} broker(s) stopped");
            if delete {
                cluster.delete()?;
            }
            Ok(())
        }
        Err(_) if !dir.exists() => {
            println!("nothing runs in {}", dir.display());
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn postgres_up(dir: &Path) -> anyhow::Result<()> {
    let server = if dir.join("port").exists() { Server::open(dir)? } else { Server::create(dir)? };
    server.start()?;
    println!("postgresql is up: {}", server.url());
    Ok(())
}

fn postgres_down(dir: &Path, delete: bool) -> anyhow::Result<()> {
    if !dir.exists() {
        println!("nothing runs in {}", dir.display());
        return Ok(());
    }
    let server = Server::open(dir)?;
    server.stop()?;
    println!("postgresql is stopped");
    if delete { server.delete() } else { Ok(()) }
}

fn topic(name: &str, partitions: i32, dir: &Path) -> anyhow::Result<()> {
    let cluster = Cluster::open(dir)?;
    let replication_factor =
        i16::try_from(cluster.nodes().len()).context("a cluster has at most three brokers")?;
    let topic = NewTopic { name, partitions, replication_factor, settings: &[] };
    protocol::create_topics(cluster.nodes()[0].address(), &[topic])?;
    println!("topic `{name}` is there");
    Ok(())
}

fn clients() -> anyhow::Result<()> {
    for (name, path) in Clients::fetch()?.environment() {
        println!("export {name}={}", path.display());
    }
    Ok(())
}

fn packages() -> anyhow::Result<()> {
    for (name, path) in xtask::packages()? {
        println!("export {name}={}", path.display());
    }
    Ok(())
}

fn status(dir: &Path) -> anyhow::Result<()> {
    let cluster = Cluster::open(dir)?;
    let mut all = true;
    for node in cluster.nodes() {
        let address: SocketAddr = node.address();
        match (node.pid(), protocol::metadata(address)) {
            (Some(pid), Ok(metadata)) => {
                println!("{address} pid {pid}, sees {} broker(s)", metadata.brokers.len());
            }
            (Some(pid), Err(error)) => {
                all = false;
                println!("{address} pid {pid}, does not answer: {error:#}");
            }
            (None, _) => {
                all = false;
                println!("{address} does not run");
            }
        }
    }
    if !all {
        bail!("not all brokers answer; their logs are in `{}`", dir.display());
    }
    Ok(())
}

fn bench(name: Option<&str>, args: &[String]) -> anyhow::Result<()> {
    const PREFIX: &str = "bench-";
    let metadata =
        cargo_metadata::MetadataCommand::new().no_deps().exec().context("`cargo metadata` failed")?;
    let mut benches = Vec::new();
    for package in metadata.workspace_packages() {
        for target in
            package.targets.iter().filter(|target| target.is_bin() && target.name.starts_with(PREFIX))
        {
            benches.push((&target.name[PREFIX.len()..], package.name.as_str()));
        }
    }
    benches.sort_unstable();
    let names = || benches.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let Some(name) = name else {
        println!("benchmarks: {}", names());
        return Ok(());
    };
    let Some((_, package)) = benches.iter().find(|(known, _)| *known == name) else {
        bail!("there is no benchmark `{name}`; there are: {}", names());
    };
    // These start no service of ours, and no server.
    let is_alone = matches!(name, "request" | "egress");
    let mut command = run::cargo();
    if !is_alone {
        command.env("HOOKSTREAM_TEST_BIN", test::build_services(test::Profile::Release)?);
    }
    command
        .args([
            "run",
            "--release",
            "--locked",
            "--package",
            package,
            "--bin",
            &format!("{PREFIX}{name}"),
            "--",
        ])
        .args(args);
    // Asking what it can do needs no servers.
    if is_alone
        || std::env::var_os(BENCH_KAFKA).is_some()
        || args.iter().any(|arg| matches!(arg.as_str(), "-h" | "--help"))
    {
        return run::run(&mut command);
    }
    if name == "history" {
        let postgres = OwnPostgres::start("bench")?;
        return run::run(command.env(TEST_POSTGRES, postgres.url()));
    }
    let kafka = OwnKafka::start("bench", if name == "latency" { 3 } else { 1 })?;
    run::run(command.env(BENCH_KAFKA, kafka.bootstrap_servers()))
}

fn prove(args: &[String]) -> anyhow::Result<()> {
    let services = test::build_services(test::Profile::Release)?;
    let mut build = run::cargo();
    run::run(build.args([
        "build",
        "--release",
        "--locked",
        "--package",
        "hookstream-e2e",
        "--bin",
        "prove",
    ]))?;
    let kafka = OwnKafka::start("prove", test::BROKERS)?;
    let mut proof = run::cargo();
    proof.args([
        "run",
        "--release",
        "--quiet",
        "--locked",
        "--package",
        "hookstream-e2e",
        "--bin",
        "prove",
        "--",
    ]);
    proof.args(args).env("HOOKSTREAM_TEST_BIN", services);
    kafka.name_to(&mut proof);
    run::run(&mut proof)
}

fn sim(seeds: u64, seed: Option<u64>) -> anyhow::Result<()> {
    let (from, count) = seed.map_or((0, seeds), |seed| (seed, 1));
    let mut command = run::cargo();
    command.args([
        "test",
        "--release",
        "--package",
        "hookstream-testkit",
        "--test",
        "it",
        "--",
        "--nocapture",
    ]);
    command.env("HOOKSTREAM_SIM_SEED", from.to_string()).env("HOOKSTREAM_SIM_SEEDS", count.to_string());
    run::run(&mut command)
}
