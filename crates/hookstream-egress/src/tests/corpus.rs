//! What the corpus of bad inputs says about answers, from the socket to the outcome.
//!
//! The entries about TLS and proxies are in [`super::trust`] and [`super`]; they need more than an answer.

use hookstream_core::config::{Webhook, WebhookState};
use hookstream_core::decision::DeadReason;
use hookstream_core::outcome::{Outcome, classify};
use hookstream_testkit::receiver::Then;
use hookstream_types::UnixMillis;

use super::*;

/// 2026-11-22T14:00:00Z
const NOW: UnixMillis = UnixMillis(1_795_356_000_000);
const DAY: Duration = Duration::from_secs(86_400);

fn webhook() -> Webhook {
    Webhook { state: WebhookState::Published, revision: 1, ..Webhook::default() }
}

#[tokio::test]
async fn every_answer_has_its_outcome() {
    const FAIL: Outcome = Outcome::Retry { after: None, backpressure: false };
    const SLOW_DOWN: Outcome = Outcome::Retry { after: None, backpressure: true };
    const CLAMPED: Outcome = Outcome::Retry { after: Some(DAY), backpressure: true };
    let status = Answer::status;
    let to = |code, location: &str| status(code).header("location", location);
    let later = |code, value: &str| Behaviour::from(status(code).header("retry-after", value));
    let raw = |text: &'static str| Behaviour::raw(text, Then::Close);
    let slow_head = Behaviour::Raw {
        bytes: Bytes::from_static(b"HTTP/1.1 200 OK\r\nx: yyyyyyyyyyyyyyyyyy"),
        byte_every: Some(Duration::from_millis(50)),
        then: Then::Hang,
    };
    let two_framings = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
    let receiver = Receiver::start();
    for (id, behaviour, expected) in [
        ("001", to(302, "http://127.0.0.1/").into(), FAIL),
        ("003", to(307, "https://other.example/").into(), FAIL),
        ("006", to(302, "/loop").into(), FAIL),
        ("007", to(302, "//169.254.169.254/").into(), FAIL),
        ("011", to(304, "").into(), FAIL),
        ("012", status(200).header("refresh", "0; url=http://127.0.0.1/").into(), Outcome::Delivered),
        ("015", status(200).slow_body(Duration::from_millis(50)).into(), Outcome::Delivered),
        ("016", Behaviour::Hang, SLOW_DOWN),
        ("018", slow_head, SLOW_DOWN),
        ("021", status(200).header("content-encoding", "br").endless_body().into(), Outcome::Delivered),
        ("023", raw("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"), FAIL),
        ("025", raw(two_framings), FAIL),
        ("026", raw("HTTP/1.1 200 OK\r\nX: a\r\n\tfolded\r\n\r\n"), FAIL),
        ("029", status(200).body("\0\x1b[2J\u{202e}<script>alert(1)</script>").into(), Outcome::Delivered),
        ("030", status(200).body(&b"\xff\xfe\x80\0"[..]).into(), Outcome::Delivered),
        ("031", later(503, "inf"), SLOW_DOWN),
        ("032", later(503, "1e300"), SLOW_DOWN),
        ("035", later(429, "NaN"), SLOW_DOWN),
        ("036", later(429, "Fri, 31 Dec 9999 23:59:59 GMT"), CLAMPED),
        ("036, in digits", later(503, "9223372036854775807"), CLAMPED),
        ("037", status(410).into(), Outcome::GiveUp(DeadReason::Gone)),
        ("038", status(200).header("set-cookie", "a=b; Domain=.example.com").into(), Outcome::Delivered),
        ("040", status(401).header("www-authenticate", "NTLM").into(), FAIL),
    ] {
        receiver.on("/", behaviour);
        receiver.forget();
        let deadline = if matches!(id, "015" | "016" | "018") { SHORT } else { LONG };
        let exchange = client().exchange(&request(&receiver.url("/"), deadline)).await;
        assert_eq!(classify(&exchange, &webhook(), NOW), expected, "endpoint_response-{id}: {exchange:?}");
        assert!(exchange.timings.total < LONG);
        assert_eq!(receiver.seen(|seen| seen.total()), 1, "endpoint_response-{id}");
    }
}
