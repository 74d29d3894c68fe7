//! The settings of topics: those that mean something here, and those that are kept because clients ask for them.

use std::collections::BTreeMap;

use crate::log::LogConfig;

/// What was set of a topic, by name.
pub(crate) type Configs = BTreeMap<String, String>;

/// What a setting's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Boolean,
    Int,
    Long,
    Double,
    Text,
    List,
}

impl Kind {
    /// The type's number in DescribeConfigs (KIP-569).
    pub(crate) fn number(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::Text => 2,
            Self::Int => 3,
            Self::Long => 5,
            Self::Double => 6,
            Self::List => 7,
        }
    }
}

/// A setting that topics have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Definition {
    pub name: &'static str,
    pub default: &'static str,
    pub kind: Kind,
    /// Values that are allowed; empty: any of the kind.
    allowed: &'static [&'static str],
}

const fn definition(name: &'static str, default: &'static str, kind: Kind) -> Definition {
    Definition { name, default, kind, allowed: &[] }
}

/// Kafka's topic settings with Kafka's defaults. Those about replicas, indexes and remote storage mean nothing here.
pub(crate) const DEFINITIONS: &[Definition] = &[
    Definition {
        allowed: &["delete", "compact", "delete,compact", "compact,delete"],
        ..definition("cleanup.policy", "delete", Kind::List)
    },
    Definition {
        allowed: &["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"],
        ..definition("compression.type", "producer", Kind::Text)
    },
    definition("delete.retention.ms", "86400000", Kind::Long),
    definition("file.delete.delay.ms", "60000", Kind::Long),
    definition("flush.messages", "9223372036854775807", Kind::Long),
    definition("flush.ms", "9223372036854775807", Kind::Long),
    definition("index.interval.bytes", "4096", Kind::Int),
    definition("max.compaction.lag.ms", "9223372036854775807", Kind::Long),
    definition("max.message.bytes", "1048588", Kind::Int),
    definition("message.timestamp.after.max.ms", "9223372036854775807", Kind::Long),
    definition("message.timestamp.before.max.ms", "9223372036854775807", Kind::Long),
    Definition {
        allowed: &["CreateTime", "LogAppendTime"],
        ..definition("message.timestamp.type", "CreateTime", Kind::Text)
    },
    definition("min.cleanable.dirty.ratio", "0.5", Kind::Double),
    definition("min.compaction.lag.ms", "0", Kind::Long),
    definition("min.insync.replicas", "1", Kind::Int),
    definition("preallocate", "false", Kind::Boolean),
    definition("retention.bytes", "-1", Kind::Long),
    definition("retention.ms", "604800000", Kind::Long),
    definition("segment.bytes", "1073741824", Kind::Int),
    definition("segment.index.bytes", "10485760", Kind::Int),
    definition("segment.jitter.ms", "0", Kind::Long),
    definition("segment.ms", "604800000", Kind::Long),
    definition("unclean.leader.election.enable", "false", Kind::Boolean),
];

/// Says what is wrong with a setting, if anything is.
pub(crate) fn check(name: &str, value: &str) -> Result<(), String> {
    let Some(definition) = DEFINITIONS.iter().find(|definition| definition.name == name) else {
        return Err(format!("unknown topic config name: {name}"));
    };
    let fits = match definition.kind {
        Kind::Boolean => matches!(value, "true" | "false"),
        Kind::Int => value.parse::<i32>().is_ok(),
        Kind::Long => value.parse::<i64>().is_ok(),
        Kind::Double => value.parse::<f64>().is_ok_and(f64::is_finite),
        Kind::Text | Kind::List => definition.allowed.is_empty() || definition.allowed.contains(&value),
    };
    if !fits {
        let allowed = match definition.allowed {
            [] => format!("a value of type {:?}", definition.kind),
            allowed => format!("one of {}", allowed.join(", ")),
        };
        return Err(format!("invalid value {value} for configuration {name}: {allowed} is needed"));
    }
    let least = match name {
        "max.message.bytes" | "min.insync.replicas" => 0,
        // Smaller ones would make a file for each batch.
        "segment.bytes" => 14,
        _ => i64::MIN,
    };
    if value.parse::<i64>().is_ok_and(|value| value < least) {
        return Err(format!("invalid value {value} for configuration {name}: {least} is the least"));
    }
    Ok(())
}

/// What the log of a partition is to do. The settings were checked.
pub(crate) fn log_config(configs: &Configs) -> LogConfig {
    let text = |name: &str| {
        let default = || {
            let found = DEFINITIONS.iter().find(|definition| definition.name == name);
            found.map(|definition| definition.default).unwrap_or_default()
        };
        configs.get(name).map_or_else(default, String::as_str)
    };
    let number = |name: &str| text(name).parse::<i64>().unwrap_or(i64::MAX);
    let bounded = |name: &str| Some(number(name)).filter(|value| *value >= 0);
    let policy = text("cleanup.policy");
    LogConfig {
        segment_bytes: u64::try_from(number("segment.bytes")).unwrap_or(u64::MAX),
        segment_ms: number("segment.ms"),
        retention_ms: bounded("retention.ms"),
        retention_bytes: bounded("retention.bytes").and_then(|bytes| u64::try_from(bytes).ok()),
        cleanup_delete: policy.contains("delete"),
        cleanup_compact: policy.contains("compact"),
        max_message_bytes: usize::try_from(number("max.message.bytes")).unwrap_or(usize::MAX),
        delete_retention_ms: number("delete.retention.ms"),
        min_compaction_lag_ms: number("min.compaction.lag.ms"),
        log_append_time: text("message.timestamp.type") == "LogAppendTime",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_value_and_the_logs_own() {
        for definition in DEFINITIONS {
            check(definition.name, definition.default).unwrap();
        }
        assert_eq!(log_config(&Configs::new()), LogConfig::default());
    }

    #[test]
    fn what_is_no_setting_is_said() {
        for (name, value, part) in [
            ("retention", "1", "unknown"),
            ("retention.ms", "soon", "type Long"),
            ("cleanup.policy", "burn", "one of delete"),
            ("max.message.bytes", "-1", "0 is the least"),
        ] {
            let error = check(name, value).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
