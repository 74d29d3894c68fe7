//! What every service stands on before it works: topics that fit, and the configuration read to its end.

use std::sync::Arc;

use hookstream_log::KafkaSettings;
use hookstream_runtime::{Ctx, ServiceError};
use hookstream_settings::{Kafka, Problem, Settings};
use hookstream_wire::Topics;

use crate::envelope::Keyring;
use crate::follower::Follower;
use crate::topics;
use crate::writer::ConfigWriter;

/// The version of the records' formats that this program writes.
pub const FORMAT: u32 = 1;

/// The topics fit, and the view shows everything that was there at the start.
#[derive(Clone, Debug)]
pub struct Base {
    pub kafka: KafkaSettings,
    pub topics: Arc<Topics>,
    pub keyring: Arc<Keyring>,
    pub follower: Arc<Follower>,
    /// Partitions of each of hookstream's topics that have no count of their own.
    pub partitions: i32,
}

/// The topics were made for another partition count than the settings say.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{config}` says that this cluster was made with {made} partitions, and `topics.partitions` is {asked}: set it to \
     {made}; a webhook's jobs would come through two partitions otherwise"
)]
struct OtherPartitions {
    config: Arc<str>,
    made: i32,
    asked: i32,
}

impl Base {
    /// Waits for all of it, and says in the health component `configuration` what for. None: told to stop meanwhile.
    ///
    /// # Errors
    /// What no waiting mends: a key that can't be used, topics that do not fit.
    pub async fn ready(ctx: &Ctx) -> Result<Option<Self>, ServiceError> {
        let health = ctx.health.component("configuration");
        let settings = &ctx.settings;
        let topics = Arc::new(Topics::new(&settings.kafka.namespace, &settings.topics.retry_ladder));
        let kafka = kafka_settings(&settings.kafka);
        let keyring = keyring(settings).map_err(|problem| problem.to_string())?;
        tokio::select! {
            () = ctx.shutdown.cancelled() => return Ok(None),
            fit = topics::ready(settings, &kafka, |what| health.unready(what)) => fit?,
        }
        health.unready("reading the configuration");
        let follower = Arc::new(Follower::start(&kafka, &topics.config, Arc::clone(&keyring))?);
        tokio::select! {
            () = ctx.shutdown.cancelled() => return Ok(None),
            () = follower.caught_up() => {}
        }
        let partitions = partitions(settings);
        if let Some(made) = follower.partitions().filter(|made| *made != partitions) {
            return Err(
                OtherPartitions { config: Arc::clone(&topics.config), made, asked: partitions }.into()
            );
        }
        health.ready();
        Ok(Some(Self { kafka, topics, keyring, follower, partitions }))
    }

    /// A writer of this configuration.
    ///
    /// # Errors
    /// If the operating system gives no thread.
    pub fn writer(&self) -> std::io::Result<ConfigWriter> {
        let Self { kafka, topics, keyring, .. } = self;
        ConfigWriter::on_kafka(kafka.clone(), &topics.namespace, &topics.config, Arc::clone(keyring))
    }
}

/// A writer of the configuration that the settings name, for programs that are no service.
///
/// # Errors
/// If the operating system gives no thread. An absent broker is an answer to each write.
pub fn writer(settings: &Settings, keyring: Arc<Keyring>) -> std::io::Result<ConfigWriter> {
    let topics = Topics::new(&settings.kafka.namespace, &settings.topics.retry_ladder);
    ConfigWriter::on_kafka(kafka_settings(&settings.kafka), &topics.namespace, &topics.config, keyring)
}

/// The key-encryption keys that the settings name.
///
/// # Errors
/// A [`Problem`] if there is none that seals, or one of them is no key.
pub fn keyring(settings: &Settings) -> Result<Arc<Keyring>, Problem> {
    let keys = settings.secrets.key_encryption_keys()?;
    // They were looked at as they were read.
    let keyring =
        Keyring::from_keys(&keys).map_err(|error| Problem::new("secrets.key", error.to_string()))?;
    Ok(Arc::new(keyring))
}

/// The Kafka client's settings.
#[must_use]
pub fn kafka_settings(kafka: &Kafka) -> KafkaSettings {
    KafkaSettings {
        bootstrap_servers: kafka.bootstrap_servers.clone(),
        client_id: kafka.client_id.clone(),
        properties: kafka.exposed_properties(),
    }
}

/// As Kafka counts them.
#[must_use]
pub fn partitions(settings: &Settings) -> i32 {
    // The settings' bounds are far below.
    i32::try_from(settings.topics.partitions).unwrap_or(i32::MAX)
}
