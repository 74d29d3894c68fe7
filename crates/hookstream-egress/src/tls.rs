//! TLS to endpoints: certificate chain and name are always verified, with the URL's host as server name, against
//! the machine's root certificates (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others). TLS 1.2 and 1.3.

use std::sync::Arc;

use rustls::client::Tls13ClientSessionValue;
use rustls::client::{ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, NamedGroup, RootCertStore};

/// Servers whose last sessions are remembered, per core: a resumed handshake costs no signature check.
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
    config(machine_roots())
}

pub(crate) fn config(roots: RootCertStore) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption =
        Resumption::store(Arc::new(TimedSessions(ClientSessionMemoryCache::new(REMEMBERED_SERVERS))));
    Ok(config)
}

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
