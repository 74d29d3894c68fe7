//! CloudEvents 1.0 over HTTP (HTTP protocol binding 1.0.2, JSON format 1.0.2): the event as its producer gave it.

use std::fmt::Write as _;
use std::sync::Arc;

use super::envelope::{DataForm, push_data, push_json_string};
use crate::event::EventAttributes;

/// Of structured mode.
pub(super) const CONTENT_TYPE: &str = "application/cloudevents+json; charset=UTF-8";

const SPEC_VERSION: &str = "1.0";
/// Of data that has no content type: it is JSON (CloudEvents §3.1).
const DEFAULT_DATA_TYPE: &str = "application/json";

/// The attributes but for the data's content type.
fn attributes(event: &EventAttributes) -> impl Iterator<Item = (&str, &str)> {
    let required = [
        ("specversion", SPEC_VERSION),
        ("id", &*event.id),
        ("source", &*event.ce_source),
        ("type", &*event.event_type),
        ("time", &*event.time),
    ];
    // §3.1: names of lower-case letters and digits.
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let extensions = event.extensions.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    required
        .into_iter()
        .chain(event.subject.as_deref().map(|subject| ("subject", subject)))
        .chain(extensions.filter(move |(name, _)| is_name(name)))
}

/// Structured mode: all of it in one JSON document.
pub(super) fn structured(event: &EventAttributes, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(event.size() + data.len() * 4 / 3 + 160);
    let mut separator = b'{';
    for (name, value) in attributes(event) {
        out.push(separator);
        separator = b',';
        push_json_string(&mut out, name);
        out.push(b':');
        push_json_string(&mut out, value);
    }
    let content_type = event.content_type.as_deref();
    if let Some(content_type) = content_type {
        out.extend_from_slice(br#","datacontenttype":"#);
        push_json_string(&mut out, content_type);
    }
    if !data.is_empty() {
        push_data(&mut out, DataForm::of(content_type, data), data);
    }
    out.push(b'}');
    out
}

/// Binary mode: the headers beside the data.
pub(super) fn headers(event: &EventAttributes) -> Vec<(Arc<str>, Arc<str>)> {
    let content_type =
        event.content_type.as_deref().filter(|text| text.bytes().all(|b| (b' '..=b'~').contains(&b)));
    let content_type = (Arc::from("content-type"), Arc::from(content_type.unwrap_or(DEFAULT_DATA_TYPE)));
    let header =
        |(name, value): (&str, &str)| (Arc::from(format!("ce-{name}")), Arc::from(header_value(value)));
    std::iter::once(content_type).chain(attributes(event).map(header)).collect()
}

/// §3.1.3.2: what is not printable ASCII, and space, `"` and `%`, percent-encoded.
fn header_value(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'"' && byte != b'%' {
            out.push(char::from(byte));
        } else {
            // A String takes everything.
            write!(out, "%{byte:02X}").ok();
        }
    }
    out
}
