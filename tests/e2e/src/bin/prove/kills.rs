//! Services and brokers that are killed, terminated and stopped while events keep coming.

use std::collections::{BTreeSet, HashMap};
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use hookstream_e2e::{Answer, Config, Feed, Role, SOON, Service, Shape, Stack, Webhook, wait_until};

use crate::accounts::Accounts;
use crate::books::{Books, Request, event, now_us};
use crate::report::Report;

const WEBHOOKS: usize = 3;
const CONCURRENCY: u32 = 16;
const ANSWER_AFTER: Duration = Duration::from_millis(50);
/// From a crash to the last delivery: session time-out, takeover, retries, on two busy cores.
const RECOVERY: Duration = Duration::from_secs(180);
/// Seconds after which work has to go on (design §8).
const MOST_TAKEOVER: f64 = 12.0;
/// `shutdown.grace` is 30 s.
const DRAIN: Duration = Duration::from_secs(40);
/// A broker's absence.
const BROKER_AWAY: Duration = Duration::from_secs(15);

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Ingester,
    Fanout,
    Sender,
    Broker,
    Terminate,
    Stop,
}

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only these
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// How often each service is killed
    #[arg(long, default_value_t = 10)]
    kills: usize,
    #[arg(long, default_value_t = 200)]
    events_per_second: usize,
    /// Seconds for which a sender is stopped
    #[arg(long, default_value_t = 60)]
    stopped: u64,
}

pub(crate) fn prove(options: &Options, report: &mut Report) {
    let all = [Part::Ingester, Part::Fanout, Part::Sender, Part::Terminate, Part::Stop, Part::Broker];
    for part in if options.parts.is_empty() { all.as_slice() } else { &options.parts } {
        match part {
            Part::Ingester => killed(options, Role::Ingester, report),
            Part::Fanout => killed(options, Role::Fanout, report),
            Part::Sender => killed(options, Role::Sender, report),
            Part::Broker => broker(options, report),
            Part::Terminate => terminated(options, report),
            Part::Stop => stopped(options, report),
        }
    }
}

/// An installation under load: two of each service, each sender with a user agent of its own.
struct Load<'a> {
    stack: &'a Stack,
    books: Books,
    feed: Feed,
    services: Vec<(Role, String, Service)>,
    started: usize,
}

impl<'a> Load<'a> {
    fn start(stack: &'a Stack, per_second: usize) -> Self {
        stack.receiver.keep(0);
        let books = Books::default();
        let mut config = Config::new().cloudevents("orders", &stack.source_topic());
        for webhook in 0..WEBHOOKS {
            let path = format!("/{webhook}");
            let noted = books.clone();
            stack.receiver.choose(&path, move |arrived| {
                noted.note(webhook, arrived, Answer::status(200).delay(ANSWER_AFTER))
            });
            let name = format!("webhook-{webhook}");
            config = config.webhook(&Webhook::new(&name, stack.receiver.url(&path)).concurrency(CONCURRENCY));
        }
        stack.apply(&config);
        let feed =
            Feed::of(&stack.kafka, &stack.source_topic(), per_second, |n| event("order.created", n, 512));
        let mut load = Self { stack, books, feed, services: Vec::new(), started: 0 };
        for role in Role::ALL.into_iter().chain(Role::ALL) {
            load.add(role);
        }
        load.services.iter_mut().for_each(|(.., service)| service.wait_ready());
        load
    }

    fn add(&mut self, role: Role) {
        let name = format!("{}-{}", role.binary(), self.started);
        self.started += 1;
        let settings: &[(&str, &str)] =
            if role == Role::Sender { &[("SENDER__USER_AGENT", &name)] } else { &[] };
        let service = self.stack.launch(role, settings);
        self.services.push((role, name, service));
    }

    /// The older one of a role's services goes.
    fn take(&mut self, role: Role) -> (String, Service) {
        let at = self.services.iter().position(|(other, ..)| *other == role).expect("two run");
        let (_, name, service) = self.services.remove(at);
        (name, service)
    }

    /// Another one comes in its place.
    fn replace(&mut self, role: Role) {
        self.add(role);
        if let Some((.., service)) = self.services.last_mut() {
            service.wait_ready();
        }
    }

    /// Waits until deliveries have kept coming for a while, and the backlog of the last disturbance is gone.
    fn wait_under_way(&self) {
        let before = self.books.len();
        wait_until("deliveries keep arriving", RECOVERY, || {
            let requests = self.books.requests(self.books.len().saturating_sub(1).max(before));
            self.books.len() >= before + 900
                && requests.last().is_some_and(|request| request.latency_us < 1_000_000)
        });
    }

    /// Ends the stream, and everything has to arrive.
    fn settle(self, name: &str, report: &mut Report) -> (Vec<Request>, Accounts) {
        let deliveries = self.feed.finish() * WEBHOOKS;
        let started = Instant::now();
        let distinct =
            || self.stack.receiver.seen(|seen| usize::try_from(seen.distinct()).unwrap_or(usize::MAX));
        while distinct() < deliveries && started.elapsed() < RECOVERY {
            sleep(Duration::from_millis(100));
        }
        // A second of the same kind would come by then.
        sleep(Duration::from_secs(5));
        for (.., service) in self.services {
            service.terminate(DRAIN);
        }
        let accounts = Accounts::read(self.stack);
        let requests = self.books.requests(0);
        report.fact(&format!("{name}: deliveries"), deliveries);
        let lost = deliveries - distinct().min(deliveries);
        report.claim(&format!("{name}: lost (receivers)"), lost, lost == 0);
        let decided = accounts.fates.values().filter(|fate| fate.delivered > 0).count();
        report.claim(&format!("{name}: delivered, by the ledger"), decided, decided == deliveries);
        let again = accounts.fates.values().filter(|fate| fate.ends() > 1).count();
        report.claim(&format!("{name}: decided to be at their end twice"), again, again == 0);
        (requests, accounts)
    }
}

/// Deliveries that were sent more than once, with how often beyond the first.
fn duplicates(requests: &[Request]) -> HashMap<&str, usize> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for request in requests {
        *counts.entry(&request.delivery).or_default() += 1;
    }
    counts.retain(|_, count| {
        *count -= 1;
        *count > 0
    });
    counts
}

/// One event is one id at each webhook, however often it is sent.
fn changed_ids(requests: &[Request]) -> usize {
    let mut ids: HashMap<(usize, usize), &str> = HashMap::new();
    requests
        .iter()
        .filter(|request| {
            *ids.entry((request.webhook, request.event)).or_insert(&request.delivery) != &*request.delivery
        })
        .count()
}

/// How long after a kill, and before the next, the first event arrived that had waited for the heir; zero if none
/// had to wait.
fn goes_on(requests: &[Request], killed_us: i64, next_us: i64) -> i64 {
    /// Longer than anything takes while all run, shorter than the session time-out.
    const WAITED_US: i64 = 5_000_000;
    let after = requests.iter().filter(|request| (killed_us..next_us).contains(&request.at_us));
    let waited = after.filter(|request| request.latency_us >= WAITED_US);
    waited.map(|request| request.at_us - killed_us).min().unwrap_or_default()
}

fn killed(options: &Options, role: Role, report: &mut Report) {
    let name = format!("kill -9 {} ×{}", role.binary(), options.kills);
    let stack = Stack::new(&format!("kill-{}", role.binary()));
    let mut load = Load::start(&stack, options.events_per_second);
    let mut gone = Vec::new();
    let mut kills_us = Vec::new();
    let mut longest = Duration::ZERO;
    for _ in 0..options.kills {
        load.wait_under_way();
        let (victim, service) = load.take(role);
        service.kill_9();
        kills_us.push(now_us());
        gone.push(victim);
        let killed = Instant::now();
        load.wait_under_way();
        longest = longest.max(killed.elapsed());
        load.replace(role);
    }
    load.wait_under_way();
    let (requests, accounts) = load.settle(&name, report);
    let nexts = kills_us.iter().skip(1).copied().chain([i64::MAX]);
    let takeover = kills_us.iter().zip(nexts).map(|(killed, next)| goes_on(&requests, *killed, next));
    let takeover = takeover.max().unwrap_or_default();
    let takeover = takeover as f64 / 1e6;
    report.claim(
        &format!("{name}: seconds until work goes on, at most"),
        format!("{takeover:.1}"),
        takeover <= MOST_TAKEOVER,
    );
    report.fact(&format!("{name}: seconds to normal, at most"), format!("{:.1}", longest.as_secs_f64()));
    // What a dead sender sent and left undecided is all that may be sent again.
    let nothing = std::collections::HashSet::new();
    let undecided: BTreeSet<&str> = requests
        .iter()
        .filter(|request| gone.iter().any(|agent| **agent == *request.agent))
        .filter(|request| {
            !accounts.decided_by.get(&*request.agent).unwrap_or(&nothing).contains(&*request.delivery)
        })
        .map(|request| &*request.delivery)
        .collect();
    let duplicates = duplicates(&requests);
    let sent_again: usize = duplicates.values().sum();
    report.claim(
        &format!("{name}: sent again / in flight at the kills"),
        format!("{sent_again} / {}", undecided.len()),
        sent_again <= undecided.len() && duplicates.keys().all(|id| undecided.contains(id)),
    );
    let changed = changed_ids(&requests);
    report.claim(&format!("{name}: duplicates with another webhook-id"), changed, changed == 0);
}

fn terminated(options: &Options, report: &mut Report) {
    let name = "SIGTERM of each";
    let stack = Stack::new("terminate");
    let mut load = Load::start(&stack, options.events_per_second);
    for role in Role::ALL.into_iter().chain(Role::ALL) {
        load.wait_under_way();
        let (_, service) = load.take(role);
        service.terminate(DRAIN);
        load.wait_under_way();
        load.replace(role);
    }
    load.wait_under_way();
    let (requests, accounts) = load.settle(name, report);
    let twice: usize = duplicates(&requests).values().sum();
    report.claim(&format!("{name}: sent twice"), twice, twice == 0);
    report.claim(&format!("{name}: void decisions"), accounts.void, accounts.void == 0);
}

fn stopped(options: &Options, report: &mut Report) {
    let name = format!("SIGSTOP of a sender for {} s", options.stopped);
    let stack = Stack::new("stop");
    let mut load = Load::start(&stack, options.events_per_second);
    load.wait_under_way();
    let (zombie, service) = load.take(Role::Sender);
    service.stop();
    sleep(Duration::from_secs(options.stopped));
    load.wait_under_way();
    let woken_us = now_us();
    service.resume();
    load.services.push((Role::Sender, zombie.clone(), service));
    load.wait_under_way();
    wait_until("the stopped sender is back", SOON, || {
        load.services.iter().all(|(.., service)| service.is_ready())
    });
    load.wait_under_way();
    let (requests, accounts) = load.settle(&name, report);
    let late: Vec<&Request> =
        requests.iter().filter(|request| request.at_us >= woken_us && *request.agent == *zombie).collect();
    report.fact(&format!("{name}: its requests after it woke"), late.len());
    let foreign = late
        .iter()
        .filter(|request| {
            let owner = accounts
                .partitions
                .get(&*request.delivery)
                .map(|partition| accounts.owner_at(*partition, request.at_us / 1000));
            owner != Some(Some(&zombie))
        })
        .count();
    report.claim(&format!("{name}: of those, for partitions it lost"), foreign, foreign == 0);
    let before: BTreeSet<&str> = requests
        .iter()
        .filter(|request| request.at_us < woken_us)
        .map(|request| &*request.delivery)
        .collect();
    let again = late.iter().filter(|request| before.contains(&*request.delivery)).count();
    report.claim(&format!("{name}: sent again after it woke"), again, again == 0);
    let sent_again: usize = duplicates(&requests).values().sum();
    let most = WEBHOOKS * CONCURRENCY as usize;
    report.claim(&format!("{name}: sent again by the heir"), sent_again, sent_again <= most);
}

fn broker(options: &Options, report: &mut Report) {
    let name = "kill -9 of a broker";
    let stack = Stack::shaped("broker", Shape { breaks_brokers: true, ..Shape::default() });
    let load = Load::start(&stack, options.events_per_second);
    load.wait_under_way();
    let killed = Instant::now();
    stack.kafka.break_one();
    load.wait_under_way();
    report.fact(&format!("{name}: seconds to normal"), format!("{:.1}", killed.elapsed().as_secs_f64()));
    sleep(BROKER_AWAY.saturating_sub(killed.elapsed()));
    stack.kafka.heal();
    load.wait_under_way();
    let (requests, accounts) = load.settle(name, report);
    let twice: usize = duplicates(&requests).values().sum();
    report.claim(&format!("{name}: sent twice"), twice, twice == 0);
    report.fact(&format!("{name}: void decisions"), accounts.void);
}
