//! What fails is tried again, in time, never early; and in the end it is dead, on record.

use std::time::Duration;

use hookstream_e2e::{Answer, Arrived, Behaviour, Config, SOON, Stack, Webhook, wait_for, wait_until};

/// How much later than due a retry may come on a busy machine, where the last second is the product's own bound.
const LATE: Duration = Duration::from_secs(4);

fn gaps(arrived: &[Arrived]) -> Vec<Duration> {
    arrived.windows(2).map(|pair| pair[1].at - pair[0].at).collect()
}

fn arrivals(stack: &Stack, path: &str, count: usize) -> Vec<Arrived> {
    let of_path = || -> Vec<Arrived> {
        stack
            .receiver
            .seen(|seen| seen.last().iter().filter(|arrived| arrived.target == path).cloned().collect())
    };
    wait_for(&format!("{count} requests for {path}"), SOON, || {
        Some(of_path()).filter(|list| list.len() >= count)
    })
}

#[test]
fn twice_500_then_200() {
    let stack = Stack::new("retry");
    let failing: [Behaviour; 2] = [Answer::status(500).into(), Answer::status(503).into()];
    stack.receiver.script("/flaky", failing, Answer::status(200));
    // Through the heap only, and through rungs and heap.
    let webhook = Webhook::new("flaky", stack.receiver.url("/flaky")).retry_ms(&[0, 150, 1700]);
    stack.apply(&Config::new().cloudevents("orders", &stack.source_topic()).webhook(&webhook));
    let _services = stack.start_all();

    stack.produce("order.created", 0, 1);
    let arrived = arrivals(&stack, "/flaky", 3);
    let id = arrived[0].header("webhook-id").expect("it is sent with every request");
    assert!(arrived.iter().all(|request| request.header("webhook-id") == Some(id)), "one delivery, one id");
    for (gap, least) in gaps(&arrived).into_iter().zip([150, 1700].map(Duration::from_millis)) {
        assert!(gap >= least, "early: after {gap:?}, not {least:?}");
        assert!(gap <= least + least / 10 + LATE, "late: after {gap:?}, not {least:?}");
    }

    let ledger = stack.wait_delivered(1);
    let decided: Vec<(&str, u64)> =
        ledger.of_delivery(id).iter().map(|decided| (decided.verdict.as_str(), decided.n)).collect();
    assert_eq!(decided, [("retry", 0), ("retry", 1), ("delivered", 2)]);
    let statuses: Vec<i64> = ledger
        .exchanges
        .iter()
        .map(|exchange| exchange["response"]["status"].as_i64().unwrap_or(0))
        .collect();
    assert_eq!(statuses, [500, 503, 200]);
}

#[test]
fn exhausted_gone_and_told_to_wait() {
    let stack = Stack::new("dead");
    stack.receiver.on("/broken", Answer::status(500));
    stack.receiver.on("/gone", Answer::status(410));
    let told: [Behaviour; 1] = [Answer::status(429).header("retry-after", "2").into()];
    stack.receiver.script("/busy", told, Answer::status(204));
    let webhook =
        |name: &str| Webhook::new(name, stack.receiver.url(&format!("/{name}"))).retry_ms(&[0, 200]);
    let config = ["broken", "gone", "busy"]
        .into_iter()
        .fold(Config::new().cloudevents("orders", &stack.source_topic()), |config, name| {
            config.webhook(&webhook(name))
        });
    stack.apply(&config);
    let _services = stack.start_all();

    stack.produce("order.created", 0, 1);
    let busy = arrivals(&stack, "/busy", 2);
    let gap = gaps(&busy)[0];
    assert!(gap >= Duration::from_secs(2), "`Retry-After: 2` was not waited for: {gap:?}");

    let dead = wait_for("two dead letters", SOON, || {
        Some(stack.kafka.read(&stack.topic("dead-letter"))).filter(|records| records.len() >= 2)
    });
    let reason = |name: &str| {
        dead.iter()
            .map(|record| record.header("hs-dead").unwrap_or_default())
            .find(|why| why.contains(&format!("\"reason\":\"{name}\"")))
            .unwrap_or_else(|| panic!("no dead letter says `{name}`: {dead:?}"))
            .to_owned()
    };
    let exhausted = reason("exhausted");
    assert!(exhausted.contains("\"last_status\":500") && exhausted.contains("\"attempts\":2"), "{exhausted}");
    assert!(reason("gone").contains("\"last_status\":410"));

    // Switched off: another event does not reach it any more.
    wait_until("the webhook that is gone is disabled", SOON, || {
        let config = stack.kafka.read(&stack.topic("config"));
        config.iter().filter_map(|record| record.value.as_deref()).any(|value| value.contains("\"disabled\""))
    });
    let before = stack.receiver.seen(|seen| seen.of_path("/gone"));
    stack.produce("order.created", 1, 1);
    arrivals(&stack, "/busy", 3);
    arrivals(&stack, "/broken", 3);
    assert_eq!(before, 1);
    assert_eq!(stack.receiver.seen(|seen| seen.of_path("/gone")), before);
}
