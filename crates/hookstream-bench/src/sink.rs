//! An endpoint that costs next to nothing: HTTP/1.1 as far as is needed to answer 200.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// An endpoint on a thread of its own.
#[derive(Debug)]
pub struct Sink {
    address: SocketAddr,
    received: Arc<AtomicU64>,
}

impl Sink {
    /// Starts it; it calls `on_body` with each request's body and runs as long as the process.
    ///
    /// # Errors
    /// If it gets no port or no thread.
    pub fn start(on_body: impl FnMut(&[u8]) + Send + 'static) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0))).context("no free port")?;
        let address = listener.local_addr()?;
        let received = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&received);
        std::thread::Builder::new().name("sink".to_owned()).spawn(move || {
            let local = tokio::task::LocalSet::new();
            let on_body = Rc::new(RefCell::new(on_body));
            local.block_on(&runtime, async move {
                // A listener that fails has no more connections to give.
                while let Ok((connection, _)) = listener.accept().await {
                    tokio::task::spawn_local(serve(connection, Rc::clone(&on_body), Arc::clone(&counter)));
                }
            });
        })?;
        Ok(Self { address, received })
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Waits until so many requests have come in all, and says when they had.
    ///
    /// # Errors
    /// If they have not in time.
    pub fn wait_for(&self, count: u64, patience: Duration) -> anyhow::Result<Instant> {
        let by = Instant::now() + patience;
        loop {
            let (received, now) = (self.received(), Instant::now());
            if received >= count {
                return Ok(now);
            }
            if now > by {
                bail!("{received} requests came within {} s, not {count}", patience.as_secs());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

async fn serve(mut connection: TcpStream, on_body: Rc<RefCell<impl FnMut(&[u8])>>, received: Arc<AtomicU64>) {
    connection.set_nodelay(true).ok();
    let mut buffer = Vec::with_capacity(16 * 1024);
    let head_end = memchr::memmem::Finder::new("\r\n\r\n");
    let length = memchr::memmem::Finder::new("content-length: ");
    loop {
        while let Some(head) = head_end.find(&buffer) {
            let digits = length.find(&buffer[..head]).map_or([].as_slice(), |at| &buffer[at + 16..head]);
            let body = digits
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
            let end = head + 4 + body;
            if buffer.len() < end {
                break;
            }
            on_body.borrow_mut()(&buffer[head + 4..end]);
            received.fetch_add(1, Ordering::Relaxed);
            buffer.drain(..end);
            if connection.write_all(ANSWER).await.is_err() {
                return;
            }
        }
        match connection.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}
