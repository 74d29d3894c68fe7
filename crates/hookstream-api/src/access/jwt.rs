//! Access tokens (RFC 9068) and ID tokens of outside issuers; RFC 8725.
//!
//! The key decides the algorithm, and the token's header has to agree; the header can bring no key of its own.
//! Every claim is read with its type: what has another is refused, not skipped.

use hookstream_types::UnixMillis;
use serde_json::Value;
use subtle::ConstantTimeEq as _;

pub use super::compact::Refused;
use super::compact::{Claims, Compact};
use super::jwks::PublicKey;
use super::scope::{ScopeMap, Scopes, names};

/// The most names of scopes that a token may have.
const MAX_SCOPES: usize = 256;
/// Of an ID token (OpenID Connect Core §2).
const MAX_SUBJECT_BYTES: usize = 255;

/// What is expected of an outside issuer's tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// `iss`, compared as it stands.
    pub iss: String,
    /// What of `aud` is us.
    pub audience: String,
    pub jwks_url: String,
    /// The claim that names the account.
    pub account_claim: String,
    /// The claim that says what kind of client it is, where [`ScopeMap`] asks for it.
    pub access_type_claim: String,
    /// Claims that only tokens for other uses have: such a token is refused.
    pub refused_claims: Vec<String>,
    /// Whether a token without an account sees every account. Otherwise it is refused.
    pub unbound: bool,
}

/// What an outside token says, verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outside {
    pub subject: String,
    pub scopes: Scopes,
    /// The account, as the issuer names it; none if the issuer's tokens may be bound to none.
    pub account: Option<String>,
}

impl Issuer {
    /// With the usual names of claims.
    #[must_use]
    pub fn new(iss: String, audience: String, jwks_url: String) -> Self {
        Self {
            iss,
            audience,
            jwks_url,
            account_claim: "hookstream_account".to_owned(),
            access_type_claim: "access_type".to_owned(),
            refused_claims: Vec::new(),
            unbound: false,
        }
    }

    /// Verifies all of an access token.
    pub(super) fn verify(
        &self,
        token: &Compact<'_>,
        key: &PublicKey,
        scopes: &ScopeMap,
        now: UnixMillis,
    ) -> Result<Outside, Refused> {
        self.check(token, &["at+jwt", "JWT"], key, now)?;
        // An ID token is for the application that a person logged in to, and says nothing of what it may do.
        let id_token = ["nonce", "at_hash", "c_hash"].into_iter();
        if id_token.chain(self.refused_claims.iter().map(String::as_str)).any(|claim| token.claims.has(claim))
        {
            return Err(Refused::IdToken);
        }
        self.outside(&token.claims, scopes)
    }

    /// Verifies all of an ID token (OpenID Connect Core §3.1.3.7), asked for with `nonce` by the client whose id is our
    /// audience.
    pub(super) fn verify_id(
        &self,
        token: &Compact<'_>,
        key: &PublicKey,
        scopes: &ScopeMap,
        now: UnixMillis,
        nonce: &str,
    ) -> Result<Outside, Refused> {
        self.check(token, &["JWT"], key, now)?;
        let claims = &token.claims;
        // Made for several, it has to say that we are the one who asked.
        let shared = claims.get("aud").and_then(Value::as_array).is_some_and(|audiences| audiences.len() > 1);
        match claims.text("azp", "azp")? {
            Some(asked) if asked != self.audience => return Err(Refused::Audience),
            None if shared => return Err(Refused::Audience),
            _ => {}
        }
        if !bool::from(claims.required("nonce")?.as_bytes().ct_eq(nonce.as_bytes())) {
            return Err(Refused::Nonce);
        }
        if claims.required("sub")?.len() > MAX_SUBJECT_BYTES {
            return Err(Refused::Claim("sub"));
        }
        self.outside(claims, scopes)
    }

    /// What holds of every token: its key, who made it, for whom, and when.
    fn check(
        &self,
        token: &Compact<'_>,
        types: &[&str],
        key: &PublicKey,
        now: UnixMillis,
    ) -> Result<(), Refused> {
        if !key.is_for(&token.alg) {
            return Err(Refused::Algorithm);
        }
        if token.typ.is_some() && !types.iter().any(|name| token.is_type(name)) {
            return Err(Refused::Type);
        }
        if !key.verifies(token.signed, &token.signature) {
            return Err(Refused::Signature);
        }
        if token.claims.required("iss")? != self.iss {
            return Err(Refused::Issuer);
        }
        token.claims.check_audience(&self.audience)?;
        token.claims.check_times(now)
    }

    fn outside(&self, claims: &Claims, scopes: &ScopeMap) -> Result<Outside, Refused> {
        let subject = claims.required("sub")?.to_owned();
        let account = claims.text(&self.account_claim, "account")?.map(str::to_owned);
        if account.is_none() && !self.unbound || account.as_deref() == Some("") {
            return Err(Refused::Account);
        }
        let access_type = claims.text(&self.access_type_claim, "access type")?;
        let scopes = scope_names(claims)?
            .into_iter()
            .map(|name| scopes.grant_outside(name, access_type))
            .fold(Scopes::NONE, Scopes::union);
        Ok(Outside { subject, scopes, account })
    }

    /// What a subject of its is called here. A space is in no URL, so that no two issuers' subjects give the same.
    pub(super) fn client(&self, subject: &str) -> String {
        format!("issuer:{} {subject}", self.iss)
    }
}

/// The names in `scope` (RFC 8693 §4.2), or in `scp`, which is a list with some issuers and a text with others.
fn scope_names(claims: &Claims) -> Result<Vec<&str>, Refused> {
    let mut found: Vec<&str> = claims.text("scope", "scope")?.into_iter().flat_map(names).collect();
    match claims.get("scp") {
        None => {}
        Some(Value::String(text)) => found.extend(names(text)),
        Some(Value::Array(list)) => {
            for name in list {
                found.push(name.as_str().ok_or(Refused::Claim("scp"))?);
            }
        }
        Some(_) => return Err(Refused::Claim("scp")),
    }
    if found.len() > MAX_SCOPES { Err(Refused::Claim("scope")) } else { Ok(found) }
}

#[cfg(test)]
mod tests;
