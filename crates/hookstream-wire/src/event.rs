//! Events: records of `hookstream.events`.
//!
//! CloudEvents 1.0, Kafka protocol binding, binary mode: `ce_` headers (UTF-8, as the binding says) and the
//! content type, the data as the value. What hookstream knows beyond that stands in `hs-` headers:
//!
//! | header | |
//! |---|---|
//! | `hs-v` | the version of these headers |
//! | `hs-event` | hookstream's id of the event |
//! | `hs-account` | the account's uid |
//! | `hs-source` | the name of the configured source |
//! | `hs-config` | the config offset that the ingester had applied (rule 10) |
//! | `hs-produced-at` | when the source record was produced, Unix milliseconds |

use std::str::FromStr;

use hookstream_core::event::EventAttributes;
use hookstream_types::{AccountUid, EventId, Offset, UnixMillis};
use uuid::Uuid;
use uuid::fmt::Hyphenated;

use crate::bad_record::{BadRecord, VERSION};

const PREFIX: &str = "ce_";
const CONTENT_TYPE: &str = "content-type";

/// A record's headers, as the log takes and gives them.
pub type Headers<'a> = [(&'a str, &'a [u8])];

/// Shows the headers of the event's record to `produce`.
pub fn encode<R>(event: &EventAttributes, config: Offset, produce: impl FnOnce(&Headers<'_>) -> R) -> R {
    let mut ids = [[0; Hyphenated::LENGTH]; 2];
    event.event.0.hyphenated().encode_lower(&mut ids[0]);
    event.account.0.hyphenated().encode_lower(&mut ids[1]);
    let config = config.to_string();
    let produced_at = event.produced_at.0.to_string();
    let version = VERSION.to_string();
    let names: Vec<String> = event.extensions.iter().map(|(name, _)| format!("{PREFIX}{name}")).collect();

    let mut headers: Vec<(&str, &[u8])> = Vec::with_capacity(13 + names.len());
    headers.extend([
        ("hs-v", version.as_bytes()),
        ("hs-event", &ids[0]),
        ("hs-account", &ids[1]),
        ("hs-source", event.source.as_bytes()),
        ("hs-config", config.as_bytes()),
        ("hs-produced-at", produced_at.as_bytes()),
        ("ce_specversion", b"1.0"),
        ("ce_id", event.id.as_bytes()),
        ("ce_source", event.ce_source.as_bytes()),
        ("ce_type", event.event_type.as_bytes()),
        ("ce_time", event.time.as_bytes()),
    ]);
    if let Some(subject) = &event.subject {
        headers.push(("ce_subject", subject.as_bytes()));
    }
    if let Some(content_type) = &event.content_type {
        headers.push((CONTENT_TYPE, content_type.as_bytes()));
    }
    let extensions = names.iter().zip(&event.extensions);
    headers.extend(extensions.map(|(name, (_, value))| (name.as_str(), value.as_bytes())));
    produce(&headers)
}

/// Reads an event's headers: its attributes and the config offset of its maker.
///
/// # Errors
/// [`BadRecord`] names the header that is missing or wrong.
pub fn decode(headers: &Headers<'_>) -> Result<(EventAttributes, Offset), BadRecord> {
    let version: u32 = parsed(headers, "hs-v", "a number")?;
    BadRecord::check_version(version)?;
    let mut event = EventAttributes {
        event: EventId(parsed(headers, "hs-event", "a UUID")?),
        account: AccountUid(parsed::<Uuid>(headers, "hs-account", "a UUID")?),
        source: required(headers, "hs-source")?.to_owned(),
        id: required(headers, "ce_id")?.to_owned(),
        ce_source: required(headers, "ce_source")?.to_owned(),
        event_type: required(headers, "ce_type")?.to_owned(),
        subject: None,
        time: required(headers, "ce_time")?.to_owned(),
        content_type: None,
        extensions: Vec::new(),
        produced_at: UnixMillis(parsed(headers, "hs-produced-at", "a number")?),
    };
    let config = Offset(parsed(headers, "hs-config", "a number")?);
    for (name, value) in headers {
        match *name {
            "ce_subject" => event.subject = Some(text(name, value)?.to_owned()),
            CONTENT_TYPE => event.content_type = Some(text(name, value)?.to_owned()),
            "ce_specversion" | "ce_id" | "ce_source" | "ce_type" | "ce_time" => {}
            _ => {
                if let Some(extension) = name.strip_prefix(PREFIX) {
                    event.extensions.push((extension.to_owned(), text(name, value)?.to_owned()));
                }
            }
        }
    }
    Ok((event, config))
}

pub(crate) fn required<'a>(headers: &Headers<'a>, name: &'static str) -> Result<&'a str, BadRecord> {
    let (_, value) = headers.iter().find(|(n, _)| *n == name).ok_or(BadRecord::MissingHeader { name })?;
    text(name, value)
}

pub(crate) fn parsed<T: FromStr>(
    headers: &Headers<'_>,
    name: &'static str,
    expected: &'static str,
) -> Result<T, BadRecord> {
    required(headers, name)?.parse().map_err(|_| BadRecord::Header { name: name.to_owned(), expected })
}

fn text<'a>(name: &str, value: &'a [u8]) -> Result<&'a str, BadRecord> {
    std::str::from_utf8(value).map_err(|_| BadRecord::Header { name: name.to_owned(), expected: "UTF-8" })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn example() -> EventAttributes {
        EventAttributes {
            event: EventId(Uuid::from_u128(3)),
            account: AccountUid(Uuid::from_u128(4)),
            source: "orders".into(),
            id: "e-1".into(),
            ce_source: "/shop".into(),
            event_type: "order.paid".into(),
            subject: Some("Łódź".into()),
            time: "2026-01-02T03:04:05Z".into(),
            content_type: Some("application/json".into()),
            extensions: vec![("account".into(), "acme".into())],
            produced_at: UnixMillis(1_767_323_045_000),
        }
    }

    #[test]
    fn golden_version_1() {
        let expected: &Headers<'_> = &[
            ("hs-v", b"1"),
            ("hs-event", b"00000000-0000-0000-0000-000000000003"),
            ("hs-account", b"00000000-0000-0000-0000-000000000004"),
            ("hs-source", b"orders"),
            ("hs-config", b"7"),
            ("hs-produced-at", b"1767323045000"),
            ("ce_specversion", b"1.0"),
            ("ce_id", b"e-1"),
            ("ce_source", b"/shop"),
            ("ce_type", b"order.paid"),
            ("ce_time", b"2026-01-02T03:04:05Z"),
            ("ce_subject", "Łódź".as_bytes()),
            ("content-type", b"application/json"),
            ("ce_account", b"acme"),
        ];
        encode(&example(), Offset(7), |headers| assert_eq!(headers, expected));
        assert_eq!(decode(expected).unwrap(), (example(), Offset(7)));
    }

    type Change<'a> = &'a dyn Fn(&mut Vec<(&str, &[u8])>);

    #[test]
    fn errors_name_the_header() {
        let message = |change: Change<'_>| {
            encode(&example(), Offset(7), |headers| {
                // Shortens the lifetimes, so that the change may bring its own values.
                let mut headers: Vec<(&str, &[u8])> = headers.to_vec();
                change(&mut headers);
                decode(&headers).unwrap_err().to_string()
            })
        };
        assert_eq!(
            message(&|headers| headers.retain(|(name, _)| *name != "ce_type")),
            "the record has no header `ce_type`: it was not written by hookstream"
        );
        assert_eq!(message(&|headers| headers[1].1 = b"x"), "the record's header `hs-event` is not a UUID");
        assert_eq!(
            message(&|headers| headers[11].1 = b"\xff"),
            "the record's header `ce_subject` is not UTF-8"
        );
        assert!(message(&|headers| headers[0].1 = b"2").contains("version 2"));
    }

    proptest! {
        #[test]
        fn any_event_comes_back(
            texts in proptest::collection::vec(any::<String>(), 5),
            subject in any::<Option<String>>(),
            content_type in any::<Option<String>>(),
            extensions in proptest::collection::btree_map("x[a-z0-9]{1,20}", any::<String>(), 0..4),
            numbers in any::<(i64, i64)>(),
        ) {
            let mut event = example();
            let mut texts = texts.into_iter();
            for field in [&mut event.source, &mut event.id, &mut event.ce_source, &mut event.event_type, &mut event.time] {
                *field = texts.next().unwrap();
            }
            (event.subject, event.content_type) = (subject, content_type);
            event.extensions = extensions.into_iter().collect();
            event.produced_at = UnixMillis(numbers.0);
            let decoded = encode(&event, Offset(numbers.1), decode).unwrap();
            prop_assert_eq!(decoded, (event, Offset(numbers.1)));
        }

        #[test]
        fn garbage_never_panics(headers in any::<Vec<(String, Vec<u8>)>>()) {
            let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
            prop_assert!(decode(&headers).is_err());
        }
    }
}
