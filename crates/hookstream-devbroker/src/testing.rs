//! The Kafka that tests use: the one that `cargo xtask test` names, or a development broker of the process's own.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Mutex, OnceLock, PoisonError};

use tempfile::TempDir;

use crate::{DevBroker, Settings};

/// Names the Kafka to test with: `HOST:PORT`, with commas between.
pub const VARIABLE: &str = "HOOKSTREAM_TEST_KAFKA";

/// A development broker of this process, which is there until the process ends.
#[derive(Debug)]
pub struct OwnBroker {
    address: SocketAddr,
    dir: TempDir,
    running: Mutex<Option<DevBroker>>,
}

/// The brokers to test with.
#[must_use]
pub fn bootstrap_servers() -> String {
    std::env::var(VARIABLE).unwrap_or_else(|_| own().address.to_string())
}

/// This process's broker, if no Kafka is named.
#[must_use]
pub fn own_if_none_is_named() -> Option<&'static OwnBroker> {
    std::env::var(VARIABLE).is_err().then(own)
}

fn own() -> &'static OwnBroker {
    static OWN: OnceLock<OwnBroker> = OnceLock::new();
    OWN.get_or_init(OwnBroker::start)
}

impl OwnBroker {
    fn start() -> Self {
        let dir = TempDir::with_prefix("hookstream-devbroker-").expect("a temporary directory can be made");
        let broker = start(&dir, (Ipv4Addr::LOCALHOST, 0).into());
        Self { address: broker.address(), dir, running: Mutex::new(Some(broker)) }
    }

    /// Ends the broker as a crash does.
    pub fn crash(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        running.expect("it runs").crash();
    }

    /// Starts it again, with what it had.
    pub fn restart(&self) {
        let broker = start(&self.dir, self.address);
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(broker);
    }
}

fn start(dir: &TempDir, listen: SocketAddr) -> DevBroker {
    DevBroker::start(Settings::new(dir.path(), listen))
        .unwrap_or_else(|error| panic!("the development broker can't start: {error}"))
}
