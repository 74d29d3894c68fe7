//! Whom an endpoint is believed to be, and who calls, where that differs from everyone else.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hookstream_types::SecretString;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// TLS of one webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    trust: Trust,
    identity: Option<Identity>,
    digest: [u8; 32],
}

/// Whom to believe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    /// Certificates (PEM) of the only authorities that are believed; none: the machine's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<Arc<str>>,
    /// If there are any: one of them is the public key of the endpoint's certificate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pins: Vec<Pin>,
}

impl Trust {
    /// Whether it is what everyone has.
    #[must_use]
    pub fn is_usual(&self) -> bool {
        self.ca.is_none() && self.pins.is_empty()
    }
}

/// SHA-256 of a certificate's `SubjectPublicKeyInfo` (RFC 7469 §2.4); as text in base64.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pin(pub [u8; 32]);

/// A text that is no pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be the SHA-256 of a certificate's public key (SubjectPublicKeyInfo), 32 bytes in base64")]
pub struct BadPin;

impl TryFrom<String> for Pin {
    type Error = BadPin;

    fn try_from(text: String) -> Result<Self, BadPin> {
        let bytes = STANDARD.decode(text).map_err(|_| BadPin)?;
        bytes.try_into().map(Self).map_err(|_| BadPin)
    }
}

impl From<Pin> for String {
    fn from(pin: Pin) -> Self {
        STANDARD.encode(pin.0)
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from(*self))
    }
}

/// Who calls: a client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// PEM, the leaf first.
    pub certificate: Arc<str>,
    /// PEM.
    pub key: SecretString,
}

impl Tls {
    /// None if it is what everyone has.
    #[must_use]
    pub fn new(trust: Option<&Trust>, identity: Option<Identity>) -> Option<Arc<Self>> {
        let trust = trust.cloned().unwrap_or_default();
        if trust.is_usual() && identity.is_none() {
            return None;
        }
        let mut digest = Sha256::new();
        let mut part = |bytes: &[u8]| {
            digest.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
            digest.update(bytes);
        };
        part(trust.ca.as_deref().unwrap_or_default().as_bytes());
        for pin in &trust.pins {
            part(&pin.0);
        }
        part(b"identity");
        if let Some(identity) = &identity {
            part(identity.certificate.as_bytes());
            part(identity.key.expose().as_bytes());
        }
        Some(Arc::new(Self { trust, identity, digest: digest.finalize().into() }))
    }

    #[must_use]
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// The same for the same, and for nothing else.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }
}
