//! Signing in with an account elsewhere: there by a link, and back.
//!
//! What has begun is kept in the browser that began it, in a signed cookie that lasts ten minutes and for one return.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use hookstream_config::os_random;
use hookstream_types::UnixMillis;
use http::header::SET_COOKIE;
use http::{HeaderMap, StatusCode, Uri};
use serde::{Deserialize, Serialize};

use super::Console;
use super::session::{Kept, SIGN_IN, To, Who, after, cookie, own_path, set_cookie, sign_in_page, signed_in};
use super::texts::{Lang, Texts};
use crate::access::oidc::{Begun, Callback, NotSignedIn, Person, Provider};

/// Where people come back.
pub(crate) const CALLBACK: &str = "/console/sign-in/callback";
/// For a password, a second factor, and finding the telephone.
const PATIENCE: Duration = Duration::from_secs(10 * 60);
/// The longest address that somebody is led back to: a cookie has to hold it.
const LONGEST_TO: usize = 1024;

/// A sign-in that has begun in this browser.
#[derive(Debug, Serialize, Deserialize)]
struct Pending {
    begun: Begun,
    to: String,
    until: UnixMillis,
}

impl Kept for Pending {
    const KIND: [u8; 20] = *b"hookstream-sign-in-1";

    fn until(&self) -> UnixMillis {
        self.until
    }
}

pub(super) fn routes() -> Router<Arc<Console>> {
    Router::new().route("/sign-in/oidc", get(begin)).route("/sign-in/callback", get(come_back))
}

/// The cookie's name: with the prefix that browsers take from a secure origin only.
fn name(is_secure: bool) -> &'static str {
    if is_secure { "__Host-hookstream-sign-in" } else { "hookstream-sign-in" }
}

async fn begin(State(console): State<Arc<Console>>, Query(To { to }): Query<To>) -> Response {
    let Some(provider) = &console.provider else { return Redirect::to(SIGN_IN).into_response() };
    let begun = Begun::new(&mut |bytes| os_random(bytes));
    let location = provider.authorization_url(&begun);
    let to = if to.len() <= LONGEST_TO { own_path(&to).to_owned() } else { String::new() };
    let pending = Pending { begun, to, until: after(console.api.now(), PATIENCE) };
    let made = console.sessions.make(&pending).unwrap_or_default();
    let cookie = set_cookie(&console, name(console.is_secure), &made, PATIENCE);
    ([(SET_COOKIE, cookie)], Redirect::to(&location)).into_response()
}

async fn come_back(State(console): State<Arc<Console>>, headers: HeaderMap, uri: Uri) -> Response {
    let Some(provider) = &console.provider else { return Redirect::to(SIGN_IN).into_response() };
    let found = cookie(&headers, name(console.is_secure));
    let pending: Option<Pending> = found.and_then(|found| console.sessions.read(found, console.api.now()));
    let to = pending.as_ref().map(|pending| pending.to.clone()).unwrap_or_default();
    let mut response = match finish(&console, provider, pending, &uri).await {
        Ok(person) => signed_in(&console, Who::Person(person), provider.lifetime(), &to),
        Err(error) => {
            let (status, problem) = told(&error, Lang::of(&headers).texts());
            if status == StatusCode::BAD_GATEWAY {
                tracing::warn!(reason = %error, "somebody could not sign in with the provider");
            } else {
                tracing::debug!(reason = %error, "somebody was not signed in");
            }
            sign_in_page(&console, &headers, status, to, String::new(), Some(problem.to_owned()))
        }
    };
    // Whatever came of it: it was for one return.
    let cookie = set_cookie(&console, name(console.is_secure), "", Duration::ZERO);
    response.headers_mut().append(SET_COOKIE, cookie);
    response
}

async fn finish(
    console: &Console,
    provider: &Provider,
    pending: Option<Pending>,
    uri: &Uri,
) -> Result<Person, NotSignedIn> {
    let pending = pending.ok_or(NotSignedIn::NotBegun)?;
    let callback: Callback = Query::try_from_uri(uri).map_or_else(|_| Callback::default(), |Query(it)| it);
    provider.finish(&pending.begun, &callback, &console.api.authenticator, console.api.now()).await
}

/// What somebody is told who is not signed in.
fn told(error: &NotSignedIn, t: &Texts) -> (StatusCode, &'static str) {
    match error {
        NotSignedIn::NotBegun | NotSignedIn::Code => (StatusCode::BAD_REQUEST, t.sign_in_anew),
        NotSignedIn::Denied => (StatusCode::FORBIDDEN, t.sign_in_denied),
        NotSignedIn::Account | NotSignedIn::Nothing => (StatusCode::FORBIDDEN, t.sign_in_nothing),
        // A token that is refused is a setting that is wrong, or worse.
        NotSignedIn::Provider(_) | NotSignedIn::Token(_) => (StatusCode::BAD_GATEWAY, t.sign_in_away),
    }
}

#[cfg(test)]
mod tests {
    use hookstream_types::Secret;

    use super::super::session::{Session, Sessions};
    use super::*;

    #[test]
    fn neither_cookie_is_taken_for_the_other() {
        let sessions = Sessions::new(&[Secret::new(vec![1; 32])]);
        let until = UnixMillis(1_000);
        let session = Session { who: Who::Client { id: "c".to_owned() }, until };
        let begun = Begun::new(&mut |bytes| bytes.fill(7));
        let pending = Pending { begun: begun.clone(), to: "/console/events".to_owned(), until };
        let pending = sessions.make(&pending).unwrap();
        let read = sessions.read::<Pending>(&pending, UnixMillis(999)).unwrap();
        assert_eq!((read.begun, read.to.as_str()), (begun, "/console/events"));
        assert!(sessions.read::<Pending>(&pending, until).is_none(), "ten minutes are over");
        assert!(sessions.read::<Session>(&pending, UnixMillis(0)).is_none());

        /// Another kind of the very same form.
        #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(transparent)]
        struct Forged(Session);

        impl Kept for Forged {
            const KIND: [u8; 20] = Pending::KIND;

            fn until(&self) -> UnixMillis {
                self.0.until
            }
        }
        let forged = sessions.make(&Forged(session.clone())).unwrap();
        assert!(sessions.read::<Session>(&forged, UnixMillis(0)).is_none());
        let made = sessions.make(&session).unwrap();
        assert_eq!(sessions.read::<Forged>(&made, UnixMillis(0)), None);
        assert_eq!(sessions.read(&made, UnixMillis(0)), Some(session));
    }

    #[test]
    fn everybody_is_told_a_sentence_without_details() {
        let details = "status 500 of 10.0.0.1";
        for error in [
            NotSignedIn::NotBegun,
            NotSignedIn::Denied,
            NotSignedIn::Code,
            NotSignedIn::Provider(details.to_owned()),
            NotSignedIn::Account,
            NotSignedIn::Nothing,
        ] {
            for lang in Lang::ALL {
                let (status, sentence) = told(&error, lang.texts());
                assert!(!status.is_success() && sentence.ends_with('.'), "{error}: {sentence}");
                assert!(!sentence.contains(details) && !sentence.contains(&error.to_string()), "{sentence}");
            }
        }
    }
}
