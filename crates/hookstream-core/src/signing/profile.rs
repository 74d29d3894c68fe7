//! The formats of signatures.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::SigningKey;
use super::message::{self, Message};

/// How requests are signed, in one of the ways that receivers verify.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Profile {
    /// Standard Webhooks `v1`: HMAC-SHA256, with every secret that counts.
    Standard,
    /// Standard Webhooks `v1a`: Ed25519, with the key of every secret that counts. In the same header as `v1`.
    StandardEd25519,
    /// HMAC-SHA256 of the body alone, in lower-case hexadecimal, with the newest secret.
    HmacSha256Hex {
        /// Lower case.
        header: String,
    },
    /// `stripe-signature: t=…,v1=…`: HMAC-SHA256 of `t.body` in hexadecimal, with every secret that counts.
    Stripe,
    /// `x-hub-signature-256: sha256=…`: HMAC-SHA256 of the body in hexadecimal, with the newest secret.
    Github,
    /// `x-shopify-hmac-sha256`: HMAC-SHA256 of the body in base64, with the newest secret.
    Shopify,
    /// HTTP Message Signatures (RFC 9421), with every secret that counts.
    HttpMessage { algorithm: Algorithm },
}

/// How HTTP messages are signed (RFC 9421 §3.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    #[default]
    HmacSha256,
    Ed25519,
}

impl Algorithm {
    /// As the registry has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::HmacSha256 => "hmac-sha256",
            Self::Ed25519 => "ed25519",
        }
    }
}

impl Profile {
    /// Whether a secret must have the form of Standard Webhooks.
    fn is_standard(&self) -> bool {
        matches!(self, Self::Standard | Self::StandardEd25519)
    }

    fn is_ed25519(&self) -> bool {
        matches!(self, Self::StandardEd25519 | Self::HttpMessage { algorithm: Algorithm::Ed25519 })
    }

    /// Names of its headers, in lower case.
    fn names(&self) -> &[&str] {
        match self {
            Self::Standard | Self::StandardEd25519 => &["webhook-signature"],
            Self::HmacSha256Hex { .. } => &[],
            Self::Stripe => &["stripe-signature"],
            Self::Github => &["x-hub-signature-256"],
            Self::Shopify => &["x-shopify-hmac-sha256"],
            Self::HttpMessage { .. } => &["content-digest", "signature-input", "signature"],
        }
    }
}

/// All signatures of a webhook's requests. None: the receiver trusts the secret's header, or an authorization.
///
/// Every request has `webhook-id` and `webhook-timestamp`, so that a receiver can drop duplicates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Signatures(Vec<Profile>);

impl Default for Signatures {
    fn default() -> Self {
        Self(vec![Profile::Standard])
    }
}

impl From<Vec<Profile>> for Signatures {
    /// Each profile counts once.
    fn from(profiles: Vec<Profile>) -> Self {
        let mut distinct: Vec<Profile> = Vec::with_capacity(profiles.len());
        for profile in profiles {
            if !distinct.contains(&profile) {
                distinct.push(profile);
            }
        }
        Self(distinct)
    }
}

impl Signatures {
    #[must_use]
    pub fn profiles(&self) -> &[Profile] {
        &self.0
    }

    /// Whether the secret may be any text: nothing of Standard Webhooks is made of it.
    #[must_use]
    pub fn take_any_secret(&self) -> bool {
        !self.0.iter().any(Profile::is_standard)
    }

    /// Whether receivers need the public key.
    #[must_use]
    pub fn have_public_key(&self) -> bool {
        self.0.iter().any(Profile::is_ed25519)
    }

    /// Names of the headers that carry id, time and signatures, in sending order; lower case. A name that is there twice
    /// is one that two profiles want.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let mut names = vec!["webhook-id", "webhook-timestamp"];
        let mut has_standard = false;
        for profile in &self.0 {
            if profile.is_standard() && std::mem::replace(&mut has_standard, true) {
                continue;
            }
            match profile {
                Profile::HmacSha256Hex { header } => names.push(header),
                other => names.extend(other.names()),
            }
        }
        names
    }

    /// The values of these headers, in the same order. The keys are those that count, the newest first.
    ///
    /// Signatures are empty without a key: callers don't send unsigned requests.
    #[must_use]
    pub fn values<'a>(
        &self,
        keys: impl Iterator<Item = &'a SigningKey> + Clone,
        message: &Message<'_>,
    ) -> Vec<String> {
        let Message { id, timestamp, body, .. } = *message;
        let timestamp = timestamp.to_string();
        let newest = |parts: &[&[u8]]| keys.clone().next().map(|key| key.with_text(parts));
        let mut values = Vec::with_capacity(self.0.len() + 2);
        values.extend([id.to_owned(), timestamp.clone()]);
        let mut standard = None;
        for profile in &self.0 {
            match profile {
                Profile::Standard | Profile::StandardEd25519 => {
                    let at = *standard.get_or_insert_with(|| {
                        values.push(String::new());
                        values.len() - 1
                    });
                    let is_hmac = *profile == Profile::Standard;
                    push_standard(&mut values[at], is_hmac, keys.clone(), id, &timestamp, body);
                }
                Profile::HmacSha256Hex { .. } => {
                    values.push(newest(&[body]).map(|mac| hex(&mac)).unwrap_or_default());
                }
                Profile::Stripe => {
                    let mut value = format!("t={timestamp}");
                    for key in keys.clone() {
                        value.push_str(",v1=");
                        value.push_str(&hex(&key.with_text(&[timestamp.as_bytes(), b".", body])));
                    }
                    values.push(value);
                }
                Profile::Github => {
                    values
                        .push(newest(&[body]).map(|mac| format!("sha256={}", hex(&mac))).unwrap_or_default());
                }
                Profile::Shopify => {
                    values.push(newest(&[body]).map(|mac| STANDARD.encode(mac)).unwrap_or_default());
                }
                Profile::HttpMessage { algorithm } => {
                    values.extend(message::headers(message, *algorithm, keys.clone()));
                }
            }
        }
        values
    }
}

/// Adds the signatures with all keys, in their order, separated by a space.
fn push_standard<'a>(
    out: &mut String,
    is_hmac: bool,
    keys: impl Iterator<Item = &'a SigningKey>,
    id: &str,
    timestamp: &str,
    body: &[u8],
) {
    /// `v1a,`, 64 bytes in base64, and the space.
    const SIGNATURE_CHARS: usize = 4 + 88 + 1;
    // Ed25519 wants the message in one piece.
    let signed =
        if is_hmac { Vec::new() } else { [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat() };
    for key in keys {
        out.reserve(SIGNATURE_CHARS);
        if !out.is_empty() {
            out.push(' ');
        }
        if is_hmac {
            out.push_str("v1,");
            STANDARD.encode_string(key.standard(id, timestamp, body), out);
        } else {
            out.push_str("v1a,");
            STANDARD.encode_string(key.ed25519(&signed), out);
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signature, VerifyingKey};
    use hookstream_types::{SecretString, UnixMillis};

    use super::*;
    use crate::config::WebhookSecret;
    use crate::signing::{DEFAULT_TOLERANCE_SECS, PUBLIC_KEY_PREFIX, Signed, parse_secret, sign_v1, verify};

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const TIME: i64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;

    fn key(secret: &str) -> SigningKey {
        SigningKey::new(&WebhookSecret::new(SecretString::new(secret.to_owned())))
    }

    fn message(body: &[u8]) -> Message<'_> {
        Message {
            key_id: "0198c0de-0000-7000-8000-000000000001",
            method: "POST",
            target: "https://example.com/hook?a=b",
            content_type: Some("application/json"),
            id: ID,
            timestamp: TIME,
            body,
        }
    }

    fn values(profiles: Vec<Profile>, keys: &[SigningKey], body: &[u8]) -> Vec<(String, String)> {
        let signatures = Signatures::from(profiles);
        let values = signatures.values(keys.iter(), &message(body));
        let names = signatures.names();
        assert_eq!(names.len(), values.len());
        names.into_iter().map(str::to_owned).zip(values).skip(2).collect()
    }

    /// The vector of the profile platform, whose printed body lacks a comma.
    #[test]
    fn the_body_alone_in_hexadecimal() {
        let body = concat!(
            "{\n  \"eventTime\": \"18.03.2024T09:56:17Z\"\n  \"profileType\": \"TRAVELLER\",\n  \"event\": \"UPDATE\",\n",
            "  \"uuid\": \"25b46ba4-0e9e-4baa-83bd-ac21a50ef998\",\n  \"company\": {\n",
            "    \"uuid\": \"34f277f5-2618-4c9e-aa08-affa9f02dfaa\"\n  }\n}"
        );
        let profile = Profile::HmacSha256Hex { header: "x-signature".to_owned() };
        let expected = "bd5c6ea7cbf75262ec0f835213f213b345dd9645624945622555475592def94f";
        let signed = values(vec![profile], &[key("S3cret!")], body.as_bytes());
        assert_eq!(signed, [("x-signature".to_owned(), expected.to_owned())]);
    }

    /// The documentation of GitHub's webhooks, "Testing the webhook payload validation".
    #[test]
    fn the_vector_of_github() {
        let signed = values(vec![Profile::Github], &[key("It's a Secret to Everybody")], b"Hello, World!");
        let expected = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        assert_eq!(signed, [("x-hub-signature-256".to_owned(), expected.to_owned())]);
    }

    #[test]
    fn every_secret_signs_while_one_is_rotated_out() {
        let keys = [key(&format!("whsec_{}", STANDARD.encode([1; 32]))), key(SECRET)];
        let standard = values(vec![Profile::Standard], &keys, BODY);
        let of = |text: &str| sign_v1(&parse_secret(text).unwrap(), ID, TIME, BODY);
        assert!(standard[0].1.ends_with(&format!(" {}", of(SECRET))) && standard[0].1.len() == 2 * 47 + 1);
        let timestamp = TIME.to_string();
        let signed = Signed { id: ID, timestamp: &timestamp, signature: &standard[0].1 };
        let now = UnixMillis(TIME * 1000);
        let secret = parse_secret(SECRET).unwrap();
        assert_eq!(verify(&[secret], signed, BODY, now, DEFAULT_TOLERANCE_SECS), Ok(()));

        let stripe = values(vec![Profile::Stripe], &keys, BODY);
        assert_eq!(stripe[0].0, "stripe-signature");
        assert!(stripe[0].1.starts_with("t=1614265330,v1=") && stripe[0].1.matches(",v1=").count() == 2);
        let http = values(vec![Profile::HttpMessage { algorithm: Algorithm::HmacSha256 }], &keys, BODY);
        assert!(http[1].1.contains("sig1=(") && http[1].1.contains(", sig2=("), "{http:?}");
        assert_eq!(http[2].1.matches(":").count(), 4);
        // Those that have room for one have the newest.
        for profile in [Profile::Github, Profile::Shopify] {
            assert_eq!(values(vec![profile.clone()], &keys, BODY), values(vec![profile], &keys[..1], BODY));
        }
    }

    #[test]
    fn ed25519_verifies_with_the_public_key() {
        let keys = [key(SECRET)];
        let public = keys[0].public_key();
        let bytes = STANDARD.decode(public.strip_prefix(PUBLIC_KEY_PREFIX).unwrap()).unwrap();
        let public = VerifyingKey::from_bytes(&bytes.try_into().unwrap()).unwrap();
        let check = |signed: &[u8], base64: &str| {
            let signature = Signature::from_slice(&STANDARD.decode(base64).unwrap()).unwrap();
            public.verify_strict(signed, &signature).is_ok()
        };
        let both = values(vec![Profile::Standard, Profile::StandardEd25519], &keys, BODY);
        assert_eq!(both.len(), 1);
        let (v1, v1a) = both[0].1.split_once(' ').unwrap();
        assert_eq!(v1, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let signed = [ID.as_bytes(), b".", TIME.to_string().as_bytes(), b".", BODY].concat();
        assert!(check(&signed, v1a.strip_prefix("v1a,").unwrap()));
        assert!(!check(b"another", v1a.strip_prefix("v1a,").unwrap()));

        let http = values(vec![Profile::HttpMessage { algorithm: Algorithm::Ed25519 }], &keys, BODY);
        let names: Vec<&str> = http.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["content-digest", "signature-input", "signature"]);
        let base = format!(
            "\"@method\": POST\n\"@target-uri\": https://example.com/hook?a=b\n\"content-digest\": {}\n\
             \"content-type\": application/json\n\"webhook-id\": {ID}\n\"webhook-timestamp\": {TIME}\n\
             \"@signature-params\": {}",
            http[0].1,
            http[1].1.strip_prefix("sig1=").unwrap(),
        );
        let signature = http[2].1.strip_prefix("sig1=:").unwrap().strip_suffix(':').unwrap();
        assert!(check(base.as_bytes(), signature));
    }

    /// RFC 9530, appendix B.1 has the digest of this body.
    #[test]
    fn the_digest_of_a_body() {
        let body = b"{\"hello\": \"world\"}\n";
        let http =
            values(vec![Profile::HttpMessage { algorithm: Algorithm::HmacSha256 }], &[key(SECRET)], body);
        assert_eq!(http[0].1, "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:");
    }

    #[test]
    fn what_profiles_need() {
        assert!(!Signatures::default().take_any_secret() && !Signatures::default().have_public_key());
        let twice = Signatures::from(vec![Profile::Github, Profile::Github]);
        assert_eq!(twice.profiles(), [Profile::Github]);
        assert!(twice.take_any_secret());
        assert!(Signatures::from(vec![Profile::StandardEd25519]).have_public_key());
        let none = Signatures::from(Vec::new());
        assert_eq!(none.names(), ["webhook-id", "webhook-timestamp"]);
        assert_eq!(none.values([key(SECRET)].iter(), &message(b"")), [ID, "1614265330"]);
    }
}
