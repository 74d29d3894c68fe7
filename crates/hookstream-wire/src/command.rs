//! Records of `hookstream.commands`: what a stage asks the writer of the configuration to do.
//!
//! The key is the webhook's id, the value JSON with `"v":1` and `"command"`.

use hookstream_types::{UnixMillis, WebhookId};
use serde::{Deserialize, Serialize};

use crate::config::shortened;

/// The version that is written.
const VERSION: u32 = 1;

/// Something that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Disable(Disable),
}

/// Switch a webhook off, if it is still the one that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disable {
    pub webhook: WebhookId,
    /// The revision that was tried.
    pub revision: u64,
    /// The URL that was tried.
    pub url: String,
    /// For people.
    pub reason: String,
    pub at: UnixMillis,
}

impl Command {
    #[must_use]
    pub fn webhook(&self) -> WebhookId {
        match self {
            Self::Disable(disable) => disable.webhook,
        }
    }

    /// The record's key.
    #[must_use]
    pub fn key(&self) -> Vec<u8> {
        self.webhook().to_string().into_bytes()
    }

    /// The record's value.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (command, body) = match self {
            Self::Disable(disable) => ("disable", disable),
        };
        serde_json::to_vec(&Out { v: VERSION, command, body })
            .expect("commands have text keys and no fallible field")
    }

    /// # Errors
    /// [`CommandError`] if it is no command of a version and kind that we know.
    pub fn decode(value: &[u8]) -> Result<Self, CommandError> {
        let head: Head = serde_json::from_slice(value).map_err(CommandError::Malformed)?;
        if head.v != u64::from(VERSION) {
            return Err(CommandError::UnknownVersion { version: head.v });
        }
        match head.command.as_str() {
            "disable" => serde_json::from_slice(value).map(Self::Disable).map_err(CommandError::Malformed),
            other => Err(CommandError::UnknownCommand { command: shortened(other) }),
        }
    }
}

/// Why a command can't be read.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error("the command can't be read")]
    Malformed(#[source] serde_json::Error),
    #[error("the command has version {version}, and this service knows {VERSION}: upgrade it")]
    UnknownVersion { version: u64 },
    #[error("the command `{command}` is not known to this version: upgrade this service")]
    UnknownCommand { command: String },
}

#[derive(Serialize)]
struct Out<'a, T> {
    v: u32,
    command: &'static str,
    #[serde(flatten)]
    body: &'a T,
}

#[derive(Deserialize)]
struct Head {
    v: u64,
    command: String,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn golden_disable() {
        let command = Command::Disable(Disable {
            webhook: WebhookId(Uuid::from_u128(7)),
            revision: 4,
            url: "https://example.com/hook".into(),
            reason: "the endpoint answered 410".into(),
            at: UnixMillis(1_700_000_000_000),
        });
        let golden = r#"{"v":1,"command":"disable","webhook":"00000000-0000-0000-0000-000000000007","revision":4,"url":"https://example.com/hook","reason":"the endpoint answered 410","at":1700000000000}"#;
        assert_eq!(String::from_utf8(command.encode()).unwrap(), golden);
        assert_eq!(Command::decode(golden.as_bytes()).unwrap(), command);
        assert_eq!(command.key(), b"00000000-0000-0000-0000-000000000007");
    }

    #[test]
    fn an_unknown_command_says_so() {
        let message = |value: &str| Command::decode(value.as_bytes()).unwrap_err().to_string();
        assert!(message(r#"{"v":1,"command":"replay"}"#).contains("`replay` is not known"));
        assert!(message(r#"{"v":2,"command":"disable"}"#).contains("version 2"));
        assert!(message(r#"{"v":1,"command":"disable"}"#).contains("can't be read"));
        assert!(message("null").contains("can't be read"));
    }

    proptest! {
        #[test]
        fn a_disable_comes_back_as_it_was(id in any::<u128>(), revision in any::<u64>(), url in ".{0,40}", reason in ".{0,40}", at in any::<i64>()) {
            let command = Command::Disable(Disable { webhook: WebhookId(Uuid::from_u128(id)), revision, url, reason, at: UnixMillis(at) });
            prop_assert_eq!(Command::decode(&command.encode()).unwrap(), command);
        }

        #[test]
        fn garbage_never_panics(value in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Command::decode(&value).is_err());
        }
    }
}
