//! Endpoints: what is let through says plainly where it leads, and that is nobody's own network.

#![no_main]

use std::net::IpAddr;

use hookstream_core::endpoint::{Policy, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let strict = Policy { allow_http: true, ..Policy::default() };
    let Ok(url) = strict.check(text) else {
        // Whatever a machine's developer allows, no reading may break.
        let open = Policy { allow_http: true, allow_private: true, ..Policy::default() };
        open.check(text).ok();
        return;
    };
    assert!(matches!(url.scheme(), "http" | "https"));
    assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none());
    let host = url.host_str().expect("it was let through with a host").trim_matches(['[', ']']);
    match host.parse::<IpAddr>() {
        Ok(address) => {
            assert!(!address.is_loopback() && !address.is_unspecified() && !address.is_multicast());
            if let IpAddr::V4(v4) = address {
                assert!(
                    !v4.is_private() && !v4.is_link_local() && !v4.is_broadcast() && !v4.is_documentation()
                );
            }
        }
        Err(_) => assert!(host.trim_end_matches('.').contains('.') && !host.contains('%') && host.is_ascii()),
    }
    // What is sent is what was checked.
    let again = parse(url.as_str()).expect("its own writing is plain");
    assert_eq!(again, url);
    assert_eq!(
        http::Uri::try_from(url.as_str())
            .expect("it can be sent")
            .host()
            .map(|host| host.trim_matches(['[', ']'])),
        Some(host)
    );
});
