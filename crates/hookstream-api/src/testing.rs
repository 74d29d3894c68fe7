//! A real server on loopback with a sink that does what it is told, and a client that sends bytes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::Request;
use axum::middleware::{self, Next};
use hookstream_core::config::{
    Account, DeliveryMode, EventType, Format, Mapping, Meta, Pick, Source, Verification, View,
};
use hookstream_core::event::Event;
use hookstream_types::{AccountUid, Offset, UnixMillis};
use rustc_hash::FxHashMap;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::events::{Catalogue, Client, Declared, EventLimits, EventSink, Events, SinkError};
use crate::server::{Limits, serve};

pub const ACME: AccountUid = AccountUid(Uuid::from_u128(1));
const DEFAULT: AccountUid = AccountUid(Uuid::from_u128(2));

/// What the sink does next, and what it has got.
#[derive(Debug, Default)]
pub struct Sink {
    pub answers: Mutex<Vec<Answer>>,
    pub written: Mutex<Vec<Event>>,
    /// Told when an append begins.
    pub begun: Notify,
    /// Ends an append that waits.
    pub go_on: Notify,
}

/// The sink writes, unless it is told one of these.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    NotWritten,
    Unknown,
    /// Waits for `go_on`, then writes.
    Wait,
}

#[derive(Clone, Debug)]
pub struct Shared(pub Arc<Sink>);

impl EventSink for Shared {
    async fn append(&self, events: Vec<Event>) -> Result<(), SinkError> {
        let answer = self.0.answers.lock().unwrap().pop();
        self.0.begun.notify_one();
        let reason = "as told".to_owned();
        match answer {
            Some(Answer::NotWritten) => return Err(SinkError::NotWritten { reason }),
            Some(Answer::Unknown) => return Err(SinkError::Unknown { reason }),
            Some(Answer::Wait) => self.0.go_on.notified().await,
            None => {}
        }
        self.0.written.lock().unwrap().extend(events);
        Ok(())
    }
}

#[derive(Debug)]
pub struct Configured(Arc<View>);

impl Configured {
    fn new() -> Self {
        let meta = || Meta {
            revision: 1,
            created_at: UnixMillis(0),
            updated_at: UnixMillis(0),
            actor: "t".into(),
            request: None,
        };
        let accounts = [("acme", ACME), ("default", DEFAULT)].map(|(name, uid)| {
            (
                name.to_owned(),
                Arc::new(Account { uid, name: name.into(), verification: Verification::Ping, meta: meta() }),
            )
        });
        let mapping = Mapping {
            id: None,
            event_type: Pick::Pointer("/kind".into()),
            time: None,
            account: None,
            subject: None,
            data: None,
        };
        let source = |name: &str, format, strict| {
            let source = Source {
                name: name.into(),
                topics: vec![],
                format,
                strict,
                meta: meta(),
                ..Source::default()
            };
            (name.to_owned(), Arc::new(source))
        };
        let sources =
            [source("mapped", Format::Json { mapping }, false), source("strict", Format::Auto, true)];
        let types = ["known", "order.paid", "tree"].map(|name| {
            let event_type = EventType {
                name: name.into(),
                description: None,
                schema: None,
                sample: None,
                scopes: Vec::new(),
                delivery: DeliveryMode::Async,
                deprecated: false,
                ttl_ms: None,
                meta: meta(),
            };
            (name.to_owned(), Arc::new(event_type))
        });
        let (accounts, sources) = (BTreeMap::from(accounts), BTreeMap::from(sources));
        Self(Arc::new(View::new(Offset(9), accounts, sources, BTreeMap::from(types), FxHashMap::default())))
    }
}

impl Catalogue for Configured {
    fn view(&self) -> Arc<View> {
        Arc::clone(&self.0)
    }

    fn schema(&self, _: &View, event_type: &str) -> Option<Declared> {
        let schema = match event_type {
            "order.paid" => json!({"type": "object", "required": ["order"]}),
            // Looks at each level twice, and at each of those twice.
            "tree" => {
                json!({"type": "object", "properties": {"c": {"allOf": [{"$ref": "#"}, {"$ref": "#"}]}}})
            }
            _ => return None,
        };
        Some(Declared { revision: 1, schema: Arc::new(schema) })
    }
}

pub struct Server {
    pub address: SocketAddr,
    pub sink: Arc<Sink>,
    pub shutdown: CancellationToken,
    pub ended: JoinHandle<()>,
}

/// A response.
#[derive(Debug)]
pub struct Answered {
    pub status: u16,
    /// Lower case.
    pub head: String,
    pub body: String,
}

impl Answered {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The fields that a problem names.
    #[track_caller]
    pub fn fields(&self) -> Vec<String> {
        let problem: crate::problem::Problem = serde_json::from_str(&self.body).unwrap();
        assert_eq!(problem.status, self.status);
        problem.errors.into_iter().map(|error| error.field).collect()
    }
}

impl Server {
    pub async fn start() -> Self {
        Self::with(EventLimits::default(), Limits::default(), None).await
    }

    pub async fn with(events: EventLimits, limits: Limits, bound: Option<AccountUid>) -> Self {
        let sink = Arc::new(Sink::default());
        let wall = Arc::new(|| UnixMillis(1_767_323_045_000));
        let events = Events::new(Shared(Arc::clone(&sink)), Configured::new(), wall, events);
        // The token is the client's id.
        let authenticate = move |mut request: Request, next: Next| async move {
            if let Some(token) = request.headers().get("authorization") {
                let id = token.to_str().unwrap().into();
                request.extensions_mut().insert(Client { id, account: bound });
            }
            next.run(request).await
        };
        let router = Arc::new(events).router().layer(middleware::from_fn(authenticate)).into();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let ended = tokio::spawn(serve(listener, router, shutdown.clone(), limits));
        Self { address, sink, shutdown, ended }
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes on a connection of their own, and reads one response.
    pub async fn raw(&self, bytes: impl AsRef<[u8]>) -> Answered {
        let mut stream = self.connect().await;
        stream.write_all(bytes.as_ref()).await.unwrap();
        read(&mut stream).await.expect("a response")
    }

    /// Sends a well-formed request to the events' path.
    pub async fn post(&self, query: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Answered {
        self.raw(request(query, headers, body)).await
    }

    pub async fn json(&self, body: impl AsRef<[u8]>) -> Answered {
        self.post("", &[("Content-Type", "application/json")], body).await
    }

    pub fn told(&self, answer: Answer) {
        self.sink.answers.lock().unwrap().push(answer);
    }

    pub fn written(&self) -> Vec<Event> {
        self.sink.written.lock().unwrap().clone()
    }
}

pub fn request(query: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut request = format!("POST /api/v1/events{query} HTTP/1.1\r\nHost: x\r\nAuthorization: c\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request += &format!("Content-Length: {}\r\n\r\n", body.len());
    [request.as_bytes(), body].concat()
}

/// Reads one response; none if the connection ends before it.
pub async fn read(stream: &mut TcpStream) -> Option<Answered> {
    let reading = async {
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if !matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {
                return None;
            }
        };
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.parse().unwrap());
        while bytes.len() < end + length {
            if !matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {
                return None;
            }
        }
        let status = head.split(' ').nth(1)?.parse().unwrap();
        let body = String::from_utf8_lossy(&bytes[end..end + length]).into_owned();
        Some(Answered { status, head, body })
    };
    tokio::time::timeout(Duration::from_secs(20), reading).await.expect("an answer in time")
}

/// Whether the other side closes the connection.
pub async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    let reading = stream.read_to_end(&mut rest);
    tokio::time::timeout(Duration::from_secs(20), reading).await.is_ok()
}
