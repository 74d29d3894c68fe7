//! What can go wrong before a log is there; afterwards nothing fails, it only takes longer.

/// Why there is no client, group or topic.
#[derive(Debug, thiserror::Error)]
pub enum KafkaError {
    /// librdkafka does not take a property.
    #[error("the Kafka property `{property}` can't be `{value}`: {reason}")]
    Property { property: String, value: String, reason: String },
    /// A property that is not the operator's to set.
    #[error("the Kafka property `{property}` is set by hookstream itself; remove it")]
    Reserved { property: String },
    /// Nobody answers.
    #[error("no broker of `{bootstrap_servers}` answers: {reason}")]
    NoBroker { bootstrap_servers: String, reason: String },
    /// A broker answered, with an error.
    #[error("Kafka refused to {action}: {reason}")]
    Refused { action: String, reason: String },
    /// The client could not be made.
    #[error("can't start a Kafka client")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The process can't make another thread.
    #[error("can't start the thread `{name}`")]
    Thread {
        name: String,
        #[source]
        source: std::io::Error,
    },
    /// A number that makes no sense.
    #[error("{0}")]
    Spec(String),
}

impl From<rdkafka::error::KafkaError> for KafkaError {
    fn from(error: rdkafka::error::KafkaError) -> Self {
        match error {
            rdkafka::error::KafkaError::ClientConfig(_, reason, property, value) => {
                let secret = ["password", "secret", ".pem", "key"].iter().any(|part| property.contains(part));
                let value = if secret { "…".to_owned() } else { value };
                let reason = if secret { "librdkafka does not take it".to_owned() } else { reason };
                Self::Property { property, value, reason }
            }
            other => Self::Client(Box::new(other)),
        }
    }
}
