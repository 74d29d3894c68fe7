//! The default payload: type, timestamp and data, in the form of the webhook's content type.
//!
//! In JSON (and where the content type is of no form that is known here):
//!
//! - JSON data (no content type, `application/json`, `text/json`, `…+json`):
//!   `{"type":…,"timestamp":…,"data":<the bytes>}`; empty data is `null`. Whoever made the event vouches that the
//!   bytes are JSON.
//! - text (`text/…`, `application/xml`, `…+xml`) in UTF-8: `{"type":…,"timestamp":…,"datacontenttype":…,"data":"…"}`.
//! - anything else: `{"type":…,"timestamp":…,"datacontenttype":…,"data_base64":"…"}`, the names of the CloudEvents
//!   JSON format.
//!
//! In XML the same fields are elements of `<event>`, and in a form its fields; there data that is JSON or text stands as
//! text. Text of any other kind (`text/plain`, `text/csv`) is the data alone.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::event::EventAttributes;
use crate::template::Language;

/// The form that a content type asks for.
pub(super) fn language(content_type: &str) -> Language {
    let is_text = content_type.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("text/"));
    match Language::of(content_type) {
        // Of somebody's own type nothing is known; JSON holds everything.
        Language::Text if !is_text => Language::Json,
        known => known,
    }
}

/// The payload of an event.
pub(super) fn body(language: Language, event: &EventAttributes, data: &Bytes) -> Bytes {
    match language {
        Language::Json | Language::Html => Bytes::from(json(event, data)),
        Language::Xml => Bytes::from(xml(event, data)),
        Language::Form => Bytes::from(form(event, data)),
        Language::Text => data.clone(),
    }
}

/// The fields, as text.
fn fields<'a>(
    event: &'a EventAttributes,
    data: &'a [u8],
    is_writable: fn(char) -> bool,
) -> Vec<(&'static str, Cow<'a, str>)> {
    let content_type = event.content_type.as_deref();
    let text = std::str::from_utf8(data).ok().filter(|text| text.chars().all(is_writable));
    let mut fields =
        vec![("type", event.event_type.as_str().into()), ("timestamp", event.time.as_str().into())];
    let form = DataForm::of(content_type, data);
    if form != DataForm::Json {
        fields.push(("datacontenttype", content_type.unwrap_or_default().into()));
    }
    match (form, text) {
        (DataForm::Json | DataForm::Text, Some(text)) => fields.push(("data", text.into())),
        _ => fields.push(("data_base64", STANDARD.encode(data).into())),
    }
    fields
}

fn xml(event: &EventAttributes, data: &[u8]) -> String {
    // XML 1.0 §2.2.
    let is_writable =
        |c: char| !matches!(c, '\0'..='\x08' | '\x0b' | '\x0c' | '\x0e'..='\x1f' | '\u{fffe}' | '\u{ffff}');
    let mut out = String::with_capacity(data.len() + data.len() / 8 + 256);
    out.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<event>");
    for (name, value) in fields(event, data, is_writable) {
        out.push_str(&format!("<{name}>"));
        for c in value.chars() {
            match c {
                '&' => out.push_str("&amp;"),
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                // A parser would make it a line's end.
                '\r' => out.push_str("&#13;"),
                c if is_writable(c) => out.push(c),
                _ => out.push('\u{fffd}'),
            }
        }
        out.push_str(&format!("</{name}>"));
    }
    out.push_str("</event>");
    out
}

fn form(event: &EventAttributes, data: &[u8]) -> String {
    let mut out = url::form_urlencoded::Serializer::new(String::with_capacity(data.len() * 2 + 128));
    for (name, value) in fields(event, data, |_| true) {
        out.append_pair(name, &value);
    }
    out.finish()
}

/// How data stands in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DataForm {
    Json,
    Text,
    Binary,
}

impl DataForm {
    /// By what the producer declared, never by the look of the bytes: the same event type always has the same form,
    /// but for text that isn't UTF-8.
    pub(super) fn of(content_type: Option<&str>, data: &[u8]) -> Self {
        let Some(content_type) = content_type else { return Self::Json };
        let media = content_type.split(';').next().unwrap_or_default().trim();
        let ends = |suffix: &str| {
            media
                .len()
                .checked_sub(suffix.len())
                .and_then(|at| media.get(at..))
                .is_some_and(|end| end.eq_ignore_ascii_case(suffix))
        };
        let is = |name: &str| media.eq_ignore_ascii_case(name);
        if media.is_empty() || is("application/json") || is("text/json") || ends("+json") {
            Self::Json
        } else if (is("application/xml")
            || ends("+xml")
            || media.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("text/")))
            && std::str::from_utf8(data).is_ok()
        {
            Self::Text
        } else {
            Self::Binary
        }
    }
}

fn json(event: &EventAttributes, data: &[u8]) -> Vec<u8> {
    /// Names, quotes, commas and braces.
    const FRAME: usize = 96;
    let content_type = event.content_type.as_deref();
    let form = DataForm::of(content_type, data);
    let data_bytes = if form == DataForm::Binary { data.len().div_ceil(3) * 4 } else { data.len() };
    let mut out = Vec::with_capacity(
        FRAME + event.event_type.len() + event.time.len() + content_type.map_or(0, str::len) + data_bytes,
    );
    out.extend_from_slice(br#"{"type":"#);
    push_json_string(&mut out, &event.event_type);
    out.extend_from_slice(br#","timestamp":"#);
    push_json_string(&mut out, &event.time);
    if form != DataForm::Json {
        out.extend_from_slice(br#","datacontenttype":"#);
        push_json_string(&mut out, content_type.unwrap_or_default());
    }
    push_data(&mut out, form, if data.is_empty() && form == DataForm::Json { b"null" } else { data });
    out.push(b'}');
    out
}

/// The member that holds data (CloudEvents JSON format §3.1), after others.
pub(super) fn push_data(out: &mut Vec<u8>, form: DataForm, data: &[u8]) {
    match form {
        DataForm::Json => {
            out.extend_from_slice(br#","data":"#);
            out.extend_from_slice(data);
        }
        DataForm::Text => {
            out.extend_from_slice(br#","data":"#);
            push_json_string(out, &String::from_utf8_lossy(data));
        }
        DataForm::Binary => {
            out.extend_from_slice(br#","data_base64":""#);
            out.extend_from_slice(STANDARD.encode(data).as_bytes());
            out.push(b'"');
        }
    }
}

pub(super) fn push_json_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a string is JSON, and a vector takes all bytes");
}
