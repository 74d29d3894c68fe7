//! Endpoints that mean harm, or might as well.

use hookstream_testkit::receiver::Then;
use hookstream_types::limits::{MAX_RESPONSE_BODY_BYTES, MAX_RESPONSE_HEADER_BYTES};

use super::*;

async fn raw(bytes: impl Into<Bytes>, then: Then) -> Exchange {
    let receiver = Receiver::start();
    receiver.on("/", Behaviour::raw(bytes, then));
    post(&client(), &receiver.url("/")).await
}

#[tokio::test]
async fn redirects_are_answers_and_never_followed() {
    let trap = Receiver::start();
    for status in [300, 301, 302, 303, 304, 305, 307, 308] {
        for location in [trap.url("/"), "/loop".to_owned(), format!("//{}/", trap.addr()), String::new()] {
            let receiver = Receiver::start();
            receiver.on("/", Answer::status(status).header("location", &location));
            assert_eq!(response(post(&client(), &receiver.url("/")).await).status, status);
            assert_eq!(receiver.seen(|seen| seen.total()), 1);
        }
    }
    let receiver = Receiver::start();
    receiver.on("/", Answer::status(200).header("refresh", &format!("0; url={}", trap.url("/"))));
    assert_eq!(response(post(&client(), &receiver.url("/")).await).status, 200);
    assert_eq!(trap.seen(|seen| seen.connections()), 0);
}

#[tokio::test]
async fn cookies_challenges_and_alternatives_are_forgotten() {
    let receiver = Receiver::start();
    let client = client();
    let answer = Answer::status(200)
        .header("set-cookie", "a=b; Domain=.example.com")
        .header("www-authenticate", "NTLM")
        .header("alt-svc", "h3=\":443\"");
    receiver.on("/", answer.clone());
    receiver.on("/401", Answer { status: 401, ..answer });
    for path in ["/", "/", "/401"] {
        post(&client, &receiver.url(path)).await;
    }
    receiver.seen(|seen| {
        assert_eq!(seen.total(), 3);
        assert!(seen.last().iter().all(|arrived| arrived.header("cookie").is_none()));
        assert!(seen.last().iter().all(|arrived| arrived.header("authorization").is_none()));
    });
}

#[tokio::test]
async fn a_slow_body_ends_with_the_deadline_and_the_status_decides() {
    let receiver = Receiver::start();
    receiver.on("/", Answer::status(200).slow_body(Duration::from_millis(50)));
    let exchange = client().exchange(&request(&receiver.url("/"), SHORT)).await;
    assert!(exchange.timings.total >= SHORT && exchange.timings.total < LONG);
    assert!(exchange.timings.first_byte.is_some());
    let got = response(exchange);
    assert_eq!((got.status, got.truncated), (200, true));
    assert!((1..=10).contains(&got.body.len()), "{}", got.body.len());
    receiver.wait_until(LONG, |seen| seen.open_connections() == 0).await.unwrap();
}

#[tokio::test]
async fn a_body_that_breaks_off_is_cut_and_the_status_decides() {
    for bytes in [
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nnonsense\r\n",
    ] {
        let got = response(raw(bytes, Then::Close).await);
        assert_eq!((got.status, got.truncated, got.body), (200, true, Bytes::from_static(b"abc")));
    }
}

#[tokio::test]
async fn no_more_of_an_endless_body_is_read_than_is_kept() {
    let receiver = Receiver::start();
    let client = client();
    receiver.on("/", Answer::status(200).endless_body());
    let got = response(post(&client, &receiver.url("/")).await);
    assert_eq!((got.status, got.truncated, got.body.len()), (200, true, MAX_RESPONSE_BODY_BYTES));
    receiver.wait_until(LONG, |seen| seen.open_connections() == 0).await.unwrap();
    receiver.on("/", Answer::status(200));
    post(&client, &receiver.url("/")).await;
    assert_eq!(receiver.seen(|seen| seen.connections()), 2);
}

#[tokio::test]
async fn a_body_of_just_the_cap_is_whole() {
    let receiver = Receiver::start();
    for (size, truncated) in [(MAX_RESPONSE_BODY_BYTES, false), (MAX_RESPONSE_BODY_BYTES + 1, true)] {
        receiver.on("/", Answer::status(200).body(vec![b'x'; size]));
        let got = response(post(&client(), &receiver.url("/")).await);
        assert_eq!((got.truncated, got.body.len()), (truncated, MAX_RESPONSE_BODY_BYTES), "{size}");
    }
}

#[tokio::test]
async fn nothing_is_inflated_or_interpreted() {
    let receiver = Receiver::start();
    // The beginning of a gzip stream, control characters, a script, bytes that are not UTF-8.
    for body in
        [&b"\x1f\x8b\x08\x00\x00"[..], b"\0\x1b[2J\xe2\x80\xae<script>alert(1)</script>", b"\xff\xfe\x80\0"]
    {
        for encoding in ["gzip", "br", "zstd", "deflate"] {
            receiver.on("/", Answer::status(200).header("content-encoding", encoding).body(body.to_vec()));
            let got = response(post(&client(), &receiver.url("/")).await);
            assert_eq!((got.status, got.truncated, &got.body[..]), (200, false, body));
        }
    }
}

#[tokio::test]
async fn silence_ends_with_the_deadline() {
    let receiver = Receiver::start();
    let head = Bytes::from_static(b"HTTP/1.1 200 OK\r\nx: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy");
    let byte_every = Some(Duration::from_millis(40));
    for behaviour in [Behaviour::Hang, Behaviour::Raw { bytes: head, byte_every, then: Then::Hang }] {
        receiver.on("/", behaviour);
        let exchange = client().exchange(&request(&receiver.url("/?token=secret"), SHORT)).await;
        assert_eq!(kind(&exchange), FailureKind::Timeout, "{exchange:?}");
        assert!(exchange.timings.total >= SHORT && exchange.timings.total < LONG);
        assert!(exchange.timings.first_byte.is_none());
        let message = exchange.result.unwrap_err().message;
        assert!(
            message.starts_with("no answer came within 300ms") && !message.contains("secret"),
            "{message}"
        );
        receiver.wait_until(LONG, |seen| seen.open_connections() == 0).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_not_quite_http_is_no_answer() {
    let headers = |count: usize, size: usize| {
        let lines: String = (0..count).map(|n| format!("x-{n}: {}\r\n", "y".repeat(size))).collect();
        format!("HTTP/1.1 200 OK\r\n{lines}content-length: 0\r\n\r\n")
    };
    for (what, bytes) in [
        (
            "two framings",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"
                .to_owned(),
        ),
        ("two lengths", "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab".to_owned()),
        ("a negative length", "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n".to_owned()),
        ("a folded line", "HTTP/1.1 200 OK\r\nX: a\r\n\tfolded\r\n\r\n".to_owned()),
        ("a space before the colon", "HTTP/1.1 200 OK\r\nX : a\r\n\r\n".to_owned()),
        ("no HTTP", "SSH-2.0-OpenSSH_9.2\r\n".to_owned()),
        ("HTTP/0.9", "hello".to_owned()),
        ("HTTP/2", "HTTP/2 200 OK\r\n\r\n".to_owned()),
        ("half a head", "HTTP/1.1 200 OK\r\ncontent-le".to_owned()),
        ("nothing", String::new()),
        ("too many headers", headers(200, 1)),
        ("too large headers", headers(9, MAX_RESPONSE_HEADER_BYTES / 8)),
        ("one enormous header", headers(1, 1024 * 1024)),
    ] {
        let exchange = raw(bytes, Then::Close).await;
        assert_eq!(kind(&exchange), FailureKind::Protocol, "{what}: {exchange:?}");
    }
    for behaviour in [Behaviour::Reset, Behaviour::Close] {
        let receiver = Receiver::start();
        receiver.on("/", behaviour);
        let exchange = post(&client(), &receiver.url("/?token=secret")).await;
        assert_eq!(kind(&exchange), FailureKind::Protocol, "{exchange:?}");
        assert_eq!(receiver.seen(|seen| seen.total()), 1, "sent once, whatever comes of it");
        assert!(!exchange.result.unwrap_err().message.contains("secret"));
    }
}

#[tokio::test]
async fn an_upgrade_is_no_success() {
    let bytes = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n";
    match raw(bytes, Then::Hang).await.result {
        Ok(response) => assert_eq!(response.status, 101),
        Err(failure) => assert_eq!(failure.kind, FailureKind::Protocol),
    }
}

#[tokio::test]
async fn a_second_response_is_never_taken_for_the_next_request() {
    let receiver = Receiver::start();
    let client = client();
    let good = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let smuggled = "HTTP/1.1 299 Smuggled\r\ncontent-length: 0\r\n\r\n";
    receiver.script("/", [Behaviour::raw(format!("{good}{smuggled}"), Then::KeepAlive)], Answer::status(204));
    assert_eq!(response(post(&client, &receiver.url("/")).await).status, 200);
    assert_eq!(response(post(&client, &receiver.url("/")).await).status, 204);
    assert_eq!(receiver.seen(|seen| seen.connections()), 2);
}

#[tokio::test]
async fn a_dropped_exchange_closes_its_connection() {
    let receiver = Receiver::start();
    receiver.on("/", Behaviour::Hang);
    let client = client();
    let request = request(&receiver.url("/"), LONG);
    tokio::select! {
        exchange = client.exchange(&request) => panic!("{exchange:?}"),
        seen = receiver.wait_until(LONG, |seen| seen.total() == 1) => seen.unwrap(),
    }
    receiver.wait_until(LONG, |seen| seen.open_connections() == 0).await.unwrap();
}
