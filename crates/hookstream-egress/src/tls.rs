//! TLS to endpoints: certificate chain and name are always verified, with the URL's host as server name, against
//! the machine's root certificates (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others). TLS 1.2 and 1.3.
//!
//! A webhook may have an authority of its own, which is then the only one, keys that its endpoint must have besides, and a
//! certificate to show. There is no way to verify less.

use std::sync::Arc;

use hookstream_core::config::{Pin, Tls};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
    Tls13ClientSessionValue, WebPkiServerVerifier,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, NamedGroup, OtherError, RootCertStore,
    SignatureScheme,
};
use sha2::{Digest as _, Sha256};

/// Servers whose last sessions are remembered, per configuration: a resumed handshake costs no signature check.
const REMEMBERED_SERVERS: usize = 1024;

/// The machine's root certificates. None is a state to warn of, not to fail in: HTTP needs none.
pub(crate) fn machine_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(error = %hookstream_types::Chain(error), "some root certificates could not be read");
    }
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        tracing::warn!(
            "this machine has no root certificates, so that no `https` endpoint can be trusted; install \
             `ca-certificates` or set `SSL_CERT_FILE`"
        );
    }
    roots
}

/// TLS as it is spoken to endpoints, for the command line's calls of an operator's own API.
///
/// # Errors
/// If the TLS library refuses its settings.
pub fn machine_config() -> Result<ClientConfig, rustls::Error> {
    config(Arc::new(machine_roots()))
}

pub(crate) fn config(roots: Arc<RootCertStore>) -> Result<ClientConfig, rustls::Error> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(finished(config, REMEMBERED_SERVERS))
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn finished(mut config: ClientConfig, remembered: usize) -> ClientConfig {
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::store(Arc::new(TimedSessions(ClientSessionMemoryCache::new(remembered))));
    config
}

// === a webhook's own ===

/// Why a webhook's own TLS can't be used. Quotes nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadTls {
    #[error("its authorities are no certificates in PEM")]
    Authorities,
    #[error("its client certificate is none in PEM")]
    Certificate,
    #[error("its client certificate's key is none in PEM (PKCS #8, PKCS #1 or SEC 1, not encrypted)")]
    Key,
    #[error("its client certificate and key don't go together, or are of a kind that is not supported")]
    Identity,
    #[error("the TLS library refuses it")]
    Refused,
}

/// TLS of a webhook that has its own, where everyone else trusts `usual`.
pub(crate) fn own_config(own: &Tls, usual: &Arc<RootCertStore>) -> Result<ClientConfig, BadTls> {
    let roots = match &own.trust().ca {
        None => Arc::clone(usual),
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(pem).ok_or(BadTls::Authorities)? {
                roots.add(certificate).map_err(|_| BadTls::Authorities)?;
            }
            Arc::new(roots)
        }
    };
    let provider = provider();
    let chain = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
    let chain = chain.build().map_err(|_| BadTls::Authorities)?;
    let verifier = Arc::new(Pinned { chain, pins: own.trust().pins.clone() });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| BadTls::Refused)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let config = match own.identity() {
        None => config.with_no_client_auth(),
        Some(identity) => {
            let certificates = certificates(&identity.certificate).ok_or(BadTls::Certificate)?;
            let key =
                PrivateKeyDer::from_pem_slice(identity.key.expose().as_bytes()).map_err(|_| BadTls::Key)?;
            config.with_client_auth_cert(certificates, key).map_err(|_| BadTls::Identity)?
        }
    };
    Ok(finished(config, 1))
}

/// All certificates of a PEM text, if there is one.
fn certificates(pem: &str) -> Option<Vec<CertificateDer<'static>>> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().ok()?;
    (!found.is_empty()).then_some(found)
}

/// The endpoint is who it says, but not who it must be.
#[derive(Debug, thiserror::Error)]
#[error("the certificate's public key is none of those that the webhook pins")]
pub(crate) struct NotPinned;

/// Verifies chain and name as always, and then whether the endpoint's key is one of those it must have.
#[derive(Debug)]
struct Pinned {
    chain: Arc<WebPkiServerVerifier>,
    /// None: any.
    pins: Vec<Pin>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified =
            self.chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        if self.pins.is_empty() {
            return Ok(verified);
        }
        let key: [u8; 32] =
            Sha256::digest(ParsedCertificate::try_from(end_entity)?.subject_public_key_info()).into();
        if self.pins.contains(&Pin(key)) {
            Ok(verified)
        } else {
            Err(CertificateError::Other(OtherError(Arc::new(NotPinned))).into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

// === sessions ===

/// A session store that tells when a handshake begins: its first question is what is remembered of the server.
#[derive(Debug)]
struct TimedSessions(ClientSessionMemoryCache);

impl ClientSessionStore for TimedSessions {
    fn kx_hint(&self, server: &ServerName<'_>) -> Option<NamedGroup> {
        crate::dial::handshake_begins();
        self.0.kx_hint(server)
    }

    fn set_kx_hint(&self, server: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(server, group);
    }

    fn set_tls12_session(&self, server: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.0.set_tls12_session(server, session);
    }

    fn tls12_session(&self, server: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(server)
    }

    fn remove_tls12_session(&self, server: &ServerName<'static>) {
        self.0.remove_tls12_session(server);
    }

    fn insert_tls13_ticket(&self, server: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(server, ticket);
    }

    fn take_tls13_ticket(&self, server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(server)
    }
}
