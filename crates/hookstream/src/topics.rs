//! `hookstream topics create|check`.

use std::process::ExitCode;

use hookstream_config::topics::specs;

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
        cluster.record(&settings)?;
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
