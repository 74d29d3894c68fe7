//! Configuration files for `hookstream apply`.

use std::time::Duration;

use serde_json::{Value, json};

/// What a test applies. A file is YAML; JSON is YAML too.
#[derive(Clone, Debug, Default)]
pub struct Config {
    sources: Vec<Value>,
    event_types: Vec<Value>,
    webhooks: Vec<Value>,
}

/// A webhook of the account `default`.
#[derive(Clone, Debug)]
pub struct Webhook {
    pub name: String,
    pub url: String,
    pub event_types: Vec<String>,
    /// `whsec_…`
    pub secret: String,
    /// Delays before each attempt.
    pub retry: Vec<Duration>,
    pub timeout: Duration,
    pub concurrency: u32,
    /// Attempts per second.
    pub rate: Option<f64>,
}

impl Webhook {
    /// Gets every event; retries quickly, and often enough not to die of a takeover.
    #[must_use]
    pub fn new(name: &str, url: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            url: url.into(),
            event_types: vec!["*".to_owned()],
            secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned(),
            retry: [0, 300, 1000, 2000, 5000, 10_000, 10_000].map(Duration::from_millis).to_vec(),
            timeout: Duration::from_secs(5),
            concurrency: 16,
            rate: None,
        }
    }

    #[must_use]
    pub fn event_types(self, event_types: &[&str]) -> Self {
        Self { event_types: event_types.iter().map(|name| (*name).to_owned()).collect(), ..self }
    }

    /// Milliseconds before each attempt.
    #[must_use]
    pub fn retry_ms(self, delays: &[u64]) -> Self {
        Self { retry: delays.iter().copied().map(Duration::from_millis).collect(), ..self }
    }

    #[must_use]
    pub fn concurrency(self, concurrency: u32) -> Self {
        Self { concurrency, ..self }
    }

    fn to_json(&self) -> Value {
        let millis = |duration: &Duration| format!("{}ms", duration.as_millis());
        let mut webhook = json!({
            "name": self.name,
            "account": "default",
            "url": self.url,
            "event_types": self.event_types,
            "secrets": [self.secret],
            "retry": self.retry.iter().map(millis).collect::<Vec<_>>(),
            "timeout": millis(&self.timeout),
            "concurrency": self.concurrency,
        });
        if let Some(rate) = self.rate {
            webhook["rate"] = json!(rate);
        }
        webhook
    }
}

impl Config {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A source of CloudEvents.
    #[must_use]
    pub fn cloudevents(self, name: &str, topic: &str) -> Self {
        self.source(json!({ "name": name, "topics": [topic], "format": { "type": "cloudevents" } }))
    }

    /// A source as it stands in the file.
    #[must_use]
    pub fn source(mut self, source: Value) -> Self {
        self.sources.push(source);
        self
    }

    #[must_use]
    pub fn event_type(mut self, name: &str) -> Self {
        self.event_types.push(json!({ "name": name }));
        self
    }

    #[must_use]
    pub fn webhook(mut self, webhook: &Webhook) -> Self {
        self.webhooks.push(webhook.to_json());
        self
    }

    /// The file's text.
    #[must_use]
    pub fn to_file(&self) -> String {
        let file = json!({
            // No pings: receivers count requests, and many are to fail.
            "accounts": [{ "name": "default", "verification": "none" }],
            "sources": self.sources,
            "event_types": self.event_types,
            "webhooks": self.webhooks,
        });
        format!("{file:#}\n")
    }
}
