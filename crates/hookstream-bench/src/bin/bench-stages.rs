//! How many events the ingester and the fan-out take per second and core.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Parser;
use hookstream_bench::cpu;
use hookstream_bench::figures::Work;
use hookstream_bench::load::{Load, Noise, Watch};
use hookstream_bench::sink::Sink;
use hookstream_bench::stack::{Stack, webhook};
use hookstream_types::Partition;
use serde_json::json;

/// Ingest and fan-out, each alone over a prepared backlog.
#[derive(Debug, Parser)]
struct Args {
    /// Events of each format
    #[arg(long, default_value_t = 500_000)]
    events: u64,
    /// Webhooks that match each event
    #[arg(long, default_value_t = 3)]
    webhooks: u64,
    /// Bytes of an event's data
    #[arg(long, default_value_t = 200)]
    body: usize,
    /// Partitions of each topic
    #[arg(long, default_value_t = 8)]
    partitions: u32,
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

fn run(args: &Args) -> anyhow::Result<()> {
    let sink = Sink::start(|_| {})?;
    let stack = Stack::new("stages", args.partitions)?;
    let (json, cloudevents) = (stack.create_topic("json")?, stack.create_topic("cloudevents")?);
    let mapping = json!({ "id": { "pointer": "/id" }, "type": { "pointer": "/type" } });
    let webhooks: Vec<_> =
        (0..args.webhooks).map(|n| webhook(&format!("w-{n}"), &sink.url(), &["bench.*"], 64)).collect();
    stack.apply(&json!({
        "accounts": [{ "name": "default" }],
        "sources": [
            { "name": "json", "topics": [json], "format": { "type": "json", "mapping": mapping } },
            { "name": "cloudevents", "topics": [cloudevents], "format": { "type": "cloudevents" } },
        ],
        "webhooks": webhooks,
    }))?;
    let watch = Watch::new(stack.bootstrap_servers())?;
    println!(
        "{} events of {} bytes per format (load average {})",
        args.events,
        args.body,
        cpu::load_average()
    );

    produce(args, &stack, &json, false)?;
    let ingester = [("INGESTER__CORES", "1")];
    let work = stage(&stack, &watch, "hookstream-ingester", &ingester, "events", 0, args.events)?;
    show("ingest, JSON with a mapping", "events", work, 100);
    produce(args, &stack, &cloudevents, true)?;
    let work = stage(&stack, &watch, "hookstream-ingester", &ingester, "events", args.events, args.events)?;
    show("ingest, CloudEvents", "events", work, 100);
    let rejected = watch.end(&stack.topic("rejected"), args.partitions)?;
    ensure!(rejected == 0, "{rejected} events were rejected");
    let jobs = 2 * args.events * args.webhooks;
    let work = stage(&stack, &watch, "hookstream-fanout", &[("FANOUT__CORES", "1")], "deliveries", 0, jobs)?;
    show(&format!("fan-out, {} webhooks an event", args.webhooks), "jobs", work, 150);
    Ok(())
}

fn produce(args: &Args, stack: &Stack, topic: &str, cloudevents: bool) -> anyhow::Result<()> {
    let load = Load::new(stack.bootstrap_servers(), Duration::from_millis(5))?;
    let mut noise = Noise::default();
    for n in 0..args.events {
        let pad = noise.text(args.body.saturating_sub(60));
        let body = format!("{{\"id\":\"e-{n}\",\"type\":\"bench.done\",\"pad\":\"{pad}\"}}");
        let at = Partition(i32::try_from(n % u64::from(args.partitions))?);
        let id = format!("e-{n}");
        let headers = [
            ("ce_specversion", "1.0"),
            ("ce_id", id.as_str()),
            ("ce_source", "/bench"),
            ("ce_type", "bench.done"),
            ("content-type", "application/json"),
        ];
        load.send(topic, Some(at), &[], body.as_bytes(), if cloudevents { &headers } else { &[] })?;
    }
    load.finish()
}

/// Runs a service until `count` more records stand in a topic. Its start and the first tenth are not counted.
fn stage(
    stack: &Stack,
    watch: &Watch,
    service: &str,
    settings: &[(&str, &str)],
    topic: &str,
    before: u64,
    count: u64,
) -> anyhow::Result<Work> {
    let (topic, partitions) = (stack.topic(topic), stack.partitions());
    let patience = Duration::from_secs(180);
    let service = stack.start(service, settings)?;
    let started =
        watch.wait_for(&topic, partitions, before + count / 10, patience).with_context(|| service.said())?;
    let (already, cpu) = (watch.end(&topic, partitions)? - before, cpu::of_process(service.pid())?);
    let ended = watch.wait_for(&topic, partitions, before + count, patience)?;
    let cpu = cpu::of_process(service.pid())? - cpu;
    service.stop()?;
    let there = watch.end(&topic, partitions)? - before;
    ensure!(there == count, "`{topic}` got {there} records, not {count}");
    Ok(Work { done: count - already, took: ended - started, cpu })
}

fn show(what: &str, unit: &str, work: Work, goal: u32) {
    println!(
        "  {what}: {:.0} {unit}/s, {:.2} µs CPU each: {:.0} k {unit}/s per core (goal {goal} k)",
        work.per_second(),
        work.cpu_micros(),
        1e3 / work.cpu_micros(),
    );
}
