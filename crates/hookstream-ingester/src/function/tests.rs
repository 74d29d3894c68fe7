//! The ingester on a log in memory.

use hookstream_core::config::{Account, Meta, Verification};
use hookstream_core::ladder::Ladder;
use hookstream_log::ProduceError;
use hookstream_log::memory::{MemoryLog, Stored};
use hookstream_log::pipe::{Limits, Pipe, Stuck};
use hookstream_types::{AccountUid, EventId, Mono, Offset, Partition, UnixMillis};
use rustc_hash::FxHashMap;
use uuid::Uuid;

use super::*;

const ACME: AccountUid = AccountUid(Uuid::from_u128(1));
const IN: Input = Input(3);
const BATCH: &str = "application/cloudevents-batch+json";

fn meta() -> Meta {
    Meta {
        revision: 1,
        created_at: UnixMillis(0),
        updated_at: UnixMillis(0),
        actor: "test".into(),
        request: None,
    }
}

fn view(topics: &[&str]) -> Arc<View> {
    view_at(Offset(7), topics, &[])
}

fn view_at(offset: Offset, topics: &[&str], more: &[Account]) -> Arc<View> {
    let account =
        Account { uid: ACME, name: "default".into(), verification: Verification::Ping, meta: meta() };
    let source = Source {
        name: "shop".into(),
        topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
        meta: meta(),
        ..Source::default()
    };
    let accounts = std::iter::once(&account).chain(more);
    Arc::new(View::new(
        offset,
        accounts.map(|account| (account.name.clone(), Arc::new(account.clone()))).collect(),
        BTreeMap::from([("shop".to_owned(), Arc::new(source))]),
        BTreeMap::new(),
        FxHashMap::default(),
    ))
}

struct Test {
    pipe: Pipe<MemoryLog, Ingest>,
    topic_ids: Arc<TopicIds>,
    config_end: Arc<ConfigEnd>,
    now: u64,
}

impl Test {
    fn new(topics: &[&str], topic: &str) -> Self {
        let topic_ids = Arc::new(TopicIds::default());
        let config_end = Arc::new(ConfigEnd::default());
        let parts = Parts {
            cluster: "c".into(),
            topics: Arc::new(Topics::new("hs", &Ladder::default())),
            partitions: 2,
            topic_ids: Arc::clone(&topic_ids),
            config_end: Arc::clone(&config_end),
            metrics: IngesterMetrics::register(&prometheus::Registry::new()).unwrap(),
            view: view(topics),
        };
        let mut log = MemoryLog::default();
        log.assign(IN, topic);
        Self { pipe: Pipe::new(log, Ingest::new(parts), Limits::default()), topic_ids, config_end, now: 0 }
    }

    /// A test whose topic is `orders`, with its id known.
    fn orders() -> Self {
        let mut test = Self::new(&["orders"], "orders");
        test.put(-1, &[], "");
        test.pipe.log().records.clear();
        test.topic_ids.acquire(&"orders".into());
        test.topic_ids.learn("orders", Some("id-1"));
        test
    }

    fn put(&mut self, offset: i64, headers: &[(&str, &str)], value: &str) {
        let headers =
            headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
        let value = Some(value.as_bytes().to_vec());
        self.pipe.log().put(IN, Stored { offset, headers, value, timestamp: 5, ..Stored::default() });
    }

    fn step(&mut self) {
        self.now += 1_000_000;
        self.pipe.step(Mono(self.now));
    }
}

#[test]
fn events_and_rejections() {
    let mut test = Test::orders();
    test.put(0, &[], r#"{"type":"order.paid","data":{"a":1}}"#);
    test.put(1, &[("h", "v")], "not json");
    test.step();
    let [accepted, rejected] = test.pipe.log().acknowledge_all().try_into().unwrap();
    let (attributes, config) = event::decode(&accepted.header_refs()).unwrap();
    assert_eq!((accepted.topic.as_str(), accepted.text().as_str()), ("hs.events", r#"{"a":1}"#));
    assert_eq!((attributes.event_type.as_str(), attributes.account, config), ("order.paid", ACME, Offset(7)));
    assert_eq!(attributes.event, EventId::of_coordinates("c", "id-1", Partition(3), Offset(0), 0));
    assert_eq!(accepted.key.as_deref(), Some(attributes.key().as_bytes()));
    assert_eq!(accepted.partition, partition_for(attributes.key().as_bytes(), 2));

    assert_eq!((rejected.topic.as_str(), rejected.text().as_str()), ("hs.rejected", "not json"));
    let headers = rejected.header_refs();
    let why = rejected::decode(&headers).unwrap();
    assert_eq!((why.reason, why.topic, why.offset, why.source), ("not_json", "orders", Offset(1), "shop"));
    assert_eq!(rejected.header("h").unwrap(), "v");
    assert_eq!(rejected.partition, Partition(1));

    test.step();
    assert_eq!(test.pipe.log().commits, [(IN, 2)]);
    let metrics = &test.pipe.function().parts.metrics;
    assert_eq!(metrics.events_total.with_label_values(&["shop"]).get(), 1);
    assert_eq!(metrics.rejected_total.with_label_values(&["not_json"]).get(), 1);
}

#[test]
fn a_batch_goes_on_where_the_producer_was_full() {
    let mut test = Test::orders();
    let event = |id: u32| format!(r#"{{"specversion":"1.0","id":"{id}","source":"s","type":"a"}}"#);
    let batch = format!("[{},{{}},{},{}]", event(1), event(2), event(3));
    test.pipe.log().room = 2;
    test.put(0, &[("content-type", BATCH)], &batch);
    test.step();
    let first = test.pipe.log().acknowledge_all();
    test.pipe.log().room = 9;
    test.step();
    let rest = test.pipe.log().acknowledge_all();
    let ids: Vec<_> = first.iter().chain(&rest).map(|record| record.header("ce_id")).collect();
    assert_eq!(ids, [Some("1".into()), None, Some("2".into()), Some("3".into())]);
}

#[test]
fn records_wait_for_the_topics_id() {
    let mut test = Test::new(&["orders"], "orders");
    test.put(0, &[], r#"{"type":"order.paid"}"#);
    test.step();
    assert!(test.pipe.log().drain().is_empty());
    assert!(matches!(test.pipe.stuck(), Some(Stuck::Waiting { .. })));
    test.topic_ids.learn("orders", None);
    test.step();
    let [accepted] = test.pipe.log().drain().try_into().unwrap();
    // A broker that gives no ids: the name stands for it.
    let id = EventId::of_coordinates("c", "orders", Partition(3), Offset(0), 0);
    assert_eq!(accepted.header("hs-event").unwrap(), id.to_string());
}

#[test]
fn a_topic_of_no_source_is_left_alone_until_a_source_names_it() {
    let mut test = Test::orders();
    test.pipe.function().set_view(&view(&["other"]));
    test.put(0, &[], r#"{"type":"order.paid"}"#);
    test.step();
    assert!(test.pipe.log().drain().is_empty());
    test.pipe.function().set_view(&view(&["^ord.*$"]));
    test.step();
    assert_eq!(test.pipe.log().drain().len(), 1);
}

#[test]
fn an_unknown_account_is_rejected_by_a_view_that_is_as_new_as_the_record() {
    let mut test = Test::orders();
    for offset in 0..3 {
        test.put(offset, &[], r#"{"type":"order.paid","account":"new"}"#);
    }
    test.step();
    assert!(test.pipe.log().drain().is_empty());
    assert!(matches!(test.pipe.stuck(), Some(Stuck::Waiting { .. })));
    // There is more than the view shows.
    let question = test.config_end.pending().unwrap();
    test.config_end.learn(question, Offset(8));
    test.step();
    assert!(test.pipe.log().drain().is_empty());
    let account = Account {
        uid: AccountUid(Uuid::from_u128(2)),
        name: "new".into(),
        verification: Verification::Ping,
        meta: meta(),
    };
    let newer = view_at(Offset(8), &["orders"], &[account]);
    test.pipe.function().set_view(&newer);
    test.step();
    assert_eq!(test.pipe.log().acknowledge_all().len(), 3);

    // One answer does for all that were taken before the question.
    for offset in 3..6 {
        test.put(offset, &[], r#"{"type":"order.paid","account":"nobody"}"#);
    }
    test.step();
    let question = test.config_end.pending().unwrap();
    assert!(test.pipe.log().drain().is_empty());
    test.config_end.learn(question, Offset(8));
    test.step();
    let rejected = test.pipe.log().acknowledge_all();
    assert_eq!(rejected.len(), 3);
    assert!(rejected.iter().all(|record| record.header("hs-reason").unwrap() == "unknown_account"));
    assert_eq!(test.config_end.pending(), None);
}

#[test]
fn own_topics_are_passed_over() {
    let mut test = Test::new(&["^.*$"], "hs.events");
    test.put(0, &[], r#"{"type":"order.paid"}"#);
    test.step();
    test.step();
    assert!(test.pipe.log().drain().is_empty());
    assert_eq!(test.pipe.log().commits, [(IN, 1)]);
}

#[test]
fn an_event_that_its_topic_refuses_is_rejected() {
    let mut test = Test::orders();
    let value = format!(r#"{{"type":"a","data":"{}"}}"#, "x".repeat(400_000));
    test.put(0, &[], &value);
    test.step();
    let [event] = test.pipe.log().drain().try_into().unwrap();
    test.pipe.log().answer(event.token, Err(ProduceError::TooLarge));
    test.step();
    let [rejected] = test.pipe.log().drain().try_into().unwrap();
    assert_eq!(rejected.header("hs-reason").unwrap(), "too_large");
    assert_eq!(rejected.text(), value);
    // If that topic takes less too, the record is cut further.
    test.pipe.log().answer(rejected.token, Err(ProduceError::TooLarge));
    test.step();
    test.step();
    let [cut] = test.pipe.log().drain().try_into().unwrap();
    assert!(cut.text().len() < 300_000);
    assert_eq!(cut.header("hs-cut").unwrap(), "true");
}
