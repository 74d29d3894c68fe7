//! Takes a webhook's secrets out of what goes into the history, also when an endpoint echoes them (rule 7).
//!
//! What is looked for: the signing secrets, as text and as the bytes that sign; the values of the webhook's own headers
//! and authorization, which are write-only (for `Bearer x` and `Basic x` also what stands behind the scheme, and the
//! password inside). Each is found as it is, in hexadecimal, in base64 of either alphabet (by itself or within whatever
//! was encoded together with it), and in any of these behind [up to three layers](DEPTH) of percent-encoding and JSON's
//! escapes. What matches the first 32 bytes is masked as far as it matches: half a secret is masked too, and no secret,
//! however it is made, makes the search slow. An echo in any other transformation is not found: nothing can be done
//! about an endpoint that means to leak what it was given.

mod forms;
mod unescaped;

use std::borrow::Cow;
use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind, Input, MatchKind, Span, packed};
use zeroize::Zeroizing;

use self::forms::Forms;
use self::unescaped::{Escape, Unescaped};
use crate::config::Webhook;

/// What stands where a secret stood.
pub const MASK: &str = "***";

/// Values shorter than this are not looked for in other text: they would mask words of every language.
/// In their own header they are masked all the same.
const MIN_ECHO_BYTES: usize = 6;

/// Bytes of a pattern that must match before anything is masked. Longer heads would let a tenant who chooses header
/// values and answers make the search compare kilobytes at every byte.
const HEAD_BYTES: usize = 32;

/// How often within a text a match is looked for inside another. One form of a secret may match its beginning only, and
/// another that begins a little later all of it: `\A…` in base64 looks like the beginning of its escaped form. More would
/// let a tenant make the search slow.
const MOST_OVERLAPPING: usize = 16;

/// Layers of escapes that are undone: an endpoint logs what it got as JSON in JSON, and somebody else quotes that.
const DEPTH: usize = 3;

/// Finds the secrets of one webhook; made once per revision.
#[derive(Debug)]
pub struct Redactor {
    own_headers: Vec<String>,
    matcher: Option<Matcher>,
}

struct Matcher {
    patterns: Vec<Zeroizing<Vec<u8>>>,
    /// Of the patterns' lengths.
    shortest: usize,
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
        let mut forms = Forms::default();
        for secret in &webhook.secrets {
            forms.push_secret(secret);
        }
        for (_, value) in &webhook.headers {
            forms.push_header_value(value);
        }
        let mut own_headers: Vec<_> =
            webhook.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
        own_headers.extend(webhook.secret_header.clone());
        if let Some(authorization) = &webhook.authorization {
            own_headers.extend(forms.push_credentials(&authorization.credentials));
        }
        Self { own_headers, matcher: Matcher::new(forms.into_patterns()) }
    }

    /// For a token that was asked for, on behalf of whoever it is.
    #[must_use]
    pub fn of_token(token: &str) -> Self {
        let mut forms = Forms::default();
        forms.push_text(token);
        Self { own_headers: Vec::new(), matcher: Matcher::new(forms.into_patterns()) }
    }

    /// A request header's value as it may be shown: the webhook's own are masked as a whole.
    #[must_use]
    pub fn request_header<'a>(&self, name: &str, value: &'a str) -> Cow<'a, str> {
        if self.own_headers.iter().any(|own| own.eq_ignore_ascii_case(name)) {
            return Cow::Borrowed(MASK);
        }
        self.text(value)
    }

    /// A response header's name as it may be shown. Names come in lower case, so the secrets' case does not matter.
    #[must_use]
    pub fn header_name<'a>(&self, name: &'a str) -> Cow<'a, str> {
        let is_in = |pattern: &Zeroizing<Vec<u8>>| {
            name.as_bytes().windows(pattern.len()).any(|part| part.eq_ignore_ascii_case(pattern))
        };
        match &self.matcher {
            Some(matcher) if matcher.shortest <= name.len() && matcher.patterns.iter().any(is_in) => {
                Cow::Borrowed(MASK)
            }
            _ => Cow::Borrowed(name),
        }
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
        let mut found = Vec::new();
        matcher.search(body, cut, DEPTH, &mut found);
        if found.is_empty() {
            return Cow::Borrowed(body);
        }
        found.sort_unstable_by_key(|range| (range.start, range.end));
        let mut out = Vec::with_capacity(body.len());
        let mut kept = 0;
        for Range { start, end } in found {
            // What begins within another is masked with it.
            if start >= kept {
                out.extend_from_slice(&body[kept..start]);
                out.extend_from_slice(MASK.as_bytes());
            }
            kept = kept.max(end);
        }
        out.extend_from_slice(&body[kept..]);
        Cow::Owned(out)
    }
}

impl Matcher {
    fn new(patterns: Vec<Zeroizing<Vec<u8>>>) -> Option<Self> {
        let shortest = patterns.iter().map(|pattern| pattern.len()).min()?;
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
        Some(Self { patterns, shortest, heads })
    }

    /// Where secrets are in `text`, and in what `depth` layers of escapes hide.
    fn search(&self, text: &[u8], cut: bool, depth: usize, found: &mut Vec<Range<usize>>) {
        let (mut from, mut reached, mut overlapping) = (0, 0, 0);
        while let Some(Span { start, end }) = self.find(text, from) {
            overlapping += usize::from(start < reached);
            reached = end.max(reached);
            found.push(start..end);
            from = if overlapping < MOST_OVERLAPPING { start + 1 } else { reached };
        }
        let hidden = if cut { self.beginning_at_the_end_of(&text[reached..]) } else { 0 };
        if hidden > 0 {
            found.push(text.len() - hidden..text.len());
        }
        let Some(depth) = depth.checked_sub(1) else { return };
        for escape in [Escape::Percent, Escape::Json] {
            let Some(unescaped) = Unescaped::of(text, escape, cut) else { continue };
            let mut inside = Vec::new();
            self.search(unescaped.text(), cut, depth, &mut inside);
            found.extend(inside.into_iter().map(|range| unescaped.original(range)));
        }
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

#[cfg(test)]
mod tests;
