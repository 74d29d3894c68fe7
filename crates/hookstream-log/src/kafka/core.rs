//! A core's log.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hookstream_types::{Mono, Offset, Partition};

use super::Clock;
use super::assignment::{Assignment, Inbox, ToCore};
use super::helper::Helper;
use super::lease::Lease;
use super::producer::Producer;
use super::readers::{self, Readers};
use crate::client::{KafkaSettings, Reports};
use crate::error::KafkaError;
use crate::log::{Ended, Full, Input, Log, LogEvent, OutRecord, ReadFrom, RecordRef, Token};
use crate::native::{Polled, Queue, Record};

/// librdkafka can lose a wake-up, so a queue is polled this often even if it seems empty.
pub(super) const POLL_ANYWAY: Duration = Duration::from_millis(250);
/// The same for acknowledgements, while some are awaited.
const POLL_DELIVERIES: Duration = Duration::from_millis(20);

/// What a core's log is made of.
pub(super) struct Parts {
    pub(super) settings: KafkaSettings,
    pub(super) name: String,
    pub(super) read_committed: bool,
    pub(super) prefetch_bytes: usize,
    pub(super) produce_timeout: Duration,
    pub(super) linger: Duration,
    pub(super) clock: Clock,
    pub(super) inbox: Arc<Inbox>,
    pub(super) lease: Arc<Lease>,
    pub(super) inputs: Arc<AtomicU64>,
    pub(super) helper: Helper,
}

/// A partition that the group assigned to this core.
struct Owned {
    assignment: Arc<Assignment>,
    queue: Queue,
    /// Something came since it was last polled empty.
    readable: Arc<AtomicBool>,
    polled: Mono,
}

/// One core's share of a group membership: its partitions, a producer, and readers. Used by one thread at a time.
pub struct KafkaLog {
    clock: Clock,
    inbox: Arc<Inbox>,
    lease: Arc<Lease>,
    /// The last loss that this core has heard of.
    epoch: u64,
    inputs: Arc<AtomicU64>,
    owned: HashMap<Input, Owned>,
    readers: Readers,
    producer: Producer,
    /// What happened here: ends of readers.
    events: VecDeque<LogEvent>,
    scratch: Scratch,
    reports: Reports,
}

impl fmt::Debug for KafkaLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaLog").field("owned", &self.owned.keys()).finish_non_exhaustive()
    }
}

impl KafkaLog {
    pub(super) fn new(parts: Parts) -> Result<Self, KafkaError> {
        let Parts { settings, name, read_committed, prefetch_bytes, produce_timeout, linger, .. } = &parts;
        let wake = Arc::clone(&parts.inbox.wake);
        let times = (*produce_timeout, *linger);
        let producer = Producer::new(settings.clone(), format!("{name}-producer"), times, wake)?;
        let readers = Readers::new(readers::Parts {
            config: settings.reader(*read_committed, *prefetch_bytes)?,
            name: format!("{name}-reader"),
            clock: Arc::clone(&parts.clock),
            helper: parts.helper.clone(),
            inbox: Arc::clone(&parts.inbox),
        });
        let reports = Reports::new(name.clone());
        let Parts { clock, inbox, lease, inputs, .. } = parts;
        Ok(Self {
            clock,
            inbox,
            lease,
            epoch: 0,
            inputs,
            owned: HashMap::new(),
            readers,
            producer,
            events: VecDeque::new(),
            scratch: Scratch::default(),
            reports,
        })
    }

    /// Waits until something may have happened, at the latest at `until`: an event, records, acknowledgements.
    /// May return for nothing. What an earlier [`Log::take`] left in place does not count as something new.
    pub async fn changed(&mut self, until: Option<Mono>) {
        if !self.events.is_empty() || !self.inbox.is_empty() {
            return;
        }
        let mut wait = until.map(|until| until.since((self.clock)()));
        let mut at_most = |limit: Duration| wait = Some(wait.map_or(limit, |wait| wait.min(limit)));
        if self.producer.in_flight() > 0 {
            at_most(POLL_DELIVERIES);
        }
        if !self.owned.is_empty() || !self.readers.is_empty() {
            at_most(POLL_ANYWAY);
        }
        match wait {
            Some(wait) if wait.is_zero() => {}
            // Either way it is time to look.
            Some(wait) => drop(tokio::time::timeout(wait, self.inbox.wake.notified()).await),
            None => self.inbox.wake.notified().await,
        }
    }

    /// Records that were produced and are not answered yet.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.producer.in_flight()
    }

    fn on_message(&mut self, message: ToCore) -> Option<LogEvent> {
        match message {
            ToCore::Assigned { assignment, mut queue, base, metadata } => {
                let (input, topic, partition) =
                    (assignment.input, Arc::clone(&assignment.topic), assignment.partition);
                let readable = Arc::new(AtomicBool::new(true));
                let (flag, wake) = (Arc::clone(&readable), Arc::clone(&self.inbox.wake));
                queue.set_wake(move || {
                    flag.store(true, Ordering::Release);
                    wake.notify_one();
                });
                self.owned.insert(input, Owned { assignment, queue, readable, polled: (self.clock)() });
                Some(LogEvent::Assigned { input, topic, partition, base, metadata })
            }
            ToCore::Revoking { input, by } => {
                self.owned.contains_key(&input).then_some(LogEvent::Revoking { input, by })
            }
            ToCore::Lost { input, why } => {
                self.let_go(input)?;
                Some(LogEvent::Lost { input, why })
            }
            ToCore::Epoch(epoch) => {
                self.epoch = epoch;
                None
            }
            ToCore::ReadFrom { input, offset } => {
                let why = self.readers.on_read_from(input, offset)?;
                Some(LogEvent::Ended { input, why })
            }
        }
    }

    /// Drops a partition's queue, and only then tells the control thread.
    fn let_go(&mut self, input: Input) -> Option<Arc<Assignment>> {
        let Owned { assignment, queue, .. } = self.owned.remove(&input)?;
        drop(queue);
        assignment.let_go();
        Some(assignment)
    }

    fn ended(&mut self, input: Input, why: Option<Ended>) {
        if let Some(why) = why {
            self.events.push_back(LogEvent::Ended { input, why });
        }
    }
}

impl Drop for KafkaLog {
    fn drop(&mut self) {
        for (_, Owned { assignment, queue, .. }) in self.owned.drain() {
            drop(queue);
            assignment.let_go();
            assignment.release();
        }
    }
}

impl Log for KafkaLog {
    fn next_event(&mut self) -> Option<LogEvent> {
        // Losses first: nothing is more urgent.
        while let Some(message) = self.inbox.pop() {
            if let Some(event) = self.on_message(message) {
                return Some(event);
            }
        }
        self.events.pop_front().or_else(|| self.producer.next_event())
    }

    fn take(&mut self, input: Input, max: usize, sink: &mut dyn FnMut(RecordRef<'_>)) -> usize {
        if max == 0 {
            return 0;
        }
        let Some(owned) = self.owned.get_mut(&input) else {
            let (taken, ended) = self.readers.take(input, max, &mut self.scratch, sink);
            self.ended(input, ended);
            return taken;
        };
        let now = (self.clock)();
        // Cleared before polling, so that what comes meanwhile is not overlooked.
        if !owned.readable.swap(false, Ordering::AcqRel) && now.since(owned.polled) < POLL_ANYWAY {
            return 0;
        }
        owned.polled = now;
        let mut taken = 0;
        let (scratch, reports) = (&mut self.scratch, &self.reports);
        let seen = owned.queue.drain(max, Duration::ZERO, &mut |polled| match polled {
            Polled::Record(record) => {
                taken += 1;
                scratch.hand_over(&record, sink);
            }
            Polled::End(_) => {}
            Polled::Failed(_, text) => {
                if reports.due(&text) {
                    tracing::warn!(
                        topic = &*owned.assignment.topic,
                        partition = owned.assignment.partition.0,
                        "reading: {text}; trying again"
                    );
                }
            }
        });
        if seen >= max {
            owned.readable.store(true, Ordering::Release);
        }
        taken
    }

    fn open(&mut self, topic: &str, partition: Partition, from: ReadFrom, to: Option<Offset>) -> Input {
        let input = Input(self.inputs.fetch_add(1, Ordering::Relaxed));
        let ended = self.readers.open(input, topic, partition, from, to);
        self.ended(input, ended);
        input
    }

    fn close(&mut self, input: Input) {
        if self.readers.contains(input) {
            self.readers.close(input);
            self.events
                .retain(|event| !matches!(event, LogEvent::Ended { input: ended, .. } if *ended == input));
        }
    }

    fn produce(&mut self, token: Token, record: OutRecord<'_>) -> Result<(), Full> {
        self.producer.produce(token, record)
    }

    fn flush(&mut self) {
        self.producer.flush();
    }

    fn commit(&mut self, input: Input, offset: Offset, metadata: String) {
        if let Some(owned) = self.owned.get(&input) {
            owned.assignment.set_commit(offset, metadata);
        }
    }

    fn release(&mut self, input: Input) {
        if let Some(assignment) = self.let_go(input) {
            assignment.release();
        }
    }

    fn lease(&self) -> Mono {
        self.lease.until_in(self.epoch)
    }
}

/// Memory for a record's headers, used again for the next record.
#[derive(Default)]
pub(crate) struct Scratch(Vec<(&'static str, &'static [u8])>);

impl Scratch {
    pub(crate) fn hand_over(&mut self, record: &Record<'_>, sink: &mut dyn FnMut(RecordRef<'_>)) {
        let mut headers = recycled(std::mem::take(&mut self.0));
        sink(record.with_headers(&mut headers));
        self.0 = recycled(headers);
    }
}

/// An empty list in the memory of another, whatever that borrowed: collecting in place keeps the allocation.
fn recycled<'a, 'b>(mut list: Vec<(&'a str, &'a [u8])>) -> Vec<(&'b str, &'b [u8])> {
    list.clear();
    list.into_iter().map(|_| ("", [].as_slice())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headers_memory_is_used_again() {
        let text = String::from("name");
        let list = vec![(text.as_str(), text.as_bytes()); 100];
        let at = list.as_ptr().addr();
        let list: Vec<(&'static str, &'static [u8])> = recycled(list);
        assert_eq!((list.len(), list.as_ptr().addr()), (0, at));
    }
}
