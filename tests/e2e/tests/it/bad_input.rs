//! What is wrong gets a clear message, is not lost, and stops nothing.

use std::time::Duration;

use hookstream_e2e::{Config, Message, Proxy, Record, Role, SOON, Stack, Webhook, wait_for, wait_until};
use serde_json::json;

fn rejected(stack: &Stack, count: usize) -> Vec<Record> {
    wait_for(&format!("{count} rejected records"), SOON, || {
        Some(stack.kafka.read(&stack.topic("rejected"))).filter(|records| records.len() >= count)
    })
}

/// Whether the record's headers or value say so.
fn says(record: &Record, text: &str) -> bool {
    record.headers.iter().any(|(_, value)| value.contains(text))
        || record.value.as_deref().is_some_and(|value| value.contains(text))
}

#[test]
fn bad_records_are_set_aside() {
    let stack = Stack::new("bad-records");
    let strict = json!({
        "name": "strict",
        "topics": [stack.source_topic()],
        "format": { "type": "json", "mapping": {
            "id": { "pointer": "/id" }, "type": { "pointer": "/type" }, "data": "/data",
        } },
        "strict": true,
    });
    let webhook = Webhook::new("all", stack.receiver.url("/all"));
    stack.apply(&Config::new().source(strict).event_type("order.created").webhook(&webhook));
    let _services = stack.start_all();

    let topic = stack.source_topic();
    let message = |value: &str| Message { key: "k".to_owned(), value: value.to_owned() };
    let huge = format!(r#"{{"id":"huge","type":"order.created","data":"{}"}}"#, "x".repeat(10 * 1024 * 1024));
    stack.kafka.produce_raw(&topic, huge.as_bytes());
    let messages = [
        message("this is not JSON"),
        message(r#"{"id":"1","data":{}}"#),
        message(r#"{"id":"2","type":"nobody.registered","data":{}}"#),
        // All partitions go on.
        message(r#"{"id":"3","type":"order.created","data":{"good":true}}"#),
    ];
    stack.kafka.produce(&topic, &[], &messages);

    stack.wait_distinct(1, SOON);
    let rejected = rejected(&stack, 4);
    assert_eq!(rejected.len(), 4, "each once");
    for reason in ["too_large", "not_json", "unmapped", "unregistered_type"] {
        let found = rejected.iter().filter(|record| says(record, reason)).count();
        assert_eq!(
            found,
            1,
            "`{reason}`: {:?}",
            rejected.iter().map(|record| &record.headers).collect::<Vec<_>>()
        );
    }
    assert!(rejected.iter().any(|record| says(record, "this is not JSON")), "the original is kept");
    assert!(rejected.iter().all(|record| says(record, &topic)), "where it came from is kept");
}

#[test]
fn a_wrong_url_hurts_only_its_webhook() {
    let stack = Stack::new("wrong-url");
    let nobody = Proxy::closed().addr();
    let wrong = Webhook::new("wrong", format!("http://{nobody}/")).retry_ms(&[0, 100]);
    let right = Webhook::new("right", stack.receiver.url("/right"));
    stack.apply(&Config::new().cloudevents("orders", &stack.source_topic()).webhook(&wrong).webhook(&right));
    let [_ingester, _fanout, _sender, api] = stack.start_all();
    // Too few to open its breaker, which would let one through now and then.
    stack.produce("order.created", 0, 3);
    stack.wait_distinct(3, SOON);
    wait_until("3 dead letters", SOON, || stack.kafka.read(&stack.topic("dead-letter")).len() >= 3);
    assert_eq!(stack.receiver.seen(|seen| seen.duplicates()), 0);

    // What is no URL at all is refused at once, with its place in the file.
    let none = Webhook::new("none", "not a url");
    let outcome = stack.apply_with(&api, &Config::new().webhook(&none).to_file());
    assert!(outcome.code.is_some_and(|code| code != 0), "it was taken: {outcome}");
    assert!(outcome.stderr.contains("url"), "what is wrong is not named: {outcome}");
}

#[test]
fn a_topic_that_does_not_exist_yet() {
    let stack = Stack::new("no-topic");
    let missing = format!("{}-later", stack.namespace);
    let webhook = Webhook::new("all", stack.receiver.url("/all"));
    let config = Config::new()
        .cloudevents("orders", &stack.source_topic())
        .cloudevents("later", &missing)
        .webhook(&webhook);
    stack.apply(&config);
    let [ingester, _fanout, _sender, _api] = stack.start_all();
    // The other source is served all the same.
    stack.produce("order.created", 0, 5);
    stack.wait_distinct(5, SOON);
    wait_until("the missing topic is named", SOON, || ingester.log().contains(&missing));

    stack.kafka.create_topic(&missing, 1, &[]);
    let value = r#"{"specversion":"1.0","id":"late","source":"/e2e","type":"order.late","data":{}}"#;
    let headers = [("content-type", "application/cloudevents+json")];
    stack.kafka.produce(&missing, &headers, &[Message { key: "k".to_owned(), value: value.to_owned() }]);
    stack.wait_distinct(6, SOON);
}

#[test]
fn a_broker_that_is_down_at_the_start() {
    let stack = Stack::new("no-broker");
    let webhook = Webhook::new("all", stack.receiver.url("/all"));
    stack.apply(&Config::new().cloudevents("orders", &stack.source_topic()).webhook(&webhook));
    let door = Proxy::closed();
    let address = door.addr().to_string();
    let mut services = Role::ALL.map(|role| stack.launch(role, &[("KAFKA__BOOTSTRAP_SERVERS", &address)]));
    for service in &mut services {
        let name = service.name.clone();
        wait_until(&format!("{name} is live and names the broker"), SOON, || {
            assert!(service.exited().is_none(), "{name} gave up:\n{}", service.log_tail());
            service.is_live() && service.log().contains(&address)
        });
        assert!(!service.is_ready(), "{name} can't be ready");
    }
    door.open(stack.kafka.address());
    for service in &mut services {
        service.wait_ready();
    }
    stack.produce("order.created", 0, 3);
    stack.wait_distinct(3, SOON);
    for service in services {
        service.terminate(Duration::from_secs(30));
    }
}
