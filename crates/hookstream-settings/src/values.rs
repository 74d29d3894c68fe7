//! How times, lists and secrets are written.

use std::fmt;
use std::time::Duration;

use hookstream_core::ladder::Ladder;
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

/// Why a text is no time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadDuration(String);

impl fmt::Display for BadDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is no time; write a number and a unit (ms, s, m, h, d): `250ms`, `5s`, `1h30m`, `7d`",
            self.0
        )
    }
}

impl std::error::Error for BadDuration {}

/// Reads `250ms`, `5s`, `1h30m`, `7d`.
///
/// # Errors
/// [`BadDuration`] if it isn't a sequence of whole numbers with units, or doesn't fit.
pub fn parse_duration(text: &str) -> Result<Duration, BadDuration> {
    let bad = || BadDuration(text.to_owned());
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let millis: u64 = match unit.trim() {
            "ms" => 1,
            "s" => 1000,
            "m" => 60 * 1000,
            "h" => 3600 * 1000,
            "d" => 24 * 3600 * 1000,
            _ => return Err(bad()),
        };
        let number: u64 = number.parse().map_err(|_| bad())?;
        let part = number.checked_mul(millis).ok_or_else(bad)?;
        total = total.checked_add(Duration::from_millis(part)).ok_or_else(bad)?;
        rest = tail;
    }
    Ok(total)
}

/// Writes what [`parse_duration`] reads, to the millisecond.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let mut rest = duration.as_millis();
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, millis) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
        if rest >= millis {
            text.push_str(&format!("{}{unit}", rest / millis));
            rest %= millis;
        }
    }
    text
}

/// `#[serde(with = "duration")]` for a time written as text.
pub(crate) mod duration {
    use super::*;

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        parse_duration(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }

    pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        format_duration(*duration).serialize(serializer)
    }
}

/// `#[serde(with = "ladder")]` for the delays of a [`Ladder`].
pub(crate) mod ladder {
    use super::*;

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Ladder, D::Error> {
        let texts = comma_or_seq(deserializer)?;
        let rungs = texts.iter().map(|text| parse_duration(text)).collect::<Result<_, _>>();
        Ladder::new(rungs.map_err(D::Error::custom)?).map_err(D::Error::custom)
    }

    pub(crate) fn serialize<S: Serializer>(ladder: &Ladder, serializer: S) -> Result<S::Ok, S::Error> {
        let rungs: Vec<_> = ladder.rungs().iter().map(|rung| format_duration(*rung)).collect();
        rungs.join(",").serialize(serializer)
    }
}

/// `#[serde(deserialize_with = "comma_joined")]` for a text with commas that may also be written as a list.
pub(crate) fn comma_joined<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(comma_or_seq(deserializer)?.join(","))
}

/// A list, or a text with commas: environment variables can only have the latter.
pub(crate) fn comma_or_seq<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct List;

    impl<'de> Visitor<'de> for List {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list, or a text with commas")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut list = Vec::new();
            while let Some(item) = seq.next_element()? {
                list.push(item);
            }
            Ok(list)
        }
    }

    deserializer.deserialize_any(List)
}

/// What is printed in place of a secret.
pub(crate) const REDACTED: &str = "(secret)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        for (text, millis, written) in [
            ("250ms", 250, "250ms"),
            ("5s", 5000, "5s"),
            (" 90 s ", 90_000, "1m30s"),
            ("1h30m", 5_400_000, "1h30m"),
            ("7d", 604_800_000, "7d"),
            ("0s", 0, "0s"),
        ] {
            let duration = parse_duration(text).unwrap();
            assert_eq!(duration, Duration::from_millis(millis), "{text}");
            assert_eq!(format_duration(duration), written);
            assert_eq!(parse_duration(written), Ok(duration));
        }
    }

    #[test]
    fn what_is_no_time() {
        for text in
            ["", " ", "5", "s", "5x", "-5s", "1.5s", "5s3", "99999999999999999999s", "18446744073709551615d"]
        {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
