//! What signs: a secret, keyed once for all requests.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::Signer as _;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use hookstream_types::Secret;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::config::WebhookSecret;

/// What a public key's text begins with (Standard Webhooks, "Asymmetric").
pub const PUBLIC_KEY_PREFIX: &str = "whpk_";

/// What the private key is derived for: another purpose would have another key.
const ED25519_INFO: &[u8] = b"hookstream webhook signature ed25519";

/// A secret's keys, set up in advance, so that a signature costs no more than hashing the message. Wiped when dropped.
#[derive(Clone)]
pub struct SigningKey {
    /// The bytes behind `whsec_`.
    secret: Secret,
    /// Of these bytes.
    standard: Hmac<Sha256>,
    /// Of the text.
    text: Hmac<Sha256>,
    /// Made when it is first asked for: few webhooks have such signatures, and it costs as much as twenty others.
    ed25519: OnceLock<ed25519_dalek::SigningKey>,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

impl SigningKey {
    #[must_use]
    pub fn new(secret: &WebhookSecret) -> Self {
        Self { text: keyed(secret.text.expose().as_bytes()), ..Self::of_bytes(secret.key()) }
    }

    pub(super) fn of_bytes(secret: Secret) -> Self {
        let standard = keyed(secret.expose());
        Self { text: standard.clone(), standard, secret, ed25519: OnceLock::new() }
    }

    /// Derived, so that there is one secret to make, show, seal and rotate, and a new one has a new public key.
    fn pair(&self) -> &ed25519_dalek::SigningKey {
        self.ed25519.get_or_init(|| {
            let mut seed = Zeroizing::new([0; 32]);
            Hkdf::<Sha256>::new(None, self.secret.expose())
                .expand(ED25519_INFO, &mut *seed)
                .expect("32 bytes are within what HKDF gives");
            ed25519_dalek::SigningKey::from_bytes(&seed)
        })
    }

    /// HMAC-SHA256 over `id.timestamp.body`.
    pub(super) fn standard(&self, id: &str, timestamp: &str, body: &[u8]) -> [u8; 32] {
        mac(&self.standard, &[id.as_bytes(), b".", timestamp.as_bytes(), b".", body])
    }

    /// HMAC-SHA256 over all parts, with the secret's bytes.
    pub(super) fn with_bytes(&self, parts: &[&[u8]]) -> [u8; 32] {
        mac(&self.standard, parts)
    }

    /// HMAC-SHA256 over all parts, with the secret's text.
    pub(super) fn with_text(&self, parts: &[&[u8]]) -> [u8; 32] {
        mac(&self.text, parts)
    }

    /// Ed25519 over all of it (RFC 8032).
    pub(super) fn ed25519(&self, message: &[u8]) -> [u8; 64] {
        self.pair().sign(message).to_bytes()
    }

    /// What verifies the Ed25519 signatures: `whpk_` and base64.
    #[must_use]
    pub fn public_key(&self) -> String {
        format!("{PUBLIC_KEY_PREFIX}{}", STANDARD.encode(self.pair().verifying_key().as_bytes()))
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

fn mac(keyed: &Hmac<Sha256>, parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = keyed.clone();
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}
