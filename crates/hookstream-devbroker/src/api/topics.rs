//! Topics are made, deleted and given more partitions.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::{Ctx, NODE, NONE, configs, text};
use crate::broker::wall_ms;
use crate::topics::{Configs, Topic, check, is_name, remove};

/// Why a topic is not as was asked, in the client's terms and in words.
pub(super) struct Refused(pub ResponseError, pub String);

/// More partitions than anybody needs in development: each has an open file.
const MAX_PARTITIONS: i32 = 10_000;

/// Answers of this request wait until what was done is safe.
async fn settled<R>(ctx: &Ctx<'_>, responses: R) -> Option<R> {
    let ticket = {
        let mut coordination = ctx.broker.coordination();
        ctx.broker.settle(&mut coordination)
    };
    // Without an answer the client asks again, which is right when nothing can be promised.
    ctx.broker.durability.settled(ticket).await.ok().map(|()| responses)
}

pub(super) async fn create(ctx: &Ctx<'_>, request: CreateTopicsRequest) -> Option<CreateTopicsResponse> {
    let mut seen = BTreeMap::new();
    request.topics.iter().for_each(|asked| *seen.entry(asked.name.clone()).or_insert(0) += 1);
    let topics = request.topics.into_iter().map(|asked| {
        let name = asked.name.clone();
        let made = if seen.get(&name) == Some(&1) {
            create_one(ctx, &asked, request.validate_only)
        } else {
            let message = "the topic is in the request more than once".to_owned();
            Err(Refused(ResponseError::InvalidRequest, message))
        };
        let result = CreatableTopicResult::default().with_name(name);
        match made {
            Ok((topic, count)) => result
                .with_topic_id(topic.id)
                .with_num_partitions(count)
                .with_replication_factor(1)
                .with_configs(Some(configs_of(&topic))),
            Err(Refused(error, message)) => result
                .with_error_code(error.code())
                .with_error_message(Some(text(message)))
                .with_num_partitions(-1)
                .with_replication_factor(-1),
        }
    });
    let topics = topics.collect();
    settled(ctx, CreateTopicsResponse::default().with_topics(topics)).await
}

/// The topic, and how many partitions it has, or would have if it is only checked.
fn create_one(
    ctx: &Ctx<'_>,
    asked: &CreatableTopic,
    validate_only: bool,
) -> Result<(Arc<Topic>, i32), Refused> {
    if let Some(error) = ctx.fault {
        return Err(Refused(error, "on purpose".to_owned()));
    }
    let name = asked.name.as_str();
    let mut count = asked.num_partitions;
    let mut replicas = asked.replication_factor;
    if !asked.assignments.is_empty() {
        (count, replicas) = (placed(asked)?, 1);
    }
    if count == -1 {
        count = ctx.broker.settings.default_partitions;
    }
    if !matches!(replicas, -1 | 1) {
        let message = format!("replication factor {replicas}: the development broker has one replica of all");
        return Err(Refused(ResponseError::InvalidReplicationFactor, message));
    }
    let mut configs = Configs::new();
    for config in &asked.configs {
        let Some(value) = &config.value else { continue };
        check(&config.name, value).map_err(|problem| Refused(ResponseError::InvalidConfig, problem))?;
        configs.insert(config.name.to_string(), value.to_string());
    }
    Ok((make(ctx, name, count, configs, validate_only)?, count))
}

/// How many partitions a topic has whose replicas are placed by hand.
fn placed(asked: &CreatableTopic) -> Result<i32, Refused> {
    if (asked.num_partitions, asked.replication_factor) != (-1, -1) {
        let message = "if replicas are placed, both numbers are to be -1".to_owned();
        return Err(Refused(ResponseError::InvalidRequest, message));
    }
    let mut places: Vec<(i32, &[BrokerId])> = asked
        .assignments
        .iter()
        .map(|assignment| (assignment.partition_index, assignment.broker_ids.as_slice()))
        .collect();
    places.sort_unstable_by_key(|(partition, _)| *partition);
    if !(0..).zip(&places).all(|(index, place)| *place == (index, &[BrokerId(NODE)][..])) {
        let message = format!("partitions from 0 on are to be placed, each on broker {NODE} and no other");
        return Err(Refused(ResponseError::InvalidReplicaAssignment, message));
    }
    Ok(i32::try_from(places.len()).unwrap_or(i32::MAX))
}

/// Makes a topic that somebody asked for without having made it.
pub(super) fn create_by_default(ctx: &Ctx<'_>, name: &str) -> Result<Arc<Topic>, ResponseError> {
    let count = ctx.broker.settings.default_partitions;
    make(ctx, name, count, Configs::new(), false).or_else(|Refused(error, _)| match error {
        ResponseError::TopicAlreadyExists => {
            ctx.broker.topic(name).ok_or(ResponseError::UnknownTopicOrPartition)
        }
        error => Err(error),
    })
}

fn make(
    ctx: &Ctx<'_>,
    name: &str,
    count: i32,
    configs: Configs,
    validate_only: bool,
) -> Result<Arc<Topic>, Refused> {
    if !is_name(name) {
        let message = format!(
            "a topic can't be called `{name}`: up to 249 letters, digits, `.`, `_` and `-` of ASCII are allowed"
        );
        return Err(Refused(ResponseError::InvalidTopicException, message));
    }
    if !(1..=MAX_PARTITIONS).contains(&count) {
        let message = format!("{count} partitions: between 1 and {MAX_PARTITIONS} are possible");
        return Err(Refused(ResponseError::InvalidPartitions, message));
    }
    let broker = ctx.broker;
    let mut coordination = broker.coordination();
    if broker.topic(name).is_some() {
        let message = format!("topic '{name}' already exists");
        return Err(Refused(ResponseError::TopicAlreadyExists, message));
    }
    let alike = |known: &&String| known.replace('.', "_") == name.replace('.', "_");
    if let Some(known) = broker.topics().keys().find(alike) {
        let message = format!("`{name}` would be taken for `{known}` where `.` is written as `_`");
        return Err(Refused(ResponseError::InvalidTopicException, message));
    }
    let id = Uuid::new_v4();
    if validate_only {
        return Ok(Arc::new(Topic { name: name.to_owned(), id, configs, partitions: Vec::new() }));
    }
    let topic = Topic::open(&broker.settings.data_dir, name, id, count, configs, wall_ms())
        .map_err(|error| Refused(ResponseError::KafkaStorageError, error.to_string()))?;
    Ok(broker.put_topic(&mut coordination, topic))
}

fn configs_of(topic: &Topic) -> Vec<CreatableTopicConfigs> {
    let config = |(definition, value, source): configs::Effective<'_>| {
        CreatableTopicConfigs::default()
            .with_name(StrBytes::from_static_str(definition.name))
            .with_value(Some(text(value)))
            .with_config_source(source)
    };
    configs::effective(&topic.configs).map(config).collect()
}

pub(super) async fn delete(ctx: &Ctx<'_>, request: DeleteTopicsRequest) -> Option<DeleteTopicsResponse> {
    let mut asked: Vec<(Option<TopicName>, Uuid)> =
        request.topics.into_iter().map(|topic| (topic.name, topic.topic_id)).collect();
    asked.extend(request.topic_names.into_iter().map(|name| (Some(name), Uuid::nil())));
    let mut gone = Vec::new();
    let responses = asked.into_iter().map(|(name, id)| {
        let mut coordination = ctx.broker.coordination();
        let (name, unknown) = match name {
            Some(name) => (Some(name.to_string()), ResponseError::UnknownTopicOrPartition),
            None => {
                let topics = ctx.broker.topics();
                let found = topics.values().find(|topic| topic.id == id).map(|topic| topic.name.clone());
                (found, ResponseError::UnknownTopicId)
            }
        };
        let error = ctx.fault.or_else(|| {
            let deleted = name.as_deref().and_then(|name| ctx.broker.delete_topic(&mut coordination, name));
            let error = if deleted.is_some() { None } else { Some(unknown) };
            gone.extend(deleted);
            error
        });
        DeletableTopicResult::default()
            .with_name(name.map(|name| TopicName(text(name))))
            .with_topic_id(id)
            .with_error_code(error.map_or(NONE, |error| error.code()))
    });
    let responses = responses.collect();
    let answer = settled(ctx, DeleteTopicsResponse::default().with_responses(responses)).await?;
    // Now that no restart looks for them.
    gone.iter().for_each(|topic| remove(&topic.dir(&ctx.broker.settings.data_dir)));
    Some(answer)
}

pub(super) async fn create_partitions(
    ctx: &Ctx<'_>,
    request: CreatePartitionsRequest,
) -> Option<CreatePartitionsResponse> {
    let results = request.topics.into_iter().map(|asked| {
        let grown = grow(ctx, &asked, request.validate_only);
        let result = CreatePartitionsTopicResult::default().with_name(asked.name);
        match grown {
            Ok(()) => result,
            Err(Refused(error, message)) => {
                result.with_error_code(error.code()).with_error_message(Some(text(message)))
            }
        }
    });
    let results = results.collect();
    settled(ctx, CreatePartitionsResponse::default().with_results(results)).await
}

fn grow(ctx: &Ctx<'_>, asked: &CreatePartitionsTopic, validate_only: bool) -> Result<(), Refused> {
    if let Some(error) = ctx.fault {
        return Err(Refused(error, "on purpose".to_owned()));
    }
    let broker = ctx.broker;
    let mut coordination = broker.coordination();
    let topic = broker.topic(&asked.name).ok_or_else(|| {
        Refused(ResponseError::UnknownTopicOrPartition, format!("there is no topic {}", asked.name.as_str()))
    })?;
    if asked.count <= topic.count() || asked.count > MAX_PARTITIONS {
        let message = format!(
            "{} partitions: the topic has {}, and {MAX_PARTITIONS} is the most",
            asked.count,
            topic.count()
        );
        return Err(Refused(ResponseError::InvalidPartitions, message));
    }
    if !validate_only {
        let topic = topic
            .grown(&broker.settings.data_dir, asked.count, wall_ms())
            .map_err(|error| Refused(ResponseError::KafkaStorageError, error.to_string()))?;
        broker.put_topic(&mut coordination, topic);
    }
    Ok(())
}
