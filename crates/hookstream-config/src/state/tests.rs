use hookstream_types::{SecretString, UnixMillis};
use proptest::prelude::*;

use super::*;
use crate::change::{Author, Change, Expected, PlannedRecord, Undo, plan};
use crate::testing::{self, counter, webhook_id};

fn uid() -> AccountUid {
    AccountUid(Uuid::from_u128(1))
}

/// An account with one webhook, as records.
fn records() -> Vec<PlannedRecord> {
    let mut state = testing::state();
    let account =
        Change::PutAccount { uid: uid(), account: testing::account("acme"), expected: Expected::Absent };
    let webhook = Box::new(testing::webhook(uid()));
    let webhook = Change::PutWebhook { id: webhook_id(1), webhook, expected: Expected::Absent };
    let author = Author { actor: "ann", now: UnixMillis(1), request: None };
    plan(&mut state, &[account, webhook], author, &mut counter(), &mut Undo::new()).unwrap()
}

fn apply(state: &mut State, offset: i64, record: &PlannedRecord) {
    let value = record.record.as_ref().map(Record::encode);
    state.apply(Offset(offset), Some(record.key.to_string().as_bytes()), value.as_deref());
}

fn loaded() -> State {
    let mut state = testing::state();
    for (offset, record) in (0..).zip(&records()) {
        apply(&mut state, offset, record);
    }
    state
}

#[test]
fn a_view_has_what_was_put_in() {
    let mut state = loaded();
    let view = state.view();
    let webhook = view.webhook(webhook_id(1)).unwrap();
    let spec = testing::webhook(uid());
    assert_eq!(view.offset, Offset(2));
    assert_eq!(webhook.state, WebhookState::Published);
    assert_eq!(Some(&webhook.secrets), spec.secrets.as_ref());
    let headers = webhook.headers.iter().cloned();
    let headers: Vec<_> = headers.map(|(name, value)| (name, Some(SecretString::new(value)))).collect();
    assert_eq!(headers, spec.headers);
    assert_eq!(view.accounts["acme"].uid, uid());
    assert_eq!(state.problems().count(), 0);
    assert_eq!(state.webhook_by_name(uid(), "orders").unwrap().id, webhook_id(1));
    assert!(state.webhook_by_name(uid(), "order").is_none());
    assert!(state.account_by_name("acm").is_none());
}

#[test]
fn secrets_are_nowhere_in_clear() {
    for record in records() {
        let value = String::from_utf8(record.record.unwrap().encode()).unwrap();
        assert!(!value.contains("s3cr3t") && !value.contains("signing key"), "{value}");
    }
}

/// Compaction keeps the newest of each key, so an account changed later stands behind its webhooks.
#[test]
fn the_order_of_account_and_webhook_does_not_matter() {
    let mut state = testing::state();
    let records = records();
    apply(&mut state, 0, &records[1]);
    let view = state.view();
    assert_eq!(
        view.webhook(webhook_id(1)).unwrap().state,
        WebhookState::Paused,
        "held until its key is there"
    );
    assert!(view.webhook(webhook_id(1)).unwrap().secrets.is_empty());
    assert!(state.problems().next().unwrap().message.contains("account's record"));
    apply(&mut state, 1, &records[0]);
    assert_eq!(state.view().webhook(webhook_id(1)).unwrap().state, WebhookState::Published);
    assert_eq!(state.problems().count(), 0);
}

#[test]
fn a_wrong_key_holds_webhooks() {
    use base64::Engine;
    let other = SecretString::new(base64::engine::general_purpose::STANDARD.encode([2; 32]));
    let mut state = State::new(Arc::new(Keyring::from_key(&other).unwrap()));
    for (offset, record) in (0..).zip(&records()) {
        apply(&mut state, offset, record);
    }
    let view = state.view();
    let webhook = view.webhook(webhook_id(1)).unwrap();
    assert_eq!((webhook.state, webhook.secrets.len(), webhook.headers.len()), (WebhookState::Paused, 0, 0));
    let problem = state.problems().next().unwrap();
    assert!(problem.message.contains("not among the configured keys"), "{problem:?}");
}

#[test]
fn keys_rotate_while_webhooks_stay() {
    use base64::Engine;
    let key = |byte| SecretString::new(base64::engine::general_purpose::STANDARD.encode([byte; 32]));
    let with_keys = |keys: &[SecretString]| State::new(Arc::new(Keyring::from_keys(keys).unwrap()));
    let mut records = records();
    let mut both = with_keys(&[key(2), key(1)]);
    for (offset, record) in (0..).zip(&records) {
        apply(&mut both, offset, record);
    }
    let author = Author { actor: "ann", now: UnixMillis(2), request: None };
    let rewrap = [Change::RewrapAccount { uid: uid() }];
    records.extend(plan(&mut both, &rewrap, author, &mut counter(), &mut Undo::new()).unwrap());
    assert_eq!(plan(&mut both, &rewrap, author, &mut counter(), &mut Undo::new()).unwrap(), []);

    let mut new = with_keys(&[key(2)]);
    for (offset, record) in (0..).zip(&records) {
        apply(&mut new, offset, record);
    }
    let view = new.view();
    assert_eq!(Some(&view.webhook(webhook_id(1)).unwrap().secrets), testing::webhook(uid()).secrets.as_ref());
    assert_eq!(view.webhook(webhook_id(1)).unwrap().state, WebhookState::Published);
}

#[test]
fn an_unreadable_record_holds_its_webhook_and_loses_nothing() {
    let key = Key::Webhook(webhook_id(1)).to_string();
    let newer: &[u8] = br#"{"v":2}"#;
    let mut state = loaded();
    state.apply(Offset(2), Some(key.as_bytes()), Some(newer));
    let view = state.view();
    let webhook = view.webhook(webhook_id(1)).unwrap();
    assert_eq!((webhook.state, webhook.event_types.len()), (WebhookState::Paused, 1), "matched and held");
    assert!(state.problems().next().unwrap().message.contains("version 2"));
    assert!(state.is_unreadable(&Key::Webhook(webhook_id(1))));

    // After a restart, with the older record compacted away.
    let mut state = testing::state();
    state.apply(Offset(2), Some(key.as_bytes()), Some(newer));
    assert_eq!(state.view().webhook(webhook_id(1)).unwrap().state, WebhookState::Paused);

    let records = records();
    apply(&mut state, 3, &records[0]);
    apply(&mut state, 4, &records[1]);
    assert_eq!(state.view().webhook(webhook_id(1)).unwrap().state, WebhookState::Published);
    assert_eq!(state.problems().count(), 0);
}

#[test]
fn tombstones_delete() {
    let mut state = loaded();
    state.apply(Offset(2), Some(Key::Webhook(webhook_id(1)).to_string().as_bytes()), None);
    state.apply(Offset(3), Some(Key::Account(uid()).to_string().as_bytes()), None);
    let view = state.view();
    assert!(view.webhooks.is_empty() && view.accounts.is_empty());
    assert!(state.account_by_name("acme").is_none());
}

#[test]
fn a_kind_that_is_not_known_is_listed() {
    let mut state = testing::state();
    state.apply(Offset(0), Some(b"gadget/1"), Some(b"{}"));
    assert!(state.problems().next().unwrap().message.contains("`gadget`"));
    state.apply(Offset(1), Some(b"gadget/1"), None);
    assert_eq!(state.problems().count(), 0);
}

proptest! {
    #[test]
    fn garbage_never_panics(records in prop::collection::vec(
        (prop_oneof![Just("webhook/00000000-0000-0000-0000-000000000001".to_owned()), Just("source/a".to_owned()), ".{0,12}"],
         prop::option::of(prop::collection::vec(any::<u8>(), 0..40))), 0..12)) {
        let mut state = loaded();
        for (offset, (key, value)) in (2..).zip(&records) {
            state.apply(Offset(offset), Some(key.as_bytes()), value.as_deref());
            let view = state.view();
            prop_assert_eq!(view.offset, Offset(offset + 1));
        }
        // Whatever happened, the webhook is there unless it was deleted, and is not sent to without its secret.
        for webhook in state.view().webhooks.values() {
            prop_assert!(webhook.state != WebhookState::Published || !webhook.secrets.is_empty());
        }
    }
}

mod any_order {
    use proptest::prelude::*;

    use super::*;

    /// Records of three webhooks of one account, of which some can't be read, with deletions; and the account's.
    fn log() -> Vec<(Key, Option<Vec<u8>>)> {
        let mut state = testing::state();
        let author = Author { actor: "ann", now: UnixMillis(2), request: None };
        let mut changes = vec![Change::PutAccount {
            uid: uid(),
            account: testing::account("acme"),
            expected: Expected::Absent,
        }];
        for n in 1..=3 {
            let mut webhook = testing::webhook(uid());
            webhook.name = format!("w{n}");
            webhook.event_types = vec![format!("order.e{n}"), "order.*".to_owned()];
            let put = |state| Change::PutWebhook {
                id: webhook_id(n),
                webhook: Box::new(WebhookSpec { state, ..webhook.clone() }),
                expected: if state == WebhookState::Draft { Expected::Absent } else { Expected::Present },
            };
            changes.extend([put(WebhookState::Draft), put(WebhookState::Published)]);
        }
        let planned = plan(&mut state, &changes, author, &mut counter(), &mut Undo::new()).unwrap();
        let mut log: Vec<_> =
            planned.iter().map(|r| (r.key.clone(), r.record.as_ref().map(Record::encode))).collect();
        log.push((Key::Account(uid()), None));
        for n in 1..=4 {
            log.push((Key::Webhook(webhook_id(n)), None));
            log.push((Key::Webhook(webhook_id(n)), Some(br#"{"v":2}"#.to_vec())));
        }
        log
    }

    proptest! {
        /// A view that was made of the one before, step by step, is the one that is made at once.
        #[test]
        fn views_do_not_depend_on_the_views_before(steps in prop::collection::vec((0usize..15, any::<bool>()), 0..40)) {
            let log = log();
            let (mut stepwise, mut records) = (testing::state(), Vec::new());
            for (offset, (which, look)) in (0..).zip(steps) {
                let (key, value) = &log[which % log.len()];
                records.push((key.to_string().into_bytes(), value));
                stepwise.apply(Offset(offset), Some(key.to_string().as_bytes()), value.as_deref());
                if look {
                    let mut fresh = testing::state();
                    for (offset, (key, value)) in (0..).zip(&records) {
                        fresh.apply(Offset(offset), Some(key), value.as_deref());
                    }
                    prop_assert_eq!(stepwise.view(), fresh.view());
                    prop_assert_eq!(stepwise.problems().collect::<Vec<_>>(), fresh.problems().collect::<Vec<_>>());
                }
            }
        }
    }
}
