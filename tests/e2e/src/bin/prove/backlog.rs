//! A great backlog of one webhook, over its rate or dead: what each of its jobs costs, and what others notice.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use hookstream_e2e::{Answer, CLOUDEVENTS, Config, Feed, Role, Shape, Stack, Webhook, wait_until};

use crate::accounts::Accounts;
use crate::books::{Books, Request, event, now_us, percentile};
use crate::report::Report;

/// Webhooks beside the one with the backlog: enough that some share its partition.
const OTHERS: usize = 128;
/// The webhook with the backlog.
const BULK: usize = OTHERS;
const MIB: u64 = 1024 * 1024;
/// Load that warms up is heavier: it is calls that get code compiled.
const WARM_UP_FACTOR: usize = 4;
/// How long an event for the others may take at most.
const ARRIVAL: Duration = Duration::from_secs(60);
const DRAIN: Duration = Duration::from_secs(40);
/// Records that a job may cost.
const MOST_RECORDS: f64 = 5.0;
const MOST_MEMORY: u64 = 300 * MIB;
/// How much slower others may get.
const MOST_SLOWER: f64 = 1.2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// It takes some requests per second
    Rate,
    /// It answers 500 until it is well again
    Dead,
}

#[derive(Debug, Args)]
pub(crate) struct Options {
    kind: Kind,
    #[arg(long, default_value_t = 1_000_000)]
    jobs: usize,
    /// Requests per second that the webhook takes, if it is one with a rate
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// Seconds for which the backlog is watched, once it is there; a dead webhook is dead for so long
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// Seconds for which it is then watched being delivered
    #[arg(long, default_value_t = 120)]
    draining: u64,
    /// Seconds of load before anything counts: a fresh Kafka is slow until it is compiled
    #[arg(long, default_value_t = 150)]
    warm_up: u64,
    /// Seconds for which the others are watched without it
    #[arg(long, default_value_t = 60)]
    before: u64,
    /// Events per second for the others
    #[arg(long, default_value_t = 128)]
    others: usize,
    /// Bytes of a job's data
    #[arg(long, default_value_t = 256)]
    bytes: usize,
    /// The retry ladder: a short one compresses the time
    #[arg(long, default_value = "5s,30s,2m,10m,1h,6h,24h")]
    ladder: String,
}

struct Run<'a> {
    stack: &'a Stack,
    books: &'a Books,
}

/// What the others saw of a stretch of time, and what was written in it.
struct Stretch {
    events: usize,
    p50: i64,
    p99: i64,
    /// Of the webhooks that share the backlog's partition.
    shared_p99: i64,
    records: i64,
}

impl Run<'_> {
    /// All records ever written to hookstream's own topics.
    fn records(&self) -> i64 {
        let source = self.stack.source_topic();
        let topics = self.stack.kafka.topics(&self.stack.topic(""));
        topics
            .iter()
            .filter(|name| **name != source)
            .flat_map(|name| self.stack.kafka.end_offsets(name))
            .sum()
    }

    /// Feeds the others for a while.
    fn watch(&self, per_second: usize, seconds: u64, first: usize, sharing: &HashSet<usize>) -> Stretch {
        let (from, records) = (self.books.len(), self.records());
        let make = move |n: usize| event(&format!("other.{}", n % OTHERS), first + n, 512);
        let feed = Feed::of(&self.stack.kafka, &self.stack.source_topic(), per_second, make);
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(seconds) {
            sleep(Duration::from_millis(100));
        }
        let events = feed.finish();
        // The last ones are on their way.
        let of_others = |requests: &[Request]| requests.iter().filter(|one| one.webhook != BULK).count();
        wait_until("the events for the others arrive", ARRIVAL, || {
            of_others(&self.books.requests(from)) >= events
        });
        let requests = self.books.requests(from);
        let latencies = |of: &dyn Fn(usize) -> bool| {
            let others = requests.iter().filter(|request| request.webhook != BULK && of(request.webhook));
            let mut latencies: Vec<i64> = others.map(|request| request.latency_us).collect();
            latencies.sort_unstable();
            latencies
        };
        let (all, shared) = (latencies(&|_| true), latencies(&|webhook| sharing.contains(&webhook)));
        assert!(all.len() >= events, "{} of {events} events for the others arrived in time", all.len());
        Stretch {
            events,
            p50: percentile(&all, 0.5),
            p99: percentile(&all, 0.99),
            shared_p99: percentile(&shared, 0.99),
            records: self.records() - records,
        }
    }
}

fn ms(us: i64) -> String {
    format!("{:.1}", us as f64 / 1000.0)
}

pub(crate) fn prove(options: &Options, report: &mut Report) {
    // The ladder lives as long as the program.
    let retry_ladder: &'static str = options.ladder.clone().leak();
    // As many as two cores carry for three brokers and all clients: what others notice must not be the machine.
    let shape = Shape { partitions: 12, retry_partitions: 4, retry_ladder, breaks_brokers: false };
    let stack = Stack::shaped("backlog", shape);
    stack.receiver.keep(0);
    let books = Books::default();
    let dead = Arc::new(AtomicBool::new(options.kind == Kind::Dead));
    let mut config = Config::new().cloudevents("orders", &stack.source_topic());
    for webhook in 0..=BULK {
        let path = format!("/{webhook}");
        let event_type = if webhook == BULK { "bulk".to_owned() } else { format!("other.{webhook}") };
        let mut spec = Webhook::new(&format!("webhook-{webhook}"), stack.receiver.url(&path))
            .event_types(&[&event_type])
            .retry_ms(&[0, 5_000, 30_000, 120_000, 300_000, 600_000, 3_600_000, 3_600_000]);
        spec.rate = (webhook == BULK && options.kind == Kind::Rate).then_some(options.rate);
        config = config.webhook(&spec).event_type(&event_type);
        let (books, dead) = (books.clone(), Arc::clone(&dead));
        stack.receiver.choose(&path, move |arrived| {
            let status = if webhook == BULK && dead.load(Ordering::Relaxed) { 500 } else { 200 };
            books.note(webhook, arrived, Answer::status(status))
        });
    }
    stack.apply(&config);
    let services = stack.start_all();
    let sender = Role::ALL.iter().position(|role| *role == Role::Sender).map(|at| &services[at]);
    let sender = sender.expect("it is one of the three");
    let run = Run { stack: &stack, books: &books };

    // One each, so that connections and caches are warm and it is known who shares a partition.
    let warm =
        (0..=BULK).map(|n| event(&if n == BULK { "bulk".to_owned() } else { format!("other.{n}") }, n, 512));
    stack.kafka.produce_all(&stack.source_topic(), CLOUDEVENTS, warm);
    run.watch(WARM_UP_FACTOR * options.others, options.warm_up, OTHERS + 1, &HashSet::new());
    let accounts = Accounts::read(&stack);
    let partition = |webhook: usize| {
        accounts.webhooks.get(&stack.receiver.url(&format!("/{webhook}"))).map(|(partition, _)| *partition)
    };
    let sharing: HashSet<usize> =
        (0..OTHERS).filter(|webhook| partition(*webhook) == partition(BULK)).collect();
    report
        .fact("other webhooks, of those in the backlog's partition", format!("{OTHERS}, {}", sharing.len()));
    let mut first = 10_000_000;
    let mut watch = |seconds: u64| {
        first += 1_000_000;
        run.watch(options.others, seconds, first, &sharing)
    };

    let before = watch(options.before);
    let each = before.records as f64 / before.events as f64;
    report.fact("records per event of the others", format!("{each:.2}"));
    let (idle_memory, idle_cpu) = (sender.peak_memory(), sender.cpu_time());
    report.fact("sender: peak resident MiB before", idle_memory / MIB);
    report.fact("sender: CPU seconds before", format!("{:.1}", idle_cpu.as_secs_f64()));

    // The backlog comes.
    let (at_first, began) = (run.records(), Instant::now());
    let bulk = (0..options.jobs).map(|n| event("bulk", 100_000_000 + n, options.bytes));
    stack.kafka.produce_all(&stack.source_topic(), CLOUDEVENTS, bulk);
    report.fact("seconds to produce the backlog", format!("{:.1}", began.elapsed().as_secs_f64()));
    let group = format!("{}-sender", stack.namespace);
    let lag = || {
        let ends: i64 = stack.kafka.end_offsets(&stack.topic("deliveries")).into_iter().sum();
        ends - stack.kafka.committed(&group, &stack.topic("deliveries")).into_iter().sum::<i64>()
    };
    let jobs = i64::try_from(options.jobs).expect("a few millions");
    let matched = || stack.kafka.end_offsets(&stack.topic("deliveries")).into_iter().sum::<i64>() >= jobs;
    while !matched() || lag() > 2_000 {
        sleep(Duration::from_secs(1));
        eprintln!("{:>6} s: {} behind, {} MiB", began.elapsed().as_secs(), lag(), sender.peak_memory() / MIB);
        assert!(began.elapsed() < Duration::from_secs(1_200), "the backlog is not taken in");
    }
    report.fact("backlog: jobs", options.jobs);
    report.fact("backlog: seconds until it was taken in", format!("{:.1}", began.elapsed().as_secs_f64()));
    report.fact("sender: peak resident MiB, taken in", sender.peak_memory() / MIB);
    let taken_in = run.records();

    // It waits; a dead endpoint is dead meanwhile.
    let outage = Instant::now();
    let good_before = books.good(BULK);
    let waiting = watch(options.seconds);
    let others = |stretch: &Stretch| (stretch.events as f64 * each).round();
    let mut until_now = (run.records() - at_first) as f64 - others(&waiting);
    let mut delivered = books.good(BULK) - good_before;
    if options.kind == Kind::Dead {
        let requests = books.len();
        dead.store(false, Ordering::Relaxed);
        let (back, back_us) = (Instant::now(), now_us());
        let good = books.good(BULK);
        while books.good(BULK) == good && back.elapsed() < Duration::from_secs(660) {
            sleep(Duration::from_millis(50));
        }
        let requests = books.requests(requests);
        let first = requests.iter().find(|request| request.webhook == BULK && request.at_us >= back_us);
        let after = first.map_or(f64::MAX, |request| (request.at_us - back_us) as f64 / 1e6);
        let dead_for = back.duration_since(outage).as_secs_f64();
        report.fact("dead for so many seconds, the backlog waiting", format!("{dead_for:.0}"));
        // Probes come at doubling intervals, so the next one is no further away than the outage is long.
        report.claim(
            "seconds from its return to the first delivery",
            format!("{after:.1}"),
            after <= dead_for.min(600.0),
        );
    }
    let (drain_first, good_first) = (run.records(), books.good(BULK));
    let draining = watch(options.draining);
    let drain_records = (run.records() - drain_first) as f64 - others(&draining);
    let drained = books.good(BULK) - good_first;
    delivered += drained;
    report.fact("backlog: delivered while watched", delivered);
    report.fact(
        "backlog: delivered per second at the end",
        format!("{:.1}", drained as f64 / options.draining as f64),
    );

    let (peak, cpu) = (sender.peak_memory(), sender.cpu_time());
    report.claim("sender: peak resident MiB", peak / MIB, peak <= MOST_MEMORY);
    report.fact("sender: CPU seconds", format!("{:.1}", cpu.as_secs_f64()));
    for (name, stretch) in
        [("without", &before), ("with it waiting", &waiting), ("with it draining", &draining)]
    {
        let figure = format!("{}, {}, {}", ms(stretch.p50), ms(stretch.p99), ms(stretch.shared_p99));
        report.fact(&format!("others {name}: ms p50, p99, same partition p99"), figure);
    }
    let slower = waiting.p99.max(draining.p99) as f64 / before.p99 as f64;
    report.claim("others' p99 with it / without", format!("{slower:.2}"), slower <= MOST_SLOWER);

    // What was written for all jobs until they were taken in, and from then on for each that was delivered.
    let all = options.jobs as f64;
    report.fact("records per job until taken in", format!("{:.2}", (taken_in - at_first) as f64 / all));
    if options.kind == Kind::Rate {
        until_now = (taken_in - at_first) as f64;
    }
    let watched = match options.kind {
        Kind::Rate => (drain_records + waiting.records as f64 - others(&waiting)) / delivered.max(1) as f64,
        Kind::Dead => drain_records / drained.max(1) as f64,
    };
    report.fact("records per job until it is delivered from then on", format!("{watched:.2}"));
    let cost = until_now / all + watched;
    report.claim(
        "records per delivered job (events and evidence too)",
        format!("{cost:.2}"),
        cost <= MOST_RECORDS,
    );
    for service in services {
        service.terminate(DRAIN);
    }
    let accounts = Accounts::read(&stack);
    let twice = accounts.fates.values().filter(|fate| fate.ends() > 1).count();
    report.claim("decided to be at their end twice", twice, twice == 0);
    let deferred: u64 = accounts.fates.values().map(|fate| u64::from(fate.deferrals)).sum();
    report.fact("deferrals per job of the backlog", format!("{:.2}", deferred as f64 / all));
}
