//! `/oauth/token`: access tokens for registered clients (RFC 6749 §4.4, `client_credentials`).

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hookstream_types::{Now, SecretString};
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, PRAGMA, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::client::{ClientRecord, Clients, verified};
use super::form;
use super::limits::{Limited, Limits, Rate};
use super::scope::{Scope, ScopeMap, Scopes, names};
use super::token::{AccessTokens, Grant, Issued};
use crate::description::open;

/// Where tokens are got.
pub const PATH: &str = "/oauth/token";
/// The longest request: a client's id, its secret and some scopes.
const MAX_BODY_BYTES: usize = 8 * 1024;
/// The longest id of a client.
pub const MAX_CLIENT_ID_BYTES: usize = 128;
/// Failed attempts of one client from one peer, per minute.
const FAILURES: NonZeroU32 = NonZeroU32::new(10).expect("ten is not zero");
/// Of so many clients and peers failures are counted: 10,000 of at most 300 bytes have 3 MB.
const FAILURES_CAPACITY: usize = 10_000;

/// What time it is.
pub type Clock = Arc<dyn Fn() -> Now + Send + Sync>;
/// Where random bytes come from.
pub type Random = Arc<dyn Fn(&mut [u8]) + Send + Sync>;

/// Who is at the other end, as an extension of the request: put there by who knows which proxies are to be believed.
///
/// Failures are counted per client and peer, so that nobody can lock a client out from elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// Issues access tokens.
pub struct TokenEndpoint {
    clients: Arc<dyn Clients>,
    tokens: AccessTokens,
    scopes: ScopeMap,
    failures: Limits<(String, Option<IpAddr>)>,
    clock: Clock,
    random: Random,
}

/// A token, and what it is good for.
#[derive(Debug)]
pub struct Granted {
    pub issued: Issued,
    /// The names that were asked for, which may be another platform's.
    pub scope: String,
}

/// Why there is no token (RFC 6749 §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OauthError {
    #[error("{0}")]
    InvalidRequest(&'static str),
    #[error("there is no such client, or its secret is wrong, or it is disabled")]
    InvalidClient,
    #[error("`grant_type` must be `client_credentials`")]
    UnsupportedGrantType,
    #[error("the client has not all of these scopes")]
    InvalidScope,
    #[error("too many failed attempts of this client: try again in {} s", .0.seconds())]
    TooMany(Limited),
}

/// A request's parameters: those without a value count as left out (RFC 6749 §3.2).
struct Form(Vec<(String, String)>);

struct Credentials {
    id: String,
    secret: SecretString,
}

/// A request for a token, for the description: what is read of it is decided by [`Form`].
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is described, and read otherwise")]
struct TokenRequest {
    /// `client_credentials`
    #[schema(example = "client_credentials")]
    grant_type: String,
    /// The client's id, unless it stands in `Authorization: Basic`.
    client_id: Option<String>,
    /// The client's secret, unless it stands in `Authorization: Basic`.
    client_secret: Option<String>,
    /// Scopes, separated by spaces; none: all that the client has.
    scope: Option<String>,
}

/// An access token.
#[derive(Serialize, ToSchema)]
struct AccessToken {
    access_token: String,
    /// `Bearer`
    token_type: &'static str,
    /// Seconds.
    expires_in: u64,
    /// What it is good for, separated by spaces.
    scope: String,
}

/// Why there is no token (RFC 6749 §5.2).
#[derive(Serialize, ToSchema)]
struct TokenError {
    /// `invalid_request`, `invalid_client`, `unsupported_grant_type`, `invalid_scope` or `temporarily_unavailable`
    error: &'static str,
    error_description: String,
}

/// The route, with its description.
pub fn router(endpoint: Arc<TokenEndpoint>) -> OpenApiRouter {
    routes().with_state(endpoint)
}

pub(crate) fn routes() -> OpenApiRouter<Arc<TokenEndpoint>> {
    open(OpenApiRouter::new().routes(routes!(token)))
}

/// Get an access token for a registered client
///
/// The client authenticates with `Authorization: Basic`, or with `client_id` and `client_secret` in the form.
#[utoipa::path(post, path = PATH, tag = "tokens", operation_id = "createToken",
    request_body(content = TokenRequest, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "A token", body = AccessToken),
        (status = 400, description = "The request, its grant type or its scope is at fault", body = TokenError),
        (status = 401, description = "There is no such client, or its secret is wrong", body = TokenError,
            headers(("WWW-Authenticate", description = "How clients authenticate"))),
        (status = 429, description = "Too many failed attempts of this client", body = TokenError,
            headers(("Retry-After", description = "Seconds to wait"))),
    ))]
async fn token(State(endpoint): State<Arc<TokenEndpoint>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let peer = parts.extensions.get::<Peer>().copied();
    let Ok(body) = to_bytes(body, MAX_BODY_BYTES).await else {
        return OauthError::InvalidRequest("the request has more than 8 KiB, or broke off").into_response();
    };
    let now = (endpoint.clock)();
    match endpoint.grant(&parts.headers, &body, peer, now) {
        Ok(granted) => granted.into_response(),
        Err(error) => error.into_response(),
    }
}

// === impl TokenEndpoint ===

impl TokenEndpoint {
    #[must_use]
    pub fn new(
        clients: Arc<dyn Clients>,
        tokens: AccessTokens,
        scopes: ScopeMap,
        clock: Clock,
        random: Random,
    ) -> Self {
        let failures = Limits::new(Rate::per(FAILURES, Duration::from_secs(60)), FAILURES_CAPACITY);
        Self { clients, tokens, scopes, failures, clock, random }
    }

    /// Answers one request.
    ///
    /// # Errors
    /// [`OauthError`] if there is no token for it.
    pub fn grant(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        peer: Option<Peer>,
        now: Now,
    ) -> Result<Granted, OauthError> {
        let form = Form::parse(headers, body)?;
        match form.get("grant_type") {
            None => return Err(OauthError::InvalidRequest("`grant_type` is missing")),
            Some("client_credentials") => {}
            Some(_) => return Err(OauthError::UnsupportedGrantType),
        }
        let credentials = credentials(headers, &form)?;
        let client = self.authenticate(credentials, peer, now)?;
        let (scope, scopes) = self.scopes_of(&client, form.get("scope"))?;
        let grant = Grant { client: client.id, scopes, bound: client.bound, access_type: client.access_type };
        let issued = self.tokens.issue(&grant, now.wall, &mut |bytes| (self.random)(bytes));
        Ok(Granted { issued, scope })
    }

    fn authenticate(
        &self,
        credentials: Credentials,
        peer: Option<Peer>,
        now: Now,
    ) -> Result<ClientRecord, OauthError> {
        self.sign_in(credentials.id, &credentials.secret, peer, now)
    }

    /// The client that has this id and this secret.
    ///
    /// # Errors
    /// [`OauthError`] if there is none, or if too many attempts have failed.
    pub fn sign_in(
        &self,
        id: String,
        secret: &SecretString,
        peer: Option<Peer>,
        now: Now,
    ) -> Result<ClientRecord, OauthError> {
        self.counted(id, peer, now, |id| verified(self.clients.client(id), secret, now.wall))
    }

    /// Looks who it is, if not too many attempts with this id from this peer have failed; counts it if it is nobody.
    pub(crate) fn counted<T>(
        &self,
        id: String,
        peer: Option<Peer>,
        now: Now,
        look: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, OauthError> {
        if id.len() > MAX_CLIENT_ID_BYTES {
            return Err(OauthError::InvalidClient);
        }
        let counted = (id, peer.map(network));
        self.failures.check(&counted, now.mono).map_err(OauthError::TooMany)?;
        look(&counted.0).ok_or_else(|| {
            // Whether it was the last one allowed is said to the next.
            let limited = self.failures.take(&counted, now.mono).is_err();
            tracing::debug!(limited, "an API client failed to authenticate");
            OauthError::InvalidClient
        })
    }

    /// The names that are granted, and what they are worth: all that the client has if it asks for none.
    fn scopes_of(&self, client: &ClientRecord, asked: Option<&str>) -> Result<(String, Scopes), OauthError> {
        let whole = client.granted(&self.scopes);
        let has = |name: &str| client.scopes.iter().any(|scope| scope == name);
        let worth = |name: &str| -> Scopes {
            if has(name) {
                self.scopes.grant(name, client.access_type.as_deref())
            } else {
                // A part of what it has, by our name for it.
                name.parse::<Scope>().ok().filter(|scope| whole.allow(*scope)).into_iter().collect()
            }
        };
        let Some(asked) = asked else {
            let useful: Vec<&str> =
                client.scopes.iter().map(String::as_str).filter(|name| !worth(name).is_empty()).collect();
            return if useful.is_empty() {
                Err(OauthError::InvalidScope)
            } else {
                Ok((useful.join(" "), whole))
            };
        };
        let mut scopes = Scopes::NONE;
        let mut granted: Vec<&str> = Vec::new();
        for name in names(asked) {
            let worth = worth(name);
            if worth.is_empty() {
                return Err(OauthError::InvalidScope);
            }
            scopes = scopes.union(worth);
            if !granted.contains(&name) {
                granted.push(name);
            }
        }
        if granted.is_empty() { Err(OauthError::InvalidScope) } else { Ok((granted.join(" "), scopes)) }
    }
}

impl fmt::Debug for TokenEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenEndpoint").field("tokens", &self.tokens).finish_non_exhaustive()
    }
}

/// What one peer has to itself: a network of 64 bits of IPv6, one address of IPv4 however it is written.
fn network(peer: Peer) -> IpAddr {
    match peer.0.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        v4 => v4,
    }
}

// === impl Form ===

impl Form {
    fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Self, OauthError> {
        const FORM: &str = "application/x-www-form-urlencoded";
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        let media_type = content_type.split(';').next().unwrap_or("").trim();
        if !media_type.eq_ignore_ascii_case(FORM) {
            return Err(OauthError::InvalidRequest(
                "the request must be a form: send `Content-Type: application/x-www-form-urlencoded`",
            ));
        }
        if body.len() > MAX_BODY_BYTES {
            return Err(OauthError::InvalidRequest("the request has more than 8 KiB"));
        }
        let mut pairs = form::pairs(body)
            .ok_or(OauthError::InvalidRequest("the form is malformed: encode it as UTF-8 and `%` escapes"))?;
        let mut names: Vec<&str> = pairs.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(OauthError::InvalidRequest("a parameter stands twice"));
        }
        pairs.retain(|(_, value)| !value.is_empty());
        Ok(Self(pairs))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// The client's id and secret, by one of both ways (RFC 6749 §2.3.1).
fn credentials(headers: &HeaderMap, form: &Form) -> Result<Credentials, OauthError> {
    let mut authorizations = headers.get_all(AUTHORIZATION).iter();
    let (id, secret) = (form.get("client_id"), form.get("client_secret"));
    match (authorizations.next(), authorizations.next()) {
        (Some(_), Some(_)) => Err(OauthError::InvalidRequest("there is more than one `Authorization`")),
        (Some(_), None) if secret.is_some() => Err(OauthError::InvalidRequest(
            "the client authenticates twice: by `Authorization`, and by `client_secret`",
        )),
        (Some(header), None) => {
            let credentials = basic(header).ok_or(OauthError::InvalidClient)?;
            if id.is_some_and(|id| id != credentials.id) {
                return Err(OauthError::InvalidRequest("`client_id` is another than in `Authorization`"));
            }
            Ok(credentials)
        }
        (None, _) => match (id, secret) {
            (Some(id), Some(secret)) => {
                Ok(Credentials { id: id.to_owned(), secret: SecretString::new(secret.to_owned()) })
            }
            _ => Err(OauthError::InvalidClient),
        },
    }
}

/// `Basic` with both parts encoded as in a form, before they are joined by a colon.
fn basic(header: &HeaderValue) -> Option<Credentials> {
    let (scheme, encoded) = header.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = STANDARD.decode(encoded.trim_matches(' ')).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let id = form::decode(&decoded[..colon])?;
    let secret = SecretString::new(form::decode(&decoded[colon + 1..])?);
    if id.is_empty() || secret.expose().is_empty() { None } else { Some(Credentials { id, secret }) }
}

// === impl responses ===

impl IntoResponse for Granted {
    fn into_response(self) -> Response {
        let body = AccessToken {
            access_token: self.issued.token.expose().to_owned(),
            token_type: "Bearer",
            expires_in: self.issued.expires_in.as_secs(),
            scope: self.scope,
        };
        answer(StatusCode::OK, &body)
    }
}

impl OauthError {
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::InvalidClient => StatusCode::UNAUTHORIZED,
            Self::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::InvalidRequest(_) | Self::UnsupportedGrantType | Self::InvalidScope => {
                StatusCode::BAD_REQUEST
            }
        }
    }

    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidRequest(_) => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::InvalidScope => "invalid_scope",
            Self::TooMany(_) => "temporarily_unavailable",
        }
    }
}

impl IntoResponse for OauthError {
    fn into_response(self) -> Response {
        let error_description = self.to_string().replace('`', "'");
        let mut response = answer(self.status(), &TokenError { error: self.code(), error_description });
        match self {
            Self::InvalidClient => {
                let challenge = HeaderValue::from_static("Basic realm=\"hookstream\", charset=\"UTF-8\"");
                response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            }
            Self::TooMany(limited) => {
                response.headers_mut().insert(RETRY_AFTER, limited.seconds().into());
            }
            Self::InvalidRequest(_) | Self::UnsupportedGrantType | Self::InvalidScope => {}
        }
        response
    }
}

fn answer(status: StatusCode, body: &impl Serialize) -> Response {
    let mut response = Response::new(Body::from(serde_json::to_vec(body).unwrap_or_default()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

#[cfg(test)]
mod tests;
