//! Two replicas of the API, many writers on the same webhooks, one replica killed on the way; then many webhooks.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use hookstream_e2e::{Caller, Role, SOON, Stack, wait_until};
use serde_json::{Value, json};

use crate::report::Report;

/// The operators' token of both replicas.
const TOKEN: &str = "prove-prove-prove-prove-prove";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Writers at a time
    #[arg(long, default_value_t = 50)]
    writers: usize,
    /// For how long they write
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Before that, they write so long unmeasured: brokers that were just started are slow
    #[arg(long, default_value_t = 20)]
    warm_up: u64,
    /// Webhooks that are then created
    #[arg(long, default_value_t = 100_000)]
    webhooks: usize,
}

pub(crate) fn prove(options: &Options, report: &mut Report) {
    let stack = Stack::new("prove-writers");
    let settings = [
        ("API__ADMIN_TOKEN", TOKEN),
        ("API__REQUESTS_PER_SECOND", "1000000"),
        // What tokens are issued for: behind a load balancer, one for all.
        ("API__URL", "https://hookstream.example"),
    ];
    let mut first = stack.launch(Role::Api, &settings);
    let mut second = stack.launch(Role::Api, &settings);
    let mut rest = [stack.launch(Role::Fanout, &[]), stack.launch(Role::Sender, &[])];
    first.wait_ready();
    second.wait_ready();
    for service in &mut rest {
        service.wait_ready();
    }
    let admin = |addr: SocketAddr| Caller { addr, token: Some(TOKEN.to_owned()) };
    let (one, two) = (admin(first.api()), admin(second.api()));
    let account = json!({ "name": "acme", "verification": "none" });
    one.post("/api/v1/accounts", &account).expect(201);
    contend(options, report, &one, &two, first);
    create(options, report, &stack, &two, &second, &rest[1]);
}

/// A write that was answered with 2xx.
struct Written {
    at: Instant,
    webhook: usize,
    revision: u64,
    mark: String,
}

fn contend(
    options: &Options,
    report: &mut Report,
    one: &Caller,
    two: &Caller,
    first: hookstream_e2e::Service,
) {
    const WEBHOOKS: usize = 10;
    let ids: Vec<String> = (0..WEBHOOKS)
        .map(|n| {
            let document = json!({ "account": "acme", "name": format!("contended-{n}"), "eventTypes": ["a"],
                "url": "https://a.example/" });
            one.post("/api/v1/webhooks", &document).expect(201).json()["id"]
                .as_str()
                .expect("an id")
                .to_owned()
        })
        .collect();
    wait_until("the other replica shows them", SOON, || {
        ids.iter().all(|id| two.get(&format!("/api/v1/webhooks/{id}")).status == 200)
    });
    // Each writer is somebody, as the people and programs who write are.
    let tokens: Vec<String> = (0..options.writers)
        .map(|n| {
            let client = json!({ "name": format!("writer-{n}"), "account": "acme",
                "scopes": ["webhooks:read", "webhooks:write"] });
            one.register(&client).0.token.expect("a token")
        })
        .collect();
    let written: Mutex<Vec<Written>> = Mutex::default();
    let (conflicts, failures, starved) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let (stop, first_dead) = (AtomicBool::new(false), AtomicBool::new(false));
    let started = Instant::now() + Duration::from_secs(options.warm_up);
    std::thread::scope(|scope| {
        for (writer, token) in tokens.iter().enumerate() {
            let of = |replica: &Caller| Caller { addr: replica.addr, token: Some(token.clone()) };
            let (one, two) = (of(one), of(two));
            let (ids, written, stop, first_dead) = (&ids, &written, &stop, &first_dead);
            let (conflicts, failures, starved) = (&conflicts, &failures, &starved);
            scope.spawn(move || {
                let mut turn = 0_usize;
                let mut last = started;
                while !stop.load(Ordering::Relaxed) {
                    turn += 1;
                    // A round of all webhooks on one replica, and the next on the other.
                    let is_first = (writer + turn / ids.len()).is_multiple_of(2);
                    let is_first = is_first && !first_dead.load(Ordering::Relaxed);
                    let replica = if is_first { &one } else { &two };
                    let webhook = (writer * 7 + turn) % ids.len();
                    let path = format!("/api/v1/webhooks/{}", ids[webhook]);
                    let Some(shown) = replica.try_call("GET", &path, &[], "") else { continue };
                    let tag = shown.expect(200).headers.get("etag").expect("a tag").clone();
                    let mark = format!("{writer}-{turn}");
                    let body = json!({ "description": mark }).to_string();
                    match replica.try_call("PATCH", &path, &[("if-match", &tag)], &body) {
                        Some(reply) if reply.status == 200 => {
                            starved.fetch_max(millis(last.elapsed()), Ordering::Relaxed);
                            last = Instant::now().max(started);
                            let document = reply.json();
                            let revision = document["revision"].as_u64().expect("a revision");
                            written.lock().expect("nobody panicked").push(Written {
                                at: Instant::now(),
                                webhook,
                                revision,
                                mark,
                            });
                        }
                        Some(reply) if reply.status == 412 => {
                            conflicts.fetch_add(1, Ordering::Relaxed);
                        }
                        // Killed on the way, or not known: not answered with 2xx.
                        Some(_) | None => {
                            failures.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
                starved.fetch_max(millis(last.elapsed()), Ordering::Relaxed);
            });
        }
        let half = Duration::from_secs(options.seconds) / 2;
        std::thread::sleep(started.saturating_duration_since(Instant::now()) + half);
        let by_two = measured(&written.lock().expect("nobody panicked"), started);
        report.fact("writes per second, two replicas", by_two as u64 / half.as_secs().max(1));
        report.fact("longest without one until then, ms", starved.load(Ordering::Relaxed));
        first.kill_9();
        first_dead.store(true, Ordering::Relaxed);
        std::thread::sleep(half);
        stop.store(true, Ordering::Relaxed);
    });
    let seconds = started.elapsed().as_secs_f64();
    let written = written.into_inner().expect("nobody panicked");
    let rate = measured(&written, started) as f64 / seconds;
    // The history is an index that follows: it may be a moment behind.
    let by = Instant::now() + SOON;
    let is_there = |audit: &BTreeMap<_, _>, write: &Written| {
        audit.contains_key(&(ids[write.webhook].clone(), write.revision))
    };
    let mut audit = history(two);
    while !written.iter().all(|write| is_there(&audit, write)) && Instant::now() < by {
        audit = history(two);
    }
    let mut lost = 0;
    let mut twice = 0;
    let mut seen: BTreeMap<(usize, u64), &str> = BTreeMap::new();
    for write in &written {
        if seen.insert((write.webhook, write.revision), &write.mark).is_some() {
            twice += 1;
        }
        let key = (ids[write.webhook].clone(), write.revision);
        if audit.get(&key).is_none_or(|mark| *mark != write.mark) {
            lost += 1;
        }
    }
    let serial = ids.iter().all(|id| {
        let shown = two.get(&format!("/api/v1/webhooks/{id}")).json();
        let revision = shown["revision"].as_u64().unwrap_or_default();
        // Every revision up to the last is one write, and what is shown is the last of them.
        (2..=revision).all(|n| audit.contains_key(&(id.clone(), n)))
            && audit.get(&(id.clone(), revision)).map(String::as_str) == shown["description"].as_str()
    });
    report.fact("writes answered with 2xx", written.len());
    report.fact("answered with 412", conflicts.load(Ordering::Relaxed));
    report.fact("without an answer, or another", failures.load(Ordering::Relaxed));
    report.claim("writes per second (50 or more)", format!("{rate:.0}"), rate >= 50.0);
    report.claim("2xx that are not in the history", lost, lost == 0);
    report.claim("revisions given twice", twice, twice == 0);
    report.claim("the final state is that of a serial order", serial, serial);
    let longest = starved.load(Ordering::Relaxed);
    report.claim("longest without a successful write, ms (2,000 at most)", longest, longest <= 2_000);
}

fn measured(written: &[Written], since: Instant) -> usize {
    written.iter().filter(|written| written.at >= since).count()
}

/// What each revision was, by the audit log.
fn history(api: &Caller) -> BTreeMap<(String, u64), String> {
    let mut out = BTreeMap::new();
    let mut cursor = String::new();
    loop {
        let page = api.get(&format!("/api/v1/audit?resource=webhook&limit=100{cursor}")).expect(200).json();
        for item in page["results"].as_array().into_iter().flatten() {
            let (Some(id), Some(revision)) = (item["id"].as_str(), item["revision"].as_u64()) else {
                continue;
            };
            let mark = item["after"]["description"].as_str().unwrap_or_default();
            out.insert((id.to_owned(), revision), mark.to_owned());
        }
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return out,
        }
    }
}

fn create(
    options: &Options,
    report: &mut Report,
    stack: &Stack,
    api: &Caller,
    service: &hookstream_e2e::Service,
    sender: &hookstream_e2e::Service,
) {
    const CREATORS: usize = 64;
    let next = AtomicUsize::new(0);
    let failed = AtomicUsize::new(0);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..CREATORS {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= options.webhooks {
                        return;
                    }
                    let document = webhook(n);
                    let reply = api.try_call("POST", "/api/v1/webhooks", &[], &document.to_string());
                    if reply.is_none_or(|reply| reply.status != 201) {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let took = started.elapsed();
    let failed = failed.load(Ordering::Relaxed);
    report.fact("webhooks created", options.webhooks - failed);
    report.claim("creations that failed", failed, failed == 0);
    report.fact("seconds", format!("{:.1}", took.as_secs_f64()));
    report.fact("per second", format!("{:.0}", options.webhooks as f64 / took.as_secs_f64()));
    let mut latencies: Vec<u64> = (0..20)
        .map(|n| {
            let at = Instant::now();
            api.post("/api/v1/webhooks", &webhook(options.webhooks + n)).expect(201);
            millis(at.elapsed())
        })
        .collect();
    latencies.sort_unstable();
    report.fact("one more, ms: median of 20", latencies[10]);
    report.fact("one more, ms: slowest of 20", latencies[19]);
    // A new one among all of them gets its event: from its 201 to the arrival.
    let arrivals: Vec<u64> = (0..5)
        .map(|n| {
            let path = format!("/newest-{n}");
            let document = json!({ "account": "acme", "name": path, "eventTypes": [format!("newest.{n}")],
                "url": stack.receiver.url(&path) });
            api.post("/api/v1/webhooks", &document).expect(201);
            let at = Instant::now();
            let event = json!({ "type": format!("newest.{n}"), "account": "acme", "data": {} });
            api.post("/api/v1/events", &event).expect(202);
            wait_until("the event arrives", SOON, || stack.receiver.seen(|seen| seen.of_path(&path)) > 0);
            millis(at.elapsed())
        })
        .collect();
    let slowest = arrivals.iter().copied().max().unwrap_or_default();
    report.claim(
        "from a webhook's 201 to its first event, ms: slowest of 5 (1,000 at most)",
        slowest,
        slowest <= 1_000,
    );
    pages(api, report);
    report.fact("API, MiB at most", service.peak_memory() / 1024 / 1024);
    report.fact("sender, MiB at most", sender.peak_memory() / 1024 / 1024);
}

/// Lists among all of them, as the console shows them and as the API does: the slowest of ten each.
fn pages(api: &Caller, report: &mut Report) {
    let origin = format!("http://{}", api.addr);
    let form = [("content-type", "application/x-www-form-urlencoded"), ("origin", &*origin)];
    let token = api.token.clone().unwrap_or_default();
    let signed_in =
        api.call("POST", "/console/sign-in", &form, &format!("client=&secret={token}")).expect(303);
    let cookie = signed_in.headers["set-cookie"].split(';').next().unwrap_or_default().to_owned();
    let console = Caller { addr: api.addr, token: None };
    let mut slowest = 0;
    for query in [
        "",
        "?q=webhook-77777",
        "?q=nothing%20has%20this",
        "?eventType=type-7.created",
        "?state=paused",
        "?account=acme&q=77",
    ] {
        for (caller, path, headers) in [
            (&console, "/console/webhooks", vec![("cookie", cookie.as_str())]),
            (api, "/api/v1/webhooks", Vec::new()),
        ] {
            let path = format!("{path}{query}");
            let times = (0..10).map(|_| {
                let at = Instant::now();
                caller.call("GET", &path, &headers, "").expect(200);
                millis(at.elapsed())
            });
            let worst = times.max().unwrap_or_default();
            report.fact(&format!("{path}, ms: slowest of 10"), worst);
            slowest = slowest.max(worst);
        }
    }
    report.claim("a list of webhooks, ms: the slowest of all (200 at most)", slowest, slowest <= 200);
}

fn webhook(n: usize) -> Value {
    json!({ "account": "acme", "name": format!("webhook-{n}"), "eventTypes": [format!("type-{}.created", n % 1000)],
        "url": format!("https://endpoint-{n}.example/hook") })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
