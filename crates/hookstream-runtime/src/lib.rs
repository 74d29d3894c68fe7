//! What every service needs: settings, signals and drain, clock, logs, `/metrics`, `/livez`, `/readyz`.
//!
//! A service is a function from a [`Ctx`] to a future. [`run`] is the whole of its `main`; [`launch`] is the same with
//! settings that are there already, and [`spawn`] puts several services into one process.
//!
//! **Invariants:** nothing here is global but the log's subscriber; a service starts only with valid settings and
//! its operations port bound; from the first signal on `/readyz` says no, and the second ends the process at once.

mod clock;
mod health;
mod metrics;
pub mod ops;
mod process;
mod run;
mod telemetry;

pub use clock::Clock;
pub use health::{Component, Health, HealthHandle};
pub use metrics::{Metric, MetricInfo, SECONDS, touch};
pub use ops::{CouldNotListen, Ops};
pub use process::ProcessMetrics;
pub use run::{EXIT_FAILURE, EXIT_USAGE, launch, report, run, spawn};

#[doc(hidden)]
pub use metrics::register;
#[doc(hidden)]
pub use prometheus;

use std::sync::Arc;

use hookstream_settings::Settings;
use prometheus::Registry;
use tokio_util::sync::CancellationToken;

/// Why a service ended before it was told to. Whoever handles it prints it with [`hookstream_types::Chain`].
pub type ServiceError = Box<dyn std::error::Error + Send + Sync>;

/// What a service is given. Clones share everything.
#[derive(Clone, Debug)]
pub struct Ctx {
    pub settings: Arc<Settings>,
    /// Where metrics register; one per process.
    pub registry: Registry,
    /// Cancelled when the service is to stop: drain, then return.
    pub shutdown: CancellationToken,
    /// Where the service says whether it is ready. Register every component before the first wait.
    pub health: Health,
    pub clock: Clock,
}

impl Ctx {
    /// A context of its own: for a process, or for a test.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings: Arc::new(settings),
            registry: Registry::new(),
            shutdown: CancellationToken::new(),
            health: Health::default(),
            clock: Clock::start(),
        }
    }

    /// The context of one of several services in one process: only its health has a name of its own.
    #[must_use]
    pub fn child(&self, service: &str) -> Self {
        Self { health: self.health.scope(service), ..self.clone() }
    }
}
