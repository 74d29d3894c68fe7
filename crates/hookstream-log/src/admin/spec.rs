//! A topic as it is to be, and how another one differs.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// What happens to old records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleanup {
    /// They are deleted after this long; none: never.
    Delete(Option<Duration>),
    /// The last one of each key stays.
    Compact,
}

/// A topic as it is to be.
#[derive(Clone, Debug)]
pub struct TopicSpec {
    pub name: String,
    pub partitions: i32,
    pub replication_factor: i32,
    pub min_insync_replicas: i32,
    pub cleanup: Cleanup,
    /// The broker stamps records with its own clock (`LogAppendTime`).
    pub log_append_time: bool,
    /// Of a batch of records.
    pub max_message_bytes: usize,
    /// Further configuration, for a topic that is made; not compared.
    pub extra: Vec<(String, String)>,
}

impl TopicSpec {
    pub(super) fn configuration(&self) -> Vec<(String, String)> {
        let mut configuration = vec![
            ("min.insync.replicas".to_owned(), self.min_insync_replicas.to_string()),
            ("max.message.bytes".to_owned(), self.max_message_bytes.to_string()),
            ("compression.type".to_owned(), "producer".to_owned()),
            ("unclean.leader.election.enable".to_owned(), "false".to_owned()),
        ];
        let mut set = |name: &str, value: String| configuration.push((name.to_owned(), value));
        let timestamps = if self.log_append_time { "LogAppendTime" } else { "CreateTime" };
        set("message.timestamp.type", timestamps.to_owned());
        match self.cleanup {
            Cleanup::Compact => set("cleanup.policy", "compact".to_owned()),
            Cleanup::Delete(retention) => {
                set("cleanup.policy", "delete".to_owned());
                set(
                    "retention.ms",
                    retention.map_or_else(|| "-1".to_owned(), |time| time.as_millis().to_string()),
                );
            }
        }
        configuration.extend(self.extra.iter().cloned());
        configuration
    }

    /// How a topic with these partitions and this configuration differs.
    pub(super) fn compare(&self, partitions: i32, found: &BTreeMap<String, String>) -> Vec<Difference> {
        let mut differences = Vec::new();
        let mut differ = |what| differences.push(Difference { topic: self.name.clone(), what });
        if partitions != self.partitions {
            differ(What::Partitions { needed: self.partitions, found: partitions });
        }
        let text = |name: &str| found.get(name).map_or("", String::as_str);
        let number = |name: &str| found.get(name).and_then(|value| value.parse::<i64>().ok());

        let append_time = text("message.timestamp.type") == "LogAppendTime";
        if self.log_append_time && !append_time {
            differ(What::NotLogAppendTime);
        }
        let cleanup = text("cleanup.policy");
        let compacts = cleanup.split(',').any(|policy| policy.trim() == "compact");
        let deletes = cleanup.split(',').any(|policy| policy.trim() == "delete");
        match self.cleanup {
            Cleanup::Compact if !compacts || deletes => {
                differ(What::Cleanup { needed: "compact", found: cleanup.to_owned() });
            }
            Cleanup::Delete(_) if compacts => {
                differ(What::Cleanup { needed: "delete", found: cleanup.to_owned() });
            }
            Cleanup::Compact => {}
            Cleanup::Delete(needed) => {
                let kept = number("retention.ms").filter(|kept| *kept >= 0);
                if let Some(kept) = kept {
                    let kept = Duration::from_millis(u64::try_from(kept).unwrap_or(0));
                    if needed.is_none_or(|needed| kept < needed) {
                        differ(What::Retention { needed, found: kept });
                    }
                }
                if let Some(bytes) = number("retention.bytes").filter(|bytes| *bytes >= 0) {
                    differ(What::RetentionBytes { found: bytes });
                }
            }
        }
        let needed = i64::try_from(self.max_message_bytes).unwrap_or(i64::MAX);
        if let Some(found) = number("max.message.bytes").filter(|found| *found < needed) {
            differ(What::MaxMessageBytes { needed, found });
        }
        let needed = i64::from(self.min_insync_replicas);
        if let Some(found) = number("min.insync.replicas").filter(|found| *found < needed) {
            differ(What::MinInsyncReplicas { needed, found });
        }
        differences
    }
}

/// How a topic differs from what is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub topic: String,
    pub what: What,
}

/// See [`Difference`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Missing,
    Partitions {
        needed: i32,
        found: i32,
    },
    NotLogAppendTime,
    Cleanup {
        needed: &'static str,
        found: String,
    },
    /// It keeps records too short; none needed: for ever.
    Retention {
        needed: Option<Duration>,
        found: Duration,
    },
    /// It deletes by size, so how long it keeps a record is anybody's guess.
    RetentionBytes {
        found: i64,
    },
    MaxMessageBytes {
        needed: i64,
        found: i64,
    },
    MinInsyncReplicas {
        needed: i64,
        found: i64,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "topic `{}` ", self.topic)?;
        match &self.what {
            What::Missing => write!(f, "does not exist"),
            What::Partitions { needed, found } => write!(f, "has {found} partitions, not {needed}"),
            What::NotLogAppendTime => write!(f, "has `message.timestamp.type` CreateTime, not LogAppendTime"),
            What::Cleanup { needed, found } => write!(f, "has `cleanup.policy` {found}, not {needed}"),
            What::Retention { needed: Some(needed), found } => {
                write!(f, "keeps records for {found:?}, less than {needed:?}: raise `retention.ms`")
            }
            What::Retention { needed: None, found } => {
                write!(f, "keeps records for {found:?}, not for ever: set `retention.ms` to -1")
            }
            What::RetentionBytes { found } => {
                write!(f, "deletes records beyond {found} bytes: set `retention.bytes` to -1")
            }
            What::MaxMessageBytes { needed, found } => {
                write!(f, "has `max.message.bytes` {found}, less than {needed}")
            }
            What::MinInsyncReplicas { needed, found } => {
                write!(f, "has `min.insync.replicas` {found}, less than {needed}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(cleanup: Cleanup) -> TopicSpec {
        TopicSpec {
            name: "t".to_owned(),
            partitions: 4,
            replication_factor: 3,
            min_insync_replicas: 2,
            cleanup,
            log_append_time: true,
            max_message_bytes: 1000,
            extra: Vec::new(),
        }
    }

    fn as_made(spec: &TopicSpec) -> BTreeMap<String, String> {
        spec.configuration().into_iter().collect()
    }

    #[test]
    fn a_topic_as_made_does_not_differ() {
        for cleanup in
            [Cleanup::Compact, Cleanup::Delete(None), Cleanup::Delete(Some(Duration::from_secs(60)))]
        {
            let spec = spec(cleanup);
            assert_eq!(spec.compare(4, &as_made(&spec)), Vec::new(), "{cleanup:?}");
        }
    }

    #[test]
    fn each_difference_is_told() {
        let spec = spec(Cleanup::Delete(Some(Duration::from_secs(60))));
        let mut found = as_made(&spec);
        for (name, value) in [
            ("message.timestamp.type", "CreateTime"),
            ("retention.ms", "59999"),
            ("retention.bytes", "1000"),
            ("max.message.bytes", "999"),
            ("min.insync.replicas", "1"),
        ] {
            found.insert(name.to_owned(), value.to_owned());
        }
        let told: Vec<String> = spec.compare(3, &found).iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "topic `t` has 3 partitions, not 4",
                "topic `t` has `message.timestamp.type` CreateTime, not LogAppendTime",
                "topic `t` keeps records for 59.999s, less than 60s: raise `retention.ms`",
                "topic `t` deletes records beyond 1000 bytes: set `retention.bytes` to -1",
                "topic `t` has `max.message.bytes` 999, less than 1000",
                "topic `t` has `min.insync.replicas` 1, less than 2",
            ]
        );
        found.insert("cleanup.policy".to_owned(), "compact".to_owned());
        assert!(spec.compare(4, &found).iter().any(|d| matches!(d.what, What::Cleanup { .. })));
    }
}
