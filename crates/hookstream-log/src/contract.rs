//! What every log promises: functions that run on any [`Bench`], and [`contract_suite`](crate::contract_suite), which
//! makes a test of each.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]
#![expect(clippy::missing_panics_doc, reason = "to panic is how a test fails")]

mod driver;

use hookstream_types::{Offset, Partition, limits};

pub use self::driver::{Bench, Driver, Held, Seen, until};
use crate::log::{Ended, Log, LogEvent, OutRecord, ProduceError, ReadFrom};

/// One test per promise, on the bench that the expression makes.
#[macro_export]
macro_rules! contract_suite {
    ($bench:expr) => {
        $crate::contract_suite! { $bench;
            a_member_goes_on_where_the_group_had_got_to,
            records_come_as_they_were_produced,
            records_may_share_a_token,
            what_is_not_committed_comes_again,
            a_handover_loses_nothing_and_repeats_nothing,
            what_was_committed_just_before_a_release_is_kept,
            a_partition_that_is_not_taken_stays_where_it_is,
            the_lease_goes_on_while_nothing_happens,
            a_record_that_is_too_large_is_told_and_stops_nothing,
            a_topic_that_does_not_exist_refuses,
            a_reader_ends_where_it_was_told_to,
            a_reader_that_has_nothing_to_read_ends_at_once,
            a_reader_starts_at_a_time,
            a_reader_without_an_end_follows,
            the_same_partition_can_be_read_twice_at_once,
            what_is_said_to_an_old_input_is_ignored,
        }
    };
    ($bench:expr; $($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                $crate::contract::$name(&mut $bench);
            }
        )*
    };
}

fn produce_all<B: Bench>(
    bench: &mut B,
    driver: &mut Driver<B::Log>,
    topic: &str,
    partition: i32,
    values: &[String],
) {
    let tokens: Vec<u64> =
        values.iter().map(|value| driver.produce(topic, partition, value.as_bytes())).collect();
    until(bench, "acknowledgements", |_| {
        driver.pump();
        tokens.iter().all(|token| driver.produced.contains_key(token))
    });
    for token in tokens {
        assert!(driver.produced[&token].is_ok(), "{:?}", driver.produced[&token]);
    }
}

fn numbered(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("v{n}")).collect()
}

fn leave<B: Bench>(bench: &mut B, member: B::Member, driver: &mut Driver<B::Log>) {
    let member = bench.leave(member);
    until(bench, "leaving", |bench| {
        driver.pump();
        bench.has_left(&member)
    });
    driver.pump();
}

pub fn a_member_goes_on_where_the_group_had_got_to<B: Bench>(bench: &mut B) {
    let topic = bench.topic(1);
    let (member, log) = bench.join("g", &topic);
    let mut first = Driver::new(log);
    until(bench, "the assignment", |_| {
        first.pump();
        first.held.len() == 1
    });
    let held = first.held.values().next().unwrap();
    assert_eq!((held.base, held.metadata.as_deref()), (Offset(0), None));
    produce_all(bench, &mut first, &topic, 0, &numbered(0..10));
    until(bench, "ten records", |_| {
        first.pump();
        first.values().len() == 10
    });
    assert_eq!(first.values(), numbered(0..10));
    leave(bench, member, &mut first);
    assert!(first.lost.is_empty(), "a graceful end loses nothing: {:?}", first.lost);

    let (member, log) = bench.join("g", &topic);
    let mut second = Driver::new(log);
    until(bench, "the assignment", |_| {
        second.pump();
        second.held.len() == 1
    });
    let held = second.held.values().next().unwrap();
    assert_eq!((held.base, held.metadata.as_deref()), (Offset(10), Some("after 10")));
    produce_all(bench, &mut second, &topic, 0, &numbered(10..11));
    until(bench, "one record", |_| {
        second.pump();
        !second.values().is_empty()
    });
    assert_eq!(second.values(), numbered(10..11));
    leave(bench, member, &mut second);
}

/// The outputs of one input have the input's token.
pub fn records_may_share_a_token<B: Bench>(bench: &mut B) {
    const TOKEN: u64 = 7;
    let topic = bench.topic(3);
    let (member, log) = bench.join("g", &topic);
    let mut driver = Driver::new(log);
    let mut answers = 0;
    for round in 1..=3 {
        for partition in [0, 1, 1, 2] {
            let partition = Partition(partition);
            let record = OutRecord { topic: &topic, partition, key: None, value: Some(b"v"), headers: &[] };
            driver.log.produce(TOKEN, record).unwrap();
        }
        // The second half comes while the first is under way.
        driver.log.flush();
        let record =
            OutRecord { topic: &topic, partition: Partition(1), key: None, value: Some(b"w"), headers: &[] };
        driver.log.produce(TOKEN, record).unwrap();
        until(bench, "five answers", |_| {
            while let Some(event) = driver.log.next_event() {
                match event {
                    LogEvent::Produced { token, result } => {
                        assert_eq!((token, result.is_ok()), (TOKEN, true));
                        answers += 1;
                    }
                    event => driver.on_event(event),
                }
            }
            driver.log.flush();
            answers == round * 5
        });
    }
    leave(bench, member, &mut driver);
}

pub fn records_come_as_they_were_produced<B: Bench>(bench: &mut B) {
    let topic = bench.topic(1);
    let (member, log) = bench.join("g", &topic);
    let mut driver = Driver::new(log);
    let headers: &[(&str, &[u8])] = &[("a", b"1"), ("empty", b""), ("a", b"\xff\x00")];
    let records = [
        (Some(b"key".as_slice()), Some(b"value".as_slice()), headers),
        (None, Some(b"".as_slice()), &[] as &[(&str, &[u8])]),
        (Some(b"".as_slice()), None, &[]),
    ];
    for (token, (key, value, headers)) in (100u64..).zip(records) {
        let record = OutRecord { topic: &topic, partition: Partition(0), key, value, headers };
        driver.log.produce(token, record).unwrap();
    }
    driver.completing = false;
    until(bench, "three records", |_| {
        driver.pump();
        driver.seen.values().flatten().count() == 3
    });
    let seen: Vec<Seen> = driver.seen.values().flatten().cloned().collect();
    for (n, (seen, (key, value, headers))) in seen.iter().zip(records).enumerate() {
        assert_eq!(seen.offset, Offset(i64::try_from(n).unwrap()));
        assert_eq!(seen.key.as_deref(), key);
        assert_eq!(seen.value.as_deref(), value);
        let found: Vec<(&str, &[u8])> =
            seen.headers.iter().map(|(k, v)| (k.as_str(), v.as_slice())).collect();
        assert_eq!(found, headers);
    }
    for token in 100..103 {
        let ack = driver.produced[&token].unwrap();
        assert!(ack.appended_at.is_some(), "the topic stamps its records");
    }
    driver.completing = true;
    for input in driver.held.keys().copied().collect::<Vec<_>>() {
        driver.log.commit(input, Offset(3), String::new());
    }
    leave(bench, member, &mut driver);
}

pub fn what_is_not_committed_comes_again<B: Bench>(bench: &mut B) {
    let topic = bench.topic(1);
    let (member, log) = bench.join("g", &topic);
    let mut first = Driver::new(log);
    first.completing = false;
    produce_all(bench, &mut first, &topic, 0, &numbered(0..5));
    until(bench, "five records", |_| {
        first.pump();
        first.values().len() == 5
    });
    bench.kill(member, first.log);

    let (member, log) = bench.join("g", &topic);
    let mut second = Driver::new(log);
    until(bench, "five records again", |_| {
        second.pump();
        second.values().len() == 5
    });
    assert_eq!(second.values(), numbered(0..5));
    leave(bench, member, &mut second);
}

pub fn a_handover_loses_nothing_and_repeats_nothing<B: Bench>(bench: &mut B) {
    let topic = bench.topic(4);
    let (member_a, log) = bench.join("g", &topic);
    let mut a = Driver::new(log);
    until(bench, "all partitions", |_| {
        a.pump();
        a.held.len() == 4
    });
    let mut produced = Vec::new();
    let mut produce = |driver: &mut Driver<B::Log>, n: usize| {
        let value = format!("v{n}");
        driver.produce(&topic, i32::try_from(n % 4).unwrap(), value.as_bytes());
        produced.push(value);
    };
    for n in 0..200 {
        produce(&mut a, n);
    }
    let (member_b, log) = bench.join("g", &topic);
    let mut b = Driver::new(log);
    let mut n = 200;
    until(bench, "two partitions each", |_| {
        produce(&mut a, n);
        n += 1;
        a.pump();
        b.pump();
        a.held.len() == 2 && b.held.len() == 2
    });
    assert!(a.lost.is_empty(), "{:?}", a.lost);
    for _ in 0..200 {
        produce(&mut a, n);
        n += 1;
    }
    until(bench, "work for the second", |_| {
        a.pump();
        b.pump();
        !b.values().is_empty()
    });
    // And back: the second leaves again.
    let member_b = bench.leave(member_b);
    until(bench, "all partitions back", |bench| {
        a.pump();
        b.pump();
        bench.has_left(&member_b) && a.held.len() == 4
    });
    assert!(b.lost.is_empty(), "{:?}", b.lost);
    until(bench, "every record", |_| {
        a.pump();
        a.values().len() + b.values().len() >= produced.len()
    });
    let mut got = [a.values(), b.values()].concat();
    got.sort();
    produced.sort();
    assert_eq!(got, produced);
    leave(bench, member_a, &mut a);
}

pub fn what_was_committed_just_before_a_release_is_kept<B: Bench>(bench: &mut B) {
    let topic = bench.topic(1);
    let (member, log) = bench.join("g", &topic);
    let mut driver = Driver::new(log);
    driver.completing = false;
    produce_all(bench, &mut driver, &topic, 0, &numbered(0..8));
    until(bench, "eight records", |_| {
        driver.pump();
        driver.values().len() == 8
    });
    let member = bench.leave(member);
    until(bench, "the revocation", |_| {
        driver.pump();
        driver.held.values().all(|held| held.revoking.is_some())
    });
    let input = driver.input_of(0).unwrap();
    driver.log.commit(input, Offset(3), "early".to_owned());
    driver.log.commit(input, Offset(7), "late".to_owned());
    driver.release(input);
    until(bench, "leaving", |bench| {
        driver.pump();
        bench.has_left(&member)
    });

    let (member, log) = bench.join("g", &topic);
    let mut next = Driver::new(log);
    until(bench, "the assignment", |_| {
        next.pump();
        next.held.len() == 1
    });
    let held = next.held.values().next().unwrap();
    assert_eq!((held.base, held.metadata.as_deref()), (Offset(7), Some("late")));
    leave(bench, member, &mut next);
}

pub fn a_partition_that_is_not_taken_stays_where_it_is<B: Bench>(bench: &mut B) {
    let topic = bench.topic(2);
    let (member, log) = bench.join("g", &topic);
    let mut driver = Driver::new(log);
    driver.taking = false;
    until(bench, "the assignment", |_| {
        driver.pump();
        driver.held.len() == 2
    });
    produce_all(bench, &mut driver, &topic, 0, &numbered(0..300));
    produce_all(bench, &mut driver, &topic, 1, &numbered(0..300));
    let (zero, one) = (driver.input_of(0).unwrap(), driver.input_of(1).unwrap());
    until(bench, "all of one partition", |_| {
        driver.pump();
        driver.take(one);
        driver.values().len() == 300
    });
    assert!(!driver.seen.contains_key(&zero));
    until(bench, "all of the other", |_| {
        driver.pump();
        driver.take(zero);
        driver.values().len() == 600
    });
    let offsets: Vec<i64> = driver.seen[&zero].iter().map(|seen| seen.offset.0).collect();
    assert_eq!(offsets, (0..300).collect::<Vec<_>>());
    leave(bench, member, &mut driver);
}

pub fn the_lease_goes_on_while_nothing_happens<B: Bench>(bench: &mut B) {
    let topic = bench.topic(1);
    let (member, log) = bench.join("g", &topic);
    let mut driver = Driver::new(log);
    assert!(driver.log.lease() <= bench.now(), "there is no lease without a partition");
    until(bench, "a lease", |bench| {
        driver.pump();
        driver.log.lease() > bench.now()
    });
    // Longer than a session.
    let from = bench.now();
    let until_then = from + limits::SESSION_TIMEOUT + limits::SESSION_TIMEOUT / 3;
    until(bench, "twelve seconds", |bench| {
        driver.pump();
        let now = bench.now();
        assert!(driver.log.lease() > now, "the lease ended after {:?}", now.since(from));
        assert!(driver.log.lease() <= now + limits::SESSION_TIMEOUT / 2);
        now >= until_then
    });
    leave(bench, member, &mut driver);
    assert!(driver.log.lease() <= bench.now(), "who has left has no lease");
}

pub fn a_record_that_is_too_large_is_told_and_stops_nothing<B: Bench>(bench: &mut B) {
    let topic = bench.topic(1);
    let (member, log) = bench.join("g", &topic);
    let mut driver = Driver::new(log);
    let before = driver.produce(&topic, 0, b"before");
    let barely = driver.produce(&topic, 0, &vec![b'x'; limits::MAX_RECORD_BYTES + 1]);
    let largest: Vec<u8> =
        (0..limits::MAX_RECORD_BYTES - 1024).map(|n| u8::try_from(n * 31 % 251).unwrap()).collect();
    let fits = driver.produce(&topic, 0, &largest);
    let absurd = driver.produce(&topic, 0, &vec![b'x'; 10 * 1024 * 1024]);
    let after = driver.produce(&topic, 0, b"after");
    driver.taking = false;
    until(bench, "five answers", |_| {
        driver.pump();
        driver.produced.len() == 5
    });
    assert_eq!(driver.produced[&absurd], Err(ProduceError::TooLarge));
    for token in [before, fits, after] {
        assert!(driver.produced[&token].is_ok(), "{token}: {:?}", driver.produced[&token]);
    }
    // Whether it fits is up to its compression.
    assert!(matches!(driver.produced[&barely], Ok(_) | Err(ProduceError::TooLarge)));
    leave(bench, member, &mut driver);
}

pub fn a_topic_that_does_not_exist_refuses<B: Bench>(bench: &mut B) {
    let topic = bench.topic(1);
    let (member, log) = bench.join("g", &topic);
    let mut driver = Driver::new(log);
    let nowhere = driver.produce("no.such.topic", 0, b"v");
    let no_partition = driver.produce(&topic, 7, b"v");
    let fine = driver.produce(&topic, 0, b"v");
    until(bench, "three answers", |_| {
        driver.pump();
        driver.produced.len() == 3
    });
    assert_eq!(driver.produced[&nowhere], Err(ProduceError::Refused));
    assert_eq!(driver.produced[&no_partition], Err(ProduceError::Refused));
    assert!(driver.produced[&fine].is_ok());
    leave(bench, member, &mut driver);
}

pub fn a_reader_ends_where_it_was_told_to<B: Bench>(bench: &mut B) {
    let topic = bench.topic(2);
    let (member, log) = bench.join("g", &topic);
    let mut driver = Driver::new(log);
    driver.taking = false;
    produce_all(bench, &mut driver, &topic, 1, &numbered(0..500));
    for (from, to, expected) in [
        (ReadFrom::Offset(Offset(100)), 130, 100..130),
        (ReadFrom::Beginning, 500, 0..500),
        (ReadFrom::Offset(Offset(499)), 500, 499..500),
    ] {
        let input = driver.log.open(&topic, Partition(1), from, Some(Offset(to)));
        until(bench, "the end", |_| {
            driver.pump();
            driver.take(input);
            driver.ended.contains_key(&input)
        });
        assert_eq!(driver.ended[&input], Ended::Complete);
        let got: Vec<String> = driver.seen[&input].iter().map(Seen::text).collect();
        assert_eq!(got, numbered(expected));
        driver.take(input);
        driver.log.close(input);
        driver.log.close(input);
    }
    leave(bench, member, &mut driver);
}

pub fn a_reader_that_has_nothing_to_read_ends_at_once<B: Bench>(bench: &mut B) {
    let topic = bench.topic(1);
    let (member, log) = bench.join("g", &topic);
    let mut driver = Driver::new(log);
    for (from, to) in [
        (ReadFrom::Beginning, 0),
        (ReadFrom::Offset(Offset(0)), 0),
        (ReadFrom::Offset(Offset(9)), 5),
        (ReadFrom::Time(hookstream_types::UnixMillis(0)), 0),
    ] {
        let input = driver.log.open(&topic, Partition(0), from, Some(Offset(to)));
        until(bench, "the end", |_| {
            driver.pump();
            driver.ended.contains_key(&input)
        });
        assert_eq!(driver.ended[&input], Ended::Complete);
        driver.log.close(input);
    }
    leave(bench, member, &mut driver);
}

pub fn a_reader_starts_at_a_time<B: Bench>(bench: &mut B) {
    let topic = bench.topic(1);
    let (member, log) = bench.join("g", &topic);
    let mut driver = Driver::new(log);
    produce_all(bench, &mut driver, &topic, 0, &numbered(0..3));
    let last = driver.produced.values().map(|result| result.unwrap().appended_at.unwrap()).max().unwrap();
    let later = bench.now() + std::time::Duration::from_millis(50);
    until(bench, "another millisecond", |bench| bench.now() >= later);
    produce_all(bench, &mut driver, &topic, 0, &numbered(3..6));
    let at = last + std::time::Duration::from_millis(1);
    let input = driver.log.open(&topic, Partition(0), ReadFrom::Time(at), Some(Offset(6)));
    until(bench, "the end", |_| {
        driver.pump();
        driver.take(input);
        driver.ended.contains_key(&input)
    });
    let got: Vec<String> = driver.seen[&input].iter().map(Seen::text).collect();
    assert_eq!(got, numbered(3..6));
    leave(bench, member, &mut driver);
}

pub fn a_reader_without_an_end_follows<B: Bench>(bench: &mut B) {
    let topic = bench.topic(1);
    let (member, log) = bench.join("g", &topic);
    let mut driver = Driver::new(log);
    let input = driver.log.open(&topic, Partition(0), ReadFrom::Beginning, None);
    for round in 0..3 {
        produce_all(bench, &mut driver, &topic, 0, &numbered(round * 5..round * 5 + 5));
        until(bench, "what was produced", |_| {
            driver.pump();
            driver.take(input);
            driver.seen[&input].len() == round * 5 + 5
        });
    }
    assert!(!driver.ended.contains_key(&input));
    driver.log.close(input);
    produce_all(bench, &mut driver, &topic, 0, &numbered(15..16));
    let before = driver.seen[&input].len();
    driver.take(input);
    assert_eq!(driver.seen[&input].len(), before, "a closed reader gives nothing");
    leave(bench, member, &mut driver);
}

pub fn the_same_partition_can_be_read_twice_at_once<B: Bench>(bench: &mut B) {
    let topic = bench.topic(1);
    let (member, log) = bench.join("g", &topic);
    let mut driver = Driver::new(log);
    produce_all(bench, &mut driver, &topic, 0, &numbered(0..50));
    let one = driver.log.open(&topic, Partition(0), ReadFrom::Beginning, Some(Offset(50)));
    let two = driver.log.open(&topic, Partition(0), ReadFrom::Offset(Offset(25)), Some(Offset(50)));
    until(bench, "both ends", |_| {
        driver.pump();
        driver.take(one);
        driver.take(two);
        driver.ended.len() == 2
    });
    assert_eq!((driver.seen[&one].len(), driver.seen[&two].len()), (50, 25));
    leave(bench, member, &mut driver);
}

pub fn what_is_said_to_an_old_input_is_ignored<B: Bench>(bench: &mut B) {
    let topic = bench.topic(1);
    let (member, log) = bench.join("g", &topic);
    let mut driver = Driver::new(log);
    produce_all(bench, &mut driver, &topic, 0, &numbered(0..4));
    until(bench, "four records", |_| {
        driver.pump();
        driver.values().len() == 4
    });
    let input = driver.input_of(0).unwrap();
    leave(bench, member, &mut driver);
    driver.log.commit(input, Offset(1), "old".to_owned());
    driver.log.release(input);
    assert_eq!(driver.log.take(input, 10, &mut |_| panic!("an old input gives nothing")), 0);

    let (member, log) = bench.join("g", &topic);
    let mut next = Driver::new(log);
    until(bench, "the assignment", |_| {
        next.pump();
        next.held.len() == 1
    });
    assert_eq!(next.held.values().next().unwrap().base, Offset(4));
    leave(bench, member, &mut next);
}
