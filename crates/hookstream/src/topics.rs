//! `hookstream topics create|check`.

use std::process::ExitCode;

use crate::args::{TopicsArgs, TopicsCommand};
use crate::cluster::Cluster;
use crate::failure::{EXIT_FAILURE, Failure};

pub(crate) fn run(args: &TopicsArgs) -> Result<ExitCode, Failure> {
    let (TopicsCommand::Create(cluster) | TopicsCommand::Check(cluster)) = &args.command;
    let settings = cluster.settings()?;
    let cluster = Cluster::connect(&settings)?;
    if let TopicsCommand::Create(_) = args.command {
        for topic in cluster.create_topics(&settings)? {
            println!("created `{topic}`");
        }
    }
    let differences = cluster.check_topics(&settings)?;
    if differences.is_empty() {
        println!("all topics are as the settings say");
        return Ok(ExitCode::SUCCESS);
    }
    for difference in differences {
        println!("{difference}");
    }
    Ok(ExitCode::from(EXIT_FAILURE))
}
