use proptest::prelude::*;

use hookstream_core::config::WebhookState;

use super::*;
use crate::change::{Author, Undo, plan};
use crate::manifest::render::{self, Form};
use crate::manifest::{AuthorizationDocument, FromJson as _, Reference, WebhookDocument};
use crate::testing::{self, counter};

const FILE: &str = r#"
accounts: [acme]
sources: [{name: shop, topics: [orders], format: auto}]
event_types: [order.created]
webhooks:
  - name: one
    account: acme
    source: shop
    event_types: ["order.*"]
    url: https://example.com/one
    headers: {authorization: Bearer t0ps3cret}
    secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw
    rate: 20/m
  - {name: two, event_types: ["*"], url: "https://example.com/two"}
"#;

fn manifest(text: &str) -> Manifest {
    let resolve = |_: Reference<'_>| Err("no references here".to_owned());
    Manifest::parse(text, &resolve).unwrap()
}

fn options(prune: bool) -> Options {
    Options { prune, now: UnixMillis(1_700_000_000_000) }
}

/// What the plan shows; afterwards the state is as if it had been executed.
fn apply(state: &mut State, text: &str, prune: bool) -> Plan {
    // Each application has randomness of its own.
    let seed = u8::try_from(state.webhooks().count()).unwrap();
    let mut counter = counter();
    let mut fill = |bytes: &mut [u8]| {
        counter(bytes);
        bytes[0] = seed;
    };
    let planned = diff(state, &manifest(text), options(prune), &mut fill).unwrap();
    execute(state, &planned, &mut fill);
    planned
}

fn execute(state: &mut State, planned: &Plan, fill: Fill<'_>) {
    let author = Author { actor: "ann", now: UnixMillis(5), request: None };
    for record in plan(state, &planned.changes, author, fill, &mut Undo::new()).unwrap() {
        // Through the bytes, as it would come from the log.
        let value = record.record.as_ref().map(hookstream_wire::config::Record::encode);
        state.apply(state.offset(), Some(record.key.to_string().as_bytes()), value.as_deref());
    }
}

/// Everything that a file can say.
const FULL: &str = r#"
accounts: [{name: acme, verification: none}]
sources:
  - {name: shop, topics: [orders], format: {type: cloudevents, account: tenant}, strict: true}
  - {name: asks, topics: [asks], format: auto, delivery: sync, replyTopics: [answers, "^shop\\..*$"]}
  - {name: crm, topics: ["^crm\\..*$"], format: {type: json, mapping: {type: {constant: a.b}, id: /id}}}
event_types:
  - name: order.created
    description: An order
    schema: {type: object, required: [id]}
    sample: {id: 1, tags: [a, null, 1.5]}
    scopes: [Orders, Customer fields]
    deprecated: true
  - {name: order.check, delivery: sync, ttl: 90s}
apps: [{account: acme, name: calendar, description: x, scopes: [Orders, Customer fields]}]
authorizations:
  - {account: acme, name: public, endpoint: "https://a.example", header: {name: X-Key, value: open, visibility: public}}
  - {account: acme, name: header, endpoint: "https://a.example/in", header: {name: X-Key, value: s3cr3t}}
  - {account: acme, name: basic, endpoint: "https://a.example", basic: {user: ann, password: pw}}
  - {account: acme, name: bearer, endpoint: "https://a.example", bearer: {token: t0ken}}
  - account: acme
    name: oauth
    endpoint: https://a.example
    oauth2: {token_url: "https://id.example/token", client_id: c, client_secret: cs, scopes: [a, b]}
webhooks:
  - account: acme
    name: all
    description: Everything
    app: calendar
    state: paused
    source: shop
    entities: [order, customer]
    event_types: [created, deleted]
    url: https://a.example/in/hook
    method: PUT
    content_type: text/plain
    payload: profile
    headers: {X-A: b, X-B: c}
    secret: S3cret!
    signature: {hmac_sha256_hex: X-Signature}
    secret_header: X-Secret
    authorization: header
    retry: [0s, 5s]
    give_up_on: [404]
    timeout: 1500ms
    rate: 0.3
    concurrency: 3
    ttl: 2h
    filter: {data: {Country: ["NO", {anything-but: {prefix: S}}], total: [{numeric: [">", 1.5]}]}, $or: [{subject: [{exists: false}]}, {tenant: [a]}]}
    log_only_errors: true
  - {account: acme, name: template, state: draft, event_types: ["*"], url: "https://b.example", payload: {template: "[EventId]"}, signature: none, secret: x}
"#;

#[test]
fn what_is_exported_and_applied_again_changes_nothing() {
    let mut state = testing::state();
    apply(&mut state, FULL, false);
    assert_eq!(state.view().webhooks.len(), 2);
    assert_eq!(state.problems().collect::<Vec<_>>(), []);
    let exported = render::export(&state);
    let text = render::to_yaml(&exported).unwrap();
    insta::assert_snapshot!(text);
    for secret in ["s3cr3t", "t0ken", "S3cret!", "X-B: c"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    for prune in [false, true] {
        let planned = apply(&mut state, &text, prune);
        assert!(planned.is_empty(), "{}{text}", shown(&planned.items));
    }
    // As JSON of the API too: each resource can be read from what shows it.
    for record in state.webhooks() {
        let shown = render::webhook(&state, record, Form::Api);
        let document =
            WebhookDocument::from_json(&shown).unwrap_or_else(|problems| panic!("{problems:?}: {shown}"));
        let spec = Names::new(&state).resolve_webhook(&document, Some(record)).unwrap();
        assert_eq!(compare::webhook(&state, record, &spec), []);
    }
    for record in state.authorizations() {
        let shown = render::authorization(&state, record, Form::Api);
        let document = AuthorizationDocument::from_json(&shown).unwrap();
        let spec = Names::new(&state).resolve_authorization(&document).unwrap();
        assert_eq!(compare::authorization(&state, record, &spec), []);
    }
}

#[test]
fn the_same_file_again_changes_nothing() {
    let mut state = testing::state();
    let first = apply(&mut state, FILE, false);
    assert_eq!(counts(&first.items), (6, 0, 0, 0), "two accounts, a source, an event type, two webhooks");
    assert_eq!(first.generated.len(), 1);
    assert_eq!(first.generated[0].0, "default/two");
    assert_eq!(crate::checks::secret(first.generated[0].1.expose(), false), Ok(()));
    for prune in [false, true] {
        let again = apply(&mut state, FILE, prune);
        assert!(again.is_empty(), "{}", shown(&again.items));
        assert_eq!(counts(&again.items), (0, 0, 0, 6));
    }
    let view = state.view();
    assert_eq!((view.webhooks.len(), state.problems().count()), (2, 0));
}

#[test]
fn a_change_is_shown_field_by_field_and_secrets_are_not() {
    let mut state = testing::state();
    apply(&mut state, FILE, false);
    let changed = FILE
        .replace("example.com/one", "example.com/1")
        .replace("t0ps3cret", "an0ther")
        .replace("aSw", "aSx")
        .replace("20/m", "5")
        .replace("topics: [orders]", "topics: [orders, refunds]");
    let plan = apply(&mut state, &changed, false);
    assert_eq!(
        shown(&plan.items),
        "~ source shop\n    topics: orders -> orders, refunds\n~ webhook acme/one\n    \
         rate: 0.3333333333333333 -> 5.0\n    url: https://example.com/one -> https://example.com/1\n    \
         headers: … -> changed\n    secret: … -> changed\n0 to create, 2 to update, 0 to delete, 4 unchanged\n"
    );
    assert!(apply(&mut state, &changed, false).is_empty());
}

#[test]
fn only_pruning_deletes_and_only_in_sections_that_are_there() {
    let mut state = testing::state();
    apply(&mut state, FILE, false);
    assert!(apply(&mut state, "sources: []", false).is_empty());
    assert!(apply(&mut state, "event_types: [order.created]", true).is_empty());
    let planned = apply(&mut state, "accounts: []\nsources: []\nevent_types: []\nwebhooks: []", true);
    assert_eq!(counts(&planned.items), (0, 0, 5, 0), "the default account stays\n{}", shown(&planned.items));
    assert_eq!((state.webhooks().count(), state.sources().count(), state.accounts().count()), (0, 0, 1));
}

#[test]
fn a_state_that_others_set_stays_unless_the_file_names_one() {
    let mut state = testing::state();
    apply(&mut state, FILE, false);
    let uid = state.account_by_name("acme").unwrap().account.uid;
    let webhook = state.webhook_by_name(uid, "one").unwrap().clone();
    let disable = Change::DisableWebhook {
        id: webhook.id,
        revision: 1,
        url: webhook.url.clone(),
        reason: "410".into(),
    };
    let author = Author { actor: "fan-out", now: UnixMillis(6), request: None };
    plan(&mut state, &[disable], author, &mut counter(), &mut Undo::new()).unwrap();
    assert!(apply(&mut state, FILE, false).is_empty());
    apply(&mut state, &FILE.replace("name: one", "name: one\n    concurrency: 3"), false);
    let record = state.webhook_by_name(uid, "one").unwrap();
    assert_eq!((record.state, record.disabled_reason.as_deref()), (WebhookState::Disabled, Some("410")));
    let planned = apply(&mut state, &FILE.replace("name: one", "name: one\n    state: published"), false);
    assert!(shown(&planned.items).contains("state: disabled -> published"));
    assert_eq!(state.webhook_by_name(uid, "one").unwrap().disabled_reason, None);
}

#[test]
fn what_does_not_exist_is_named_with_its_place() {
    let state = testing::state();
    let file = manifest(
        &FILE
            .replace("accounts: [acme]", "")
            .replace("sources: [{name: shop, topics: [orders], format: auto}]", ""),
    );
    let problems = diff(&state, &file, options(false), &mut counter()).unwrap_err();
    let places: Vec<_> = problems.iter().map(|problem| problem.place.as_str()).collect();
    assert_eq!(places, ["webhooks[0].account", "webhooks[0].source"]);
}

#[test]
fn what_is_to_stay_and_is_not_there_is_named_with_its_place() {
    let mut state = testing::state();
    apply(&mut state, FULL, false);
    let mut exported = render::to_yaml(&render::export(&state)).unwrap();
    let places = |state: &State, text: &str| {
        let problems = diff(state, &manifest(text), options(false), &mut counter()).unwrap_err();
        problems.into_iter().map(|problem| problem.place).collect::<Vec<_>>()
    };
    assert_eq!(
        places(&testing::state(), &exported),
        [
            "authorizations[0].basic.password",
            "authorizations[1].bearer.token",
            "authorizations[2].header.value",
            "authorizations[3].oauth2.client_secret",
            "webhooks[0].headers.x-a",
            "webhooks[0].headers.x-b",
        ]
    );
    // Other credentials than those that the secret was given for.
    exported = exported.replace("https://id.example/token", "https://other.example/token");
    assert_eq!(places(&state, &exported), ["authorizations[3].oauth2.client_secret"]);
}

#[test]
fn retry_schedules_are_shown_as_written() {
    let file = manifest(
        "webhooks: [{name: a, event_types: [a], url: 'https://a.example', retry: [0s, 250ms, 5s, 2m, 24h]}]",
    );
    let mut state = testing::state();
    let planned = diff(&state, &file, options(false), &mut counter()).unwrap();
    execute(&mut state, &planned, &mut counter());
    let record = state.webhooks().next().unwrap();
    let shown = render::webhook(&state, record, Form::File);
    assert_eq!(shown["retry"], serde_json::json!(["0s", "250ms", "5s", "2m", "24h"]));
}

proptest! {
    /// Texts that look like something else to a reader of YAML stay what they are.
    #[test]
    fn any_text_survives_an_export(text in any_text(), name in any_text()) {
        let export = serde_json::json!({
            "event_types": [{ "name": "a", "description": text, "sample": { name: text } }],
            "webhooks": [{ "payload": { "template": text } }],
        });
        let yaml = render::to_yaml(&export).unwrap();
        prop_assert_eq!(serde_norway::from_str::<serde_json::Value>(&yaml).unwrap(), export, "{}", yaml);
    }

    /// Whatever was there, after applying a file nothing is left to do, and with pruning nothing else is there.
    #[test]
    fn applying_is_idempotent(before in any_file(), after in any_file()) {
        let mut state = testing::state();
        apply(&mut state, &before, false);
        apply(&mut state, &after, true);
        prop_assert!(apply(&mut state, &after, true).is_empty());
        prop_assert_eq!(state.webhooks().count(), manifest(&after).webhooks.unwrap().len());
        prop_assert_eq!(state.view().webhooks.len(), state.webhooks().count());
        prop_assert_eq!(state.problems().count(), 0);
    }
}

fn any_text() -> impl Strategy<Value = String> {
    let tricky = prop_oneof![
        Just("no"),
        Just("~"),
        Just("null"),
        Just("1e3"),
        Just("0x1f"),
        Just("-"),
        Just("? a"),
        Just("# a"),
        Just("a: b"),
        Just("*a"),
        Just("&a"),
        Just("!a"),
        Just("%a"),
        Just("@a"),
        Just("---"),
        Just("2026-11-23"),
        Just(".inf"),
        Just("<<"),
        Just(" a"),
        Just("a "),
        Just("\n"),
        Just(" \n a"),
        Just("\ta"),
        Just("\u{85}"),
        Just("\u{2028}"),
        Just("\u{feff}"),
        Just("\u{7f}"),
        Just("\r\n"),
        Just("'"),
        Just("\""),
        Just("\\"),
    ];
    prop_oneof![
        prop::collection::vec(tricky, 0..4).prop_map(|parts| parts.concat()),
        ".{0,40}",
        "[ -~\n\t]{0,40}",
    ]
}

fn any_file() -> impl Strategy<Value = String> {
    let webhook = (0..3u8, 0..4u8, 1..200u32, 0..3u8).prop_map(|(account, name, rate, event)| {
        (account, name, format!("  - {{account: a{account}, name: w{name}, event_types: [e{event}], url: 'https://h{event}.example', rate: {rate}/m}}\n"))
    });
    prop::collection::vec(webhook, 0..6).prop_map(|webhooks| {
        let mut text = "accounts: [a0, a1, a2]\nwebhooks:".to_owned();
        let mut seen = BTreeSet::new();
        let lines: Vec<_> =
            webhooks.into_iter().filter(|(account, name, _)| seen.insert((*account, *name))).collect();
        if lines.is_empty() {
            text.push_str(" []");
        }
        text.push('\n');
        text.extend(lines.into_iter().map(|(.., line)| line));
        text
    })
}
