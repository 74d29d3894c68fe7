//! The HTTP server of all of the API: HTTP/1.1 only, strict about framing, bounded in everything.
//!
//! What hyper lets pass, and two parsers could read differently, is refused by [`framing`] before hyper sees it. A
//! faulty head is answered with a bare 400 and the connection is closed.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service as _;
use tracing::{debug, warn};

use self::framing::Framing;
use self::stream::Guarded;

pub mod framing;
mod stream;

/// The bounds of a server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a request's head.
    pub header_bytes: usize,
    pub headers: usize,
    /// For a whole head, also the next one of a connection: an idle connection lives as long.
    pub header_timeout: Duration,
    /// For which a client may read nothing of its response.
    pub write_stall: Duration,
    /// At a time; more wait in the system's queue.
    pub connections: usize,
    /// For requests that are under way at the shutdown.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: 32 * 1024,
            headers: 100,
            header_timeout: Duration::from_secs(10),
            write_stall: Duration::from_secs(30),
            connections: 4096,
            grace: Duration::from_secs(10),
        }
    }
}

/// Serves `router` until `shutdown`: then takes no connection, lets requests end that are under way, and returns
/// at the latest when the grace is over. Requests have [`ConnectInfo`] of the client's address.
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken, limits: Limits) {
    let permits = Arc::new(Semaphore::new(limits.connections));
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    loop {
        let accepted = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (router, shutdown, cut) = (router.clone(), shutdown.clone(), cut.clone());
                connections.spawn(async move {
                    tokio::select! {
                        () = cut.cancelled() => {}
                        () = connection(stream, peer, router, shutdown, limits) => {}
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                /// Most errors are of the one connection; what is not, such as too many open files, must not spin.
                const PAUSE: Duration = Duration::from_millis(50);
                warn!(%error, "could not accept a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(limits.grace, connections.wait()).await.is_err() {
        warn!(connections = connections.len(), "requests were under way after the grace, and are cut");
        cut.cancel();
        connections.wait().await;
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    shutdown: CancellationToken,
    limits: Limits,
) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "could not set TCP_NODELAY");
    }
    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let mut router = router.clone();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        async move { Ok::<_, Infallible>(router.call(request).await.unwrap_or_else(|never| match never {})) }
    });
    let io = TokioIo::new(Guarded::new(stream, Framing::default(), limits.write_stall));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_headers(limits.headers)
        .max_header_size(limits.header_bytes)
        // A head and a piece of a body.
        .max_buf_size(2 * limits.header_bytes)
        .serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        debug!(%peer, %error, "a connection ended with an error");
    }
}

#[cfg(test)]
mod tests;
