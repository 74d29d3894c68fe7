//! Records of our topics: whatever stands there, reading it ends, and what is read is written as it was.

#![no_main]

use hookstream_fuzz::two;
use hookstream_wire::command::Command;
use hookstream_wire::config::{Key, Record};
use hookstream_wire::{attempt, audit, job, matched};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    attempt::decode(input).ok();
    attempt::decode_outline(input).ok();
    attempt::decode_attempt(input).ok();
    audit::decode(input).ok();
    Command::decode(input).ok();
    job::decode(input).ok();
    job::decode_all(input).ok();
    matched::decode(input).ok();
    let (key, value) = two(input);
    if let Ok(key) = Key::from_bytes(key)
        && let Ok(record) = Record::decode(&key, value)
    {
        assert_eq!(record.key(), key);
        assert_eq!(Record::decode(&key, &record.encode()).expect("what we wrote"), record);
    }
});
