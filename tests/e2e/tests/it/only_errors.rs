//! *Log Only Errors* (requirements, platform D): a webhook's failures are logged in full, its successes are counted
//! and not listed.

use hookstream_e2e::{Answer, Behaviour, Role, SOON, Service, Stack, wait_until};
use serde_json::{Value, json};

use crate::api::text;

/// In each event's data, so that whatever was kept of it is found.
const MARK: &str = "what-the-customer-ordered";

#[test]
fn failures_are_logged_in_full_and_successes_without_bodies() {
    let stack = Stack::new("only-errors");
    let mut services = [Role::Fanout, Role::Sender, Role::Api].map(|role| stack.launch(role, &[]));
    services.iter_mut().for_each(Service::wait_ready);
    let admin = services[2].admin().with_default_account();
    let create = |name: &str, only_errors: bool| {
        let document = json!({ "name": name, "url": stack.receiver.url(&format!("/{name}")), "eventTypes": [format!("{name}.*")],
            "logOnlyErrors": only_errors, "retry": ["0s", "100ms"] });
        text(&admin.post("/api/v1/webhooks", &document).expect(201).json()["id"])
    };
    let (quiet, loud) = (create("quiet", true), create("loud", false));
    let answer = |status| {
        Behaviour::from(Answer::status(status).header("x-answer", "kept").body(format!("answer {MARK}")))
    };
    // What goes well at once; what goes well in the end; what never does.
    for name in ["quiet", "loud"] {
        let script = [answer(200), answer(503), answer(200), answer(500), answer(500)];
        stack.receiver.script(&format!("/{name}"), script, Answer::status(200));
    }
    stack.receiver.forget();
    for (name, webhook) in [("quiet", &quiet), ("loud", &loud)] {
        for (n, requests) in [1, 3, 5].into_iter().enumerate() {
            let event = json!({ "type": format!("{name}.happened"), "data": { "n": n, "text": MARK } });
            admin.post("/api/v1/events", &event).expect(202);
            // One after the other, so that each gets its answers.
            wait_until("its requests are made", SOON, || {
                stack.receiver.seen(|seen| seen.of_path(&format!("/{name}"))) == requests
            });
        }
        let outcomes = |outcome: &str| -> usize {
            let page =
                admin.get(&format!("/api/v1/webhooks/{webhook}/executions?outcome={outcome}")).expect(200);
            page.json()["results"].as_array().map_or(0, Vec::len)
        };
        wait_until("the history shows the last", SOON, || outcomes("dead") == 1);
        let delivered = if name == "quiet" { 1 } else { 2 };
        assert_eq!(outcomes("delivered"), delivered, "{name}");
    }

    let list = |webhook: &str| -> Vec<Value> {
        let page = admin.get(&format!("/api/v1/webhooks/{webhook}/executions")).expect(200).json();
        let deliveries = page["results"].as_array().cloned().unwrap_or_default();
        deliveries
            .iter()
            .map(|one| {
                admin.get(&format!("/api/v1/executions/{}", text(&one["deliveryId"]))).expect(200).json()
            })
            .collect()
    };
    // The newest first: the one that died, and the one that was delivered at the second attempt.
    let listed = list(&quiet);
    let [dead, delivered] = &listed[..] else { panic!("the success is listed") };
    for (detail, number) in [(dead, 0), (dead, 1), (delivered, 0)] {
        let attempt = &detail["attemptLog"][number];
        assert_eq!(attempt["recorded"], "kept", "{attempt}");
        for body in [&attempt["request"]["body"]["text"], &attempt["response"]["body"]["text"]] {
            assert!(text(body).contains(MARK), "{attempt}");
        }
        let headers = attempt["response"]["headers"].as_array().cloned().unwrap_or_default();
        assert!(headers.contains(&json!({ "name": "x-answer", "value": "kept" })), "{attempt}");
    }
    let success = &delivered["attemptLog"][1];
    assert_eq!((&success["recorded"], &success["outcome"]), (&json!("withoutBodies"), &json!("delivered")));
    assert_eq!((&success["status"], &success["request"]["body"]), (&json!(200), &Value::Null));
    assert_eq!(success["response"]["body"], Value::Null, "{success}");

    // The other webhook has all of it.
    let all = list(&loud);
    assert_eq!(all.len(), 3);
    let attempts = all.iter().flat_map(|detail| detail["attemptLog"].as_array().cloned().unwrap_or_default());
    assert!(attempts.clone().count() == 5 && attempts.clone().all(|attempt| attempt["recorded"] == "kept"));

    // What is not shown was not kept, and what was decided is on record all the same (invariant 1).
    let ledger = stack.ledger();
    assert_eq!((ledger.ended("delivered"), ledger.ended("dead")), (4, 2));
    let of_quiet = ledger.exchanges.iter().filter(|exchange| exchange["webhook"] == json!(quiet));
    let (with, without): (Vec<_>, Vec<_>) =
        of_quiet.partition(|exchange| exchange.to_string().contains(MARK));
    assert_eq!((with.len(), without.len()), (3, 2));
    assert!(without.iter().all(|exchange| exchange["response"]["status"] == 200), "{without:?}");
}
