//! What goes over the wire, from the API to the endpoint: payloads, signatures, authorizations; verified by the libraries that
//! receivers use.

use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hookstream_e2e::{Answer, Arrived, Caller, Receiver, Role, SOON, Service, Stack, package, wait_until};
use serde_json::{Value, json};
use xtask::{node, python};

use crate::api::text;

/// Runs a program to its good end. Returns what it said.
#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    let said = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}\n{}\n{}", said(&output.stdout), said(&output.stderr));
    said(&output.stdout).trim().to_owned()
}

struct World {
    stack: Stack,
    _services: [Service; 3],
    admin: Caller,
}

impl World {
    fn start(name: &str) -> Self {
        let stack = Stack::new(name);
        let mut services = [Role::Fanout, Role::Sender, Role::Api].map(|role| stack.launch(role, &[]));
        services.iter_mut().for_each(Service::wait_ready);
        let admin = services[2].admin().with_default_account();
        Self { stack, _services: services, admin }
    }

    fn receiver(&self) -> &Receiver {
        &self.stack.receiver
    }

    /// A webhook at a path of its own; with what else its document has.
    #[track_caller]
    fn webhook(&self, name: &str, more: Value) -> Value {
        let mut document = json!({ "name": name, "url": self.receiver().url(&format!("/{name}?a=b")), "eventTypes": ["order.*"] });
        for (field, value) in more.as_object().expect("fields") {
            document[field] = value.clone();
        }
        self.admin.post("/api/v1/webhooks", &document).expect(201).json()
    }

    /// Sends one event and waits until it has come to so many paths.
    fn send(&self, webhooks: usize) {
        self.receiver().forget();
        let event = json!({
            "specversion": "1.0", "id": "o-1", "source": "/shop", "type": "order.created", "subject": "a \"b\" 100%",
            "time": "2026-03-01T10:00:00Z", "tenantregion": "eu", "datacontenttype": "application/json",
            "data": { "id": 7, "name": "Ås" },
        });
        let headers = [("content-type", "application/cloudevents+json")];
        self.admin.call("POST", "/api/v1/events", &headers, &event.to_string()).expect(202);
        wait_until("all are delivered", SOON, || {
            self.receiver().seen(|seen| seen.distinct() >= webhooks as u64)
        });
    }

    fn arrived(&self, name: &str) -> Captured {
        self.receiver().seen(|seen| {
            let target = format!("/{name}?a=b");
            let arrived = seen.last().iter().find(|arrived| arrived.target == target);
            Captured::of(arrived.unwrap_or_else(|| panic!("nothing came to {target}")))
        })
    }
}

struct Captured {
    method: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Captured {
    fn of(arrived: &Arrived) -> Self {
        let Arrived { method, headers, body, .. } = arrived;
        Self { method: method.clone(), headers: headers.clone(), body: body.to_vec() }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("UTF-8")
    }
}

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[test]
fn what_is_signed_verifies_with_receivers_own_libraries() {
    let world = World::start("signatures");
    let profiles = [
        ("standard", json!("standard"), SECRET),
        ("standard_ed25519", json!(["standard", "standard_ed25519"]), SECRET),
        ("stripe", json!("stripe"), "a secret of somebody's"),
        ("github", json!("github"), "It's a Secret to Everybody"),
        ("http_message", json!({ "httpMessage": "hmac_sha256" }), SECRET),
        ("http_message", json!({ "httpMessage": "ed25519" }), SECRET),
        ("cloudevents", json!("standard"), SECRET),
        ("cloudevents", json!("standard"), SECRET),
    ];
    let mut made = Vec::new();
    for (n, (profile, signature, secret)) in profiles.iter().enumerate() {
        let payload = match n {
            6 => "cloudevents_structured",
            7 => "cloudevents_binary",
            _ => "event",
        };
        let more = json!({ "signature": signature, "secret": secret, "payload": payload });
        let name = format!("{profile}-{n}");
        let webhook = world.webhook(&name, more);
        assert_eq!(webhook["signature"], *signature);
        // What verifies is served; what signs is not.
        assert_eq!(webhook["publicKeys"].is_array(), signature.to_string().contains("ed25519"), "{webhook}");
        assert!(!webhook.to_string().contains(secret));
        made.push((name, *profile, *secret, webhook));
    }
    world.send(made.len());
    let expected = json!({
        "id": "o-1", "source": "/shop", "type": "order.created", "subject": "a \"b\" 100%",
        "time": "2026-03-01T10:00:00+00:00", "extension": "eu", "data": { "id": 7, "name": "Ås" },
    });
    let captured: Vec<Value> = made
        .iter()
        .map(|(name, profile, secret, webhook)| {
            let arrived = world.arrived(name);
            let headers: serde_json::Map<String, Value> =
                arrived.headers.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
            json!({
                "profile": profile, "method": arrived.method, "url": webhook["url"], "headers": headers,
                "body": STANDARD.encode(&arrived.body), "secret": secret, "publicKeys": webhook["publicKeys"],
                "keyId": webhook["id"], "expected": expected,
            })
        })
        .collect();
    let file = world.stack.path("captured.json");
    std::fs::write(&file, serde_json::to_string(&captured).expect("JSON"))
        .expect("a file in a temporary directory");
    let script = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it").join(name);
    let python = run(Command::new(package(python::TEST_RECEIVERS)).arg(script("receivers.py")).arg(&file));
    assert_eq!(python, "verified 7");
    let node =
        run(Command::new("node").arg(script("receivers.mjs")).arg(package(node::TEST_RECEIVERS)).arg(&file));
    assert_eq!(node, "verified 2");

    // While a secret is rotated out, both verify.
    let (_, _, _, webhook) = &made[1];
    let path = format!("/api/v1/webhooks/{}", text(&webhook["id"]));
    world.admin.post(&format!("{path}/rotate-secret"), &json!({})).expect(200);
    let keys = world.admin.get(&path).expect(200).json()["publicKeys"].clone();
    assert_eq!(keys.as_array().map(Vec::len), Some(2));
    assert_eq!(keys[1], webhook["publicKeys"][0]);
}

#[test]
fn payloads_in_all_forms_and_methods() {
    let world = World::start("payloads");
    let data = r#"{"id":7,"name":"Ås"}"#;
    let envelope = format!(r#"{{"type":"order.created","timestamp":"2026-03-01T10:00:00Z","data":{data}}}"#);
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<event><type>order.created</type><timestamp>2026-03-01T10:00:00Z</timestamp><data>{data}</data></event>"
    );
    let form = "type=order.created&timestamp=2026-03-01T10%3A00%3A00Z&data=%7B%22id%22%3A7%2C%22name%22%3A%22%C3%85s%22%7D";
    let wanted = [
        ("json", "POST", json!({}), Some("application/json"), envelope.clone()),
        (
            "put",
            "PUT",
            json!({ "contentType": "application/vnd.own+json" }),
            Some("application/vnd.own+json"),
            envelope,
        ),
        ("xml", "PATCH", json!({ "contentType": "application/xml" }), Some("application/xml"), xml),
        (
            "form",
            "POST",
            json!({ "contentType": "application/x-www-form-urlencoded" }),
            Some("application/x-www-form-urlencoded"),
            form.to_owned(),
        ),
        ("plain", "POST", json!({ "contentType": "text/plain" }), Some("text/plain"), data.to_owned()),
        (
            "binary",
            "POST",
            json!({ "payload": "cloudevents_binary" }),
            Some("application/json"),
            data.to_owned(),
        ),
        ("get", "GET", json!({}), None, String::new()),
        ("delete", "DELETE", json!({}), None, String::new()),
        (
            "delete-with",
            "DELETE",
            json!({ "payload": { "template": "{\"n\":[id]}" } }),
            Some("application/json"),
            r#"{"n":7}"#.to_owned(),
        ),
    ];
    for (name, method, more, _, _) in &wanted {
        let mut more = more.clone();
        more["method"] = json!(method);
        world.webhook(name, more);
    }
    world.send(wanted.len());
    for (name, method, _, content_type, body) in &wanted {
        let arrived = world.arrived(name);
        assert_eq!(
            (arrived.method.as_str(), arrived.header("content-type")),
            (*method, *content_type),
            "{name}"
        );
        assert_eq!(arrived.text(), *body, "{name}");
    }
    assert_eq!(world.arrived("binary").header("ce-subject"), Some("a%20%22b%22%20100%25"));
}

#[test]
fn tokens_are_asked_for_and_shown_nowhere() {
    let world = World::start("tokens");
    let grant = r#"{"access_token":"canary-access-token","token_type":"Bearer","expires_in":3600}"#;
    world.receiver().on("/token", Answer::status(200).body(grant));
    // It says what it was given.
    world.receiver().choose("/crm", |arrived| {
        let authorization = arrived.header("authorization").unwrap_or_default().to_owned();
        Answer::status(200).header("x-echo", &authorization).body(authorization).into()
    });
    let authorization = json!({
        "name": "crm", "endpoint": world.receiver().url("/crm"),
        "oauth2": { "tokenUrl": world.receiver().url("/token"), "clientId": "c", "clientSecret": "canary-client-secret", "scopes": ["hooks"] },
    });
    world.admin.post("/api/v1/authorizations", &authorization).expect(201);
    // The ping is authorized as the deliveries are.
    let webhook = world.webhook("crm", json!({ "authorization": "crm" }));
    let elsewhere = json!({ "name": "else", "url": world.receiver().url("/else"), "eventTypes": ["*"], "authorization": "crm" });
    world.admin.post("/api/v1/webhooks", &elsewhere).expect(422);
    world.send(1);
    wait_until("it is delivered", SOON, || {
        world.receiver().seen(|seen| seen.last().iter().any(|arrived| arrived.target == "/crm?a=b"))
    });
    let arrived = world.arrived("crm");
    assert_eq!(arrived.header("authorization"), Some("Bearer canary-access-token"));
    let query = format!("/api/v1/executions?webhook={}", text(&webhook["id"]));
    let mut shown = String::new();
    wait_until("it is in the history", SOON, || {
        let page = world.admin.get(&query).expect(200).json();
        let Some(id) = page["results"][0]["deliveryId"].as_str().map(str::to_owned) else { return false };
        shown = world.admin.get(&format!("/api/v1/executions/{id}")).expect(200).body;
        shown.contains("x-echo")
    });
    assert!(!shown.contains("canary") && shown.contains("***"), "{shown}");
}

/// CloudEvents' webhooks: who is not asked whether it wants events is sent none, and no more than it agrees to.
#[test]
fn an_endpoint_consents_in_a_handshake() {
    let world = World::start("handshake");
    world.admin.patch("/api/v1/accounts/default", &json!({ "verification": "handshake" })).expect(200);
    let webhook = |state: &str, rate: Value| {
        json!({ "name": "w", "url": world.receiver().url("/w"), "eventTypes": ["order.*"], "state": state, "rate": rate,
            "payload": "cloudevents_structured" })
    };
    // Who answers everything has not agreed to anything.
    let refused = world.admin.post("/api/v1/webhooks", &webhook("published", json!(10))).expect(422).json();
    assert!(text(&refused["detail"]).contains("`WebHook-Allowed-Origin`"), "{refused}");
    assert_eq!(
        world.receiver().seen(|seen| seen.last().back().map(|arrived| arrived.method.clone())).as_deref(),
        Some("OPTIONS")
    );

    world.receiver().choose("/w", |arrived| {
        let origin = arrived.header("webhook-request-origin").unwrap_or_default().to_owned();
        match arrived.method.as_str() {
            "OPTIONS" => Answer::status(200)
                .header("webhook-allowed-origin", &origin)
                .header("webhook-allowed-rate", "120")
                .into(),
            _ => Answer::status(204).into(),
        }
    });
    let made = world.admin.post("/api/v1/webhooks", &webhook("draft", json!(10))).expect(201).json();
    let path = format!("/api/v1/webhooks/{}", text(&made["id"]));
    assert_eq!(made["allowedRate"], Value::Null);
    world.admin.post(&format!("{path}/publish"), &json!({})).expect(200);
    let mut shown = world.admin.get(&path).expect(200).json();
    assert_eq!(
        (&shown["allowedRate"], &shown["rate"], &shown["state"]),
        (&json!(2.0), &json!(10.0), &json!("published"))
    );
    world.receiver().seen(|seen| {
        let asked = seen.last().iter().rfind(|arrived| arrived.method == "OPTIONS").expect("a handshake");
        assert_eq!(asked.header("webhook-request-rate"), Some("600"));
    });
    world.send(1);
    // What was shown can be put back as it is, and what was agreed on stays.
    shown["description"] = json!("the same");
    let put = world
        .admin
        .call("PUT", &path, &[("content-type", "application/json")], &shown.to_string())
        .expect(200)
        .json();
    assert_eq!((&put["allowedRate"], &put["description"]), (&json!(2.0), &json!("the same")));
}
