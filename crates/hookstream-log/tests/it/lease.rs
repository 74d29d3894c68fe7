//! The lease and the group when brokers misbehave: on a cluster inside librdkafka, which can be made to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hookstream_log::kafka::{self, Clock, Group, GroupSpec, KafkaLog};
use hookstream_log::{KafkaSettings, Log, Lost};
use hookstream_types::Offset;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use crate::kafka::clock;
use hookstream_log::contract::Driver;

struct Mock {
    cluster: MockCluster<'static, DefaultProducerContext>,
    clock: Clock,
}

impl Mock {
    fn new() -> Self {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("t", 1, 1).unwrap();
        Self { cluster, clock: clock() }
    }

    fn join(&self) -> (Group, Driver<KafkaLog>) {
        join(&self.cluster.bootstrap_servers(), &self.clock)
    }
}

fn join(bootstrap_servers: &str, clock: &Clock) -> (Group, Driver<KafkaLog>) {
    let settings = KafkaSettings {
        bootstrap_servers: bootstrap_servers.to_owned(),
        client_id: "test".to_owned(),
        properties: Vec::new(),
    };
    let spec = GroupSpec::new("g", vec!["t".to_owned()], 1);
    let (group, mut logs) = kafka::join(&settings, spec, Arc::clone(clock)).unwrap();
    (group, Driver::new(logs.remove(0)))
}

#[track_caller]
fn wait(driver: &mut Driver<KafkaLog>, what: &str, mut done: impl FnMut(&Driver<KafkaLog>) -> bool) {
    let by = Instant::now() + Duration::from_secs(30);
    while !done(driver) {
        assert!(Instant::now() < by, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
        driver.pump();
    }
}

#[test]
fn the_lease_ends_when_nobody_answers() {
    let mock = Mock::new();
    let (_group, mut driver) = mock.join();
    let now = || (mock.clock)();
    wait(&mut driver, "a lease", |driver| driver.log.lease() > now());
    let silent = now();
    mock.cluster.broker_down(1).unwrap();
    wait(&mut driver, "the end of the lease", |driver| driver.log.lease() <= now());
    let lasted = now().since(silent);
    assert!(lasted <= Duration::from_millis(4_600), "the lease went on for {lasted:?}");
    assert!(!driver.held.is_empty(), "what nobody took back is still held, without work");
    mock.cluster.broker_up(1).unwrap();
    wait(&mut driver, "a lease again", |driver| driver.log.lease() > now());
}

#[test]
fn a_member_that_the_group_does_not_know_any_more_has_lost_everything_at_once() {
    let mock = Mock::new();
    let (group, mut driver) = mock.join();
    let now = || (mock.clock)();
    wait(&mut driver, "a lease", |driver| driver.log.lease() > now());
    let first = driver.input_of(0).unwrap();
    let token = driver.produce("t", 0, b"v");
    wait(&mut driver, "the record", |driver| {
        driver.produced.contains_key(&token) && driver.values().len() == 1
    });
    wait(&mut driver, "its commit", |_| group.stats().commits >= 2);
    mock.cluster
        .request_errors(RDKafkaApiKey::OffsetCommit, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID]);
    wait(&mut driver, "the loss", |driver| !driver.lost.is_empty());
    assert_eq!(driver.lost, [(first, Lost::SessionEnded)]);
    wait(&mut driver, "another assignment", |driver| driver.held.len() == 1);
    let (input, held) = driver.held.iter().next().unwrap();
    assert_ne!(*input, first);
    assert_eq!(held.base, Offset(1));
    wait(&mut driver, "another lease", |driver| driver.log.lease() > now());
    assert_eq!(driver.values().len(), 1, "what was committed does not come again");
}

#[test]
fn a_rebalance_in_progress_proves_membership() {
    let mock = Mock::new();
    let (_group, mut driver) = mock.join();
    let now = || (mock.clock)();
    wait(&mut driver, "a lease", |driver| driver.log.lease() > now());
    let errors = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS; 40];
    mock.cluster.request_errors(RDKafkaApiKey::OffsetCommit, &errors);
    let by = now() + Duration::from_secs(6);
    wait(&mut driver, "six seconds", |driver| {
        assert!(driver.log.lease() > now());
        now() >= by
    });
    assert!(driver.lost.is_empty());
}

#[test]
fn metadata_that_is_too_large_does_not_stop_commits() {
    let mock = Mock::new();
    let (group, mut driver) = mock.join();
    let now = || (mock.clock)();
    wait(&mut driver, "a lease", |driver| driver.log.lease() > now());
    let before = group.stats();
    let error = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE];
    mock.cluster.request_errors(RDKafkaApiKey::OffsetCommit, &error);
    driver.produce("t", 0, b"v");
    wait(&mut driver, "a commit after the refused one", |_| {
        let stats = group.stats();
        stats.commit_failures > before.commit_failures && stats.commits > before.commits
    });
}

#[test]
fn a_group_can_be_left_while_no_broker_answers() {
    let (group, mut driver) = join("127.0.0.1:1", &clock());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    driver.produce("t", 0, b"v");
    let left = runtime.spawn(group.shutdown());
    wait(&mut driver, "leaving", |_| left.is_finished());
    wait(&mut driver, "the record is given up", |driver| driver.produced.len() == 1);
}
