//! A webhook's secret: one text, that a receiver is given and that keys are made of.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hookstream_types::{Secret, SecretString, UnixMillis};

use crate::signing::{SECRET_PREFIX, parse_secret};

/// A webhook's secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookSecret {
    /// As the receiver has it.
    pub text: SecretString,
    /// It is being rotated out, and counts until then.
    pub until: Option<UnixMillis>,
}

impl WebhookSecret {
    #[must_use]
    pub fn new(text: SecretString) -> Self {
        Self { text, until: None }
    }

    /// A secret in the form of Standard Webhooks: `whsec_` and base64.
    #[must_use]
    pub fn of_key(key: &[u8]) -> Self {
        Self::new(SecretString::new(format!("{SECRET_PREFIX}{}", STANDARD.encode(key))))
    }

    /// The bytes that sign: those behind `whsec_`, or the text itself where it is none of Standard Webhooks.
    #[must_use]
    pub fn key(&self) -> Secret {
        parse_secret(self.text.expose())
            .unwrap_or_else(|_| Secret::new(self.text.expose().as_bytes().to_vec()))
    }

    #[must_use]
    pub fn counts(&self, now: UnixMillis) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        let of = |text: &str| WebhookSecret::new(SecretString::new(text.to_owned())).key();
        assert_eq!(of("S3cret!").expose(), b"S3cret!");
        assert_eq!(of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expose().len(), 24);
        assert_eq!(of("whsec_short").expose(), b"whsec_short");
        assert_eq!(WebhookSecret::of_key(&[7; 32]).key().expose(), [7; 32]);
    }

    #[test]
    fn an_old_secret_counts_for_a_while() {
        let mut secret = WebhookSecret::of_key(&[7; 32]);
        assert!(secret.counts(UnixMillis(i64::MAX)));
        secret.until = Some(UnixMillis(10));
        assert!(secret.counts(UnixMillis(9)) && !secret.counts(UnixMillis(10)));
    }
}
