//! What a request costs before it is sent: the payload made, and signed.

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Parser;
use hookstream_bench::cpu;
use hookstream_core::config::{Payload, Webhook, WebhookSecret, WebhookState};
use hookstream_core::event::EventAttributes;
use hookstream_core::job::{Job, JobState};
use hookstream_core::request::Prepared;
use hookstream_core::signing::{Algorithm, Profile};
use hookstream_types::{AccountUid, DeliveryId, EventId, Offset, UnixMillis, WebhookId};
use uuid::Uuid;

/// Rendering and signing, on one core, without any IO
#[derive(Debug, Parser)]
struct Args {
    /// Bytes of an event's data, at least
    #[arg(long, default_value_t = 1024)]
    body: usize,
    /// Seconds for each way
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Rounds; the quickest counts
    #[arg(long, default_value_t = 5)]
    rounds: u32,
}

/// 2026-11-23T12:00:00Z
const NOW: UnixMillis = UnixMillis(1_795_435_200_000);

fn main() -> ExitCode {
    let args = Args::parse();
    let job = job(args.body);
    println!(
        "requests with {} bytes of data (load average {}; goal: 5 µs with a template and Standard Webhooks)",
        job.data.len(),
        cpu::load_average()
    );
    let template = r#"{"type":"[EventType]","at":"[EventTime:dd.MM.yyyy HH:mm:ss]","order":"[id]","customer":"[customer.name]","lines":[lines],"total":[total],"note":"[note|none]"}"#;
    let template = || Payload::Template { text: template.to_owned() };
    let body = || Profile::HmacSha256Hex { header: "x-signature".to_owned() };
    let http = |algorithm| Profile::HttpMessage { algorithm };
    for (what, payload, profiles) in [
        ("default payload, unsigned", Payload::Event, vec![]),
        ("default payload, Standard Webhooks", Payload::Event, vec![Profile::Standard]),
        ("template, unsigned", template(), vec![]),
        ("template, Standard Webhooks", template(), vec![Profile::Standard]),
        ("template, hex of the body", template(), vec![body()]),
        (
            "CloudEvents structured, Standard Webhooks",
            Payload::CloudeventsStructured,
            vec![Profile::Standard],
        ),
        ("CloudEvents binary, Standard Webhooks", Payload::CloudeventsBinary, vec![Profile::Standard]),
        ("template, RFC 9421 with HMAC", template(), vec![http(Algorithm::HmacSha256)]),
        (
            "template, Standard Webhooks and Ed25519",
            template(),
            vec![Profile::Standard, Profile::StandardEd25519],
        ),
    ] {
        let webhook = Webhook { payload, signatures: profiles.into(), ..webhook() };
        let prepared = match Prepared::new(Arc::new(webhook), "hookstream/bench") {
            Ok(prepared) => prepared,
            Err(error) => {
                eprintln!("error: {what}: {error}");
                return ExitCode::FAILURE;
            }
        };
        let (bytes, each) = measure(&args, &prepared, &job);
        println!("  {what:<45} {bytes:>6} bytes {:>8.2} µs", each.as_secs_f64() * 1e6);
    }
    ExitCode::SUCCESS
}

/// Bytes of the body, and the time of one request in the quickest round.
fn measure(args: &Args, prepared: &Prepared, job: &Job) -> (usize, Duration) {
    const BATCH: u32 = 1_000;
    let round = Duration::from_secs(args.seconds) / args.rounds.max(1);
    let mut bytes = 0;
    let mut quickest = Duration::MAX;
    for _ in 0..args.rounds.max(1) {
        let started = Instant::now();
        let mut made = 0;
        while started.elapsed() < round {
            for _ in 0..BATCH {
                let request = prepared.request(black_box(job), NOW).expect("the template makes a payload");
                bytes = black_box(&request).body.len();
            }
            made += BATCH;
        }
        quickest = quickest.min(started.elapsed() / made.max(1));
    }
    (bytes, quickest)
}

fn webhook() -> Webhook {
    Webhook {
        id: WebhookId(Uuid::from_u128(1)),
        account: AccountUid(Uuid::from_u128(2)),
        state: WebhookState::Published,
        url: "https://example.com/hooks/orders?tenant=7".to_owned(),
        secrets: vec![WebhookSecret::of_key(&[7; 32])],
        revision: 1,
        ..Webhook::default()
    }
}

fn job(at_least: usize) -> Job {
    let mut lines = String::new();
    let mut n = 0;
    while lines.len() + 120 < at_least || n == 0 {
        let separator = if n == 0 { "" } else { "," };
        lines.push_str(&format!(
            r#"{separator}{{"sku":"A-{n:05}","name":"an \"article\"","quantity":{n},"price":12.50}}"#
        ));
        n += 1;
    }
    let data = format!(
        r#"{{"id":"o-4711","customer":{{"name":"Åse \"Co\"","city":"Oslo"}},"lines":[{lines}],"total":1299.00}}"#
    );
    let event = EventAttributes {
        event: EventId(Uuid::from_u128(3)),
        account: AccountUid(Uuid::from_u128(2)),
        source: "shop".to_owned(),
        id: "o-4711".to_owned(),
        ce_source: "/shop".to_owned(),
        event_type: "order.created".to_owned(),
        subject: Some("o-4711".to_owned()),
        time: "2026-11-23T12:00:00Z".to_owned(),
        content_type: Some("application/json".to_owned()),
        extensions: Vec::new(),
        produced_at: NOW,
    };
    let state = JobState::new(DeliveryId(Uuid::from_u128(4)), WebhookId(Uuid::from_u128(1)), Offset(0));
    Job { state, event: Arc::new(event), data: Bytes::from(data) }
}
