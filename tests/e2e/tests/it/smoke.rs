//! One event, one webhook: it arrives, signed, and its delivery is on record.

use hookstream_e2e::{Config, Role, SOON, Stack, Webhook, signature};

#[test]
fn an_event_becomes_a_signed_request_and_a_record() {
    let stack = Stack::new("smoke");
    let wanted = Webhook::new("wanted", stack.receiver.url("/wanted")).event_types(&["order.*"]);
    let other = Webhook::new("other", stack.receiver.url("/other")).event_types(&["invoice.paid"]);
    let topic = stack.source_topic();
    stack.apply(&Config::new().cloudevents("orders", &topic).webhook(&wanted).webhook(&other));
    let services = stack.start_all();

    stack.produce("order.created", 0, 1);
    stack.wait_distinct(1, SOON);

    let request = stack.receiver.seen(|seen| seen.last()[0].clone());
    assert_eq!(request.target, "/wanted");
    assert_eq!(request.method, "POST");
    assert!(signature::is_valid(&request, &wanted.secret), "the signature is wrong: {request:?}");
    let agent = request.header("user-agent").unwrap_or_default();
    assert!(agent.starts_with("hookstream/"), "user-agent is `{agent}`");
    assert!(request.header("content-type").is_some_and(|value| value.starts_with("application/json")));
    let body = String::from_utf8_lossy(&request.body).replace(' ', "");
    assert!(body.contains(r#""n":0"#), "the event's data is not in the body: {body}");

    let id = request.header("webhook-id").expect("checked with the signature").to_owned();
    let ledger = stack.wait_delivered(1);
    let decided = ledger.of_delivery(&id);
    assert_eq!(decided.len(), 1, "{decided:?}");
    assert_eq!(decided[0].verdict, "delivered");
    let exchange = &ledger.exchanges[0];
    assert_eq!(exchange["response"]["status"], 200);
    assert_eq!(exchange["request"]["url"], wanted.url.as_str());
    let on_record = exchange.to_string();
    let key = wanted.secret.trim_start_matches("whsec_");
    assert!(!on_record.contains(key), "the record shows the secret");
    assert_eq!(stack.receiver.seen(|seen| seen.of_path("/other")), 0);

    for service in &services {
        let metrics = service.metrics();
        let ours = metrics.names().filter(|name| name.starts_with("hookstream_")).count();
        assert!(ours > 3, "{} has {ours} metrics of its own", service.name);
        assert!(service.is_live());
    }
}

#[test]
fn bad_settings_exit_64_with_every_problem() {
    let stack = Stack::new("settings");
    for role in Role::ALL {
        let wrong = [("SECRETS__KEY", "short"), ("TOPICS__PARTITIONS", "0"), ("NOSUCH__KEY", "1")];
        let mut service = stack.launch(role, &wrong);
        let status = hookstream_e2e::wait_for("it exits", SOON, || service.exited());
        assert_eq!(status.code(), Some(64), "{role:?}");
        let log = service.log();
        for part in ["secrets.key", "topics.partitions", "nosuch"] {
            assert!(log.to_lowercase().contains(part), "`{part}` is not named:\n{log}");
        }
    }
}
