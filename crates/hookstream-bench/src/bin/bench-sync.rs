//! What a call of a sync webhook through hookstream takes beside a direct one, with the same client and endpoint.

use std::net::TcpListener;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Parser;
use hookstream_bench::cpu;
use hookstream_bench::figures::quantile;
use hookstream_bench::sink::Sink;
use hookstream_bench::stack::{Service, Stack, webhook};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// The operator's token.
const TOKEN: &str = "a-token-for-the-benchmark-only";
/// What p99 may take more.
const GOAL: Duration = Duration::from_millis(5);

/// Calls, direct and through hookstream in turn, at a steady rate.
#[derive(Debug, Parser)]
struct Args {
    /// Calls per second of each kind
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// Seconds that count
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    /// Seconds before them that don't
    #[arg(long, default_value_t = 5)]
    warm_up: u32,
    /// Bytes of the data
    #[arg(long, default_value_t = 1024)]
    body: usize,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<bool> {
    let provider = rustls::crypto::ring::default_provider();
    provider.install_default().map_err(|_| anyhow::anyhow!("another cryptographic provider is installed"))?;
    let sink = Sink::start(|_| ())?;
    let stack = Stack::new("sync", 6)?;
    stack.apply(&json!({
        "accounts": [{ "name": "default", "verification": "none" }],
        "eventTypes": [{ "name": "bench.ask", "delivery": "sync" }],
        "webhooks": [webhook("bench", &sink.url(), &["bench.*"], 256)],
    }))?;
    // Free until somebody takes it.
    let listen = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.to_string();
    let dir = tempfile::tempdir()?;
    let history = format!("sqlite:{}", dir.path().join("history.db").display());
    let settings = [
        ("API__LISTEN", listen.as_str()),
        ("API__ADMIN_TOKEN", TOKEN),
        ("API__REQUESTS_PER_SECOND", "100000"),
        ("HISTORY__URL", history.as_str()),
    ];
    let mut api = stack.start("hookstream-api", &settings)?;
    api.wait_ready()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let (direct, through) = runtime
        .block_on(calls(args, &sink.url(), &format!("http://{listen}/api/v1/invocations")))
        .with_context(|| Service::said(&api))?;
    println!(
        "{} calls/s of each kind, {} bytes, {} s (load average {})",
        args.rate,
        args.body,
        args.seconds,
        cpu::load_average()
    );
    print_times("direct", &direct);
    print_times("through hookstream", &through);
    let added = quantile(&through, 0.99).saturating_sub(quantile(&direct, 0.99));
    println!("  added at p99: {:.2} ms (goal: {} ms at most)", added.as_secs_f64() * 1e3, GOAL.as_millis());
    api.stop()?;
    Ok(added <= GOAL)
}

/// How long those took that count, the shortest first.
async fn calls(args: &Args, endpoint: &str, api: &str) -> anyhow::Result<(Vec<Duration>, Vec<Duration>)> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let data = json!({ "text": "x".repeat(args.body) });
    let direct = data.to_string();
    let asked = json!({ "eventType": "bench.ask", "data": data }).to_string();
    let mut tick = tokio::time::interval(Duration::from_secs(1) / args.rate / 2);
    let mut calls = JoinSet::new();
    for n in 0..(args.warm_up + args.seconds) * args.rate * 2 {
        tick.tick().await;
        let is_direct = n % 2 == 0;
        let (url, body) = if is_direct { (endpoint, &direct) } else { (api, &asked) };
        let request = client.post(url).header(CONTENT_TYPE, "application/json").body(body.clone());
        let request = request.header(AUTHORIZATION, format!("Bearer {TOKEN}"));
        let counts = n >= args.warm_up * args.rate * 2;
        calls.spawn(async move {
            let began = Instant::now();
            let answer = request.send().await?;
            let (status, text) = (answer.status(), answer.text().await?);
            let took = began.elapsed();
            ensure!(status.is_success(), "{status}: {text}");
            if !is_direct {
                let answers: Value = serde_json::from_str(&text)?;
                ensure!(answers["results"][0]["outcome"] == "answered", "{text}");
            }
            Ok((is_direct, counts, took))
        });
    }
    let (mut direct, mut through) = (Vec::new(), Vec::new());
    while let Some(call) = calls.join_next().await {
        let (is_direct, counts, took) = call??;
        if counts {
            if is_direct { &mut direct } else { &mut through }.push(took);
        }
    }
    direct.sort_unstable();
    through.sort_unstable();
    Ok((direct, through))
}

fn print_times(what: &str, took: &[Duration]) {
    let millis = |share: f64| quantile(took, share).as_secs_f64() * 1e3;
    println!(
        "  {what}: p50 {:.2} ms, p95 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
        millis(0.5),
        millis(0.95),
        millis(0.99),
        millis(1.0)
    );
}
