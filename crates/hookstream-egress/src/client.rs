//! One exchange at a time, many at once.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hookstream_core::exchange::{Exchange, Failure, FailureKind, Method, Request, Response};
use hookstream_types::limits::{MAX_RESPONSE_BODY_BYTES, MAX_RESPONSE_HEADER_BYTES};
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use reqwest::Url;
use rustc_hash::FxHashMap;
use rustls::RootCertStore;
use tokio::time::timeout_at;

use crate::dial::{CONNECT_TIMEOUT, Recorder, TimedLayer, VettingResolver};
use crate::failure::{self, failure, unsendable};
use crate::guard::{EgressSettings, Guard};
use crate::tls;

/// How long an idle connection is kept: less than the 5 s after which common servers (Apache, Node.js, uvicorn)
/// close theirs, because a request sent into a closing connection is an attempt lost.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// Idle connections kept per host. Some hosts have very many webhooks; each idle connection had a request in flight
/// less than [`IDLE_TIMEOUT`] ago, and lanes and partitions bound those.
const IDLE_PER_HOST: usize = 1_024;
/// Parsed URLs kept; beyond, all are parsed anew.
const MAX_URLS: usize = 10_000;
/// How long a connection is silent before its other end is asked whether it is there.
const TCP_KEEPALIVE: Duration = Duration::from_secs(15);

/// No client can be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("TLS could not be set up")]
    Tls(#[source] rustls::Error),
    #[error("the HTTP client could not be set up")]
    Http(#[source] reqwest::Error),
}

/// An HTTP client for one core: made on, and used from, one current-thread runtime.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    guard: Guard,
    /// URLs that passed all checks that need no name resolution.
    urls: Mutex<FxHashMap<Arc<str>, Url>>,
}

impl Client {
    /// A client that trusts the machine's root certificates.
    ///
    /// # Errors
    /// [`ClientError`] if the TLS or HTTP library refuses its settings.
    pub fn new(settings: EgressSettings) -> Result<Self, ClientError> {
        Self::with_roots(settings, tls::machine_roots())
    }

    pub(crate) fn with_roots(settings: EgressSettings, roots: RootCertStore) -> Result<Self, ClientError> {
        let guard = Guard::new(settings);
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::config(roots).map_err(ClientError::Tls)?)
            .dns_resolver(VettingResolver::new(guard))
            .connector_layer(TimedLayer)
            .connect_timeout(CONNECT_TIMEOUT)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .http1_only()
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .tcp_nodelay(true)
            .tcp_keepalive(TCP_KEEPALIVE)
            .build()
            .map_err(ClientError::Http)?;
        Ok(Self { http, guard, urls: Mutex::default() })
    }

    /// Sends a request and takes what comes back, within the request's deadline.
    ///
    /// Always comes to an end, never fails otherwise than in the [`Exchange`]. Dropped before its end, it closes
    /// the connection.
    pub async fn exchange(&self, request: &Request) -> Exchange {
        let recorder = Recorder::start();
        let result = match self.prepare(request) {
            Ok(prepared) => recorder.record(self.perform(prepared, &recorder)).await,
            Err(failure) => Err(failure),
        };
        Exchange { result, timings: recorder.timings() }
    }

    /// Makes the HTTP library's request of ours.
    fn prepare(&self, request: &Request) -> Result<Prepared, Failure> {
        let mut prepared = reqwest::Request::new(method(request.method), self.url(&request.url)?);
        let headers = prepared.headers_mut();
        headers.reserve(request.headers.len() + 2);
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        for (name, value) in &request.headers {
            let bad = || unsendable(&format!("the header `{}` can't be sent", name.escape_default()));
            let parsed_name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
            let parsed_value = HeaderValue::from_str(value).map_err(|_| bad())?;
            headers.append(parsed_name, parsed_value);
        }
        if !request.body.is_empty() {
            *prepared.body_mut() = Some(request.body.clone().into());
        }
        let host = Host { url: Arc::clone(&request.url) };
        Ok(Prepared { request: prepared, host, deadline: request.deadline })
    }

    /// A URL that may be called; parsed once, because deliveries come again and again.
    fn url(&self, text: &Arc<str>) -> Result<Url, Failure> {
        if let Some(url) = self.urls.lock().unwrap_or_else(PoisonError::into_inner).get(text) {
            return Ok(url.clone());
        }
        let url = Url::parse(text).map_err(|error| unsendable(&format!("the URL is not valid: {error}")))?;
        if !self.guard.admits_scheme(url.scheme()) {
            let message = format!("the URL's scheme is `{}`, not `https` or `http`", url.scheme());
            return Err(unsendable(&message));
        }
        let host = url.host_str().unwrap_or_default();
        if let Ok(literal) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            self.guard.admit(literal).map_err(|error| failure(FailureKind::Forbidden, &error.to_string()))?;
        }
        let mut urls = self.urls.lock().unwrap_or_else(PoisonError::into_inner);
        if urls.len() >= MAX_URLS {
            urls.clear();
        }
        urls.insert(Arc::clone(text), url.clone());
        Ok(url)
    }

    async fn perform(&self, prepared: Prepared, recorder: &Arc<Recorder>) -> Result<Response, Failure> {
        let Prepared { request, host, deadline } = prepared;
        let mut received = Received::default();
        let until = recorder.started() + deadline;
        let receive = self.receive(request, &host, recorder, &mut received);
        let in_time = match timeout_at(until, receive).await {
            Ok(result) => result.map(|()| true),
            Err(_) => Ok(false),
        }?;
        match received.response {
            Some(response) => {
                let truncated = response.truncated || !in_time;
                Ok(Response { body: received.body.freeze(), truncated, ..response })
            }
            None => Err(failure::timed_out(recorder.phase(), &host.to_string(), deadline)),
        }
    }

    /// Fills `received` as far as it comes, so that what is there at the deadline is not lost.
    async fn receive(
        &self,
        request: reqwest::Request,
        host: &Host,
        recorder: &Recorder,
        received: &mut Received,
    ) -> Result<(), Failure> {
        let sent = self.http.execute(request).await;
        let mut response = sent.map_err(|error| failure::of(&error, recorder.phase(), &host.to_string()))?;
        recorder.first_byte();
        let headers = accept_head(response.headers(), host)?;
        let head =
            Response { status: response.status().as_u16(), headers, body: Bytes::new(), truncated: false };
        let head = received.response.insert(head);
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    let room = MAX_RESPONSE_BODY_BYTES - received.body.len();
                    received.body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                    if chunk.len() > room {
                        head.truncated = true;
                        return Ok(());
                    }
                }
                Ok(None) => return Ok(()),
                // The status arrived, and it decides.
                Err(_) => {
                    head.truncated = true;
                    return Ok(());
                }
            }
        }
    }
}

/// A request that is valid as far as can be told without sending it.
struct Prepared {
    request: reqwest::Request,
    host: Host,
    deadline: Duration,
}

/// A URL of which only host and port are shown; parsed again then, because that is seldom.
struct Host {
    url: Arc<str>,
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Ok(url) = Url::parse(&self.url) else { return Ok(()) };
        f.write_str(url.host_str().unwrap_or_default())?;
        match url.port() {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// What came so far.
#[derive(Default)]
struct Received {
    response: Option<Response>,
    body: BytesMut,
}

fn method(method: Method) -> http::Method {
    match method {
        Method::Post => http::Method::POST,
        Method::Put => http::Method::PUT,
        Method::Patch => http::Method::PATCH,
        Method::Delete => http::Method::DELETE,
        Method::Get => http::Method::GET,
    }
}

/// A response's headers as text, unless they are too large or frame the body in two ways.
fn accept_head(headers: &HeaderMap, host: &Host) -> Result<Vec<(String, String)>, Failure> {
    /// `: ` and the line's end.
    const SEPARATORS: usize = 4;
    let size: usize =
        headers.iter().map(|(name, value)| name.as_str().len() + value.len() + SEPARATORS).sum();
    if size > MAX_RESPONSE_HEADER_BYTES {
        let message = format!(
            "the answer from `{host}` has headers of {size} bytes, more than {MAX_RESPONSE_HEADER_BYTES}"
        );
        return Err(failure(FailureKind::Protocol, &message));
    }
    if headers.contains_key(CONTENT_LENGTH) && headers.contains_key(TRANSFER_ENCODING) {
        let message = format!("the answer from `{host}` has both `content-length` and `transfer-encoding`");
        return Err(failure(FailureKind::Protocol, &message));
    }
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    Ok(headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect())
}
