//! Who looks at a page.

use std::sync::Arc;

use axum::extract::{FromRequestParts, OriginalUri};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Redirect, Response};
use http::header::LOCATION;
use http::{HeaderValue, Method, StatusCode};

use super::Console;
use super::page::{self, CONSOLE, Nav, PORTAL, Page};
use super::portal;
use super::session::{Session, cookie, name};
use super::texts::{Lang, Texts};
use crate::access::{Bound, Principal, Scope};

/// What a portal has.
const PORTAL_PARTS: &[&str] = &["webhooks", "dead-letters", "replays"];

/// Somebody who has signed in.
#[derive(Clone, Debug)]
pub(super) struct Visitor {
    pub(super) principal: Principal,
    pub(super) lang: Lang,
    /// The pages that they see.
    pub(super) base: &'static str,
    /// What they are called.
    called: Option<String>,
    /// Where they are, to come back to.
    path: String,
    /// What was done by the request before, by its name in the address.
    done: Option<String>,
}

impl FromRequestParts<Arc<Console>> for Visitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, console: &Arc<Console>) -> Result<Self, Response> {
        // The routes below a prefix see their paths without it.
        let uri = parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |uri| &uri.0);
        let path = uri.path_and_query().map(|path| path.as_str().to_owned()).unwrap_or_default();
        let base = if path.starts_with(PORTAL) { PORTAL } else { CONSOLE };
        let name = if base == PORTAL { portal::COOKIE } else { name(console.is_secure) };
        let session: Option<Session> =
            cookie(&parts.headers, name).and_then(|found| console.sessions.read(found, console.api.now()));
        // A portal's session is none of the console's, nor the other way round.
        let who = session.map(|session| session.who).filter(|who| who.is_portal() == (base == PORTAL));
        let signed_in = who.and_then(|who| Some((who.principal(console)?, who.called().map(str::to_owned))));
        let Some((principal, called)) = signed_in else {
            return Err(if base == PORTAL { portal::over(&parts.headers) } else { to_sign_in(parts, &path) });
        };
        // Customers whose links were made by one client don't share its rate.
        if let Err(limited) = console.api.take(&format!("{} {:?}", principal.client, principal.bound)) {
            return Err(page::problem(Lang::of(&parts.headers), &limited.into()));
        }
        let done = parts.uri.query().and_then(|query| {
            let mut pairs = url::form_urlencoded::parse(query.as_bytes());
            pairs.find(|(name, _)| name == "done").map(|(_, value)| value.into_owned())
        });
        Ok(Self { principal, lang: Lang::of(&parts.headers), base, called, path, done })
    }
}

/// To the page where one signs in, and from there back to the page that was asked for.
fn to_sign_in(parts: &Parts, path: &str) -> Response {
    let to = if parts.method == Method::GET { path } else { "/console/webhooks" };
    let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("to", to).finish();
    let location = format!("/console/sign-in?{query}");
    if parts.headers.contains_key("hx-request") {
        // A part of a page is asked for: the whole page goes there.
        let header = HeaderValue::from_str(&location).unwrap_or(HeaderValue::from_static("/console/sign-in"));
        let mut response = StatusCode::UNAUTHORIZED.into_response();
        response.headers_mut().insert("hx-redirect", header.clone());
        response.headers_mut().insert(LOCATION, header);
        return response;
    }
    Redirect::to(&location).into_response()
}

impl Visitor {
    pub(super) fn t(&self) -> &'static Texts {
        self.lang.texts()
    }

    /// The address of a page.
    pub(super) fn path(&self, rest: &str) -> String {
        format!("{}/{rest}", self.base)
    }

    /// To a page.
    pub(super) fn to(&self, rest: &str) -> Response {
        Redirect::to(&self.path(rest)).into_response()
    }

    pub(super) fn may(&self, scope: Scope) -> bool {
        self.principal.scopes.allow(scope)
    }

    pub(super) fn sees_all(&self) -> bool {
        self.principal.bound == Bound::Everything
    }

    pub(super) fn is_operator(&self) -> bool {
        self.sees_all() && self.may(Scope::Admin)
    }

    /// A page, with what all of them have; `at` is the part of the console it belongs to.
    pub(super) fn page(&self, at: &'static str, title: impl Into<String>) -> Page {
        let t = self.t();
        let is_app = matches!(self.principal.bound, Bound::App { .. });
        let is_portal = self.base == PORTAL;
        let history = self.may(Scope::HistoryRead);
        let read = self.may(Scope::WebhooksRead);
        let all = [
            (history && !is_app, "overview", t.overview),
            (read, "webhooks", t.webhooks),
            (history && !is_app, "events", t.events),
            (history, "dead-letters", t.dead_letters),
            (read, "replays", t.replays),
            (read, "authorizations", t.authorizations),
            (read, "event-types", t.event_types),
            (read, "apps", t.apps),
            (read && self.sees_all(), "accounts", t.accounts),
            (read && self.sees_all(), "sources", t.sources),
            (read && self.may(Scope::Admin), "clients", t.clients),
            (read && !is_app, "audit", t.audit),
        ];
        // A portal is of webhooks and their deliveries, and of nothing else.
        let nav = all
            .into_iter()
            .filter(|(is_shown, path, _)| *is_shown && (!is_portal || PORTAL_PARTS.contains(path)));
        let nav = nav.map(|(_, path, label)| Nav { path, label, is_here: path == at }).collect();
        Page {
            t,
            lang: self.lang,
            title: title.into(),
            who: Some(self.called.as_ref().unwrap_or(&self.principal.client).clone()),
            nav,
            done: self.done.as_deref().and_then(|done| t.done(done)),
            problem: None,
            path: self.path.clone(),
            base: self.base,
        }
    }
}
