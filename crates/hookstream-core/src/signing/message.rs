//! HTTP Message Signatures (RFC 9421), of requests as webhooks send them.
//!
//! Covered are method, target URI, `content-digest` (RFC 9530), `content-type` where there is one, and id and time of the
//! webhook. The key's id is the webhook's; the label is `sig1`, and `sig2` and so on for secrets that are being rotated out.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::SigningKey;
use super::profile::Algorithm;

/// Says what the signature is for (§2.3), so that receivers can tell it from a proxy's.
const TAG: &str = "webhook";

/// A request, as far as signatures cover it.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Of the webhook.
    pub key_id: &'a str,
    pub method: &'a str,
    /// As it is sent: absolute, with the host's ASCII form and a path.
    pub target: &'a str,
    pub content_type: Option<&'a str>,
    /// `webhook-id`
    pub id: &'a str,
    /// `webhook-timestamp`, in seconds.
    pub timestamp: i64,
    pub body: &'a [u8],
}

/// The three headers: `content-digest`, `signature-input`, `signature`.
pub(super) fn headers<'a>(
    message: &Message<'_>,
    algorithm: Algorithm,
    keys: impl Iterator<Item = &'a SigningKey>,
) -> [String; 3] {
    let digest = format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(message.body)));
    let parameters = parameters(message, algorithm);
    let base = base(message, &digest, &parameters);
    let (mut inputs, mut signatures) = (String::new(), String::new());
    for (n, key) in keys.enumerate() {
        let label = n + 1;
        let separator = if n == 0 { "" } else { ", " };
        let signature = match algorithm {
            Algorithm::HmacSha256 => STANDARD.encode(key.with_bytes(&[base.as_bytes()])),
            Algorithm::Ed25519 => STANDARD.encode(key.ed25519(base.as_bytes())),
        };
        // A String takes everything.
        write!(inputs, "{separator}sig{label}={parameters}").ok();
        write!(signatures, "{separator}sig{label}=:{signature}:").ok();
    }
    [digest, inputs, signatures]
}

/// `@signature-params` (§2.3).
fn parameters(message: &Message<'_>, algorithm: Algorithm) -> String {
    let content_type = if message.content_type.is_some() { " \"content-type\"" } else { "" };
    format!(
        "(\"@method\" \"@target-uri\" \"content-digest\"{content_type} \"webhook-id\" \"webhook-timestamp\");created={};keyid=\"{}\";alg=\"{}\";tag=\"{TAG}\"",
        message.timestamp,
        message.key_id,
        algorithm.name(),
    )
}

/// The signature base (§2.5).
fn base(message: &Message<'_>, digest: &str, parameters: &str) -> String {
    let Message { method, target, content_type, id, timestamp, .. } = message;
    let content_type =
        content_type.map_or_else(String::new, |value| format!("\"content-type\": {}\n", value.trim()));
    format!(
        "\"@method\": {method}\n\"@target-uri\": {target}\n\"content-digest\": {digest}\n{content_type}\"webhook-id\": {id}\n\"webhook-timestamp\": {timestamp}\n\"@signature-params\": {parameters}"
    )
}
