//! `hookstream dev`: all services in one process, with one registry and one operations port.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hookstream_config::topics;
use hookstream_log::KafkaError;
use hookstream_log::admin::What;
use hookstream_runtime::{Ctx, ServiceError, spawn};
use hookstream_settings::Settings;
use tokio::task::JoinSet;

use crate::args::DevArgs;
use crate::cluster::{Cluster, failure};
use crate::failure::Failure;

/// The file in the data directory that has the key.
const KEY_FILE: &str = "key";
/// How often what isn't ready yet is named.
const PROGRESS: Duration = Duration::from_secs(5);

pub(crate) fn run(args: &DevArgs) -> Result<ExitCode, Failure> {
    let mut settings = args.cluster.settings()?;
    // What a developer's webhooks call is on their own machine.
    settings.egress.allow_http = true;
    settings.egress.allow_private = true;
    if settings.secrets.key.is_none() && settings.secrets.key_file.is_none() {
        settings.secrets.key_file = Some(generate_key(&args.data_dir)?);
    }
    settings.validate().map_err(Failure::Settings)?;
    prepare_topics(&mut settings)?;
    Ok(hookstream_runtime::launch("hookstream-dev", settings, services))
}

/// Creates the topics that are missing, with one replica where the cluster can't have as many as the settings say,
/// and brings the settings in line with it.
fn prepare_topics(settings: &mut Settings) -> Result<(), Failure> {
    let cluster = Cluster::connect(settings)?;
    let replicas = settings.topics.replication_factor;
    let created = match cluster.create_topics(&topics::specs(settings)) {
        Err(refused @ KafkaError::Refused { .. }) if replicas > 1 => {
            use_one_replica(settings);
            // If that is refused too, the number of replicas was not the matter.
            let created = cluster.create_topics(&topics::specs(settings)).map_err(|_| failure(refused))?;
            eprintln!("the cluster can't have {replicas} replicas; its topics have one");
            created
        }
        other => other.map_err(failure)?,
    };
    if !created.is_empty() {
        eprintln!("created {} topics", created.len());
    }
    let mut differences = cluster.check_topics(&topics::specs(settings))?;
    if differences.iter().any(|difference| matches!(difference.what, What::MinInsyncReplicas { .. })) {
        use_one_replica(settings);
        differences = cluster.check_topics(&topics::specs(settings))?;
    }
    if differences.is_empty() {
        return cluster.record(settings);
    }
    let list: String = differences.iter().map(|difference| format!("\n  - {difference}")).collect();
    Err(format!("the topics are not as the settings say:{list}").into())
}

fn use_one_replica(settings: &mut Settings) {
    settings.topics.replication_factor = 1;
    settings.topics.min_insync_replicas = 1;
}

/// Where the key of `hookstream dev` is.
pub(crate) fn key_file(data_dir: &Path) -> PathBuf {
    data_dir.join(KEY_FILE)
}

/// Makes a key that stays, for the eyes of its owner only; returns where it is.
fn generate_key(data_dir: &Path) -> io::Result<PathBuf> {
    DirBuilder::new().recursive(true).mode(0o700).create(data_dir)?;
    let path = key_file(data_dir);
    if path.exists() {
        return Ok(path);
    }
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    // Nothing in the directory belongs into a repository.
    fs::write(data_dir.join(".gitignore"), "*\n")?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    writeln!(file, "{}", STANDARD.encode(key))?;
    file.sync_all()?;
    Ok(path)
}

/// Runs the services until they are told to stop; if one ends, all do.
async fn services(ctx: Ctx) -> Result<(), ServiceError> {
    let mut running = JoinSet::new();
    // Every scope is there before the first service starts, so that the process isn't ready too early.
    let (ingester, fanout, sender) = (ctx.child("ingester"), ctx.child("fanout"), ctx.child("sender"));
    running.spawn(named("ingester", spawn("ingester", ingester, hookstream_ingester::run)));
    running.spawn(named("fanout", spawn("fanout", fanout, hookstream_fanout::run)));
    running.spawn(named("sender", spawn("sender", sender, hookstream_sender::run)));
    let announcer = tokio::spawn(announce(ctx.clone()));

    let mut result = Ok(());
    while let Some(ended) = running.join_next().await {
        let ended = ended.unwrap_or_else(|error| Err(error.into()));
        if result.is_ok() && (ended.is_err() || !ctx.shutdown.is_cancelled()) {
            result = ended.and_then(|()| Err("a service ended without being told to".into()));
        }
        ctx.shutdown.cancel();
    }
    announcer.abort();
    result
}

/// The error says which service it was.
async fn named(
    service: &'static str,
    running: impl Future<Output = Result<(), ServiceError>>,
) -> Result<(), ServiceError> {
    running.await.map_err(|source| Box::new(ServiceFailed { service, source }) as ServiceError)
}

#[derive(Debug, thiserror::Error)]
#[error("the {service} failed")]
struct ServiceFailed {
    service: &'static str,
    source: ServiceError,
}

/// Says once that all is ready, and until then from time to time what isn't.
async fn announce(ctx: Ctx) {
    while tokio::time::timeout(PROGRESS, ctx.health.ready()).await.is_err() {
        for (component, reason) in ctx.health.components() {
            if let Some(reason) = reason {
                eprintln!("waiting for {component}: {reason}");
            }
        }
    }
    println!("{}", ready_line(&ctx.settings));
}

fn ready_line(settings: &Settings) -> String {
    let (kafka, listen) = (&settings.kafka, settings.ops.listen);
    format!(
        "hookstream is ready: `{}` on {}, metrics at http://{listen}/metrics, Ctrl-C stops it",
        kafka.namespace, kafka.bootstrap_servers
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use hookstream_settings::Map;

    use super::*;

    #[test]
    fn the_key_is_made_once_and_is_its_owners() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("data");
        let path = generate_key(&data_dir).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let key = fs::read_to_string(&path).unwrap();
        assert_eq!(generate_key(&data_dir).unwrap(), path);
        assert_eq!(fs::read_to_string(&path).unwrap(), key);
        let env = Map::from_iter([("HOOKSTREAM__SECRETS__KEY_FILE".to_owned(), path.display().to_string())]);
        assert!(Settings::load(None, env).is_ok());
    }

    #[test]
    fn the_ready_line_starts_as_promised() {
        let settings = Settings::load_without_key(None, Map::new()).unwrap();
        assert!(ready_line(&settings).starts_with("hookstream is ready"));
    }
}
