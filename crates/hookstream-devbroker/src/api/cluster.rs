//! What there is: versions, the one broker, topics.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, BrokerId, DescribeClusterRequest, DescribeClusterResponse,
    FindCoordinatorRequest, FindCoordinatorResponse, MetadataRequest, MetadataResponse, TopicName,
};
use uuid::Uuid;

use super::{APIS, Ctx, LEADER_EPOCH, NODE, NONE, Reply, text, topics, write};
use crate::topics::{Topic, is_name};

pub(super) fn api_versions(_: &Ctx<'_>, _: ApiVersionsRequest) -> ApiVersionsResponse {
    let keys = APIS.iter().map(|(key, versions)| {
        ApiVersion::default()
            .with_api_key(*key as i16)
            .with_min_version(versions.min)
            .with_max_version(versions.max)
    });
    ApiVersionsResponse::default().with_api_keys(keys.collect())
}

/// The answer to a version that is not known here: in version 0, which everybody reads.
pub(super) fn older_api_versions(id: i32) -> Reply {
    let keys = APIS.iter().map(|(key, versions)| {
        ApiVersion::default()
            .with_api_key(*key as i16)
            .with_min_version(versions.min)
            .with_max_version(versions.max)
    });
    let response = ApiVersionsResponse::default()
        .with_error_code(ResponseError::UnsupportedVersion.code())
        .with_api_keys(keys.collect());
    write(id, 0, Some(response)).unwrap_or(Reply::Close(Bytes::new()))
}

pub(super) fn metadata(ctx: &Ctx<'_>, request: MetadataRequest) -> MetadataResponse {
    let known = ctx.broker.topics();
    // In version 0 an empty list means all, later none.
    let all = request.topics.as_ref().is_none_or(|topics| topics.is_empty() && ctx.version == 0);
    let topics = if all {
        known.values().map(described).collect()
    } else {
        let create = request.allow_auto_topic_creation && ctx.broker.settings.auto_create_topics;
        let asked = request.topics.unwrap_or_default();
        asked.into_iter().map(|topic| find(ctx, topic.name, topic.topic_id, create)).collect()
    };
    MetadataResponse::default()
        .with_brokers(vec![
            MetadataResponseBroker::default()
                .with_node_id(BrokerId(NODE))
                .with_host(text(ctx.local.ip().to_string()))
                .with_port(i32::from(ctx.local.port())),
        ])
        .with_cluster_id(Some(text(&ctx.broker.cluster_id)))
        .with_controller_id(BrokerId(NODE))
        .with_topics(topics)
}

fn find(ctx: &Ctx<'_>, name: Option<TopicName>, id: Uuid, create: bool) -> MetadataResponseTopic {
    let failed = |error: ResponseError, name: Option<TopicName>| {
        MetadataResponseTopic::default().with_error_code(error.code()).with_name(name).with_topic_id(id)
    };
    if let Some(error) = ctx.fault {
        return failed(error, name);
    }
    let Some(name) = name else {
        let topics = ctx.broker.topics();
        let found = topics.values().find(|topic| topic.id == id);
        return found.map_or_else(|| failed(ResponseError::UnknownTopicId, None), described);
    };
    if let Some(topic) = ctx.broker.topic(&name) {
        return described(&topic);
    }
    if !is_name(&name) {
        return failed(ResponseError::InvalidTopicException, Some(name));
    }
    let made = if create {
        topics::create_by_default(ctx, &name)
    } else {
        Err(ResponseError::UnknownTopicOrPartition)
    };
    made.map_or_else(|error| failed(error, Some(name)), |topic| described(&topic))
}

fn described(topic: &Arc<Topic>) -> MetadataResponseTopic {
    let partitions = (0..topic.count()).map(|index| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(BrokerId(NODE))
            .with_leader_epoch(LEADER_EPOCH)
            .with_replica_nodes(vec![BrokerId(NODE)])
            .with_isr_nodes(vec![BrokerId(NODE)])
    });
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(text(&topic.name))))
        .with_topic_id(topic.id)
        .with_partitions(partitions.collect())
}

pub(super) fn find_coordinator(ctx: &Ctx<'_>, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    /// Groups and transactional ids; what else there is (share groups) is not here.
    const KINDS: std::ops::RangeInclusive<i8> = 0..=1;
    let error = match ctx.fault {
        Some(error) => error.code(),
        None if KINDS.contains(&request.key_type) => NONE,
        None => ResponseError::InvalidRequest.code(),
    };
    let (host, port) = (text(ctx.local.ip().to_string()), i32::from(ctx.local.port()));
    if ctx.version < 4 {
        return FindCoordinatorResponse::default()
            .with_error_code(error)
            .with_node_id(BrokerId(NODE))
            .with_host(host)
            .with_port(port);
    }
    let coordinators = request.coordinator_keys.into_iter().map(|key| {
        Coordinator::default()
            .with_key(key)
            .with_node_id(BrokerId(NODE))
            .with_host(host.clone())
            .with_port(port)
            .with_error_code(error)
    });
    FindCoordinatorResponse::default().with_coordinators(coordinators.collect())
}

pub(super) fn describe(ctx: &Ctx<'_>, request: DescribeClusterRequest) -> DescribeClusterResponse {
    /// Brokers; the other kind is that of controllers (KIP-919).
    const BROKERS: i8 = 1;
    if request.endpoint_type != BROKERS {
        let error = if request.endpoint_type == 2 {
            ResponseError::MismatchedEndpointType
        } else {
            ResponseError::UnsupportedEndpointType
        };
        return DescribeClusterResponse::default()
            .with_error_code(error.code())
            .with_error_message(Some(text("this is a broker, and knows of brokers only")));
    }
    let broker = DescribeClusterBroker::default()
        .with_broker_id(BrokerId(NODE))
        .with_host(text(ctx.local.ip().to_string()))
        .with_port(i32::from(ctx.local.port()));
    DescribeClusterResponse::default()
        .with_endpoint_type(request.endpoint_type)
        .with_cluster_id(text(&ctx.broker.cluster_id))
        .with_controller_id(BrokerId(NODE))
        .with_brokers(vec![broker])
}
