//! `kafka`: which cluster, and under which names.

use std::collections::BTreeMap;

use hookstream_types::SecretString;
use serde::{Deserialize, Serialize, Serializer};

use crate::Problem;
use crate::values::{REDACTED, comma_joined};

/// Which cluster, and under which names.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Kafka {
    /// `HOST:PORT`, with commas between.
    #[serde(deserialize_with = "comma_joined")]
    pub bootstrap_servers: String,
    /// First part of the names of topics and groups.
    pub namespace: String,
    pub client_id: String,
    /// Raw librdkafka properties; passwords among them.
    #[serde(serialize_with = "redacted")]
    pub properties: BTreeMap<String, SecretString>,
}

/// Kafka's longest topic name is 249; `.retry.` and a rung's label take up to 20 of it, pattern and group names less.
const MAX_NAMESPACE: usize = 200;

/// What hookstream's promises rest on, and it therefore sets itself.
const OWN_PROPERTIES: &[&str] = &[
    "acks",
    "auto.offset.reset",
    "bootstrap.servers",
    "client.id",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "group.protocol",
    "heartbeat.interval.ms",
    "isolation.level",
    "max.poll.interval.ms",
    "message.max.bytes",
    "metadata.broker.list",
    "partition.assignment.strategy",
    "partitioner",
    "request.required.acks",
    "session.timeout.ms",
    "transactional.id",
];

impl Kafka {
    /// The raw properties, exposed, for the Kafka client.
    #[must_use]
    pub fn exposed_properties(&self) -> Vec<(String, String)> {
        self.properties.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())).collect()
    }

    pub(crate) fn check(&self, problems: &mut Vec<Problem>) {
        let servers = &self.bootstrap_servers;
        if servers.is_empty() || !servers.split(',').all(is_host_port) {
            let message = "must be HOST:PORT, several with commas between: `kafka-1:9092,kafka-2:9092`";
            problems.push(Problem::new("kafka.bootstrap_servers", message).with_value(servers));
        }
        let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let namespace = &self.namespace;
        let starts_well = namespace.starts_with(|c: char| c.is_ascii_alphanumeric());
        if !starts_well || namespace.len() > MAX_NAMESPACE || !namespace.chars().all(is_legal) {
            let message = format!(
                "must begin with a letter or digit and have up to {MAX_NAMESPACE} letters, digits, `.`, `_` and `-`: \
                 topics are named after it"
            );
            problems.push(Problem::new("kafka.namespace", message).with_value(namespace));
        }
        if self.client_id.is_empty() {
            problems
                .push(Problem::new("kafka.client_id", "must not be empty; leave it out for `hookstream`"));
        }
        for name in self.properties.keys().filter(|name| OWN_PROPERTIES.contains(&name.as_str())) {
            let message = format!("hookstream sets `{name}` itself, its promises rest on it; remove it");
            problems.push(Problem::new("kafka.properties", message));
        }
    }
}

fn is_host_port(server: &str) -> bool {
    server.rsplit_once(':').is_some_and(|(host, port)| {
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let is_host = !host.is_empty() && !host.contains(['/', ' ']) && (bracketed || !host.contains(':'));
        is_host && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

fn redacted<S: Serializer>(
    properties: &BTreeMap<String, SecretString>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(properties.keys().map(|name| (name, REDACTED)))
}
