//! How long an event takes from its producer to its endpoint, through all three services.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;
use hookstream_bench::cpu;
use hookstream_bench::figures::quantile;
use hookstream_bench::load::{Load, Noise};
use hookstream_bench::sink::Sink;
use hookstream_bench::stack::{Service, Stack, webhook};
use hookstream_types::Partition;
use serde_json::json;

/// Produce to receive, at a steady rate.
#[derive(Debug, Parser)]
struct Args {
    /// Events per second
    #[arg(long, default_value_t = 1000)]
    rate: u64,
    /// Seconds that count
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Seconds before them that don't
    #[arg(long, default_value_t = 5)]
    warm_up: u64,
    /// Bytes of an event
    #[arg(long, default_value_t = 1024)]
    body: usize,
    /// Partitions of each topic
    #[arg(long, default_value_t = 16)]
    partitions: u32,
    /// Threads of each service; 0 is one per CPU
    #[arg(long, default_value_t = 1)]
    cores: usize,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What stands before an event's number.
const NUMBER: &[u8] = b"{\"n\":";

/// When each event was produced, and how long it took; in nanoseconds from the start.
struct Times {
    start: Instant,
    produced: Vec<AtomicU64>,
    took: Vec<AtomicU64>,
}

impl Times {
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The event's data, somewhere in the body, begins with its number.
    fn on_body(&self, body: &[u8]) {
        let Some(at) = memchr::memmem::find(body, NUMBER) else { return };
        let digits = body[at + NUMBER.len()..].iter().take_while(|byte| byte.is_ascii_digit());
        let n = digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
        if let (Some(produced), Some(took)) = (self.produced.get(n), self.took.get(n)) {
            let nanos = self.now() - produced.load(Ordering::Acquire);
            // Only the first time: a duplicate is no delivery.
            took.compare_exchange(0, nanos, Ordering::AcqRel, Ordering::Relaxed).ok();
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    let count = (args.warm_up + args.seconds) * args.rate;
    let zeros = || (0..count).map(|_| AtomicU64::new(0)).collect();
    let times = Arc::new(Times { start: Instant::now(), produced: zeros(), took: zeros() });
    let seen = Arc::clone(&times);
    let sink = Sink::start(move |body| seen.on_body(body))?;
    let stack = Stack::new("latency", args.partitions)?;
    let topic = stack.create_topic("source")?;
    let mapping = json!({ "id": { "pointer": "/id" }, "type": { "constant": "bench.done" } });
    stack.apply(&json!({
        "accounts": [{ "name": "default" }],
        "sources": [{ "name": "bench", "topics": [topic], "format": { "type": "json", "mapping": mapping } }],
        "webhooks": [webhook("bench", &sink.url(), &["bench.*"], 64)],
    }))?;
    let cores = args.cores.to_string();
    let mut services = vec![
        stack.start("hookstream-ingester", &[("INGESTER__CORES", &cores)])?,
        stack.start("hookstream-fanout", &[("FANOUT__CORES", &cores)])?,
        stack.start("hookstream-sender", &[("SENDER__CORES", &cores)])?,
    ];
    for service in &mut services {
        service.wait_ready()?;
    }

    let load = Load::new(stack.bootstrap_servers(), Duration::ZERO)?;
    let mut noise = Noise::default();
    let costs = Mutex::new(Vec::new());
    let begin = Instant::now();
    for n in 0..count {
        let index = usize::try_from(n)?;
        let pad = noise.text(args.body.saturating_sub(48));
        let body = format!("{{\"n\":{n},\"id\":\"e-{n}\",\"pad\":\"{pad}\"}}");
        let due = begin + Duration::from_secs(n) / u32::try_from(args.rate)?;
        if let Some(wait) = due.checked_duration_since(Instant::now()) {
            std::thread::sleep(wait);
        }
        if n == args.warm_up * args.rate {
            let mut costs = costs.lock().unwrap_or_else(PoisonError::into_inner);
            for service in &services {
                costs.push(cpu::of_process(service.pid())?);
            }
        }
        let partition = Partition(i32::try_from(n % u64::from(args.partitions))?);
        times.produced[index].store(times.now(), Ordering::Release);
        load.send(&topic, partition, &[], body.as_bytes(), &[])?;
    }
    load.finish()?;
    sink.wait_for(count, Duration::from_secs(30))
        .with_context(|| services.iter().map(Service::said).collect::<String>())?;

    let first = usize::try_from(args.warm_up * args.rate)?;
    let mut took: Vec<Duration> =
        times.took[first..].iter().map(|took| Duration::from_nanos(took.load(Ordering::Acquire))).collect();
    took.sort_unstable();
    let millis = |share: f64| quantile(&took, share).as_secs_f64() * 1e3;
    println!(
        "{} events/s of {} bytes, {} partitions, {} broker(s), {} s (load average {})",
        args.rate,
        args.body,
        args.partitions,
        stack.bootstrap_servers().split(',').count(),
        args.seconds,
        cpu::load_average()
    );
    println!(
        "  produce to receive: p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms, max {:.1} ms (goal: p50 8, p99 30)",
        millis(0.5),
        millis(0.95),
        millis(0.99),
        millis(1.0)
    );
    let costs = costs.into_inner().unwrap_or_else(PoisonError::into_inner);
    for (service, (name, before)) in services.iter().zip(["ingester", "fan-out", "sender"].iter().zip(costs))
    {
        let cpu = cpu::of_process(service.pid())? - before;
        println!(
            "  {name}: {:.0} % of a CPU",
            cpu.as_secs_f64() * 100.0 / Duration::from_secs(args.seconds).as_secs_f64()
        );
    }
    for service in services {
        service.stop()?;
    }
    Ok(())
}
