//! The outside of a signed token (RFC 7515 §7.1), and its claims, read strictly.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hookstream_types::UnixMillis;
use serde_json::{Map, Value};

use super::strict_json;

/// The longest token that is looked into: an ES256 token with a dozen claims has 700 bytes.
pub(super) const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// How far an issuer's clock may be from ours.
pub(super) const LEEWAY_SECS: i64 = 60;
/// The longest lifetime that a token may have.
pub const MAX_LIFETIME_SECS: i64 = 24 * 3600;
/// The end of the year 9999: what is later is no date.
const MAX_NUMERIC_DATE: i64 = 253_402_300_799;

/// Why a token is refused. Nothing of the token is part of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the token has more than 8192 bytes")]
    TooLong,
    #[error("the token is no JWT in compact form")]
    Malformed,
    #[error("the token's header is no JSON object, or a name stands in it twice")]
    Header,
    #[error("the token's header has a `crit` extension: none is known here")]
    Critical,
    #[error("the token's type is not `at+jwt` or `JWT`")]
    Type,
    #[error("the token's algorithm is not the one of its key")]
    Algorithm,
    #[error("the token names no key (`kid`), or one that is unknown or no longer used")]
    UnknownKey,
    #[error("the token's signature is wrong")]
    Signature,
    #[error("the token's claims are no JSON object, or a name stands in them twice")]
    Claims,
    #[error("the token's claim `{0}` is missing or has the wrong type")]
    Claim(&'static str),
    #[error("the token's issuer (`iss`) is not one of those configured")]
    Issuer,
    #[error("the token is for another audience (`aud`)")]
    Audience,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet: see the claims `nbf` and `iat`")]
    NotYet,
    #[error("the token's lifetime is longer than 24 hours")]
    Lifetime,
    #[error("the token is an ID token: use the access token")]
    IdToken,
    #[error("the token was made for another sign-in (`nonce`)")]
    Nonce,
    #[error("the token is bound to no account that exists here")]
    Account,
    #[error(
        "the client is not registered here, or is disabled, or was bound anew since the token was issued"
    )]
    Client,
}

/// A token whose outside is well-formed; nothing in it is verified.
#[derive(Debug)]
pub(super) struct Compact<'a> {
    pub alg: String,
    pub kid: Option<String>,
    pub typ: Option<String>,
    /// What is signed.
    pub signed: &'a [u8],
    pub claims: Claims,
    pub signature: Vec<u8>,
}

/// A token's claims; each is read with its type.
#[derive(Debug)]
pub(super) struct Claims(Map<String, Value>);

impl<'a> Compact<'a> {
    pub(super) fn parse(token: &'a str) -> Result<Self, Refused> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refused::TooLong);
        }
        let mut parts = token.split('.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Refused::Malformed);
        };
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Refused::Malformed);
        let signed = &token.as_bytes()[..header.len() + 1 + claims.len()];
        let (header, claims, signature) = (decode(header)?, decode(claims)?, decode(signature)?);

        // `jku`, `x5u`, `jwk` and `x5c` would let the token choose its own key: nothing here reads them.
        let header = strict_json::object(&header).ok_or(Refused::Header)?;
        if header.contains_key("crit") {
            return Err(Refused::Critical);
        }
        let text = |name: &str| match header.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(Refused::Header),
        };
        let alg = text("alg")?.ok_or(Refused::Header)?;
        let (kid, typ) = (text("kid")?, text("typ")?);
        let claims = Claims(strict_json::object(&claims).ok_or(Refused::Claims)?);
        Ok(Self { alg, kid, typ, signed, claims, signature })
    }

    /// Whether `typ` is `name`: media types don't care about case, nor about `application/` (RFC 7515 §4.1.9).
    pub(super) fn is_type(&self, name: &str) -> bool {
        self.typ.as_deref().is_some_and(|typ| {
            let typ = match typ.split_at_checked("application/".len()) {
                Some((prefix, rest)) if prefix.eq_ignore_ascii_case("application/") => rest,
                _ => typ,
            };
            typ.eq_ignore_ascii_case(name)
        })
    }
}

impl Claims {
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// A text that may be missing; `as_name` is what an error calls it.
    pub(super) fn text(&self, name: &str, as_name: &'static str) -> Result<Option<&str>, Refused> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Refused::Claim(as_name)),
        }
    }

    /// A text that must be there, and not be empty.
    pub(super) fn required(&self, name: &'static str) -> Result<&str, Refused> {
        self.text(name, name)?.filter(|text| !text.is_empty()).ok_or(Refused::Claim(name))
    }

    /// `aud`, a text or a list of texts, has `ours`.
    pub(super) fn check_audience(&self, ours: &str) -> Result<(), Refused> {
        let found = match self.0.get("aud") {
            Some(Value::String(audience)) => audience == ours,
            Some(Value::Array(audiences)) => {
                if !audiences.iter().all(Value::is_string) {
                    return Err(Refused::Claim("aud"));
                }
                audiences.iter().any(|audience| audience == ours)
            }
            _ => return Err(Refused::Claim("aud")),
        };
        if found { Ok(()) } else { Err(Refused::Audience) }
    }

    /// A date in whole seconds: what is a text, a fraction or no date at all is refused, never skipped.
    fn date(&self, name: &'static str) -> Result<Option<i64>, Refused> {
        match self.0.get(name) {
            None => Ok(None),
            Some(value) => value
                .as_i64()
                .filter(|secs| (0..=MAX_NUMERIC_DATE).contains(secs))
                .map(Some)
                .ok_or(Refused::Claim(name)),
        }
    }

    /// `exp`, `nbf` and `iat`; without `iat`, the lifetime counts from now.
    pub(super) fn check_times(&self, now: UnixMillis) -> Result<(), Refused> {
        let now = now.0.div_euclid(1000);
        let exp = self.date("exp")?.ok_or(Refused::Claim("exp"))?;
        let (nbf, iat) = (self.date("nbf")?, self.date("iat")?);
        if exp.saturating_add(LEEWAY_SECS) <= now {
            return Err(Refused::Expired);
        }
        if [nbf, iat].into_iter().flatten().any(|date| date > now.saturating_add(LEEWAY_SECS)) {
            return Err(Refused::NotYet);
        }
        let longest = match iat {
            Some(iat) => iat + MAX_LIFETIME_SECS,
            None => now.saturating_add(MAX_LIFETIME_SECS + LEEWAY_SECS),
        };
        if exp > longest {
            return Err(Refused::Lifetime);
        }
        Ok(())
    }
}
