//! Filters and pages.

use super::world::*;

/// The numbers of the events of the executions that account A finds.
async fn events(world: &World, query: &str) -> Vec<u64> {
    let (status, page) = world.get("a", &format!("/api/v1/executions?{query}")).await;
    assert_eq!(status, 200, "{query}: {page}");
    page["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| number_of(item["event"].as_str().unwrap()))
        .collect()
}

#[tokio::test]
async fn filters_are_all_to_match() {
    let world = World::new().await;
    let table: &[(&str, &[u64])] = &[
        ("", &[8, 7, 5, 4, 2, 1]),
        ("outcome=dead", &[8, 7, 4, 2]),
        ("outcome=delivered", &[1]),
        ("outcome=skipped", &[5]),
        ("outcome=waiting", &[]),
        ("status=404", &[4]),
        ("status=4xx", &[4]),
        ("status=5xx", &[8, 7]),
        ("status=200&outcome=delivered", &[1]),
        ("failure=connect", &[2]),
        ("failure=tls", &[]),
        ("eventType=order.paid", &[8, 4, 2]),
        ("eventType=order.paid&outcome=dead&status=5xx", &[8]),
        ("eventType=none", &[]),
        ("from=2026-01-01T00:00:05Z", &[8, 7, 5]),
        ("from=2026-01-01T00:00:04Z&to=2026-01-01T01:00:06%2B01:00", &[5, 4]),
        ("to=2026-01-01T00:00:02Z", &[1]),
    ];
    for (query, expected) in table {
        assert_eq!(events(&world, query).await, *expected, "{query}");
    }
}

#[tokio::test]
async fn pages_follow_each_other() {
    let world = World::new().await;
    for (who, count) in [("a", 6), ("app", 2), ("b", 1), ("admin", 7)] {
        for limit in 1..5 {
            let (mut seen, mut cursor) = (Vec::new(), String::new());
            loop {
                let path = format!("/api/v1/executions?limit={limit}{cursor}");
                let (status, page) = world.get(who, &path).await;
                assert_eq!(status, 200, "{page}");
                let results = page["results"].as_array().unwrap();
                assert!(results.len() <= limit);
                seen.extend(results.iter().map(|item| item["deliveryId"].as_str().unwrap().to_owned()));
                assert_eq!(page["moreResults"], page["next"].is_string());
                let Some(next) = page["next"].as_str() else { break };
                cursor = format!("&cursor={next}");
            }
            let mut once = seen.clone();
            once.sort_unstable();
            once.dedup();
            assert_eq!((seen.len(), once.len()), (count, count), "{who} {limit}");
        }
    }
}

#[tokio::test]
async fn every_bad_parameter_is_named() {
    let world = World::new().await;
    let query = "account=1&webhook=x&event=&eventType=&outcome=lost&status=6xx&failure=no&from=1&to=2&limit=101&cursor=&x=1&x=2";
    let (status, problem) = world.get("a", &format!("/api/v1/executions?{query}")).await;
    assert_eq!((status, problem["type"].as_str()), (400, Some("/problems/invalid-request")));
    let mut fields: Vec<&str> =
        problem["errors"].as_array().unwrap().iter().map(|error| error["field"].as_str().unwrap()).collect();
    fields.sort_unstable();
    let expected = [
        "account",
        "cursor",
        "event",
        "eventType",
        "failure",
        "from",
        "limit",
        "outcome",
        "status",
        "to",
        "webhook",
        "x",
        "x",
    ];
    assert_eq!(fields, expected);
    let path = format!("/api/v1/webhooks/{W1}/executions?webhook={W2}");
    assert_eq!(world.get("a", &path).await.0, 400, "the path says which");
}
