//! What the way out costs when it has very many accounts, and when endpoints are hostile.
//!
//! The endpoints are a process of their own, so that this one's memory is the client's. The hostile ones run at the lowest
//! priority: elsewhere they would not take this machine's cores, and what is measured is the client.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, ExitCode, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use clap::Parser;
use hookstream_bench::cpu;
use hookstream_bench::figures::quantile;
use hookstream_core::exchange::{Method, Request};
use hookstream_egress::Client;
use hookstream_settings::Egress;
use hookstream_testkit::receiver::{Answer, Behaviour, Receiver, Then};
use hookstream_types::AccountUid;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use uuid::Uuid;

/// Connections of many accounts, and hostile answers, through one client on one core
#[derive(Debug, Parser)]
struct Args {
    /// Accounts that send at the same time
    #[arg(long, default_value_t = 10_000)]
    accounts: u32,
    /// Hostile answers at a time
    #[arg(long, default_value_t = 10_000)]
    hostile: u32,
    /// Seconds of measuring, with and without hostile answers
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Requests per second to an endpoint that is well
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// Be the endpoints
    #[arg(long, hide = true)]
    endpoints: bool,
}

/// As the product's usual one.
const DEADLINE: Duration = Duration::from_secs(15);
const PATHS: &[&str] = &["/hang", "/endless", "/slow", "/heads", "/hints"];

fn main() -> ExitCode {
    let args = Args::parse();
    let result = raise_limit().and_then(|()| if args.endpoints { endpoints() } else { run(&args) });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn raise_limit() -> anyhow::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(())
}

/// Serves until its standard input ends.
fn endpoints() -> anyhow::Result<()> {
    let receiver = Receiver::start();
    receiver.keep(0);
    receiver.on("/hang", Behaviour::Hang);
    receiver.on("/endless", Answer::status(200).endless_body());
    receiver.on("/slow", Answer::status(200).slow_body(Duration::from_millis(500)));
    let head = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    receiver.on("/heads", Behaviour::raw(head, Then::Hang));
    let hints = "HTTP/1.1 103 Early Hints\r\nx: y\r\n\r\n".repeat(1_000);
    receiver.on("/hints", Behaviour::raw(hints, Then::Hang));
    println!("{}", receiver.url(""));
    std::io::stdin().lines().for_each(drop);
    Ok(())
}

struct Endpoints {
    process: Child,
    url: String,
}

impl Endpoints {
    fn start(niceness: u8) -> anyhow::Result<Self> {
        let own = std::env::current_exe()?;
        let mut process = Command::new("nice")
            .arg(format!("--adjustment={niceness}"))
            .arg(own)
            .arg("--endpoints")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the endpoints could not be started")?;
        let said = process.stdout.take().context("the endpoints say nothing")?;
        let mut url = String::new();
        BufReader::new(said).read_line(&mut url)?;
        ensure!(url.starts_with("http://"), "the endpoints did not start");
        Ok(Self { process, url: url.trim().to_owned() })
    }

    fn request(&self, account: u32, path: &str) -> Request {
        Request {
            account: AccountUid(Uuid::from_u128(account.into())),
            method: Method::Post,
            url: Arc::from(format!("{}{path}", self.url)),
            headers: vec![(Arc::from("content-type"), Arc::from("application/json"))],
            body: Bytes::from_static(br#"{"type":"order.created","data":{}}"#),
            deadline: DEADLINE,
            tls: None,
            token: None,
        }
    }
}

impl Drop for Endpoints {
    fn drop(&mut self) {
        // It is ours, and may have ended.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn client() -> anyhow::Result<Client> {
    let settings = Egress { allow_http: true, allow_private: true, ..Egress::default() };
    Ok(Client::new(&settings)?)
}

fn run(args: &Args) -> anyhow::Result<()> {
    println!("one client on one core (load average {})", cpu::load_average());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        accounts(args).await?;
        hostile(args).await
    })
}

/// Each account has one connection, and all of them at once.
async fn accounts(args: &Args) -> anyhow::Result<()> {
    let endpoints = Endpoints::start(0)?;
    let client = client()?;
    let sent = client.exchange(&endpoints.request(0, "/warm-up")).await;
    ensure!(sent.result.is_ok(), "{sent:?}");
    let before = memory()?;
    for round in ["first, a connection each", "again, on the same connections"] {
        let started = Instant::now();
        let mut reused = 0;
        for account in 1..=args.accounts {
            let exchange = client.exchange(&endpoints.request(account, "/")).await;
            ensure!(exchange.result.is_ok(), "{exchange:?}");
            reused += u32::from(exchange.timings.connect.is_none());
        }
        let each = started.elapsed() / args.accounts.max(1);
        let grown = memory()?.saturating_sub(before);
        println!(
            "{} accounts, {round}: {:.1} µs each, {reused} on a connection that was there, {} KiB more memory: {:.1} KiB an account",
            args.accounts,
            each.as_secs_f64() * 1e6,
            grown,
            grown_each(grown, args.accounts),
        );
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn grown_each(grown: u64, accounts: u32) -> f64 {
    grown as f64 / f64::from(accounts.max(1))
}

async fn hostile(args: &Args) -> anyhow::Result<()> {
    let endpoints = Rc::new(Endpoints::start(19)?);
    let well = Endpoints::start(0)?;
    let client = Rc::new(client()?);
    let time = Duration::from_secs(args.seconds);
    healthy(args, &client, &well, Duration::from_secs(2)).await?;
    let alone = healthy(args, &client, &well, time).await?;
    let before = memory()?;
    let mut tasks = tokio::task::JoinSet::new();
    let all = args.hostile.max(1);
    for n in 0..args.hostile {
        let (client, endpoints) = (Rc::clone(&client), Rc::clone(&endpoints));
        tasks.spawn_local(async move {
            // Not all at the same moment, as no load is.
            tokio::time::sleep(DEADLINE * n / all).await;
            let path = PATHS[usize::try_from(n).unwrap_or_default() % PATHS.len()];
            let request = endpoints.request(1_000_000 + n / 10, path);
            loop {
                let started = tokio::time::Instant::now();
                let exchange = client.exchange(&request).await;
                drop(exchange);
                tokio::time::sleep_until(started + DEADLINE).await;
            }
        });
    }
    // Until each of them has one.
    healthy(args, &client, &well, DEADLINE + Duration::from_secs(1)).await?;
    let beside = healthy(args, &client, &well, time).await?;
    let grown = memory()?.saturating_sub(before) / 1024;
    tasks.abort_all();
    println!(
        "{} hostile answers at a time ({}): memory grew by {grown} MiB (goal: less than 512)",
        args.hostile,
        PATHS.join(" ")
    );
    let p99 = |sorted: &[Duration]| quantile(sorted, 0.99);
    println!(
        "an endpoint that is well: p50 {:?}, p99 {:?} alone; p50 {:?}, p99 {:?} beside them: {:.2} × (goal: 1.2)",
        quantile(&alone, 0.5),
        p99(&alone),
        quantile(&beside, 0.5),
        p99(&beside),
        p99(&beside).as_secs_f64() / p99(&alone).as_secs_f64(),
    );
    Ok(())
}

/// Latencies of so many requests per second, sorted.
async fn healthy(
    args: &Args,
    client: &Rc<Client>,
    well: &Endpoints,
    time: Duration,
) -> anyhow::Result<Vec<Duration>> {
    let mut every = tokio::time::interval(Duration::from_secs(1) / args.rate.max(1));
    let until = tokio::time::Instant::now() + time;
    let mut tasks = tokio::task::JoinSet::new();
    let mut latencies = Vec::new();
    while tokio::time::Instant::now() < until {
        let due = every.tick().await;
        let (client, request) = (Rc::clone(client), well.request(7, "/"));
        tasks.spawn_local(async move {
            let exchange = client.exchange(&request).await;
            exchange.result.map(|_| due.elapsed())
        });
        while let Some(done) = tasks.try_join_next() {
            latencies.push(done?.map_err(|failure| anyhow::anyhow!(failure.message))?);
        }
    }
    while let Some(done) = tasks.join_next().await {
        latencies.push(done?.map_err(|failure| anyhow::anyhow!(failure.message))?);
    }
    latencies.sort_unstable();
    Ok(latencies)
}

/// This process's, in KiB.
fn memory() -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("the kernel says nothing")?;
    Ok(line.split_whitespace().next().unwrap_or_default().parse()?)
}
