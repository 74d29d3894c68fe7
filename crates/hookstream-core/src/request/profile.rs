//! The payload of a profile's notification: an identifier and nothing more.
//!
//! `{"eventTime":"18.03.2024T09:56:17Z","profileType":"TRAVELLER","event":"UPDATE","uuid":"…","company":{"uuid":"…"}}`.
//! Profile type and event are the two halves of the event's type; the ids stand in its data (`uuid`, `company.uuid`), or
//! the profile's in its subject. The company is there for travellers only.

use serde::{Deserialize, Serialize};

use crate::config::entity_and_action;
use crate::event::EventAttributes;

/// Profile type whose notifications name a company.
const TRAVELLER: &str = "TRAVELLER";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Notification<'a> {
    event_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile_type: Option<&'a str>,
    event: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    uuid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    company: Option<Company>,
}

#[derive(Serialize, Deserialize)]
struct Company {
    uuid: String,
}

#[derive(Default, Deserialize)]
struct Data {
    #[serde(default)]
    uuid: Option<String>,
    #[serde(default)]
    company: Option<Company>,
}

/// What is sent of an event. Data without ids gives a notification without them: the event is not lost for that.
pub(super) fn body(event: &EventAttributes, data: &[u8]) -> Vec<u8> {
    let (profile_type, action) = entity_and_action(&event.event_type);
    let data: Data = serde_json::from_slice(data).unwrap_or_default();
    json(&Notification {
        event_time: event_time(&event.time),
        profile_type: Some(profile_type),
        event: action,
        uuid: data.uuid.as_deref().or(event.subject.as_deref()),
        company: data.company.filter(|_| profile_type == TRAVELLER),
    })
}

/// What is sent when a webhook is made: `uuid` names the ping.
pub(super) fn ping(time: &str, uuid: &str) -> Vec<u8> {
    json(&Notification {
        event_time: event_time(time),
        profile_type: None,
        event: "PING",
        uuid: Some(uuid),
        company: None,
    })
}

fn json(notification: &Notification<'_>) -> Vec<u8> {
    serde_json::to_vec(notification).expect("texts are JSON")
}

/// `dd.MM.yyyy'T'HH:mm:ss'Z'`, UTC; a time that is none stays as it is.
fn event_time(time: &str) -> String {
    let Ok(time) = time.parse::<jiff::Timestamp>() else { return time.to_owned() };
    time.strftime("%d.%m.%YT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use hookstream_types::{AccountUid, EventId, UnixMillis};
    use uuid::Uuid;

    use super::*;

    fn event(event_type: &str) -> EventAttributes {
        EventAttributes {
            event: EventId(Uuid::nil()),
            account: AccountUid(Uuid::nil()),
            source: "profiles".into(),
            id: "1".into(),
            ce_source: "s".into(),
            event_type: event_type.into(),
            subject: Some("subject".into()),
            time: "2024-03-18T10:56:17.123+01:00".into(),
            content_type: None,
            extensions: Vec::new(),
            produced_at: UnixMillis(0),
        }
    }

    fn text(event_type: &str, data: &str) -> String {
        String::from_utf8(body(&event(event_type), data.as_bytes())).unwrap()
    }

    #[test]
    fn notifications() {
        let data = r#"{"uuid":"u","company":{"uuid":"c"},"name":"Ann"}"#;
        assert_eq!(
            text("TRAVELLER.UPDATE", data),
            r#"{"eventTime":"18.03.2024T09:56:17Z","profileType":"TRAVELLER","event":"UPDATE","uuid":"u","company":{"uuid":"c"}}"#
        );
        assert_eq!(
            text("CORPORATE.DELETE", data),
            r#"{"eventTime":"18.03.2024T09:56:17Z","profileType":"CORPORATE","event":"DELETE","uuid":"u"}"#
        );
        assert!(text("TRAVELLER.CREATE", "no json").contains(r#""uuid":"subject""#));
        let ping = String::from_utf8(ping("2024-03-18T09:56:17Z", "p")).unwrap();
        assert_eq!(ping, r#"{"eventTime":"18.03.2024T09:56:17Z","event":"PING","uuid":"p"}"#);
    }
}
