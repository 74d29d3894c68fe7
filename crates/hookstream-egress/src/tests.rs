//! Against receivers that behave well, badly, and with intent.

mod corpus;
mod dns;
mod hostile;
mod pools;
mod tokens;
mod trust;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hookstream_core::exchange::{Exchange, FailureKind, Method, Request, Response};
use hookstream_testkit::receiver::{Answer, Behaviour, Receiver};
use hookstream_types::AccountUid;
use rustls::RootCertStore;
use uuid::Uuid;

use hookstream_settings::Egress;

use crate::Client;

/// Long enough for a loaded machine.
const LONG: Duration = Duration::from_secs(10);
/// For exchanges that must run into their deadline.
const SHORT: Duration = Duration::from_millis(300);

/// As a developer's own machine has it: what is called here is on this one.
fn settings() -> Egress {
    Egress { allow_http: true, allow_private: true, ..Egress::default() }
}

fn client() -> Client {
    Client::with_roots(&settings(), RootCertStore::empty()).unwrap()
}

fn request(url: &str, deadline: Duration) -> Request {
    Request {
        account: AccountUid(Uuid::nil()),
        method: Method::Post,
        url: Arc::from(url),
        headers: vec![(Arc::from("webhook-id"), Arc::from("id-1"))],
        body: Bytes::from_static(b"{}"),
        deadline,
        tls: None,
        token: None,
    }
}

async fn post(client: &Client, url: &str) -> Exchange {
    client.exchange(&request(url, LONG)).await
}

fn response(exchange: Exchange) -> Response {
    exchange.result.expect("an answer")
}

fn kind(exchange: &Exchange) -> FailureKind {
    exchange.result.as_ref().expect_err("no answer").kind
}

#[tokio::test]
async fn what_is_sent_arrives() {
    let receiver = Receiver::start();
    receiver.on("/hook", Answer::status(201).header("X-Answer", "yes").body("thanks"));
    let mut sent = request(&receiver.url("/hook?a=b"), LONG);
    sent.headers.push((Arc::from("authorization"), Arc::from("Bearer token")));
    sent.headers.push((Arc::from("accept-encoding"), Arc::from("gzip")));
    let got = response(client().exchange(&sent).await);
    assert_eq!((got.status, got.body, got.truncated), (201, Bytes::from_static(b"thanks"), false));
    assert!(got.headers.contains(&("x-answer".to_owned(), "yes".to_owned())));
    receiver.seen(|seen| {
        let arrived = &seen.last()[0];
        assert_eq!((arrived.method.as_str(), arrived.target.as_str()), ("POST", "/hook?a=b"));
        assert_eq!(arrived.body, "{}");
        assert_eq!(arrived.header("webhook-id"), Some("id-1"));
        assert_eq!(arrived.header("authorization"), Some("Bearer token"));
        assert_eq!(arrived.header("accept-encoding"), Some("identity"));
        assert_eq!(arrived.header("content-length"), Some("2"));
    });
}

#[tokio::test]
async fn a_request_without_body_has_none() {
    let receiver = Receiver::start();
    for method in [Method::Get, Method::Delete] {
        let sent = Request { method, body: Bytes::new(), ..request(&receiver.url("/"), LONG) };
        assert_eq!(response(client().exchange(&sent).await).status, 200);
        receiver.seen(|seen| {
            let arrived = seen.last().back().unwrap();
            assert_eq!(arrived.method, method.as_str());
            assert_eq!(arrived.header("transfer-encoding"), None);
            assert!(arrived.body.is_empty());
        });
    }
}

#[tokio::test]
async fn an_idle_connection_is_used_again_and_takes_no_time_to_make() {
    let receiver = Receiver::start();
    let client = client();
    let url = format!("http://localhost:{}/", receiver.addr().port());
    let first = post(&client, &url).await.timings;
    assert!(first.dns.is_some() && first.connect.is_some() && first.tls.is_none(), "{first:?}");
    assert!(first.first_byte.is_some_and(|time| time <= first.total));
    let second = post(&client, &url).await.timings;
    assert_eq!((second.dns, second.connect, second.tls), (None, None, None));
    assert!(second.first_byte.is_some());
    assert_eq!(receiver.seen(|seen| (seen.total(), seen.connections())), (2, 1));
    // A literal address has nothing to resolve.
    let literal = post(&client, &receiver.url("/")).await.timings;
    assert!(literal.dns.is_none() && literal.connect.is_some(), "{literal:?}");
}

#[tokio::test]
async fn many_at_once() {
    let receiver = Receiver::start();
    let client = std::rc::Rc::new(client());
    let local = tokio::task::LocalSet::new();
    let exchanges = (0..200).map(|n| {
        let (client, mut request) = (std::rc::Rc::clone(&client), request(&receiver.url("/"), LONG));
        request.headers = vec![(Arc::from("webhook-id"), Arc::from(format!("id-{n}")))];
        local.spawn_local(async move { client.exchange(&request).await })
    });
    let exchanges: Vec<_> = exchanges.collect();
    local
        .run_until(async {
            for exchange in exchanges {
                assert_eq!(response(exchange.await.unwrap()).status, 200);
            }
        })
        .await;
    assert_eq!(receiver.seen(|seen| (seen.total(), seen.distinct(), seen.duplicates())), (200, 200, 0));
}

#[tokio::test]
async fn nothing_listens_or_resolves() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let refused = post(&client(), &format!("http://127.0.0.1:{port}/path?token=secret")).await;
    assert_eq!(kind(&refused), FailureKind::Connect);
    let message = refused.result.unwrap_err().message;
    assert!(message.contains(&port.to_string()) && message.contains("refused"), "{message}");
    assert!(!message.contains("secret") && !message.contains("path"), "{message}");

    let unknown = post(&client(), "http://nobody.invalid/?token=secret").await;
    assert_eq!(kind(&unknown), FailureKind::Dns, "{unknown:?}");
    assert!(!unknown.result.unwrap_err().message.contains("secret"));
}

#[tokio::test]
async fn a_name_is_looked_up_anew_for_each_connection() {
    let receiver = Receiver::start();
    receiver.on("/", Behaviour::Close);
    let client = client();
    let url = format!("http://localhost:{}/", receiver.addr().port());
    for _ in 0..2 {
        let both = tokio::join!(post(&client, &url), post(&client, &url));
        assert!(both.0.timings.dns.is_some() && both.1.timings.dns.is_some(), "{both:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_sent() {
    for url in [
        "",
        "nonsense",
        "http://",
        "http://[::1",
        "http://127.0.0.1/#x",
        "http://a@127.0.0.1/",
        "http://127.0.0.1\\@example.com/",
        "ftp://127.0.0.1/",
        "unix:/run/x.sock",
        "http+unix://x/",
        "file:///etc/passwd",
    ] {
        let exchange = post(&client(), url).await;
        assert_eq!(kind(&exchange), FailureKind::Unsendable, "{url}: {exchange:?}");
    }
    for (name, value) in [("a b", "x"), ("", "x"), ("x", "a\r\nb: c"), ("x", "a\0b")] {
        let receiver = Receiver::start();
        let mut request = request(&receiver.url("/"), LONG);
        request.headers.push((Arc::from(name), Arc::from(value)));
        let exchange = client().exchange(&request).await;
        assert_eq!(kind(&exchange), FailureKind::Unsendable, "{name:?}");
        assert_eq!(receiver.seen(|seen| seen.connections()), 0);
    }
}

/// The environment of a process can't be changed safely, so this one starts itself again.
#[test]
fn proxies_in_the_environment_are_ignored() {
    const CHILD_URL: &str = "HOOKSTREAM_TEST_PROXIED_URL";
    if let Ok(url) = std::env::var(CHILD_URL) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        assert_eq!(response(runtime.block_on(async { post(&client(), &url).await })).status, 200);
        return;
    }
    let (receiver, proxy) = (Receiver::start(), Receiver::start());
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child
        .args(["--exact", "tests::proxies_in_the_environment_are_ignored"])
        .env(CHILD_URL, receiver.url("/"));
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        child.env(name, proxy.url(""));
    }
    child.env_remove("NO_PROXY").env_remove("no_proxy");
    let output = child.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(receiver.seen(|seen| seen.total()), 1);
    assert_eq!(proxy.seen(|seen| seen.connections()), 0);
}
