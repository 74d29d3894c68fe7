//! What was produced and not yet acknowledged: kept until it is, and produced again if its outcome is unknown.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hookstream_log::{Ack, Full, Input, Log, OutRecord, ProduceError, Token};
use hookstream_types::{Mono, Partition};
use rustc_hash::FxHashMap;

/// How long a record waits that the broker refused or whose outcome is unknown.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// A record on its way, and who wants to hear of its end.
#[derive(Debug)]
pub struct Outgoing {
    pub topic: Arc<str>,
    pub partition: Partition,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    pub headers: Vec<(&'static str, Vec<u8>)>,
    /// The assignment that produced it; with it, it is forgotten.
    pub input: Input,
    /// Its name there.
    pub tag: u64,
}

/// How a record ended.
#[derive(Debug)]
pub enum Settled {
    Appended {
        input: Input,
        tag: u64,
        ack: Ack,
    },
    /// The topic never takes it.
    TooLarge(Box<Outgoing>),
}

/// Records on their way.
#[derive(Debug, Default)]
pub struct Outbox {
    next_token: Token,
    sent: FxHashMap<Token, Outgoing>,
    /// To be produced when the producer has room again, or again after a while.
    waiting: VecDeque<(Mono, Outgoing)>,
}

impl Outbox {
    /// Produces a record, now or as soon as there is room.
    pub fn send(&mut self, log: &mut impl Log, record: Outgoing, now: Mono) {
        if self.waiting.iter().any(|(at, _)| *at <= now) {
            // Order among the waiting ones is kept.
            self.waiting.push_back((now, record));
        } else {
            self.produce(log, record, now);
        }
    }

    fn produce(&mut self, log: &mut impl Log, record: Outgoing, now: Mono) {
        self.next_token += 1;
        let headers: Vec<(&str, &[u8])> =
            record.headers.iter().map(|(name, value)| (*name, value.as_slice())).collect();
        let out = OutRecord {
            topic: &record.topic,
            partition: record.partition,
            key: Some(&record.key),
            value: Some(&record.value),
            headers: &headers,
        };
        match log.produce(self.next_token, out) {
            Ok(()) => {
                self.sent.insert(self.next_token, record);
            }
            Err(Full) => self.waiting.push_front((now, record)),
        }
    }

    /// Produces a record not before `at`.
    pub fn send_later(&mut self, record: Outgoing, at: Mono) {
        self.waiting.push_back((at, record));
    }

    /// The log's answer to a record. None: it is not known any more, or is produced again.
    pub fn on_produced(
        &mut self,
        token: Token,
        result: Result<Ack, ProduceError>,
        now: Mono,
    ) -> Option<Settled> {
        let record = self.sent.remove(&token)?;
        match result {
            Ok(ack) => Some(Settled::Appended { input: record.input, tag: record.tag, ack }),
            Err(ProduceError::TooLarge) => Some(Settled::TooLarge(Box::new(record))),
            Err(ProduceError::Unknown | ProduceError::Refused) => {
                self.waiting.push_back((now + AGAIN_AFTER, record));
                None
            }
        }
    }

    /// Produces what has waited long enough, as long as the lease holds: who lost the partition and does not know it
    /// yet must not repeat an owner record, which would void its successor's decisions.
    pub fn poll(&mut self, log: &mut impl Log, lease: Mono, now: Mono) {
        if now >= lease {
            for (at, _) in self.waiting.iter_mut().filter(|(at, _)| *at <= now) {
                *at = now + AGAIN_AFTER;
            }
            return;
        }
        for _ in 0..self.waiting.len() {
            let Some((at, record)) = self.waiting.pop_front() else { break };
            if at > now {
                self.waiting.push_back((at, record));
                continue;
            }
            let before = self.waiting.len();
            self.produce(log, record, now);
            if self.waiting.len() > before {
                // The producer is full.
                break;
            }
        }
    }

    /// Forgets what an assignment produced: nobody waits for it any more.
    pub fn forget(&mut self, input: Input) {
        self.sent.retain(|_, record| record.input != input);
        self.waiting.retain(|(_, record)| record.input != input);
    }

    /// When [`Outbox::poll`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        self.waiting.iter().map(|(at, _)| *at).min()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.sent.len() + self.waiting.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use hookstream_log::memory::MemoryLog;

    use super::*;

    #[test]
    fn nothing_is_repeated_without_a_lease() {
        let mut log = MemoryLog::default();
        let mut outbox = Outbox::default();
        let record = Outgoing {
            topic: Arc::from("attempts"),
            partition: Partition(0),
            key: Vec::new(),
            value: b"owner".to_vec(),
            headers: Vec::new(),
            input: Input(1),
            tag: 1,
        };
        outbox.send(&mut log, record, Mono(0));
        let token = log.drain()[0].token;
        assert!(outbox.on_produced(token, Err(ProduceError::Unknown), Mono(0)).is_none());

        let due = Mono(0) + AGAIN_AFTER;
        let lease = due;
        outbox.poll(&mut log, lease, due);
        assert!(log.drain().is_empty(), "the lease is over");
        let again = due + AGAIN_AFTER;
        assert_eq!(outbox.next_deadline(), Some(again), "it is not looked at all the time");
        outbox.poll(&mut log, again + AGAIN_AFTER, again);
        assert_eq!(log.drain().len(), 1, "there is a lease again");
        assert!(outbox.next_deadline().is_none());
    }
}
