//! Finding coordinators, and what is asked of them.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::offset_fetch_response::OffsetFetchResponsePartitions;
use kafka_protocol::messages::{
    FindCoordinatorRequest, GroupId, InitProducerIdRequest, InitProducerIdResponse, OffsetCommitRequest,
    OffsetFetchRequest, TransactionalId,
};

use crate::broker::until;
use crate::client::{Client, To, error, text, topic_name};

/// Errors that a client waits out: the coordinator is not there yet.
pub fn is_passing(found: Option<ResponseError>) -> bool {
    matches!(
        found,
        Some(
            ResponseError::CoordinatorNotAvailable
                | ResponseError::CoordinatorLoadInProgress
                | ResponseError::NotCoordinator
        )
    )
}

pub fn group_id(group: &str) -> GroupId {
    GroupId(text(group))
}

pub fn transactional_id(id: &str) -> TransactionalId {
    TransactionalId(text(id))
}

impl Client {
    /// The address of the coordinator of a group (kind 0) or a transactional id (kind 1), which is at work.
    pub fn coordinator(&mut self, kind: i8, key: &str) -> String {
        let name = format!("coordinator {kind} of {key}");
        if let Some(address) = self.found.get(&name) {
            return address.clone();
        }
        let request =
            FindCoordinatorRequest::default().with_key_type(kind).with_coordinator_keys(vec![text(key)]);
        until("a coordinator", || {
            let found = self.ask_in(4, To::Any, &request).coordinators.remove(0);
            let failure = error(found.error_code);
            assert!(failure.is_none() || is_passing(failure), "{failure:?}");
            failure
                .is_none()
                .then(|| self.found.insert(name.clone(), format!("{}:{}", found.host, found.port)))?;
            let at_work = kind == 1 || !is_passing(self.fetch_group(key, None, false).err());
            if !at_work {
                self.found.remove(&name);
            }
            at_work.then_some(())
        });
        self.found[&name].clone()
    }

    /// Takes a transactional id, or only a producer id.
    pub fn init_producer(
        &mut self,
        id: Option<&str>,
        known: (i64, i16),
        timeout_ms: i32,
    ) -> InitProducerIdResponse {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(id.map(transactional_id))
            .with_transaction_timeout_ms(timeout_ms)
            .with_producer_id(known.0.into())
            .with_producer_epoch(known.1);
        until("a producer id", || {
            let to = id.map_or(To::Any, To::Transaction);
            let answer = self.ask(to, &request);
            let failure = error(answer.error_code);
            // A predecessor's transaction is being ended.
            let passing = is_passing(failure) || failure == Some(ResponseError::ConcurrentTransactions);
            (!passing).then_some(answer)
        })
    }

    /// A new producer id with its epoch.
    pub fn producer_id(&mut self) -> (i64, i16) {
        let answer = self.init_producer(None, (-1, -1), i32::MAX);
        assert_eq!(error(answer.error_code), None);
        (answer.producer_id.0, answer.producer_epoch)
    }

    /// Commits an offset of partition 0 as somebody who takes no part in the group.
    pub fn commit(&mut self, group: &str, topic: &str, offset: i64) -> Option<ResponseError> {
        self.commit_as(&commit_request(group, topic, offset, "").with_generation_id_or_member_epoch(-1))
    }

    pub fn commit_as(&mut self, request: &OffsetCommitRequest) -> Option<ResponseError> {
        let group = request.group_id.to_string();
        let answer = self.ask(To::Group(&group), request);
        error(answer.topics[0].partitions[0].error_code)
    }

    /// What a group has for a topic's partition 0.
    pub fn committed(&mut self, group: &str, topic: &str) -> OffsetFetchResponsePartitions {
        self.committed_as(group, topic, false)
    }

    pub fn committed_as(&mut self, group: &str, topic: &str, stable: bool) -> OffsetFetchResponsePartitions {
        self.fetch_group(group, Some(topic), stable).unwrap().remove(0).1
    }

    /// What a group has for a topic's partition 0, or all that it has, by topic.
    pub fn fetch_group(
        &mut self,
        group: &str,
        topic: Option<&str>,
        stable: bool,
    ) -> Result<Vec<(String, OffsetFetchResponsePartitions)>, ResponseError> {
        let topics = topic.map(|name| {
            vec![
                OffsetFetchRequestTopics::default()
                    .with_name(topic_name(name))
                    .with_partition_indexes(vec![0]),
            ]
        });
        let asked = OffsetFetchRequestGroup::default().with_group_id(group_id(group)).with_topics(topics);
        let request = OffsetFetchRequest::default().with_groups(vec![asked]).with_require_stable(stable);
        let answer = self.ask(To::Group(group), &request).groups.remove(0);
        if let Some(failure) = error(answer.error_code) {
            return Err(failure);
        }
        let partitions = answer.topics.into_iter().flat_map(|topic| {
            let name = topic.name.to_string();
            topic.partitions.into_iter().map(move |partition| (name.clone(), partition))
        });
        Ok(partitions.collect())
    }
}

pub fn commit_request(group: &str, topic: &str, offset: i64, metadata: &str) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(0)
        .with_committed_offset(offset)
        .with_committed_leader_epoch(-1)
        .with_committed_metadata(Some(text(metadata)));
    let topic =
        OffsetCommitRequestTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
    OffsetCommitRequest::default().with_group_id(group_id(group)).with_topics(vec![topic])
}
