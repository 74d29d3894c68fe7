//! What an exchange means for a delivery.
//!
//! 2xx is success, whatever the body. 410 asks to stop. Statuses that the webhook lists, and requests that can't
//! be made, are given up. Everything else is tried again: redirects too, which are never followed because they
//! would carry body, signature and credentials to where nobody vetted (Standard Webhooks: 3xx is a failure).

use std::time::Duration;

use hookstream_types::UnixMillis;

use crate::config::Webhook;
use crate::decision::DeadReason;
use crate::exchange::{Exchange, FailureKind, Response};
use crate::retry_after;

/// What is to become of a delivery after an attempt, before the schedule has its say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The endpoint has it.
    Delivered,
    /// Try again.
    Retry {
        /// Not before this time is over: the endpoint's own `Retry-After`.
        after: Option<Duration>,
        /// The endpoint is overloaded: its lane does well to slow down.
        backpressure: bool,
    },
    /// Never try again.
    GiveUp(DeadReason),
}

impl Outcome {
    /// Every label, for metrics that begin at zero.
    pub const LABELS: &'static [&'static str] =
        &["delivered", "retry", "backpressure", "rejected", "gone", "unsendable", "exhausted"];

    /// The name in metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Retry { backpressure: false, .. } => "retry",
            Self::Retry { backpressure: true, .. } => "backpressure",
            Self::GiveUp(reason) => reason.label(),
        }
    }
}

/// Reads an exchange. `now` is the clock that a `Retry-After` date is compared with.
#[must_use]
pub fn classify(exchange: &Exchange, webhook: &Webhook, now: UnixMillis) -> Outcome {
    match &exchange.result {
        Ok(response) => of_response(response, &webhook.give_up_on, now),
        Err(failure) => match failure.kind {
            FailureKind::Unsendable => Outcome::GiveUp(DeadReason::Unsendable),
            FailureKind::Timeout => Outcome::Retry { after: None, backpressure: true },
            // A forbidden address may be another one after the next look into the DNS.
            FailureKind::Dns
            | FailureKind::Connect
            | FailureKind::Tls
            | FailureKind::Protocol
            | FailureKind::Token
            | FailureKind::Forbidden => Outcome::Retry { after: None, backpressure: false },
        },
    }
}

fn of_response(response: &Response, give_up_on: &[u16], now: UnixMillis) -> Outcome {
    match response.status {
        200..=299 => Outcome::Delivered,
        410 => Outcome::GiveUp(DeadReason::Gone),
        status if give_up_on.contains(&status) => Outcome::GiveUp(DeadReason::Rejected),
        status => Outcome::Retry {
            after: header(response, "retry-after").and_then(|value| retry_after::parse(value, now)),
            backpressure: matches!(status, 429 | 503),
        },
    }
}

/// The first header of that name.
fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response
        .headers
        .iter()
        .find(|(other, _)| other.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::{Failure, Timings};
    use crate::request::tests::webhook;

    fn of(result: Result<Response, FailureKind>) -> Outcome {
        let webhook = Webhook { give_up_on: vec![400, 422, 204, 410], ..webhook() };
        let result = result.map_err(|kind| Failure { kind, message: String::new() });
        classify(&Exchange { result, timings: Timings::default() }, &webhook, UnixMillis(0))
    }

    fn status(status: u16, retry_after: Option<&str>) -> Outcome {
        let headers =
            retry_after.map(|value| ("retry-after".to_owned(), value.to_owned())).into_iter().collect();
        of(Ok(Response { status, headers, ..Response::default() }))
    }

    const RETRY: Outcome = Outcome::Retry { after: None, backpressure: false };
    const SLOW_DOWN: Outcome = Outcome::Retry { after: None, backpressure: true };

    #[test]
    fn every_status_means_something() {
        for (code, expected) in [
            (200, Outcome::Delivered),
            (204, Outcome::Delivered),
            (299, Outcome::Delivered),
            (101, RETRY),
            (301, RETRY),
            (302, RETRY),
            (304, RETRY),
            (307, RETRY),
            (401, RETRY),
            (404, RETRY),
            (408, RETRY),
            (425, RETRY),
            (429, SLOW_DOWN),
            (500, RETRY),
            (502, RETRY),
            (503, SLOW_DOWN),
            (599, RETRY),
            (999, RETRY),
            (400, Outcome::GiveUp(DeadReason::Rejected)),
            (422, Outcome::GiveUp(DeadReason::Rejected)),
            (410, Outcome::GiveUp(DeadReason::Gone)),
        ] {
            assert_eq!(status(code, None), expected, "{code}");
        }
    }

    #[test]
    fn retry_after_is_heard_and_clamped() {
        let after = |value| match status(503, Some(value)) {
            Outcome::Retry { after, .. } => after,
            other => panic!("{other:?}"),
        };
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after("9223372036854775807"), Some(Duration::from_secs(86_400)));
        for nonsense in ["inf", "1e300", "NaN", "-1", ""] {
            assert_eq!(after(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn every_failure_means_something() {
        for kind in FailureKind::ALL {
            let expected = match kind {
                FailureKind::Unsendable => Outcome::GiveUp(DeadReason::Unsendable),
                FailureKind::Timeout => SLOW_DOWN,
                _ => RETRY,
            };
            assert_eq!(of(Err(*kind)), expected, "{kind:?}");
        }
    }

    #[test]
    fn labels_are_complete() {
        for outcome in [Outcome::Delivered, RETRY, SLOW_DOWN] {
            assert!(Outcome::LABELS.contains(&outcome.label()));
        }
        for reason in DeadReason::ALL {
            assert!(Outcome::LABELS.contains(&Outcome::GiveUp(*reason).label()));
        }
    }
}
