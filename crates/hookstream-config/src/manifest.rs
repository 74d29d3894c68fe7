//! Resources as documents: the file of `hookstream apply -f`, written by people, and the JSON of the API.
//!
//! Both are read by the same rules, and [`render`] writes what they read. All problems are found at once, each with
//! its place (`webhooks[2].url`). What a document does not say has the usual value; except a webhook's state and
//! all secrets, which it may leave to others: they stay as they are.
//!
//! In a file a secret is written as text (`whsec_…`), or better as `{env: NAME}` or `{file: PATH}`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hookstream_core::config::{
    DEFAULT_ACCOUNT, DEFAULT_CONCURRENCY, DEFAULT_TIMEOUT, Payload, Trust, Verification, WebhookSecret,
    WebhookState,
};
use hookstream_core::exchange::Method;
use hookstream_core::filter::Filter;
use hookstream_core::schedule::RetrySchedule;
use hookstream_core::signing::Signatures;
use hookstream_types::SecretString;

use crate::change::{AccountSpec, CredentialsSpec, EventTypeSpec, SourceSpec};

mod fields;
mod filled;
pub mod render;
mod resources;
mod source;
mod webhook;

use fields::{Node, Problems};
use filled::{Filled, Resolved};

/// Items of a list.
const MAX_LIST: usize = 200;

/// What a file asks for. A section that the file does not have is none: what is configured there stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifest {
    pub accounts: Option<Vec<AccountDocument>>,
    pub sources: Option<Vec<SourceSpec>>,
    pub event_types: Option<Vec<EventTypeSpec>>,
    pub apps: Option<Vec<AppDocument>>,
    pub authorizations: Option<Vec<AuthorizationDocument>>,
    pub webhooks: Option<Vec<WebhookDocument>>,
}

/// An account, as a document has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountDocument {
    pub name: String,
    /// None: as it is; `ping` when new.
    pub verification: Option<Verification>,
}

impl AccountDocument {
    /// The account, where it now has this verification.
    #[must_use]
    pub fn spec(&self, now: Option<Verification>) -> AccountSpec {
        AccountSpec { name: self.name.clone(), verification: self.verification.or(now).unwrap_or_default() }
    }
}

/// An app, as a document has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppDocument {
    /// By name or uid.
    pub account: String,
    pub name: String,
    pub description: Option<String>,
    /// Sorted.
    pub scopes: Vec<String>,
}

/// An authorization, as a document has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationDocument {
    /// By name or uid.
    pub account: String,
    pub name: String,
    pub description: Option<String>,
    pub endpoint: String,
    pub credentials: CredentialsSpec,
}

/// A client of the API, as a document has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientDocument {
    pub name: String,
    /// By name or uid; none: all accounts.
    pub account: Option<String>,
    /// By name or id.
    pub app: Option<String>,
    pub access_type: Option<String>,
    /// Sorted.
    pub scopes: Vec<String>,
    pub disabled: bool,
}

/// A webhook, as a document has it.
#[derive(Clone, Debug, PartialEq)]
pub struct WebhookDocument {
    /// By name or uid.
    pub account: String,
    pub name: String,
    pub description: Option<String>,
    /// By name or id.
    pub app: Option<String>,
    /// None: as it is; published when new.
    pub state: Option<WebhookState>,
    pub source: Option<String>,
    pub event_types: Vec<String>,
    pub url: String,
    pub method: Method,
    pub content_type: String,
    pub payload: Payload,
    /// Names are lower case; sorted. No value: the one that it has.
    pub headers: Vec<(String, Option<SecretString>)>,
    /// None: those that it has; a generated one when new.
    pub secrets: Option<Vec<WebhookSecret>>,
    pub signatures: Signatures,
    pub secret_header: Option<String>,
    /// By name or id.
    pub authorization: Option<String>,
    pub trust: Option<Arc<Trust>>,
    pub filter: Option<Arc<Filter>>,
    pub retry: RetrySchedule,
    pub give_up_on: Vec<u16>,
    pub timeout: Duration,
    pub rate: Option<f64>,
    pub ttl_ms: Option<u64>,
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

/// For documents that come over a network, or from within: nothing of this machine is theirs.
pub(crate) fn resolve_nothing(_: Reference<'_>) -> Result<SecretString, String> {
    Err("must be text: references are for files".to_owned())
}

impl Manifest {
    /// Reads a file's text.
    ///
    /// # Errors
    /// Every problem that was found; never empty.
    pub fn parse(text: &str, resolve: Resolve<'_>) -> Result<Self, Vec<ManifestProblem>> {
        Self::of_root(&yaml(text)?, resolve).map(|(manifest, _)| manifest)
    }

    /// Reads what came over a network: JSON, in which nothing refers to this machine.
    ///
    /// # Errors
    /// Every problem that was found; never empty.
    pub fn parse_json(bytes: &[u8]) -> Result<Self, Vec<ManifestProblem>> {
        let root: serde_norway::Value = serde_json::from_slice(bytes)
            .map_err(|error| problem_of_all(format!("the document is not JSON: {error}")))?;
        Self::of_root(&root, &resolve_nothing).map(|(manifest, _)| manifest)
    }

    /// A file's text as [`Manifest::parse_json`] reads it: with values in the place of references.
    ///
    /// # Errors
    /// Every problem that was found; never empty.
    pub fn to_json(text: &str, resolve: Resolve<'_>) -> Result<SecretString, Vec<ManifestProblem>> {
        let root = yaml(text)?;
        let (_, resolved) = Self::of_root(&root, resolve)?;
        let json = serde_json::to_string(&Filled { value: &root, resolved: &resolved });
        json.map(SecretString::new)
            .map_err(|error| problem_of_all(format!("the file can't be said in JSON: {error}")))
    }

    fn of_root(
        root: &serde_norway::Value,
        resolve: Resolve<'_>,
    ) -> Result<(Self, Resolved), Vec<ManifestProblem>> {
        let problems = Problems::default();
        let manifest = Self::read(&Node::root(root, &problems), resolve);
        match manifest {
            Some(manifest) if problems.is_empty() => Ok((manifest, problems.into_resolved())),
            _ => Err(problems.into_inner()),
        }
    }

    fn read(root: &Node<'_>, resolve: Resolve<'_>) -> Option<Self> {
        root.only(&["accounts", "sources", "event_types", "apps", "authorizations", "webhooks"])?;
        let manifest = Self {
            accounts: root.section("accounts", resources::account),
            sources: root.section("sources", source::read),
            event_types: root.section("event_types", resources::event_type),
            apps: root.section("apps", resources::app),
            authorizations: root.section("authorizations", |node| resources::authorization(node, resolve)),
            webhooks: root.section("webhooks", |node| webhook::read(node, resolve)),
        };
        let of = |account: &str, name: &str| format!("{account}/{name}");
        root.unique("accounts", &collect(&manifest.accounts, |account| account.name.clone()));
        root.unique("sources", &collect(&manifest.sources, |source| source.name.clone()));
        root.unique("event_types", &collect(&manifest.event_types, |event_type| event_type.name.clone()));
        root.unique("apps", &collect(&manifest.apps, |app| of(&app.account, &app.name)));
        root.unique("authorizations", &collect(&manifest.authorizations, |a| of(&a.account, &a.name)));
        root.unique("webhooks", &collect(&manifest.webhooks, |w| of(&w.account, &w.name)));
        Some(manifest)
    }
}

fn yaml(text: &str) -> Result<serde_norway::Value, Vec<ManifestProblem>> {
    serde_norway::from_str(text).map_err(|error| problem_of_all(format!("the file is not YAML: {error}")))
}

fn problem_of_all(message: String) -> Vec<ManifestProblem> {
    vec![ManifestProblem { place: String::new(), message }]
}

fn collect<T>(list: &Option<Vec<T>>, name: impl Fn(&T) -> String) -> Vec<String> {
    list.iter().flatten().map(name).collect()
}

/// A kind of resource that can be read from one JSON document.
pub trait FromJson: Sized {
    /// Reads the whole resource. What is only shown (`id`, `revision`…) may stand in it, and is passed over.
    ///
    /// # Errors
    /// Every problem that was found; never empty.
    fn from_json(json: &serde_json::Value) -> Result<Self, Vec<ManifestProblem>>;
}

macro_rules! from_json {
    ($($document:ty = $read:expr),* $(,)?) => {
        $(impl FromJson for $document {
            fn from_json(json: &serde_json::Value) -> Result<Self, Vec<ManifestProblem>> {
                read_json(json, $read)
            }
        })*
    };
}

from_json! {
    AccountDocument = resources::account,
    SourceSpec = source::read,
    EventTypeSpec = resources::event_type,
    AppDocument = resources::app,
    AuthorizationDocument = |node| resources::authorization(node, &resolve_nothing),
    ClientDocument = resources::client,
    WebhookDocument = |node| webhook::read(node, &resolve_nothing),
}

fn read_json<T>(
    json: &serde_json::Value,
    read: impl FnOnce(&Node<'_>) -> Option<T>,
) -> Result<T, Vec<ManifestProblem>> {
    let problem = |message: &str| problem_of_all(message.to_owned());
    let value = serde_norway::to_value(json).map_err(|_| problem("must be JSON"))?;
    let problems = Problems::of_json();
    let document = read(&Node::root(&value, &problems));
    let problems = problems.into_inner();
    match document {
        Some(document) if problems.is_empty() => Ok(document),
        _ if problems.is_empty() => Err(problem("can't be read")),
        _ => Err(problems),
    }
}

#[cfg(test)]
mod tests;
