//! The only crate that dials customers: one client per core, one deadline per exchange, caps on what comes back.
//!
//! An endpoint is hostile until proven otherwise, so a [`Client`]
//! - never follows a redirect, takes no proxy from the environment, keeps no cookies, negotiates no
//!   authentication, inflates nothing (`accept-encoding: identity`) and speaks HTTP/1.1 only;
//! - has one deadline over everything: name resolution, connecting, TLS, request, headers and body;
//! - reads at most [`MAX_RESPONSE_BODY_BYTES`] of a body. **The status decides**: once it is there, a body that is
//!   longer, slower than the deadline or broken off makes the response `truncated`, not a failure;
//! - passes over at most ten interim responses (1xx);
//! - refuses a head that is larger than [`MAX_RESPONSE_HEADER_BYTES`], has more than 100 headers, folded lines, or
//!   both `content-length` and `transfer-encoding` (it might be smuggling another response);
//! - uses a connection again only after the last response on it was read to its end and nothing followed it.
//!
//! While a head arrives, up to twice what is accepted of it is buffered.
//!
//! The HTTP client is hyper-util's, because reqwest's layers above it cost as much CPU per request again (measured
//! for design §7).
//!
//! # Addresses
//! A URL is checked against the installation's [`Policy`] before its request is sent. Then the socket is opened by the
//! connector itself, which vets *every* address behind the host, whether it was resolved or stands in the URL, dials
//! none but those, and looks at the peer it got. As no redirect is followed, nothing else can be reached.
//!
//! # Connections
//! Idle connections are kept per account, and per scheme, host and port, and never shared between accounts.
//!
//! [`Policy`]: hookstream_core::endpoint::Policy
//! [`MAX_RESPONSE_BODY_BYTES`]: hookstream_types::limits::MAX_RESPONSE_BODY_BYTES
//! [`MAX_RESPONSE_HEADER_BYTES`]: hookstream_types::limits::MAX_RESPONSE_HEADER_BYTES

mod client;
mod dial;
mod failure;
mod pool;
mod resolve;
mod tls;
mod tokens;

pub use client::{Client, ClientError};
pub use tls::machine_config;

#[cfg(test)]
mod tests;
