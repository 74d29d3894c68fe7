use super::*;

fn no_references(_: Reference<'_>) -> Result<SecretString, String> {
    Err("no references here".to_owned())
}

fn problems(text: &str) -> Vec<String> {
    let problems = Manifest::parse(text, &no_references).unwrap_err();
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn the_quickstart_is_good() {
    let text = include_str!("../../../../docs/examples/quickstart.yaml");
    let manifest = Manifest::parse(text, &no_references).unwrap();
    let webhook = &manifest.webhooks.unwrap()[0];
    assert_eq!(webhook.account, "default");
    assert_eq!(webhook.timeout, Duration::from_secs(5));
    assert_eq!(webhook.rate, Some(100.0));
    assert_eq!(webhook.retry.attempts(), 5);
    assert_eq!(webhook.secrets, None);
    assert_eq!(manifest.event_types.unwrap().len(), 2);
    assert_eq!(manifest.accounts, None);
}

#[test]
fn everything_can_be_said() {
    let text = r#"
accounts: [acme, {name: globex}]
sources:
  - {name: a, topics: ["^shop\\..*$"], format: cloudevents, strict: true}
  - {name: b, topics: [b], format: {type: cloudevents, account: tenant}}
  - name: c
    topics: [c]
    format:
      type: json
      mapping: {id: /id, type: {constant: order.created}, time: {pointer: /at}, account: /tenant, data: /payload}
  - {name: d, topics: [d], format: {type: debezium, mapping: {entity: order, account: {constant: acme}}}}
  - {name: e, topics: [e], format: debezium}
webhooks:
  - account: acme
    name: all
    state: paused
    source: a
    event_types: ["*"]
    url: https://example.com/hook
    method: PUT
    content_type: text/plain; charset=utf-8
    headers: {Authorization: {env: TOKEN}, X-A: b}
    secrets: [{file: new}, whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw]
    retry: [0, 250ms, 2m, 1h, 3d]
    give_up_on: [400, 404]
    timeout: 250ms
    rate: 30/m
    concurrency: 8
    log_only_errors: true
"#;
    let resolve = |reference: Reference<'_>| match reference {
        Reference::Env("TOKEN") => Ok(SecretString::new("Bearer t".into())),
        Reference::File("new") => Ok(SecretString::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSx".into())),
        _ => Err("unexpected".to_owned()),
    };
    let manifest = Manifest::parse(text, &resolve).unwrap();
    assert_eq!(
        manifest.accounts.unwrap().into_iter().map(|account| account.name).collect::<Vec<_>>(),
        ["acme", "globex"]
    );
    let webhook = &manifest.webhooks.unwrap()[0];
    let headers = [("authorization", "Bearer t"), ("x-a", "b")];
    assert_eq!(
        webhook.headers,
        headers.map(|(name, value)| (name.to_owned(), Some(SecretString::new(value.to_owned()))))
    );
    assert_eq!(webhook.secrets.as_ref().unwrap().len(), 2);
    assert_eq!(webhook.rate, Some(0.5));
    assert_eq!(webhook.state, Some(WebhookState::Paused));
    assert_eq!(manifest.sources.unwrap().len(), 5);
}

#[test]
fn all_problems_come_at_once_with_their_places() {
    let text = r#"
acounts: []
sources:
  - {name: a b, topics: [], format: xml}
webhooks:
  - {name: ok, event_types: [a], url: "https://example.com"}
  - {name: ok, event_types: [a], url: "https://example.com"}
  - name: bad
    event_types: ["*.created", 7]
    url: https://user:pw@example.com/
    headers: {Host: x, X-A: {env: NOPE}, x-b: "a\nb"}
    secret: hunter2
    retry: [5 minutes]
    timeout: 5m
    rate: fast
    concurrency: 0
    colour: red
"#;
    let found = problems(text);
    for expected in [
        "acounts: is not known here",
        "sources[0].name: must be 1 to 256 letters",
        "sources[0].topics: must be a list of 1 to",
        "sources[0].format: must be one of `cloudevents`",
        "webhooks[2].event_types[0]: must be an event type",
        "webhooks[2].event_types[1]: must be text: put it in quotes",
        "webhooks[2].url: must not contain a user name",
        "webhooks[2].headers.Host: the name must not be a header that",
        "webhooks[2].headers.X-A: no references here",
        "webhooks[2].headers.x-b: must not contain control",
        "webhooks[2].secret: must be `whsec_`",
        "webhooks[2].retry[0]: must be a duration",
        "webhooks[2].timeout: must be between",
        "webhooks[2].rate: must be a number of requests",
        "webhooks[2].concurrency: must be a whole number between 1 and 1000",
        "webhooks[2].colour: is not known here",
    ] {
        assert!(found.iter().any(|problem| problem.starts_with(expected)), "{expected} in {found:#?}");
    }
    assert!(!found.iter().any(|problem| problem.contains("hunter2")), "secrets are not repeated");
}

#[test]
fn what_comes_twice() {
    let text = r#"
accounts: [a, a]
webhooks:
  - {name: ok, event_types: [a], url: "https://example.com"}
  - {name: ok, event_types: [a], url: "https://example.com"}
"#;
    let found = problems(text);
    assert_eq!(
        found,
        [
            "accounts[1].name: `a` is accounts[0] already",
            "webhooks[1].name: `default/ok` is webhooks[0] already"
        ]
    );
}

/// What is read of the JSON is what is read of the file, and nothing but references is replaced.
#[test]
fn a_file_becomes_a_document_with_values_for_references() {
    let text = r#"
# Comments and anchors are the file's own.
event_types: [{name: a.b, sample: {env: TOKEN, ratio: 1.5, none: ~}}]
authorizations:
  - {name: b, endpoint: "https://b.example", basic: {user: ann, password: {env: TOKEN}}}
  - {name: o, endpoint: "https://b.example", oauth2: {tokenUrl: "https://i.example", client_id: c, client_secret: {file: new}}}
webhooks:
  - name: w
    event_types: &types ["*"]
    url: https://example.com/
    headers: {x-env: {env: TOKEN}, x: {sensitive_value_present: true}}
    secrets: [{value: {file: new}, until: 2030-01-01T00:00:00Z}, {env: TOKEN}]
    signature: none
  - {name: v, event_types: *types, url: "https://example.com/", signature: none, secret: {file: new}}
"#;
    let resolve = |reference: Reference<'_>| match reference {
        Reference::Env("TOKEN") => Ok(SecretString::new("t\\\"1\"".into())),
        Reference::File("new") => Ok(SecretString::new("n3w".into())),
        _ => Err("unexpected".to_owned()),
    };
    let problems = Manifest::to_json(text, &no_references).unwrap_err();
    let places: Vec<_> = problems.iter().map(|problem| problem.place.as_str()).collect();
    assert_eq!(
        places,
        [
            "authorizations[0].basic.password",
            "authorizations[1].oauth2.client_secret",
            "webhooks[0].headers.x-env",
            "webhooks[0].secrets[0].value",
            "webhooks[0].secrets[1]",
            "webhooks[1].secret",
        ]
    );
    let json = Manifest::to_json(text, &resolve).unwrap();
    let document: serde_json::Value = serde_json::from_str(json.expose()).unwrap();
    assert_eq!(document["event_types"][0]["sample"]["env"], "TOKEN");
    assert_eq!(document["webhooks"][0]["headers"]["x-env"], "t\\\"1\"");
    assert_eq!(document["webhooks"][0]["secrets"][0]["value"], "n3w");
    assert_eq!(document["webhooks"][1]["secret"], "n3w");
    assert_eq!(document["authorizations"][1]["oauth2"]["client_secret"], "n3w");
    assert_eq!(Manifest::parse_json(json.expose().as_bytes()), Manifest::parse(text, &resolve));
}

#[test]
fn what_comes_over_a_network_is_strict_json() {
    let problem = |text: &str| Manifest::parse_json(text.as_bytes()).unwrap_err().remove(0).to_string();
    assert!(problem("webhooks: []").starts_with("the document is not JSON"));
    assert!(problem(r#"{"webhooks": [], "webhooks": []}"#).contains("duplicate"));
    let referring = r#"{"webhooks": [{"name": "a", "event_types": ["a"], "url": "https://a.example", "secret": {"env": "HOME"}}]}"#;
    assert_eq!(problem(referring), "webhooks[0].secret: must be text: references are for files");
}

#[test]
fn what_is_no_file() {
    assert!(problems("{")[0].starts_with("the file is not YAML"));
    assert!(problems("- a")[0].starts_with("must be a map with the fields"));
    assert!(problems("webhooks: 3")[0].starts_with("webhooks: must be a list"));
    assert!(problems("webhooks: [3]")[0].starts_with("webhooks[0]: must be a map"));
    assert!(problems("a: 1\na: 2")[0].contains("duplicate"));
}

proptest::proptest! {
    #[test]
    fn garbage_never_panics(text in "[a-z0-9:{}\\[\\],\\- \n\"'&*!|>%@]{0,80}") {
        drop(Manifest::parse(&text, &no_references));
    }

    #[test]
    fn any_value_in_any_field_never_panics(field in "(name|state|event_types|url|headers|secret|retry|rate|timeout|give_up_on)", value in "([0-9.e+-]{1,30}|[a-z0-9/.:]{0,20}|\\[[0-9a-z, ]{0,20}\\]|\\{[a-z]{1,5}: [0-9]{1,3}\\})") {
        drop(Manifest::parse(&format!("webhooks:\n- {field}: {value}\n"), &no_references));
    }
}
