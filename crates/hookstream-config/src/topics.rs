//! The shape of hookstream's own topics, and what a service checks of it before it works.
//!
//! A service that is wrong about them does harm: with another partition count a webhook's jobs would come through
//! two partitions, without `LogAppendTime` nothing is ever due, with a short retention jobs are lost.

use std::time::Duration;

use hookstream_log::admin::{Admin, Cleanup, Difference, TopicSpec, What};
use hookstream_log::{KafkaError, KafkaSettings};
use hookstream_settings::Settings;
use hookstream_types::limits::MAX_RECORD_BYTES;
use hookstream_wire::Topics;

/// How often topics that are not there are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A configuration record that was overwritten stays this long, so that a writer which lost its answer finds it.
const COMPACTION_LAG: Duration = Duration::from_secs(600);

/// The topics are there, and not as the settings say.
#[derive(Debug, thiserror::Error)]
#[error("the topics are not as the settings say: mend them, or the settings{}", list(.differences))]
pub struct Unfit {
    pub differences: Vec<Difference>,
}

/// Why a service does not start.
#[derive(Debug, thiserror::Error)]
pub enum NotFit {
    #[error(transparent)]
    Unfit(#[from] Unfit),
    #[error(transparent)]
    Kafka(#[from] KafkaError),
}

fn list(differences: &[Difference]) -> String {
    differences.iter().map(|difference| format!("\n  - {difference}")).collect()
}

/// All of hookstream's own topics as the settings want them.
#[must_use]
pub fn specs(settings: &Settings) -> Vec<TopicSpec> {
    let shape = &settings.topics;
    let names = Topics::new(&settings.kafka.namespace, &shape.retry_ladder);
    let spec = |name: &str, partitions: u32, cleanup| TopicSpec {
        name: name.to_owned(),
        partitions: signed(partitions),
        replication_factor: signed(shape.replication_factor),
        min_insync_replicas: signed(shape.min_insync_replicas),
        cleanup,
        // Whoever waits or remembers by time goes by the broker's clock.
        log_append_time: true,
        max_message_bytes: MAX_RECORD_BYTES,
        extra: Vec::new(),
    };
    let kept = |retention: Duration| Cleanup::Delete(Some(retention));
    let lag = ("min.compaction.lag.ms".to_owned(), COMPACTION_LAG.as_millis().to_string());
    let mut specs = vec![
        // Commands are referred to by offset, configuration by position, audit records stand in its order: each of
        // these has one partition.
        TopicSpec { extra: vec![lag], ..spec(&names.config, 1, Cleanup::Compact) },
        spec(&names.audit, 1, kept(shape.audit_retention)),
        spec(&names.commands, 1, kept(shape.attempts_retention)),
        spec(&names.events, shape.partitions, kept(shape.events_retention)),
        spec(&names.rejected, shape.partitions, kept(shape.events_retention)),
        spec(&names.matched, shape.partitions, kept(shape.events_retention)),
        spec(&names.deliveries, shape.partitions, kept(shape.deliveries_retention)),
        spec(&names.attempts, shape.partitions, kept(shape.attempts_retention)),
        spec(&names.health, shape.partitions, Cleanup::Compact),
        spec(&names.dead_letter, shape.partitions, kept(shape.dead_letter_retention)),
    ];
    specs.extend(
        names.retry.iter().map(|name| spec(name, shape.retry_partitions, kept(shape.retry_retention))),
    );
    specs
}

/// The settings' bounds are far below.
fn signed(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// Returns when all topics are there and fit to work with. `say` hears what is waited for.
///
/// # Errors
/// [`NotFit`] if a topic is there and not as the settings say. Fewer in-sync replicas than wanted are an operator's
/// choice, and only logged.
pub async fn ready(
    settings: &Settings,
    kafka: &KafkaSettings,
    mut say: impl FnMut(String),
) -> Result<(), NotFit> {
    let admin = Admin::new(kafka)?;
    let specs = specs(settings);
    let mut said = String::new();
    loop {
        let waiting = match admin.check(&specs).await {
            Ok(differences) => match judge(differences)? {
                None => return Ok(()),
                Some(missing) => missing,
            },
            Err(error @ (KafkaError::NoBroker { .. } | KafkaError::Refused { .. })) => error.to_string(),
            Err(error) => return Err(error.into()),
        };
        if waiting != said {
            tracing::warn!("{waiting}");
            say(waiting.clone());
            said = waiting;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What to wait for; none: nothing.
fn judge(differences: Vec<Difference>) -> Result<Option<String>, Unfit> {
    let (missing, present): (Vec<_>, Vec<_>) =
        differences.into_iter().partition(|difference| matches!(difference.what, What::Missing));
    let (weak, unfit): (Vec<_>, Vec<_>) =
        present.into_iter().partition(|difference| matches!(difference.what, What::MinInsyncReplicas { .. }));
    if !unfit.is_empty() {
        return Err(Unfit { differences: unfit });
    }
    if missing.is_empty() {
        for difference in weak {
            tracing::warn!("{difference}");
        }
        return Ok(None);
    }
    let names: Vec<String> = missing.iter().map(|difference| format!("`{}`", difference.topic)).collect();
    Ok(Some(format!(
        "waiting for the topics {}: make them with `hookstream topics create`",
        names.join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use hookstream_settings::Map;

    use super::*;

    fn difference(what: What) -> Difference {
        Difference { topic: "hookstream.deliveries".to_owned(), what }
    }

    #[test]
    fn the_topics_of_the_defaults() {
        let settings = Settings::load_without_key(None, Map::new()).unwrap();
        let shown: Vec<_> = specs(&settings)
            .iter()
            .map(|spec| format!("{} {} {:?}", spec.name, spec.partitions, spec.cleanup))
            .collect();
        insta::assert_snapshot!(shown.join("\n"));
    }

    #[test]
    fn what_stops_a_service_and_what_it_waits_for() {
        assert!(matches!(judge(vec![]), Ok(None)));
        assert!(matches!(judge(vec![difference(What::MinInsyncReplicas { needed: 2, found: 1 })]), Ok(None)));
        let waiting = judge(vec![difference(What::Missing)]).unwrap().unwrap();
        assert!(waiting.contains("hookstream topics create"), "{waiting}");
        let unfit = judge(vec![
            difference(What::Missing),
            difference(What::Partitions { needed: 64, found: 8 }),
            difference(What::NotLogAppendTime),
        ])
        .unwrap_err();
        assert_eq!(unfit.differences.len(), 2);
        assert!(unfit.to_string().contains("hookstream.deliveries"), "{unfit}");
    }
}
