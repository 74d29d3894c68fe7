//! Replays: dead letters get another chance, a new webhook gets what was before it, single deliveries are made again; and what
//! is begun is carried on, whoever is killed, or stops when it is told to.

use hookstream_e2e::{Answer, Behaviour, Caller, Role, SOON, Service, Stack, wait_for, wait_until};
use serde_json::{Value, json};

use crate::api::text;

const FOUR: [Role; 4] = [Role::Ingester, Role::Fanout, Role::Sender, Role::Api];

fn launched(stack: &Stack, roles: &[Role]) -> Vec<Service> {
    let mut services: Vec<_> = roles.iter().map(|role| stack.launch(*role, &[])).collect();
    services.iter_mut().for_each(Service::wait_ready);
    services
}

fn webhook(admin: &Caller, stack: &Stack, name: &str, more: &Value) -> String {
    let mut document = json!({ "name": name, "url": stack.receiver.url(&format!("/{name}")),
        "eventTypes": ["order.*"], "retry": ["0s"] });
    for (field, value) in more.as_object().into_iter().flatten() {
        document[field] = value.clone();
    }
    text(&admin.post("/api/v1/webhooks", &document).expect(201).json()["id"])
}

/// Asks for a replay and waits until it has ended.
fn replay(admin: &Caller, request: &Value) -> Value {
    let begun = admin.post("/api/v1/replays", request).expect(201).json();
    assert_eq!(begun["state"], "running");
    ended(admin, &text(&begun["id"]))
}

fn ended(admin: &Caller, id: &str) -> Value {
    wait_for("the replay has ended", SOON, || {
        let shown = admin.get(&format!("/api/v1/replays/{id}")).expect(200).json();
        (shown["state"] != "running").then_some(shown)
    })
}

fn executions(admin: &Caller, webhook: &str, outcome: &str) -> Vec<Value> {
    let path = format!("/api/v1/webhooks/{webhook}/executions?outcome={outcome}&limit=100");
    admin.get(&path).expect(200).json()["results"].as_array().cloned().unwrap_or_default()
}

fn of_path(stack: &Stack, path: &str) -> u64 {
    stack.receiver.seen(|seen| seen.of_path(path))
}

#[test]
fn what_was_given_up_or_was_before_is_delivered_when_it_is_asked_for() {
    let stack = Stack::new("replays");
    let services = launched(&stack, &FOUR[1..]);
    let admin = services[2].admin().with_default_account();
    let shop = webhook(&admin, &stack, "shop", &json!({}));
    stack.receiver.on("/shop", Behaviour::from(Answer::status(500)));
    stack.receiver.forget();
    for n in 0..3 {
        let event = json!({ "type": if n == 0 { "order.made" } else { "order.paid" }, "data": { "n": n } });
        admin.post("/api/v1/events", &event).expect(202);
    }
    wait_until("all are given up", SOON, || executions(&admin, &shop, "dead").len() == 3);
    stack.receiver.on("/shop", Behaviour::from(Answer::status(200)));

    // What it would do, and for whom.
    let dead = |more: &Value, dry: bool| json!({ "webhook": shop, "deadLetters": more, "dryRun": dry });
    let counted = replay(&admin, &dead(&json!({}), true));
    assert_eq!(
        (&counted["state"], &counted["selected"], &counted["sent"]),
        (&json!("done"), &json!(3), &json!(0))
    );
    assert_eq!(counted["createdBy"], "admin");
    assert_eq!(replay(&admin, &dead(&json!({ "reason": "gone" }), true))["selected"], 0);
    assert_eq!(of_path(&stack, "/shop"), 3, "a dry run sends nothing");

    let first = replay(&admin, &dead(&json!({ "eventTypes": ["order.made"], "reason": "exhausted" }), false));
    assert_eq!((&first["selected"], &first["sent"], &first["progress"]), (&json!(1), &json!(1), &json!(1.0)));
    wait_until("one has arrived", SOON, || executions(&admin, &shop, "delivered").len() == 1);
    let rest = replay(&admin, &dead(&json!({}), false));
    assert_eq!(rest["sent"], 2, "what has arrived is dead no more");
    wait_until("all have arrived", SOON, || executions(&admin, &shop, "delivered").len() == 3);
    assert_eq!(replay(&admin, &dead(&json!({}), false))["sent"], 0);
    // The same deliveries, and a receiver can tell.
    stack.receiver.seen(|seen| {
        assert_eq!((seen.total(), seen.distinct()), (6, 3));
        let runs: Vec<_> =
            seen.last().iter().map(|one| one.header("hookstream-replay").map(str::to_owned)).collect();
        let (first, rest) = (first["run"].to_string(), rest["run"].to_string());
        assert_eq!(runs, [None, None, None, Some(first), Some(rest.clone()), Some(rest)]);
    });

    // A webhook that is new gets what was before it.
    let late = webhook(&admin, &stack, "late", &json!({ "eventTypes": ["order.paid"] }));
    let events =
        |dry: bool| json!({ "webhook": late, "events": { "from": "2020-01-01T00:00:00Z" }, "dryRun": dry });
    assert_eq!(replay(&admin, &events(true))["selected"], 2);
    let replayed = replay(&admin, &events(false));
    assert_eq!((&replayed["looked"], &replayed["sent"]), (&json!(3), &json!(2)), "{replayed}");
    wait_until("both have arrived", SOON, || executions(&admin, &late, "delivered").len() == 2);
    assert_eq!(of_path(&stack, "/shop"), 6, "nobody else gets them");

    // One delivery once more.
    let delivery = text(&executions(&admin, &late, "delivered")[0]["deliveryId"]);
    let again = replay(&admin, &json!({ "deliveries": [delivery] }));
    assert_eq!(again["sent"], 1, "{again}");
    wait_until("it has arrived again", SOON, || {
        let shown = admin.get(&format!("/api/v1/executions/{delivery}")).expect(200).json();
        stack.receiver.seen(|seen| seen.of_id(&delivery)) == 2
            && shown["attempts"] == 2
            && shown["outcome"] == "delivered"
    });

    // One that waits for its next attempt is delivered now, and not again then.
    let patient =
        webhook(&admin, &stack, "patient", &json!({ "eventTypes": ["visit.*"], "retry": ["0s", "5s"] }));
    stack.receiver.script("/patient", [Behaviour::from(Answer::status(500))], Answer::status(200));
    stack.receiver.forget();
    admin.post("/api/v1/events", &json!({ "type": "visit.begun" })).expect(202);
    wait_until("it waits", SOON, || executions(&admin, &patient, "waiting").len() == 1);
    let waiting = text(&executions(&admin, &patient, "waiting")[0]["deliveryId"]);
    let newest = replay(&admin, &json!({ "deliveries": [waiting] }));
    assert_eq!(newest["sent"], 1);
    wait_until("it has arrived", SOON, || executions(&admin, &patient, "delivered").len() == 1);
    wait_until("what waited is overtaken", SOON, || {
        let ledger = stack.ledger();
        ledger.of_delivery(&waiting).iter().any(|one| one.reason.as_deref() == Some("superseded"))
    });
    assert_eq!(of_path(&stack, "/patient"), 2);
    assert_eq!(executions(&admin, &patient, "delivered").len(), 1, "what was overtaken says nothing of it");

    // Who may not know of it doesn't, and what makes no sense is said.
    let other = admin.post("/api/v1/accounts", &json!({ "name": "other" })).expect(201).json();
    let scopes = ["webhooks:read", "webhooks:write", "history:read"];
    let (stranger, _) =
        admin.register(&json!({ "name": "stranger", "account": other["uid"], "scopes": scopes }));
    stranger.get(&format!("/api/v1/replays/{}", text(&again["id"]))).expect(404);
    assert_eq!(stranger.get("/api/v1/replays").expect(200).json()["results"], json!([]));
    stranger.post("/api/v1/replays", &json!({ "deliveries": [delivery] })).expect(404);
    stranger.post("/api/v1/replays", &events(false)).expect(404);
    for wrong in [
        json!({ "webhook": late }),
        json!({ "webhook": late, "events": { "from": "yesterday" } }),
        json!({ "webhook": late, "events": { "from": "2026-01-01T00:00:00Z", "until": "2025-01-01T00:00:00Z" } }),
        json!({ "webhook": late, "deadLetters": { "reason": "bored" } }),
        json!({ "deliveries": [] }),
    ] {
        admin.post("/api/v1/replays", &wrong).expect(400);
    }
    admin.post(&format!("/api/v1/webhooks/{late}/unpublish"), &json!({})).expect(200);
    let refused = admin.post("/api/v1/replays", &events(false)).expect(409);
    assert!(refused.body.contains("publish it first"), "{}", refused.body);
    let listed = admin.get("/api/v1/replays?state=done&limit=2").expect(200).json();
    assert_eq!(
        (listed["results"][0]["id"].as_str(), &listed["moreResults"]),
        (newest["id"].as_str(), &json!(true))
    );
}

#[test]
fn a_replay_is_carried_on_after_a_crash_and_stops_when_it_is_cancelled() {
    const EVENTS: usize = 150;
    let stack = Stack::new("replays-crash");
    let mut services = launched(&stack, &FOUR[1..]);
    let admin = services[2].admin().with_default_account();
    for n in 0..EVENTS {
        admin.post("/api/v1/events", &json!({ "type": "order.made", "data": { "n": n } })).expect(202);
    }
    let late = webhook(&admin, &stack, "late", &json!({ "rate": 30 }));
    let slow = webhook(&admin, &stack, "slow", &json!({ "rate": 2 }));
    stack.receiver.forget();
    let of = |webhook: &str| json!({ "webhook": webhook, "events": { "from": "2020-01-01T00:00:00Z" } });
    let running = text(&admin.post("/api/v1/replays", &of(&late)).expect(201).json()["id"]);
    let unwanted = text(&admin.post("/api/v1/replays", &of(&slow)).expect(201).json()["id"]);
    wait_until("some have arrived", SOON, || of_path(&stack, "/late") >= 10 && of_path(&stack, "/slow") >= 2);

    // What is on its way to a slow endpoint is stopped too.
    let cancelled = admin.post(&format!("/api/v1/replays/{unwanted}/cancel"), &json!({})).expect(200).json();
    assert_eq!(cancelled["state"], "cancelled");
    services.pop().expect("the API").kill_9();

    let mut api = stack.launch(Role::Api, &[]);
    api.wait_ready();
    let admin = api.admin();
    let done = ended(&admin, &running);
    assert_eq!(done["state"], "done", "{done}");
    wait_until("all have arrived", SOON, || executions(&admin, &late, "delivered").len() == 100);
    wait_until("each has", SOON, || {
        stack.ledger().ended("delivered") >= EVENTS + usize::try_from(of_path(&stack, "/slow")).unwrap_or(0)
    });
    // Of those that were cancelled none is left waiting, and few were sent.
    wait_until("none waits", SOON, || {
        executions(&admin, &slow, "waiting").is_empty() && !executions(&admin, &slow, "skipped").is_empty()
    });
    let skipped = executions(&admin, &slow, "skipped");
    assert!(skipped.iter().all(|one| one["reason"] == "cancelled"), "{skipped:?}");
    assert!(of_path(&stack, "/slow") < 40, "{}", of_path(&stack, "/slow"));
}
