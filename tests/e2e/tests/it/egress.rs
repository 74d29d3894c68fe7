//! Where requests may go: the corpus of hostile endpoints and headers, through the API and the sender.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;

use hookstream_e2e::{Caller, NameServer, Role, SOON, Service, Stack, wait_until};
use serde_json::{Value, json};

use crate::api::text;

const URLS: &str = include_str!("../../../corpus/endpoint_url.json");
const HEADER_NAMES: &str = include_str!("../../../corpus/header_name.json");
const HEADER_VALUES: &str = include_str!("../../../corpus/header_value.json");

pub(crate) fn cases(text: &str) -> Vec<Value> {
    serde_json::from_str(text).expect("the corpus is JSON")
}

/// A text, or `{"concat": [[text, times], …]}`.
fn input(case: &Value) -> String {
    match &case["input"] {
        Value::String(text) => text.clone(),
        parts => parts["concat"]
            .as_array()
            .expect("parts")
            .iter()
            .map(|part| {
                text(&part[0]).repeat(usize::try_from(part[1].as_u64().expect("a number")).expect("a length"))
            })
            .collect(),
    }
}

/// Listens on this machine wherever the corpus wants to lead, and counts who comes.
pub(crate) struct Canary(Arc<AtomicUsize>);

impl Canary {
    fn start() -> Self {
        let seen = Arc::new(AtomicUsize::new(0));
        let mut listening = 0;
        for address in ["127.0.0.1:80", "127.0.0.1:443", "127.0.0.1:8080", "[::1]:80", "[::1]:443"] {
            let address: SocketAddr = address.parse().expect("an address");
            // Somebody else may have the port; below 1024 they are root's.
            let Ok(listener) = TcpListener::bind(address) else { continue };
            listening += 1;
            let seen = Arc::clone(&seen);
            thread::spawn(move || {
                for _connection in listener.incoming() {
                    seen.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        assert!(listening > 0, "no canary could listen");
        Self(seen)
    }

    pub(crate) fn seen(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// One for all tests of this process: its ports are fixed.
pub(crate) static CANARY: LazyLock<Canary> = LazyLock::new(Canary::start);

struct Strict {
    stack: Stack,
    names: NameServer,
    _services: [Service; 3],
    admin: Caller,
}

impl Strict {
    fn start(name: &str, names: BTreeMap<String, Vec<IpAddr>>) -> Self {
        LazyLock::force(&CANARY);
        let names = NameServer::start(names);
        let server = names.address().to_string();
        let settings = [
            ("EGRESS__ALLOW_PRIVATE", "false"),
            ("EGRESS__DENY", "hooks.dispatcher.example"),
            ("EGRESS__NAME_SERVERS", &server),
        ];
        let stack = Stack::new(name);
        let mut services = [Role::Fanout, Role::Sender, Role::Api].map(|role| stack.launch(role, &settings));
        services.iter_mut().for_each(Service::wait_ready);
        let admin = services[2].admin();
        // Nobody is pinged, so that the sender is asked.
        admin.post("/api/v1/accounts", &json!({ "name": "default", "verification": "none" })).expect(201);
        Self { stack, names, _services: services, admin }
    }
}

#[test]
fn every_endpoint_of_the_corpus() {
    let all = cases(URLS);
    let mut names = BTreeMap::new();
    for case in all.iter().filter(|case| case["expect"] == "block_at_dial") {
        let host = text(&case["input"]).trim_start_matches("https://").trim_end_matches('/').to_owned();
        let addresses = case["dns"].as_array().expect("addresses");
        names.insert(
            host,
            addresses.iter().map(|address| text(address).parse().expect("an address")).collect(),
        );
    }
    let blocked = names.len();
    let strict = Strict::start("corpus", names);
    let (mut accepted, mut refused) = (0, 0);
    for case in &all {
        let expect = text(&case["expect"]);
        // What is accepted is nobody's that we know: it stays a draft.
        let state = if expect == "block_at_dial" { "published" } else { "draft" };
        let webhook = json!({ "name": case["id"], "url": input(case), "eventTypes": ["order.created"], "state": state });
        let reply = strict.admin.post("/api/v1/webhooks", &webhook);
        if expect == "reject" {
            let problem = reply.expect(400).json();
            assert_eq!(problem["errors"][0]["field"], "/url", "{case}: {problem}");
            let said = text(&problem["errors"][0]["detail"]);
            assert!(said.starts_with("must"), "{case}: {said}");
            refused += 1;
        } else {
            let made = reply.expect(201).json();
            assert_eq!(made["url"], input(case), "{case}");
            accepted += 1;
        }
    }
    assert_eq!(accepted + refused, all.len());

    let event = json!({ "type": "order.created", "data": {} });
    strict.admin.post("/api/v1/events", &event).expect(202);
    let mut failures = Vec::new();
    wait_until("each was tried and refused", SOON, || {
        let page = strict.admin.get("/api/v1/executions?limit=100").expect(200).json();
        let items = page["results"].as_array().cloned().unwrap_or_default();
        failures = items.iter().filter_map(|item| item["failure"].as_str().map(str::to_owned)).collect();
        failures.len() == blocked
    });
    assert!(failures.iter().all(|failure| failure == "forbidden"), "{failures:?}");
    assert!(strict.names.asked().iter().any(|name| name == "mixed.attacker.example"));
    assert_eq!(CANARY.seen(), 0);
    drop(strict.stack);
}

#[test]
fn every_header_of_the_corpus() {
    let strict = Strict::start("headers", BTreeMap::new());
    let post = |name: &str, value: &str, id: &Value| {
        let webhook = json!({ "name": id, "url": "https://example.com/hook", "eventTypes": ["*"], "state": "draft",
            "headers": { name: value } });
        strict.admin.post("/api/v1/webhooks", &webhook)
    };
    let names = cases(HEADER_NAMES).into_iter().map(|case| (input(&case), "x".to_owned(), case));
    let values = cases(HEADER_VALUES).into_iter().map(|case| ("X-Own".to_owned(), input(&case), case));
    let mut tried = 0;
    for (name, value, case) in names.chain(values) {
        let reply = post(&name, &value, &case["id"]);
        if case["expect"] == "reject" {
            let problem = reply.expect(400).json();
            assert!(text(&problem["errors"][0]["field"]).starts_with("/headers"), "{case}: {problem}");
        } else {
            let made = reply.expect(201).json();
            // Written, never read.
            assert_eq!(made["headers"][name.to_ascii_lowercase()], json!({ "sensitiveValuePresent": true }));
        }
        tried += 1;
    }
    assert!(tried > 30, "{tried}");
    drop(strict.stack);
}

/// A token's, a client certificate's and an own authority's way is checked like an endpoint's.
#[test]
fn what_else_leads_out() {
    let strict = Strict::start("elsewhere", BTreeMap::new());
    let oauth2 = |url: &str| {
        json!({ "name": "a", "endpoint": "https://example.com", "oauth2": {
        "tokenUrl": url, "clientId": "c", "clientSecret": "s" } })
    };
    for url in
        ["https://127.0.0.1/token", "https://metadata.google.internal/", "https://2130706433/", "gopher://x/"]
    {
        let problem = strict.admin.post("/api/v1/authorizations", &oauth2(url)).expect(400).json();
        assert_eq!(problem["errors"][0]["field"], "/oauth2/tokenUrl", "{url}: {problem}");
    }
    let mtls = json!({ "name": "m", "endpoint": "https://example.com", "mtls": {
        "certificate": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
        "key": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----" } });
    let problem = strict.admin.post("/api/v1/authorizations", &mtls).expect(400).json();
    assert_eq!(problem["errors"][0]["field"], "/mtls", "{problem}");
    let webhook = |tls: Value| json!({ "name": "w", "url": "https://example.com/", "eventTypes": ["*"], "state": "draft", "tls": tls });
    for (tls, field) in [
        (json!({ "ca": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----" }), "/tls"),
        (json!({ "ca": "nonsense" }), "/tls/ca"),
        (json!({ "pins": ["short"] }), "/tls/pins/0"),
    ] {
        let problem = strict.admin.post("/api/v1/webhooks", &webhook(tls)).expect(400).json();
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
    // The file's way in is the same.
    let document = json!({ "webhooks": [webhook(json!({})), { "name": "x", "url": "https://10.0.0.1/", "event_types": ["*"] }] });
    let mut document = document;
    document["webhooks"][0] =
        json!({ "name": "w", "url": "https://example.com/", "event_types": ["*"], "state": "draft" });
    let problem = strict.admin.post("/api/v1/apply", &document).expect(400).json();
    assert_eq!(problem["errors"][0]["field"], "/webhooks/1/url", "{problem}");
    drop(strict.stack);
}
