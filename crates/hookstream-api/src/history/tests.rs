//! The routes on a real index, with records as the sender writes them, in a real log.

mod lists;
pub(in crate::history) mod world;

use serde_json::json;

use self::world::*;
use crate::access::cursor::MAX_CURSOR_BYTES;

/// Each principal on each route: what it finds.
#[tokio::test]
async fn everybody_finds_their_own_and_nothing_else() {
    let world = World::new().await;
    let (one, two, three, gone) = (delivery(1, W1), delivery(2, W2), delivery(3, W3), delivery(4, DELETED));
    let of = |webhook| format!("/api/v1/webhooks/{webhook}/executions");
    let show = |delivery| format!("/api/v1/executions/{delivery}");
    let all = "/api/v1/executions".to_owned();
    let named = |account| format!("{all}?account={account}");
    let filtered = |webhook| format!("{all}?webhook={webhook}");
    const NONE: [usize; 2] = [200, 0];
    const LOST: [usize; 2] = [404, 0];
    const NONE_REJECTED: [usize; 2] = [200, 0];
    // Status and number of executions, for: account A, account B, the app of A, the operator.
    let table = [
        (all.clone(), [[200, 6], [200, 1], [200, 2], [200, 7]]),
        (named(A), [[200, 6], LOST, [200, 2], [200, 6]]),
        (named(B), [LOST, [200, 1], LOST, [200, 1]]),
        (of(W1), [[200, 2], LOST, [200, 2], [200, 2]]),
        (of(W2), [[200, 3], LOST, LOST, [200, 3]]),
        (of(W3), [LOST, [200, 1], LOST, [200, 1]]),
        (of(DELETED), [[200, 1], LOST, LOST, [200, 1]]),
        (of(UNKNOWN), [LOST, LOST, LOST, LOST]),
        (format!("{}?account={A}", of(W1)), [[200, 2], LOST, [200, 2], [200, 2]]),
        (format!("{}?account={B}", of(W1)), [LOST, LOST, LOST, NONE]),
        (filtered(W1), [[200, 2], NONE, [200, 2], [200, 2]]),
        (filtered(W2), [[200, 3], NONE, NONE, [200, 3]]),
        (filtered(W3), [NONE, [200, 1], NONE, [200, 1]]),
        (filtered(DELETED), [[200, 1], NONE, NONE, [200, 1]]),
        (filtered(UNKNOWN), [NONE, NONE, NONE, NONE]),
        (format!("{all}?event={}", event(3)), [NONE, [200, 1], NONE, [200, 1]]),
        (format!("{all}?event={}", event(1)), [[200, 1], NONE, [200, 1], [200, 1]]),
        (show(one), [[200, 2], LOST, [200, 2], [200, 2]]),
        (show(two), [[200, 1], LOST, LOST, [200, 1]]),
        (show(three), [LOST, [200, 1], LOST, [200, 1]]),
        (show(gone), [[200, 1], LOST, LOST, [200, 1]]),
        (show(delivery(77, W1)), [LOST, LOST, LOST, LOST]),
        ("/api/v1/executions/x".to_owned(), [LOST, LOST, LOST, LOST]),
        ("/api/v1/rejected".to_owned(), [LOST, LOST, LOST, NONE_REJECTED]),
        ("/api/v1/stats".to_owned(), [[200, 0], [200, 0], LOST, [200, 0]]),
        (format!("/api/v1/stats?account={A}"), [[200, 0], LOST, LOST, [200, 0]]),
        ("/api/v1/events".to_owned(), [[200, 5], [200, 1], LOST, [200, 6]]),
        (format!("/api/v1/events?account={A}"), [[200, 5], LOST, LOST, [200, 5]]),
        (format!("/api/v1/events?account={B}&subject=7"), [LOST, [200, 1], LOST, [200, 1]]),
        ("/api/v1/events?id=e-3".to_owned(), [NONE, [200, 1], LOST, [200, 1]]),
        (
            "/api/v1/events?id=e-1&eventType=order.shipped&source=shop".to_owned(),
            [[200, 1], NONE, LOST, [200, 1]],
        ),
        (format!("/api/v1/events/{}", event(2)), [[200, 0], LOST, LOST, [200, 0]]),
        (format!("/api/v1/events/{}", event(3)), [LOST, [200, 0], LOST, [200, 0]]),
        (format!("/api/v1/events/{}", event(77)), [LOST, LOST, LOST, LOST]),
        ("/api/v1/events/x".to_owned(), [LOST, LOST, LOST, LOST]),
        ("/api/v1/audit".to_owned(), [[200, 2], [200, 1], LOST, [200, 4]]),
        (format!("/api/v1/audit?account={A}"), [[200, 2], LOST, LOST, [200, 2]]),
        (format!("/api/v1/audit?resource=webhook&id={W3}"), [NONE, [200, 1], LOST, [200, 1]]),
    ];
    for (path, expected) in table {
        for (who, [status, count]) in ["a", "b", "app", "admin"].into_iter().zip(expected) {
            let (found, body) = world.get(who, &path).await;
            assert_eq!(usize::from(found), status, "{who} {path}: {body}");
            let items = ["results", "attemptLog"].iter().find_map(|key| body[key].as_array());
            assert_eq!(items.map_or(0, Vec::len), count, "{who} {path}: {body}");
            if status == 404 {
                // Of what is another's is told what is told of what is not there.
                assert_eq!(body["detail"], "there is no such thing, or it is not yours", "{who} {path}");
            } else if count == 0 && items.is_some() && body.get("moreResults").is_some() {
                assert_eq!(body["next"], json!(null), "{who} {path}: that there is more would be told");
            }
        }
    }
}

#[tokio::test]
async fn scopes_are_needed() {
    let world = World::new().await;
    let show = format!("/api/v1/executions/{}", delivery(1, W1));
    let of = format!("/api/v1/webhooks/{W1}/executions");
    let table = [
        // `reader` has `webhooks:read`, `events` has `events:write`; `support` is bound to nothing and no `admin`.
        ("/api/v1/executions", "reader", 403),
        (&show, "reader", 403),
        (&of, "reader", 403),
        ("/api/v1/events", "reader", 403),
        ("/api/v1/events", "support", 200),
        ("/api/v1/events", "events", 403),
        ("/api/v1/audit", "reader", 200),
        ("/api/v1/audit", "events", 403),
        ("/api/v1/executions", "support", 200),
        ("/api/v1/audit", "support", 403),
        ("/api/v1/executions", "nobody", 401),
        (&show, "nobody", 401),
        (&of, "nobody", 401),
        ("/api/v1/audit", "nobody", 401),
    ];
    for (path, who, status) in table {
        let (found, body) = world.get(who, path).await;
        assert_eq!(found, status, "{who} {path}: {body}");
    }
}

#[tokio::test]
async fn what_happened_lately() {
    let world = World::new().await;
    let (status, all) = world.get("admin", "/api/v1/stats").await;
    assert_eq!(status, 200, "{all}");
    let (_, a) = world.get("a", "/api/v1/stats").await;
    let (_, b) = world.get("b", "/api/v1/stats").await;
    let count = |stats: &serde_json::Value, field: &str| stats["total"][field].as_u64().unwrap();
    for field in ["delivered", "failed", "dead", "skipped"] {
        assert_eq!(count(&all, field), count(&a, field) + count(&b, field), "{field}");
    }
    assert_eq!((count(&b, "delivered"), count(&b, "failed")), (1, 0), "{b}");
    assert_eq!(a["total"]["p50Ms"].as_f64().map(|ms| (10.0..=25.0).contains(&ms)), Some(true), "{a}");
    assert_eq!(a["points"].as_array().map(Vec::len), Some(60));
    assert!(b["failing"].as_array().unwrap().is_empty(), "{b}");
    assert_eq!(a["failing"][0]["webhook"], json!(W2));
    let (status, refused) = world.get("a", "/api/v1/stats?from=2020-01-01T00:00:00Z").await;
    assert_eq!((status, &refused["errors"][0]["field"]), (400, &json!("from")));
}

#[tokio::test]
async fn an_event_with_its_data() {
    let world = World::new().await;
    let (status, found) = world.get("a", &format!("/api/v1/events/{}", event(1))).await;
    let expected = json!({
        "event": event(1), "account": A, "eventType": "order.shipped", "source": "shop", "id": "e-1", "subject": "7",
        "acceptedAt": "2026-01-01T00:00:01.000Z", "recorded": "kept", "time": "2026-01-01T00:00:00Z",
        "origin": "/shop", "extensions": {"region": "eu"}, "contentType": "application/json",
        "data": {"text": "{\"n\":1}", "cut": false},
    });
    assert_eq!((status, &found), (200, &expected));
    // Where its record should be, there is none, or another's.
    for n in [8, 9] {
        let (_, gone) = world.get("a", &format!("/api/v1/events/{}", event(n))).await;
        assert_eq!((&gone["recorded"], &gone["data"]), (&json!("gone"), &json!(null)), "{gone}");
    }
    let (status, refused) = world.get("admin", "/api/v1/events?subject=7").await;
    assert_eq!((status, &refused["errors"][0]["field"]), (400, &json!("subject")), "{refused}");
    let (_, first) = world.get("a", "/api/v1/events?limit=2").await;
    let next = first["next"].as_str().unwrap();
    let (_, second) = world.get("a", &format!("/api/v1/events?limit=2&cursor={next}")).await;
    assert_ne!(first["results"][1], second["results"][0]);
    let (status, _) = world.get("a", &format!("/api/v1/executions?limit=2&cursor={next}")).await;
    assert_eq!(status, 400, "a cursor belongs to its list");
}

#[tokio::test]
async fn an_execution_with_all_that_was_sent_and_received() {
    let world = World::new().await;
    let (_, found) = world.get("a", &format!("/api/v1/executions/{}", delivery(1, W1))).await;
    assert_eq!(found["outcome"], "delivered");
    assert_eq!(found["attempts"], 2);
    let first = &found["attemptLog"][0];
    let expected = json!({
        "number": 1, "at": "2026-01-01T00:00:01.000Z", "startedAt": "2026-01-01T00:00:00.000Z",
        "outcome": "waiting", "reason": null, "due": "2026-01-01T00:00:09.000Z",
        "revision": 4, "status": 503, "failure": null, "recorded": "kept",
        "timings": {"dnsMs": 1.5, "connectMs": null, "tlsMs": null, "firstByteMs": 20.0, "totalMs": 21.25},
        "request": {
            "method": "POST", "url": "https://a.example/hook", "body": {"text": "{\"n\":1}", "cut": false},
            "headers": [{"name": "x-token", "value": "(secret)"}],
        },
        "response": {"status": 503, "headers": [{"name": "server", "value": "x"}], "body": {"base64": "//////8=", "cut": true}},
    });
    assert_eq!(*first, expected);
    // The webhook logs only errors: the success is the end of what is listed, without bodies.
    let second = &found["attemptLog"][1];
    assert_eq!((&second["recorded"], &second["outcome"]), (&json!("withoutBodies"), &json!("delivered")));
    assert_eq!((&second["request"]["body"], &second["response"]["status"]), (&json!(null), &json!(200)));

    let (_, dead) = world.get("a", &format!("/api/v1/executions/{}", delivery(2, W2))).await;
    assert_eq!((&dead["outcome"], &dead["reason"]), (&json!("dead"), &json!("exhausted")));
    let attempt = &dead["attemptLog"][0];
    assert_eq!(attempt["failure"], json!({"kind": "connect", "message": "refused"}));
    assert_eq!(attempt["response"], json!(null));

    let (_, skipped) = world.get("a", &format!("/api/v1/executions/{}", delivery(5, W1))).await;
    assert_eq!((&skipped["outcome"], &skipped["reason"]), (&json!("skipped"), &json!("deleted")));
    let attempt = &skipped["attemptLog"][0];
    assert_eq!((&attempt["recorded"], &attempt["reason"]), (&json!("nothingSent"), &json!("deleted")));
}

#[tokio::test]
async fn what_only_errors_are_logged_of_is_not_listed_when_it_succeeds() {
    let world = World::new().await;
    let path = format!("/api/v1/executions/{}", delivery(6, W2));
    assert_eq!(world.get("a", &path).await.0, 404);
}

/// Retention took one record; at the place of another stands somebody else's, as in a topic that was made anew.
#[tokio::test]
async fn an_attempt_whose_record_is_gone_says_so() {
    let world = World::new().await;
    for event in [7, 8] {
        let (status, found) = world.get("a", &format!("/api/v1/executions/{}", delivery(event, W2))).await;
        assert_eq!(status, 200, "{found}");
        let attempt = &found["attemptLog"][0];
        assert_eq!((&attempt["recorded"], &attempt["status"]), (&json!("gone"), &json!(500)), "{event}");
        assert_eq!((&attempt["request"], &attempt["response"]), (&json!(null), &json!(null)));
        assert_eq!(attempt["timings"]["totalMs"], 21.25);
    }
}

#[tokio::test]
async fn who_changed_what() {
    let world = World::new().await;
    let (_, page) = world.get("admin", "/api/v1/audit?resource=webhook&actor=ann&limit=1").await;
    assert_eq!(page["moreResults"], true);
    let item = &page["results"][0];
    assert_eq!(
        (&item["resource"], &item["id"], &item["action"]),
        (&json!("webhook"), &json!(W3), &json!("update"))
    );
    assert_eq!((&item["before"], &item["after"]), (&json!({"n": 2}), &json!({"n": 3})));
    assert_eq!((&item["at"], &item["revision"]), (&json!("2026-01-01T00:00:03.000Z"), &json!(3)));
    let next = page["next"].as_str().unwrap();
    let path = format!("/api/v1/audit?resource=webhook&actor=ann&limit=1&cursor={next}");
    let (_, page) = world.get("admin", &path).await;
    assert_eq!(page["results"][0]["id"], json!(W1));
    let (status, problem) = world.get("admin", &path.replace("ann", "bob")).await;
    assert_eq!((status, &problem["errors"][0]["field"]), (400, &json!("cursor")));
    let (status, problem) = world.get("admin", "/api/v1/audit?id=7&actor=").await;
    let fields: Vec<_> = problem["errors"].as_array().unwrap().iter().map(|error| &error["field"]).collect();
    assert_eq!((status, fields), (400, vec![&json!("actor"), &json!("id")]));
}

#[tokio::test]
async fn cursors_are_of_their_list() {
    let world = World::new().await;
    let (_, page) = world.get("a", "/api/v1/executions?limit=1&outcome=dead").await;
    let next = page["next"].as_str().unwrap().to_owned();
    let (status, second) =
        world.get("a", &format!("/api/v1/executions?outcome=dead&cursor={next}&limit=9")).await;
    assert_eq!((status, &second["results"].as_array().unwrap().len()), (200, &3));
    let (status, _) =
        world.get("admin", &format!("/api/v1/executions?account={A}&outcome=dead&cursor={next}")).await;
    assert_eq!(status, 400, "its filters are others, though it is the same list");
    let table = [
        ("b", format!("outcome=dead&cursor={next}"), "another account"),
        ("app", format!("outcome=dead&cursor={next}"), "an app of the account"),
        ("admin", format!("outcome=dead&cursor={next}"), "everybody's list"),
        ("a", format!("cursor={next}"), "another filter"),
        ("a", format!("outcome=waiting&cursor={next}"), "another filter"),
        ("a", format!("outcome=dead&cursor={}", &next[..next.len() - 2]), "cut off"),
        ("a", "outcome=dead&cursor=x".to_owned(), "garbage"),
        ("a", format!("outcome=dead&cursor={}", "A".repeat(MAX_CURSOR_BYTES + 1)), "long"),
    ];
    for (who, query, what) in table {
        let (status, problem) = world.get(who, &format!("/api/v1/executions?{query}")).await;
        assert_eq!((status, &problem["errors"][0]["field"]), (400, &json!("cursor")), "{what}: {problem}");
    }
    let path = format!("/api/v1/webhooks/{W2}/executions?outcome=dead&cursor={next}");
    assert_eq!(world.get("a", &path).await.0, 400, "a webhook's list");
    assert_eq!(
        world.get("a", &format!("/api/v1/audit?outcome=dead&cursor={next}")).await.0,
        400,
        "the audit log"
    );
}

#[tokio::test]
async fn without_a_database_it_is_said_so() {
    let world = World::without_index();
    for path in [
        "/api/v1/executions".to_owned(),
        format!("/api/v1/executions/{}", delivery(1, W1)),
        "/api/v1/audit".to_owned(),
    ] {
        let (status, problem) = world.get("a", &path).await;
        assert_eq!((status, &problem["type"]), (503, &json!("/problems/unavailable")), "{path}");
    }
}
