//! What is configured in a run, and what is produced to its sources' topics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hookstream_core::config::{
    Account, DEFAULT_ACCOUNT, Format, Mapping, Meta, Pick, Source, Verification, View, Webhook,
    WebhookSecret, WebhookState,
};
use hookstream_core::schedule::RetrySchedule;
use hookstream_types::{AccountUid, EventId, Offset, Partition, UnixMillis, WebhookId};

use super::books::Expected;
use super::cluster::{Payload, TopicPartition};
use super::rng::Rng;

/// The name of the simulated cluster, which is in the ids of events that have none of their own.
pub(super) const CLUSTER: &str = "simulated";
/// From this version of the configuration on there is the source of CloudEvents.
const CLOUD_SINCE: usize = 4;
/// From this version of the configuration on there is the second account.
const ACME_SINCE: usize = 3;
const ACCOUNTS: [(&str, u128); 2] = [(DEFAULT_ACCOUNT, 1), ("acme", 2)];
const TYPES: [&str; 4] = ["order.paid", "order.shipped.late", "user.created", "stock.low"];

/// The topics of the sources, with their partitions.
pub(super) const SOURCE_TOPICS: [(&str, i32); 3] = [("shop.orders", 2), ("shop.cloud", 2), ("shop.log", 1)];

/// The id that the simulated brokers give a source's topic.
pub(super) fn topic_id(topic: &str) -> String {
    format!("id of {topic}")
}

/// A record that is produced to a source's topic.
#[derive(Debug)]
pub(super) struct SourceRecord {
    pub(super) tp: TopicPartition,
    pub(super) payload: Payload,
    /// The version of the configuration that has its account.
    pub(super) since: usize,
    /// None: the record's coordinates make its event's id.
    expected: Option<Expected>,
}

impl SourceRecord {
    /// What is to come of the record at an offset.
    pub(super) fn expected_at(&self, offset: Offset) -> Expected {
        self.expected.clone().unwrap_or_else(|| {
            let (topic, partition) = &self.tp;
            let id = EventId::of_coordinates(CLUSTER, &topic_id(topic), Partition(*partition), offset, 0);
            Expected { events: vec![id], rejected: false }
        })
    }
}

fn uid(account: usize) -> AccountUid {
    AccountUid(uuid::Uuid::from_u128(ACCOUNTS[account].1))
}

fn pick(rng: &mut Rng, count: usize) -> usize {
    usize::try_from(rng.between(0, count as u64 - 1)).expect("small")
}

pub(super) fn source_record(rng: &mut Rng, n: usize) -> SourceRecord {
    let account = pick(rng, ACCOUNTS.len());
    let event_type = TYPES[pick(rng, TYPES.len())];
    let name = ACCOUNTS[account].0;
    let subject = rng.between(0, 3);
    let json = |value: String| Payload { value: Some(value.into_bytes()), ..Payload::default() };
    let structured = |id: &str| {
        format!(
            r#"{{"specversion":"1.0","id":{id},"source":"/shop","type":"{event_type}","account":"{name}","subject":"s{subject}","time":"2026-01-01T00:00:00Z","data":{{"n":{n}}}}}"#
        )
    };
    let with_type = |kind: &str, mut payload: Payload| {
        payload.headers.push(("content-type".to_owned(), kind.as_bytes().to_vec()));
        payload
    };
    let cloud_id = |id: String| EventId::of_cloudevent(uid(account), "cloud", "/shop", &id);
    let events = |events: Vec<EventId>| Some(Expected { events, rejected: false });
    let nothing = Some(Expected { events: Vec::new(), rejected: true });
    let order = format!(
        r#"{{"id":"o{n}","type":"{event_type}","account":"{name}","subject":"s{subject}","time":"2026-01-01T00:00:00Z","data":{{"n":{n}}}}}"#
    );
    let (topic, payload, expected) = match rng.between(0, 99) {
        0..40 => {
            let id = EventId::of_cloudevent(uid(account), "orders", "orders", &format!("o{n}"));
            (0, json(order), events(vec![id]))
        }
        40..52 => (2, json(format!(r#"{{"type":"{event_type}","line":{n}}}"#)), None),
        52..64 => {
            let payload = json(structured(&format!("\"c{n}\"")));
            (1, with_type("application/cloudevents+json", payload), events(vec![cloud_id(format!("c{n}"))]))
        }
        64..76 => {
            let id = format!("b{n}");
            let mut payload = with_type("application/json", json(format!("{{\"n\":{n}}}")));
            for (name, value) in [
                ("ce_specversion", "1.0"),
                ("ce_id", &id),
                ("ce_source", "/shop"),
                ("ce_type", event_type),
                ("ce_time", "2026-01-01T00:00:00Z"),
                ("ce_account", name),
                ("ce_shade", "green"),
            ] {
                payload.headers.push((name.to_owned(), value.as_bytes().to_vec()));
            }
            (1, payload, events(vec![cloud_id(id)]))
        }
        76..84 => {
            let rejected = rng.percent(40);
            let second = if rejected { "null".to_owned() } else { format!("\"e{n}\"") };
            let batch = format!("[{},{}]", structured(&format!("\"d{n}\"")), structured(&second));
            let mut ids = vec![cloud_id(format!("d{n}"))];
            ids.extend((!rejected).then(|| cloud_id(format!("e{n}"))));
            let expected = Some(Expected { events: ids, rejected });
            (1, with_type("application/cloudevents-batch+json", json(batch)), expected)
        }
        84..88 => (0, json(format!("{{\"id\": {n}, broken")), nothing),
        88..91 => (0, Payload::default(), nothing),
        91..94 => (0, json(order.replace("\"type\"", "\"kind\"")), nothing),
        94..97 => (0, json(order.replace(name, "nobody")), nothing),
        _ => (1, with_type("application/cloudevents+json", json(structured("\"\""))), nothing),
    };
    let (topic, partitions) = SOURCE_TOPICS[topic];
    let partition = i32::try_from(rng.between(0, 9)).expect("small") % partitions;
    // The topic of the source `log` has the second account's events only.
    let since = if account == 1 || topic == SOURCE_TOPICS[2].0 { ACME_SINCE } else { 0 };
    SourceRecord { tp: (Arc::from(topic), partition), payload, since, expected }
}

pub(super) fn webhook(rng: &mut Rng, n: usize, calm: bool) -> Webhook {
    let patterns: &[&str] = match rng.between(0, 5) {
        _ if n < ACCOUNTS.len() => &["*"],
        0..=1 => &["*"],
        2..=3 => &["order.*"],
        4 => &["order.paid", "user.*"],
        _ => &["user.created", "stock.low"],
    };
    Webhook {
        id: WebhookId(rng.uuid()),
        account: uid(n % ACCOUNTS.len()),
        name: format!("webhook-{n}"),
        state: WebhookState::Published,
        source: rng.percent(10).then(|| "orders".to_owned()),
        event_types: patterns.iter().map(|pattern| (*pattern).to_owned()).collect(),
        url: format!("http://127.0.0.1:9/{n}"),
        secrets: vec![WebhookSecret::of_key(&[7; 24])],
        retry: RetrySchedule::new([0, 1, 2, 5, 6, 9, 20, 20, 20, 30].map(Duration::from_secs)),
        timeout: Duration::from_secs(5),
        rate: (!calm && rng.percent(30)).then(|| rng.between(1, 5) as f64),
        concurrency: u32::try_from(rng.between(1, 8)).expect("small"),
        revision: 1,
        ..Webhook::default()
    }
}

fn meta() -> Meta {
    Meta {
        revision: 1,
        created_at: UnixMillis(0),
        updated_at: UnixMillis(0),
        actor: "simulation".to_owned(),
        request: None,
    }
}

fn mapping(id: Option<Pick>, account: Pick, data: Option<&str>) -> Format {
    let pointer = |path: &str| Pick::Pointer(path.to_owned());
    Format::Json {
        mapping: Mapping {
            id,
            event_type: pointer("/type"),
            time: Some(Pick::Constant("2026-01-01T00:00:00Z".to_owned())),
            account: Some(account),
            subject: Some(pointer("/subject")),
            data: data.map(str::to_owned),
        },
    }
}

/// Version n of the configuration, which is there at config offset n + 1, has the webhooks 0 to n.
pub(super) fn view_of(webhooks: &[Arc<Webhook>], version: usize) -> View {
    let pointer = |path: &str| Pick::Pointer(path.to_owned());
    let formats = [
        ("orders", mapping(Some(pointer("/id")), pointer("/account"), Some("/data"))),
        ("cloud", Format::Cloudevents { account: "account".to_owned() }),
        ("log", mapping(None, Pick::Constant("acme".to_owned()), None)),
    ];
    let mut sources = BTreeMap::new();
    for ((name, format), (topic, _)) in formats.into_iter().zip(SOURCE_TOPICS) {
        if name != "cloud" || version >= CLOUD_SINCE {
            let topics = vec![topic.to_owned()];
            let source = Source { name: name.to_owned(), topics, format, meta: meta(), ..Source::default() };
            sources.insert(name.to_owned(), Arc::new(source));
        }
    }
    let known = if version < ACME_SINCE { 1 } else { ACCOUNTS.len() };
    let accounts = (0..known).map(|n| {
        let name = ACCOUNTS[n].0.to_owned();
        (
            name.clone(),
            Arc::new(Account { uid: uid(n), name, verification: Verification::Ping, meta: meta() }),
        )
    });
    let webhooks = webhooks[..=version].iter().map(|webhook| (webhook.id, Arc::clone(webhook))).collect();
    let offset = Offset(i64::try_from(version + 1).expect("few"));
    View::new(offset, accounts.collect(), sources, BTreeMap::new(), webhooks)
}
