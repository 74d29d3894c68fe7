//! From `Authorization: Bearer` to a [`Principal`] (RFC 6750).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRef, FromRequestParts};
use axum::response::{IntoResponse, Response};
use hookstream_types::{AccountUid, SecretString, UnixMillis};
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::client::Clients;
use super::compact::{Compact, Refused};
use super::jwks::{Jwks, NoKey, PublicKey};
use super::jwt::Issuer;
use super::limits::Limited;
use super::oauth::Clock;
use super::principal::{Bound, Denied, Principal};
use super::scope::ScopeMap;
use super::token::AccessTokens;
use crate::problem::{Kind, Problem};

/// The shortest admin token: 24 random characters can't be guessed.
const MIN_ADMIN_TOKEN_BYTES: usize = 24;
/// When to ask again while an issuer's keys can't be had.
const UNAVAILABLE: Duration = Duration::from_secs(30);

/// Accounts by what outside issuers call them.
pub trait Accounts: Send + Sync {
    fn account(&self, name: &str) -> Option<AccountUid>;
}

/// The operator's own token, for the first steps and for emergencies.
#[derive(Clone)]
pub struct AdminToken([u8; 32]);

/// An admin token that could be guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the admin token has fewer than 24 characters: make one with `openssl rand -hex 32`")]
pub struct AdminTokenTooShort;

/// Says who makes a request.
pub struct Authenticator {
    pub tokens: AccessTokens,
    pub clients: Arc<dyn Clients>,
    pub accounts: Arc<dyn Accounts>,
    /// Outside issuers, each with its keys.
    pub issuers: Vec<(Issuer, Jwks)>,
    pub scopes: ScopeMap,
    pub admin: Option<AdminToken>,
    pub clock: Clock,
}

/// Why nobody is known to make a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    #[error("this needs an access token: send `Authorization: Bearer …`")]
    Missing,
    #[error("there is more than one `Authorization`")]
    Twice,
    #[error(transparent)]
    Token(#[from] Refused),
    #[error("the keys of the token's issuer can't be had: try again later")]
    Unavailable,
}

// === impl AdminToken ===

impl AdminToken {
    /// # Errors
    /// [`AdminTokenTooShort`] if it could be guessed.
    pub fn new(token: &SecretString) -> Result<Self, AdminTokenTooShort> {
        if token.expose().len() < MIN_ADMIN_TOKEN_BYTES {
            return Err(AdminTokenTooShort);
        }
        Ok(Self(Sha256::digest(token.expose()).into()))
    }

    /// What tells it from another, and from which it can't be had: it has too much chance in it to be tried out.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        Sha256::digest(self.0).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }

    /// In constant time: digests have one length, whatever the token has.
    #[must_use]
    pub fn is(&self, token: &str) -> bool {
        bool::from(self.0.ct_eq(&Sha256::digest(token)))
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(…)")
    }
}

// === impl Authenticator ===

impl Authenticator {
    /// Who makes a request with these headers.
    ///
    /// # Errors
    /// [`AuthError`] if nobody does that is known here.
    pub async fn authenticate(&self, headers: &HeaderMap, now: UnixMillis) -> Result<Principal, AuthError> {
        let token = bearer(headers)?;
        if self.admin.as_ref().is_some_and(|admin| admin.is(token)) {
            return Ok(Principal::admin());
        }
        let token = Compact::parse(token)?;
        let principal = if AccessTokens::claims_to_be(&token) {
            self.own(&token, now)
        } else {
            self.outside(&token, now).await
        };
        principal.inspect_err(|error| tracing::debug!(reason = %error, "a token was refused"))
    }

    /// What a registered client may do now; none: it is not there, or disabled.
    #[must_use]
    pub fn client(&self, id: &str) -> Option<Principal> {
        let client = self.clients.client(id).filter(|client| client.enabled)?;
        let (scopes, bound) = (client.granted(&self.scopes), client.bound);
        Some(Principal { client: format!("client:{}", client.id), scopes, bound })
    }

    /// A token that we issued is worth what its client is: one that is disabled, deleted or bound anew has no valid
    /// tokens, and a scope that it lost is lost to them too.
    fn own(&self, token: &Compact<'_>, now: UnixMillis) -> Result<Principal, AuthError> {
        let grant = self.tokens.verify(token, now)?;
        let client = self.clients.client(&grant.client).ok_or(Refused::Client)?;
        if !client.enabled || client.bound != grant.bound {
            return Err(Refused::Client.into());
        }
        let scopes = grant.scopes.within(client.granted(&self.scopes));
        Ok(Principal { client: format!("client:{}", client.id), scopes, bound: client.bound })
    }

    async fn outside(&self, token: &Compact<'_>, now: UnixMillis) -> Result<Principal, AuthError> {
        // Not verified yet: it says only whose keys to try.
        let iss = token.claims.required("iss")?;
        let (issuer, jwks) =
            self.issuers.iter().find(|(issuer, _)| issuer.iss == iss).ok_or(Refused::Issuer)?;
        let key = key_of(token, jwks, now).await?;
        let outside = issuer.verify(token, &key, &self.scopes, now)?;
        let bound = self.bound(outside.account.as_deref()).ok_or(Refused::Account)?;
        Ok(Principal { client: issuer.client(&outside.subject), scopes: outside.scopes, bound })
    }

    /// What somebody sees whose account is called so by an issuer; none: there is no such account.
    pub(super) fn bound(&self, account: Option<&str>) -> Option<Bound> {
        match account {
            None => Some(Bound::Everything),
            Some(name) => self.accounts.account(name).map(Bound::Account),
        }
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator").field("issuers", &self.issuers).finish_non_exhaustive()
    }
}

/// The key that a token says it is signed with.
pub(super) async fn key_of(
    token: &Compact<'_>,
    jwks: &Jwks,
    now: UnixMillis,
) -> Result<Arc<PublicKey>, AuthError> {
    // What no key could be for is not worth a fetch.
    if !["EdDSA", "Ed25519", "ES256", "RS256"].contains(&token.alg.as_str()) {
        return Err(Refused::Algorithm.into());
    }
    let kid = token.kid.as_deref().ok_or(Refused::UnknownKey)?;
    jwks.key(kid, now).await.map_err(|error| match error {
        NoKey::Unknown => AuthError::Token(Refused::UnknownKey),
        NoKey::Unavailable => AuthError::Unavailable,
    })
}

/// The one bearer token of a request. Another scheme counts as none: it may be a browser's habit.
fn bearer(headers: &HeaderMap) -> Result<&str, AuthError> {
    let mut authorizations = headers.get_all(AUTHORIZATION).iter();
    let header = authorizations.next().ok_or(AuthError::Missing)?;
    if authorizations.next().is_some() {
        return Err(AuthError::Twice);
    }
    let (scheme, token) =
        header.to_str().ok().and_then(|text| text.split_once(' ')).ok_or(AuthError::Missing)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(AuthError::Missing);
    }
    match token.trim_matches(' ') {
        "" => Err(AuthError::Missing),
        token => Ok(token),
    }
}

impl<S> FromRequestParts<S> for Principal
where
    S: Send + Sync,
    Arc<Authenticator>: FromRef<S>,
{
    type Rejection = AuthError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        // A layer above may have looked already.
        if let Some(principal) = parts.extensions.get::<Self>() {
            return Ok(principal.clone());
        }
        let authenticator = Arc::<Authenticator>::from_ref(state);
        let now = (authenticator.clock)().wall;
        authenticator.authenticate(&parts.headers, now).await
    }
}

// === impl responses ===

impl AuthError {
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Missing | Self::Token(_) => StatusCode::UNAUTHORIZED,
            Self::Twice => StatusCode::BAD_REQUEST,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing => "unauthorized",
            Self::Twice => "invalid_request",
            Self::Token(_) => "invalid_token",
            Self::Unavailable => "issuer_unavailable",
        }
    }

    /// What `WWW-Authenticate` says; without a token no error is named (RFC 6750 §3.1).
    fn challenge(&self) -> Option<String> {
        match self {
            Self::Missing => Some("Bearer realm=\"hookstream\"".to_owned()),
            Self::Twice | Self::Token(_) => Some(challenge(self.code(), &self.to_string(), "")),
            Self::Unavailable => None,
        }
    }
}

impl IntoResponse for AuthError {
    fn into_response(self) -> Response {
        let kind = match self {
            Self::Missing | Self::Token(_) => Kind::Unauthenticated,
            Self::Twice => Kind::Invalid,
            Self::Unavailable => Kind::Unavailable,
        };
        let mut problem = Problem::new(kind, self.to_string());
        if let Some(challenge) = self.challenge() {
            problem = challenged(problem, &challenge);
        }
        if self == Self::Unavailable {
            problem = problem.after(UNAVAILABLE);
        }
        problem.into_response()
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        let detail = denied.to_string();
        match denied {
            Denied::Scope(scope) => {
                let challenge = challenge("insufficient_scope", &detail, &format!(", scope=\"{scope}\""));
                challenged(Self::new(Kind::Forbidden, detail), &challenge)
            }
            Denied::NotFound => Self::not_found(detail),
            Denied::AccountNeeded => Self::invalid_field("account", detail),
        }
    }
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        Problem::from(self).into_response()
    }
}

impl From<Limited> for Problem {
    fn from(limited: Limited) -> Self {
        Self::new(Kind::RateLimited, limited.to_string()).after(limited.retry_after)
    }
}

impl IntoResponse for Limited {
    fn into_response(self) -> Response {
        Problem::from(self).into_response()
    }
}

fn challenged(problem: Problem, challenge: &str) -> Problem {
    let value = HeaderValue::from_str(challenge).expect("messages of ours are ASCII");
    problem.with_header(WWW_AUTHENTICATE, value)
}

/// The description may have neither quotes nor anything but ASCII (RFC 6750 §3); ours have neither of a stranger's
/// making.
fn challenge(code: &str, description: &str, more: &str) -> String {
    let description = description.replace('"', "'");
    format!("Bearer realm=\"hookstream\", error=\"{code}\", error_description=\"{description}\"{more}")
}

#[cfg(test)]
mod tests;
