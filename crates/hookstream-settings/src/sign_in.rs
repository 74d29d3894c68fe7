//! `api.sign_in`: people who sign in to the console with an account that they have elsewhere.

use std::path::PathBuf;
use std::time::Duration;

use hookstream_types::SecretString;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::api::{SCOPES, read_secret};
use crate::secrets::redacted;
use crate::values::{duration, format_duration};
use crate::{IssuerSettings, Problem};

/// `api.sign_in`
///
/// What must be given has a default too, which [`Self::check`] refuses: so all that is missing is told at once.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct SignInSettings {
    /// What people call it.
    pub name: String,
    /// One of `api.issuers`.
    pub issuer: String,
    pub authorization_url: String,
    pub token_url: String,
    pub client_id: String,
    #[serde(serialize_with = "redacted")]
    pub client_secret: Option<SecretString>,
    pub client_secret_file: Option<PathBuf>,
    /// What is asked for, with spaces between.
    pub scopes: String,
    /// Scopes of ours, for whom the ID token has none.
    pub grants: Vec<String>,
    #[serde(with = "duration")]
    pub lifetime: Duration,
}

impl Default for SignInSettings {
    fn default() -> Self {
        Self {
            name: String::new(),
            issuer: String::new(),
            authorization_url: String::new(),
            token_url: String::new(),
            client_id: String::new(),
            client_secret: None,
            client_secret_file: None,
            scopes: "openid profile".to_owned(),
            grants: Vec::new(),
            lifetime: Self::LONGEST,
        }
    }
}

impl SignInSettings {
    /// A working day.
    const LONGEST: Duration = Duration::from_secs(12 * 3600);

    /// The client's secret, if it has one; reads the file if that is where it is.
    ///
    /// # Errors
    /// A [`Problem`] if it is given twice, or the file can't be read.
    pub fn read_client_secret(&self) -> Result<Option<SecretString>, Problem> {
        read_secret(
            "api.sign_in.client_secret",
            self.client_secret.as_ref(),
            self.client_secret_file.as_deref(),
        )
    }

    pub(crate) fn check(&self, issuers: &[IssuerSettings], problems: &mut Vec<Problem>) {
        let problem = |key: &str, message: &str| Problem::new(format!("api.sign_in.{key}"), message);
        for (key, value) in [("name", &self.name), ("client_id", &self.client_id)] {
            if value.trim().is_empty() {
                problems.push(problem(key, "must be given"));
            }
        }
        if !issuers.iter().any(|known| known.issuer == self.issuer) {
            let message = "must be the `issuer` of one of `api.issuers`";
            problems.push(problem("issuer", message).with_value(&self.issuer));
        }
        for (key, value) in [("authorization_url", &self.authorization_url), ("token_url", &self.token_url)] {
            // RFC 6749 §3.1: it has no fragment.
            let is_url = Url::parse(value).is_ok_and(|url| {
                matches!(url.scheme(), "http" | "https") && url.has_host() && url.fragment().is_none()
            });
            if !is_url {
                problems.push(problem(key, "must be `https://…`, without `#`").with_value(value));
            }
        }
        if !self.scopes.split(' ').any(|scope| scope == "openid") {
            problems.push(problem("scopes", "must have `openid`").with_value(&self.scopes));
        }
        for grant in self.grants.iter().filter(|grant| !SCOPES.contains(&grant.as_str())) {
            problems.push(problem("grants", &format!("must be of {}", SCOPES.join(", "))).with_value(grant));
        }
        if !(Duration::from_secs(60)..=Self::LONGEST).contains(&self.lifetime) {
            let value = format_duration(self.lifetime);
            problems.push(problem("lifetime", "must be 1m to 12h").with_value(value));
        }
        if self.client_secret.is_some()
            && let Err(twice) = self.read_client_secret()
        {
            problems.push(twice);
        }
    }
}
