//! Records of `hookstream.attempts`: the ledger of each partition of `deliveries`, and the history of attempts.
//!
//! A value is one JSON document: `{"v":1,"owner":…}` is an owner record; with `decisions` it is what that owner
//! decided, and with `attempt` it holds the exchange that the decision rests on. Who reads the ledger passes over
//! the exchange.

use std::borrow::Cow;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hookstream_core::decision::Decision;
use hookstream_core::exchange::{Exchange, FailureKind, Request, Timings};
use hookstream_core::job::Job;
use hookstream_core::ledger::Entry;
use hookstream_core::redact::Redactor;
use hookstream_types::{AccountUid, EventId, OwnerId, UnixMillis, WebhookId, limits};
use serde::{Deserialize, Serialize};

use crate::bad_record::{BadRecord, VERSION};

/// One exchange with an endpoint, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt<'a> {
    pub webhook: WebhookId,
    pub account: AccountUid,
    pub event: EventId,
    pub event_type: Cow<'a, str>,
    /// 1 for the first.
    pub number: u32,
    /// The webhook's revision that the request was made by; 0 where the record does not say.
    #[serde(default)]
    pub revision: u64,
    /// A success of a webhook that logs only errors: without bodies, and not listed in the history.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unlisted: bool,
    /// On the sender's clock.
    pub started_at: UnixMillis,
    pub request: LoggedRequest<'a>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<LoggedResponse<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<LoggedFailure<'a>>,
    pub timings: LoggedTimings,
}

/// Secrets are masked before this is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedRequest<'a> {
    pub method: Cow<'a, str>,
    pub url: Cow<'a, str>,
    pub headers: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Body<'a>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedResponse<'a> {
    pub status: u16,
    pub headers: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Body<'a>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedFailure<'a> {
    pub kind: FailureKind,
    pub message: Cow<'a, str>,
}

/// Microseconds; a part that did not happen is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedTimings {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte_us: Option<u64>,
    pub total_us: u64,
}

/// A body: text where it is UTF-8, else base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body<'a> {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// The body was longer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
}

impl<'a> Body<'a> {
    /// Keeps at most `max` bytes; none of an empty body.
    #[must_use]
    pub fn of(bytes: Cow<'a, [u8]>, max: usize, cut: bool) -> Option<Self> {
        if bytes.is_empty() {
            return None;
        }
        let cut = cut || max < bytes.len();
        let kept = match bytes {
            Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[..bytes.len().min(max)]),
            Cow::Owned(mut bytes) => {
                bytes.truncate(max);
                Cow::Owned(bytes)
            }
        };
        let text = match kept {
            Cow::Borrowed(bytes) => text_of(bytes, cut).map(Cow::Borrowed),
            Cow::Owned(ref bytes) => text_of(bytes, cut).map(|text| Cow::Owned(text.to_owned())),
        };
        let Some(text) = text else {
            return Some(Self { text: None, base64: Some(STANDARD.encode(kept)), cut });
        };
        Some(Self { text: Some(text), base64: None, cut })
    }
}

/// Bytes as text, if they are text.
fn text_of(bytes: &[u8], cut: bool) -> Option<&str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text),
        // The cut may go through a character: what is whole of it is still text.
        Err(error) if cut && bytes.len() - error.valid_up_to() < 4 => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl From<&Timings> for LoggedTimings {
    fn from(timings: &Timings) -> Self {
        Self {
            dns_us: timings.dns.map(micros),
            connect_us: timings.connect.map(micros),
            tls_us: timings.tls.map(micros),
            first_byte_us: timings.first_byte.map(micros),
            total_us: micros(timings.total),
        }
    }
}

impl<'a> Attempt<'a> {
    /// What is kept of an exchange, without the webhook's secrets. The bodies of an `unlisted` one are not.
    #[must_use]
    pub fn of(
        job: &'a Job,
        request: &'a Request,
        exchange: &'a Exchange,
        started_at: UnixMillis,
        revision: u64,
        unlisted: bool,
        redactor: &Redactor,
    ) -> Self {
        let body = |bytes: &'a [u8], max: usize, cut: bool| {
            let kept = &bytes[..bytes.len().min(max)];
            let cut = cut || kept.len() < bytes.len();
            if unlisted { None } else { Body::of(redactor.body(kept, cut), max, cut) }
        };
        let (response, failure) = match &exchange.result {
            Ok(response) => {
                let logged = LoggedResponse {
                    status: response.status,
                    headers: response
                        .headers
                        .iter()
                        .map(|(name, value)| (redactor.header_name(name), redactor.text(value)))
                        .collect(),
                    body: body(&response.body, limits::MAX_RESPONSE_BODY_BYTES, response.truncated),
                };
                (Some(logged), None)
            }
            Err(failure) => {
                (None, Some(LoggedFailure { kind: failure.kind, message: redactor.text(&failure.message) }))
            }
        };
        Self {
            webhook: job.state.webhook,
            account: job.event.account,
            event: job.event.event,
            event_type: Cow::Borrowed(&job.event.event_type),
            number: job.state.attempts.saturating_add(1),
            revision,
            unlisted,
            started_at,
            request: LoggedRequest {
                method: Cow::Borrowed(request.method.as_str()),
                url: redactor.text(&request.url),
                headers: request
                    .headers
                    .iter()
                    .map(|(name, value)| (Cow::Borrowed(&**name), redactor.request_header(name, value)))
                    .collect(),
                body: body(&request.body, limits::MAX_LOGGED_REQUEST_BODY_BYTES, false),
            },
            response,
            failure,
            timings: LoggedTimings::from(&exchange.timings),
        }
    }
}

/// An [`Attempt`], written once for the entry that it belongs to.
#[derive(Clone, Debug)]
pub struct Encoded(Vec<u8>);

impl Attempt<'_> {
    #[must_use]
    pub fn encode(&self) -> Encoded {
        /// What most need beside the bodies.
        const FRAME: usize = 1024;
        let text =
            |body: Option<&Body<'_>>| body.and_then(|body| body.text.as_ref()).map_or(0, |text| text.len());
        let bodies =
            text(self.request.body.as_ref()) + text(self.response.as_ref().and_then(|r| r.body.as_ref()));
        let mut out = Vec::with_capacity(FRAME + bodies + bodies / 8);
        serde_json::to_writer(&mut out, self)
            .expect("a Vec takes all bytes, and no map here has keys that are not texts");
        Encoded(out)
    }
}

/// Writes a ledger entry, with the exchange it rests on.
pub fn encode(entry: &Entry, attempt: Option<&Encoded>, out: &mut Vec<u8>) {
    #[derive(Serialize)]
    struct Line<'a> {
        v: u32,
        owner: OwnerId,
        #[serde(skip_serializing_if = "<[Decision]>::is_empty")]
        decisions: &'a [Decision],
    }
    let (owner, decisions) = match entry {
        Entry::Owner(owner) => (*owner, &[][..]),
        Entry::Decisions { owner, decisions } => (*owner, &decisions[..]),
    };
    out.reserve(256 * (1 + decisions.len()) + attempt.map_or(0, |attempt| attempt.0.len()));
    serde_json::to_writer(&mut *out, &Line { v: VERSION, owner, decisions })
        .expect("a Vec takes all bytes, and no map here has keys that are not texts");
    if let Some(Encoded(attempt)) = attempt {
        out.pop();
        out.extend_from_slice(b",\"attempt\":");
        out.extend_from_slice(attempt);
        out.push(b'}');
    }
}

/// Reads a ledger entry, and passes over its exchange.
///
/// # Errors
/// [`BadRecord`] names what is wrong.
pub fn decode(value: &[u8]) -> Result<Entry, BadRecord> {
    #[derive(Deserialize)]
    struct Line {
        v: u32,
        owner: OwnerId,
        #[serde(default)]
        decisions: Vec<Decision>,
    }
    let line: Line =
        serde_json::from_slice(value).map_err(|source| BadRecord::of_json("value", value, source))?;
    BadRecord::check_version(line.v)?;
    if line.decisions.is_empty() {
        return Ok(Entry::Owner(line.owner));
    }
    Ok(Entry::Decisions { owner: line.owner, decisions: line.decisions })
}

/// What the history index keeps of an [`Attempt`]: all but its headers and bodies, which are passed over.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Outline {
    pub webhook: WebhookId,
    pub account: AccountUid,
    pub event: EventId,
    pub event_type: String,
    pub number: u32,
    #[serde(default)]
    pub revision: u64,
    #[serde(default)]
    pub unlisted: bool,
    pub started_at: UnixMillis,
    #[serde(default)]
    pub response: Option<OutlinedResponse>,
    #[serde(default)]
    pub failure: Option<OutlinedFailure>,
    pub timings: LoggedTimings,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct OutlinedResponse {
    pub status: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct OutlinedFailure {
    pub kind: FailureKind,
}

/// Reads a ledger entry with the outline of the exchange that its first decision rests on, if it holds one.
///
/// # Errors
/// [`BadRecord`] names what is wrong.
pub fn decode_outline(value: &[u8]) -> Result<(Entry, Option<Outline>), BadRecord> {
    #[derive(Deserialize)]
    struct Line {
        v: u32,
        owner: OwnerId,
        #[serde(default)]
        decisions: Vec<Decision>,
        #[serde(default)]
        attempt: Option<Outline>,
    }
    let line: Line =
        serde_json::from_slice(value).map_err(|source| BadRecord::of_json("value", value, source))?;
    BadRecord::check_version(line.v)?;
    if line.decisions.is_empty() {
        return Ok((Entry::Owner(line.owner), None));
    }
    Ok((Entry::Decisions { owner: line.owner, decisions: line.decisions }, line.attempt))
}

/// Reads the exchange of a record, if it holds one.
///
/// # Errors
/// [`BadRecord`] names what is wrong.
pub fn decode_attempt(value: &[u8]) -> Result<Option<Attempt<'static>>, BadRecord> {
    #[derive(Deserialize)]
    struct Line {
        v: u32,
        #[serde(default)]
        attempt: Option<Attempt<'static>>,
    }
    let line: Line =
        serde_json::from_slice(value).map_err(|source| BadRecord::of_json("value", value, source))?;
    BadRecord::check_version(line.v)?;
    Ok(line.attempt)
}

#[cfg(test)]
mod tests {
    use hookstream_core::decision::{About, SkipReason, Verdict};
    use hookstream_types::{DeliveryId, Generation, Offset};
    use uuid::Uuid;

    use super::*;

    fn bytes(entry: &Entry) -> String {
        let mut out = Vec::new();
        encode(entry, None, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn golden_version_1() {
        let owner = Entry::Owner(OwnerId(Uuid::from_u128(1)));
        assert_eq!(bytes(&owner), r#"{"v":1,"owner":"00000000-0000-0000-0000-000000000001"}"#);
        let retry = Decision {
            offset: Offset(4),
            delivery: DeliveryId(Uuid::from_u128(2)),
            generation: Generation { run: 0, n: 1 },
            about: None,
            verdict: Verdict::Retry { due: UnixMillis(5) },
        };
        let decided = Entry::Decisions { owner: OwnerId(Uuid::from_u128(1)), decisions: vec![retry] };
        let text = concat!(
            r#"{"v":1,"owner":"00000000-0000-0000-0000-000000000001","decisions":[{"offset":4,"#,
            r#""delivery":"00000000-0000-0000-0000-000000000002","generation":{"run":0,"n":1},"#,
            r#""verdict":"retry","due":5}]}"#
        );
        assert_eq!(bytes(&decided), text);
        for entry in [owner, decided] {
            assert_eq!(decode(bytes(&entry).as_bytes()).unwrap(), entry);
        }
    }

    #[test]
    fn golden_skip() {
        let about = About {
            webhook: WebhookId(Uuid::from_u128(3)),
            account: AccountUid(Uuid::from_u128(4)),
            event: EventId(Uuid::from_u128(5)),
            event_type: "order.paid".into(),
        };
        let skipped = Decision {
            offset: Offset(4),
            delivery: DeliveryId(Uuid::from_u128(2)),
            generation: Generation::default(),
            about: Some(Box::new(about)),
            verdict: Verdict::Skipped { reason: SkipReason::Deleted },
        };
        let entry = Entry::Decisions { owner: OwnerId(Uuid::from_u128(1)), decisions: vec![skipped] };
        let text = concat!(
            r#"{"v":1,"owner":"00000000-0000-0000-0000-000000000001","decisions":[{"offset":4,"#,
            r#""delivery":"00000000-0000-0000-0000-000000000002","generation":{"run":0,"n":0},"#,
            r#""about":{"webhook":"00000000-0000-0000-0000-000000000003","#,
            r#""account":"00000000-0000-0000-0000-000000000004","#,
            r#""event":"00000000-0000-0000-0000-000000000005","event_type":"order.paid"},"#,
            r#""verdict":"skipped","reason":"deleted"}]}"#
        );
        assert_eq!(bytes(&entry), text);
        assert_eq!(decode(text.as_bytes()).unwrap(), entry);
    }

    #[test]
    fn golden_attempts_old_and_new() {
        const OLD: &str = concat!(
            r#"{"webhook":"00000000-0000-0000-0000-000000000003","#,
            r#""account":"00000000-0000-0000-0000-000000000004","#,
            r#""event":"00000000-0000-0000-0000-000000000005","event_type":"order.paid","number":1,"#,
            r#""started_at":6,"request":{"method":"POST","url":"https://a.example/","headers":[]},"#,
            r#""response":{"status":204,"headers":[]},"timings":{"total_us":7}}"#
        );
        let old: Attempt<'static> = serde_json::from_str(OLD).unwrap();
        assert_eq!((old.revision, old.unlisted), (0, false));
        let text = |attempt: &Attempt<'_>| String::from_utf8(attempt.encode().0).unwrap();
        let with = |extra: &str| OLD.replace("\"number\":1,", &format!("\"number\":1,{extra}"));
        assert_eq!(text(&old), with("\"revision\":0,"));
        let new = Attempt { revision: 8, unlisted: true, ..old };
        assert_eq!(text(&new), with("\"revision\":8,\"unlisted\":true,"));
        let entry = Entry::Decisions {
            owner: OwnerId(Uuid::from_u128(1)),
            decisions: vec![Decision {
                offset: Offset(4),
                delivery: DeliveryId(Uuid::from_u128(2)),
                generation: Generation::default(),
                about: None,
                verdict: Verdict::Delivered,
            }],
        };
        let mut value = Vec::new();
        encode(&entry, Some(&new.encode()), &mut value);
        let (read, outline) = decode_outline(&value).unwrap();
        let outline = outline.unwrap();
        assert_eq!((read, outline.revision, outline.unlisted), (entry, 8, true));
        assert_eq!(outline.response, Some(OutlinedResponse { status: 204 }));
    }

    #[test]
    fn what_is_no_entry() {
        assert!(matches!(decode(b"{\"v\":2}"), Err(BadRecord::Version { found: 2 })));
        assert!(matches!(decode(b""), Err(BadRecord::Json { .. })));
    }

    #[test]
    fn bodies_are_text_where_they_can_be() {
        let of = |bytes: &'static [u8], max| Body::of(bytes.into(), max, false).unwrap();
        assert_eq!(of("äö".as_bytes(), 3).text.as_deref(), Some("ä"));
        assert!(of("äö".as_bytes(), 3).cut);
        assert_eq!(of(&[0xff, 0xfe], 9).base64.as_deref(), Some("//4="));
        assert_eq!(Body::of(b"".into(), 9, false), None);
    }
}
