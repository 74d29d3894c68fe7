//! Fetch: records are read, or waited for.

use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;

use crate::client::{Client, To, error};
use crate::limits;
use crate::producer::{fetch_request, fetch_request_of};
use crate::records::{Batch, batches, values};

/// Shorter than this nothing is waited for, longer is a wait that was asked for.
const SOON: Duration = Duration::from_millis(300);

#[test]
fn a_partition_is_read_from_any_offset() {
    let mut client = Client::new();
    let topic = client.topic();
    client.produce(&topic, &Batch::of(&["a", "b"]));
    client.produce(&topic, &Batch::of(&["c"]));
    let data = client.fetch(&topic, &fetch_request(&topic, 0));
    assert_eq!((data.high_watermark, data.last_stable_offset, data.log_start_offset), (3, 3, 0));
    // Batches are whole: who asks for the second record gets the first as well.
    let data = client.fetch(&topic, &fetch_request(&topic, 1));
    let found: Vec<String> = values(&data.records.unwrap()).into_iter().map(|(_, value)| value).collect();
    assert_eq!(found, ["a", "b", "c"]);
    let data = client.fetch(&topic, &fetch_request(&topic, 2));
    assert_eq!(values(&data.records.unwrap()), [(2, "c".to_owned())]);
    let data = client.fetch(&topic, &fetch_request(&topic, 3));
    assert_eq!((error(data.error_code), data.records.unwrap_or_default().len()), (None, 0));
}

#[test]
fn an_offset_that_is_not_there_is_refused() {
    let mut client = Client::new();
    let topic = client.topic();
    for n in 0..4 {
        client.produce(&topic, &Batch::of(&[&n.to_string()]));
    }
    assert_eq!(client.delete_records(&topic, 2), Ok(2));
    for offset in [0, 1, 5, 100] {
        let mut request = fetch_request(&topic, offset);
        request.max_wait_ms = 30_000;
        let asked = Instant::now();
        let data = client.fetch(&topic, &request);
        assert_eq!(error(data.error_code), Some(ResponseError::OffsetOutOfRange), "offset {offset}");
        assert!(asked.elapsed() < Duration::from_secs(10), "errors are not waited with");
    }
    assert_eq!(client.read_from(&topic, 2), [(2, "2".to_owned()), (3, "3".to_owned())]);
}

#[test]
fn an_unknown_topic_or_partition_is_refused() {
    let mut client = Client::new();
    let topic = client.topic();
    for request in [fetch_request_of(&[(&topic, 9, 0, 1000)]), fetch_request("contract.unknown", 0)] {
        let answer = client.ask(To::Leader(&topic, 0), &request);
        let data = &answer.responses[0].partitions[0];
        assert_eq!(error(data.error_code), Some(ResponseError::UnknownTopicOrPartition));
    }
}

#[test]
fn a_reader_at_the_end_is_answered_when_records_come() {
    let mut client = Client::new();
    let topic = client.topic();
    let mut request = fetch_request(&topic, 0);
    request.max_wait_ms = 30_000;
    let asked = Instant::now();
    let waiting = client.start(To::Leader(&topic, 0), &request);
    assert!(!waiting.is_answered_within(SOON), "there is nothing to be told yet");
    client.produce(&topic, &Batch::of(&["v"]));
    let answer = waiting.answer();
    assert_eq!(values(answer.responses[0].partitions[0].records.as_ref().unwrap()), [(0, "v".to_owned())]);
    assert!(asked.elapsed() < Duration::from_secs(20), "it was woken");
}

#[test]
fn a_reader_at_the_end_waits_no_longer_than_it_said() {
    let mut client = Client::new();
    let topic = client.topic();
    let mut request = fetch_request(&topic, 0);
    request.max_wait_ms = 500;
    let asked = Instant::now();
    let data = client.fetch(&topic, &request);
    let waited = asked.elapsed();
    assert!(data.records.unwrap_or_default().is_empty());
    assert!((Duration::from_millis(450)..Duration::from_secs(20)).contains(&waited), "{waited:?}");
}

#[test]
fn a_reader_waits_for_as_many_bytes_as_it_said() {
    let mut client = Client::new();
    let topic = client.topic();
    client.produce(&topic, &Batch::of(&["first"]));
    let one = i32::try_from(Batch::of(&["first"]).encode().len()).unwrap();
    let mut request = fetch_request(&topic, 0);
    (request.max_wait_ms, request.min_bytes) = (30_000, one + 1);
    let waiting = client.start(To::Leader(&topic, 0), &request);
    assert!(!waiting.is_answered_within(SOON), "one batch is too little");
    client.produce(&topic, &Batch::of(&["second"]));
    let answer = waiting.answer();
    assert_eq!(values(answer.responses[0].partitions[0].records.as_ref().unwrap()).len(), 2);
    // Exactly as many is enough.
    (request.max_wait_ms, request.min_bytes) = (30_000, 2 * one + 1);
    let asked = Instant::now();
    client.fetch(&topic, &request);
    assert!(asked.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_reader_of_many_partitions_is_answered_by_any() {
    let mut client = Client::new();
    let topic = client.topic_with(3, &[]);
    let (kept, led) = {
        let leader = client.address(To::Leader(&topic, 0));
        let led: Vec<i32> = (0..3).filter(|n| client.address(To::Leader(&topic, *n)) == leader).collect();
        (led[led.len() - 1], led)
    };
    let partitions: Vec<(&str, i32, i64, i32)> =
        led.iter().map(|n| (topic.as_str(), *n, 0, 10_000)).collect();
    let mut request = fetch_request_of(&partitions);
    request.max_wait_ms = 30_000;
    let waiting = client.start(To::Leader(&topic, 0), &request);
    assert!(!waiting.is_answered_within(SOON));
    let records = Batch::of(&["v"]).encode().freeze();
    client.ask_produce(&topic, &crate::producer::produce_request(&topic, kept, -1, records));
    let answer = waiting.answer();
    let found: Vec<i32> = answer
        .responses
        .iter()
        .flat_map(|topic| &topic.partitions)
        .filter(|data| data.records.as_ref().is_some_and(|records| !records.is_empty()))
        .map(|data| data.partition_index)
        .collect();
    assert_eq!(found, [kept]);
}

#[test]
fn the_first_batch_comes_whatever_its_size() {
    let mut client = Client::new();
    let topic = client.topic();
    let large = "x".repeat(10_000);
    for _ in 0..3 {
        client.produce(&topic, &Batch::of(&[&large]));
    }
    for (partition_max, max) in [(1, i32::MAX), (i32::MAX, 1), (1, 1), (0, 0)] {
        let mut request = fetch_request_of(&[(&topic, 0, 1, partition_max)]);
        request.max_bytes = max;
        let data = client.fetch(&topic, &request);
        let found = batches(&data.records.unwrap());
        assert_eq!(found.len(), 1, "at most {partition_max} of the partition and {max} of all");
        assert_eq!(values(&found[0]), [(1, large.clone())]);
    }
}

#[test]
fn no_more_bytes_come_than_were_asked_for() {
    let mut client = Client::new();
    let topic = client.topic();
    let size = Batch::of(&["value"]).encode().len();
    for _ in 0..10 {
        client.produce(&topic, &Batch::of(&["value"]));
    }
    for (most, whole) in [(size, 1), (2 * size, 2), (2 * size + 10, 2), (100 * size, 10)] {
        let most = i32::try_from(most).unwrap();
        let request = fetch_request_of(&[(&topic, 0, 0, most)]);
        let records = client.fetch(&topic, &request).records.unwrap();
        assert!(records.len() <= usize::try_from(most).unwrap());
        assert_eq!(batches(&records).len(), whole, "{most} bytes of the partition");
        let mut request = fetch_request(&topic, 0);
        request.max_bytes = most;
        let records = client.fetch(&topic, &request).records.unwrap();
        assert_eq!(batches(&records).len(), whole, "{most} bytes of all");
    }
}

/// Incremental sessions (KIP-227) are an optimisation: who asks for one may be told that there is none.
#[test]
fn sessions_are_for_the_broker_to_give() {
    let mut client = Client::new();
    let topic = client.topic();
    client.produce(&topic, &Batch::of(&["v"]));
    let mut request = fetch_request(&topic, 0);
    request.session_epoch = 0;
    let answer = client.ask(To::Leader(&topic, 0), &request);
    assert_eq!(error(answer.error_code), None);
    assert_eq!(values(answer.responses[0].partitions[0].records.as_ref().unwrap()).len(), 1);
    assert!(limits::differs("fetch sessions", answer.session_id != 0, answer.session_id == 0));
    // A session that is not known is refused as a whole.
    (request.session_id, request.session_epoch) = (123_456, 1);
    let answer = client.ask(To::Leader(&topic, 0), &request);
    assert_eq!(error(answer.error_code), Some(ResponseError::FetchSessionIdNotFound));
}

#[test]
fn a_reader_of_a_topic_that_is_deleted_learns_of_it() {
    let mut client = Client::new();
    let topic = client.topic();
    let mut request = fetch_request(&topic, 0);
    request.max_wait_ms = 10_000;
    let leader = To::Leader(&topic, 0);
    let waiting = client.start(leader, &request);
    assert!(!waiting.is_answered_within(SOON));
    client.delete_topic(&topic);
    let answer = waiting.answer();
    assert!(answer.responses[0].partitions[0].records.as_ref().is_none_or(bytes::Bytes::is_empty));
    crate::broker::until("the end of the topic", || {
        let answer = client.ask(leader, &fetch_request(&topic, 0));
        let refused = error(answer.responses[0].partitions[0].error_code);
        (refused == Some(ResponseError::UnknownTopicOrPartition)).then_some(())
    });
}
