use super::*;
use crate::console::texts::Lang;

const fn field(at: &'static str, input: Input) -> Field {
    Field {
        at,
        label: |t| t.name,
        hint: None,
        input,
        part: Part::Main,
        is_required: false,
        when: None,
        is_fixed: false,
    }
}

const FIELDS: &[Field] = &[
    field("name", Input::Line),
    field("eventTypes", Input::EventTypes),
    field("payload", Input::Payload),
    field("headers", Input::Rows),
    field("secret", Input::Secret),
    field("signature", Input::Signatures),
    field("tls.ca", Input::Area),
    field("tls.pins", Input::Lines),
    field("rate", Input::Rate),
    field("giveUpOn", Input::Numbers),
    field("sample", Input::Json),
    field("logOnlyErrors", Input::Check),
    field("which", Input::Which(&["header", "basic"])),
    Field { when: Some("header"), ..field("header.name", Input::Line) },
    Field { when: Some("basic"), ..field("basic.user", Input::Line) },
    Field { is_fixed: true, ..field("account", Input::Line) },
];

#[test]
fn what_was_typed_is_a_document() {
    let form = Form::of(&[
        ("name", " a "),
        ("eventTypes", "order.paid"),
        ("eventTypes.more", "user.*\r\norder.paid"),
        ("payload", "template"),
        ("payload.template", "a\r\nb"),
        ("headers", "x-a"),
        ("headers.value", "1"),
        ("headers", ""),
        ("headers.value", ""),
        ("signature", "stripe"),
        ("signature.hex", "x-sig"),
        ("tls.pins", "p, q"),
        ("rate", "2.5"),
        ("giveUpOn", "404 \n 405"),
        ("sample", "{\"a\":1}"),
        ("logOnlyErrors", "on"),
        ("which", "basic"),
        ("header.name", "left"),
        ("basic.user", "ann"),
        ("account", "acme"),
    ]);
    let made = document(FIELDS, &form, &json!({})).unwrap();
    let expected = json!({
        "name": "a", "eventTypes": ["order.paid", "user.*"], "payload": {"template": "a\nb"},
        "headers": {"x-a": "1"}, "signature": ["stripe", {"hmacSha256Hex": "x-sig"}], "tls": {"pins": ["p", "q"]},
        "rate": 2.5, "giveUpOn": [404, 405], "sample": {"a": 1}, "logOnlyErrors": true, "basic": {"user": "ann"},
        "account": "acme",
    });
    assert_eq!(Value::Object(made), expected);
}

#[test]
fn what_is_there_and_has_no_field_stays_and_so_do_secrets() {
    let kept = json!({ "sensitiveValuePresent": true });
    let old = json!({
        "revision": 3, "state": "published", "name": "a", "account": "acme", "secret": kept, "payload": "event",
        "headers": {"x-a": kept, "x-b": kept}, "tls": {"ca": "…"}, "rate": "30/m", "signature": [{"httpMessage": "ed25519"}],
        "header": {"name": "x"},
    });
    let form = Form::of(&[
        ("name", "b"),
        ("headers", "x-a"),
        ("headers.value", ""),
        ("secret", ""),
        ("payload", "event"),
        ("which", "header"),
        ("header.name", "y"),
        ("account", "other"),
    ]);
    let made = document(FIELDS, &form, &old).unwrap();
    let expected = json!({
        "revision": 3, "state": "published", "name": "b", "account": "acme", "secret": kept, "payload": "event",
        "headers": {"x-a": kept}, "eventTypes": [], "signature": [{"httpMessage": "ed25519"}], "logOnlyErrors": false,
        "header": {"name": "y"},
    });
    assert_eq!(Value::Object(made), expected);
}

#[test]
fn what_is_no_document_is_told_at_its_field_and_stays() {
    let form = Form::of(&[("sample", "{a"), ("giveUpOn", "4o4"), ("headers", ""), ("headers.value", "lost")]);
    let errors = document(FIELDS, &form, &json!({})).unwrap_err();
    let t = Lang::English.texts();
    let more = [
        FieldError::new("/tls/pins/0", "is no pin"),
        FieldError::new("", "whole"),
        FieldError::new("/nameless", "x"),
    ];
    let all: Vec<FieldError> = errors.into_iter().chain(more).collect();
    let (views, left) = views(t, FIELDS, &json!({}), Some(&form), &[], &all);
    let error = |name: &str| {
        views.iter().find(|(_, view)| view.name == name).and_then(|(_, view)| view.error.clone())
    };
    assert!(error("sample").unwrap().contains("line 1 column 2"));
    assert_eq!(error("giveUpOn").as_deref(), Some("`4o4` is no number"));
    assert!(error("headers").unwrap().contains("without a name"));
    assert_eq!(error("tls.pins").as_deref(), Some("is no pin"));
    assert_eq!(error("name"), None);
    assert_eq!(left.iter().map(|error| &*error.detail).collect::<Vec<_>>(), ["whole", "x"]);
    let view =
        |name: &str| views.iter().find(|(_, view)| view.name == name).map(|(_, view)| view.value.clone());
    assert_eq!(view("sample").as_deref(), Some("{a"), "nothing typed is lost");
}

#[test]
fn a_document_is_shown() {
    let t = Lang::English.texts();
    let registered = ["order.created".to_owned(), "order.paid".to_owned(), "user.left".to_owned()];
    let document = json!({
        "revision": 1, "account": "acme", "eventTypes": ["order.paid", "x.*"], "payload": {"template": "[Data]"},
        "headers": {"x-a": {"sensitiveValuePresent": true}}, "sample": {"a": [1]}, "basic": {"user": "ann"},
        "signature": ["standard", {"hmacSha256Hex": "x-sig"}],
    });
    let (views, _) = views(t, FIELDS, &document, None, &registered, &[]);
    let view = |name: &str| views.iter().map(|(_, view)| view).find(|view| view.name == name).unwrap();
    assert_eq!(view("eventTypes").more, "x.*");
    let chosen: Vec<_> =
        view("eventTypes").groups.iter().flat_map(|group| &group.choices).filter(|c| c.is_chosen).collect();
    assert_eq!(chosen.len(), 1);
    assert_eq!(view("payload").more, "[Data]");
    assert_eq!(view("signature").more, "x-sig");
    assert_eq!(view("basic.user").value, "ann");
    assert!(
        view("which").options[1].is_chosen && view("headers").rows[0].is_kept && view("account").is_fixed
    );
    assert_eq!(view("sample").value, "{\n  \"a\": [\n    1\n  ]\n}");
}
