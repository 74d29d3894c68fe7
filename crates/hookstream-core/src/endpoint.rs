//! Where requests may go: what a URL must be, and which names and addresses may be called.
//!
//! An endpoint's URL is somebody else's text, and what stands behind its name is somebody else's to change. So three
//! questions are asked, each where the answer can't be changed any more:
//!
//! 1. [`parse`]: does the text say plainly where it leads? Asked of the raw text, because URL parsers repair what was
//!    broken on purpose: they strip tabs and line ends, take `\` for `/`, and do without slashes.
//! 2. [`Policy::check`]: may this scheme, port and host be called? Asked when a URL is saved, and again before each
//!    request.
//! 3. [`Policy::admit`]: may this address be dialled? Asked of every address that a name has, each time a connection
//!    is made, and of the peer once it stands.

mod address;
mod name;
mod rule;

use std::net::IpAddr;

use url::{Host, Url};

pub use self::rule::{BadRule, Rule};

use self::address::Reach;

/// Longest URL.
pub const MAX_URL_BYTES: usize = 2048;

/// What a text must be to be an endpoint's URL; fits after the field's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadUrl(&'static str);

/// Reads an `http` or `https` URL that says plainly where it leads.
///
/// Names may be international: they are called by their ASCII form (RFC 5891).
///
/// # Errors
/// [`BadUrl`] says what it must be.
pub fn parse(text: &str) -> Result<Url, BadUrl> {
    let must = |holds: bool, what: &'static str| if holds { Ok(()) } else { Err(BadUrl(what)) };
    must(text.len() <= MAX_URL_BYTES, "must have at most 2048 bytes")?;
    let is_plain = |c: char| c.is_ascii_graphic() || (!c.is_ascii() && c.is_alphanumeric());
    must(text.chars().all(is_plain), "must not contain spaces or control characters")?;
    must(!text.contains('\\'), "must not contain a backslash")?;
    must(!text.contains('#'), "must not have a fragment (`#…`)")?;
    let after = |scheme: &str| {
        text.get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
            .then(|| &text[scheme.len()..])
    };
    let rest = after("https://").or_else(|| after("http://"));
    let rest = rest.ok_or(BadUrl("must start with `https://` (or `http://`)"))?;
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    must(path.is_ascii(), "must have non-ASCII characters of its path percent-encoded")?;
    must(!authority.contains('@'), "must not contain a user name or password")?;
    let (host, port) = match authority.strip_prefix('[') {
        Some(v6) => {
            let (host, after) = v6.split_once(']').ok_or(BadUrl("must close the `[` of its address"))?;
            let valid = host.parse::<std::net::Ipv6Addr>().is_ok();
            let ends = after.is_empty() || after.starts_with(':');
            must(valid && ends, "must have a valid IPv6 address in `[…]`")?;
            (host, after.strip_prefix(':'))
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    must(!host.is_empty(), "must name a host")?;
    if !authority.starts_with('[') {
        let allowed = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
        must(host.chars().all(allowed), "must have a host of letters, digits, `.` and `-`")?;
        must(!host.starts_with('.') && !host.contains(".."), "must not have an empty label in its host")?;
    }
    if let Some(port) = port {
        let digits = !port.is_empty() && port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
        let number = if digits { port.parse::<u16>().unwrap_or(0) } else { 0 };
        must(number != 0, "must have a port between 1 and 65535")?;
    }
    let url = Url::parse(text).map_err(|_| BadUrl("must be a valid URL: its host is none"))?;
    match url.host() {
        Some(Host::Domain(name)) => {
            name::check_length(name).map_err(BadUrl)?;
            // Circled letters, full-width digits: what looks like a name of its own and is another's.
            let disguised = !host.is_ascii() && !name.split('.').any(|label| label.starts_with("xn--"));
            must(!disguised, "must have its host's ASCII letters written in ASCII")?;
        }
        Some(_) => must(host.is_ascii(), "must have its address written in ASCII")?,
        None => return Err(BadUrl("must name a host")),
    }
    Ok(url)
}

/// What an operator allows beyond `https` to the public Internet, and what not even that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Plain `http://`.
    pub allow_http: bool,
    /// Private, shared and loopback addresses, and the names that stand for them.
    pub allow_private: bool,
    /// Names and networks that may be called although they are not public.
    pub allow: Vec<Rule>,
    /// Names and networks that may not be called although they are.
    pub deny: Vec<Rule>,
}

/// Why an endpoint may not be called; fits after the field's name, and names no address of somebody's network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(transparent)]
    Url(#[from] BadUrl),
    #[error("must start with `https://`: this installation allows no other")]
    Scheme,
    #[error("must not lead to port {0}, which is another service's than the web's")]
    Port(u16),
    #[error("must name a public host: `{0}` is a name of internal networks")]
    InternalName(String),
    #[error(
        "must lead to an address that may be delivered to: a public one, if the operator allows no other"
    )]
    Address,
    #[error("must not lead to `{0}`: this installation's operator forbids it")]
    Denied(String),
}

impl Policy {
    /// Reads a URL that may be called, as far as can be told without resolving its name.
    ///
    /// # Errors
    /// [`Refusal`] says why not.
    pub fn check(&self, text: &str) -> Result<Url, Refusal> {
        let url = parse(text)?;
        if url.scheme() != "https" && !self.allow_http {
            return Err(Refusal::Scheme);
        }
        if let Some(port) = url.port().filter(|port| name::DENIED_PORTS.binary_search(port).is_ok()) {
            return Err(Refusal::Port(port));
        }
        match url.host() {
            Some(Host::Domain(name)) => self.check_name(name)?,
            Some(Host::Ipv4(address)) => self.admit("", address.into())?,
            Some(Host::Ipv6(address)) => self.admit("", address.into())?,
            None => {}
        }
        Ok(url)
    }

    fn check_name(&self, name: &str) -> Result<(), Refusal> {
        if self.deny.iter().any(|rule| rule.names(name)) {
            return Err(Refusal::Denied(name.to_owned()));
        }
        if self.allow_private || !name::is_internal(name) || self.allow.iter().any(|rule| rule.names(name)) {
            return Ok(());
        }
        Err(Refusal::InternalName(name.to_owned()))
    }

    /// Whether an address may be dialled for a host's name; the name is empty for a URL that has the address itself.
    ///
    /// Addresses of cloud metadata, and forms that stand for other addresses, may never be.
    ///
    /// # Errors
    /// [`Refusal`], which doesn't say what stands at the address.
    pub fn admit(&self, name: &str, address: IpAddr) -> Result<(), Refusal> {
        if self.deny.iter().any(|rule| rule.contains(address)) {
            return Err(Refusal::Address);
        }
        let named = || self.allow.iter().any(|rule| rule.contains(address) || rule.names(name));
        let admitted = match Reach::of(address) {
            Reach::Public => true,
            Reach::Private => self.allow_private || named(),
            Reach::Reserved => named(),
            Reach::Never => false,
        };
        if admitted { Ok(()) } else { Err(Refusal::Address) }
    }
}

#[cfg(test)]
mod tests;
