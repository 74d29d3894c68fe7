//! What the topics say: every decision in `attempts`, and every job that waits.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};

use hookstream_e2e::Stack;
use serde::Deserialize;

#[derive(Deserialize)]
struct Entry {
    owner: String,
    #[serde(default)]
    decisions: Vec<Decision>,
    attempt: Option<Attempt>,
}

#[derive(Deserialize)]
struct Decision {
    delivery: String,
    verdict: String,
}

#[derive(Deserialize)]
struct Attempt {
    webhook: String,
    request: Request,
}

#[derive(Deserialize)]
struct Request {
    url: String,
    headers: Vec<(String, String)>,
}

/// What was decided about one delivery.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fate {
    pub(crate) delivered: u32,
    pub(crate) dead: u32,
    pub(crate) skipped: u32,
    pub(crate) retries: u32,
    pub(crate) deferrals: u32,
}

impl Fate {
    pub(crate) fn ends(&self) -> u32 {
        self.delivered + self.dead + self.skipped
    }
}

/// The decisions that count, and who made them.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    pub(crate) fates: HashMap<String, Fate>,
    /// Decisions of owners that had been replaced.
    pub(crate) void: usize,
    /// Records that stand there once more, to the byte: their first acknowledgement was lost, so that they were
    /// written again. They decide nothing new.
    pub(crate) copies: usize,
    /// Deliveries whose exchange with this user agent is on record.
    pub(crate) decided_by: HashMap<String, HashSet<String>>,
    /// By partition: when (milliseconds since the epoch) which owner took over, in order.
    pub(crate) owners: HashMap<i64, Vec<(i64, String)>>,
    /// The user agent of an owner's requests.
    pub(crate) agents: HashMap<String, String>,
    /// Where a delivery's exchanges are on record.
    pub(crate) partitions: HashMap<String, i64>,
    /// The partition and the id of the webhook with this URL.
    pub(crate) webhooks: HashMap<String, (i64, String)>,
}

impl Accounts {
    /// Reads all of `attempts`.
    pub(crate) fn read(stack: &Stack) -> Self {
        let mut accounts = Self::default();
        let (mut known, hasher) = (HashSet::new(), RandomState::new());
        stack.kafka.scan(&stack.topic("attempts"), None, |record| {
            let value = record.value.unwrap_or_default();
            // An owner's name is good for one assignment, and a decision holds the offset that it is about.
            if !known.insert((record.partition, hasher.hash_one(&value))) {
                accounts.copies += 1;
                return;
            }
            let entry: Entry =
                serde_json::from_str(&value).unwrap_or_else(|error| panic!("{error}: {value}"));
            accounts.add(record.partition, record.timestamp, entry);
        });
        accounts
    }

    fn add(&mut self, partition: i64, at: i64, entry: Entry) {
        let owners = self.owners.entry(partition).or_default();
        if entry.decisions.is_empty() {
            owners.push((at, entry.owner));
            return;
        }
        if owners.last().is_none_or(|(_, owner)| *owner != entry.owner) {
            self.void += entry.decisions.len();
            return;
        }
        if let Some(attempt) = entry.attempt {
            let Request { url, headers } = attempt.request;
            let agent = headers.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("user-agent"));
            let (_, agent) = agent.unwrap_or_default();
            let decided = self.decided_by.entry(agent.clone()).or_default();
            for decision in &entry.decisions {
                decided.insert(decision.delivery.clone());
                self.partitions.insert(decision.delivery.clone(), partition);
            }
            self.agents.entry(entry.owner).or_insert(agent);
            self.webhooks.entry(url).or_insert((partition, attempt.webhook));
        }
        for decision in entry.decisions {
            let fate = self.fates.entry(decision.delivery).or_default();
            match decision.verdict.as_str() {
                "delivered" => fate.delivered += 1,
                "dead" => fate.dead += 1,
                "skipped" => fate.skipped += 1,
                "retry" => fate.retries += 1,
                "deferred" => fate.deferrals += 1,
                other => panic!("`{other}` is no verdict"),
            }
        }
    }

    /// Who owned a partition at a time: the user agent of the last owner by then, if it ever sent a request.
    pub(crate) fn owner_at(&self, partition: i64, at: i64) -> Option<&str> {
        let owners = self.owners.get(&partition)?;
        let (_, owner) = owners.iter().rev().find(|(since, _)| *since <= at)?;
        self.agents.get(owner).map(String::as_str)
    }
}

/// A job in a topic, not yet passed by its reader.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) delivery: String,
    pub(crate) webhook: String,
    /// The event's number.
    pub(crate) event: usize,
}

/// All jobs at or after the committed offsets of `deliveries` and of the retry topics.
pub(crate) fn waiting(stack: &Stack) -> Vec<Waiting> {
    let mut jobs = Vec::new();
    let mut read = |topic: &str, group: &str| {
        let committed = stack.kafka.committed(&format!("{}-{group}", stack.namespace), topic);
        let ends = stack.kafka.end_offsets(topic);
        for (partition, (from, end)) in committed.into_iter().zip(ends).enumerate() {
            if from < end {
                stack.kafka.scan(topic, Some((partition, from)), |record| {
                    frames(&record.value.unwrap_or_default(), &mut jobs);
                });
            }
        }
    };
    read(&stack.topic("deliveries"), "sender");
    for topic in stack.kafka.topics(&stack.topic("retry.")) {
        read(&topic, "retry");
    }
    jobs
}

/// Each job is a line of JSON, a line feed, and as many bytes of data as the line says.
fn frames(value: &str, jobs: &mut Vec<Waiting>) {
    #[derive(Deserialize)]
    struct Line {
        job: State,
        event: Event,
        len: usize,
    }
    #[derive(Deserialize)]
    struct State {
        delivery: String,
        webhook: String,
    }
    #[derive(Deserialize)]
    struct Event {
        id: String,
    }
    let mut rest = value;
    while let Some((line, after)) = rest.split_once('\n') {
        let line: Line =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("no job ({error}): {line}"));
        let event = line.event.id.parse().expect("events are numbered");
        jobs.push(Waiting { delivery: line.job.delivery, webhook: line.job.webhook, event });
        rest = &after[line.len..];
    }
    assert!(rest.is_empty(), "a job is cut: {rest}");
}
