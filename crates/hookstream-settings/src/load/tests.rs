use std::io::Write as _;

use super::*;

const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

fn env(variables: &[(&str, &str)]) -> Map<String, String> {
    let key = [("HOOKSTREAM__SECRETS__KEY", KEY)];
    key.iter().chain(variables).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn with_env(variables: &[(&str, &str)]) -> Result<Settings, Vec<Problem>> {
    Settings::load(None, env(variables))
}

fn with_file(yaml: &str, variables: &[(&str, &str)]) -> Result<Settings, Vec<Problem>> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(yaml.as_bytes()).unwrap();
    Settings::load(Some(file.path()), env(variables)).map_err(|mut problems| {
        let path = file.path().display().to_string();
        for problem in &mut problems {
            problem.key = problem.key.replace(&path, "FILE");
            problem.origin = problem.origin.take().map(|origin| origin.replace(&path, "FILE"));
        }
        problems
    })
}

#[track_caller]
fn problems(result: Result<Settings, Vec<Problem>>) -> String {
    result.unwrap_err().iter().map(|problem| format!("{problem}\n")).collect()
}

#[test]
fn the_defaults_are_valid_and_named_once() {
    let settings = with_env(&[]).unwrap();
    assert_eq!(settings.kafka.bootstrap_servers, "localhost:9092");
    assert_eq!(settings.topics.retry_ladder, hookstream_core::ladder::Ladder::default());
    assert_eq!(settings.sender.user_agent(), concat!("hookstream/", env!("CARGO_PKG_VERSION")));
    insta::assert_snapshot!(settings.to_yaml());
}

#[test]
fn the_later_layer_counts() {
    let file =
        "kafka:\n  bootstrap_servers: [a:1, b:2]\n  client_id: from-file\nsender:\nlog: {format: json}\n";
    let settings = with_file(
        file,
        &[
            ("HOOKSTREAM__KAFKA__CLIENT_ID", "007"),
            ("HOOKSTREAM__TOPICS__RETRY_LADDER", "1s, 10s"),
            ("HOOKSTREAM__TOPICS__PARTITIONS", "12"),
            ("HOOKSTREAM__EGRESS__ALLOW_HTTP", "true"),
            ("HOOKSTREAM__SHUTDOWN__GRACE", "1m30s"),
            ("HOOKSTREAM__OPS__LISTEN", "127.0.0.1:0"),
            ("HOOKSTREAM__LOG__LEVEL", ""),
            ("HOOKSTREAM_SERVICE_HOST", "10.0.0.1"),
        ],
    )
    .unwrap();
    assert_eq!(settings.kafka.bootstrap_servers, "a:1,b:2");
    assert_eq!(settings.kafka.client_id, "007");
    assert_eq!(settings.topics.retry_ladder.rungs().len(), 2);
    assert_eq!(settings.topics.partitions, 12);
    assert!(settings.egress.allow_http);
    assert_eq!(settings.shutdown.grace.as_secs(), 90);
    assert_eq!(settings.log.level, "info");
    assert_eq!(settings.log.format, crate::LogFormat::Json);
}

#[test]
fn properties_keep_their_names_and_stay_secret() {
    let yaml = "kafka:\n  properties:\n    sasl.password: hunter2\n    Security.Protocol: SASL_SSL\n";
    let settings = with_file(yaml, &[]).unwrap();
    let exposed = settings.kafka.exposed_properties();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(exposed, [pair("Security.Protocol", "SASL_SSL"), pair("sasl.password", "hunter2")]);
    for shown in [format!("{settings:?}"), settings.to_yaml()] {
        assert!(!shown.contains("hunter2") && !shown.contains(KEY), "{shown}");
        assert!(shown.contains("sasl.password"), "{shown}");
    }
}

#[test]
fn previous_keys_open_and_stay_secret() {
    let other = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";
    let third = "AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=";
    let both = format!("{other},{third}");
    let settings = with_file("", &[("HOOKSTREAM__SECRETS__PREVIOUS_KEYS", &both)]).unwrap();
    let keys = settings.secrets.key_encryption_keys().unwrap();
    let keys: Vec<_> = keys.iter().map(|key| key.expose()).collect();
    assert_eq!(keys, [KEY, other, third]);
    for shown in [format!("{settings:?}"), settings.to_yaml()] {
        assert!(!shown.contains(other) && !shown.contains(third), "{shown}");
    }
    let short = problems(with_file("", &[("HOOKSTREAM__SECRETS__PREVIOUS_KEYS", "c2hvcnQ=")]));
    assert!(short.contains("`secrets.previous_keys`") && short.contains("it has 5"), "{short}");
    assert!(!short.contains("c2hvcnQ="), "{short}");
    let missing = problems(with_file("secrets:\n  previous_key_files: [/nowhere]\n", &[]));
    assert!(missing.contains("`secrets.previous_key_files`") && missing.contains("/nowhere"), "{missing}");
}

#[test]
fn all_problems_come_at_once() {
    let yaml = "\
kafka:
  bootstrap_servers: nowhere
  brokers: a:1
  namespace: ' '
  properties: {group.id: mine, acks: 1}
topics:
  partitions: many
  replication_factor: 1
  deliveries_retention: 3d
  events_retention: soon
  retry_ladder: 5s,5s
shutdown: 5s
surprise: {}
";
    insta::assert_snapshot!(problems(with_file(
        yaml,
        &[
            ("HOOKSTREAM__KAFKA__GROUP", "x"),
            ("HOOKSTREAM__KAFKA", "x"),
            ("HOOKSTREAM__KAFKA__PROPERTIES__SASL_PASSWORD", "hunter2"),
            ("HOOKSTREAM__NOTHING__HERE", "x"),
            ("HOOKSTREAM__OPS__LISTEN", "9464"),
            ("HOOKSTREAM__SENDER__MAX_IN_FLIGHT_PER_PARTITION", "1001"),
            ("HOOKSTREAM__SENDER__USER_AGENT", "a\r\nb"),
            ("HOOKSTREAM__LOG__FORMAT", "xml"),
            ("HOOKSTREAM__LOG__LEVEL", "loud"),
            ("HOOKSTREAM__SECRETS__KEY_FILE", "/nowhere"),
        ],
    )));
}

#[test]
fn one_value_each() {
    for (variable, value, expected) in [
        ("TOPICS__PARTITIONS", "0", "`topics.partitions` is `0` (in the environment): must be 1 to 4096"),
        ("TOPICS__PARTITIONS", "4097", "must be 1 to 4096"),
        ("TOPICS__PARTITIONS", "-1", "`topics.partitions` is `-1`"),
        ("TOPICS__RETRY_PARTITIONS", "0", "must be 1 to 4096"),
        ("TOPICS__REPLICATION_FACTOR", "1", "`topics.min_insync_replicas` is `2`: must be 1 to"),
        ("TOPICS__MIN_INSYNC_REPLICAS", "0", "must be 1 to `topics.replication_factor` (3)"),
        ("TOPICS__RETRY_RETENTION", "4d11h", "must be 4d12h or more: waiting deliveries would be lost"),
        ("TOPICS__ATTEMPTS_RETENTION", "1d", "decisions would be forgotten"),
        ("TOPICS__RETRY_LADDER", "", ""),
        (
            "TOPICS__RETRY_LADDER",
            "7d",
            "`topics.retry_retention` is `7d`: must be 8d or more: waiting deliveries",
        ),
        ("TOPICS__RETRY_LADDER", "1", "`topics.retry_ladder` is `1` (in the environment): `1` is no time"),
        ("KAFKA__BOOTSTRAP_SERVERS", "a:1,b", "several with commas between"),
        ("KAFKA__BOOTSTRAP_SERVERS", "[::1]:9092", ""),
        ("KAFKA__BOOTSTRAP_SERVERS", "::1:9092", "must be HOST:PORT"),
        ("KAFKA__NAMESPACE", "a/b", "topics are named after it"),
        ("SHUTDOWN__GRACE", "2h", "must be 1s to 1h"),
        ("LOG__LEVEL", "info,hookstream_log=debug", ""),
        ("LOG__LEVEL", "info,=debug", "must be error, warn"),
        (
            "SECRETS__KEY",
            "AAAA",
            "`secrets.key` (in the environment): must be 32 bytes in base64, and it has 3",
        ),
        ("SECRETS__KEY", "hunter2!", "it is no base64"),
        ("SECRETS__KEY", "", "`secrets.key`: not given, and neither is `secrets.key_file`"),
    ] {
        let mut variables = env(&[]);
        variables.insert(format!("HOOKSTREAM__{variable}"), value.to_owned());
        match Settings::load(None, variables) {
            Ok(_) => assert_eq!(expected, "", "{variable}={value} is taken"),
            Err(found) => {
                assert_eq!(found.len(), 1, "{found:?}");
                let shown = found[0].to_string();
                assert!(!expected.is_empty() && shown.contains(expected), "{variable}={value}: {shown}");
                assert!(!shown.contains("hunter2"), "{shown}");
            }
        }
    }
}

#[test]
fn a_file_that_cannot_be_read_is_a_problem_among_others() {
    let result =
        Settings::load(Some(Path::new("/nowhere.yaml")), env(&[("HOOKSTREAM__TOPICS__PARTITIONS", "0")]));
    let found = problems(result);
    assert!(found.starts_with("`/nowhere.yaml`: could not read the settings file: "), "{found}");
    assert!(found.contains("topics.partitions"), "{found}");
    let found = problems(with_file("kafka: [", &[]));
    assert!(found.starts_with("`FILE`: is no YAML settings file: "), "{found}");
}

#[test]
fn the_key_can_come_from_a_file_and_commands_need_none() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "{KEY}").unwrap();
    let path = file.path().display().to_string();
    let variables = Map::from_iter([("HOOKSTREAM__SECRETS__KEY_FILE".to_owned(), path)]);
    let settings = Settings::load(None, variables).unwrap();
    assert_eq!(settings.secrets.key_encryption_keys().unwrap()[0].expose(), KEY);
    assert!(Settings::load_without_key(None, Map::new()).is_ok());
}

const SIGN_IN: &str = "\
api:
  issuers:
    - {issuer: 'https://id.example', audience: hookstream, jwks_url: 'https://id.example/jwks'}
  sign_in:
    name: Example
    issuer: https://id.example
    authorization_url: https://id.example/authorize
    token_url: https://id.example/token
    client_id: console
    client_secret: hunter2
";

#[test]
fn people_sign_in_elsewhere() {
    let settings = with_file(SIGN_IN, &[]).unwrap();
    let sign_in = settings.api.sign_in.clone().unwrap();
    assert_eq!((sign_in.scopes.as_str(), sign_in.lifetime.as_secs()), ("openid profile", 12 * 3600));
    assert_eq!(sign_in.read_client_secret().unwrap().unwrap().expose(), "hunter2");
    for shown in [format!("{settings:?}"), settings.to_yaml()] {
        assert!(!shown.contains("hunter2") && shown.contains("console"), "{shown}");
    }
    // What is printed is read again.
    assert!(with_file(&settings.to_yaml().replace("(secret)", KEY), &[]).is_ok());

    let found = problems(with_file("api: {sign_in: {}}", &[]));
    for key in ["name", "issuer", "authorization_url", "token_url", "client_id"] {
        assert!(found.contains(&format!("`api.sign_in.{key}`")), "{key}: {found}");
    }
    for (from, to, expected) in [
        ("id.example\n    auth", "id.example/\n    auth", "must be the `issuer` of one of `api.issuers`"),
        ("https://id.example/authorize", "/authorize", "`api.sign_in.authorization_url` is `/authorize`"),
        ("https://id.example/token", "https://id.example/token#a", "without `#`"),
        ("client_id: console", "client_id: ' '", "`api.sign_in.client_id`: must be given"),
        ("hunter2", "hunter2\n    client_secret_file: /nowhere", "`api.sign_in.client_secret` is given too"),
        ("hunter2", "hunter2\n    scopes: profile", "must have `openid`"),
        ("hunter2", "hunter2\n    grants: [all]", "`api.sign_in.grants` is `all`: must be of"),
        ("hunter2", "hunter2\n    lifetime: 13h", "must be 1m to 12h"),
        ("hunter2", "hunter2\n    lifetime: long", "`long` is no time"),
        ("hunter2", "hunter2\n    audience: a", "unknown field `audience`"),
    ] {
        assert!(SIGN_IN.contains(from), "{from}");
        let found = problems(with_file(&SIGN_IN.replace(from, to), &[]));
        assert!(found.contains(expected) && !found.contains("hunter2"), "{to}: {found}");
    }
    let text = problems(with_file("", &[("HOOKSTREAM__API__SIGN_IN", "hunter2")]));
    assert!(text.contains("`api.sign_in`") && !text.contains("is `hunter2`"), "{text}");
}
