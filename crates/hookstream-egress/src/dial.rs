//! How a connection comes about, and how long each part of that took.
//!
//! The HTTP client connects on its own account: for an exchange that finds no idle connection, and in the
//! background when an idle one turns up meanwhile. So an exchange's [`Recorder`] is found by task-local: whoever
//! connects while the exchange is polled connects for it.

use std::error::Error;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hookstream_core::endpoint::{Policy, Refusal};
use hookstream_core::exchange::Timings;
use http::uri::Scheme;
use http::{HeaderValue, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, Timeout, timeout};
use tower_service::Service;
use url::Url;
use zeroize::Zeroizing;

use crate::resolve::Resolver;

tokio::task_local! {
    /// The exchange that is being polled.
    static EXCHANGE: Arc<Recorder>;
    /// The exchange that a connection is being made for, also in the background.
    static DIALLING: Arc<Recorder>;
}

/// Interim responses (1xx) that an endpoint may send before its answer.
const MAX_INTERIM: usize = 10;

/// Takes the times of one exchange, and counts what comes before its answer.
#[derive(Debug)]
pub(crate) struct Recorder {
    started: Instant,
    marks: Mutex<Marks>,
    interim: AtomicUsize,
    too_many: Notify,
}

#[derive(Clone, Copy, Debug, Default)]
struct Marks {
    dialling: Option<Instant>,
    resolving: Option<Instant>,
    resolved: Option<Instant>,
    tls: Option<Instant>,
    /// A connection was made, and by this exchange rather than in the background.
    connected: Option<Instant>,
    first_byte: Option<Instant>,
}

/// How far an exchange came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Resolve,
    Connect,
    Handshake,
    Answer,
}

impl Recorder {
    pub(crate) fn start() -> Arc<Self> {
        Arc::new(Self {
            started: Instant::now(),
            marks: Mutex::default(),
            interim: AtomicUsize::new(0),
            too_many: Notify::new(),
        })
    }

    /// An interim response has come.
    pub(crate) fn interim(&self) {
        if self.interim.fetch_add(1, Ordering::Relaxed) >= MAX_INTERIM {
            self.too_many.notify_one();
        }
    }

    /// Waits until there were more interim responses than anyone needs.
    pub(crate) async fn too_many_interim(&self) {
        self.too_many.notified().await;
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Runs an exchange so that connections made for it are timed here.
    pub(crate) async fn record<F: Future>(self: &Arc<Self>, exchange: F) -> F::Output {
        EXCHANGE.scope(Arc::clone(self), exchange).await
    }

    pub(crate) fn first_byte(&self) {
        self.mark(|marks| &mut marks.first_byte);
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.marks() {
            Marks { dialling: None, .. } | Marks { connected: Some(_), .. } => Phase::Answer,
            Marks { tls: Some(_), .. } => Phase::Handshake,
            Marks { resolving: Some(_), resolved: None, .. } => Phase::Resolve,
            Marks { .. } => Phase::Connect,
        }
    }

    pub(crate) fn timings(&self) -> Timings {
        let marks = self.marks();
        let between = |from: Option<Instant>, to: Option<Instant>| Some(to?.saturating_duration_since(from?));
        let mut timings = Timings {
            first_byte: between(Some(self.started), marks.first_byte),
            total: self.started.elapsed(),
            ..Timings::default()
        };
        // With an answer but no connection of its own, the exchange used an idle one.
        if marks.connected.is_some() || marks.first_byte.is_none() {
            timings.dns = between(marks.resolving, marks.resolved);
            timings.connect = between(marks.resolved.or(marks.dialling), marks.tls.or(marks.connected));
            timings.tls = between(marks.tls, marks.connected);
        }
        timings
    }

    fn marks(&self) -> Marks {
        *self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first time counts.
    fn mark(&self, which: impl FnOnce(&mut Marks) -> &mut Option<Instant>) {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        which(&mut marks).get_or_insert_with(Instant::now);
    }
}

/// A TLS handshake begins on a connection that now stands.
pub(crate) fn handshake_begins() {
    note(|marks| &mut marks.tls);
}

// === the connector ===

/// Makes connections: names are resolved and vetted, then dialled, then TLS is agreed on if the URL says so.
pub(crate) type Connector = Timed<HttpsConnector<Dial>>;

pub(crate) fn connector(dial: Dial, tls: Arc<ClientConfig>) -> Connector {
    Timed { inner: HttpsConnector::from((dial, tls)) }
}

type BoxError = Box<dyn Error + Send + Sync>;

/// A connection took longer than [`CONNECT_TIMEOUT`].
#[derive(Debug, thiserror::Error)]
#[error("no connection within {CONNECT_TIMEOUT:?}")]
pub(crate) struct ConnectTimedOut;

/// A connector that notes when it began and ended, and does not go on forever.
#[derive(Clone, Debug)]
pub(crate) struct Timed<S> {
    inner: S,
}

impl<S> Service<Uri> for Timed<S>
where
    S: Service<Uri, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Dialling<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let recorder = EXCHANGE.try_with(Arc::clone).ok();
        if let Some(recorder) = &recorder {
            recorder.mark(|marks| &mut marks.dialling);
        }
        Dialling { connecting: Box::pin(timeout(CONNECT_TIMEOUT, self.inner.call(to))), recorder }
    }
}

/// A connection in the making.
pub(crate) struct Dialling<F> {
    connecting: Pin<Box<Timeout<F>>>,
    recorder: Option<Arc<Recorder>>,
}

impl<F: Future<Output = Result<T, BoxError>>, T> Future for Dialling<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Self { connecting, recorder } = &mut *self;
        let in_time = |outcome: Result<F::Output, _>| outcome.unwrap_or_else(|_| Err(ConnectTimedOut.into()));
        let Some(recorder) = recorder else { return connecting.as_mut().poll(cx).map(in_time) };
        let polled = DIALLING.sync_scope(Arc::clone(recorder), || connecting.as_mut().poll(cx)).map(in_time);
        if let Poll::Ready(Ok(_)) = polled
            && EXCHANGE.try_with(|own| Arc::ptr_eq(own, recorder)).unwrap_or(false)
        {
            recorder.mark(|marks| &mut marks.connected);
        }
        polled
    }
}

// === sockets ===

/// Addresses of a name that are tried; all are vetted.
const MAX_DIALLED: usize = 16;
/// How long an address has to itself before the next is tried beside it (RFC 8305 §5).
const HEAD_START: Duration = Duration::from_millis(250);

/// Opens sockets, to vetted addresses only. It is asked for every connection, whether the URL has a name or an address.
#[derive(Clone, Debug)]
pub(crate) struct Dial {
    pub policy: Arc<Policy>,
    pub resolver: Resolver,
    pub proxy: Option<Arc<Proxy>>,
}

impl Service<Uri> for Dial {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let dial = self.clone();
        Box::pin(async move {
            let vetted = dial.vetted(&to).await?;
            let Some(proxy) = &dial.proxy else {
                let stream = dial_first(&vetted).await?;
                // What is at the other end is what was vetted, whatever the system made of the address.
                let peer = stream.peer_addr()?;
                if !vetted.contains(&peer) {
                    return Err(Refusal::Address.into());
                }
                stream.set_nodelay(true)?;
                return Ok(TokioIo::new(stream));
            };
            tunnel(proxy, &vetted).await
        })
    }
}

impl Dial {
    /// The addresses behind a URL's host, if *every* one may be dialled: a name that points to forbidden ground as well
    /// is not to be trusted with the rest.
    async fn vetted(&self, to: &Uri) -> Result<Vec<SocketAddr>, BoxError> {
        let host = to.host().unwrap_or_default().trim_matches(['[', ']']);
        let port =
            to.port_u16().unwrap_or_else(|| if to.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 });
        let (name, addresses) = match host.parse::<IpAddr>() {
            Ok(literal) => ("", vec![literal]),
            Err(_) => {
                note(|marks| &mut marks.resolving);
                let addresses = self.resolver.addresses(host).await?;
                note(|marks| &mut marks.resolved);
                (host, addresses)
            }
        };
        for address in &addresses {
            self.policy.admit(name, *address)?;
        }
        let to_dial = alternating(addresses).take(MAX_DIALLED);
        Ok(to_dial.map(|address| SocketAddr::new(address, port)).collect())
    }
}

/// Marks the exchange that is being dialled for, if there is one.
fn note(which: impl FnOnce(&mut Marks) -> &mut Option<Instant>) {
    DIALLING.try_with(|recorder| recorder.mark(which)).ok();
}

/// IPv4 and IPv6 in turn, so that one of them being cut off costs one head start.
fn alternating(addresses: Vec<IpAddr>) -> impl Iterator<Item = IpAddr> {
    let (v4, v6): (Vec<_>, Vec<_>) = addresses.into_iter().partition(IpAddr::is_ipv4);
    let longest = v4.len().max(v6.len());
    (0..longest).flat_map(move |n| [v4.get(n).copied(), v6.get(n).copied()]).flatten()
}

/// The first connection that stands.
async fn dial_first(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    if let [only] = addresses {
        return TcpStream::connect(only).await;
    }
    let mut dialling = JoinSet::new();
    let mut waiting = addresses.iter().copied();
    let mut failed = io::Error::new(io::ErrorKind::AddrNotAvailable, "no address");
    loop {
        let next = waiting.next();
        if let Some(address) = next {
            dialling.spawn(TcpStream::connect(address));
        }
        let done = async { dialling.join_next().await };
        let done = if next.is_some() { timeout(HEAD_START, done).await.ok() } else { Some(done.await) };
        match done {
            Some(Some(Ok(Ok(stream)))) => return Ok(stream),
            Some(Some(Ok(Err(error)))) => failed = error,
            Some(Some(Err(_))) | None => {}
            Some(None) if next.is_some() => {}
            Some(None) => return Err(failed),
        }
    }
}

/// An HTTP proxy that tunnels (`CONNECT`, RFC 9110 §9.3.6). It is told addresses that have been vetted, not names.
#[derive(Clone, Debug)]
pub(crate) struct Proxy {
    uri: Uri,
    /// Marked as sensitive.
    authorization: Option<HeaderValue>,
}

impl Proxy {
    /// Of `http://[USER:PASSWORD@]HOST:PORT`, which the settings have checked.
    pub(crate) fn new(url: &Url) -> Self {
        let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
        let uri = Uri::builder().scheme("http").authority(authority).path_and_query("/").build();
        let has_user = !url.username().is_empty() || url.password().is_some();
        let authorization = has_user.then(|| {
            let decoded =
                |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
            let (user, password) = (decoded(url.username()), decoded(url.password().unwrap_or_default()));
            let pair = Zeroizing::new(format!("{user}:{password}"));
            let value = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
            let mut value = HeaderValue::from_str(&value).expect("base64 is visible ASCII");
            value.set_sensitive(true);
            value
        });
        Self { uri: uri.expect("a URL's host and port are a URI's authority"), authorization }
    }
}

/// A connection to the first of the addresses that the proxy reaches.
async fn tunnel(proxy: &Proxy, vetted: &[SocketAddr]) -> Result<TokioIo<TcpStream>, BoxError> {
    let mut to_proxy = HttpConnector::new();
    to_proxy.set_nodelay(true);
    let mut tunnel = Tunnel::new(proxy.uri.clone(), to_proxy);
    if let Some(authorization) = &proxy.authorization {
        tunnel = tunnel.with_auth(authorization.clone());
    }
    let mut failed: Option<BoxError> = None;
    for address in vetted {
        let to = Uri::builder().scheme("http").authority(address.to_string()).path_and_query("/").build()?;
        match tunnel.call(to).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = Some(error.into()),
        }
    }
    Err(failed.unwrap_or_else(|| Refusal::Address.into()))
}

/// Longest time that a connection may take to come about, whoever waits for it.
///
/// An exchange's own deadline ends it sooner or later; a connection that is made in the background has no other
/// bound, and an endpoint that never completes a handshake would collect them.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
