//! How long an event takes from its producer to its endpoint, through all three services.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use clap::Parser;
use hookstream_bench::cpu;
use hookstream_bench::figures::quantile;
use hookstream_bench::load::{Load, Noise, Watch};
use hookstream_bench::sink::Sink;
use hookstream_bench::stack::{Service, Stack, webhook};
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
    /// Seconds before them that don't: a fresh Kafka is slow until it is compiled
    #[arg(long, default_value_t = 60)]
    warm_up: u64,
    /// Bytes of an event
    #[arg(long, default_value_t = 1024)]
    body: usize,
    /// Partitions of each topic
    #[arg(long, default_value_t = 6)]
    partitions: u32,
    /// Milliseconds that the producer of the events waits for a batch to fill
    #[arg(long, default_value_t = 5)]
    linger: u64,
    /// Threads of each service; 0 is one per CPU
    #[arg(long, default_value_t = 1)]
    cores: usize,
}

impl Args {
    fn count(&self) -> u64 {
        (self.warm_up + self.seconds) * self.rate
    }
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
    /// The same moment by the wall clock, which the brokers have too.
    wall: Duration,
    produced: Vec<AtomicU64>,
    took: Vec<AtomicU64>,
}

impl Times {
    fn new(count: u64) -> anyhow::Result<Self> {
        let zeros = || (0..count).map(|_| AtomicU64::new(0)).collect();
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        Ok(Self { start: Instant::now(), wall, produced: zeros(), took: zeros() })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// How long those took that count, the shortest first.
    fn sorted(&self, args: &Args) -> anyhow::Result<Vec<Duration>> {
        let first = usize::try_from(args.warm_up * args.rate)?;
        let mut took: Vec<Duration> = self.took[first..]
            .iter()
            .map(|took| Duration::from_nanos(took.load(Ordering::Acquire)))
            .collect();
        took.sort_unstable();
        Ok(took)
    }

    /// The event's data, somewhere in the body, begins with its number.
    fn on_body(&self, body: &[u8]) {
        let Some(n) = number(body) else { return };
        if let (Some(produced), Some(took)) = (self.produced.get(n), self.took.get(n)) {
            let nanos = self.now() - produced.load(Ordering::Acquire);
            // Only the first time: a duplicate is no delivery.
            took.compare_exchange(0, nanos, Ordering::AcqRel, Ordering::Relaxed).ok();
        }
    }
}

fn number(body: &[u8]) -> Option<usize> {
    let at = memchr::memmem::find(body, NUMBER)?;
    let digits = body[at + NUMBER.len()..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0')))
}

/// Where the time goes: when each event stood in each topic on its way, from first to last.
fn print_hops(stack: &Stack, source: &str, times: &Times, first: usize) -> anyhow::Result<()> {
    let watch = Watch::new(stack.bootstrap_servers())?;
    let wall = |nanos: u64| {
        let since = times.wall + Duration::from_nanos(nanos);
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    };
    let produced = times.produced.iter().map(|at| at.load(Ordering::Acquire));
    let took = times.took.iter().map(|took| took.load(Ordering::Acquire));
    let received: Vec<i64> = produced.clone().zip(took).map(|(at, took)| wall(at + took)).collect();
    let mut before: Vec<i64> = produced.map(wall).collect();
    let topics = [source.to_owned(), stack.topic("events"), stack.topic("deliveries")];
    for (topic, hop) in topics.iter().zip(["produce to source topic", "ingester", "fan-out"]) {
        let mut after = before.clone();
        watch.read(topic, stack.partitions(), watch.end(topic, stack.partitions())?, |at, value| {
            if let Some(after) = number(value).and_then(|n| after.get_mut(n)) {
                *after = at.0;
            }
        })?;
        print_hop(hop, &before[first..], &after[first..]);
        before = after;
    }
    print_hop("sender", &before[first..], &received[first..]);
    Ok(())
}

fn print_hop(hop: &str, before: &[i64], after: &[i64]) {
    let mut took: Vec<Duration> = before
        .iter()
        .zip(after)
        .map(|(before, after)| Duration::from_millis(u64::try_from(after - before).unwrap_or(0)))
        .collect();
    took.sort_unstable();
    let of = |share| quantile(&took, share).as_millis();
    println!("    {hop}: p50 {} ms, p95 {} ms, p99 {} ms", of(0.5), of(0.95), of(0.99));
}

/// Produces all events at a steady rate, as an application does that does not wait for each: they have no key, so
/// librdkafka stays at a partition until it has waited for a batch there.
fn produce(
    args: &Args,
    bootstrap_servers: &str,
    topic: &str,
    times: &Times,
    mut before: impl FnMut(u64) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let load = Load::new(bootstrap_servers, Duration::from_millis(args.linger))?;
    let mut noise = Noise::default();
    let begin = Instant::now();
    for (n, produced) in (0..).zip(&times.produced) {
        let pad = noise.text(args.body.saturating_sub(48));
        let body = format!("{{\"n\":{n},\"id\":\"e-{n}\",\"pad\":\"{pad}\"}}");
        let due = begin + Duration::from_secs(n) / u32::try_from(args.rate)?;
        if let Some(wait) = due.checked_duration_since(Instant::now()) {
            std::thread::sleep(wait);
        }
        before(n)?;
        produced.store(times.now(), Ordering::Release);
        load.send(topic, None, &[], body.as_bytes(), &[])?;
    }
    load.finish()
}

/// The same load from a bare producer to a bare consumer: what a hop through this Kafka takes, on this machine, by
/// itself.
fn bare_hop(args: &Args, stack: &Stack) -> anyhow::Result<Vec<Duration>> {
    let topic = stack.create_topic("bare")?;
    let times = Times::new(args.count())?;
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let on_record = |_, value: &[u8]| times.on_body(value);
            Watch::new(stack.bootstrap_servers())?.read(&topic, stack.partitions(), args.count(), on_record)
        });
        produce(args, stack.bootstrap_servers(), &topic, &times, |_| Ok(()))?;
        reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))?
    })?;
    times.sorted(args)
}

fn print_times(what: &str, took: &[Duration]) {
    let millis = |share: f64| quantile(took, share).as_secs_f64() * 1e3;
    println!(
        "  {what}: p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        millis(0.5),
        millis(0.95),
        millis(0.99),
        millis(1.0)
    );
}

fn run(args: &Args) -> anyhow::Result<()> {
    let count = args.count();
    let times = Arc::new(Times::new(count)?);
    let seen = Arc::clone(&times);
    let sink = Sink::start(move |body| seen.on_body(body))?;
    let stack = Stack::new("latency", args.partitions)?;
    let bare = bare_hop(args, &stack)?;
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

    let mut costs = Vec::new();
    produce(args, stack.bootstrap_servers(), &topic, &times, |n| {
        if n == args.warm_up * args.rate {
            for service in &services {
                costs.push(cpu::of_process(service.pid())?);
            }
        }
        Ok(())
    })?;
    sink.wait_for(count, Duration::from_secs(30))
        .with_context(|| services.iter().map(Service::said).collect::<String>())?;

    let first = usize::try_from(args.warm_up * args.rate)?;
    println!(
        "{} events/s of {} bytes, {} partitions, {} broker(s), {} s (load average {})",
        args.rate,
        args.body,
        args.partitions,
        stack.bootstrap_servers().split(',').count(),
        args.seconds,
        cpu::load_average()
    );
    print_times("a bare producer to a bare consumer", &bare);
    print_times("produce to receive (goal: p50 8, p99 30)", &times.sorted(args)?);
    print_hops(&stack, &topic, &times, first)?;
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
