//! Whom webhooks believe and whom they say they are, from the API to an endpoint inside TLS.

use std::collections::{BTreeMap, BTreeSet};

use hookstream_e2e::{
    Authority, Caller, Canaries, NameServer, Role, SOON, Service, Stack, TlsReceiver, wait_for, wait_until,
};
use serde_json::{Value, json};

use crate::api::text;

/// The names that lead to this machine.
pub(crate) const HOOKS: &str = "hooks.partner.example";
pub(crate) const EXPIRED: &str = "expired.partner.example";
pub(crate) const MISTAKEN: &str = "mistaken.partner.example";

/// An installation that asks a name server of the test's, and whose endpoints are not verified before they are sent to:
/// what comes of them is the sender's business.
pub(crate) struct Partners {
    pub(crate) stack: Stack,
    pub(crate) names: NameServer,
    pub(crate) services: [Service; 3],
    pub(crate) admin: Caller,
}

impl Partners {
    /// With these variables, which are no settings, in the environment of its processes.
    pub(crate) fn start(name: &str, variables: &[(&str, &str)]) -> Self {
        let here = || vec!["127.0.0.1".parse().expect("an address")];
        let names = [HOOKS, EXPIRED, MISTAKEN].map(|name| (name.to_owned(), here()));
        let names = NameServer::start(BTreeMap::from(names));
        let server = names.address().to_string();
        let settings = [("EGRESS__NAME_SERVERS", server.as_str())];
        let stack = Stack::new(name);
        let mut services = [Role::Fanout, Role::Sender, Role::Api]
            .map(|role| stack.launch_among(role, &settings, variables));
        services.iter_mut().for_each(Service::wait_ready);
        let admin = services[2].admin();
        admin.post("/api/v1/accounts", &json!({ "name": "default", "verification": "none" })).expect(201);
        Self { stack, names, services, admin }
    }

    /// The id of a webhook that is tried once, and then not again while the test runs; with what else its document has.
    #[track_caller]
    pub(crate) fn webhook(&self, name: &str, url: &str, more: &Value) -> String {
        let mut document =
            json!({ "name": name, "url": url, "eventTypes": ["first.sent"], "retry": ["0s", "1h"] });
        for (field, value) in more.as_object().expect("fields") {
            document[field] = value.clone();
        }
        text(&self.admin.post("/api/v1/webhooks", &document).expect(201).json()["id"])
    }

    pub(crate) fn send(&self, event_type: &str) {
        let event = json!({ "type": event_type, "data": { "n": 1 } });
        self.admin.post("/api/v1/events", &event).expect(202);
    }

    /// What the history shows of a webhook's delivery of the event of this type, once it has been tried.
    #[track_caller]
    pub(crate) fn execution(&self, webhook: &str, event_type: &str) -> Value {
        let list = format!("/api/v1/webhooks/{webhook}/executions?eventType={event_type}");
        wait_for(&format!("{webhook} is tried with {event_type}"), SOON, || {
            let page = self.admin.get(&list).expect(200).json();
            let id = page["results"][0]["deliveryId"].as_str()?;
            let execution = self.admin.get(&format!("/api/v1/executions/{id}")).expect(200).json();
            (execution["attemptLog"][0]["recorded"] == "kept").then_some(execution)
        })
    }
}

/// A delivery that failed in the handshake, and says so.
#[track_caller]
fn failed_in_tls(what: &str, execution: &Value, why: &str) {
    assert_eq!((&execution["outcome"], &execution["failure"]), (&json!("waiting"), &json!("tls")), "{what}");
    let attempts = execution["attemptLog"].as_array().expect("attempts");
    assert_eq!(attempts.len(), 1, "{what}: {execution}");
    let failure = &attempts[0]["failure"];
    assert_eq!((&failure["kind"], &attempts[0]["response"]), (&json!("tls"), &Value::Null), "{what}");
    let message = text(&failure["message"]);
    assert!(message.starts_with("no trusted connection to `") && message.contains(why), "{what}: {message}");
    assert!(!message.contains("/in") && !message.contains("canary"), "{what}: {message}");
}

#[track_caller]
fn delivered(what: &str, execution: &Value) {
    assert_eq!((&execution["outcome"], &execution["status"]), (&json!("delivered"), &json!(200)), "{what}");
    assert!(execution["attemptLog"][0]["timings"]["totalMs"].is_number(), "{what}: {execution}");
}

#[test]
fn who_is_not_trusted_is_told_nothing() {
    let partners = Partners::start("tls", &[]);
    let (own, other) = (Authority::named("Partner"), Authority::named("Somebody else"));
    let certified = own.certify(HOOKS);
    let lapsed = own.certify_until(EXPIRED, 2020);
    let hooks = TlsReceiver::start(&certified, None);
    let expired = TlsReceiver::start(&lapsed, None);
    let mistaken = TlsReceiver::start(&own.certify("www.partner.example"), None);
    let trust = |pins: &[String]| json!({ "ca": own.pem(), "pins": pins });
    let (right, wrong) = (certified.pin(), own.certify(HOOKS).pin());

    let at_hooks = |path: &str| hooks.url(HOOKS, path);
    let unknown_issuer = "invalid peer certificate: UnknownIssuer";
    let cases = [
        ("machine", at_hooks("/in?canary"), Value::Null, Some(unknown_issuer)),
        ("own", at_hooks("/in?canary"), json!({ "ca": own.pem() }), None),
        ("another", at_hooks("/in?canary"), json!({ "ca": other.pem() }), Some(unknown_issuer)),
        ("either", at_hooks("/in"), json!({ "ca": other.pem() + &own.pem() }), None),
        ("pinned", at_hooks("/in"), trust(std::slice::from_ref(&right)), None),
        ("pinned twice", at_hooks("/in"), trust(&[wrong.clone(), right.clone()]), None),
        (
            "wrongly pinned",
            at_hooks("/in?canary"),
            trust(&[wrong]),
            Some("the certificate's public key is none of those that the webhook pins"),
        ),
        // A pin is asked for besides all else, never in its place.
        ("only pinned", at_hooks("/in"), json!({ "pins": [right] }), Some(unknown_issuer)),
        ("expired", expired.url(EXPIRED, "/in?canary"), trust(&[lapsed.pin()]), Some("certificate expired")),
        (
            "mistaken",
            mistaken.url(MISTAKEN, "/in?canary"),
            trust(&[]),
            Some("certificate not valid for name"),
        ),
        // An address is no name, though it is the right one's.
        ("literal", hooks.url("127.0.0.1", "/in"), trust(&[]), Some("certificate not valid for name")),
    ];
    let webhooks: Vec<String> = cases
        .iter()
        .map(|(name, url, tls, _)| {
            let more = if tls.is_null() { json!({}) } else { json!({ "tls": tls }) };
            partners.webhook(name, url, &more)
        })
        .collect();
    partners.send("first.sent");
    for ((name, _, _, why), webhook) in cases.iter().zip(&webhooks) {
        let execution = partners.execution(webhook, "first.sent");
        match why {
            None => delivered(name, &execution),
            Some(why) => failed_in_tls(name, &execution, why),
        }
    }
    let good = cases.iter().filter(|(.., why)| why.is_none()).count() as u64;
    assert_eq!(hooks.receiver.seen(|seen| (seen.total(), seen.distinct())), (good, good));
    hooks.receiver.seen(|seen| {
        let host = hooks.url(HOOKS, "").replace("https://", "");
        assert!(seen.last().iter().all(|arrived| arrived.header("host") == Some(&host)), "{host}");
    });
    for silent in [&expired, &mistaken] {
        assert_eq!(silent.receiver.seen(|seen| seen.total()), 0);
    }

    // Each is asked for by the name in the URL; by an address, nobody is (RFC 6066 §3).
    let named = |name: &str| Some(name.to_owned());
    for (server, names) in [
        (&hooks, BTreeSet::from([None, named(HOOKS)])),
        (&expired, BTreeSet::from([named(EXPIRED)])),
        (&mistaken, BTreeSet::from([named(MISTAKEN)])),
    ] {
        let asked = || -> BTreeSet<Option<String>> {
            server.handshakes().into_iter().map(|handshake| handshake.server_name).collect()
        };
        // What the caller breaks off is over for the endpoint a little later.
        wait_until(&format!("{names:?} are asked for"), SOON, || asked().is_superset(&names));
        assert_eq!(asked(), names);
    }

    // A ping is as distrustful, and says why.
    let ping = |webhook: &str| {
        let path = format!("/api/v1/webhooks/{webhook}/ping");
        partners.admin.post(&path, &json!({})).expect(200).json()
    };
    assert_eq!(ping(&webhooks[1])["success"], true);
    let refused = ping(&webhooks[0]);
    assert_eq!(refused["success"], false);
    assert!(text(&refused["reason"]).contains(unknown_issuer), "{refused}");
    drop(partners.stack);
}

/// The parts of a PEM key that are its secret: what stands before is the same in all, what follows is public.
fn add_key(canaries: &mut Canaries, name: &str, pem: &str) {
    let lines: Vec<&str> = pem.lines().collect();
    canaries.add(&format!("{name}, its beginning"), &lines[1][48..]);
    canaries.add(&format!("{name}, its end"), &lines[2][..24]);
}

#[test]
fn a_client_certificate_is_shown_and_its_key_is_not() {
    let partners = Partners::start("mtls", &[]);
    let admin = &partners.admin;
    let (servers, clients) = (Authority::named("Servers"), Authority::named("Clients"));
    let server = TlsReceiver::start(&servers.certify(HOOKS), Some(&clients));
    let (first, second) = (clients.certify("sender.example"), clients.certify("sender.example"));
    let stranger = servers.certify("sender.example");
    let mut canaries = Canaries::default();
    add_key(&mut canaries, "first", &first.key_pem());
    add_key(&mut canaries, "second", &second.key_pem());
    add_key(&mut canaries, "stranger's", &stranger.key_pem());
    let keys = canaries.search();
    assert_eq!(keys.find(first.key_pem().as_bytes()).len(), 2, "the search finds what it is to find");

    let mut ids = Vec::new();
    for (name, certified) in [("known", &first), ("stranger", &stranger)] {
        let document = json!({ "name": name, "endpoint": server.url(HOOKS, "/in"),
            "mtls": { "certificate": certified.pem(), "key": certified.key_pem() } });
        let made = admin.post("/api/v1/authorizations", &document).expect(201);
        keys.none_in("the answer that made it", &made.body);
        let made = made.json();
        assert_eq!(made["mtls"]["certificate"], certified.pem());
        assert_eq!(made["mtls"]["key"], json!({ "sensitiveValuePresent": true }));
        ids.push(text(&made["id"]));
    }
    let webhook = |name: &str, authorization: Value| {
        let more =
            json!({ "eventTypes": ["*"], "tls": { "ca": servers.pem() }, "authorization": authorization });
        partners.webhook(name, &server.url(HOOKS, "/in"), &more)
    };
    let known = webhook("known", json!("known"));
    let refused = [webhook("stranger", json!("stranger")), webhook("nobody", Value::Null)];

    partners.send("first.sent");
    delivered("known", &partners.execution(&known, "first.sent"));
    for webhook in &refused {
        failed_in_tls(webhook, &partners.execution(webhook, "first.sent"), "received fatal alert");
    }
    let shown = || -> Vec<Vec<u8>> {
        let done = server.handshakes().into_iter().filter(|handshake| handshake.done);
        done.map(|handshake| handshake.client.expect("it is demanded")).collect()
    };
    assert!(!shown().is_empty() && shown().iter().all(|client| client == first.der()));
    wait_until("both others are refused", SOON, || {
        server.handshakes().iter().filter(|handshake| !handshake.done).count() >= 2
    });

    // One that is renewed is shown from then on. A key that does not go with its certificate is not taken, nor kept.
    let authorization = format!("/api/v1/authorizations/{}", ids[0]);
    let mixed = json!({ "mtls": { "certificate": second.pem(), "key": first.key_pem() } });
    let mixed = admin.patch(&authorization, &mixed).expect(400);
    assert_eq!(mixed.json()["errors"][0]["field"], "/mtls", "{mixed:?}");
    assert!(mixed.body.contains("don't go together"), "{mixed:?}");
    let keyless =
        admin.patch(&authorization, &json!({ "mtls": { "certificate": second.pem() } })).expect(400);
    assert_eq!(keyless.json()["errors"][0]["field"], "/mtls/key", "{keyless:?}");
    assert!(keyless.body.contains("whose value could be kept"), "{keyless:?}");
    let renewed = json!({ "mtls": { "certificate": second.pem(), "key": second.key_pem() } });
    let answer = admin.patch(&authorization, &renewed).expect(200);
    partners.send("second.sent");
    delivered("renewed", &partners.execution(&known, "second.sent"));
    assert_eq!(shown().last().map(Vec::as_slice), Some(second.der()));
    assert_eq!(server.receiver.seen(|seen| (seen.total(), seen.distinct())), (2, 2));

    // Nowhere: answers, logs, topics.
    let mut places: Vec<(String, String)> =
        [("mixed", mixed), ("without a key", keyless), ("renewed", answer)]
            .map(|(what, reply)| (what.to_owned(), reply.body))
            .into();
    let mut paths = vec![authorization, "/api/v1/export".to_owned(), "/api/v1/audit".to_owned()];
    paths.extend(["webhooks", "authorizations", "executions"].map(|kind| format!("/api/v1/{kind}")));
    for event_type in ["first.sent", "second.sent"] {
        for webhook in refused.iter().chain([&known]) {
            let execution = partners.execution(webhook, event_type);
            paths.push(format!("/api/v1/executions/{}", text(&execution["deliveryId"])));
            paths.push(format!("/api/v1/webhooks/{webhook}"));
        }
    }
    places.extend(paths.into_iter().map(|path| {
        let body = admin.get(&path).expect(200).body;
        (path, body)
    }));
    places.extend(partners.services.iter().map(|service| (service.name.clone(), service.log())));
    for topic in ["config", "deliveries", "attempts"] {
        let records = partners.stack.kafka.read(&partners.stack.topic(topic));
        assert!(!records.is_empty(), "{topic}");
        places.extend(
            records.into_iter().filter_map(|record| record.value).map(|value| (topic.to_owned(), value)),
        );
    }
    for (place, text) in &places {
        keys.none_in(place, text);
    }
    drop(partners.stack);
}
