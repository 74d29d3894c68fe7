//! Access tokens that we issue: JWTs (RFC 9068) that only we verify, hence with a symmetric key.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use hookstream_types::{AccountUid, AppId, Secret, SecretString, UnixMillis};
use serde::Serialize;
use sha2::Sha256;

use super::Fill;
pub use super::compact::MAX_LIFETIME_SECS;
use super::compact::{Claims, Compact, Refused};
use super::principal::Bound;
use super::scope::Scopes;

/// What a token is valid for, unless settings say otherwise.
pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(3600);
const ALGORITHM: &str = "HS256";
const TYPE: &str = "at+jwt";
const KEY_BYTES: usize = 32;
const JTI_BYTES: usize = 16;

/// Whom a token is for, and what it may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The client's id.
    pub client: String,
    pub scopes: Scopes,
    pub bound: Bound,
    pub access_type: Option<String>,
}

/// A token just made.
#[derive(Clone, Debug)]
pub struct Issued {
    pub token: SecretString,
    pub expires_in: Duration,
}

/// Why there can be no tokens with these settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTokens {
    #[error("there is no key to sign access tokens with")]
    NoKey,
    #[error("a key for access tokens has {0} bytes instead of 32")]
    KeyLength(usize),
    #[error("two keys for access tokens have the same id")]
    DuplicateKid,
    #[error("access tokens are valid for 1 s to 24 h, not {} s", .0.as_secs())]
    Lifetime(Duration),
}

/// Issues and verifies our access tokens.
#[derive(Clone)]
pub struct AccessTokens {
    keys: Vec<(String, Hmac<Sha256>)>,
    /// Both `iss` and `aud`: we issue them for ourselves.
    issuer: String,
    lifetime: Duration,
}

#[derive(Serialize)]
struct HeaderOut<'a> {
    alg: &'a str,
    typ: &'a str,
    kid: &'a str,
}

#[derive(Serialize)]
struct ClaimsOut<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    client_id: &'a str,
    iat: i64,
    exp: i64,
    jti: String,
    scope: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<AccountUid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<AppId>,
    /// Said, not left out: a claim that is lost must not open every account.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    everything: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_type: Option<&'a str>,
}

impl AccessTokens {
    /// With keys of 32 bytes by their ids: the first signs, all verify. `issuer` is our URL.
    ///
    /// # Errors
    /// [`BadTokens`] if a key or the lifetime can't be used.
    pub fn new(
        keys: impl IntoIterator<Item = (String, Secret)>,
        issuer: String,
        lifetime: Duration,
    ) -> Result<Self, BadTokens> {
        let mut hmacs: Vec<(String, Hmac<Sha256>)> = Vec::new();
        for (kid, key) in keys {
            if key.expose().len() != KEY_BYTES {
                return Err(BadTokens::KeyLength(key.expose().len()));
            }
            if hmacs.iter().any(|(known, _)| *known == kid) {
                return Err(BadTokens::DuplicateKid);
            }
            hmacs.push((kid, Hmac::new_from_slice(key.expose()).expect("HMAC takes keys of any length")));
        }
        if hmacs.is_empty() {
            return Err(BadTokens::NoKey);
        }
        let longest = Duration::from_secs(MAX_LIFETIME_SECS.unsigned_abs());
        if !(Duration::from_secs(1)..=longest).contains(&lifetime) {
            return Err(BadTokens::Lifetime(lifetime));
        }
        Ok(Self { keys: hmacs, issuer, lifetime })
    }

    #[must_use]
    pub fn issue(&self, grant: &Grant, now: UnixMillis, fill: Fill<'_>) -> Issued {
        let (kid, key) = self.keys.first().expect("there is a key: `new` looked");
        let mut jti = [0; JTI_BYTES];
        fill(&mut jti);
        let iat = now.0.div_euclid(1000);
        let claims = ClaimsOut {
            iss: &self.issuer,
            aud: &self.issuer,
            sub: &grant.client,
            client_id: &grant.client,
            iat,
            exp: iat.saturating_add_unsigned(self.lifetime.as_secs()),
            jti: URL_SAFE_NO_PAD.encode(jti),
            scope: grant.scopes.to_string(),
            account: grant.bound.account(),
            app: match grant.bound {
                Bound::App { app, .. } => Some(app),
                Bound::Everything | Bound::Account(_) => None,
            },
            everything: grant.bound == Bound::Everything,
            access_type: grant.access_type.as_deref(),
        };
        let mut token = encoded(&HeaderOut { alg: ALGORITHM, typ: TYPE, kid });
        token.push('.');
        token.push_str(&encoded(&claims));
        let mut mac = key.clone();
        mac.update(token.as_bytes());
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()));
        Issued { token: SecretString::new(token), expires_in: Duration::from_secs(self.lifetime.as_secs()) }
    }

    /// Whether a token says that it is one of these; which is not to be believed.
    pub(super) fn claims_to_be(token: &Compact<'_>) -> bool {
        token.alg == ALGORITHM
    }

    pub(super) fn verify(&self, token: &Compact<'_>, now: UnixMillis) -> Result<Grant, Refused> {
        if token.alg != ALGORITHM {
            return Err(Refused::Algorithm);
        }
        if !token.is_type(TYPE) {
            return Err(Refused::Type);
        }
        let kid = token.kid.as_deref().ok_or(Refused::UnknownKey)?;
        let (_, key) = self.keys.iter().find(|(known, _)| known == kid).ok_or(Refused::UnknownKey)?;
        let mut mac = key.clone();
        mac.update(token.signed);
        mac.verify_slice(&token.signature).map_err(|_| Refused::Signature)?;
        let claims = &token.claims;
        if claims.required("iss")? != self.issuer {
            return Err(Refused::Issuer);
        }
        claims.check_audience(&self.issuer)?;
        claims.check_times(now)?;
        Ok(Grant {
            client: claims.required("sub")?.to_owned(),
            scopes: claims
                .text("scope", "scope")?
                .and_then(|text| text.parse().ok())
                .ok_or(Refused::Claim("scope"))?,
            bound: bound(claims)?,
            access_type: claims.text("access_type", "access_type")?.map(str::to_owned),
        })
    }
}

impl fmt::Debug for AccessTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|(kid, _)| kid)).finish()
    }
}

fn bound(claims: &Claims) -> Result<Bound, Refused> {
    let account = claims.text("account", "account")?.map(str::parse).transpose();
    let app = claims.text("app", "app")?.map(str::parse).transpose();
    let account = account.map_err(|_| Refused::Claim("account"))?;
    let app = app.map_err(|_| Refused::Claim("app"))?;
    let everything = claims.get("everything").is_some_and(|value| value == true);
    match (account, app, everything) {
        (Some(account), Some(app), false) => Ok(Bound::App { account, app }),
        (Some(account), None, false) => Ok(Bound::Account(account)),
        (None, None, true) => Ok(Bound::Everything),
        _ => Err(Refused::Account),
    }
}

fn encoded(part: &impl Serialize) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(part).expect("texts and numbers are always JSON"))
}

#[cfg(test)]
mod tests;
