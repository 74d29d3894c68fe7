use std::time::Duration;

use hookstream_core::config::{DeliveryMode, Format, Mapping, Pick, Verification};
use proptest::prelude::*;

use hookstream_core::signing::Signatures;

use super::*;

fn meta() -> Meta {
    Meta {
        revision: 3,
        created_at: UnixMillis(1_700_000_000_000),
        updated_at: UnixMillis(1_700_000_000_500),
        actor: "ann".into(),
        request: None,
    }
}

fn sealed(byte: u8) -> Sealed {
    Sealed { key: "0badcafe".into(), nonce: vec![byte; 3], ciphertext: vec![byte; 6] }
}

fn webhook() -> WebhookRecord {
    WebhookRecord {
        id: WebhookId(Uuid::from_u128(7)),
        account: AccountUid(Uuid::from_u128(5)),
        name: "orders".into(),
        description: None,
        app: None,
        state: WebhookState::Published,
        disabled_reason: None,
        source: Some("shop".into()),
        event_types: vec!["order.*".into()],
        url: "https://example.com/hook".into(),
        method: Method::Post,
        content_type: "application/json".into(),
        payload: Payload::Event,
        headers: vec![SealedHeader { name: "authorization".into(), value: sealed(1) }],
        secrets: vec![SealedSecret { text: sealed(2), until: None }],
        signatures: Signatures::default(),
        secret_header: None,
        authorization: None,
        trust: None,
        filter: None,
        retry: RetrySchedule::new([Duration::ZERO, Duration::from_secs(5)]),
        give_up_on: vec![404],
        timeout_ms: 15_000,
        rate: Some(2.5),
        agreed: None,
        concurrency: 64,
        ttl_ms: None,
        log_only_errors: false,
        meta: meta(),
    }
}

fn check(record: &Record, key: &str, value: &str) {
    assert_eq!(record.key().to_string(), key);
    assert_eq!(String::from_utf8(record.encode()).unwrap(), value);
    let key = Key::from_bytes(key.as_bytes()).unwrap();
    assert_eq!(Record::decode(&key, value.as_bytes()).unwrap(), *record);
}

#[test]
fn golden_cluster() {
    let record = ClusterRecord {
        namespace: "hookstream".into(),
        partitions: 64,
        format: 1,
        created_at: UnixMillis(1),
    };
    check(
        &Record::Cluster(record),
        "cluster/main",
        r#"{"v":1,"namespace":"hookstream","partitions":64,"format":1,"created_at":1}"#,
    );
}

#[test]
fn golden_account() {
    let account = Account {
        uid: AccountUid(Uuid::from_u128(5)),
        name: "acme".into(),
        verification: Verification::Ping,
        meta: meta(),
    };
    check(
        &Record::Account(AccountRecord { account, data_key: sealed(9) }),
        "account/00000000-0000-0000-0000-000000000005",
        r#"{"v":1,"uid":"00000000-0000-0000-0000-000000000005","name":"acme","verification":"ping","revision":3,"created_at":1700000000000,"updated_at":1700000000500,"actor":"ann","data_key":{"key":"0badcafe","nonce":"CQkJ","ciphertext":"CQkJCQkJ"}}"#,
    );
}

#[test]
fn golden_source_and_event_type() {
    let mapping = Mapping {
        id: None,
        event_type: Pick::Constant("order.created".into()),
        time: None,
        account: Some(Pick::Pointer("/tenant".into())),
        subject: None,
        data: None,
    };
    let source = Source {
        name: "shop".into(),
        topics: vec!["orders".into()],
        format: Format::Json { mapping },
        strict: true,
        delivery: DeliveryMode::Async,
        reply_topics: Vec::new(),
        meta: meta(),
    };
    check(
        &Record::Source(source.clone()),
        "source/shop",
        r#"{"v":1,"name":"shop","topics":["orders"],"format":{"type":"json","mapping":{"type":{"constant":"order.created"},"account":{"pointer":"/tenant"}}},"strict":true,"revision":3,"created_at":1700000000000,"updated_at":1700000000500,"actor":"ann"}"#,
    );
    let sync = Source {
        format: Format::Auto,
        strict: false,
        delivery: DeliveryMode::Sync,
        reply_topics: vec!["replies".into()],
        ..source
    };
    check(
        &Record::Source(sync),
        "source/shop",
        r#"{"v":1,"name":"shop","topics":["orders"],"format":{"type":"auto"},"strict":false,"delivery":"sync","reply_topics":["replies"],"revision":3,"created_at":1700000000000,"updated_at":1700000000500,"actor":"ann"}"#,
    );
    let event_type = EventType {
        name: "order.created".into(),
        description: None,
        schema: None,
        sample: None,
        scopes: Vec::new(),
        delivery: DeliveryMode::Async,
        deprecated: false,
        ttl_ms: None,
        meta: meta(),
    };
    check(
        &Record::EventType(event_type.clone()),
        "event-type/order.created",
        r#"{"v":1,"name":"order.created","delivery":"async","revision":3,"created_at":1700000000000,"updated_at":1700000000500,"actor":"ann"}"#,
    );
    check(
        &Record::EventType(EventType { ttl_ms: Some(60_000), ..event_type }),
        "event-type/order.created",
        r#"{"v":1,"name":"order.created","delivery":"async","ttl_ms":60000,"revision":3,"created_at":1700000000000,"updated_at":1700000000500,"actor":"ann"}"#,
    );
}

#[test]
fn golden_app_authorization_and_client() {
    let app = App {
        id: AppId(Uuid::from_u128(1)),
        account: AccountUid(Uuid::from_u128(5)),
        name: "calendar".into(),
        description: None,
        scopes: vec!["Customers".into()],
        meta: meta(),
    };
    check(
        &Record::App(app),
        "app/00000000-0000-0000-0000-000000000001",
        r#"{"v":1,"id":"00000000-0000-0000-0000-000000000001","account":"00000000-0000-0000-0000-000000000005","name":"calendar","scopes":["Customers"],"revision":3,"created_at":1700000000000,"updated_at":1700000000500,"actor":"ann"}"#,
    );
    let authorization = AuthorizationRecord {
        id: AuthorizationId(Uuid::from_u128(2)),
        account: AccountUid(Uuid::from_u128(5)),
        name: "crm".into(),
        description: None,
        endpoint: "https://crm.example".into(),
        credentials: SealedCredentials::Header { name: "x-key".into(), value: sealed(1), secret: true },
        meta: meta(),
    };
    check(
        &Record::Authorization(authorization),
        "authorization/00000000-0000-0000-0000-000000000002",
        r#"{"v":1,"id":"00000000-0000-0000-0000-000000000002","account":"00000000-0000-0000-0000-000000000005","name":"crm","endpoint":"https://crm.example","credentials":{"type":"header","name":"x-key","value":{"key":"0badcafe","nonce":"AQEB","ciphertext":"AQEBAQEB"},"secret":true},"revision":3,"created_at":1700000000000,"updated_at":1700000000500,"actor":"ann"}"#,
    );
    let client = ClientRecord {
        id: ClientId(Uuid::from_u128(3)),
        name: "agency".into(),
        account: Some(AccountUid(Uuid::from_u128(5))),
        app: None,
        access_type: Some("Agency Manager".into()),
        scopes: vec!["webhooks:read".into()],
        secrets: vec![HashedSecret { hash: "h".into(), until: None }],
        disabled: false,
        meta: meta(),
    };
    check(
        &Record::Client(client),
        "client/00000000-0000-0000-0000-000000000003",
        r#"{"v":1,"id":"00000000-0000-0000-0000-000000000003","name":"agency","account":"00000000-0000-0000-0000-000000000005","access_type":"Agency Manager","scopes":["webhooks:read"],"secrets":[{"hash":"h"}],"revision":3,"created_at":1700000000000,"updated_at":1700000000500,"actor":"ann"}"#,
    );
}

#[test]
fn golden_webhook() {
    check(
        &Record::Webhook(Arc::new(webhook())),
        "webhook/00000000-0000-0000-0000-000000000007",
        r#"{"v":1,"id":"00000000-0000-0000-0000-000000000007","account":"00000000-0000-0000-0000-000000000005","name":"orders","state":"published","source":"shop","event_types":["order.*"],"url":"https://example.com/hook","method":"POST","content_type":"application/json","headers":[{"name":"authorization","value":{"key":"0badcafe","nonce":"AQEB","ciphertext":"AQEBAQEB"}}],"secrets":[{"key":"0badcafe","nonce":"AgIC","ciphertext":"AgICAgIC"}],"retry":[0,5000],"give_up_on":[404],"timeout_ms":15000,"rate":2.5,"concurrency":64,"log_only_errors":false,"revision":3,"created_at":1700000000000,"updated_at":1700000000500,"actor":"ann"}"#,
    );
}

#[test]
fn what_can_not_be_read_says_why() {
    let decode = |key: &str, value: &str| {
        let error = Key::from_bytes(key.as_bytes()).and_then(|key| Record::decode(&key, value.as_bytes()));
        error.unwrap_err().to_string()
    };
    assert!(decode("orders", "{}").contains("expected `<kind>/<id>`"));
    assert!(decode("gadget/1", "{}").contains("kind `gadget` is not known"));
    assert!(decode("webhook/1", "{}").contains("is no configuration key"));
    assert!(decode("cluster/other", "{}").contains("is no configuration key"));
    assert!(decode("webhook/00000000-0000-0000-0000-00000000000A", "{}").contains("is no configuration key"));
    assert!(decode("source/a", r#"{"v":2}"#).contains("has version 2"));
    assert!(decode("source/a", r#"{"name":"a"}"#).contains("can't be read"));
    let other = String::from_utf8(Record::Webhook(Arc::new(webhook())).encode()).unwrap();
    let key = "webhook/00000000-0000-0000-0000-000000000008";
    assert!(decode(key, &other).contains("holds `webhook/00000000-0000-0000-0000-000000000007`"));
    let stuck =
        String::from_utf8(Record::Webhook(Arc::new(WebhookRecord { concurrency: 0, ..webhook() })).encode())
            .unwrap();
    assert!(decode("webhook/00000000-0000-0000-0000-000000000007", &stuck).contains("zero or less"));
}

#[test]
fn a_sealed_value_is_not_printed() {
    assert_eq!(format!("{:?}", sealed(65)), "Sealed(by 0badcafe)");
}

prop_compose! {
    fn any_webhook()(
        id in any::<u128>(), account in any::<u128>(), name in ".{0,20}", types in prop::collection::vec("[a-z.*]{1,12}", 0..4),
        nonce in prop::collection::vec(any::<u8>(), 0..24), ciphertext in prop::collection::vec(any::<u8>(), 0..64),
        rate in prop::option::of((1u32..1_000_000).prop_map(|eighths| f64::from(eighths) / 8.0)), timeout_ms in 1..u64::MAX, concurrency in 1..u32::MAX,
        delays in prop::collection::vec(0..u64::from(u32::MAX), 0..12), revision in any::<u64>(), at in any::<i64>(),
        reason in prop::option::of(".{0,20}"),
    ) -> WebhookRecord {
        let value = Sealed { key: "k".into(), nonce, ciphertext };
        WebhookRecord {
            id: WebhookId(Uuid::from_u128(id)), account: AccountUid(Uuid::from_u128(account)), name, event_types: types,
            headers: vec![SealedHeader { name: "x".into(), value: value.clone() }], secrets: vec![SealedSecret { text: value, until: Some(UnixMillis(at)) }], rate, timeout_ms,
            concurrency, retry: RetrySchedule::new(delays.into_iter().map(Duration::from_millis)), disabled_reason: reason,
            meta: Meta { revision, created_at: UnixMillis(at), updated_at: UnixMillis(at), actor: "a".into(), request: None },
            ..webhook()
        }
    }
}

proptest! {
    #[test]
    fn a_webhook_comes_back_as_it_was(webhook in any_webhook()) {
        let record = Record::Webhook(Arc::new(webhook));
        prop_assert_eq!(Record::decode(&record.key(), &record.encode()).unwrap(), record);
    }

    #[test]
    fn keys_come_back_as_they_were(text in ".{0,30}") {
        if let Ok(key) = text.parse::<Key>() {
            prop_assert_eq!(key.to_string(), text);
        }
    }

    #[test]
    fn garbage_never_panics(key in prop::collection::vec(any::<u8>(), 0..40), value in prop::collection::vec(any::<u8>(), 0..200)) {
        for key in [Key::from_bytes(&key), Ok(Key::Cluster), Ok(Key::Webhook(WebhookId(Uuid::nil())))].into_iter().flatten() {
            prop_assert!(Record::decode(&key, &value).is_err());
        }
    }

    /// A record with one byte changed is read as something or refused.
    #[test]
    fn a_flipped_byte_never_panics(at in 0usize..400, byte in any::<u8>()) {
        let record = Record::Webhook(Arc::new(webhook()));
        let mut value = record.encode();
        let at = at % value.len();
        value[at] = byte;
        drop(Record::decode(&record.key(), &value));
    }
}

#[test]
fn golden_replay() {
    use hookstream_core::decision::DeadReason;
    use hookstream_core::replay::{Picked, Progress, Replay, ReplayState, Selection, Span};
    use hookstream_types::{DeliveryId, Offset, Partition, ReplayId};

    let span = Span { first: Offset(1), next: Offset(2), end: Offset(3) };
    let replay = Replay {
        id: ReplayId(Uuid::from_u128(8)),
        run: 1_700_000_000_000,
        by: "bob".into(),
        account: AccountUid(Uuid::from_u128(5)),
        webhook: None,
        selection: Selection::DeadLetters {
            from: UnixMillis(1),
            until: UnixMillis(2),
            reason: Some(DeadReason::Exhausted),
            event_types: vec!["a.*".into()],
        },
        dry_run: false,
        state: ReplayState::Running,
        reason: None,
        progress: Progress { spans: [(Partition(4), span)].into(), looked: 3, selected: 2, sent: 1 },
        meta: meta(),
    };
    check(
        &Record::Replay(replay.clone()),
        "replay/00000000-0000-0000-0000-000000000008",
        r#"{"v":1,"id":"00000000-0000-0000-0000-000000000008","run":1700000000000,"by":"bob","account":"00000000-0000-0000-0000-000000000005","selection":{"of":"dead_letters","from":1,"until":2,"reason":"exhausted","event_types":["a.*"]},"state":"running","progress":{"spans":{"4":{"first":1,"next":2,"end":3}},"looked":3,"selected":2,"sent":1},"revision":3,"created_at":1700000000000,"updated_at":1700000000500,"actor":"ann"}"#,
    );
    let picked = Picked {
        delivery: DeliveryId(Uuid::from_u128(1)),
        webhook: WebhookId(Uuid::from_u128(2)),
        partition: Partition(3),
        offset: Offset(4),
    };
    check(
        &Record::Replay(Replay {
            webhook: Some(WebhookId(Uuid::from_u128(2))),
            selection: Selection::Deliveries { deliveries: vec![picked] },
            dry_run: true,
            state: ReplayState::Failed,
            reason: Some("gone".into()),
            progress: Progress::default(),
            ..replay
        }),
        "replay/00000000-0000-0000-0000-000000000008",
        r#"{"v":1,"id":"00000000-0000-0000-0000-000000000008","run":1700000000000,"by":"bob","account":"00000000-0000-0000-0000-000000000005","webhook":"00000000-0000-0000-0000-000000000002","selection":{"of":"deliveries","deliveries":[{"delivery":"00000000-0000-0000-0000-000000000001","webhook":"00000000-0000-0000-0000-000000000002","partition":3,"offset":4}]},"dry_run":true,"state":"failed","reason":"gone","progress":{"looked":0,"selected":0,"sent":0},"revision":3,"created_at":1700000000000,"updated_at":1700000000500,"actor":"ann"}"#,
    );
}
