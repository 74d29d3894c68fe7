//! Signatures that let a receiver know who sent a request, and that nobody changed it.
//!
//! The usual [`Profile`]: [Standard Webhooks](https://www.standardwebhooks.com/) `v1`, HMAC-SHA256 over
//! `id.timestamp.body`, sent in `webhook-signature` as `v1,<base64>`. Several secrets, while one of them is being
//! rotated out, give several signatures separated by a space. The body is signed as the bytes that are sent, so
//! a receiver must verify before it parses.

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use hookstream_types::{Secret, UnixMillis};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

/// What a signing secret's text begins with.
pub const SECRET_PREFIX: &str = "whsec_";
/// Bytes of a signing secret (Standard Webhooks: "between 24 bytes (192 bits) and 64 bytes (512 bits)").
pub const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// How far a request's timestamp may be from the receiver's clock, as the reference libraries have it.
pub const DEFAULT_TOLERANCE_SECS: u64 = 300;

const VERSION: &str = "v1";

/// Secrets come from many hands, with and without padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why a text is no signing secret. The text itself is never part of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSecret {
    #[error("a signing secret starts with `whsec_`")]
    Prefix,
    #[error("a signing secret is base64 after `whsec_`")]
    Base64,
    #[error("a signing secret has 24 to 64 bytes, this one has {0}")]
    Length(usize),
}

/// Reads a secret from its text, `whsec_` and base64.
///
/// # Errors
/// [`BadSecret`] says which part is wrong.
pub fn parse_secret(text: &str) -> Result<Secret, BadSecret> {
    let encoded = text.strip_prefix(SECRET_PREFIX).ok_or(BadSecret::Prefix)?;
    // Wrapped at once, so that the bytes are wiped on every way out.
    let secret = Secret::new(LENIENT.decode(encoded).map_err(|_| BadSecret::Base64)?);
    let len = secret.expose().len();
    if SECRET_BYTES.contains(&len) { Ok(secret) } else { Err(BadSecret::Length(len)) }
}

/// A secret's text: what a receiver is given.
#[must_use]
pub fn secret_text(secret: &Secret) -> hookstream_types::SecretString {
    hookstream_types::SecretString::new(format!("{SECRET_PREFIX}{}", STANDARD.encode(secret.expose())))
}

/// How requests are signed.
///
/// Every profile sends `webhook-id` and `webhook-timestamp`, so that a receiver can drop duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Profile {
    /// Standard Webhooks `v1`, with every secret that counts.
    #[default]
    Standard,
    /// HMAC-SHA256 of the body alone, in lower-case hexadecimal, with the newest secret.
    HmacSha256Hex {
        /// Lower case.
        header: String,
    },
    /// Not signed: the receiver trusts the secret's header or an authorization.
    None,
}

impl Profile {
    /// Names of the headers that carry id, time and signature, in sending order; lower case.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let mut names = vec!["webhook-id", "webhook-timestamp"];
        match self {
            Self::Standard => names.push("webhook-signature"),
            Self::HmacSha256Hex { header } => names.push(header),
            Self::None => {}
        }
        names
    }

    /// The values of these headers, in the same order. The keys are those that count, the newest first.
    ///
    /// The signature is empty without a key: callers don't send unsigned requests.
    #[must_use]
    pub fn values<'a>(
        &self,
        keys: impl Iterator<Item = &'a SigningKey>,
        id: &str,
        timestamp_secs: i64,
        body: &[u8],
    ) -> Vec<String> {
        let mut values = Vec::with_capacity(3);
        values.extend([id.to_owned(), timestamp_secs.to_string()]);
        match self {
            Self::Standard => values.push(sign_all(keys, id, timestamp_secs, body)),
            Self::HmacSha256Hex { .. } => {
                let mut keys = keys;
                values.push(keys.next().map(|key| key.body_hex(body)).unwrap_or_default());
            }
            Self::None => {}
        }
        values
    }
}

/// A secret with its HMAC keyed in advance, so that a signature costs no more than hashing the message.
#[derive(Clone)]
pub struct SigningKey(Hmac<Sha256>);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

impl SigningKey {
    #[must_use]
    pub fn new(secret: &Secret) -> Self {
        Self(Hmac::new_from_slice(secret.expose()).expect("HMAC takes keys of any length"))
    }

    fn mac(&self, id: &str, timestamp: &str, body: &[u8]) -> [u8; 32] {
        let mut mac = self.0.clone();
        mac.update(id.as_bytes());
        mac.update(b".");
        mac.update(timestamp.as_bytes());
        mac.update(b".");
        mac.update(body);
        mac.finalize().into_bytes().into()
    }

    fn body_hex(&self, body: &[u8]) -> String {
        let mut mac = self.0.clone();
        mac.update(body);
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The signature with one secret: `v1,<base64>`.
#[must_use]
pub fn sign_v1(secret: &Secret, id: &str, timestamp_secs: i64, body: &[u8]) -> String {
    sign_all([&SigningKey::new(secret)].into_iter(), id, timestamp_secs, body)
}

/// The signatures with all keys, in their order, separated by a space.
#[must_use]
pub fn sign_all<'a>(
    keys: impl Iterator<Item = &'a SigningKey>,
    id: &str,
    timestamp_secs: i64,
    body: &[u8],
) -> String {
    /// `v1,`, 32 bytes in base64, and the space.
    const SIGNATURE_CHARS: usize = 3 + 44 + 1;
    let timestamp = timestamp_secs.to_string();
    let mut out = String::with_capacity(SIGNATURE_CHARS);
    for key in keys {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(VERSION);
        out.push(',');
        STANDARD.encode_string(key.mac(id, &timestamp, body), &mut out);
    }
    out
}

/// The three headers of a signed request, as they came.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    pub id: &'a str,
    pub timestamp: &'a str,
    pub signature: &'a str,
}

/// Why a request is not to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    #[error("`webhook-id` is empty")]
    NoId,
    #[error("`webhook-timestamp` is not a number of seconds")]
    BadTimestamp,
    #[error("the request's time is {0} s in the past, more than is tolerated")]
    TooOld(u64),
    #[error("the request's time is {0} s in the future, more than is tolerated")]
    TooNew(u64),
    #[error("`webhook-signature` has no `v1` signature that fits the secret and the body")]
    NoMatch,
}

/// Verifies a request as a receiver does: any `v1` signature with any of the secrets will do.
///
/// Comparisons take the same time whatever the difference.
///
/// # Errors
/// [`Untrusted`] says why not.
pub fn verify(
    secrets: &[Secret],
    signed: Signed<'_>,
    body: &[u8],
    now: UnixMillis,
    tolerance_secs: u64,
) -> Result<(), Untrusted> {
    if signed.id.is_empty() {
        return Err(Untrusted::NoId);
    }
    if signed.timestamp.is_empty() || !signed.timestamp.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Untrusted::BadTimestamp);
    }
    let sent: i64 = signed.timestamp.parse().map_err(|_| Untrusted::BadTimestamp)?;
    let now = now.0.div_euclid(1000);
    let distance = now.abs_diff(sent);
    if distance > tolerance_secs {
        return Err(if sent < now { Untrusted::TooOld(distance) } else { Untrusted::TooNew(distance) });
    }
    let mut good = subtle::Choice::from(0);
    for secret in secrets {
        let expected = SigningKey::new(secret).mac(signed.id, signed.timestamp, body);
        for candidate in signed.signature.split(' ') {
            let Some(("v1", encoded)) = candidate.split_once(',') else { continue };
            let mut given = [0; 33];
            let Ok(32) = STANDARD.decode_slice(encoded, &mut given) else { continue };
            good |= expected.as_slice().ct_eq(&given[..32]);
        }
    }
    if bool::from(good) { Ok(()) } else { Err(Untrusted::NoMatch) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const TIME: i64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn check(signature: &str, body: &[u8], seconds_later: i64) -> Result<(), Untrusted> {
        let secret = parse_secret(SECRET).unwrap();
        let timestamp = TIME.to_string();
        let signed = Signed { id: ID, timestamp: &timestamp, signature };
        verify(&[secret], signed, body, UnixMillis((TIME + seconds_later) * 1000), DEFAULT_TOLERANCE_SECS)
    }

    #[test]
    fn the_vector_of_standard_webhooks() {
        let secret = parse_secret(SECRET).unwrap();
        assert_eq!(sign_v1(&secret, ID, TIME, BODY), SIGNATURE);
        assert_eq!(secret_text(&secret).expose(), SECRET);
        assert_eq!(check(SIGNATURE, BODY, 0), Ok(()));
    }

    #[test]
    fn what_a_receiver_must_refuse() {
        assert_eq!(check(SIGNATURE, BODY, 300), Ok(()));
        assert_eq!(check(SIGNATURE, BODY, 301), Err(Untrusted::TooOld(301)));
        assert_eq!(check(SIGNATURE, BODY, -300), Ok(()));
        assert_eq!(check(SIGNATURE, BODY, -301), Err(Untrusted::TooNew(301)));
        assert_eq!(check(SIGNATURE, br#"{"test":2432232314}"#, 0), Err(Untrusted::NoMatch));
        for other in ["", "v1", "v1,", "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", "v1,g0hM"] {
            assert_eq!(check(other, BODY, 0), Err(Untrusted::NoMatch), "{other}");
        }
        for version in ["v0", "v1a", "v2", "V1"] {
            assert_eq!(check(&SIGNATURE.replace("v1", version), BODY, 0), Err(Untrusted::NoMatch));
        }
        assert_eq!(check(&format!("v1a,AAAA v1,AAAA {SIGNATURE}"), BODY, 0), Ok(()));
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
        let keys = [SigningKey::new(&Secret::new(b"S3cret!".to_vec()))];
        let values = profile.values(keys.iter(), ID, TIME, body.as_bytes());
        assert_eq!(profile.names()[2], "x-signature");
        assert_eq!(values[2], "bd5c6ea7cbf75262ec0f835213f213b345dd9645624945622555475592def94f");
        assert_eq!(Profile::None.names(), ["webhook-id", "webhook-timestamp"]);
        assert_eq!(Profile::None.values(keys.iter(), ID, TIME, b""), [ID, "1614265330"]);
    }

    #[test]
    fn timestamps_are_digits() {
        let secret = parse_secret(SECRET).unwrap();
        for timestamp in
            ["", "+1614265330", "-1", "1e9", "1614265330.0", " 1614265330", "99999999999999999999"]
        {
            let signed = Signed { id: ID, timestamp, signature: SIGNATURE };
            let verdict = verify(std::slice::from_ref(&secret), signed, BODY, UnixMillis(TIME * 1000), 300);
            assert_eq!(verdict, Err(Untrusted::BadTimestamp), "{timestamp}");
        }
    }

    #[test]
    fn each_secret_signs_while_one_is_rotated_out() {
        let (new, old) = (Secret::new(vec![1; 32]), parse_secret(SECRET).unwrap());
        let keys = [SigningKey::new(&new), SigningKey::new(&old)];
        let both = sign_all(keys.iter(), ID, TIME, BODY);
        assert_eq!(both, format!("{} {SIGNATURE}", sign_v1(&new, ID, TIME, BODY)));
        assert_eq!(check(&both, BODY, 0), Ok(()));
    }

    #[test]
    fn what_is_no_secret() {
        let of = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
        for (text, expected) in [
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned(), BadSecret::Prefix),
            ("whsec_no base64!".to_owned(), BadSecret::Base64),
            ("whsec_".to_owned(), BadSecret::Length(0)),
            (of(23), BadSecret::Length(23)),
            (of(65), BadSecret::Length(65)),
        ] {
            assert_eq!(parse_secret(&text).unwrap_err(), expected);
        }
        assert!(parse_secret(&of(24)).is_ok() && parse_secret(&of(64)).is_ok());
        assert!(parse_secret(of(32).trim_end_matches('=')).is_ok());
    }
}
