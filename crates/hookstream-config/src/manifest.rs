//! The file of `hookstream apply -f`: what is to be configured, as YAML written by people.
//!
//! All problems are found at once, each with its place (`webhooks[2].url`). What the file does not say has the
//! usual value; except a webhook's state and secret, which the file may leave to others: they stay as they are.
//!
//! A secret is written as text (`whsec_…`), or better as `{env: NAME}` or `{file: PATH}`.

use std::fmt;
use std::time::Duration;

use hookstream_core::config::{
    DEFAULT_CONCURRENCY, DEFAULT_TIMEOUT, DebeziumMapping, Format, Mapping, Pick, WebhookState,
};
use hookstream_core::exchange::Method;
use hookstream_core::schedule::RetrySchedule;
use hookstream_types::{Secret, SecretString};

use crate::change::{EventTypeSpec, SourceSpec};
use crate::checks;

mod fields;

use fields::{Node, Problems};

/// What a file asks for. A section that the file does not have is none: what is configured there stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifest {
    /// Names.
    pub accounts: Option<Vec<String>>,
    pub sources: Option<Vec<SourceSpec>>,
    pub event_types: Option<Vec<EventTypeSpec>>,
    pub webhooks: Option<Vec<ManifestWebhook>>,
}

/// A webhook as a file has it.
#[derive(Clone, Debug, PartialEq)]
pub struct ManifestWebhook {
    /// By name.
    pub account: String,
    pub name: String,
    /// None: as it is; published when new.
    pub state: Option<WebhookState>,
    pub source: Option<String>,
    pub event_types: Vec<String>,
    pub url: String,
    pub method: Method,
    pub content_type: String,
    /// Names are lower case; sorted.
    pub headers: Vec<(String, String)>,
    /// None: those that it has; a generated one when new.
    pub secrets: Option<Vec<Secret>>,
    pub retry: RetrySchedule,
    pub give_up_on: Vec<u16>,
    pub timeout: Duration,
    pub rate: Option<f64>,
    pub concurrency: u32,
    pub log_only_errors: bool,
}

/// Something in the file that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestProblem {
    /// `webhooks[2].url`; empty for the file as a whole.
    pub place: String,
    pub message: String,
}

impl fmt::Display for ManifestProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.place, self.message)
        }
    }
}

/// Where a value that the file does not hold itself comes from.
#[derive(Clone, Copy, Debug)]
pub enum Reference<'a> {
    Env(&'a str),
    File(&'a str),
}

/// Resolves references; an error is for people and holds no secret.
pub type Resolve<'a> = &'a dyn Fn(Reference<'_>) -> Result<SecretString, String>;

/// Resolves from this process's environment and the file system; relative paths from `base`.
pub fn resolve_from_system(base: &std::path::Path) -> impl Fn(Reference<'_>) -> Result<SecretString, String> {
    move |reference| match reference {
        Reference::Env(name) => std::env::var(name)
            .map(SecretString::new)
            .map_err(|_| format!("environment variable `{name}` is not set")),
        Reference::File(path) => std::fs::read_to_string(base.join(path))
            .map(|text| SecretString::new(text.trim_end_matches(['\r', '\n']).to_owned()))
            .map_err(|error| format!("file `{path}` can't be read: {error}")),
    }
}

/// Longest request deadline: a drain waits for it.
const MAX_TIMEOUT: Duration = Duration::from_secs(30);
const MIN_TIMEOUT: Duration = Duration::from_millis(100);
/// Attempts of a schedule.
const MAX_ATTEMPTS: usize = 50;
/// From the first attempt to the last.
const MAX_SCHEDULE: Duration = Duration::from_secs(30 * 24 * 3600);
const MAX_RATE: f64 = 100_000.0;
const MAX_CONCURRENCY: u64 = 1_000;
const MAX_LIST: usize = 200;
const MAX_SECRETS: usize = 5;

impl Manifest {
    /// Reads a file's text.
    ///
    /// # Errors
    /// Every problem that was found; never empty.
    pub fn parse(text: &str, resolve: Resolve<'_>) -> Result<Self, Vec<ManifestProblem>> {
        let root: serde_norway::Value = serde_norway::from_str(text).map_err(|error| {
            vec![ManifestProblem { place: String::new(), message: format!("the file is not YAML: {error}") }]
        })?;
        let problems = Problems::default();
        let manifest = Self::read(&Node::root(&root, &problems), resolve);
        let problems = problems.into_inner();
        match manifest {
            Some(manifest) if problems.is_empty() => Ok(manifest),
            _ => Err(problems),
        }
    }

    fn read(root: &Node<'_>, resolve: Resolve<'_>) -> Option<Self> {
        root.only(&["accounts", "sources", "event_types", "webhooks"])?;
        let manifest = Self {
            accounts: root.section("accounts", |node| {
                if node.is_text() {
                    return node.text(checks::name);
                }
                node.only(&["name"])?;
                node.required("name")?.text(checks::name)
            }),
            sources: root.section("sources", read_source),
            event_types: root.section("event_types", |node| {
                if node.is_text() {
                    return Some(EventTypeSpec { name: node.text(checks::identifier)?, description: None });
                }
                node.only(&["name", "description"])?;
                let description = node.get("description").map(|node| node.text(|_| Ok(())));
                let name = node.required("name")?.text(checks::identifier)?;
                Some(EventTypeSpec { name, description: description.flatten() })
            }),
            webhooks: root.section("webhooks", |node| read_webhook(node, resolve)),
        };
        let names = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
        root.unique("accounts", &names(&manifest.accounts));
        root.unique("sources", &collect(&manifest.sources, |source| source.name.clone()));
        root.unique("event_types", &collect(&manifest.event_types, |event_type| event_type.name.clone()));
        root.unique("webhooks", &collect(&manifest.webhooks, |w| format!("{}/{}", w.account, w.name)));
        Some(manifest)
    }
}

fn collect<T>(list: &Option<Vec<T>>, name: impl Fn(&T) -> String) -> Vec<String> {
    list.iter().flatten().map(name).collect()
}

fn read_source(node: &Node<'_>) -> Option<SourceSpec> {
    node.only(&["name", "topics", "format", "strict"])?;
    let name = node.required("name").and_then(|node| node.text(checks::identifier));
    let topics = node.required("topics").and_then(|node| node.texts(1, MAX_LIST, checks::topic));
    let format = node.required("format").and_then(|node| read_format(&node));
    let strict = node.get("strict").map_or(Some(false), |node| node.boolean());
    Some(SourceSpec { name: name?, topics: topics?, format: format?, strict: strict? })
}

fn read_format(node: &Node<'_>) -> Option<Format> {
    let kind = if node.is_text() { node.clone() } else { node.required("type")? };
    let kind = kind.choice(&[("cloudevents", 0), ("json", 1), ("debezium", 2), ("auto", 3)])?;
    match kind {
        0 => {
            node.only_if_map(&["type", "account"])?;
            let account = node.optional("account", |node| node.text(checks::identifier))?;
            let account = account.unwrap_or_else(|| "account".to_owned());
            Some(Format::Cloudevents { account })
        }
        1 => {
            node.only_if_map(&["type", "mapping"])?;
            let mapping = node.required("mapping")?;
            mapping.only(&["id", "type", "time", "account", "subject", "data"])?;
            let event_type = mapping.required("type").and_then(|node| read_pick(&node));
            let data = mapping.get("data").map(|node| node.text(checks::pointer));
            let mapping = Mapping {
                id: optional_pick(&mapping, "id")?,
                event_type: event_type?,
                time: optional_pick(&mapping, "time")?,
                account: optional_pick(&mapping, "account")?,
                subject: optional_pick(&mapping, "subject")?,
                data: data.map_or(Some(None), |data| data.map(Some))?,
            };
            Some(Format::Json { mapping })
        }
        2 => {
            node.only_if_map(&["type", "mapping"])?;
            let Some(mapping) = node.get("mapping") else {
                return Some(Format::Debezium {
                    mapping: DebeziumMapping { entity: None, account: None, subject: None },
                });
            };
            mapping.only(&["entity", "account", "subject"])?;
            let entity = mapping.get("entity").map(|node| node.text(checks::identifier));
            let mapping = DebeziumMapping {
                entity: entity.map_or(Some(None), |entity| entity.map(Some))?,
                account: optional_pick(&mapping, "account")?,
                subject: optional_pick(&mapping, "subject")?,
            };
            Some(Format::Debezium { mapping })
        }
        _ => {
            node.only_if_map(&["type"])?;
            Some(Format::Auto)
        }
    }
}

/// The outer none: a problem was found.
fn optional_pick(node: &Node<'_>, field: &str) -> Option<Option<Pick>> {
    node.get(field).map_or(Some(None), |node| read_pick(&node).map(Some))
}

/// `/a/pointer`, `{pointer: /a}` or `{constant: text}`.
fn read_pick(node: &Node<'_>) -> Option<Pick> {
    if node.is_text() {
        return node.text(checks::pointer).map(Pick::Pointer);
    }
    node.only(&["pointer", "constant"])?;
    match (node.get("pointer"), node.get("constant")) {
        (Some(pointer), None) => pointer.text(checks::pointer).map(Pick::Pointer),
        (None, Some(constant)) => constant.text(checks::name).map(Pick::Constant),
        _ => node.problem("must be a JSON pointer such as `/order/id`, or `{constant: TEXT}`"),
    }
}

fn read_webhook(node: &Node<'_>, resolve: Resolve<'_>) -> Option<ManifestWebhook> {
    node.only(&[
        "account",
        "name",
        "state",
        "source",
        "event_types",
        "url",
        "method",
        "content_type",
        "headers",
        "secret",
        "secrets",
        "retry",
        "give_up_on",
        "timeout",
        "rate",
        "concurrency",
        "log_only_errors",
    ])?;
    // Each field is read whether or not an earlier one is wrong, so that all problems come at once.
    let account = node.get("account").map_or_else(
        || Some(hookstream_core::config::DEFAULT_ACCOUNT.to_owned()),
        |node| node.text(checks::name),
    );
    let name = node.required("name").and_then(|node| node.text(checks::name));
    let state = node.optional("state", |node| {
        node.choice(&[
            ("draft", WebhookState::Draft),
            ("published", WebhookState::Published),
            ("unpublished", WebhookState::Unpublished),
            ("paused", WebhookState::Paused),
            ("disabled", WebhookState::Disabled),
        ])
    });
    let source = node.optional("source", |node| node.text(checks::identifier));
    let event_types =
        node.required("event_types").and_then(|node| node.texts(1, MAX_LIST, checks::event_type_pattern));
    let url = node.required("url").and_then(|node| node.text(checks::url));
    let method = node.optional("method", |node| {
        let methods = [Method::Post, Method::Put, Method::Patch, Method::Delete, Method::Get];
        node.choice(&methods.map(|method| (method.as_str(), method)))
    });
    let content_type = node.optional("content_type", |node| node.text(checks::content_type));
    let headers = node.optional("headers", |node| read_headers(node, resolve));
    let secrets = read_secrets(node, resolve);
    let retry = node.optional("retry", read_retry);
    let give_up_on = node.optional("give_up_on", |node| {
        node.list(0, MAX_LIST, |node| {
            let status = node.integer(300, 599)?;
            u16::try_from(status).ok()
        })
    });
    let timeout = node.optional("timeout", |node| {
        let timeout = node.duration()?;
        if (MIN_TIMEOUT..=MAX_TIMEOUT).contains(&timeout) {
            return Some(timeout);
        }
        node.problem("must be between 100ms and 30s")
    });
    let rate = node.optional("rate", read_rate);
    let concurrency = node.optional("concurrency", |node| {
        let number = node.integer(1, MAX_CONCURRENCY)?;
        u32::try_from(number).ok()
    });
    let log_only_errors = node.optional("log_only_errors", Node::boolean);
    Some(ManifestWebhook {
        account: account?,
        name: name?,
        state: state?,
        source: source?,
        event_types: event_types?,
        url: url?,
        method: method?.unwrap_or_default(),
        content_type: content_type?.unwrap_or_else(|| "application/json".to_owned()),
        headers: headers?.unwrap_or_default(),
        secrets: secrets?,
        retry: retry?.unwrap_or_default(),
        give_up_on: give_up_on?.unwrap_or_default(),
        timeout: timeout?.unwrap_or(DEFAULT_TIMEOUT),
        rate: rate?,
        concurrency: concurrency?.unwrap_or(DEFAULT_CONCURRENCY),
        log_only_errors: log_only_errors?.unwrap_or_default(),
    })
}

fn read_headers(node: &Node<'_>, resolve: Resolve<'_>) -> Option<Vec<(String, String)>> {
    let mut headers: Vec<(String, String)> = Vec::new();
    let mut good = true;
    for (name, node) in node.entries()? {
        if let Err(message) = checks::header_name(&name) {
            good = node.problem::<()>(&format!("the name {message}")).is_some();
            continue;
        }
        let Some(value) = referenced(&node, resolve) else {
            good = false;
            continue;
        };
        if let Err(message) = checks::header_value(value.expose()) {
            good = node.problem::<()>(&message).is_some();
            continue;
        }
        let name = name.to_ascii_lowercase();
        if headers.iter().any(|(other, _)| *other == name) {
            good = node.problem::<()>("must not be there twice").is_some();
            continue;
        }
        headers.push((name, value.expose().to_owned()));
    }
    headers.sort();
    good.then_some(headers)
}

/// `secret: …` or `secrets: [newest, …]`. The outer none: a problem was found.
fn read_secrets(node: &Node<'_>, resolve: Resolve<'_>) -> Option<Option<Vec<Secret>>> {
    let read = |node: &Node<'_>| {
        let text = referenced(node, resolve)?;
        match checks::secret(text.expose()) {
            Ok(secret) => Some(secret),
            Err(message) => node.problem(&message),
        }
    };
    match (node.get("secret"), node.get("secrets")) {
        (Some(_), Some(node)) => node.problem("must not be there besides `secret`"),
        (Some(node), None) => read(&node).map(|secret| Some(vec![secret])),
        (None, Some(node)) => node.list(1, MAX_SECRETS, read).map(Some),
        (None, None) => Some(None),
    }
}

/// Text, `{env: NAME}` or `{file: PATH}`.
fn referenced(node: &Node<'_>, resolve: Resolve<'_>) -> Option<SecretString> {
    if node.is_text() {
        return node.text(|_| Ok(())).map(SecretString::new);
    }
    if !node.is_map() {
        return node.problem("must be text (quote numbers), `{env: NAME}` or `{file: PATH}`");
    }
    node.only(&["env", "file"])?;
    let resolved = match (node.get("env"), node.get("file")) {
        (Some(env), None) => resolve(Reference::Env(&env.text(checks::name)?)),
        (None, Some(file)) => resolve(Reference::File(&file.text(checks::name)?)),
        _ => Err("must be text, `{env: NAME}` or `{file: PATH}`".to_owned()),
    };
    resolved.map_err(|message| node.problem::<()>(&message)).ok()
}

fn read_retry(node: &Node<'_>) -> Option<RetrySchedule> {
    let schedule = RetrySchedule::new(node.list(1, MAX_ATTEMPTS, Node::duration)?);
    if schedule.total() > MAX_SCHEDULE {
        return node.problem("must not last longer than 30 days in all");
    }
    Some(schedule)
}

/// A number per second, or `100/s`, `30/m`, `500/h`.
fn read_rate(node: &Node<'_>) -> Option<f64> {
    let what = "must be a number of requests per second, or such as `100/s`, `30/m` or `500/h`";
    let rate = if node.is_text() {
        let text = node.text(|_| Ok(()))?;
        let (number, unit) = text.split_once('/').unwrap_or((&text, "s"));
        let seconds = match unit.trim() {
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return node.problem(what),
        };
        number.trim().parse::<f64>().ok().map(|number| number / seconds)
    } else {
        node.number()
    };
    match rate {
        Some(rate) if rate.is_finite() && rate > 0.0 && rate <= MAX_RATE => Some(rate),
        Some(_) => node.problem("must be above 0 and at most 100000 per second"),
        None => node.problem(what),
    }
}

#[cfg(test)]
mod tests;
