//! The key that encrypts secrets is replaced while events are delivered (docs/keys.md, step by step).

use std::time::Duration;

use hookstream_e2e::{Config, KEY, Outcome, Role, SOON, Service, Stack, Webhook, signature, wait_until};
use serde_json::json;

/// Any other 32 bytes.
const NEW_KEY: &str = "Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA=";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const EVENTS_PER_SECOND: usize = 50;
/// Deliveries between two steps.
const SOME: u64 = 50;
/// More requests than the test makes.
const KEPT: usize = 100_000;
/// SIGTERM to the end of a service.
const DRAIN: Duration = Duration::from_secs(30);

/// Services with these keys.
struct Running<'a> {
    stack: &'a Stack,
    services: Vec<(Role, Service)>,
}

impl Running<'_> {
    /// Restarts one after the other.
    fn restart_with(&mut self, settings: &[(&str, &str)]) {
        for (role, service) in &mut self.services {
            let mut next = self.stack.launch(*role, settings);
            next.wait_ready();
            std::mem::replace(service, next).terminate(DRAIN);
        }
    }

    fn keys(&self, command: &str, settings: &[(&str, &str)]) -> Outcome {
        let outcome = self.stack.hookstream_with(&["keys", command], settings);
        println!("hookstream keys {command}: {outcome}");
        outcome
    }
}

#[test]
fn are_rotated_while_events_are_delivered() {
    let stack = Stack::new("keys");
    stack.receiver.keep(KEPT);
    // What is sealed: a secret, a header's value, an authorization.
    let url = stack.receiver.url("/in");
    let config = Config::new().cloudevents("orders", &stack.source_topic()).webhook(&Webhook::new("w", &url));
    stack.apply(&config);
    let mut running = Running { stack: &stack, services: Vec::new() };
    running.services.extend(Role::ALL.map(|role| (role, stack.launch(role, &[]))));
    running.services.iter_mut().for_each(|(_, service)| service.wait_ready());
    let admin = running.services[3].1.admin();
    let authorization = json!({ "name": "crm", "endpoint": url, "bearer": { "token": "their-token" } });
    admin.post("/api/v1/authorizations", &authorization).expect(201);
    let webhook = admin.get("/api/v1/webhooks?q=w").expect(200).json()["results"][0]["id"].clone();
    let path = format!("/api/v1/webhooks/{}", webhook.as_str().expect("a webhook has an id"));
    let own = json!({ "headers": { "x-own": "their-value" }, "authorization": "crm" });
    admin.patch(&path, &own).expect(200);
    stack.receiver.forget();

    let distinct = || stack.receiver.seen(|seen| seen.distinct());
    let feed = stack.feed(EVENTS_PER_SECOND);
    let under_way = || {
        let before = distinct();
        wait_until("deliveries keep arriving", SOON, || distinct() >= before + SOME);
    };
    under_way();
    // 1. Everybody opens what the new one seals.
    running.restart_with(&[("SECRETS__PREVIOUS_KEYS", NEW_KEY)]);
    under_way();
    // 2. Everybody seals with it.
    let both = [("SECRETS__KEY", NEW_KEY), ("SECRETS__PREVIOUS_KEYS", KEY)];
    running.restart_with(&both);
    under_way();
    // 3. What is there is sealed anew.
    let rotated = running.keys("rotate", &both);
    assert_eq!(rotated.code, Some(0), "{rotated}");
    assert!(rotated.stdout.contains("used by no account any more: remove it from the settings"), "{rotated}");
    under_way();
    let again = running.keys("rotate", &both);
    assert_eq!(again.code, Some(0), "{again}");
    // 4. The old one goes.
    let new_only = [("SECRETS__KEY", NEW_KEY)];
    running.restart_with(&new_only);
    under_way();

    let delivered = feed.finish();
    stack.wait_distinct(delivered, SOON);
    let ledger = stack.wait_delivered(delivered);
    assert_eq!((ledger.ended("delivered"), ledger.ended("dead"), ledger.ended("skipped")), (delivered, 0, 0));
    assert!(ledger.ended_twice().is_empty(), "decided twice: {:?}", ledger.ended_twice());
    stack.receiver.seen(|seen| {
        assert!(seen.last().len() < KEPT, "all requests were kept");
        for request in seen.last() {
            assert!(signature::is_valid(request, SECRET), "{request:?}");
            assert_eq!(request.header("x-own"), Some("their-value"));
        }
        let authorized = seen
            .last()
            .iter()
            .filter(|request| request.header("authorization") == Some("Bearer their-token"));
        assert!(authorized.count() > 0);
    });

    // Whoever has only the old one gets none of it, and says so.
    let checked = running.keys("check", &[]);
    assert!(checked.code == Some(1) && checked.stdout.contains("NOT CONFIGURED"), "{checked}");
    let checked = running.keys("check", &new_only);
    assert_eq!(checked.code, Some(0), "{checked}");
    // What is written from now on is sealed by the new one, and everything starts with it alone.
    let admin = running.services[3].1.admin();
    admin.patch(&path, &json!({ "headers": { "x-own": "another-value" } })).expect(200);
    running.restart_with(&new_only);
    stack.receiver.forget();
    stack.produce("order.created", delivered, 1);
    wait_until("an event arrives", SOON, || distinct() == 1);
    stack.receiver.seen(|seen| {
        let request = seen.last().front().expect("it arrived");
        assert!(
            signature::is_valid(request, SECRET) && request.header("x-own") == Some("another-value"),
            "{request:?}"
        );
    });
}
