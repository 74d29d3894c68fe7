//! TLS: whom a client believes.

use std::rc::Rc;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    roots: RootCertStore,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let mut roots = RootCertStore::empty();
        roots.add(params.self_signed(&key).unwrap().der().clone()).unwrap();
        Self { issuer: Issuer::new(params, key), roots }
    }

    /// Serves `receiver` inside TLS, with a certificate for `name` that ends in `until`; returns the port.
    async fn serve(&self, receiver: &Rc<Receiver>, name: &str, until: i32) -> u16 {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(until, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let receiver = Rc::clone(receiver);
        tokio::task::spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                if let Ok(stream) = acceptor.accept(stream).await {
                    tokio::task::spawn_local(receiver.serve(stream));
                }
            }
        });
        port
    }

    fn client(&self) -> Client {
        Client::with_roots(EgressSettings::default(), self.roots.clone()).unwrap()
    }
}

async fn local<F: Future>(test: F) -> F::Output {
    tokio::task::LocalSet::new().run_until(test).await
}

#[tokio::test]
async fn a_trusted_endpoint_is_timed_in_all_its_parts() {
    local(async {
        let (authority, receiver) = (Authority::new(), Rc::new(Receiver::start()));
        let port = authority.serve(&receiver, "localhost", 2100).await;
        let client = authority.client();
        let url = format!("https://localhost:{port}/");
        let first = post(&client, &url).await;
        let timings = first.timings;
        assert_eq!(response(first).status, 200);
        assert!(timings.dns.is_some() && timings.connect.is_some() && timings.tls.is_some(), "{timings:?}");
        let parts = timings.dns.unwrap() + timings.connect.unwrap() + timings.tls.unwrap();
        assert!(parts <= timings.first_byte.unwrap() && timings.first_byte.unwrap() <= timings.total);
        let second = post(&client, &url).await.timings;
        assert_eq!((second.dns, second.connect, second.tls), (None, None, None));
    })
    .await;
}

#[tokio::test]
async fn who_is_not_trusted_sees_no_request() {
    local(async {
        let (authority, receiver) = (Authority::new(), Rc::new(Receiver::start()));
        let good = authority.serve(&receiver, "localhost", 2100).await;
        let expired = authority.serve(&receiver, "localhost", 2020).await;
        let other = authority.serve(&receiver, "other.example", 2100).await;
        for (what, client, url) in [
            ("expired", authority.client(), format!("https://localhost:{expired}/?token=secret")),
            ("wrong host", authority.client(), format!("https://localhost:{other}/?token=secret")),
            ("wrong host, a literal", authority.client(), format!("https://127.0.0.1:{good}/?token=secret")),
            ("unknown authority", client(), format!("https://localhost:{good}/?token=secret")),
            ("no TLS at all", client(), receiver.url("/").replace("http:", "https:")),
        ] {
            let exchange = post(&client, &url).await;
            assert_eq!(kind(&exchange), FailureKind::Tls, "{what}: {exchange:?}");
            assert!(exchange.timings.first_byte.is_none());
            let message = exchange.result.unwrap_err().message;
            assert!(
                !message.contains("secret") && message.contains("certificate") | (what == "no TLS at all"),
                "{message}"
            );
        }
        assert_eq!(receiver.seen(|seen| seen.total()), 0);
    })
    .await;
}

#[tokio::test]
async fn a_handshake_that_stalls_or_breaks() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/?token=secret", listener.local_addr().unwrap());
    let client = client();
    // Accepted by the kernel alone: nobody ever says anything.
    let stalled = client.exchange(&request(&url, SHORT)).await;
    assert_eq!(kind(&stalled), FailureKind::Timeout, "{stalled:?}");
    assert!(stalled.timings.connect.is_some() && stalled.timings.tls.is_none());
    let message = stalled.result.unwrap_err().message;
    assert!(
        message.starts_with("the TLS handshake did not complete") && !message.contains("secret"),
        "{message}"
    );

    let close = async {
        loop {
            drop(listener.accept().await.unwrap());
        }
    };
    let request = request(&url, LONG);
    let broken = tokio::select! {
        broken = client.exchange(&request) => broken,
        () = close => unreachable!(),
    };
    assert_eq!(kind(&broken), FailureKind::Tls, "{broken:?}");
}
