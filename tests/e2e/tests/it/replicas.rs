//! Two processes of the API on one Kafka: what one has written the other shows, and one that dies leaves nothing
//! half-done.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hookstream_e2e::{Caller, Role, SOON, Service, Stack, wait_until};
use serde_json::{Value, json};

use crate::api::text;

/// Within this a change is to be seen at another replica.
const PROMISED: Duration = Duration::from_secs(1);
/// On a machine that runs other tests as well, a few may take so many times as long; most may not.
const SLACK: u32 = 3;
const WRITES: usize = 30;
/// Webhooks that are written together, with their account.
const TOGETHER: usize = 4;
const WRITERS: usize = 3;

fn draft(name: &str) -> Value {
    json!({ "name": name, "url": "https://a.example/", "eventTypes": ["a"], "state": "draft" })
}

/// How long it takes until `reader` shows what `is_there` looks for.
#[track_caller]
fn until_seen(what: &str, mut is_there: impl FnMut() -> bool) -> Duration {
    let written = Instant::now();
    while !is_there() {
        assert!(
            written.elapsed() < PROMISED * SLACK,
            "{what} is not seen at the other replica after {PROMISED:?} and more"
        );
    }
    written.elapsed()
}

#[test]
fn a_change_is_seen_at_once_by_who_made_it_and_within_a_second_by_the_others() {
    let stack = Stack::new("replicas");
    let mut replicas = [stack.launch(Role::Api, &[]), stack.launch(Role::Api, &[])];
    replicas.iter_mut().for_each(Service::wait_ready);
    let callers = replicas.each_ref().map(Service::admin);
    let callers = [callers[0].clone().with_default_account(), callers[1].clone()];
    let mut took = Vec::new();
    for n in 0..WRITES {
        let (writer, other) = (&callers[n % 2], &callers[(n + 1) % 2]);
        let created = writer.post("/api/v1/webhooks", &draft(&format!("w{n}"))).expect(201).json();
        let path = format!("/api/v1/webhooks/{}", text(&created["id"]));
        // No waiting: the answer has said that it is there.
        assert_eq!(writer.get(&path).status, 200, "a new webhook where it was made");
        took.push(until_seen("a new webhook", || other.get(&path).status == 200));

        writer.patch(&path, &json!({ "description": format!("d{n}") })).expect(200);
        let description = |caller: &Caller| caller.get(&path).json()["description"].clone();
        assert_eq!(description(writer), json!(format!("d{n}")), "a change where it was made");
        took.push(until_seen("a change", || description(other) == json!(format!("d{n}"))));
        // A change that the other replica makes right away is one of what is there now.
        let changed = other.patch(&path, &json!({ "concurrency": 7 })).expect(200).json();
        assert_eq!((&changed["description"], &changed["revision"]), (&json!(format!("d{n}")), &json!(3)));

        if n % 3 == 0 {
            other.delete(&path).expect(204);
            assert_eq!(other.get(&path).status, 404, "a deleted webhook where it was deleted");
            took.push(until_seen("a deletion", || writer.get(&path).status == 404));
        }
    }
    took.sort();
    let (median, most) = (took[took.len() / 2], took[took.len() - 1]);
    println!("replicas: {} changes seen at the other after {median:?} (median), {most:?} (most)", took.len());
    assert!(median <= PROMISED, "the median is {median:?}");
    // Both have all of it, and the same.
    let list =
        |caller: &Caller| caller.get("/api/v1/webhooks?limit=100").expect(200).json()["results"].clone();
    wait_until("both lists are the same", SOON, || list(&callers[0]) == list(&callers[1]));
    assert_eq!(list(&callers[0]).as_array().map(Vec::len), Some(WRITES - WRITES.div_ceil(3)));
}

/// An account of its own with webhooks, written as a whole.
fn group(name: &str) -> Value {
    let webhook = |n: usize| {
        json!({ "account": name, "name": format!("w{n}"), "url": "https://a.example/", "event_types": ["a"], "state": "draft",
            "secrets": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] })
    };
    json!({ "accounts": [{ "name": name, "verification": "none" }], "webhooks": (0..TOGETHER).map(webhook).collect::<Vec<_>>() })
}

/// All that a list shows.
fn all(caller: &Caller, path: &str) -> Vec<Value> {
    let (mut found, mut query) = (Vec::new(), String::new());
    loop {
        let page = caller.get(&format!("{path}?limit=100{query}")).expect(200).json();
        found.extend(page["results"].as_array().cloned().unwrap_or_default());
        let Some(next) = page["next"].as_str() else { return found };
        query = format!("&cursor={next}");
    }
}

#[test]
fn one_that_is_killed_while_it_writes_leaves_nothing_half_done() {
    const KILLS: usize = 3;
    let stack = Stack::new("replica-killed");
    let survivor = stack.start(Role::Api);
    let reader = survivor.admin().with_default_account();
    let mut acknowledged: Vec<String> = Vec::new();
    let mut asked = 0;
    for kill in 0..KILLS {
        let victim = stack.start(Role::Api);
        let caller = victim.admin();
        let (stop, done, begun) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
        let names = thread::scope(|scope| {
            let write = |writer: usize| {
                let (caller, stop, done, begun) = (caller.clone(), &stop, &done, &begun);
                scope.spawn(move || {
                    let mut names = Vec::new();
                    for n in 0.. {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let name = format!("a-{kill}-{writer}-{n}");
                        begun.fetch_add(1, Ordering::Relaxed);
                        let reply = caller.try_call("POST", "/api/v1/apply", &[], &group(&name).to_string());
                        // None: it died before it answered, so that it may be written or not.
                        let Some(reply) = reply else { break };
                        assert_eq!(reply.status, 200, "{}", reply.body);
                        done.fetch_add(1, Ordering::Relaxed);
                        names.push(name);
                    }
                    names
                })
            };
            let writers: Vec<_> = (0..WRITERS).map(write).collect();
            wait_until("the victim is at work", SOON, || done.load(Ordering::Relaxed) >= 10 + 3 * kill);
            victim.kill_9();
            stop.store(true, Ordering::Relaxed);
            writers
                .into_iter()
                .flat_map(|writer| writer.join().expect("a writer does not panic"))
                .collect::<Vec<_>>()
        });
        asked += begun.load(Ordering::Relaxed);
        acknowledged.extend(names);
        // The other takes over at once, and waits for nobody's session.
        let started = Instant::now();
        reader.post("/api/v1/webhooks", &draft(&format!("after {kill}"))).expect(201);
        println!("replicas: a write {:?} after a replica was killed", started.elapsed());
    }

    let accounts = all(&reader, "/api/v1/accounts");
    let mut groups: BTreeMap<String, usize> = BTreeMap::new();
    for account in &accounts {
        let name = text(&account["name"]);
        if name.starts_with("a-") {
            groups.insert(name, 0);
        }
    }
    for webhook in all(&reader, "/api/v1/webhooks") {
        let account = text(&webhook["account"]);
        if let Some(count) = groups.get_mut(&account) {
            *count += 1;
        } else {
            assert!(text(&webhook["name"]).starts_with("after "), "{webhook}");
        }
    }
    println!("replicas: {asked} groups asked for, {} answered, {} there", acknowledged.len(), groups.len());
    assert!(acknowledged.len() <= groups.len() && groups.len() <= asked);
    for name in &acknowledged {
        assert!(groups.contains_key(name), "`{name}` was answered and is not there");
    }
    for (name, count) in &groups {
        assert_eq!(*count, TOGETHER, "of `{name}` is there only a part");
    }

    // Each change has one record in the audit log, also that of which nobody was told.
    let created = groups.len() * (1 + TOGETHER);
    let audited = || {
        let mut ids: BTreeMap<String, usize> = BTreeMap::new();
        for entry in all(&reader, "/api/v1/audit") {
            let name = entry["after"]["name"].as_str().unwrap_or_default();
            let is_ours = name.starts_with("a-") || name.starts_with("after ") || name.starts_with('w');
            if entry["action"] == "create" && is_ours {
                *ids.entry(text(&entry["id"])).or_default() += 1;
            }
        }
        ids
    };
    let is_after = |audited: &BTreeMap<String, usize>| audited.len() >= created + KILLS;
    wait_until("the audit log is complete", SOON, || is_after(&audited()));
    let audited = audited();
    assert_eq!(audited.len(), created + KILLS, "changes that nobody made");
    assert!(audited.values().all(|count| *count == 1), "a change that was recorded twice");
}
