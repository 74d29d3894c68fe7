//! `api`: who may call it, and where it is.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hookstream_types::SecretString;
use serde::{Deserialize, Serialize};

use crate::Problem;
use crate::secrets::redacted;
use crate::services::address;
use crate::sign_in::SignInSettings;
use crate::values::{comma_or_seq, duration, format_duration};

/// `api`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ApiSettings {
    #[serde(deserialize_with = "address")]
    pub listen: SocketAddr,
    /// What clients call it: the issuer of its tokens.
    pub url: String,
    #[serde(serialize_with = "redacted")]
    pub admin_token: Option<SecretString>,
    pub admin_token_file: Option<PathBuf>,
    #[serde(with = "duration")]
    pub token_lifetime: Duration,
    /// Of one client.
    pub requests_per_second: u32,
    #[serde(with = "duration")]
    pub secret_overlap: Duration,
    /// Among how many the limits of sync webhooks are divided.
    pub replicas: u32,
    /// Origins whose pages may show a portal in a frame.
    #[serde(deserialize_with = "comma_or_seq")]
    pub portal_origins: Vec<String>,
    /// Scopes of other platforms.
    pub scopes: Vec<ScopeRule>,
    /// Whose tokens are taken.
    pub issuers: Vec<IssuerSettings>,
    /// How people sign in to the console besides.
    pub sign_in: Option<SignInSettings>,
}

/// What a scope of another platform is worth.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ScopeRule {
    pub scope: String,
    #[serde(default)]
    pub access_type: Option<String>,
    pub grants: Vec<String>,
}

/// An outside issuer of tokens.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerSettings {
    /// Exactly as it stands in `iss`.
    pub issuer: String,
    pub audience: String,
    pub jwks_url: String,
    /// The claim that names the account.
    #[serde(default)]
    pub account_claim: Option<String>,
    #[serde(default)]
    pub access_type_claim: Option<String>,
    /// Tokens without the account's claim see all accounts.
    #[serde(default)]
    pub unbound: bool,
}

pub(crate) const SCOPES: [&str; 5] =
    ["webhooks:read", "webhooks:write", "events:write", "history:read", "admin"];

impl ApiSettings {
    /// The operator's token, if there is one; reads the file if that is where it is.
    ///
    /// # Errors
    /// A [`Problem`] if it is given twice, or the file can't be read.
    pub fn read_admin_token(&self) -> Result<Option<SecretString>, Problem> {
        read_secret("api.admin_token", self.admin_token.as_ref(), self.admin_token_file.as_deref())
    }

    pub(crate) fn check(&self, problems: &mut Vec<Problem>) {
        const HOUR: Duration = Duration::from_secs(3600);
        if !self.url.starts_with("http://") && !self.url.starts_with("https://") {
            problems.push(Problem::new("api.url", "must be `http://…` or `https://…`").with_value(&self.url));
        }
        if !(Duration::from_secs(60)..=24 * HOUR).contains(&self.token_lifetime) {
            let value = format_duration(self.token_lifetime);
            problems.push(Problem::new("api.token_lifetime", "must be 1m to 24h").with_value(value));
        }
        if !(1..=1_000).contains(&self.replicas) {
            problems.push(
                Problem::new("api.replicas", "must be 1 to 1000").with_value(self.replicas.to_string()),
            );
        }
        if self.secret_overlap > 30 * 24 * HOUR {
            let value = format_duration(self.secret_overlap);
            problems.push(Problem::new("api.secret_overlap", "must be at most 30d").with_value(value));
        }
        if self.requests_per_second == 0 {
            problems.push(Problem::new("api.requests_per_second", "must be 1 or more").with_value(0));
        }
        for (idx, origin) in self.portal_origins.iter().enumerate() {
            let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
            let is_host = |host: &str| {
                !host.is_empty()
                    && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte))
            };
            if !host.is_some_and(is_host) {
                let message = "must be an origin: `https://app.example`, without a path";
                problems.push(Problem::new(format!("api.portal_origins[{idx}]"), message).with_value(origin));
            }
        }
        for (idx, rule) in self.scopes.iter().enumerate() {
            for grant in rule.grants.iter().filter(|grant| !SCOPES.contains(&grant.as_str())) {
                let message = format!("must be of {}", SCOPES.join(", "));
                problems.push(Problem::new(format!("api.scopes[{idx}].grants"), message).with_value(grant));
            }
        }
        for (idx, issuer) in self.issuers.iter().enumerate() {
            if issuer.issuer.is_empty() || issuer.audience.is_empty() {
                let message = "needs `issuer` and `audience`: tokens for others are not for us";
                problems.push(Problem::new(format!("api.issuers[{idx}]"), message));
            }
        }
        if let Some(sign_in) = &self.sign_in {
            sign_in.check(&self.issuers, problems);
        }
    }
}

/// A secret that stands at `key`, or in the file that `key` with `_file` names.
pub(crate) fn read_secret(
    key: &str,
    given: Option<&SecretString>,
    file: Option<&Path>,
) -> Result<Option<SecretString>, Problem> {
    let Some(file) = file else { return Ok(given.cloned()) };
    let problem = |message: String| Problem::new(format!("{key}_file"), message).with_value(file.display());
    if given.is_some() {
        return Err(problem(format!("`{key}` is given too; remove one of the two")));
    }
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(SecretString::new(text.trim().to_owned()))),
        Err(error) => Err(problem(format!("could not read the file: {error}"))),
    }
}
