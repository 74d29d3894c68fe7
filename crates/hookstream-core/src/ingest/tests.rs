//! Every format and every bad record, by table.

use std::collections::BTreeMap;
use std::sync::Arc;

use hookstream_types::AccountUid;
use proptest::prelude::*;
use rustc_hash::FxHashMap;
use uuid::Uuid;

use super::*;
use crate::config::{Account, DebeziumMapping, DeliveryMode, EventType, Mapping, Meta, Pick, Verification};

pub(super) const ACME: AccountUid = AccountUid(Uuid::from_u128(1));
pub(super) const DEFAULT: AccountUid = AccountUid(Uuid::from_u128(2));
/// 2026-01-02T03:04:05Z.
pub(super) const PRODUCED_AT: UnixMillis = UnixMillis(1_767_323_045_000);

fn meta() -> Meta {
    Meta {
        revision: 1,
        created_at: UnixMillis(0),
        updated_at: UnixMillis(0),
        actor: "test".into(),
        request: None,
    }
}

pub(super) fn view() -> View {
    let accounts = [("acme", ACME), ("default", DEFAULT)];
    let accounts = accounts.into_iter().map(|(name, uid)| {
        (
            name.to_owned(),
            Arc::new(Account { uid, name: name.into(), verification: Verification::Ping, meta: meta() }),
        )
    });
    let name = "order.paid".to_owned();
    let event_type = EventType {
        name: name.clone(),
        description: None,
        schema: None,
        sample: None,
        scopes: Vec::new(),
        delivery: DeliveryMode::Async,
        deprecated: false,
        ttl_ms: None,
        meta: meta(),
    };
    View::new(
        Offset(9),
        accounts.collect(),
        BTreeMap::new(),
        BTreeMap::from([(name, Arc::new(event_type))]),
        FxHashMap::default(),
    )
}

pub(super) fn source(format: Format) -> Source {
    Source { name: "shop".into(), topics: vec!["orders".into()], format, meta: meta(), ..Source::default() }
}

pub(super) fn cloudevents() -> Format {
    Format::Cloudevents { account: "account".into() }
}

fn pointer(text: &str) -> Pick {
    Pick::Pointer(text.into())
}

pub(super) fn mapping() -> Mapping {
    Mapping {
        id: Some(pointer("/meta/id")),
        event_type: pointer("/meta/kind"),
        time: Some(pointer("/meta/at")),
        account: Some(pointer("/tenant")),
        subject: Some(pointer("/order/no")),
        data: Some("/order".into()),
    }
}

type HeaderList<'a> = &'a [(&'a str, &'a str)];

/// Decodes a record; each outcome as an owned value.
fn decode_with(
    source: &Source,
    view: &View,
    timestamp: UnixMillis,
    headers: HeaderList<'_>,
    value: Option<&[u8]>,
) -> Vec<Result<(EventAttributes, String), Rejection>> {
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    let record = SourceRecord { timestamp, value, headers: &headers };
    let at = Coordinates { cluster: "c", topic_id: "t", partition: Partition(1), offset: Offset(2) };
    let mut outcomes = Vec::new();
    decode(source, record, at, view, |index, outcome| {
        assert_eq!(index as usize, outcomes.len());
        outcomes.push(
            outcome.map(|decoded| (decoded.attributes, String::from_utf8_lossy(&decoded.data).into_owned())),
        );
    });
    outcomes
}

fn run(
    format: Format,
    headers: HeaderList<'_>,
    value: &str,
) -> Vec<Result<(EventAttributes, String), Rejection>> {
    decode_with(&source(format), &view(), PRODUCED_AT, headers, Some(value.as_bytes()))
}

#[track_caller]
fn accepted(format: Format, headers: HeaderList<'_>, value: &str) -> (EventAttributes, String) {
    let [outcome] = run(format, headers, value).try_into().unwrap();
    outcome.unwrap()
}

#[track_caller]
fn rejected(format: Format, headers: HeaderList<'_>, value: &str, reason: Reason, part: &str) {
    let [outcome] = run(format, headers, value).try_into().unwrap();
    let rejection = outcome.unwrap_err();
    assert_eq!(rejection.reason, reason, "{}", rejection.message);
    assert!(rejection.message.contains(part), "`{}` has no `{part}`", rejection.message);
}

const BINARY: HeaderList<'_> = &[
    ("ce_specversion", "1.0"),
    ("ce_id", "e-1"),
    ("ce_source", "/shop"),
    ("ce_type", "order.paid"),
    ("ce_time", "2026-01-01T00:00:00+01:00"),
    ("ce_subject", "Łódź"),
    ("ce_account", "acme"),
    ("ce_traceparent", "00-1"),
    ("content-type", "application/json; charset=utf-8"),
    ("other", "ignored"),
];

/// `BINARY` with other values; an empty one leaves the header out.
fn binary<'a>(changes: HeaderList<'a>) -> Vec<(&'a str, &'a str)> {
    let mut headers: Vec<(&str, &str)> = BINARY.to_vec();
    for (name, value) in changes {
        headers.retain(|(other, _)| other != name);
        if !value.is_empty() {
            headers.push((name, value));
        }
    }
    headers
}

// === CloudEvents, binary ===

#[test]
fn binary_mode() {
    // Spaces and duplicates in the data stay as they are.
    let data = "{ \"a\" : 1, \"a\":2 }";
    let (event, passed) = accepted(cloudevents(), BINARY, data);
    assert_eq!(passed, data);
    let expected = EventAttributes {
        event: EventId::of_cloudevent(ACME, "shop", "/shop", "e-1"),
        account: ACME,
        source: "shop".into(),
        id: "e-1".into(),
        ce_source: "/shop".into(),
        event_type: "order.paid".into(),
        subject: Some("Łódź".into()),
        time: "2026-01-01T00:00:00+01:00".into(),
        content_type: Some("application/json; charset=utf-8".into()),
        extensions: vec![("account".into(), "acme".into()), ("traceparent".into(), "00-1".into())],
        produced_at: PRODUCED_AT,
    };
    assert_eq!(event, expected);
}

#[test]
fn binary_mode_without_what_is_optional() {
    let headers = binary(&[("ce_time", ""), ("ce_subject", ""), ("ce_account", ""), ("content-type", "")]);
    let (event, data) = accepted(cloudevents(), &headers, "\u{1}not json");
    assert_eq!(data, "\u{1}not json");
    assert_eq!((event.account, event.subject, event.content_type), (DEFAULT, None, None));
    assert_eq!(event.time, "2026-01-02T03:04:05Z");
    let none = decode_with(&source(cloudevents()), &view(), PRODUCED_AT, &headers, None);
    assert_eq!(none[0].as_ref().unwrap().1, "");
}

#[test]
fn bad_binary_mode() {
    let bad = |changes: HeaderList<'_>, reason, part: &str| {
        rejected(cloudevents(), &binary(changes), "{}", reason, part);
    };
    bad(&[("ce_id", "")], Reason::BadCloudevent, "no `id`");
    bad(&[("ce_source", "")], Reason::BadCloudevent, "no `source`");
    bad(&[("ce_type", "")], Reason::BadCloudevent, "no `type`");
    bad(&[("ce_specversion", "")], Reason::BadCloudevent, "no `specversion`");
    bad(&[("ce_specversion", "0.3")], Reason::BadCloudevent, "`0.3`, and only `1.0`");
    bad(&[("ce_id", "x\r\ny")], Reason::BadCloudevent, "`id` has control characters");
    bad(&[("ce_subject", "x\ny")], Reason::BadCloudevent, "`subject` has control characters");
    bad(&[("ce_traceparent", "x\0y")], Reason::BadCloudevent, "`traceparent` has control");
    bad(&[("ce_Über", "x")], Reason::BadCloudevent, "`Über` is not named");
    bad(&[("ce_time", "yesterday")], Reason::BadTime, "`yesterday` is not RFC 3339");
    bad(&[("ce_time", "2026-01-01 00:00:00Z")], Reason::BadTime, "not RFC 3339");
    bad(&[("ce_time", "2026-01-01T00:00:00")], Reason::BadTime, "not RFC 3339");
    bad(&[("ce_type", "order paid")], Reason::BadType, "letters, digits");
    bad(&[("ce_type", "order.*")], Reason::BadType, "is a pattern");
    bad(&[("ce_type", "*")], Reason::BadType, "is a pattern");
    bad(&[("ce_type", &"x".repeat(257))], Reason::BadType, "longer than 256");
    bad(&[("ce_account", "nobody")], Reason::UnknownAccount, "no account `nobody`");
    let mut twice = BINARY.to_vec();
    twice.push(("ce_id", "e-2"));
    rejected(cloudevents(), &twice, "{}", Reason::BadCloudevent, "`id` twice");
    rejected(cloudevents(), BINARY, "{\"a\":", Reason::NotJson, "content type is JSON, and the data is not");
    rejected(cloudevents(), &[], "{}", Reason::BadCloudevent, "neither `ce_` headers nor");
    let avro = &[("content-type", "application/cloudevents+avro")];
    rejected(cloudevents(), avro, "{}", Reason::BadCloudevent, "only `application/cloudevents+json`");
    let mut headers: Vec<_> = BINARY.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    headers[1].1 = b"\xff";
    let record = SourceRecord { timestamp: PRODUCED_AT, value: None, headers: &headers };
    let at = Coordinates { cluster: "c", topic_id: "t", partition: Partition(1), offset: Offset(2) };
    decode(&source(cloudevents()), record, at, &view(), |_, outcome| {
        assert!(outcome.unwrap_err().message.contains("`ce_id` is not UTF-8"));
    });
}

// === CloudEvents, structured ===

const STRUCTURED: HeaderList<'_> = &[("content-type", "application/cloudevents+json; charset=UTF-8")];

fn structured(members: &str) -> String {
    format!(r#"{{"specversion":"1.0","id":"e-1","source":"/shop","type":"order.paid"{members}}}"#)
}

#[test]
fn structured_mode() {
    let value = structured(r#","account":"acme","n":7,"none":null,"data":{ "a" : [1,2] }"#);
    let (event, data) = accepted(cloudevents(), STRUCTURED, &value);
    assert_eq!(data, r#"{ "a" : [1,2] }"#);
    assert_eq!(event.event, EventId::of_cloudevent(ACME, "shop", "/shop", "e-1"));
    assert_eq!(event.content_type.as_deref(), Some("application/json"));
    assert_eq!(event.extensions, [("account".into(), "acme".into()), ("n".into(), "7".into())]);
}

#[test]
fn structured_data() {
    let data = |members: &str| accepted(cloudevents(), STRUCTURED, &structured(members)).1;
    assert_eq!(data(""), "");
    assert_eq!(data(r#","data":"text""#), "\"text\"");
    assert_eq!(data(r#","datacontenttype":"text/plain","data":"a\n\u00e9""#), "a\né");
    assert_eq!(data(r#","datacontenttype":"text/plain","data":{"a":1}"#), r#"{"a":1}"#);
    assert_eq!(data(r#","datacontenttype":"application/octet-stream","data_base64":"aGk=""#), "hi");
    assert_eq!(data(r#","datacontenttype":"application/x+json","data_base64":"e30=""#), "{}");
}

#[test]
fn bad_structured_mode() {
    let bad = |value: &str, reason, part: &str| rejected(cloudevents(), STRUCTURED, value, reason, part);
    bad("", Reason::Empty, "no value");
    bad("<xml/>", Reason::NotJson, "not JSON (expected value at line 1 column 1)");
    bad("[]", Reason::BadCloudevent, "is a JSON object");
    bad("{}", Reason::BadCloudevent, "no `specversion`");
    bad(&structured(r#","id":"e-2""#), Reason::BadCloudevent, "`id` twice");
    bad(&structured(r#","data":1,"data":2"#), Reason::BadCloudevent, "`data` twice");
    bad(&structured(r#","data":1,"data_base64":"""#), Reason::BadCloudevent, "both `data` and `data_base64`");
    bad(&structured(r#","data_base64":"%""#), Reason::BadCloudevent, "not base64");
    bad(&structured(r#","data_base64":{}"#), Reason::BadCloudevent, "is an object");
    bad(&structured(r#","x":{}"#), Reason::BadCloudevent, "`x` is an object");
    bad(
        &structured(r#","datacontenttype":"text/json","data_base64":"eyI=""#),
        Reason::NotJson,
        "mend either",
    );
    bad(&format!("{} x", structured("")), Reason::NotJson, "trailing characters");
    let deep = structured(&format!(r#","data":{}{}"#, "[".repeat(200), "]".repeat(200)));
    bad(&deep, Reason::NotJson, "deeper than 128");
}

#[test]
fn batches() {
    let headers = &[("content-type", "application/cloudevents-batch+json")];
    let second = structured("").replace("e-1", "e-2");
    let outcomes = run(cloudevents(), headers, &format!("[{}, {{}}, {second}]", structured("")));
    assert_eq!(outcomes.len(), 3);
    assert_eq!(outcomes[0].as_ref().unwrap().0.id, "e-1");
    assert_eq!(outcomes[1].as_ref().unwrap_err().reason, Reason::BadCloudevent);
    assert_eq!(outcomes[2].as_ref().unwrap().0.id, "e-2");
    assert!(run(cloudevents(), headers, "[]").is_empty());
    rejected(cloudevents(), headers, "{}", Reason::BadCloudevent, "is a JSON array");
}

// === JSON with a mapping ===

fn json() -> Format {
    Format::Json { mapping: mapping() }
}

const ORDER: &str = r#"{"meta":{"id":17,"kind":"order.paid","at":"2026-01-01T00:00:00Z"},"tenant":"acme","order":{"no": "o-1"} }"#;

#[test]
fn mapped_json() {
    let (event, data) = accepted(json(), &[], ORDER);
    assert_eq!(data, r#"{"no": "o-1"}"#);
    assert_eq!(event.event, EventId::of_cloudevent(ACME, "shop", "shop", "17"));
    assert_eq!((event.id.as_str(), event.ce_source.as_str()), ("17", "shop"));
    assert_eq!((event.event_type.as_str(), event.subject.as_deref()), ("order.paid", Some("o-1")));
    assert_eq!(event.time, "2026-01-01T00:00:00Z");
    assert_eq!(event.content_type.as_deref(), Some("application/json"));
}

#[test]
fn mapped_json_with_constants_and_defaults() {
    let mapping = Mapping {
        id: None,
        event_type: Pick::Constant("order.paid".into()),
        time: None,
        account: Some(Pick::Constant("acme".into())),
        subject: None,
        data: None,
    };
    let value = " [1, 2]\n";
    let (event, data) = accepted(Format::Json { mapping }, &[], value);
    assert_eq!(data, "[1, 2]");
    assert_eq!(event.event, EventId::of_coordinates("c", "t", Partition(1), Offset(2), 0));
    assert_eq!(event.id, event.event.to_string());
    assert_eq!((event.account, event.time.as_str()), (ACME, "2026-01-02T03:04:05Z"));
}

#[test]
fn pointers_reach_everywhere() {
    let pick = |path: &str, value: &str| {
        let mapping = Mapping {
            event_type: pointer(path),
            id: None,
            time: None,
            account: None,
            subject: None,
            data: None,
        };
        run(Format::Json { mapping }, &[], value).remove(0).map(|(event, _)| event.event_type)
    };
    assert_eq!(pick("/a/1/b", r#"{"a":[0,{"b":"x"}]}"#).unwrap(), "x");
    assert_eq!(pick("/a~1b/c~0d", r#"{"a/b":{"c~d":"x"}}"#).unwrap(), "x");
    assert_eq!(pick("", r#""x""#).unwrap(), "x");
    assert_eq!(pick("/", r#"{"":"x"}"#).unwrap(), "x");
    assert_eq!(pick("/\u{e9}", r#"{"\u00e9":"x"}"#).unwrap(), "x");
    assert_eq!(pick("/a", r#"{"a":true}"#).unwrap(), "true");
    // The last of equal names counts, as for most readers.
    assert_eq!(pick("/a", r#"{"a":"x","a":"y"}"#).unwrap(), "y");
    assert!(pick("/a/b", r#"{"a":{"b":"x"},"a":1}"#).is_err());
    assert!(pick("/a/01", r#"{"a":[0,"x"]}"#).is_err());
}

#[test]
fn times_of_mapped_json() {
    let time = |at: &str| accepted(json(), &[], &ORDER.replace(r#""2026-01-01T00:00:00Z""#, at)).0.time;
    assert_eq!(time("1767225600"), "2026-01-01T00:00:00Z");
    assert_eq!(time("1767225600123"), "2026-01-01T00:00:00.123Z");
    assert_eq!(time("null"), "2026-01-02T03:04:05Z");
    assert_eq!(time("9223372036854775807"), "9999-12-30T00:00:00Z");
}

#[test]
fn bad_mapped_json() {
    let bad = |value: &str, reason, part: &str| rejected(json(), &[], value, reason, part);
    bad("", Reason::Empty, "no value");
    bad(
        "not json",
        Reason::NotJson,
        "the value is not JSON (expected ident at line 1 column 2): mend the producer",
    );
    bad("{\"a\":1}}", Reason::NotJson, "trailing characters");
    bad(&"{\"a\":".repeat(20_000), Reason::NotJson, "deeper than 128");
    bad(&"[".repeat(1_000_000), Reason::NotJson, "deeper than 128");
    bad("{}", Reason::Unmapped, "the pointer `/meta/id` of `id` points at nothing");
    bad(
        &ORDER.replace("kind", "k"),
        Reason::Unmapped,
        "the pointer `/meta/kind` of `type` points at nothing",
    );
    bad(&ORDER.replace("tenant", "t"), Reason::Unmapped, "the pointer `/tenant` of `account`");
    bad(&ORDER.replace("\"acme\"", "null"), Reason::Unmapped, "the pointer `/tenant` of `account`");
    bad(&ORDER.replace("\"acme\"", "\"x\\u0000\""), Reason::UnknownAccount, "no account `x\\u{0}`");
    bad(&ORDER.replace("order\":", "o\":"), Reason::Unmapped, "the pointer `/order` of `data`");
    bad(&ORDER.replace("17", "{}"), Reason::Unmapped, "of `id` points at an object: it should be a text");
    bad(&ORDER.replace("17", "\"\""), Reason::BadCloudevent, "`id` is empty");
    bad(&ORDER.replace("2026-01-01T", "x"), Reason::BadTime, "is not RFC 3339");
    let [outcome] =
        decode_with(&source(json()), &view(), PRODUCED_AT, &[], Some(b"{\"\xff\":1}")).try_into().unwrap();
    assert!(outcome.unwrap_err().message.contains("byte 2 is not UTF-8"));
    let [outcome] = decode_with(&source(json()), &view(), PRODUCED_AT, &[], None).try_into().unwrap();
    assert_eq!(outcome.unwrap_err().reason, Reason::Empty);
}

// === Debezium ===

fn debezium() -> Format {
    let mapping =
        DebeziumMapping { entity: None, account: Some(pointer("/tenant")), subject: Some(pointer("/id")) };
    Format::Debezium { mapping }
}

fn change(op: &str) -> String {
    let (before, after) = match op {
        "d" => (r#"{"id":1,"tenant":"acme"}"#, "null"),
        "t" => ("null", "null"),
        _ => ("null", r#"{"id":1,"tenant":"acme"}"#),
    };
    format!(
        r#"{{"before":{before},"after":{after},"source":{{"table":"orders","ts_ms":1767225600123}},"op":"{op}","ts_ms":1767225600999}}"#
    )
}

#[test]
fn changes() {
    for (op, event_type) in
        [("c", "orders.created"), ("u", "orders.updated"), ("d", "orders.deleted"), ("r", "orders.read")]
    {
        let plain = change(op);
        let enveloped = format!(r#"{{"schema":{{"type":"struct"}},"payload":{plain}}}"#);
        for value in [&plain, &enveloped] {
            let (event, data) = accepted(debezium(), &[], value);
            assert_eq!(data, plain);
            assert_eq!((event.event_type.as_str(), event.account), (event_type, ACME));
            assert_eq!(event.subject.as_deref(), Some("1"));
            assert_eq!(event.time, "2026-01-01T00:00:00.123Z");
            assert_eq!(event.event, EventId::of_coordinates("c", "t", Partition(1), Offset(2), 0));
        }
    }
    let mapping = DebeziumMapping { entity: Some("order".into()), account: None, subject: None };
    let (event, _) = accepted(Format::Debezium { mapping }, &[], &change("t"));
    assert_eq!((event.event_type.as_str(), event.account), ("order.truncated", DEFAULT));
}

#[test]
fn debezium_tombstones_mean_nothing() {
    assert!(decode_with(&source(debezium()), &view(), PRODUCED_AT, &[], None).is_empty());
    assert!(run(debezium(), &[], "").is_empty());
    assert!(run(debezium(), &[], "null").is_empty());
    assert!(run(debezium(), &[], r#"{"schema":null,"payload":null}"#).is_empty());
}

#[test]
fn bad_changes() {
    let bad = |value: &str, reason, part: &str| rejected(debezium(), &[], value, reason, part);
    bad("{", Reason::NotJson, "not JSON");
    bad("{}", Reason::BadChange, "no `op`");
    bad(r#"{"id":1}"#, Reason::BadChange, "ExtractNewRecordState");
    bad(r#"{"op":"m"}"#, Reason::BadChange, "`op` is `m`");
    bad(r#"{"op":"c"}"#, Reason::BadChange, "no `source.table`");
    bad(&change("t"), Reason::Unmapped, "the pointer `/tenant` of `account` points at nothing");
    bad(&change("c").replace("orders", "my orders"), Reason::BadType, "`my orders.created`");
}

// === Auto ===

#[test]
fn auto_looks_at_the_record() {
    assert_eq!(accepted(Format::Auto, BINARY, "{}").0.event_type, "order.paid");
    assert_eq!(accepted(Format::Auto, STRUCTURED, &structured("")).0.id, "e-1");
    assert_eq!(accepted(Format::Auto, &[], &structured("")).0.ce_source, "/shop");
    let (event, data) =
        accepted(Format::Auto, &[], r#"{"type":"a.b","data":[1],"account":"acme","subject":5}"#);
    assert_eq!((event.event_type.as_str(), event.account, data.as_str()), ("a.b", ACME, "[1]"));
    assert_eq!(event.event, EventId::of_coordinates("c", "t", Partition(1), Offset(2), 0));
    let (event, data) = accepted(Format::Auto, &[], r#"{"type":"a.b","id":"x","more":1}"#);
    assert_eq!((event.id.as_str(), data.as_str()), ("x", r#"{"type":"a.b","id":"x","more":1}"#));
    rejected(Format::Auto, &[], "{}", Reason::Unmapped, "no field `type`");
    rejected(Format::Auto, &[], "x", Reason::NotJson, "not JSON");
    rejected(Format::Auto, &[], r#"{"type":["a"]}"#, Reason::Unmapped, "`type` is an array");
}

// === All formats ===

#[test]
fn sizes() {
    let room = MAX_EVENT_BYTES - accepted(cloudevents(), BINARY, "{}").0.size();
    let fits = format!("\"{}\"", "x".repeat(room - 2));
    assert_eq!(accepted(cloudevents(), BINARY, &fits).1.len(), room);
    let more = format!("\"{}\"", "x".repeat(room - 1));
    rejected(cloudevents(), BINARY, &more, Reason::TooLarge, "takes 524289 bytes, and 524288 is the most");
    let ten_mib = format!("\"{}\"", "x".repeat(10 * 1024 * 1024));
    rejected(cloudevents(), BINARY, &ten_mib, Reason::TooLarge, "send a reference");
    // Large attributes would not fit into each hop's record beside the data.
    let subject = "x".repeat(MAX_ATTRIBUTES_BYTES);
    rejected(cloudevents(), &binary(&[("ce_subject", &subject)]), "{}", Reason::TooLarge, "attributes take");
}

#[test]
fn strict_sources_take_registered_types() {
    let strict = Source { strict: true, ..source(cloudevents()) };
    let outcome = |headers: HeaderList<'_>| {
        decode_with(&strict, &view(), PRODUCED_AT, headers, Some(b"{}")).remove(0).map(|(event, _)| event.id)
    };
    assert!(outcome(BINARY).is_ok());
    let rejection = outcome(&binary(&[("ce_type", "order.lost")])).unwrap_err();
    assert_eq!(rejection.reason, Reason::UnregisteredType);
    assert!(rejection.message.contains("`order.lost` is not registered, and the source `shop` is strict"));
    // An event type that nobody registered is no fault elsewhere.
    assert_eq!(
        accepted(cloudevents(), &binary(&[("ce_type", "order.lost")]), "{}").0.event_type,
        "order.lost"
    );
}

#[test]
fn without_a_default_account() {
    let headers = binary(&[("ce_account", "")]);
    let outcome =
        decode_with(&source(cloudevents()), &View::default(), PRODUCED_AT, &headers, Some(b"{}")).remove(0);
    let message = outcome.unwrap_err().message;
    assert!(message.contains("names no account, and there is no account `default`"), "{message}");
}

#[test]
fn timestamps_of_any_kind() {
    let headers = binary(&[("ce_time", "")]);
    for (timestamp, expected) in [
        (-1, "1970-01-01T00:00:00Z"),
        (32_472_144_000_000, "2999-01-01T00:00:00Z"),
        (i64::MAX, "9999-12-30T00:00:00Z"),
        (i64::MIN, "1970-01-01T00:00:00Z"),
    ] {
        let timestamp = UnixMillis(timestamp);
        let outcome =
            decode_with(&source(cloudevents()), &view(), timestamp, &headers, Some(b"{}")).remove(0);
        assert_eq!(outcome.unwrap().0.time, expected);
    }
}

proptest! {
    /// Whatever stands in a record, there are outcomes and no panic, the same each time.
    #[test]
    fn anything_goes(
        value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200)),
        headers in proptest::collection::vec(("(ce_)?(id|type|time|x)|content-type", ".{0,20}"), 0..6),
        timestamp in any::<i64>(),
    ) {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        for format in [cloudevents(), json(), debezium(), Format::Auto] {
            let once = || decode_with(&source(format.clone()), &view(), UnixMillis(timestamp), &headers, value.as_deref());
            prop_assert_eq!(once(), once());
        }
    }

    /// The same for what is nearly right.
    #[test]
    fn damaged_documents_never_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let documents = [structured(r#","data":{"a":"\u00e9"}"#), ORDER.to_owned(), change("d")];
        for document in documents {
            let mut bytes = document.into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            for format in [cloudevents(), json(), debezium(), Format::Auto] {
                for headers in [&[], STRUCTURED] {
                    decode_with(&source(format.clone()), &view(), PRODUCED_AT, headers, Some(&bytes));
                }
            }
        }
    }
}
