//! What endpoints answer: the corpus of hostile answers, from the API through the sender to the history.

use std::net::TcpListener;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hookstream_e2e::{Answer, Authority, Behaviour, Receiver, SOON, Then, TlsReceiver, wait_for, wait_until};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::api::text;
use crate::egress::{CANARY, cases};
use crate::tls::{EXPIRED, MISTAKEN, Partners};

const ANSWERS: &str = include_str!("../../../corpus/endpoint_response.json");

/// The proxies that programs look for in their environment.
const PROXIES: [&str; 6] =
    ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
/// For cases that run into it: long enough that a busy machine gets as far as the case wants to.
const SHORT: &str = "3s";
const HOUR: SignedDuration = SignedDuration::from_hours(1);
const DAY: SignedDuration = SignedDuration::from_hours(24);

fn unhex(text: &str) -> Vec<u8> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16);
    text.as_bytes().chunks(2).map(|pair| byte(pair).expect("hexadecimal")).collect()
}

/// What a receiver does for a case.
fn behaviour(input: &Value) -> Behaviour {
    if let Some(raw) = input["raw"].as_str() {
        // It is the sender's turn to close.
        return Behaviour::raw(raw.to_owned(), Then::KeepAlive);
    }
    match input["behaviour"].as_str() {
        None => {}
        Some("accept TCP, never answer") => return Behaviour::Hang,
        Some("1 header byte every 5 s") => {
            let bytes = "HTTP/1.1 200 OK\r\nx: yyyyyyyyyyyyyyyy".into();
            return Behaviour::Raw { bytes, byte_every: Some(Duration::from_secs(5)), then: Then::Hang };
        }
        Some(other) => panic!("unknown: {other}"),
    }
    let status = input["status"].as_u64().unwrap_or(200);
    let mut answer = Answer::status(u16::try_from(status).expect("a status"));
    for (name, value) in input["headers"].as_object().into_iter().flatten() {
        answer = answer.header(name, &text(value));
    }
    match (input["body"].as_str(), input["body_hex"].as_str(), input["body_rate"].as_str()) {
        (None, None, None) => answer,
        // Where nothing is inflated a bomb is just more than anyone reads.
        (Some("brotli bomb"), None, None) => answer.endless_body(),
        (Some(body), None, None) => answer.body(body.to_owned()),
        (None, Some(hex), None) => answer.body(unhex(hex)),
        (None, None, Some("1 byte/s")) => answer.slow_body(Duration::from_secs(1)),
        other => panic!("unknown: {other:?}"),
    }
    .into()
}

/// Everything that the cases lead to.
struct Endpoints {
    /// Of raw bytes.
    broken: Receiver,
    /// Connections stand, and nobody ever says anything.
    stalled: TcpListener,
    authority: Authority,
    expired: TlsReceiver,
    mistaken: TlsReceiver,
}

impl Endpoints {
    fn start() -> Self {
        let authority = Authority::named("Partner");
        Self {
            broken: Receiver::start(),
            stalled: TcpListener::bind("127.0.0.1:0").expect("a free port"),
            expired: TlsReceiver::start(&authority.certify_until(EXPIRED, 2020), None),
            mistaken: TlsReceiver::start(&authority.certify("www.partner.example"), None),
            authority,
        }
    }

    /// The webhook of a case: its id, once its endpoint is there.
    fn webhook(&self, partners: &Partners, case: &Value) -> String {
        let (id, input) = (text(&case["id"]), &case["input"]);
        let path = format!("/{id}");
        let mut more = json!({ "eventTypes": ["first.sent"] });
        if case["expect"] == "success" || case["expect"] == "disable_endpoint" {
            more["eventTypes"] = json!(["first.sent", "second.sent"]);
        }
        if input["behaviour"].is_string() || input["body_rate"].is_string() {
            more["timeout"] = json!(SHORT);
        }
        if input["tls"].is_string() {
            more["tls"] = json!({ "ca": self.authority.pem() });
        }
        let url = match (input["tls"].as_str(), input["behaviour"].as_str()) {
            (Some("expired"), _) => self.expired.url(EXPIRED, &path),
            (Some("wrong host"), _) => self.mistaken.url(MISTAKEN, &path),
            (Some(other), _) => panic!("unknown: {other}"),
            (None, Some("TLS handshake stalls")) => {
                format!("https://{}{path}", self.stalled.local_addr().expect("its own address"))
            }
            (None, _) => {
                let receiver = if input["raw"].is_string() { &self.broken } else { &partners.stack.receiver };
                receiver.on(&path, behaviour(input));
                receiver.url(&path)
            }
        };
        partners.webhook(&id, &url, &more)
    }
}

/// What the history says of a case, as it must.
fn check(case: &Value, execution: &Value, sent: Timestamp) {
    let (input, attempt) = (&case["input"], &execution["attemptLog"][0]);
    let (status, body) = (&attempt["status"], &attempt["response"]["body"]);
    assert_eq!((&execution["attempts"], &attempt["number"]), (&json!(1), &json!(1)), "{case}: {execution}");
    let due = || {
        assert_eq!(execution["outcome"], "waiting", "{case}: {execution}");
        text(&execution["due"]).parse::<Timestamp>().expect("a time")
    };
    let answered = || assert_eq!((status, &attempt["failure"]), (&input["status"], &Value::Null), "{case}");
    let failed = |kind: &str| {
        assert_eq!(
            (&execution["failure"], &attempt["failure"]["kind"]),
            (&json!(kind), &json!(kind)),
            "{case}"
        );
        assert!(attempt["failure"]["message"].as_str().is_some_and(|said| !said.is_empty()), "{execution}");
        assert_eq!((status, &attempt["response"]), (&Value::Null, &Value::Null), "{case}: {execution}");
    };
    let delivered = |cut: bool| {
        assert_eq!(
            (&execution["outcome"], status),
            (&json!("delivered"), &json!(200)),
            "{case}: {execution}"
        );
        assert_eq!(body["cut"].as_bool().unwrap_or(false), cut, "{case}: {execution}");
    };
    match text(&case["expect"]).as_str() {
        "fail_no_follow" => {
            due();
            answered();
        }
        "fail_delivery" => {
            due();
            if input["behaviour"].is_string() {
                failed("timeout");
            } else if input["tls"].is_string() {
                failed("tls");
            } else {
                answered();
            }
        }
        "fail_or_close" => {
            due();
            failed("protocol");
        }
        "retry_clamped" => {
            answered();
            // A number is made of digits; what is none says nothing, and the webhook's own schedule holds.
            let is_date =
                input["headers"]["Retry-After"].as_str().is_some_and(|value| value.ends_with("GMT"));
            let least = if is_date { DAY } else { HOUR };
            let due = due();
            assert!(due >= sent + least && due <= Timestamp::now() + DAY, "{case}: {execution}");
        }
        "disable_endpoint" => {
            answered();
            let ended = (&execution["outcome"], &execution["reason"]);
            assert_eq!(ended, (&json!("dead"), &json!("gone")), "{case}: {execution}");
        }
        "success" => {
            delivered(false);
            if let Some(hex) = input["body_hex"].as_str() {
                assert_eq!(body["base64"], STANDARD.encode(unhex(hex)), "{case}: {execution}");
            }
        }
        "success_escaped" => {
            delivered(false);
            assert_eq!(body["text"], input["body"], "{case}: {execution}");
        }
        "success_truncated" => delivered(true),
        "env_ignored" => delivered(false),
        other => panic!("unknown: {other}"),
    }
}

#[test]
fn every_answer_of_the_corpus() {
    let all = cases(ANSWERS);
    let of = |expect: &str| -> Vec<&Value> { all.iter().filter(|case| case["expect"] == expect).collect() };
    let proxy = Receiver::start();
    let proxy_url = proxy.url("");
    let variables = PROXIES.map(|name| (name, proxy_url.as_str()));
    for case in of("env_ignored") {
        let named = case["input"]["proxy_env"].as_object().expect("variables");
        assert!(named.keys().all(|name| PROXIES.contains(&name.as_str())), "{case}");
    }
    // It listens from here on, before anybody is led to it.
    assert_eq!(CANARY.seen(), 0);
    let partners = Partners::start("answers", &variables);
    let (admin, receiver) = (&partners.admin, &partners.stack.receiver);
    let endpoints = Endpoints::start();
    let webhooks: Vec<String> = all.iter().map(|case| endpoints.webhook(&partners, case)).collect();

    let sent = Timestamp::now();
    partners.send("first.sent");
    for (case, webhook) in all.iter().zip(&webhooks) {
        check(case, &partners.execution(webhook, "first.sent"), sent);
    }
    // Each was asked once, and what an answer wanted besides was not done.
    let is_plain = |case: &Value| {
        let input = &case["input"];
        input["raw"].is_null() && input["tls"].is_null() && input["behaviour"] != "TLS handshake stalls"
    };
    for case in &all {
        let path = format!("/{}", text(&case["id"]));
        let (ours, raw) = (receiver.seen(|seen| seen.of_path(&path)), case["input"]["raw"].is_string());
        assert_eq!(ours, u64::from(is_plain(case)), "{case}");
        assert_eq!(endpoints.broken.seen(|seen| seen.of_path(&path)), u64::from(raw), "{case}");
    }
    assert_eq!(receiver.seen(|seen| seen.total()), all.iter().filter(|case| is_plain(case)).count() as u64);
    for silent in [&endpoints.expired, &endpoints.mistaken] {
        assert_eq!(silent.receiver.seen(|seen| seen.total()), 0);
    }
    // Framed in two ways, or not at all: whatever follows on such a connection is nobody's answer.
    wait_until("broken connections are closed", SOON, || {
        endpoints.broken.seen(|seen| seen.open_connections() == 0)
    });

    // Who is gone is switched off, and is not asked again; who sets cookies gets none back.
    let state = |webhook: &str| admin.get(&format!("/api/v1/webhooks/{webhook}")).expect(200).json();
    for (case, webhook) in all.iter().zip(&webhooks) {
        if case["expect"] == "disable_endpoint" {
            let disabled = wait_for("it is disabled", SOON, || {
                Some(state(webhook)).filter(|shown| shown["state"] == "disabled")
            });
            assert!(disabled["disabledReason"].as_str().is_some_and(|why| !why.is_empty()), "{disabled}");
        } else {
            assert_eq!(state(webhook)["state"], "published", "{case}");
        }
    }
    partners.send("second.sent");
    for (case, webhook) in all.iter().zip(&webhooks).filter(|(case, _)| case["expect"] == "success") {
        check(case, &partners.execution(webhook, "second.sent"), sent);
        assert_eq!(receiver.seen(|seen| seen.of_path(&format!("/{}", text(&case["id"])))), 2, "{case}");
    }
    for case in of("disable_endpoint") {
        assert_eq!(receiver.seen(|seen| seen.of_path(&format!("/{}", text(&case["id"])))), 1, "{case}");
    }
    receiver.seen(|seen| {
        for arrived in seen.last() {
            let told = ["cookie", "authorization", "upgrade", "referer"];
            assert!(told.iter().all(|name| arrived.header(name).is_none()), "{arrived:?}");
        }
    });

    // What stands in a body is text wherever it is shown, and moves no terminal that shows a log.
    for case in of("success_escaped") {
        let body = text(&case["input"]["body"]);
        let webhook = &webhooks[all.iter().position(|other| other["id"] == case["id"]).expect("a case")];
        let id = text(&partners.execution(webhook, "first.sent")["deliveryId"]);
        let reply = admin.get(&format!("/api/v1/executions/{id}")).expect(200);
        assert_eq!(reply.headers["content-type"], "application/json");
        assert!(!reply.body.chars().any(char::is_control), "{case}: {}", reply.body);
        for service in &partners.services {
            let log = service.log();
            assert!(!log.contains(&body) && !log.contains(['\0', '\x1b', '\u{202e}']), "{}", service.name);
        }
    }

    // Nobody was led anywhere.
    assert_eq!(CANARY.seen(), 0);
    assert_eq!(proxy.seen(|seen| seen.connections()), 0);
    let asked = partners.names.asked();
    assert!(
        !asked.is_empty() && asked.iter().all(|name| [EXPIRED, MISTAKEN].contains(&name.as_str())),
        "{asked:?}"
    );
    drop(partners.stack);
}
