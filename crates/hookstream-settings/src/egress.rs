//! `egress`: what webhooks may call, and how.

use std::net::SocketAddr;

use hookstream_core::endpoint::{Policy, Rule};
use hookstream_types::SecretString;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::Url;

use crate::Problem;
use crate::values::{REDACTED, comma_or_seq};

/// `egress`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Egress {
    /// Plain `http://`.
    pub allow_http: bool,
    /// Private, shared and loopback addresses.
    pub allow_private: bool,
    /// Names and networks that may be called although they are not public.
    #[serde(deserialize_with = "rules")]
    pub allow: Vec<Rule>,
    /// Names and networks that may not be called although they are.
    #[serde(deserialize_with = "rules")]
    pub deny: Vec<Rule>,
    /// In place of the machine's; none: those.
    #[serde(deserialize_with = "addresses")]
    pub name_servers: Vec<SocketAddr>,
    /// `http://[USER:PASSWORD@]HOST:PORT`
    #[serde(serialize_with = "without_password")]
    pub proxy: Option<SecretString>,
}

impl Egress {
    /// Who may be called.
    #[must_use]
    pub fn policy(&self) -> Policy {
        let Self { allow_http, allow_private, allow, deny, .. } = self;
        Policy {
            allow_http: *allow_http,
            allow_private: *allow_private,
            allow: allow.clone(),
            deny: deny.clone(),
        }
    }

    /// The proxy, user name and password included.
    #[must_use]
    pub fn proxy(&self) -> Option<Url> {
        self.proxy.as_ref().and_then(|proxy| read(proxy).ok())
    }

    pub(crate) fn check(&self, problems: &mut Vec<Problem>) {
        if let Some(Err(message)) = self.proxy.as_ref().map(read) {
            problems.push(Problem::new("egress.proxy", message));
        }
    }
}

fn read(proxy: &SecretString) -> Result<Url, &'static str> {
    const MUST: &str =
        "must be `http://HOST:PORT`, with `USER:PASSWORD@` before the host if the proxy asks for them";
    let url = Url::parse(proxy.expose()).map_err(|_| MUST)?;
    let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    if url.scheme() == "http" && url.host().is_some() && is_bare { Ok(url) } else { Err(MUST) }
}

fn rules<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Rule>, D::Error> {
    let read = |text: String| {
        text.parse().map_err(|error| D::Error::custom(format!("`{}` {error}", text.escape_debug())))
    };
    comma_or_seq(deserializer)?.into_iter().map(read).collect()
}

fn addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
    let read = |text: String| {
        let message = || format!("`{}` must be ADDRESS:PORT, such as `192.0.2.53:53`", text.escape_debug());
        text.parse().map_err(|_| D::Error::custom(message()))
    };
    comma_or_seq(deserializer)?.into_iter().map(read).collect()
}

fn without_password<S: Serializer>(proxy: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    let shown = proxy.as_ref().map(|proxy| match read(proxy) {
        Ok(mut url) if url.password().is_some() => {
            // An `http` URL with a host takes any password.
            url.set_password(Some("secret")).ok();
            url.to_string()
        }
        Ok(url) => url.to_string(),
        Err(_) => REDACTED.to_owned(),
    });
    shown.serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(yaml: &str) -> Result<Egress, String> {
        serde_norway::from_str(yaml).map_err(|error| error.to_string())
    }

    #[test]
    fn rules_servers_and_a_proxy() {
        let head = "{allow_http: false, allow_private: false, ";
        let egress = parse(&format!(
            "{head}allow: '10.0.0.0/8,*.corp.internal', deny: [hooks.example.com], name_servers: ['192.0.2.53:53'], \
             proxy: 'http://ann:s3cret@proxy.example:3128'}}"
        ))
        .unwrap();
        assert_eq!((egress.allow.len(), egress.deny.len(), egress.name_servers.len()), (2, 1, 1));
        assert_eq!(egress.proxy().unwrap().password(), Some("s3cret"));
        let shown = serde_norway::to_string(&egress).unwrap();
        assert!(
            shown.contains("http://ann:secret@proxy.example:3128/") && shown.contains("*.corp.internal"),
            "{shown}"
        );
        assert!(!shown.contains("s3cret") && !format!("{egress:?}").contains("s3cret"));

        let wrong = |rest: &str| parse(&format!("{head}{rest}}}")).unwrap_err();
        let error = wrong("allow: ['10.0.0/8'], deny: [], name_servers: [], proxy: null");
        assert!(error.contains("`10.0.0/8` must be a network"), "{error}");
        let error = wrong("allow: [], deny: [], name_servers: [dns.example], proxy: null");
        assert!(error.contains("ADDRESS:PORT"), "{error}");
    }

    #[test]
    fn what_is_no_proxy() {
        for bad in ["https://p:1", "p:3128", "http://p/x", "socks5://p:1", "http://u:s3cret@"] {
            let egress = Egress { proxy: Some(SecretString::new(bad.to_owned())), ..Egress::default() };
            let mut problems = Vec::new();
            egress.check(&mut problems);
            assert_eq!(problems.len(), 1, "{bad}");
            assert!(!format!("{problems:?}").contains("s3cret"));
            assert!(egress.proxy().is_none());
        }
    }
}
