//! The harness itself: what is written to Kafka is read again, and a steady feed is complete.

use std::thread::sleep;
use std::time::Duration;

use hookstream_e2e::{Feed, Kafka, Message, SOON, wait_until};

#[test]
fn records_there_and_back() {
    let kafka = Kafka::shared();
    let prefix = format!("harness-{}", std::process::id());
    let topic = format!("{prefix}.topic");
    kafka.create_topic(&topic, 2, &[("max.message.bytes", "3000000")]);
    wait_until("the topic is there", SOON, || kafka.topics(&prefix) == [topic.clone()]);
    // It exists already: nothing happens.
    kafka.create_topic(&topic, 2, &[]);

    let messages: Vec<Message> =
        (0..100).map(|n| Message { key: format!("key {n}"), value: format!("{{\"n\":{n}}}") }).collect();
    kafka.produce(&topic, &[("a", "1"), ("b", "2")], &messages);
    kafka.produce_raw(&topic, &vec![b'x'; 2_000_000]);
    let records = kafka.read(&topic);
    assert_eq!(records.len(), 101);
    let record =
        records.iter().find(|record| record.key.as_deref() == Some("key 7")).expect("it was produced");
    assert_eq!(record.json()["n"], 7);
    assert_eq!(record.header("b"), Some("2"));
    assert!(records.iter().any(|record| record.value.as_ref().is_some_and(|value| value.len() == 2_000_000)));

    let feed = Feed::start(&kafka, &topic, 500);
    sleep(Duration::from_millis(300));
    let fed = feed.finish();
    assert!(fed >= 100, "{fed} events in 0.3 s");
    assert_eq!(kafka.read(&topic).len(), 101 + fed);

    kafka.delete_topics(&prefix);
    wait_until("the topic is gone", SOON, || kafka.topics(&prefix).is_empty());
}
