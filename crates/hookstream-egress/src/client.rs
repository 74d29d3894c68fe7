//! One exchange at a time, many at once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hookstream_core::config::{ClientCredentials, Tls};
use hookstream_core::endpoint::{Policy, Refusal};
use hookstream_core::exchange::{Exchange, Failure, FailureKind, Method, Request, Response};
use hookstream_settings::Egress;
use hookstream_types::limits::{MAX_RESPONSE_BODY_BYTES, MAX_RESPONSE_HEADER_BYTES};
use http::Uri;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue,
    TRANSFER_ENCODING,
};
use http_body_util::{BodyExt as _, Full};
use hyper::ext::on_informational;
use rustc_hash::FxHashMap;
use rustls::RootCertStore;
use tokio::time::{Instant, timeout_at};

use crate::dial::{Dial, Proxy, Recorder};
use crate::failure::{self, failure, unsendable};
use crate::pool::{Http, Pools};
use crate::resolve::Resolver;
use crate::tls;
use crate::tokens::{self, Token, Tokens};

/// Parsed URLs kept; beyond, all are parsed anew.
const MAX_URLS: usize = 10_000;

/// No client can be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("TLS could not be set up")]
    Tls(#[source] rustls::Error),
    #[error("names can't be resolved")]
    Names(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// An HTTP client for one core: made on, and used from, one current-thread runtime.
#[derive(Debug)]
pub struct Client {
    policy: Arc<Policy>,
    pools: Pools,
    tokens: Tokens,
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
    /// [`ClientError`] if the TLS library refuses its settings, or the resolver its own.
    pub fn new(settings: &Egress) -> Result<Self, ClientError> {
        Self::with_roots(settings, tls::machine_roots())
    }

    pub(crate) fn with_roots(settings: &Egress, roots: RootCertStore) -> Result<Self, ClientError> {
        let policy = Arc::new(settings.policy());
        let resolver =
            Resolver::new(&settings.name_servers).map_err(|error| ClientError::Names(Box::new(error)))?;
        let proxy = settings.proxy().map(|url| Arc::new(Proxy::new(&url)));
        let dial = Dial { policy: Arc::clone(&policy), resolver, proxy };
        let pools = Pools::new(dial, roots).map_err(ClientError::Tls)?;
        Ok(Self { policy, pools, tokens: Tokens::default(), urls: Mutex::default() })
    }

    /// Whether a URL may be called, as far as can be told without resolving its name.
    ///
    /// # Errors
    /// [`Refusal`] says why not.
    pub fn check(&self, url: &str) -> Result<(), Refusal> {
        self.policy.check(url).map(drop)
    }

    /// Whether a webhook's own TLS can be used: certificates that are some, a key that fits.
    ///
    /// # Errors
    /// What is wrong, for people; it quotes nothing.
    pub fn check_tls(&self, tls: &Tls) -> Result<(), String> {
        self.pools.check_tls(tls).map_err(|error| error.to_string())
    }

    /// Sends a request and takes what comes back, within the request's deadline.
    ///
    /// Always comes to an end, never fails otherwise than in the [`Exchange`]. Dropped before its end, it closes
    /// the connection.
    pub async fn exchange(&self, request: &Request) -> Exchange {
        let recorder = Recorder::start();
        let result = match &request.token {
            None => self.send(request, None, &recorder).await,
            Some(credentials) => self.send_authorized(request, credentials, &recorder).await,
        };
        Exchange { result, timings: recorder.timings() }
    }

    async fn send(
        &self,
        request: &Request,
        token: Option<&Token>,
        recorder: &Arc<Recorder>,
    ) -> Result<Response, Failure> {
        let prepared = self.prepare(request, token)?;
        recorder.record(perform(prepared, recorder)).await
    }

    /// Sends a request with a token; once more with a new one if the endpoint does not take an old one any more.
    async fn send_authorized(
        &self,
        request: &Request,
        credentials: &ClientCredentials,
        recorder: &Arc<Recorder>,
    ) -> Result<Response, Failure> {
        let until = recorder.started() + request.deadline;
        let account = request.account;
        let mut refused: Option<Arc<Token>> = None;
        loop {
            let ask = async || {
                let left = until.saturating_duration_since(Instant::now());
                self.send(&tokens::question(account, credentials, left), None, &Recorder::start()).await
            };
            let token = timeout_at(until, self.tokens.get(account, credentials, refused.as_ref(), ask));
            let token = token.await.unwrap_or_else(|_| {
                let message = format!("no access token came within {:?}", request.deadline);
                Err(failure(FailureKind::Timeout, &message))
            })?;
            let response = match self.send(request, Some(&token), recorder).await {
                Ok(response) => tokens::masked(response, &token),
                Err(failure) => {
                    let message = token.redactor.text(&failure.message).into_owned();
                    return Err(Failure { message, ..failure });
                }
            };
            let is_old = token.since < recorder.started();
            if response.status != 401 || !is_old || refused.is_some() {
                return Ok(response);
            }
            refused = Some(token);
        }
    }

    /// Makes the HTTP library's request of ours.
    fn prepare(&self, request: &Request, token: Option<&Token>) -> Result<Prepared, Failure> {
        let Target { uri, host } = self.target(&request.url)?;
        let http = self.pools.of(request.account, request.tls.as_deref())?;
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
        if let Some(token) = token {
            headers.insert(AUTHORIZATION, token.header.clone());
        }
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        // Whatever the webhook says: nothing is inflated here.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        Ok(Prepared { http, request: prepared, host, deadline: request.deadline })
    }

    /// A URL that may be called; parsed once, because deliveries come again and again.
    fn target(&self, text: &Arc<str>) -> Result<Target, Failure> {
        if let Some(target) = self.urls.lock().unwrap_or_else(PoisonError::into_inner).get(text) {
            return Ok(target.clone());
        }
        let url = self.policy.check(text).map_err(|refusal| failure::refused(&refusal))?;
        let uri = Uri::try_from(url.as_str())
            .map_err(|error| unsendable(&format!("the URL is not valid: {error}")))?;
        let name = url.host_str().unwrap_or_default();
        let host = url.port().map_or_else(|| Arc::from(name), |port| Arc::from(format!("{name}:{port}")));
        let target = Target { uri, host };
        let mut urls = self.urls.lock().unwrap_or_else(PoisonError::into_inner);
        if urls.len() >= MAX_URLS {
            urls.clear();
        }
        urls.insert(Arc::clone(text), target.clone());
        Ok(target)
    }
}

async fn perform(prepared: Prepared, recorder: &Arc<Recorder>) -> Result<Response, Failure> {
    let Prepared { http, mut request, host, deadline } = prepared;
    let mut received = Received::default();
    let until = recorder.started() + deadline;
    let counting = Arc::clone(recorder);
    on_informational(&mut request, move |_| counting.interim());
    let receive = receive(&http, request, &host, recorder, &mut received);
    let in_time = tokio::select! {
        result = timeout_at(until, receive) => match result {
            Ok(result) => result.map(|()| true),
            Err(_) => Ok(false),
        }?,
        () = recorder.too_many_interim() => {
            let message = format!("`{host}` sent interim responses (1xx) in place of an answer");
            return Err(failure(FailureKind::Protocol, &message));
        }
    };
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
    http: &Http,
    request: http::Request<Full<Bytes>>,
    host: &str,
    recorder: &Recorder,
    received: &mut Received,
) -> Result<(), Failure> {
    let sent = http.request(request).await;
    let (head, mut body) = sent.map_err(|error| failure::of(&error, recorder.phase(), host))?.into_parts();
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

/// A request that is valid as far as can be told without sending it.
struct Prepared {
    http: Arc<Http>,
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
        Method::Options => http::Method::OPTIONS,
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
