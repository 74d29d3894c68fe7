//! How a connection comes about, and how long each part of that took.
//!
//! The HTTP client connects on its own account: for an exchange that finds no idle connection, and in the
//! background when an idle one turns up meanwhile. So an exchange's [`Recorder`] is found by task-local: whoever
//! connects while the exchange is polled connects for it.

use std::collections::HashMap;
use std::error::Error;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hookstream_core::exchange::Timings;
use http::Uri;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use rustls::ClientConfig;
use tokio::sync::OnceCell;
use tokio::time::{Instant, Timeout, timeout};
use tower_service::Service;

use crate::guard::Guard;

tokio::task_local! {
    /// The exchange that is being polled.
    static EXCHANGE: Arc<Recorder>;
    /// The exchange that a connection is being made for, also in the background.
    static DIALLING: Arc<Recorder>;
}

/// Takes the times of one exchange.
#[derive(Debug)]
pub(crate) struct Recorder {
    started: Instant,
    marks: Mutex<Marks>,
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
        Arc::new(Self { started: Instant::now(), marks: Mutex::default() })
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
    // Outside of an exchange nobody wants to know.
    DIALLING.try_with(|recorder| recorder.mark(|marks| &mut marks.tls)).ok();
}

// === the connector ===

/// How long a connection is silent before its other end is asked whether it is there.
const TCP_KEEPALIVE: Duration = Duration::from_secs(15);

/// Makes connections: names are resolved and vetted, then dialled, then TLS is agreed on if the URL says so.
pub(crate) type Connector = Timed<HttpsConnector<HttpConnector<VettingResolver>>>;

pub(crate) fn connector(guard: Guard, tls: ClientConfig) -> Connector {
    let mut tcp = HttpConnector::new_with_resolver(VettingResolver::new(guard));
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(TCP_KEEPALIVE));
    Timed { inner: HttpsConnector::from((tcp, tls)) }
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

// === names ===

/// A name that has no address.
#[derive(Debug, thiserror::Error)]
#[error("the name `{name}` does not resolve")]
pub(crate) struct Unresolved {
    name: String,
    #[source]
    source: Option<Arc<std::io::Error>>,
}

/// The system's resolver, timed, its answers vetted.
///
/// It blocks a thread for as long as a name's servers are silent, and threads are few. So a name is looked up once
/// at a time: who asks meanwhile waits for the same answer, and slow names take a thread each, whatever the number
/// of deliveries that wait for them.
#[derive(Clone, Debug)]
pub(crate) struct VettingResolver {
    guard: Guard,
    lookups: Arc<Lookups>,
}

type Lookups = Mutex<HashMap<String, Arc<Lookup>>>;
type Lookup = OnceCell<Result<Vec<SocketAddr>, Arc<std::io::Error>>>;

impl VettingResolver {
    pub(crate) fn new(guard: Guard) -> Self {
        Self { guard, lookups: Arc::default() }
    }
}

impl Service<Name> for VettingResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let guard = self.guard;
        let asking = Asking::join(&self.lookups, name.as_str());
        let recorder = DIALLING.try_with(Arc::clone).ok();
        Box::pin(async move {
            if let Some(recorder) = &recorder {
                recorder.mark(|marks| &mut marks.resolving);
            }
            let unresolved = |source| Unresolved { name: name.as_str().to_owned(), source };
            let addresses = asking.answer().await.map_err(|error| unresolved(Some(error)))?;
            if addresses.is_empty() {
                return Err(unresolved(None).into());
            }
            if let Some(recorder) = &recorder {
                recorder.mark(|marks| &mut marks.resolved);
            }
            Ok(guard.admit_all(addresses)?.into_iter())
        })
    }
}

/// One who waits for a name's addresses; the last to leave takes the lookup away, so that none is reused later.
struct Asking {
    lookups: Arc<Lookups>,
    name: String,
    lookup: Arc<Lookup>,
}

impl Asking {
    fn join(lookups: &Arc<Lookups>, name: &str) -> Self {
        let mut all = lookups.lock().unwrap_or_else(PoisonError::into_inner);
        let lookup = Arc::clone(all.entry(name.to_owned()).or_default());
        Self { lookups: Arc::clone(lookups), name: name.to_owned(), lookup }
    }

    async fn answer(&self) -> Result<Vec<SocketAddr>, Arc<std::io::Error>> {
        // The connector puts the URL's port in the place of port 0.
        let look_up = async || match tokio::net::lookup_host((self.name.as_str(), 0)).await {
            Ok(found) => Ok(found.collect()),
            Err(error) => Err(Arc::new(error)),
        };
        self.lookup.get_or_init(look_up).await.clone()
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let mut all = self.lookups.lock().unwrap_or_else(PoisonError::into_inner);
        // The map's and this one's: counted under the lock that whoever joins holds.
        if Arc::strong_count(&self.lookup) <= 2 {
            all.remove(&self.name);
        }
    }
}

/// Longest time that a connection may take to come about, whoever waits for it.
///
/// An exchange's own deadline ends it sooner or later; a connection that is made in the background has no other
/// bound, and an endpoint that never completes a handshake would collect them.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
