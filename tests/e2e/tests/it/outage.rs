//! Kafka stands still, or is gone: what the API answers is true, and what was refused can be sent again.

use std::thread;
use std::time::{Duration, Instant};

use hookstream_e2e::{Caller, Reply, Role, SOON, Service, Stack, wait_until};
use serde_json::{Value, json};

use crate::api::text;

/// Until the answer to a write: above a transaction's time-out and a claim.
const ANSWERED: Duration = Duration::from_secs(45);
/// Until the answer to an event.
const EVENT_ANSWERED: Duration = Duration::from_secs(20);

/// What ended the broker, and what brings it back.
struct Outage {
    name: &'static str,
    begin: fn(&Stack),
    end: fn(&Stack),
    /// What was sent meanwhile is certainly not written: nobody was there to take it.
    nobody_there: bool,
}

const STOPPED: Outage = Outage {
    name: "outage-stopped",
    begin: |stack| stack.broker().stop(),
    end: |stack| stack.broker().resume(),
    nobody_there: false,
};
const KILLED: Outage = Outage {
    name: "outage-killed",
    begin: |stack| stack.broker().kill_9(),
    end: |stack| stack.broker().restart(),
    nobody_there: true,
};

/// An installation with one webhook for everything, which works.
struct Installation {
    stack: Stack,
    services: [Service; 4],
}

impl Installation {
    fn new(test: &str) -> Self {
        let stack = Stack::on_own_broker(test);
        let roles = [Role::Fanout, Role::Sender, Role::Api, Role::Api];
        let mut services = roles.map(|role| stack.launch(role, &[]));
        services.iter_mut().for_each(Service::wait_ready);
        let installation = Self { stack, services };
        let webhook =
            json!({ "name": "all", "url": installation.stack.receiver.url("/in"), "eventTypes": ["*"] });
        installation.api(0).with_default_account().post("/api/v1/webhooks", &webhook).expect(201);
        installation.stack.receiver.forget();
        assert_eq!(post(&installation.api(0), "before").status, 202);
        // What is not decided yet is sent again after a crash, as it should be.
        drop(installation.stack.wait_delivered(1));
        installation
    }

    /// One of the two replicas.
    fn api(&self, n: usize) -> Caller {
        self.services[2 + n].admin()
    }

    /// Events in Kafka with this in their data.
    fn written(&self, name: &str) -> usize {
        let records = self.stack.kafka.read(&self.stack.topic("events"));
        let mark = format!("\"{name}\"");
        records
            .iter()
            .filter(|record| record.value.as_deref().is_some_and(|value| value.contains(&mark)))
            .count()
    }

    fn arrived(&self, name: &str) -> usize {
        let mark = format!("\"{name}\"");
        let has_mark = |body: &[u8]| String::from_utf8_lossy(body).contains(&mark);
        self.stack.receiver.seen(|seen| seen.last().iter().filter(|request| has_mark(&request.body)).count())
    }
}

/// Sends the event of this name; its name is also its key.
fn post(caller: &Caller, name: &str) -> Reply {
    let event = json!({ "type": "a.b", "data": { "name": name } }).to_string();
    caller.call("POST", "/api/v1/events", &[("idempotency-key", name)], &event)
}

/// 503: nothing was done, and when to ask again; 504: nobody knows.
fn check_refusal(what: &str, reply: &Reply) {
    let problem = reply.json();
    let kind = match reply.status {
        503 => "/problems/unavailable",
        504 => "/problems/outcome-unknown",
        other => panic!("{what} is answered with {other}: {problem}"),
    };
    assert_eq!(problem["type"], kind, "{what}");
    assert_eq!(reply.headers["content-type"], "application/problem+json", "{what}");
    let after: Option<u64> = reply.headers.get("retry-after").and_then(|text| text.parse().ok());
    assert!(after.is_some_and(|after| (1..=60).contains(&after)), "{what}: {:?}", reply.headers);
}

fn events(outage: &Outage) {
    let at = Installation::new(&format!("{}-events", outage.name));
    let api = at.api(0);
    (outage.begin)(&at.stack);
    let names = ["one", "two", "three"];
    let began = Instant::now();
    let refused: Vec<Reply> = thread::scope(|scope| {
        let api = &api;
        let sending = names.map(|name| scope.spawn(move || post(api, name)));
        sending.into_iter().map(|sent| sent.join().expect("it is answered")).collect()
    });
    println!(
        "{}: {:?} after {:?}",
        outage.name,
        refused.iter().map(|reply| reply.status).collect::<Vec<_>>(),
        began.elapsed()
    );
    assert!(began.elapsed() < EVENT_ANSWERED, "answered after {:?}", began.elapsed());
    for (name, reply) in names.iter().zip(&refused) {
        check_refusal(name, reply);
        assert!(reply.status == 503 || !outage.nobody_there, "{name}: {}", reply.body);
    }
    // What needs no Kafka goes on.
    assert_eq!(api.get("/api/v1/webhooks").status, 200);
    assert!(at.services[2].is_live());

    (outage.end)(&at.stack);
    wait_until("events are taken again", SOON, || post(&api, "after").status == 202);
    wait_until("it arrives", SOON, || at.arrived("after") == 1);
    for (name, reply) in names.iter().zip(&refused) {
        // Nothing was written means that nothing ever will be: what was written after it is there already.
        if reply.status == 503 {
            assert_eq!((at.written(name), at.arrived(name)), (0, 0), "`{name}` was refused with 503");
        }
        let again = post(&api, name).expect(202);
        let once_more = post(&at.api(1), name).expect(202);
        assert_eq!(again.json(), once_more.json(), "the same key is the same event, wherever it is sent");
    }
    wait_until("what was sent again arrives", SOON, || names.iter().all(|name| at.arrived(name) > 0));
    assert_eq!(post(&api, "last").status, 202);
    wait_until("the last arrives", SOON, || at.arrived("last") == 1);
    for name in names {
        assert_eq!(at.arrived(name), 1, "`{name}` was delivered more than once");
    }
    at.stack.receiver.seen(|seen| assert_eq!(seen.duplicates(), 0));
}

#[test]
fn events_while_kafka_stands_still() {
    events(&STOPPED);
}

#[test]
fn events_while_kafka_is_gone() {
    events(&KILLED);
}

fn webhook(name: &str) -> Value {
    json!({ "name": name, "url": "https://a.example/", "eventTypes": ["a"], "state": "draft" })
}

fn create(caller: &Caller, name: &str) -> Reply {
    caller.call("POST", "/api/v1/webhooks", &[("idempotency-key", name)], &webhook(name).to_string())
}

/// What a replica shows of webhooks that are made in the test.
fn shown(caller: &Caller) -> Vec<(String, Value)> {
    let page = caller.get("/api/v1/webhooks?limit=100&state=draft").expect(200).json();
    let webhooks = page["results"].as_array().cloned().unwrap_or_default();
    let mut all: Vec<_> =
        webhooks.iter().map(|webhook| (text(&webhook["name"]), webhook["description"].clone())).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn writes(outage: &Outage) {
    let at = Installation::new(&format!("{}-writes", outage.name));
    let (api, other) = (at.api(0), at.api(1));
    let old = create(&api, "old").expect(201);
    let old = format!("/api/v1/webhooks/{}", text(&old.json()["id"]));
    (outage.begin)(&at.stack);
    let began = Instant::now();
    let (created, patched) = thread::scope(|scope| {
        let creating = scope.spawn(|| create(&api, "new"));
        let patching = scope
            .spawn(|| other.call("PATCH", &old, &[("if-match", "\"1\"")], r#"{"description":"changed"}"#));
        (creating.join().expect("it is answered"), patching.join().expect("it is answered"))
    });
    println!("{}: {} and {} after {:?}", outage.name, created.status, patched.status, began.elapsed());
    assert!(began.elapsed() < ANSWERED, "answered after {:?}", began.elapsed());
    check_refusal("a new webhook", &created);
    check_refusal("a change", &patched);
    // Reading goes on, and shows nothing that is not so.
    assert_eq!(shown(&api), [("old".to_owned(), Value::Null)]);

    (outage.end)(&at.stack);
    // The same again finds what was made, or makes it; a change that was made is not made twice.
    let mut last = None;
    wait_until("webhooks are made again", SOON, || {
        let reply = create(&api, "new");
        let done = reply.status == 201;
        last = Some(reply);
        done
    });
    let made = last.expect("it was asked at least once");
    let replayed = made.headers.contains_key("idempotency-replayed");
    assert!(!replayed || created.status == 504, "nothing was changed, said the answer: {created:?}");
    let changed = other.call("PATCH", &old, &[("if-match", "\"1\"")], r#"{"description":"changed"}"#);
    match changed.status {
        200 => {}
        412 => assert_eq!((patched.status, &*changed.headers["etag"]), (504, "\"2\""), "{changed:?}"),
        status => panic!("{status}: {}", changed.body),
    }
    let expected = [("new".to_owned(), Value::Null), ("old".to_owned(), json!("changed"))];
    wait_until("both replicas show the same", SOON, || shown(&api) == expected && shown(&other) == expected);
    assert_eq!(api.get(&old).expect(200).headers["etag"], "\"2\"", "it was changed once");
    // A replica that starts now reads the same.
    let fresh = at.stack.start(Role::Api);
    assert_eq!(shown(&fresh.admin()), expected);
}

#[test]
fn writes_while_kafka_stands_still() {
    writes(&STOPPED);
}

#[test]
fn writes_while_kafka_is_gone() {
    writes(&KILLED);
}
