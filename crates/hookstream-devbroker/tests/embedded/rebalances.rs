//! Rebalances on purpose.

use hookstream_devbroker::{DevBroker, Settings};

use crate::clients::{Numbers, Reader, create_topic, numbers, until};

#[test]
fn a_forced_rebalance_makes_members_join_again_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let broker = DevBroker::start(Settings::new(dir.path(), ([127, 0, 0, 1], 0).into())).unwrap();
    let address = broker.address().to_string();
    create_topic(&address, "load", 1);
    let mut producer = Numbers::new(&address, "load");
    let mut reader = Reader::new(&address, "readers", "load");
    for round in 1..=3 {
        producer.send(100);
        producer.finish();
        until("the records of the round", || {
            reader.step();
            (reader.distinct().len() == round * 100).then_some(())
        });
        let before = reader.assignments();
        broker.force_rebalance("readers");
        until("another assignment", || {
            reader.step();
            (reader.assignments() > before).then_some(())
        });
    }
    assert_eq!(reader.distinct(), numbers(300));
    // A group that does not exist has nobody to join again.
    broker.force_rebalance("nobody");
    drop((reader, producer));
    broker.stop();
}
