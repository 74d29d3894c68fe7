//! Takes a webhook's secrets out of what goes into the history, also when an endpoint echoes them (rule 7).
//!
//! What is looked for: the signing secrets (their text with and without prefix, in the URL-safe alphabet,
//! percent-encoded, with JSON's escaped slashes, in hexadecimal, and as raw bytes) and the values of the webhook's
//! own headers and authorization, which are write-only (for `Bearer x` and `Basic x` also what stands behind the scheme, and the
//! password inside). What matches the first 32 bytes is masked as far as it matches: half a secret is masked too,
//! and no secret, however it is made, makes the search slow. An echo in any other transformation is not found: nothing can be done about an endpoint that means to leak
//! what it was given.

use std::borrow::Cow;

use aho_corasick::{AhoCorasick, AhoCorasickKind, Input, MatchKind, Span, packed};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use hookstream_types::Secret;
use zeroize::Zeroizing;

use crate::config::{Credentials, Webhook};
use crate::signing::SECRET_PREFIX;

/// What stands where a secret stood.
pub const MASK: &str = "***";

/// Values shorter than this are not looked for in other text: they would mask words of every language.
/// In their own header they are masked all the same.
const MIN_ECHO_BYTES: usize = 6;

/// Bytes of a pattern that must match before anything is masked. Longer heads would let a tenant who chooses header
/// values and answers make the search compare kilobytes at every byte.
const HEAD_BYTES: usize = 32;

/// Finds the secrets of one webhook; made once per revision.
#[derive(Debug)]
pub struct Redactor {
    own_headers: Vec<String>,
    matcher: Option<Matcher>,
}

struct Matcher {
    patterns: Vec<Zeroizing<Vec<u8>>>,
    heads: Heads,
}

/// Finds the beginnings of patterns.
enum Heads {
    /// Up to 64, with vector instructions: made in microseconds, a few kilobytes.
    Packed(packed::Searcher),
    /// Any number, on any machine.
    Automaton(AhoCorasick),
}

impl std::fmt::Debug for Matcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Matcher(…)")
    }
}

impl Redactor {
    #[must_use]
    pub fn new(webhook: &Webhook) -> Self {
        let mut patterns = Vec::new();
        for secret in &webhook.secrets {
            push_secret(&mut patterns, &secret.key());
            push_text(&mut patterns, secret.text.expose());
        }
        for (_, value) in &webhook.headers {
            push_header_value(&mut patterns, value);
        }
        let mut own_headers: Vec<_> =
            webhook.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
        own_headers.extend(webhook.secret_header.clone());
        if let Some(authorization) = &webhook.authorization {
            own_headers.extend(push_credentials(&mut patterns, &authorization.credentials));
        }
        patterns.retain(|pattern| pattern.len() >= MIN_ECHO_BYTES);
        patterns.sort_unstable_by(|a, b| a.as_slice().cmp(b.as_slice()));
        patterns.dedup();
        Self { own_headers, matcher: Matcher::new(patterns) }
    }

    /// A request header's value as it may be shown: the webhook's own are masked as a whole.
    #[must_use]
    pub fn request_header<'a>(&self, name: &str, value: &'a str) -> Cow<'a, str> {
        if self.own_headers.iter().any(|own| own.eq_ignore_ascii_case(name)) {
            return Cow::Borrowed(MASK);
        }
        self.text(value)
    }

    /// Text as it may be shown: a response header's value, an error message.
    #[must_use]
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match self.body(text.as_bytes(), false) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            // Patterns include raw bytes, whose match could end inside a character.
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
        }
    }

    /// A body as it may be shown. `cut`: it is the beginning of a longer one, so that it may end in the beginning
    /// of a secret.
    #[must_use]
    pub fn body<'a>(&self, body: &'a [u8], cut: bool) -> Cow<'a, [u8]> {
        let Some(matcher) = &self.matcher else { return Cow::Borrowed(body) };
        let mut out = Vec::new();
        let mut kept = 0;
        while let Some(found) = matcher.find(body, kept) {
            out.extend_from_slice(&body[kept..found.start]);
            out.extend_from_slice(MASK.as_bytes());
            kept = found.end;
        }
        let rest = &body[kept..];
        let hidden = if cut { matcher.beginning_at_the_end_of(rest) } else { 0 };
        if kept == 0 && hidden == 0 {
            return Cow::Borrowed(body);
        }
        out.extend_from_slice(&rest[..rest.len() - hidden]);
        if hidden > 0 {
            out.extend_from_slice(MASK.as_bytes());
        }
        Cow::Owned(out)
    }
}

impl Matcher {
    fn new(patterns: Vec<Zeroizing<Vec<u8>>>) -> Option<Self> {
        if patterns.is_empty() {
            return None;
        }
        let heads = patterns.iter().map(|pattern| head(pattern));
        let packed = packed::Config::new()
            .match_kind(packed::MatchKind::LeftmostLongest)
            .builder()
            .extend(heads)
            .build();
        let automaton = || {
            AhoCorasick::builder()
                .match_kind(MatchKind::LeftmostLongest)
                // The default is a table of a megabyte and more.
                .kind(Some(AhoCorasickKind::ContiguousNFA))
                .build(patterns.iter().map(|pattern| head(pattern)))
                .expect("a webhook's headers are far smaller than the automaton's limit of 2^31 states")
        };
        let heads = packed.map_or_else(|| Heads::Automaton(automaton()), Heads::Packed);
        Some(Self { patterns, heads })
    }

    /// The first secret in `text` at or after `from`, as far as it matches.
    fn find(&self, text: &[u8], from: usize) -> Option<Span> {
        let within = Span { start: from, end: text.len() };
        let found = match &self.heads {
            Heads::Packed(searcher) => searcher.find_in(text, within),
            Heads::Automaton(automaton) => automaton.find(Input::new(text).span(within)),
        }?;
        let rest = &text[found.start()..];
        let matching = |pattern: &Zeroizing<Vec<u8>>| {
            pattern.iter().zip(rest).take_while(|(expected, given)| expected == given).count()
        };
        let longest = self.patterns.iter().map(matching).max().unwrap_or(0).max(found.len());
        Some(Span { start: found.start(), end: found.start() + longest })
    }

    /// How many bytes at the end of `text` are the beginning of a secret; a few may be chance.
    fn beginning_at_the_end_of(&self, text: &[u8]) -> usize {
        const CHANCE: usize = 3;
        self.patterns
            .iter()
            .filter_map(|pattern| {
                let longest = (pattern.len() - 1).min(text.len());
                (CHANCE + 1..=longest).rev().find(|len| text.ends_with(&pattern[..*len]))
            })
            .max()
            .unwrap_or(0)
    }
}

/// What is searched for of a pattern.
fn head(pattern: &[u8]) -> &[u8] {
    &pattern[..pattern.len().min(HEAD_BYTES)]
}

fn push_secret(patterns: &mut Vec<Zeroizing<Vec<u8>>>, secret: &Secret) {
    let bytes = secret.expose();
    let mut push = |text: String| patterns.push(Zeroizing::new(text.into_bytes()));
    // Without padding a pattern also finds the padded text, all but its `=`.
    let text = STANDARD_NO_PAD.encode(bytes);
    push(format!("{SECRET_PREFIX}{text}"));
    push(text.replace('/', "\\/"));
    push(percent_encoded(&text));
    push(text);
    push(STANDARD.encode(bytes));
    push(URL_SAFE_NO_PAD.encode(bytes));
    push(bytes.iter().map(|byte| format!("{byte:02x}")).collect());
    push(bytes.iter().map(|byte| format!("{byte:02X}")).collect());
    patterns.push(Zeroizing::new(bytes.to_vec()));
}

/// A text as it is, in base64, percent-encoded, and as a JSON string has it, with and without escaped slashes.
fn push_text(patterns: &mut Vec<Zeroizing<Vec<u8>>>, text: &str) {
    let mut push = |text: String| patterns.push(Zeroizing::new(text.into_bytes()));
    push(text.to_owned());
    push(STANDARD_NO_PAD.encode(text));
    push(URL_SAFE_NO_PAD.encode(text));
    push(percent_encoded(text));
    let json = text.replace('\\', "\\\\").replace('"', "\\\"");
    push(json.replace('/', "\\/"));
    push(json);
}

/// Returns the name of the header that carries the credentials, if that is not to be shown.
fn push_credentials(patterns: &mut Vec<Zeroizing<Vec<u8>>>, credentials: &Credentials) -> Option<String> {
    let name = match credentials {
        Credentials::Header { secret: false, .. } => return None,
        Credentials::Header { name, value, secret: true } => {
            push_header_value(patterns, value.expose());
            name.to_ascii_lowercase()
        }
        Credentials::Basic { user, password } => {
            push_text(patterns, password.expose());
            push_text(patterns, &Zeroizing::new(format!("{user}:{}", password.expose())));
            "authorization".to_owned()
        }
        Credentials::Bearer { token: secret } | Credentials::Oauth2 { client_secret: secret, .. } => {
            push_text(patterns, secret.expose());
            "authorization".to_owned()
        }
    };
    Some(name)
}

fn push_header_value(patterns: &mut Vec<Zeroizing<Vec<u8>>>, value: &str) {
    let mut push = |text: &str| push_text(patterns, text);
    let value = value.trim();
    push(value);
    let Some((scheme, credentials)) = value.split_once(' ') else { return };
    push(credentials.trim());
    if scheme.eq_ignore_ascii_case("basic")
        && let Ok(decoded) = STANDARD.decode(credentials.trim())
        && let Ok(decoded) = String::from_utf8(decoded).map(Zeroizing::new)
    {
        push(&decoded);
        if let Some((_, password)) = decoded.split_once(':') {
            push(password);
        }
    }
}

/// RFC 3986 percent-encoding of all but the unreserved characters.
fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::WebhookSecret;
    use crate::request::tests::webhook;
    use crate::signing::secret_text;

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

    /// Long runs that nearly match at every byte must not make the search quadratic.
    #[test]
    fn a_header_made_to_slow_the_search_down() {
        let value = format!("{}b", "a".repeat(4095));
        let redactor = Redactor::new(&with_headers(&[("x", &value)]));
        let shown = redactor.body("a".repeat(16 * 1024).as_bytes(), true).into_owned();
        assert!(shown.len() <= 5 * MASK.len(), "{}", shown.len());
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
}
