//! Records of `hookstream.attempts`: the ledger of each partition of `deliveries`, and the history of attempts.
//!
//! A value is one JSON document: `{"v":1,"owner":…}` is an owner record; with `decisions` it is what that owner
//! decided, and with `attempt` it holds the exchange that the decision rests on. Who reads the ledger passes over
//! the exchange.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hookstream_core::decision::Decision;
use hookstream_core::exchange::{Exchange, Request, Timings};
use hookstream_core::job::Job;
use hookstream_core::ledger::Entry;
use hookstream_core::redact::Redactor;
use hookstream_types::{OwnerId, UnixMillis, limits};
use serde::{Deserialize, Serialize};

use crate::bad_record::{BadRecord, VERSION};

/// One exchange with an endpoint, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub webhook: hookstream_types::WebhookId,
    pub account: hookstream_types::AccountUid,
    pub event: hookstream_types::EventId,
    pub event_type: String,
    /// 1 for the first.
    pub number: u32,
    /// On the sender's clock.
    pub started_at: UnixMillis,
    pub request: LoggedRequest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<LoggedResponse>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<LoggedFailure>,
    pub timings: LoggedTimings,
}

/// Secrets are masked before this is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedRequest {
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Body>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedResponse {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Body>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedFailure {
    pub kind: hookstream_core::exchange::FailureKind,
    pub message: String,
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
pub struct Body {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// The body was longer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
}

impl Body {
    /// Keeps at most `max` bytes; none of an empty body.
    #[must_use]
    pub fn of(bytes: &[u8], max: usize, cut: bool) -> Option<Self> {
        if bytes.is_empty() {
            return None;
        }
        let kept = &bytes[..bytes.len().min(max)];
        let cut = cut || kept.len() < bytes.len();
        Some(match std::str::from_utf8(kept) {
            Ok(text) => Self { text: Some(text.to_owned()), base64: None, cut },
            // The cut may go through a character: what is whole of it is still text.
            Err(error) if cut && kept.len() - error.valid_up_to() < 4 => {
                let text = String::from_utf8_lossy(&kept[..error.valid_up_to()]).into_owned();
                Self { text: Some(text), base64: None, cut }
            }
            Err(_) => Self { text: None, base64: Some(STANDARD.encode(kept)), cut },
        })
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

impl Attempt {
    /// What is kept of an exchange, without the webhook's secrets.
    #[must_use]
    pub fn of(
        job: &Job,
        request: &Request,
        exchange: &Exchange,
        started_at: UnixMillis,
        keep_bodies: bool,
        redactor: &Redactor,
    ) -> Self {
        let body = |bytes: &[u8], max: usize, cut: bool| {
            let kept = &bytes[..bytes.len().min(max)];
            let cut = cut || kept.len() < bytes.len();
            if keep_bodies { Body::of(&redactor.body(kept, cut), max, cut) } else { None }
        };
        let (response, failure) = match &exchange.result {
            Ok(response) => {
                let logged = LoggedResponse {
                    status: response.status,
                    headers: response
                        .headers
                        .iter()
                        .map(|(name, value)| (name.clone(), redactor.text(value).into_owned()))
                        .collect(),
                    body: body(&response.body, limits::MAX_RESPONSE_BODY_BYTES, response.truncated),
                };
                (Some(logged), None)
            }
            Err(failure) => (
                None,
                Some(LoggedFailure {
                    kind: failure.kind,
                    message: redactor.text(&failure.message).into_owned(),
                }),
            ),
        };
        Self {
            webhook: job.state.webhook,
            account: job.event.account,
            event: job.event.event,
            event_type: job.event.event_type.clone(),
            number: job.state.attempts.saturating_add(1),
            started_at,
            request: LoggedRequest {
                method: request.method.as_str().to_owned(),
                url: redactor.text(&request.url).into_owned(),
                headers: request
                    .headers
                    .iter()
                    .map(|(name, value)| (name.clone(), redactor.request_header(name, value).into_owned()))
                    .collect(),
                body: body(&request.body, limits::MAX_LOGGED_REQUEST_BODY_BYTES, false),
            },
            response,
            failure,
            timings: LoggedTimings::from(&exchange.timings),
        }
    }
}

/// Writes a ledger entry, with the exchange it rests on.
pub fn encode(entry: &Entry, attempt: Option<&Attempt>, out: &mut Vec<u8>) {
    #[derive(Serialize)]
    struct Line<'a> {
        v: u32,
        owner: OwnerId,
        #[serde(skip_serializing_if = "<[Decision]>::is_empty")]
        decisions: &'a [Decision],
        #[serde(skip_serializing_if = "Option::is_none")]
        attempt: Option<&'a Attempt>,
    }
    let (owner, decisions) = match entry {
        Entry::Owner(owner) => (*owner, &[][..]),
        Entry::Decisions { owner, decisions } => (*owner, &decisions[..]),
    };
    serde_json::to_writer(out, &Line { v: VERSION, owner, decisions, attempt })
        .expect("a Vec takes all bytes, and no map here has keys that are not texts");
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

/// Reads the exchange of a record, if it holds one.
///
/// # Errors
/// [`BadRecord`] names what is wrong.
pub fn decode_attempt(value: &[u8]) -> Result<Option<Attempt>, BadRecord> {
    #[derive(Deserialize)]
    struct Line {
        v: u32,
        #[serde(default)]
        attempt: Option<Attempt>,
    }
    let line: Line =
        serde_json::from_slice(value).map_err(|source| BadRecord::of_json("value", value, source))?;
    BadRecord::check_version(line.v)?;
    Ok(line.attempt)
}

#[cfg(test)]
mod tests {
    use hookstream_core::decision::Verdict;
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
    fn what_is_no_entry() {
        assert!(matches!(decode(b"{\"v\":2}"), Err(BadRecord::Version { found: 2 })));
        assert!(matches!(decode(b""), Err(BadRecord::Json { .. })));
    }

    #[test]
    fn bodies_are_text_where_they_can_be() {
        let of = |bytes: &[u8], max| Body::of(bytes, max, false).unwrap();
        assert_eq!(of("äö".as_bytes(), 3).text.as_deref(), Some("ä"));
        assert!(of("äö".as_bytes(), 3).cut);
        assert_eq!(of(&[0xff, 0xfe], 9).base64.as_deref(), Some("//4="));
        assert_eq!(Body::of(b"", 9, false), None);
    }
}
