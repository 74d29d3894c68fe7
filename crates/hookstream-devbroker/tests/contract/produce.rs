//! Produce: what is appended, what is refused, and in what words.

use bytes::{Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::ProduceResponse;
use kafka_protocol::records::Compression;

use crate::client::{Client, Connection, To, error};
use crate::producer::produce_request;
use crate::records::{Batch, now_ms};

/// Where the checksum and the format stand in a batch.
const CRC: usize = 17;
const MAGIC: usize = 16;

#[test]
fn records_are_appended_one_after_the_other() {
    let mut client = Client::new();
    let topic = client.topic();
    assert_eq!(client.produce(&topic, &Batch::of(&["a", "b"])), 0);
    let answer = client.try_produce(&topic, Batch::of(&["c"]).encode());
    assert_eq!((answer.base_offset, answer.log_append_time_ms, answer.log_start_offset), (2, -1, 0));
    assert_eq!(client.read(&topic), ["a", "b", "c"]);
}

#[test]
fn one_acknowledgement_and_all_are_both_answered() {
    let mut client = Client::new();
    let topic = client.topic();
    for (offset, acks) in (0..).zip([1, -1]) {
        let request = produce_request(&topic, 0, acks, Batch::of(&["v"]).encode().freeze());
        let answer = client.ask_produce(&topic, &request);
        assert_eq!((error(answer.error_code), answer.base_offset), (None, offset));
    }
}

#[test]
fn without_acknowledgement_there_is_no_answer() {
    let mut client = Client::new();
    let topic = client.topic();
    let mut connection = Connection::open(&client.address(To::Leader(&topic, 0)));
    connection.send(11, &produce_request(&topic, 0, 0, Batch::of(&["silent"]).encode().freeze()));
    // The next answer belongs to the next request.
    connection.send(11, &produce_request(&topic, 0, 1, Batch::of(&["told"]).encode().freeze()));
    let answer: ProduceResponse = connection.receive(11);
    assert_eq!(answer.responses[0].partition_responses[0].base_offset, 1);
    assert_eq!(client.read(&topic), ["silent", "told"]);
}

#[test]
fn other_acknowledgements_are_refused() {
    let mut client = Client::new();
    let topic = client.topic();
    for acks in [2, -2, 7] {
        let request = produce_request(&topic, 0, acks, Batch::of(&["v"]).encode().freeze());
        let answer = client.ask_produce(&topic, &request);
        assert_eq!(error(answer.error_code), Some(ResponseError::InvalidRequiredAcks), "acks {acks}");
    }
    assert_eq!(client.read(&topic), [""; 0]);
}

#[test]
fn an_unknown_topic_or_partition_is_refused_and_others_are_not() {
    let mut client = Client::new();
    let topic = client.topic();
    let batch = || Batch::of(&["v"]).encode().freeze();
    let mut request = produce_request(&topic, 0, -1, batch());
    request.topic_data[0]
        .partition_data
        .extend(produce_request("", 7, -1, batch()).topic_data.remove(0).partition_data);
    request.topic_data.extend(produce_request("contract.unknown", 0, -1, batch()).topic_data);
    let answer = client.ask(To::Leader(&topic, 0), &request);
    let mut errors = Vec::new();
    for topic in answer.responses {
        for partition in topic.partition_responses {
            let name = if topic.name.as_str() == "contract.unknown" { "unknown" } else { "known" };
            errors.push((name, partition.index, error(partition.error_code)));
        }
    }
    errors.sort_by_key(|(name, partition, _)| (*name, *partition));
    let unknown = Some(ResponseError::UnknownTopicOrPartition);
    assert_eq!(errors, [("known", 0, None), ("known", 7, unknown), ("unknown", 0, unknown)]);
}

#[test]
fn a_batch_whose_checksum_is_wrong_is_refused() {
    let mut client = Client::new();
    let topic = client.topic();
    let mut batch = Batch::of(&["v"]).encode();
    batch[CRC] ^= 1;
    let answer = client.try_produce(&topic, batch);
    assert_eq!(error(answer.error_code), Some(ResponseError::CorruptMessage));
    assert_eq!(answer.base_offset, -1);
    assert_eq!(client.read(&topic), [""; 0]);
}

#[test]
fn a_batch_in_an_old_format_is_refused() {
    let mut client = Client::new();
    let topic = client.topic();
    for magic in [0, 1, 3] {
        let mut batch = Batch::of(&["v"]).encode();
        batch[MAGIC] = magic;
        let answer = client.try_produce(&topic, batch);
        let kafka = if magic == 3 { ResponseError::CorruptMessage } else { ResponseError::InvalidRecord };
        assert_eq!(error(answer.error_code), Some(kafka), "format {magic}");
    }
    assert_eq!(client.read(&topic), [""; 0]);
}

#[test]
fn two_batches_in_one_request_are_refused() {
    let mut client = Client::new();
    let topic = client.topic();
    let mut batches: BytesMut = Batch::of(&["a"]).encode();
    batches.extend_from_slice(&Batch::of(&["b"]).encode());
    let answer = client.try_produce(&topic, batches);
    assert_eq!(error(answer.error_code), Some(ResponseError::InvalidRecord));
    assert_eq!(client.read(&topic), [""; 0]);
}

#[test]
fn a_request_without_records_is_refused() {
    let mut client = Client::new();
    let topic = client.topic();
    let answer = client.try_produce(&topic, Bytes::new());
    assert_eq!(error(answer.error_code), Some(ResponseError::InvalidRecord));
}

#[test]
fn a_batch_that_is_too_large_is_refused() {
    let mut client = Client::new();
    let topic = client.topic_with(1, &[("max.message.bytes", "1000")]);
    let large = "x".repeat(1000);
    let answer = client.try_produce(&topic, Batch::of(&[&large]).encode());
    assert_eq!(error(answer.error_code), Some(ResponseError::MessageTooLarge));
    // What counts is the size of the batch as it was sent.
    let exact = 1000 - Batch::of(&[""]).encode().len() - 2;
    let fits = Batch::of(&[&"x".repeat(exact)]).encode();
    assert_eq!(fits.len(), 1000);
    assert_eq!(error(client.try_produce(&topic, fits).error_code), None);
    let longer = Batch::of(&[&"x".repeat(exact + 1)]).encode();
    assert_eq!(error(client.try_produce(&topic, longer).error_code), Some(ResponseError::MessageTooLarge));
}

#[test]
fn compressed_batches_come_back_as_they_were_sent() {
    let mut client = Client::new();
    let topic = client.topic();
    let codecs = [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    for (offset, compression) in (0..).step_by(2).zip(codecs) {
        let batch = Batch { compression, ..Batch::of(&["first", "second"]) };
        assert_eq!(client.produce(&topic, &batch), offset, "{compression:?}");
    }
    assert_eq!(client.read(&topic), ["first", "second"].repeat(4));
}

#[test]
fn a_batch_that_says_it_is_a_marker_is_refused() {
    let mut client = Client::new();
    let topic = client.topic();
    let mut batch = Batch::of(&["v"]).encode();
    // The attribute of markers.
    batch[22] |= 1 << 5;
    let sum = crc32c::crc32c(&batch[21..]).to_be_bytes();
    batch[CRC..CRC + 4].copy_from_slice(&sum);
    let answer = client.try_produce(&topic, batch);
    assert_eq!(error(answer.error_code), Some(ResponseError::InvalidRecord));
    assert_eq!(client.read(&topic), [""; 0]);
}

#[test]
fn the_broker_writes_its_own_time_where_the_topic_says_so() {
    let mut client = Client::new();
    let topic = client.topic_with(1, &[("message.timestamp.type", "LogAppendTime")]);
    let before = now_ms();
    let answer = client.try_produce(&topic, Batch::of(&["a", "b"]).encode());
    let after = now_ms();
    let written = answer.log_append_time_ms;
    assert!((before - 1000..=after + 1000).contains(&written), "{before} {written} {after}");
    let data = client.fetch(&topic, &crate::producer::fetch_request(&topic, 0));
    let records = crate::records::decode(&data.records.unwrap());
    assert_eq!(records.len(), 2);
    for record in records {
        assert_eq!(record.timestamp_type, kafka_protocol::records::TimestampType::LogAppend);
    }
    assert_eq!(client.list_offset_as(0, &topic, 0, written).offset, 0);
    assert_eq!(client.offset(&topic, written + 60_000), -1);
}
