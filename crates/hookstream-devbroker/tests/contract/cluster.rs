//! What there is: brokers, topics, coordinators.

use std::collections::BTreeSet;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{DescribeClusterRequest, FindCoordinatorRequest, MetadataRequest};
use uuid::Uuid;

use crate::broker::unique;
use crate::client::{Client, To, error, text};
use crate::limits;

#[test]
fn named_topics_are_told_with_their_partitions() {
    let mut client = Client::new();
    let topic = client.topic_with(3, &[]);
    let answer = client.metadata(&[&topic]);
    assert!(answer.brokers.iter().any(|broker| broker.node_id == answer.controller_id));
    assert_eq!(answer.cluster_id.unwrap().len(), 22);
    let [found] = &answer.topics[..] else { panic!("{:?}", answer.topics) };
    assert_eq!((error(found.error_code), found.is_internal), (None, false));
    assert_eq!(found.name.as_ref().unwrap().to_string(), topic);
    let mut partitions: Vec<i32> =
        found.partitions.iter().map(|partition| partition.partition_index).collect();
    partitions.sort_unstable();
    assert_eq!(partitions, [0, 1, 2]);
    let brokers: BTreeSet<i32> = answer.brokers.iter().map(|broker| broker.node_id.0).collect();
    for partition in &found.partitions {
        assert!(brokers.contains(&partition.leader_id.0));
        assert_eq!(partition.replica_nodes, [partition.leader_id]);
        assert_eq!(partition.isr_nodes, [partition.leader_id]);
        assert!(partition.offline_replicas.is_empty() && partition.leader_epoch >= 0);
    }
}

#[test]
fn all_topics_are_told_or_none() {
    let mut client = Client::new();
    let topic = client.topic();
    let all = client.ask(To::Any, &MetadataRequest::default().with_topics(None));
    assert!(all.topics.iter().any(|found| found.name.as_ref().unwrap().to_string() == topic));
    let none = client.ask(To::Any, &MetadataRequest::default().with_topics(Some(Vec::new())));
    assert!(none.topics.is_empty() && !none.brokers.is_empty());
    // In version 0 an empty list means all.
    let all = client.ask_in(0, To::Any, &MetadataRequest::default().with_topics(Some(Vec::new())));
    assert!(all.topics.iter().any(|found| found.name.as_ref().unwrap().to_string() == topic));
}

#[test]
fn unknown_topics_are_told_one_by_one() {
    let mut client = Client::new();
    let topic = client.topic();
    let unknown = unique("unknown");
    let answer = client.metadata(&[&unknown, &topic]);
    let mut found: Vec<_> = answer
        .topics
        .iter()
        .map(|found| (found.name.as_ref().unwrap().to_string(), error(found.error_code)))
        .collect();
    found.sort_by_key(|(_, failure)| failure.is_some());
    assert_eq!(found, [(topic, None), (unknown, Some(ResponseError::UnknownTopicOrPartition))]);
    let invalid = client.topic_metadata("not a name");
    assert_eq!(error(invalid.error_code), Some(ResponseError::InvalidTopicException));
}

#[test]
fn topics_are_found_by_their_ids() {
    let mut client = Client::new();
    let topic = client.topic();
    let id = client.topic_metadata(&topic).topic_id;
    let mut by_id = |id: Uuid| {
        let asked = MetadataRequestTopic::default().with_name(None).with_topic_id(id);
        let request =
            MetadataRequest::default().with_topics(Some(vec![asked])).with_allow_auto_topic_creation(false);
        client.ask(To::Any, &request).topics.remove(0)
    };
    let found = by_id(id);
    assert_eq!((error(found.error_code), found.topic_id), (None, id));
    assert_eq!(found.name.unwrap().to_string(), topic);
    let unknown = by_id(Uuid::from_u128(0x1234_5678));
    assert_eq!(error(unknown.error_code), Some(ResponseError::UnknownTopicId));
}

#[test]
fn the_cluster_is_described_as_its_metadata_is() {
    let mut client = Client::new();
    let metadata = client.metadata(&[]);
    let request = DescribeClusterRequest::default().with_endpoint_type(1);
    let described = client.ask(To::Any, &request);
    assert_eq!(error(described.error_code), None);
    assert_eq!(Some(&described.cluster_id), metadata.cluster_id.as_ref());
    assert_eq!(described.endpoint_type, 1);
    let brokers: BTreeSet<(i32, String, i32)> = described
        .brokers
        .iter()
        .map(|broker| (broker.broker_id.0, broker.host.to_string(), broker.port))
        .collect();
    let expected: BTreeSet<(i32, String, i32)> = metadata
        .brokers
        .iter()
        .map(|broker| (broker.node_id.0, broker.host.to_string(), broker.port))
        .collect();
    assert_eq!(brokers, expected);
    assert!(brokers.iter().any(|(id, ..)| *id == described.controller_id.0));
    // The controllers are not for clients of brokers to see.
    let request = DescribeClusterRequest::default().with_endpoint_type(2);
    let refused = error(client.ask(To::Any, &request).error_code);
    assert_eq!(refused, Some(ResponseError::MismatchedEndpointType));
}

#[test]
fn coordinators_are_brokers_that_there_are() {
    let mut client = Client::new();
    let brokers = client.metadata(&[]).brokers;
    for kind in [0, 1] {
        let keys = [unique("one"), unique("two")];
        keys.iter().for_each(|key| drop(client.coordinator(kind, key)));
        let request = FindCoordinatorRequest::default()
            .with_key_type(kind)
            .with_coordinator_keys(keys.iter().map(|key| text(key)).collect());
        let answer = client.ask(To::Any, &request);
        assert_eq!(answer.coordinators.len(), 2);
        for (found, key) in answer.coordinators.iter().zip(&keys) {
            assert_eq!((error(found.error_code), found.key.as_str()), (None, key.as_str()));
            let broker = brokers.iter().find(|broker| broker.node_id == found.node_id).unwrap();
            assert_eq!((&found.host, found.port), (&broker.host, broker.port));
        }
        // Version 3 and before ask for one.
        let request = FindCoordinatorRequest::default().with_key_type(kind).with_key(text(&keys[0]));
        let answer = client.ask_in(3, To::Any, &request);
        assert_eq!((error(answer.error_code), answer.port > 0), (None, true));
    }
}

#[test]
fn coordinators_of_other_things_are_refused() {
    let mut client = Client::new();
    let request = FindCoordinatorRequest::default().with_key_type(7).with_key(text("x"));
    let answer = client.ask_in(3, To::Any, &request);
    assert_eq!(error(answer.error_code), Some(ResponseError::InvalidRequest));
}

/// A development broker is one node, whatever it is asked for.
#[test]
fn there_are_as_many_brokers_as_were_started() {
    let mut client = Client::new();
    let configured = client.broker.addresses.len();
    let brokers = client.metadata(&[]).brokers.len();
    assert!(limits::differs("one broker", brokers >= configured, brokers == 1), "{brokers}");
}
