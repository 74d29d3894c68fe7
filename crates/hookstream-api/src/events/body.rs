//! Reading a request's body: bounded in bytes as they stand and as they are inflated, in time, and in what all
//! requests hold together.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use bytes::{Bytes, BytesMut};
use flate2::write::GzDecoder;
use http::header::{ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING};
use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::problem::{Kind, Problem};

/// The bounds of bodies.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// Of one body, before and after it is inflated.
    pub bytes: usize,
    /// For a whole body to arrive.
    pub deadline: Duration,
    /// Of all bodies that are held at a time.
    pub held_bytes: usize,
}

impl Default for BodyLimits {
    fn default() -> Self {
        Self { bytes: 1024 * 1024, deadline: Duration::from_secs(10), held_bytes: 256 * 1024 * 1024 }
    }
}

/// Reads bodies within the limits.
#[derive(Debug)]
pub struct Reader {
    limits: BodyLimits,
    held: Arc<Semaphore>,
}

/// A body, which counts as held until it is dropped.
#[derive(Debug)]
pub struct Held {
    pub bytes: Bytes,
    _permit: Option<OwnedSemaphorePermit>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Coding {
    Identity,
    Gzip,
}

impl Reader {
    #[must_use]
    pub fn new(limits: BodyLimits) -> Self {
        Self { limits, held: Arc::new(Semaphore::new(limits.held_bytes.min(Semaphore::MAX_PERMITS))) }
    }

    /// Reads a body to its end and undoes its content coding.
    ///
    /// # Errors
    /// 400, 408, 413, 415 or 503; after any of them but 415 the connection is closed.
    pub async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Held, Problem> {
        let coding = coding(headers)?;
        if body.size_hint().lower() > self.limits.bytes as u64 {
            return Err(self.too_large());
        }
        match tokio::time::timeout(self.limits.deadline, self.collect(coding, body)).await {
            Ok(result) => result,
            Err(_) => Err(closing(Problem::new(
                Kind::Timeout,
                format!(
                    "the body did not arrive within {:?}: send it faster, or less of it",
                    self.limits.deadline
                ),
            ))),
        }
    }

    async fn collect(&self, coding: Coding, mut body: Body) -> Result<Held, Problem> {
        let mut permit = None;
        let mut received = 0;
        let mut plain = Plain::new(coding, self.limits.bytes);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                tracing::debug!(%error, "a body could not be read");
                closing(Problem::new(Kind::Invalid, "the body ended early or is not framed as HTTP/1.1 says"))
            })?;
            let Ok(chunk) = frame.into_data() else { continue };
            received += chunk.len();
            if received > self.limits.bytes {
                return Err(self.too_large());
            }
            let before = plain.len();
            plain.push(&chunk).map_err(|error| self.bad_coding(&error))?;
            self.hold(&mut permit, plain.len() - before)?;
        }
        let bytes = plain.finish().map_err(|error| self.bad_coding(&error))?;
        Ok(Held { bytes, _permit: permit })
    }

    /// Counts bytes among those that are held.
    fn hold(&self, permit: &mut Option<OwnedSemaphorePermit>, bytes: usize) -> Result<(), Problem> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let more = Arc::clone(&self.held).try_acquire_many_owned(bytes).map_err(|_| {
            let detail = "too many requests are under way; nothing of this one was taken";
            closing(Problem::unavailable(detail, Duration::from_secs(1)))
        })?;
        match permit {
            Some(permit) => permit.merge(more),
            None => *permit = Some(more),
        }
        Ok(())
    }

    fn too_large(&self) -> Problem {
        let detail = format!(
            "the body has more than {} bytes (counted after it is inflated): split the batch, or send a reference to \
             what is large",
            self.limits.bytes
        );
        closing(Problem::new(Kind::TooLarge, detail))
    }

    fn bad_coding(&self, error: &io::Error) -> Problem {
        if error.kind() == io::ErrorKind::FileTooLarge {
            return self.too_large();
        }
        closing(Problem::invalid_field(
            "content-encoding",
            "the body is not gzip, or not all of it: send one complete gzip stream",
        ))
    }
}

/// The rest of the body is not read, so that the connection can't be used again.
fn closing(problem: Problem) -> Problem {
    problem.with_header(CONNECTION, HeaderValue::from_static("close"))
}

fn coding(headers: &HeaderMap) -> Result<Coding, Problem> {
    let mut values = headers.get_all(CONTENT_ENCODING).iter();
    let (first, second) = (values.next(), values.next());
    let Some(value) = first else { return Ok(Coding::Identity) };
    let value = value.as_bytes().trim_ascii().to_ascii_lowercase();
    match (value.as_slice(), second) {
        (b"" | b"identity", None) => Ok(Coding::Identity),
        (b"gzip" | b"x-gzip", None) => Ok(Coding::Gzip),
        _ => {
            let detail =
                "of the content codings only `gzip` is read, once: send it, or no `Content-Encoding`";
            Err(Problem::new(Kind::UnsupportedMediaType, detail)
                .with_header(ACCEPT_ENCODING, HeaderValue::from_static("gzip, identity")))
        }
    }
}

/// The plain bytes so far.
enum Plain {
    Identity(Capped),
    Gzip(Box<GzDecoder<Capped>>),
}

impl Plain {
    fn new(coding: Coding, max: usize) -> Self {
        let capped = Capped { bytes: BytesMut::new(), max };
        match coding {
            Coding::Identity => Self::Identity(capped),
            Coding::Gzip => Self::Gzip(Box::new(GzDecoder::new(capped))),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Identity(capped) => capped.bytes.len(),
            Self::Gzip(decoder) => decoder.get_ref().bytes.len(),
        }
    }

    fn push(&mut self, chunk: &[u8]) -> io::Result<()> {
        match self {
            Self::Identity(capped) => capped.write_all(chunk),
            Self::Gzip(decoder) => decoder.write_all(chunk),
        }
    }

    fn finish(self) -> io::Result<Bytes> {
        match self {
            Self::Identity(capped) => Ok(capped.bytes.freeze()),
            Self::Gzip(decoder) => Ok(decoder.finish()?.bytes.freeze()),
        }
    }
}

/// Bytes up to a number of them.
struct Capped {
    bytes: BytesMut,
    max: usize,
}

impl io::Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
