//! `hookstream dev`: all services in one process, with one registry, one operations port, and a broker of its own.

mod data_dir;
mod demo;
mod own_broker;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use hookstream_config::apply::{ApplyError, make_so};
use hookstream_config::base::{keyring, writer};
use hookstream_config::{ConfigWriter, topics};
use hookstream_devbroker::DevBroker;
use hookstream_log::KafkaError;
use hookstream_log::admin::{Cleanup, TopicSpec, What};
use hookstream_runtime::{Clock, Ctx, ServiceError, spawn};
use hookstream_settings::Settings;
use hookstream_types::SecretString;
use hookstream_types::limits::MAX_RECORD_BYTES;
use tokio::task::JoinSet;

pub(crate) use self::data_dir::{key_file, token_file};
use self::demo::Demo;
use crate::args::{DATA_DIR, DevArgs};
use crate::cluster::{Cluster, failure, write_failure};
use crate::failure::Failure;

/// Who makes the first configuration, in its records.
const ACTOR: &str = "hookstream dev";
/// What is configured at the first start.
const FIRST: &str = include_str!("dev/first.yaml");
/// The topic of the first source.
const FIRST_TOPIC: &str = "domain-events";
/// How often what isn't ready yet is named.
const PROGRESS: Duration = Duration::from_secs(5);
/// Where the other commands look for the API.
const FOUND_API: [&str; 2] = ["127.0.0.1:8080", "0.0.0.0:8080"];
/// Of the sources' topics.
const SOURCE_PARTITIONS: i32 = 4;
const SOURCE_RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);

pub(crate) fn run(args: &DevArgs) -> Result<ExitCode, Failure> {
    let mut settings = args.settings()?;
    data_dir::make(&args.data_dir)?;
    if settings.secrets.key.is_none() && settings.secrets.key_file.is_none() {
        settings.secrets.key_file = Some(data_dir::key(&args.data_dir)?);
    }
    if DevArgs::keeps_history(&settings) {
        let file = args.data_dir.join("history.db");
        settings.history.url = SecretString::new(format!("sqlite:{}", file.display()));
    }
    settings.validate().map_err(Failure::Settings)?;
    check_listen(settings.api.listen)?;
    let mut admin_token = None;
    if settings.api.admin_token.is_none() && settings.api.admin_token_file.is_none() {
        let token = data_dir::admin_token(&args.data_dir)?;
        settings.api.admin_token = Some(SecretString::new(token.clone()));
        admin_token = Some(token);
    }
    let broker = if args.has_own_broker(&settings) { Some(own_broker::start(args)?) } else { None };
    if let Some(broker) = &broker {
        settings.kafka.bootstrap_servers = broker.address().to_string();
    }
    let mut demo = if args.demo { Some(Demo::start()?) } else { None };
    prepare(&mut settings, demo.as_ref())?;
    if let Some(demo) = &mut demo {
        demo.generate(&settings)?;
    }
    let about = About::new(args, &settings, broker.as_ref(), admin_token);
    let code = hookstream_runtime::launch("hookstream-dev", settings, move |ctx| services(ctx, about));
    drop(demo);
    if let Some(broker) = broker {
        broker.stop();
    }
    Ok(code)
}

/// Said before anything is made: the port is bound only when all else is there.
fn check_listen(listen: SocketAddr) -> Result<(), Failure> {
    TcpListener::bind(listen).map(drop).map_err(|error| {
        Failure::usage(format!("can't listen on {listen}: {error}; give another address with `--listen`"))
    })
}

/// Topics, and something configured.
fn prepare(settings: &mut Settings, demo: Option<&Demo>) -> Result<(), Failure> {
    let cluster = Cluster::connect(settings)?;
    let keyring = keyring(settings).map_err(|problem| Failure::Settings(vec![problem]))?;
    let writer = writer(settings, keyring)?;
    prepare_topics(&cluster, settings, &writer)?;
    let sources = [FIRST_TOPIC].iter().chain(demo.map_or(&[][..], |_| Demo::topics()));
    let sources: Vec<TopicSpec> = sources.map(|topic| source_topic(settings, topic)).collect();
    cluster.create_topics(&sources).map_err(failure)?;

    cluster.block_on(async {
        let apply = async |text: &str| match make_so(&writer, text, Clock::start().wall(), ACTOR).await {
            Err(ApplyError::Write(error)) => Err(write_failure(error)),
            Err(ApplyError::Unfit(problems)) => Err(Failure::Other(ApplyError::Unfit(problems).into())),
            Ok(_) => Ok(()),
        };
        let empty = writer.read(|state| state.accounts().count() == 0 && state.sources().count() == 0);
        if empty.await.map_err(write_failure)? {
            apply(FIRST).await?;
        }
        match demo {
            Some(demo) => apply(&demo.manifest()).await,
            None => Ok(()),
        }
    })
}

fn source_topic(settings: &Settings, name: &str) -> TopicSpec {
    let topics = &settings.topics;
    TopicSpec {
        name: name.to_owned(),
        partitions: SOURCE_PARTITIONS,
        replication_factor: i32::try_from(topics.replication_factor).unwrap_or(i32::MAX),
        min_insync_replicas: i32::try_from(topics.min_insync_replicas).unwrap_or(i32::MAX),
        cleanup: Cleanup::Delete(Some(SOURCE_RETENTION)),
        log_append_time: false,
        max_message_bytes: MAX_RECORD_BYTES,
        extra: Vec::new(),
    }
}

/// Creates the topics that are missing, with one replica where the cluster can't have as many as the settings say,
/// and brings the settings in line with it.
fn prepare_topics(cluster: &Cluster, settings: &mut Settings, writer: &ConfigWriter) -> Result<(), Failure> {
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
        return cluster.record(settings, writer);
    }
    let list: String = differences.iter().map(|difference| format!("\n  - {difference}")).collect();
    Err(format!("the topics are not as the settings say:{list}").into())
}

fn use_one_replica(settings: &mut Settings) {
    settings.topics.replication_factor = 1;
    settings.topics.min_insync_replicas = 1;
}

/// Runs the services until they are told to stop; if one ends, all do.
async fn services(ctx: Ctx, about: About) -> Result<(), ServiceError> {
    let mut running = JoinSet::new();
    // Every scope is there before the first service starts, so that the process isn't ready too early.
    let (ingester, fanout, sender) = (ctx.child("ingester"), ctx.child("fanout"), ctx.child("sender"));
    let api = ctx.child("api");
    let beside = hookstream_runtime::ops::router(&ctx);
    running.spawn(named("ingester", spawn("ingester", ingester, hookstream_ingester::run)));
    running.spawn(named("fanout", spawn("fanout", fanout, hookstream_fanout::run)));
    running.spawn(named("sender", spawn("sender", sender, hookstream_sender::run)));
    running.spawn(named("api", spawn("api", api, |ctx| hookstream_api::run_with(ctx, beside))));
    let announcer = tokio::spawn(announce(ctx.clone(), about));

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
async fn announce(ctx: Ctx, about: About) {
    while tokio::time::timeout(PROGRESS, ctx.health.ready()).await.is_err() {
        for (name, component) in ctx.health.components() {
            if let (Some(reason), true) = (component.unready, component.is_needed) {
                eprintln!("waiting for {name}: {reason}");
            }
        }
    }
    println!("{}", about.text());
}

/// What a person is told when all is ready.
#[derive(Debug)]
struct About {
    namespace: String,
    kafka: String,
    /// The data directory, if the broker is ours.
    own_data: Option<String>,
    listen: SocketAddr,
    /// None: the settings have one.
    admin_token: Option<String>,
    demo: bool,
    private: bool,
    /// What the other commands need to find the broker.
    option: String,
    /// What `apply` needs to find the API and the token.
    api_options: String,
}

impl About {
    fn new(
        args: &DevArgs,
        settings: &Settings,
        broker: Option<&DevBroker>,
        admin_token: Option<String>,
    ) -> Self {
        let kafka = settings.kafka.bootstrap_servers.clone();
        let found = kafka.ends_with(":9092") && kafka.starts_with("127.0.0.1");
        let listen = settings.api.listen;
        let mut api_options = String::new();
        if !FOUND_API.contains(&&*listen.to_string()) {
            api_options += &format!(" --api http://{listen}");
        }
        if admin_token.is_some() && args.data_dir != Path::new(DATA_DIR) {
            api_options += &format!(" --token-file {}", token_file(&args.data_dir).display());
        }
        Self {
            namespace: settings.kafka.namespace.clone(),
            own_data: broker.map(|_| display(&args.data_dir)),
            listen,
            admin_token,
            api_options,
            demo: args.demo,
            private: settings.egress.allow_private,
            option: if found { String::new() } else { format!(" --bootstrap-servers {kafka}") },
            kafka,
        }
    }

    fn text(&self) -> String {
        let Self { namespace, kafka, listen, option, api_options, .. } = self;
        let admin_token = self.admin_token.as_deref().unwrap_or("as the settings say (api.admin_token)");
        let mut text =
            format!("hookstream is ready: `{namespace}` on {kafka}, http://{listen}, Ctrl-C stops it\n");
        match &self.own_data {
            Some(dir) => {
                text += &format!("  Kafka        {kafka}, the development broker; its data is in {dir}\n")
            }
            None => text += &format!("  Kafka        {kafka}\n"),
        }
        text += &format!(
            "  API          http://{listen}/api/v1, described at http://{listen}/api/v1/docs; /metrics, /readyz\n"
        );
        text += &format!(
            "  Console      http://{listen}/console: sign in with the admin token and no client id\n"
        );
        text += &format!("  admin token  {admin_token}\n");
        if self.private {
            text +=
                "  Webhooks may call http:// URLs and private addresses here; in production they may not.\n";
        }
        if self.demo {
            text += "  The demo's events come by themselves; its endpoints are good, slow, flaky, busy and gone.\n";
        }
        text += &format!(
            "Try next, in other terminals:
  hookstream listen --addr 127.0.0.1:9000
  echo 'webhooks: [{{name: mine, url: \"http://127.0.0.1:9000/\", event_types: [\"*\"]}}]' | hookstream apply -f -{api_options}
  hookstream events send --topic {FIRST_TOPIC} --type order.paid --data '{{\"id\": 1}}'{option}"
        );
        text
    }
}

fn display(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use hookstream_settings::Map;

    use super::*;

    #[test]
    fn the_ready_line_starts_as_promised() {
        let settings = Settings::load_for_development(None, Map::new()).unwrap();
        let args = DevArgs::parse_for_test(&["hookstream", "dev"]);
        let text = About::new(&args, &settings, None, Some("hsa_1".to_owned())).text();
        assert!(text.starts_with("hookstream is ready"), "{text}");
        assert!(!text.contains("--bootstrap-servers"), "{text}");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn the_first_configuration_is_one() {
        let resolve = hookstream_config::manifest::resolve_from_system(Path::new(""));
        let manifest = hookstream_config::Manifest::parse(FIRST, &resolve);
        assert!(manifest.is_ok() && FIRST.contains(FIRST_TOPIC), "{manifest:?}");
    }

    #[test]
    fn a_broker_that_is_named_is_used() {
        let own = |arguments: &[&str], variables: &[(&str, &str)]| {
            let args = DevArgs::parse_for_test(&[&["hookstream", "dev"], arguments].concat());
            let env =
                variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let settings = args.settings_of(env).unwrap();
            args.has_own_broker(&settings)
        };
        assert!(own(&[], &[]));
        assert!(!own(&["--bootstrap-servers", "127.0.0.1:9092"], &[]));
        assert!(!own(&[], &[("HOOKSTREAM__KAFKA__BOOTSTRAP_SERVERS", "kafka:9092")]));
    }
}
