//! ListOffsets and OffsetForLeaderEpoch: where a partition begins and ends, and what stands at a time.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::OffsetForLeaderEpochRequest;
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};

use crate::client::{Client, To, error, topic_name};
use crate::records::{Batch, TIME};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;

#[test]
fn an_empty_partition_begins_and_ends_at_zero() {
    let mut client = Client::new();
    let topic = client.topic();
    for timestamp in [LATEST, EARLIEST] {
        let found = client.list_offset_as(0, &topic, 0, timestamp);
        assert_eq!((error(found.error_code), found.offset, found.timestamp), (None, 0, -1));
    }
    for timestamp in [MAX_TIMESTAMP, 0, TIME] {
        let found = client.list_offset_as(0, &topic, 0, timestamp);
        assert_eq!((error(found.error_code), found.offset, found.timestamp), (None, -1, -1), "{timestamp}");
    }
}

#[test]
fn the_ends_move_with_what_is_written_and_deleted() {
    let mut client = Client::new();
    let topic = client.topic();
    client.produce(&topic, &Batch::of(&["a", "b", "c"]));
    assert_eq!((client.offset(&topic, EARLIEST), client.offset(&topic, LATEST)), (0, 3));
    assert_eq!(client.delete_records(&topic, 2), Ok(2));
    assert_eq!((client.offset(&topic, EARLIEST), client.offset(&topic, LATEST)), (2, 3));
}

#[test]
fn the_first_record_at_or_after_a_time_is_found() {
    let mut client = Client::new();
    let topic = client.topic();
    client.produce(&topic, &Batch::of(&["0", "1", "2"]).at(TIME));
    client.produce(&topic, &Batch::of(&["3", "4"]).at(TIME + 1000));
    for (time, offset, at) in [
        (0, 0, TIME),
        (TIME, 0, TIME),
        (TIME + 1, 1, TIME + 1),
        (TIME + 2, 2, TIME + 2),
        (TIME + 3, 3, TIME + 1000),
        (TIME + 1000, 3, TIME + 1000),
        (TIME + 1001, 4, TIME + 1001),
    ] {
        let found = client.list_offset_as(0, &topic, 0, time);
        assert_eq!((found.offset, found.timestamp), (offset, at), "at {}", time - TIME);
    }
    assert_eq!(client.list_offset_as(0, &topic, 0, TIME + 1002).offset, -1, "nothing is that late");
}

#[test]
fn the_record_with_the_greatest_time_is_found() {
    let mut client = Client::new();
    let topic = client.topic();
    client.produce(&topic, &Batch::of(&["0"]).at(TIME));
    client.produce(&topic, &Batch::of(&["1", "2"]).at(TIME + 500));
    client.produce(&topic, &Batch::of(&["3"]).at(TIME + 10));
    let found = client.list_offset_as(0, &topic, 0, MAX_TIMESTAMP);
    assert_eq!((found.offset, found.timestamp), (2, TIME + 501));
}

#[test]
fn an_unknown_partition_is_refused() {
    let mut client = Client::new();
    let topic = client.topic();
    for (name, partition) in [(topic.as_str(), 5), ("contract.unknown", 0)] {
        let found = client.list_offset_as(0, name, partition, LATEST);
        assert_eq!(error(found.error_code), Some(ResponseError::UnknownTopicOrPartition));
        assert_eq!((found.offset, found.timestamp), (-1, -1));
    }
}

#[test]
fn records_are_deleted_up_to_an_offset() {
    let mut client = Client::new();
    let topic = client.topic();
    for n in 0..5 {
        client.produce(&topic, &Batch::of(&[&n.to_string()]));
    }
    assert_eq!(client.delete_records(&topic, 2), Ok(2));
    assert_eq!(client.delete_records(&topic, 1), Ok(2), "what is gone stays gone");
    assert_eq!(client.read_from(&topic, 2).len(), 3);
    for offset in [6, 100, -2] {
        assert_eq!(client.delete_records(&topic, offset), Err(ResponseError::OffsetOutOfRange), "{offset}");
    }
    assert_eq!(client.delete_records(&topic, -1), Ok(5), "-1 is the end");
    assert_eq!((client.offset(&topic, EARLIEST), client.offset(&topic, LATEST)), (5, 5));
    assert_eq!(client.produce(&topic, &Batch::of(&["5"])), 5);
    assert_eq!(client.delete_records("contract.unknown", 0), Err(ResponseError::UnknownTopicOrPartition));
}

#[test]
fn an_epoch_of_a_leader_ends_where_the_log_does() {
    let mut client = Client::new();
    let topic = client.topic();
    client.produce(&topic, &Batch::of(&["a", "b"]));
    let epoch = client.topic_metadata(&topic).partitions[0].leader_epoch;
    let mut end_of = |leader_epoch: i32| {
        let partition = OffsetForLeaderPartition::default()
            .with_partition(0)
            .with_current_leader_epoch(-1)
            .with_leader_epoch(leader_epoch);
        let asked =
            OffsetForLeaderTopic::default().with_topic(topic_name(&topic)).with_partitions(vec![partition]);
        let request =
            OffsetForLeaderEpochRequest::default().with_replica_id((-1).into()).with_topics(vec![asked]);
        let answer = client.ask(To::Leader(&topic, 0), &request).topics.remove(0).partitions.remove(0);
        (error(answer.error_code), answer.leader_epoch, answer.end_offset)
    };
    assert_eq!(end_of(epoch), (None, epoch, 2));
    // One that has not been is not known.
    assert_eq!(end_of(epoch + 7), (None, -1, -1));
}
