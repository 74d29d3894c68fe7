//! Endpoints inside TLS, and the authorities that certify them and those who call them.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hookstream_testkit::receiver::Receiver;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair, PublicKeyData as _,
    date_time_ymd,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{Acceptor, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;

/// Later than any test runs.
const NEVER: i32 = 2100;

/// Somebody who certifies, and whom no machine knows.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Certificate,
}

/// A certificate, and the key that belongs to it.
#[derive(Debug)]
pub struct Certified {
    certificate: Certificate,
    key: KeyPair,
}

impl Authority {
    /// # Panics
    /// If no certificate can be made.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate");
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// Its own certificate, as a webhook's `tls.ca` has it.
    #[must_use]
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// Certifies a name.
    #[must_use]
    pub fn certify(&self, name: &str) -> Certified {
        self.certify_until(name, NEVER)
    }

    /// Certifies a name until a year begins.
    ///
    /// # Panics
    /// If no certificate can be made of it.
    #[must_use]
    pub fn certify_until(&self, name: &str, year: i32) -> Certified {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.not_after = date_time_ymd(year, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Certified { certificate, key }
    }
}

impl Certified {
    #[must_use]
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    #[must_use]
    pub fn der(&self) -> &[u8] {
        self.certificate.der()
    }

    #[must_use]
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// SHA-256 of the public key in base64 (RFC 7469 §2.4).
    #[must_use]
    pub fn pin(&self) -> String {
        STANDARD.encode(Sha256::digest(self.key.subject_public_key_info()))
    }
}

/// A handshake as the endpoint saw it.
#[derive(Clone, Debug)]
pub struct Handshake {
    /// Whom the caller asked for (SNI, RFC 6066 §3).
    pub server_name: Option<String>,
    /// The caller's certificate (DER), if it showed one and it was believed.
    pub client: Option<Vec<u8>>,
    /// It came to its end.
    pub done: bool,
}

/// A receiver inside TLS. It serves until the process ends.
#[derive(Debug)]
pub struct TlsReceiver {
    /// What arrived inside.
    pub receiver: Arc<Receiver>,
    address: SocketAddr,
    handshakes: Arc<Mutex<Vec<Handshake>>>,
}

impl TlsReceiver {
    /// Serves as the one who is certified; only those whom `callers` certifies, if it is said who does.
    ///
    /// # Panics
    /// If the machine has no port left, or the TLS library refuses its settings.
    #[must_use]
    pub fn start(certified: &Certified, callers: Option<&Authority>) -> Self {
        let config = Arc::new(config(certified, callers));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its own address");
        listener.set_nonblocking(true).expect("a socket can be made non-blocking");
        let (receiver, handshakes) = (Arc::new(Receiver::start()), Arc::default());
        let (inside, noted) = (Arc::clone(&receiver), Arc::clone(&handshakes));
        thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                loop {
                    // A connection that is gone already is no reason to end.
                    let Ok((stream, _)) = listener.accept().await else { continue };
                    let welcome =
                        welcome(stream, Arc::clone(&config), Arc::clone(&inside), Arc::clone(&noted));
                    tokio::spawn(welcome);
                }
            });
        });
        Self { receiver, address, handshakes }
    }

    /// The URL of a path, by a name that leads here.
    #[must_use]
    pub fn url(&self, host: &str, path: &str) -> String {
        format!("https://{host}:{}{path}", self.address.port())
    }

    /// All that there were so far, in the order of their ends.
    #[must_use]
    pub fn handshakes(&self) -> Vec<Handshake> {
        self.handshakes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn config(certified: &Certified, callers: Option<&Authority>) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("versions that the provider has");
    let config = match callers {
        None => config.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.certificate.der().clone()).expect("an authority's certificate");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            config.with_client_cert_verifier(verifier.expect("an authority"))
        }
    };
    let key = PrivateKeyDer::try_from(certified.key.serialize_der()).expect("a key");
    config
        .with_single_cert(vec![certified.certificate.der().clone()], key)
        .expect("a certificate and its key")
}

async fn welcome(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    receiver: Arc<Receiver>,
    handshakes: Arc<Mutex<Vec<Handshake>>>,
) {
    let note = |handshake| handshakes.lock().unwrap_or_else(PoisonError::into_inner).push(handshake);
    // Who says something else than TLS is not asked for more.
    let Ok(begun) = LazyConfigAcceptor::new(Acceptor::default(), stream).await else { return };
    let server_name = begun.client_hello().server_name().map(str::to_owned);
    match begun.into_stream(config).into_fallible().await {
        Ok(stream) => {
            let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let client = shown.map(|certificate| certificate.to_vec());
            // Before its first request arrives.
            note(Handshake { server_name, client, done: true });
            receiver.serve(stream).await;
        }
        Err((_, mut stream)) => {
            note(Handshake { server_name, client: None, done: false });
            // A socket that is closed before all is read is reset, and the caller may never see the alert.
            if stream.shutdown().await.is_ok() {
                let mut rest = [0; 1024];
                while stream.read(&mut rest).await.is_ok_and(|count| count > 0) {}
            }
        }
    }
}
