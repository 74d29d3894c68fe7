//! What the development broker does otherwise than Kafka, on purpose: each difference is in this table, in
//! `docs/devbroker.md`, and in a test that names it.

use std::collections::BTreeSet;

use crate::broker::broker;

/// Each has its section of this name in the document.
pub const LIMITS: &[&str] = &[
    "consumer group protocol",
    "fetch sessions",
    "metadata in bytes",
    "offsets that are only held",
    "one broker",
    "settings of the broker",
    "transactions, version 2",
];

/// What is expected where the two differ.
pub fn differs<T>(limit: &str, kafka: T, embedded: T) -> T {
    assert!(LIMITS.contains(&limit), "`{limit}` is not in the table of limits");
    if broker().embedded().is_some() { embedded } else { kafka }
}

/// Where the differences are tested.
const TESTS: &[&str] = &[
    include_str!("cluster.rs"),
    include_str!("commits.rs"),
    include_str!("configs.rs"),
    include_str!("fetch.rs"),
    include_str!("group_admin.rs"),
    include_str!("transactions.rs"),
    include_str!("txn_offsets.rs"),
];

#[test]
fn each_limit_is_shown_by_a_test() {
    for limit in LIMITS {
        let shown = format!("limits::differs(\"{limit}\"");
        assert!(TESTS.iter().any(|test| test.contains(&shown)), "no test shows `{limit}`");
    }
}

#[test]
fn each_limit_is_documented_and_nothing_else_is() {
    const DOCUMENT: &str = include_str!("../../../../docs/devbroker.md");
    let (_, section) =
        DOCUMENT.split_once("## Differences from Kafka").expect("the document has the section");
    let section = section.split("\n## ").next().unwrap();
    let documented: BTreeSet<&str> = section
        .lines()
        .filter_map(|line| line.strip_prefix("- **")?.split_once(":**"))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(documented, LIMITS.iter().copied().collect());
}
