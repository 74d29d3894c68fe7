//! The names of hookstream's own topics and consumer groups.

use std::sync::Arc;

use hookstream_core::ladder::Ladder;

/// All topic names under one namespace (normally `hookstream`).
#[derive(Clone, Debug)]
pub struct Topics {
    pub namespace: Arc<str>,
    pub events: Arc<str>,
    pub rejected: Arc<str>,
    pub matched: Arc<str>,
    pub deliveries: Arc<str>,
    pub attempts: Arc<str>,
    pub audit: Arc<str>,
    pub dead_letter: Arc<str>,
    pub health: Arc<str>,
    pub config: Arc<str>,
    pub commands: Arc<str>,
    /// One per rung of the ladder, in its order.
    pub retry: Vec<Arc<str>>,
}

impl Topics {
    #[must_use]
    pub fn new(namespace: &str, ladder: &Ladder) -> Self {
        let name = |rest: &str| Arc::from(format!("{namespace}.{rest}"));
        Self {
            namespace: Arc::from(namespace),
            events: name("events"),
            rejected: name("rejected"),
            matched: name("matched"),
            deliveries: name("deliveries"),
            attempts: name("attempts"),
            audit: Self::audit_of(namespace),
            dead_letter: name("dead-letter"),
            health: name("health"),
            config: name("config"),
            commands: name("commands"),
            retry: ladder
                .rungs()
                .iter()
                .map(|rung| name(&format!("retry.{}", Ladder::label(*rung))))
                .collect(),
        }
    }

    /// The topic of the audit records, for who knows no more than the namespace.
    #[must_use]
    pub fn audit_of(namespace: &str) -> Arc<str> {
        Arc::from(format!("{namespace}.audit"))
    }

    /// A consumer group's name: `hookstream-sender`.
    #[must_use]
    pub fn group(&self, service: &str) -> String {
        format!("{}-{service}", self.namespace)
    }
}
