//! `hookstream topics create|check`.

use std::process::ExitCode;
use std::sync::Arc;

use hookstream_config::base::writer;
use hookstream_config::topics::specs;
use hookstream_config::{Keyring, os_random};

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
        // It seals nothing, so that it needs no key.
        let writer = writer(&settings, Arc::new(Keyring::blind(&mut os_random)))?;
        cluster.record(&settings, &writer)?;
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
