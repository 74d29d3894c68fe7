//! `kill -9`: what was acknowledged is there again.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::clients::{Numbers, config, create_topic, numbers, read_all};
use crate::program::{Program, free_address};

#[test]
fn nothing_that_was_acknowledged_is_lost_and_nothing_is_there_twice() {
    let dir = tempfile::tempdir().unwrap();
    let listen = free_address();
    let mut broker = Program::start(dir.path(), listen, &["--fsync", "always"]);
    create_topic(&broker.address, "load", 1);
    let mut producer = Numbers::new(&broker.address, "load");
    for kill in 1..=3 {
        producer.send_until_acknowledged(kill * 500);
        broker.kill();
        broker = Program::start(dir.path(), listen, &["--fsync", "always"]);
    }
    producer.finish();
    assert!(producer.sent > 1500);
    assert_eq!(read_all(&broker.address, "load"), numbers(producer.sent));
}

#[test]
fn topics_settings_and_committed_offsets_are_there_again() {
    let dir = tempfile::tempdir().unwrap();
    let listen = free_address();
    let broker = Program::start(dir.path(), listen, &["--fsync", "always"]);
    create_topic(&broker.address, "kept", 3);
    let mut client = config(&broker.address);
    let consumer: BaseConsumer = client.set("group.id", "group").create().unwrap();
    let mut offsets = TopicPartitionList::new();
    let mut element = offsets.add_partition("kept", 2);
    element.set_offset(Offset::Offset(42)).unwrap();
    element.set_metadata("so far");
    consumer.commit(&offsets, rdkafka::consumer::CommitMode::Sync).unwrap();
    let before = consumer.fetch_metadata(Some("kept"), Duration::from_secs(10)).unwrap();
    broker.kill();
    let _broker = Program::start(dir.path(), listen, &[]);
    let after = consumer.fetch_metadata(Some("kept"), Duration::from_secs(30)).unwrap();
    assert_eq!(after.topics()[0].partitions().len(), before.topics()[0].partitions().len());
    let mut asked = TopicPartitionList::new();
    asked.add_partition("kept", 2);
    let found = consumer.committed_offsets(asked, Duration::from_secs(30)).unwrap();
    let element = found.find_partition("kept", 2).unwrap();
    assert_eq!((element.offset(), element.metadata()), (Offset::Offset(42), "so far"));
}

#[test]
fn a_transaction_is_committed_as_a_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let listen = free_address();
    let time = Duration::from_secs(60);
    let mut broker = Program::start(dir.path(), listen, &["--fsync", "always"]);
    create_topic(&broker.address, "ledger", 1);
    let begin = |address: &str| -> BaseProducer {
        let producer: BaseProducer = config(address).set("transactional.id", "writer").create().unwrap();
        producer.init_transactions(time).unwrap();
        producer.begin_transaction().unwrap();
        producer
    };
    let send = |producer: &BaseProducer, value: &str| {
        producer.send(BaseRecord::<str, str>::to("ledger").partition(0).payload(value)).unwrap();
        producer.flush(time).unwrap();
    };
    let first = begin(&broker.address);
    send(&first, "committed");
    first.commit_transaction(time).unwrap();
    first.begin_transaction().unwrap();
    send(&first, "lost");
    broker.kill();
    drop(first);
    broker = Program::start(dir.path(), listen, &["--fsync", "always"]);
    // Whoever takes the id aborts what was open.
    let second = begin(&broker.address);
    send(&second, "committed too");
    second.commit_transaction(time).unwrap();
    assert_eq!(read_all(&broker.address, "ledger"), ["committed", "committed too"]);
}
