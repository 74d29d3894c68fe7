//! Whether a webhook's template makes what its content type promises, of the events that it gets.

use std::collections::BTreeSet;

use bytes::Bytes;
use hookstream_core::config::{EventType, Payload};
use hookstream_core::event::EventAttributes;
use hookstream_core::matching::pattern_matches;
use hookstream_core::template::{Input, Language, Shape, Template};
use hookstream_types::{AccountUid, EventId, UnixMillis};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::manifest::WebhookDocument;
use crate::state::State;

/// What a template makes of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// As it would be sent; what is no text in it is replaced.
    pub payload: String,
    /// What is wrong with it, or would be with other events.
    pub problems: Vec<String>,
}

/// An event of this type, as one might be: with these data, else with the type's sample, else without.
#[must_use]
pub fn sample(state: &State, event_type: &str, data: Option<&serde_json::Value>) -> (EventAttributes, Bytes) {
    let data = data.or_else(|| state.event_type(event_type)?.sample.as_ref());
    let data = data.map(|data| Bytes::from(data.to_string())).unwrap_or_default();
    (sample_event(event_type), data)
}

/// What a template makes of an event.
///
/// # Errors
/// If it makes nothing.
pub fn render(
    state: &State,
    template: &str,
    content_type: &str,
    account: &str,
    event: &EventAttributes,
    data: &Bytes,
) -> Result<Rendered, String> {
    let language = Language::of(content_type);
    let template = Template::compile(template, language).map_err(|error| error.to_string())?;
    let shape = state.event_type(&event.event_type).and_then(shape);
    let mut problems: Vec<String> =
        template.unknown(shape.as_slice()).iter().map(ToString::to_string).collect();
    let payload = template.render(Input { event, account, data }).map_err(|error| error.to_string())?;
    if !payload.is_empty() {
        problems.extend(well_formed(language, &payload).err());
    }
    Ok(Rendered { payload: String::from_utf8_lossy(&payload).into_owned(), problems })
}

/// Samples that a template is tried with.
const MAX_SAMPLES: usize = 20;
/// When a sample's event was.
const SAMPLE_TIME: &str = "2026-01-31T12:00:00Z";

/// What is wrong with the template, if the webhook has one; each with its place in the template.
pub(crate) fn problems(state: &State, webhook: &WebhookDocument) -> Vec<String> {
    let Payload::Template { text } = &webhook.payload else { return Vec::new() };
    let language = Language::of(&webhook.content_type);
    let template = match Template::compile(text, language) {
        Ok(template) => template,
        Err(error) => return vec![error.to_string()],
    };
    let known: Vec<&EventType> = state.event_types().filter(|known| gets(webhook, &known.name)).collect();
    let mut problems = Vec::new();
    if webhook.event_types.iter().all(|pattern| is_described(&known, pattern)) {
        let shapes: Vec<Shape<'_>> = known.iter().filter_map(|known| shape(known)).collect();
        problems.extend(template.unknown(&shapes).iter().map(ToString::to_string));
    }
    if text.is_empty() {
        return problems;
    }
    let samples = known.iter().filter_map(|known| Some((known.name.as_str(), known.sample.as_ref()?)));
    let mut samples: Vec<(&str, Bytes)> =
        samples.take(MAX_SAMPLES).map(|(name, sample)| (name, Bytes::from(sample.to_string()))).collect();
    if samples.is_empty() {
        // Then at least without data.
        samples.push(("order.created", Bytes::new()));
    }
    let malformed = samples.iter().find_map(|(event_type, data)| {
        let event = sample_event(event_type);
        let made = template.render(Input { event: &event, account: &webhook.account, data });
        let wrong = made.map_err(|error| error.to_string()).and_then(|made| well_formed(language, &made));
        wrong.err().map(|reason| format!("with the sample of `{event_type}`, {reason}"))
    });
    problems.extend(malformed);
    problems
}

fn gets(webhook: &WebhookDocument, event_type: &str) -> bool {
    webhook.event_types.iter().any(|pattern| pattern_matches(pattern, event_type))
}

fn shape(known: &EventType) -> Option<Shape<'_>> {
    let EventType { name, schema, sample, .. } = known;
    let (schema, sample) = (schema.as_ref(), sample.as_ref());
    (schema.is_some() || sample.is_some()).then_some(Shape { event_type: name, schema, sample })
}

/// Placeholders for the data of events that match one of these patterns, as far as schemas and samples tell.
#[must_use]
pub fn placeholders(state: &State, patterns: &[&str]) -> Vec<String> {
    let is_wanted = |known: &&EventType| patterns.iter().any(|pattern| pattern_matches(pattern, &known.name));
    let shapes = state.event_types().filter(is_wanted).filter_map(shape);
    let all: BTreeSet<String> = shapes.take(MAX_SAMPLES).flat_map(|shape| shape.paths()).collect();
    all.into_iter().collect()
}

/// Whether it is known what the data of such events looks like.
fn is_described(known: &[&EventType], pattern: &str) -> bool {
    let mut matching = known.iter().filter(|known| pattern_matches(pattern, &known.name)).peekable();
    matching.peek().is_some() && matching.all(|known| shape(known).is_some())
}

fn sample_event(event_type: &str) -> EventAttributes {
    EventAttributes {
        event: EventId(Uuid::nil()),
        account: AccountUid(Uuid::nil()),
        source: "sample".to_owned(),
        id: "sample-1".to_owned(),
        ce_source: "/sample".to_owned(),
        event_type: event_type.to_owned(),
        subject: Some("sample".to_owned()),
        time: SAMPLE_TIME.to_owned(),
        content_type: None,
        extensions: Vec::new(),
        produced_at: UnixMillis(0),
    }
}

fn well_formed(language: Language, payload: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(payload);
    match language {
        Language::Json => serde_json::from_str::<&RawValue>(&text)
            .map(drop)
            .map_err(|error| format!("it makes no JSON: {error}")),
        Language::Xml => {
            roxmltree::Document::parse(&text).map(drop).map_err(|error| format!("it makes no XML: {error}"))
        }
        Language::Html | Language::Form | Language::Text => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{Author, Change, EventTypeSpec, Expected, Undo, plan};
    use crate::manifest::FromJson;
    use crate::testing::{self, counter};

    fn state(event_types: &[(&str, serde_json::Value)]) -> State {
        let mut state = testing::state();
        for (name, sample) in event_types {
            let sample = (!sample.is_null()).then(|| sample.clone());
            let event_type = EventTypeSpec { name: (*name).to_owned(), sample, ..EventTypeSpec::default() };
            let change = Change::PutEventType { event_type, expected: Expected::Absent };
            let author = Author { actor: "test", now: UnixMillis(0), request: None };
            plan(&mut state, &[change], author, &mut counter(), &mut Undo::new()).unwrap();
        }
        state
    }

    fn found(state: &State, event_types: &[&str], content_type: &str, template: &str) -> Vec<String> {
        let document = serde_json::json!({ "account": "acme", "name": "w", "url": "https://a.example/",
            "eventTypes": event_types, "contentType": content_type, "payload": { "template": template } });
        problems(state, &WebhookDocument::from_json(&document).unwrap())
    }

    #[test]
    fn placeholders_lead_somewhere_if_it_is_known_where() {
        let state = state(&[
            ("booking.created", serde_json::json!({ "Booking": { "Id": 1 } })),
            ("booking.paid", serde_json::json!({ "Paid": true })),
            ("other.one", serde_json::Value::Null),
        ]);
        let of = |event_types: &[&str], template: &str| found(&state, event_types, "text/plain", template);
        assert_eq!(of(&["booking.*"], "[Booking.Id] [Paid]"), [""; 0]);
        assert_eq!(of(&["booking.created"], "[Paid]").len(), 1);
        assert!(
            of(&["booking.*"], "[Bokking.Id]")[0]
                .starts_with("line 1, column 1: `[Bokking.Id]` leads nowhere")
        );
        // Of these events nothing is known.
        for event_types in [&["other.one"][..], &["booking.*", "unregistered"], &["*"]] {
            assert_eq!(of(event_types, "[Whatever]"), [""; 0], "{event_types:?}");
        }
    }

    #[test]
    fn one_event_is_rendered() {
        let state = state(&[("a.b", serde_json::json!({ "n": 1 }))]);
        let of = |template: &str, data: Option<serde_json::Value>| {
            let (event, data) = sample(&state, "a.b", data.as_ref());
            render(&state, template, "application/json", "acme", &event, &data)
        };
        let rendered = of(r#"{"n":[n],"a":"[Account]"}"#, None).unwrap();
        assert_eq!((rendered.payload.as_str(), rendered.problems), (r#"{"n":1,"a":"acme"}"#, Vec::new()));
        let rendered = of("[n] [x]", Some(serde_json::json!({ "n": 2 }))).unwrap();
        assert_eq!((rendered.payload.as_str(), rendered.problems.len()), ("2 null", 2));
        assert!(of("[n:Q]", None).unwrap_err().starts_with("line 1, column 1: "));
        assert_eq!(of("", None).unwrap(), Rendered { payload: String::new(), problems: Vec::new() });
    }

    #[test]
    fn what_is_made_is_what_it_is_said_to_be() {
        let state = state(&[("a.b", serde_json::json!({ "n": 1, "s": "x" }))]);
        let of = |content_type: &str, template: &str| found(&state, &["a.b"], content_type, template);
        assert_eq!(of("application/json", r#"{"n":[n],"s":"[s]"}"#), [""; 0]);
        assert_eq!(of("application/xml", "<e n='[n]'>[s]</e>"), [""; 0]);
        assert_eq!(of("text/html", "<p>[s]<br>"), [""; 0]);
        assert_eq!(of("application/json", ""), [""; 0]);
        assert!(
            of("application/json", r#"{"n":[n]"#)[0]
                .starts_with("with the sample of `a.b`, it makes no JSON: EOF")
        );
        assert!(
            of("application/xml", "<e>[s]</f>")[0].starts_with("with the sample of `a.b`, it makes no XML: ")
        );
        assert!(of("application/json", r#"{"n":[[n]]}"#)[0].contains("it makes no JSON"));
    }
}
