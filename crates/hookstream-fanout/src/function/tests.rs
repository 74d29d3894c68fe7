//! Fan-out on a log in memory.

use hookstream_core::config::WebhookState;
use hookstream_core::event::EventAttributes;
use hookstream_core::ladder::Ladder;
use hookstream_log::ProduceError;
use hookstream_log::memory::{MemoryLog, Stored};
use hookstream_log::pipe::{Limits, Pipe, Stuck};
use hookstream_types::{AccountUid, EventId, Generation, Mono, UnixMillis, WebhookId};
use hookstream_wire::job;
use uuid::Uuid;

use super::*;

const ACME: AccountUid = AccountUid(Uuid::from_u128(1));
const IN: Input = Input(3);
const PARTITIONS: i32 = 8;

fn webhook(id: u128) -> Arc<Webhook> {
    Arc::new(Webhook {
        id: WebhookId(Uuid::from_u128(id)),
        account: ACME,
        name: format!("w{id}"),
        state: WebhookState::Published,
        event_types: vec!["order.*".into()],
        url: "https://example.com/".into(),
        revision: 1,
        ..Webhook::default()
    })
}

fn view(offset: i64, webhooks: u128) -> Arc<View> {
    let webhooks = (1..=webhooks).map(|id| (WebhookId(Uuid::from_u128(id)), webhook(id))).collect();
    Arc::new(View::new(Offset(offset), BTreeMap::new(), BTreeMap::new(), BTreeMap::new(), webhooks))
}

fn attributes(id: u128, event_type: &str) -> EventAttributes {
    EventAttributes {
        event: EventId(Uuid::from_u128(id)),
        account: ACME,
        source: "shop".into(),
        id: id.to_string(),
        ce_source: "shop".into(),
        event_type: event_type.into(),
        subject: None,
        time: "2026-01-01T00:00:00Z".into(),
        content_type: Some("application/json".into()),
        extensions: Vec::new(),
        produced_at: UnixMillis(5),
    }
}

struct Test {
    pipe: Pipe<MemoryLog, Match>,
    now: u64,
}

impl Test {
    fn new(view: Arc<View>) -> Self {
        let metrics = FanoutMetrics::register(&prometheus::Registry::new()).unwrap();
        let topics = Arc::new(Topics::new("hs", &Ladder::default()));
        let parts = Parts { topics, partitions: PARTITIONS, metrics, view };
        let mut log = MemoryLog::default();
        log.assign(IN, "hs.events");
        Self { pipe: Pipe::new(log, Match::new(parts), Limits::default()), now: 0 }
    }

    fn put(&mut self, offset: i64, attributes: &EventAttributes, config: i64) {
        let headers = event::encode(attributes, Offset(config), |headers| {
            headers.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect()
        });
        let value = Some(b"{\"a\":1}".to_vec());
        self.pipe.log().put(IN, Stored { offset, headers, value, ..Stored::default() });
    }

    fn step(&mut self) {
        self.now += 1_000_000;
        self.pipe.step(Mono(self.now));
    }
}

#[test]
fn a_job_per_webhook_then_evidence_then_the_commit() {
    let mut test = Test::new(view(7, 2));
    let event = attributes(10, "order.paid");
    test.put(0, &event, 7);
    test.put(1, &attributes(11, "user.created"), 6);
    test.step();
    let jobs = test.pipe.log().acknowledge_all();
    let mut expected = Matched::new(event.event);
    assert_eq!(jobs.len(), 2);
    for (record, id) in jobs.iter().zip(1u128..) {
        let webhook = WebhookId(Uuid::from_u128(id));
        let job = job::decode(record.value.as_deref().unwrap()).unwrap();
        assert_eq!((job.state.webhook, job.state.delivery), (webhook, DeliveryId::of(event.event, webhook)));
        assert_eq!((job.state.config, job.state.generation), (Offset(7), Generation::default()));
        assert_eq!((&*job.event, &job.data[..]), (&event, b"{\"a\":1}".as_slice()));
        assert_eq!(
            (record.topic.as_str(), record.partition),
            ("hs.deliveries", deliveries_partition(webhook, PARTITIONS))
        );
        assert_eq!(record.key.as_deref(), Some(partition_key(webhook).as_slice()));
        expected.add(job.state.delivery);
    }
    test.step();
    assert_eq!(test.pipe.log().commits, []);
    let [evidence] = test.pipe.log().acknowledge_all().try_into().unwrap();
    assert_eq!((evidence.topic.as_str(), evidence.partition), ("hs.matched", Partition(3)));
    let range = Range { partition: Partition(3), from: Offset(0), to: Offset(2), config: Offset(7) };
    assert_eq!(matched::decode(evidence.value.as_deref().unwrap()).unwrap(), (range, vec![expected]));
    test.step();
    assert_eq!(test.pipe.log().commits, [(IN, 2)]);
    assert!(test.pipe.function().evidence[&IN].is_empty());
    let metrics = test.pipe.function().parts.metrics.clone();
    assert_eq!(
        (metrics.events_total.get(), metrics.jobs_total.get(), metrics.unmatched_total.get()),
        (2, 2, 1)
    );
}

#[test]
fn an_event_waits_for_the_view_of_its_maker() {
    let mut test = Test::new(view(7, 1));
    test.put(0, &attributes(10, "order.paid"), 8);
    test.step();
    assert!(test.pipe.log().drain().is_empty());
    assert!(matches!(test.pipe.stuck(), Some(Stuck::Waiting { .. })));
    test.pipe.function().set_view(view(8, 2));
    test.step();
    assert_eq!(test.pipe.log().drain().len(), 2);
}

#[test]
fn a_large_fan_out_is_produced_bit_by_bit_and_by_one_view() {
    let mut test = Test::new(view(7, 2_500));
    test.put(0, &attributes(10, "order.paid"), 7);
    let mut jobs = Vec::new();
    for round in 0..3 {
        test.pipe.log().room = 1_000;
        test.step();
        jobs.extend(test.pipe.log().acknowledge_all());
        if round == 0 {
            test.pipe.function().set_view(view(8, 1));
        }
    }
    let mut webhooks: Vec<_> =
        jobs.iter().map(|job| job::decode(job.value.as_deref().unwrap()).unwrap().state).collect();
    assert!(webhooks.iter().all(|state| state.config == Offset(7)));
    webhooks.dedup_by_key(|state| state.delivery);
    assert_eq!(webhooks.len(), 2_500);
    test.step();
    let [evidence] = test.pipe.log().drain().try_into().unwrap();
    let (_, events) = matched::decode(evidence.value.as_deref().unwrap()).unwrap();
    assert_eq!(events[0].count, 2_500);
}

#[test]
fn evidence_is_of_the_last_time_that_an_event_was_matched() {
    let mut test = Test::new(view(7, 2));
    test.put(0, &attributes(10, "order.paid"), 7);
    test.step();
    let jobs = test.pipe.log().drain();
    test.pipe.log().answer(jobs[0].token, Err(ProduceError::Unknown));
    test.pipe.log().answer(jobs[1].token, Ok(()));
    test.pipe.function().set_view(view(8, 3));
    test.step();
    test.step();
    assert_eq!(test.pipe.log().acknowledge_all().len(), 3);
    test.step();
    let [evidence] = test.pipe.log().drain().try_into().unwrap();
    let (range, events) = matched::decode(evidence.value.as_deref().unwrap()).unwrap();
    assert_eq!((range.config, events.len(), events[0].count), (Offset(8), 1, 3));
}

#[test]
fn what_is_no_event_is_rejected() {
    let mut test = Test::new(view(7, 1));
    test.pipe.log().put(IN, Stored { value: Some(b"x".to_vec()), ..Stored::default() });
    test.step();
    let [record] = test.pipe.log().acknowledge_all().try_into().unwrap();
    assert_eq!((record.topic.as_str(), record.text().as_str()), ("hs.rejected", "x"));
    assert_eq!(record.header("hs-reason").unwrap(), "bad_event");
    assert!(record.header("hs-message").unwrap().contains("no header `hs-v`"));
    test.step();
    test.pipe.log().acknowledge_all();
    test.step();
    assert_eq!(test.pipe.log().commits, [(IN, 1)]);
}

#[test]
fn a_job_that_is_too_large_is_rejected() {
    let mut test = Test::new(view(7, 1));
    test.put(0, &attributes(10, "order.paid"), 7);
    test.step();
    let [job] = test.pipe.log().drain().try_into().unwrap();
    test.pipe.log().answer(job.token, Err(ProduceError::TooLarge));
    test.step();
    let [record] = test.pipe.log().drain().try_into().unwrap();
    assert_eq!(record.header("hs-reason").unwrap(), "too_large");
    assert!(record.header("hs-message").unwrap().contains("`max.message.bytes`"));
}
