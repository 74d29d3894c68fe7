//! A broker that crashes and comes back under its clients, on the same directory and address.

use hookstream_devbroker::{DevBroker, Settings};

use crate::clients::{Numbers, Reader, create_topic, numbers, until};
use crate::program::free_address;

#[test]
fn a_producer_and_a_group_go_on_over_crashes() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings::new(dir.path(), free_address());
    let mut broker = DevBroker::start(settings.clone()).unwrap();
    let address = broker.address().to_string();
    create_topic(&address, "load", 1);
    let mut producer = Numbers::new(&address, "load");
    let mut reader = Reader::new(&address, "readers", "load");
    for crash in 1..=3 {
        producer.send_until_acknowledged(crash * 300);
        until("some of the records", || {
            reader.step();
            (reader.distinct().len() >= crash * 200).then_some(())
        });
        broker.crash();
        broker = DevBroker::start(settings.clone()).unwrap();
    }
    producer.finish();
    let sent = producer.sent;
    until("the rest of the records", || {
        reader.step();
        (reader.distinct().len() == sent).then_some(())
    });
    assert_eq!(reader.distinct(), numbers(sent));
    drop((reader, producer));
    broker.stop();
}

#[test]
fn a_broker_that_is_stopped_while_clients_wait_ends_soon() {
    let dir = tempfile::tempdir().unwrap();
    let broker = DevBroker::start(Settings::new(dir.path(), ([127, 0, 0, 1], 0).into())).unwrap();
    let address = broker.address().to_string();
    create_topic(&address, "load", 1);
    let mut reader = Reader::new(&address, "readers", "load");
    until("the assignment", || {
        reader.step();
        (reader.assignments() == 1).then_some(())
    });
    // It waits for records that do not come, and is no reason to wait for it.
    let asked = std::time::Instant::now();
    broker.stop();
    assert!(asked.elapsed() < std::time::Duration::from_secs(3));
    drop(reader);
}
