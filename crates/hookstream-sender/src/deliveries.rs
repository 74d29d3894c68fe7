//! Drives the owners of one thread's partitions of `deliveries` over a log and a way out.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hookstream_core::clock::BrokerClock;
use hookstream_core::config::{View, Webhook};
use hookstream_core::decision::{DeadReason, Decision, RejectReason};
use hookstream_core::exchange::{Exchange, Failure, FailureKind, Request, Timings};
use hookstream_core::job::Job;
use hookstream_core::ledger::{CommitNote, Entry};
use hookstream_core::mutant::{self, Mutant};
use hookstream_core::outcome::Outcome;
use hookstream_core::redact::Redactor;
use hookstream_core::request::Prepared;
use hookstream_core::sender::{Effect, End, LaneCounts, Observed, Owner, Rejected, Rules};
use hookstream_log::{Ended, Input, Log, LogEvent, ReadFrom};
use hookstream_types::{Chain, Mono, Now, Offset, OwnerId, Partition, UnixMillis, WebhookId};
use hookstream_wire::command::{Command, Disable};
use hookstream_wire::dead_letter::{self, DeadLetter};
use hookstream_wire::{Topics, attempt, job};
use rustc_hash::FxHashMap;

use crate::outbox::{Outbox, Outgoing, Settled};
use crate::retries::{At, Partitions, TOO_LARGE_AGAIN, put_off, reject};

/// Names a request: the assignment and the job's offset in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestKey {
    pub input: Input,
    pub offset: Offset,
}

/// The way out to the endpoints. Nothing blocks.
pub trait Egress {
    /// Sends a request; its end comes from [`Egress::next_done`].
    fn start(&mut self, key: RequestKey, request: &Arc<Request>);

    /// Ends a request: [`Egress::next_done`] reports a time-out.
    fn cut(&mut self, key: RequestKey);

    /// Ends a request of which nobody wants to hear any more.
    fn forget(&mut self, key: RequestKey);

    /// The next request that ended.
    fn next_done(&mut self) -> Option<(RequestKey, Exchange)>;
}

/// Hears of what happens, for metrics and for the simulation's books.
pub trait Observer {
    fn started(&mut self, _partition: Partition, _job: &Job, _now: Now) {}
    fn ended(&mut self, _job: &Job, _end: &End, _exchange: &Exchange, _now: Now) {}
    fn decided(&mut self, _partition: Partition, _decision: &Decision) {}
    fn buried(&mut self, _reason: DeadReason) {}
    fn rejected(&mut self, _reason: RejectReason) {}
    fn observed(&mut self, _what: Observed) {}
}

struct Slot {
    topic: Arc<str>,
    partition: Partition,
    owner: Owner,
    /// Readers of the ledger and of the window, while they run.
    ledger: Option<Input>,
    window: Option<Input>,
}

#[derive(Clone, Copy)]
enum Reading {
    Ledger { from: Option<Offset>, to: Offset },
    Window { from: UnixMillis, to: Offset },
}

struct Context {
    request: Arc<Request>,
    route: Arc<Route>,
    started_at: UnixMillis,
}

/// A webhook made ready for many requests.
struct Route {
    webhook: Arc<Webhook>,
    prepared: Result<Prepared, String>,
    redactor: Redactor,
}

impl Route {
    fn new(webhook: &Arc<Webhook>, user_agent: &str) -> Self {
        let prepared =
            Prepared::new(Arc::clone(webhook), user_agent).map_err(|error| Chain(&error).to_string());
        Self { webhook: Arc::clone(webhook), prepared, redactor: Redactor::new(webhook) }
    }
}

/// Routes kept at most; beyond, all are made anew.
const MAX_ROUTES: usize = 10_000;

/// Records taken in one turn: answers that have come must not wait long, or endpoints look slow that are not.
const RECORDS_PER_TURN: usize = 256;
/// Of those, what each partition may take at least.
const LEAST_SHARE: usize = 8;
/// What a crowded partition may take while answers come.
const CROWDED_SHARE: usize = 4;

/// All partitions of `deliveries` that one thread owns.
pub struct Deliveries<L, E, O> {
    log: L,
    egress: E,
    observer: O,
    topics: Arc<Topics>,
    rules: Arc<Rules>,
    partitions: Partitions,
    clock: Arc<BrokerClock>,
    view: Arc<View>,
    user_agent: Arc<str>,
    /// Between 0 and 1.
    jitter: Box<dyn FnMut() -> f64>,
    fresh_id: Box<dyn FnMut() -> OwnerId>,
    slots: BTreeMap<Input, Slot>,
    readers: FxHashMap<Input, (Input, Reading)>,
    requests: FxHashMap<RequestKey, Context>,
    routes: FxHashMap<WebhookId, Arc<Route>>,
    outbox: Outbox,
    /// Records were left where they are although there is room for them.
    more: bool,
    /// The windows of partitions that went: only a mutant keeps them.
    windows: BTreeMap<Partition, hookstream_core::dedupe::Window>,
}

impl<L: fmt::Debug, E, O> fmt::Debug for Deliveries<L, E, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deliveries")
            .field("log", &self.log)
            .field("slots", &self.slots.len())
            .finish_non_exhaustive()
    }
}

/// What a driver is made of, beside the log and the ways out.
pub struct Parts {
    pub topics: Arc<Topics>,
    pub rules: Arc<Rules>,
    pub partitions: Partitions,
    pub clock: Arc<BrokerClock>,
    pub view: Arc<View>,
    pub user_agent: Arc<str>,
    /// Gives a number between 0 and 1.
    pub jitter: Box<dyn FnMut() -> f64>,
    /// Gives an id that was never used.
    pub fresh_id: Box<dyn FnMut() -> OwnerId>,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

impl<L: Log, E: Egress, O: Observer> Deliveries<L, E, O> {
    #[must_use]
    pub fn new(log: L, egress: E, observer: O, parts: Parts) -> Self {
        Self {
            log,
            egress,
            observer,
            topics: parts.topics,
            rules: parts.rules,
            partitions: parts.partitions,
            clock: parts.clock,
            view: parts.view,
            user_agent: parts.user_agent,
            jitter: parts.jitter,
            fresh_id: parts.fresh_id,
            slots: BTreeMap::new(),
            readers: FxHashMap::default(),
            requests: FxHashMap::default(),
            routes: FxHashMap::default(),
            outbox: Outbox::default(),
            more: false,
            windows: BTreeMap::new(),
        }
    }

    /// The configuration has changed. A view never goes back.
    pub fn set_view(&mut self, view: Arc<View>) {
        if view.offset >= self.view.offset {
            self.view = view;
        }
    }

    /// The part of its time that this thread is idle, from 0 to 1.
    pub fn set_idle(&mut self, idle: f64) {
        for slot in self.slots.values_mut() {
            slot.owner.set_idle(idle);
        }
    }

    /// Everything that can be done now.
    pub fn step(&mut self, now: Now) {
        let mut fx = Vec::new();
        self.more = false;
        while let Some(event) = self.log.next_event() {
            self.on_event(event, now, &mut fx);
        }
        let mut answered = false;
        while let Some((key, exchange)) = self.egress.next_done() {
            answered = true;
            self.on_done(key, &exchange, now, &mut fx);
        }
        self.read_readers();
        let lease = self.log.lease();
        self.outbox.poll(&mut self.log, lease, now.mono);
        let inputs: Vec<Input> = self.slots.keys().copied().collect();
        let share = (RECORDS_PER_TURN / inputs.len().max(1)).max(LEAST_SHARE);
        for input in inputs {
            self.take(input, share, answered, now, &mut fx);
            if let Some(slot) = self.slots.get_mut(&input) {
                let now = Now { broker: self.clock.now(now.mono), ..now };
                slot.owner.poll(&self.view, lease, now, &mut fx);
            }
            self.apply(input, &mut fx, now);
        }
        self.log.flush();
        self.more &= self.slots.values().any(|slot| slot.owner.room() > 0) || !self.readers.is_empty();
    }

    /// When [`Deliveries::step`] has something to do even if nothing happens.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        if self.more {
            return Some(Mono(0));
        }
        self.slots
            .values()
            .filter_map(|slot| slot.owner.next_deadline())
            .chain(self.outbox.next_deadline())
            .min()
    }

    /// The config offset that a job waits for.
    #[must_use]
    pub fn awaits(&self) -> Option<Offset> {
        self.slots.values().filter_map(|slot| slot.owner.awaits()).max()
    }

    /// Requests under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.requests.len()
    }

    /// Partitions that are held.
    #[must_use]
    pub fn partitions(&self) -> usize {
        self.slots.len()
    }

    /// How the lanes of all partitions are.
    #[must_use]
    pub fn lanes(&self) -> LaneCounts {
        self.slots.values().map(|slot| slot.owner.lanes()).fold(LaneCounts::default(), |sum, counts| {
            LaneCounts {
                open: sum.open + counts.open,
                busy: sum.busy + counts.busy,
                queued: sum.queued + counts.queued,
            }
        })
    }

    /// Whether every partition that is held is being worked on.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.slots.values().all(|slot| slot.owner.is_running())
    }

    /// Whether no partition is held any more.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.slots.is_empty()
    }

    pub fn log(&mut self) -> &mut L {
        &mut self.log
    }

    pub fn egress(&mut self) -> &mut E {
        &mut self.egress
    }

    pub fn observer(&mut self) -> &mut O {
        &mut self.observer
    }

    fn on_event(&mut self, event: LogEvent, now: Now, fx: &mut Vec<Effect>) {
        match event {
            LogEvent::Assigned { input, topic, partition, base, metadata } => {
                let note = metadata.as_deref().and_then(|text| read_note(text, partition));
                let mut owner = Owner::new(Arc::clone(&self.rules), (self.fresh_id)(), base, note);
                if let Some(window) = self.windows.remove(&partition) {
                    owner.adopt_window(window);
                }
                let slot = Slot { topic, partition, owner, ledger: None, window: None };
                self.slots.insert(input, slot);
            }
            LogEvent::Revoking { input, by } => match self.slots.get_mut(&input) {
                Some(slot) => {
                    slot.owner.drain(by, fx);
                    self.apply(input, fx, now);
                }
                None => self.log.release(input),
            },
            LogEvent::Lost { input, .. } => self.drop_slot(input),
            LogEvent::Produced { token, result } => match self.outbox.on_produced(token, result, now.mono) {
                Some(Settled::Appended { input, tag, ack }) => {
                    if let Some(stamped) = ack.appended_at {
                        self.clock.sample(stamped, now.mono);
                    }
                    if let Some(slot) = self.slots.get_mut(&input) {
                        let now = Now { broker: self.clock.now(now.mono), ..now };
                        slot.owner.on_appended(tag, ack.offset, now, fx);
                        self.apply(input, fx, now);
                    }
                }
                // Its size was checked at the edge, with room for what each hop adds: an operator has lowered the
                // topic's limit. It is kept and tried again, so that nothing is lost.
                Some(Settled::TooLarge(record)) => {
                    tracing::error!(
                        topic = %record.topic,
                        bytes = record.value.len(),
                        "the topic's max.message.bytes is too small for this record: raise it"
                    );
                    self.outbox.send_later(*record, now.mono + TOO_LARGE_AGAIN);
                }
                None => {}
            },
            LogEvent::Ended { input, why } => self.on_reader_end(input, why, now, fx),
        }
    }

    fn drop_slot(&mut self, input: Input) {
        let Some(slot) = self.slots.remove(&input) else { return };
        self.outbox.forget(input);
        for reader in [slot.ledger, slot.window].into_iter().flatten() {
            self.readers.remove(&reader);
            self.log.close(reader);
        }
        let mut keys: Vec<RequestKey> =
            self.requests.keys().filter(|key| key.input == input).copied().collect();
        keys.sort_unstable();
        for key in keys {
            self.requests.remove(&key);
            self.egress.forget(key);
        }
        if mutant::on(Mutant::WindowKeptAcrossRevoke) {
            let mut window = slot.owner.into_window();
            window.forget_offsets();
            self.windows.insert(slot.partition, window);
        }
    }

    fn read_readers(&mut self) {
        /// Records of a reader per turn.
        const BATCH: usize = 1_000;
        if self.readers.is_empty() {
            return;
        }
        let mut readers: Vec<(Input, Input, Reading)> =
            self.readers.iter().map(|(reader, (owner, what))| (*reader, *owner, *what)).collect();
        readers.sort_unstable_by_key(|(reader, ..)| *reader);
        for (reader, input, what) in readers {
            let Some(slot) = self.slots.get_mut(&input) else { continue };
            let owner = &mut slot.owner;
            let taken = self.log.take(reader, BATCH, &mut |record| match what {
                Reading::Ledger { .. } => match attempt::decode(record.value.unwrap_or_default()) {
                    Ok(entry) => owner.on_ledger(record.offset, entry),
                    Err(error) => tracing::warn!(
                        kafka.offset = record.offset.0,
                        error = %Chain(&error),
                        "passed over a record of the attempts topic that is no ledger entry"
                    ),
                },
                Reading::Window { .. } => {
                    if let Ok(job) = job::decode(record.value.unwrap_or_default()) {
                        owner.on_window(record.timestamp, &job.state, &job.data);
                    }
                }
            });
            self.more |= taken == BATCH;
        }
    }

    fn on_reader_end(&mut self, reader: Input, why: Ended, now: Now, fx: &mut Vec<Effect>) {
        let Some((input, what)) = self.readers.remove(&reader) else { return };
        if why == Ended::Failed {
            self.read(input, what);
            return;
        }
        let Some(slot) = self.slots.get_mut(&input) else { return };
        match what {
            Reading::Ledger { .. } => {
                slot.ledger = None;
                slot.owner.on_ledger_end(now);
            }
            Reading::Window { .. } => {
                slot.window = None;
                slot.owner.on_window_end(now);
            }
        }
        self.apply(input, fx, now);
    }

    fn read(&mut self, input: Input, what: Reading) {
        let Some(slot) = self.slots.get_mut(&input) else { return };
        let (topic, from, to) = match what {
            Reading::Ledger { from, to } => {
                (&self.topics.attempts, from.map_or(ReadFrom::Beginning, ReadFrom::Offset), to)
            }
            Reading::Window { from, to } => (&self.topics.deliveries, ReadFrom::Time(from), to),
        };
        let reader = self.log.open(topic, slot.partition, from, Some(to));
        match what {
            Reading::Ledger { .. } => slot.ledger = Some(reader),
            Reading::Window { .. } => slot.window = Some(reader),
        }
        self.readers.insert(reader, (input, what));
    }

    fn take(&mut self, input: Input, share: usize, answered: bool, now: Now, fx: &mut Vec<Effect>) {
        let Some(slot) = self.slots.get_mut(&input) else { return };
        // Of a crowded partition's next records most have to be put off: that must not hold up those under way.
        let most = if slot.owner.is_crowded() && answered { CROWDED_SHARE } else { share };
        let room = slot.owner.room().min(most);
        if room == 0 {
            return;
        }
        let (owner, clock, view) = (&mut slot.owner, &self.clock, &self.view);
        let taken = self.log.take(input, room, &mut |record| {
            clock.sample(record.timestamp, now.mono);
            let now = Now { broker: clock.now(now.mono), ..now };
            match job::decode(record.value.unwrap_or_default()) {
                Ok(job) => owner.on_record(record.offset, record.timestamp, job, view, now, fx),
                Err(error) => {
                    let raw = Bytes::copy_from_slice(record.value.unwrap_or_default());
                    let message = Chain(&error).to_string();
                    owner.on_bad_record(record.offset, record.timestamp, raw, message, now, fx);
                }
            }
        });
        self.more |= taken == room;
    }

    fn on_done(&mut self, key: RequestKey, exchange: &Exchange, now: Now, fx: &mut Vec<Effect>) {
        let Some(context) = self.requests.remove(&key) else { return };
        self.finish(key, &context, exchange, now, fx);
    }

    fn finish(
        &mut self,
        key: RequestKey,
        context: &Context,
        exchange: &Exchange,
        now: Now,
        fx: &mut Vec<Effect>,
    ) {
        let Some(slot) = self.slots.get_mut(&key.input) else { return };
        let Some(job) = slot.owner.job(key.offset) else { return };
        let route = &context.route;
        let end = End::of(exchange, &route.webhook, now.wall);
        self.observer.ended(job, &end, exchange, now);
        let revision = route.webhook.revision;
        let unlisted = route.webhook.log_only_errors && end.outcome == Outcome::Delivered;
        let (request, started_at) = (&context.request, context.started_at);
        let redactor = &route.redactor;
        let record =
            attempt::Attempt::of(job, request, exchange, started_at, revision, unlisted, redactor).encode();
        let now = Now { broker: self.clock.now(now.mono), ..now };
        // Few need it, and chance is not free.
        let jitter = if matches!(end.outcome, Outcome::Retry { .. }) { (self.jitter)() } else { 0.0 };
        slot.owner.on_exchange(key.offset, &end, &self.view, now, jitter, fx);
        self.apply_with(key.input, fx, now, Some(&record));
    }

    fn apply(&mut self, input: Input, fx: &mut Vec<Effect>, now: Now) {
        self.apply_with(input, fx, now, None);
    }

    fn apply_with(
        &mut self,
        input: Input,
        fx: &mut Vec<Effect>,
        now: Now,
        exchange: Option<&attempt::Encoded>,
    ) {
        while !fx.is_empty() {
            for effect in std::mem::take(fx) {
                self.carry_out(input, effect, now, exchange, fx);
            }
        }
    }

    fn carry_out(
        &mut self,
        input: Input,
        effect: Effect,
        now: Now,
        exchange: Option<&attempt::Encoded>,
        fx: &mut Vec<Effect>,
    ) {
        let Some(slot) = self.slots.get_mut(&input) else { return };
        match effect {
            Effect::Append { tag, entry, attempt_of } => {
                if let Entry::Decisions { decisions, .. } = &entry {
                    for decision in decisions {
                        self.observer.decided(slot.partition, decision);
                    }
                }
                let mut value = Vec::new();
                attempt::encode(&entry, attempt_of.and(exchange), &mut value);
                let record = Outgoing {
                    topic: Arc::clone(&self.topics.attempts),
                    partition: slot.partition,
                    key: Vec::new(),
                    value,
                    headers: Vec::new(),
                    input,
                    tag,
                };
                self.outbox.send(&mut self.log, record, now.mono);
            }
            Effect::PutOff { tag, rung, jobs } => {
                let record = put_off(&self.topics, self.partitions.retry, rung, &jobs, input, tag);
                self.outbox.send(&mut self.log, record, now.mono);
            }
            Effect::Bury { tag, job, reason } => {
                self.observer.buried(reason);
                let mut value = Vec::new();
                job::append(&job, &mut value);
                let record = Outgoing {
                    topic: Arc::clone(&self.topics.dead_letter),
                    partition: job::deliveries_partition(job.state.webhook, self.partitions.other),
                    key: job::partition_key(job.state.webhook).to_vec(),
                    value,
                    headers: vec![(dead_letter::HEADER, DeadLetter::of(&job, reason).to_json())],
                    input,
                    tag,
                };
                self.outbox.send(&mut self.log, record, now.mono);
            }
            Effect::Disable { tag, webhook, reason } => {
                let record = self.disable(&webhook, reason, now, input, tag);
                self.outbox.send(&mut self.log, record, now.mono);
            }
            Effect::Reject { tag, offset, raw, reason, message } => {
                self.observer.rejected(reason);
                let at = At { topic: &slot.topic, partition: slot.partition, offset };
                let mut value = Vec::new();
                let raw: &[u8] = match &raw {
                    Rejected::Bytes(bytes) => bytes,
                    Rejected::Job(job) => {
                        job::append(job, &mut value);
                        &value
                    }
                };
                let record =
                    reject(&self.topics, self.partitions.other, at, raw, reason, &message, input, tag);
                self.outbox.send(&mut self.log, record, now.mono);
            }
            Effect::Start { offset, webhook } => self.start(RequestKey { input, offset }, webhook, now, fx),
            Effect::Cut { offset } => self.egress.cut(RequestKey { input, offset }),
            Effect::ReadLedger { from, to } => self.read(input, Reading::Ledger { from, to }),
            Effect::ReadWindow { from, to } => self.read(input, Reading::Window { from, to }),
            Effect::Commit { base, note } => {
                let note = serde_json::to_string(&note).expect("numbers and an id are JSON");
                self.log.commit(input, base, note);
            }
            Effect::Drained => {
                self.drop_slot(input);
                self.log.release(input);
            }
            Effect::Observed(what) => self.observer.observed(what),
        }
    }

    fn start(&mut self, key: RequestKey, webhook: Arc<Webhook>, now: Now, fx: &mut Vec<Effect>) {
        let Some(slot) = self.slots.get(&key.input) else { return };
        let Some(job) = slot.owner.job(key.offset) else { return };
        self.observer.started(slot.partition, job, now);
        let route = match self.routes.get(&webhook.id) {
            Some(route) if Arc::ptr_eq(&route.webhook, &webhook) => Arc::clone(route),
            Some(_) | None => {
                if self.routes.len() >= MAX_ROUTES {
                    self.routes.clear();
                }
                let route = Arc::new(Route::new(&webhook, &self.user_agent));
                self.routes.insert(webhook.id, Arc::clone(&route));
                route
            }
        };
        let request = match &route.prepared {
            Ok(prepared) => prepared.request(job, now.wall).map_err(|error| Chain(&error).to_string()),
            Err(message) => Err(message.clone()),
        };
        match request {
            Ok(request) => {
                let request = Arc::new(request);
                self.egress.start(key, &request);
                self.requests.insert(key, Context { request, route, started_at: now.wall });
            }
            Err(message) => {
                let request = Request {
                    account: webhook.account,
                    method: webhook.method,
                    url: Arc::from(webhook.url.as_str()),
                    headers: Vec::new(),
                    body: Bytes::new(),
                    deadline: Duration::ZERO,
                    tls: None,
                    token: None,
                };
                let failure = Failure { kind: FailureKind::Unsendable, message };
                let exchange = Exchange { result: Err(failure), timings: Timings::default() };
                let context = Context { request: Arc::new(request), route, started_at: now.wall };
                self.finish(key, &context, &exchange, now, fx);
            }
        }
    }

    fn disable(&self, webhook: &Webhook, reason: DeadReason, now: Now, input: Input, tag: u64) -> Outgoing {
        let command = Command::Disable(Disable {
            webhook: webhook.id,
            revision: webhook.revision,
            url: webhook.url.clone(),
            reason: reason.label().to_owned(),
            at: now.wall,
        });
        Outgoing {
            topic: Arc::clone(&self.topics.commands),
            partition: Partition(0),
            key: command.key(),
            value: command.encode(),
            headers: Vec::new(),
            input,
            tag,
        }
    }
}

/// A note that can't be read is as good as none: the ledger is read from its beginning then.
fn read_note(text: &str, partition: Partition) -> Option<CommitNote> {
    if text.is_empty() {
        return None;
    }
    match serde_json::from_str(text) {
        Ok(note) => Some(note),
        Err(error) => {
            tracing::warn!(kafka.partition = partition.0, error = %error, "a committed offset's metadata is not ours");
            None
        }
    }
}
