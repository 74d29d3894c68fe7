//! What a simulated process holds in its hands: the log, the way out, and the books' observer.

use std::sync::Arc;

use hookstream_core::exchange::{Exchange, Failure, FailureKind, Request, Timings};
use hookstream_core::job::Job;
use hookstream_core::sender::End;
use hookstream_log::{Ended, Full, Input, Log, LogEvent, OutRecord, ReadFrom, RecordRef, Token};
use hookstream_sender::{Egress, Observer, RequestKey};
use hookstream_types::{Mono, Now, Offset, Partition, limits};

use super::cluster::{InputState, Life, LogId, Payload, Shared};

/// One group membership of one life.
#[derive(Clone, Debug)]
pub struct SimLog {
    pub(super) shared: Shared,
    pub(super) id: LogId,
    pub(super) life: Life,
}

impl Log for SimLog {
    fn next_event(&mut self) -> Option<LogEvent> {
        let mut cluster = self.shared.borrow_mut();
        if let Some(event) = cluster.logs[self.id].queue.pop_front() {
            if let LogEvent::Assigned { input, .. } = &event
                && let Some(state) = cluster.logs[self.id].inputs.get_mut(input)
            {
                state.known = true;
            }
            return Some(event);
        }
        // A reader that has given all it has.
        let log = &mut cluster.logs[self.id];
        let (input, _) = log.inputs.iter().find(|(_, state)| {
            state.is_reader && !state.ended && state.to.is_some_and(|to| state.next >= to)
        })?;
        let input = *input;
        log.inputs.remove(&input);
        Some(LogEvent::Ended { input, why: Ended::Complete })
    }

    fn take(&mut self, input: Input, max: usize, sink: &mut dyn FnMut(RecordRef<'_>)) -> usize {
        let mut cluster = self.shared.borrow_mut();
        let now = cluster.now;
        let calm = cluster.calm;
        // Now and then an offset comes twice.
        let rewind = if !calm && cluster.rng.per_10_000(50) { cluster.rng.between(1, 4) } else { 0 };
        let cluster = &mut *cluster;
        let Some(state) = cluster.logs[self.id].inputs.get_mut(&input) else { return 0 };
        let partition = &cluster.topics[&state.tp];
        let seen = state.next;
        if !state.is_reader {
            let rewind = i64::try_from(rewind).expect("small");
            state.next = (state.next - rewind).max(state.base).max(partition.start);
        }
        let to = state.to.unwrap_or(i64::MAX);
        let batch: Vec<_> = partition
            .from(state.next)
            .iter()
            .take_while(|record| record.visible <= now && record.offset.0 < to)
            .take(max)
            .cloned()
            .collect();
        match batch.last() {
            Some(last) => state.next = last.offset.0 + 1,
            // Retention may have deleted up to the end.
            None if state.is_reader => state.next = state.next.max(partition.start),
            None => {}
        }
        let taken = batch.len();
        let again = batch.iter().take_while(|record| record.offset.0 < seen).count();
        cluster.faults.reread += again as u64;
        // The sink may look at the clock: nothing is borrowed while it runs.
        for record in batch {
            sink(RecordRef {
                offset: record.offset,
                timestamp: record.at,
                key: record.payload.key.as_deref(),
                value: record.payload.value.as_deref(),
                headers: &record.payload.headers(),
            });
        }
        taken
    }

    fn open(&mut self, topic: &str, partition: Partition, from: ReadFrom, to: Option<Offset>) -> Input {
        let mut cluster = self.shared.borrow_mut();
        let input = cluster.fresh_input();
        let tp = (Arc::from(topic), partition.0);
        let Some(log) = cluster.topics.get(&tp) else {
            cluster.tell(self.id, LogEvent::Ended { input, why: Ended::Failed });
            return input;
        };
        let next = match from {
            ReadFrom::Offset(offset) => offset.0.max(log.start),
            ReadFrom::Beginning => log.start,
            ReadFrom::Time(time) => log
                .records
                .iter()
                .find(|record| record.at >= time)
                .map_or_else(|| log.end(), |record| record.offset.0),
        };
        let state = InputState {
            tp,
            base: next,
            next,
            to: to.map(|to| to.0),
            is_reader: true,
            known: true,
            ended: false,
        };
        cluster.logs[self.id].inputs.insert(input, state);
        input
    }

    fn close(&mut self, input: Input) {
        self.shared.borrow_mut().logs[self.id].inputs.remove(&input);
    }

    fn produce(&mut self, token: Token, record: OutRecord<'_>) -> Result<(), Full> {
        let mut cluster = self.shared.borrow_mut();
        if !cluster.calm && cluster.rng.per_10_000(20) {
            return Err(Full);
        }
        let tp = (Arc::from(record.topic), record.partition.0);
        cluster.produce(self.id, token, tp, Payload::of(&record));
        Ok(())
    }

    fn commit(&mut self, input: Input, offset: Offset, metadata: String) {
        self.shared.borrow_mut().commit(self.id, input, offset, metadata);
    }

    fn release(&mut self, input: Input) {
        self.shared.borrow_mut().release(self.id, input);
    }

    fn lease(&self) -> Mono {
        let cluster = self.shared.borrow();
        if cluster.logs[self.id].inputs.values().all(|input| input.is_reader || !input.known) {
            return Mono(0);
        }
        let half = u64::try_from(limits::SESSION_TIMEOUT.as_micros() / 2).expect("short");
        Mono(cluster.logs[self.id].last_contact + half + cluster.lives[self.life].mono_offset)
    }
}

/// The endpoints, as one life sees them.
#[derive(Clone, Debug)]
pub(super) struct SimEgress {
    pub(super) shared: Shared,
    pub(super) life: Life,
}

impl Egress for SimEgress {
    fn start(&mut self, key: RequestKey, request: &Arc<Request>) {
        self.shared.borrow_mut().request(self.life, key, request.deadline);
    }

    fn cut(&mut self, key: RequestKey) {
        let mut cluster = self.shared.borrow_mut();
        let life = &mut cluster.lives[self.life];
        if life.requests.remove(&key).is_some() {
            let failure = Failure { kind: FailureKind::Timeout, message: "cut".to_owned() };
            life.done.push_back((key, Exchange { result: Err(failure), timings: Timings::default() }));
            cluster.woken.insert(self.life);
        }
    }

    fn forget(&mut self, key: RequestKey) {
        self.shared.borrow_mut().lives[self.life].requests.remove(&key);
    }

    fn next_done(&mut self) -> Option<(RequestKey, Exchange)> {
        self.shared.borrow_mut().lives[self.life].done.pop_front()
    }
}

/// Tells the books what a life does.
#[derive(Clone, Debug)]
pub(super) struct SimObserver {
    pub(super) shared: Shared,
    pub(super) life: Life,
    pub(super) group: usize,
    pub(super) deliveries: Arc<str>,
}

impl Observer for SimObserver {
    fn started(&mut self, partition: Partition, job: &Job, _now: Now) {
        let mut cluster = self.shared.borrow_mut();
        let owner = cluster.owner_life(self.group, &(self.deliveries.clone(), partition.0));
        let (now, broker) = (cluster.now, cluster.broker_now());
        let life = self.life;
        let is_owner = owner == Some(life);
        cluster.books.on_start(life, is_owner, partition.0, job, now, broker);
        cluster.starting = Some((job.state.delivery, job.state.generation, job.state.webhook));
    }

    fn ended(&mut self, job: &Job, _end: &End, _exchange: &Exchange, _now: Now) {
        let mut cluster = self.shared.borrow_mut();
        let life = self.life;
        cluster.books.on_end(life, job);
    }
}
