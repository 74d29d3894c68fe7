//! Connections that may be used again, an account's own.
//!
//! An endpoint that answers one request with two responses leaves the second for whoever is next on that connection. So
//! no account ever sends on another's, and no webhook with TLS of its own on one that was made otherwise.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hookstream_core::config::Tls;
use hookstream_core::exchange::Failure;
use hookstream_types::AccountUid;
use hookstream_types::limits::MAX_RESPONSE_HEADER_BYTES;
use http_body_util::Full;
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustc_hash::FxHashMap;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::Instant;

use crate::dial::{Connector, Dial, connector};
use crate::failure::unsendable;
use crate::tls::{self, BadTls};

/// How long an idle connection is kept: less than the 5 s after which common servers (Apache, Node.js, uvicorn)
/// close theirs, because a request sent into a closing connection is an attempt lost.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// Idle connections kept per host. Some hosts have very many webhooks; each idle connection had a request in flight
/// less than [`IDLE_TIMEOUT`] ago, and lanes and partitions bound those.
const IDLE_PER_HOST: usize = 1_024;
/// What a connection buffers of a head, which is refused beyond [`MAX_RESPONSE_HEADER_BYTES`].
const READ_BUFFER: usize = 2 * MAX_RESPONSE_HEADER_BYTES;
/// So many accounts' pools are kept before those that have nothing in them are looked for.
const FEW_POOLS: usize = 256;

pub(crate) type Http = legacy::Client<Connector, Full<Bytes>>;

/// One pool per account, and per TLS that is not everyone's.
#[derive(Debug)]
pub(crate) struct Pools {
    dial: Dial,
    builder: legacy::Builder,
    /// Everyone's: one, shared.
    tls: Arc<ClientConfig>,
    roots: Arc<RootCertStore>,
    kept: Mutex<Kept>,
}

type Key = (AccountUid, Option<[u8; 32]>);

#[derive(Debug)]
struct Kept {
    pools: FxHashMap<Key, Pool>,
    /// At so many, those that have been idle go.
    sweep_at: usize,
}

#[derive(Debug)]
struct Pool {
    http: Arc<Http>,
    used: Instant,
}

impl Pools {
    pub(crate) fn new(dial: Dial, roots: RootCertStore) -> Result<Self, rustls::Error> {
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .http1_max_buf_size(READ_BUFFER);
        let roots = Arc::new(roots);
        let tls = Arc::new(tls::config(Arc::clone(&roots))?);
        let kept = Mutex::new(Kept { pools: FxHashMap::default(), sweep_at: FEW_POOLS });
        Ok(Self { dial, builder, tls, roots, kept })
    }

    /// The pool for an account's requests.
    pub(crate) fn of(&self, account: AccountUid, own: Option<&Tls>) -> Result<Arc<Http>, Failure> {
        let now = Instant::now();
        let key = (account, own.map(Tls::digest));
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = kept.pools.get_mut(&key) {
            pool.used = now;
            return Ok(Arc::clone(&pool.http));
        }
        let tls = match own {
            None => Arc::clone(&self.tls),
            Some(own) => Arc::new(
                tls::own_config(own, &self.roots)
                    .map_err(|error| unsendable(&format!("the webhook's TLS can't be used: {error}")))?,
            ),
        };
        if kept.pools.len() >= kept.sweep_at {
            // Whoever has a request under way holds its pool, so that nothing is cut.
            kept.pools.retain(|_, pool| now.duration_since(pool.used) < 2 * IDLE_TIMEOUT);
            kept.sweep_at = (2 * kept.pools.len()).max(FEW_POOLS);
        }
        let http = Arc::new(self.builder.build(connector(self.dial.clone(), tls)));
        kept.pools.insert(key, Pool { http: Arc::clone(&http), used: now });
        Ok(http)
    }

    pub(crate) fn check_tls(&self, own: &Tls) -> Result<(), BadTls> {
        tls::own_config(own, &self.roots).map(drop)
    }
}
