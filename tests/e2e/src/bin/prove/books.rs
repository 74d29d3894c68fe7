//! What the receivers saw, request by request, and the events that let them tell.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use hookstream_e2e::{Answer, Arrived, Behaviour, Message};
use serde::Deserialize;

/// Microseconds since the epoch.
pub(crate) fn now_us() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    i64::try_from(now.as_micros()).expect("not for another 290,000 years")
}

/// A CloudEvent that carries its number and the time, with data of about this many bytes.
pub(crate) fn event(event_type: &str, n: usize, bytes: usize) -> Message {
    let (key, at) = (format!("customer-{}", n % 997), now_us());
    let data = format!(r#"{{"n":{n},"at":{at},"pad":""#);
    let pad = "x".repeat(bytes.saturating_sub(data.len() + 2));
    let value = format!(
        r#"{{"specversion":"1.0","id":"{n}","source":"/prove","type":"{event_type}","subject":"{key}","datacontenttype":"application/json","data":{data}{pad}"}}}}"#
    );
    Message { key, value }
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Which webhook's endpoint was called.
    pub(crate) webhook: usize,
    /// The event's number.
    pub(crate) event: usize,
    /// Its `webhook-id`.
    pub(crate) delivery: Box<str>,
    /// Its `user-agent`, by which senders are told apart.
    pub(crate) agent: Arc<str>,
    pub(crate) at_us: i64,
    /// Since the event was made.
    pub(crate) latency_us: i64,
    /// It is answered with success.
    pub(crate) good: bool,
}

#[derive(Debug, Default)]
struct Inner {
    requests: Vec<Request>,
    agents: HashMap<String, Arc<str>>,
    good: Vec<usize>,
    strange: usize,
}

/// The receivers' common books.
#[derive(Clone, Debug, Default)]
pub(crate) struct Books(Arc<Mutex<Inner>>);

impl Books {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes down a request, and what it is answered.
    pub(crate) fn note(&self, webhook: usize, arrived: &Arrived, answer: impl Into<Behaviour>) -> Behaviour {
        #[derive(Deserialize)]
        struct Body {
            data: Data,
        }
        #[derive(Deserialize)]
        struct Data {
            n: usize,
            at: i64,
        }
        let answer = answer.into();
        let good = matches!(&answer, Behaviour::Answer(Answer { status: 200..=299, .. }));
        let at_us = now_us();
        let mut inner = self.lock();
        let Ok(Body { data }) = serde_json::from_slice(&arrived.body) else {
            inner.strange += 1;
            return answer;
        };
        let agent = arrived.header("user-agent").unwrap_or_default();
        let agent = match inner.agents.get(agent) {
            Some(agent) => Arc::clone(agent),
            None => {
                let shared: Arc<str> = Arc::from(agent);
                inner.agents.insert(agent.to_owned(), Arc::clone(&shared));
                shared
            }
        };
        if inner.good.len() <= webhook {
            inner.good.resize(webhook + 1, 0);
        }
        inner.good[webhook] += usize::from(good);
        let delivery = arrived.header("webhook-id").unwrap_or_default().into();
        let latency_us = at_us - data.at;
        inner.requests.push(Request { webhook, event: data.n, delivery, agent, at_us, latency_us, good });
        answer
    }

    /// Requests so far.
    pub(crate) fn len(&self) -> usize {
        self.lock().requests.len()
    }

    /// Requests for a webhook that were answered with success, so far.
    pub(crate) fn good(&self, webhook: usize) -> usize {
        self.lock().good.get(webhook).copied().unwrap_or(0)
    }

    /// Requests whose body is none of ours.
    pub(crate) fn strange(&self) -> usize {
        self.lock().strange
    }

    /// A copy of all requests from number `from` on, in the order of their arrival.
    pub(crate) fn requests(&self, from: usize) -> Vec<Request> {
        self.lock().requests[from..].to_vec()
    }
}

/// Of sorted numbers, the one that this part of them does not exceed.
pub(crate) fn percentile(sorted: &[i64], part: f64) -> i64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index into a slice")]
    let at = (sorted.len() as f64 * part) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0)
}
