//! What the tests of this module share: an issuer with keys, and a hand that forges tokens.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use hookstream_types::{AccountUid, UnixMillis};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RsaKeyPair, RsaPublicKeyComponents,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::client::{ClientRecord, Clients};
use super::jwks::{Fetch, Fetching};

pub(super) const NOW_SECS: i64 = 1_790_000_000;
pub(super) const NOW: UnixMillis = UnixMillis(NOW_SECS * 1000 + 500);
pub(super) const ISS: &str = "https://issuer.example";
pub(super) const AUDIENCE: &str = "https://hooks.example";
pub(super) const A: AccountUid = AccountUid(Uuid::from_u128(0xa));
pub(super) const B: AccountUid = AccountUid(Uuid::from_u128(0xb));

/// A key that is in no other place, for tests only.
const RSA_2048: &str = include_str!("testing/rsa2048.pk8.b64");

/// Bytes that repeat, other ones for each seed and each call.
pub(super) fn filler(seed: u8) -> impl FnMut(&mut [u8]) {
    let mut next = seed.wrapping_mul(37);
    move |bytes| {
        for byte in bytes {
            next = next.wrapping_mul(181).wrapping_add(seed | 1);
            *byte = next;
        }
    }
}

pub(super) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A private key of an issuer.
pub(super) enum Signer {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
}

impl Signer {
    pub(super) fn ed25519() -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed25519(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap())
    }

    pub(super) fn p256() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        Self::P256(
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap(),
        )
    }

    pub(super) fn rsa() -> Self {
        let pkcs8 = STANDARD.decode(RSA_2048.trim()).unwrap();
        Self::Rsa(Box::new(RsaKeyPair::from_pkcs8(&pkcs8).unwrap()))
    }

    pub(super) fn alg(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => "EdDSA",
            Self::P256(_) => "ES256",
            Self::Rsa(_) => "RS256",
        }
    }

    /// The public key as an issuer publishes it.
    pub(super) fn jwk(&self, kid: &str) -> Value {
        match self {
            Self::Ed25519(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": b64(pair.public_key())})
            }
            Self::P256(pair) => {
                let point = pair.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": b64(&point[1..33]), "y": b64(&point[33..])})
            }
            Self::Rsa(pair) => {
                let RsaPublicKeyComponents { n, e } = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({"kty": "RSA", "kid": kid, "n": b64(n), "e": b64(e), "use": "sig"})
            }
        }
    }

    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Self::P256(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }

    /// A token of these two texts, whatever they are.
    pub(super) fn token(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", b64(header), b64(claims));
        format!("{signed}.{}", b64(self.sign(signed.as_bytes())))
    }
}

/// Claims that are good, except for what `change` says; null takes one away.
pub(super) fn claims(change: &Value) -> String {
    let good = json!({
        "iss": ISS, "aud": AUDIENCE, "sub": "agency-7", "iat": NOW_SECS - 10, "exp": NOW_SECS + 600,
        "scope": "webhooks:read", "hookstream_account": "agency",
    });
    changed(good, change)
}

pub(super) fn changed(mut good: Value, change: &Value) -> String {
    for (name, value) in change.as_object().unwrap() {
        let object = good.as_object_mut().unwrap();
        match value {
            Value::Null => drop(object.remove(name)),
            value => drop(object.insert(name.clone(), value.clone())),
        }
    }
    good.to_string()
}

/// Registered clients of a test.
pub(super) struct Registered(pub Mutex<Vec<ClientRecord>>);

impl Clients for Registered {
    fn client(&self, id: &str) -> Option<ClientRecord> {
        self.0.lock().unwrap().iter().find(|client| client.id == id).cloned()
    }
}

/// An issuer that answers with what is prepared, the last answer again and again, and counts.
pub(super) struct Scripted {
    answers: Mutex<VecDeque<Result<Bytes, String>>>,
    pub fetches: AtomicUsize,
    /// A fetch answers once it has one of these.
    pub gate: tokio::sync::Semaphore,
}

impl Scripted {
    pub(super) fn new(answers: impl IntoIterator<Item = Result<Value, &'static str>>) -> Self {
        let answers = answers.into_iter().map(|answer| match answer {
            Ok(set) => Ok(set.to_string().into()),
            Err(error) => Err(error.to_owned()),
        });
        Self {
            answers: Mutex::new(answers.collect()),
            fetches: AtomicUsize::new(0),
            gate: tokio::sync::Semaphore::new(1000),
        }
    }

    pub(super) fn count(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }
}

impl Fetch for Scripted {
    fn fetch<'a>(&'a self, _url: &'a str) -> Fetching<'a> {
        Box::pin(async {
            self.fetches.fetch_add(1, Ordering::SeqCst);
            self.gate.acquire().await.unwrap().forget();
            let mut answers = self.answers.lock().unwrap();
            if answers.len() > 1 { answers.pop_front().unwrap() } else { answers.front().unwrap().clone() }
        })
    }
}
