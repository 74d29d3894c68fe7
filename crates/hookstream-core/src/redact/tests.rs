use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use hookstream_types::Secret;
use proptest::prelude::*;

use super::*;
use crate::config::WebhookSecret;
use crate::request::tests::webhook;
use crate::signing::{SECRET_PREFIX, secret_text};

/// RFC 3986 percent-encoding of all but the unreserved characters.
fn percent_encoded(text: &str) -> String {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let one = |byte: u8| if unreserved(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(one).collect()
}

/// A JSON string's inside, as cautious writers have it: nothing but letters and digits stands as it is.
fn json_escaped(text: &str) -> String {
    let one = |c: char| {
        if c.is_ascii_alphanumeric() { c.to_string() } else { format!("\\u{:04x}", u32::from(c)) }
    };
    text.chars().map(one).collect()
}

fn with_headers(headers: &[(&str, &str)]) -> Webhook {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    // Its base64 has both special characters and padding.
    let secrets = vec![WebhookSecret::of_key(&(0xe0..=0xff).rev().collect::<Vec<_>>())];
    Webhook { headers, secrets, ..webhook() }
}

fn redactor() -> Redactor {
    Redactor::new(&with_headers(&[
        ("authorization", "Bearer s3cr3t/\"token"),
        ("x-basic", "Basic dXNlcjpodW50ZXIyMw=="),
        ("x-env", "prod"),
    ]))
}

#[test]
fn own_headers_are_masked_as_a_whole() {
    let redactor = redactor();
    assert_eq!(redactor.request_header("Authorization", "anything"), MASK);
    assert_eq!(redactor.request_header("x-env", "prod"), MASK);
    assert_eq!(redactor.request_header("webhook-id", "id"), "id");
}

#[test]
fn echoes_are_found_in_every_form() {
    let redactor = redactor();
    let secret = &with_headers(&[]).secrets[0].key();
    let whole = secret_text(secret).expose().to_owned();
    let base64 = whole.strip_prefix(SECRET_PREFIX).unwrap().to_owned();
    assert!(base64.contains('/') && base64.contains('+') && base64.ends_with('='), "{base64}");
    for echo in [
        whole.clone(),
        base64.clone(),
        base64.replace('/', "\\/"),
        base64.replace('+', "-").replace('/', "_"),
        percent_encoded(&base64),
        secret.expose().iter().map(|byte| format!("{byte:02x}")).collect(),
        "Bearer s3cr3t/\"token".to_owned(),
        "s3cr3t/\"token".to_owned(),
        "s3cr3t\\/\\\"token".to_owned(),
        "s3cr3t%2F%22token".to_owned(),
        "dXNlcjpodW50ZXIyMw==".to_owned(),
        "hunter23".to_owned(),
    ] {
        let shown = redactor.text(&format!("<{echo}>")).into_owned();
        assert!(["<***>", "<***=>", "<***%3D>"].contains(&shown.as_str()), "{echo}: {shown}");
    }
    let mut raw = b"<".to_vec();
    raw.extend_from_slice(secret.expose());
    raw.push(b'>');
    assert_eq!(redactor.body(&raw, false).as_ref(), b"<***>");
}

#[test]
fn any_number_of_headers_and_half_a_secret() {
    let values: Vec<_> =
        (0..100).map(|n| (format!("x-{n}"), format!("{n:03}-value-{}", "z".repeat(50)))).collect();
    let many: Vec<_> = values.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    for headers in [&many[..1], &many[..]] {
        let redactor = Redactor::new(&with_headers(headers));
        for (_, value) in headers {
            assert_eq!(redactor.text(&format!("<{value}>")), "<***>");
            assert_eq!(redactor.text(&format!("<{}>", &value[..40])), "<***>");
            assert_eq!(redactor.text(&format!("{value}{value}-")), "******-");
        }
    }
}

/// Whatever an endpoint does with what it was given that is an encoding and no cipher.
#[test]
fn echoes_within_something_that_was_encoded_as_a_whole() {
    let token = "s3cr3t/\"t+k&n=%41";
    let value = format!("Bearer {token}");
    let redactor = Redactor::new(&with_headers(&[("authorization", &value)]));
    let quoted = serde_json::to_string(token).unwrap();
    let go = quoted.replace('&', "\\u0026");
    let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    let parts = ["s3cr3t", "t+k&n", "n=%41", "czNjcjN0", &hex("s3cr3t"), &hex("t+k")];
    for before in ["", "a", "ab", "abc"] {
        let echo = format!(r#"{before}{{"authorization":{quoted},"n":1}}"#);
        for shown in [
            echo.clone(),
            go.clone(),
            json_escaped(&echo),
            percent_encoded(&echo),
            percent_encoded(&echo).to_ascii_lowercase(),
            percent_encoded(&json_escaped(&echo)),
            serde_json::to_string(&serde_json::to_string(&echo).unwrap()).unwrap(),
            STANDARD.encode(&echo),
            URL_SAFE.encode(&echo),
            STANDARD.encode(format!("{before}{token}{before}")),
            percent_encoded(&STANDARD.encode(format!("{before}{value}{before}"))),
            hex(&format!("{before}{token}{before}")),
            hex(&format!("{before}{token}{before}")).to_ascii_uppercase(),
            percent_encoded(&value).replace("%20", "+"),
        ] {
            let text = redactor.text(&shown).into_owned();
            assert!(text.contains(MASK), "{shown}: {text}");
            for part in parts {
                assert!(!text.to_lowercase().contains(part), "{shown}: {text}");
            }
        }
    }
}

#[test]
fn a_cut_within_an_escape() {
    let redactor = Redactor::new(&with_headers(&[("x-key", "k3y4/all-that-is")]));
    for shown in ["> k3y4%2", "> k3y4%2F", "> k3y4%2Fall", r"> k3y4\u00", r"> k3y4\/a", r"> k3y4\"] {
        assert_eq!(redactor.body(shown.as_bytes(), true).as_ref(), b"> ***", "{shown}");
    }
}

#[test]
fn a_secret_as_the_name_of_a_header() {
    let redactor = Redactor::new(&with_headers(&[("x-key", "S3cret-Key!")]));
    assert_eq!(redactor.header_name("s3cret-key!"), MASK);
    assert_eq!(redactor.header_name("x-s3cret-key!-x"), MASK);
    assert_eq!(redactor.header_name("strict-transport-security"), "strict-transport-security");
}

/// Long runs that nearly match at every byte must not make the search quadratic.
#[test]
fn a_header_made_to_slow_the_search_down() {
    let value = format!("{}b", "a".repeat(4095));
    let redactor = Redactor::new(&with_headers(&[("x", &value)]));
    let shown = redactor.body("a".repeat(16 * 1024).as_bytes(), true).into_owned();
    assert!(shown.len() <= 5 * MASK.len(), "{}", shown.len());
}

/// With a backslash before it, its beginning in base64 is that of its form as JSON, which does not go as far.
#[test]
fn the_form_that_goes_furthest_counts() {
    let secret = r"\AA#a#aAaAaaA0##a#0a#a0\aaA!Aa";
    let redactor = Redactor::new(&with_headers(&[("x-key", secret)]));
    let shown = STANDARD.encode(format!(r"\{secret}"));
    assert_eq!(redactor.text(&shown), "***Q==");
}

#[test]
fn innocent_text_is_not_copied() {
    let redactor = redactor();
    assert!(matches!(redactor.body(b"in prod all is well", true), Cow::Borrowed(_)));
    assert!(matches!(redactor.text("Bearer of good news"), Cow::Borrowed(_)));
    assert!(matches!(
        Redactor::new(&Webhook { secrets: vec![], headers: vec![], ..webhook() }).text("x"),
        Cow::Borrowed(_)
    ));
}

#[test]
fn a_secret_that_the_cut_goes_through() {
    let redactor = redactor();
    assert_eq!(redactor.body(b"echo: hunter", true).as_ref(), b"echo: ***");
    assert_eq!(redactor.body(b"echo: hunter", false).as_ref(), b"echo: hunter");
    assert_eq!(redactor.body(b"hunter23 hunter2", true).as_ref(), b"*** ***");
    assert_eq!(redactor.body(b"hun", true).as_ref(), b"hun");
}

proptest! {
    #[test]
    fn no_secret_survives(before in ".{0,40}", after in ".{0,40}", bytes in proptest::collection::vec(any::<u8>(), 24..65)) {
        let secret = Secret::new(bytes);
        let text = secret_text(&secret);
        let redactor = Redactor::new(&Webhook { secrets: vec![WebhookSecret::of_key(secret.expose())], ..webhook() });
        let shown = redactor.text(&format!("{before}{}{after}", text.expose())).into_owned();
        prop_assert!(!shown.contains(text.expose().trim_end_matches('=').strip_prefix(SECRET_PREFIX).unwrap()));
    }

    /// By itself or within something, encoded in base64.
    #[test]
    fn no_base64_of_it_survives(before in ".{0,9}", after in ".{0,9}", secret in "[!-~]{16,40}") {
        let redactor = Redactor::new(&with_headers(&[("x-key", &secret)]));
        for shown in [STANDARD.encode(format!("{before}{secret}{after}")), URL_SAFE_NO_PAD.encode(format!("{before}{secret}{after}"))] {
            let text = redactor.text(&shown).into_owned();
            // A character beside it may hold some of its bits.
            let kept = text.len() - text.matches(MASK).count() * MASK.len();
            prop_assert!(kept <= (before.len() + after.len()).div_ceil(3) * 4 + 6, "{}: {}", shown, text);
        }
    }

    /// Wherever the body is cut, what is shown holds no more than three characters of the secret.
    #[test]
    fn no_cut_leaks(at in 0usize..60) {
        let secret = Secret::new((100..132).collect());
        let text = format!("0123456789{}", secret_text(&secret).expose());
        let redactor = Redactor::new(&Webhook { secrets: vec![WebhookSecret::of_key(secret.expose())], ..webhook() });
        let cut = &text.as_bytes()[..at.min(text.len() - 1)];
        let shown = redactor.body(cut, true).into_owned();
        prop_assert!(shown.len() <= 10 + 3, "{}", String::from_utf8_lossy(&shown));
    }
}
