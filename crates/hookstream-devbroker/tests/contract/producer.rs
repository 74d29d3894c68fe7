//! Producing and fetching, for tests that are about something else or about exactly this.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::ListOffsetsPartitionResponse;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    DeleteRecordsRequest, FetchRequest, ListOffsetsRequest, ProduceRequest, TransactionalId,
};

use crate::client::{Client, To, error, text, topic_name};
use crate::records::{Batch, values};

/// Readers see what is committed only.
pub const READ_COMMITTED: i8 = 1;

pub fn produce_request(topic: &str, partition: i32, acks: i16, records: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(records));
    let topic = TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(30_000).with_topic_data(vec![topic])
}

pub fn fetch_request(topic: &str, offset: i64) -> FetchRequest {
    fetch_request_of(&[(topic, 0, offset, i32::MAX)])
}

/// Partitions with their offsets and the most bytes of each. There is no session, and nothing is waited for.
pub fn fetch_request_of(partitions: &[(&str, i32, i64, i32)]) -> FetchRequest {
    let topics = partitions.iter().map(|(topic, partition, offset, max_bytes)| {
        let partition = FetchPartition::default()
            .with_partition(*partition)
            .with_current_leader_epoch(-1)
            .with_fetch_offset(*offset)
            .with_last_fetched_epoch(-1)
            .with_log_start_offset(-1)
            .with_partition_max_bytes(*max_bytes);
        FetchTopic::default().with_topic(topic_name(topic)).with_partitions(vec![partition])
    });
    FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_wait_ms(0)
        .with_min_bytes(1)
        .with_max_bytes(i32::MAX)
        .with_session_epoch(-1)
        .with_topics(topics.collect())
}

impl Client {
    /// Appends to partition 0 and says what came of it.
    pub fn try_produce(&mut self, topic: &str, records: impl Into<Bytes>) -> PartitionProduceResponse {
        self.ask_produce(topic, &produce_request(topic, 0, -1, records.into()))
    }

    pub fn ask_produce(&mut self, topic: &str, request: &ProduceRequest) -> PartitionProduceResponse {
        let partition = request.topic_data[0].partition_data[0].index;
        let mut answer = self.ask(To::Leader(topic, partition), request);
        answer.responses.remove(0).partition_responses.remove(0)
    }

    /// Appends to partition 0. Returns the first offset.
    pub fn produce(&mut self, topic: &str, batch: &Batch) -> i64 {
        let answer = self.try_produce(topic, batch.encode());
        assert_eq!(error(answer.error_code), None, "{:?}", answer.error_message);
        answer.base_offset
    }

    /// Appends within a transaction.
    pub fn produce_as(&mut self, id: &str, topic: &str, batch: &Batch) -> Result<i64, ResponseError> {
        let request = produce_request(topic, 0, -1, batch.encode().freeze())
            .with_transactional_id(Some(TransactionalId(text(id))));
        let answer = self.ask_produce(topic, &request);
        error(answer.error_code).map_or(Ok(answer.base_offset), Err)
    }

    /// Reads one partition.
    pub fn fetch(&mut self, topic: &str, request: &FetchRequest) -> PartitionData {
        let partition = request.topics[0].partitions[0].partition;
        let mut answer = self.ask(To::Leader(topic, partition), request);
        assert_eq!(error(answer.error_code), None);
        answer.responses.remove(0).partitions.remove(0)
    }

    /// All that partition 0 has from an offset on.
    pub fn read_from(&mut self, topic: &str, offset: i64) -> Vec<(i64, String)> {
        let mut found: Vec<(i64, String)> = Vec::new();
        loop {
            let from = found.last().map_or(offset, |(last, _)| last + 1);
            let data = self.fetch(topic, &fetch_request(topic, from));
            assert_eq!(error(data.error_code), None);
            let more = values(&data.records.unwrap_or_default());
            if more.iter().all(|(at, _)| *at < from) {
                return found;
            }
            found.extend(more.into_iter().filter(|(at, _)| *at >= from));
        }
    }

    /// The values that partition 0 has, in their order.
    pub fn read(&mut self, topic: &str) -> Vec<String> {
        self.read_from(topic, 0).into_iter().map(|(_, value)| value).collect()
    }

    pub fn list_offset_as(
        &mut self,
        isolation: i8,
        topic: &str,
        partition: i32,
        timestamp: i64,
    ) -> ListOffsetsPartitionResponse {
        let asked = ListOffsetsPartition::default()
            .with_partition_index(partition)
            .with_current_leader_epoch(-1)
            .with_timestamp(timestamp);
        let asked = ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(vec![asked]);
        let request = ListOffsetsRequest::default()
            .with_replica_id((-1).into())
            .with_isolation_level(isolation)
            .with_topics(vec![asked]);
        self.ask(To::Leader(topic, partition), &request).topics.remove(0).partitions.remove(0)
    }

    /// The offset that partition 0 has at a time, or at a special one.
    pub fn offset(&mut self, topic: &str, timestamp: i64) -> i64 {
        let found = self.list_offset_as(0, topic, 0, timestamp);
        assert_eq!(error(found.error_code), None);
        found.offset
    }

    /// Deletes the records of partition 0 below an offset. Returns the new start.
    pub fn delete_records(&mut self, topic: &str, offset: i64) -> Result<i64, ResponseError> {
        let partition = DeleteRecordsPartition::default().with_partition_index(0).with_offset(offset);
        let asked =
            DeleteRecordsTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
        let request = DeleteRecordsRequest::default().with_topics(vec![asked]).with_timeout_ms(30_000);
        let answer = self.ask(To::Leader(topic, 0), &request).topics.remove(0).partitions.remove(0);
        error(answer.error_code).map_or(Ok(answer.low_watermark), Err)
    }
}
