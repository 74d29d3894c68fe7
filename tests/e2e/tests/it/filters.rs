//! Content filters: only the events that a webhook wants are delivered, and why the others are not is told.

use hookstream_e2e::{Role, SOON, Service, Stack, wait_until};
use serde_json::{Value, json};

use crate::api::text;

#[test]
fn only_what_a_webhook_wants_is_delivered() {
    let stack = Stack::new("filters");
    let mut services: Vec<_> =
        [Role::Fanout, Role::Sender, Role::Api].iter().map(|role| stack.launch(*role, &[])).collect();
    services.iter_mut().for_each(Service::wait_ready);
    let admin = services[2].admin().with_default_account();
    let webhook = |name: &str, filter: &Value| json!({ "name": name, "url": stack.receiver.url(&format!("/{name}")), "eventTypes": ["order.*"], "filter": filter });
    let nordic = json!({ "data": { "country": ["NO", "SE"], "lines": { "sku": [{ "prefix": "A-" }], "price": [{ "numeric": [">", 100] }] } } });
    let nordic = admin.post("/api/v1/webhooks", &webhook("nordic", &nordic)).expect(201).json();
    let all = admin.post("/api/v1/webhooks", &webhook("all", &Value::Null)).expect(201).json();
    assert_eq!(nordic["filter"]["data"]["country"], json!(["NO", "SE"]));
    assert_eq!(all.get("filter"), None);
    stack.receiver.forget();
    let order = |country: &str, sku: &str, price: i64| {
        let lines = json!([{ "sku": "B-1", "price": 900 }, { "sku": sku, "price": price }]);
        json!({ "type": "order.paid", "data": { "country": country, "lines": lines } })
    };
    let mut unwanted = String::new();
    for event in [
        order("NO", "A-1", 101),
        order("SE", "A-2", 500),
        order("NO", "A-1", 100),
        order("DK", "A-1", 500),
        order("SE", "B-2", 500),
    ] {
        unwanted = text(&admin.post("/api/v1/events", &event).expect(202).json()["events"][0]["id"]);
    }
    wait_until("all have arrived", SOON, || stack.receiver.seen(|seen| seen.of_path("/all")) == 5);
    wait_until("those that are wanted have arrived", SOON, || {
        stack.receiver.seen(|seen| seen.of_path("/nordic")) == 2
    });

    // Why not.
    let explained = |data: &Value| {
        let asked = json!({ "eventType": "order.paid", "data": data, "webhook": nordic["id"] });
        admin.post("/api/v1/match", &asked).expect(200).json()
    };
    let why = |data: &Value| explained(data)["others"][0]["reasons"][0].clone();
    let away = why(&order("DK", "A-1", 500)["data"]);
    assert_eq!(
        (&away["code"], text(&away["detail"])),
        (&json!("filter"), "the filter is not satisfied at `/data/country`".to_owned())
    );
    assert!(text(&why(&order("NO", "A-1", 100)["data"])["detail"]).contains("no element of an array"));
    assert_eq!(explained(&order("NO", "A-1", 101)["data"])["matching"][0]["webhook"], nordic["id"]);
    // Of an event that was, by what it held.
    wait_until("it is in the index", SOON, || {
        admin.call("GET", &format!("/api/v1/events/{unwanted}"), &[], "").status == 200
    });
    let past = admin.post("/api/v1/match", &json!({ "event": unwanted, "webhook": nordic["id"] }));
    assert_eq!(past.expect(200).json()["others"][0]["reasons"][0]["code"], "filter");

    // What is wrong is told at its key.
    for (filter, field) in [
        (json!({ "data": { "price": [{ "numeric": ["~", 1] }] } }), "/filter/data/price/0/numeric"),
        (json!({ "data": { "a": "NO" } }), "/filter/data/a"),
        (json!([]), "/filter"),
    ] {
        let problem = admin.post("/api/v1/webhooks", &webhook("wrong", &filter)).expect(400).json();
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }

    // Without it, everything comes.
    let path = format!("/api/v1/webhooks/{}", text(&nordic["id"]));
    admin.patch(&path, &json!({ "filter": null })).expect(200);
    admin.post("/api/v1/events", &order("DK", "A-1", 500)).expect(202);
    wait_until("it has arrived", SOON, || stack.receiver.seen(|seen| seen.of_path("/nordic")) == 3);
}
