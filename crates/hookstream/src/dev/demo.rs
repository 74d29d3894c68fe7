//! `--demo`: something to look at within seconds. Events that keep coming, webhooks of five platforms, and endpoints
//! that are good, slow, flaky, busy or gone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::routing::any;
use hookstream_runtime::Clock;
use hookstream_settings::Settings;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::cluster::{Cluster, Event, Producer};
use crate::failure::Failure;

/// What is configured; `http://demo` stands for the receiver.
const MANIFEST: &str = include_str!("demo.yaml");
/// The topics of its sources.
const TOPICS: [&str; 5] =
    ["demo.travel", "demo.profiles", "demo.scheduling", "demo.bookings", "demo.payments"];
/// Between two events.
const PACE: Duration = Duration::from_millis(400);
/// How long the slow endpoint takes.
const SLOW: Duration = Duration::from_secs(2);
/// Of so many requests the flaky endpoint fails one.
const FLAKY: u64 = 3;
/// Of so many requests the busy endpoint takes one.
const BUSY: u64 = 2;
/// What the busy endpoint asks for, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("3");

const STRUCTURED: (&str, &str) = ("content-type", "application/cloudevents+json; charset=UTF-8");

/// The demo at work; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Demo {
    /// Dropped first: that ends the generator.
    stop: Option<Sender<()>>,
    generator: Option<JoinHandle<()>>,
    /// Runs the receiver.
    runtime: Option<Runtime>,
    address: SocketAddr,
}

impl Demo {
    /// Starts the endpoints.
    pub(super) fn start() -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("demo-receiver")
            .enable_all()
            .build()?;
        let listener = runtime.block_on(TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let router = endpoints();
        runtime.spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!("the demo's endpoints are gone: {error}");
            }
        });
        Ok(Self { stop: None, generator: None, runtime: Some(runtime), address })
    }

    /// The configuration, with the endpoints' address.
    pub(super) fn manifest(&self) -> String {
        MANIFEST.replace("http://demo/", &format!("http://{}/", self.address))
    }

    pub(super) fn topics() -> &'static [&'static str] {
        &TOPICS
    }

    /// Starts to produce events, which goes on until this is dropped.
    pub(super) fn generate(&mut self, settings: &Settings) -> Result<(), Failure> {
        let cluster = Cluster::connect(settings)?;
        let producers = TOPICS.iter().map(|topic| cluster.producer(topic)).collect::<Result<Vec<_>, _>>()?;
        let (stop, stopped) = channel();
        let generator = std::thread::Builder::new().name("demo-events".to_owned());
        self.generator = Some(generator.spawn(move || generate(producers, &stopped))?);
        self.stop = Some(stop);
        Ok(())
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(generator) = self.generator.take() {
            // It reported its panic itself.
            drop(generator.join());
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn endpoints() -> Router {
    Router::new()
        .route("/good", any(async |_: Bytes| StatusCode::OK))
        .route(
            "/slow",
            any(async |_: Bytes| {
                tokio::time::sleep(SLOW).await;
                StatusCode::OK
            }),
        )
        .route("/flaky", any(flaky))
        .route("/busy", any(busy))
        .route("/gone", any(async |_: Bytes| StatusCode::GONE))
        .with_state(Arc::default())
}

async fn flaky(State(count): State<Arc<AtomicU64>>, _: Bytes) -> (StatusCode, &'static str) {
    match count.fetch_add(1, Ordering::Relaxed) % FLAKY {
        0 => (StatusCode::INTERNAL_SERVER_ERROR, "{\"error\":\"the database is restarting\"}"),
        _ => (StatusCode::OK, "{\"ok\":true}"),
    }
}

async fn busy(State(count): State<Arc<AtomicU64>>, _: Bytes) -> (StatusCode, HeaderMap) {
    if count.fetch_add(1, Ordering::Relaxed).is_multiple_of(BUSY) {
        return (StatusCode::OK, HeaderMap::new());
    }
    (StatusCode::TOO_MANY_REQUESTS, HeaderMap::from_iter([(header::RETRY_AFTER, RETRY_AFTER)]))
}

fn generate(mut producers: Vec<Producer>, stopped: &Receiver<()>) {
    let clock = Clock::start();
    for n in 0_u64.. {
        let (topic, key, value, is_cloudevent) = event(n, clock.wall().0);
        let headers: &[(&'static str, &'static str)] = if is_cloudevent { &[STRUCTURED] } else { &[] };
        let producer = &mut producers[topic];
        let sent = producer
            .send(Event { key: Some(&key), value: value.to_string().as_bytes(), headers })
            .and_then(|()| producer.flush());
        if sent.is_err() {
            tracing::warn!("a demo event could not be produced; the next one is tried");
        }
        if stopped.recv_timeout(PACE) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

/// The topic, key and value of an event, and whether it is a CloudEvent.
fn event(n: u64, now_ms: i64) -> (usize, String, Value, bool) {
    let time = jiff::Timestamp::from_millisecond(now_ms).unwrap_or_default().to_string();
    let round = n / 6;
    let subject = format!("{}", 1000 + round % 40);
    let cloud = |source: &str, kind: &str, account: &str, data: Value| {
        json!({
            "specversion": "1.0", "id": Uuid::now_v7(), "source": source, "type": kind, "time": time,
            "account": account, "subject": subject, "datacontenttype": "application/json", "data": data,
        })
    };
    let pick = |kinds: &[&'static str]| kinds[usize::try_from(round).unwrap_or(0) % kinds.len()];
    let amount = 40 + round % 300;
    match n % 6 {
        0 => {
            let data = json!({ "Booking": { "Id": subject, "Guests": 1 + round % 4 } });
            let kind = pick(&["Booking.Created", "Booking.Created", "Booking.Cancelled"]);
            (0, subject.clone(), cloud("/travel", kind, "default", data), true)
        }
        1 => {
            let kind = pick(&["profile.created", "profile.updated", "profile.updated", "profile.deleted"]);
            let change = json!({ "id": Uuid::now_v7(), "type": kind, "at": time });
            let value = json!({
                "agency": "northwind-agency", "change": change,
                "profile": { "uuid": format!("traveller-{subject}"), "profileType": "TRAVELLER" },
            });
            (1, subject, value, false)
        }
        2 => {
            let kind = pick(&["Customers.Created", "Event.Created", "Event.Deleted"]);
            let value = json!({
                "id": Uuid::now_v7(), "type": kind, "time": time, "account": "city-clinic",
                "subject": subject, "data": { "id": subject, "service": "consultation" },
            });
            (2, subject.clone(), value, false)
        }
        3 => {
            let data = json!({ "member": subject, "points": amount });
            (2, subject.clone(), cloud("/loyalty", "points.earned", "default", data), true)
        }
        4 => {
            let data = json!({ "id": subject, "nights": 1 + round % 7, "total": { "amount": amount, "currency": "EUR" } });
            let kind = pick(&["booking.created", "booking.created", "booking.cancelled"]);
            (3, subject.clone(), cloud("/bookings", kind, "grand-hotel", data), true)
        }
        _ => {
            let data = json!({ "booking": subject, "amount": amount, "currency": "EUR" });
            let kind = pick(&["payment.captured", "payment.failed"]);
            (4, subject.clone(), cloud("/payments", kind, "grand-hotel", data), true)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use hookstream_config::Manifest;
    use hookstream_config::manifest::resolve_from_system;

    use super::*;

    #[test]
    fn the_configuration_is_one_and_all_events_have_a_place_in_it() {
        let resolve = resolve_from_system(Path::new(""));
        let text = MANIFEST.replace("http://demo/", "http://127.0.0.1:9/");
        Manifest::parse(&text, &resolve).unwrap();
        let mut kinds = BTreeSet::new();
        for n in 0..200 {
            let (topic, key, value, _) = event(n, 0);
            assert!(!key.is_empty() && topic < TOPICS.len());
            assert!(text.contains(TOPICS[topic]));
            let kind = value.pointer("/change/type").or_else(|| value.get("type")).unwrap();
            kinds.insert(kind.as_str().unwrap().to_owned());
        }
        for kind in &kinds {
            assert!(text.contains(&format!("name: {kind}")), "{kind} is not registered");
        }
        assert_eq!(kinds.len(), 13);
    }
}
