//! Connections: frames come in, answers go out in the same order (Kafka protocol guide, "Network").

use std::io;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::api::{self, Reply};
use crate::broker::Broker;

/// The largest request, as Kafka's `socket.request.max.bytes`.
const MAX_FRAME: usize = 100 * 1024 * 1024;
/// What a connection's buffer starts with.
const BUFFER: usize = 16 * 1024;

/// Serves connections until told to stop.
pub(crate) async fn serve(broker: Arc<Broker>, listener: TcpListener, stop: &CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(Connection::new(Arc::clone(&broker), stream).run());
                }
                Err(error) => {
                    tracing::warn!("a connection can't be accepted: {error}");
                    // Out of files, most likely: trying at once would spin.
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            },
            Some(ended) = connections.join_next(), if !connections.is_empty() => {
                if let Err(error) = ended {
                    tracing::error!("a connection's task failed: {error}; please report it");
                }
            }
        }
    }
    connections.shutdown().await;
}

struct Connection {
    broker: Arc<Broker>,
    stream: TcpStream,
    input: BytesMut,
}

impl Connection {
    fn new(broker: Arc<Broker>, stream: TcpStream) -> Self {
        Self { broker, stream, input: BytesMut::with_capacity(BUFFER) }
    }

    /// Answers until the client goes, or says what is no request.
    async fn run(mut self) {
        // Without it the answers of small requests wait for each other; it can be done without.
        drop(self.stream.set_nodelay(true));
        if let Err(error) = self.answer_all().await {
            tracing::debug!("a client's connection ended: {error}");
        }
    }

    async fn answer_all(&mut self) -> io::Result<()> {
        let peer = self.stream.peer_addr()?;
        let local = self.stream.local_addr()?;
        while let Some(frame) = self.next_frame().await? {
            let reply = tokio::select! {
                // First, for most are ready at once.
                biased;
                reply = api::answer(&self.broker, peer, local, frame) => reply,
                () = gone(&self.stream) => return Ok(()),
            };
            match reply {
                Reply::Send(answer) => self.stream.write_all(&answer).await?,
                Reply::Nothing => {}
                Reply::Close(last) => {
                    self.stream.write_all(&last).await?;
                    return self.stream.shutdown().await;
                }
            }
        }
        Ok(())
    }

    /// The next request, without its length; none if the client is gone.
    async fn next_frame(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some((length, _)) = self.input.split_first_chunk::<4>() {
                let length = u32::from_be_bytes(*length);
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                if length > MAX_FRAME {
                    let text = format!("a frame of {length} bytes: {MAX_FRAME} is the most");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
                if self.input.len() >= 4 + length {
                    self.input.advance(4);
                    return Ok(Some(self.input.split_to(length).freeze()));
                }
                self.input.reserve(4 + length - self.input.len());
            } else {
                self.input.reserve(BUFFER);
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Ok(None);
            }
        }
    }
}

/// Waits until the client is gone. If it has sent the next request already, it is there.
async fn gone(stream: &TcpStream) {
    if matches!(stream.peek(&mut [0]).await, Ok(1..)) {
        std::future::pending::<()>().await;
    }
}
