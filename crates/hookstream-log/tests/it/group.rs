//! Groups, as only Kafka has them.

use std::time::Duration;

use hookstream_log::kafka::GroupSpec;
use hookstream_log::{Log, LogEvent, Lost, OutRecord};
use hookstream_types::{Offset, Partition};

use crate::kafka::{Kafka, Member, topic_spec, unique};
use hookstream_log::contract::{Bench, Driver, until};

#[test]
fn a_partition_belongs_to_the_core_of_its_number() {
    let mut bench = Kafka::new();
    let topic = bench.topic(5);
    let (member, logs) = bench.join_as(GroupSpec::new("g", vec![topic], 2));
    let mut drivers: Vec<_> = logs.into_iter().map(Driver::new).collect();
    until(&mut bench, "all partitions", |_| {
        drivers.iter_mut().for_each(Driver::pump);
        drivers.iter().map(|driver| driver.held.len()).sum::<usize>() == 5
    });
    for (core, driver) in (0i32..).zip(&drivers) {
        assert!(driver.held.values().all(|held| held.partition.0 % 2 == core));
    }
    let member = bench.leave(member);
    until(&mut bench, "leaving", |bench| {
        drivers.iter_mut().for_each(Driver::pump);
        bench.has_left(&member)
    });
}

#[test]
fn a_drain_that_takes_too_long_is_ended() {
    let mut bench = Kafka::new();
    let topic = bench.topic(1);
    let mut spec = GroupSpec::new("g", vec![topic.clone()], 1);
    spec.drain_timeout = Duration::from_millis(500);
    let (member, mut logs) = bench.join_as(spec);
    let mut driver = Driver::new(logs.remove(0));
    driver.completing = false;
    driver.produce(&topic, 0, b"one");
    driver.produce(&topic, 0, b"two");
    until(&mut bench, "two records", |_| {
        driver.pump();
        driver.values().len() == 2
    });
    let input = driver.input_of(0).unwrap();
    let member = bench.leave(member);
    until(&mut bench, "the end of the drain", |bench| {
        driver.pump();
        driver
            .held
            .get(&input)
            .is_none_or(|held| held.revoking.is_some_and(|by| bench.now() + Duration::from_millis(20) > by))
    });
    // Too late for another regular commit.
    driver.log.commit(input, Offset(1), "one".to_owned());
    until(&mut bench, "leaving", |bench| {
        driver.pump();
        bench.has_left(&member)
    });
    driver.pump();
    assert_eq!(driver.lost, [(input, Lost::DrainTimedOut)]);

    let (member, log) = bench.join("g", &topic);
    let mut next = Driver::new(log);
    until(&mut bench, "the assignment", |_| {
        next.pump();
        next.held.len() == 1
    });
    let held = next.held.values().next().unwrap();
    assert_eq!((held.base, held.metadata.as_deref()), (Offset(1), Some("one")), "what was complete is kept");
    let member = bench.leave(member);
    until(&mut bench, "leaving", |bench| {
        next.pump();
        bench.has_left(&member)
    });
}

#[test]
fn patterns_find_topics_that_are_made_later_and_lag_is_told() {
    let mut bench = Kafka::new();
    let prefix = unique("pattern");
    bench.create(&topic_spec(&format!("{prefix}.one"), 1));
    let pattern = format!("^{}\\..*$", prefix.replace('.', "\\."));
    let (member, mut logs) = bench.join_as(GroupSpec::new("g", vec![pattern], 1));
    let mut driver = Driver::new(logs.remove(0));
    driver.taking = false;
    until(&mut bench, "the first topic", |_| {
        driver.pump();
        driver.held.len() == 1
    });
    let two = format!("{prefix}.two");
    bench.create(&topic_spec(&two, 1));
    until(&mut bench, "the second topic", |_| {
        driver.pump();
        driver.held.len() == 2
    });
    driver.produce(&two, 0, b"v");
    driver.produce(&two, 0, b"v");
    let Member::In(group) = &member else { panic!("it has not left") };
    until(&mut bench, "the lag", |_| {
        driver.pump();
        group.stats().lag.get(&(two.as_str().into(), Partition(0))).is_some_and(|lag| lag.records() == 2)
    });
    let stats = group.stats();
    assert!(stats.commits > 0 && stats.waiting == 0, "{stats:?}");
    let member = bench.leave(member);
    until(&mut bench, "leaving", |bench| {
        driver.pump();
        bench.has_left(&member)
    });
}

#[test]
fn retention_that_passed_the_group_is_no_end() {
    let mut bench = Kafka::new();
    let topic = bench.topic(1);
    let (member, log) = bench.join("g", &topic);
    let mut driver = Driver::new(log);
    for n in 0..10 {
        driver.produce(&topic, 0, format!("v{n}").as_bytes());
    }
    driver.completing = false;
    until(&mut bench, "ten records", |_| {
        driver.pump();
        driver.values().len() == 10
    });
    let input = driver.input_of(0).unwrap();
    driver.log.commit(input, Offset(2), String::new());
    driver.completing = true;
    let member = bench.leave(member);
    until(&mut bench, "leaving", |bench| {
        driver.pump();
        bench.has_left(&member)
    });
    bench.delete_records(&topic, 6);

    let (member, log) = bench.join("g", &topic);
    let mut next = Driver::new(log);
    until(&mut bench, "what is left", |_| {
        next.pump();
        next.values().len() == 4
    });
    assert_eq!(next.held.values().next().unwrap().base, Offset(6));
    assert_eq!(next.values(), ["v6", "v7", "v8", "v9"]);
    // A reader below it starts at what is left, and one that ends below it has nothing to read.
    let below =
        next.log.open(&topic, Partition(0), hookstream_log::ReadFrom::Offset(Offset(1)), Some(Offset(8)));
    let gone =
        next.log.open(&topic, Partition(0), hookstream_log::ReadFrom::Offset(Offset(1)), Some(Offset(5)));
    until(&mut bench, "both ends", |_| {
        next.pump();
        next.take(below);
        next.take(gone);
        next.ended.len() == 2
    });
    assert_eq!((next.seen[&below].len(), next.seen[&gone].len()), (2, 0));
    let member = bench.leave(member);
    until(&mut bench, "leaving", |bench| {
        next.pump();
        bench.has_left(&member)
    });
}

/// A name of a header, and metadata of a commit, may be any bytes: neither stops anything.
#[test]
fn headers_and_metadata_of_others_stop_nothing() {
    let mut bench = Kafka::new();
    let topic = bench.topic(1);
    bench.produce_header_that_is_not_utf8(&topic);
    bench.commit_as_somebody_else("g", &topic, 0, "{\"other\": true}");
    let (member, log) = bench.join("g", &topic);
    let mut driver = Driver::new(log);
    until(&mut bench, "the record", |_| {
        driver.pump();
        driver.values().len() == 1
    });
    let held = driver.held.values().next().unwrap();
    assert_eq!(held.metadata.as_deref(), Some("{\"other\": true}"));
    let seen = driver.seen.values().flatten().next().unwrap();
    assert_eq!(seen.headers, [("fine".to_owned(), b"1".to_vec())]);
    let member = bench.leave(member);
    until(&mut bench, "leaving", |bench| {
        driver.pump();
        bench.has_left(&member)
    });
}

#[test]
fn waiting_ends_when_something_happens() {
    let mut bench = Kafka::new();
    let topic = bench.topic(1);
    let (_member, log) = bench.join("g", &topic);
    let mut log = log;
    let record =
        OutRecord { topic: &topic, partition: Partition(0), key: None, value: Some(b"v"), headers: &[] };
    bench.block_on(async {
        log.produce(1, record).unwrap();
        let (mut answered, mut taken, mut input) = (false, 0, None);
        tokio::time::timeout(Duration::from_secs(60), async {
            while !answered || taken == 0 {
                while let Some(event) = log.next_event() {
                    match event {
                        LogEvent::Produced { token: 1, result } => answered = result.is_ok(),
                        LogEvent::Assigned { input: assigned, .. } => input = Some(assigned),
                        _ => {}
                    }
                }
                taken += input.map_or(0, |input| log.take(input, 10, &mut |_| {}));
                log.flush();
                log.changed(None).await;
            }
        })
        .await
        .expect("the wake-ups come");
    });
}

#[test]
fn topics_come_and_go() {
    let mut bench = Kafka::new();
    let (one, two) = (bench.topic(1), bench.topic(1));
    let (member, log) = bench.join("g", &one);
    let mut driver = Driver::new(log);
    until(&mut bench, "the first topic", |_| {
        driver.pump();
        driver.held.len() == 1
    });
    let first = driver.input_of(0).unwrap();
    let Member::In(group) = &member else { panic!("it has not left") };
    group.resubscribe(vec![one.clone(), two.clone()]);
    until(&mut bench, "the second topic", |_| {
        driver.pump();
        driver.held.len() == 2
    });
    bench.block_on(bench.admin().delete(&[&one])).unwrap();
    until(&mut bench, "the end of the first topic", |_| {
        driver.pump();
        driver.held.values().all(|held| held.topic == two)
    });
    driver.produce(&two, 0, b"v");
    until(&mut bench, "a record of the second", |_| {
        driver.pump();
        driver.values().len() == 1
    });
    assert_eq!(driver.lost, [(first, Lost::Deleted)]);
    until(&mut bench, "a lease for the other partition", |bench| {
        driver.pump();
        driver.log.lease() > bench.now()
    });
    let member = bench.leave(member);
    until(&mut bench, "leaving", |bench| {
        driver.pump();
        bench.has_left(&member)
    });
}
