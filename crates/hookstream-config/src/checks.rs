//! What a webhook's fields may be. Each check says what is wrong in words that fit after "must".
//!
//! These are checks of syntax. Where a request may go is the installation's policy ([`hookstream_core::endpoint`]), which
//! the API asks, and the egress before each request.

use hookstream_core::endpoint;
use hookstream_core::request::check_header;
use hookstream_core::signing::{SECRET_PREFIX, parse_secret};

/// Longest header value.
const MAX_HEADER_VALUE_BYTES: usize = 4096;
const MAX_HEADER_NAME_BYTES: usize = 128;
/// Longest text in PEM.
const MAX_PEM_BYTES: usize = 64 * 1024;
const MAX_NAME_CHARS: usize = 200;
/// What an event's type may have, so that each can be named.
const MAX_IDENTIFIER_BYTES: usize = 256;
const FREE_SECRET_BYTES: std::ops::RangeInclusive<usize> = 1..=256;

type Checked = Result<(), String>;

fn must(holds: bool, what: &str) -> Checked {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

/// A name for people.
///
/// # Errors
/// What it must be.
pub fn name(text: &str) -> Checked {
    must(!text.trim().is_empty() && text.trim() == text, "must not be empty or start or end with a space")?;
    must(text.chars().count() <= MAX_NAME_CHARS, "must have at most 200 characters")?;
    must(!text.chars().any(char::is_control), "must not contain control characters")
}

/// A name that stands in keys and settings: a source's or an event type's.
///
/// # Errors
/// What it must be.
pub fn identifier(text: &str) -> Checked {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let good = !text.is_empty() && text.len() <= MAX_IDENTIFIER_BYTES && text.chars().all(allowed);
    must(good, "must be 1 to 256 letters, digits, `.`, `_` or `-`")
}

/// An exact event type, `prefix.*`, or `*`.
///
/// # Errors
/// What it must be.
pub fn event_type_pattern(text: &str) -> Checked {
    let exact = text.strip_suffix(".*").unwrap_or(text);
    let good = text == "*" || identifier(exact).is_ok();
    must(good, "must be an event type such as `order.created`, a prefix such as `order.*`, or `*`")
}

/// A topic's name, or a pattern `^…$`.
///
/// # Errors
/// What it must be.
pub fn topic(text: &str) -> Checked {
    if text.starts_with('^') {
        let balanced = text.matches('(').count() == text.matches(')').count();
        must(text.len() > 2 && text.ends_with('$'), "must end with `$`: a pattern is anchored at both ends")?;
        return must(balanced, "must have as many `(` as `)`");
    }
    let good = identifier(text).is_ok() && text != "." && text != "..";
    must(good, "must be a topic's name (letters, digits, `.`, `_`, `-`) or a pattern `^…$`")
}

/// An `http` or `https` URL that says plainly where it leads.
///
/// # Errors
/// What it must be.
pub fn url(text: &str) -> Checked {
    endpoint::parse(text).map(drop).map_err(|error| error.to_string())
}

/// A header name that a webhook may set.
///
/// # Errors
/// What it must be.
pub fn header_name(text: &str) -> Checked {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let good = !text.is_empty() && text.len() <= MAX_HEADER_NAME_BYTES && text.bytes().all(allowed);
    must(good, "must be 1 to 128 letters, digits, `-` or `_`")?;
    // The same rule as when the request is made: what is accepted here can be sent.
    let reserved = check_header(text, "").is_err();
    must(!reserved, "must not be a header that hookstream, the connection or a proxy sets")
}

/// A header value: visible ASCII and spaces inside.
///
/// # Errors
/// What it must be.
pub fn header_value(text: &str) -> Checked {
    must(text.len() <= MAX_HEADER_VALUE_BYTES, "must have at most 4096 bytes")?;
    let allowed = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
    must(text.bytes().all(allowed), "must not contain control or non-ASCII characters")?;
    must(text.trim() == text, "must not start or end with a space")
}

/// A content type: `type/subtype`, with parameters.
///
/// # Errors
/// What it must be.
pub fn content_type(text: &str) -> Checked {
    header_value(text)?;
    let essence = text.split(';').next().unwrap_or_default().trim();
    let token = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
    };
    let good = essence.split_once('/').is_some_and(|(kind, subtype)| token(kind) && token(subtype));
    must(good, "must be a content type such as `application/json`")
}

/// A JSON pointer (RFC 6901).
///
/// # Errors
/// What it must be.
pub fn pointer(text: &str) -> Checked {
    let escapes = text.split('~').skip(1).all(|after| after.starts_with('0') || after.starts_with('1'));
    must((text.is_empty() || text.starts_with('/')) && escapes, "must be a JSON pointer such as `/order/id`")
}

/// A secret's text: in the form of Standard Webhooks, or any visible characters where `free`.
///
/// # Errors
/// What it must be; the text is not repeated.
pub fn secret(text: &str, free: bool) -> Checked {
    if text.starts_with(SECRET_PREFIX) || !free {
        let good = parse_secret(text).is_ok();
        return must(good, "must be `whsec_` and 24 to 64 bytes in base64");
    }
    let visible = text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') && text.trim() == text;
    must(visible && FREE_SECRET_BYTES.contains(&text.len()), "must have 1 to 256 visible ASCII characters")
}

/// A scope: a name for people, such as `Customer fields`.
///
/// # Errors
/// What it must be.
pub fn scope(text: &str) -> Checked {
    name(text)?;
    must(!text.contains(',') && text.len() <= 100, "must have at most 100 characters and no comma")
}

/// What an authorization may be sent to.
///
/// # Errors
/// What it must be.
pub fn endpoint_prefix(text: &str) -> Checked {
    url(text)?;
    hookstream_core::config::check_prefix(text).map_err(|error| error.to_string())
}

/// A secret of somebody else's: a token, a password.
///
/// # Errors
/// What it must be; the text is not repeated.
pub fn credential(text: &str) -> Checked {
    must(!text.is_empty(), "must not be empty")?;
    header_value(text)
}

/// Certificates in PEM; whether they can be used is for who uses them.
///
/// # Errors
/// What it must be.
pub fn certificates(text: &str) -> Checked {
    must(text.len() <= MAX_PEM_BYTES, "must have at most 65536 bytes")?;
    must(
        text.contains("-----BEGIN CERTIFICATE-----"),
        "must be certificates in PEM (`-----BEGIN CERTIFICATE-----`)",
    )
}

/// A private key in PEM.
///
/// # Errors
/// What it must be; the text is not repeated.
pub fn private_key(text: &str) -> Checked {
    let is_key = text.contains("PRIVATE KEY-----") && !text.contains("ENCRYPTED");
    must(
        text.len() <= MAX_PEM_BYTES && is_key,
        "must be a private key in PEM (`-----BEGIN PRIVATE KEY-----`), not encrypted",
    )
}

/// A user name (RFC 7617: no colon).
///
/// # Errors
/// What it must be.
pub fn user(text: &str) -> Checked {
    credential(text)?;
    must(!text.contains(':'), "must not contain a colon")
}

/// Longer text for people.
///
/// # Errors
/// What it must be.
pub fn description(text: &str) -> Checked {
    must(text.chars().count() <= 4000, "must have at most 4000 characters")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for good in [
            "https://example.com",
            "http://localhost:8080/hook?a=b",
            "HTTPS://Example.com/",
            "https://[2001:db8::1]:443/x",
            "https://xn--bcher-kva.example/%0d",
            "https://bücher.example/",
        ] {
            assert_eq!(url(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "example.com/hook",
            "ftp://example.com",
            "https:example.com",
            "https:///path",
            "https://user:pw@example.com/",
            "https://example.com\\@127.0.0.1/",
            "https://example.com/#x",
            "https://exam ple.com",
            "https://example.com/\r\nx",
            "https://exa\tmple.com/",
            "https://example.com:0/",
            "https://example.com:65536/",
            "https://example.com:+80/",
            "https://example.com:/",
            "https://a@b@c/",
            "https://ex%61mple.com/",
            "https://[::1/",
            "https://[::1]x/",
            "https://.example.com/",
        ] {
            assert!(url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn header_names() {
        for good in ["Authorization", "X_Under", "x-token"] {
            assert_eq!(header_name(good), Ok(()), "{good}");
        }
        for bad in [
            "Host",
            "host",
            "Transfer-Encoding",
            "Connection",
            "TE",
            "Upgrade",
            "Proxy-Authorization",
            "Proxy-Connection",
            "Content-Encoding",
            "User-Agent",
            "webhook-signature",
            "Webhook-Signature",
            "X-Forwarded-For",
            "Forwarded",
            "Metadata-Flavor",
            "X-aws-ec2-metadata-token",
            "Metadata",
            "X-Google-Metadata-Request",
            "",
            "X\r\nInjected",
            "X\0",
            "X-é",
            ":authority",
            "a b",
            "a:b",
        ] {
            assert!(header_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn header_values() {
        for good in ["%0d%0aX: 1", "Bearer abc", ""] {
            assert_eq!(header_value(good), Ok(()), "{good}");
        }
        let long = "x".repeat(4097);
        for bad in [
            "a\tb",
            "a\r\nX-Injected: 1",
            "a\nb",
            "a\rb",
            "a\0b",
            &long,
            "a\u{b}b",
            "a\u{7f}b",
            "vĊ",
            "v嘍嘊",
            " a",
        ] {
            assert!(header_value(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn patterns_and_topics() {
        for good in ["*", "order.created", "order.*", "a"] {
            assert_eq!(event_type_pattern(good), Ok(()), "{good}");
        }
        for bad in ["", "order*", "*.created", ".*", "a b", "**"] {
            assert!(event_type_pattern(bad).is_err(), "{bad}");
        }
        for good in ["orders", "^shop\\..*$", "a.b_c-d"] {
            assert_eq!(topic(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "..", "^orders", "a/b", "^$", "^(a$"] {
            assert!(topic(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn secrets() {
        for free in [false, true] {
            assert_eq!(secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", free), Ok(()));
            for bad in ["", "whsec_", "whsec_c2hvcnQ=", "whsec_!!"] {
                assert!(secret(bad, free).unwrap_err().starts_with("must"), "{bad}");
            }
        }
        assert_eq!(secret("S3cret!", true), Ok(()));
        for bad in ["S3cret!", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] {
            assert!(secret(bad, false).is_err(), "{bad}");
        }
        for bad in [" a", "a\nb", "é"] {
            assert!(secret(bad, true).is_err(), "{bad}");
        }
    }

    #[test]
    fn endpoints_and_users() {
        assert_eq!(endpoint_prefix("https://crm.example/in"), Ok(()));
        assert!(endpoint_prefix("https://crm.example/in?x").is_err());
        assert!(user("a:b").is_err() && user("").is_err());
        assert_eq!(user("ann"), Ok(()));
    }
}
