//! The part of the consumers' embedded protocol that the broker reads: which topics a member subscribes to.
//!
//! A subscription begins with its version (i16) and its topics (i32 count, each with an i16 length) in all versions;
//! what follows (user data, owned partitions, generation, rack) is of no concern here.

use std::collections::BTreeSet;

/// The protocol type of consumers. Others (Kafka Connect's is `connect`) have metadata of their own.
pub(super) const CONSUMER: &str = "consumer";

/// The topics in a consumer's metadata; none if it is not a subscription.
pub(super) fn topics(metadata: &[u8]) -> Option<BTreeSet<&str>> {
    let (version, rest) = metadata.split_first_chunk::<2>()?;
    if i16::from_be_bytes(*version) < 0 {
        return None;
    }
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let count = u32::try_from(i32::from_be_bytes(*count)).ok()?;
    let mut topics = BTreeSet::new();
    for _ in 0..count {
        let (length, tail) = rest.split_first_chunk::<2>()?;
        let length = usize::try_from(i16::from_be_bytes(*length)).ok()?;
        let (topic, tail) = tail.split_at_checked(length)?;
        topics.insert(std::str::from_utf8(topic).ok()?);
        rest = tail;
    }
    Some(topics)
}

/// Whether two members' metadata ask for the same, so that one can take the other's assignment.
///
/// Of a consumer only the topics count: the partitions that it owned stand in the metadata too, and one that was
/// restarted owns none.
pub(super) fn same(protocol_type: &str, one: &[u8], other: &[u8]) -> bool {
    if one == other {
        return true;
    }
    protocol_type == CONSUMER && topics(one).is_some_and(|topics_of_one| topics(other) == Some(topics_of_one))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn subscription(version: i16, topics: &[String]) -> Vec<u8> {
        let mut bytes = version.to_be_bytes().to_vec();
        bytes.extend(i32::try_from(topics.len()).expect("few").to_be_bytes());
        for topic in topics {
            bytes.extend(i16::try_from(topic.len()).expect("short").to_be_bytes());
            bytes.extend(topic.as_bytes());
        }
        bytes
    }

    proptest! {
        #[test]
        fn topics_are_read_whatever_follows(
            version in 0i16..4,
            names in proptest::collection::vec("[a-z]{1,9}", 0..5),
            rest in proptest::collection::vec(any::<u8>(), 0..9),
        ) {
            let mut bytes = subscription(version, &names);
            bytes.extend(rest);
            prop_assert_eq!(topics(&bytes), Some(names.iter().map(String::as_str).collect()));
        }

        #[test]
        fn foreign_bytes_are_no_subscription_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            topics(&bytes);
        }
    }

    #[test]
    fn what_was_cut_is_no_subscription() {
        let whole = subscription(1, &["orders".to_owned()]);
        for length in 0..whole.len() {
            assert_eq!(topics(&whole[..length]), None, "{length}");
        }
    }

    #[test]
    fn consumers_are_the_same_by_their_topics_and_others_by_their_bytes() {
        let plain = subscription(1, &["a".to_owned(), "b".to_owned()]);
        let mut owning = subscription(3, &["b".to_owned(), "a".to_owned()]);
        owning.push(7);
        assert!(same(CONSUMER, &plain, &owning));
        assert!(!same("connect", &plain, &owning));
        assert!(!same(CONSUMER, &plain, &subscription(1, &["a".to_owned()])));
        assert!(!same(CONSUMER, b"x", b"y"));
        assert!(same("connect", b"x", b"x"));
    }
}
