//! What a delivery costs: the sender draining prepared jobs, and a bare reqwest loop, by turns against one sink.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use clap::Parser;
use hookstream_bench::cpu;
use hookstream_bench::figures::{Work, median};
use hookstream_bench::load::{Load, Noise};
use hookstream_bench::sink::Sink;
use hookstream_bench::stack::{Stack, webhook};
use hookstream_core::config::DEFAULT_ACCOUNT;
use hookstream_core::event::EventAttributes;
use hookstream_core::job::{Job, JobState};
use hookstream_types::{AccountUid, DeliveryId, EventId, Offset, Partition, UnixMillis, WebhookId};
use hookstream_wire::job;
use serde_json::json;
use uuid::Uuid;

/// The sender against a bare reqwest loop.
#[derive(Debug, Parser)]
struct Args {
    /// Deliveries of each run
    #[arg(long, default_value_t = 150_000)]
    deliveries: u64,
    /// Pairs of runs; medians are shown
    #[arg(long, default_value_t = 3)]
    pairs: usize,
    /// Bytes of a body
    #[arg(long, default_value_t = 1024)]
    body: usize,
    /// Requests in flight: tasks of the bare loop, and webhooks that take one request at a time
    #[arg(long, default_value_t = 64)]
    in_flight: usize,
    /// Partitions of `deliveries`
    #[arg(long, default_value_t = 8)]
    partitions: u32,
    /// Threads of the sender, one after the other; 0 is one per CPU
    #[arg(long, value_delimiter = ',', default_values_t = [1, 0])]
    cores: Vec<usize>,
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
    // Nothing is encrypted here, but the HTTP library makes no client without it.
    let provider = rustls::crypto::ring::default_provider();
    provider.install_default().map_err(|_| anyhow::anyhow!("another cryptographic provider is installed"))?;
    let sink = Sink::start(|_| {})?;
    let stack = Stack::new("sender", args.partitions)?;
    let webhooks: Vec<_> =
        (0..args.in_flight).map(|n| webhook(&format!("w-{n}"), &sink.url(), &["bench.*"], 1)).collect();
    stack.apply(&json!({ "accounts": [{ "name": DEFAULT_ACCOUNT }], "webhooks": webhooks }))?;
    let mut jobs = Jobs::new(&stack, args.body)?;

    println!(
        "{} deliveries of {} bytes a run; load average {}",
        args.deliveries,
        args.body,
        cpu::load_average()
    );
    for &cores in &args.cores {
        let mut rounds = Vec::new();
        for _ in 0..args.pairs {
            let bare = bare(args, &sink)?;
            jobs.produce(&stack, args.deliveries)?;
            let (sender, memory) = sender(args, cores, &stack, &sink)?;
            println!(
                "  bare {:>7.0}/s {:>5.1} µs   sender {:>7.0}/s {:>5.1} µs   ratio {:.2}   peak memory {memory} MiB",
                bare.per_second(),
                bare.cpu_micros(),
                sender.per_second(),
                sender.cpu_micros(),
                sender.cpu_micros() / bare.cpu_micros(),
            );
            rounds.push((bare, sender));
        }
        let middle =
            |figure: fn(&(Work, Work)) -> f64| median(&rounds.iter().map(figure).collect::<Vec<_>>());
        let cores = if cores == 0 { "a core per CPU".to_owned() } else { format!("{cores} core(s)") };
        println!("{cores}, medians of {} pairs (load average {}):", args.pairs, cpu::load_average());
        println!(
            "  bare reqwest loop {:>7.0} deliveries/s {:>6.1} µs CPU each",
            middle(|(bare, _)| bare.per_second()),
            middle(|(bare, _)| bare.cpu_micros())
        );
        println!(
            "  sender            {:>7.0} deliveries/s {:>6.1} µs CPU each",
            middle(|(_, sender)| sender.per_second()),
            middle(|(_, sender)| sender.cpu_micros())
        );
        println!(
            "  ratio of CPU per delivery {:.2} (goal: 2.0 or less)",
            middle(|(bare, sender)| sender.cpu_micros() / bare.cpu_micros())
        );
    }
    Ok(())
}

/// The bare loop, on a thread and a runtime of its own.
fn bare(args: &Args, sink: &Sink) -> anyhow::Result<Work> {
    let (url, total, in_flight) = (sink.url(), args.deliveries, args.in_flight);
    let body = Bytes::from(Noise::default().text(args.body));
    let thread = std::thread::spawn(move || -> anyhow::Result<Work> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client =
            reqwest::Client::builder().no_proxy().http1_only().pool_max_idle_per_host(in_flight).build()?;
        let (started, cpu) = (Instant::now(), cpu::of_this_thread()?);
        let left = Rc::new(std::cell::Cell::new(total));
        let local = tokio::task::LocalSet::new();
        for _ in 0..in_flight {
            let (client, url, body, left) = (client.clone(), url.clone(), body.clone(), Rc::clone(&left));
            local.spawn_local(async move {
                while left.get() > 0 {
                    left.set(left.get() - 1);
                    let answer = client.post(&url).body(body.clone()).send().await;
                    let answered = match answer {
                        Ok(answer) => answer.bytes().await.is_ok(),
                        Err(_) => false,
                    };
                    assert!(answered, "the sink answers every request");
                }
            });
        }
        runtime.block_on(local);
        Ok(Work { done: total, took: started.elapsed(), cpu: cpu::of_this_thread()? - cpu })
    });
    thread.join().map_err(|_| anyhow::anyhow!("the bare loop panicked"))?
}

/// Runs the sender until it has delivered what is there. Its start and the first tenth are not counted.
fn sender(args: &Args, cores: usize, stack: &Stack, sink: &Sink) -> anyhow::Result<(Work, u64)> {
    let before = sink.received();
    let service = stack.start("hookstream-sender", &[("SENDER__CORES", &cores.to_string())])?;
    let patience = Duration::from_secs(120);
    let first = args.deliveries / 10;
    let started = sink.wait_for(before + first, patience).with_context(|| service.said())?;
    let (already, cpu) = (sink.received() - before, cpu::of_process(service.pid())?);
    let ended = sink.wait_for(before + args.deliveries, patience).with_context(|| service.said())?;
    let work = Work {
        done: args.deliveries - already,
        took: ended - started,
        cpu: cpu::of_process(service.pid())? - cpu,
    };
    let memory = cpu::peak_memory(service.pid()).unwrap_or(0);
    service.stop()?;
    let received = sink.received() - before;
    ensure!(received == args.deliveries, "{received} requests for {} deliveries", args.deliveries);
    Ok((work, memory))
}

/// Makes jobs for the webhooks, the same number for each partition.
struct Jobs {
    account: AccountUid,
    config: Offset,
    /// By partition.
    webhooks: Vec<Vec<WebhookId>>,
    load: Load,
    noise: Noise,
    body: usize,
}

impl Jobs {
    fn new(stack: &Stack, body: usize) -> anyhow::Result<Self> {
        let view = stack.view()?;
        let account = view.accounts.get(DEFAULT_ACCOUNT).context("the account was applied")?.uid;
        let partitions = i32::try_from(stack.partitions())?;
        let mut webhooks: BTreeMap<Partition, Vec<WebhookId>> = BTreeMap::new();
        for id in view.webhooks.keys() {
            webhooks.entry(job::deliveries_partition(*id, partitions)).or_default().push(*id);
        }
        ensure!(webhooks.len() == usize::try_from(partitions)?, "a partition got no webhook; run it again");
        Ok(Self {
            account,
            config: view.offset,
            webhooks: webhooks.into_values().collect(),
            load: Load::new(stack.bootstrap_servers(), Duration::from_millis(5))?,
            noise: Noise::default(),
            body,
        })
    }

    fn produce(&mut self, stack: &Stack, count: u64) -> anyhow::Result<()> {
        let topic = stack.topic("deliveries");
        let mut record = Vec::new();
        for n in 0..count {
            let partition = usize::try_from(n)? % self.webhooks.len();
            let webhooks = &self.webhooks[partition];
            let webhook = webhooks[usize::try_from(n)? / self.webhooks.len() % webhooks.len()];
            record.clear();
            job::append(&self.job(webhook), &mut record);
            let at = Partition(i32::try_from(partition)?);
            self.load.send(&topic, Some(at), &job::partition_key(webhook), &record, &[])?;
        }
        self.load.finish()
    }

    fn job(&mut self, webhook: WebhookId) -> Job {
        let data = format!("{{\"text\":\"{}\"}}", self.noise.text(self.body.saturating_sub(11)));
        Job {
            state: JobState::new(DeliveryId(Uuid::now_v7()), webhook, self.config),
            event: Arc::new(EventAttributes {
                event: EventId(Uuid::now_v7()),
                account: self.account,
                source: "bench".to_owned(),
                id: self.noise.text(16),
                ce_source: "/bench".to_owned(),
                event_type: "bench.done".to_owned(),
                subject: Some(self.noise.text(8)),
                time: "2026-01-02T03:04:05Z".to_owned(),
                content_type: Some("application/json".to_owned()),
                extensions: Vec::new(),
                produced_at: UnixMillis(1_767_323_045_000),
            }),
            data: Bytes::from(data),
        }
    }
}
