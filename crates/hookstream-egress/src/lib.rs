//! The only crate that dials customers: one client per core, one deadline per exchange, caps on what comes back.
//!
//! An endpoint is hostile until proven otherwise, so a [`Client`]
//! - never follows a redirect, takes no proxy from the environment, keeps no cookies, negotiates no
//!   authentication, inflates nothing (`accept-encoding: identity`) and speaks HTTP/1.1 only;
//! - has one deadline over everything: name resolution, connecting, TLS, request, headers and body;
//! - reads at most [`MAX_RESPONSE_BODY_BYTES`] of a body. **The status decides**: once it is there, a body that is
//!   longer, slower than the deadline or broken off makes the response `truncated`, not a failure;
//! - refuses a head that is larger than [`MAX_RESPONSE_HEADER_BYTES`], has more than 100 headers, folded lines, or
//!   both `content-length` and `transfer-encoding` (it might be smuggling another response);
//! - uses a connection again only after the last response on it was read to its end and nothing followed it.
//!
//! While a head arrives, up to twice what is accepted of it is buffered. Interim responses (1xx) are skipped, and
//! bounded by the deadline.
//!
//! The HTTP client is hyper-util's, because reqwest's layers above it cost as much CPU per request again (measured
//! for design §7).
//!
//! # Addresses
//! Every address passes the [`guard`] before it is dialled, those of names after resolution and literals before
//! the request is sent. The guard admits every address of `http` and `https` URLs: what it will refuse is decided
//! there and nowhere else, and [`EgressSettings`] already carry what an operator allows to it.
//!
//! # Connections
//! Idle connections are kept per scheme, host and port, so that accounts that deliver to the same host share them.
//! A pool key of account and vetted address as well comes with the guard's rules; until then it matters that no
//! connection is reused unless its last response was read to the end.
//!
//! [`MAX_RESPONSE_BODY_BYTES`]: hookstream_types::limits::MAX_RESPONSE_BODY_BYTES
//! [`MAX_RESPONSE_HEADER_BYTES`]: hookstream_types::limits::MAX_RESPONSE_HEADER_BYTES

mod client;
mod dial;
mod failure;
pub mod guard;
mod tls;

pub use client::{Client, ClientError};
pub use guard::EgressSettings;
pub use tls::machine_config;

#[cfg(test)]
mod tests;
