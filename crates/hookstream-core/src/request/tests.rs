use std::sync::Arc;
use std::time::Duration;

use hookstream_types::{
    AccountUid, AuthorizationId, DeliveryId, EventId, Offset, SecretString, UnixMillis, WebhookId,
};
use uuid::Uuid;

use super::*;
use crate::config::{Authorization, WebhookSecret, WebhookState};
use crate::job::JobState;
use crate::signing::{self, Profile};

pub(crate) fn webhook() -> Webhook {
    Webhook {
        id: WebhookId(Uuid::from_u128(1)),
        account: AccountUid(Uuid::from_u128(2)),
        name: "orders".to_owned(),
        state: WebhookState::Published,
        event_types: vec!["*".to_owned()],
        url: "https://example.com/hook?token=t".to_owned(),
        headers: vec![("authorization".to_owned(), "Bearer s3cr3t-token".to_owned())],
        secrets: vec![WebhookSecret::of_key(&(1..=32).collect::<Vec<_>>())],
        revision: 1,
        ..Webhook::default()
    }
}

fn job(content_type: Option<&str>, data: &[u8]) -> Job {
    let event = EventAttributes {
        event: EventId(Uuid::from_u128(3)),
        account: AccountUid(Uuid::from_u128(2)),
        source: "shop".to_owned(),
        id: "1".to_owned(),
        ce_source: "/shop".to_owned(),
        event_type: "order.\"paid\"".to_owned(),
        subject: None,
        time: "2026-11-22T14:00:00Z".to_owned(),
        content_type: content_type.map(str::to_owned),
        extensions: Vec::new(),
        produced_at: UnixMillis(0),
    };
    let state = JobState::new(DeliveryId(Uuid::from_u128(4)), WebhookId(Uuid::from_u128(1)), Offset(0));
    Job { state, event: Arc::new(event), data: Bytes::copy_from_slice(data) }
}

const NOW: UnixMillis = UnixMillis(1_795_356_000_999);

#[test]
fn the_default_request() {
    let request = build(&webhook(), &job(None, br#"{ "n": 1.10 }"#), NOW, "hookstream/0.1.0").unwrap();
    let body = br#"{"type":"order.\"paid\"","timestamp":"2026-11-22T14:00:00Z","data":{ "n": 1.10 }}"#;
    assert_eq!(request.body, body.as_slice());
    assert_eq!(request.deadline, Duration::from_secs(15));
    let id = "00000000-0000-0000-0000-000000000004";
    let signature = signing::sign_v1(&webhook().secrets[0].key(), id, 1_795_356_000, body);
    let headers: Vec<_> = request.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(
        headers,
        [
            ("webhook-id", id),
            ("webhook-timestamp", "1795356000"),
            ("webhook-signature", signature.as_str()),
            ("user-agent", "hookstream/0.1.0"),
            ("content-type", "application/json"),
            ("authorization", "Bearer s3cr3t-token"),
        ]
    );
}

#[test]
fn data_has_the_form_of_its_content_type() {
    let tail = |content_type: Option<&str>, data: &[u8]| {
        let request = build(&webhook(), &job(content_type, data), NOW, "x").unwrap();
        let body = String::from_utf8(request.body.to_vec()).unwrap();
        let _: serde_json::Value = serde_json::from_str(&body).unwrap();
        body.split_once(r#"00Z","#).unwrap().1.to_owned()
    };
    assert_eq!(tail(None, b""), r#""data":null}"#);
    assert_eq!(tail(Some("application/json; charset=utf-8"), b"[1]"), r#""data":[1]}"#);
    assert_eq!(tail(Some("Application/Vnd.Shop+JSON"), b"1"), r#""data":1}"#);
    assert_eq!(
        tail(Some("text/plain"), "a\"ä".as_bytes()),
        r#""datacontenttype":"text/plain","data":"a\"ä"}"#
    );
    assert_eq!(tail(Some("text/plain"), b"\xff"), r#""datacontenttype":"text/plain","data_base64":"/w=="}"#);
    assert_eq!(
        tail(Some("application/soap+xml"), b"<a/>"),
        r#""datacontenttype":"application/soap+xml","data":"<a/>"}"#
    );
    assert_eq!(tail(Some("image/png"), b"abc"), r#""datacontenttype":"image/png","data_base64":"YWJj"}"#);
    assert_eq!(tail(Some("äöü"), b""), r#""datacontenttype":"äöü","data_base64":""}"#);
}

#[test]
fn get_and_delete_have_no_body() {
    for method in [Method::Get, Method::Delete] {
        let request = build(&Webhook { method, ..webhook() }, &job(None, b"{}"), NOW, "x").unwrap();
        assert!(request.body.is_empty());
        assert!(request.headers.iter().all(|(name, _)| &**name != "content-type"));
        let signature =
            signing::sign_v1(&webhook().secrets[0].key(), &request.headers[0].1, 1_795_356_000, b"");
        assert_eq!(*request.headers[2].1, *signature);
    }
}

fn templated(method: Method, content_type: &str, text: &str) -> Webhook {
    let payload = Payload::Template { text: text.to_owned() };
    let content_type = content_type.to_owned();
    Webhook { method, content_type, payload, account_name: "acme".into(), ..webhook() }
}

#[test]
fn a_template_makes_the_body() {
    let data = br#"{"id":"a<b>","n":1}"#;
    for (content_type, text, expected) in [
        ("application/json", r#"{"t":"[EventType]","n":[n]}"#, r#"{"t":"order.\"paid\"","n":1}"#),
        ("application/xml", "<e a='[Account]'>[id]</e>", "<e a='acme'>a&lt;b&gt;</e>"),
        ("application/x-www-form-urlencoded", "id=[id]", "id=a%3Cb%3E"),
        ("text/csv", "[EventTime:yyyy],[id]", "2026,a<b>"),
    ] {
        let request =
            build(&templated(Method::Post, content_type, text), &job(None, data), NOW, "x").unwrap();
        assert_eq!(request.body, expected, "{content_type}");
        let sent = request.headers.iter().find(|(name, _)| &**name == "content-type").unwrap();
        assert_eq!(&*sent.1, content_type);
        let signature = signing::sign_v1(
            &webhook().secrets[0].key(),
            &request.headers[0].1,
            1_795_356_000,
            expected.as_bytes(),
        );
        assert_eq!(*request.headers[2].1, *signature);
    }
}

#[test]
fn a_body_that_was_asked_for_goes_with_any_method_and_an_empty_one_is_empty() {
    let of = |method, text| {
        let request = build(&templated(method, "text/plain", text), &job(None, b"{}"), NOW, "x").unwrap();
        let has_type = request.headers.iter().any(|(name, _)| &**name == "content-type");
        (String::from_utf8(request.body.to_vec()).unwrap(), has_type)
    };
    assert_eq!(of(Method::Delete, "[EventId]"), ("1".to_owned(), true));
    assert_eq!(of(Method::Get, ""), (String::new(), false));
    assert_eq!(of(Method::Post, ""), (String::new(), true));
}

#[test]
fn what_a_template_can_not_make_is_not_sent() {
    let error =
        build(&templated(Method::Post, "text/plain", "[a..b]"), &job(None, b"{}"), NOW, "x").unwrap_err();
    assert!(matches!(error, Unsendable::Template(_)), "{error}");
    let large = templated(Method::Post, "text/plain", &"[Data]".repeat(20));
    let error = build(&large, &job(None, &vec![b'1'; 100_000]), NOW, "x").unwrap_err();
    assert!(matches!(error, Unsendable::NoPayload(_)), "{error}");
}

#[test]
fn a_ping_is_what_the_endpoint_expects() {
    let webhook = templated(Method::Post, "application/xml", "<e t='[EventType]'>[Booking.Id|none]</e>");
    let ping = Prepared::new(Arc::new(webhook), "x").unwrap().ping("ping-1", NOW).unwrap();
    assert_eq!(ping.body, "<e t='hookstream.ping'>none</e>");
    assert_eq!(&*ping.headers[0].1, "ping-1");
}

#[test]
fn nothing_is_sent_unsigned_or_with_a_reserved_header() {
    let of = |webhook: Webhook| build(&webhook, &job(None, b"{}"), NOW, "x").unwrap_err();
    assert_eq!(of(Webhook { secrets: Vec::new(), ..webhook() }), Unsendable::NoSecret);
    let headers = vec![("Host\n".to_owned(), "x".to_owned())];
    let error = of(Webhook { headers, ..webhook() });
    assert_eq!(error, Unsendable::Header { name: "Host\\n".to_owned(), source: BadHeader::Name });
}

#[test]
fn headers_that_a_webhook_may_not_have() {
    for name in [
        "Host",
        "host",
        "Transfer-Encoding",
        "transfer-encoding",
        "Connection",
        "TE",
        "Upgrade",
        "Proxy-Authorization",
        "Proxy-Connection",
        "Content-Encoding",
        "Content-Length",
        "User-Agent",
        "webhook-signature",
        "Webhook-Signature",
        "webhook-id",
        "X-Forwarded-For",
        "Forwarded",
        "Metadata-Flavor",
        "X-aws-ec2-metadata-token",
        "X-aws-ec2-metadata-token-ttl-seconds",
        "Metadata",
        "X-Google-Metadata-Request",
        "Expect",
        "Trailer",
        "Keep-Alive",
    ] {
        assert_eq!(check_header(name, "1"), Err(BadHeader::Reserved), "{name}");
    }
    for name in ["", "X\r\nInjected", "X\0", "X-é", ":authority", "X Y", "X:", "X\t", "\u{ff28}ost"] {
        assert_eq!(check_header(name, "1"), Err(BadHeader::Name), "{name:?}");
    }
    for name in ["Authorization", "X-Api-Key", "X_Under", "cookie", "hostess"] {
        assert_eq!(check_header(name, "1"), Ok(()), "{name}");
    }
    let long = "x".repeat(4097);
    for value in [
        "a\r\nX-Injected: 1",
        "a\nb",
        "a\rb",
        "a\0b",
        "a\u{b}b",
        "a\u{7f}b",
        "v\u{10a}",
        "v\u{560d}\u{560a}",
        &long,
    ] {
        assert_eq!(check_header("x", value), Err(BadHeader::Value), "{value:?}");
    }
    for value in ["", "%0d%0aX: 1", "Bearer a b", &long[1..]] {
        assert_eq!(check_header("x", value), Ok(()), "{value:?}");
    }
}

#[test]
fn every_reserved_name_is_written_as_it_is_compared() {
    assert!(RESERVED.is_sorted() && RESERVED.iter().all(|name| name.to_ascii_lowercase() == *name));
}

fn headers_of(request: &Request) -> Vec<(String, String)> {
    request.headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

#[test]
fn the_default_payload_in_other_forms() {
    let of = |content_type: &str, data_type: Option<&str>, data: &[u8]| {
        let webhook = Webhook { content_type: content_type.to_owned(), ..webhook() };
        String::from_utf8(build(&webhook, &job(data_type, data), NOW, "x").unwrap().body.to_vec()).unwrap()
    };
    let head = r#"<?xml version="1.0" encoding="UTF-8"?>
<event><type>order."paid"</type><timestamp>2026-11-22T14:00:00Z</timestamp>"#;
    assert_eq!(
        of("application/xml", None, br#"{"a":"<&>"}"#),
        format!(r#"{head}<data>{{"a":"&lt;&amp;&gt;"}}</data></event>"#)
    );
    assert_eq!(
        of("application/soap+xml; charset=utf-8", Some("text/plain"), b"a\rb"),
        format!("{head}<datacontenttype>text/plain</datacontenttype><data>a&#13;b</data></event>")
    );
    assert_eq!(
        of("text/xml", Some("text/plain"), b"a\x01"),
        format!("{head}<datacontenttype>text/plain</datacontenttype><data_base64>YQE=</data_base64></event>")
    );
    assert_eq!(
        of("application/x-www-form-urlencoded", None, br#"{"a": "&"}"#),
        "type=order.%22paid%22&timestamp=2026-11-22T14%3A00%3A00Z&data=%7B%22a%22%3A+%22%26%22%7D"
    );
    assert_eq!(of("text/plain", Some("text/plain"), b"just so"), "just so");
    assert!(of("application/vnd.own", None, b"{}").starts_with(r#"{"type":"#));
}

#[test]
fn cloudevents_in_both_modes() {
    let mut job = job(Some("application/json"), br#"{"n":1}"#);
    job.event = Arc::new(EventAttributes {
        ce_source: "/shop".to_owned(),
        subject: Some("a \"b\" 100% \u{20ac}".to_owned()),
        extensions: vec![
            ("traceparent".to_owned(), "00-1".to_owned()),
            ("Not-A-Name".to_owned(), "x".to_owned()),
        ],
        ..(*job.event).clone()
    });
    let of = |payload, method| build(&Webhook { payload, method, ..webhook() }, &job, NOW, "x").unwrap();

    let structured = of(Payload::CloudeventsStructured, Method::Post);
    let body: serde_json::Value = serde_json::from_slice(&structured.body).unwrap();
    assert_eq!(
        body,
        serde_json::json!({
            "specversion": "1.0", "id": job.event.id, "source": "/shop", "type": "order.\"paid\"",
            "time": "2026-11-22T14:00:00Z", "subject": "a \"b\" 100% \u{20ac}", "traceparent": "00-1",
            "datacontenttype": "application/json", "data": {"n": 1},
        })
    );
    let content_type = |request: &Request| {
        headers_of(request).into_iter().find(|(name, _)| name == "content-type").map(|(_, value)| value)
    };
    assert_eq!(content_type(&structured).unwrap(), "application/cloudevents+json; charset=UTF-8");

    let binary = of(Payload::CloudeventsBinary, Method::Post);
    assert_eq!(binary.body, job.data);
    let headers = headers_of(&binary);
    let of_event: Vec<_> = headers
        .iter()
        .filter(|(name, _)| name.starts_with("ce-") || name == "content-type")
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        of_event,
        [
            ("content-type", "application/json"),
            ("ce-specversion", "1.0"),
            ("ce-id", job.event.id.as_str()),
            ("ce-source", "/shop"),
            ("ce-type", "order.%22paid%22"),
            ("ce-time", "2026-11-22T14:00:00Z"),
            ("ce-subject", "a%20%22b%22%20100%25%20%E2%82%AC"),
            ("ce-traceparent", "00-1"),
        ]
    );
    for payload in [Payload::CloudeventsBinary, Payload::CloudeventsStructured] {
        let get = of(payload, Method::Get);
        assert!(get.body.is_empty() && content_type(&get).is_none());
    }
    let ping = Prepared::new(Arc::new(Webhook { payload: Payload::CloudeventsStructured, ..webhook() }), "x")
        .unwrap()
        .ping("p1", NOW)
        .unwrap();
    let body: serde_json::Value = serde_json::from_slice(&ping.body).unwrap();
    assert_eq!((&body["id"], &body["type"]), (&"p1".into(), &PING_TYPE.into()));
}

#[test]
fn no_header_is_sent_twice() {
    let twice = |webhook: Webhook| match build(&webhook, &job(None, b"{}"), NOW, "x") {
        Err(Unsendable::Twice { name }) => name,
        other => panic!("{other:?}"),
    };
    let with = |profiles: Vec<Profile>, header: &str| Webhook {
        signatures: profiles.into(),
        headers: vec![(header.to_owned(), "x".to_owned())],
        ..webhook()
    };
    assert_eq!(twice(with(vec![Profile::Github], "X-Hub-Signature-256")), "x-hub-signature-256");
    let hex = || Profile::HmacSha256Hex { header: "x-own".to_owned() };
    assert_eq!(twice(with(vec![hex()], "x-own")), "x-own");
    let clash = Profile::HmacSha256Hex { header: "stripe-signature".to_owned() };
    assert_eq!(twice(with(vec![clash, Profile::Stripe], "y")), "stripe-signature");
    assert_eq!(twice(Webhook { secret_header: Some("y".to_owned()), ..with(vec![], "Y") }), "y");
}

#[test]
fn what_an_authorization_comes_to() {
    let with = |credentials| {
        let authorization = Authorization {
            id: AuthorizationId(Uuid::nil()),
            account: webhook().account,
            name: "a".to_owned(),
            endpoint: "https://example.com".to_owned(),
            credentials,
            revision: 1,
        };
        let url = "https://example.com/hook".to_owned();
        Webhook { url, headers: Vec::new(), authorization: Some(Arc::new(authorization)), ..webhook() }
    };
    let request = |webhook: Webhook| build(&webhook, &job(None, b"{}"), NOW, "x").unwrap();
    let credentials = ClientCredentials {
        token_url: "https://id.example/token".to_owned(),
        client_id: "c".to_owned(),
        client_secret: SecretString::new("s".to_owned()),
        scopes: vec!["hooks".to_owned()],
    };
    let sent = request(with(Credentials::Oauth2(credentials.clone())));
    assert_eq!(sent.token.as_deref(), Some(&credentials));
    assert!(headers_of(&sent).iter().all(|(name, _)| name != "authorization"));
    let mtls = Credentials::Mtls { certificate: "CERT".to_owned(), key: SecretString::new("KEY".to_owned()) };
    let sent = request(with(mtls));
    assert_eq!(&*sent.tls.unwrap().identity().unwrap().certificate, "CERT");
    let mut elsewhere = with(Credentials::Oauth2(credentials));
    elsewhere.url = "https://other.example/hook".to_owned();
    assert!(matches!(build(&elsewhere, &job(None, b"{}"), NOW, "x"), Err(Unsendable::Elsewhere { .. })));
}
