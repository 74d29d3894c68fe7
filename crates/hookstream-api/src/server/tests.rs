use std::time::Instant;

use tokio::io::AsyncWriteExt as _;

use super::*;
use crate::events::EventLimits;
use crate::testing::{Answer, Server, is_closed, read, request};

const GOOD: &str = r#"{"type":"a.b"}"#;

fn limits(limits: Limits) -> impl Future<Output = Server> {
    Server::with(EventLimits::default(), limits, None)
}

#[tokio::test]
async fn misframed_heads_are_answered_400_and_end_the_connection() {
    let server = Server::start().await;
    let head = "POST /api/v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: c\r\n";
    for rest in [
        "Content-Length: +5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n\r\n",
        "Content-Length: 14\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /",
        "Transfer-Encoding: chunked, identity\r\n\r\n",
        "X: a\r\n b\r\n\r\n",
        "X: a\0b\r\n\r\n",
        "ce-id: x\r\ny\r\n\r\n",
        "ce-id: x\ny: z\r\n\r\n",
        "Host: y\r\n\r\n",
        "X : a\r\n\r\n",
        "\x01: a\r\n\r\n",
    ] {
        let mut stream = server.connect().await;
        stream.write_all(format!("{head}{rest}").as_bytes()).await.unwrap();
        let answer = read(&mut stream).await.unwrap_or_else(|| panic!("{rest:?} was not answered"));
        assert_eq!(answer.status, 400, "{rest:?}: {answer:?}");
        assert!(is_closed(&mut stream).await, "{rest:?}");
    }
    for raw in [
        "POST / HTTP/1.1\r\nContent-Length: +5\r\n",
        "POST / HTTP/1.1\r\nHost: x\n",
        "POST / HTTP/1.1\n",
        "POST / HTTP/1.1\r\n\r\n",
        "POST  / HTTP/1.1\r\nHost: x\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "POST / HTTP/1.1\r\n Host: x\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01",
    ] {
        assert_eq!(server.raw(raw).await.status, 400, "{raw:?}");
    }
    assert_eq!(server.written(), []);
}

#[tokio::test]
async fn what_follows_a_request_is_not_smuggled_in() {
    let server = Server::start().await;
    let mut stream = server.connect().await;
    let first = request("", &[("Content-Type", "application/json")], GOOD);
    let second =
        String::from_utf8(first.clone()).unwrap().replace("Content-Length: 14", "Content-Length: 14\n");
    stream.write_all(&[first.as_slice(), second.as_bytes(), &first].concat()).await.unwrap();
    assert_eq!(read(&mut stream).await.unwrap().status, 202);
    assert!(is_closed(&mut stream).await);
    assert_eq!(server.written().len(), 1);
}

#[tokio::test]
async fn misframed_chunks_end_the_request() {
    let server = Server::start().await;
    let head = "POST /api/v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: c\r\nContent-Type: application/json\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    let good = format!("{head}7\r\n{}\r\n7;x=y\r\n{}\r\n0\r\nT: t\r\n\r\n", &GOOD[..7], &GOOD[7..]);
    assert_eq!(server.raw(&good).await.status, 202);
    for bad in [
        good.replace("7\r\n", "0x7\r\n"),
        good.replace("7\r\n", "7\n"),
        good.replace("7;x=y\r\n", "6\r\n"),
        good.replace("7;x=y", "-7"),
        good.replace("\r\n0\r\n", "\n0\r\n"),
    ] {
        let mut stream = server.connect().await;
        stream.write_all(bad.as_bytes()).await.unwrap();
        let answer = read(&mut stream).await;
        assert!(answer.as_ref().is_none_or(|answer| answer.status == 400), "{bad:?}: {answer:?}");
        assert!(is_closed(&mut stream).await, "{bad:?}");
    }
    assert_eq!(server.written().len(), 1);
}

#[tokio::test]
async fn heads_are_bounded_in_size_number_and_time() {
    let server = limits(Limits { header_timeout: Duration::from_millis(300), ..Limits::default() }).await;
    let big = "x".repeat(33 * 1024);
    assert_eq!(server.post("", &[("X", &big)], GOOD).await.status, 431);
    let many = "X: y\r\n".repeat(120);
    assert_eq!(server.raw(format!("POST / HTTP/1.1\r\nHost: x\r\n{many}\r\n")).await.status, 431);
    let almost = "x".repeat(24 * 1024);
    let headers = [("X", almost.as_str()), ("Content-Type", "application/json")];
    assert_eq!(server.post("", &headers, GOOD).await.status, 202);

    // A head that does not come, and one that does not end.
    for begun in ["", "POST / HTTP/1.1\r\nHost:"] {
        let mut stream = server.connect().await;
        let begin = Instant::now();
        stream.write_all(begun.as_bytes()).await.unwrap();
        assert!(is_closed(&mut stream).await);
        assert!(begin.elapsed() < Duration::from_secs(10));
    }
}

#[tokio::test]
async fn more_connections_than_allowed_wait() {
    let server = limits(Limits { connections: 1, ..Limits::default() }).await;
    let first = server.connect().await;
    let mut second = server.connect().await;
    second.write_all(&request("", &[("Content-Type", "application/json")], GOOD)).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(100), read(&mut second)).await;
    assert!(early.is_err());
    drop(first);
    assert_eq!(read(&mut second).await.unwrap().status, 202);
}

#[tokio::test]
async fn a_shutdown_lets_requests_end_and_takes_no_more() {
    let server = Server::start().await;
    server.told(Answer::Wait);
    let mut idle = server.connect().await;
    let mut busy = server.connect().await;
    busy.write_all(&request("", &[("Content-Type", "application/json")], GOOD)).await.unwrap();
    server.sink.begun.notified().await;
    server.shutdown.cancel();
    assert!(is_closed(&mut idle).await);
    assert!(!server.ended.is_finished());
    server.sink.go_on.notify_one();
    assert_eq!(read(&mut busy).await.unwrap().status, 202);
    server.ended.await.unwrap();
}

#[tokio::test]
async fn a_shutdown_cuts_what_outlasts_the_grace() {
    let server = limits(Limits { grace: Duration::from_millis(50), ..Limits::default() }).await;
    server.told(Answer::Wait);
    let mut busy = server.connect().await;
    busy.write_all(&request("", &[("Content-Type", "application/json")], GOOD)).await.unwrap();
    server.sink.begun.notified().await;
    server.shutdown.cancel();
    server.ended.await.unwrap();
    assert!(read(&mut busy).await.is_none());
}
