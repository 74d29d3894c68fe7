use hookstream_types::{AccountUid, EventId, UnixMillis};
use proptest::prelude::*;
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::event::EventAttributes;

fn event() -> EventAttributes {
    EventAttributes {
        event: EventId(Uuid::nil()),
        account: AccountUid(Uuid::nil()),
        source: "shop".into(),
        id: "e-1".into(),
        ce_source: "/shop/7".into(),
        event_type: "order.paid".into(),
        subject: Some("order-17".into()),
        time: "2026-01-01T00:00:00Z".into(),
        content_type: Some("application/json".into()),
        extensions: vec![("tenant".into(), "acme".into())],
        produced_at: UnixMillis(0),
    }
}

fn filter(pattern: Value) -> Filter {
    Filter::compile(&Arc::new(pattern)).unwrap()
}

fn matches(pattern: &Value, data: &Value) -> bool {
    let (event, data) = (event(), data.to_string());
    let (filter, facts) = (filter(pattern.clone()), Facts::of(&event, data.as_bytes()));
    let matches = filter.matches(&facts);
    assert!(!matches || filter.mismatches(&facts).is_empty(), "{pattern} {data}");
    matches
}

/// Of the field `/data/v`.
#[track_caller]
fn check(conditions: Value, yes: &[Value], no: &[Value]) {
    let pattern = json!({ "data": { "v": conditions } });
    for value in yes {
        assert!(matches(&pattern, &json!({ "v": value })), "{pattern} {value}");
    }
    for value in no {
        assert!(!matches(&pattern, &json!({ "v": value })), "{pattern} {value}");
    }
}

#[test]
fn values() {
    check(
        json!(["a"]),
        &[json!("a"), json!(["b", "a"])],
        &[json!("A"), json!("ab"), json!(["b"]), json!([]), json!({}), json!(null)],
    );
    check(json!(["a", 1]), &[json!("a"), json!(1)], &[json!("1"), json!(true)]);
    check(json!([""]), &[json!("")], &[json!(" "), json!(null)]);
    check(json!([true]), &[json!(true)], &[json!(false), json!("true")]);
    check(json!([null]), &[json!(null)], &[json!(""), json!(0), json!([])]);
    check(json!(["*", "\\"]), &[json!("*"), json!("\\")], &[json!("x")]);
}

#[test]
fn numbers_are_compared_by_value() {
    let of = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    check(json!([300]), &[of("300"), of("300.0"), of("3.0e2"), of("30000e-2")], &[of("300.1"), json!("300")]);
    check(of("[0.1]"), &[of("0.1"), of("1e-1")], &[of("0.2")]);
    check(
        json!([9_007_199_254_740_993_i64]),
        &[of("9007199254740993")],
        &[of("9007199254740992"), of("9007199254740994")],
    );
    let range = |range: Value| json!([{ "numeric": range }]);
    check(
        range(json!([">", 0, "<=", 5])),
        &[json!(5), of("5.0"), of("0.001")],
        &[json!(0), of("5.001"), json!("3")],
    );
    check(range(json!(["<", 5, ">=", 0])), &[json!(0), of("-0.0")], &[json!(5), json!(-1)]);
    check(range(json!(["=", 5])), &[of("5.0")], &[json!(6)]);
    check(range(json!(["<", -1])), &[json!(-2), of("-1e300")], &[json!(-1), json!(7)]);
}

#[test]
fn texts() {
    check(json!([{ "prefix": "ab" }]), &[json!("ab"), json!("abc")], &[json!("a"), json!("xab"), json!(5)]);
    check(json!([{ "suffix": ".png" }]), &[json!("a.png"), json!(".png")], &[json!("a.PNG"), json!("png")]);
    let any_case = |operator: &str| json!([{ operator: { "equals-ignore-case": "aB" } }]);
    check(any_case("prefix"), &[json!("Abc"), json!("ABC")], &[json!("xab")]);
    check(any_case("suffix"), &[json!("xAB"), json!("ab")], &[json!("abx")]);
    check(json!([{ "equals-ignore-case": "ÆØÅ" }]), &[json!("æøå"), json!("Æøå")], &[json!("aoa")]);
    check(
        json!([{ "wildcard": "a*b*c" }]),
        &[json!("abc"), json!("axxbyyc"), json!("abbc")],
        &[json!("ab"), json!("acb"), json!("xabc")],
    );
    check(json!([{ "wildcard": "*" }]), &[json!(""), json!("x")], &[json!(1), json!(null)]);
    check(json!([{ "wildcard": "*/x/*.jpg" }]), &[json!("a/x/b.jpg"), json!("/x/.jpg")], &[json!("a/x/jpg")]);
    // What the first part takes is not there for the last.
    check(json!([{ "wildcard": "aba*aba" }]), &[json!("abaaba"), json!("abaxaba")], &[json!("ababa")]);
    check(json!([{ "wildcard": r"\*a\\*" }]), &[json!(r"*a\x")], &[json!(r"xa\x"), json!("*ax")]);
    check(
        json!([{ "cidr": "10.1.0.0/16" }]),
        &[json!("10.1.2.3")],
        &[json!("10.2.0.1"), json!("10.1"), json!("::1")],
    );
    check(json!([{ "cidr": "2001:db8::/32" }]), &[json!("2001:db8::1")], &[json!("2001:db9::1")]);
    check(json!([{ "cidr": "10.1.2.3" }]), &[json!("10.1.2.3")], &[json!("10.1.2.4")]);
}

#[test]
fn a_prefix_in_greek_is_one_whatever_comes_after() {
    check(
        json!([{ "prefix": { "equals-ignore-case": "ΟΔΟΣ" } }]),
        &[json!("ΟΔΟΣΑ"), json!("οδοσα")],
        &[json!("ΟΔΟ")],
    );
}

/// Far more than a second if the event is searched for each element.
#[test]
fn what_is_absent_is_looked_for_once() {
    let pattern = json!({ "data": { "a": { "b": [{ "exists": false }], "x": [1] } } });
    let data = json!({ "a": vec![json!({}); 100_000] });
    assert!(!matches(&pattern, &data));
}

#[test]
fn anything_but() {
    let but = |operand: Value| json!([{ "anything-but": operand }]);
    check(
        but(json!("a")),
        &[json!("b"), json!(1), json!(null), json!(["a", "b"])],
        &[json!("a"), json!(["a"]), json!([]), json!({})],
    );
    check(but(json!(["a", 1])), &[json!("1"), json!(2)], &[json!("a"), json!(1)]);
    check(but(json!({ "prefix": "a" })), &[json!("b"), json!(5)], &[json!("ab")]);
    check(but(json!({ "suffix": ["x", "y"] })), &[json!("z")], &[json!("ax"), json!("ay")]);
    check(but(json!({ "equals-ignore-case": ["A"] })), &[json!("b")], &[json!("a"), json!("A")]);
    check(but(json!({ "wildcard": "*a*" })), &[json!("b")], &[json!("bab")]);
}

#[test]
fn whether_it_is_there() {
    let exists = |is_there: bool| json!([{ "exists": is_there }]);
    let there = [json!("a"), json!(null), json!(0), json!([1]), json!([[], {}, 1])];
    let not_there = [json!({}), json!([]), json!({ "x": 1 }), json!([{ "x": 1 }, []])];
    check(exists(true), &there, &not_there);
    check(exists(false), &not_there, &there);
    assert!(matches(&json!({ "data": { "v": exists(false), "w": [1] } }), &json!({ "w": 1 })));
    assert!(matches(&json!({ "data": { "v": { "deep": exists(false) } } }), &json!({})));
    assert!(matches(&json!({ "data": { "v": [{ "exists": false }, "a"] } }), &json!({ "v": "a" })));
    assert!(!matches(&json!({ "data": { "v": [{ "exists": false }, "a"] } }), &json!({ "v": "b" })));
    // Of the whole event, not of an element.
    let pattern = json!({ "data": { "a": { "b": [1], "c": [{ "exists": false }] } } });
    assert!(!matches(&pattern, &json!({ "a": [{ "b": 1 }, { "b": 2, "c": 3 }] })));
    assert!(matches(&pattern, &json!({ "a": [{ "b": 1 }, { "b": 2 }] })));
}

#[test]
fn what_is_said_of_objects_in_an_array_is_true_of_one() {
    let pattern =
        json!({ "data": { "lines": { "sku": ["a"], "price": { "amount": [{ "numeric": [">", 5] }] } } } });
    let line = |sku: &str, amount: i64| json!({ "sku": sku, "price": { "amount": amount } });
    assert!(matches(&pattern, &json!({ "lines": [line("b", 9), line("a", 6)] })));
    assert!(!matches(&pattern, &json!({ "lines": [line("b", 9), line("a", 5)] })));
    assert!(matches(&pattern, &json!({ "lines": [[line("b", 9)], [[line("a", 6)]]] })));
    // Different arrays have nothing to do with each other.
    let apart = json!({ "data": { "x": { "n": [1] }, "y": { "n": [2] } } });
    assert!(matches(&apart, &json!({ "x": [{ "n": 0 }, { "n": 1 }], "y": [{ "n": 2 }] })));
}

#[test]
fn one_or_the_other() {
    let pattern = json!({
        "type": ["order.paid"],
        "$or": [{ "data": { "a": [1] } }, { "data": { "b": [2], "$or": [{ "c": [3] }, { "d": [4] }] } }],
    });
    for (data, expected) in [
        (json!({ "a": 1 }), true),
        (json!({ "b": 2 }), false),
        (json!({ "b": 2, "c": 3 }), true),
        (json!({ "b": 2, "d": 4 }), true),
        (json!({ "c": 3, "d": 4 }), false),
    ] {
        assert_eq!(matches(&pattern, &data), expected, "{data}");
    }
}

#[test]
fn attributes() {
    for (pattern, expected) in [
        (json!({ "type": ["order.paid"], "source": [{ "prefix": "/shop" }], "id": ["e-1"] }), true),
        (
            json!({ "subject": [{ "suffix": "17" }], "time": [{ "prefix": "2026-" }], "tenant": ["acme"] }),
            true,
        ),
        (json!({ "datacontenttype": ["application/json"] }), true),
        (json!({ "other": [{ "exists": false }] }), true),
        (json!({ "tenant": ["other"] }), false),
        (json!({ "data": ["x"] }), false),
    ] {
        assert_eq!(matches(&pattern, &json!({})), expected, "{pattern}");
    }
    // The data may be a value, or no JSON at all.
    assert!(matches(&json!({ "data": ["x"] }), &json!("x")));
    let (event, none) = (event(), filter(json!({ "data": { "a": [{ "exists": false }] } })));
    for data in [&b""[..], b"<a/>", b"{\"a\":1", b"\xff", &[b'['; 100_000]] {
        assert!(none.matches(&Facts::of(&event, data)));
    }
}

#[test]
fn what_keeps_an_event_away_is_named() {
    let event = event();
    let named = |pattern: Value, data: Value| {
        let data = data.to_string();
        let (filter, facts) = (filter(pattern), Facts::of(&event, data.as_bytes()));
        assert!(!filter.matches(&facts));
        filter.mismatches(&facts)
    };
    let pattern =
        json!({ "type": ["x"], "data": { "a": [1], "b/c": { "d~": [2] }, "e": [{ "exists": false }] } });
    assert_eq!(named(pattern, json!({ "a": 1, "e": 0 })), ["/data/b~1c/d~0", "/data/e", "/type"]);
    // Of several ways the nearest.
    let either = json!({ "$or": [{ "data": { "a": [1], "b": [2] } }, { "data": { "c": [3] } }] });
    assert_eq!(named(either, json!({})), ["/data/c"]);
    let together = json!({ "data": { "a": { "x": [1], "y": [2] } } });
    assert_eq!(named(together, json!({ "a": [{ "x": 1 }, { "y": 2 }] })), [""; 0]);
}

#[test]
fn what_is_no_filter() {
    let deep = (0..MAX_DEPTH + 1).fold(json!([1]), |inner, _| json!({ "data": inner }));
    let ors: serde_json::Map<String, Value> =
        (0..7).map(|n| (format!("o{n}"), json!({ "$or": [{ "a": [1] }, { "b": [1] }] }))).collect();
    for (pattern, pointer, says) in [
        (json!([]), "", "JSON object"),
        (json!({}), "", "is empty"),
        (json!({ "data": {} }), "/data", "is empty"),
        (json!({ "detail": { "state": ["x"] } }), "/detail", "under `data`"),
        (json!({ "a": [] }), "/a", "no alternative"),
        (json!({ "a": "x" }), "/a", "must be a list"),
        (json!({ "a/b": [["x"]] }), "/a~1b/0", "list in a list"),
        (json!({ "a": [{}] }), "/a/0", "one operator"),
        (json!({ "a": [{ "prefix": "a", "suffix": "b" }] }), "/a/0", "one operator"),
        (json!({ "a": ["x", { "prefixx": "a" }] }), "/a/1/prefixx", "is no operator"),
        (json!({ "a": [{ "prefix": 5 }] }), "/a/0/prefix", "must be text"),
        (json!({ "a": [{ "prefix": "" }] }), "/a/0/prefix", "is empty"),
        (json!({ "a": [{ "prefix": { "any": "x" } }] }), "/a/0/prefix/any", "equals-ignore-case"),
        (json!({ "a": [{ "wildcard": "a**" }] }), "/a/0/wildcard", "in a row"),
        (json!({ "a": [{ "wildcard": "a\\b" }] }), "/a/0/wildcard", "write `\\\\`"),
        (json!({ "a": [{ "wildcard": "*a".repeat(MAX_STARS + 1) }] }), "/a/0/wildcard", "more than 20"),
        (json!({ "a": [{ "numeric": [">"] }] }), "/a/0/numeric", "list of comparisons"),
        (json!({ "a": [{ "numeric": [">", "5"] }] }), "/a/0/numeric", "list of comparisons"),
        (json!({ "a": [{ "numeric": [">", 1, ">=", 2] }] }), "/a/0/numeric", "same side"),
        (json!({ "a": [{ "numeric": [">", 2, "<", 1] }] }), "/a/0/numeric", "no number"),
        (json!({ "a": [{ "exists": "yes" }] }), "/a/0/exists", "`true` or `false`"),
        (json!({ "a": [{ "cidr": "10.0.0.0/33" }] }), "/a/0/cidr", "must be a network"),
        (json!({ "a": [{ "anything-but": [] }] }), "/a/0/anything-but", "nothing"),
        (json!({ "a": [{ "anything-but": [true] }] }), "/a/0/anything-but", "text or a number"),
        (
            json!({ "a": [{ "anything-but": { "numeric": ["=", 1] } }] }),
            "/a/0/anything-but/numeric",
            "turned round",
        ),
        (json!({ "$or": [{ "a": [1] }] }), "/$or", "two patterns"),
        (json!({ "$or": [{ "a": [1] }, 5] }), "/$or/1", "must be a pattern"),
        (json!({ "a": [1], "$or": [{ "a": [2] }, { "b": [3] }] }), "", "`/a` stands"),
        (json!({ "a": ["x".repeat(MAX_BYTES)] }), "", "bytes"),
        (json!({ "a": (0..=MAX_TESTS).collect::<Vec<_>>() }), "/a", "more than 200"),
        (deep, &"/data".repeat(MAX_DEPTH), "deeper"),
        (json!({ "data": ors }), "/data", "more than 64"),
    ] {
        let error = Filter::compile(&Arc::new(pattern.clone())).unwrap_err();
        assert!(error.pointer == pointer && error.message.contains(says), "{pattern}: {error}");
    }
}

/// JSON of few names and values, so that patterns and events have to do with each other.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-3i64..4).prop_map(|n| json!(n)),
        "[ab*]{0,3}".prop_map(Value::String),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let names = prop_oneof![
            Just("a"),
            Just("b"),
            Just("$or"),
            Just("prefix"),
            Just("anything-but"),
            Just("numeric"),
            Just("exists"),
            Just("wildcard"),
            Just("suffix")
        ];
        let members = proptest::collection::vec((names.prop_map(str::to_owned), inner.clone()), 0..4);
        prop_oneof![
            proptest::collection::vec(inner, 0..4).prop_map(Value::Array),
            members.prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Whatever is written, and whatever comes.
    #[test]
    fn nothing_panics_and_what_matches_lacks_nothing(pattern in json(), data in json()) {
        let event = event();
        let text = data.to_string();
        if let Ok(filter) = Filter::compile(&Arc::new(json!({ "data": pattern }))) {
            let facts = Facts::of(&event, text.as_bytes());
            if filter.matches(&facts) {
                prop_assert!(filter.mismatches(&facts).is_empty());
            }
        }
    }

    /// Without arrays in the event, what does not match lacks something.
    #[test]
    fn what_does_not_match_lacks_something(a in "[ab]{0,2}", b in -3i64..4) {
        let pattern = json!({ "data": { "a": [{ "prefix": "a" }, ""], "b": [{ "numeric": [">", 0] }] } });
        let data = json!({ "a": a, "b": b });
        let (event, text) = (event(), data.to_string());
        let (filter, facts) = (filter(pattern), Facts::of(&event, text.as_bytes()));
        prop_assert_eq!(filter.matches(&facts), filter.mismatches(&facts).is_empty());
    }
}
