//! What the unit tests of this crate share.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hookstream_core::config::{Payload, Verification, WebhookSecret, WebhookState};
use hookstream_core::exchange::Method;
use hookstream_core::schedule::RetrySchedule;
use hookstream_core::signing::Signatures;
use hookstream_types::{AccountUid, SecretString, WebhookId};
use uuid::Uuid;

use crate::change::{AccountSpec, WebhookSpec};
use crate::envelope::Keyring;
use crate::state::State;

pub(crate) fn keyring() -> Arc<Keyring> {
    Arc::new(Keyring::from_key(&SecretString::new(STANDARD.encode([1; 32]))).unwrap())
}

pub(crate) fn state() -> State {
    State::new(keyring())
}

/// Counts upwards: different each time and the same in each run.
pub(crate) fn counter() -> impl FnMut(&mut [u8]) {
    let mut next = 0u8;
    move |bytes: &mut [u8]| {
        for byte in bytes {
            *byte = next;
            next = next.wrapping_add(1);
        }
    }
}

pub(crate) fn webhook_id(n: u128) -> WebhookId {
    WebhookId(Uuid::from_u128(n))
}

pub(crate) fn account(name: &str) -> AccountSpec {
    AccountSpec { name: name.to_owned(), verification: Verification::Ping }
}

pub(crate) fn webhook(account: AccountUid) -> WebhookSpec {
    WebhookSpec {
        account,
        name: "orders".into(),
        description: None,
        app: None,
        state: WebhookState::Published,
        disabled_reason: None,
        source: None,
        event_types: vec!["order.*".into()],
        url: "https://example.com/hook".into(),
        method: Method::Post,
        content_type: "application/json".into(),
        payload: Payload::Event,
        headers: vec![("x-token".into(), Some(SecretString::new("s3cr3t".into())))],
        secrets: Some(vec![WebhookSecret::of_key(b"a signing key of 32 bytes length")]),
        signatures: Signatures::default(),
        secret_header: None,
        authorization: None,
        trust: None,
        filter: None,
        retry: RetrySchedule::default(),
        give_up_on: Vec::new(),
        timeout: Duration::from_secs(15),
        rate: None,
        ttl_ms: None,
        agreed: None,
        concurrency: 64,
        log_only_errors: false,
    }
}
