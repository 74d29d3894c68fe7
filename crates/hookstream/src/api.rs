//! The API as commands call it: at an address that the operator names, with the operator's token.
//!
//! This is no delivery: whom it calls is no customer, so it passes by `hookstream-egress` and its guard, and takes from
//! there only what TLS is.

use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use hookstream_api::problem::{MEDIA_TYPE, Problem};
use hookstream_settings::Settings;
use hookstream_types::{Chain, SecretString};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::runtime::Runtime;

use crate::args::{ApiArgs, DATA_DIR};
use crate::dev;
use crate::failure::Failure;

/// Names the token.
const TOKEN_VARIABLE: &str = "HOOKSTREAM_TOKEN";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an API that works on an answer may be silent before it is asked whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// After this long without an answer, a person is told that something is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of an answer: more than any export has.
const MAX_ANSWER_BYTES: usize = 1024 * 1024 * 1024;

/// An API that is to be called.
#[derive(Debug)]
pub(crate) struct Api {
    /// Without a slash at its end.
    url: String,
    token: Token,
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    runtime: Runtime,
}

#[derive(Debug)]
struct Token {
    value: HeaderValue,
    origin: Origin,
}

/// Where a token comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    Option(PathBuf),
    Variable,
    Settings,
    Dev(PathBuf),
}

/// Why there is no good answer.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// What the API says is wrong.
    Problem(Box<Problem>),
    /// Nothing was done.
    Failed(Failure),
    /// It may have been done.
    BrokenOff(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Option(file) => write!(f, "of `{}`", file.display()),
            Self::Variable => write!(f, "in {TOKEN_VARIABLE}"),
            Self::Settings => f.write_str("that the settings have as `api.admin_token`"),
            Self::Dev(file) => write!(f, "that `hookstream dev` left in `{}`", file.display()),
        }
    }
}

impl Api {
    /// Finds out where it is and with which token; calls nobody yet.
    pub(crate) fn new(args: &ApiArgs) -> Result<Self, Failure> {
        let settings = args.settings()?;
        let url = args.api.as_ref().unwrap_or(&settings.api.url).trim_end_matches('/').to_owned();
        let at = address(&url)?;
        let variable = std::env::var(TOKEN_VARIABLE).ok();
        let token = Token::find(args, variable, &settings, is_local(&at), Path::new(DATA_DIR))?;
        if at.scheme_str() == Some("http") && !is_local(&at) {
            eprintln!("warning: the token goes to {url} unencrypted; if it can be had as https://, use that");
        }
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_keepalive(Some(KEEPALIVE));
        let tls = hookstream_egress::machine_config()?;
        let http = legacy::Client::builder(TokioExecutor::new()).build(HttpsConnector::from((tcp, tls)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { url, token, http, runtime })
    }

    pub(crate) fn get(&self, path: &str) -> Result<Bytes, Unanswered> {
        self.call(Method::GET, path, Bytes::new())
    }

    /// Sends JSON.
    pub(crate) fn post(&self, path: &str, body: Bytes) -> Result<Bytes, Unanswered> {
        self.call(Method::POST, path, body)
    }

    fn call(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, Unanswered> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header(AUTHORIZATION, &self.token.value)
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("hookstream/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(body))
            .map_err(|error| Unanswered::Failed(Failure::usage(error)))?;
        let (status, is_problem, answer) = self.runtime.block_on(async {
            let mut answering = pin!(self.exchange(request));
            if let Ok(answer) = tokio::time::timeout(PATIENCE, answering.as_mut()).await {
                return answer;
            }
            eprintln!("waiting for {}", self.url);
            answering.await
        })?;
        if status.is_success() {
            return Ok(answer);
        }
        match serde_json::from_slice::<Problem>(&answer) {
            Ok(problem) if is_problem => Err(self.problem(problem)),
            _ => Err(Unanswered::Failed(Failure::usage(format!(
                "{} answers {status}, and not as hookstream's API does: is it there? (--api URL)",
                self.url
            )))),
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, bool, Bytes), Unanswered> {
        let response = self.http.request(request).await.map_err(|error| {
            if error.is_connect() {
                let message = format!(
                    "no API answers at {}: {}; start it, or say where it is with --api URL",
                    self.url,
                    innermost(&error)
                );
                Unanswered::Failed(Failure::Unavailable(message.into()))
            } else {
                Unanswered::BrokenOff(format!("{} broke off: {}", self.url, Chain(&error)))
            }
        })?;
        let status = response.status();
        let is_problem = response
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes() == MEDIA_TYPE.as_bytes());
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| {
            Unanswered::BrokenOff(format!("the answer of {} broke off: {}", self.url, Chain(&*error)))
        })?;
        Ok((status, is_problem, body.to_bytes()))
    }

    /// A problem that is not of what was sent gets its exit code here.
    fn problem(&self, problem: Problem) -> Unanswered {
        let Token { origin, .. } = &self.token;
        let detail = &problem.detail;
        let failure = match problem.status_code() {
            StatusCode::UNAUTHORIZED => {
                Failure::usage(format!("{} does not take the token {origin}: {detail}", self.url))
            }
            StatusCode::FORBIDDEN => {
                Failure::usage(format!("{}: the token {origin} may not do this: {detail}", self.url))
            }
            StatusCode::NOT_FOUND => {
                Failure::usage(format!("{} has no such operation: is it an older one? {detail}", self.url))
            }
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                Failure::Unavailable(format!("{}: {detail}", self.url).into())
            }
            _ => return Unanswered::Problem(Box::new(problem)),
        };
        Unanswered::Failed(failure)
    }
}

impl Token {
    /// What is said for this call counts most; a token is not sent elsewhere than where it belongs.
    fn find(
        args: &ApiArgs,
        variable: Option<String>,
        settings: &Settings,
        is_local: bool,
        data_dir: &Path,
    ) -> Result<Self, Failure> {
        if let Some(file) = &args.token_file {
            return Self::of_file(file, Origin::Option(file.clone()));
        }
        if let Some(token) = variable.filter(|token| !token.is_empty()) {
            return Self::of(&SecretString::new(token), Origin::Variable);
        }
        if args.api.is_none() {
            let admin =
                settings.api.read_admin_token().map_err(|problem| Failure::Settings(vec![problem]))?;
            if let Some(token) = admin {
                return Self::of(&token, Origin::Settings);
            }
        }
        let dev = dev::token_file(data_dir);
        if is_local && dev.exists() {
            return Self::of_file(&dev, Origin::Dev(dev.clone()));
        }
        Err(Failure::usage(format!(
            "an operator's token is needed: set {TOKEN_VARIABLE}, or name a file that has it with --token-file \
             (`hookstream dev` keeps its own in `{DATA_DIR}`, `hookstream-api` has it as `api.admin_token`)"
        )))
    }

    fn of_file(file: &Path, origin: Origin) -> Result<Self, Failure> {
        let text = fs::read_to_string(file)
            .map_err(|error| Failure::usage(format!("could not read `{}`: {error}", file.display())))?;
        Self::of(&SecretString::new(text), origin)
    }

    fn of(token: &SecretString, origin: Origin) -> Result<Self, Failure> {
        let token = token.expose().trim();
        let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        let value = HeaderValue::from_str(&format!("Bearer {token}")).ok().filter(|_| is_token);
        let Some(mut value) = value else {
            let message = format!("the token {origin} is none: it must be visible ASCII characters");
            return Err(Failure::usage(message));
        };
        value.set_sensitive(true);
        Ok(Self { value, origin })
    }
}

/// Checks a URL to which paths are appended.
fn address(url: &str) -> Result<Uri, Failure> {
    let wrong = |what: &str| Failure::usage(format!("`{url}` is no URL of an API: {what}"));
    let uri: Uri = url.parse().map_err(|_| wrong("it must be such as http://127.0.0.1:8080"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(wrong("it must begin with http:// or https://"));
    }
    if uri.authority().is_none_or(|authority| authority.as_str().contains('@')) {
        return Err(Failure::usage("the API's URL must not contain a user name or password: give the token"));
    }
    if uri.query().is_some() {
        return Err(wrong("it must not have a query"));
    }
    Ok(uri)
}

/// Whether it is on this machine.
fn is_local(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The cause of a failed connection; what stands around it says only that one failed.
fn innermost(error: &legacy::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use hookstream_settings::Map;

    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Settings {
        let env = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::load_without_key(None, Map::from_iter(env)).unwrap()
    }

    #[test]
    fn which_token_is_sent_where() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("mine");
        fs::write(&file, "t-of-file\n").unwrap();
        let option = ApiArgs { token_file: Some(file.clone()), ..ApiArgs::default() };
        let none = ApiArgs::default();
        let elsewhere = ApiArgs { api: Some("https://hooks.example".to_owned()), ..ApiArgs::default() };
        let (bare, own) = (settings(&[]), settings(&[("HOOKSTREAM__API__ADMIN_TOKEN", "t-of-settings")]));
        let variable = || Some("t-of-variable".to_owned());
        let find = |args: &ApiArgs, variable: Option<String>, settings: &Settings, is_local| {
            Token::find(args, variable, settings, is_local, dir.path()).map(|token| {
                assert!(token.value.is_sensitive());
                (token.value.to_str().unwrap().trim_start_matches("Bearer ").to_owned(), token.origin)
            })
        };
        assert!(matches!(find(&none, None, &bare, true), Err(Failure::Usage(_))));
        fs::write(dev::token_file(dir.path()), "t-of-dev\n").unwrap();
        let dev = Origin::Dev(dev::token_file(dir.path()));
        for (found, token, origin) in [
            (find(&option, variable(), &own, true), "t-of-file", Origin::Option(file)),
            (find(&none, variable(), &own, true), "t-of-variable", Origin::Variable),
            (find(&none, Some(String::new()), &own, true), "t-of-settings", Origin::Settings),
            (find(&none, None, &bare, true), "t-of-dev", dev.clone()),
            // A token of the settings is for where the settings say.
            (find(&elsewhere, None, &own, true), "t-of-dev", dev),
        ] {
            assert_eq!(found.unwrap(), (token.to_owned(), origin));
        }
        assert!(matches!(find(&elsewhere, None, &own, false), Err(Failure::Usage(_))));
        let Err(Failure::Usage(error)) = find(&none, Some("a\u{e9} b".to_owned()), &bare, true) else {
            panic!("it is none")
        };
        assert_eq!(
            error.to_string(),
            "the token in HOOKSTREAM_TOKEN is none: it must be visible ASCII characters"
        );
    }

    #[test]
    fn urls() {
        for (url, is_here) in [
            ("http://127.0.0.1:8080", true),
            ("http://localhost:8080", true),
            ("http://[::1]:8080", true),
            ("https://hooks.example/hookstream", false),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(is_local(&address(url).unwrap()), is_here, "{url}");
        }
        for url in [
            "",
            "hooks.example",
            "127.0.0.1:8080",
            "ftp://x",
            "http://",
            "http://u:p@x",
            "http://x?a=b",
            "http://x y",
        ] {
            assert!(matches!(address(url), Err(Failure::Usage(_))), "{url}");
        }
    }
}
