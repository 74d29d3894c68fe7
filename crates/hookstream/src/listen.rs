//! `hookstream listen`: a receiver that prints and verifies what arrives, and answers as told.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::Response;
use hookstream_core::signing::{DEFAULT_TOLERANCE_SECS, Signed, Untrusted, verify};
use hookstream_runtime::Clock;
use hookstream_types::{Chain, Secret, UnixMillis};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::ListenArgs;
use crate::failure::Failure;

/// Largest body that is read; more than any event can be.
const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

#[derive(Debug)]
struct Receiver {
    args: ListenArgs,
    clock: Clock,
    /// Requests so far; which status is next.
    requests: AtomicUsize,
    /// Requests whose signature was wrong or missing.
    untrusted: AtomicU64,
}

/// What is known of a request's signature.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Valid,
    Wrong(Untrusted),
    /// A header that is missing or no text.
    Missing(&'static str),
    /// No secret was given.
    Unchecked,
}

pub(crate) fn run(args: ListenArgs) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let address = args.addr;
        let listener = TcpListener::bind(address)
            .await
            .map_err(|error| format!("could not listen on `{address}`: {error}; give another --addr"))?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        eprintln!("listening on http://{}; Ctrl-C ends it", listener.local_addr()?);
        let receiver = Arc::new(Receiver::new(args));
        let router = Router::new().fallback(receive).with_state(receiver.clone());
        tokio::select! {
            result = async { axum::serve(listener, router).await } => result?,
            _ = terminate.recv() => (),
            _ = interrupt.recv() => (),
        }
        eprintln!("{}", receiver.summary());
        Ok(ExitCode::SUCCESS)
    })
}

async fn receive(State(receiver): State<Arc<Receiver>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let nth = receiver.requests.fetch_add(1, Ordering::Relaxed);
    let asked = receiver.args.status[nth % receiver.args.status.len()];
    let target = head.uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
    let title = format!("{} {}", head.method, printable(&target));
    let (status, text) = match to_bytes(body, MAX_BODY_BYTES).await {
        Ok(body) => {
            let now = receiver.clock.wall();
            let verdict = check(&receiver.args.secrets, &head.headers, &body, now);
            if !matches!(verdict, Verdict::Valid | Verdict::Unchecked) {
                receiver.untrusted.fetch_add(1, Ordering::Relaxed);
            }
            let show = if receiver.args.quiet { line } else { page };
            (asked, show(&title, &head.headers, &body, &verdict, asked, now))
        }
        Err(error) => {
            (StatusCode::BAD_REQUEST, format!("{title}: the body could not be read: {}\n", Chain(&error)))
        }
    };
    print(&text);
    tokio::time::sleep(receiver.args.delay).await;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response.headers_mut().extend(receiver.args.headers.iter().cloned());
    response
}

fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    // A closed pipe is no reason to stop answering.
    drop(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()));
}

impl Receiver {
    fn new(args: ListenArgs) -> Self {
        Self { args, clock: Clock::start(), requests: AtomicUsize::new(0), untrusted: AtomicU64::new(0) }
    }

    fn summary(&self) -> String {
        let requests = self.requests.load(Ordering::Relaxed);
        let untrusted = self.untrusted.load(Ordering::Relaxed);
        match (self.args.secrets.is_empty(), untrusted) {
            (true, _) => format!("{requests} requests"),
            (false, 0) => format!("{requests} requests, all signatures valid"),
            (false, untrusted) => format!("{requests} requests, {untrusted} without a valid signature"),
        }
    }
}

fn check(secrets: &[Secret], headers: &HeaderMap, body: &[u8], now: UnixMillis) -> Verdict {
    if secrets.is_empty() {
        return Verdict::Unchecked;
    }
    let header = |name: &'static str| headers.get(name).and_then(|value| value.to_str().ok()).ok_or(name);
    let signed = || {
        let (id, timestamp) = (header("webhook-id")?, header("webhook-timestamp")?);
        Ok(Signed { id, timestamp, signature: header("webhook-signature")? })
    };
    match signed() {
        Err(name) => Verdict::Missing(name),
        Ok(signed) => match verify(secrets, signed, body, now, DEFAULT_TOLERANCE_SECS) {
            Ok(()) => Verdict::Valid,
            Err(error) => Verdict::Wrong(error),
        },
    }
}

impl Verdict {
    fn text(&self) -> String {
        match self {
            Self::Valid => "valid".to_owned(),
            Self::Wrong(why) => format!("NOT VALID: {why}"),
            Self::Missing(name) => format!("NOT VALID: `{name}` is missing"),
            Self::Unchecked => "not checked (no --secret)".to_owned(),
        }
    }
}

/// One line: what `--quiet` prints.
fn line(
    title: &str,
    headers: &HeaderMap,
    body: &[u8],
    verdict: &Verdict,
    status: StatusCode,
    now: UnixMillis,
) -> String {
    let id = headers
        .get("webhook-id")
        .map_or_else(|| "-".to_owned(), |value| printable(&String::from_utf8_lossy(value.as_bytes())));
    let (time, bytes) = (time_of_day(now), body.len());
    format!("{time} {title} {id} {bytes} bytes, signature {}, answered {}\n", verdict.text(), status.as_u16())
}

/// The request with the headers that say something, and the body.
fn page(
    title: &str,
    headers: &HeaderMap,
    body: &[u8],
    verdict: &Verdict,
    status: StatusCode,
    now: UnixMillis,
) -> String {
    /// What every HTTP request has.
    const DULL: [HeaderName; 5] =
        [header::HOST, header::CONTENT_LENGTH, header::ACCEPT, header::ACCEPT_ENCODING, header::CONNECTION];
    let mut text = format!("{} {title}\n", time_of_day(now));
    for (name, value) in headers.iter().filter(|(name, _)| !DULL.contains(name)) {
        text.push_str(&format!("  {name}: {}\n", printable(&String::from_utf8_lossy(value.as_bytes()))));
    }
    if !body.is_empty() {
        let body = pretty(body).unwrap_or_else(|| printable(&String::from_utf8_lossy(body)));
        text.extend(body.lines().flat_map(|line| ["  | ", line, "\n"]));
    }
    text.push_str(&format!("  signature: {}\n  answered: {status}\n\n", verdict.text()));
    text
}

fn time_of_day(now: UnixMillis) -> String {
    let time = jiff::Timestamp::from_millisecond(now.0).unwrap_or_default();
    time.strftime("%H:%M:%S%.3fZ").to_string()
}

/// Text that can't steer a terminal.
fn printable(text: &str) -> String {
    let is_safe = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    text.chars().map(|c| if is_safe(c) { c } else { char::REPLACEMENT_CHARACTER }).collect()
}

/// JSON with line breaks; members stay in their order, numbers as they are. None if it is no JSON.
fn pretty(body: &[u8]) -> Option<String> {
    let json: &serde_json::value::RawValue = serde_json::from_slice(body).ok()?;
    let mut out = String::with_capacity(body.len() * 2);
    let (mut depth, mut is_string, mut is_escaped) = (0_usize, false, false);
    let break_line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    let mut chars = json.get().chars().peekable();
    while let Some(c) = chars.next() {
        if is_string {
            is_string = is_escaped || c != '"';
            is_escaped = c == '\\' && !is_escaped;
            out.push(c);
            continue;
        }
        match c {
            '{' | '[' => {
                out.push(c);
                while chars.next_if(|next| next.is_ascii_whitespace()).is_some() {}
                if let Some(end) = chars.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(end);
                } else {
                    depth += 1;
                    break_line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth -= 1;
                break_line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                break_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            '"' => {
                is_string = true;
                out.push(c);
            }
            c if c.is_ascii_whitespace() => (),
            c => out.push(c),
        }
    }
    // Strings of JSON escape control characters, but DEL and the C1 set may stand as they are.
    Some(printable(&out))
}

#[cfg(test)]
mod tests;
