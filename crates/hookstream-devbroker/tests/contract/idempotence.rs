//! Idempotent producers (KIP-98): a repetition is not written twice, and a gap is not written at all.

use kafka_protocol::ResponseError;

use crate::client::{Client, To, error};
use crate::producer::produce_request;
use crate::records::Batch;

#[test]
fn producer_ids_are_given_once() {
    let mut client = Client::new();
    let (first, second) = (client.producer_id(), client.producer_id());
    assert_eq!((first.1, second.1), (0, 0));
    assert!(second.0 != first.0 && first.0 >= 0);
}

#[test]
fn a_repetition_is_answered_with_the_first_offset() {
    let mut client = Client::new();
    let topic = client.topic();
    let producer = client.producer_id();
    client.produce(&topic, &Batch::of(&["before"]));
    let batches: Vec<Batch> = (0..3).map(|n| Batch::of(&["one", "two"]).from(producer, 2 * n)).collect();
    for (n, batch) in (0..).zip(&batches) {
        assert_eq!(client.produce(&topic, batch), 1 + 2 * n);
    }
    // Each of the last five batches is remembered.
    for (n, batch) in [0, 1, 2].into_iter().zip(&batches).rev() {
        let again = client.try_produce(&topic, batch.encode());
        assert_eq!((error(again.error_code), again.base_offset), (None, 1 + 2 * n));
    }
    assert_eq!(client.offset(&topic, -1), 7);
}

#[test]
fn a_repetition_from_long_ago_is_refused() {
    let mut client = Client::new();
    let topic = client.topic();
    let producer = client.producer_id();
    for sequence in 0..7 {
        client.produce(&topic, &Batch::of(&["v"]).from(producer, sequence));
    }
    let again = client.try_produce(&topic, Batch::of(&["v"]).from(producer, 0).encode());
    assert_eq!(error(again.error_code), Some(ResponseError::OutOfOrderSequenceNumber));
    let remembered = client.try_produce(&topic, Batch::of(&["v"]).from(producer, 2).encode());
    assert_eq!((error(remembered.error_code), remembered.base_offset), (None, 2));
    assert_eq!(client.offset(&topic, -1), 7);
}

#[test]
fn a_gap_in_the_sequence_is_refused() {
    let mut client = Client::new();
    let topic = client.topic();
    let producer = client.producer_id();
    client.produce(&topic, &Batch::of(&["a", "b"]).from(producer, 0));
    for sequence in [3, 1, 100] {
        let answer = client.try_produce(&topic, Batch::of(&["x"]).from(producer, sequence).encode());
        let refused = Some(ResponseError::OutOfOrderSequenceNumber);
        assert_eq!(error(answer.error_code), refused, "sequence {sequence}");
    }
    client.produce(&topic, &Batch::of(&["c"]).from(producer, 2));
    assert_eq!(client.read(&topic), ["a", "b", "c"]);
}

/// A partition that knows nothing of a producer takes any start: what it wrote may have been deleted.
#[test]
fn an_unknown_producer_may_start_anywhere() {
    let mut client = Client::new();
    let topic = client.topic();
    let producer = client.producer_id();
    assert_eq!(client.produce(&topic, &Batch::of(&["v"]).from(producer, 41)), 0);
    assert_eq!(client.produce(&topic, &Batch::of(&["v"]).from(producer, 42)), 1);
}

#[test]
fn an_older_epoch_is_refused_and_a_newer_one_starts_anew() {
    let mut client = Client::new();
    let topic = client.topic();
    let (id, epoch) = client.producer_id();
    client.produce(&topic, &Batch::of(&["a"]).from((id, epoch), 0));
    let answer = client.try_produce(&topic, Batch::of(&["x"]).from((id, epoch + 1), 1).encode());
    assert_eq!(error(answer.error_code), Some(ResponseError::OutOfOrderSequenceNumber));
    client.produce(&topic, &Batch::of(&["b"]).from((id, epoch + 1), 0));
    let answer = client.try_produce(&topic, Batch::of(&["x"]).from((id, epoch), 1).encode());
    assert_eq!(error(answer.error_code), Some(ResponseError::InvalidProducerEpoch));
    assert_eq!(client.read(&topic), ["a", "b"]);
}

#[test]
fn sequences_are_those_of_a_partition() {
    let mut client = Client::new();
    let topic = client.topic_with(2, &[]);
    let producer = client.producer_id();
    for partition in [0, 1] {
        let batch = Batch::of(&["v"]).from(producer, 0).encode().freeze();
        let answer = client.ask_produce(&topic, &produce_request(&topic, partition, -1, batch));
        assert_eq!((error(answer.error_code), answer.base_offset), (None, 0), "partition {partition}");
    }
}

#[test]
fn the_sequence_begins_again_after_the_greatest_number() {
    let mut client = Client::new();
    let topic = client.topic();
    let producer = client.producer_id();
    client.produce(&topic, &Batch::of(&["a"]).from(producer, i32::MAX));
    client.produce(&topic, &Batch::of(&["b"]).from(producer, 0));
    assert_eq!(client.read(&topic), ["a", "b"]);
}

/// What was refused within a request does not hold up the rest of it.
#[test]
fn each_partition_of_a_request_is_judged_by_itself() {
    let mut client = Client::new();
    // Of four partitions on at most three brokers, two have the same leader.
    let topic = client.topic_with(4, &[]);
    let leaders: Vec<String> =
        (0..4).map(|partition| client.address(To::Leader(&topic, partition))).collect();
    let pairs = (0..4_usize).flat_map(|one| (one + 1..4).map(move |other| (one, other)));
    let (bad, good) = pairs.into_iter().find(|(one, other)| leaders[*one] == leaders[*other]).unwrap();
    let (bad, good) = (i32::try_from(bad).unwrap(), i32::try_from(good).unwrap());
    let producer = client.producer_id();
    let request = |partition: i32, sequence: i32| {
        produce_request(&topic, partition, -1, Batch::of(&["v"]).from(producer, sequence).encode().freeze())
    };
    assert_eq!(error(client.ask_produce(&topic, &request(bad, 0)).error_code), None);
    let mut both = request(bad, 5);
    both.topic_data[0].partition_data.extend(request(good, 0).topic_data.remove(0).partition_data);
    let answer = client.ask(To::Leader(&topic, good), &both);
    for partition in &answer.responses[0].partition_responses {
        let refused = (partition.index == bad).then_some(ResponseError::OutOfOrderSequenceNumber);
        assert_eq!(error(partition.error_code), refused);
    }
    assert_eq!(answer.responses[0].partition_responses.len(), 2);
}
