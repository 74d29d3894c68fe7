use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use hookstream_config::Keyring;
use hookstream_config::state::State;
use hookstream_core::config::{
    Account as AccountOf, App as AppOf, DeliveryMode, EventType as EventTypeOf, Format, Mapping, Meta,
    Payload, Pick, Pin, Source as SourceOf, Trust, Verification, WebhookState,
};
use hookstream_core::exchange::Method;
use hookstream_core::filter::Filter;
use hookstream_core::request::handshake::Agreed;
use hookstream_core::schedule::RetrySchedule;
use hookstream_core::signing::{Algorithm, Profile};
use hookstream_types::{AccountUid, AppId, AuthorizationId, ClientId, Offset, UnixMillis, WebhookId};
use hookstream_wire::config::{
    AccountRecord, AuthorizationRecord, ClientRecord, Record, Sealed, SealedCredentials, SealedHeader,
    SealedSecret, WebhookRecord,
};
use serde::de::DeserializeOwned;
use serde_json::json;
use utoipa::PartialSchema;
use uuid::Uuid;

use super::*;
use crate::resources::kinds::{Accounts, Apps, Authorizations, Clients, EventTypes, Sources};
use crate::resources::webhooks::Webhooks;
use crate::resources::{Facts, Kinds, Shown, with_generated};

const ACCOUNT: AccountUid = AccountUid(Uuid::from_u128(1));
const APP: AppId = AppId(Uuid::from_u128(2));
const AUTHORIZATION: u128 = 3;

fn meta() -> Meta {
    let (created_at, updated_at) = (UnixMillis(1_767_323_045_000), UnixMillis(1_767_323_046_789));
    Meta { revision: 7, created_at, updated_at, actor: "ann".into(), request: Some("digest".into()) }
}

fn sealed() -> Sealed {
    Sealed { key: "k".into(), nonce: vec![1], ciphertext: vec![2] }
}

fn authorization(n: u128, credentials: SealedCredentials) -> Record {
    Record::Authorization(AuthorizationRecord {
        id: AuthorizationId(Uuid::from_u128(AUTHORIZATION + n)),
        account: ACCOUNT,
        name: format!("crm {n}"),
        description: Some("d".into()),
        endpoint: "https://crm.example".into(),
        credentials,
        meta: meta(),
    })
}

fn webhook(n: u128, payload: Payload, signatures: Vec<Profile>) -> Record {
    Record::Webhook(Arc::new(WebhookRecord {
        id: WebhookId(Uuid::from_u128(n)),
        account: ACCOUNT,
        name: format!("w {n}"),
        description: Some("d".into()),
        app: Some(APP),
        state: WebhookState::Disabled,
        disabled_reason: Some("410".into()),
        source: Some("orders".into()),
        event_types: vec!["order.*".into()],
        url: "https://crm.example/in".into(),
        method: Method::Put,
        content_type: "application/json".into(),
        payload,
        headers: vec![SealedHeader { name: "x-a".into(), value: sealed() }],
        secrets: vec![SealedSecret { text: sealed(), until: None }],
        signatures: signatures.into(),
        secret_header: Some("x-secret".into()),
        authorization: Some(AuthorizationId(Uuid::from_u128(AUTHORIZATION))),
        trust: Some(Arc::new(Trust {
            ca: Some("-----BEGIN CERTIFICATE-----".into()),
            pins: vec![Pin([7; 32])],
        })),
        retry: RetrySchedule::new([Duration::ZERO, Duration::from_secs(90)]),
        give_up_on: vec![400, 410],
        timeout_ms: 1500,
        rate: Some(2.5),
        filter: Filter::compile(&Arc::new(json!({ "data": { "n": [1] } }))).ok().map(Arc::new),
        ttl_ms: Some(3_600_000),
        agreed: Some(Agreed { rate: Some(0.5) }),
        concurrency: 3,
        log_only_errors: true,
        meta: meta(),
    }))
}

/// Every field of every kind has a value in one of them.
fn records() -> Vec<Record> {
    let mapping = Mapping {
        id: Some(Pick::Pointer("/id".into())),
        event_type: Pick::Constant("order.created".into()),
        time: None,
        account: None,
        subject: None,
        data: None,
    };
    let account =
        AccountOf { uid: ACCOUNT, name: "acme".into(), verification: Verification::None, meta: meta() };
    let scopes = || vec!["Orders".to_owned()];
    let (name, text) = ("orders".to_owned(), Some("d".to_owned()));
    vec![
        Record::Account(AccountRecord { account, data_key: sealed() }),
        Record::Source(SourceOf {
            name,
            topics: vec!["orders".into()],
            format: Format::Json { mapping },
            strict: true,
            delivery: DeliveryMode::Sync,
            reply_topics: vec!["replies".into()],
            meta: meta(),
        }),
        Record::EventType(EventTypeOf {
            name: "order.created".into(),
            description: text.clone(),
            schema: Some(json!({ "type": "object" })),
            sample: Some(json!({ "id": null })),
            scopes: scopes(),
            delivery: DeliveryMode::Sync,
            deprecated: true,
            ttl_ms: Some(60_000),
            meta: meta(),
        }),
        Record::App(AppOf {
            id: APP,
            account: ACCOUNT,
            name: "calendar".into(),
            description: text,
            // It has lost those that the event type needs.
            scopes: Vec::new(),
            meta: meta(),
        }),
        authorization(0, SealedCredentials::Header { name: "x-key".into(), value: sealed(), secret: true }),
        authorization(1, SealedCredentials::Basic { user: "u".into(), password: sealed() }),
        authorization(2, SealedCredentials::Bearer { token: sealed() }),
        authorization(
            3,
            SealedCredentials::Oauth2 {
                token_url: "https://crm.example/token".into(),
                client_id: "c".into(),
                client_secret: sealed(),
                scopes: scopes(),
            },
        ),
        Record::Client(ClientRecord {
            id: ClientId(Uuid::from_u128(9)),
            name: "c".into(),
            account: Some(ACCOUNT),
            app: Some(APP),
            access_type: Some("Agency Manager".into()),
            scopes: scopes(),
            secrets: Vec::new(),
            disabled: true,
            meta: meta(),
        }),
        authorization(4, SealedCredentials::Mtls { certificate: "c".into(), key: sealed() }),
        webhook(10, Payload::Event, vec![Profile::Standard]),
        webhook(11, Payload::Profile, Vec::new()),
        webhook(13, Payload::CloudeventsStructured, vec![Profile::StandardEd25519, Profile::Github]),
        webhook(14, Payload::CloudeventsBinary, vec![Profile::Stripe, Profile::Shopify]),
        webhook(
            12,
            Payload::Template { text: "[EventId]".into() },
            vec![
                Profile::HmacSha256Hex { header: "x-s".into() },
                Profile::HttpMessage { algorithm: Algorithm::Ed25519 },
            ],
        ),
    ]
}

fn state() -> State {
    let keyring = Keyring::blind(&mut |bytes: &mut [u8]| bytes.fill(7));
    let mut state = State::new(Arc::new(keyring));
    for (offset, record) in (0..).zip(records()) {
        state.apply(Offset(offset), Some(record.key().to_string().as_bytes()), Some(&record.encode()));
    }
    state
}

/// What the server shows is what the description says: nothing else, nothing differently, and no field that is never
/// shown, but `only_written`. (These records' secrets can't be opened, so that no public key is made of one.)
#[track_caller]
fn check<K: Kinds, D>(generated: Option<&'static str>, only_written: &[&str])
where
    D: Debug + Serialize + DeserializeOwned + PartialSchema,
{
    let state = state();
    let mut shown_fields = BTreeSet::new();
    assert!(K::each(&state, None, "").next().is_some());
    for record in K::each(&state, None, "") {
        let Facts { id, meta, .. } = K::facts(record);
        let shown = Shown { id, document: K::show(&state, record), meta: meta.clone() };
        let secret = generated.map(|name| (name, "s3cr3t".to_owned()));
        let shown = with_generated(shown, secret).document;
        let read: D =
            serde_json::from_value(shown.clone()).unwrap_or_else(|error| panic!("{error}: {shown:#}"));
        assert_eq!(serde_json::to_value(&read).unwrap(), shown);
        shown_fields.extend(shown.as_object().unwrap().keys().cloned());
    }
    let schema = serde_json::to_value(D::schema()).unwrap();
    assert_eq!(schema["additionalProperties"], false);
    let described =
        schema["properties"].as_object().unwrap().keys().filter(|name| !only_written.contains(&&***name));
    assert_eq!(shown_fields, described.cloned().collect::<BTreeSet<_>>());
}

#[test]
fn what_is_shown_is_as_described() {
    check::<Accounts, Account>(None, &[]);
    check::<Sources, Source>(None, &[]);
    check::<EventTypes, EventType>(None, &[]);
    check::<Apps, App>(None, &[]);
    check::<Authorizations, Authorization>(None, &[]);
    check::<Clients, ApiClient>(Some("clientSecret"), &[]);
    check::<Webhooks, Webhook>(Some("generatedSecret"), &["entities", "publicKeys"]);
}
