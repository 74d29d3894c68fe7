use hookstream_types::{AccountUid, EventId, UnixMillis};
use proptest::prelude::*;
use serde_json::Value as Json;
use uuid::Uuid;

use super::*;

fn event() -> EventAttributes {
    EventAttributes {
        event: EventId(Uuid::nil()),
        account: AccountUid(Uuid::nil()),
        source: "shop".to_owned(),
        id: "ev-1".to_owned(),
        ce_source: "/shop".to_owned(),
        event_type: "booking.created".to_owned(),
        subject: None,
        time: "2024-03-18T09:56:17Z".to_owned(),
        content_type: None,
        extensions: Vec::new(),
        produced_at: UnixMillis(0),
    }
}

fn rendered(template: &str, language: Language, data: &str) -> String {
    let template = Template::compile(template, language).unwrap();
    let data = Bytes::copy_from_slice(data.as_bytes());
    let out = template.render(Input { event: &event(), account: "acme", data: &data }).unwrap();
    String::from_utf8(out).unwrap()
}

fn error(template: &str, language: Language) -> String {
    Template::compile(template, language).unwrap_err().to_string()
}

const DATA: &str = r#"{"Booking":{"Id":"B-7","Total":12.50,"Paid":true,"Note":null,"Guests":[{"Name":"Ås \"O\""}],
    "at":"2024-01-02T03:04:05+01:00"},"Subject":"inner"}"#;

/// Platform A's own template.
#[test]
fn the_template_of_a_travel_platform() {
    let template = r#"{"eventType":"[EventType]","bookingId":"[Booking.Id]"}"#;
    assert_eq!(
        rendered(template, Language::Json, DATA),
        r#"{"eventType":"booking.created","bookingId":"B-7"}"#
    );
}

#[test]
fn placeholders() {
    for (template, expected) in [
        (
            "[EventType] [eventid] [EVENTTIME] [Source] [Account]",
            "booking.created ev-1 2024-03-18T09:56:17Z /shop acme",
        ),
        ("[Subject]|[Data.Subject]", "|inner"),
        ("[booking.ID] [Booking.Total] [Booking.Paid] [Booking.Note]", "B-7 12.50 true "),
        ("[Booking.Guests.0.Name] [Booking.Guests]", r#"Ås "O" [{"Name":"Ås \"O\""}]"#),
        ("[Booking.Note|none] [Nothing.here|a b] [Booking.Id|x]", "none a b B-7"),
        (
            "[EventTime:dd.MM.yyyy'T'HH:mm:ss'Z'] [Booking.at:HH:mm] [Booking.Id:yyyy]",
            "18.03.2024T09:56:17Z 02:04 B-7",
        ),
        ("[Booking.Note:yyyy|never] [EventTime:'[at] 'yyyy]", "never [at] 2024"),
        (
            "[Booking.Id:lower] [EventType:upper] [Booking.Id:base64] [Booking.Guests:json]",
            r#"b-7 BOOKING.CREATED Qi03 [{"Name":"Ås \"O\""}]"#,
        ),
    ] {
        assert_eq!(rendered(template, Language::Text, DATA), expected, "{template}");
    }
}

#[test]
fn other_brackets_are_what_they_are() {
    for text in [
        r#"["a", 1]"#,
        "[1]",
        "[]",
        "[[1,2],[3]]",
        "[true]",
        "[null]",
        r#"[[["a"]]]"#,
        "[",
        "[[",
        "]",
        "[-1]",
        "[ [ ] ]",
    ] {
        assert_eq!(rendered(text, Language::Json, "{}"), text);
    }
    assert_eq!(rendered("[[EventType] [[[EventType]", Language::Text, ""), "[EventType] [[EventType]");
    assert_eq!(rendered("[ [EventType] ]", Language::Json, ""), r#"[ "booking.created" ]"#);
    assert_eq!(rendered("a [b c] (d) [e", Language::Text, ""), "a [b c] (d) [e");
}

#[test]
fn json_is_escaped_for_where_it_stands() {
    let data = r#"{"a":"x\"\n","n":1,"o":{"k":[1, 2]}}"#;
    for (template, expected) in [
        (r#"{"v":[a],"n":[n],"o":[o],"none":[x]}"#, r#"{"v":"x\"\n","n":1,"o":{"k":[1, 2]},"none":null}"#),
        (
            r#"{"v":"<[a]>","n":"[n]","o":"[o]","none":"[x]"}"#,
            r#"{"v":"<x\"\n>","n":"1","o":"{\"k\":[1, 2]}","none":""}"#,
        ),
        (r#"{"d":[x|5],"t":[x|five],"s":"[x|5]"}"#, r#"{"d":5,"t":"five","s":"5"}"#),
        (r#"{"\"[a]":"\\[n]","[a]":[n]}"#, r#"{"\"x\"\n":"\\1","x\"\n":1}"#),
        (r#"{"j":[o:json],"s":"[o:json]"}"#, r#"{"j":"{\"k\":[1, 2]}","s":"{\"k\":[1, 2]}"}"#),
        ("[Data]", data),
        (r#""[Data]""#, r#""{\"a\":\"x\\\"\\n\",\"n\":1,\"o\":{\"k\":[1, 2]}}""#),
    ] {
        let out = rendered(template, Language::Json, data);
        assert_eq!(out, expected, "{template}");
        serde_json::from_str::<Json>(&out).unwrap();
    }
}

#[test]
fn markup_is_escaped_for_where_it_stands() {
    let data = r#"{"a":"<b> & \"c\" 'd' ]]> \u0000\r"}"#;
    let escaped = "&lt;b&gt; &amp; &quot;c&quot; &#39;d&#39; ]]&gt; \u{fffd}&#13;";
    let template =
        r#"<?xml version="1.0"?><e k="[a]"><!-- [1] --><v>[a]</v><w><![CDATA[[EventType]: [a]]]></w></e>"#;
    let expected = format!(
        r#"<?xml version="1.0"?><e k="{escaped}"><!-- [1] --><v>{escaped}</v><w><![CDATA[booking.created: <b> & "c" 'd' ]]]]><![CDATA[> {}{}]]></w></e>"#,
        '\u{fffd}', '\r'
    );
    assert_eq!(rendered(template, Language::Xml, data), expected);
    // A value can't make an end of itself and what follows it.
    let split = rendered("<v><![CDATA[[a]]>[a]]></v>", Language::Xml, r#"{"a":"]"}"#);
    assert!(!split.contains("]]]>["), "{split}");
}

#[test]
fn forms_are_percent_encoded() {
    assert_eq!(
        rendered("type=[EventType]&v=[a]&w=[x|b c]", Language::Form, r#"{"a":"ø & =%\n"}"#),
        "type=booking.created&v=%C3%B8+%26+%3D%25%0A&w=b+c"
    );
}

#[test]
fn data_that_is_no_json() {
    let template = Template::compile(r#"{"data":[Data],"x":[a.b]}"#, Language::Json).unwrap();
    let with = |content_type: &str, data: &'static [u8]| {
        let event = EventAttributes { content_type: Some(content_type.to_owned()), ..event() };
        let out =
            template.render(Input { event: &event, account: "", data: &Bytes::from_static(data) }).unwrap();
        String::from_utf8(out).unwrap()
    };
    assert_eq!(with("application/xml", b"<a/>"), r#"{"data":"<a/>","x":null}"#);
    assert_eq!(with("application/octet-stream", &[0xff]), r#"{"data":"/w==","x":null}"#);
    // Whatever its producer said: it may not end what it stands in.
    assert_eq!(with("application/json", b"1},{"), r#"{"data":"1},{","x":null}"#);
    assert_eq!(with("application/json", b""), r#"{"data":null,"x":null}"#);
    assert_eq!(with("text/plain", b"5"), r#"{"data":"5","x":null}"#);
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (template, language, expected) in [
        (
            "a\n  [EventTime:yyyy",
            Language::Text,
            "line 2, column 3: the placeholder `[EventTime` does not end: close it with `]`, or write `[[` for a bracket",
        ),
        ("[a..b]", Language::Json, "line 1, column 1: the path `a..b` has an empty step"),
        (
            "ø [EventTime:Q]",
            Language::Text,
            "line 1, column 3: the format `Q` is neither `lower`, `upper`, `json`, `base64` nor a pattern for times such as `dd.MM.yyyy`: `Q` is no part of a time: text stands in quotes, `'Q'` (for a bracket as it is, write `[[`)",
        ),
        (r#"{"a":"\[a]"}"#, Language::Json, "line 1, column 8: a placeholder can't follow a backslash"),
        (
            "<[a]/>",
            Language::Xml,
            "line 1, column 2: a placeholder can't stand in a tag but for an attribute's value, in quotes",
        ),
        ("<!-- [a] -->", Language::Xml, "line 1, column 6: a placeholder can't stand in a comment"),
        ("<?x [a]?>", Language::Xml, "line 1, column 5: a placeholder can't stand in `<?…?>`"),
    ] {
        assert_eq!(error(template, language), expected, "{template}");
    }
    let deep = format!("[{}a]", "a.".repeat(MAX_STEPS));
    assert!(error(&deep, Language::Text).ends_with("has more than 16 steps"));
    assert!(error(&"[a]".repeat(MAX_PLACEHOLDERS + 1), Language::Text).ends_with("at most 500 placeholders"));
    assert!(error(&"a".repeat(MAX_TEMPLATE_BYTES + 1), Language::Text).contains("at most 65536 bytes"));
}

#[test]
fn a_payload_is_bounded() {
    let template = Template::compile(&"[Data]".repeat(100), Language::Text).unwrap();
    let data = Bytes::from(vec![b'1'; 100_000]);
    let result = template.render(Input { event: &event(), account: "", data: &data });
    assert_eq!(result, Err(NoPayload::TooLarge));
}

#[test]
fn languages_by_content_type() {
    for (content_type, language) in [
        ("application/json; charset=utf-8", Language::Json),
        ("application/cloudevents+JSON", Language::Json),
        ("TEXT/XML", Language::Xml),
        ("application/soap+xml", Language::Xml),
        ("text/html;charset=utf-8", Language::Html),
        ("application/x-www-form-urlencoded", Language::Form),
        ("text/plain", Language::Text),
        ("", Language::Text),
    ] {
        assert_eq!(Language::of(content_type), language, "{content_type}");
    }
}

proptest! {
    /// Whatever the values are, a payload of JSON is JSON, with these values in their places.
    #[test]
    fn json_stays_json(text in ".*", key in "[A-Za-z]{1,8}", number in any::<i64>()) {
        let data = serde_json::json!({ &key: { "text": &text, "number": number } }).to_string();
        let template = format!(r#"{{"in":"[Data.{key}.text]","beside":[Data.{key}.text],"n":[Data.{key}.number]}}"#);
        let out: Json = serde_json::from_str(&rendered(&template, Language::Json, &data)).unwrap();
        prop_assert_eq!(&out["in"], &text);
        prop_assert_eq!(&out["beside"], &text);
        prop_assert_eq!(&out["n"], &serde_json::json!(number));
    }

    /// Whatever the value is, no markup begins or ends with it.
    #[test]
    fn markup_stays_markup(text in ".*") {
        let data = serde_json::json!({ "v": &text }).to_string();
        let out = rendered(r#"<a b="[v]">[v]</a>"#, Language::Xml, &data);
        for special in ['<', '>', '"'] {
            prop_assert_eq!(out.matches(special).count(), r#"<a b=""></a>"#.matches(special).count());
        }
        // Each section ends where it should: with what follows the value.
        let out = rendered("<![CDATA[[v]>]]>", Language::Xml, &data);
        let mut rest = out.as_str();
        let mut content = String::new();
        while let Some(section) = rest.strip_prefix("<![CDATA[") {
            let end = section.find("]]>").unwrap();
            content.push_str(&section[..end]);
            rest = &section[end + 3..];
        }
        prop_assert_eq!(rest, "");
        prop_assert_eq!(content, text.chars().map(allowed).chain(['>']).collect::<String>());
    }

    /// Any text is a template or is not; neither takes down what compiles it.
    #[test]
    fn any_text_is_compiled_or_refused(text in r#"([\[\]|:'.<>"\\!{}-]|CDATA|Event|Data|yyyy|\PC){0,60}"#) {
        for language in [Language::Json, Language::Xml, Language::Form, Language::Text] {
            if let Ok(template) = Template::compile(&text, language) {
                template.render(Input { event: &event(), account: "acme", data: &Bytes::from_static(b"{}") }).unwrap();
            }
        }
    }
}
