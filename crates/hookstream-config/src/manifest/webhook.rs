//! Reading webhooks.

use std::sync::Arc;
use std::time::Duration;

use hookstream_core::config::{DEFAULT_CONTENT_TYPE, Payload, Pin, Trust, WebhookSecret, WebhookState};
use hookstream_core::exchange::Method;
use hookstream_core::filter::{Filter, FilterError};
use hookstream_core::schedule::RetrySchedule;
use hookstream_core::signing::{Algorithm, Profile, Signatures};
use hookstream_core::template::{Language, Template};
use hookstream_types::SecretString;

use super::fields::Node;
use super::resources::account_of;
use super::{DEFAULT_CONCURRENCY, DEFAULT_TIMEOUT, MAX_LIST, Reference, Resolve, WebhookDocument};
use crate::checks;

/// Longest request deadline: a drain waits for it.
const MAX_TIMEOUT: Duration = Duration::from_secs(30);
const MIN_TIMEOUT: Duration = Duration::from_millis(100);
/// Attempts of a schedule.
const MAX_ATTEMPTS: usize = 50;
/// From the first attempt to the last.
const MAX_SCHEDULE: Duration = Duration::from_secs(30 * 24 * 3600);
const MAX_RATE: f64 = 100_000.0;
const MAX_CONCURRENCY: u64 = 1_000;
const MAX_SECRETS: usize = 5;
const MAX_SIGNATURES: usize = 5;
const SIGNATURES: &str = "must be `standard`, `standard_ed25519`, `stripe`, `github`, `shopify`, `{hmac_sha256_hex: HEADER}`, \
     `{http_message: hmac_sha256}`, `{http_message: ed25519}`, a list of these, or `none`";
/// Keys that an endpoint may have, among them the next.
const MAX_PINS: usize = 10;
/// Headers of a webhook's own.
const MAX_HEADERS: usize = 50;

const FIELDS: &[&str] = &[
    "account",
    "name",
    "description",
    "app",
    "state",
    "source",
    "entities",
    "event_types",
    "url",
    "method",
    "content_type",
    "payload",
    "headers",
    "secret",
    "secrets",
    "signature",
    "secret_header",
    "authorization",
    "tls",
    "retry",
    "give_up_on",
    "timeout",
    "rate",
    "concurrency",
    "ttl",
    "filter",
    "log_only_errors",
];

pub(super) fn read(node: &Node<'_>, resolve: Resolve<'_>) -> Option<WebhookDocument> {
    node.only(FIELDS)?;
    // Each field is read whether or not an earlier one is wrong, so that all problems come at once.
    let account = account_of(node);
    let name = node.required("name").and_then(|node| node.text(checks::name));
    let description = node.optional("description", |node| node.text(checks::description));
    let app = node.optional("app", |node| node.text(checks::name));
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
    let event_types = read_event_types(node);
    let url = node.required("url").and_then(|node| node.text(checks::url));
    let method = node.optional("method", |node| {
        let methods = [Method::Post, Method::Put, Method::Patch, Method::Delete, Method::Get];
        node.choice(&methods.map(|method| (method.as_str(), method)))
    });
    let content_type = node.optional("content_type", |node| node.text(checks::content_type));
    let language =
        Language::of(content_type.as_ref().and_then(Option::as_deref).unwrap_or(DEFAULT_CONTENT_TYPE));
    let payload = node.optional("payload", |node| read_payload(node, language));
    let headers = node.optional("headers", |node| read_headers(node, resolve));
    let signatures = node.optional("signature", read_signatures);
    let secret_header =
        node.optional("secret_header", |node| node.text(checks::header_name).map(|n| n.to_ascii_lowercase()));
    // Only Standard Webhooks says what a secret looks like.
    let free = match &signatures {
        Some(Some(signatures)) => signatures.take_any_secret(),
        Some(None) => false,
        None => true,
    };
    let secrets = read_secrets(node, free, resolve);
    let authorization = node.optional("authorization", |node| node.text(checks::name));
    let trust = node.optional("tls", read_trust);
    let filter = node.optional("filter", read_filter);
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
    let ttl_ms = node.optional("ttl", super::resources::ttl_ms);
    let log_only_errors = node.optional("log_only_errors", Node::boolean);
    Some(WebhookDocument {
        account: account?,
        name: name?,
        description: description?,
        app: app?,
        state: state?,
        source: source?,
        event_types: event_types?,
        url: url?,
        method: method?.unwrap_or_default(),
        content_type: content_type?.unwrap_or_else(|| DEFAULT_CONTENT_TYPE.to_owned()),
        payload: payload?.unwrap_or_default(),
        headers: headers?.unwrap_or_default(),
        secrets: secrets?,
        signatures: signatures?.unwrap_or_default(),
        secret_header: secret_header?,
        authorization: authorization?,
        trust: trust?.filter(|trust| !trust.is_usual()).map(Arc::new),
        filter: filter?,
        retry: retry?.unwrap_or_default(),
        give_up_on: give_up_on?.unwrap_or_default(),
        timeout: timeout?.unwrap_or(DEFAULT_TIMEOUT),
        rate: rate?,
        concurrency: concurrency?.unwrap_or(DEFAULT_CONCURRENCY),
        ttl_ms: ttl_ms?,
        log_only_errors: log_only_errors?.unwrap_or_default(),
    })
}

/// What is wrong is said of its place in the filter.
fn read_filter(node: &Node<'_>) -> Option<Arc<Filter>> {
    match Filter::compile(&Arc::new(node.json()?)) {
        Ok(filter) => Some(Arc::new(filter)),
        Err(FilterError { pointer, message }) => node.problem_within(&pointer, &message),
    }
}

/// `event_types` are patterns; where `entities` are given, they are actions, for each of the entities.
fn read_event_types(node: &Node<'_>) -> Option<Vec<String>> {
    let Some(entities) = node.get("entities") else {
        return node
            .required("event_types")
            .and_then(|node| node.texts(1, MAX_LIST, checks::event_type_pattern));
    };
    let entities = entities.texts(1, MAX_LIST, checks::identifier);
    let check = |action: &str| if action == "*" { Ok(()) } else { checks::identifier(action) };
    let actions = node.required("event_types").and_then(|node| node.texts(1, MAX_LIST, check));
    let (entities, actions) = (entities?, actions?);
    if entities.len() * actions.len() > MAX_LIST {
        return node.problem(&format!("has more than {MAX_LIST} pairs of an entity and an action"));
    }
    let of_entity =
        |entity: &String| actions.iter().map(|action| format!("{entity}.{action}")).collect::<Vec<_>>();
    Some(entities.iter().flat_map(of_entity).collect())
}

/// `event`, `cloudevents_structured`, `cloudevents_binary`, `profile`, or `{template: TEXT}`.
fn read_payload(node: &Node<'_>, language: Language) -> Option<Payload> {
    if node.is_text() {
        let choices = [
            ("event", &Payload::Event),
            ("cloudevents_structured", &Payload::CloudeventsStructured),
            ("cloudevents_binary", &Payload::CloudeventsBinary),
            ("profile", &Payload::Profile),
        ];
        return node.choice(&choices).cloned();
    }
    node.only(&["template"])?;
    let compiles = |text: &str| {
        Template::compile(text, language).map(drop).map_err(|error| format!("is not a template: {error}"))
    };
    let template = node.required("template")?.text(compiles)?;
    Some(Payload::Template { text: template })
}

/// One signature, a list of them, or `none`.
fn read_signatures(node: &Node<'_>) -> Option<Signatures> {
    if node.is_list() {
        return node.list(1, MAX_SIGNATURES, read_signature).map(Signatures::from);
    }
    if node.is_text_of("none") {
        return Some(Signatures::from(Vec::new()));
    }
    read_signature(node).map(|profile| Signatures::from(vec![profile]))
}

/// `standard`, `standard_ed25519`, `stripe`, `github`, `shopify`, `{hmac_sha256_hex: HEADER}` or
/// `{http_message: hmac_sha256|ed25519}`.
fn read_signature(node: &Node<'_>) -> Option<Profile> {
    if node.is_text() {
        let choices = [
            ("standard", &Profile::Standard),
            ("standard_ed25519", &Profile::StandardEd25519),
            ("stripe", &Profile::Stripe),
            ("github", &Profile::Github),
            ("shopify", &Profile::Shopify),
        ];
        let known = choices.iter().find(|(name, _)| node.is_text_of(name));
        return known.map_or_else(|| node.problem(SIGNATURES), |(_, profile)| Some((*profile).clone()));
    }
    node.only(&["hmac_sha256_hex", "http_message"])?;
    match (node.get("hmac_sha256_hex"), node.get("http_message")) {
        (Some(node), None) => {
            let header = node.text(checks::header_name)?;
            Some(Profile::HmacSha256Hex { header: header.to_ascii_lowercase() })
        }
        (None, Some(node)) => {
            let choices = [("hmac_sha256", Algorithm::HmacSha256), ("ed25519", Algorithm::Ed25519)];
            Some(Profile::HttpMessage { algorithm: node.choice(&choices)? })
        }
        _ => node.problem(SIGNATURES),
    }
}

/// `{ca: PEM, pins: [BASE64]}`
fn read_trust(node: &Node<'_>) -> Option<Trust> {
    node.only(&["ca", "pins"])?;
    let ca = node.optional("ca", |node| node.text(checks::certificates));
    let pins = node.optional("pins", |node| {
        node.list(0, MAX_PINS, |node| {
            let text = node.text(|_| Ok(()))?;
            Pin::try_from(text).map_or_else(|error| node.problem(&error.to_string()), Some)
        })
    });
    Some(Trust { ca: ca?.map(Into::into), pins: pins?.unwrap_or_default() })
}

fn read_headers(node: &Node<'_>, resolve: Resolve<'_>) -> Option<Vec<(String, Option<SecretString>)>> {
    let mut headers: Vec<(String, Option<SecretString>)> = Vec::new();
    let mut good = true;
    let entries = node.entries()?;
    if entries.len() > MAX_HEADERS {
        return node.problem(&format!("must have at most {MAX_HEADERS} entries"));
    }
    for (name, node) in entries {
        if let Err(message) = checks::header_name(&name) {
            good = node.problem::<()>(&format!("the name {message}")).is_some();
            continue;
        }
        let name = name.to_ascii_lowercase();
        if headers.iter().any(|(other, _)| *other == name) {
            good = node.problem::<()>("must not be there twice").is_some();
            continue;
        }
        if node.is_kept() {
            headers.push((name, None));
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
        headers.push((name, Some(value)));
    }
    headers.sort_by(|(one, _), (other, _)| one.cmp(other));
    good.then_some(headers)
}

/// `secret: …` or `secrets: [newest, …]`. The outer none: a problem was found.
fn read_secrets(node: &Node<'_>, free: bool, resolve: Resolve<'_>) -> Option<Option<Vec<WebhookSecret>>> {
    let text = |node: &Node<'_>| {
        let text = referenced(node, resolve)?;
        match checks::secret(text.expose(), free) {
            Ok(()) => Some(text),
            Err(message) if !free => node.problem(&format!(
                "{message}, for Standard Webhooks; with other signatures, or `none`, it may be any text"
            )),
            Err(message) => node.problem(&message),
        }
    };
    let read = |node: &Node<'_>| {
        let Some(until) = node.get("until") else { return text(node).map(WebhookSecret::new) };
        node.only(&["value", "until"])?;
        let until = until.time();
        let value = node.required("value").and_then(|node| text(&node));
        Some(WebhookSecret { text: value?, until: Some(until?) })
    };
    match (node.get("secret"), node.get("secrets")) {
        (Some(_), Some(node)) => node.problem("must not be there besides `secret`"),
        (Some(node), None) if node.is_kept() => Some(None),
        (Some(node), None) => text(&node).map(|text| Some(vec![WebhookSecret::new(text)])),
        (None, Some(node)) => node.list(1, MAX_SECRETS, read).map(Some),
        (None, None) => Some(None),
    }
}

/// Text, `{env: NAME}` or `{file: PATH}`.
pub(super) fn referenced(node: &Node<'_>, resolve: Resolve<'_>) -> Option<SecretString> {
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
    match resolved {
        Ok(value) => {
            node.resolved(&value);
            Some(value)
        }
        Err(message) => node.problem(&message),
    }
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
