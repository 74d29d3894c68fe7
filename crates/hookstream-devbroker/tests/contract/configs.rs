//! Settings of topics and brokers: read and changed.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResult;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{DescribeConfigsRequest, IncrementalAlterConfigsRequest};

use crate::broker::until;
use crate::client::{Client, To, error, text};
use crate::limits;
use crate::records::Batch;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

fn describe(client: &mut Client, kind: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsResult {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(keys.map(|keys| keys.iter().map(|key| text(key)).collect()));
    client.ask(To::Any, &DescribeConfigsRequest::default().with_resources(vec![resource])).results.remove(0)
}

/// A topic's setting, with where it comes from.
fn value(client: &mut Client, topic: &str, name: &str) -> (String, i8) {
    let described = describe(client, TOPIC, topic, Some(&[name]));
    assert_eq!(error(described.error_code), None);
    let [config] = &described.configs[..] else { panic!("{:?}", described.configs) };
    (config.value.as_ref().unwrap().to_string(), config.config_source)
}

/// What is asked of a broker that is not the controller's takes a moment to be seen at each.
fn await_value(client: &mut Client, topic: &str, name: &str, expected: (&str, i8)) {
    until("the setting", || {
        (value(client, topic, name) == (expected.0.to_owned(), expected.1)).then_some(())
    });
}

fn alter(
    client: &mut Client,
    topic: &str,
    changes: &[(i8, &str, Option<&str>)],
    validate_only: bool,
) -> Option<ResponseError> {
    let configs = changes.iter().map(|(operation, name, value)| {
        AlterableConfig::default()
            .with_name(text(name))
            .with_config_operation(*operation)
            .with_value(value.map(text))
    });
    let resource = AlterConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text(topic))
        .with_configs(configs.collect());
    let request = IncrementalAlterConfigsRequest::default()
        .with_resources(vec![resource])
        .with_validate_only(validate_only);
    error(client.ask(To::Any, &request).responses[0].error_code)
}

#[test]
fn settings_of_a_topic_are_described() {
    let mut client = Client::new();
    let topic = client.topic_with(1, &[("retention.ms", "1234567")]);
    let all = describe(&mut client, TOPIC, &topic, None);
    assert_eq!(
        (error(all.error_code), all.resource_type, all.resource_name.as_str()),
        (None, TOPIC, topic.as_str())
    );
    let all: BTreeMap<String, (String, i8, i8)> = all
        .configs
        .into_iter()
        .map(|config| {
            (
                config.name.to_string(),
                (config.value.unwrap().to_string(), config.config_source, config.config_type),
            )
        })
        .collect();
    assert_eq!(all["retention.ms"], ("1234567".to_owned(), 1, 5));
    assert_eq!(all["max.message.bytes"].0, "1048588");
    assert_eq!(all["cleanup.policy"], ("delete".to_owned(), 5, 7));
    assert_eq!(all["message.timestamp.type"].0, "CreateTime");
    for name in ["compression.type", "segment.bytes", "segment.ms", "min.insync.replicas", "retention.bytes"]
    {
        assert!(all.contains_key(name), "{name}");
    }
    // Some of them.
    let some = describe(&mut client, TOPIC, &topic, Some(&["retention.ms", "no.such.setting"]));
    assert_eq!(some.configs.len(), 1);
}

#[test]
fn settings_of_what_does_not_exist_are_not_described() {
    let mut client = Client::new();
    let unknown = describe(&mut client, TOPIC, "contract.unknown", None);
    assert_eq!(error(unknown.error_code), Some(ResponseError::UnknownTopicOrPartition));
    let strange = describe(&mut client, 99, "x", None);
    assert_eq!(error(strange.error_code), Some(ResponseError::InvalidRequest));
}

#[test]
fn settings_of_a_broker_are_described() {
    let mut client = Client::new();
    let broker = client.metadata(&[]).brokers[0].clone();
    let address = format!("{}:{}", broker.host, broker.port);
    let resource = DescribeConfigsResource::default()
        .with_resource_type(BROKER)
        .with_resource_name(text(&broker.node_id.0.to_string()))
        .with_configuration_keys(Some(vec![text("auto.create.topics.enable"), text("node.id")]));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let described = crate::client::Connection::open(&address).ask(4, &request).results.remove(0);
    assert_eq!(error(described.error_code), None);
    let found: BTreeMap<String, String> = described
        .configs
        .into_iter()
        .map(|config| (config.name.to_string(), config.value.unwrap().to_string()))
        .collect();
    assert_eq!(found["auto.create.topics.enable"], "false");
    assert_eq!(found["node.id"], broker.node_id.0.to_string());
}

#[test]
fn a_setting_is_set_and_taken_back() {
    let mut client = Client::new();
    let topic = client.topic();
    assert_eq!(alter(&mut client, &topic, &[(SET, "retention.ms", Some("1000000"))], false), None);
    await_value(&mut client, &topic, "retention.ms", ("1000000", 1));
    // Others stay as they were.
    assert_eq!(alter(&mut client, &topic, &[(SET, "segment.bytes", Some("2000000"))], false), None);
    await_value(&mut client, &topic, "segment.bytes", ("2000000", 1));
    assert_eq!(value(&mut client, &topic, "retention.ms"), ("1000000".to_owned(), 1));
    assert_eq!(alter(&mut client, &topic, &[(DELETE, "retention.ms", None)], false), None);
    await_value(&mut client, &topic, "retention.ms", ("604800000", 5));
}

#[test]
fn lists_are_appended_to_and_subtracted_from() {
    let mut client = Client::new();
    let topic = client.topic();
    assert_eq!(alter(&mut client, &topic, &[(APPEND, "cleanup.policy", Some("compact"))], false), None);
    await_value(&mut client, &topic, "cleanup.policy", ("delete,compact", 1));
    assert_eq!(alter(&mut client, &topic, &[(SUBTRACT, "cleanup.policy", Some("delete"))], false), None);
    await_value(&mut client, &topic, "cleanup.policy", ("compact", 1));
    // What is there is not appended again.
    assert_eq!(alter(&mut client, &topic, &[(APPEND, "cleanup.policy", Some("compact"))], false), None);
    await_value(&mut client, &topic, "cleanup.policy", ("compact", 1));
}

#[test]
fn changes_that_make_no_sense_are_refused_and_none_of_the_request_is_made() {
    let mut client = Client::new();
    let topic = client.topic();
    for change in [
        (SET, "no.such.setting", Some("1")),
        (SET, "retention.ms", Some("soon")),
        (SET, "cleanup.policy", Some("burn")),
        (APPEND, "retention.ms", Some("1")),
        (SUBTRACT, "retention.ms", Some("1")),
    ] {
        let refused = alter(&mut client, &topic, &[(SET, "segment.ms", Some("77777")), change], false);
        assert_eq!(refused, Some(ResponseError::InvalidConfig), "{change:?}");
    }
    let nothing = [(SET, "segment.bytes", None)];
    assert_eq!(alter(&mut client, &topic, &nothing, false), Some(ResponseError::InvalidRequest));
    let twice = [(SET, "retention.ms", Some("1")), (DELETE, "retention.ms", None)];
    assert_eq!(alter(&mut client, &topic, &twice, false), Some(ResponseError::InvalidRequest));
    assert_eq!(value(&mut client, &topic, "segment.ms").1, 5);
    let unknown = alter(&mut client, "contract.unknown", &[(SET, "retention.ms", Some("1"))], false);
    assert_eq!(unknown, Some(ResponseError::UnknownTopicOrPartition));
}

#[test]
fn what_is_only_validated_is_not_changed() {
    let mut client = Client::new();
    let topic = client.topic();
    assert_eq!(alter(&mut client, &topic, &[(SET, "retention.ms", Some("1000"))], true), None);
    let refused = alter(&mut client, &topic, &[(SET, "retention.ms", Some("soon"))], true);
    assert_eq!(refused, Some(ResponseError::InvalidConfig));
    assert_eq!(value(&mut client, &topic, "retention.ms").1, 5);
}

#[test]
fn a_change_is_in_force_at_once() {
    let mut client = Client::new();
    let topic = client.topic();
    let large = Batch::of(&["x".repeat(2000).as_str()]).encode();
    assert_eq!(error(client.try_produce(&topic, large.clone()).error_code), None);
    assert_eq!(alter(&mut client, &topic, &[(SET, "max.message.bytes", Some("1000"))], false), None);
    until("the new limit", || {
        let refused = error(client.try_produce(&topic, large.clone()).error_code);
        (refused == Some(ResponseError::MessageTooLarge)).then_some(())
    });
}

/// Settings of brokers are given when they are started.
#[test]
fn settings_of_the_broker_can_be_changed_or_not() {
    let mut client = Client::new();
    let config = AlterableConfig::default()
        .with_name(text("log.cleaner.threads"))
        .with_config_operation(SET)
        .with_value(Some(text("1")));
    let node = client.metadata(&[]).brokers[0].node_id.0;
    let resource = AlterConfigsResource::default()
        .with_resource_type(BROKER)
        .with_resource_name(text(&node.to_string()))
        .with_configs(vec![config]);
    let request =
        IncrementalAlterConfigsRequest::default().with_resources(vec![resource]).with_validate_only(true);
    let refused = error(client.ask(To::Any, &request).responses[0].error_code);
    assert_eq!(refused, limits::differs("settings of the broker", None, Some(ResponseError::InvalidRequest)));
}
