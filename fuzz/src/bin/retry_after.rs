//! `Retry-After`: whatever an endpoint says, it is a time that we wait.

#![no_main]

use hookstream_core::retry_after::parse;
use hookstream_fuzz::NOW;
use hookstream_types::limits::MAX_RETRY_AFTER;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    if let Some(asked) = parse(&text, NOW) {
        assert!(asked <= MAX_RETRY_AFTER, "{asked:?}");
    }
});
