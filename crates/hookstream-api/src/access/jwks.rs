//! The keys of an outside issuer (RFC 7517), and when they are fetched.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use hookstream_types::UnixMillis;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde_json::{Map, Value};

use super::strict_json;

/// The longest key set: 64 RSA keys of 4096 bits have 48 KiB.
pub const MAX_JWKS_BYTES: usize = 64 * 1024;
pub const MAX_KEYS: usize = 64;
/// After this a set is fetched anew, while it is still used.
const FRESH: Duration = Duration::from_secs(15 * 60);
/// After this a set that can't be fetched anew is not used any more: a revoked key dies with it.
const STALE: Duration = Duration::from_secs(24 * 3600);
/// Between two fetches that an unknown `kid` is the reason of: anybody can make one up.
const UNKNOWN_KID: Duration = Duration::from_secs(5 * 60);
/// Between two fetches of an issuer that fails.
const RETRY: Duration = Duration::from_secs(30);
/// One fetch, so that one that hangs does not keep the others waiting.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// An issuer's public key, with the one algorithm that it is for.
#[derive(Clone, PartialEq, Eq)]
pub enum PublicKey {
    /// `EdDSA`, also called `Ed25519` (RFC 9864).
    Ed25519([u8; 32]),
    /// `ES256`; the uncompressed point.
    P256([u8; 65]),
    /// `RS256`; modulus and exponent, big endian.
    Rsa { n: Vec<u8>, e: Vec<u8> },
}

/// An issuer's keys by their `kid`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySet(BTreeMap<String, Arc<PublicKey>>);

/// Why a text is no key set that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKeySet {
    #[error("the key set has more than 64 KiB")]
    TooLong,
    #[error("the key set is no JSON object with a list `keys` of objects, or a name stands in one twice")]
    NotJwks,
    #[error("the key set has more than 64 keys")]
    TooMany,
    #[error("two keys of the key set have the same `kid`")]
    DuplicateKid,
    #[error(
        "the key set has no key for EdDSA, ES256 or RS256 (2048 bits or more) that has a `kid` and is for signatures"
    )]
    NoKey,
}

/// A fetch under way.
pub type Fetching<'a> = Pin<Box<dyn Future<Output = Result<Bytes, String>> + Send + 'a>>;

/// How a key set is got: through the guard that all requests to the outside go through.
pub trait Fetch: Send + Sync {
    /// The body at `url`, of at most [`MAX_JWKS_BYTES`] or one more; the error is for the log.
    fn fetch<'a>(&'a self, url: &'a str) -> Fetching<'a>;
}

/// Why there is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoKey {
    #[error("the issuer has no such key")]
    Unknown,
    #[error("the issuer's keys can't be fetched")]
    Unavailable,
}

/// One issuer's keys, kept up to date.
#[derive(Clone)]
pub struct Jwks(Arc<Inner>);

struct Inner {
    url: String,
    fetch: Arc<dyn Fetch>,
    state: Mutex<State>,
    /// Held while fetching: who waits for it finds the fetch done.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    set: Option<(Arc<KeySet>, UnixMillis)>,
    /// When a fetch was begun last, for whatever reason.
    tried: Option<UnixMillis>,
    /// When one was begun because of an unknown `kid`.
    tried_unknown: Option<UnixMillis>,
    /// Fetches that have ended.
    ended: u64,
    under_way: bool,
}

/// What to do about a `kid`.
enum Plan {
    Use(Arc<PublicKey>),
    /// Use the key, and fetch the set meanwhile.
    UseAndRefresh(Arc<PublicKey>, u64),
    /// Wait for the fetch after so many have ended, then look again.
    Await(u64),
    Fail(NoKey),
}

// === impl PublicKey ===

impl PublicKey {
    /// Whether `alg` is the algorithm of this key: the token has no say in it.
    #[must_use]
    pub fn is_for(&self, alg: &str) -> bool {
        match self {
            Self::Ed25519(_) => alg == "EdDSA" || alg == "Ed25519",
            Self::P256(_) => alg == "ES256",
            Self::Rsa { .. } => alg == "RS256",
        }
    }

    /// Whether `signature` over `message` is this key's.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok(),
            Self::P256(key) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key).verify(message, signature).is_ok()
            }
            Self::Rsa { n, e } => RsaPublicKeyComponents { n, e }
                .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
                .is_ok(),
        }
    }

    /// Reads a key (RFC 7517 §4); none if it is not one that verifies here.
    fn from_jwk(jwk: &Map<String, Value>) -> Option<Self> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
        // A private key that is published is nobody's any more.
        if jwk.contains_key("d") || jwk.get("use").is_some_and(|usage| usage != "sig") {
            return None;
        }
        if let Some(operations) = jwk.get("key_ops")
            && !operations.as_array()?.iter().any(|operation| operation == "verify")
        {
            return None;
        }
        let key = match (text("kty")?, text("crv")) {
            ("OKP", Some("Ed25519")) => Self::Ed25519(bytes("x")?.try_into().ok()?),
            ("EC", Some("P-256")) => {
                let (x, y): ([u8; 32], [u8; 32]) =
                    (bytes("x")?.try_into().ok()?, bytes("y")?.try_into().ok()?);
                let mut point = [4; 65];
                point[1..33].copy_from_slice(&x);
                point[33..].copy_from_slice(&y);
                Self::P256(point)
            }
            ("RSA", _) => {
                let strip =
                    |bytes: Vec<u8>| bytes.into_iter().skip_while(|byte| *byte == 0).collect::<Vec<_>>();
                let (n, e) = (strip(bytes("n")?), strip(bytes("e")?));
                let bits = n.len() * 8 - n.first()?.leading_zeros() as usize;
                let odd = e.last()? & 1 == 1 && e != [1];
                if !(2048..=8192).contains(&bits) || !odd || e.len() > 4 {
                    return None;
                }
                Self::Rsa { n, e }
            }
            _ => return None,
        };
        match jwk.get("alg") {
            None => Some(key),
            Some(alg) => alg.as_str().is_some_and(|alg| key.is_for(alg)).then_some(key),
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ed25519(_) => "Ed25519",
            Self::P256(_) => "P-256",
            Self::Rsa { .. } => "RSA",
        })
    }
}

// === impl KeySet ===

impl KeySet {
    /// Reads a set. Keys that don't verify here are left out: those for encryption, symmetric and short ones, those
    /// of other algorithms, and those without a `kid`.
    ///
    /// # Errors
    /// [`BadKeySet`] if the set is not to be trusted as a whole.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadKeySet> {
        if bytes.len() > MAX_JWKS_BYTES {
            return Err(BadKeySet::TooLong);
        }
        let mut set = strict_json::object(bytes).ok_or(BadKeySet::NotJwks)?;
        let Some(Value::Array(jwks)) = set.remove("keys") else { return Err(BadKeySet::NotJwks) };
        if jwks.len() > MAX_KEYS {
            return Err(BadKeySet::TooMany);
        }
        let mut keys = BTreeMap::new();
        for jwk in &jwks {
            let jwk = jwk.as_object().ok_or(BadKeySet::NotJwks)?;
            let Some(kid) = jwk.get("kid").and_then(Value::as_str) else { continue };
            let Some(key) = PublicKey::from_jwk(jwk) else { continue };
            if keys.insert(kid.to_owned(), Arc::new(key)).is_some() {
                return Err(BadKeySet::DuplicateKid);
            }
        }
        if keys.is_empty() { Err(BadKeySet::NoKey) } else { Ok(Self(keys)) }
    }

    #[must_use]
    pub fn get(&self, kid: &str) -> Option<&Arc<PublicKey>> {
        self.0.get(kid)
    }
}

// === impl Jwks ===

impl Jwks {
    #[must_use]
    pub fn new(url: String, fetch: Arc<dyn Fetch>) -> Self {
        Self(Arc::new(Inner { url, fetch, state: Mutex::default(), fetching: tokio::sync::Mutex::default() }))
    }

    /// Fetches the set, for the start; a failure is logged, and made good when a token comes.
    pub async fn prepare(&self, now: UnixMillis) {
        let seen = {
            let mut state = self.0.state();
            state.begin(now);
            state.ended
        };
        self.refresh(seen, now).await;
    }

    /// The key of this `kid`.
    ///
    /// A set that is older than 15 minutes is used while another is fetched; an issuer that fails keeps its keys for
    /// a day. A `kid` that is not in the set makes it be fetched at most once in 5 minutes, and all that wait for
    /// it wait for the same fetch.
    ///
    /// # Errors
    /// [`NoKey`] if there is none, or the issuer's keys can't be had.
    pub async fn key(&self, kid: &str, now: UnixMillis) -> Result<Arc<PublicKey>, NoKey> {
        let plan = self.0.state().plan(kid, now);
        match plan {
            Plan::Use(key) => Ok(key),
            Plan::Fail(why) => Err(why),
            Plan::UseAndRefresh(key, seen) => {
                let jwks = self.clone();
                // Detached: bounded by its timeout, and one at a time.
                drop(tokio::spawn(async move { jwks.refresh(seen, now).await }));
                Ok(key)
            }
            Plan::Await(seen) => {
                self.refresh(seen, now).await;
                self.0.state().look(kid, now)
            }
        }
    }

    /// Fetches the set unless more than `seen` fetches have ended by now.
    ///
    /// In a task of its own: who gives up waiting does not cut it short, since an unknown `kid` has but one in
    /// 5 minutes.
    async fn refresh(&self, seen: u64, now: UnixMillis) {
        let inner = Arc::clone(&self.0);
        let fetch = tokio::spawn(async move {
            let _one_at_a_time = inner.fetching.lock().await;
            if inner.state().ended != seen {
                return;
            }
            let fetched = match tokio::time::timeout(FETCH_TIMEOUT, inner.fetch.fetch(&inner.url)).await {
                Ok(Ok(body)) => KeySet::parse(&body).map_err(|error| error.to_string()),
                Ok(Err(error)) => Err(error),
                Err(_) => Err("no answer within 10 s".to_owned()),
            };
            inner.state().end(fetched, now, &inner.url);
        });
        if let Err(error) = fetch.await {
            let mut state = self.0.state();
            if state.ended == seen {
                state.end(Err(error.to_string()), now, &self.0.url);
            }
        }
    }
}

impl fmt::Debug for Jwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Jwks({})", self.0.url)
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    fn begin(&mut self, now: UnixMillis) {
        self.under_way = true;
        self.tried = Some(now);
    }

    fn end(&mut self, fetched: Result<KeySet, String>, now: UnixMillis, url: &str) {
        self.ended += 1;
        self.under_way = false;
        match fetched {
            Ok(set) => self.set = Some((Arc::new(set), now)),
            Err(error) => tracing::warn!(jwks.url = url, error, "an issuer's keys could not be fetched"),
        }
    }

    fn plan(&mut self, kid: &str, now: UnixMillis) -> Plan {
        let found = self.look(kid, now);
        let fresh = self.set.as_ref().is_some_and(|(_, fetched)| !passed(*fetched, now, FRESH));
        let retry = self.tried.is_none_or(|tried| passed(tried, now, RETRY));
        match found {
            Ok(key) if fresh || self.under_way || !retry => Plan::Use(key),
            Ok(key) => {
                self.begin(now);
                Plan::UseAndRefresh(key, self.ended)
            }
            Err(_) if self.under_way => Plan::Await(self.ended),
            Err(NoKey::Unavailable) if retry => {
                self.begin(now);
                Plan::Await(self.ended)
            }
            Err(NoKey::Unknown) if self.tried_unknown.is_none_or(|tried| passed(tried, now, UNKNOWN_KID)) => {
                self.tried_unknown = Some(now);
                self.begin(now);
                Plan::Await(self.ended)
            }
            Err(why) => Plan::Fail(why),
        }
    }

    fn look(&self, kid: &str, now: UnixMillis) -> Result<Arc<PublicKey>, NoKey> {
        match &self.set {
            Some((set, fetched)) if !passed(*fetched, now, STALE) => {
                set.get(kid).cloned().ok_or(NoKey::Unknown)
            }
            Some(_) | None => Err(NoKey::Unavailable),
        }
    }
}

/// Whether `duration` has passed since `then`; a clock that was set back has passed everything.
fn passed(then: UnixMillis, now: UnixMillis, duration: Duration) -> bool {
    now < then || then + duration <= now
}

#[cfg(test)]
mod tests;
