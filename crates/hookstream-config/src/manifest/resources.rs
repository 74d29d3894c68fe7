//! Reading accounts, event types, apps, authorizations and clients.

use std::time::Duration;

use hookstream_core::config::{DeliveryMode, Verification};
use hookstream_types::SecretString;

use super::fields::Node;
use super::webhook::referenced;
use super::{
    AccountDocument, AppDocument, AuthorizationDocument, ClientDocument, DEFAULT_ACCOUNT, MAX_LIST, Resolve,
};
use crate::change::{CredentialsSpec, EventTypeSpec};
use crate::checks;

/// How long events may be worth delivering, if it is said.
const MIN_TTL: Duration = Duration::from_secs(1);
const MAX_TTL: Duration = Duration::from_secs(90 * 24 * 3600);

pub(super) fn account(node: &Node<'_>) -> Option<AccountDocument> {
    if node.is_text() {
        return Some(AccountDocument { name: node.text(checks::name)?, verification: None });
    }
    node.only(&["name", "verification"])?;
    let name = node.required("name").and_then(|node| node.text(checks::name));
    let verification = node.optional("verification", |node| {
        node.choice(&[
            ("ping", Verification::Ping),
            ("handshake", Verification::Handshake),
            ("none", Verification::None),
        ])
    });
    Some(AccountDocument { name: name?, verification: verification? })
}

/// How long an event is worth delivering, in milliseconds.
pub(super) fn ttl_ms(node: &Node<'_>) -> Option<u64> {
    let ttl = node.duration()?;
    if (MIN_TTL..=MAX_TTL).contains(&ttl) {
        return u64::try_from(ttl.as_millis()).ok();
    }
    node.problem("must be between 1s and 90d")
}

pub(super) fn delivery(node: &Node<'_>) -> Option<DeliveryMode> {
    node.choice(&[("async", DeliveryMode::Async), ("sync", DeliveryMode::Sync)])
}

pub(super) fn event_type(node: &Node<'_>) -> Option<EventTypeSpec> {
    if node.is_text() {
        return Some(EventTypeSpec { name: node.text(checks::identifier)?, ..EventTypeSpec::default() });
    }
    node.only(&["name", "description", "schema", "sample", "scopes", "delivery", "ttl", "deprecated"])?;
    let name = node.required("name").and_then(|node| node.text(checks::identifier));
    let description = node.optional("description", |node| node.text(checks::description));
    let schema = node.optional("schema", Node::json);
    let sample = node.optional("sample", Node::json);
    let scopes = scopes(node, "scopes");
    let delivery = node.optional("delivery", delivery);
    let ttl_ms = node.optional("ttl", ttl_ms);
    let deprecated = node.optional("deprecated", Node::boolean);
    Some(EventTypeSpec {
        name: name?,
        description: description?,
        schema: schema?,
        sample: sample?,
        scopes: scopes?,
        delivery: delivery?.unwrap_or_default(),
        ttl_ms: ttl_ms?,
        deprecated: deprecated?.unwrap_or_default(),
    })
}

pub(super) fn app(node: &Node<'_>) -> Option<AppDocument> {
    node.only(&["account", "name", "description", "scopes"])?;
    let account = account_of(node);
    let name = node.required("name").and_then(|node| node.text(checks::name));
    let description = node.optional("description", |node| node.text(checks::description));
    let scopes = scopes(node, "scopes");
    Some(AppDocument { account: account?, name: name?, description: description?, scopes: scopes? })
}

pub(super) fn authorization(node: &Node<'_>, resolve: Resolve<'_>) -> Option<AuthorizationDocument> {
    node.only(&[
        "account",
        "name",
        "description",
        "endpoint",
        "header",
        "basic",
        "bearer",
        "oauth2",
        "mtls",
    ])?;
    let account = account_of(node);
    let name = node.required("name").and_then(|node| node.text(checks::name));
    let description = node.optional("description", |node| node.text(checks::description));
    let endpoint = node.required("endpoint").and_then(|node| node.text(checks::endpoint_prefix));
    let credentials = credentials(node, resolve);
    Some(AuthorizationDocument {
        account: account?,
        name: name?,
        description: description?,
        endpoint: endpoint?,
        credentials: credentials?,
    })
}

fn credentials(node: &Node<'_>, resolve: Resolve<'_>) -> Option<CredentialsSpec> {
    let kinds = ["header", "basic", "bearer", "oauth2", "mtls"].map(|kind| node.get(kind));
    match kinds {
        [Some(node), None, None, None, None] => {
            node.only(&["name", "value", "visibility"])?;
            let name = node.required("name").and_then(|node| node.text(checks::header_name));
            let value = kept_secret(&node, "value", resolve, checks::header_value);
            let visibility =
                node.optional("visibility", |node| node.choice(&[("SECRET", true), ("PUBLIC", false)]));
            let secret = visibility?.unwrap_or(true);
            Some(CredentialsSpec::Header { name: name?.to_ascii_lowercase(), value: value?, secret })
        }
        [None, Some(node), None, None, None] => {
            node.only(&["user", "password"])?;
            let user = node.required("user").and_then(|node| node.text(checks::user));
            let password = kept_secret(&node, "password", resolve, checks::credential);
            Some(CredentialsSpec::Basic { user: user?, password: password? })
        }
        [None, None, Some(node), None, None] => {
            node.only(&["token"])?;
            Some(CredentialsSpec::Bearer { token: kept_secret(&node, "token", resolve, checks::credential)? })
        }
        [None, None, None, Some(node), None] => {
            node.only(&["token_url", "client_id", "client_secret", "scopes"])?;
            let token_url = node.required("token_url").and_then(|node| node.text(checks::url));
            let client_id = node.required("client_id").and_then(|node| node.text(checks::credential));
            let client_secret = kept_secret(&node, "client_secret", resolve, checks::credential);
            let scopes = scopes(&node, "scopes");
            Some(CredentialsSpec::Oauth2 {
                token_url: token_url?,
                client_id: client_id?,
                client_secret: client_secret?,
                scopes: scopes?,
            })
        }
        [None, None, None, None, Some(node)] => {
            node.only(&["certificate", "key"])?;
            let certificate = node.required("certificate").and_then(|node| node.text(checks::certificates));
            let key = kept_secret(&node, "key", resolve, checks::private_key);
            Some(CredentialsSpec::Mtls { certificate: certificate?, key: key? })
        }
        _ => node.problem("must have exactly one of `header`, `basic`, `bearer`, `oauth2`, `mtls`"),
    }
}

/// A secret part. The outer none: a problem was found; the inner: the one that is there stays.
fn kept_secret(
    node: &Node<'_>,
    field: &str,
    resolve: Resolve<'_>,
    check: impl Fn(&str) -> Result<(), String>,
) -> Option<Option<SecretString>> {
    node.optional(field, |node| {
        if node.is_kept() {
            return Some(None);
        }
        let value = referenced(node, resolve)?;
        match check(value.expose()) {
            Ok(()) => Some(Some(value)),
            Err(message) => node.problem(&message),
        }
    })
    .map(Option::flatten)
}

pub(super) fn client(node: &Node<'_>) -> Option<ClientDocument> {
    node.only(&["account", "app", "name", "access_type", "scopes", "disabled"])?;
    let name = node.required("name").and_then(|node| node.text(checks::name));
    let account = node.optional("account", |node| node.text(checks::name));
    let app = node.optional("app", |node| node.text(checks::name));
    let access_type = node.optional("access_type", |node| node.text(checks::name));
    let scopes = scopes(node, "scopes");
    let disabled = node.optional("disabled", Node::boolean);
    Some(ClientDocument {
        name: name?,
        account: account?,
        app: app?,
        access_type: access_type?,
        scopes: scopes?,
        disabled: disabled?.unwrap_or_default(),
    })
}

/// The account's name; the default one's where the document names none.
pub(super) fn account_of(node: &Node<'_>) -> Option<String> {
    let named = node.optional("account", |node| node.text(checks::name))?;
    Some(named.unwrap_or_else(|| DEFAULT_ACCOUNT.to_owned()))
}

/// Sorted, each once.
fn scopes(node: &Node<'_>, field: &str) -> Option<Vec<String>> {
    let scopes = node.optional(field, |node| node.texts(0, MAX_LIST, checks::scope))?;
    let mut scopes = scopes.unwrap_or_default();
    scopes.sort();
    scopes.dedup();
    Some(scopes)
}
