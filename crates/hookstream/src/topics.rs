//! `hookstream topics create|check`, and the shape of hookstream's own topics.

use std::process::ExitCode;
use std::time::Duration;

use hookstream_log::admin::{Cleanup, TopicSpec};
use hookstream_settings::Settings;
use hookstream_types::limits::MAX_RECORD_BYTES;
use hookstream_wire::Topics;

use crate::args::{TopicsArgs, TopicsCommand};
use crate::cluster::{Cluster, failure};
use crate::failure::{EXIT_FAILURE, Failure};

pub(crate) fn run(args: &TopicsArgs) -> Result<ExitCode, Failure> {
    let (TopicsCommand::Create(cluster) | TopicsCommand::Check(cluster)) = &args.command;
    let settings = cluster.settings()?;
    let specs = specs(&settings);
    let cluster = Cluster::connect(&settings)?;
    if let TopicsCommand::Create(_) = args.command {
        eprintln!("creating what is missing of {} topics", specs.len());
        for topic in cluster.create_topics(&specs).map_err(failure)? {
            println!("created `{topic}`");
        }
    }
    let differences = cluster.check_topics(&specs)?;
    if differences.is_empty() {
        println!("all {} topics are as the settings say", specs.len());
        return Ok(ExitCode::SUCCESS);
    }
    for difference in differences {
        println!("{difference}");
    }
    Ok(ExitCode::from(EXIT_FAILURE))
}

/// All of hookstream's own topics as the settings want them.
pub(crate) fn specs(settings: &Settings) -> Vec<TopicSpec> {
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
    let mut specs = vec![
        // Commands are referred to by offset, configuration by position: both have one partition.
        spec(&names.config, 1, Cleanup::Compact),
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

#[cfg(test)]
mod tests {
    use hookstream_settings::Map;

    use super::*;

    #[test]
    fn the_topics_of_the_defaults() {
        let settings = Settings::load_without_key(None, Map::new()).unwrap();
        let shown: Vec<_> = specs(&settings)
            .iter()
            .map(|spec| format!("{} {} {:?}", spec.name, spec.partitions, spec.cleanup))
            .collect();
        insta::assert_snapshot!(shown.join("\n"));
    }
}
