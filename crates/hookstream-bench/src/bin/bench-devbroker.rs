//! The development broker beside a real Kafka: producing and consuming by turns, with the same client.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Parser;
use hookstream_bench::figures::{Work, median};
use hookstream_bench::load::{Load, Noise, Watch};
use hookstream_bench::stack::SourceTopic;
use hookstream_types::Partition;

/// The development broker against a real Kafka with one broker.
#[derive(Debug, Parser)]
struct Args {
    /// Records of each run
    #[arg(long, default_value_t = 300_000)]
    records: u64,
    /// Bytes of a record
    #[arg(long, default_value_t = 1024)]
    bytes: usize,
    #[arg(long, default_value_t = 4)]
    partitions: u32,
    /// Pairs of runs; medians are shown
    #[arg(long, default_value_t = 3)]
    pairs: usize,
}

/// Of Kafka's records a second, what the development broker is to reach.
const GOAL: f64 = 0.5;

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Producing and consuming the same records.
#[derive(Clone, Copy)]
struct Round {
    produce: f64,
    consume: f64,
}

fn run(args: &Args) -> anyhow::Result<()> {
    let kafka = std::env::var("HOOKSTREAM_BENCH_KAFKA")
        .context("`HOOKSTREAM_BENCH_KAFKA` names no Kafka; `cargo xtask bench` starts one")?;
    let own = Own::start()?;
    let values: Vec<String> = {
        let mut noise = Noise::default();
        (0..1000).map(|_| noise.text(args.bytes)).collect()
    };
    let mut rounds = Vec::new();
    for pair in 0..args.pairs {
        let real = round(args, &kafka, pair, &values)?;
        let dev = round(args, &own.address, pair, &values)?;
        println!(
            "  produce: kafka {:>8.0}/s, development broker {:>8.0}/s   consume: kafka {:>8.0}/s, development broker {:>8.0}/s",
            real.produce, dev.produce, real.consume, dev.consume
        );
        rounds.push((real, dev));
    }
    let ratio = |figure: fn(&Round) -> f64| {
        median(&rounds.iter().map(|(real, dev)| figure(dev) / figure(real)).collect::<Vec<_>>())
    };
    println!(
        "development broker / kafka, medians of {} pairs of {} records of {} bytes (goal: {GOAL} or more):",
        args.pairs, args.records, args.bytes
    );
    println!("  produce {:.2}", ratio(|round| round.produce));
    println!("  consume {:.2}", ratio(|round| round.consume));
    Ok(())
}

fn round(args: &Args, bootstrap_servers: &str, pair: usize, values: &[String]) -> anyhow::Result<Round> {
    let topic = SourceTopic::create(bootstrap_servers, &format!("bench-devbroker-{pair}"), args.partitions)?;
    let load = Load::new(bootstrap_servers, Duration::from_millis(5))?;
    let started = Instant::now();
    for n in 0..args.records {
        let index = usize::try_from(n)?;
        let partition = Partition(i32::try_from(index % usize::try_from(args.partitions)?)?);
        load.send(topic.name(), Some(partition), b"", values[index % values.len()].as_bytes(), &[])?;
    }
    load.finish()?;
    let work = |started: Instant| {
        Work { done: args.records, took: started.elapsed(), cpu: Duration::ZERO }.per_second()
    };
    let produce = work(started);
    let started = Instant::now();
    let mut bytes = 0;
    Watch::new(bootstrap_servers)?
        .read(topic.name(), args.partitions, args.records, |_, value| bytes += value.len() as u64)?;
    let consume = work(started);
    ensure!(bytes == args.records * args.bytes as u64, "{bytes} bytes came");
    Ok(Round { produce, consume })
}

/// A development broker on a directory of its own.
struct Own {
    address: String,
    process: Child,
    _dir: tempfile::TempDir,
}

impl Own {
    fn start() -> anyhow::Result<Self> {
        let program = std::env::var_os("HOOKSTREAM_TEST_BIN")
            .map(PathBuf::from)
            .context("`HOOKSTREAM_TEST_BIN` names no programs; `cargo xtask bench` builds them")?
            .join("hookstream-devbroker");
        let dir = tempfile::tempdir()?;
        let mut process = Command::new(program)
            .args(["--listen", "127.0.0.1:0", "--data-dir"])
            .arg(dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .context("the development broker does not start")?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().context("it is piped")?).read_line(&mut line)?;
        let address = line.trim().strip_prefix("listening on ").context("it says where it listens")?;
        Ok(Self { address: address.to_owned(), process, _dir: dir })
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.process.kill().unwrap_or_default();
        self.process.wait().map(drop).unwrap_or_default();
    }
}
