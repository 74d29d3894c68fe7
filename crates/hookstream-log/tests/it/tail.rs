//! Following a topic.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hookstream_log::fenced::{FencedWriter, Outcome};
use hookstream_log::tail::Tail;
use hookstream_log::{Log, OutRecord};
use hookstream_types::{Offset, Partition};

use crate::kafka::{Kafka, unique};
use hookstream_log::contract::{Bench, Driver, until};

#[test]
fn a_tail_sees_what_is_committed_and_knows_where_it_is() {
    let mut bench = Kafka::new();
    let topic = bench.topic(1);
    let id = unique("writer");
    let record = |value: &'static [u8]| OutRecord {
        topic: &topic,
        partition: Partition(0),
        key: Some(b"k"),
        value: Some(value),
        headers: &[],
    };
    let mut writer = FencedWriter::claim(bench.settings(), &id, Duration::from_secs(30)).unwrap();
    assert!(matches!(writer.write(&[record(b"a"), record(b"b")]), Outcome::Committed { .. }));
    // Aborted: the huge one is refused before anything of the group can be committed.
    let huge = vec![b'x'; 10 * 1024 * 1024];
    let refused = OutRecord { value: Some(&huge), ..record(b"") };
    assert!(matches!(writer.write(&[record(b"never"), refused]), Outcome::NotWritten { .. }));
    drop(writer);

    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    let tail = Tail::start(bench.settings(), &topic, Partition(0), move |record| {
        sink.lock().unwrap().push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
    })
    .unwrap();
    bench.block_on(async { tokio::time::timeout(Duration::from_secs(30), tail.caught_up()).await }).unwrap();
    assert_eq!(*seen.lock().unwrap(), ["a", "b"]);
    let progress = tail.progress();
    assert_eq!(
        progress.end_at_start,
        Some(progress.position),
        "the commit and the abort count too: {progress:?}"
    );

    let mut writer = FencedWriter::claim(bench.settings(), &id, Duration::from_secs(30)).unwrap();
    let Outcome::Committed { offsets } = writer.write(&[record(b"c")]) else { panic!("nobody else writes") };
    let reached = tail.reached(offsets[0].next());
    bench.block_on(async { tokio::time::timeout(Duration::from_secs(30), reached).await }).unwrap();
    assert_eq!(*seen.lock().unwrap(), ["a", "b", "c"]);
}

#[test]
fn a_tail_of_an_empty_topic_is_caught_up() {
    let mut bench = Kafka::new();
    let topic = bench.topic(1);
    let tail = Tail::start(bench.settings(), &topic, Partition(0), |_| {}).unwrap();
    bench.block_on(async { tokio::time::timeout(Duration::from_secs(30), tail.caught_up()).await }).unwrap();
    assert_eq!(tail.progress().position, Offset(0));
    let (_member, log) = bench.join("g", &topic);
    let mut driver = Driver::new(log);
    driver.produce(&topic, 0, b"v");
    until(&mut bench, "the acknowledgement", |_| {
        driver.pump();
        driver.produced.len() == 1
    });
    bench
        .block_on(async { tokio::time::timeout(Duration::from_secs(30), tail.reached(Offset(1))).await })
        .unwrap();
    assert!(driver.log.in_flight() == 0 && driver.log.next_event().is_none_or(|_| true));
}
