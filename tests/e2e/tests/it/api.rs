//! The API from outside: what platforms' customers, their clients and their events see of it.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use hookstream_e2e::{Answer, Caller, Receiver, Reply, SOON, Service, free_address, wait_for, wait_until};
use serde_json::{Value, json};
use sha2::Sha256;

/// An installation on a development broker, called by its operator.
struct Api {
    dev: Service,
    admin: Caller,
    receiver: Receiver,
    _dir: tempfile::TempDir,
}

/// What the profile platform's scope is worth.
const SETTINGS: &str = "api:
  scopes:
    - {scope: api.profilesondemand.read, access_type: Agency Manager, grants: [webhooks:read, webhooks:write]}
";

impl Api {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| -> PathBuf { dir.path().join(name) };
        std::fs::write(path("settings.yaml"), SETTINGS).expect("a file in a temporary directory");
        let (data, settings) =
            (path("data").display().to_string(), path("settings.yaml").display().to_string());
        let kafka = free_address().to_string();
        let args = ["dev", "--kafka-listen", &kafka, "--data-dir", &data, "--config", &settings];
        let mut dev = Service::alone(&args, path("log"));
        wait_until("hookstream is ready", SOON, || {
            assert!(dev.exited().is_none(), "dev gave up:\n{}", dev.log_tail());
            dev.log().lines().any(|line| line.starts_with("hookstream is ready"))
        });
        let token = std::fs::read_to_string(path("data").join("admin-token")).expect("dev keeps its token");
        let admin = Caller { addr: dev.api(), token: Some(token.trim().to_owned()) };
        Self { dev, admin, receiver: Receiver::start(), _dir: dir }
    }

    /// What a newly registered client gets when it asks for a token.
    fn token(&self, document: &Value) -> Reply {
        let created = self.admin.post("/api/v1/clients", document).expect(201).json();
        let (id, secret) = (text(&created["id"]), text(&created["clientSecret"]));
        let shown = self.admin.get(&format!("/api/v1/clients/{id}")).expect(200);
        assert!(!shown.body.contains(&secret), "a client's secret is shown once");
        let basic = STANDARD.encode(format!("{id}:{secret}"));
        let form = [
            ("content-type", "application/x-www-form-urlencoded"),
            ("authorization", &*format!("Basic {basic}")),
        ];
        let nobody = Caller { addr: self.admin.addr, token: None };
        nobody.call("POST", "/oauth/token", &form, "grant_type=client_credentials")
    }

    /// A registered client, with a token.
    fn client(&self, document: &Value) -> Caller {
        let granted = self.token(document).expect(200);
        Caller { addr: self.admin.addr, token: Some(text(&granted.json()["access_token"])) }
    }

    fn account(&self, name: &str) -> Value {
        self.admin.post("/api/v1/accounts", &json!({ "name": name })).expect(201).json()
    }
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

fn fields(reply: &Reply) -> Vec<String> {
    let problem = reply.json();
    assert_eq!(reply.headers["content-type"], "application/problem+json", "{problem}");
    assert!(problem["type"].as_str().is_some_and(|kind| kind.starts_with("/problems/")), "{problem}");
    let errors = problem["errors"].as_array().cloned().unwrap_or_default();
    errors.iter().map(|error| text(&error["field"])).collect()
}

fn agency(account: &str) -> Value {
    json!({ "name": account, "account": account, "accessType": "Agency Manager", "scopes": ["api.profilesondemand.read"] })
}

/// Requirements, platform B: four operations, six fields, a PING that must succeed, and nobody else's webhooks.
#[test]
fn the_profile_platforms_four_operations() {
    let api = Api::start();
    for name in ["north", "south"] {
        api.account(name);
    }
    let (north, south) = (api.client(&agency("north")), api.client(&agency("south")));
    let wrong = json!({ "name": "w", "account": "north", "accessType": "Traveller", "scopes": ["api.profilesondemand.read"] });
    // The scope is worth nothing to another access type, so that there is nothing to have a token for.
    assert_eq!(api.token(&wrong).expect(400).json()["error"], "invalid_scope");

    let webhook = json!({
        "name": "My Example Webhook", "profileTypes": ["TRAVELLER", "CORPORATE"],
        "eventTypes": ["CREATE", "UPDATE", "DELETE"], "url": api.receiver.url("/notify"), "secret": "S3cret!",
    });
    api.receiver.on("/notify", Answer::status(500));
    let refused = north.post("/api/v1/configuration/webhook", &webhook).expect(422).json();
    assert_eq!(
        (&refused["ping"]["status"], &refused["ping"]["success"]),
        (&json!(500), &json!(false)),
        "{refused}"
    );
    assert_eq!(north.get("/api/v1/configuration/webhooks?q=").expect(200).json()["results"], json!([]));

    api.receiver.on("/notify", Answer::status(200));
    let created = north.post("/api/v1/configuration/webhook", &webhook).expect(201).json();
    let uuid = text(&created["uuid"]);
    let mut expected = webhook.clone();
    expected["uuid"] = json!(uuid);
    expected["secret"] = json!({ "sensitiveValuePresent": true });
    assert_eq!(created, expected);
    // The PING: the profile platform's payload, signed over its exact bytes.
    let ping = api.receiver.seen(|seen| seen.last().back().cloned()).expect("a ping arrived");
    let body: Value = serde_json::from_slice(&ping.body).expect("a ping is JSON");
    assert_eq!(body["event"], "PING");
    let mut mac = Hmac::<Sha256>::new_from_slice(b"S3cret!").expect("any length");
    mac.update(&ping.body);
    let signature: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(ping.header("x-signature"), Some(&*signature));

    let mut listed = expected.clone();
    listed.as_object_mut().expect("an object").remove("secret");
    let page = north.get("/api/v1/configuration/webhooks?q=example&page=0&pageSize=10").expect(200).json();
    assert_eq!(page, json!({ "moreResults": false, "results": [listed] }));
    assert_eq!(north.get("/api/v1/configuration/webhooks?q=nosuch").json()["results"], json!([]));
    assert_eq!(north.get("/api/v1/configuration/webhooks?q=&page=1").json()["results"], json!([]));
    for (query, field) in [
        ("page=0", "q"),
        ("q=&page=-1", "page"),
        ("q=&page=x", "page"),
        ("q=&pageSize=0", "pageSize"),
        ("q=&pageSize=101", "pageSize"),
    ] {
        let refused = north.get(&format!("/api/v1/configuration/webhooks?{query}")).expect(400);
        assert_eq!(fields(&refused), [field], "{query}");
    }

    let path = format!("/api/v1/configuration/webhook/{uuid}");
    for (method, body) in [("PATCH", r#"{"name":"theirs"}"#), ("DELETE", "")] {
        assert_eq!(south.call(method, &path, &[], body).status, 404, "{method}");
    }
    let patched = north.call("PATCH", &path, &[], r#"{"eventTypes":["CREATE","DELETE"]}"#).expect(200).json();
    expected["eventTypes"] = json!(["CREATE", "DELETE"]);
    assert_eq!(patched, expected);
    api.receiver.on("/notify", Answer::status(503));
    let refused = north.call("PATCH", &path, &[], r#"{"name":"other"}"#);
    assert_eq!(refused.status, 422, "{}", refused.body);
    assert_eq!(
        north.get("/api/v1/configuration/webhooks?q=").json()["results"][0]["name"],
        "My Example Webhook"
    );
    assert_eq!(north.call("DELETE", &path, &[], "").status, 204);
    assert_eq!(north.call("DELETE", &path, &[], "").status, 404);

    let draft = json!({ "name": "later", "profileTypes": ["TRAVELLER"], "eventTypes": ["UPDATE"],
        "url": api.receiver.url("/notify"), "secret": "S3cret!", "state": "DRAFT" });
    north.post("/api/v1/configuration/webhook", &draft).expect(201);
    let nobody = Caller { token: None, ..north };
    assert_eq!(nobody.get("/api/v1/configuration/webhooks?q=").status, 401);
    assert!(api.dev.log().lines().all(|line| !line.contains("S3cret!")));
}

/// Events in, and what a receiver gets of them; the same key again is the same event.
#[test]
fn events_over_http_reach_their_webhooks() {
    let api = Api::start();
    let url = api.receiver.url("/in");
    let webhook = json!({ "name": "w", "url": url, "eventTypes": ["order.*"], "secretHeader": "X-Secret" });
    let created = api.admin.post("/api/v1/webhooks", &webhook).expect(201).json();
    let secret = text(&created["generatedSecret"]);
    api.receiver.forget();
    let event = json!({ "type": "order.created", "data": { "id": 7 } }).to_string();
    let key = [("idempotency-key", "k1")];
    let first = api.admin.call("POST", "/api/v1/events", &key, &event).expect(202).json();
    let again = api.admin.call("POST", "/api/v1/events", &key, &event).expect(202).json();
    assert_eq!(first, again);
    let other = json!({ "type": "order.created", "data": { "id": 8 } }).to_string();
    assert_eq!(api.admin.call("POST", "/api/v1/events", &key, &other).status, 409);
    let arrived =
        wait_for("the event arrives", SOON, || api.receiver.seen(|seen| seen.last().front().cloned()));
    assert_eq!(arrived.header("x-secret"), Some(&*secret));
    let body: Value = serde_json::from_slice(&arrived.body).expect("JSON");
    assert_eq!((&body["type"], &body["data"]["id"]), (&json!("order.created"), &json!(7)));

    let schema = json!({ "name": "order.paid", "schema": { "type": "object", "required": ["amount"] } });
    api.admin.post("/api/v1/event-types", &schema).expect(201);
    let bad = json!({ "type": "order.paid", "data": {} });
    wait_until("the schema is in force", SOON, || api.admin.post("/api/v1/events", &bad).status == 422);
    api.admin.post("/api/v1/events", &json!({ "type": "order.paid", "data": { "amount": 1 } })).expect(202);
}

/// Revisions, conflicts, keys: what makes changes by several hands safe.
#[test]
fn preconditions_conflicts_and_keys() {
    let api = Api::start();
    let document = |name: &str| json!({ "name": name, "url": "https://a.example/", "eventTypes": ["a"], "state": "draft" });
    let created = api.admin.post("/api/v1/webhooks", &document("one")).expect(201);
    assert_eq!(created.headers["etag"], "\"1\"");
    let path = format!("/api/v1/webhooks/{}", text(&created.json()["id"]));
    assert_eq!(created.headers["location"], path);
    assert_eq!(fields(&api.admin.post("/api/v1/webhooks", &document("one")).expect(409)), ["/name"]);

    let patch = |tag: &str, body: &str| api.admin.call("PATCH", &path, &[("if-match", tag)], body);
    assert_eq!(patch("\"1\"", r#"{"concurrency":3}"#).expect(200).headers["etag"], "\"2\"");
    let stale = patch("\"1\"", r#"{"concurrency":4}"#).expect(412);
    assert_eq!(stale.headers["etag"], "\"2\"");
    assert_eq!(patch("2", r#"{"concurrency":4}"#).status, 400);
    assert_eq!(patch("*", r#"{"concurrency":5,"description":"x"}"#).expect(200).json()["concurrency"], 5);
    assert_eq!(patch("*", r#"{"description":null}"#).expect(200).json().get("description"), None);
    let bad = patch("*", r#"{"url":"ftp://x","rate":-1,"surprise":1}"#).expect(400);
    let mut named = fields(&bad);
    named.sort();
    assert_eq!(named, ["/rate", "/surprise", "/url"]);

    let key = [("idempotency-key", "make-two")];
    let two = document("two").to_string();
    let first = api.admin.call("POST", "/api/v1/webhooks", &key, &two).expect(201).json();
    let replayed = api.admin.call("POST", "/api/v1/webhooks", &key, &two).expect(201);
    assert_eq!(replayed.headers["idempotency-replayed"], "true");
    assert_eq!(replayed.json()["id"], first["id"]);
    let reused = api.admin.call("POST", "/api/v1/webhooks", &key, &document("three").to_string());
    assert_eq!(reused.expect(409).json()["type"], "/problems/idempotency-key-reused");

    let first_page = api.admin.get("/api/v1/webhooks?limit=1").expect(200).json();
    let cursor = text(&first_page["next"]);
    let second_page = api.admin.get(&format!("/api/v1/webhooks?limit=1&cursor={cursor}")).expect(200).json();
    assert_eq!((&first_page["moreResults"], &second_page["moreResults"]), (&json!(true), &json!(false)));
    assert_ne!(first_page["results"][0]["id"], second_page["results"][0]["id"]);
    assert_eq!(
        fields(&api.admin.get(&format!("/api/v1/webhooks?limit=1&q=x&cursor={cursor}")).expect(400)),
        ["cursor"]
    );
    assert_eq!(fields(&api.admin.get("/api/v1/webhooks?limit=101").expect(400)), ["limit"]);
    assert_eq!(api.admin.get("/api/v1/webhooks?state=paused").json()["results"], json!([]));
    assert_eq!(
        api.admin.get("/api/v1/webhooks?eventType=a").json()["results"].as_array().map(Vec::len),
        Some(2)
    );

    let copy = api.admin.post(&format!("{path}/duplicate"), &json!({})).expect(201).json();
    assert_eq!((&copy["name"], &copy["state"]), (&json!("one (copy)"), &json!("draft")));
    assert_eq!(api.admin.post(&format!("{path}/pause"), &json!({})).status, 409);
    let rotated =
        api.admin.post(&format!("{path}/rotate-secret"), &json!({ "overlap": "1h" })).expect(200).json();
    assert!(text(&rotated["generatedSecret"]).starts_with("whsec_"));
    assert_eq!(api.admin.call("DELETE", &path, &[("if-match", "\"1\"")], "").status, 412);
    assert_eq!(api.admin.call("DELETE", &path, &[], "").status, 204);
    assert_eq!(api.admin.get(&path).status, 404);
}

/// Requirements, platform C: an app subscribes only to what its scopes cover; what it loses is not delivered.
#[test]
fn scopes_of_apps() {
    let api = Api::start();
    let scoped = json!({ "name": "Customers.Created", "scopes": ["Customers"] });
    api.admin.post("/api/v1/event-types", &scoped).expect(201);
    let app = api
        .admin
        .post("/api/v1/apps", &json!({ "name": "calendar", "scopes": ["Events"] }))
        .expect(201)
        .json();
    let webhook = json!({ "name": "w", "app": app["id"], "url": api.receiver.url("/c"), "eventTypes": ["Customers.*"] });
    let refused = api.admin.post("/api/v1/webhooks", &webhook).expect(422);
    assert_eq!(refused.json()["type"], "/problems/scopes-missing");

    let app_path = format!("/api/v1/apps/{}", text(&app["id"]));
    api.admin.call("PATCH", &app_path, &[], r#"{"scopes":["Events","Customers"]}"#).expect(200);
    let created = api.admin.post("/api/v1/webhooks", &webhook).expect(201).json();
    let path = format!("/api/v1/webhooks/{}", text(&created["id"]));
    let send =
        || api.admin.post("/api/v1/events", &json!({ "type": "Customers.Created", "data": {} })).expect(202);
    api.receiver.forget();
    send();
    wait_until("an event arrives", SOON, || api.receiver.seen(|seen| seen.total()) == 1);
    api.admin.call("PATCH", &app_path, &[], r#"{"scopes":["Events"]}"#).expect(200);
    assert_eq!(api.admin.get(&path).expect(200).json()["missingScopes"], json!(["Customers"]));
    let skipped = |dev: &Service| {
        dev.metrics().sum_with("hookstream_sender_skipped_total", "scope_lost").unwrap_or(0.0)
    };
    wait_until("deliveries are skipped", SOON, || {
        send();
        skipped(&api.dev) >= 1.0
    });
    assert_eq!(api.admin.call("DELETE", &app_path, &[], "").status, 409, "a webhook is its");
}

/// What is exported and applied again is the same; a difference is shown before it is made.
#[test]
fn apply_and_export() {
    let api = Api::start();
    let document = json!({
        "accounts": [{ "name": "acme", "verification": "none" }],
        "authorizations": [{ "account": "acme", "name": "crm", "endpoint": "https://crm.example",
            "header": { "name": "X-Key", "value": "k3y-canary" } }],
        "webhooks": [{ "account": "acme", "name": "w", "event_types": ["*"], "url": "https://crm.example/in",
            "authorization": "crm", "headers": { "X-A": "he4der-canary" } }],
    });
    let dry = api.admin.post("/api/v1/apply?dryRun=true", &document).expect(200).json();
    assert_eq!((&dry["applied"], dry["resources"].as_array().map(Vec::len)), (&json!(false), Some(3)));
    let done = api.admin.post("/api/v1/apply", &document).expect(200).json();
    assert_eq!((&done["applied"], done["generated"].as_array().map(Vec::len)), (&json!(true), Some(1)));
    let exported = api.admin.get("/api/v1/export").expect(200);
    for canary in ["k3y-canary", "he4der-canary", &*text(&done["generated"][0]["secret"])] {
        assert!(!exported.body.contains(canary), "{canary}");
    }
    let again = api.admin.call("POST", "/api/v1/apply?prune=true", &[], &exported.body).expect(200).json();
    assert_eq!(again["applied"], json!(false), "{again}");
    let bad = api
        .admin
        .post("/api/v1/apply", &json!({ "webhooks": [{ "name": "x", "account": "nosuch" }] }))
        .expect(400);
    assert!(fields(&bad).contains(&"/webhooks/0/url".to_owned()), "{}", bad.body);
}
