//! Who may do what.
//!
//! - A request names its maker by `Authorization: Bearer`: an access token of [`oauth`] (for registered clients),
//!   a token of an outside issuer ([`jwt`], its keys from [`jwks`]), or the operator's admin token.
//!   [`authenticate`] makes a [`Principal`] of it.
//! - Somebody who looks at the console may sign in with an account at an outside issuer: [`oidc`].
//! - A principal holds [`Scopes`] and is [`Bound`] to an account, or to an app of one. The tenant comes from there,
//!   never from what the request says; what belongs to another is *not found*, so that nobody learns that it exists.
//! - Time and randomness are arguments; no token, secret or claim of a stranger is in a message or a log.

pub mod authenticate;
pub mod client;
mod compact;
pub mod cursor;
mod form;
pub mod jwks;
pub mod jwt;
pub mod limits;
pub mod oauth;
pub mod oidc;
mod principal;
mod scope;
mod strict_json;
pub mod token;

pub use authenticate::Authenticator;
pub use cursor::{Cursors, List};
pub use principal::{Bound, Denied, Principal};
pub use scope::{ForeignScope, Scope, ScopeMap, Scopes, UnknownScope};
pub(crate) use strict_json::object as strict_object;

/// Fills a slice with random bytes.
pub type Fill<'a> = &'a mut dyn FnMut(&mut [u8]);

#[cfg(test)]
mod testing;
