//! One exchange at a time, many at once.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hookstream_core::exchange::{Exchange, Failure, FailureKind, Method, Request, Response};
use hookstream_types::limits::{MAX_RESPONSE_BODY_BYTES, MAX_RESPONSE_HEADER_BYTES};
use http::Uri;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING,
};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustc_hash::FxHashMap;
use rustls::RootCertStore;
use tokio::time::timeout_at;
use url::Url;

use crate::dial::{Connector, Recorder, connector};
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
/// What a connection buffers of a head, which is refused beyond [`MAX_RESPONSE_HEADER_BYTES`].
const READ_BUFFER: usize = 2 * MAX_RESPONSE_HEADER_BYTES;

/// No client can be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("TLS could not be set up")]
    Tls(#[source] rustls::Error),
}

/// An HTTP client for one core: made on, and used from, one current-thread runtime.
#[derive(Debug)]
pub struct Client {
    http: legacy::Client<Connector, Full<Bytes>>,
    guard: Guard,
    /// URLs that passed all checks that need no name resolution.
    urls: Mutex<FxHashMap<Arc<str>, Target>>,
}

/// A URL that may be called.
#[derive(Clone, Debug)]
struct Target {
    uri: Uri,
    /// Host and port, which messages show, unlike the rest.
    host: Arc<str>,
}

impl Client {
    /// A client that trusts the machine's root certificates.
    ///
    /// # Errors
    /// [`ClientError`] if the TLS library refuses its settings.
    pub fn new(settings: EgressSettings) -> Result<Self, ClientError> {
        Self::with_roots(settings, tls::machine_roots())
    }

    pub(crate) fn with_roots(settings: EgressSettings, roots: RootCertStore) -> Result<Self, ClientError> {
        let guard = Guard::new(settings);
        let http = legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .http1_max_buf_size(READ_BUFFER)
            .build(connector(guard, tls::config(roots).map_err(ClientError::Tls)?));
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
        let Target { uri, host } = self.target(&request.url)?;
        let mut prepared = http::Request::new(Full::new(request.body.clone()));
        *prepared.method_mut() = method(request.method);
        *prepared.uri_mut() = uri;
        let headers = prepared.headers_mut();
        headers.reserve(request.headers.len() + 3);
        for (name, value) in &request.headers {
            let bad = || unsendable(&format!("the header `{}` can't be sent", name.escape_default()));
            let parsed_name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
            let parsed_value = HeaderValue::from_str(value).map_err(|_| bad())?;
            headers.append(parsed_name, parsed_value);
        }
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        // Whatever the webhook says: nothing is inflated here.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        Ok(Prepared { request: prepared, host, deadline: request.deadline })
    }

    /// A URL that may be called; parsed once, because deliveries come again and again.
    fn target(&self, text: &Arc<str>) -> Result<Target, Failure> {
        if let Some(target) = self.urls.lock().unwrap_or_else(PoisonError::into_inner).get(text) {
            return Ok(target.clone());
        }
        let url = Url::parse(text).map_err(|error| unsendable(&format!("the URL is not valid: {error}")))?;
        if !self.guard.admits_scheme(url.scheme()) {
            let message = format!("the URL's scheme is `{}`, not `https` or `http`", url.scheme());
            return Err(unsendable(&message));
        }
        let name = url.host_str().unwrap_or_default();
        if let Ok(literal) = name.trim_matches(['[', ']']).parse::<IpAddr>() {
            self.guard.admit(literal).map_err(|error| failure(FailureKind::Forbidden, &error.to_string()))?;
        }
        let uri = Uri::try_from(url.as_str())
            .map_err(|error| unsendable(&format!("the URL is not valid: {error}")))?;
        let host = url.port().map_or_else(|| Arc::from(name), |port| Arc::from(format!("{name}:{port}")));
        let target = Target { uri, host };
        let mut urls = self.urls.lock().unwrap_or_else(PoisonError::into_inner);
        if urls.len() >= MAX_URLS {
            urls.clear();
        }
        urls.insert(Arc::clone(text), target.clone());
        Ok(target)
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
            None => Err(failure::timed_out(recorder.phase(), &host, deadline)),
        }
    }

    /// Fills `received` as far as it comes, so that what is there at the deadline is not lost.
    async fn receive(
        &self,
        request: http::Request<Full<Bytes>>,
        host: &str,
        recorder: &Recorder,
        received: &mut Received,
    ) -> Result<(), Failure> {
        let sent = self.http.request(request).await;
        let (head, mut body) =
            sent.map_err(|error| failure::of(&error, recorder.phase(), host))?.into_parts();
        recorder.first_byte();
        let headers = accept_head(&head.headers, host)?;
        let head = Response { status: head.status.as_u16(), headers, body: Bytes::new(), truncated: false };
        let head = received.response.insert(head);
        while let Some(frame) = body.frame().await {
            // The status arrived, and it decides.
            let Ok(frame) = frame else {
                head.truncated = true;
                return Ok(());
            };
            // What is not data are trailers, which nobody asked for.
            let Ok(chunk) = frame.into_data() else { continue };
            let room = MAX_RESPONSE_BODY_BYTES - received.body.len();
            received.body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() > room {
                head.truncated = true;
                return Ok(());
            }
        }
        Ok(())
    }
}

/// A request that is valid as far as can be told without sending it.
struct Prepared {
    request: http::Request<Full<Bytes>>,
    host: Arc<str>,
    deadline: Duration,
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
fn accept_head(headers: &HeaderMap, host: &str) -> Result<Vec<(String, String)>, Failure> {
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
