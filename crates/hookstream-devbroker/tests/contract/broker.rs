//! The broker that the tests speak to: a Kafka that is there, or a development broker that they share.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use hookstream_devbroker::{DevBroker, Settings};
use tempfile::TempDir;
use uuid::Uuid;

/// Names the Kafka to test with.
const KAFKA: &str = "HOOKSTREAM_TEST_KAFKA";

/// What the tests speak to.
#[derive(Debug)]
pub struct Broker {
    /// Where clients find it first.
    pub addresses: Vec<String>,
    embedded: Option<Embedded>,
}

#[derive(Debug)]
struct Embedded {
    /// Taken when it ends.
    broker: Option<DevBroker>,
    _dir: TempDir,
}

impl Drop for Embedded {
    fn drop(&mut self) {
        if let Some(broker) = self.broker.take() {
            broker.stop();
        }
    }
}

/// The broker of this run. A development broker lives as long as any test has it.
pub fn broker() -> Arc<Broker> {
    static SHARED: Mutex<Weak<Broker>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(broker) = shared.upgrade() {
        return broker;
    }
    let broker = Arc::new(match std::env::var(KAFKA) {
        Ok(addresses) => Broker {
            addresses: addresses.split(',').map(|one| one.trim().to_owned()).collect(),
            embedded: None,
        },
        Err(_) => start(),
    });
    *shared = Arc::downgrade(&broker);
    broker
}

fn start() -> Broker {
    let dir = tempfile::tempdir().unwrap();
    let broker = DevBroker::start(Settings::new(dir.path(), ([127, 0, 0, 1], 0).into())).unwrap();
    Broker {
        addresses: vec![broker.address().to_string()],
        embedded: Some(Embedded { broker: Some(broker), _dir: dir }),
    }
}

impl Broker {
    /// The development broker, if it is one.
    pub fn embedded(&self) -> Option<&DevBroker> {
        self.embedded.as_ref().and_then(|embedded| embedded.broker.as_ref())
    }
}

/// A name that no other test has, today or in another run.
pub fn unique(what: &str) -> String {
    format!("contract.{what}.{}", Uuid::new_v4().simple())
}

/// How long anything may take: two busy cores, and an election at worst.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again and again, until there is an answer.
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    crate::wait::until(PATIENCE, what, look)
}
