//! A client that is generated from the description that the API serves, by a common generator, and used.

use std::path::Path;
use std::process::Command;

use hookstream_e2e::{Answer, package};
use serde_json::{Value, json};
use xtask::python::TEST_OPENAPI;

use crate::api::{Api, text};

/// A Python with the generator.
fn python() -> Command {
    Command::new(package(TEST_OPENAPI))
}

/// Runs a program to its good end. Returns what it said.
#[track_caller]
fn run(command: &mut Command) -> (String, String) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    let said = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (said(&output.stdout), said(&output.stderr));
    assert!(output.status.success(), "{command:?} ended with {}\n{stdout}\n{stderr}", output.status);
    (stdout, stderr)
}

/// Requirements: a client that is generated from the served description lists, creates and deletes a webhook.
#[test]
fn a_generated_client_manages_webhooks() {
    let api = Api::start();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| dir.path().join(name);
    let served = api.admin.get("/api/v1/openapi.json").expect(200);
    std::fs::write(path("openapi.json"), &served.body).expect("a file in a temporary directory");

    run(python().args(["-m", "openapi_spec_validator", "--schema", "3.1"]).arg(path("openapi.json")));
    std::fs::write(path("generator.yaml"), "post_hooks: []\n").expect("a file in a temporary directory");
    let (stdout, stderr) = run(python()
        .args(["-m", "openapi_python_client", "generate", "--meta", "none", "--fail-on-warning"])
        .arg("--path")
        .arg(path("openapi.json"))
        .arg("--config")
        .arg(path("generator.yaml"))
        .arg("--output-path")
        .arg(path("hookstream_client")));
    let warned = [&stdout, &stderr].into_iter().any(|said| said.to_lowercase().contains("warning"));
    assert!(!warned, "{stdout}\n{stderr}");

    api.account("acme");
    let scopes = ["webhooks:read", "webhooks:write", "events:write", "history:read"];
    let client = json!({ "name": "generated", "account": "acme", "scopes": scopes });
    let client = api.admin.post("/api/v1/clients", &client).expect(201).json();
    api.receiver.on("/in", Answer::status(200));
    api.receiver.on("/in/refuses", Answer::status(500));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/generated_client.py");
    let (said, _) = run(python()
        .arg(script)
        .arg(format!("http://{}", api.admin.addr))
        .args([text(&client["id"]), text(&client["clientSecret"]), api.receiver.url("/in")])
        .env("PYTHONPATH", dir.path())
        .env("PYTHONDONTWRITEBYTECODE", "1"));
    let seen: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));

    let problem =
        |kind: &str, fields: &[&str]| json!({ "type": format!("/problems/{kind}"), "fields": fields });
    let expected = json!({
        "refused": "invalid_client",
        "webhooks": {
            "created": ["mine", "published", ["order.*"], true],
            "listed": ["mine", "other"],
            "updated": ["for the warehouse", 5.0, 2],
            "replaced": [7, "for the warehouse"],
            "tested": [true, 200],
            "invalid": problem("invalid-request", &["/eventTypes", "/url"]),
            "stale": problem("changed", &[]),
            "unverified": [problem("endpoint-not-verified", &[]), 500],
            "conflict": problem("conflict", &[]),
            "unauthenticated": problem("unauthenticated", &[]),
            "deleted": 204,
            "missing": problem("not-found", &[]),
        },
        "events": {
            "accepted": ["order.created", "order.paid"],
            "executions": [["order.created", "delivered", 200, 1], ["order.paid", "delivered", 200, 1]],
            "attempts": [[1, "kept", "POST", 200], [1, "kept", "POST", 200]],
        },
    });
    assert_eq!(seen, expected, "{seen:#}");

    // Requests are counted by their routes' templates, and no path is in a label.
    let id = text(&client["id"]);
    api.admin.get(&format!("/api/v1/clients/{id}")).expect(200);
    let metrics = api.dev.metrics();
    let counted = |label: &str| metrics.sum_with("hookstream_api_requests_total", label);
    assert_eq!(counted(r#"method="PATCH",route="/api/v1/webhooks/{id}",status="200""#), Some(1.0));
    assert_eq!(counted(r#"method="PATCH",route="/api/v1/webhooks/{id}",status="412""#), Some(1.0));
    assert_eq!(counted(r#"method="GET",route="/api/v1/clients/{id}",status="200""#), Some(1.0));
    assert_eq!(counted(&id), None, "{metrics:?}");
}
