//! kafka-python: a client that is written without Kafka's and without librdkafka's code.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::programs::{Bench, from_environment};

/// Runs a part of the script, which prints one JSON document.
fn script(bench: &Bench, part: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/kafka_python.py");
    let mut command = Command::new(from_environment("HOOKSTREAM_TEST_PYTHON"));
    let said = bench.run(command.arg(path).args([part, &bench.address]), "");
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

#[test]
fn records_are_produced_and_consumed_by_a_group() {
    let bench = Bench::start();
    let expected = json!({
        "offsets": [0, 1, 2],
        "read": [["k0", "v0", [["n", "0"]]], ["k1", "v1", [["n", "1"]]], ["k2", "v2", [["n", "2"]]]],
        "committed": 3,
        "then": ["later"],
        "beginning": 0,
        "end": 4,
    });
    assert_eq!(script(&bench, "group"), expected);
}

#[test]
fn topics_and_groups_are_administered() {
    let bench = Bench::start();
    let expected = json!({
        "listed": ["made"],
        "partitions": 3,
        "retention": "1000",
        "deleted": [],
    });
    assert_eq!(script(&bench, "admin"), expected);
}

#[test]
fn transactions_are_committed_and_aborted() {
    let bench = Bench::start();
    assert_eq!(script(&bench, "transactions"), json!({"committed": ["yes"], "all": ["no", "yes"]}));
}
