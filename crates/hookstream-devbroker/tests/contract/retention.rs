//! What is deleted and compacted in time. Kafka does it when it pleases, so only what can be seen at once is shown
//! there; the development broker is told to.

use crate::client::{Client, error};
use crate::records::{Batch, TIME, decode};

#[test]
fn a_compacted_topic_keeps_the_last_record_of_each_key() {
    let mut client = Client::new();
    let settings = [
        ("cleanup.policy", "compact"),
        ("segment.bytes", if client.broker.embedded().is_some() { "200" } else { "1048576" }),
        ("min.cleanable.dirty.ratio", "0.01"),
    ];
    let topic = client.topic_with(1, &settings);
    for round in 0..3 {
        for key in ["a", "b", "c"] {
            client.produce(&topic, &Batch::keyed(&[(key, &format!("{key}{round}"))]));
        }
    }
    // The last segment is never compacted.
    client.produce(&topic, &Batch::keyed(&[("d", &"x".repeat(200))]));
    if let Some(broker) = client.broker.embedded() {
        broker.maintain();
        let found = client.read_from(&topic, 0);
        assert_eq!(
            found[..3],
            [(6, "a2".to_owned()), (7, "b2".to_owned()), (8, "c2".to_owned())],
            "offsets stay"
        );
    }
    let last: Vec<(i64, String)> = client.read_from(&topic, 6);
    assert_eq!(last.len(), 4);
    assert_eq!(client.offset(&topic, -1), 10);
}

/// Without a key nothing would tell which record replaces which.
#[test]
fn a_record_without_a_key_is_refused_by_a_compacted_topic() {
    let mut client = Client::new();
    let topic = client.topic_with(1, &[("cleanup.policy", "compact")]);
    let answer = client.try_produce(&topic, Batch::of(&["v"]).encode());
    assert_eq!(error(answer.error_code), Some(kafka_protocol::ResponseError::InvalidRecord));
    client.produce(&topic, &Batch::keyed(&[("k", "v")]));
    assert_eq!(client.read(&topic), ["v"]);
}

#[test]
fn what_is_older_than_the_retention_is_deleted_with_its_segment() {
    let mut client = Client::new();
    let embedded = client.broker.embedded().is_some();
    let settings = [("retention.ms", "3600000"), ("segment.bytes", if embedded { "200" } else { "1048576" })];
    let topic = client.topic_with(1, &settings);
    client.produce(&topic, &Batch::of(&["old"]).at(TIME));
    client.produce(&topic, &Batch::of(&[&"x".repeat(200)]).at(TIME));
    client.produce(&topic, &Batch::of(&["new"]));
    if let Some(broker) = client.broker.embedded() {
        broker.maintain();
        assert_eq!(client.offset(&topic, -2), 2);
        assert_eq!(client.read_from(&topic, 2), [(2, "new".to_owned())]);
    }
    assert_eq!(client.offset(&topic, -1), 3);
}

#[test]
fn times_are_kept_as_the_client_wrote_them() {
    let mut client = Client::new();
    let topic = client.topic();
    client.produce(&topic, &Batch::of(&["a", "b"]).at(TIME));
    let data = client.fetch(&topic, &crate::producer::fetch_request(&topic, 0));
    let times: Vec<i64> = decode(&data.records.unwrap()).iter().map(|record| record.timestamp).collect();
    assert_eq!(times, [TIME, TIME + 1]);
}
