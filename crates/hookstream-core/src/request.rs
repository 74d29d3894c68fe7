//! The request that carries a job to its endpoint.
//!
//! The body is an envelope around the event's data, whose bytes are copied and never parsed:
//!
//! - JSON (no content type, `application/json`, `text/json`, `…+json`):
//!   `{"type":…,"timestamp":…,"data":<the bytes>}`; empty data is `null`. Whoever made the event vouches that the
//!   bytes are JSON.
//! - text (`text/…`, `application/xml`, `…+xml`) in UTF-8: `{"type":…,"timestamp":…,"datacontenttype":…,"data":"…"}`.
//! - anything else: `{"type":…,"timestamp":…,"datacontenttype":…,"data_base64":"…"}`, the names of the CloudEvents
//!   JSON format.
//!
//! A webhook may ask for another payload: which profile had which event ([`Payload::Profile`]), or one of its own making
//! ([`Payload::Template`]).
//!
//! GET and DELETE have no body unless a template gives one; what is signed is then the empty body. Headers go out in a fixed order: signature
//! profile, user agent, content type, authorization, the secret's header, the webhook's own.

mod profile;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hookstream_types::{EventId, UnixMillis};
use zeroize::Zeroizing;

use crate::config::{Credentials, Payload, Webhook, is_within};
use crate::event::EventAttributes;
use crate::exchange::{Method, Request};
use crate::job::Job;
use crate::signing::SigningKey;
use crate::template::{Input, Language, NoPayload, Template, TemplateError};

/// Longest name of a webhook's own header.
pub const MAX_HEADER_NAME_BYTES: usize = 256;
/// Longest value of a webhook's own header.
pub const MAX_HEADER_VALUE_BYTES: usize = 4096;

/// Why no request can be made of a job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsendable {
    #[error("the webhook has no signing secret, and nothing is sent unsigned; add one")]
    NoSecret,
    #[error("the webhook's header `{name}` can't be sent; change or remove it")]
    Header {
        /// Made printable.
        name: String,
        #[source]
        source: BadHeader,
    },
    #[error(
        "the webhook's authorization is for endpoints below `{endpoint}`, not for this one; change the URL or the authorization"
    )]
    Elsewhere { endpoint: String },
    #[error("the webhook wants {what}, which this version can't send yet")]
    NotYet { what: &'static str },
    #[error("the webhook's template can't be used; correct it")]
    Template(#[from] TemplateError),
    #[error(transparent)]
    NoPayload(#[from] NoPayload),
}

/// Why a webhook may not have a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHeader {
    #[error("a header's name has 1 to 256 of the characters `A-Z a-z 0-9 - _`")]
    Name,
    #[error(
        "the name is reserved: hookstream or the HTTP connection sets it, or it opens doors that are not the webhook's"
    )]
    Reserved,
    #[error("a header's value has at most 4096 visible ASCII characters and spaces")]
    Value,
}

/// Names that a webhook can't set, lower case and sorted: framing and hop-by-hop headers (RFC 9110 §7.6.1), what
/// hookstream sets itself, what receivers trust proxies for, and the headers that unlock cloud metadata services.
const RESERVED: &[&str] = &[
    "accept-encoding",
    "alt-svc",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "metadata",
    "metadata-flavor",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "x-real-ip",
];

/// The same for whole families of names.
const RESERVED_PREFIXES: &[&str] =
    &["webhook-", "x-forwarded-", "sec-", "x-aws-ec2-metadata-", "x-google-metadata-"];

/// Whether a webhook may have this header; the name's case doesn't matter.
///
/// # Errors
/// [`BadHeader`] says why not.
pub fn check_header(name: &str, value: &str) -> Result<(), BadHeader> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !(1..=MAX_HEADER_NAME_BYTES).contains(&name.len()) || !name.bytes().all(is_token) {
        return Err(BadHeader::Name);
    }
    let reserved = RESERVED.iter().any(|other| other.eq_ignore_ascii_case(name));
    let in_family = RESERVED_PREFIXES
        .iter()
        .any(|prefix| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)));
    if reserved || in_family {
        return Err(BadHeader::Reserved);
    }
    if value.len() > MAX_HEADER_VALUE_BYTES || !value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Err(BadHeader::Value);
    }
    Ok(())
}

/// A webhook made ready for many requests: its headers checked and its signing keys set up once.
///
/// Made anew when the webhook changes.
#[derive(Clone, Debug)]
pub struct Prepared {
    webhook: Arc<Webhook>,
    body: Body,
    /// The newest first, each with the time until when it counts.
    keys: Vec<(SigningKey, Option<UnixMillis>)>,
    url: Arc<str>,
    /// Of the signature profile.
    names: Vec<Arc<str>>,
    /// What is the same for all requests, in sending order.
    fixed: Vec<(Arc<str>, Arc<str>)>,
}

/// What bodies are made by.
#[derive(Clone, Debug)]
enum Body {
    None,
    Envelope,
    Profile,
    Template(Template),
}

impl Body {
    fn of(webhook: &Webhook) -> Result<Self, TemplateError> {
        Ok(match &webhook.payload {
            // A body that was asked for is sent whatever the method; one that nobody wrote only where one is usual.
            Payload::Template { text } if text.is_empty() => Self::None,
            Payload::Template { text } => {
                Self::Template(Template::compile(text, Language::of(&webhook.content_type))?)
            }
            _ if !has_body(webhook.method) => Self::None,
            Payload::Profile => Self::Profile,
            Payload::Event => Self::Envelope,
        })
    }
}

impl Prepared {
    /// # Errors
    /// [`Unsendable`] if no request can be made for this webhook.
    pub fn new(webhook: Arc<Webhook>, user_agent: &str) -> Result<Self, Unsendable> {
        let newest = webhook.secrets.first().ok_or(Unsendable::NoSecret)?;
        let body = Body::of(&webhook)?;
        let mut fixed = vec![(Arc::from("user-agent"), Arc::from(user_agent))];
        if has_body(webhook.method) || matches!(body, Body::Template(_)) {
            fixed.push((Arc::from("content-type"), Arc::from(webhook.content_type.as_str())));
        }
        let mut own = |name: &str, value: &str| -> Result<(), Unsendable> {
            check_header(name, value).map_err(|source| Unsendable::Header {
                name: name.escape_default().take(MAX_HEADER_NAME_BYTES).collect(),
                source,
            })?;
            fixed.push((Arc::from(name.to_ascii_lowercase()), Arc::from(value)));
            Ok(())
        };
        if let Some((name, value)) = authorization_header(&webhook)? {
            own(&name, &value)?;
        }
        if let Some(name) = &webhook.secret_header {
            own(name, newest.text.expose())?;
        }
        for (name, value) in &webhook.headers {
            own(name, value)?;
        }
        let keys =
            webhook.secrets.iter().map(|secret| (SigningKey::new(&secret.key()), secret.until)).collect();
        let names = webhook.signature.names().into_iter().map(Arc::from).collect();
        let url = Arc::from(webhook.url.as_str());
        Ok(Self { webhook, body, keys, url, names, fixed })
    }

    #[must_use]
    pub fn webhook(&self) -> &Arc<Webhook> {
        &self.webhook
    }

    /// The request for `job`, signed for the time `now`.
    ///
    /// # Errors
    /// [`Unsendable::NoPayload`] if the template makes none of this event.
    pub fn request(&self, job: &Job, now: UnixMillis) -> Result<Request, Unsendable> {
        let body = match &self.body {
            Body::None => Bytes::new(),
            Body::Profile => Bytes::from(profile::body(&job.event, &job.data)),
            Body::Envelope => Bytes::from(envelope(&job.event, &job.data)),
            Body::Template(template) => {
                let account = &*self.webhook.account_name;
                Bytes::from(template.render(Input { event: &job.event, account, data: &job.data })?)
            }
        };
        Ok(self.signed(&job.state.delivery.to_string(), body, now))
    }

    /// A request with this body and `webhook-id`, signed for the time `now`.
    #[must_use]
    pub fn signed(&self, id: &str, body: Bytes, now: UnixMillis) -> Request {
        let webhook = &*self.webhook;
        let counting = self.keys.iter().filter(|(_, until)| until.is_none_or(|until| now < until));
        let keys = counting.map(|(key, _)| key);
        let signature = webhook.signature.values(keys, id, now.0.div_euclid(1000), &body);
        let mut headers = Vec::with_capacity(signature.len() + self.fixed.len());
        headers.extend(self.names.iter().cloned().zip(signature.into_iter().map(Arc::from)));
        headers.extend_from_slice(&self.fixed);
        let url = Arc::clone(&self.url);
        Request { method: webhook.method, url, headers, body, deadline: webhook.timeout }
    }

    /// The request that asks whether an endpoint is there and willing. Of a template it has what a template makes of an
    /// event that has nothing but a type.
    ///
    /// # Errors
    /// [`Unsendable::NoPayload`] if the template makes none.
    pub fn ping(&self, id: &str, now: UnixMillis) -> Result<Request, Unsendable> {
        let time = timestamp(now);
        let body = match &self.body {
            Body::None => Bytes::new(),
            Body::Profile => Bytes::from(profile::ping(&time, id)),
            Body::Envelope => {
                let webhook = self.webhook.id;
                Bytes::from(format!(
                    r#"{{"type":"{PING_TYPE}","timestamp":"{time}","data":{{"webhook":"{webhook}"}}}}"#
                ))
            }
            Body::Template(template) => {
                let event = ping_event(&self.webhook, id, time, now);
                let account = &*self.webhook.account_name;
                Bytes::from(template.render(Input { event: &event, account, data: &Bytes::new() })?)
            }
        };
        Ok(self.signed(id, body, now))
    }
}

fn ping_event(webhook: &Webhook, id: &str, time: String, now: UnixMillis) -> EventAttributes {
    EventAttributes {
        event: EventId(uuid::Uuid::nil()),
        account: webhook.account,
        source: String::new(),
        id: id.to_owned(),
        ce_source: "hookstream".to_owned(),
        event_type: PING_TYPE.to_owned(),
        subject: None,
        time,
        content_type: None,
        extensions: Vec::new(),
        produced_at: now,
    }
}

/// Event type of pings.
pub const PING_TYPE: &str = "hookstream.ping";

/// RFC 3339, UTC, to the second.
fn timestamp(at: UnixMillis) -> String {
    let seconds = jiff::Timestamp::from_second(at.0.div_euclid(1000)).unwrap_or_default();
    seconds.to_string()
}

/// The header that an authorization adds.
fn authorization_header(webhook: &Webhook) -> Result<Option<(String, Zeroizing<String>)>, Unsendable> {
    let Some(authorization) = &webhook.authorization else { return Ok(None) };
    if !is_within(&webhook.url, &authorization.endpoint) {
        return Err(Unsendable::Elsewhere { endpoint: authorization.endpoint.clone() });
    }
    let standard = |value| ("authorization".to_owned(), value);
    Ok(Some(match &authorization.credentials {
        Credentials::Header { name, value, .. } => (name.clone(), Zeroizing::new(value.expose().to_owned())),
        Credentials::Basic { user, password } => {
            let pair = Zeroizing::new(format!("{user}:{}", password.expose()));
            standard(Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes()))))
        }
        Credentials::Bearer { token } => standard(Zeroizing::new(format!("Bearer {}", token.expose()))),
        Credentials::Oauth2 { .. } => return Err(Unsendable::NotYet { what: "an OAuth2 token" }),
    }))
}

fn has_body(method: Method) -> bool {
    match method {
        Method::Post | Method::Put | Method::Patch => true,
        Method::Delete | Method::Get => false,
    }
}

/// One request for a webhook that is not kept [`Prepared`].
///
/// # Errors
/// [`Unsendable`] if no request can be made for this webhook.
pub fn build(webhook: &Webhook, job: &Job, now: UnixMillis, user_agent: &str) -> Result<Request, Unsendable> {
    Prepared::new(Arc::new(webhook.clone()), user_agent)?.request(job, now)
}

/// How data stands in the envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DataForm {
    Json,
    Text,
    Binary,
}

impl DataForm {
    /// By what the producer declared, never by the look of the bytes: the same event type always has the same form,
    /// but for text that isn't UTF-8.
    fn of(content_type: Option<&str>, data: &[u8]) -> Self {
        let Some(content_type) = content_type else { return Self::Json };
        let media = content_type.split(';').next().unwrap_or_default().trim();
        let ends = |suffix: &str| {
            media
                .len()
                .checked_sub(suffix.len())
                .and_then(|at| media.get(at..))
                .is_some_and(|end| end.eq_ignore_ascii_case(suffix))
        };
        let is = |name: &str| media.eq_ignore_ascii_case(name);
        if media.is_empty() || is("application/json") || is("text/json") || ends("+json") {
            Self::Json
        } else if (is("application/xml")
            || ends("+xml")
            || media.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("text/")))
            && std::str::from_utf8(data).is_ok()
        {
            Self::Text
        } else {
            Self::Binary
        }
    }
}

/// The default body.
fn envelope(event: &EventAttributes, data: &[u8]) -> Vec<u8> {
    /// Names, quotes, commas and braces.
    const FRAME: usize = 96;
    let content_type = event.content_type.as_deref();
    let form = DataForm::of(content_type, data);
    let data_bytes = if form == DataForm::Binary { data.len().div_ceil(3) * 4 } else { data.len() };
    let mut out = Vec::with_capacity(
        FRAME + event.event_type.len() + event.time.len() + content_type.map_or(0, str::len) + data_bytes,
    );
    out.extend_from_slice(br#"{"type":"#);
    push_json_string(&mut out, &event.event_type);
    out.extend_from_slice(br#","timestamp":"#);
    push_json_string(&mut out, &event.time);
    if form != DataForm::Json {
        out.extend_from_slice(br#","datacontenttype":"#);
        push_json_string(&mut out, content_type.unwrap_or_default());
    }
    match form {
        DataForm::Json => {
            out.extend_from_slice(br#","data":"#);
            out.extend_from_slice(if data.is_empty() { b"null" } else { data });
        }
        DataForm::Text => {
            out.extend_from_slice(br#","data":"#);
            push_json_string(&mut out, &String::from_utf8_lossy(data));
        }
        DataForm::Binary => {
            out.extend_from_slice(br#","data_base64":""#);
            out.extend_from_slice(STANDARD.encode(data).as_bytes());
            out.push(b'"');
        }
    }
    out.push(b'}');
    out
}

fn push_json_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a string is JSON, and a vector takes all bytes");
}

#[cfg(test)]
pub(crate) mod tests;
