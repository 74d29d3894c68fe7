//! Faults on purpose: clients that do as they should deliver all the same.

use std::time::Duration;

use hookstream_devbroker::faults::{ApiKey, Fault, ResponseError, Rule};
use hookstream_devbroker::{DevBroker, Settings};

use crate::clients::{Numbers, Reader, create_topic, numbers, read_all, until};

/// All that a network and a broker in trouble do to a producer.
fn trouble() -> Vec<Rule> {
    let rule = |apis: &[ApiKey], percent: u32, fault: Fault| Rule { apis: apis.to_vec(), percent, fault };
    vec![
        rule(&[ApiKey::Produce], 5, Fault::DropAnswer),
        rule(&[ApiKey::Produce], 5, Fault::DropRequest),
        rule(&[ApiKey::Produce], 5, Fault::Error(ResponseError::NotLeaderOrFollower)),
        rule(&[ApiKey::Produce], 3, Fault::Error(ResponseError::RequestTimedOut)),
        rule(&[ApiKey::Produce], 5, Fault::Stall(Duration::from_millis(30))),
        rule(&[ApiKey::Metadata], 10, Fault::DropRequest),
        rule(&[ApiKey::InitProducerId], 30, Fault::Error(ResponseError::CoordinatorLoadInProgress)),
    ]
}

fn start(dir: &tempfile::TempDir) -> DevBroker {
    DevBroker::start(Settings::new(dir.path(), ([127, 0, 0, 1], 0).into())).unwrap()
}

/// The seed decides what goes wrong; what is expected is the same for each.
fn an_idempotent_producer_delivers(seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(&dir);
    let address = broker.address().to_string();
    create_topic(&address, "load", 1);
    broker.faults().set(seed, trouble());
    let mut producer = Numbers::new(&address, "load");
    producer.send(3000);
    producer.finish();
    assert!(broker.faults().injected() > 10, "seed {seed}: {} faults", broker.faults().injected());
    broker.faults().clear();
    assert_eq!(read_all(&address, "load"), numbers(3000), "seed {seed}");
    broker.stop();
}

#[test]
fn an_idempotent_producer_delivers_once_and_in_order_with_seed_1() {
    an_idempotent_producer_delivers(1);
}

#[test]
fn an_idempotent_producer_delivers_once_and_in_order_with_seed_2() {
    an_idempotent_producer_delivers(2);
}

#[test]
fn an_idempotent_producer_delivers_once_and_in_order_with_seed_3() {
    an_idempotent_producer_delivers(3);
}

#[test]
fn a_member_of_a_group_reads_all_whatever_goes_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(&dir);
    let address = broker.address().to_string();
    create_topic(&address, "load", 1);
    let mut producer = Numbers::new(&address, "load");
    producer.send(1000);
    producer.finish();
    let rule = |api: ApiKey, percent: u32, fault: Fault| Rule { apis: vec![api], percent, fault };
    let rules = vec![
        rule(ApiKey::Fetch, 10, Fault::DropAnswer),
        rule(ApiKey::Fetch, 10, Fault::Error(ResponseError::NotLeaderOrFollower)),
        rule(ApiKey::Fetch, 10, Fault::Stall(Duration::from_millis(50))),
        rule(ApiKey::JoinGroup, 30, Fault::Error(ResponseError::CoordinatorLoadInProgress)),
        rule(ApiKey::SyncGroup, 30, Fault::Error(ResponseError::RebalanceInProgress)),
        rule(ApiKey::Heartbeat, 10, Fault::DropAnswer),
        rule(ApiKey::OffsetCommit, 20, Fault::DropAnswer),
        rule(ApiKey::OffsetFetch, 20, Fault::DropRequest),
    ];
    broker.faults().set(7, rules);
    let mut reader = Reader::new(&address, "readers", "load");
    until("all records", || {
        reader.step();
        (reader.distinct().len() == 1000).then_some(())
    });
    assert_eq!(reader.distinct(), numbers(1000));
    assert!(broker.faults().injected() > 0);
    drop(reader);
    broker.stop();
}

#[test]
fn an_error_on_purpose_is_what_the_client_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(&dir);
    let address = broker.address().to_string();
    create_topic(&address, "load", 1);
    let error = Fault::Error(ResponseError::TopicAuthorizationFailed);
    broker.faults().set(1, vec![Rule { apis: vec![ApiKey::Produce], percent: 100, fault: error }]);
    let mut producer = Numbers::new(&address, "load");
    producer.send(1);
    let failures =
        until("the failure", || Some(producer.acks.failures()).filter(|failed| !failed.is_empty()));
    assert!(failures[0].contains("Topic authorization failed"), "{failures:?}");
    broker.faults().clear();
    assert_eq!(read_all(&address, "load"), [""; 0]);
    drop(producer);
    broker.stop();
}
