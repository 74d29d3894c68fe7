//! Headers of a webhook's own: what is let through can be sent, as one header, and opens no doors.

#![no_main]

use hookstream_core::request::check_header;
use hookstream_fuzz::two;
use http::header::{HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let (name, value) = two(input);
    let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) else { return };
    if check_header(name, value).is_err() {
        return;
    }
    let sent = HeaderName::from_bytes(name.as_bytes()).expect("a name that can be sent");
    let text = HeaderValue::from_str(value).expect("a value that can be sent");
    assert_eq!(text.to_str().ok(), Some(value));
    assert!(!value.contains(['\r', '\n', '\0', '\t']));
    for forbidden in [
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "upgrade",
        "te",
        "metadata-flavor",
        "metadata",
    ] {
        assert_ne!(sent.as_str(), forbidden);
    }
    assert!(!sent.as_str().starts_with("webhook-") && !sent.as_str().starts_with("x-forwarded-"));
});
