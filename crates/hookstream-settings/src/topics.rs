//! `topics`: the shape of hookstream's own topics.

use std::time::Duration;

use hookstream_core::ladder::Ladder;
use hookstream_core::schedule::RetrySchedule;
use serde::{Deserialize, Serialize};

use crate::Problem;
use crate::values::{duration, format_duration, ladder};

/// The shape of hookstream's own topics.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TopicSettings {
    /// Of events, deliveries and what belongs to them.
    pub partitions: u32,
    /// Of each retry topic.
    pub retry_partitions: u32,
    pub replication_factor: u32,
    pub min_insync_replicas: u32,
    #[serde(with = "ladder")]
    pub retry_ladder: Ladder,
    #[serde(with = "duration")]
    pub events_retention: Duration,
    #[serde(with = "duration")]
    pub deliveries_retention: Duration,
    #[serde(with = "duration")]
    pub attempts_retention: Duration,
    #[serde(with = "duration")]
    pub retry_retention: Duration,
    #[serde(with = "duration")]
    pub dead_letter_retention: Duration,
    #[serde(with = "duration")]
    pub audit_retention: Duration,
}

/// More would cost brokers and start-up time more than they bring.
const MAX_PARTITIONS: u32 = 4096;
/// Kafka counts replicas in 16 bits; nobody has more.
const MAX_REPLICAS: u32 = 15;
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Kafka counts `retention.ms` in a signed 64-bit number; a hundred years are enough.
const MAX_RETENTION: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

impl TopicSettings {
    /// How long a delivery may have to wait: the default schedule with all of its jitter (a tenth), and an outage
    /// of a day; rounded up to the hour.
    #[must_use]
    pub fn shortest_retention() -> Duration {
        let schedule = RetrySchedule::default().total();
        let wait = schedule + schedule / 10 + DAY;
        Duration::from_secs(wait.as_secs().div_ceil(3600) * 3600)
    }

    pub(crate) fn check(&self, problems: &mut Vec<Problem>) {
        for (key, count) in [("partitions", self.partitions), ("retry_partitions", self.retry_partitions)] {
            if !(1..=MAX_PARTITIONS).contains(&count) {
                let message = format!("must be 1 to {MAX_PARTITIONS}");
                problems.push(Problem::new(format!("topics.{key}"), message).with_value(count));
            }
        }
        if !(1..=MAX_REPLICAS).contains(&self.replication_factor) {
            let message = format!("must be 1 to {MAX_REPLICAS}, and no more than there are brokers");
            problems
                .push(Problem::new("topics.replication_factor", message).with_value(self.replication_factor));
        }
        if !(1..=self.replication_factor.max(1)).contains(&self.min_insync_replicas) {
            let message = format!(
                "must be 1 to `topics.replication_factor` ({}), else nothing could be written",
                self.replication_factor
            );
            problems.push(
                Problem::new("topics.min_insync_replicas", message).with_value(self.min_insync_replicas),
            );
        }
        let shortest = Self::shortest_retention();
        // A record lies on its rung for the rung's time, and longer in an outage.
        let longest_rung = self.retry_ladder.rungs().last().copied().unwrap_or_default();
        let shortest_retry = shortest.max(longest_rung + DAY);
        for (key, retention, least, why) in [
            ("events_retention", self.events_retention, DAY, "events would be lost in an outage of a day"),
            ("deliveries_retention", self.deliveries_retention, shortest, "waiting deliveries would be lost"),
            ("attempts_retention", self.attempts_retention, shortest, "decisions would be forgotten"),
            ("retry_retention", self.retry_retention, shortest_retry, "waiting deliveries would be lost"),
            ("dead_letter_retention", self.dead_letter_retention, DAY, "nobody could redrive them in time"),
            ("audit_retention", self.audit_retention, DAY, "nobody could see in time who changed what"),
        ] {
            if !(least..=MAX_RETENTION).contains(&retention) {
                let (least, most) = (format_duration(least), format_duration(MAX_RETENTION));
                let message = if retention < Duration::from_secs(1) || retention > MAX_RETENTION {
                    format!("must be {least} to {most}")
                } else {
                    format!("must be {least} or more: {why}")
                };
                let value = format_duration(retention);
                problems.push(Problem::new(format!("topics.{key}"), message).with_value(value));
            }
        }
    }
}
