//! Sign-in with an account at an outside issuer: OpenID Connect's authorization code flow (RFC 6749 §4.1) with PKCE
//! (RFC 7636).
//!
//! A sign-in that has [`Begun`] is known to one browser only. It comes to its end if that browser brings back its `state`
//! with a code, if the provider gives an ID token for code and verifier, and if the token is the issuer's, for us, and
//! has the `nonce`. What it says of somebody's account and scopes is read as in an access token of the same issuer.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use hookstream_types::{SecretString, UnixMillis};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use url::{Url, form_urlencoded};

use super::Fill;
use super::authenticate::{AuthError, Authenticator, key_of};
use super::compact::{Compact, Refused};
use super::jwks::Jwks;
use super::jwt::Issuer;
use super::principal::Principal;
use super::scope::{Scope, Scopes};

/// Of `state`, `nonce` and verifier, each: what nobody guesses. RFC 7636 §7.1 asks for as many.
const RANDOM_BYTES: usize = 32;
/// So much of a name is shown.
const NAME_CHARS: usize = 64;
/// The errors of RFC 6749 (§4.1.2.1, §5.2) and OpenID Connect Core (§3.1.2.6) that a log may name.
const ERRORS: [&str; 16] = [
    "access_denied",
    "account_selection_required",
    "consent_required",
    "interaction_required",
    "invalid_client",
    "invalid_grant",
    "invalid_request",
    "invalid_request_object",
    "invalid_request_uri",
    "invalid_scope",
    "login_required",
    "server_error",
    "temporarily_unavailable",
    "unauthorized_client",
    "unsupported_grant_type",
    "unsupported_response_type",
];

/// What the operator says of a provider.
#[derive(Clone, Debug)]
pub struct ProviderSettings {
    /// What people call it.
    pub name: String,
    pub authorization_url: Url,
    pub token_url: String,
    pub client_id: String,
    pub client_secret: Option<SecretString>,
    /// What is asked for.
    pub scopes: String,
    /// What somebody may do whose token has no scope that counts.
    pub grants: Scopes,
    /// For how long, at most.
    pub lifetime: Duration,
    /// Where people come back.
    pub redirect_uri: String,
}

/// With whom people sign in.
pub struct Provider {
    settings: ProviderSettings,
    /// Its audience is our client: an ID token is for nobody else.
    issuer: Issuer,
    jwks: Jwks,
    /// What all that was decided at a sign-in depends on besides the token.
    terms: String,
    ask: Arc<dyn Ask>,
}

/// An answer of the token endpoint: status and body.
pub type Asking<'a> = Pin<Box<dyn Future<Output = Result<(u16, Bytes), String>> + Send + 'a>>;

/// How the token endpoint is asked: through the guard that all requests to the outside go through.
pub trait Ask: Send + Sync {
    /// Posts a form, with `authorization` if there is one; the error is for the log.
    fn ask<'a>(&'a self, url: &'a str, authorization: Option<&'a str>, form: String) -> Asking<'a>;
}

/// A sign-in that waits for somebody to come back: secrets of one browser.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    state: String,
    nonce: String,
    verifier: String,
}

/// What somebody brings back (RFC 6749 §4.1.2, RFC 9207).
#[derive(Debug, Default, Deserialize)]
pub struct Callback {
    #[serde(default)]
    state: String,
    code: Option<String>,
    error: Option<String>,
    iss: Option<String>,
}

/// Somebody who has signed in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    pub subject: String,
    /// What they are called, for the page only.
    pub name: Option<String>,
    /// As the issuer calls it; none: they see all.
    pub account: Option<String>,
    pub scopes: Vec<Scope>,
    /// [`Provider::terms`] of then.
    terms: String,
}

/// Why somebody is not signed in. Nothing that came from outside is part of the message, but for names of errors.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSignedIn {
    #[error("this browser has begun no sign-in, or too long ago, or another one (`state`)")]
    NotBegun,
    #[error("they did not agree, or may not (`access_denied`)")]
    Denied,
    #[error("the code was used before, or is too old, or is none")]
    Code,
    #[error("the provider's answer: {0}")]
    Provider(String),
    #[error(transparent)]
    Token(#[from] AuthError),
    #[error("they are bound to no account that exists here")]
    Account,
    #[error("their token has no scope that counts, and there are no `grants`")]
    Nothing,
}

// === impl Begun ===

impl Begun {
    #[must_use]
    pub fn new(fill: Fill<'_>) -> Self {
        let mut random = || {
            let mut bytes = [0; RANDOM_BYTES];
            fill(&mut bytes);
            URL_SAFE_NO_PAD.encode(bytes)
        };
        Self { state: random(), nonce: random(), verifier: random() }
    }

    /// What the provider is told of the verifier (RFC 7636 §4.2, `S256`).
    fn challenge(&self) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(&self.verifier))
    }
}

impl fmt::Debug for Begun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Begun(…)")
    }
}

// === impl Provider ===

impl Provider {
    /// Reads what one of the authenticator's issuers says; none if `issuer` is none of them.
    #[must_use]
    pub fn new(
        issuer: &str,
        settings: ProviderSettings,
        authenticator: &Authenticator,
        ask: Arc<dyn Ask>,
    ) -> Option<Self> {
        let (issuer, jwks) = authenticator.issuers.iter().find(|(known, _)| known.iss == issuer)?;
        let issuer = Issuer { audience: settings.client_id.clone(), ..issuer.clone() };
        let Issuer { iss, audience, account_claim, access_type_claim, unbound, .. } = &issuer;
        let grants: Vec<Scope> = settings.grants.iter().collect();
        let terms = (iss, audience, account_claim, access_type_claim, unbound, grants, &authenticator.scopes);
        let terms = serde_json::to_vec(&terms).ok()?;
        let terms = Sha256::digest(terms).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Some(Self { settings, issuer, jwks: jwks.clone(), terms, ask })
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    #[must_use]
    pub fn lifetime(&self) -> Duration {
        self.settings.lifetime
    }

    /// Where somebody goes to sign in (OpenID Connect Core §3.1.2.1).
    #[must_use]
    pub fn authorization_url(&self, begun: &Begun) -> String {
        let mut url = self.settings.authorization_url.clone();
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.settings.client_id)
            .append_pair("redirect_uri", &self.settings.redirect_uri)
            .append_pair("scope", &self.settings.scopes)
            .append_pair("state", &begun.state)
            .append_pair("nonce", &begun.nonce)
            .append_pair("code_challenge", &begun.challenge())
            .append_pair("code_challenge_method", "S256");
        url.into()
    }

    /// Who has come back.
    ///
    /// # Errors
    /// [`NotSignedIn`] if it is nobody.
    pub async fn finish(
        &self,
        begun: &Begun,
        callback: &Callback,
        authenticator: &Authenticator,
        now: UnixMillis,
    ) -> Result<Person, NotSignedIn> {
        let token = self.token(begun, self.code(begun, callback)?).await?;
        let token = Compact::parse(token.expose()).map_err(AuthError::from)?;
        let key = key_of(&token, &self.jwks, now).await?;
        let verified = self.issuer.verify_id(&token, &key, &authenticator.scopes, now, &begun.nonce);
        let outside = verified.map_err(|refused| match refused {
            Refused::Account => NotSignedIn::Account,
            refused => AuthError::Token(refused).into(),
        })?;
        let scopes = if outside.scopes.is_empty() { self.settings.grants } else { outside.scopes };
        if scopes.is_empty() {
            return Err(NotSignedIn::Nothing);
        }
        let mut names = ["name", "preferred_username", "email"].into_iter();
        let name = names.find_map(|claim| token.claims.get(claim)?.as_str().filter(|name| !name.is_empty()));
        let person = Person {
            subject: outside.subject,
            name: name.map(|name| name.chars().take(NAME_CHARS).collect()),
            account: outside.account,
            scopes: scopes.iter().collect(),
            terms: self.terms.clone(),
        };
        self.principal(&person, authenticator).map(|_| person).ok_or(NotSignedIn::Account)
    }

    /// What somebody may do now; none: the account is gone, or what they signed in with means something else by now.
    #[must_use]
    pub fn principal(&self, person: &Person, authenticator: &Authenticator) -> Option<Principal> {
        if person.terms != self.terms {
            return None;
        }
        let bound = authenticator.bound(person.account.as_deref())?;
        let scopes = person.scopes.iter().copied().collect();
        Some(Principal { client: self.issuer.client(&person.subject), scopes, bound })
    }

    /// The code, if it is brought by the browser that has begun.
    fn code<'a>(&self, begun: &Begun, callback: &'a Callback) -> Result<&'a str, NotSignedIn> {
        if !bool::from(callback.state.as_bytes().ct_eq(begun.state.as_bytes())) {
            return Err(NotSignedIn::NotBegun);
        }
        if callback.iss.as_ref().is_some_and(|iss| *iss != self.issuer.iss) {
            return Err(NotSignedIn::Token(Refused::Issuer.into()));
        }
        match (callback.error.as_deref(), callback.code.as_deref()) {
            (Some("access_denied"), _) => Err(NotSignedIn::Denied),
            (Some(error), _) => Err(NotSignedIn::Provider(named(error).to_owned())),
            (None, Some(code)) => Ok(code),
            (None, None) => Err(NotSignedIn::Provider("neither a code nor an error".to_owned())),
        }
    }

    fn question(&self, begun: &Begun, code: &str) -> String {
        let ProviderSettings { client_id, client_secret, redirect_uri, .. } = &self.settings;
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "authorization_code")
            .append_pair("code", code)
            .append_pair("redirect_uri", redirect_uri)
            .append_pair("code_verifier", &begun.verifier);
        if client_secret.is_none() {
            form.append_pair("client_id", client_id);
        }
        form.finish()
    }

    /// The ID token that the provider gives for a code (OpenID Connect Core §3.1.3).
    async fn token(&self, begun: &Begun, code: &str) -> Result<SecretString, NotSignedIn> {
        #[derive(Deserialize)]
        struct Granted {
            id_token: SecretString,
        }
        #[derive(Deserialize)]
        struct Refusal {
            error: String,
        }
        let ProviderSettings { client_id, client_secret, token_url, .. } = &self.settings;
        let authorization = client_secret.as_ref().map(|secret| basic(client_id, secret));
        let form = self.question(begun, code);
        let authorization = authorization.as_ref().map(SecretString::expose);
        let asked = self.ask.ask(token_url, authorization, form).await;
        let (status, body) = asked.map_err(NotSignedIn::Provider)?;
        if status != 200 {
            let refusal = serde_json::from_slice::<Refusal>(&body).map(|refusal| refusal.error);
            return Err(match refusal.as_deref() {
                Ok("invalid_grant") => NotSignedIn::Code,
                Ok(error) => NotSignedIn::Provider(format!("status {status}, {}", named(error))),
                Err(_) => NotSignedIn::Provider(format!("status {status}")),
            });
        }
        let granted = serde_json::from_slice::<Granted>(&body);
        granted.map(|granted| granted.id_token).map_err(|_| NotSignedIn::Provider("no `id_token`".to_owned()))
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider")
            .field("settings", &self.settings)
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

/// What a log says of an error that somebody names.
fn named(error: &str) -> &'static str {
    ERRORS.into_iter().find(|known| *known == error).unwrap_or("an error of no known name")
}

/// The client's id and secret (RFC 6749 §2.3.1).
fn basic(id: &str, secret: &SecretString) -> SecretString {
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = SecretString::new(format!("{}:{}", encoded(id), encoded(secret.expose())));
    SecretString::new(format!("Basic {}", STANDARD.encode(pair.expose())))
}

#[cfg(test)]
mod tests;
