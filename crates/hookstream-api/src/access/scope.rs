//! What a principal may do, and the names that others have for it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scope {
    #[serde(rename = "webhooks:read")]
    WebhooksRead,
    #[serde(rename = "webhooks:write")]
    WebhooksWrite,
    #[serde(rename = "events:write")]
    EventsWrite,
    #[serde(rename = "history:read")]
    HistoryRead,
    /// Everything else, and all of the above.
    #[serde(rename = "admin")]
    Admin,
}

/// A name that is no scope of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown scope: there are `webhooks:read`, `webhooks:write`, `events:write`, `history:read`, `admin`"
)]
pub struct UnknownScope;

/// A set of scopes; as text, separated by spaces.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Scopes(u8);

/// What a scope of another platform is worth here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForeignScope {
    /// Its name, `api.profilesondemand.read`.
    pub scope: String,
    /// Whom it is worth something: clients of this access type (`Agency Manager`); none: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_type: Option<String>,
    pub grants: Vec<Scope>,
}

/// The rules of the settings for scopes that are not ours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ScopeMap(Vec<ForeignScope>);

// === impl Scope ===

impl Scope {
    pub const ALL: [Self; 5] =
        [Self::WebhooksRead, Self::WebhooksWrite, Self::EventsWrite, Self::HistoryRead, Self::Admin];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WebhooksRead => "webhooks:read",
            Self::WebhooksWrite => "webhooks:write",
            Self::EventsWrite => "events:write",
            Self::HistoryRead => "history:read",
            Self::Admin => "admin",
        }
    }

    /// What it allows, for people.
    #[must_use]
    pub fn about(self) -> &'static str {
        match self {
            Self::WebhooksRead => "Look at webhooks, authorizations, apps, event types, sources",
            Self::WebhooksWrite => "Change webhooks and authorizations",
            Self::EventsWrite => "Send events",
            Self::HistoryRead => "Look at executions",
            Self::Admin => {
                "All of it; with no account bound, also accounts, sources, event types, apps, clients"
            }
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or(UnknownScope)
    }
}

// === impl Scopes ===

impl Scopes {
    pub const NONE: Self = Self(0);

    #[must_use]
    pub fn all() -> Self {
        Scope::ALL.into_iter().collect()
    }

    /// Whether it allows what `scope` does: `admin` allows all.
    #[must_use]
    pub fn allow(self, scope: Scope) -> bool {
        self.0 & (scope.bit() | Scope::Admin.bit()) != 0
    }

    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.0 & scope.bit() != 0)
    }

    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }

    /// Those of `self` that `limit` allows too.
    #[must_use]
    pub fn within(self, limit: Self) -> Self {
        self.iter().filter(|scope| limit.allow(*scope)).collect()
    }

    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<T: IntoIterator<Item = Scope>>(scopes: T) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.bit()))
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(Scope::as_str).collect();
        f.write_str(&names.join(" "))
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scopes({self})")
    }
}

impl FromStr for Scopes {
    type Err = UnknownScope;

    /// Names of ours, separated by spaces; none is an empty set.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        names(text).map(Scope::from_str).collect()
    }
}

/// The names in a `scope` text (RFC 6749 §3.3).
pub(super) fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split(' ').filter(|name| !name.is_empty())
}

// === impl ScopeMap ===

impl ScopeMap {
    #[must_use]
    pub fn new(rules: Vec<ForeignScope>) -> Self {
        Self(rules)
    }

    /// What a name is worth to a registered client of this access type.
    #[must_use]
    pub fn grant(&self, name: &str, access_type: Option<&str>) -> Scopes {
        let ours = name.parse::<Scope>().ok().into_iter().collect::<Scopes>();
        ours.union(self.mapped(name, access_type))
    }

    /// What a name in an outside issuer's token is worth.
    ///
    /// An issuer serves many platforms, and `admin` is a name that more than one of them uses: there it is worth
    /// something by a rule only.
    #[must_use]
    pub fn grant_outside(&self, name: &str, access_type: Option<&str>) -> Scopes {
        let ours = name.parse::<Scope>().ok().filter(|scope| *scope != Scope::Admin);
        ours.into_iter().collect::<Scopes>().union(self.mapped(name, access_type))
    }

    fn mapped(&self, name: &str, access_type: Option<&str>) -> Scopes {
        let applies = |rule: &&ForeignScope| {
            rule.scope == name && (rule.access_type.is_none() || rule.access_type.as_deref() == access_type)
        };
        self.0.iter().filter(applies).flat_map(|rule| rule.grants.iter().copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agency() -> ScopeMap {
        serde_json::from_str(
            r#"[{"scope": "api.profilesondemand.read", "access_type": "Agency Manager",
                 "grants": ["webhooks:read", "webhooks:write"]},
                {"scope": "ops", "grants": ["admin"]}]"#,
        )
        .unwrap()
    }

    #[test]
    fn text() {
        for scope in Scope::ALL {
            assert_eq!(scope.as_str().parse(), Ok(scope));
            assert_eq!(serde_json::to_value(scope).unwrap(), scope.as_str());
        }
        let scopes: Scopes = " webhooks:write  webhooks:read ".parse().unwrap();
        assert_eq!(scopes.to_string(), "webhooks:read webhooks:write");
        assert_eq!("".parse(), Ok(Scopes::NONE));
        for bad in ["Webhooks:read", "webhooks:read,webhooks:write", "webhooks:*", "webhooks:read\tadmin"] {
            assert_eq!(bad.parse::<Scopes>(), Err(UnknownScope), "{bad}");
        }
    }

    #[test]
    fn admin_allows_all_and_nothing_allows_admin() {
        let all_but_admin: Scopes = Scope::ALL.into_iter().filter(|scope| *scope != Scope::Admin).collect();
        let admin: Scopes = [Scope::Admin].into_iter().collect();
        assert!(Scope::ALL.into_iter().all(|scope| admin.allow(scope)));
        assert!(!all_but_admin.allow(Scope::Admin));
        assert_eq!(Scopes::all().within(all_but_admin), all_but_admin);
        assert_eq!(all_but_admin.within(admin), all_but_admin);
        assert!(Scopes::all().within(Scopes::NONE).is_empty());
    }

    #[test]
    fn a_foreign_scope_is_worth_something_to_its_access_type_only() {
        let read_write: Scopes = "webhooks:read webhooks:write".parse().unwrap();
        let table: [(&str, Option<&str>, Scopes); 5] = [
            ("api.profilesondemand.read", Some("Agency Manager"), read_write),
            ("api.profilesondemand.read", Some("agency manager"), Scopes::NONE),
            ("api.profilesondemand.read", Some("Traveller"), Scopes::NONE),
            ("api.profilesondemand.read", None, Scopes::NONE),
            ("api.profilesondemand.write", Some("Agency Manager"), Scopes::NONE),
        ];
        for (name, access_type, worth) in table {
            assert_eq!(agency().grant(name, access_type), worth, "{name} {access_type:?}");
            assert_eq!(agency().grant_outside(name, access_type), worth, "{name} {access_type:?}");
        }
    }

    #[test]
    fn an_outside_admin_needs_a_rule() {
        assert!(agency().grant("admin", None).allow(Scope::Admin));
        assert!(agency().grant_outside("admin", None).is_empty());
        assert!(agency().grant_outside("ops", None).allow(Scope::Admin));
        assert!(agency().grant_outside("history:read", None).allow(Scope::HistoryRead));
    }
}
