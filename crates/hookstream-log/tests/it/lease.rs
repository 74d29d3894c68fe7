//! The lease when nobody answers: on a cluster inside librdkafka, which can be made silent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hookstream_log::kafka::{self, GroupSpec};
use hookstream_log::{KafkaSettings, Log};
use rdkafka::mocking::MockCluster;

use crate::driver::Driver;
use crate::kafka::clock;

#[test]
fn the_lease_ends_when_nobody_answers() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 1, 1).unwrap();
    let settings = KafkaSettings {
        bootstrap_servers: cluster.bootstrap_servers(),
        client_id: "test".to_owned(),
        properties: Vec::new(),
    };
    let clock = clock();
    let spec = GroupSpec::new("g", vec!["t".to_owned()], 1);
    let (group, mut logs) = kafka::join(&settings, spec, Arc::clone(&clock)).unwrap();
    let mut driver = Driver::new(logs.remove(0));
    let wait =
        |driver: &mut Driver<_>, what: &str, done: &mut dyn FnMut(&Driver<kafka::KafkaLog>) -> bool| {
            let by = Instant::now() + Duration::from_secs(30);
            while !done(driver) {
                assert!(Instant::now() < by, "waited in vain: {what}");
                std::thread::sleep(Duration::from_millis(5));
                driver.pump();
            }
        };
    wait(&mut driver, "a lease", &mut |driver| driver.log.lease() > clock());
    let silent = clock();
    cluster.broker_down(1).unwrap();
    wait(&mut driver, "the end of the lease", &mut |driver| driver.log.lease() <= clock());
    let lasted = clock().since(silent);
    assert!(lasted <= Duration::from_millis(4_600), "the lease went on for {lasted:?}");
    assert!(!driver.held.is_empty(), "what nobody took back is still held, without work");
    cluster.broker_up(1).unwrap();
    wait(&mut driver, "a lease again", &mut |driver| driver.log.lease() > clock());
    drop(driver);
    drop(group);
}
