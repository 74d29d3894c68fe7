//! The history index with many attempts: how fast it is fed, how large it is, and how long each kind of page takes.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Parser;
use hookstream_bench::figures::quantile;
use hookstream_core::decision::{DeadReason, Decision, Verdict};
use hookstream_core::exchange::FailureKind;
use hookstream_core::ledger::Entry;
use hookstream_history::{
    Applied, Backend, Batch, Feed, Filter, History, Key, Outcome, Record, StatusFilter,
};
use hookstream_types::{
    AccountUid, DeliveryId, EventId, Generation, Offset, OwnerId, Partition, UnixMillis, WebhookId,
};
use hookstream_wire::attempt::{self, Attempt, LoggedFailure, LoggedRequest, LoggedResponse, LoggedTimings};
use uuid::Uuid;

/// The history index: fill it, then time the pages.
#[derive(Debug, Parser)]
struct Args {
    /// Attempts to fill it with
    #[arg(long, default_value_t = 10_000_000)]
    attempts: u64,
    /// Records of a batch
    #[arg(long, default_value_t = 2_000)]
    batch: u64,
    /// Pages of each shape that are timed
    #[arg(long, default_value_t = 40)]
    pages: usize,
    /// Where the SQLite file is; it stays there, and is used again if it is full. Without it: a file of its own
    #[arg(long)]
    file: Option<PathBuf>,
    /// A PostgreSQL server in place of SQLite: its schema `bench_history` is filled if it is not full
    #[arg(long, env = "HOOKSTREAM_TEST_POSTGRES")]
    postgres: Option<String>,
}

/// What no page may take longer than.
const GOAL: Duration = Duration::from_millis(50);
const PARTITIONS: u64 = 64;
const ACCOUNTS: u64 = 100;
/// The first account has half of all webhooks.
const WEBHOOKS: u64 = 5_000;
/// A week.
const SPAN_MS: u64 = 7 * 24 * 3600 * 1000;

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
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let dir = tempfile::tempdir()?;
    let path = args.file.clone().unwrap_or_else(|| dir.path().join("history.db"));
    runtime.block_on(measure(args, "sqlite", &Backend::Sqlite { path: path.clone() }))?;
    let bytes = std::fs::metadata(&path)?.len();
    println!("  file: {} MB, {} bytes an attempt", bytes / 1_000_000, bytes / args.attempts.max(1));
    if let Some(url) = &args.postgres {
        let backend = Backend::Postgres { url: url.clone(), schema: "bench_history".to_owned() };
        runtime.block_on(measure(args, "postgresql", &backend))?;
    }
    Ok(())
}

async fn measure(args: &Args, name: &str, backend: &Backend) -> anyhow::Result<()> {
    let history = History::open(backend).await?;
    let started = Instant::now();
    let filled = fill(args, &history).await?;
    if filled > 0 {
        #[expect(clippy::cast_precision_loss, reason = "figures for people")]
        let rate = filled as f64 / started.elapsed().as_secs_f64();
        println!("{name}: {filled} attempts in {:.0} s, {rate:.0}/s", started.elapsed().as_secs_f64());
    }
    println!("{name}: pages of 50, {} of each shape (goal: {} ms at most)", args.pages, GOAL.as_millis());
    let mut worst = Duration::ZERO;
    for (shape, scope, filter) in shapes(args.attempts) {
        let mut times = Vec::new();
        let (mut items, mut short, mut before) = (0, 0, None::<Key>);
        for _ in 0..args.pages {
            let started = Instant::now();
            let page = history.executions(scope, &filter, before, 50).await?;
            times.push(started.elapsed());
            items += page.items.len();
            short += usize::from(page.next.is_some() && page.items.len() < 50);
            before = page.next;
        }
        times.sort_unstable();
        let most = times.last().copied().unwrap_or_default();
        worst = worst.max(most);
        println!(
            "  {shape:<48} p50 {:>7.2} ms  max {:>7.2} ms  {items:>5} items, {short:>2} short",
            quantile(&times, 0.5).as_secs_f64() * 1e3,
            most.as_secs_f64() * 1e3,
        );
    }
    let mut times = Vec::new();
    for n in 0..200_u64 {
        let (delivery, ..) = ids(n * 7919 % args.attempts.max(1) / 2);
        let started = Instant::now();
        let found = history.execution(None, delivery).await?;
        times.push(started.elapsed());
        drop(found);
    }
    times.sort_unstable();
    println!(
        "  {:<48} p50 {:>7.2} ms  max {:>7.2} ms",
        "one execution with its attempts",
        quantile(&times, 0.5).as_secs_f64() * 1e3,
        quantile(&times, 1.0).as_secs_f64() * 1e3
    );
    println!("  the slowest page: {:.1} ms", worst.as_secs_f64() * 1e3);
    history.close().await;
    Ok(())
}

/// Spreads numbers.
fn mix(n: u64) -> u64 {
    let mut z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn id(kind: u128, n: u64) -> Uuid {
    // Spread as ids are.
    Uuid::from_u128(kind << 120 | u128::from(mix(n)) << 32 | u128::from(n & 0xffff_ffff))
}

fn account(webhook: u64) -> AccountUid {
    let number = if webhook < WEBHOOKS / 2 { 0 } else { 1 + webhook % (ACCOUNTS - 1) };
    AccountUid(id(1, number))
}

fn ids(n: u64) -> (DeliveryId, u64, EventId, &'static str) {
    let webhook = mix(n) % WEBHOOKS;
    let event = EventId(id(3, n / 2));
    // One type in ten thousand is rare.
    let event_type = match mix(n ^ 5) % 10_000 {
        0 => "audit.exported",
        few if few < 3_000 => "order.paid",
        few if few < 6_000 => "order.shipped",
        _ => "user.created",
    };
    (DeliveryId::of(event, WebhookId(id(2, webhook))), webhook, event, event_type)
}

/// One execution: delivered at once as most are, or after a retry; some are dead, and one webhook's all wait.
fn records(n: u64) -> Vec<Vec<u8>> {
    let (delivery, webhook, event, event_type) = ids(n);
    let made = |number: u32, result: Result<u16, FailureKind>, verdict: Verdict| {
        let attempt = Attempt {
            webhook: WebhookId(id(2, webhook)),
            account: account(webhook),
            event,
            event_type: event_type.into(),
            number,
            revision: 1,
            unlisted: false,
            started_at: UnixMillis(0),
            request: LoggedRequest { method: "POST".into(), url: "".into(), headers: Vec::new(), body: None },
            response: result.ok().map(|status| LoggedResponse { status, headers: Vec::new(), body: None }),
            failure: result.err().map(|kind| LoggedFailure { kind, message: "".into() }),
            timings: LoggedTimings {
                dns_us: None,
                connect_us: None,
                tls_us: None,
                first_byte_us: None,
                total_us: 900,
            },
        };
        let generation = Generation { run: 0, n: number };
        let decision = Decision { offset: Offset(0), delivery, generation, about: None, verdict };
        let entry = Entry::Decisions { owner: OwnerId(Uuid::nil()), decisions: vec![decision] };
        let mut value = Vec::new();
        attempt::encode(&entry, Some(&attempt.encode()), &mut value);
        value
    };
    let again = || Verdict::Retry { due: UnixMillis(i64::MAX) };
    match (webhook, mix(n ^ 9) % 1_000) {
        (1, _) => vec![made(1, Err(FailureKind::Connect), again())],
        (_, 0..20) => vec![made(1, Ok(503), again()), made(2, Ok(200), Verdict::Delivered)],
        (_, 20..40) => {
            let dead = Verdict::Dead { reason: DeadReason::Exhausted };
            vec![made(1, Ok(500), again()), made(2, Err(FailureKind::Timeout), dead)]
        }
        (_, 40) => vec![made(1, Ok(404), Verdict::Dead { reason: DeadReason::Rejected })],
        _ => vec![made(1, Ok(200), Verdict::Delivered)],
    }
}

/// Fills each partition as far as it is not yet full; returns how many attempts that were.
async fn fill(args: &Args, history: &History) -> anyhow::Result<u64> {
    let positions = history.positions(Feed::Attempts).await?;
    let mut waiting: Vec<Vec<Vec<u8>>> = vec![Vec::new(); usize::try_from(PARTITIONS)?];
    let mut next = vec![0_u64; usize::try_from(PARTITIONS)?];
    let (mut total, mut filled, mut n) = (0, 0, 0);
    let mut said = Instant::now();
    while total < args.attempts {
        let partition = mix(n) % WEBHOOKS % PARTITIONS;
        let slot = usize::try_from(partition)?;
        let made = records(n);
        n += 1;
        total += made.len() as u64;
        waiting[slot].extend(made);
        if (waiting[slot].len() as u64) < args.batch && total < args.attempts {
            continue;
        }
        let at = i64::try_from(1_700_000_000_000 + total * (SPAN_MS / args.attempts.max(1)).max(1))?;
        let from = next[slot];
        next[slot] += waiting[slot].len() as u64;
        let values = std::mem::take(&mut waiting[slot]);
        let partition = Partition(i32::try_from(partition)?);
        if positions.get(&partition).is_some_and(|position| position.next.0 >= next[slot].cast_signed()) {
            continue;
        }
        filled += values.len() as u64;
        let records = values.into_iter().zip(from..).map(|(value, offset)| {
            // They were appended one after the other.
            let at = UnixMillis(at + (offset - from).cast_signed());
            Record { offset: Offset(offset.cast_signed()), at, headers: Vec::new(), value }
        });
        let batch = Batch {
            partition,
            from: Offset(from.cast_signed()),
            next: Offset(next[slot].cast_signed()),
            records: records.collect(),
        };
        let applied = history.apply(Feed::Attempts, &batch).await.context("a batch was not taken")?;
        ensure!(matches!(applied, Applied::Done { .. }), "somebody else feeds this index");
        if said.elapsed() > Duration::from_secs(30) {
            said = Instant::now();
            println!("  {total} of {} attempts", args.attempts);
        }
    }
    Ok(filled)
}

fn shapes(attempts: u64) -> Vec<(&'static str, Option<AccountUid>, Filter)> {
    let all = Filter::default;
    let webhook = |n: u64| Some(WebhookId(id(2, n)));
    let typed = |name: &str| Some(name.to_owned());
    let large = Some(account(0));
    let small = Some(account(WEBHOOKS - 1));
    let half = UnixMillis(i64::try_from(1_700_000_000_000 + SPAN_MS / 2).unwrap_or(i64::MAX));
    vec![
        ("all", None, all()),
        ("all, from the middle", None, Filter { until: Some(half), ..all() }),
        ("all, dead", None, Filter { outcome: Some(Outcome::Dead), ..all() }),
        ("all, rare type", None, Filter { event_type: typed("audit.exported"), ..all() }),
        ("all, unknown type", None, Filter { event_type: typed("none"), ..all() }),
        ("all, 4xx", None, Filter { status: Some(StatusFilter::Class(4)), ..all() }),
        ("all, 201 (never)", None, Filter { status: Some(StatusFilter::Exactly(201)), ..all() }),
        ("large account", large, all()),
        ("large account, delivered", large, Filter { outcome: Some(Outcome::Delivered), ..all() }),
        ("large account, skipped (never)", large, Filter { outcome: Some(Outcome::Skipped), ..all() }),
        ("large account, 5xx", large, Filter { status: Some(StatusFilter::Class(5)), ..all() }),
        ("large account, 404", large, Filter { status: Some(StatusFilter::Exactly(404)), ..all() }),
        ("large account, time-out", large, Filter { failure: Some(FailureKind::Timeout), ..all() }),
        ("large account, tls (never)", large, Filter { failure: Some(FailureKind::Tls), ..all() }),
        ("large account, rare type", large, Filter { event_type: typed("audit.exported"), ..all() }),
        (
            "large account, dead, rare type",
            large,
            Filter { outcome: Some(Outcome::Dead), event_type: typed("audit.exported"), ..all() },
        ),
        (
            "large account, dead, 404, type, before the middle",
            large,
            Filter {
                outcome: Some(Outcome::Dead),
                status: Some(StatusFilter::Exactly(404)),
                event_type: typed("order.paid"),
                until: Some(half),
                ..all()
            },
        ),
        ("small account", small, all()),
        ("small account, waiting (never)", small, Filter { outcome: Some(Outcome::Waiting), ..all() }),
        ("webhook", large, Filter { webhook: webhook(2), ..all() }),
        ("webhook, dead", large, Filter { webhook: webhook(2), outcome: Some(Outcome::Dead), ..all() }),
        (
            "webhook, rare type",
            large,
            Filter { webhook: webhook(2), event_type: typed("audit.exported"), ..all() },
        ),
        ("webhook that fails", large, Filter { webhook: webhook(1), ..all() }),
        (
            "webhook that fails, 5xx (never)",
            large,
            Filter { webhook: webhook(1), status: Some(StatusFilter::Class(5)), ..all() },
        ),
        ("webhook of another account (never)", small, Filter { webhook: webhook(2), ..all() }),
        ("event", None, Filter { event: Some(EventId(id(3, attempts / 4))), ..all() }),
    ]
}
