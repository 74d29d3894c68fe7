//! TLS: whom a client believes.

use std::rc::Rc;
use std::sync::Arc;

use hookstream_core::config::{Identity, Pin, Tls, Trust};
use hookstream_types::SecretString;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair, PublicKeyData as _,
    date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    roots: RootCertStore,
    pem: String,
}

/// A certificate and its key, in PEM.
struct Certified {
    certificate: Certificate,
    key: KeyPair,
}

impl Certified {
    /// RFC 7469 §2.4.
    fn pin(&self) -> Pin {
        Pin(Sha256::digest(self.key.subject_public_key_info()).into())
    }

    fn identity(&self) -> Identity {
        Identity {
            certificate: self.certificate.pem().into(),
            key: SecretString::new(self.key.serialize_pem()),
        }
    }
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let mut roots = RootCertStore::empty();
        let own = params.self_signed(&key).unwrap();
        roots.add(own.der().clone()).unwrap();
        Self { issuer: Issuer::new(params, key), roots, pem: own.pem() }
    }

    fn certify(&self, name: &str, until: i32) -> Certified {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(until, 1, 1);
        Certified { certificate: params.signed_by(&key, &self.issuer).unwrap(), key }
    }

    /// Serves `receiver` inside TLS, with a certificate for `name` that ends in `until`; returns the port.
    async fn serve(&self, receiver: &Rc<Receiver>, name: &str, until: i32) -> u16 {
        serve(receiver, &self.certify(name, until), None).await
    }

    fn client(&self) -> Client {
        Client::with_roots(&settings(), self.roots.clone()).unwrap()
    }
}

/// Serves `receiver` inside TLS; only to clients that `clients` certifies, if there is one.
async fn serve(receiver: &Rc<Receiver>, as_whom: &Certified, clients: Option<&Authority>) -> u16 {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = match clients {
        None => config.with_no_client_auth(),
        Some(authority) => {
            let roots = Arc::new(authority.roots.clone());
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build().unwrap();
            config.with_client_cert_verifier(verifier)
        }
    };
    let key = PrivateKeyDer::try_from(as_whom.key.serialize_der()).unwrap();
    let config = config.with_single_cert(vec![as_whom.certificate.der().clone()], key).unwrap();
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

fn with(trust: Trust, identity: Option<Identity>, url: &str) -> Request {
    Request { tls: Tls::new(Some(&trust), identity), ..request(url, LONG) }
}

#[tokio::test]
async fn a_webhook_s_own_authority_is_the_only_one() {
    local(async {
        let (own, machine, receiver) = (Authority::new(), Authority::new(), Rc::new(Receiver::start()));
        let private = format!("https://localhost:{}/", own.serve(&receiver, "localhost", 2100).await);
        let public = format!("https://localhost:{}/", machine.serve(&receiver, "localhost", 2100).await);
        let client = machine.client();
        let trust = Trust { ca: Some(own.pem.as_str().into()), ..Trust::default() };
        assert_eq!(response(client.exchange(&with(trust.clone(), None, &private)).await).status, 200);
        assert_eq!(kind(&client.exchange(&with(trust, None, &public)).await), FailureKind::Tls);
        // It is nobody else's, and its connection is not used by others.
        assert_eq!(kind(&post(&client, &private).await), FailureKind::Tls);
        assert_eq!(response(post(&client, &public).await).status, 200);
        assert_eq!(receiver.seen(|seen| seen.total()), 2);
    })
    .await;
}

#[tokio::test]
async fn a_pinned_endpoint_has_one_of_its_keys() {
    local(async {
        let (authority, receiver) = (Authority::new(), Rc::new(Receiver::start()));
        let endpoint = authority.certify("localhost", 2100);
        let url = format!("https://localhost:{}/?token=secret", serve(&receiver, &endpoint, None).await);
        let client = authority.client();
        let pinned = |pins: Vec<Pin>| Trust { pins, ..Trust::default() };
        let other = authority.certify("localhost", 2100).pin();
        for pins in [vec![endpoint.pin()], vec![other, endpoint.pin()]] {
            assert_eq!(response(client.exchange(&with(pinned(pins), None, &url)).await).status, 200);
        }
        let exchange = client.exchange(&with(pinned(vec![other]), None, &url)).await;
        assert_eq!(kind(&exchange), FailureKind::Tls);
        let message = exchange.result.unwrap_err().message;
        assert!(
            message.contains("none of those that the webhook pins") && !message.contains("secret"),
            "{message}"
        );
        // A pin is asked for besides all else, not in its place.
        let expired = authority.certify("localhost", 2020);
        let url = format!("https://localhost:{}/", serve(&receiver, &expired, None).await);
        let exchange = client.exchange(&with(pinned(vec![expired.pin()]), None, &url)).await;
        assert_eq!(kind(&exchange), FailureKind::Tls);
        assert_eq!(receiver.seen(|seen| seen.total()), 2);
    })
    .await;
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_its_endpoint() {
    local(async {
        let (authority, receiver) = (Authority::new(), Rc::new(Receiver::start()));
        let clients = Authority::new();
        let port = serve(&receiver, &authority.certify("localhost", 2100), Some(&clients)).await;
        let url = format!("https://localhost:{port}/");
        let client = authority.client();
        let identity = clients.certify("sender.example", 2100).identity();
        let sent = with(Trust::default(), Some(identity.clone()), &url);
        assert_eq!(response(client.exchange(&sent).await).status, 200);
        for stranger in [None, Some(authority.certify("sender.example", 2100).identity())] {
            let exchange = client.exchange(&with(Trust::default(), stranger, &url)).await;
            assert!(exchange.result.is_err(), "{exchange:?}");
        }
        assert_eq!(receiver.seen(|seen| seen.total()), 1);

        // What can't be used is said when it is saved, and shows no key.
        let check = |trust: Trust, identity| client.check_tls(&Tls::new(Some(&trust), identity).unwrap());
        assert_eq!(check(Trust::default(), Some(identity.clone())), Ok(()));
        let other = clients.certify("sender.example", 2100).identity();
        let mixed = Identity { key: other.key, ..identity.clone() };
        assert!(check(Trust::default(), Some(mixed)).unwrap_err().contains("don't go together"));
        let no_key = Identity { key: SecretString::new("s3cret".to_owned()), ..identity };
        let message = check(Trust::default(), Some(no_key)).unwrap_err();
        assert!(message.contains("PEM") && !message.contains("s3cret"), "{message}");
        let ca = Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----".into());
        assert!(check(Trust { ca, ..Trust::default() }, None).unwrap_err().contains("authorities"));
    })
    .await;
}
