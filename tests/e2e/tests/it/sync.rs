//! Sync webhooks: who asks gets the endpoints' answers, within the deadline, or is told why there are none.

use std::time::{Duration, Instant};

use hookstream_e2e::{Answer, Caller, Message, Record, Role, SOON, Service, Stack, wait_for, wait_until};
use serde_json::{Value, json};

use crate::api::text;

struct World {
    stack: Stack,
    services: Vec<Service>,
    admin: Caller,
}

impl World {
    fn new(test: &str) -> Self {
        let stack = Stack::new(test);
        let mut services: Vec<_> =
            [Role::Fanout, Role::Sender, Role::Api].iter().map(|role| stack.launch(*role, &[])).collect();
        services.iter_mut().for_each(Service::wait_ready);
        let admin = services[2].admin().with_default_account();
        let kind = json!({ "name": "confirmation.before", "delivery": "sync", "scopes": ["Events"],
            "schema": { "type": "object", "required": ["n"] } });
        admin.post("/api/v1/event-types", &kind).expect(201);
        Self { stack, services, admin }
    }

    fn webhook(&self, name: &str, more: &Value) -> String {
        let mut document = json!({ "name": name, "url": self.stack.receiver.url(&format!("/{name}")),
            "eventTypes": ["confirmation.*"], "secret": format!("a secret of {name}"), "secretHeader": "x-secret", "signature": "none" });
        for (field, value) in more.as_object().into_iter().flatten() {
            document[field] = value.clone();
        }
        text(&self.admin.post("/api/v1/webhooks", &document).expect(201).json()["id"])
    }

    fn ask(&self, more: &Value) -> Value {
        let mut asked = json!({ "eventType": "confirmation.before", "data": { "n": 1 } });
        for (field, value) in more.as_object().into_iter().flatten() {
            asked[field] = value.clone();
        }
        self.admin.post("/api/v1/invocations", &asked).expect(200).json()
    }
}

#[test]
fn who_asks_gets_the_answers() {
    let world = World::new("sync");
    let World { stack, admin, .. } = &world;
    let none = world.ask(&json!({}));
    assert_eq!(none["results"], json!([]));
    assert_eq!(none["reason"], "no webhook of the account takes `confirmation.before`");

    let shop = world.webhook("shop", &json!({}));
    let slow = world.webhook("slow", &json!({}));
    let failing = world.webhook("failing", &json!({}));
    world.webhook("other", &json!({ "eventTypes": ["order.*"] }));
    stack
        .receiver
        .on("/shop", Answer::status(200).header("x-mood", "good").body(r#"{"go":true} a secret of shop"#));
    stack.receiver.on("/slow", Answer::status(200).delay(Duration::from_secs(3)));
    stack.receiver.on("/failing", Answer::status(500).body("no"));
    stack.receiver.forget();
    let began = Instant::now();
    let answers = world.ask(&json!({ "deadline": "1s" }));
    assert!(began.elapsed() < Duration::from_millis(2_500), "the deadline counts: {:?}", began.elapsed());
    let results = answers["results"].as_array().unwrap();
    assert_eq!(results.len(), 3);
    let of = |id: &str| results.iter().find(|result| result["webhook"] == id).unwrap();
    let good = of(&shop);
    assert_eq!((&good["outcome"], &good["status"]), (&json!("answered"), &json!(200)));
    assert_eq!(good["body"], r#"{"go":true} ***"#, "what an endpoint echoes of a secret is masked");
    assert!(good["headers"].as_array().unwrap().contains(&json!({ "name": "x-mood", "value": "good" })));
    assert_eq!((&of(&failing)["outcome"], &of(&failing)["status"]), (&json!("refused"), &json!(500)));
    assert_eq!(of(&failing)["body"], "no");
    assert_eq!(of(&slow)["outcome"], "failed");
    assert_eq!(of(&slow)["reason"], "it did not answer within the deadline");

    // It is a request like any other, and is found in the history.
    let request =
        stack.receiver.seen(|seen| seen.last().iter().find(|seen| seen.target == "/shop").cloned()).unwrap();
    assert_eq!(request.header("webhook-id"), good["deliveryId"].as_str());
    assert_eq!(request.header("x-secret"), Some("a secret of shop"));
    let outcome = |id: &Value| {
        let reply = admin.call("GET", &format!("/api/v1/executions/{}", text(id)), &[], "");
        if reply.status == 200 { reply.json()["outcome"].clone() } else { Value::Null }
    };
    for (id, expected) in [(&shop, "delivered"), (&slow, "dead"), (&failing, "dead")] {
        wait_until("it is in the history", SOON, || outcome(&of(id)["deliveryId"]) == expected);
    }

    // The same key: the same `webhook-id`s.
    let key = [("idempotency-key", "k-1"), ("content-type", "application/json")];
    let again = || {
        let body = json!({ "eventType": "confirmation.before", "data": { "n": 1 }, "deadline": "500ms" });
        admin.call("POST", "/api/v1/invocations", &key, &body.to_string()).expect(200).json()["results"][0]
            ["deliveryId"]
            .clone()
    };
    assert_eq!(again(), again());
}

#[test]
fn who_is_not_called_is_named_with_the_reason() {
    let world = World::new("sync-not");
    let World { stack, admin, .. } = &world;
    // An app without the scope, and one that is paused.
    let app = text(
        &admin.post("/api/v1/apps", &json!({ "name": "planner", "scopes": ["Events"] })).expect(201).json()["id"],
    );
    let scoped = world.webhook("scoped", &json!({ "app": "planner" }));
    let paused = world.webhook("paused", &json!({}));
    let busy = world.webhook("busy", &json!({ "rate": 0.001 }));
    admin.post(&format!("/api/v1/webhooks/{paused}/pause"), &json!({})).expect(200);
    admin.patch(&format!("/api/v1/apps/{app}"), &json!({ "scopes": [] })).expect(200);
    stack.receiver.forget();
    let outcomes = || {
        let answers = world.ask(&json!({}));
        let of = |id: &str| {
            let results = answers["results"].as_array().unwrap();
            text(&results.iter().find(|result| result["webhook"] == id).unwrap()["outcome"])
        };
        [of(&scoped), of(&paused), of(&busy)]
    };
    assert_eq!(outcomes(), ["scope_lost", "paused", "answered"]);
    assert_eq!(outcomes(), ["scope_lost", "paused", "busy"]);
    let path = format!("/api/v1/webhooks/{scoped}/executions?outcome=skipped");
    wait_until("the history tells what was lost", SOON, || {
        let listed = admin.get(&path).expect(200).json();
        listed["results"].as_array().unwrap().iter().any(|one| one["reason"] == "scope_lost")
    });
    assert_eq!(stack.receiver.seen(|seen| seen.of_path("/scoped")), 0);

    // What can't be asked.
    let refused = |body: &Value, status: u16, field: &str, says: &str| {
        let problem = admin.post("/api/v1/invocations", body).expect(status).json();
        let error = &problem["errors"][0];
        assert_eq!(error["field"], field, "{problem}");
        assert!(text(&error["detail"]).contains(says), "{problem}");
    };
    refused(&json!({ "eventType": "order.paid" }), 400, "/eventType", "is not sync");
    refused(&json!({ "eventType": "confirmation.before", "data": {} }), 422, "/data", "n");
    refused(&json!({ "eventType": "confirmation.before", "deadline": "1h" }), 400, "/deadline", "30s");
    // And what is sync is not delivered later.
    let event = json!({ "type": "confirmation.before", "data": { "n": 1 } });
    let problem = admin.post("/api/v1/events", &event).expect(400).json();
    assert!(text(&problem["errors"][0]["detail"]).contains("POST /api/v1/invocations"), "{problem}");

    // Another account's webhooks are not there.
    admin.post("/api/v1/accounts", &json!({ "name": "other" })).expect(201);
    assert_eq!(world.ask(&json!({ "account": "other" }))["results"], json!([]));
    admin
        .post("/api/v1/invocations", &json!({ "eventType": "confirmation.before", "account": "nobody" }))
        .expect(404);
}

/// What was answered to a request in Kafka.
fn replies(world: &World, topic: &str, correlation: &str) -> Vec<Record> {
    let all = world.stack.kafka.read(topic);
    all.into_iter().filter(|record| record.header("correlation-id") == Some(correlation)).collect()
}

#[test]
fn a_record_is_answered_where_it_asks_to_be() {
    let mut world = World::new("sync-kafka");
    let [requests, answers, others] =
        ["requests", "answers", "others"].map(|name| format!("{}-{name}", world.stack.namespace));
    for topic in [&requests, &answers, &others] {
        world.stack.kafka.create_topic(topic, 2, &[]);
    }
    let source = json!({ "name": "asks", "topics": [requests], "format": "auto", "delivery": "sync", "replyTopics": [answers] });
    let lacking = json!({ "name": "asks", "topics": [requests], "format": "auto", "delivery": "sync" });
    let problem = world.admin.post("/api/v1/sources", &lacking).expect(400).json();
    assert!(text(&problem["detail"]).contains("replyTopics"), "{problem}");
    world.admin.post("/api/v1/sources", &source).expect(201);
    world.webhook("shop", &json!({}));
    world.stack.receiver.on("/shop", Answer::status(200).body("yes"));
    world.stack.receiver.forget();
    let ask = |world: &World, to: &str, correlation: &str, value: &str, more: &[(&str, &str)]| {
        let headers = [&[("reply-topic", to), ("correlation-id", correlation)], more].concat();
        let message = Message { key: correlation.to_owned(), value: value.to_owned() };
        world.stack.kafka.produce(&requests, &headers, &[message]);
    };
    let answered = |world: &World, correlation: &str| {
        wait_for("it is answered", SOON, || replies(world, &answers, correlation).into_iter().next())
    };
    let good = r#"{"type":"confirmation.before","data":{"n":1}}"#;
    ask(&world, &answers, "c-1", good, &[]);
    let answer = answered(&world, "c-1");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let result = &answer.json()["results"][0];
    assert_eq!((&result["outcome"], &result["body"]), (&json!("answered"), &json!("yes")));

    // What can't be asked is told; what is too late is not called.
    for (correlation, value, says) in [
        ("c-2", r#"{"type":"order.paid"}"#, "is not sync"),
        ("c-3", "no json", "JSON"),
        ("c-4", r#"{"type":"confirmation.before","data":{}}"#, "n"),
    ] {
        ask(&world, &answers, correlation, value, &[]);
        let answer = answered(&world, correlation).json();
        assert!(text(&answer["reason"]).contains(says), "{answer}");
    }
    let seen = || world.stack.receiver.seen(|seen| seen.of_path("/shop"));
    let before = seen();
    ask(&world, &others, "c-5", good, &[]);
    let rejected = world.stack.topic("rejected");
    wait_until("who can't be answered is rejected", SOON, || {
        let all = world.stack.kafka.read(&rejected);
        all.iter().any(|record| record.header("hs-reason") == Some("no_reply_topic"))
    });
    assert_eq!(seen(), before, "nobody is called for an answer that nobody gets");

    // Asked while the API is down: one request is still in time for it, the other is not.
    world.services.pop().unwrap().kill_9();
    ask(&world, &answers, "c-6", good, &[("deadline", "30s")]);
    ask(&world, &answers, "c-7", good, &[("deadline", "100ms")]);
    let mut api = world.stack.launch(Role::Api, &[]);
    api.wait_ready();
    let late = answered(&world, "c-7").json();
    assert_eq!(late["results"][0]["outcome"], "expired", "{late}");
    assert_eq!(answered(&world, "c-6").json()["results"][0]["outcome"], "answered");
    let group = format!("{}-sync", world.stack.namespace);
    wait_until("all is committed", SOON, || {
        world.stack.kafka.committed(&group, &requests).iter().sum::<i64>() == 7
    });
    drop(api);
}
