//! Templates: whatever is written and whatever the data holds, the payload is bounded, and what is put in ends nothing.

#![no_main]

use bytes::Bytes;
use hookstream_core::template::{Input, Language, MAX_PAYLOAD_BYTES, Template};
use hookstream_fuzz::{event, two};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let (text, data) = two(input);
    let data = Bytes::copy_from_slice(data);
    let event = event();
    let input = Input { event: &event, account: "acme", data: &data };
    // A value in a string is a string, and one by itself is a value, whatever it holds.
    let json =
        Template::compile(r#"{"a":"[Data]","b":"[x]","c":[x|0]}"#, Language::Json).expect("a template");
    if let Ok(payload) = json.render(input) {
        let _: serde_json::Value = serde_json::from_slice(&payload).expect("JSON");
    }
    let Ok(text) = std::str::from_utf8(text) else { return };
    for language in [Language::Json, Language::Xml, Language::Html, Language::Form, Language::Text] {
        let Ok(template) = Template::compile(text, language) else { continue };
        if let Ok(payload) = template.render(input) {
            assert!(payload.len() <= MAX_PAYLOAD_BYTES);
        }
    }
});
