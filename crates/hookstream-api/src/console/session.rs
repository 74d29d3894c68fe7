//! Who has signed in: a signed cookie that names a client, and what it may do is looked up with every request.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::Router;
use axum::extract::{Query, Request, State};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use hookstream_types::{Secret, SecretString, UnixMillis};
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::Console;
use super::form::Form;
use super::page::{self, Page};
use super::portal::Portal;
use super::texts::Lang;
use crate::access::Principal;
use crate::access::oauth::{OauthError, Peer};
use crate::access::oidc::Person;

/// The purpose that the keys of sessions are derived for.
pub(crate) const SESSION_KEYS: &str = "hookstream console sessions";
/// A working day: then somebody signs in again.
const LIFETIME: Duration = Duration::from_secs(12 * 3600);
/// Where one signs in.
pub(super) const SIGN_IN: &str = "/console/sign-in";
const TAG_BYTES: usize = 32;
/// Browsers keep 4096 bytes, with the cookie's name and attributes.
const LONGEST: usize = 3072;

/// Makes and reads what is kept in browsers, sessions above all: the first key makes, all read.
pub(crate) struct Sessions {
    keys: Vec<Hmac<Sha256>>,
}

/// What is kept in a browser.
pub(super) trait Kept: Serialize + DeserializeOwned {
    /// Part of what is authenticated: so none is taken for another, and the form can change. All have the same length.
    const KIND: [u8; 20];

    /// From then on it is nobody's.
    fn until(&self) -> UnixMillis;
}

/// What a cookie says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Session {
    pub(super) who: Who,
    /// From then on it is nobody's.
    pub(super) until: UnixMillis,
}

/// Who has signed in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Who {
    /// With the operator's token, of which this is the digest: another token ends the session.
    Admin { token: String },
    /// A registered client.
    Client { id: String },
    /// With an account elsewhere.
    Person(Person),
    /// A customer, with a link that was made for them.
    Portal(Portal),
    /// Who follows a link has such a portal for so many seconds.
    Link { portal: Portal, seconds: u64 },
}

impl Kept for Session {
    const KIND: [u8; 20] = *b"hookstream-session-1";

    fn until(&self) -> UnixMillis {
        self.until
    }
}

impl Sessions {
    pub(crate) fn new<'a>(keys: impl IntoIterator<Item = &'a Secret>) -> Self {
        let hmac = |key: &Secret| Hmac::new_from_slice(key.expose()).expect("HMAC takes keys of any length");
        Self { keys: keys.into_iter().map(hmac).collect() }
    }

    /// None: there is no key, or it is more than browsers keep.
    pub(super) fn make<T: Kept>(&self, kept: &T) -> Option<String> {
        let body = serde_json::to_vec(kept).ok()?;
        let mut cookie = tag::<T>(self.keys.first()?, &body).finalize().into_bytes().to_vec();
        cookie.extend_from_slice(&body);
        Some(URL_SAFE_NO_PAD.encode(cookie)).filter(|cookie| cookie.len() <= LONGEST)
    }

    /// None: it was not made here, or its time is over.
    pub(super) fn read<T: Kept>(&self, cookie: &str, now: UnixMillis) -> Option<T> {
        let bytes = URL_SAFE_NO_PAD.decode(Some(cookie).filter(|cookie| cookie.len() <= LONGEST)?).ok()?;
        let (found, body) = bytes.split_at_checked(TAG_BYTES)?;
        if !self.keys.iter().any(|key| tag::<T>(key, body).verify_slice(found).is_ok()) {
            return None;
        }
        serde_json::from_slice::<T>(body).ok().filter(|kept| now < kept.until())
    }
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sessions({} keys)", self.keys.len())
    }
}

fn tag<T: Kept>(key: &Hmac<Sha256>, body: &[u8]) -> Hmac<Sha256> {
    let mut mac = key.clone();
    mac.update(&T::KIND);
    mac.update(body);
    mac
}

impl Who {
    /// What they may do now; none: nothing any more.
    pub(super) fn principal(&self, console: &Console) -> Option<Principal> {
        let authenticator = &console.api.authenticator;
        match self {
            Self::Admin { token } => {
                let is_it = authenticator.admin.as_ref().is_some_and(|admin| admin.fingerprint() == *token);
                is_it.then(Principal::admin)
            }
            Self::Client { id } => authenticator.client(id),
            Self::Person(person) => console.provider.as_ref()?.principal(person, authenticator),
            Self::Portal(portal) => portal.principal(&console.api),
            Self::Link { .. } => None,
        }
    }

    /// What somebody is called, if that is not what they are known by.
    pub(super) fn called(&self) -> Option<&str> {
        match self {
            Self::Person(person) => person.name.as_deref(),
            Self::Admin { .. } | Self::Client { .. } | Self::Portal(_) | Self::Link { .. } => None,
        }
    }

    pub(super) fn is_portal(&self) -> bool {
        matches!(self, Self::Portal(_))
    }
}

/// The cookie's name: with the prefix that browsers take from a secure origin only.
pub(super) fn name(is_secure: bool) -> &'static str {
    if is_secure { "__Host-hookstream" } else { "hookstream" }
}

/// A cookie of a request.
pub(super) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| value)
}

pub(super) fn set_cookie(console: &Console, name: &str, value: &str, age: Duration) -> HeaderValue {
    let secure = if console.is_secure { "; Secure" } else { "" };
    let text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={}{secure}", age.as_secs());
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
}

pub(super) fn routes() -> Router<Arc<Console>> {
    Router::new()
        .route("/sign-in", get(show).post(sign_in))
        .route("/sign-out", post(sign_out))
        .route("/language", post(language))
}

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignIn {
    page: Page,
    to: String,
    client: String,
    problem: Option<String>,
    /// Where else one can sign in: what it is called, and where that begins.
    elsewhere: Option<(String, String)>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct To {
    #[serde(default)]
    pub(super) to: String,
}

/// Only to a page of ours: a link must not lead somebody elsewhere who signs in.
pub(super) fn own_path(to: &str) -> &str {
    if to.starts_with("/console/") && !to.contains(['\\', '\r', '\n']) { to } else { "/console/webhooks" }
}

/// The page where one signs in.
pub(super) fn sign_in_page(
    console: &Console,
    headers: &HeaderMap,
    status: StatusCode,
    to: String,
    client: String,
    problem: Option<String>,
) -> Response {
    let page = Page::without_visitor(Lang::of(headers), |t| t.sign_in);
    let elsewhere = console.provider.as_ref().map(|provider| {
        let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("to", &to).finish();
        (provider.name().to_owned(), format!("/console/sign-in/oidc?{query}"))
    });
    page::render(status, &SignIn { page, to, client, problem, elsewhere })
}

/// Signs in, and leads to where they were going.
pub(super) fn signed_in(console: &Console, who: Who, lifetime: Duration, to: &str) -> Response {
    let until = after(console.api.now(), lifetime);
    let made = console.sessions.make(&Session { who, until }).unwrap_or_default();
    let cookie = set_cookie(console, name(console.is_secure), &made, lifetime);
    ([(SET_COOKIE, cookie)], Redirect::to(own_path(to))).into_response()
}

pub(super) fn after(now: UnixMillis, time: Duration) -> UnixMillis {
    UnixMillis(now.0.saturating_add(i64::try_from(time.as_millis()).unwrap_or(i64::MAX)))
}

async fn show(
    State(console): State<Arc<Console>>,
    headers: HeaderMap,
    Query(To { to }): Query<To>,
) -> Response {
    sign_in_page(&console, &headers, StatusCode::OK, to, String::new(), None)
}

async fn sign_in(State(console): State<Arc<Console>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let form = match Form::read(body).await {
        Ok(form) => form,
        Err(problem) => return page::problem(Lang::of(&parts.headers), &problem),
    };
    let client = form.get("client").trim().to_owned();
    let secret = SecretString::new(form.get("secret").trim().to_owned());
    let to = form.get("to").to_owned();
    match who(&console, &parts, client.clone(), &secret) {
        Ok(who) => signed_in(&console, who, LIFETIME, &to),
        Err(error) => {
            let (status, problem) = match error {
                OauthError::TooMany(_) => (StatusCode::TOO_MANY_REQUESTS, error.to_string()),
                _ => (StatusCode::UNAUTHORIZED, Lang::of(&parts.headers).texts().sign_in_failed.to_owned()),
            };
            sign_in_page(&console, &parts.headers, status, to, client, Some(problem))
        }
    }
}

fn who(console: &Console, parts: &Parts, client: String, secret: &SecretString) -> Result<Who, OauthError> {
    let peer = parts.extensions.get::<Peer>().copied();
    let now = (console.api.authenticator.clock)();
    if client.is_empty() {
        // As if there were a client without a name: so its failures are counted as everybody's are.
        let admin = console.api.authenticator.admin.as_ref();
        let admin = || admin.filter(|admin| admin.is(secret.expose()));
        let admin = console.clients.counted(String::new(), peer, now, |_| admin())?;
        return Ok(Who::Admin { token: admin.fingerprint() });
    }
    let client = console.clients.sign_in(client, secret, peer, now)?;
    Ok(Who::Client { id: client.id })
}

async fn sign_out(State(console): State<Arc<Console>>) -> Response {
    let cookie = set_cookie(&console, name(console.is_secure), "", Duration::ZERO);
    ([(SET_COOKIE, cookie)], Redirect::to(SIGN_IN)).into_response()
}

async fn language(State(console): State<Arc<Console>>, request: Request) -> Response {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    let (parts, body) = request.into_parts();
    let form = match Form::read(body).await {
        Ok(form) => form,
        Err(problem) => return page::problem(Lang::of(&parts.headers), &problem),
    };
    let lang = Lang::named(form.get("language")).unwrap_or_default();
    let cookie = set_cookie(&console, super::texts::COOKIE, lang.code(), YEAR);
    ([(SET_COOKIE, cookie)], Redirect::to(own_path(form.get("to")))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions(keys: &[u8]) -> Sessions {
        let keys: Vec<Secret> = keys.iter().map(|byte| Secret::new(vec![*byte; 32])).collect();
        Sessions::new(&keys)
    }

    fn session() -> Session {
        Session { who: Who::Client { id: "c".to_owned() }, until: UnixMillis(1_000) }
    }

    #[test]
    fn a_session_is_read_until_it_ends_and_if_nobody_touched_it() {
        let cookie = sessions(&[1]).make(&session()).unwrap();
        assert_eq!(sessions(&[1]).read(&cookie, UnixMillis(999)), Some(session()));
        assert_eq!(sessions(&[2, 1]).read(&cookie, UnixMillis(999)), Some(session()), "keys rotate");
        assert_eq!(sessions(&[1]).read::<Session>(&cookie, UnixMillis(1_000)), None);
        assert_eq!(sessions(&[2]).read::<Session>(&cookie, UnixMillis(0)), None);
        assert_eq!(sessions(&[1]).read::<Session>("", UnixMillis(0)), None);
        let bytes = URL_SAFE_NO_PAD.decode(&cookie).unwrap();
        for index in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[index] ^= 1;
            let changed = URL_SAFE_NO_PAD.encode(changed);
            assert_eq!(sessions(&[1]).read::<Session>(&changed, UnixMillis(0)), None, "{index}");
        }
    }

    #[test]
    fn what_browsers_would_not_keep_is_not_made() {
        let session = Session { who: Who::Client { id: "c".repeat(LONGEST) }, until: UnixMillis(1_000) };
        assert_eq!(sessions(&[1]).make(&session), None);
    }

    #[test]
    fn nobody_is_led_elsewhere() {
        for (to, expected) in [
            ("/console/events?id=1", "/console/events?id=1"),
            ("https://evil.example/", "/console/webhooks"),
            ("//evil.example/console/", "/console/webhooks"),
            ("/console/\\evil", "/console/webhooks"),
            ("", "/console/webhooks"),
        ] {
            assert_eq!(own_path(to), expected);
        }
    }

    #[test]
    fn cookies() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=1; hookstream=x=y;b=2"));
        assert_eq!(cookie(&headers, "hookstream"), Some("x=y"));
        assert_eq!(cookie(&headers, "b"), Some("2"));
        assert_eq!(cookie(&headers, "c"), None);
    }
}
