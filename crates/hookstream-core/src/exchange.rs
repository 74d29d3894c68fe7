//! One HTTP exchange, as data: what is to be sent, and what came of it. The dialling is in `hookstream-egress`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hookstream_types::AccountUid;

use crate::config::{ClientCredentials, Tls};

/// A request that is ready to be sent.
#[derive(Clone, Debug)]
pub struct Request {
    /// Whose request it is: connections are not shared between accounts. The nil one is the operator.
    pub account: AccountUid,
    pub method: Method,
    pub url: Arc<str>,
    /// In sending order; names are lower case. Most are the same for all requests of a webhook, and shared.
    pub headers: Vec<(Arc<str>, Arc<str>)>,
    pub body: Bytes,
    /// Over the whole exchange: name resolution, connecting, TLS, request, response with its body.
    pub deadline: Duration,
    /// None: as for everyone.
    pub tls: Option<Arc<Tls>>,
    /// What it is authorized with, in `authorization`, besides what the headers have.
    pub token: Option<Arc<ClientCredentials>>,
}

/// The methods a webhook may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    #[default]
    Post,
    Put,
    Patch,
    Delete,
    Get,
    /// Of handshakes, not of webhooks.
    Options,
}

impl Method {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Get => "GET",
            Self::Options => "OPTIONS",
        }
    }
}

/// What came of a request.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub result: Result<Response, Failure>,
    pub timings: Timings,
}

/// An answer, its body cut to what is kept.
#[derive(Clone, Debug, Default)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
    /// The body was longer than `body`.
    pub truncated: bool,
}

/// Why there is no answer.
#[derive(Clone, Debug)]
pub struct Failure {
    pub kind: FailureKind,
    /// For people; holds no secret and no URL query.
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The name does not resolve.
    Dns,
    /// No connection.
    Connect,
    /// No trust.
    Tls,
    /// Not answered within the deadline.
    Timeout,
    /// The connection broke, or what came is not HTTP.
    Protocol,
    /// No token to authorize it with.
    Token,
    /// The address is forbidden.
    Forbidden,
    /// No request can be made: the URL or a header is invalid.
    Unsendable,
}

impl FailureKind {
    pub const ALL: &'static [Self] = &[
        Self::Dns,
        Self::Connect,
        Self::Tls,
        Self::Timeout,
        Self::Protocol,
        Self::Token,
        Self::Forbidden,
        Self::Unsendable,
    ];

    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Protocol => "protocol",
            Self::Token => "token",
            Self::Forbidden => "forbidden",
            Self::Unsendable => "unsendable",
        }
    }
}

/// How long each part took. A part that did not happen (a reused connection) is none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timings {
    pub dns: Option<Duration>,
    pub connect: Option<Duration>,
    pub tls: Option<Duration>,
    /// From the start of the exchange to the response's status line.
    pub first_byte: Option<Duration>,
    pub total: Duration,
}
