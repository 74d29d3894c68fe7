//! The sections of the services, and of what every process has: `log`, `ops`, `shutdown`.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::thread::available_parallelism;
use std::time::Duration;

use hookstream_types::limits::MAX_IN_FLIGHT_PER_PARTITION;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::Problem;
use crate::values::{duration, format_duration};

/// `ingester`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Ingester {
    /// 0: one per CPU.
    pub cores: usize,
}

/// `fanout`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Fanout {
    /// 0: one per CPU.
    pub cores: usize,
}

/// `sender`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Sender {
    /// 0: one per CPU.
    pub cores: usize,
    pub max_in_flight_per_partition: usize,
    /// None: `hookstream/<version>`.
    pub user_agent: Option<String>,
}

/// `log`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    pub format: LogFormat,
    /// A level, or directives: `info,hookstream_log=debug`.
    pub level: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase", try_from = "String")]
pub enum LogFormat {
    Text,
    Json,
}

/// `ops`: `/metrics`, `/livez`, `/readyz`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Ops {
    #[serde(deserialize_with = "address")]
    pub listen: SocketAddr,
}

/// `shutdown`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Shutdown {
    #[serde(with = "duration")]
    pub grace: Duration,
}

impl TryFrom<String> for LogFormat {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("must be text or json"),
        }
    }
}

impl Ingester {
    /// The number of threads: `cores`, or the number of CPUs.
    #[must_use]
    pub fn threads(&self) -> usize {
        threads(self.cores)
    }
}

impl Fanout {
    /// The number of threads: `cores`, or the number of CPUs.
    #[must_use]
    pub fn threads(&self) -> usize {
        threads(self.cores)
    }
}

impl Sender {
    /// The number of threads: `cores`, or the number of CPUs.
    #[must_use]
    pub fn threads(&self) -> usize {
        threads(self.cores)
    }

    /// The `user-agent` of requests.
    #[must_use]
    pub fn user_agent(&self) -> &str {
        self.user_agent.as_deref().unwrap_or(concat!("hookstream/", env!("CARGO_PKG_VERSION")))
    }

    pub(crate) fn check(&self, problems: &mut Vec<Problem>) {
        if !(1..=MAX_IN_FLIGHT_PER_PARTITION).contains(&self.max_in_flight_per_partition) {
            let message = format!("must be 1 to {MAX_IN_FLIGHT_PER_PARTITION}");
            let value = self.max_in_flight_per_partition;
            problems.push(Problem::new("sender.max_in_flight_per_partition", message).with_value(value));
        }
        let is_sendable = |agent: &str| {
            !agent.is_empty() && agent.len() <= 256 && agent.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        };
        if let Some(agent) = self.user_agent.as_deref().filter(|agent| !is_sendable(agent)) {
            let message = "must be 1 to 256 printable ASCII characters: it is an HTTP header";
            problems.push(Problem::new("sender.user_agent", message).with_value(agent.escape_debug()));
        }
    }
}

impl Log {
    pub(crate) fn check(&self, problems: &mut Vec<Problem>) {
        let is_level = |level: &str| {
            ["off", "error", "warn", "info", "debug", "trace"]
                .iter()
                .any(|name| level.eq_ignore_ascii_case(name))
        };
        let is_target = |target: &str| {
            !target.is_empty() && target.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':'))
        };
        let is_directive = |directive: &str| match directive.split_once('=') {
            Some((target, level)) => is_target(target) && is_level(level),
            None => is_level(directive),
        };
        if !self.level.split(',').all(is_directive) {
            let message = "must be error, warn, info, debug or trace, also for parts of the program: `info,hookstream_log=debug`";
            problems.push(Problem::new("log.level", message).with_value(&self.level));
        }
    }
}

impl Shutdown {
    pub(crate) fn check(&self, problems: &mut Vec<Problem>) {
        const HOUR: Duration = Duration::from_secs(3600);
        if !(Duration::from_secs(1)..=HOUR).contains(&self.grace) {
            let value = format_duration(self.grace);
            problems.push(Problem::new("shutdown.grace", "must be 1s to 1h").with_value(value));
        }
    }
}

pub(crate) fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        D::Error::custom("must be ADDRESS:PORT: `0.0.0.0:9464` for all, `127.0.0.1:9464` for this machine")
    })
}

fn threads(cores: usize) -> usize {
    if cores > 0 { cores } else { available_parallelism().map_or(1, NonZeroUsize::get) }
}
