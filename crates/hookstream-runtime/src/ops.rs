//! The operations port: `/metrics`, `/livez`, `/readyz`.

use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::{Registry, TEXT_FORMAT, TextEncoder};
use tokio::net::TcpListener;

use crate::{Ctx, Health};

/// The port can't be had.
#[derive(Debug, thiserror::Error)]
#[error("could not listen on `{address}`; give another address as `ops.listen` (HOOKSTREAM__OPS__LISTEN)")]
pub struct CouldNotListen {
    pub address: SocketAddr,
    #[source]
    pub source: io::Error,
}

/// The operations server, bound and not yet serving.
#[derive(Debug)]
pub struct Ops {
    listener: TcpListener,
    address: SocketAddr,
}

impl Ops {
    /// Binds the port of `settings.ops.listen`.
    ///
    /// # Errors
    /// [`CouldNotListen`] if another process has it, or it isn't ours to have.
    pub async fn bind(address: SocketAddr) -> Result<Self, CouldNotListen> {
        let failed = |source| CouldNotListen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// Where it listens: with port 0 in the settings, the system has chosen.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until dropped: also while the process drains, so that whoever watches sees it.
    pub async fn serve(self, ctx: &Ctx) -> io::Result<()> {
        axum::serve(self.listener, router(ctx)).await
    }
}

/// What is served, for those who have a server of their own.
pub fn router(ctx: &Ctx) -> Router {
    let metrics = Router::new().route("/metrics", get(metrics)).with_state(ctx.registry.clone());
    let readiness = Router::new().route("/readyz", get(readyz)).with_state(ctx.health.clone());
    metrics.merge(readiness).route("/livez", get(|| async { "ok\n" }))
}

async fn metrics(State(registry): State<Registry>) -> Response {
    match TextEncoder::new().encode_to_string(&registry.gather()) {
        Ok(text) => ([(CONTENT_TYPE, TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "could not write the metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn readyz(State(health): State<Health>) -> Response {
    let components = health.components();
    let unready = |is_needed: bool| -> serde_json::Map<_, _> {
        let of_these = components.iter().filter(|(_, component)| component.is_needed == is_needed);
        let told = of_these
            .filter_map(|(name, component)| Some((name.to_string(), component.unready.as_deref()?.into())));
        told.collect()
    };
    let is_ready = health.is_ready();
    let body = serde_json::json!({ "ready": is_ready, "unready": unready(true), "impaired": unready(false) });
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hookstream_settings::{Map, Settings};
    use hookstream_types::Chain;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    async fn fetch(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn the_three_pages() {
        let ctx = Ctx::new(Settings::load_without_key(None, Map::new()).unwrap());
        crate::ProcessMetrics::register(&ctx.registry, &ctx.clock, "test").unwrap();
        let ops = Ops::bind(ANY).await.unwrap();
        let address = ops.address();
        let server = tokio::spawn({
            let ctx = ctx.clone();
            async move { ops.serve(&ctx).await }
        });

        assert!(fetch(address, "/livez").await.starts_with("HTTP/1.1 200"));
        let metrics = fetch(address, "/metrics").await;
        assert!(metrics.contains("text/plain; version=0.0.4") && metrics.contains("hookstream_build_info"));

        assert!(fetch(address, "/readyz").await.starts_with("HTTP/1.1 503"));
        let component = ctx.health.component("config");
        component.unready("the topic `hookstream.config` does not exist");
        let unready = fetch(address, "/readyz").await;
        let body = "{\"impaired\":{},\"ready\":false,\"unready\":{\"config\":\"the topic `hookstream.config` does not exist\"}}";
        assert!(unready.starts_with("HTTP/1.1 503") && unready.contains(body), "{unready}");
        component.ready();
        let ready = fetch(address, "/readyz").await;
        assert!(
            ready.starts_with("HTTP/1.1 200") && ready.contains("\"ready\":true,\"unready\":{}}"),
            "{ready}"
        );
        server.abort();
    }

    #[tokio::test]
    async fn a_taken_port_is_a_clear_error() {
        let ops = Ops::bind(ANY).await.unwrap();
        let error = Ops::bind(ops.address()).await.unwrap_err();
        let shown = Chain(&error).to_string();
        assert!(
            shown.starts_with("could not listen on `127.0.0.1:") && shown.contains("ops.listen"),
            "{shown}"
        );
        assert!(shown.contains("in use"), "{shown}");
    }
}
