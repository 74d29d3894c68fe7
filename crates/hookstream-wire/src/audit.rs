//! Records of `hookstream.audit`: who changed what, as it was before and as it is after.
//!
//! One record for each record of `hookstream.config`, in the same transaction and in the same order. The record's key is
//! the configuration record's; all are in one partition. `before` and `after` are the configuration record's value without
//! its version, with [`sensitive`] in place of whatever is sealed or hashed there.
//!
//! That a secret changed shows in `secretsChanged`: the fields that were set anew, added or removed by an update:
//! `secret` (signing secrets, a client's secrets), `header/<name>`, `credentials`, `data_key` (the account's data key was
//! sealed by another key). A secret that is given again as it was counts as set anew.
//!
//! Where both do not fit into a record, `before` is [`omitted`]: it is the `after` of the change before; and where that is
//! not enough, `after` is too.

use std::borrow::Cow;

use hookstream_types::{AccountUid, UnixMillis};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::bad_record::{BadRecord, VERSION};

/// What was done to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Create,
    Update,
    Delete,
}

impl Action {
    pub const ALL: &'static [Self] = &[Self::Create, Self::Update, Self::Delete];

    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// Stands for a secret: there is one, and that is all.
#[must_use]
pub fn sensitive() -> Value {
    json!({ "sensitiveValuePresent": true })
}

/// Stands for a value that is too large, and says how large it is.
#[must_use]
pub fn omitted(value: &Value) -> Value {
    json!({ "omittedBytes": value.to_string().len() })
}

/// One change of one resource. Secrets are masked before this is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Audit<'a> {
    /// On the writer's clock.
    pub at: UnixMillis,
    /// Who changed it.
    pub actor: Cow<'a, str>,
    /// The write's unique id: what was changed at once has one.
    pub write: Uuid,
    /// The configuration record's key: `webhook/<id>`.
    pub key: Cow<'a, str>,
    /// Whose resource it is; none of what belongs to no account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountUid>,
    pub action: Action,
    /// The revision that the change made; 0: it was deleted.
    pub revision: u64,
    /// Fields whose secret an update changed, sorted.
    #[serde(default, rename = "secretsChanged", skip_serializing_if = "Vec::is_empty")]
    pub secrets_changed: Vec<String>,
    /// None: it was not there.
    pub before: Option<Value>,
    /// None: it is not there any more.
    pub after: Option<Value>,
}

impl Audit<'_> {
    /// The kind and the id that the key is made of; the id of what has no kind is the whole key.
    #[must_use]
    pub fn resource(&self) -> (&str, &str) {
        self.key.split_once('/').unwrap_or(("", &self.key))
    }

    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Line<'a> {
            v: u32,
            #[serde(flatten)]
            audit: &'a Audit<'a>,
        }
        serde_json::to_vec(&Line { v: VERSION, audit: self })
            .expect("no map here has keys that are not texts")
    }
}

/// Reads an audit record.
///
/// # Errors
/// [`BadRecord`] names what is wrong.
pub fn decode(value: &[u8]) -> Result<Audit<'static>, BadRecord> {
    #[derive(Deserialize)]
    struct Line {
        v: u32,
        #[serde(flatten)]
        audit: Audit<'static>,
    }
    if value.is_empty() {
        return Err(BadRecord::Empty);
    }
    let line: Line =
        serde_json::from_slice(value).map_err(|source| BadRecord::of_json("value", value, source))?;
    BadRecord::check_version(line.v)?;
    Ok(line.audit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_version_1() {
        let updated = Audit {
            at: UnixMillis(5),
            actor: "ops@example.com".into(),
            write: Uuid::from_u128(1),
            key: "webhook/w1".into(),
            account: Some(AccountUid(Uuid::from_u128(2))),
            action: Action::Update,
            revision: 7,
            secrets_changed: vec!["secret".into()],
            before: Some(json!({"name": "a"})),
            after: Some(json!({"name": "b"})),
        };
        let text = concat!(
            r#"{"v":1,"at":5,"actor":"ops@example.com","write":"00000000-0000-0000-0000-000000000001","#,
            r#""key":"webhook/w1","account":"00000000-0000-0000-0000-000000000002","action":"update","#,
            r#""revision":7,"secretsChanged":["secret"],"before":{"name":"a"},"after":{"name":"b"}}"#
        );
        assert_eq!(String::from_utf8(updated.encode()).unwrap(), text);
        assert_eq!(decode(text.as_bytes()).unwrap(), updated);
        assert_eq!(updated.resource(), ("webhook", "w1"));
        let created = Audit {
            account: None,
            action: Action::Create,
            secrets_changed: Vec::new(),
            before: None,
            ..updated
        };
        assert!(
            String::from_utf8(created.encode())
                .unwrap()
                .contains(r#""action":"create","revision":7,"before":null"#)
        );
        assert_eq!(decode(&created.encode()).unwrap(), created);
    }

    #[test]
    fn what_is_no_audit() {
        assert!(matches!(decode(b""), Err(BadRecord::Empty)));
        assert!(matches!(decode(br#"{"v":2}"#), Err(BadRecord::Version { found: 2 })));
        assert!(matches!(decode(br#"{"v":1}"#), Err(BadRecord::Json { .. })));
    }
}
