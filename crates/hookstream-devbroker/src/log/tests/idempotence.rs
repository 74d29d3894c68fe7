//! Producers that repeat themselves.

use super::support::{Fixture, NOW, batch};
use crate::log::{AppendError, LogConfig};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    Taken,
    /// Taken before, with this offset.
    Repeated(i64),
    OutOfOrder,
    Fenced,
}
use Verdict::{Fenced, OutOfOrder, Repeated, Taken};

/// Sends batches of producer 1 as (epoch, first sequence number, number of records).
fn check(sent: &[(i16, i32, usize, Verdict)]) {
    let mut fixture = Fixture::new(LogConfig::default());
    for (idx, (epoch, sequence, count, expected)) in sent.iter().enumerate() {
        assert_eq!(send(&mut fixture, *epoch, *sequence, *count), *expected, "batch {idx}");
        // What is known is the same after a restart, always.
        fixture.reopen();
    }
}

fn send(fixture: &mut Fixture, epoch: i16, sequence: i32, count: usize) -> Verdict {
    match fixture.log.append(&batch(count).producer(1, epoch, sequence).bytes(), NOW) {
        Ok(appended) if appended.duplicate => Repeated(appended.base_offset),
        Ok(_) => Taken,
        Err(AppendError::OutOfOrderSequence { .. }) => OutOfOrder,
        Err(AppendError::InvalidProducerEpoch { .. }) => Fenced,
        Err(error) => panic!("{error:?}"),
    }
}

#[test]
fn sequences_follow_each_other() {
    check(&[
        (0, 0, 3, Taken),
        (0, 3, 1, Taken),
        (0, 5, 1, OutOfOrder),
        (0, 2, 1, OutOfOrder),
        (0, 4, 1, Taken),
    ]);
}

#[test]
fn an_unknown_producer_starts_anywhere() {
    check(&[(4, 17, 2, Taken), (4, 19, 1, Taken), (4, 0, 1, OutOfOrder)]);
}

#[test]
fn the_last_five_batches_are_known() {
    let mut sent: Vec<_> = (0..6).map(|idx| (0, idx * 2, 2, Taken)).collect();
    sent.extend((1..6).map(|idx| (0, idx * 2, 2, Repeated(i64::from(idx) * 2))));
    sent.extend([(0, 0, 2, OutOfOrder), (0, 10, 1, OutOfOrder), (0, 12, 1, Taken)]);
    check(&sent);
}

#[test]
fn a_new_epoch_starts_at_zero_and_fences() {
    check(&[
        (1, 5, 1, Taken),
        (2, 6, 1, OutOfOrder),
        (2, 0, 1, Taken),
        (1, 6, 1, Fenced),
        // Of a fenced epoch no repetition is known.
        (1, 5, 1, Fenced),
        (2, 0, 1, Repeated(1)),
        (2, 1, 1, Taken),
    ]);
}

#[test]
fn sequences_start_again_after_the_greatest() {
    let max = i32::MAX;
    check(&[(0, max - 1, 2, Taken), (0, max, 1, OutOfOrder), (0, 0, 1, Taken), (0, max - 1, 2, Repeated(0))]);
    check(&[(0, max, 3, Taken), (0, 3, 1, OutOfOrder), (0, 2, 1, Taken), (0, max, 3, Repeated(0))]);
}

#[test]
fn one_request_may_have_more_batches() {
    let mut fixture = Fixture::new(LogConfig::default());
    let [one, two, three] = [0, 1, 2].map(|sequence| batch(1).producer(1, 0, sequence).bytes());
    let both = [one.clone(), two.clone()].concat();
    assert_eq!(fixture.log.append(&both, NOW).unwrap().last_offset, 1);
    let again = fixture.log.append(&both, NOW).unwrap();
    assert_eq!((again.base_offset, again.last_offset, again.duplicate), (0, 1, true));
    let mixed = fixture.log.append(&[two, three.clone()].concat(), NOW);
    assert!(matches!(mixed, Err(AppendError::InvalidRecord(_))));
    let gap = fixture.log.append(&[three.clone(), one].concat(), NOW);
    assert!(matches!(
        gap,
        Err(AppendError::OutOfOrderSequence { sequence: 0, expected: 3, .. })
            | Err(AppendError::InvalidRecord(_))
    ));
    assert_eq!(fixture.log.append(&three, NOW).unwrap().base_offset, 2);
}

#[test]
fn a_silent_producer_is_forgotten_after_a_day() {
    const DAY: i64 = 24 * 60 * 60 * 1000;
    let mut fixture = Fixture::new(LogConfig::default());
    let send = |fixture: &mut Fixture, sequence, now| {
        fixture.log.append(&batch(1).producer(1, 0, sequence).bytes(), now).map(|appended| appended.duplicate)
    };
    send(&mut fixture, 0, NOW).unwrap();
    assert!(send(&mut fixture, 0, NOW + DAY - 1).unwrap());
    assert!(send(&mut fixture, 7, NOW + DAY - 1).is_err());
    assert!(!send(&mut fixture, 7, NOW + DAY).unwrap());
    // Maintenance forgets it too, even if it would know better later.
    fixture.log.expire(NOW + 2 * DAY).unwrap();
    assert!(!send(&mut fixture, 7, NOW + DAY).unwrap());
}

#[test]
fn a_fence_holds() {
    let mut fixture = Fixture::new(LogConfig::default());
    assert_eq!(send(&mut fixture, 3, 0, 1), Taken);
    fixture.log.fence(1, 4, NOW);
    assert_eq!(send(&mut fixture, 3, 1, 1), Fenced);
    assert_eq!(send(&mut fixture, 4, 1, 1), OutOfOrder);
    assert_eq!(send(&mut fixture, 4, 0, 1), Taken);
    // Of a producer that is not known nothing but the epoch is.
    fixture.log.fence(2, 4, NOW);
    let of_other = |epoch| batch(1).producer(2, epoch, 9).bytes();
    assert!(matches!(
        fixture.log.append(&of_other(3), NOW),
        Err(AppendError::InvalidProducerEpoch { current: 4, .. })
    ));
    fixture.log.append(&of_other(4), NOW).unwrap();
}
