//! A receiver of webhooks that does as it is told: well, badly, slowly, endlessly or not at all.
//!
//! It speaks just enough HTTP/1.1, written by hand, because a proper server refuses to send what hostile ones do.
//! It runs on a thread of its own, so that a test's runtime may be busy, paused or blocked. What arrives is
//! counted cheaply for hundreds of thousands of requests; the last [`Receiver::KEPT`] are kept as a whole.
//!
//! ```no_run
//! # async fn example() {
//! use hookstream_testkit::receiver::{Answer, Behaviour, Receiver};
//! use std::time::Duration;
//!
//! let receiver = Receiver::start();
//! receiver.script("/flaky", [Answer::status(503).into(), Behaviour::Reset], Answer::status(200));
//! // … deliver to `receiver.url("/flaky")` …
//! receiver.wait_until(Duration::from_secs(5), |seen| seen.total() == 3).await.expect("three requests");
//! # }
//! ```

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustc_hash::FxHashMap;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};

/// What a receiver does with a request.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// Answers in good HTTP.
    Answer(Answer),
    /// Sends these bytes, all at once or one every so often, then does as `then` says.
    Raw { bytes: Bytes, byte_every: Option<Duration>, then: Then },
    /// Never answers, and keeps the connection.
    Hang,
    /// Resets the connection (RST).
    Reset,
    /// Closes the connection in good order.
    Close,
}

/// What follows raw bytes.
#[derive(Clone, Copy, Debug)]
pub enum Then {
    /// The next request may come.
    KeepAlive,
    Close,
    Hang,
    Reset,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Body,
    /// How long to wait before the first byte.
    pub delay: Duration,
}

/// An answer's body.
#[derive(Clone, Debug)]
pub enum Body {
    Bytes(Bytes),
    /// One byte every so often, for ever.
    Slow {
        every: Duration,
    },
    /// As much as the other side takes.
    Endless,
}

impl Answer {
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Body::Bytes(Bytes::new()), delay: Duration::ZERO }
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub fn body(self, body: impl Into<Bytes>) -> Self {
        Self { body: Body::Bytes(body.into()), ..self }
    }

    #[must_use]
    pub fn slow_body(self, every: Duration) -> Self {
        Self { body: Body::Slow { every }, ..self }
    }

    #[must_use]
    pub fn endless_body(self) -> Self {
        Self { body: Body::Endless, ..self }
    }

    #[must_use]
    pub fn delay(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }
}

impl From<Answer> for Behaviour {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

impl Behaviour {
    /// Raw bytes, all at once.
    #[must_use]
    pub fn raw(bytes: impl Into<Bytes>, then: Then) -> Self {
        Self::Raw { bytes: bytes.into(), byte_every: None, then }
    }
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Arrived {
    /// The connection's number, from 0.
    pub connection: u64,
    pub at: Instant,
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names are lower case.
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

impl Arrived {
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

/// What a receiver has seen so far.
#[derive(Debug, Default)]
pub struct Seen {
    total: u64,
    connections: u64,
    open_connections: u64,
    by_path: FxHashMap<String, u64>,
    by_id: FxHashMap<Box<str>, u32>,
    last: VecDeque<Arrived>,
}

impl Seen {
    /// Requests that arrived in full.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Requests for this path, whatever the query.
    #[must_use]
    pub fn of_path(&self, path: &str) -> u64 {
        self.by_path.get(path).copied().unwrap_or(0)
    }

    /// Different `webhook-id`s.
    #[must_use]
    pub fn distinct(&self) -> u64 {
        self.by_id.len() as u64
    }

    /// How often this `webhook-id` came.
    #[must_use]
    pub fn of_id(&self, id: &str) -> u32 {
        self.by_id.get(id).copied().unwrap_or(0)
    }

    /// Every `webhook-id` with how often it came, in no order.
    pub fn ids(&self) -> impl Iterator<Item = (&str, u32)> {
        self.by_id.iter().map(|(id, count)| (&**id, *count))
    }

    /// Requests beyond the first of their `webhook-id`.
    #[must_use]
    pub fn duplicates(&self) -> u64 {
        self.by_id.values().map(|count| u64::from(count - 1)).sum()
    }

    /// Connections that were accepted.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections
    }

    /// Connections of which neither side's end was seen.
    #[must_use]
    pub fn open_connections(&self) -> u64 {
        self.open_connections
    }

    /// The last requests, the oldest first.
    #[must_use]
    pub fn last(&self) -> &VecDeque<Arrived> {
        &self.last
    }
}

type Choose = Arc<dyn Fn(&Arrived) -> Behaviour + Send + Sync>;

/// How one path answers.
struct Script {
    /// One request each.
    first: VecDeque<Behaviour>,
    then: Choose,
}

struct State {
    seen: Seen,
    scripts: FxHashMap<String, Script>,
    keep: usize,
}

struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panicking test must not hide what it has to say behind a poisoned lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A receiver on a loopback port of its own. It stops when dropped.
pub struct Receiver {
    addr: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").field("addr", &self.addr).finish_non_exhaustive()
    }
}

/// A condition did not come true in time.
#[derive(Debug)]
pub struct NotSeen {
    /// What had arrived by then.
    pub total: u64,
    pub distinct: u64,
    pub waited: Duration,
}

impl std::fmt::Display for NotSeen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { total, distinct, waited } = self;
        write!(f, "not seen within {waited:?}; {total} requests arrived, {distinct} different ids")
    }
}

impl std::error::Error for NotSeen {}

impl Receiver {
    /// How many requests are kept as a whole unless [`Receiver::keep`] says otherwise.
    pub const KEPT: usize = 1_000;

    /// Starts a receiver that answers 200 to everything.
    ///
    /// # Panics
    /// If the machine has no port or thread left.
    #[must_use]
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port");
        listener.set_nonblocking(true).expect("a socket can be made non-blocking");
        let addr = listener.local_addr().expect("a bound socket has an address");
        let state = State { seen: Seen::default(), scripts: FxHashMap::default(), keep: Self::KEPT };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Notify::new() });
        let (stop, stopped) = oneshot::channel();
        let for_thread = Arc::clone(&shared);
        let run = move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                tokio::select! {
                    () = accept(listener, for_thread) => {}
                    // Sent or dropped: the receiver is gone.
                    _ = stopped => {}
                }
            });
        };
        let thread = std::thread::Builder::new().name("receiver".to_owned()).spawn(run).expect("a thread");
        Self { addr, shared, stop: Some(stop), thread: Some(thread) }
    }

    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://127.0.0.1:<port><path>`.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// From now on `path` does this.
    pub fn on(&self, path: &str, behaviour: impl Into<Behaviour>) {
        self.script(path, [], behaviour);
    }

    /// `path` does each of `first` once, then `then` for ever.
    pub fn script(&self, path: &str, first: impl IntoIterator<Item = Behaviour>, then: impl Into<Behaviour>) {
        let then = then.into();
        let script = Script { first: first.into_iter().collect(), then: Arc::new(move |_| then.clone()) };
        self.shared.lock().scripts.insert(path.to_owned(), script);
    }

    /// `path` does what is chosen for each request. `choose` must not use the receiver.
    pub fn choose(&self, path: &str, choose: impl Fn(&Arrived) -> Behaviour + Send + Sync + 'static) {
        let script = Script { first: VecDeque::new(), then: Arc::new(choose) };
        self.shared.lock().scripts.insert(path.to_owned(), script);
    }

    /// How many requests to keep as a whole.
    pub fn keep(&self, requests: usize) {
        self.shared.lock().keep = requests;
    }

    /// Looks at what was seen. Hold it shortly: nothing is received meanwhile.
    pub fn seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.shared.lock().seen)
    }

    /// Forgets what was seen, but not which connections are open.
    pub fn forget(&self) {
        let seen = &mut self.shared.lock().seen;
        *seen = Seen {
            connections: seen.connections,
            open_connections: seen.open_connections,
            ..Seen::default()
        };
    }

    /// Waits until `condition` holds.
    ///
    /// # Errors
    /// [`NotSeen`] if it doesn't within `timeout`.
    pub async fn wait_until(
        &self,
        timeout: Duration,
        mut condition: impl FnMut(&Seen) -> bool,
    ) -> Result<(), NotSeen> {
        let wait = async {
            loop {
                let changed = self.shared.changed.notified();
                tokio::pin!(changed);
                // Enlisted before looking, so that no change goes by unnoticed.
                changed.as_mut().enable();
                if self.seen(&mut condition) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(timeout, wait).await.map_err(|_| {
            self.seen(|seen| NotSeen { total: seen.total, distinct: seen.distinct(), waited: timeout })
        })
    }

    /// Serves one connection that was accepted elsewhere, such as one inside TLS.
    pub fn serve<S>(&self, stream: S) -> impl Future<Output = ()> + use<S>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let shared = Arc::clone(&self.shared);
        async move {
            let connection = Connection::open(shared, stream);
            // There is no RST inside another protocol: the stream is dropped.
            let (Ended::Closed | Ended::Reset, _) = connection.run().await;
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Its panic was printed where it happened.
            drop(thread.join());
        }
    }
}

async fn accept(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let listener = TcpListener::from_std(listener).expect("a listener within a runtime");
    loop {
        // Out of file descriptors or a connection that is gone already: the next one may do.
        let Ok((stream, _)) = listener.accept().await else { continue };
        // Without it the answer to a request on a warm connection would wait for an acknowledgement.
        drop(stream.set_nodelay(true));
        let connection = Connection::open(Arc::clone(&shared), stream);
        tokio::spawn(async move {
            if let (Ended::Reset, stream) = connection.run().await {
                drop(stream.set_zero_linger());
            }
        });
    }
}

enum Ended {
    Closed,
    Reset,
}

/// One connection. Counted as open until it is over.
struct Connection<S> {
    number: u64,
    shared: Arc<Shared>,
    stream: S,
    buffer: Vec<u8>,
}

/// Takes note of a connection's end, also when its task is dropped.
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.lock().seen.open_connections -= 1;
        self.0.changed.notify_waiters();
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    fn open(shared: Arc<Shared>, stream: S) -> Self {
        let seen = &mut shared.lock().seen;
        let number = seen.connections;
        seen.connections += 1;
        seen.open_connections += 1;
        Self { number, shared: Arc::clone(&shared), stream, buffer: Vec::with_capacity(4096) }
    }

    async fn run(mut self) -> (Ended, S) {
        let _open = Open(Arc::clone(&self.shared));
        // A broken connection is the other side's affair.
        let ended = self.serve().await.unwrap_or(Ended::Closed);
        (ended, self.stream)
    }

    async fn serve(&mut self) -> std::io::Result<Ended> {
        while let Some(request) = self.read_request().await? {
            let behaviour = self.record(request);
            let then = match behaviour {
                Behaviour::Answer(answer) => self.answer(answer).await?,
                Behaviour::Raw { bytes, byte_every: None, then } => {
                    self.stream.write_all(&bytes).await?;
                    then
                }
                Behaviour::Raw { bytes, byte_every: Some(every), then } => {
                    for byte in bytes {
                        self.stream.write_all(&[byte]).await?;
                        self.pause(every).await?;
                    }
                    then
                }
                Behaviour::Hang => Then::Hang,
                Behaviour::Reset => Then::Reset,
                Behaviour::Close => Then::Close,
            };
            self.stream.flush().await?;
            match then {
                Then::KeepAlive => {}
                Then::Close => {
                    self.stream.shutdown().await?;
                    return Ok(Ended::Closed);
                }
                Then::Hang => loop {
                    self.pause(Duration::MAX).await?;
                },
                Then::Reset => return Ok(Ended::Reset),
            }
        }
        Ok(Ended::Closed)
    }

    async fn answer(&mut self, answer: Answer) -> std::io::Result<Then> {
        if !answer.delay.is_zero() {
            self.pause(answer.delay).await?;
        }
        let mut head = format!("HTTP/1.1 {} Scripted\r\n", answer.status);
        for (name, value) in &answer.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        match answer.body {
            Body::Bytes(body) => {
                // These statuses have no body, and their headers don't speak of one (RFC 9110 §8.6).
                if !matches!(answer.status, 100..=199 | 204 | 304) {
                    head.push_str(&format!("content-length: {}\r\n", body.len()));
                }
                head.push_str("\r\n");
                let mut whole = head.into_bytes();
                whole.extend_from_slice(&body);
                self.stream.write_all(&whole).await?;
                Ok(Then::KeepAlive)
            }
            Body::Slow { every } => {
                head.push_str("transfer-encoding: chunked\r\n\r\n");
                self.stream.write_all(head.as_bytes()).await?;
                loop {
                    self.stream.write_all(b"1\r\n.\r\n").await?;
                    self.stream.flush().await?;
                    self.pause(every).await?;
                }
            }
            Body::Endless => {
                head.push_str("transfer-encoding: chunked\r\n\r\n");
                self.stream.write_all(head.as_bytes()).await?;
                let mut chunk = b"4000\r\n".to_vec();
                chunk.resize(6 + 0x4000, b'x');
                chunk.extend_from_slice(b"\r\n");
                loop {
                    self.stream.write_all(&chunk).await?;
                }
            }
        }
    }

    /// Waits, and ends with an error as soon as the other side goes away.
    async fn pause(&mut self, duration: Duration) -> std::io::Result<()> {
        let read = async {
            let mut more = [0; 1024];
            loop {
                match self.stream.read(&mut more).await {
                    Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                    Ok(count) => self.buffer.extend_from_slice(&more[..count]),
                    Err(error) => return Err(error),
                }
            }
        };
        // A sleep cannot be longer than the timer's range of some years.
        let duration = duration.min(Duration::from_secs(365 * 86_400));
        tokio::time::timeout(duration, read).await.unwrap_or(Ok(()))
    }

    /// The next request; none when the other side has closed the connection or doesn't speak HTTP.
    async fn read_request(&mut self) -> std::io::Result<Option<Arrived>> {
        let (head_bytes, mut request, body_bytes) = loop {
            if let Some(head) = parse_head(&self.buffer, self.number)? {
                break head;
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        };
        while self.buffer.len() < head_bytes + body_bytes {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
        let rest = self.buffer.split_off(head_bytes + body_bytes);
        let whole = Bytes::from(std::mem::replace(&mut self.buffer, rest));
        request.body = whole.slice(head_bytes..);
        Ok(Some(request))
    }

    /// Counts a request and chooses what to do with it.
    fn record(&mut self, request: Arrived) -> Behaviour {
        let path = request.target.split('?').next().unwrap_or_default();
        let mut state = self.shared.lock();
        let State { seen, scripts, keep } = &mut *state;
        seen.total += 1;
        match seen.by_path.get_mut(path) {
            Some(count) => *count += 1,
            None => drop(seen.by_path.insert(path.to_owned(), 1)),
        }
        if let Some(id) = request.header("webhook-id") {
            match seen.by_id.get_mut(id) {
                Some(count) => *count += 1,
                None => drop(seen.by_id.insert(id.into(), 1)),
            }
        }
        let behaviour = match scripts.get_mut(path) {
            None => Answer::status(200).into(),
            Some(script) => script.first.pop_front().unwrap_or_else(|| (script.then)(&request)),
        };
        if *keep > 0 {
            while seen.last.len() >= *keep {
                seen.last.pop_front();
            }
            seen.last.push_back(request);
        }
        drop(state);
        self.shared.changed.notify_waiters();
        behaviour
    }
}

/// A request's head, once it is there as a whole: its length, the request without its body, the body's length.
fn parse_head(buffer: &[u8], connection: u64) -> std::io::Result<Option<(usize, Arrived, usize)>> {
    if buffer.is_empty() {
        return Ok(None);
    }
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut head = httparse::Request::new(&mut headers);
    let bad = |_| std::io::Error::from(std::io::ErrorKind::InvalidData);
    let httparse::Status::Complete(head_bytes) = head.parse(buffer).map_err(bad)? else { return Ok(None) };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let request = Arrived {
        connection,
        at: Instant::now(),
        method: head.method.unwrap_or_default().to_owned(),
        target: head.path.unwrap_or_default().to_owned(),
        headers: head.headers.iter().map(|h| (h.name.to_ascii_lowercase(), text(h.value))).collect(),
        body: Bytes::new(),
    };
    // Senders of webhooks know the length of what they send: chunked requests are not understood.
    let body_bytes = request.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    Ok(Some((head_bytes, request, body_bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    async fn send(stream: &mut tokio::net::TcpStream, path: &str, id: &str) -> String {
        let request = format!("POST {path} HTTP/1.1\r\nwebhook-id: {id}\r\ncontent-length: 2\r\n\r\n{{}}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![0; 4096];
        let count = stream.read(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[..count]).into_owned()
    }

    #[tokio::test]
    async fn it_follows_its_script_and_counts() {
        let receiver = Receiver::start();
        receiver.keep(2);
        receiver.script("/a", [Answer::status(503).header("retry-after", "1").into()], Answer::status(204));
        let mut stream = tokio::net::TcpStream::connect(receiver.addr()).await.unwrap();
        let first = send(&mut stream, "/a?x=y", "1").await;
        assert_eq!(first, "HTTP/1.1 503 Scripted\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(send(&mut stream, "/a", "1").await, "HTTP/1.1 204 Scripted\r\n\r\n");
        assert!(send(&mut stream, "/b", "2").await.starts_with("HTTP/1.1 200"));
        receiver.wait_until(SOON, |seen| seen.total() == 3).await.unwrap();
        receiver.seen(|seen| {
            assert_eq!((seen.distinct(), seen.duplicates(), seen.of_id("1"), seen.of_id("3")), (2, 1, 2, 0));
            assert_eq!((seen.of_path("/a"), seen.of_path("/b"), seen.connections()), (2, 1, 1));
            assert_eq!(seen.last().len(), 2);
            assert_eq!((seen.last()[1].target.as_str(), &seen.last()[1].body[..]), ("/b", &b"{}"[..]));
        });
        drop(stream);
        receiver.wait_until(SOON, |seen| seen.open_connections() == 0).await.unwrap();
    }

    #[tokio::test]
    async fn it_hangs_closes_and_resets() {
        let receiver = Receiver::start();
        receiver.on("/hang", Behaviour::Hang);
        receiver.on("/close", Behaviour::Close);
        receiver.on("/reset", Behaviour::Reset);
        let connect = async || tokio::net::TcpStream::connect(receiver.addr()).await.unwrap();
        let mut stream = connect().await;
        tokio::select! {
            answer = send(&mut stream, "/hang", "1") => panic!("{answer}"),
            seen = receiver.wait_until(SOON, |seen| seen.of_path("/hang") == 1) => seen.unwrap(),
        }
        assert_eq!(send(&mut connect().await, "/close", "2").await, "");
        let mut stream = connect().await;
        stream.write_all(b"GET /reset HTTP/1.1\r\n\r\n").await.unwrap();
        let error = stream.read(&mut [0; 16]).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn what_does_not_come_is_said() {
        let missing = Receiver::start().wait_until(Duration::from_millis(10), |seen| seen.total() > 0).await;
        assert!(missing.unwrap_err().to_string().contains("0 requests arrived"));
    }
}
