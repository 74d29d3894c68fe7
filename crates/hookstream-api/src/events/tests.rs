use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use super::*;
use crate::server::Limits;
use crate::testing::{ACME, Answer, Answered, Server, is_closed, read, request};

const JSON: (&str, &str) = ("Content-Type", "application/json");
const KEY: (&str, &str) = ("Idempotency-Key", "k");
const GOOD: &str = r#"{"type":"a.b","data":{"n":1}}"#;

#[track_caller]
fn is(answer: &Answered, status: u16, reference: &str) {
    assert_eq!(answer.status, status, "{}", answer.body);
    assert_eq!(answer.json()["type"], format!("/problems/{reference}"), "{}", answer.body);
    assert!(answer.head.contains("content-type: application/problem+json"), "{}", answer.head);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn an_event_is_answered_with_its_id_once_it_is_written() {
    let server = Server::start().await;
    let answer = server.json(GOOD).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let [event] = server.written().try_into().unwrap();
    assert_eq!(answer.json(), json!({"events": [{"id": event.attributes.event, "type": "a.b"}]}));
    assert_eq!((&*event.data, event.config.0), (&br#"{"n":1}"#[..], 9));
    assert_eq!(
        (event.attributes.source.as_str(), event.attributes.time.as_str()),
        ("http", "2026-01-02T03:04:05Z")
    );
}

#[tokio::test]
async fn the_three_modes_of_cloudevents() {
    let server = Server::start().await;
    let event = r#"{"specversion":"1.0","id":"1","source":"/s","type":"a.b","data_base64":"aGk=","datacontenttype":"x/y"}"#;
    let structured = [("Content-Type", "application/cloudevents+json")];
    assert_eq!(server.post("", &structured, event).await.status, 202);
    let batch = [("Content-Type", "application/cloudevents-batch+json")];
    let answer = server.post("", &batch, format!("[{event},{}]", event.replace("\"1\"", "\"2\""))).await;
    assert_eq!(answer.json()["events"].as_array().unwrap().len(), 2);
    let binary = [
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/s"),
        ("ce-type", "a.b"),
        ("ce-partitionkey", "%00%00%00%00%00%00%00%00%00%00"),
        ("Content-Type", "x/y"),
    ];
    assert_eq!(server.post("", &binary, "hi").await.status, 202);
    let written = server.written();
    assert_eq!(written.len(), 4);
    assert!(written.iter().all(|event| &*event.data == b"hi"));
    assert_eq!(written[0].attributes.event, written[3].attributes.event);

    let faulty = format!("[{event},{{}},{}]", event.replace("a.b", "a b"));
    let answer = server.post("", &batch, faulty).await;
    is(&answer, 400, "invalid-request");
    assert_eq!(answer.fields(), ["/1/specversion", "/2/type"]);
    assert_eq!(server.written().len(), 4);
}

/// The corpus's requests whose status is told by what is in them.
#[tokio::test]
async fn bad_bodies() {
    let server = Server::start().await;
    for body in [
        "{\"a\":".repeat(20_000),
        r#"{"id":"a","id":"b"}"#.to_owned(),
        r#"{"type":"a","id":"a","id":"b"}"#.to_owned(),
        r#"{"n":1e400}"#.to_owned(),
        r#"{"type":"a","data":1e400}"#.to_owned(),
        r#"{"type":"../../admin"}"#.to_owned(),
        r#"{"type":"a\u0000"}"#.to_owned(),
        r#"{"type":"a","data":1,"topic":"__consumer_offsets"}"#.to_owned(),
        format!(r#"{{"type":"{}"}}"#, "x".repeat(257)),
        String::new(),
        "null".to_owned(),
    ] {
        is(&server.json(&body).await, 400, "invalid-request");
    }
    is(&server.json(b"{\"type\":\"\xff\"}").await, 400, "invalid-request");
    let headers = [("ce-specversion", "1.0"), ("ce-id", "x%0D%0Ay"), ("ce-source", "/s"), ("ce-type", "a")];
    let answer = server.post("", &headers, "").await;
    assert_eq!((answer.status, answer.fields()), (400, vec!["ce-id".to_owned()]));
    is(&server.post("", &[("Content-Type", "text/plain")], "x").await, 415, "unsupported-media-type");
    assert_eq!(server.written(), []);
}

#[tokio::test]
async fn sources_and_other_parameters() {
    let server = Server::start().await;
    let answer = server.post("?source=mapped", &[JSON], r#"{"kind":"a.b"}"#).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    assert_eq!(
        server.post("", &[JSON, ("hookstream-source", "mapped")], r#"{"kind":"a.b"}"#).await.status,
        202
    );
    assert!(server.written().iter().all(|event| event.attributes.source == "mapped"));

    is(&server.post("?source=nope", &[JSON], GOOD).await, 404, "not-found");
    for query in ["?topic=__consumer_offsets", "?partition=1", "?x", "?source=http&source=http"] {
        is(&server.post(query, &[JSON], GOOD).await, 400, "invalid-request");
    }
    let two = [JSON, ("hookstream-source", "http")];
    assert_eq!(server.post("?source=mapped", &two, GOOD).await.fields(), ["source"]);
    let topic = [JSON, ("hookstream-topic", "t")];
    assert_eq!(server.post("", &topic, GOOD).await.fields(), ["hookstream-topic"]);
    assert_eq!(server.post("", &[JSON, JSON], GOOD).await.fields(), ["content-type"]);
    is(&server.post("?source=strict", &[JSON], GOOD).await, 400, "invalid-request");
    assert_eq!(server.post("?source=strict", &[JSON], r#"{"type":"known"}"#).await.status, 202);
}

#[tokio::test]
async fn whose_events_they_are_is_told_by_the_token() {
    let server = Server::with(EventLimits::default(), Limits::default(), Some(ACME)).await;
    assert_eq!(server.json(GOOD).await.status, 202);
    assert_eq!(server.json(r#"{"type":"a","account":"acme"}"#).await.status, 202);
    assert!(server.written().iter().all(|event| event.attributes.account == ACME));
    is(&server.json(r#"{"type":"a","account":"default"}"#).await, 404, "not-found");
    is(&server.json(r#"{"type":"a","account":"nobody"}"#).await, 404, "not-found");
    let unauthenticated =
        String::from_utf8(request("", &[JSON], GOOD)).unwrap().replace("Authorization", "X");
    is(&server.raw(unauthenticated).await, 401, "unauthenticated");
}

#[tokio::test]
async fn bodies_are_bounded() {
    let server = Server::start().await;
    let padded = |bytes: usize| format!("{GOOD}{}", " ".repeat(bytes - GOOD.len()));
    assert_eq!(server.json(padded(1_048_576)).await.status, 202);
    is(&server.json(padded(1_048_577)).await, 413, "too-large");

    // Without a length it is counted as it comes.
    let mut stream = server.connect().await;
    let head =
        "POST /api/v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: c\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    for _ in 0..17 {
        stream.write_all(chunk.as_bytes()).await.unwrap();
    }
    is(&read(&mut stream).await.unwrap(), 413, "too-large");
    assert!(is_closed(&mut stream).await);

    let large = format!(r#"{{"type":"a","data":"{}"}}"#, "x".repeat(600_000));
    is(&server.json(large).await, 413, "too-large");
}

#[tokio::test]
async fn gzip_is_inflated_up_to_the_same_bound() {
    let server = Server::start().await;
    let gzipped = [JSON, ("Content-Encoding", "gzip")];
    assert_eq!(server.post("", &gzipped, gzip(GOOD.as_bytes())).await.status, 202);
    let bomb = gzip(&vec![b' '; 128 * 1024 * 1024]);
    assert!(bomb.len() < 140_000);
    is(&server.post("", &gzipped, &bomb).await, 413, "too-large");
    is(&server.post("", &gzipped, GOOD).await, 400, "invalid-request");
    let good = gzip(GOOD.as_bytes());
    is(&server.post("", &gzipped, &good[..good.len() - 1]).await, 400, "invalid-request");
    for coding in ["br", "gzip, gzip", "deflate", "zstd"] {
        let answer = server.post("", &[JSON, ("Content-Encoding", coding)], GOOD).await;
        is(&answer, 415, "unsupported-media-type");
        assert!(answer.head.contains("accept-encoding: gzip"));
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up() {
    let body = BodyLimits { deadline: Duration::from_millis(200), ..BodyLimits::default() };
    let server = Server::with(EventLimits { body, ..EventLimits::default() }, Limits::default(), None).await;
    let mut stream = server.connect().await;
    let whole = request("", &[JSON], GOOD);
    stream.write_all(&whole[..whole.len() - 1]).await.unwrap();
    is(&read(&mut stream).await.unwrap(), 408, "request-timeout");
    assert!(is_closed(&mut stream).await);
    assert_eq!(server.written(), []);
}

#[tokio::test]
async fn all_bodies_together_are_bounded() {
    let body = BodyLimits { held_bytes: 2 * GOOD.len() - 1, ..BodyLimits::default() };
    let server = Server::with(EventLimits { body, ..EventLimits::default() }, Limits::default(), None).await;
    server.told(Answer::Wait);
    let mut first = server.connect().await;
    first.write_all(&request("", &[JSON], GOOD)).await.unwrap();
    server.sink.begun.notified().await;
    let answer = server.json(GOOD).await;
    is(&answer, 503, "unavailable");
    assert!(answer.head.contains("retry-after: 1"));
    server.sink.go_on.notify_one();
    assert_eq!(read(&mut first).await.unwrap().status, 202);
    assert_eq!(server.json(GOOD).await.status, 202);
}

#[tokio::test]
async fn idempotency_keys() {
    let server = Server::start().await;
    let first = server.post("", &[JSON, KEY], GOOD).await;
    assert_eq!(first.status, 202);
    let again = server.post("", &[JSON, ("Idempotency-Key", "\"k\"")], GOOD).await;
    assert_eq!((again.status, again.json()), (202, first.json()));
    assert_eq!(server.written().len(), 1);
    is(&server.post("", &[JSON, KEY], r#"{"type":"a.c"}"#).await, 409, "idempotency-key-reused");
    is(
        &server.post("?source=strict", &[JSON, KEY], r#"{"type":"known"}"#).await,
        409,
        "idempotency-key-reused",
    );
    // Another client's key is another key.
    let other = String::from_utf8(request("", &[JSON, KEY], GOOD)).unwrap().replace(": c\r", ": d\r");
    assert_ne!(server.raw(other).await.json(), first.json());

    let longest = "x".repeat(1024);
    assert_eq!(server.post("", &[JSON, ("Idempotency-Key", &longest)], GOOD).await.status, 202);
    for bad in ["", "\"\"", "a b", "é", &format!("{longest}x")] {
        let answer = server.post("", &[JSON, ("Idempotency-Key", bad)], GOOD).await;
        assert_eq!((answer.status, answer.fields()), (400, vec!["idempotency-key".to_owned()]), "{bad}");
    }
    is(&server.post("", &[JSON, KEY, KEY], GOOD).await, 400, "invalid-request");
}

#[tokio::test]
async fn a_key_whose_request_is_under_way() {
    let server = Server::start().await;
    server.told(Answer::Wait);
    let mut first = server.connect().await;
    first.write_all(&request("", &[JSON, KEY], GOOD)).await.unwrap();
    server.sink.begun.notified().await;
    let second = server.post("", &[JSON, KEY], GOOD).await;
    is(&second, 409, "idempotency-key-in-use");
    assert!(second.head.contains("retry-after: 1"));
    server.sink.go_on.notify_one();
    let first = read(&mut first).await.unwrap();
    assert_eq!(server.post("", &[JSON, KEY], GOOD).await.json(), first.json());
    assert_eq!(server.written().len(), 1);
}

#[tokio::test]
async fn kafka_is_away_or_does_not_answer() {
    let server = Server::start().await;
    server.told(Answer::NotWritten);
    let answer = server.post("", &[JSON, KEY], GOOD).await;
    is(&answer, 503, "unavailable");
    assert!(answer.head.contains("retry-after: 1\r\n"));
    assert!(!answer.body.contains("as told"), "what Kafka said stays inside");
    // The key is free: another body may have it.
    server.told(Answer::Unknown);
    let answer = server.post("", &[JSON, KEY], r#"{"type":"a.c"}"#).await;
    is(&answer, 504, "outcome-unknown");
    assert!(answer.body.contains("same `Idempotency-Key`"));
    // The key is bound now, and the same request is carried out again.
    is(&server.post("", &[JSON, KEY], GOOD).await, 409, "idempotency-key-reused");
    assert_eq!(server.written(), []);
    assert_eq!(server.post("", &[JSON, KEY], r#"{"type":"a.c"}"#).await.status, 202);
    assert_eq!(server.written().len(), 1);
}

#[tokio::test]
async fn an_acknowledgement_that_is_late_is_unknown() {
    let limits = EventLimits { append: Duration::from_millis(50), ..EventLimits::default() };
    let server = Server::with(limits, Limits::default(), None).await;
    server.told(Answer::Wait);
    is(&server.json(GOOD).await, 504, "outcome-unknown");
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_its_key_bound_and_usable() {
    let server = Server::start().await;
    server.told(Answer::Wait);
    let mut first = server.connect().await;
    first.write_all(&request("", &[JSON, KEY], GOOD)).await.unwrap();
    server.sink.begun.notified().await;
    drop(first);
    let answer = loop {
        let answer = server.post("", &[JSON, KEY], GOOD).await;
        if answer.status != 409 {
            break answer;
        }
        assert!(answer.body.contains("in-use"), "{}", answer.body);
        tokio::task::yield_now().await;
    };
    assert_eq!(answer.status, 202);
}

#[tokio::test]
async fn data_follows_the_schema_of_its_event_type() {
    let server = Server::start().await;
    assert_eq!(server.json(r#"{"type":"order.paid","data":{"order":1}}"#).await.status, 202);
    let answer = server.json(r#"{"type":"order.paid","data":{"other":1}}"#).await;
    is(&answer, 422, "schema-violation");
    assert_eq!(answer.fields(), ["/data"]);
    let batch = [("Content-Type", "application/cloudevents-batch+json")];
    let event = r#"{"specversion":"1.0","id":"1","source":"/s","type":"order.paid","data":[]}"#;
    assert_eq!(server.post("", &batch, format!("[{event},{event}]")).await.fields()[..1], ["/0/data"]);
    let binary = [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "order.paid")];
    is(&server.post("", &binary, "not JSON").await, 422, "schema-violation");
    assert_eq!(server.written().len(), 1);
}

#[tokio::test]
async fn a_recursive_schema_has_a_deadline() {
    let limits = EventLimits { validation: Duration::from_millis(100), ..EventLimits::default() };
    let server = Server::with(limits, Limits::default(), None).await;
    let tree = |depth: usize| {
        format!(r#"{{"type":"tree","data":{}{{}}{}}}"#, r#"{"c":"#.repeat(depth), "}".repeat(depth))
    };
    assert_eq!(server.json(tree(3)).await.status, 202);
    let wrong = server.json(r#"{"type":"tree","data":{"c":{"c":1}}}"#).await;
    is(&wrong, 422, "schema-violation");
    assert_eq!(wrong.fields()[0], "/data/c/c");
    // Whether it takes long is the validator's affair; the answer is in time, and what is quick still works.
    let deep = server.json(tree(20)).await;
    assert!(matches!(deep.status, 202 | 503), "{}", deep.body);
    assert_eq!(server.json(GOOD).await.status, 202);
}
