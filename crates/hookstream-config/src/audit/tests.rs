use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hookstream_core::config::{Account, Meta, Verification};
use hookstream_types::{AuthorizationId, ClientId, SecretString};
use hookstream_wire::audit::decode;
use hookstream_wire::config::Key;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::change::{Author, Change, ClientSpec, Expected, plan};
use crate::state::State;
use crate::testing::{self, counter};

const ACCOUNT: AccountUid = AccountUid(Uuid::from_u128(1));
const BY: By<'_> = By { actor: "ann", at: UnixMillis(7), write: WriteId(Uuid::from_u128(9)) };

fn meta(revision: u64) -> Meta {
    Meta {
        revision,
        created_at: UnixMillis(1),
        updated_at: UnixMillis(2),
        actor: "ann".to_owned(),
        request: None,
    }
}

fn planned(record: Record) -> PlannedRecord {
    let revision = record.meta().map_or(1, |meta| meta.revision);
    PlannedRecord { key: record.key(), record: Some(record), revision }
}

/// The audit records of one write.
fn written(state: &mut State, fill: &mut impl FnMut(&mut [u8]), changes: &[Change]) -> Vec<Audit<'static>> {
    let mut undo = Vec::new();
    let author = Author { actor: "ann", now: UnixMillis(7), request: None };
    let planned = plan(state, changes, author, fill, &mut undo).unwrap();
    let pairs = planned.iter().zip(&undo);
    pairs.map(|(planned, (_, before))| decode(&encode(planned, before.as_ref(), BY)).unwrap()).collect()
}

fn base(state: &mut State, fill: &mut impl FnMut(&mut [u8])) -> Vec<Audit<'static>> {
    let account =
        Change::PutAccount { uid: ACCOUNT, account: testing::account("acme"), expected: Expected::Absent };
    let webhook = Change::PutWebhook {
        id: testing::webhook_id(1),
        webhook: Box::new(testing::webhook(ACCOUNT)),
        expected: Expected::Absent,
    };
    written(state, fill, &[account, webhook])
}

#[test]
fn a_creation_an_update_and_a_deletion() {
    let (mut state, mut fill) = (testing::state(), counter());
    let created = base(&mut state, &mut fill);
    let actions: Vec<_> = created.iter().map(|audit| (audit.action, audit.revision, &*audit.key)).collect();
    let (account, webhook) =
        (Key::Account(ACCOUNT).to_string(), Key::Webhook(testing::webhook_id(1)).to_string());
    assert_eq!(actions, [(Action::Create, 1, &*account), (Action::Create, 1, &*webhook)]);
    assert!(created.iter().all(|audit| audit.before.is_none() && audit.account == Some(ACCOUNT)));
    let after = created[1].after.as_ref().unwrap();
    assert_eq!(after["url"], "https://example.com/hook");
    assert_eq!(after["headers"], json!([{ "name": "x-token", "value": { "sensitiveValuePresent": true } }]));
    assert_eq!(after["secrets"], json!([{ "sensitiveValuePresent": true }]));
    assert_eq!(created[0].after.as_ref().unwrap()["data_key"], sensitive());

    let mut spec = testing::webhook(ACCOUNT);
    spec.url = "https://example.com/other".to_owned();
    spec.headers = vec![("x-token".to_owned(), None)];
    spec.secrets = None;
    let put = |webhook| Change::PutWebhook {
        id: testing::webhook_id(1),
        webhook: Box::new(webhook),
        expected: Expected::Present,
    };
    let updated = written(&mut state, &mut fill, &[put(spec.clone())]).remove(0);
    assert_eq!((updated.action, updated.revision), (Action::Update, 2));
    assert_eq!(updated.before, created[1].after);
    assert_eq!(updated.after.as_ref().unwrap()["url"], "https://example.com/other");
    assert!(updated.secrets_changed.is_empty(), "what was kept is no change");

    spec.headers = vec![("x-token".to_owned(), Some(SecretString::new("another".to_owned())))];
    let updated = written(&mut state, &mut fill, &[put(spec)]).remove(0);
    assert_eq!(updated.secrets_changed, ["header/x-token"]);
    let rotate = Change::RotateSecret {
        id: testing::webhook_id(1),
        secret: SecretString::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned()),
        until: UnixMillis(99),
        expected: Expected::Present,
    };
    let rotated = written(&mut state, &mut fill, &[rotate]).remove(0);
    assert_eq!(rotated.secrets_changed, ["secret"]);
    let shown = &rotated.after.as_ref().unwrap()["secrets"];
    assert_eq!(*shown, json!([sensitive(), { "sensitiveValuePresent": true, "until": 99 }]));

    let delete = Change::DeleteWebhook { id: testing::webhook_id(1), expected: Expected::Present };
    let deleted = written(&mut state, &mut fill, &[delete]).remove(0);
    assert_eq!((deleted.action, deleted.revision, &deleted.after), (Action::Delete, 0, &None));
    assert_eq!((deleted.account, deleted.before), (Some(ACCOUNT), rotated.after));
}

#[test]
fn no_canary_comes_through() {
    let (mut state, mut fill) = (testing::state(), counter());
    let mut audits = base(&mut state, &mut fill);
    let client = ClientSpec {
        name: "ci".to_owned(),
        account: None,
        app: None,
        access_type: None,
        scopes: vec!["webhooks:read".to_owned()],
        secrets: Some(vec![HashedSecret { hash: "canary-hash".to_owned(), until: Some(UnixMillis(8)) }]),
        disabled: false,
    };
    let id = ClientId(Uuid::from_u128(5));
    let put = Change::PutClient { id, client: Box::new(client), expected: Expected::Absent };
    audits.extend(written(&mut state, &mut fill, &[put]));
    for audit in &audits {
        let text = String::from_utf8(audit.encode()).unwrap();
        for canary in ["s3cr3t", "canary-hash", "a signing key", "whsec_", "ciphertext", "nonce"] {
            assert!(!text.contains(canary), "{text}");
        }
    }
    let shown = &audits.last().unwrap().after.as_ref().unwrap()["secrets"];
    assert_eq!(*shown, json!([{ "hash": sensitive(), "until": 8 }]));
}

#[test]
fn what_does_not_fit_is_left_out_and_the_newer_is_kept_if_it_fits() {
    let audit = |before: usize, after: usize| Audit {
        at: UnixMillis(1),
        actor: "ann".into(),
        write: Uuid::nil(),
        key: "event-type/a".into(),
        account: None,
        action: Action::Update,
        revision: 2,
        secrets_changed: Vec::new(),
        before: Some(json!("b".repeat(before))),
        after: Some(json!("a".repeat(after))),
    };
    let fit = |before, after| {
        let bytes = fitting(audit(before, after), 1000);
        assert!(bytes.len() <= 1000);
        decode(&bytes).unwrap()
    };
    assert_eq!(fit(300, 300), audit(300, 300));
    let newer = fit(600, 600);
    assert_eq!((newer.before, newer.after), (Some(json!({ "omittedBytes": 602 })), audit(0, 600).after));
    let neither = fit(600, 2000);
    assert_eq!(neither.after, Some(json!({ "omittedBytes": 2002 })));
}

fn sealed() -> impl Strategy<Value = Sealed> {
    let bytes = |least| prop::collection::vec(any::<u8>(), least..least + 40);
    ("[0-9a-f]{16}", bytes(24), bytes(16)).prop_map(|(key, nonce, ciphertext)| Sealed {
        key,
        nonce,
        ciphertext,
    })
}

/// A record that holds these, and how they would stand in JSON.
fn secretive() -> impl Strategy<Value = (Record, Vec<String>)> {
    let until = || prop::option::of(any::<i64>().prop_map(UnixMillis));
    let parts =
        (0usize..7, prop::collection::vec((sealed(), until()), 2..5), "[0-9a-zA-Z+/]{24,43}", any::<u64>());
    parts.prop_map(|(kind, sealed, hash, revision)| {
        let mut traces: Vec<String> = sealed
            .iter()
            .flat_map(|(sealed, _)| {
                [sealed.key.clone(), STANDARD.encode(&sealed.nonce), STANDARD.encode(&sealed.ciphertext)]
            })
            .collect();
        traces.push(hash.clone());
        let first = sealed[0].0.clone();
        let text = || "text".to_owned();
        let credentials = |credentials| {
            Record::Authorization(AuthorizationRecord {
                id: AuthorizationId(Uuid::from_u128(3)),
                account: ACCOUNT,
                name: text(),
                description: Some(text()),
                endpoint: text(),
                credentials,
                meta: meta(revision),
            })
        };
        let record = match kind {
            0 => {
                let account = Account {
                    uid: ACCOUNT,
                    name: text(),
                    verification: Verification::Ping,
                    meta: meta(revision),
                };
                Record::Account(AccountRecord { account, data_key: first })
            }
            1 => credentials(SealedCredentials::Header { name: text(), value: first, secret: true }),
            2 => credentials(SealedCredentials::Basic { user: text(), password: first }),
            3 => credentials(SealedCredentials::Bearer { token: first }),
            4 => credentials(SealedCredentials::Oauth2 {
                token_url: text(),
                client_id: text(),
                client_secret: first,
                scopes: vec![text()],
            }),
            5 => Record::Client(ClientRecord {
                id: ClientId(Uuid::from_u128(5)),
                name: text(),
                account: Some(ACCOUNT),
                app: None,
                access_type: None,
                scopes: Vec::new(),
                secrets: vec![HashedSecret { hash, until: sealed[0].1 }],
                disabled: false,
                meta: meta(revision),
            }),
            _ => {
                let (mut state, mut fill) = (testing::state(), counter());
                base(&mut state, &mut fill);
                let mut webhook = state.webhook(testing::webhook_id(1)).unwrap().clone();
                webhook.headers = vec![SealedHeader { name: "x".to_owned(), value: first }];
                let secrets = sealed.into_iter().skip(1);
                webhook.secrets = secrets.map(|(text, until)| SealedSecret { text, until }).collect();
                webhook.meta = meta(revision);
                Record::Webhook(Arc::new(webhook))
            }
        };
        (record, traces)
    })
}

proptest! {
    /// What is sealed or hashed in a record stands nowhere in its audit record; all else does.
    #[test]
    fn nothing_sealed_or_hashed_is_shown((before, hidden) in secretive(), (after, more) in secretive()) {
        let bytes = encode(&planned(after.clone()), Some(&before), BY);
        let text = String::from_utf8(bytes).unwrap();
        for trace in hidden.iter().chain(&more) {
            prop_assert!(!text.contains(trace.as_str()), "`{}` in {}", trace, text);
        }
        // The same fields, and the same values where nothing is masked.
        let whole: Value = serde_json::from_slice(&after.encode()).unwrap();
        let shown = masked(&after);
        for (name, value) in whole.as_object().unwrap() {
            match &**name {
                "v" => prop_assert!(shown.get("v").is_none()),
                "data_key" | "credentials" | "secrets" | "headers" => prop_assert!(shown.get(name).is_some()),
                _ => prop_assert_eq!(shown.get(name), Some(value)),
            }
        }
    }
}
