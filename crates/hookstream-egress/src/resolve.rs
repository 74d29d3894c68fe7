//! Names to addresses, without a thread that waits.
//!
//! Customers' names are resolved by customers' servers, which may be slow on purpose. So a lookup holds no thread, ends
//! in [`BUDGET`], and is made once for all who ask at the same time. Names are fully qualified: no search list of this
//! machine's is tried. `/etc/hosts` counts, and is vetted like any other answer.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hookstream_types::Chain;
use tokio::sync::OnceCell;
use tokio::time::timeout;

/// Longest time for a name, whatever its servers do.
const BUDGET: Duration = Duration::from_secs(5);
/// Who is asked where nobody is named (resolv.conf(5)).
const USUAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 53);
/// For one question; the next goes to another server, if there is one.
const QUESTION: Duration = Duration::from_secs(2);
/// Answers are remembered no longer than this, so that who moves is followed.
const REMEMBERED: Duration = Duration::from_secs(300);
/// And that there is none, so that who comes is found by the next try.
const NONE_REMEMBERED: Duration = Duration::from_secs(5);
/// Names remembered.
const CACHE: u64 = 10_000;

/// A name that has no address.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the name `{name}` does not resolve: {why}")]
pub(crate) struct Unresolved {
    name: Arc<str>,
    why: Arc<str>,
}

/// Looks names up; its copies share what they remember.
#[derive(Clone)]
pub(crate) struct Resolver {
    dns: TokioResolver,
    lookups: Arc<Lookups>,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

type Lookups = Mutex<HashMap<Arc<str>, Arc<Lookup>>>;
type Lookup = OnceCell<Result<Vec<IpAddr>, Unresolved>>;

impl Resolver {
    /// A resolver that asks these servers, or the machine's if there are none.
    ///
    /// # Errors
    /// If the library refuses its settings.
    pub(crate) fn new(servers: &[SocketAddr]) -> Result<Self, NetError> {
        let of = |servers: &[SocketAddr]| {
            let servers = servers.iter().map(name_server).collect();
            let config = ResolverConfig::from_parts(None, Vec::new(), servers);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let mut builder = if servers.is_empty() {
            TokioResolver::builder_tokio().unwrap_or_else(|error| {
                tracing::warn!(
                    error = %Chain(&error),
                    "this machine's name servers can't be made out, so that {USUAL} is asked; name some in `egress.name_servers`"
                );
                of(&[USUAL])
            })
        } else {
            of(servers)
        };
        let ResolverOpts {
            timeout,
            attempts,
            ip_strategy,
            cache_size,
            positive_max_ttl,
            negative_max_ttl,
            try_tcp_on_error,
            preserve_intermediates,
            ..
        } = builder.options_mut();
        *timeout = QUESTION;
        *attempts = 1;
        *ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        *cache_size = CACHE;
        *positive_max_ttl = Some(REMEMBERED);
        *negative_max_ttl = Some(NONE_REMEMBERED);
        *try_tcp_on_error = true;
        *preserve_intermediates = false;
        Ok(Self { dns: builder.build()?, lookups: Arc::default() })
    }

    /// As if `/etc/hosts` had this line.
    #[cfg(test)]
    pub(crate) fn with_host(mut self, name: &str, address: Ipv4Addr) -> Self {
        use hickory_resolver::Hosts;
        use hickory_resolver::lookup::Lookup;
        use hickory_resolver::proto::op::Query;
        use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
        let name = Name::from_ascii(name).unwrap();
        let record = Record::from_rdata(name.clone(), 60, RData::A(address.into()));
        let lookup = Lookup::new_with_max_ttl(Query::query(name.clone(), RecordType::A), [record]);
        let mut hosts = Hosts::default();
        hosts.insert(name, RecordType::A, lookup);
        self.dns.set_hosts(Arc::new(hosts));
        self
    }

    /// All addresses of a name; never none.
    pub(crate) async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, Unresolved> {
        let asking = Asking::join(&self.lookups, name);
        asking.lookup.get_or_init(|| self.look_up(&asking.name)).await.clone()
    }

    async fn look_up(&self, name: &Arc<str>) -> Result<Vec<IpAddr>, Unresolved> {
        let unresolved = |why: &str| Unresolved { name: Arc::clone(name), why: Arc::from(why) };
        // The dot says that the name is complete.
        let complete = format!("{}.", name.strip_suffix('.').unwrap_or(name));
        let answer = timeout(BUDGET, self.dns.lookup_ip(complete.as_str())).await;
        let found = answer
            .map_err(|_| unresolved("its servers did not answer in time"))?
            .map_err(|error| unresolved(&reason(&error)))?;
        let addresses: Vec<IpAddr> = found.iter().collect();
        if addresses.is_empty() { Err(unresolved("it has no address")) } else { Ok(addresses) }
    }
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

fn reason(error: &NetError) -> String {
    let answered = |code| match code {
        ResponseCode::NXDomain => "there is no such name".to_owned(),
        ResponseCode::NoError => "it has no address".to_owned(),
        code => format!("its servers answered `{code}`"),
    };
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => answered(none.response_code),
        NetError::Dns(DnsError::ResponseCode(code)) => answered(*code),
        NetError::Timeout => "its servers did not answer in time".into(),
        other => other.to_string(),
    }
}

/// One who waits for a name's addresses; the last to leave takes the lookup away: what is remembered, and for how long,
/// is the resolver's business.
struct Asking {
    lookups: Arc<Lookups>,
    name: Arc<str>,
    lookup: Arc<Lookup>,
}

impl Asking {
    fn join(lookups: &Arc<Lookups>, name: &str) -> Self {
        let mut all = lookups.lock().unwrap_or_else(PoisonError::into_inner);
        let name = all.get_key_value(name).map_or_else(|| Arc::from(name), |(name, _)| Arc::clone(name));
        let lookup = Arc::clone(all.entry(Arc::clone(&name)).or_default());
        Self { lookups: Arc::clone(lookups), name, lookup }
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
