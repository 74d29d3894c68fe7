//! Each request in each version that is offered: asked for something that can be done, and done.

use std::collections::BTreeSet;

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, ApiKey, CreatePartitionsRequest, CreateTopicsRequest,
    DeleteGroupsRequest, DeleteRecordsRequest, DeleteTopicsRequest, DescribeClusterRequest,
    DescribeConfigsRequest, DescribeGroupsRequest, EndTxnRequest, FetchRequest, FindCoordinatorRequest,
    HeartbeatRequest, IncrementalAlterConfigsRequest, InitProducerIdRequest, JoinGroupRequest,
    LeaveGroupRequest, ListGroupsRequest, ListOffsetsRequest, MetadataRequest, OffsetCommitRequest,
    OffsetDeleteRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest, ProduceRequest, SyncGroupRequest,
    TxnOffsetCommitRequest,
};
use kafka_protocol::protocol::Request;

use crate::broker::unique;
use crate::client::{Client, To, VERSIONS, error, new_topic, text, topic_name};
use crate::coordination::{commit_request, group_id, transactional_id};
use crate::member::Member;
use crate::producer::{fetch_request, produce_request};
use crate::records::Batch;
use crate::txn::Transaction;

/// Requests that were asked in all their versions.
struct Sweep {
    client: Client,
    topic: String,
    asked: BTreeSet<i16>,
}

fn versions<Q: Request>() -> std::ops::RangeInclusive<i16> {
    let (_, min, max) = VERSIONS.iter().find(|(key, ..)| *key as i16 == Q::KEY).unwrap();
    *min..=*max
}

impl Sweep {
    /// Asks in each version. `code` finds the error code in an answer, which is to be none.
    fn each<Q: Request>(
        &mut self,
        to: To<'_>,
        ask: impl Fn(i16) -> Q,
        code: impl Fn(i16, Q::Response) -> i16,
    ) {
        for version in versions::<Q>() {
            let answer = self.client.ask_in(version, to, &ask(version));
            let failure = error(code(version, answer));
            assert_eq!(failure, None, "{:?} in version {version}", ApiKey::try_from(Q::KEY).unwrap());
        }
        self.asked.insert(Q::KEY);
    }
}

#[test]
fn each_request_is_answered_in_each_version_that_is_offered() {
    let mut client = Client::new();
    let topic = client.topic();
    let mut sweep = Sweep { client, topic, asked: BTreeSet::from([ApiKey::ApiVersions as i16]) };
    sweep.records();
    sweep.cluster();
    sweep.topics();
    sweep.groups();
    sweep.members();
    sweep.transactions();
    assert_eq!(sweep.asked, VERSIONS.iter().map(|(key, ..)| *key as i16).collect());
}

impl Sweep {
    fn records(&mut self) {
        let topic = self.topic.clone();
        let leader = To::Leader(&topic, 0);
        self.each::<ProduceRequest>(
            leader,
            |_| produce_request(&topic, 0, -1, Batch::of(&["v"]).encode().freeze()),
            |_, answer| answer.responses[0].partition_responses[0].error_code,
        );
        self.each::<FetchRequest>(
            leader,
            |version| {
                let mut request = fetch_request(&topic, 0);
                if version < 12 {
                    request.topics[0].partitions[0].last_fetched_epoch = -1;
                }
                request
            },
            |_, answer| {
                let data = &answer.responses[0].partitions[0];
                assert!(!data.records.as_ref().unwrap().is_empty());
                data.error_code
            },
        );
        self.each::<ListOffsetsRequest>(
            leader,
            |_| {
                let asked = ListOffsetsPartition::default().with_timestamp(-1).with_current_leader_epoch(-1);
                let asked =
                    ListOffsetsTopic::default().with_name(topic_name(&topic)).with_partitions(vec![asked]);
                ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![asked])
            },
            |_, answer| {
                assert_eq!(answer.topics[0].partitions[0].offset, 9, "one for each version of Produce");
                answer.topics[0].partitions[0].error_code
            },
        );
        self.each::<OffsetForLeaderEpochRequest>(
            leader,
            |version| {
                let asked =
                    OffsetForLeaderPartition::default().with_current_leader_epoch(-1).with_leader_epoch(0);
                let asked = OffsetForLeaderTopic::default()
                    .with_topic(topic_name(&topic))
                    .with_partitions(vec![asked]);
                let replica = if version < 3 { -2 } else { -1 };
                OffsetForLeaderEpochRequest::default()
                    .with_replica_id(replica.into())
                    .with_topics(vec![asked])
            },
            |_, answer| answer.topics[0].partitions[0].error_code,
        );
        self.each::<DeleteRecordsRequest>(
            leader,
            |version| {
                let asked = DeleteRecordsPartition::default().with_offset(version.into());
                let asked =
                    DeleteRecordsTopic::default().with_name(topic_name(&topic)).with_partitions(vec![asked]);
                DeleteRecordsRequest::default().with_topics(vec![asked]).with_timeout_ms(30_000)
            },
            |version, answer| {
                assert_eq!(answer.topics[0].partitions[0].low_watermark, i64::from(version));
                answer.topics[0].partitions[0].error_code
            },
        );
    }

    fn cluster(&mut self) {
        let topic = self.topic.clone();
        self.each::<MetadataRequest>(
            To::Any,
            |_| {
                let asked = MetadataRequestTopic::default().with_name(Some(topic_name(&topic)));
                MetadataRequest::default().with_topics(Some(vec![asked]))
            },
            |_, answer| {
                assert_eq!(answer.topics[0].partitions.len(), 1);
                answer.topics[0].error_code
            },
        );
        self.each::<DescribeClusterRequest>(
            To::Any,
            |_| DescribeClusterRequest::default(),
            |_, answer| answer.error_code,
        );
        let group = unique("group");
        drop(self.client.coordinator(0, &group));
        self.each::<FindCoordinatorRequest>(
            To::Any,
            |version| {
                if version < 4 {
                    FindCoordinatorRequest::default().with_key(text(&group))
                } else {
                    FindCoordinatorRequest::default().with_coordinator_keys(vec![text(&group)])
                }
            },
            |version, answer| {
                let several = version >= 4;
                if several { answer.coordinators[0].error_code } else { answer.error_code }
            },
        );
        self.each::<DescribeConfigsRequest>(
            To::Any,
            |_| {
                let resource = DescribeConfigsResource::default()
                    .with_resource_type(2)
                    .with_resource_name(text(&topic))
                    .with_configuration_keys(None);
                DescribeConfigsRequest::default().with_resources(vec![resource])
            },
            |_, answer| {
                assert!(answer.results[0].configs.len() > 10);
                answer.results[0].error_code
            },
        );
        self.each::<IncrementalAlterConfigsRequest>(
            To::Any,
            |_| {
                let config =
                    AlterableConfig::default().with_name(text("segment.ms")).with_value(Some(text("99999")));
                let resource = AlterConfigsResource::default()
                    .with_resource_type(2)
                    .with_resource_name(text(&topic))
                    .with_configs(vec![config]);
                IncrementalAlterConfigsRequest::default().with_resources(vec![resource])
            },
            |_, answer| answer.responses[0].error_code,
        );
    }

    fn topics(&mut self) {
        let prefix = unique("versions");
        // The names are those that are to be deleted, in its versions.
        let name = |version: i16| topic_name(&format!("{prefix}.{version}"));
        self.each::<CreateTopicsRequest>(
            To::Any,
            |version| {
                let topic = new_topic("", 1, &[]).with_name(name(version));
                CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000)
            },
            |_, answer| answer.topics[0].error_code,
        );
        self.client.await_topic(name(7).as_str(), 1);
        self.each::<CreatePartitionsRequest>(
            To::Any,
            |version| {
                let topic = CreatePartitionsTopic::default()
                    .with_name(name(7))
                    .with_count(2 + i32::from(version))
                    .with_assignments(None);
                CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000)
            },
            |_, answer| answer.results[0].error_code,
        );
        self.each::<DeleteTopicsRequest>(
            To::Any,
            |version| {
                let request = DeleteTopicsRequest::default().with_timeout_ms(30_000);
                // There was no version 1 to make one in.
                let name = if version == 1 { name(7) } else { name(version) };
                if version < 6 {
                    request.with_topic_names(vec![name])
                } else {
                    request.with_topics(vec![DeleteTopicState::default().with_name(Some(name))])
                }
            },
            |_, answer| answer.responses[0].error_code,
        );
    }

    fn groups(&mut self) {
        let topic = self.topic.clone();
        let (group, doomed) = (unique("group"), unique("doomed"));
        let coordinator = To::Group(&group);
        self.each::<OffsetCommitRequest>(
            coordinator,
            |_| commit_request(&group, &topic, 1, "m").with_generation_id_or_member_epoch(-1),
            |_, answer| answer.topics[0].partitions[0].error_code,
        );
        self.each::<OffsetFetchRequest>(
            coordinator,
            |version| {
                if version < 8 {
                    let asked = OffsetFetchRequestTopic::default()
                        .with_name(topic_name(&topic))
                        .with_partition_indexes(vec![0]);
                    OffsetFetchRequest::default()
                        .with_group_id(group_id(&group))
                        .with_topics(Some(vec![asked]))
                } else {
                    let asked = OffsetFetchRequestTopics::default()
                        .with_name(topic_name(&topic))
                        .with_partition_indexes(vec![0]);
                    let asked = OffsetFetchRequestGroup::default()
                        .with_group_id(group_id(&group))
                        .with_topics(Some(vec![asked]));
                    OffsetFetchRequest::default().with_groups(vec![asked])
                }
            },
            |version, answer| {
                if version < 8 {
                    assert_eq!(answer.topics[0].partitions[0].committed_offset, 1);
                    answer.topics[0].partitions[0].error_code
                } else {
                    assert_eq!(answer.groups[0].topics[0].partitions[0].committed_offset, 1);
                    answer.groups[0].error_code
                }
            },
        );
        self.each::<DescribeGroupsRequest>(
            coordinator,
            |_| DescribeGroupsRequest::default().with_groups(vec![group_id(&group)]),
            |_, answer| {
                assert_eq!(answer.groups[0].group_state.as_str(), "Empty");
                answer.groups[0].error_code
            },
        );
        self.each::<ListGroupsRequest>(
            coordinator,
            |_| ListGroupsRequest::default(),
            |_, answer| {
                assert!(answer.groups.iter().any(|listed| listed.group_id.as_str() == group));
                answer.error_code
            },
        );
        self.each::<OffsetDeleteRequest>(
            coordinator,
            |_| {
                let partition = OffsetDeleteRequestPartition::default();
                let topic = OffsetDeleteRequestTopic::default()
                    .with_name(topic_name(&topic))
                    .with_partitions(vec![partition]);
                OffsetDeleteRequest::default().with_group_id(group_id(&group)).with_topics(vec![topic])
            },
            |_, answer| answer.topics[0].partitions[0].error_code,
        );
        for version in versions::<DeleteGroupsRequest>() {
            assert_eq!(self.client.commit(&doomed, &topic, 1), None);
            let request = DeleteGroupsRequest::default().with_groups_names(vec![group_id(&doomed)]);
            let answer = self.client.ask_in(version, To::Group(&doomed), &request);
            assert_eq!(error(answer.results[0].error_code), None, "version {version}");
        }
        self.asked.insert(DeleteGroupsRequest::KEY);
    }

    /// Each version joins a group of its own, which the others are asked about in their versions up to that.
    fn members(&mut self) {
        for version in versions::<JoinGroupRequest>() {
            let mut member = Member::new(&unique("member"));
            if version >= 4 {
                member.introduce();
            }
            let group = member.group.clone();
            let answer = self.client.ask_in(version, To::Group(&group), &member.join_request());
            member.joined(&answer);
            assert_eq!(answer.members.len(), 1, "version {version}");
            assert_eq!(answer.protocol_name.unwrap().as_str(), "range");
            let own = member.member_id.clone();
            let mut sync = member.sync_request(&[(&own, b"all")]);
            let at_most = |newest: i16| version.min(newest);
            if at_most(5) < 5 {
                (sync.protocol_type, sync.protocol_name) = (None, None);
            }
            let answer = self.client.ask_in(at_most(5), To::Group(&group), &sync);
            assert_eq!((error(answer.error_code), &answer.assignment[..]), (None, &b"all"[..]));
            let beat = HeartbeatRequest::default()
                .with_group_id(group_id(&group))
                .with_generation_id(member.generation)
                .with_member_id(member.id());
            assert_eq!(error(self.client.ask_in(at_most(4), To::Group(&group), &beat).error_code), None);
            let leave = LeaveGroupRequest::default().with_group_id(group_id(&group));
            let leave = if at_most(5) < 3 {
                leave.with_member_id(member.id())
            } else {
                leave.with_members(vec![MemberIdentity::default().with_member_id(member.id())])
            };
            assert_eq!(error(self.client.ask_in(at_most(5), To::Group(&group), &leave).error_code), None);
        }
        let asked =
            [JoinGroupRequest::KEY, SyncGroupRequest::KEY, HeartbeatRequest::KEY, LeaveGroupRequest::KEY];
        self.asked.extend(asked);
    }

    fn transactions(&mut self) {
        let topic = self.topic.clone();
        let id = unique("versions");
        let transaction = Transaction::begin("versions", &topic);
        let coordinator = To::Transaction(&id);
        let timeout = |request: InitProducerIdRequest| {
            request.with_transaction_timeout_ms(60_000).with_producer_id((-1).into()).with_producer_epoch(-1)
        };
        drop(self.client.init_producer(Some(&id), (-1, -1), 60_000));
        self.each::<InitProducerIdRequest>(
            coordinator,
            |_| timeout(InitProducerIdRequest::default().with_transactional_id(Some(transactional_id(&id)))),
            |_, answer| answer.error_code,
        );
        let Transaction { id, producer, .. } = &transaction;
        let (coordinator, group) = (To::Transaction(id), unique("group"));
        self.each::<AddPartitionsToTxnRequest>(
            coordinator,
            |_| {
                let topic =
                    AddPartitionsToTxnTopic::default().with_name(topic_name(&topic)).with_partitions(vec![0]);
                AddPartitionsToTxnRequest::default()
                    .with_v3_and_below_transactional_id(transactional_id(id))
                    .with_v3_and_below_producer_id(producer.0.into())
                    .with_v3_and_below_producer_epoch(producer.1)
                    .with_v3_and_below_topics(vec![topic])
            },
            |_, answer| answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code,
        );
        self.each::<AddOffsetsToTxnRequest>(
            coordinator,
            |_| {
                AddOffsetsToTxnRequest::default()
                    .with_transactional_id(transactional_id(id))
                    .with_producer_id(producer.0.into())
                    .with_producer_epoch(producer.1)
                    .with_group_id(group_id(&group))
            },
            |_, answer| answer.error_code,
        );
        self.each::<TxnOffsetCommitRequest>(
            To::Group(&group),
            |_| transaction.offsets(&group, 1),
            |_, answer| answer.topics[0].partitions[0].error_code,
        );
        let mut transaction = transaction;
        for version in versions::<EndTxnRequest>() {
            assert_eq!(transaction.add_partition(), Ok(()));
            let request = EndTxnRequest::default()
                .with_transactional_id(transactional_id(&transaction.id))
                .with_producer_id(transaction.producer.0.into())
                .with_producer_epoch(transaction.producer.1)
                .with_committed(true);
            let answer = self.client.ask_in(version, To::Transaction(&transaction.id), &request);
            assert_eq!(error(answer.error_code), None, "version {version}");
        }
        self.asked.insert(EndTxnRequest::KEY);
    }
}
