//! Access tokens (RFC 6749 §4.4), asked for once and used until they end.
//!
//! A token belongs to one account's credentials: the same client of another account has its own. Who needs one while it is
//! being asked for waits for the same answer. It is kept in memory only, and found nowhere else: what endpoints echo of it is
//! masked here, because nobody behind this crate knows it.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hookstream_core::config::ClientCredentials;
use hookstream_core::exchange::{Failure, FailureKind, Method, Request, Response};
use hookstream_core::redact::Redactor;
use hookstream_types::{AccountUid, SecretString};
use http::HeaderValue;
use rustc_hash::FxHashMap;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::sync::OnceCell;
use tokio::time::Instant;
use url::form_urlencoded;
use zeroize::Zeroizing;

use crate::failure::failure;

/// A token is not used in the last part of its life, lest it ends on the way: this long, or a tenth if that is less.
const MARGIN: Duration = Duration::from_secs(30);
/// Life of a token whose issuer doesn't say; one that ends sooner shows by a 401.
const UNSAID: Duration = Duration::from_secs(300);
/// Longest that a token is kept, whatever its issuer says.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// For how long an issuer that gave none is not asked again.
const PAUSE: Duration = Duration::from_secs(1);
/// So many tokens are kept before those that ended are looked for.
const FEW: usize = 256;
/// RFC 6750 §2.1 allows more characters than anyone uses; all are visible ASCII.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// A token and what hides it.
#[derive(Debug)]
pub(crate) struct Token {
    /// `Bearer …`; marked as sensitive.
    pub header: HeaderValue,
    /// When it was given.
    pub since: Instant,
    pub redactor: Redactor,
}

#[derive(Debug)]
struct Granted {
    token: Result<Arc<Token>, Failure>,
    until: Instant,
}

type Key = (AccountUid, [u8; 32]);
type Slot = Arc<OnceCell<Granted>>;

/// The tokens of one client.
#[derive(Debug)]
pub(crate) struct Tokens {
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    slots: FxHashMap<Key, Slot>,
    sweep_at: usize,
}

impl Default for Tokens {
    fn default() -> Self {
        Self { kept: Mutex::new(Kept { slots: FxHashMap::default(), sweep_at: FEW }) }
    }
}

impl Tokens {
    /// The token of these credentials; `ask` gets one from the issuer. `not`: one that the endpoint has refused.
    ///
    /// Dropped on its way, the question is asked anew by the next who needs it.
    pub(crate) async fn get(
        &self,
        account: AccountUid,
        credentials: &ClientCredentials,
        not: Option<&Arc<Token>>,
        ask: impl AsyncFnOnce() -> Result<Response, Failure>,
    ) -> Result<Arc<Token>, Failure> {
        let slot = self.slot((account, digest(credentials)), not);
        let granted = slot.get_or_init(async || granted(credentials, ask().await)).await;
        granted.token.clone()
    }

    fn slot(&self, key: Key, not: Option<&Arc<Token>>) -> Slot {
        let now = Instant::now();
        let is_good = |slot: &Slot| match slot.get() {
            None => true,
            Some(granted) => {
                let is_refused =
                    matches!((&granted.token, not), (Ok(token), Some(not)) if Arc::ptr_eq(token, not));
                now < granted.until && !is_refused
            }
        };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = kept.slots.get(&key).filter(|slot| is_good(slot)) {
            return Arc::clone(slot);
        }
        if kept.slots.len() >= kept.sweep_at {
            // What was never answered is kept for whoever waits for it.
            kept.slots.retain(|_, slot| is_good(slot) && (slot.initialized() || Arc::strong_count(slot) > 1));
            kept.sweep_at = (2 * kept.slots.len()).max(FEW);
        }
        let slot = Slot::default();
        kept.slots.insert(key, Arc::clone(&slot));
        slot
    }
}

/// Names the credentials without being them.
fn digest(credentials: &ClientCredentials) -> [u8; 32] {
    let ClientCredentials { token_url, client_id, client_secret, scopes } = credentials;
    let mut digest = Sha256::new();
    for part in [token_url.as_str(), client_id, client_secret.expose()]
        .into_iter()
        .chain(scopes.iter().map(String::as_str))
    {
        digest.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        digest.update(part.as_bytes());
    }
    digest.finalize().into()
}

/// What asks for a token: a form, with the client's id and secret in `authorization` (RFC 6749 §2.3.1).
pub(crate) fn question(account: AccountUid, credentials: &ClientCredentials, deadline: Duration) -> Request {
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let ClientCredentials { token_url, client_id, client_secret, scopes } = credentials;
    let secret = Zeroizing::new(encoded(client_secret.expose()));
    let pair = Zeroizing::new(format!("{}:{}", encoded(client_id), *secret));
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    if !scopes.is_empty() {
        form.append_pair("scope", &scopes.join(" "));
    }
    let header = |name: &str, value: &str| (Arc::from(name), Arc::from(value));
    Request {
        account,
        method: Method::Post,
        url: Arc::from(token_url.as_str()),
        headers: vec![
            header("content-type", "application/x-www-form-urlencoded"),
            header("accept", "application/json"),
            header("authorization", &format!("Basic {}", STANDARD.encode(pair.as_bytes()))),
        ],
        body: Bytes::from(form.finish()),
        deadline,
        tls: None,
        token: None,
    }
}

/// RFC 6749 §5.1.
#[derive(Deserialize)]
struct Grant {
    access_token: SecretString,
    token_type: String,
    #[serde(default)]
    expires_in: Value,
}

impl Grant {
    /// A number of seconds; some issuers write it as text. What is neither says nothing.
    fn life(&self) -> Duration {
        let text = || self.expires_in.as_str().and_then(|text| text.parse().ok());
        let seconds = self.expires_in.as_u64().or_else(text);
        seconds.map_or(UNSAID, Duration::from_secs).min(LONGEST)
    }
}

fn granted(credentials: &ClientCredentials, answer: Result<Response, Failure>) -> Granted {
    let now = Instant::now();
    match answer.and_then(|response| read(credentials, &response)) {
        Ok((token, life)) => Granted { token: Ok(Arc::new(token)), until: now + life },
        // Whoever waited for it has the answer; a moment later it may be another.
        Err(failure) => Granted { token: Err(failure), until: now + PAUSE },
    }
}

fn read(credentials: &ClientCredentials, response: &Response) -> Result<(Token, Duration), Failure> {
    let host = url::Url::parse(&credentials.token_url).ok();
    let host = host.as_ref().and_then(url::Url::host_str).unwrap_or_default();
    let failed = |what: &str| failure(FailureKind::Token, &format!("no access token from `{host}`: {what}"));
    if response.status != 200 {
        return Err(failed(&format!("it answered {}", response.status)));
    }
    if response.truncated {
        return Err(failed("its answer is too long, or broke off"));
    }
    let grant: Grant = serde_json::from_slice(&response.body)
        .map_err(|_| failed("its answer is no JSON with `access_token` and `token_type`"))?;
    if !grant.token_type.eq_ignore_ascii_case("bearer") {
        return Err(failed("it gives tokens of another type than `bearer`"));
    }
    let token = grant.access_token.expose();
    let is_sendable =
        (1..=MAX_TOKEN_BYTES).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic());
    let header = Zeroizing::new(format!("Bearer {token}"));
    let mut header = HeaderValue::from_str(&header)
        .ok()
        .filter(|_| is_sendable)
        .ok_or_else(|| failed("its token can't be sent in a header"))?;
    header.set_sensitive(true);
    let life = grant.life();
    let token = Token { header, since: Instant::now(), redactor: Redactor::of_token(token) };
    Ok((token, life - MARGIN.min(life / 10)))
}

/// The response without the token, whatever the endpoint did with it.
pub(crate) fn masked(mut response: Response, token: &Token) -> Response {
    let Token { redactor, .. } = token;
    for (name, value) in &mut response.headers {
        *name = redactor.header_name(name).into_owned();
        *value = redactor.text(value).into_owned();
    }
    let shown = match redactor.body(&response.body, response.truncated) {
        Cow::Borrowed(_) => None,
        Cow::Owned(shown) => Some(Bytes::from(shown)),
    };
    response.body = shown.unwrap_or(response.body);
    response
}
