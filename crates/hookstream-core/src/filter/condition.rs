//! What may be asked of a value.

use std::net::IpAddr;

use ipnet::IpNet;

use super::facts::{Number, Scalar};

/// One alternative of a field.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Condition {
    Null,
    Bool(bool),
    Number(Number),
    Text(Box<str>),
    /// Whatever the letters' case; in lower case here.
    AnyCase(Box<str>),
    Prefix(Box<str>),
    PrefixAnyCase(Box<str>),
    Suffix(Box<str>),
    SuffixAnyCase(Box<str>),
    /// What stands between the stars.
    Wildcard(Box<[Box<str>]>),
    Range(Range),
    /// An address in a network.
    Cidr(IpNet),
    /// Any value, but one that passes one of these.
    AnythingBut(Box<[Condition]>),
    /// There is a value.
    Exists,
    /// There is none: of no value is it true.
    Absent,
}

/// Numbers between two bounds; with `true` the bound itself is one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Range {
    pub(super) from: Option<(Number, bool)>,
    pub(super) to: Option<(Number, bool)>,
}

impl Condition {
    pub(super) fn is_true_of(&self, value: &Scalar<'_>) -> bool {
        match (self, value) {
            (Self::Exists, _) => true,
            (Self::AnythingBut(tests), value) => !tests.iter().any(|test| test.is_true_of(value)),
            (Self::Null, Scalar::Null) => true,
            (Self::Bool(wanted), Scalar::Bool(value)) => wanted == value,
            (Self::Number(wanted), Scalar::Number(value)) => wanted == value,
            (Self::Range(range), Scalar::Number(value)) => range.holds(*value),
            (test, Scalar::Text(text)) => test.is_true_of_text(text),
            _ => false,
        }
    }

    fn is_true_of_text(&self, text: &str) -> bool {
        match self {
            Self::Text(wanted) => **wanted == *text,
            Self::AnyCase(wanted) => **wanted == *folded(text),
            Self::Prefix(prefix) => text.starts_with(&**prefix),
            Self::PrefixAnyCase(prefix) => folded(text).starts_with(&**prefix),
            Self::Suffix(suffix) => text.ends_with(&**suffix),
            Self::SuffixAnyCase(suffix) => folded(text).ends_with(&**suffix),
            Self::Wildcard(parts) => is_like(parts, text),
            Self::Cidr(network) => text.parse::<IpAddr>().is_ok_and(|address| network.contains(&address)),
            _ => false,
        }
    }
}

impl Range {
    fn holds(&self, value: Number) -> bool {
        let above = self.from.is_none_or(|(from, is_in)| value > from || (is_in && value == from));
        let below = self.to.is_none_or(|(to, is_in)| value < to || (is_in && value == to));
        above && below
    }
}

/// Each character in lower case by itself: what a text begins with begins its folded form, also where Greek has a final sigma.
pub(super) fn folded(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

/// Whether the parts stand in the text in this order, the first at its beginning and the last at its end. Each is looked
/// for once, where it comes first: what is left is the longest then.
fn is_like(parts: &[Box<str>], text: &str) -> bool {
    let [first, between @ .., last] = parts else { return parts.iter().all(|part| **part == *text) };
    let Some(rest) = text.strip_prefix(&**first) else { return false };
    let Some(mut rest) = rest.strip_suffix(&**last) else { return false };
    for part in between {
        match memchr::memmem::find(rest.as_bytes(), part.as_bytes()) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}
