//! Query parameters: each at most once, none that is not known, and every fault told at once.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use hookstream_types::UnixMillis;
use jiff::Timestamp;

use crate::problem::{FieldError, Problem};
use crate::request::{DEFAULT_LIMIT, MAX_LIMIT};

/// The parameters of a request, as they are taken one after the other.
#[derive(Debug)]
pub(super) struct Params {
    given: BTreeMap<String, String>,
    /// All of them but those that say which page, in one form.
    filters: String,
    known: Vec<&'static str>,
    errors: Vec<FieldError>,
}

impl Params {
    pub(super) fn read(query: Option<&str>) -> Self {
        let mut given = BTreeMap::new();
        let mut errors = Vec::new();
        for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            if given.insert(name.clone().into_owned(), value.into_owned()).is_some() {
                errors.push(FieldError::new(name, "is given more than once: give it once"));
            }
        }
        let which = given.iter().filter(|(name, _)| !matches!(name.as_str(), "cursor" | "limit"));
        let filters = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(which).finish();
        Self { given, filters, known: Vec::new(), errors }
    }

    /// What a cursor belongs to.
    pub(super) fn filters(&self) -> &str {
        &self.filters
    }

    /// A parameter's value, if it is given and `read` takes it; what `read` says else is the fault.
    pub(super) fn take<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.known.push(name);
        match read(self.given.get(name)?) {
            Ok(value) => Some(value),
            Err(detail) => {
                self.fault(name, detail);
                None
            }
        }
    }

    pub(super) fn fault(&mut self, name: &'static str, detail: impl Into<String>) {
        self.errors.push(FieldError::new(name, detail));
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    pub(super) fn id<T: FromStr>(&mut self, name: &'static str) -> Option<T> {
        self.take(name, |text| text.parse().map_err(|_| "must be an id: a UUID in lower case".to_owned()))
    }

    /// A text that is not empty and of at most `most` bytes.
    pub(super) fn text(&mut self, name: &'static str, most: usize) -> Option<String> {
        self.take(name, |text| match text.len() {
            0 => Err("is empty: leave it out".to_owned()),
            length if length > most => Err(format!("must be {most} bytes at most")),
            _ => Ok(text.to_owned()),
        })
    }

    pub(super) fn one_of<T: Copy>(
        &mut self,
        name: &'static str,
        all: &[T],
        label: impl Fn(T) -> &'static str,
    ) -> Option<T> {
        self.take(name, |text| {
            all.iter().copied().find(|value| label(*value) == text).ok_or_else(|| {
                let labels: Vec<&str> = all.iter().map(|value| label(*value)).collect();
                format!("must be one of {}", labels.join(", "))
            })
        })
    }

    /// From when, and until when; `to` is not in it.
    pub(super) fn span(&mut self) -> (Option<UnixMillis>, Option<UnixMillis>) {
        let (from, to) = (self.take("from", time), self.take("to", time));
        if let (Some(from), Some(to)) = (from, to)
            && from >= to
        {
            self.fault("to", "must be after `from`");
        }
        (from, to)
    }

    pub(super) fn limit(&mut self) -> usize {
        let read = |text: &str| match text.parse() {
            Ok(limit @ 1..=MAX_LIMIT) => Ok(limit),
            _ => Err(format!("must be 1 to {MAX_LIMIT}")),
        };
        self.take("limit", read).unwrap_or(DEFAULT_LIMIT)
    }

    /// # Errors
    /// Every fault there is.
    pub(super) fn finish(mut self) -> Result<(), Problem> {
        for name in self.given.keys().filter(|name| !self.known.contains(&name.as_str())) {
            let detail = format!("is not known: there are {}", self.known.join(", "));
            self.errors.push(FieldError::new(name.chars().take(100).collect::<String>(), detail));
        }
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::invalid(self.errors)) }
    }
}

pub(crate) fn time(text: &str) -> Result<UnixMillis, String> {
    let bad = |_| "must be a time with its offset: `2026-11-23T05:00:00Z`".to_owned();
    text.parse().map(|time: Timestamp| UnixMillis(time.as_millisecond())).map_err(bad)
}

/// A time as the API writes it: RFC 3339, in UTC, with milliseconds.
pub(super) fn written(at: UnixMillis) -> impl Display {
    // What is beyond the calendar is its end.
    let end = if at.0 < 0 { Timestamp::MIN } else { Timestamp::MAX };
    format!("{:.3}", Timestamp::from_millisecond(at.0).unwrap_or(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_told() {
        let mut params = Params::read(Some("limit=0&from=now&limit=1&x=1&webhook=7&outcome=lost&type="));
        assert_eq!(params.limit(), 1);
        assert_eq!(params.span(), (None, None));
        assert_eq!(params.id::<hookstream_types::WebhookId>("webhook"), None);
        assert_eq!(params.one_of("outcome", &["a", "b"], |label| label), None);
        assert_eq!(params.text("type", 9), None);
        let problem = params.finish().unwrap_err();
        let fields: Vec<&str> = problem.errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["limit", "from", "webhook", "outcome", "type", "x"]);
        assert!(problem.errors[5].detail.contains("limit, from, to, webhook, outcome, type"));
    }

    #[test]
    fn filters_do_not_depend_on_the_page() {
        let filters = |query| Params::read(Some(query)).filters().to_owned();
        assert_eq!(filters("b=1&a=x%20y&limit=3&cursor=z"), filters("a=x+y&b=1"));
        assert_ne!(filters("a=1&b=2"), filters("a=1%26b%3D2"));
        assert_eq!(Params::read(None).filters(), "");
    }

    #[test]
    fn times() {
        assert_eq!(
            time("2026-11-23T05:00:00+01:00").map(|at| written(at).to_string()),
            Ok("2026-11-23T04:00:00.000Z".to_owned())
        );
        assert!(time("2026-11-23").is_err() && time("1700000000000").is_err());
        assert_eq!(written(UnixMillis(i64::MAX)).to_string(), "9999-12-30T22:00:00.999Z");
        let mut params = Params::read(Some("from=2026-11-23T05:00:00Z&to=2026-11-23T05:00:00Z"));
        params.span();
        assert_eq!(params.finish().unwrap_err().errors[0].field, "to");
    }
}
