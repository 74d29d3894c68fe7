//! A transactional producer, step by step.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, TxnOffsetCommitRequest,
};

use crate::broker::{unique, until};
use crate::client::{Client, To, error, text, topic_name};
use crate::coordination::{group_id, is_passing, transactional_id};
use crate::records::Batch;

type Result<T> = std::result::Result<T, ResponseError>;

/// Longer than any test.
pub const TIMEOUT_MS: i32 = 120_000;

/// A producer with a transactional id that writes to partition 0 of a topic.
#[derive(Debug)]
pub struct Transaction {
    pub client: Client,
    pub id: String,
    pub producer: (i64, i16),
    pub topic: String,
    sequence: i32,
}

impl Transaction {
    /// Takes an id of its own, and adds the partition.
    pub fn begin(what: &str, topic: &str) -> Self {
        let mut transaction = Self::claim(&unique(what), topic, TIMEOUT_MS);
        assert_eq!(transaction.add_partition(), Ok(()));
        transaction
    }

    /// Takes the id.
    pub fn claim(id: &str, topic: &str, timeout_ms: i32) -> Self {
        let mut client = Client::new();
        let answer = client.init_producer(Some(id), (-1, -1), timeout_ms);
        assert_eq!(error(answer.error_code), None);
        let producer = (answer.producer_id.0, answer.producer_epoch);
        Self { client, id: id.to_owned(), producer, topic: topic.to_owned(), sequence: 0 }
    }

    pub fn add_partition(&mut self) -> Result<()> {
        let topic = self.topic.clone();
        self.add(&topic, 0)
    }

    pub fn add(&mut self, topic: &str, partition: i32) -> Result<()> {
        let topic =
            AddPartitionsToTxnTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(transactional_id(&self.id))
            .with_v3_and_below_producer_id(self.producer.0.into())
            .with_v3_and_below_producer_epoch(self.producer.1)
            .with_v3_and_below_topics(vec![topic]);
        self.until_not_passing(|transaction| {
            let answer = transaction.client.ask(To::Transaction(&transaction.id), &request);
            let results = &answer.results_by_topic_v3_and_below[0].results_by_partition;
            error(results[0].partition_error_code).map_or(Ok(()), Err)
        })
    }

    pub fn produce(&mut self, value: &str) {
        self.produce_batch(Batch::of(&[value]));
    }

    pub fn produce_batch(&mut self, batch: Batch) {
        assert_eq!(self.try_produce(batch).err(), None);
    }

    pub fn try_produce(&mut self, batch: Batch) -> Result<i64> {
        let count = i32::try_from(batch.records.len()).unwrap();
        let batch = batch.from(self.producer, self.sequence).transactional();
        let offset = self.client.produce_as(&self.id, &self.topic, &batch)?;
        self.sequence += count;
        Ok(offset)
    }

    pub fn end(&mut self, commit: bool) {
        assert_eq!(self.try_end(commit), Ok(()));
        // A repetition is answered when all that the end takes has been done.
        assert_eq!(self.try_end(commit), Ok(()));
    }

    pub fn try_end(&mut self, commit: bool) -> Result<()> {
        let request = EndTxnRequest::default()
            .with_transactional_id(transactional_id(&self.id))
            .with_producer_id(self.producer.0.into())
            .with_producer_epoch(self.producer.1)
            .with_committed(commit);
        self.until_not_passing(|transaction| {
            let answer = transaction.client.ask(To::Transaction(&transaction.id), &request);
            error(answer.error_code).map_or(Ok(()), Err)
        })
    }

    pub fn add_offsets(&mut self, group: &str) -> Result<()> {
        let request = AddOffsetsToTxnRequest::default()
            .with_transactional_id(transactional_id(&self.id))
            .with_producer_id(self.producer.0.into())
            .with_producer_epoch(self.producer.1)
            .with_group_id(group_id(group));
        self.until_not_passing(|transaction| {
            let answer = transaction.client.ask(To::Transaction(&transaction.id), &request);
            error(answer.error_code).map_or(Ok(()), Err)
        })
    }

    /// Commits an offset of the topic's partition 0 with the transaction.
    pub fn commit_offset(&mut self, group: &str, offset: i64) -> Result<()> {
        let request = self.offsets(group, offset);
        self.commit_offsets(&request)
    }

    pub fn commit_offsets(&mut self, request: &TxnOffsetCommitRequest) -> Result<()> {
        let group = request.group_id.to_string();
        self.until_not_passing(|transaction| {
            let answer = transaction.client.ask(To::Group(&group), request);
            error(answer.topics[0].partitions[0].error_code).map_or(Ok(()), Err)
        })
    }

    pub fn offsets(&self, group: &str, offset: i64) -> TxnOffsetCommitRequest {
        let partition = TxnOffsetCommitRequestPartition::default()
            .with_partition_index(0)
            .with_committed_offset(offset)
            .with_committed_leader_epoch(-1)
            .with_committed_metadata(Some(text("in a transaction")));
        let topic = TxnOffsetCommitRequestTopic::default()
            .with_name(topic_name(&self.topic))
            .with_partitions(vec![partition]);
        TxnOffsetCommitRequest::default()
            .with_transactional_id(transactional_id(&self.id))
            .with_group_id(group_id(group))
            .with_producer_id(self.producer.0.into())
            .with_producer_epoch(self.producer.1)
            .with_generation_id(-1)
            .with_topics(vec![topic])
    }

    /// As clients do, waits while what came before is not finished.
    fn until_not_passing<T>(&mut self, mut ask: impl FnMut(&mut Self) -> Result<T>) -> Result<T> {
        until("the end of what came before", || {
            let answer = ask(self);
            let failure = answer.as_ref().err().copied();
            let passing = is_passing(failure) || failure == Some(ResponseError::ConcurrentTransactions);
            (!passing).then_some(answer)
        })
    }
}
