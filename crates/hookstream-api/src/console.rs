//! The console: pages for people, made on the server.
//!
//! It has no rules of its own: what it reads and writes goes through the same functions as the API's routes, as the
//! principal who has signed in. Forms become documents, and what is wrong with a document is shown at the form's fields.
//!
//! Pages work without the scripts; these add what is live: a list that grows while it is looked at, a preview beside a
//! template. Nothing is loaded from elsewhere, and the policy of every page (CSP) allows nothing else, no script in a page
//! either.
//!
//! **Invariants:** a request that changes something comes from one of our own pages (`Sec-Fetch-Site`, else `Origin`);
//! whatever comes from outside is text in a page.

mod assets;
mod audit;
mod events;
mod form;
mod history;
mod kinds;
mod oidc;
mod overview;
mod page;
mod portal;
mod replays;
mod session;
mod texts;
mod visitor;
mod webhooks;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use hookstream_types::WebhookId;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, HeaderName, ORIGIN, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::access::oauth::TokenEndpoint;
use crate::access::oidc::Provider;
use crate::api::Api;

pub(crate) use self::oidc::CALLBACK;
pub(crate) use self::portal::{Links, Portal};
pub(crate) use self::session::{SESSION_KEYS, Sessions};

/// Pages that are followed live at a time.
const LIVE: usize = 500;

/// What the pages are made with.
#[derive(Debug)]
pub(crate) struct Console {
    api: Arc<Api>,
    clients: Arc<TokenEndpoint>,
    sessions: Arc<Sessions>,
    /// With whom people sign in who have no secret of ours.
    provider: Option<Provider>,
    /// Cookies are for HTTPS only.
    is_secure: bool,
    /// Host and port of the API's URL: where pages come from, if a proxy does not say.
    host: String,
    /// The policy of pages that may be framed; none: nobody may.
    framed: Option<HeaderValue>,
    live: Arc<Semaphore>,
    shutdown: CancellationToken,
}

impl Console {
    pub(crate) fn new(
        api: Arc<Api>,
        clients: Arc<TokenEndpoint>,
        sessions: Arc<Sessions>,
        provider: Option<Provider>,
        url: &str,
        framed_by: &[String],
        shutdown: CancellationToken,
    ) -> Self {
        let uri = url.parse::<http::Uri>().unwrap_or_default();
        let host = uri.authority().map(|authority| authority.as_str().to_owned()).unwrap_or_default();
        let is_secure = uri.scheme_str() == Some("https");
        let framed = Some(framed_by.join(" ")).filter(|origins| !origins.is_empty()).and_then(|origins| {
            let policy = POLICY.strip_suffix("'none'")?;
            HeaderValue::from_str(&format!("{policy}{origins}")).ok()
        });
        let live = Arc::new(Semaphore::new(LIVE));
        Self { api, clients, sessions, provider, is_secure, host, framed, live, shutdown }
    }

    /// What people call a webhook; one that is deleted has its id only.
    fn name_of(&self, webhook: WebhookId) -> String {
        let name = self.api.look(|state| state.webhook(webhook).map(|webhook| webhook.name.clone()));
        name.unwrap_or_else(|| webhook.to_string())
    }
}

/// The console's routes, and the portal's.
pub(crate) fn router(console: Arc<Console>) -> Router {
    let webhooks = || webhooks::routes().merge(history::routes()).merge(replays::routes());
    let pages = Router::new()
        .merge(session::routes())
        .merge(oidc::routes())
        .merge(webhooks())
        .merge(overview::routes())
        .merge(events::routes())
        .merge(kinds::routes())
        .merge(audit::routes())
        .route("/{*rest}", get(page::not_found));
    let portal =
        Router::new().merge(portal::routes()).merge(webhooks()).route("/{*rest}", get(page::not_found));
    let to_list = || get(|| async { Redirect::to("/console/webhooks") });
    let pages = Router::new()
        .nest(page::CONSOLE, pages)
        .nest(page::PORTAL, portal)
        .layer(middleware::from_fn_with_state(Arc::clone(&console), own_pages_only))
        .with_state(Arc::clone(&console));
    Router::new()
        .route("/", to_list())
        .route("/console", to_list())
        .route("/console/", to_list())
        .route("/console/assets/{version}/{name}", get(assets::show))
        .merge(pages)
        .layer(middleware::from_fn_with_state(console, safe_headers))
}

/// Turns away what changes something and does not come from a page of ours.
async fn own_pages_only(State(console): State<Arc<Console>>, request: Request, next: Next) -> Response {
    let is_safe = matches!(*request.method(), Method::GET | Method::HEAD);
    if is_safe || is_own(&console, request.headers()) {
        return next.run(request).await;
    }
    page::plain(
        StatusCode::FORBIDDEN,
        "This request does not come from a page of this console: open the console anew and try again there.",
    )
}

fn is_own(console: &Console, headers: &HeaderMap) -> bool {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let site = text(&HeaderName::from_static("sec-fetch-site"));
    if site.is_some_and(|site| site != "same-origin") {
        return false;
    }
    // Every browser says with a form where it comes from.
    let Some(origin) = text(&ORIGIN) else { return false };
    let Some((_, authority)) = origin.split_once("://") else { return false };
    let is = |host: &str| !host.is_empty() && authority.eq_ignore_ascii_case(host);
    is(&console.host) || text(&HOST).is_some_and(is)
}

/// Scripts, styles and pictures are our own files; a page is shown in no other, unless this ends with whose.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// What every answer says to the browser.
async fn safe_headers(State(console): State<Arc<Console>>, request: Request, next: Next) -> Response {
    // A portal may be framed by whom the settings name.
    let framed = console.framed.as_ref().filter(|_| request.uri().path().starts_with(page::PORTAL)).cloned();
    let mut response = next.run(request).await.into_response();
    let headers = response.headers_mut();
    match framed {
        Some(policy) => drop(headers.insert(CONTENT_SECURITY_POLICY, policy)),
        None => {
            headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
            headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        }
    }
    for (name, value) in [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // What somebody has seen stays in no cache; an asset says for itself how long it is good.
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests;
