use axum::http::HeaderValue;
use clap::Parser as _;
use hookstream_core::signing::{parse_secret, sign_v1};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::args::{Args, Command};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
const NOW: UnixMillis = UnixMillis(1_614_265_330_500);
const BODY: &[u8] = br#"{"test": 2432232314}"#;

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
        .collect()
}

fn signed() -> HeaderMap {
    headers(&[
        ("host", "127.0.0.1:9000"),
        ("user-agent", "hookstream/0.1.0"),
        ("content-type", "application/json"),
        ("webhook-id", ID),
        ("webhook-timestamp", "1614265330"),
        ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    ])
}

#[test]
fn signatures() {
    let secrets = [parse_secret(SECRET).unwrap()];
    assert_eq!(check(&secrets, &signed(), BODY, NOW), Verdict::Valid);
    assert_eq!(check(&secrets, &signed(), b"{}", NOW), Verdict::Wrong(Untrusted::NoMatch));
    let mut unsigned = signed();
    unsigned.remove("webhook-signature");
    assert_eq!(check(&secrets, &unsigned, BODY, NOW), Verdict::Missing("webhook-signature"));
    assert_eq!(check(&[], &unsigned, BODY, NOW), Verdict::Unchecked);
}

#[test]
fn what_is_printed() {
    let shown = [
        page("POST /hooks?a=b", &signed(), BODY, &Verdict::Valid, StatusCode::OK, NOW),
        page(
            "POST /",
            &headers(&[]),
            b"not \x1b[31mJSON\r\n",
            &Verdict::Unchecked,
            StatusCode::NO_CONTENT,
            NOW,
        ),
        line("POST /", &signed(), BODY, &Verdict::Wrong(Untrusted::NoMatch), StatusCode::BAD_GATEWAY, NOW),
        line("GET /", &headers(&[]), b"", &Verdict::Missing("webhook-id"), StatusCode::OK, NOW),
    ];
    insta::assert_snapshot!(shown.concat());
}

#[test]
fn json_keeps_its_order_and_numbers() {
    let json = br#"{"b":1e400,"a":[{},[ ],"x\"{,:",{"c":null}],"d":12345678901234567890123}"#;
    let expected = r#"{
  "b": 1e400,
  "a": [
    {},
    [],
    "x\"{,:",
    {
      "c": null
    }
  ],
  "d": 12345678901234567890123
}"#;
    assert_eq!(pretty(json).unwrap(), expected);
    assert_eq!(pretty(b"{"), None);
}

#[tokio::test]
async fn it_answers_as_told() {
    let arguments = ["hookstream", "listen", "--status", "500,204", "--header", "Retry-After: 5", "--quiet"];
    let Command::Listen(mut args) = Args::parse_from(arguments).command else { panic!("not listen") };
    args.secrets = vec![parse_secret(SECRET).unwrap()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let receiver = Arc::new(Receiver::new(args));
    let router = Router::new().fallback(receive).with_state(receiver.clone());
    let server = tokio::spawn(async { axum::serve(listener, router).await });

    let timestamp = receiver.clock.wall().0 / 1000;
    let signature = sign_v1(&receiver.args.secrets[0], ID, timestamp, BODY);
    let mut answers = Vec::new();
    for signature in [&*signature, "v1,AAAA", &signature] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "POST /hooks HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {}\r\nwebhook-id: {ID}\r\n\
             webhook-timestamp: {timestamp}\r\nwebhook-signature: {signature}\r\n\r\n",
            BODY.len()
        );
        stream.write_all(&[head.as_bytes(), BODY].concat()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("retry-after: 5"), "{answer}");
        answers.push(answer[9..12].to_owned());
    }
    assert_eq!(answers, ["500", "204", "500"]);
    assert_eq!(receiver.summary(), "3 requests, 1 without a valid signature");
    server.abort();
}
