//! Settings of topics, and those of the broker that clients ask for.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult,
};
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{
    DescribeConfigsRequest, DescribeConfigsResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::topics::Refused;
use super::{Ctx, NODE, text};
use crate::topics::{Configs, DEFINITIONS, Definition, Kind, check};

/// Kinds of resources.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
/// Kinds of changes.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;
/// Where a value comes from (KIP-226).
const DYNAMIC_TOPIC: i8 = 1;
const DEFAULT: i8 = 5;

/// A setting with its value and where that comes from.
pub(super) type Effective<'a> = (&'static Definition, &'a str, i8);

pub(super) fn effective(configs: &Configs) -> impl Iterator<Item = Effective<'_>> {
    DEFINITIONS.iter().map(|definition| match configs.get(definition.name) {
        Some(value) => (definition, value.as_str(), DYNAMIC_TOPIC),
        None => (definition, definition.default, DEFAULT),
    })
}

pub(super) fn describe(ctx: &Ctx<'_>, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let results = request.resources.into_iter().map(|resource| {
        let described = describe_one(ctx, &resource);
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name);
        match described {
            Ok(configs) => result.with_configs(configs),
            Err(Refused(error, message)) => {
                result.with_error_code(error.code()).with_error_message(Some(text(message)))
            }
        }
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

fn describe_one(
    ctx: &Ctx<'_>,
    resource: &DescribeConfigsResource,
) -> Result<Vec<DescribeConfigsResourceResult>, Refused> {
    if let Some(error) = ctx.fault {
        return Err(Refused(error, "on purpose".to_owned()));
    }
    let name = resource.resource_name.as_str();
    let wanted = |config: &str| {
        let keys = resource.configuration_keys.as_ref();
        keys.is_none_or(|keys| keys.iter().any(|key| key.as_str() == config))
    };
    let result = |name: &'static str, value: &str| {
        DescribeConfigsResourceResult::default()
            .with_name(StrBytes::from_static_str(name))
            .with_value(Some(text(value)))
    };
    match resource.resource_type {
        TOPIC => {
            let topic = ctx.broker.topic(name).ok_or_else(|| {
                Refused(ResponseError::UnknownTopicOrPartition, format!("there is no topic `{name}`"))
            })?;
            let found = effective(&topic.configs).filter(|(definition, ..)| wanted(definition.name));
            Ok(found
                .map(|(definition, value, source)| {
                    result(definition.name, value)
                        .with_config_source(source)
                        .with_config_type(definition.kind.number())
                })
                .collect())
        }
        BROKER if name == NODE.to_string() || name.is_empty() => {
            let found = of_the_broker(ctx).into_iter().filter(|(config, _)| wanted(config));
            let read_only = |(name, value): (&'static str, String)| {
                result(name, &value).with_config_source(DEFAULT).with_read_only(true)
            };
            Ok(found.map(read_only).collect())
        }
        BROKER => Err(Refused(ResponseError::InvalidRequest, format!("there is no broker {name}"))),
        other => Err(Refused(
            ResponseError::InvalidRequest,
            format!("resources of the type {other} have no settings in the development broker"),
        )),
    }
}

fn of_the_broker(ctx: &Ctx<'_>) -> BTreeMap<&'static str, String> {
    let settings = &ctx.broker.settings;
    BTreeMap::from([
        ("auto.create.topics.enable", settings.auto_create_topics.to_string()),
        ("default.replication.factor", "1".to_owned()),
        ("log.dirs", settings.data_dir.display().to_string()),
        ("node.id", NODE.to_string()),
        ("num.partitions", settings.default_partitions.to_string()),
        ("offsets.topic.replication.factor", "1".to_owned()),
    ])
}

pub(super) fn alter(
    ctx: &Ctx<'_>,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let responses = request.resources.into_iter().map(|resource| {
        let altered = alter_one(ctx, &resource, request.validate_only);
        let response = AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name);
        match altered {
            Ok(()) => response,
            Err(Refused(error, message)) => {
                response.with_error_code(error.code()).with_error_message(Some(text(message)))
            }
        }
    });
    IncrementalAlterConfigsResponse::default().with_responses(responses.collect())
}

fn alter_one(ctx: &Ctx<'_>, resource: &AlterConfigsResource, validate_only: bool) -> Result<(), Refused> {
    if let Some(error) = ctx.fault {
        return Err(Refused(error, "on purpose".to_owned()));
    }
    let name = resource.resource_name.as_str();
    if resource.resource_type != TOPIC {
        let message = "only topics have settings that can be changed in the development broker".to_owned();
        return Err(Refused(ResponseError::InvalidRequest, message));
    }
    let broker = ctx.broker;
    let mut coordination = broker.coordination();
    let topic = broker.topic(name).ok_or_else(|| {
        Refused(ResponseError::UnknownTopicOrPartition, format!("there is no topic `{name}`"))
    })?;
    let mut configs = topic.configs.clone();
    for (index, config) in resource.configs.iter().enumerate() {
        if resource.configs[..index].iter().any(|before| before.name == config.name) {
            let message = format!("{} is in the request more than once", config.name.as_str());
            return Err(Refused(ResponseError::InvalidRequest, message));
        }
        if config.config_operation != DELETE && config.value.is_none() {
            let message = format!("{} is to be set to nothing", config.name.as_str());
            return Err(Refused(ResponseError::InvalidRequest, message));
        }
        change(&mut configs, config).map_err(|problem| Refused(ResponseError::InvalidConfig, problem))?;
    }
    if !validate_only {
        let topic = topic.set_otherwise(configs);
        broker.put_topic(&mut coordination, topic);
    }
    Ok(())
}

/// One change (KIP-339).
fn change(configs: &mut Configs, config: &AlterableConfig) -> Result<(), String> {
    let name = config.name.as_str();
    let value = config.value.as_deref().unwrap_or_default();
    let definition = DEFINITIONS.iter().find(|definition| definition.name == name);
    let definition = definition.ok_or_else(|| format!("unknown topic config name: {name}"))?;
    if matches!(config.config_operation, APPEND | SUBTRACT) && definition.kind != Kind::List {
        return Err(format!("{name} is no list, so nothing is appended to it or subtracted from it"));
    }
    let current = || configs.get(name).map_or(definition.default, String::as_str).split(',');
    let value = match config.config_operation {
        SET => value.to_owned(),
        DELETE => {
            configs.remove(name);
            return Ok(());
        }
        APPEND => {
            let new = value.split(',').filter(|item| !current().any(|known| known == *item));
            current().chain(new).collect::<Vec<_>>().join(",")
        }
        SUBTRACT => {
            let left = current().filter(|item| !value.split(',').any(|gone| gone == *item));
            left.collect::<Vec<_>>().join(",")
        }
        other => return Err(format!("there is no change of the kind {other}")),
    };
    check(name, &value)?;
    configs.insert(name.to_owned(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes() {
        let mut configs = Configs::new();
        let mut apply = |operation: i8, value: &str| {
            let config = AlterableConfig::default()
                .with_name(StrBytes::from_static_str("cleanup.policy"))
                .with_config_operation(operation)
                .with_value(Some(text(value)));
            change(&mut configs, &config).map(|()| configs.get("cleanup.policy").cloned())
        };
        assert_eq!(apply(2, "compact"), Ok(Some("delete,compact".to_owned())));
        assert_eq!(apply(3, "delete"), Ok(Some("compact".to_owned())));
        assert_eq!(apply(1, ""), Ok(None));
        assert!(apply(0, "burn").unwrap_err().contains("one of"));
        assert!(apply(9, "delete").is_err());
    }
}
