//! What an operator names: networks and hosts.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::Serialize;

use super::name::{check_length, is_at_or_below};

/// A network (`10.20.0.0/16`, `192.0.2.7`), a name (`hooks.corp.internal`), or all names below one
/// (`*.corp.internal`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub enum Rule {
    Network(IpNet),
    /// Lower case, without a final dot.
    Name(String),
    Below(String),
}

/// A text that names neither a network nor a host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be a network such as `10.20.0.0/16`, an address, a name such as `hooks.corp.internal`, or `*.corp.internal`"
)]
pub struct BadRule;

impl Rule {
    /// Whether it names this host; the empty name is nobody's.
    pub(super) fn names(&self, name: &str) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name);
        match self {
            Self::Network(_) => false,
            Self::Name(own) => own == name,
            Self::Below(top) => name != top && is_at_or_below(name, top),
        }
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        matches!(self, Self::Network(network) if network.contains(&address))
    }
}

impl FromStr for Rule {
    type Err = BadRule;

    fn from_str(text: &str) -> Result<Self, BadRule> {
        if let Ok(network) = text.parse::<IpNet>() {
            return Ok(Self::Network(network.trunc()));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Network(address.into()));
        }
        let (name, below) = match text.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (text, false),
        };
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        // `10.0.0` and `1.2.3.4/99` are networks that were mistyped.
        let named = name.bytes().any(|byte| byte.is_ascii_alphabetic());
        if !named || !name.bytes().all(allowed) || check_length(&name).is_err() {
            return Err(BadRule);
        }
        Ok(if below { Self::Below(name) } else { Self::Name(name) })
    }
}

impl From<Rule> for String {
    fn from(rule: Rule) -> Self {
        rule.to_string()
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => write!(f, "{network}"),
            Self::Name(name) => f.write_str(name),
            Self::Below(top) => write!(f, "*.{top}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_and_written() {
        for (text, written) in [
            ("10.20.3.4/16", "10.20.0.0/16"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("fd12::/16", "fd12::/16"),
            ("Hooks.Corp.Internal.", "hooks.corp.internal"),
            ("*.corp.internal", "*.corp.internal"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(text.parse::<Rule>().unwrap().to_string(), written);
        }
        for bad in [
            "",
            "*",
            "10.0.0",
            "1.2.3.4/99",
            "a b",
            "http://a.example",
            "a.example:80",
            "*.*.a",
            ".a",
            "a..b",
        ] {
            assert_eq!(bad.parse::<Rule>(), Err(BadRule), "{bad}");
        }
    }

    #[test]
    fn what_a_rule_names() {
        let below: Rule = "*.corp.internal".parse().unwrap();
        assert!(below.names("a.corp.internal") && below.names("a.b.corp.internal."));
        assert!(!below.names("corp.internal") && !below.names("xcorp.internal") && !below.names(""));
        let network: Rule = "10.0.0.0/8".parse().unwrap();
        assert!(network.contains([10, 1, 2, 3].into()) && !network.contains([11, 1, 2, 3].into()));
        assert!(!network.names("10.1.2.3"));
    }
}
