//! The forms in which a secret is looked for.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::MIN_ECHO_BYTES;
use crate::config::{ClientCredentials, Credentials, WebhookSecret};
use crate::signing::SECRET_PREFIX;

/// The forms of a webhook's secrets.
#[derive(Default)]
pub(super) struct Forms(Vec<Zeroizing<Vec<u8>>>);

impl Forms {
    /// Each once.
    pub(super) fn into_patterns(self) -> Vec<Zeroizing<Vec<u8>>> {
        let Self(mut patterns) = self;
        patterns.sort_unstable_by(|a, b| a.as_slice().cmp(b.as_slice()));
        patterns.dedup();
        patterns
    }

    pub(super) fn push_secret(&mut self, secret: &WebhookSecret) {
        let text = secret.text.expose();
        let key = secret.key();
        match std::str::from_utf8(key.expose()) {
            Ok(key) => self.push_text(key),
            Err(_) => self.push_bytes(key.expose()),
        }
        match text.strip_prefix(SECRET_PREFIX) {
            Some(base64) => {
                self.push(text);
                self.push_text(base64);
            }
            None => self.push_text(text),
        }
    }

    /// Returns the name of the header that carries the credentials, if that is not to be shown.
    pub(super) fn push_credentials(&mut self, credentials: &Credentials) -> Option<String> {
        let name = match credentials {
            Credentials::Header { secret: false, .. } => return None,
            Credentials::Header { name, value, secret: true } => {
                self.push_header_value(value.expose());
                name.to_ascii_lowercase()
            }
            Credentials::Basic { user, password } => {
                self.push_text(password.expose());
                let pair = Zeroizing::new(format!("{user}:{}", password.expose()));
                self.push_text(&pair);
                self.push_text(&Zeroizing::new(STANDARD.encode(pair.as_bytes())));
                "authorization".to_owned()
            }
            Credentials::Bearer { token: secret }
            | Credentials::Oauth2(ClientCredentials { client_secret: secret, .. }) => {
                self.push_text(secret.expose());
                "authorization".to_owned()
            }
            // It signs, and is never sent.
            Credentials::Mtls { .. } => return None,
        };
        Some(name)
    }

    pub(super) fn push_header_value(&mut self, value: &str) {
        let value = value.trim();
        self.push_text(value);
        let Some((scheme, credentials)) = value.split_once(' ') else { return };
        self.push_text(credentials.trim());
        if scheme.eq_ignore_ascii_case("basic")
            && let Ok(decoded) = STANDARD.decode(credentials.trim())
            && let Ok(decoded) = String::from_utf8(decoded).map(Zeroizing::new)
        {
            self.push_text(&decoded);
            if let Some((_, password)) = decoded.split_once(':') {
                self.push_text(password);
            }
        }
    }

    /// A text as it is, as forms have it (a space is `+`), and in base64 of a JSON document that holds it.
    pub(super) fn push_text(&mut self, text: &str) {
        self.push_bytes(text.as_bytes());
        if text.len() < MIN_ECHO_BYTES {
            return;
        }
        if text.contains(' ') {
            self.push(text.replace(' ', "+"));
        }
        if text.contains(['"', '\\']) {
            let json = Zeroizing::new(text.replace('\\', "\\\\").replace('"', "\\\""));
            self.push_base64(json.as_bytes());
        }
    }

    /// Bytes as they are, in hexadecimal, and in base64.
    fn push_bytes(&mut self, bytes: &[u8]) {
        if bytes.len() < MIN_ECHO_BYTES {
            return;
        }
        self.push(bytes);
        self.push(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        self.push(bytes.iter().map(|byte| format!("{byte:02X}")).collect::<String>());
        self.push(STANDARD.encode(bytes));
        self.push(STANDARD_NO_PAD.encode(bytes));
        self.push(URL_SAFE_NO_PAD.encode(bytes));
        self.push_base64(bytes);
    }

    /// The characters that bytes have in base64 of anything that holds them: those that no byte beside them changes,
    /// for each of the three ways in which they can lie in groups of three.
    fn push_base64(&mut self, bytes: &[u8]) {
        for before in 0..3 {
            let mut padded = Zeroizing::new(vec![0; before]);
            padded.extend_from_slice(bytes);
            let first = (before * 8).div_ceil(6);
            let last = padded.len() * 8 / 6;
            for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
                let text = Zeroizing::new(engine.encode(&*padded));
                if let Some(own) = text.get(first..last) {
                    self.push(own);
                }
            }
        }
    }

    fn push(&mut self, pattern: impl Into<Vec<u8>>) {
        self.0.push(Zeroizing::new(pattern.into()));
    }
}
