//! The embedded **development** broker: one node that speaks the Kafka protocol.
//!
//! It lets `hookstream dev` and tests run on a machine that has no Kafka. It is for development, tests and demos only:
//! one process, one replica, no authentication, no quotas. Production is Kafka.
//!
//! - [`log`]: the durable log of a partition.
//! - `groups` and `transactions`: the coordinators, as state machines.
//! - `api`: what requests do; `server`: how they come.
//! - [`faults`]: what goes wrong on purpose, for tests.
//!
//! Every message is read and written by the `kafka-protocol` crate.

mod api;
mod broker;
mod durability;
pub mod faults;
pub mod groups;
mod journal;
pub mod log;
mod server;
#[cfg(feature = "testing")]
pub mod testing;
mod topics;
mod transactions;

use std::fs::{File, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::broker::Broker;
pub use self::durability::Fsync;
use self::faults::Faults;
pub use self::journal::JournalError;
pub use self::log::OpenError;

/// How a broker is to be.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where its files are; made if it is not there.
    pub data_dir: PathBuf,
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    pub fsync: Fsync,
    /// Whether asking for a topic makes it, as Kafka does by default.
    pub auto_create_topics: bool,
    /// Of topics that are made without saying.
    pub default_partitions: i32,
    pub groups: groups::settings::Settings,
}

impl Settings {
    /// For a data directory and an address, the rest as is usual in development.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>, listen: SocketAddr) -> Self {
        Self {
            data_dir: data_dir.into(),
            listen,
            fsync: Fsync::Every(Duration::from_secs(1)),
            auto_create_topics: false,
            default_partitions: 1,
            groups: groups::settings::Settings::default(),
        }
    }
}

/// Why there is no broker.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the data directory `{dir}` can't be used")]
    DataDir {
        dir: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the data directory `{dir}` is in use by another process: stop it, or name another directory")]
    InUse { dir: PathBuf },
    #[error("can't listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("can't start threads")]
    Threads(#[source] io::Error),
    #[error("the broker's journal can't be used")]
    Journal(#[from] JournalError),
    #[error("a partition's log can't be used")]
    Log(#[from] OpenError),
}

/// A broker at work, on threads of its own. Dropping it is a crash: nothing is finished.
#[derive(Debug)]
pub struct DevBroker {
    address: SocketAddr,
    broker: Arc<Broker>,
    faults: Arc<Faults>,
    stop: CancellationToken,
    running: JoinHandle<()>,
    /// Taken when it ends.
    runtime: Option<Runtime>,
    /// Holds the directory's lock.
    _lock: File,
}

/// Threads that serve connections. A second one gains nothing where clients and services want the other cores, and an
/// idle broker wakes both.
const WORKERS: usize = 1;
/// How long an ending broker waits for its tasks.
const END: Duration = Duration::from_secs(3);

impl DevBroker {
    /// Opens the data directory and listens.
    ///
    /// # Errors
    /// [`StartError`] names what is in the way.
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        let lock = lock(&settings)?;
        raise_file_limit();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("devbroker")
            .enable_all()
            .build()
            .map_err(StartError::Threads)?;
        let listen = |source| StartError::Listen { address: settings.listen, source };
        // Not by the runtime: whoever starts a broker may be within one of their own.
        let listener = std::net::TcpListener::bind(settings.listen).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let entered = runtime.enter();
        let listener = TcpListener::from_std(listener).map_err(listen)?;
        drop(entered);
        let faults = Arc::new(Faults::default());
        let broker = Arc::new(Broker::open(settings, Arc::clone(&faults))?);
        let stop = CancellationToken::new();
        let running = runtime.spawn(run(Arc::clone(&broker), listener, stop.clone()));
        Ok(Self { address, broker, faults, stop, running, runtime: Some(runtime), _lock: lock })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What is to go wrong.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Makes the members of a group join again.
    pub fn force_rebalance(&self, group: &str) {
        // A group that does not exist has no members.
        let (_forced, _) = self.broker.with_groups(|groups, now| groups.force_rebalance(now, group));
    }

    /// Deletes and compacts now what would be within seconds.
    pub fn maintain(&self) {
        self.broker.maintain_once(broker::wall_ms());
    }

    /// Closes all connections and hands everything to the storage. Blocks; not for an async task.
    pub fn stop(mut self) {
        self.stop.cancel();
        if let Some(runtime) = self.runtime.take() {
            let running = &mut self.running;
            // What it was can't be told any more, and it reported itself.
            drop(runtime.block_on(async { tokio::time::timeout(END, running).await }));
            runtime.shutdown_timeout(END);
        }
    }

    /// Ends as a process does that is killed: what was written stays, and nobody is told. Blocks.
    pub fn crash(mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Its threads must have ended before another broker opens the files.
            runtime.shutdown_timeout(END);
        }
    }
}

impl Drop for DevBroker {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // It may be dropped by an async task, which must not block.
            runtime.shutdown_background();
        }
    }
}

/// Each partition has an open file, and the usual limit of 1024 is soon reached.
fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard { setrlimit(Resource::RLIMIT_NOFILE, hard, hard) } else { Ok(()) }
    });
    if let Err(error) = raised {
        tracing::warn!("the limit of open files can't be raised: {error}; many partitions will not fit");
    }
}

fn lock(settings: &Settings) -> Result<File, StartError> {
    let dir = &settings.data_dir;
    let failed = |source| StartError::DataDir { dir: dir.clone(), source };
    std::fs::create_dir_all(dir).map_err(failed)?;
    let file = File::create(dir.join("lock")).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StartError::InUse { dir: dir.clone() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

async fn run(broker: Arc<Broker>, listener: TcpListener, stop: CancellationToken) {
    // Connections end first, so that the last sync has all that they wrote.
    let synced = CancellationToken::new();
    let serve = async {
        tokio::join!(
            server::serve(Arc::clone(&broker), listener, &stop),
            broker.watch_deadlines(&stop),
            broker.maintain(&stop),
        );
        synced.cancel();
    };
    tokio::join!(serve, broker.durability.run(&synced));
}
