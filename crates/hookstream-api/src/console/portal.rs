//! The portal: the webhooks of one account or app, for the customer whose they are, in the pages of those who run hookstream.
//!
//! Whoever may change the webhooks makes a link (`POST /api/v1/portal-links`) and shows it to the customer, as a page or
//! in a frame. The link is good for minutes, and gives a session that is good for longer; both say whose webhooks it is
//! about, and nothing else can be reached with them.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use hookstream_types::{AccountUid, AppId, UnixMillis};
use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};

use super::Console;
use super::page::{self, PORTAL, Page};
use super::session::{Session, Sessions, Who, after};
use super::texts::Lang;
use crate::access::{Bound, Principal, Scope};
use crate::api::Api;

/// In a frame on another site, a browser sends no other cookie than one of that frame's own (CHIPS); so it has to be
/// secure, which this machine itself counts as.
pub(super) const COOKIE: &str = "__Secure-hookstream-portal";
/// In which a link has to be followed.
pub(crate) const LINK: Duration = Duration::from_secs(5 * 60);

/// Whose webhooks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Portal {
    pub(crate) account: AccountUid,
    /// None: all of the account.
    pub(crate) app: Option<AppId>,
    /// Who made the link.
    pub(crate) by: String,
}

impl Portal {
    /// None: the account, the app, or who made the link is no more.
    pub(super) fn principal(&self, api: &Api) -> Option<Principal> {
        let Self { account, app, by } = self;
        let is_there = api.look(|state| {
            let app = app.is_none_or(|app| state.app(app).is_some_and(|found| found.account == *account));
            app && state.account(*account).is_some()
        });
        if !is_there {
            return None;
        }
        if let Some(id) = by.strip_prefix("client:") {
            api.authenticator.client(id)?.require(Scope::WebhooksWrite).ok()?;
        }
        let bound = match app {
            Some(app) => Bound::App { account: *account, app: *app },
            None => Bound::Account(*account),
        };
        let scopes = [Scope::WebhooksRead, Scope::WebhooksWrite, Scope::HistoryRead].into_iter().collect();
        Some(Principal { client: format!("portal:{by}"), scopes, bound })
    }
}

/// Makes links.
#[derive(Clone, Debug)]
pub(crate) struct Links(pub(crate) Arc<Sessions>);

impl Links {
    /// A link's path, and until when it can be followed; none: there is no key.
    pub(crate) fn make(
        &self,
        portal: Portal,
        lifetime: Duration,
        now: UnixMillis,
    ) -> Option<(String, UnixMillis)> {
        let until = after(now, LINK);
        let session = Session { who: Who::Link { portal, seconds: lifetime.as_secs() }, until };
        Some((format!("{PORTAL}/open/{}", self.0.make(&session)?), until))
    }
}

pub(super) fn routes() -> Router<Arc<Console>> {
    Router::new().route("/open/{link}", get(open))
}

async fn open(State(console): State<Arc<Console>>, Path(link): Path<String>, headers: HeaderMap) -> Response {
    let now = console.api.now();
    let Some(Session { who: Who::Link { portal, seconds }, .. }) = console.sessions.read(&link, now) else {
        return over(&headers);
    };
    let age = Duration::from_secs(seconds);
    let session = Session { who: Who::Portal(portal), until: after(now, age) };
    let made = console.sessions.make(&session).unwrap_or_default();
    let cookie = format!(
        "{COOKIE}={made}; Path={PORTAL}; HttpOnly; Secure; SameSite=None; Partitioned; Max-Age={seconds}"
    );
    let cookie = HeaderValue::from_str(&cookie).unwrap_or(HeaderValue::from_static(""));
    ([(SET_COOKIE, cookie)], Redirect::to(&format!("{PORTAL}/webhooks"))).into_response()
}

#[derive(Template)]
#[template(path = "portal_over.html")]
struct Over {
    page: Page,
}

/// There is no session, or it is over.
pub(super) fn over(headers: &HeaderMap) -> Response {
    let page = Page { base: PORTAL, ..Page::without_visitor(Lang::of(headers), |t| t.portal_over) };
    page::render(StatusCode::UNAUTHORIZED, &Over { page })
}
