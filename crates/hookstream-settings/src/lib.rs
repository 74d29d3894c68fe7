//! Settings: commented defaults, a file, the environment; every problem at once.
//!
//! [`Settings`] has one struct per section. `defaults.yaml` names every key and is the reference: what isn't in it is
//! unknown. Three layers are merged, the later the stronger: the defaults, a YAML file, and variables named
//! `HOOKSTREAM__SECTION__KEY`. All programs read the same settings, so that one's variables can't break another's start.
//!
//! **Invariants:** a value that parses is valid, and [`Settings::load`] returns only valid ones; whoever runs hookstream
//! sees all [`Problem`]s in one go; no `Debug` output, problem or [`Settings::to_yaml`] shows a secret; the process's
//! environment is an argument.

mod api;
mod egress;
mod history;
mod kafka;
mod load;
mod problem;
mod secrets;
mod services;
mod sign_in;
mod topics;
mod values;

pub use api::{ApiSettings, IssuerSettings, ScopeRule};
pub use config::Map;
pub use egress::Egress;
pub use history::{History, HistoryPlace};
pub use kafka::Kafka;
pub use problem::Problem;
pub use secrets::Secrets;
pub use services::{Fanout, Ingester, Log, LogFormat, Ops, Sender, Shutdown};
pub use sign_in::SignInSettings;
pub use topics::TopicSettings;
pub use values::{BadDuration, format_duration, parse_duration};

use serde::{Deserialize, Serialize};

/// The commented defaults: the reference of all settings.
pub const DEFAULTS: &str = include_str!("../defaults.yaml");
/// What `hookstream dev` sets otherwise.
pub const DEVELOPMENT: &str = include_str!("../development.yaml");

/// The settings of all of hookstream's programs.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub kafka: Kafka,
    pub topics: TopicSettings,
    pub ingester: Ingester,
    pub fanout: Fanout,
    pub sender: Sender,
    pub api: ApiSettings,
    pub secrets: Secrets,
    pub egress: Egress,
    pub history: History,
    pub log: Log,
    pub ops: Ops,
    pub shutdown: Shutdown,
}

impl Settings {
    /// What a service needs to be true of its settings, the key included.
    ///
    /// # Errors
    /// Every problem there is.
    pub fn validate(&self) -> Result<(), Vec<Problem>> {
        let mut problems = self.problems();
        if let Err(problem) = self.secrets.key_encryption_keys() {
            problems.push(problem);
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// What is wrong, the key apart.
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        self.kafka.check(&mut problems);
        self.topics.check(&mut problems);
        self.sender.check(&mut problems);
        self.api.check(&mut problems);
        self.egress.check(&mut problems);
        self.history.check(&mut problems);
        self.log.check(&mut problems);
        self.shutdown.check(&mut problems);
        problems
    }

    /// The settings in effect, in the form of a settings file, without secrets.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        serde_norway::to_string(self).expect("settings are maps, texts, numbers and booleans")
    }
}
