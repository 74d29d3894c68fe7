//! Asking an endpoint whether it wants to be sent events (CloudEvents, "HTTP 1.1 Web Hooks for Event Delivery" 1.0.2, §4).
//!
//! An `OPTIONS` request says who would send, and how much; the answer says who may, and how much. It can't be mistaken for
//! an event, and an endpoint that knows nothing of it does not consent by accident.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Prepared;
use crate::exchange::{Method, Request, Response};

/// What was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agreed {
    /// Attempts per second at most; none: any number.
    pub rate: Option<f64>,
}

/// Why an endpoint does not want to be sent events. For people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Declined {
    #[error("the endpoint answered the handshake (`OPTIONS`) with {0} instead of 2xx")]
    Status(u16),
    #[error("the endpoint's answer to the handshake has no `WebHook-Allowed-Origin` with `{origin}` or `*`")]
    Origin { origin: String },
    #[error(
        "the endpoint's answer to the handshake has a `WebHook-Allowed-Rate` that is neither a number of requests per minute nor `*`"
    )]
    Rate,
}

const MINUTE: Duration = Duration::from_secs(60);

impl Prepared {
    /// The request; `origin` is the DNS name by which hookstream is known. It is authorized as deliveries are.
    #[must_use]
    pub fn handshake(&self, origin: &str) -> Request {
        let webhook = self.webhook();
        let mut headers = vec![(Arc::from("webhook-request-origin"), Arc::from(origin))];
        if let Some(rate) = webhook.rate {
            let per_minute = (rate * MINUTE.as_secs_f64()).ceil().max(1.0);
            headers.push((Arc::from("webhook-request-rate"), Arc::from(format!("{per_minute:.0}"))));
        }
        headers.extend(self.fixed.iter().filter(|(name, _)| &**name != "content-type").cloned());
        Request {
            account: webhook.account,
            method: Method::Options,
            url: Arc::clone(&self.url),
            headers,
            body: Bytes::new(),
            deadline: webhook.timeout,
            tls: self.tls.clone(),
            token: self.token.clone(),
        }
    }
}

/// What an endpoint's answer says.
///
/// # Errors
/// [`Declined`] says why nothing may be sent.
pub fn agreed(response: &Response, origin: &str) -> Result<Agreed, Declined> {
    if !(200..300).contains(&response.status) {
        return Err(Declined::Status(response.status));
    }
    let header = |wanted: &str| {
        let mut found = response.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.next().map(|(_, value)| value.trim())
    };
    let allowed = header("webhook-allowed-origin");
    if !allowed.is_some_and(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(origin)) {
        return Err(Declined::Origin { origin: origin.to_owned() });
    }
    let rate = match header("webhook-allowed-rate") {
        None | Some("*") => None,
        Some(text) => {
            let per_minute: u32 = text.parse().ok().filter(|number| *number > 0).ok_or(Declined::Rate)?;
            Some(f64::from(per_minute) / MINUTE.as_secs_f64())
        }
    };
    Ok(Agreed { rate })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Webhook;
    use crate::request::tests::webhook;

    fn answer(status: u16, headers: &[(&str, &str)]) -> Response {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Response { status, headers, ..Response::default() }
    }

    #[test]
    fn what_is_asked() {
        let prepared = Prepared::new(Arc::new(Webhook { rate: Some(2.51), ..webhook() }), "x").unwrap();
        let request = prepared.handshake("hooks.example.com");
        assert_eq!((request.method, request.body.len()), (Method::Options, 0));
        let headers: Vec<_> = request.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(
            headers,
            [
                ("webhook-request-origin", "hooks.example.com"),
                ("webhook-request-rate", "151"),
                ("user-agent", "x"),
                ("authorization", "Bearer s3cr3t-token"),
            ]
        );
    }

    #[test]
    fn what_is_answered() {
        let own = "hooks.example.com";
        let origin = |value| ("webhook-allowed-origin", value);
        let rate = |value| ("WebHook-Allowed-Rate", value);
        for (headers, expected) in [
            (vec![origin(own)], None),
            (vec![origin("*"), rate("*")], None),
            (vec![origin("Hooks.Example.com"), rate("120")], Some(2.0)),
            (vec![origin("*"), rate("30")], Some(0.5)),
        ] {
            assert_eq!(agreed(&answer(200, &headers), own), Ok(Agreed { rate: expected }), "{headers:?}");
        }
        let declined = |status, headers: &[(&str, &str)]| agreed(&answer(status, headers), own).unwrap_err();
        assert_eq!(declined(405, &[origin("*")]), Declined::Status(405));
        assert_eq!(declined(302, &[origin("*")]), Declined::Status(302));
        for headers in [&[][..], &[origin("other.example.com")], &[origin("")], &[origin("example.com")]] {
            assert_eq!(declined(200, headers), Declined::Origin { origin: own.to_owned() });
        }
        for value in ["0", "-1", "many", "1.5", "99999999999"] {
            assert_eq!(declined(200, &[origin("*"), rate(value)]), Declined::Rate, "{value}");
        }
    }
}
