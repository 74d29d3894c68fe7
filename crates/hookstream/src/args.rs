//! The commands and their arguments.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, StatusCode};
use clap::{Args as ClapArgs, Parser, Subcommand};
use hookstream_core::signing::parse_secret;
use hookstream_settings::{Map, Settings, parse_duration};
use hookstream_types::Secret;

use crate::dev;
use crate::failure::{EXIT_CODES, Failure};

/// Webhooks from Kafka: events become HTTP deliveries, retried until they are delivered or dead.
#[derive(Debug, Parser)]
#[command(name = "hookstream", version, after_help = EXIT_CODES, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run all services in one process, for development.
    ///
    /// Starts a Kafka broker for development, unless one is named; creates topics, an account and a source; and
    /// prints a line that starts with `hookstream is ready` once events flow. Its data survives. Webhooks may call
    /// http:// URLs and local addresses.
    #[command(after_help = "Examples:\n  hookstream dev\n  hookstream dev --demo\n  \
                      hookstream dev --bootstrap-servers localhost:9092")]
    Dev(DevArgs),
    /// Create or check hookstream's own topics.
    Topics(TopicsArgs),
    /// Make the configuration match a file.
    ///
    /// Reads accounts, sources, event types, apps, authorizations and webhooks from a YAML file, puts in what it refers to
    /// on this machine ({env: NAME}, {file: PATH}), and has the API make it so; shows the difference. Endpoints of new
    /// webhooks are pinged first. What the file doesn't name stays, unless --prune is given.
    #[command(
        after_help = "Examples:\n  hookstream apply -f webhooks.yaml --dry-run   # exit code 2: there are differences\n  \
                      hookstream apply -f webhooks.yaml --prune"
    )]
    Apply(ApplyArgs),
    /// Write the configuration as a file that `apply` takes.
    ///
    /// In a stable order, and without secrets: where one is, the file says that it stays as it is.
    #[command(after_help = "Examples:\n  hookstream export -o webhooks.yaml\n  \
                      hookstream export | hookstream apply -f - --dry-run   # nothing to change")]
    Export(ExportArgs),
    /// Replace the key that encrypts secrets, or see which keys are in use.
    Keys(KeysArgs),
    /// Produce events.
    Events(EventsArgs),
    /// Receive webhooks, print them, verify their signatures, and answer as told.
    #[command(
        after_help = "Examples:\n  hookstream listen --secret whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n  \
                      hookstream listen --status 500,500,200            # in turn, then from the beginning\n  \
                      hookstream listen --status 429 --header 'Retry-After: 5'"
    )]
    Listen(ListenArgs),
}

/// Which cluster.
#[derive(Clone, Debug, Default, ClapArgs)]
pub(crate) struct ClusterArgs {
    /// Kafka brokers, HOST:PORT with commas between [settings: kafka.bootstrap_servers]
    #[arg(long, value_name = "HOST:PORT")]
    pub bootstrap_servers: Option<String>,
    /// First part of the names of hookstream's topics and groups [settings: kafka.namespace]
    #[arg(long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Settings file (YAML); HOOKSTREAM__SECTION__KEY variables count more, options most
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct DevArgs {
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Where the development broker's data, the generated key and the admin token are kept
    #[arg(long, value_name = "DIR", default_value = DATA_DIR)]
    pub data_dir: PathBuf,
    /// Where the development broker listens
    #[arg(long, value_name = "HOST:PORT", default_value = OWN_BROKER)]
    pub kafka_listen: SocketAddr,
    /// Where the API is served, with metrics and health [settings: api.listen, 127.0.0.1:8080]
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<SocketAddr>,
    /// Add sample sources and webhooks, endpoints that misbehave, and events that keep coming
    #[arg(long)]
    pub demo: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct TopicsArgs {
    #[command(subcommand)]
    pub command: TopicsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TopicsCommand {
    /// Create the topics that are missing, then check all.
    #[command(
        after_help = "Example:\n  hookstream topics create --bootstrap-servers kafka-1:9092,kafka-2:9092"
    )]
    Create(ClusterArgs),
    /// Compare the topics with the settings; changes nothing.
    Check(ClusterArgs),
}

/// Which API, and who asks. The token is no option: other users of the machine see those.
#[derive(Clone, Debug, Default, ClapArgs)]
pub(crate) struct ApiArgs {
    /// Where the API is [settings: api.url]
    #[arg(long, value_name = "URL")]
    pub api: Option<String>,
    /// Has an operator's token; else HOOKSTREAM_TOKEN [settings: api.admin_token], or what `dev` left in .hookstream
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Settings file (YAML); HOOKSTREAM__SECTION__KEY variables count more, options most
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    pub api: ApiArgs,
    /// The configuration (YAML); `-` reads stdin
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// Also delete what the file's sections don't name
    #[arg(long)]
    pub prune: bool,
    /// Show the difference and change nothing; exit code 2 if there is one
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub api: ApiArgs,
    /// Write it there instead of to stdout
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    pub command: KeysCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Seal every account's data key with the newest key, while everything runs.
    ///
    /// First give all programs the new key as `secrets.key` and the old one in `secrets.previous_keys`. At the end it
    /// says which of those may be removed. Doing it again does no harm.
    #[command(after_help = "Exit codes:\n  0   every account is sealed by the newest key\n  \
                      1   some are not, and it says why")]
    Rotate(KeyArgs),
    /// List the keys in use, with the number of accounts that each has sealed.
    #[command(after_help = "Exit codes:\n  0   all of them are configured\n  1   one that is in use is not")]
    Check(KeyArgs),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct KeyArgs {
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Where `hookstream dev` keeps its key; used if the settings name none
    #[arg(long, value_name = "DIR", default_value = DATA_DIR)]
    pub data_dir: PathBuf,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct EventsArgs {
    #[command(subcommand)]
    pub command: EventsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EventsCommand {
    /// Produce events to a source topic.
    ///
    /// A file has one record per line. A line that is a CloudEvents document is marked as one; all others are sent as
    /// they are. With --type, one CloudEvent is made from the options; each repetition has an id of its own.
    #[command(
        after_help = "Examples:\n  hookstream events send --topic orders --type order.paid --data '{\"id\":1}'\n  \
                      hookstream events send --topic orders --file events.jsonl\n  \
                      generate | hookstream events send --topic orders --file -"
    )]
    Send(SendArgs),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct SendArgs {
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// The source topic
    #[arg(long)]
    pub topic: String,
    /// Records, one per line; `-` reads stdin
    #[arg(long, value_name = "FILE", required_unless_present = "event_type", conflicts_with = "event_type")]
    pub file: Option<PathBuf>,
    /// The event's type
    #[arg(long = "type", value_name = "TYPE")]
    pub event_type: Option<String>,
    /// The event's data
    #[arg(long, value_name = "JSON", conflicts_with = "file", default_value = "{}")]
    pub data: String,
    /// The event's subject
    #[arg(long, conflicts_with = "file")]
    pub subject: Option<String>,
    /// The account that the event belongs to (the attribute `account`)
    #[arg(long, conflicts_with = "file")]
    pub account: Option<String>,
    /// The records' key
    #[arg(long)]
    pub key: Option<String>,
    /// How many times to send it all
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub count: u64,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ListenArgs {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9000")]
    pub addr: SocketAddr,
    /// Verify signatures with this secret; may be given more than once
    #[arg(long = "secret", value_name = "whsec_…", value_parser = secret)]
    pub secrets: Vec<Secret>,
    /// Statuses to answer with, in turn
    #[arg(long, value_name = "STATUS,…", value_delimiter = ',', default_value = "200", value_parser = status)]
    pub status: Vec<StatusCode>,
    /// How long to wait before answering: 250ms, 5s
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_duration)]
    pub delay: Duration,
    /// A header of the answer; may be given more than once
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// One line per request
    #[arg(long)]
    pub quiet: bool,
}

/// Where `dev` keeps what it needs.
pub(crate) const DATA_DIR: &str = ".hookstream";
/// Where the development broker listens, and where it is looked for.
const OWN_BROKER: &str = "127.0.0.1:9092";

impl DevArgs {
    /// The settings for development, with what the options say put over them.
    pub(crate) fn settings(&self) -> Result<Settings, Failure> {
        self.settings_of(std::env::vars().collect())
    }

    /// The same with the environment as an argument.
    pub(crate) fn settings_of(&self, mut env: Map<String, String>) -> Result<Settings, Failure> {
        self.cluster.put_over(&mut env);
        if let Some(listen) = self.listen {
            env.insert("HOOKSTREAM__API__LISTEN".to_owned(), listen.to_string());
            env.insert("HOOKSTREAM__API__URL".to_owned(), format!("http://{listen}"));
        }
        Settings::load_for_development(self.cluster.config.as_deref(), env).map_err(Failure::Settings)
    }

    /// Whether no other Kafka is named, neither here nor in the settings.
    pub(crate) fn has_own_broker(&self, settings: &Settings) -> bool {
        self.cluster.bootstrap_servers.is_none() && settings.kafka.bootstrap_servers == OWN_BROKER
    }

    /// Whether no other place is named for the history's index.
    pub(crate) fn keeps_history(settings: &Settings) -> bool {
        settings.history.url.expose() == "sqlite:hookstream-history.db"
    }

    #[cfg(test)]
    pub(crate) fn parse_for_test(arguments: &[&str]) -> Self {
        match Args::parse_from(arguments).command {
            Command::Dev(args) => args,
            other => panic!("{other:?}"),
        }
    }
}

impl ClusterArgs {
    /// The settings, with what the options say put over them; the key is not asked for.
    pub(crate) fn settings(&self) -> Result<Settings, Failure> {
        self.settings_of(std::env::vars().collect())
    }

    /// The settings, with the key that `hookstream dev` made in its data directory where they name none.
    pub(crate) fn settings_with_key(&self, data_dir: &Path) -> Result<Settings, Failure> {
        let mut settings = self.settings()?;
        let dev_key = dev::key_file(data_dir);
        if settings.secrets.key.is_none() && settings.secrets.key_file.is_none() && dev_key.exists() {
            settings.secrets.key_file = Some(dev_key);
        }
        settings.validate().map_err(Failure::Settings)?;
        Ok(settings)
    }

    /// The same with the environment as an argument.
    pub(crate) fn settings_of(&self, mut env: Map<String, String>) -> Result<Settings, Failure> {
        self.put_over(&mut env);
        Settings::load_without_key(self.config.as_deref(), env).map_err(Failure::Settings)
    }
}

impl ApiArgs {
    /// The settings; they say where the API is if the options do not.
    pub(crate) fn settings(&self) -> Result<Settings, Failure> {
        Settings::load_without_key(self.config.as_deref(), std::env::vars().collect())
            .map_err(Failure::Settings)
    }
}

impl ClusterArgs {
    fn put_over(&self, env: &mut Map<String, String>) {
        for (name, value) in [("BOOTSTRAP_SERVERS", &self.bootstrap_servers), ("NAMESPACE", &self.namespace)]
        {
            if let Some(value) = value {
                env.insert(format!("HOOKSTREAM__KAFKA__{name}"), value.clone());
            }
        }
    }
}

fn secret(text: &str) -> Result<Secret, String> {
    parse_secret(text).map_err(|error| error.to_string())
}

fn status(text: &str) -> Result<StatusCode, String> {
    let status = text.trim().parse::<u16>().ok().filter(|status| (200..=599).contains(status));
    let status = status.and_then(|status| StatusCode::from_u16(status).ok());
    status.ok_or_else(|| "a status is a number from 200 to 599".to_owned())
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("a header is written `Name: value`")?;
    let name = name.trim().parse().map_err(|_| format!("`{}` is no header name", name.trim()))?;
    let value = value
        .trim()
        .parse()
        .map_err(|_| "the header's value has characters that can't be sent".to_owned())?;
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Args::command().debug_assert();
    }

    /// The help of every command, as a person sees it on a terminal of 100 columns.
    #[test]
    fn help() {
        fn add(command: &clap::Command, path: &str, text: &mut String) {
            let mut shown = command.clone().term_width(100).bin_name(path.to_owned());
            writeln!(text, "==== {path} --help\n{}", shown.render_long_help()).unwrap();
            for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
                add(sub, &format!("{path} {}", sub.get_name()), text);
            }
        }
        let mut text = String::new();
        add(&Args::command(), "hookstream", &mut text);
        let text: Vec<_> = text.lines().map(str::trim_end).collect();
        insta::assert_snapshot!(text.join("\n"));
    }

    #[test]
    fn what_is_refused() {
        for (arguments, message) in [
            ("events send --topic t", "--file"),
            ("events send --topic t --file x --type y", "cannot be used with"),
            ("events send --topic t --file x --data {}", "cannot be used with"),
            ("listen --status 99", "a status is a number from 200 to 599"),
            ("listen --header x", "a header is written"),
            ("listen --delay soon", "is no time"),
            ("listen --secret hunter2", "whsec_"),
            ("apply", "--file <FILE>"),
            ("apply -f x --token t", "--token"),
        ] {
            let words = std::iter::once("hookstream").chain(arguments.split(' '));
            let error = Args::try_parse_from(words).unwrap_err().to_string();
            assert!(error.contains(message), "{arguments}: {error}");
        }
    }

    #[test]
    fn options_count_more_than_the_environment() {
        let env = [("HOOKSTREAM__KAFKA__NAMESPACE", "env"), ("HOOKSTREAM__KAFKA__CLIENT_ID", "env")];
        let env: Map<_, _> = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let args = ClusterArgs { namespace: Some("option".to_owned()), ..ClusterArgs::default() };
        let settings = args.settings_of(env).unwrap();
        assert_eq!((&*settings.kafka.namespace, &*settings.kafka.client_id), ("option", "env"));
    }
}
