//! Many events, three webhooks: one good, one that answers 500 at first, one that hangs.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use clap::Args;
use hookstream_e2e::{Answer, Behaviour, CLOUDEVENTS, Config, Role, Shape, Stack, Webhook};

use crate::accounts::{self, Accounts};
use crate::books::{Books, event};
use crate::report::Report;

const NAMES: [&str; 3] = ["good", "broken", "hanging"];
const KIB: usize = 1024;
/// The request deadline and what ends with it.
const DRAIN: Duration = Duration::from_secs(40);
/// Nobody dies of the outage.
const RETRY_MS: [u64; 8] = [0, 5_000, 30_000, 120_000, 300_000, 600_000, 1_800_000, 3_600_000];

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[arg(long, default_value_t = 100_000)]
    events: usize,
    /// Seconds for which one endpoint answers 500
    #[arg(long, default_value_t = 60)]
    broken: u64,
    /// Seconds for which one endpoint hangs; the default is longer than the run
    #[arg(long, default_value_t = 86_400)]
    hanging: u64,
    /// Seconds after which all is counted, if not everything that can be is delivered before
    #[arg(long, default_value_t = 300)]
    seconds: u64,
}

pub(crate) fn prove(options: &Options, report: &mut Report) {
    let shape = Shape { partitions: 64, retry_partitions: 16, retry_ladder: LADDER, breaks_brokers: false };
    let stack = Stack::shaped("hundred-thousand", shape);
    stack.receiver.keep(0);
    let books = Books::default();
    let started = Instant::now();
    let mut config = Config::new().cloudevents("orders", &stack.source_topic());
    let outage = [0, options.broken, options.hanging].map(Duration::from_secs);
    let outages: [fn() -> Behaviour; 3] =
        [|| Answer::status(200).into(), || Answer::status(500).into(), || Behaviour::Hang];
    for (webhook, name) in NAMES.into_iter().enumerate() {
        let path = format!("/{name}");
        config = config.webhook(&Webhook::new(name, stack.receiver.url(&path)).retry_ms(&RETRY_MS));
        let (books, outage, bad) = (books.clone(), outage[webhook], outages[webhook]);
        stack.receiver.choose(&path, move |arrived| {
            let answer = if started.elapsed() < outage { bad() } else { Answer::status(200).into() };
            books.note(webhook, arrived, answer)
        });
    }
    stack.apply(&config);
    let services = stack.start_all();

    let began = Instant::now();
    let messages = (0..options.events).map(|n| event("order.created", n, KIB));
    stack.kafka.produce_all(&stack.source_topic(), CLOUDEVENTS, messages);
    report.fact("events of 1 KiB, three webhooks each", options.events);
    report.fact("seconds to produce them", format!("{:.1}", began.elapsed().as_secs_f64()));
    let mut good_after = None;
    let mut said = Instant::now();
    while began.elapsed() < Duration::from_secs(options.seconds) {
        let done = [0, 1, 2].map(|webhook| books.good(webhook) >= options.events);
        if done[0] && good_after.is_none() {
            good_after = Some(began.elapsed());
        }
        if done == [true; 3] {
            break;
        }
        if said.elapsed() > Duration::from_secs(10) {
            said = Instant::now();
            let good = [0, 1, 2].map(|webhook| books.good(webhook));
            eprintln!("{:>6} s: delivered {good:?}, {} requests", began.elapsed().as_secs(), books.len());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let after =
        good_after.map_or_else(|| "not in time".to_owned(), |after| format!("{:.1}", after.as_secs_f64()));
    report.fact("seconds until the good endpoint had all", after);
    for (role, service) in Role::ALL.into_iter().zip(&services) {
        let mib = service.peak_memory() / 1024 / 1024;
        report.fact(&format!("{}: peak resident MiB", role.binary()), mib);
        report.fact(&format!("{}: CPU seconds", role.binary()), service.cpu_time().as_secs());
    }
    for service in services {
        service.terminate(DRAIN);
    }
    count(options.events, &stack, &books, report);
}

const LADDER: &str = "5s,30s,2m,10m,1h,6h,24h";

fn count(events: usize, stack: &Stack, books: &Books, report: &mut Report) {
    let accounts = Accounts::read(stack);
    let waiting = accounts::waiting(stack);
    let mut good: HashMap<(usize, usize), usize> = HashMap::new();
    for request in books.requests(0).into_iter().filter(|request| request.good) {
        *good.entry((request.webhook, request.event)).or_default() += 1;
    }
    let webhook_of: HashMap<&str, usize> = NAMES
        .iter()
        .enumerate()
        .filter_map(|(webhook, name)| {
            let (_, id) = accounts.webhooks.get(&stack.receiver.url(&format!("/{name}")))?;
            Some((id.as_str(), webhook))
        })
        .collect();
    let ended = |id: &str| accounts.fates.get(id).is_some_and(|fate| fate.ends() > 0);
    let waits: HashSet<(usize, usize)> = waiting
        .iter()
        .filter(|job| !ended(&job.delivery))
        .filter_map(|job| Some((*webhook_of.get(job.webhook.as_str())?, job.event)))
        .collect();
    for (webhook, name) in NAMES.into_iter().enumerate() {
        let delivered = good.keys().filter(|key| key.0 == webhook).count();
        let waiting = waits.iter().filter(|key| key.0 == webhook).count();
        report.fact(&format!("{name}: delivered, waiting"), format!("{delivered}, {waiting}"));
    }
    let all = (0..NAMES.len()).flat_map(|webhook| (0..events).map(move |event| (webhook, event)));
    let lost = all.filter(|key| !good.contains_key(key) && !waits.contains(key)).count();
    report.claim("neither delivered nor waiting", lost, lost == 0);
    let both = waits.iter().filter(|key| good.contains_key(key)).count();
    report.claim("delivered and waiting still", both, both == 0);
    let twice = good.values().filter(|count| **count > 1).count();
    report.claim("delivered twice (receivers)", twice, twice == 0);
    let ledger: usize = accounts.fates.values().filter(|fate| fate.delivered > 0).count();
    report.claim("delivered, by the ledger", ledger, ledger == good.len());
    let again = accounts.fates.values().filter(|fate| fate.ends() > 1).count();
    report.claim("decided to be at their end twice", again, again == 0);
    let dead = accounts.fates.values().filter(|fate| fate.dead + fate.skipped > 0).count();
    report.claim("dead or skipped", dead, dead == 0);
    report.claim("void decisions", accounts.void, accounts.void == 0);
    report.fact("decisions that were written again", accounts.copies);
    report.claim("requests that are none of ours", books.strange(), books.strange() == 0);
    let sum =
        |of: fn(&accounts::Fate) -> u32| accounts.fates.values().map(|fate| u64::from(of(fate))).sum::<u64>();
    report
        .fact("retries, deferrals", format!("{}, {}", sum(|fate| fate.retries), sum(|fate| fate.deferrals)));
}
