//! Identities. Two things that could be swapped by mistake have two types.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

uuid_id! {
    /// An account's immutable identity: a re-created account of the same name has another.
    AccountUid
}
uuid_id! {
    /// An account's app, which owns subscriptions and holds scopes.
    AppId
}
uuid_id! {
    /// An accepted event, by what it is: the same input always makes the same id.
    EventId
}
uuid_id! {
    /// One event for one webhook, sent as `webhook-id`.
    DeliveryId
}
uuid_id! {
    /// A configured subscription of an endpoint.
    WebhookId
}
uuid_id! {
    /// What a webhook's requests are authorized with, shared by webhooks.
    AuthorizationId
}
uuid_id! {
    /// A client of the API: its OAuth2 `client_id`.
    ClientId
}
uuid_id! {
    /// Somebody's wish to have things delivered again.
    ReplayId
}
uuid_id! {
    /// One assignment of one partition to one process; a fresh one each time.
    OwnerId
}

impl OwnerId {
    /// Who calls sync webhooks: it owns no partition, and what it writes is history, not decisions about jobs.
    pub const DIRECT: Self = Self(Uuid::nil());
}

/// Namespace of [`EventId`]s (UUIDv5, RFC 9562 §5.5).
const EVENT_NAMESPACE: Uuid = Uuid::from_u128(0x6f0c_9b1e_52a4_4d0b_9a6e_1f6d_35f0_0a01);
/// Namespace of [`DeliveryId`]s.
const DELIVERY_NAMESPACE: Uuid = Uuid::from_u128(0x6f0c_9b1e_52a4_4d0b_9a6e_1f6d_35f0_0a02);

/// Joins parts so that no two different lists give the same bytes: each is preceded by its length.
fn framed<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    for part in parts {
        out.extend_from_slice(&(part.len() as u64).to_be_bytes());
        out.extend_from_slice(part);
    }
    out
}

impl EventId {
    /// The id of an event that names itself (CloudEvents: `source` + `id` is unique).
    #[must_use]
    pub fn of_cloudevent(account: AccountUid, source: &str, ce_source: &str, ce_id: &str) -> Self {
        let name = framed([
            b"ce".as_slice(),
            account.0.as_bytes(),
            source.as_bytes(),
            ce_source.as_bytes(),
            ce_id.as_bytes(),
        ]);
        Self(Uuid::new_v5(&EVENT_NAMESPACE, &name))
    }

    /// The id of an event that doesn't: where it stands.
    ///
    /// `topic` is the topic's id, or its name where the broker gives none.
    #[must_use]
    pub fn of_coordinates(
        cluster: &str,
        topic: &str,
        partition: Partition,
        offset: Offset,
        index: u32,
    ) -> Self {
        let name = framed([
            b"at".as_slice(),
            cluster.as_bytes(),
            topic.as_bytes(),
            &partition.0.to_be_bytes(),
            &offset.0.to_be_bytes(),
            &index.to_be_bytes(),
        ]);
        Self(Uuid::new_v5(&EVENT_NAMESPACE, &name))
    }

    /// The id of an event that came over HTTP with an `Idempotency-Key`.
    #[must_use]
    pub fn of_idempotency_key(account: AccountUid, client: &str, key: &str) -> Self {
        let name = framed([b"key".as_slice(), account.0.as_bytes(), client.as_bytes(), key.as_bytes()]);
        Self(Uuid::new_v5(&EVENT_NAMESPACE, &name))
    }
}

impl DeliveryId {
    /// The id of `event` for `webhook`: the same whenever it is computed.
    #[must_use]
    pub fn of(event: EventId, webhook: WebhookId) -> Self {
        let mut name = [0u8; 32];
        name[..16].copy_from_slice(event.0.as_bytes());
        name[16..].copy_from_slice(webhook.0.as_bytes());
        Self(Uuid::new_v5(&DELIVERY_NAMESPACE, &name))
    }
}

/// A partition's number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Partition(pub i32);

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}", self.0)
    }
}

/// A record's position in its partition.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(pub i64);

impl Offset {
    /// The position after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", self.0)
    }
}

/// Which turn of a delivery a job is: within a run, a later `n` supersedes an earlier one.
///
/// Run 0 is live traffic; a replay has a run of its own: later ones have greater numbers.
/// `n` counts retries and deferrals; hops through the retry ladder do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Generation {
    /// 0, or a replay's run.
    pub run: i64,
    /// Retries and deferrals so far.
    pub n: u32,
}

impl Generation {
    /// The generation of what follows a retry or a deferral.
    #[must_use]
    pub fn next(self) -> Self {
        Self { run: self.run, n: self.n.saturating_add(1) }
    }
}

/// The partition that a key belongs to: murmur2 as Kafka's Java client computes it, so that other tools agree.
///
/// # Panics
/// If `count` is not positive: a topic has at least one partition.
#[must_use]
pub fn partition_for(key: &[u8], count: i32) -> Partition {
    assert!(count > 0, "a topic has at least one partition");
    let positive = murmur2(key) & 0x7fff_ffff;
    Partition(i32::try_from(positive).expect("31 bits fit") % count)
}

/// MurmurHash2, 32 bits, with the seed of Kafka's `Utils.murmur2`.
fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    #[expect(clippy::cast_possible_truncation, reason = "the algorithm mixes in the length modulo 2^32")]
    let mut h = SEED ^ (data.len() as u32);
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (i, byte) in tail.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors from Kafka's `UtilsTest.testMurmur2`.
    #[test]
    fn murmur2_agrees_with_kafka() {
        for (key, expected) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()), expected.cast_unsigned(), "{key}");
        }
    }

    #[test]
    fn ids_depend_on_where_one_part_ends() {
        let account = AccountUid(Uuid::nil());
        let ab_c = EventId::of_cloudevent(account, "s", "ab", "c");
        let a_bc = EventId::of_cloudevent(account, "s", "a", "bc");
        assert_ne!(ab_c, a_bc);
        assert_eq!(ab_c, EventId::of_cloudevent(account, "s", "ab", "c"));
    }
}
