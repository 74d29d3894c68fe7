//! Two accounts with their webhooks, a log, an index of it, and tokens.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use hookstream_core::decision::{About, DeadReason, Decision, SkipReason, Verdict};
use hookstream_core::event::EventAttributes;
use hookstream_core::exchange::FailureKind;
use hookstream_core::ledger::Entry;
use hookstream_history::{Applied, Backend, Batch, Feed, History, Record};
use hookstream_log::admin::{Admin, Cleanup, TopicSpec};
use hookstream_log::fenced::Writer;
use hookstream_log::fetch::Fetcher;
use hookstream_log::{KafkaSettings, OutRecord};
use hookstream_types::{
    AccountUid, AppId, DeliveryId, EventId, Generation, Mono, Now, Offset, OwnerId, Partition, Secret,
    SecretString, UnixMillis, WebhookId, limits,
};
use hookstream_wire::attempt::{self, Attempt, LoggedFailure, LoggedRequest, LoggedResponse, LoggedTimings};
use hookstream_wire::audit::{Action, Audit};
use http::Request;
use http::header::AUTHORIZATION;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower_service::Service as _;
use uuid::Uuid;

use crate::access::authenticate::{Accounts, AdminToken, Authenticator};
use crate::access::client::{ClientRecord, Clients};
use crate::access::cursor::Cursors;
use crate::access::token::{AccessTokens, DEFAULT_LIFETIME, Grant};
use crate::access::{Bound, ScopeMap};
use crate::history::{Executions, HistoryTopics, Index, Owner, router};

pub(in crate::history) const A: AccountUid = AccountUid(Uuid::from_u128(0xa));
pub(in crate::history) const B: AccountUid = AccountUid(Uuid::from_u128(0xb));
const APP: AppId = AppId(Uuid::from_u128(0xc));
/// Of the app.
pub(in crate::history) const W1: WebhookId = WebhookId(Uuid::from_u128(1));
/// Of account A itself.
pub(in crate::history) const W2: WebhookId = WebhookId(Uuid::from_u128(2));
/// Of account B.
pub(in crate::history) const W3: WebhookId = WebhookId(Uuid::from_u128(3));
/// Was account A's.
pub(in crate::history) const DELETED: WebhookId = WebhookId(Uuid::from_u128(4));
pub(in crate::history) const UNKNOWN: WebhookId = WebhookId(Uuid::from_u128(5));

const ADMIN: &str = "an-admin-token-of-operators";
/// The time of which all is counted: 2026-01-01.
const START: i64 = 1_767_225_600_000;

pub(in crate::history) fn event(n: u64) -> EventId {
    EventId(Uuid::from_u128(0xe0 << 64 | u128::from(n)))
}

pub(in crate::history) fn number_of(event: &str) -> u64 {
    event.parse::<Uuid>().unwrap().as_u64_pair().1
}

pub(in crate::history) fn delivery(n: u64, webhook: WebhookId) -> DeliveryId {
    DeliveryId::of(event(n), webhook)
}

fn account_of(webhook: WebhookId) -> AccountUid {
    if webhook == W3 { B } else { A }
}

fn about(n: u64, webhook: WebhookId) -> About {
    let event_type = if n.is_multiple_of(2) { "order.paid" } else { "order.shipped" };
    About { webhook, account: account_of(webhook), event: event(n), event_type: event_type.into() }
}

pub(in crate::history) fn settings() -> KafkaSettings {
    let bootstrap_servers = hookstream_devbroker::testing::bootstrap_servers();
    KafkaSettings { bootstrap_servers, client_id: "hookstream-test".to_owned(), properties: Vec::new() }
}

pub(in crate::history) async fn topic(partitions: i32) -> String {
    let name = format!("test.history.{}", Uuid::new_v4().simple());
    create(&name, partitions).await;
    name
}

pub(in crate::history) async fn create(name: &str, partitions: i32) {
    let spec = TopicSpec {
        name: name.to_owned(),
        partitions,
        replication_factor: 1,
        min_insync_replicas: 1,
        cleanup: Cleanup::Delete(None),
        log_append_time: true,
        max_message_bytes: limits::MAX_RECORD_BYTES,
        extra: Vec::new(),
    };
    Admin::new(&settings()).unwrap().create_missing(&[spec]).await.unwrap();
}

pub(in crate::history) fn write(topic: &str, partition: i32, values: &[Vec<u8>]) {
    let records: Vec<OutRecord<'_>> = values
        .iter()
        .map(|value| OutRecord {
            topic,
            partition: Partition(partition),
            key: None,
            value: Some(value),
            headers: &[],
        })
        .collect();
    Writer::open(&settings()).unwrap().write(&records).unwrap();
}

/// A request and what came of it.
pub(in crate::history) fn tried(
    n: u64,
    webhook: WebhookId,
    number: u32,
    result: Result<u16, FailureKind>,
    verdict: Verdict,
    unlisted: bool,
) -> Vec<u8> {
    let about = about(n, webhook);
    let body = |bytes: &'static [u8], cut| {
        if unlisted { None } else { attempt::Body::of(bytes.into(), 100, cut) }
    };
    let attempt = Attempt {
        webhook,
        account: about.account,
        event: about.event,
        event_type: about.event_type.to_string().into(),
        number,
        revision: 4,
        unlisted,
        started_at: UnixMillis(START),
        request: LoggedRequest {
            method: "POST".into(),
            url: "https://a.example/hook".into(),
            headers: vec![("x-token".into(), "(secret)".into())],
            body: body(b"{\"n\":1}", false),
        },
        response: result.ok().map(|status| LoggedResponse {
            status,
            headers: vec![("server".into(), "x".into())],
            body: body(b"\xff\xff\xff\xff\xff", true),
        }),
        failure: result.err().map(|kind| LoggedFailure { kind, message: "refused".into() }),
        timings: LoggedTimings {
            dns_us: Some(1_500),
            connect_us: None,
            tls_us: None,
            first_byte_us: Some(20_000),
            total_us: 21_250,
        },
    };
    entry(n, webhook, number, verdict, None, Some(&attempt))
}

fn entry(
    n: u64,
    webhook: WebhookId,
    number: u32,
    verdict: Verdict,
    about: Option<About>,
    attempt: Option<&Attempt<'_>>,
) -> Vec<u8> {
    let decision = Decision {
        offset: Offset(0),
        delivery: delivery(n, webhook),
        generation: Generation { run: 0, n: number },
        about: about.map(Box::new),
        verdict,
    };
    let entry = Entry::Decisions { owner: OwnerId(Uuid::nil()), decisions: vec![decision] };
    let mut value = Vec::new();
    attempt::encode(&entry, attempt.map(Attempt::encode).as_ref(), &mut value);
    value
}

pub(in crate::history) fn changed(
    n: i64,
    key: &str,
    account: Option<AccountUid>,
    actor: &'static str,
) -> Vec<u8> {
    let audit = Audit {
        at: UnixMillis(START + n * 1000),
        actor: actor.into(),
        write: Uuid::from_u128(9),
        key: key.into(),
        account,
        action: Action::Update,
        revision: 3,
        before: Some(json!({ "n": n - 1 })),
        after: Some(json!({ "n": n })),
        secrets_changed: Vec::new(),
    };
    audit.encode()
}

/// An event with the data `{"n":…}`.
pub(in crate::history) fn happened(n: u64, account: AccountUid, subject: Option<&str>) -> EventAttributes {
    EventAttributes {
        event: event(n),
        account,
        source: "shop".to_owned(),
        id: format!("e-{n}"),
        ce_source: "/shop".to_owned(),
        event_type: if n.is_multiple_of(2) { "order.paid" } else { "order.shipped" }.to_owned(),
        subject: subject.map(str::to_owned),
        time: "2026-01-01T00:00:00Z".to_owned(),
        content_type: Some("application/json".to_owned()),
        extensions: vec![("region".to_owned(), "eu".to_owned())],
        produced_at: UnixMillis(START),
    }
}

pub(in crate::history) fn own_headers(attributes: &EventAttributes) -> Vec<(String, Vec<u8>)> {
    hookstream_wire::event::encode(attributes, Offset(1), |headers| {
        headers.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect()
    })
}

pub(in crate::history) fn write_events(topic: &str, events: &[EventAttributes]) {
    let data: Vec<String> =
        events.iter().map(|event| format!("{{\"n\":{}}}", number_of(&event.event.to_string()))).collect();
    let own: Vec<Vec<(String, Vec<u8>)>> = events.iter().map(own_headers).collect();
    let lent: Vec<Vec<(&str, &[u8])>> = own
        .iter()
        .map(|headers| headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect())
        .collect();
    let records: Vec<OutRecord<'_>> = data
        .iter()
        .zip(&lent)
        .map(|(data, headers)| OutRecord {
            topic,
            partition: Partition(0),
            key: None,
            value: Some(data.as_bytes()),
            headers,
        })
        .collect();
    Writer::open(&settings()).unwrap().write(&records).unwrap();
}

struct Webhooks;

impl Owner for Webhooks {
    fn app_of(&self, webhook: WebhookId) -> Option<(AccountUid, Option<AppId>)> {
        match webhook {
            W1 => Some((A, Some(APP))),
            W2 => Some((A, None)),
            W3 => Some((B, None)),
            _ => None,
        }
    }
}

struct Registered;

impl Clients for Registered {
    fn client(&self, id: &str) -> Option<ClientRecord> {
        let (scopes, bound) = match id {
            "a" => ("history:read webhooks:read", Bound::Account(A)),
            "b" => ("history:read webhooks:read", Bound::Account(B)),
            "app" => ("history:read webhooks:read", Bound::App { account: A, app: APP }),
            "reader" => ("webhooks:read", Bound::Account(A)),
            "events" => ("events:write", Bound::Account(A)),
            "support" => ("history:read webhooks:read", Bound::Everything),
            _ => return None,
        };
        let scopes = scopes.split(' ').map(str::to_owned).collect();
        Some(ClientRecord {
            id: id.to_owned(),
            secrets: vec![],
            scopes,
            access_type: None,
            bound,
            enabled: true,
        })
    }
}

struct NoAccounts;

impl Accounts for NoAccounts {
    fn account(&self, _name: &str) -> Option<AccountUid> {
        None
    }
}

fn now() -> Now {
    Now { mono: Mono(0), wall: UnixMillis(START), broker: UnixMillis(START) }
}

pub(in crate::history) struct World {
    router: Router,
    authenticator: Arc<Authenticator>,
    _dir: TempDir,
}

impl World {
    /// With an index of a log, both with all that a log has.
    pub(in crate::history) async fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let history = History::open(&Backend::Sqlite { path: dir.path().join("h.db") }).await.unwrap();
        let topic = topic(1).await;
        let dead = |reason| Verdict::Dead { reason };
        let skipped = Verdict::Skipped { reason: SkipReason::Deleted };
        let again = Verdict::Retry { due: UnixMillis(START + 9_000) };
        let gone = |n| tried(n, W2, 1, Ok(500), dead(DeadReason::Exhausted), false);
        let mut values = vec![
            tried(1, W1, 1, Ok(503), again, false),
            tried(2, W2, 1, Err(FailureKind::Connect), dead(DeadReason::Exhausted), false),
            tried(3, W3, 1, Ok(200), Verdict::Delivered, false),
            tried(4, DELETED, 1, Ok(404), dead(DeadReason::Rejected), false),
            entry(5, W1, 0, skipped, Some(about(5, W1)), None),
            tried(6, W2, 1, Ok(200), Verdict::Delivered, true),
            tried(3, W3, 2, Ok(200), Verdict::Delivered, false),
            tried(1, W1, 2, Ok(200), Verdict::Delivered, true),
        ];
        write(&topic, 0, &values);
        let mut seconds: Vec<(i64, i64)> = (0..8).zip([1, 2, 3, 4, 5, 6, 8, 9]).collect();
        // In the index, another stands where the topic has what belongs to B; and one has no record.
        values[6] = gone(8);
        values.push(gone(7));
        seconds.push((900, 7));
        let records = values.into_iter().zip(seconds).map(|(value, (offset, second))| Record {
            offset: Offset(offset),
            at: UnixMillis(START + second * 1000),
            headers: Vec::new(),
            value,
        });
        feed(&history, Feed::Attempts, records.collect()).await;
        let changes = [
            changed(1, &format!("webhook/{W1}"), Some(A), "ann"),
            changed(2, &format!("account/{A}"), Some(A), "bob"),
            changed(3, &format!("webhook/{W3}"), Some(B), "ann"),
            changed(4, "source/shop", None, "ann"),
        ];
        let records = (0..).zip(changes).map(|(offset, value)| Record {
            offset: Offset(offset),
            at: UnixMillis(START),
            headers: Vec::new(),
            value,
        });
        feed(&history, Feed::Audit, records.collect()).await;
        let events = self::topic(1).await;
        let of = |n, account, subject: Option<&str>| happened(n, account, subject);
        let mut all = vec![of(1, A, Some("7")), of(2, A, None), of(3, B, Some("7")), of(4, A, Some("7"))];
        write_events(&events, &all);
        // In the index, another stands where the topic has what belongs to B; and one has no record.
        all[2] = of(8, A, None);
        all.push(of(9, A, None));
        all.push(of(3, B, Some("7")));
        let at = |offset| UnixMillis(START + 1000 * (offset + 1));
        let offsets = [0, 1, 2, 3, 900, 2 + 1_000];
        let records = offsets.into_iter().zip(all).map(|(offset, attributes)| Record {
            offset: Offset(offset),
            at: at(offset),
            headers: own_headers(&attributes),
            value: Vec::new(),
        });
        feed(&history, Feed::Events, records.collect()).await;
        Self::with(Index::of(history), &topic, &events, dir)
    }

    /// Its database has not answered yet.
    pub(in crate::history) fn without_index() -> Self {
        Self::with(Index::default(), "none", "none", TempDir::new().unwrap())
    }

    fn with(index: Index, topic: &str, events: &str, dir: TempDir) -> Self {
        let key = || Secret::new(vec![1; 32]);
        let authenticator = Arc::new(Authenticator {
            tokens: AccessTokens::new(
                [("k".to_owned(), key())],
                "https://hooks.example".into(),
                DEFAULT_LIFETIME,
            )
            .unwrap(),
            clients: Arc::new(Registered),
            accounts: Arc::new(NoAccounts),
            issuers: Vec::new(),
            scopes: ScopeMap::default(),
            admin: Some(AdminToken::new(&SecretString::new(ADMIN.into())).unwrap()),
            clock: Arc::new(now),
        });
        let fetcher = Fetcher::new(&settings()).unwrap();
        let cursors = Cursors::new([&key()]);
        let executions = Executions::new(
            index,
            fetcher,
            HistoryTopics {
                attempts: topic.into(),
                events: events.into(),
                // Where nothing that was rejected stands.
                rejected: events.into(),
                partitions: 1,
                admin: Arc::new(Admin::new(&settings()).unwrap()),
                backlog: hookstream_log::backlog::Backlog::new(&settings(), "nobody", events.into(), 1)
                    .unwrap(),
            },
            cursors,
            Arc::new(Webhooks),
            Arc::new(|| UnixMillis(START + 60_000)),
        );
        let (router, _) = router(Arc::new(executions), Arc::clone(&authenticator)).split_for_parts();
        Self { router, authenticator, _dir: dir }
    }

    fn token(&self, who: &str) -> String {
        let Some(client) = Registered.client(who) else { return ADMIN.to_owned() };
        let scopes = client.scopes.join(" ").parse().unwrap();
        let grant = Grant { client: who.into(), scopes, bound: client.bound, access_type: None };
        let issued = self.authenticator.tokens.issue(&grant, now().wall, &mut |bytes| bytes.fill(7));
        issued.token.expose().to_owned()
    }

    /// The status and the body of an answer; `nobody` sends no token.
    pub(in crate::history) async fn get(&self, who: &str, path: &str) -> (u16, Value) {
        let mut request = Request::get(path);
        if who != "nobody" {
            request = request.header(AUTHORIZATION, format!("Bearer {}", self.token(who)));
        }
        let response = self.router.clone().call(request.body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }
}

async fn feed(history: &History, feed: Feed, records: Vec<Record>) {
    let next = records.last().unwrap().offset.next();
    let batch = Batch { partition: Partition(0), from: Offset(0), next, records };
    assert!(matches!(history.apply(feed, &batch).await.unwrap(), Applied::Done { bad: 0, .. }));
}
