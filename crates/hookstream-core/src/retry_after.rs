//! `Retry-After` (RFC 9110 §10.2.3): a number of seconds or a date.
//!
//! Hostile endpoints send `inf`, `1e300` and numbers of a thousand digits. Only digits are a number here, no
//! floating point is involved, and what is longer than [`MAX_RETRY_AFTER`] is cut to it.

use std::time::{Duration, UNIX_EPOCH};

use hookstream_types::UnixMillis;
use hookstream_types::limits::MAX_RETRY_AFTER;

/// How long the endpoint asks to wait; none if it says nothing that can be understood. A date in the past is zero.
#[must_use]
pub fn parse(value: &str, now: UnixMillis) -> Option<Duration> {
    let value = value.trim_matches([' ', '\t']);
    if value.is_empty() {
        return None;
    }
    let asked = if value.bytes().all(|byte| byte.is_ascii_digit()) {
        // The only way to fail is to be too large.
        value.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs)
    } else {
        let date = httpdate::parse_http_date(value).ok()?;
        let since_epoch = date.duration_since(UNIX_EPOCH).unwrap_or_default();
        now.until(UnixMillis(0) + since_epoch)
    };
    Some(asked.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2026-11-22T14:00:00Z
    const NOW: UnixMillis = UnixMillis(1_795_356_000_000);

    #[test]
    fn seconds_and_dates() {
        let secs = |n| Some(Duration::from_secs(n));
        for (value, expected) in [
            ("0", secs(0)),
            ("120", secs(120)),
            (" 120\t", secs(120)),
            ("00120", secs(120)),
            ("86400", secs(86_400)),
            ("86401", secs(86_400)),
            ("9223372036854775807", secs(86_400)),
            ("99999999999999999999999999999999", secs(86_400)),
            ("Sun, 22 Nov 2026 14:01:00 GMT", secs(60)),
            ("Sunday, 22-Nov-26 14:01:00 GMT", secs(60)),
            ("Sun Nov 22 14:01:00 2026", secs(60)),
            ("Sun, 22 Nov 2026 13:59:00 GMT", secs(0)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", secs(0)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", secs(86_400)),
            ("", None),
            ("inf", None),
            ("NaN", None),
            ("1e300", None),
            ("-1", None),
            ("+5", None),
            ("1.5", None),
            ("0x10", None),
            ("5 s", None),
            ("١٢", None),
            ("Sun, 99 Nov 2026 14:01:00 GMT", None),
        ] {
            assert_eq!(parse(value, NOW), expected, "{value}");
        }
    }

    proptest! {
        #[test]
        fn no_value_panics_or_exceeds_the_cap(value in ".{0,80}", now: i64) {
            if let Some(wait) = parse(&value, UnixMillis(now)) {
                prop_assert!(wait <= MAX_RETRY_AFTER);
            }
        }

        /// Nearly right dates go deeper into the parser than arbitrary text.
        #[test]
        fn nearly_dates_neither(
            day in "[A-Z][a-z]{2}", date in 0u32..100, month in "(Jan|Feb|Dec|Xyz)", year in 0u32..10_000,
            hour in 0u32..100, rest in "[0-9:]{5}", now: i64,
        ) {
            let value = format!("{day}, {date:02} {month} {year:04} {hour:02}:{rest} GMT");
            if let Some(wait) = parse(&value, UnixMillis(now)) {
                prop_assert!(wait <= MAX_RETRY_AFTER);
            }
        }
    }
}
