//! `hookstream apply`: makes the configuration match a file, and shows the difference.

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;
use std::process::ExitCode;

use hookstream_config::apply::{Options, diff};
use hookstream_config::base::{kafka_settings, keyring};
use hookstream_config::manifest::resolve_from_system;
use hookstream_config::{ConfigWriter, Manifest, WriteError, os_random};
use hookstream_runtime::Clock;
use hookstream_settings::Settings;
use hookstream_wire::Topics;

use crate::args::ApplyArgs;
use crate::cluster::Cluster;
use crate::failure::{EXIT_DIFFERS, Failure};

/// Who made the change, in the configuration's records.
const ACTOR: &str = "hookstream apply";

pub(crate) fn run(args: &ApplyArgs) -> Result<ExitCode, Failure> {
    let settings = args.cluster.settings_with_key(&args.data_dir)?;
    let manifest = manifest(&args.file)?;
    let (cluster, writer) = writer(&settings)?;
    cluster.block_on(apply(args, writer, manifest))
}

/// The cluster, and the writer of its configuration.
pub(crate) fn writer(settings: &Settings) -> Result<(Cluster, ConfigWriter), Failure> {
    let keyring = keyring(settings).map_err(|problem| Failure::Settings(vec![problem]))?;
    let names = Topics::new(&settings.kafka.namespace, &settings.topics.retry_ladder);
    let cluster = Cluster::connect(settings)?;
    for topic in [&names.config, &names.audit] {
        if !cluster.has_topic(topic)? {
            let message = format!("there is no topic `{topic}`; `hookstream topics create` makes it");
            return Err(Failure::Other(message.into()));
        }
    }
    let writer =
        ConfigWriter::on_kafka(kafka_settings(&settings.kafka), &names.namespace, &names.config, keyring)?;
    Ok((cluster, writer))
}

async fn apply(args: &ApplyArgs, writer: ConfigWriter, manifest: Manifest) -> Result<ExitCode, Failure> {
    let options = Options { prune: args.prune, now: Clock::start().wall() };
    let plan = writer.read(move |state| diff(state, &manifest, options, &mut os_random)).await;
    let mut plan = plan.map_err(failure)?.map_err(|problems| unfit(&args.file, &problems))?;
    print!("{}", plan.render());
    if plan.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    if args.dry_run {
        eprintln!("nothing was changed (--dry-run)");
        return Ok(ExitCode::from(EXIT_DIFFERS));
    }
    let generated = std::mem::take(&mut plan.generated);
    plan.execute(&writer, ACTOR).await.map_err(failure)?;
    println!("applied");
    for (webhook, secret) in generated {
        println!("the signing secret of {webhook}, shown only now: {}", secret.expose());
    }
    Ok(ExitCode::SUCCESS)
}

/// Applies a text of our own, and says nothing.
pub(crate) async fn quietly(
    writer: &ConfigWriter,
    name: &str,
    text: &str,
    actor: &str,
) -> Result<(), Failure> {
    let resolve = resolve_from_system(Path::new(""));
    let manifest = Manifest::parse(text, &resolve).map_err(|problems| unfit(Path::new(name), &problems))?;
    let options = Options { prune: false, now: Clock::start().wall() };
    let plan = writer.read(move |state| diff(state, &manifest, options, &mut os_random)).await;
    let plan = plan.map_err(failure)?.map_err(|problems| unfit(Path::new(name), &problems))?;
    if !plan.is_empty() {
        plan.execute(writer, actor).await.map_err(failure)?;
    }
    Ok(())
}

fn manifest(file: &Path) -> Result<Manifest, Failure> {
    let is_stdin = file.as_os_str() == "-";
    let mut text = String::new();
    let read = if is_stdin {
        io::stdin().lock().read_to_string(&mut text).map(drop)
    } else {
        fs::read_to_string(file).map(|read| text = read)
    };
    read.map_err(|error| Failure::usage(format!("could not read `{}`: {error}", file.display())))?;
    let base = if is_stdin { None } else { file.parent() };
    let resolve = resolve_from_system(base.unwrap_or_else(|| Path::new("")));
    Manifest::parse(&text, &resolve).map_err(|problems| unfit(file, &problems))
}

fn unfit(file: &Path, problems: &[hookstream_config::ManifestProblem]) -> Failure {
    let list: String = problems.iter().map(|problem| format!("\n  - {problem}")).collect();
    Failure::usage(format!("`{}` can't be applied:{list}", file.display()))
}

pub(crate) fn failure(error: WriteError) -> Failure {
    match error {
        WriteError::Unavailable { .. } => Failure::Unavailable(error.into()),
        WriteError::Refused(ref refused) if refused.is_conflict() => Failure::Other(
            format!("{error}; somebody changed it meanwhile: look at the difference again").into(),
        ),
        WriteError::Refused(_) | WriteError::OutcomeUnknown { .. } => Failure::Other(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_file_with_mistakes_is_a_usage_error_that_lists_them() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "webhooks:\n  - name: a\n    surprise: 1\nnothing: {{}}").unwrap();
        let Failure::Usage(error) = manifest(file.path()).unwrap_err() else { panic!("no usage error") };
        assert!(error.to_string().contains("can't be applied:\n  - "), "{error}");
        assert!(matches!(manifest(Path::new("/nowhere")), Err(Failure::Usage(_))));
    }
}
