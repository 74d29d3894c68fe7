//! Why there is no answer: kinds that callers branch on, messages that people read.
//!
//! Messages name the host, never the URL's path or query, and quote the innermost cause only.

use std::error::Error;
use std::io;
use std::time::Duration;

use hookstream_core::endpoint::Refusal;
use hookstream_core::exchange::{Failure, FailureKind};
use hyper_util::client::legacy;
use rustls::CertificateError;

use crate::dial::{CONNECT_TIMEOUT, ConnectTimedOut, Phase};
use crate::resolve::Unresolved;
use crate::tls::NotPinned;

/// Longest message: causes may quote what the endpoint sent, such as the names in its certificate.
const MAX_MESSAGE_CHARS: usize = 300;

pub(crate) fn failure(kind: FailureKind, message: &str) -> Failure {
    let printable = message.chars().map(|c| if c.is_control() { ' ' } else { c });
    Failure { kind, message: printable.take(MAX_MESSAGE_CHARS).collect() }
}

pub(crate) fn unsendable(message: &str) -> Failure {
    failure(FailureKind::Unsendable, message)
}

/// The URL may not be called.
pub(crate) fn refused(refusal: &Refusal) -> Failure {
    let kind = match refusal {
        Refusal::Url(_) => FailureKind::Unsendable,
        _ => FailureKind::Forbidden,
    };
    failure(kind, &format!("the URL {refusal}"))
}

/// The deadline is over.
pub(crate) fn timed_out(phase: Phase, host: &str, deadline: Duration) -> Failure {
    let what = match phase {
        Phase::Resolve => "the name did not resolve",
        Phase::Connect => "no connection was made",
        Phase::Handshake => "the TLS handshake did not complete",
        Phase::Answer => "no answer came",
    };
    failure(FailureKind::Timeout, &format!("{what} within {deadline:?} (`{host}`)"))
}

/// The client gave up before there was an answer.
pub(crate) fn of(error: &legacy::Error, phase: Phase, host: &str) -> Failure {
    let causes = causes(error);
    let has = |is: fn(&(dyn Error + 'static)) -> bool| causes.iter().any(|cause| is(*cause));
    let innermost = causes.last().map(ToString::to_string).unwrap_or_default();
    if has(|cause| cause.is::<Refusal>()) {
        failure(FailureKind::Forbidden, &format!("`{host}` has an address that may not be delivered to"))
    } else if let Some(unresolved) = causes.iter().find_map(|cause| cause.downcast_ref::<Unresolved>()) {
        failure(FailureKind::Dns, &unresolved.to_string())
    } else if has(|cause| cause.is::<ConnectTimedOut>()) {
        timed_out(phase, host, CONNECT_TIMEOUT)
    } else if let Some(why) = causes.iter().find_map(|cause| not_pinned(*cause)) {
        failure(FailureKind::Tls, &format!("no trusted connection to `{host}`: {why}"))
    } else if has(|cause| cause.is::<rustls::Error>()) || (error.is_connect() && phase == Phase::Handshake) {
        failure(FailureKind::Tls, &format!("no trusted connection to `{host}`: {innermost}"))
    } else if error.is_connect() {
        failure(FailureKind::Connect, &format!("no connection to `{host}`: {innermost}"))
    } else if has(
        |cause| matches!(cause.downcast_ref::<io::Error>(), Some(e) if e.kind() == io::ErrorKind::TimedOut),
    ) {
        failure(FailureKind::Timeout, &format!("the connection to `{host}` timed out"))
    } else {
        failure(FailureKind::Protocol, &format!("no valid answer from `{host}`: {innermost}"))
    }
}

/// The TLS library shows the causes that are ours as it shows its own: for programmers.
fn not_pinned<'a>(cause: &'a (dyn Error + 'static)) -> Option<&'a NotPinned> {
    match cause.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => {
            other.0.downcast_ref::<NotPinned>()
        }
        _ => None,
    }
}

/// An error's causes, the outermost first; the error itself, which says at what stage it came, is left out.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> Vec<&'a (dyn Error + 'static)> {
    let mut causes: Vec<&'a (dyn Error + 'static)> = Vec::new();
    let mut next = inner(error);
    while let Some(cause) = next {
        causes.push(cause);
        next = inner(cause);
    }
    causes
}

/// What an error wraps. An `io::Error` made of another error doesn't name that as its source, but that one's.
fn inner<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}
