//! What readers see of transactions: all, or only what is committed.

use kafka_protocol::messages::fetch_response::PartitionData;

use crate::client::{Client, error};
use crate::producer::{READ_COMMITTED, fetch_request};
use crate::records::{Batch, TIME, decode, values};
use crate::txn::Transaction;

fn read_committed(client: &mut Client, topic: &str, offset: i64) -> PartitionData {
    let mut request = fetch_request(topic, offset);
    request.isolation_level = READ_COMMITTED;
    let data = client.fetch(topic, &request);
    assert_eq!(error(data.error_code), None);
    data
}

fn aborted(data: &PartitionData) -> Vec<(i64, i64)> {
    let aborted = data.aborted_transactions.iter().flatten();
    aborted.map(|aborted| (aborted.producer_id.0, aborted.first_offset)).collect()
}

#[test]
fn an_open_transaction_ends_what_careful_readers_see() {
    let mut client = Client::new();
    let topic = client.topic();
    client.produce(&topic, &Batch::of(&["before"]));
    let mut open = Transaction::begin("open", &topic);
    open.produce("in");
    client.produce(&topic, &Batch::of(&["after"]));

    let data = read_committed(&mut client, &topic, 0);
    assert_eq!((data.high_watermark, data.last_stable_offset), (3, 1));
    assert_eq!(values(&data.records.unwrap()), [(0, "before".to_owned())]);
    assert_eq!(client.read(&topic), ["before", "in", "after"], "others see all");
    let data = read_committed(&mut client, &topic, 1);
    assert!(data.records.unwrap_or_default().is_empty());

    open.end(true);
    // The offset of the marker is one like others.
    let data = read_committed(&mut client, &topic, 0);
    assert_eq!((data.high_watermark, data.last_stable_offset), (4, 4));
    let found: Vec<String> =
        values(&data.records.clone().unwrap()).into_iter().map(|(_, value)| value).collect();
    assert_eq!(
        (found, aborted(&data)),
        (vec!["before".to_owned(), "in".to_owned(), "after".to_owned()], vec![])
    );
    let last = decode(&data.records.unwrap()).pop().unwrap();
    // A marker's key is its version and 1 for a commit.
    assert_eq!((last.control, last.transactional, &last.key.unwrap()[..]), (true, true, &[0, 0, 0, 1][..]));
}

#[test]
fn aborted_transactions_are_told_to_careful_readers() {
    let mut client = Client::new();
    let topic = client.topic();
    let mut first = Transaction::begin("first", &topic);
    first.produce("a");
    first.produce("b");
    let mut second = Transaction::begin("second", &topic);
    second.produce("c");
    first.end(false);
    second.end(true);
    let mut third = Transaction::begin("third", &topic);
    third.produce("d");
    third.end(false);

    let data = read_committed(&mut client, &topic, 0);
    let mut told = aborted(&data);
    told.sort_by_key(|(_, offset)| *offset);
    assert_eq!(told, [(first.producer.0, 0), (third.producer.0, 5)]);
    assert_eq!(values(&data.records.clone().unwrap()).len(), 4, "the client leaves them out, not the broker");
    let markers: Vec<(i64, u8)> = decode(&data.records.unwrap())
        .into_iter()
        .filter(|record| record.control)
        .map(|record| (record.offset, record.key.unwrap()[3]))
        .collect();
    assert_eq!(markers, [(3, 0), (4, 1), (6, 0)]);
    // Who reads from later on is told of those that reach there.
    assert_eq!(aborted(&read_committed(&mut client, &topic, 4)), [(third.producer.0, 5)]);
    assert_eq!(aborted(&read_committed(&mut client, &topic, 1)).len(), 2);
    // Who reads all is not told.
    assert_eq!(client.fetch(&topic, &fetch_request(&topic, 0)).aborted_transactions.unwrap_or_default(), []);
}

#[test]
fn the_last_stable_offset_is_that_of_the_oldest_open_transaction() {
    let mut client = Client::new();
    let topic = client.topic();
    let mut older = Transaction::begin("older", &topic);
    older.produce("a");
    let mut newer = Transaction::begin("newer", &topic);
    newer.produce("b");
    newer.end(true);
    assert_eq!(read_committed(&mut client, &topic, 0).last_stable_offset, 0);
    assert_eq!(client.list_offset_as(READ_COMMITTED, &topic, 0, -1).offset, 0);
    assert_eq!(client.list_offset_as(0, &topic, 0, -1).offset, 3);
    older.end(false);
    assert_eq!(read_committed(&mut client, &topic, 0).last_stable_offset, 4);
    assert_eq!(client.list_offset_as(READ_COMMITTED, &topic, 0, -1).offset, 4);
}

#[test]
fn a_time_within_an_open_transaction_is_not_found_by_careful_readers() {
    let mut client = Client::new();
    let topic = client.topic();
    client.produce(&topic, &Batch::of(&["before"]).at(TIME));
    let mut open = Transaction::begin("open", &topic);
    open.produce_batch(Batch::of(&["in"]).at(TIME + 1000));
    assert_eq!(client.list_offset_as(READ_COMMITTED, &topic, 0, TIME).offset, 0);
    assert_eq!(client.list_offset_as(READ_COMMITTED, &topic, 0, TIME + 1000).offset, -1);
    assert_eq!(client.list_offset_as(0, &topic, 0, TIME + 1000).offset, 1);
    open.end(true);
    assert_eq!(client.list_offset_as(READ_COMMITTED, &topic, 0, TIME + 1000).offset, 1);
}

#[test]
fn a_careful_reader_is_woken_by_the_end_of_a_transaction() {
    let mut client = Client::new();
    let topic = client.topic();
    let mut open = Transaction::begin("open", &topic);
    open.produce("in");
    let mut request = fetch_request(&topic, 0);
    (request.max_wait_ms, request.isolation_level) = (30_000, READ_COMMITTED);
    let asked = std::time::Instant::now();
    let waiting = client.start(crate::client::To::Leader(&topic, 0), &request);
    assert!(!waiting.is_answered_within(std::time::Duration::from_millis(300)));
    open.end(true);
    let answer = waiting.answer();
    assert_eq!(values(answer.responses[0].partitions[0].records.as_ref().unwrap()), [(0, "in".to_owned())]);
    assert!(asked.elapsed() < std::time::Duration::from_secs(20));
}
