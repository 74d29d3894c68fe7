//! The broker's state, shared by all connections.
//!
//! The map of topics is read by every request and rarely changed: whoever changes it swaps it. What is coordinated
//! (groups, transactions, the journal) is behind one lock, which is held for short, pure work and for writes to the
//! page cache; only making topics takes longer. **Lock order:** coordination, then a partition's log.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use kafka_protocol::ResponseError;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::durability::Durability;
use crate::faults::Faults;
use crate::groups::message::Answer;
use crate::groups::{self, Groups};
use crate::journal::{Entry, Journal};
use crate::topics::{self, Configs, Partition, Topic, Topics};
use crate::transactions::{Claim, Ending, Producer, Transactions};
use crate::{Settings, StartError};

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Broker {
    pub settings: Settings,
    pub cluster_id: String,
    pub durability: Durability,
    pub faults: Arc<Faults>,
    topics: RwLock<Arc<Topics>>,
    coordination: Mutex<Coordination>,
    /// There is a deadline before the one that is waited for.
    sooner: Notify,
    maintaining: Mutex<()>,
    started: Instant,
}

/// Groups, transactions, and the record of them.
#[derive(Debug)]
pub(crate) struct Coordination {
    pub groups: Groups,
    pub transactions: Transactions,
    journal: Journal,
    /// Requests that wait for their group.
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
    next_token: u64,
    producers_recorded: i64,
    /// When the next deadline is looked at, in milliseconds since the start.
    awaited: u64,
}

/// What a restart finds.
#[derive(Default)]
struct Restored {
    cluster_id: Option<String>,
    topics: BTreeMap<String, (Uuid, i32, Configs)>,
    transactions: Transactions,
    groups: Vec<groups::journal::Entry>,
}

impl Restored {
    fn take(&mut self, entry: Entry) {
        match entry {
            Entry::Cluster { id } => self.cluster_id = Some(id),
            Entry::Topic { name, id, partitions, configs } => {
                self.topics.insert(name, (id, partitions, configs));
            }
            Entry::TopicDeleted { name } => drop(self.topics.remove(&name)),
            Entry::Producers { next } => self.transactions.skip_producers_below(next),
            Entry::Transaction(transaction) => self.transactions.restore(transaction),
            Entry::Group(entry) => self.groups.push(entry),
        }
    }
}

/// How often logs are looked at for what may be deleted or compacted.
const MAINTENANCE: Duration = Duration::from_secs(15);
/// Producer ids are recorded in blocks, so that not each costs a line.
const PRODUCER_BLOCK: i64 = 1000;

impl Broker {
    /// Opens the data directory.
    pub(crate) fn open(settings: Settings, faults: Arc<Faults>) -> Result<Self, StartError> {
        let dir = settings.data_dir.clone();
        std::fs::create_dir_all(&dir).map_err(|source| StartError::DataDir { dir: dir.clone(), source })?;
        let (mut journal, entries) = Journal::open(&dir)?;
        let mut restored = Restored::default();
        entries.into_iter().for_each(|entry| restored.take(entry));
        let Restored { cluster_id, topics: recorded, transactions, groups: entries } = restored;

        let now_ms = wall_ms();
        let mut topics = Topics::new();
        for (name, (id, partitions, configs)) in recorded {
            let topic = Topic::open(&dir, &name, id, partitions, configs, now_ms)?;
            topics.insert(name, Arc::new(topic));
        }
        topics::remove_strangers(&dir, &topics);
        let cluster_id = match cluster_id {
            Some(id) => id,
            None => {
                let id = fresh_cluster_id();
                journal.append(&[Entry::Cluster { id: id.clone() }])?;
                id
            }
        };
        let coordination = Coordination {
            groups: Groups::restore(settings.groups.clone(), 0, entries),
            producers_recorded: transactions.next_producer(),
            transactions,
            journal,
            waiting: HashMap::new(),
            next_token: 0,
            awaited: 0,
        };
        Ok(Self {
            durability: Durability::new(settings.fsync),
            settings,
            cluster_id,
            faults,
            topics: RwLock::new(Arc::new(topics)),
            coordination: Mutex::new(coordination),
            sooner: Notify::new(),
            maintaining: Mutex::new(()),
            started: Instant::now(),
        })
    }

    /// Milliseconds since the start.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    // --- topics ---

    pub(crate) fn topics(&self) -> Arc<Topics> {
        Arc::clone(&self.topics.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    pub(crate) fn partition(&self, topic: &str, index: i32) -> Option<Arc<Partition>> {
        self.topic(topic)?.partition(index).cloned()
    }

    /// Makes a topic known, or what it is made of now. `coordination` keeps others from changing topics meanwhile.
    pub(crate) fn put_topic(&self, coordination: &mut Coordination, topic: Topic) -> Arc<Topic> {
        let topic = Arc::new(topic);
        let entry = Entry::Topic {
            name: topic.name.clone(),
            id: topic.id,
            partitions: topic.count(),
            configs: topic.configs.clone(),
        };
        self.record(coordination, &[entry]);
        self.swap_topics(|topics| drop(topics.insert(topic.name.clone(), Arc::clone(&topic))));
        topic
    }

    /// Deletes a topic, with its offsets; its files are left to the caller, who holds the lock.
    pub(crate) fn delete_topic(&self, coordination: &mut Coordination, name: &str) -> Option<Arc<Topic>> {
        let topic = self.topic(name)?;
        self.record(coordination, &[Entry::TopicDeleted { name: name.to_owned() }]);
        coordination.groups.topic_deleted(self.now(), name);
        self.settle(coordination);
        self.swap_topics(|topics| drop(topics.remove(name)));
        // Who waits for records learns that there are none.
        topic.partitions.iter().for_each(|partition| partition.grown());
        Some(topic)
    }

    fn swap_topics(&self, change: impl FnOnce(&mut Topics)) {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut topics));
    }

    // --- coordination ---

    /// For who changes groups, transactions or topics; what it changed is recorded by [`Broker::settle`].
    pub(crate) fn coordination(&self) -> MutexGuard<'_, Coordination> {
        // What panicked in it was a bug; the clients' retries are a better answer than a broker that is stuck.
        self.coordination.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records what was changed, and sends the answers that are ready. Returns what to wait for until the change may
    /// be acknowledged.
    pub(crate) fn settle(&self, coordination: &mut Coordination) -> u64 {
        let mut entries: Vec<Entry> =
            coordination.transactions.take_changed().into_iter().map(Entry::Transaction).collect();
        entries.extend(coordination.groups.drain_journal().into_iter().map(Entry::Group));
        let next = coordination.transactions.next_producer();
        if next > coordination.producers_recorded {
            coordination.producers_recorded = next + PRODUCER_BLOCK;
            entries.push(Entry::Producers { next: coordination.producers_recorded });
        }
        let ticket = self.record(coordination, &entries);
        while let Some((token, answer)) = coordination.groups.next_answer() {
            // Its client may be gone.
            if let Some(waiting) = coordination.waiting.remove(&token) {
                drop(waiting.send(answer));
            }
        }
        if self.next_deadline(coordination) < coordination.awaited {
            self.sooner.notify_one();
        }
        ticket
    }

    fn record(&self, coordination: &mut Coordination, entries: &[Entry]) -> u64 {
        // A heartbeat, or a waiting join: nothing to be written, let alone synced.
        if entries.is_empty() && !coordination.journal.is_to_be_rewritten() {
            return self.durability.latest();
        }
        let rewritten = if coordination.journal.is_to_be_rewritten() {
            let state = self.state(coordination);
            coordination.journal.rewrite(&state)
        } else {
            Ok(())
        };
        // Also after a rewriting: what is about to change is not in the state yet, and the same again does no harm.
        let written = rewritten.and_then(|()| coordination.journal.append(entries));
        if let Err(error) = &written {
            tracing::error!("the journal can't be written, so nothing is acknowledged: {error}");
        }
        self.durability.set_unwritten(written.is_err());
        self.durability.journaled(&coordination.journal)
    }

    /// The entries that give the present state.
    fn state(&self, coordination: &Coordination) -> Vec<Entry> {
        let mut entries = vec![
            Entry::Cluster { id: self.cluster_id.clone() },
            Entry::Producers { next: coordination.producers_recorded },
        ];
        entries.extend(self.topics().values().map(|topic| Entry::Topic {
            name: topic.name.clone(),
            id: topic.id,
            partitions: topic.count(),
            configs: topic.configs.clone(),
        }));
        entries.extend(coordination.transactions.all().cloned().map(Entry::Transaction));
        entries.extend(coordination.groups.snapshot().into_iter().map(Entry::Group));
        entries
    }

    /// Does something with the groups, at a time. Returns with it what to wait for until it may be acknowledged.
    pub(crate) fn with_groups<T>(&self, change: impl FnOnce(&mut Groups, u64) -> T) -> (T, u64) {
        let mut coordination = self.coordination();
        let done = change(&mut coordination.groups, self.now());
        (done, self.settle(&mut coordination))
    }

    /// Asks a group for something that may take a while; `ask` gets the time and a name for the answer. A question
    /// that is dropped is withdrawn.
    pub(crate) async fn ask_group(&self, ask: impl FnOnce(&mut Groups, u64, u64)) -> Option<Answer> {
        let (token, answer) = {
            let mut coordination = self.coordination();
            let token = coordination.next_token;
            coordination.next_token += 1;
            let (sender, answer) = oneshot::channel();
            coordination.waiting.insert(token, sender);
            ask(&mut coordination.groups, self.now(), token);
            self.settle(&mut coordination);
            (token, answer)
        };
        let question = Question { broker: self, token };
        let answered = answer.await.ok();
        drop(question);
        answered
    }

    // --- transactions ---

    /// Gives a transactional id to a producer, after ending what its predecessor has open.
    pub(crate) async fn claim(&self, claim: Claim<'_>) -> Result<(Producer, u64), ResponseError> {
        // Who it has to be: the fence below makes its predecessor, which it may be itself, another one.
        let mut expected = claim;
        loop {
            let ending = {
                let mut coordination = self.coordination();
                match coordination.transactions.before_claim(expected)? {
                    Some(ending) => ending,
                    None => {
                        let producer = coordination.transactions.claim(claim);
                        return Ok((producer, self.settle(&mut coordination)));
                    }
                }
            };
            expected.known = expected.known.map(|_| ending.producer);
            self.complete(&ending).await?;
        }
    }

    /// Ends a transaction, and waits until that may be acknowledged.
    pub(crate) async fn end_transaction(
        &self,
        id: &str,
        producer: Producer,
        commit: bool,
    ) -> Result<(), ResponseError> {
        let ending = self.coordination().transactions.end(id, producer, commit)?;
        match ending {
            Some(ending) => self.complete(&ending).await,
            // It has ended so before.
            None => self.wait_for_all().await,
        }
    }

    /// Carries out what is decided. The decision is durable before any marker and the markers before the end, so that
    /// no crash divides the transaction. What fails, or is dropped with its connection, is done by the watch.
    async fn complete(&self, ending: &Ending) -> Result<(), ResponseError> {
        self.wait_for_all().await?;
        self.write_markers(ending)?;
        self.wait_for_all().await?;
        {
            let mut coordination = self.coordination();
            if coordination.transactions.is_decided(ending) {
                coordination.groups.end_txn(self.now(), ending.producer.id, ending.commit);
                coordination.transactions.ended(&ending.id);
            }
        }
        self.wait_for_all().await
    }

    /// Waits until everything that was changed so far may be acknowledged. The error makes a client ask again.
    async fn wait_for_all(&self) -> Result<(), ResponseError> {
        let ticket = self.settle(&mut self.coordination());
        self.durability.settled(ticket).await.map_err(|_| ResponseError::CoordinatorNotAvailable)
    }

    /// Writes the markers that are not there yet, unless the transaction has been ended by somebody else meanwhile.
    fn write_markers(&self, ending: &Ending) -> Result<(), ResponseError> {
        let coordination = self.coordination();
        if !coordination.transactions.is_decided(ending) {
            return Ok(());
        }
        let now_ms = wall_ms();
        let Producer { id, epoch } = ending.producer;
        for (topic, index) in &ending.partitions {
            // A topic that is deleted needs no marker.
            let Some(partition) = self.partition(topic, *index) else { continue };
            let mut log = partition.log();
            if !log.has_open_transaction(id) {
                log.fence(id, epoch, now_ms);
                continue;
            }
            log.append_marker(id, epoch, ending.commit, now_ms).map_err(|error| {
                tracing::error!(
                    topic,
                    partition = index,
                    "a transaction's marker can't be written; trying again: {error}"
                );
                ResponseError::CoordinatorNotAvailable
            })?;
            drop(log);
            self.durability.wrote(&partition);
            partition.grown();
        }
        Ok(())
    }

    /// Carries out what was decided and is not ended: before a crash, by the watch, or for a client that is gone.
    async fn complete_all(&self) {
        let unfinished = self.coordination().transactions.unfinished();
        for ending in unfinished {
            // What failed was reported, and stays unfinished: it is tried again.
            self.complete(&ending).await.ok();
        }
    }

    // --- what happens by itself ---

    /// Ends sessions, rebalances and transactions that take too long, until told to stop.
    pub(crate) async fn watch_deadlines(&self, stop: &CancellationToken) {
        self.complete_all().await;
        loop {
            let wait = {
                let mut coordination = self.coordination();
                coordination.awaited = self.next_deadline(&coordination);
                Duration::from_millis(coordination.awaited.saturating_sub(self.now()))
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.sooner.notified() => {}
                () = tokio::time::sleep(wait) => self.on_deadline().await,
            }
        }
    }

    /// When something of groups or transactions is due, in milliseconds since the start.
    fn next_deadline(&self, coordination: &Coordination) -> u64 {
        const AT_MOST_MS: u64 = 3_600_000;
        // Most are ended at once by who decided them.
        const UNFINISHED_MS: u64 = 500;
        let now = self.now();
        let unfinished = coordination.transactions.has_unfinished().then(|| now + UNFINISHED_MS);
        let transactions = coordination
            .transactions
            .next_deadline_ms()
            .map(|at| now.saturating_add(u64::try_from(at.saturating_sub(wall_ms())).unwrap_or(0)));
        let next =
            coordination.groups.next_deadline().into_iter().chain(transactions).chain(unfinished).min();
        // A millisecond more, for what is cut off above.
        next.unwrap_or(u64::MAX).min(now.saturating_add(AT_MOST_MS)) + 1
    }

    async fn on_deadline(&self) {
        {
            let mut coordination = self.coordination();
            coordination.groups.poll(self.now());
            for ending in coordination.transactions.time_out(wall_ms()) {
                tracing::warn!(transactional_id = ending.id, "a transaction took too long and is aborted");
            }
            self.settle(&mut coordination);
        }
        self.complete_all().await;
    }

    /// Deletes and compacts what topics no longer keep, until told to stop.
    pub(crate) async fn maintain(self: &Arc<Self>, stop: &CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(MAINTENANCE) => {}
            }
            let broker = Arc::clone(self);
            // An error means that the runtime is ending.
            drop(tokio::task::spawn_blocking(move || broker.maintain_once(wall_ms())).await);
        }
    }

    pub(crate) fn maintain_once(&self, now_ms: i64) {
        let _one_at_a_time = self.maintaining.lock().unwrap_or_else(PoisonError::into_inner);
        for topic in self.topics().values() {
            for (index, partition) in topic.partitions.iter().enumerate() {
                if let Err(error) = partition.maintain(now_ms) {
                    let topic = &topic.name;
                    tracing::error!(topic, partition = index, "the log can't be cleaned: {error}");
                }
            }
        }
    }
}

/// Somebody waits for an answer of a group.
struct Question<'a> {
    broker: &'a Broker,
    token: u64,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        let mut coordination = self.broker.coordination();
        // An answer that came took it out.
        if coordination.waiting.remove(&self.token).is_some() {
            coordination.groups.forget(self.token);
            self.broker.settle(&mut coordination);
        }
    }
}

/// Milliseconds since 1970.
pub(crate) fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Cluster ids are 22 characters of URL-safe base64, as Kafka's; of a v4 UUID only letters and digits are used.
fn fresh_cluster_id() -> String {
    Uuid::new_v4().simple().to_string().chars().take(22).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A topic whose entry alone makes the journal too long.
    fn large(broker: &Broker, name: &str) -> Topic {
        let configs = Configs::from([("filler".to_owned(), "x".repeat(5 * 1024 * 1024))]);
        Topic::open(&broker.settings.data_dir, name, Uuid::new_v4(), 1, configs, 0).unwrap()
    }

    #[test]
    fn what_makes_the_journal_be_rewritten_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings::new(dir.path(), ([127, 0, 0, 1], 0).into());
        let broker = Broker::open(settings.clone(), Arc::default()).unwrap();
        for name in ["a", "b", "c"] {
            let topic = large(&broker, name);
            broker.put_topic(&mut broker.coordination(), topic);
        }
        let names = |broker: &Broker| broker.topics().keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&broker), ["a", "b", "c"]);
        let again = Broker::open(settings, Arc::default()).unwrap();
        assert_eq!(names(&again), ["a", "b", "c"]);
        assert_eq!(again.cluster_id, broker.cluster_id);
    }
}
