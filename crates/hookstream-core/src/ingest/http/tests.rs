use uuid::Uuid;

use super::*;
use crate::ingest::tests::{ACME, DEFAULT, PRODUCED_AT, cloudevents, mapping, source, view};

const FRESH: EventId = EventId(Uuid::from_u128(7));
const ANYONE: Writer<'static> = Writer { account: None, client: "c", idempotency_key: None, fresh: FRESH };

type Headers<'a> = &'a [(&'a str, &'a str)];
type Taken = Vec<(crate::event::EventAttributes, String)>;

fn send(
    format: Format,
    writer: &Writer<'_>,
    content_type: Option<&str>,
    headers: Headers<'_>,
    body: &str,
) -> Result<Taken, Refusal> {
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    let request =
        HttpRequest { content_type, headers: &headers, body: body.as_bytes(), received_at: PRODUCED_AT };
    decode_http(&source(format), &request, writer, &view()).map(|events| {
        let text = |data: &[u8]| String::from_utf8_lossy(data).into_owned();
        events.into_iter().map(|event| (event.attributes, text(&event.data))).collect()
    })
}

#[track_caller]
fn faults(outcome: Result<Taken, Refusal>) -> Vec<Fault> {
    match outcome.unwrap_err() {
        Refusal::Faults(faults) => faults,
        Refusal::ContentType(message) => panic!("{message}"),
    }
}

#[track_caller]
fn fault(outcome: Result<Taken, Refusal>, field: &str, reason: Reason, part: &str) {
    let [fault] = faults(outcome).try_into().unwrap();
    assert_eq!((fault.field.as_str(), fault.reason), (field, reason), "{}", fault.message);
    assert!(fault.message.contains(part), "`{}` has no `{part}`", fault.message);
}

const JSON: Option<&str> = Some("application/json");
const STRUCTURED: Option<&str> = Some("application/cloudevents+json; charset=UTF-8");
const BATCH: Option<&str> = Some("application/cloudevents-batch+json");
const BINARY: Headers<'_> = &[
    ("ce-specversion", "1.0"),
    ("ce-id", "e-1"),
    ("ce-source", "/shop"),
    ("ce-type", "order.paid"),
    ("ce-subject", "%C5%81%C3%b3d%C5%BA%20100%25"),
    ("ce-account", "\"ac\\me\""),
    ("ce-partitionkey", "%00%00"),
    ("other", "ignored"),
];

fn binary_with<'a>(name: &'a str, value: &'a str) -> Vec<(&'a str, &'a str)> {
    let mut headers = BINARY.to_vec();
    headers.retain(|(other, _)| *other != name);
    headers.push((name, value));
    headers
}

fn plain(writer: &Writer<'_>, body: &str) -> Result<Taken, Refusal> {
    send(Format::Auto, writer, JSON, &[], body)
}

fn event(members: &str) -> String {
    format!(r#"{{"specversion":"1.0","id":"e-1","source":"/shop","type":"order.paid"{members}}}"#)
}

#[test]
fn binary_mode_keeps_the_body_and_decodes_the_headers() {
    let body = "{ \"a\" : 1, \"a\":2 }";
    let [(event, data)] = send(cloudevents(), &ANYONE, JSON, BINARY, body).unwrap().try_into().unwrap();
    assert_eq!(data, body);
    assert_eq!((event.subject.as_deref(), event.account), (Some("Łódź 100%"), ACME));
    assert_eq!(event.event, EventId::of_cloudevent(ACME, "shop", "/shop", "e-1"));
    assert_eq!(event.content_type.as_deref(), JSON);
    assert!(event.extensions.contains(&("partitionkey".into(), "\0\0".into())));

    let [(_, data)] =
        send(cloudevents(), &ANYONE, Some("text/plain"), BINARY, "{").unwrap().try_into().unwrap();
    assert_eq!(data, "{");
}

#[test]
fn binary_mode_names_the_header_at_fault() {
    let bad = |name: &str, value: &str, field: &str, reason, part: &str| {
        let headers = binary_with(name, value);
        fault(send(cloudevents(), &ANYONE, JSON, &headers, "{}"), field, reason, part);
    };
    bad("ce-id", "x%0D%0Ay", "ce-id", Reason::BadCloudevent, "control characters");
    bad("ce-id", "%00", "ce-id", Reason::BadCloudevent, "control characters");
    bad("ce-id", "", "ce-id", Reason::BadCloudevent, "no `id`");
    bad("ce-id", "%4", "ce-id", Reason::BadCloudevent, "write `%25`");
    bad("ce-id", "%FF", "ce-id", Reason::BadCloudevent, "not UTF-8");
    bad("ce-id", "\"a", "ce-id", Reason::BadCloudevent, "begins with a quote");
    bad("ce-trace", "a%0Ab", "ce-trace", Reason::BadCloudevent, "control characters");
    bad("ce-Trace", "a", "ce-Trace", Reason::BadCloudevent, "letters a to z");
    bad("ce-type", "../../admin", "ce-type", Reason::BadType, "letters, digits");
    bad("ce-time", "today", "ce-time", Reason::BadTime, "RFC 3339");
    bad("ce-specversion", "0.3", "ce-specversion", Reason::BadCloudevent, "only `1.0`");
    bad("ce-datacontenttype", "text/plain", "content-type", Reason::BadCloudevent, "twice");
    bad("ce-account", "nobody", "ce-account", Reason::UnknownAccount, "there is no account `nobody`");
    fault(send(cloudevents(), &ANYONE, JSON, BINARY, "{\"a\":1e400}"), "", Reason::NotJson, "double");
    let mut twice = BINARY.to_vec();
    twice.push(("ce-id", "e-2"));
    fault(send(cloudevents(), &ANYONE, JSON, &twice, "{}"), "ce-id", Reason::BadCloudevent, "twice");
}

#[test]
fn structured_mode_names_the_member_at_fault() {
    let send = |body: &str| send(cloudevents(), &ANYONE, STRUCTURED, &[], body);
    let [(_, data)] = send(&event(r#","data":{"n":1.50}"#)).unwrap().try_into().unwrap();
    assert_eq!(data, r#"{"n":1.50}"#);
    fault(send(&event(r#","id":"e-2""#)), "/id", Reason::BadCloudevent, "twice");
    fault(send(&event(r#","time":null,"time":"x""#)), "/time", Reason::BadCloudevent, "twice");
    fault(send(&event(r#","a":"1","a":null"#)), "/a", Reason::BadCloudevent, "twice");
    fault(send(&event(r#","a":{}"#)), "/a", Reason::BadCloudevent, "is an object");
    fault(send(&event(r#","data":1e400"#)), "", Reason::NotJson, "`1e400`");
    fault(
        send(&event(r#","datacontenttype":"a\r\nb""#)),
        "/datacontenttype",
        Reason::BadCloudevent,
        "control",
    );
    fault(send(&event(r#","data_base64":"?""#)), "/data_base64", Reason::BadCloudevent, "not base64");
    fault(send("[]"), "", Reason::BadCloudevent, "JSON object");
    fault(send(""), "", Reason::Empty, "the body is empty");
    fault(send(&"{\"a\":".repeat(20_000)), "", Reason::NotJson, "nested deeper than 128");
}

#[test]
fn a_batch_is_taken_as_a_whole_or_every_fault_is_named() {
    let send = |writer: &Writer<'_>, body: &str| send(cloudevents(), writer, BATCH, &[], body);
    assert_eq!(send(&ANYONE, "[]").unwrap(), []);
    let two = format!("[{},{}]", event(""), event(",\"data\":1").replace("e-1", "e-2"));
    assert_eq!(send(&ANYONE, &two).unwrap().len(), 2);

    let body = format!("[{},{},3,{}]", event(""), event(",\"x/y\":1"), event(",\"time\":\"x\""));
    let found = faults(send(&ANYONE, &body));
    let fields: Vec<_> = found.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(fields, ["/1/x~1y", "/2", "/3/time"]);

    fault(send(&ANYONE, &event("")), "", Reason::BadCloudevent, "not a JSON array");
    let many = vec!["0"; MAX_BATCH_EVENTS + 1].join(",");
    fault(send(&ANYONE, &format!("[{many}]")), "", Reason::TooLarge, "1001 events");

    let writer = Writer { idempotency_key: Some("k"), ..ANYONE };
    let ids: Vec<_> = send(&writer, &two).unwrap().into_iter().map(|(event, _)| event.event).collect();
    let keyed = |key| EventId::of_idempotency_key(DEFAULT, "c", key);
    assert_eq!(ids, [keyed("k"), keyed("k 1")]);
}

#[test]
fn plain_json_without_a_mapping() {
    let [(event, data)] = plain(&ANYONE, r#"{"type":"a.b","data":[1]}"#).unwrap().try_into().unwrap();
    assert_eq!((event.event, event.id.as_str(), data.as_str()), (FRESH, &*FRESH.to_string(), "[1]"));
    assert_eq!((event.ce_source.as_str(), event.account), ("shop", DEFAULT));
    let body = r#"{"type":"a.b","id":"x","topic":"t"}"#;
    let [(event, data)] = plain(&ANYONE, body).unwrap().try_into().unwrap();
    assert_eq!((event.event, data.as_str()), (EventId::of_cloudevent(DEFAULT, "shop", "shop", "x"), body));
    let [(event, _)] = send(Format::Auto, &ANYONE, None, &[], &self::event("")).unwrap().try_into().unwrap();
    assert_eq!(event.ce_source, "/shop");

    fault(plain(&ANYONE, r#"{"id":"a","id":"b"}"#), "/id", Reason::BadCloudevent, "`id` twice");
    fault(plain(&ANYONE, r#"{"type":"a","x":1,"\u0078":2}"#), "/x", Reason::BadCloudevent, "`x` twice");
    fault(plain(&ANYONE, r#"{"n":1e400}"#), "", Reason::NotJson, "double");
    fault(plain(&ANYONE, r#"{"type":"a","data":1,"topic":"t"}"#), "/topic", Reason::Unmapped, "put it into");
    fault(plain(&ANYONE, r#"{"type":"../../admin"}"#), "/type", Reason::BadType, "letters, digits");
    fault(plain(&ANYONE, r#"{"type":{}}"#), "/type", Reason::Unmapped, "an object");
    fault(plain(&ANYONE, "{}"), "/type", Reason::Unmapped, "no field `type`");
    fault(plain(&ANYONE, "[]"), "", Reason::Unmapped, "not a JSON object");
}

#[test]
fn plain_json_by_a_mapping() {
    let send = |body: &str| send(Format::Json { mapping: mapping() }, &ANYONE, JSON, &[], body);
    let body =
        r#"{"meta":{"id":"x","kind":"a.b","at":"2026-01-01T00:00:00Z"},"tenant":"acme","order":{"no":"5"}}"#;
    let [(event, data)] = send(body).unwrap().try_into().unwrap();
    assert_eq!((event.id.as_str(), event.account, data.as_str()), ("x", ACME, r#"{"no":"5"}"#));
    fault(send(&body.replace("a.b", "a b")), "/meta/kind", Reason::BadType, "letters, digits");
    fault(send(&body.replace("\"kind\"", "\"sort\"")), "/meta/kind", Reason::Unmapped, "points at nothing");
    fault(send(&body.replace("\"at\"", "\"id\"")), "", Reason::BadCloudevent, "`id` twice");
    fault(send(&body.replace("acme", "nobody")), "/tenant", Reason::UnknownAccount, "no account");
}

#[test]
fn a_bound_client_writes_to_its_own_account_only() {
    let bound = Writer { account: Some(ACME), ..ANYONE };
    let account = |body: &str| plain(&bound, body).unwrap()[0].0.account;
    assert_eq!(account(r#"{"type":"a"}"#), ACME);
    assert_eq!(account(r#"{"type":"a","account":"acme"}"#), ACME);
    // An account that exists and one that does not are told apart by nothing but the name that was sent.
    let refused = |name: &str| {
        let body = format!(r#"{{"type":"a","account":"{name}"}}"#);
        let [fault] = faults(plain(&bound, &body)).try_into().unwrap();
        assert_eq!((fault.field.as_str(), fault.reason), ("/account", Reason::UnknownAccount));
        fault.message.replace(name, "")
    };
    assert_eq!(refused("default"), refused("nobody"));
}

#[test]
fn a_key_names_the_event_for_its_client_and_account() {
    let id = |client, key, account| {
        let writer = Writer { account: Some(account), client, idempotency_key: Some(key), fresh: FRESH };
        plain(&writer, r#"{"type":"a","id":"x"}"#).unwrap()[0].0.event
    };
    assert_eq!(id("c", "k", ACME), id("c", "k", ACME));
    let ids = [id("c", "k", ACME), id("d", "k", ACME), id("c", "l", ACME), id("c", "k", DEFAULT)];
    assert_eq!(std::collections::BTreeSet::from(ids).len(), 4);
}

#[test]
fn content_types() {
    for bad in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/cloudevents+avro",
        "application/json; charset=utf-16",
        "",
    ] {
        let outcome = send(Format::Auto, &ANYONE, Some(bad), &[], r#"{"type":"a"}"#);
        let Err(Refusal::ContentType(message)) = outcome else { panic!("{bad}: {outcome:?}") };
        assert!(message.contains("application/cloudevents+json"), "{message}");
    }
    for good in ["application/json", "APPLICATION/JSON;charset=\"UTF-8\"", "application/json; v=1"] {
        assert_eq!(send(Format::Auto, &ANYONE, Some(good), &[], r#"{"type":"a"}"#).unwrap().len(), 1);
    }
}

#[test]
fn numbers_that_no_double_holds_are_refused_and_others_are_not_touched() {
    let body = |number: &str| format!(r#"{{"type":"a","data":[{number}]}}"#);
    let long = "9".repeat(310);
    for bad in ["1e400", "-1E+400", "1.5e309", &long] {
        fault(plain(&ANYONE, &body(bad)), "", Reason::NotJson, "double");
    }
    let digits = "3".repeat(300);
    for good in ["1e308", "1e-400", "-0.0", "12345678901234567890123", &digits, "\"1e400\"", "\"\\\"1e400\""]
    {
        let [(_, data)] = plain(&ANYONE, &body(good)).unwrap().try_into().unwrap();
        assert_eq!(data, format!("[{good}]"));
    }
    fault(plain(&ANYONE, &body("1e")), "", Reason::NotJson, "not JSON");
}

#[test]
fn the_time_of_an_event_without_one_is_when_it_came() {
    assert_eq!(plain(&ANYONE, r#"{"type":"a"}"#).unwrap()[0].0.time, "2026-01-02T03:04:05Z");
}
