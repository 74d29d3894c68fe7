//! An event that is not worth delivering any more is skipped; asked for once more it counts as new.

use hookstream_e2e::{Answer, Role, SOON, Service, Stack, wait_until};
use serde_json::{Value, json};

use crate::api::text;

#[test]
fn what_is_too_old_is_skipped_and_delivered_when_it_is_asked_for() {
    let stack = Stack::new("expiry");
    let mut services: Vec<_> =
        [Role::Fanout, Role::Sender, Role::Api].iter().map(|role| stack.launch(*role, &[])).collect();
    services.iter_mut().for_each(Service::wait_ready);
    let admin = services[2].admin().with_default_account();
    admin.post("/api/v1/event-types", &json!({ "name": "price.changed", "ttl": "1s" })).expect(201);
    let webhook = json!({ "name": "shop", "url": stack.receiver.url("/shop"), "eventTypes": ["price.*", "order.*"],
        "retry": ["0s", "3s", "0s"] });
    let shop = text(&admin.post("/api/v1/webhooks", &webhook).expect(201).json()["id"]);
    // The first attempt fails, and the next is due when the price is old.
    stack.receiver.on("/shop", Answer::status(500));
    stack.receiver.forget();
    let price = json!({ "type": "price.changed", "data": { "n": 1 } });
    let event = text(&admin.post("/api/v1/events", &price).expect(202).json()["events"][0]["id"]);
    let executions = |event: &str| {
        let listed =
            admin.get(&format!("/api/v1/webhooks/{shop}/executions?event={event}")).expect(200).json();
        listed["results"].as_array().cloned().unwrap_or_default()
    };
    let is = |one: &Value, outcome: &str| one["outcome"] == outcome;
    wait_until("it was tried once, and is skipped", SOON, || {
        executions(&event).iter().any(|one| is(one, "skipped") && one["reason"] == "expired")
    });
    assert_eq!(stack.receiver.seen(|seen| seen.of_path("/shop")), 1);

    // Whoever asks for it wants it as it is.
    stack.receiver.on("/shop", Answer::status(200));
    let delivery = executions(&event)[0]["deliveryId"].clone();
    admin.post("/api/v1/replays", &json!({ "deliveries": [delivery] })).expect(201);
    wait_until("it is delivered", SOON, || executions(&event).iter().any(|one| is(one, "delivered")));

    // What is too short or too long is no time to live.
    for ttl in ["0s", "100ms", "91d", "soon"] {
        let problem =
            admin.post("/api/v1/event-types", &json!({ "name": "a.b", "ttl": ttl })).expect(400).json();
        assert_eq!(problem["errors"][0]["field"], "/ttl", "{problem}");
    }
}
