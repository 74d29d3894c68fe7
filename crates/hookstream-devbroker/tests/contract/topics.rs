//! Topics: made, given more partitions, deleted.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::{BrokerId, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest};
use uuid::Uuid;

use crate::broker::{unique, until};
use crate::client::{Client, To, error, new_topic, topic_name};
use crate::records::Batch;

fn create(client: &mut Client, topic: CreatableTopic, validate_only: bool) -> CreatableTopicResult {
    let name = topic.name.to_string();
    let request = CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(30_000)
        .with_validate_only(validate_only);
    let result = client.ask(To::Any, &request).topics.remove(0);
    if result.error_code == 0 && !validate_only {
        client.deletes(&name);
    }
    result
}

fn is_known(client: &mut Client, topic: &str) -> bool {
    error(client.topic_metadata(topic).error_code).is_none()
}

impl Client {
    /// Deletes a topic that is there.
    pub fn delete_topic(&mut self, name: &str) {
        let state = DeleteTopicState::default().with_name(Some(topic_name(name)));
        assert_eq!(self.delete_topic_as(state), None);
    }

    fn delete_topic_as(&mut self, state: DeleteTopicState) -> Option<ResponseError> {
        let request = DeleteTopicsRequest::default().with_topics(vec![state]).with_timeout_ms(30_000);
        error(self.ask(To::Any, &request).responses[0].error_code)
    }

    fn grow(&mut self, topic: &str, count: i32, validate_only: bool) -> Option<ResponseError> {
        let topic = CreatePartitionsTopic::default()
            .with_name(topic_name(topic))
            .with_count(count)
            .with_assignments(None);
        let request = CreatePartitionsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(30_000)
            .with_validate_only(validate_only);
        error(self.ask(To::Any, &request).results[0].error_code)
    }
}

#[test]
fn a_topic_is_made_and_its_settings_are_told() {
    let mut client = Client::new();
    let name = unique("topic");
    let made = create(&mut client, new_topic(&name, 3, &[("retention.ms", "60000")]), false);
    assert_eq!((error(made.error_code), made.num_partitions, made.replication_factor), (None, 3, 1));
    assert!(!made.topic_id.is_nil());
    let configs = made.configs.unwrap();
    let value = |name: &str| {
        let found = configs.iter().find(|config| config.name.as_str() == name).unwrap();
        (found.value.as_ref().unwrap().to_string(), found.config_source)
    };
    assert_eq!(value("retention.ms"), ("60000".to_owned(), 1), "source 1: of the topic");
    assert_eq!(value("cleanup.policy"), ("delete".to_owned(), 5), "source 5: the default");
    client.await_topic(&name, 3);
    assert_eq!(client.topic_metadata(&name).topic_id, made.topic_id);
}

#[test]
fn a_topic_that_is_only_validated_is_not_made() {
    let mut client = Client::new();
    let name = unique("topic");
    let checked = create(&mut client, new_topic(&name, 3, &[]), true);
    assert_eq!((error(checked.error_code), checked.num_partitions, checked.replication_factor), (None, 3, 1));
    assert!(!is_known(&mut client, &name));
}

#[test]
fn a_topic_that_exists_is_not_made_again() {
    let mut client = Client::new();
    let name = client.topic_with(2, &[]);
    for validate_only in [false, true] {
        let again = create(&mut client, new_topic(&name, 5, &[]), validate_only);
        assert_eq!(error(again.error_code), Some(ResponseError::TopicAlreadyExists));
        assert!(again.error_message.is_some());
    }
    assert_eq!(client.topic_metadata(&name).partitions.len(), 2);
}

#[test]
fn names_that_are_none_are_refused() {
    let mut client = Client::new();
    for name in ["", ".", "..", "with space", "slash/", "ä", &"x".repeat(250)] {
        let refused = create(&mut client, new_topic(name, 1, &[]), false);
        assert_eq!(error(refused.error_code), Some(ResponseError::InvalidTopicException), "`{name}`");
    }
    let long = format!("{}.{}", unique("x"), "x".repeat(249))[..249].to_owned();
    assert_eq!(error(create(&mut client, new_topic(&long, 1, &[]), false).error_code), None);
}

/// In Kafka's metrics a period becomes an underscore, so two such topics could not be told apart.
#[test]
fn names_that_differ_by_a_period_only_are_refused() {
    let mut client = Client::new();
    let name = client.topic();
    let refused = create(&mut client, new_topic(&name.replace('.', "_"), 1, &[]), true);
    assert_eq!(error(refused.error_code), Some(ResponseError::InvalidTopicException));
}

#[test]
fn settings_that_are_none_are_refused() {
    let mut client = Client::new();
    for (name, value) in [
        ("no.such.setting", "1"),
        ("retention.ms", "soon"),
        ("cleanup.policy", "burn"),
        ("segment.bytes", "-1"),
    ] {
        let topic = unique("topic");
        let refused = create(&mut client, new_topic(&topic, 1, &[(name, value)]), false);
        assert_eq!(error(refused.error_code), Some(ResponseError::InvalidConfig), "{name}={value}");
        assert!(!is_known(&mut client, &topic));
    }
}

#[test]
fn as_many_replicas_as_there_are_brokers_are_possible() {
    let mut client = Client::new();
    let brokers = client.metadata(&[]).brokers.len();
    for (replicas, refused) in [
        (i16::try_from(brokers).unwrap(), None),
        (i16::try_from(brokers).unwrap() + 1, Some(ResponseError::InvalidReplicationFactor)),
        (0, Some(ResponseError::InvalidReplicationFactor)),
        (-1, None),
    ] {
        let topic = new_topic(&unique("topic"), 1, &[]).with_replication_factor(replicas);
        let made = create(&mut client, topic, true);
        assert_eq!(error(made.error_code), refused, "{replicas} replicas");
    }
}

#[test]
fn a_number_of_partitions_that_makes_no_sense_is_refused() {
    let mut client = Client::new();
    for (partitions, refused) in [
        (0, Some(ResponseError::InvalidPartitions)),
        (-2, Some(ResponseError::InvalidPartitions)),
        (-1, None),
    ] {
        let made = create(&mut client, new_topic(&unique("topic"), partitions, &[]), true);
        assert_eq!(error(made.error_code), refused, "{partitions} partitions");
    }
}

#[test]
fn replicas_may_be_placed_by_hand() {
    let mut client = Client::new();
    let broker = client.metadata(&[]).brokers[0].node_id;
    let placed = |partition: i32, broker: BrokerId| {
        CreatableReplicaAssignment::default().with_partition_index(partition).with_broker_ids(vec![broker])
    };
    let by_hand = |assignments: Vec<CreatableReplicaAssignment>| {
        new_topic(&unique("topic"), -1, &[]).with_replication_factor(-1).with_assignments(assignments)
    };
    let made = create(&mut client, by_hand(vec![placed(0, broker), placed(1, broker)]), true);
    assert_eq!((error(made.error_code), made.num_partitions), (None, 2));
    for assignments in [
        vec![placed(0, BrokerId(999))],
        vec![placed(0, broker), placed(2, broker)],
        vec![CreatableReplicaAssignment::default().with_partition_index(0)],
    ] {
        let refused = create(&mut client, by_hand(assignments), true);
        assert_eq!(error(refused.error_code), Some(ResponseError::InvalidReplicaAssignment));
    }
    // Numbers and places are not both given.
    let both = by_hand(vec![placed(0, broker)]).with_num_partitions(1);
    assert_eq!(error(create(&mut client, both, true).error_code), Some(ResponseError::InvalidRequest));
}

#[test]
fn a_topic_twice_in_a_request_is_refused_both_times() {
    let mut client = Client::new();
    let name = unique("topic");
    let request = CreateTopicsRequest::default()
        .with_topics(vec![new_topic(&name, 1, &[]), new_topic(&name, 2, &[])])
        .with_timeout_ms(30_000);
    let answer = client.ask(To::Any, &request);
    assert!(!answer.topics.is_empty());
    for result in answer.topics {
        assert_eq!(error(result.error_code), Some(ResponseError::InvalidRequest));
    }
    assert!(!is_known(&mut client, &name));
}

#[test]
fn a_topic_gets_more_partitions() {
    let mut client = Client::new();
    let topic = client.topic();
    client.produce(&topic, &Batch::of(&["kept"]));
    assert_eq!(client.grow(&topic, 3, true), None);
    assert_eq!(client.topic_metadata(&topic).partitions.len(), 1, "it was only validated");
    assert_eq!(client.grow(&topic, 3, false), None);
    client.await_topic(&topic, 3);
    assert_eq!(client.read(&topic), ["kept"]);
    let records = Batch::of(&["v"]).encode().freeze();
    let answer = client.ask_produce(&topic, &crate::producer::produce_request(&topic, 2, -1, records));
    assert_eq!(error(answer.error_code), None);
    for count in [3, 2, 0, -1] {
        assert_eq!(client.grow(&topic, count, false), Some(ResponseError::InvalidPartitions), "{count}");
    }
    let unknown = client.grow("contract.unknown", 3, false);
    assert_eq!(unknown, Some(ResponseError::UnknownTopicOrPartition));
}

#[test]
fn a_topic_is_deleted_by_name() {
    let mut client = Client::new();
    let topic = client.topic();
    client.produce(&topic, &Batch::of(&["gone"]));
    client.delete_topic(&topic);
    until("the end of the topic", || (!is_known(&mut client, &topic)).then_some(()));
    let again = DeleteTopicState::default().with_name(Some(topic_name(&topic)));
    assert_eq!(client.delete_topic_as(again), Some(ResponseError::UnknownTopicOrPartition));
    // One of the same name that is made later has nothing of it.
    let made = until("the topic anew", || {
        let made = create(&mut client, new_topic(&topic, 1, &[]), false);
        error(made.error_code).is_none().then_some(made)
    });
    client.await_topic(&topic, 1);
    assert_eq!(client.topic_metadata(&topic).topic_id, made.topic_id);
    until("an empty topic", || client.read(&topic).is_empty().then_some(()));
}

#[test]
fn a_topic_is_deleted_by_id() {
    let mut client = Client::new();
    let topic = client.topic();
    let id = client.topic_metadata(&topic).topic_id;
    let by_id = |id: Uuid| DeleteTopicState::default().with_name(None).with_topic_id(id);
    let request = DeleteTopicsRequest::default().with_topics(vec![by_id(id)]).with_timeout_ms(30_000);
    let answer = client.ask(To::Any, &request).responses.remove(0);
    assert_eq!(error(answer.error_code), None);
    assert_eq!((answer.name.unwrap().to_string(), answer.topic_id), (topic.clone(), id));
    until("the end of the topic", || (!is_known(&mut client, &topic)).then_some(()));
    assert_eq!(client.delete_topic_as(by_id(id)), Some(ResponseError::UnknownTopicId));
}
