//! Signatures that let a receiver know who sent a request, and that nobody changed it.
//!
//! The usual [`Profile`]: [Standard Webhooks](https://www.standardwebhooks.com/) `v1`, HMAC-SHA256 over
//! `id.timestamp.body`, sent in `webhook-signature` as `v1,<base64>`. Several secrets, while one of them is being
//! rotated out, give several signatures separated by a space. The body is signed as the bytes that are sent, so
//! a receiver must verify before it parses.
//!
//! Other profiles have the formats that receivers of other platforms verify already. A webhook may have several
//! ([`Signatures`]). All are made of its secret: Standard Webhooks and RFC 9421 take the bytes behind `whsec_`, or the text's own
//! if it does not start so; the others take the text as it stands, as their receivers do.

mod key;
mod message;
mod profile;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use hookstream_types::{Secret, UnixMillis};
use subtle::ConstantTimeEq as _;

pub use self::key::{PUBLIC_KEY_PREFIX, SigningKey};
pub use self::message::Message;
pub use self::profile::{Algorithm, Profile, Signatures};

/// What a signing secret's text begins with.
pub const SECRET_PREFIX: &str = "whsec_";
/// Bytes of a signing secret (Standard Webhooks: "between 24 bytes (192 bits) and 64 bytes (512 bits)").
pub const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// How far a request's timestamp may be from the receiver's clock, as the reference libraries have it.
pub const DEFAULT_TOLERANCE_SECS: u64 = 300;

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

/// The signature with one secret: `v1,<base64>`.
#[must_use]
pub fn sign_v1(secret: &Secret, id: &str, timestamp_secs: i64, body: &[u8]) -> String {
    let mac = SigningKey::of_bytes(secret.clone()).standard(id, &timestamp_secs.to_string(), body);
    format!("v1,{}", STANDARD.encode(mac))
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
        let expected = SigningKey::of_bytes(secret.clone()).standard(signed.id, signed.timestamp, body);
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
