//! What a webhook's requests are authorized with, and where that may be sent.
//!
//! An authorization is bound to the endpoints that it was made for: a prefix of their URLs. It can't be sent
//! anywhere else, whoever edits a webhook.

use hookstream_types::{AccountUid, AuthorizationId, SecretString};

/// What requests are authorized with; shared by the webhooks of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization {
    pub id: AuthorizationId,
    pub account: AccountUid,
    pub name: String,
    /// What the URLs of the webhooks that use it begin with.
    pub endpoint: String,
    pub credentials: Credentials,
    pub revision: u64,
}

/// The credentials themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// A header; `secret`: its value is shown nowhere.
    Header { name: String, value: SecretString, secret: bool },
    /// RFC 7617.
    Basic { user: String, password: SecretString },
    /// RFC 6750.
    Bearer { token: SecretString },
    /// A token that is asked for.
    Oauth2(ClientCredentials),
    /// A client certificate, in PEM (RFC 8446 §4.4.2).
    Mtls { certificate: String, key: SecretString },
}

/// What tokens are asked for with (RFC 6749 §4.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCredentials {
    pub token_url: String,
    pub client_id: String,
    pub client_secret: SecretString,
    pub scopes: Vec<String>,
}

/// Why a text is no prefix of endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPrefix {
    #[error("must be the beginning of a URL: `https://host/path`, without a query")]
    NotUrl,
    #[error("must not hold `..` or `%`, which could lead out of it")]
    Ambiguous,
}

/// Checks a prefix that authorizations may be bound to.
///
/// # Errors
/// [`BadPrefix`] says what it must be.
pub fn check_prefix(prefix: &str) -> Result<(), BadPrefix> {
    let (_, authority, path) = parts(prefix).ok_or(BadPrefix::NotUrl)?;
    if authority.is_empty()
        || prefix.contains(['?', '#', '\\', '@'])
        || !prefix.bytes().all(|b| b.is_ascii_graphic())
    {
        return Err(BadPrefix::NotUrl);
    }
    if path.contains("..") || path.contains('%') {
        return Err(BadPrefix::Ambiguous);
    }
    Ok(())
}

/// Whether a URL lies within the endpoints of a prefix: the same scheme, host and port, and a path that is the
/// prefix's or below it. `https://a.example/in` holds `https://a.example/in/x?y`, not `https://a.example/inbox`.
#[must_use]
pub fn is_within(url: &str, prefix: &str) -> bool {
    let (Some((scheme, authority, path)), Some((p_scheme, p_authority, p_path))) =
        (parts(url), parts(prefix))
    else {
        return false;
    };
    let path = path.split(['?', '#']).next().unwrap_or_default();
    // A path that climbs could leave the prefix once it is normalised.
    let climbs = path.split('/').any(|segment| matches!(segment, "." | ".."))
        || path.to_ascii_lowercase().contains("%2e");
    let p_path = p_path.trim_end_matches('/');
    scheme.eq_ignore_ascii_case(p_scheme)
        && same_authority(authority, p_authority, scheme)
        && !climbs
        && path.strip_prefix(p_path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn same_authority(one: &str, other: &str, scheme: &str) -> bool {
    let default = if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
    let bare = |authority: &str| authority.strip_suffix(default).unwrap_or(authority).to_ascii_lowercase();
    bare(one) == bare(other)
}

/// Scheme, authority, path with query.
fn parts(url: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("https") && !scheme.eq_ignore_ascii_case("http") {
        return None;
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    Some((scheme, &rest[..end], &rest[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn within() {
        for (url, prefix) in [
            ("https://a.example/in/x?y=1", "https://a.example/in"),
            ("https://a.example/in", "https://a.example/in/"),
            ("https://A.example:443/in", "https://a.example/in"),
            ("https://a.example", "https://a.example"),
            ("https://a.example/x", "https://a.example/"),
            ("https://a.example?x", "https://a.example"),
        ] {
            assert!(is_within(url, prefix), "{url} in {prefix}");
        }
        for (url, prefix) in [
            ("https://a.example/inbox", "https://a.example/in"),
            ("http://a.example/in", "https://a.example/in"),
            ("https://a.example:8443/in", "https://a.example/in"),
            ("https://a.example.evil.example/in", "https://a.example/in"),
            ("https://a.example/in/../out", "https://a.example/in"),
            ("https://a.example/in/%2E%2e/out", "https://a.example/in"),
            ("https://a.example?/in", "https://a.example/in"),
            ("", "https://a.example"),
        ] {
            assert!(!is_within(url, prefix), "{url} not in {prefix}");
        }
    }

    #[test]
    fn prefixes() {
        for good in ["https://a.example", "http://127.0.0.1:9000/hooks"] {
            assert_eq!(check_prefix(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "a.example",
            "ftp://a.example",
            "https://",
            "https://u@a.example",
            "https://a.example/?x",
            "https://a.example/é",
        ] {
            assert_eq!(check_prefix(bad), Err(BadPrefix::NotUrl), "{bad}");
        }
        assert_eq!(check_prefix("https://a.example/a/../b"), Err(BadPrefix::Ambiguous));
        assert_eq!(check_prefix("https://a.example/%41"), Err(BadPrefix::Ambiguous));
    }
}
