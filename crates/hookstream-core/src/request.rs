//! The request that carries a job to its endpoint.
//!
//! The body is an [`envelope`] around the event's data, whose bytes are copied and never parsed. A webhook may ask for
//! another payload: a CloudEvent in either mode ([`cloudevents`]), which profile had which event ([`Payload::Profile`]), or one
//! of its own making ([`Payload::Template`]).
//!
//! GET and DELETE have no body unless a template gives one; what is signed is then the empty body. Headers go out in a fixed order: signature
//! profile, user agent, content type, authorization, the secret's header, the webhook's own.

mod cloudevents;
mod envelope;
pub mod handshake;
mod profile;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hookstream_types::{EventId, UnixMillis};
use zeroize::Zeroizing;

use crate::config::{ClientCredentials, Credentials, Identity, Payload, Tls, Webhook, is_within};
use crate::endpoint;
use crate::event::EventAttributes;
use crate::exchange::{Method, Request};
use crate::job::Job;
use crate::signing::{Message, SigningKey};
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
    #[error(
        "two things want the header `{name}`: a signature, the secret, an authorization or a header of the webhook's own; change one"
    )]
    Twice { name: String },
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
    &["webhook-", "hookstream-", "x-forwarded-", "sec-", "x-aws-ec2-metadata-", "x-google-metadata-"];

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
    /// The URL as it is sent.
    target: String,
    /// Names the key to receivers that have several.
    key_id: String,
    /// Of the signatures.
    names: Vec<Arc<str>>,
    /// What is the same for all requests, in sending order.
    fixed: Vec<(Arc<str>, Arc<str>)>,
    /// None: no body, no type; or each event's own.
    content_type: Option<Arc<str>>,
    tls: Option<Arc<Tls>>,
    token: Option<Arc<ClientCredentials>>,
}

/// What bodies are made by.
#[derive(Clone, Debug)]
enum Body {
    None,
    Envelope(Language),
    Profile,
    CloudeventsStructured,
    CloudeventsBinary,
    Template(Template),
}

/// Names the replay that a delivery comes from: it may have been made before.
pub const REPLAY_HEADER: &str = "hookstream-replay";

type EventHeaders = Vec<(Arc<str>, Arc<str>)>;

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
            Payload::Event => Self::Envelope(envelope::language(&webhook.content_type)),
            Payload::CloudeventsStructured => Self::CloudeventsStructured,
            Payload::CloudeventsBinary => Self::CloudeventsBinary,
        })
    }

    /// What the requests say they have. None: nothing, or what each event says.
    fn content_type<'a>(&self, webhook: &'a Webhook) -> Option<&'a str> {
        match self {
            Self::CloudeventsStructured => Some(cloudevents::CONTENT_TYPE),
            Self::CloudeventsBinary => None,
            Self::None if !has_body(webhook.method) => None,
            _ => Some(&webhook.content_type),
        }
    }

    /// The body, and what of the event goes into headers.
    fn of_event(&self, input: Input<'_>) -> Result<(Bytes, EventHeaders), NoPayload> {
        let Input { event, data, .. } = input;
        let body = match self {
            Self::None => Bytes::new(),
            Self::Profile => Bytes::from(profile::body(event, data)),
            Self::Envelope(language) => envelope::body(*language, event, data),
            Self::CloudeventsStructured => Bytes::from(cloudevents::structured(event, data)),
            Self::CloudeventsBinary => return Ok((data.clone(), cloudevents::headers(event))),
            Self::Template(template) => Bytes::from(template.render(input)?),
        };
        Ok((body, Vec::new()))
    }
}

impl Prepared {
    /// # Errors
    /// [`Unsendable`] if no request can be made for this webhook.
    pub fn new(webhook: Arc<Webhook>, user_agent: &str) -> Result<Self, Unsendable> {
        let newest = webhook.secrets.first().ok_or(Unsendable::NoSecret)?;
        let body = Body::of(&webhook)?;
        let mut fixed = vec![(Arc::from("user-agent"), Arc::from(user_agent))];
        let content_type: Option<Arc<str>> = body.content_type(&webhook).map(Arc::from);
        if let Some(content_type) = &content_type {
            fixed.push((Arc::from("content-type"), Arc::clone(content_type)));
        }
        let mut own = |name: &str, value: &str| -> Result<(), Unsendable> {
            check_header(name, value).map_err(|source| Unsendable::Header {
                name: name.escape_default().take(MAX_HEADER_NAME_BYTES).collect(),
                source,
            })?;
            fixed.push((Arc::from(name.to_ascii_lowercase()), Arc::from(value)));
            Ok(())
        };
        let (mut identity, mut token) = (None, None);
        match authorized(&webhook)? {
            Some(Authorized::Header(name, value)) => own(&name, &value)?,
            Some(Authorized::Token(credentials)) => token = Some(Arc::new(credentials)),
            Some(Authorized::Identity(certificate)) => identity = Some(certificate),
            None => {}
        }
        if let Some(name) = &webhook.secret_header {
            own(name, newest.text.expose())?;
        }
        for (name, value) in &webhook.headers {
            own(name, value)?;
        }
        let names: Vec<Arc<str>> = webhook.signatures.names().into_iter().map(Arc::from).collect();
        let mut all: Vec<&str> =
            names.iter().chain(fixed.iter().map(|(name, _)| name)).map(|name| &**name).collect();
        if token.is_some() {
            all.push("authorization");
        }
        all.sort_unstable();
        if let Some(twice) = all.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Unsendable::Twice { name: twice[0].to_owned() });
        }
        let keys = webhook.secrets.iter().map(|secret| (SigningKey::new(secret), secret.until)).collect();
        let url = Arc::from(webhook.url.as_str());
        // What is no URL is refused on the way out, with the reason.
        let target = endpoint::parse(&webhook.url).map_or_else(|_| webhook.url.clone(), String::from);
        let tls = Tls::new(webhook.trust.as_deref(), identity);
        let key_id = webhook.id.to_string();
        Ok(Self { webhook, body, keys, url, target, key_id, names, fixed, content_type, tls, token })
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
        let account = &*self.webhook.account_name;
        let input = Input { event: &job.event, account, data: &job.data };
        let (body, mut headers) = self.body.of_event(input)?;
        if job.state.generation.run != 0 {
            let run: Arc<str> = Arc::from(job.state.generation.run.to_string());
            headers.push((Arc::from(REPLAY_HEADER), run));
        }
        Ok(self.signed(&job.state.delivery.to_string(), body, headers, now))
    }

    /// A request with this body and `webhook-id`, signed for the time `now`.
    fn signed(&self, id: &str, body: Bytes, of_event: EventHeaders, now: UnixMillis) -> Request {
        let webhook = &*self.webhook;
        let counting = self.keys.iter().filter(|(_, until)| until.is_none_or(|until| now < until));
        let keys = counting.map(|(key, _)| key);
        let own_type = of_event.iter().find(|(name, _)| &**name == "content-type").map(|(_, value)| value);
        let message = Message {
            key_id: &self.key_id,
            method: webhook.method.as_str(),
            target: &self.target,
            content_type: self.content_type.as_ref().or(own_type).map(|value| &**value),
            id,
            timestamp: now.0.div_euclid(1000),
            body: &body,
        };
        let signatures = webhook.signatures.values(keys, &message);
        let mut headers = Vec::with_capacity(signatures.len() + self.fixed.len() + of_event.len());
        headers.extend(self.names.iter().cloned().zip(signatures.into_iter().map(Arc::from)));
        headers.extend_from_slice(&self.fixed);
        // A webhook's own header of that name counts more.
        headers
            .extend(of_event.into_iter().filter(|(name, _)| !self.fixed.iter().any(|(own, _)| own == name)));
        Request {
            account: webhook.account,
            method: webhook.method,
            url: Arc::clone(&self.url),
            headers,
            body,
            deadline: webhook.timeout,
            tls: self.tls.clone(),
            token: self.token.clone(),
        }
    }

    /// The request that asks whether an endpoint is there and willing. Of a template it has what a template makes of an
    /// event that has nothing but a type.
    ///
    /// # Errors
    /// [`Unsendable::NoPayload`] if the template makes none.
    pub fn ping(&self, id: &str, now: UnixMillis) -> Result<Request, Unsendable> {
        let event = ping_event(&self.webhook, id, now);
        let data = match &self.body {
            Body::Template(_) => Bytes::new(),
            _ => Bytes::from(format!(r#"{{"webhook":"{}"}}"#, self.webhook.id)),
        };
        let (body, headers) = match &self.body {
            Body::Profile => (Bytes::from(profile::ping(&event.time, id)), Vec::new()),
            other => {
                other.of_event(Input { event: &event, account: &self.webhook.account_name, data: &data })?
            }
        };
        Ok(self.signed(id, body, headers, now))
    }
}

fn ping_event(webhook: &Webhook, id: &str, now: UnixMillis) -> EventAttributes {
    EventAttributes {
        event: EventId(uuid::Uuid::nil()),
        account: webhook.account,
        source: String::new(),
        id: id.to_owned(),
        ce_source: "hookstream".to_owned(),
        event_type: PING_TYPE.to_owned(),
        subject: None,
        time: timestamp(now),
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

/// What an authorization comes to.
enum Authorized {
    Header(String, Zeroizing<String>),
    Token(ClientCredentials),
    Identity(Identity),
}

fn authorized(webhook: &Webhook) -> Result<Option<Authorized>, Unsendable> {
    let Some(authorization) = &webhook.authorization else { return Ok(None) };
    if !is_within(&webhook.url, &authorization.endpoint) {
        return Err(Unsendable::Elsewhere { endpoint: authorization.endpoint.clone() });
    }
    let standard = |value| Authorized::Header("authorization".to_owned(), value);
    Ok(Some(match &authorization.credentials {
        Credentials::Header { name, value, .. } => {
            Authorized::Header(name.clone(), Zeroizing::new(value.expose().to_owned()))
        }
        Credentials::Basic { user, password } => {
            let pair = Zeroizing::new(format!("{user}:{}", password.expose()));
            standard(Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes()))))
        }
        Credentials::Bearer { token } => standard(Zeroizing::new(format!("Bearer {}", token.expose()))),
        Credentials::Oauth2(credentials) => Authorized::Token(credentials.clone()),
        Credentials::Mtls { certificate, key } => {
            Authorized::Identity(Identity { certificate: Arc::from(certificate.as_str()), key: key.clone() })
        }
    }))
}

fn has_body(method: Method) -> bool {
    match method {
        Method::Post | Method::Put | Method::Patch => true,
        Method::Delete | Method::Get | Method::Options => false,
    }
}

/// One request for a webhook that is not kept [`Prepared`].
///
/// # Errors
/// [`Unsendable`] if no request can be made for this webhook.
pub fn build(webhook: &Webhook, job: &Job, now: UnixMillis, user_agent: &str) -> Result<Request, Unsendable> {
    Prepared::new(Arc::new(webhook.clone()), user_agent)?.request(job, now)
}

#[cfg(test)]
pub(crate) mod tests;
