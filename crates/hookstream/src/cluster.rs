//! The Kafka cluster, as the commands need it. All of it is hookstream-log's work; here its errors get exit codes.

use hookstream_settings::Settings;

use crate::failure::Failure;

/// An event for a source topic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event<'a> {
    pub key: Option<&'a str>,
    pub value: &'a [u8],
    pub headers: &'a [(&'a str, &'a str)],
}

/// A cluster that answers.
#[derive(Debug)]
pub(crate) struct Cluster {}

/// A producer to one topic.
#[derive(Debug)]
pub(crate) struct Producer {}

impl Cluster {
    /// Asks for the cluster's brokers.
    pub(crate) fn connect(_settings: &Settings) -> Result<Self, Failure> {
        Err(Failure::Unavailable("SEAM(hookstream-log::admin)".into()))
    }

    /// How many brokers there are.
    pub(crate) fn brokers(&self) -> usize {
        3
    }

    /// Creates what is missing; returns the names of what was created.
    pub(crate) fn create_topics(&self, _settings: &Settings) -> Result<Vec<String>, Failure> {
        Err("SEAM(hookstream-log::admin)".into())
    }

    /// How the topics differ from the settings, a line each.
    pub(crate) fn check_topics(&self, _settings: &Settings) -> Result<Vec<String>, Failure> {
        Err("SEAM(hookstream-log::admin)".into())
    }

    pub(crate) fn producer(&self, _topic: &str) -> Result<Producer, Failure> {
        Err("SEAM(hookstream-log producer)".into())
    }
}

impl Producer {
    /// Produces one event; returns before it is acknowledged, and waits while the queue is full.
    pub(crate) fn send(&mut self, _event: Event<'_>) -> Result<(), Failure> {
        Err("SEAM(hookstream-log producer)".into())
    }

    /// Waits until all are acknowledged.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        Err("SEAM(hookstream-log producer)".into())
    }
}
