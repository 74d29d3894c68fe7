//! `hookstream apply` and `hookstream export`, which call the API.

use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;

use hookstream_e2e::{Answer, Caller, Outcome, Receiver, SOON, Service, free_address, wait_until};
use serde_json::json;

/// What an installation is given; `{url}` is its receiver's.
const FILE: &str = r#"
# Everything that a file can have.
accounts:
  - {name: acme, verification: none}
  - globex
sources: [{name: shop, topics: [shop.orders], format: {type: cloudevents, account: tenant}}]
event_types:
  - {name: order.created, description: "yes", sample: {env: PATH, ratio: 1.0}, schema: {type: object}}
  - order.paid
apps: [{account: acme, name: calendar, scopes: [b, a]}]
authorizations:
  - {account: acme, name: crm, endpoint: "{url}", header: {name: X-Key, value: {file: key.txt}}}
  - {account: acme, name: open, endpoint: "{url}", header: {name: X-Key, value: seen, visibility: PUBLIC}}
webhooks:
  - {account: globex, name: pinged, event_types: ["*"], url: "{url}/pinged"}
  - account: acme
    name: all
    app: calendar
    source: shop
    event_types: [order.*]
    url: "{url}/all"
    authorization: crm
    headers: {X-A: {env: HEADER}}
    retry: [0s, 250ms, 24h]
    rate: 20/m
    secret: {env: SECRET}
"#;
const SECRETS: [(&str, &str); 2] =
    [("SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), ("HEADER", "he4der-canary")];
const KEY: &str = "k3y-canary";

/// `hookstream dev`, and a directory that commands are run in.
struct Installation {
    dev: Service,
    dir: tempfile::TempDir,
}

impl Installation {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let data = dir.path().join(".hookstream").display().to_string();
        let kafka = free_address().to_string();
        let args = ["dev", "--kafka-listen", &kafka, "--data-dir", &data];
        let mut dev = Service::alone(&args, dir.path().join("log"));
        wait_until("hookstream is ready", SOON, || {
            assert!(dev.exited().is_none(), "dev gave up:\n{}", dev.log_tail());
            dev.log().lines().any(|line| line.starts_with("hookstream is ready"))
        });
        let installation = Self { dev, dir };
        installation.write("key.txt", KEY);
        installation
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("a file in a temporary directory");
    }

    fn url(&self) -> String {
        format!("http://{}", self.dev.api())
    }

    /// Runs a command in its directory, where the token of `dev` is found, for its API.
    fn hookstream(&self, args: &[&str]) -> Outcome {
        self.with(&[], args)
    }

    fn with(&self, variables: &[(&str, &str)], args: &[&str]) -> Outcome {
        let url = self.url();
        let variables = [&[("HOOKSTREAM__API__URL", url.as_str())], &SECRETS[..], variables].concat();
        Outcome::within(self.dir.path(), &variables, args, Stdio::null())
    }
}

#[track_caller]
fn expect(outcome: &Outcome, code: i32, parts: &[&str]) {
    assert_eq!(outcome.code, Some(code), "{outcome}");
    for part in parts {
        assert!(outcome.stdout.contains(part) || outcome.stderr.contains(part), "no `{part}`: {outcome}");
    }
}

/// What one installation exports is what another has after applying it, and what it exports then.
#[test]
fn the_round_trip_is_the_identity() {
    let (one, other) = (Installation::start(), Installation::start());
    let receiver = Receiver::start();
    let text = FILE.replace("{url}", &receiver.url(""));
    one.write("file.yaml", &text);

    let dry = one.hookstream(&["apply", "-f", "file.yaml", "--dry-run"]);
    expect(&dry, 2, &["+ webhook acme/all", "+ webhook globex/pinged", "nothing was changed"]);
    assert_eq!(receiver.seen(|seen| seen.total()), 0);
    let applied = one.hookstream(&["apply", "-f", "file.yaml"]);
    expect(&applied, 0, &["+ authorization acme/crm", "applied", "the signing secret of globex/pinged"]);
    assert!(!applied.stdout.contains("signing secret of acme/all"), "{applied}");
    assert_eq!(receiver.seen(|seen| (seen.of_path("/pinged"), seen.of_path("/all"))), (1, 0));
    expect(&one.hookstream(&["apply", "-f", "file.yaml"]), 0, &["nothing to change"]);
    let changed = text.replace("20/m", "5");
    one.write("changed.yaml", &changed);
    expect(
        &one.hookstream(&["apply", "-f", "changed.yaml", "--dry-run"]),
        2,
        &["~ webhook acme/all\n    rate: "],
    );

    let exported = one.hookstream(&["export"]);
    expect(&exported, 0, &["# Secrets are not in it", "sensitive_value_present: true"]);
    for secret in [KEY, SECRETS[0].1, SECRETS[1].1] {
        assert!(!exported.stdout.contains(secret), "`{secret}` is in {exported}");
    }
    expect(&one.hookstream(&["export", "-o", "export.yaml"]), 0, &[]);
    let written = std::fs::read_to_string(one.path("export.yaml")).expect("it was written");
    assert_eq!(written, exported.stdout);
    for more in [&[][..], &["--prune"]] {
        let again = one.hookstream(&[&["apply", "-f", "export.yaml", "--dry-run"], more].concat());
        expect(&again, 0, &["nothing to change"]);
    }

    let file = File::open(one.path("export.yaml")).expect("it was written");
    let piped = ["apply", "-f", "-", "--dry-run", "--api", &one.url()];
    expect(&Outcome::within(one.dir.path(), &[], &piped, file.into()), 0, &["nothing to change"]);

    // Elsewhere there are no secrets that could stay.
    other.write("export.yaml", &written);
    let refused = other.hookstream(&["apply", "-f", "export.yaml"]);
    expect(
        &refused,
        64,
        &[
            "- authorizations[0].header.value: there is no value",
            "- webhooks[0].headers.x-a: there is no value",
        ],
    );
    let (kept, given) = ("  sensitive_value_present: true", ["  file: key.txt", "  env: HEADER"]);
    other.write("export.yaml", &written.replacen(kept, given[0], 1).replacen(kept, given[1], 1));
    let applied = other.hookstream(&["apply", "-f", "export.yaml", "--prune"]);
    expect(&applied, 0, &["the signing secret of acme/all", "the signing secret of globex/pinged"]);
    assert_eq!(other.hookstream(&["export"]).stdout, written);
}

/// Each mistake has a message that names it, and an exit code.
#[test]
fn what_goes_wrong_is_said() {
    let at = Installation::start();
    let receiver = Receiver::start();
    at.write("good.yaml", "event_types: [order.paid]");
    let apply = |file: &str| at.hookstream(&["apply", "-f", file]);

    at.write(
        "bad.yaml",
        "webhooks:\n  - {name: a, url: ftp://x, event_types: [7]}\n  - {name: b, secret: {env: NO_SUCH}}\n",
    );
    let places = [
        "`bad.yaml` can't be applied",
        "- webhooks[0].url: ",
        "- webhooks[0].event_types[0]: ",
        "- webhooks[1].secret: environment variable `NO_SUCH`",
    ];
    expect(&apply("bad.yaml"), 64, &places);
    expect(&apply("nosuch.yaml"), 64, &["could not read `nosuch.yaml`"]);
    // Only the API knows what there is, and what endpoints say.
    at.write("lost.yaml", "webhooks: [{name: a, account: nosuch, url: https://a.example, event_types: [a]}]");
    expect(&apply("lost.yaml"), 64, &["- webhooks[0].account: "]);
    receiver.on("/broken", Answer::status(500));
    let pinged =
        |name: &str| json!({ "name": name, "url": receiver.url(&format!("/{name}")), "event_types": ["a"] });
    at.write("broken.yaml", &json!({ "webhooks": [pinged("good"), pinged("broken")] }).to_string());
    let unverified = apply("broken.yaml");
    expect(&unverified, 1, &["- webhooks[1]: ", "500"]);
    assert!(!unverified.stderr.contains("webhooks[0]"), "{unverified}");
    let caller = Caller { addr: at.dev.api(), token: Some(at.token()) };
    assert_eq!(
        caller.get("/api/v1/webhooks").expect(200).json()["results"],
        json!([]),
        "nothing of it was made"
    );

    let wrong = at.with(&[("HOOKSTREAM_TOKEN", "hsa_wrong-and-long-enough")], &["apply", "-f", "good.yaml"]);
    expect(&wrong, 64, &["does not take the token in HOOKSTREAM_TOKEN"]);
    assert!(!wrong.stderr.contains("hsa_wrong"), "{wrong}");
    // Also where the connection breaks before all of it is sent.
    at.write(
        "large.yaml",
        &format!("#\naccounts: [{{name: a}}]\nevent_types: [{{name: a, sample: {:?}}}]", "x".repeat(8 << 20)),
    );
    let wrong = at.with(&[("HOOKSTREAM_TOKEN", "hsa_wrong-and-long-enough")], &["apply", "-f", "large.yaml"]);
    expect(&wrong, 64, &["does not take the token in HOOKSTREAM_TOKEN"]);
    let (limited, secret) = at.client();
    let bound = at.with(&[("HOOKSTREAM_TOKEN", &limited)], &["export"]);
    expect(&bound, 64, &["the token in HOOKSTREAM_TOKEN may not do this"]);
    assert!(!bound.stderr.contains(&secret), "{bound}");
    expect(&at.hookstream(&["export", "--token-file", "nosuch"]), 64, &["could not read `nosuch`"]);
    // The development token is for this machine.
    expect(
        &at.hookstream(&["export", "--api", "https://hooks.example"]),
        64,
        &["an operator's token is needed"],
    );

    expect(&at.hookstream(&["export", "--api", "hooks.example"]), 64, &["is no URL of an API"]);
    let other = receiver.url("");
    expect(&at.hookstream(&["export", "--api", &other]), 1, &[]);
    receiver.on("/api/v1/export", Answer::status(404));
    expect(&at.hookstream(&["export", "--api", &other]), 64, &["404", "not as hookstream's API does"]);
    let nobody = format!("http://{}", free_address());
    for args in [&["export"][..], &["apply", "-f", "good.yaml"]] {
        let absent = at.hookstream(&[args, &["--api", &nobody]].concat());
        expect(&absent, 69, &["no API answers at", &nobody, "--api URL"]);
    }
    expect(&at.hookstream(&["apply", "-f", "good.yaml"]), 0, &["applied"]);
}

impl Installation {
    fn token(&self) -> String {
        let token =
            std::fs::read_to_string(self.path(".hookstream/admin-token")).expect("dev keeps its token");
        token.trim().to_owned()
    }

    /// A token that may not do everything, and its client's secret.
    fn client(&self) -> (String, String) {
        let admin = Caller { addr: self.dev.api(), token: Some(self.token()) };
        let document = json!({ "name": "c", "scopes": ["webhooks:read"] });
        let created = admin.post("/api/v1/clients", &document).expect(201).json();
        let text = |name: &str| created[name].as_str().unwrap_or_else(|| panic!("{created}")).to_owned();
        let form = [("content-type", "application/x-www-form-urlencoded")];
        let (id, secret) = (text("id"), text("clientSecret"));
        let body = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
        let granted =
            Caller { token: None, ..admin }.call("POST", "/oauth/token", &form, &body).expect(200).json();
        (granted["access_token"].as_str().expect("a token").to_owned(), secret)
    }
}
