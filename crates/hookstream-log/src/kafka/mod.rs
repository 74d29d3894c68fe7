//! A consumer group's partitions, shared out to the cores of a process.
//!
//! One consumer per process and group. Its **control thread** polls the main queue, follows rebalances, reads
//! committed offsets, commits, and keeps the **lease**; the records of a partition go through a queue of their own
//! straight to the core `partition mod cores`, which owns a [`KafkaLog`]: its partitions' queues, an idempotent
//! producer, and readers.
//!
//! Who says what to whom: control tells a core through its [`Inbox`] that a partition is assigned, wanted back or
//! lost; a core answers through the [`Assignment`] they share: what to commit, that it released the partition, that
//! it doesn't hold its queue any more. Nothing waits for anything else; slow work (offsets, times) is done by the
//! **helper thread**.
//!
//! Invariants:
//! - A partition is not assigned again before the core that held it has let go of its queue: the queue is the
//!   same one underneath, and a record that an old input took would be missing in the new one.
//! - A partition that is revoked or lost is not committed any more, and its loss is told before its next assignment.
//! - The lease is counted from when a confirmed commit was *issued*; a core whose partitions were lost has none
//!   until it has seen the loss.

mod assignment;
mod control;
mod core;
mod helper;
mod lease;
mod producer;
mod readers;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hookstream_types::{Mono, Partition};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::BaseConsumer;

use crate::client::{KafkaSettings, MAX_POLL_INTERVAL, PREFETCH_BYTES};
use crate::error::KafkaError;

pub use self::core::KafkaLog;
pub(crate) use self::core::Scratch;

use assignment::Inbox;
use control::{Command, Control, MemberContext};
use lease::Lease;

/// A monotonic clock.
pub type Clock = Arc<dyn Fn() -> Mono + Send + Sync>;

/// Which group to join, and how.
#[derive(Clone, Debug)]
pub struct GroupSpec {
    pub group: String,
    /// Names, or patterns that start with `^` (and should end with `$`: they match anywhere in a name).
    pub topics: Vec<String>,
    /// One [`KafkaLog`] each.
    pub cores: usize,
    /// Skip records of aborted transactions, and wait for open ones.
    pub read_committed: bool,
    /// How long a partition that is wanted elsewhere may be drained.
    pub drain_timeout: Duration,
    /// How long a record is tried to be appended before its outcome is unknown.
    pub produce_timeout: Duration,
    /// How long a record may wait for others to go with it in one request.
    pub linger: Duration,
    /// About how much of each partition is fetched ahead, in memory, whether it is taken or not. Readers too.
    pub prefetch_bytes: usize,
}

impl GroupSpec {
    /// A group whose produced records can't land after a takeover: they are given up within half a session.
    #[must_use]
    pub fn new(group: impl Into<String>, topics: Vec<String>, cores: usize) -> Self {
        Self {
            group: group.into(),
            topics,
            cores,
            read_committed: true,
            drain_timeout: Duration::from_secs(25),
            produce_timeout: Duration::from_secs(4),
            linger: Duration::from_millis(1),
            prefetch_bytes: PREFETCH_BYTES,
        }
    }

    /// A group of a stage that is a function of its input: a record that lands late is the same record, so it is
    /// tried for longer than a broker takes to fail over.
    #[must_use]
    pub fn of_function(group: impl Into<String>, topics: Vec<String>, cores: usize) -> Self {
        Self { produce_timeout: Duration::from_secs(120), ..Self::new(group, topics, cores) }
    }

    fn check(&self) -> Result<(), KafkaError> {
        if self.cores == 0 {
            return Err(KafkaError::Spec("a group member needs at least one core".to_owned()));
        }
        // Half of the rest for commits and for being late.
        if self.drain_timeout > MAX_POLL_INTERVAL / 2 {
            let most = (MAX_POLL_INTERVAL / 2).as_secs();
            return Err(KafkaError::Spec(format!(
                "the group `{}` may drain for {most} s at most",
                self.group
            )));
        }
        Ok(())
    }
}

/// A partition's position in the group, as last seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lag {
    /// The offset after the last committed one.
    pub committed: i64,
    /// Where the partition ends.
    pub end: i64,
}

impl Lag {
    /// How many offsets are not committed yet.
    #[must_use]
    pub fn records(self) -> u64 {
        u64::try_from(self.end.saturating_sub(self.committed)).unwrap_or(0)
    }
}

/// Figures about a group membership.
#[derive(Clone, Debug, Default)]
pub struct GroupStats {
    /// Of the partitions that this member owns.
    pub lag: BTreeMap<(Arc<str>, Partition), Lag>,
    /// Partitions that are assigned, but whose committed offsets are not known yet.
    pub waiting: usize,
    pub rebalances: u64,
    pub commits: u64,
    pub commit_failures: u64,
    /// Times that partitions were lost: the session ended, or a drain took too long.
    pub losses: u64,
}

/// The handle to a group membership. Dropping it leaves the group as [`Group::shutdown`] does, without waiting.
#[derive(Debug)]
pub struct Group {
    commands: std::sync::mpsc::SyncSender<Command>,
    stats: Arc<Mutex<GroupStats>>,
    lease: Arc<Lease>,
    stopped: tokio::sync::watch::Receiver<bool>,
}

impl Group {
    /// Subscribes to other topics; to none is fine.
    pub fn resubscribe(&self, topics: Vec<String>) {
        // The control thread takes commands several times a second, and is gone only after a shutdown.
        drop(self.commands.send(Command::Subscribe(topics)));
    }

    #[must_use]
    pub fn stats(&self) -> GroupStats {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Until when work may start, as the group sees it: see [`crate::Log::lease`].
    #[must_use]
    pub fn lease(&self) -> Mono {
        self.lease.until()
    }

    /// Gives every partition back, with the same drain as a rebalance, and leaves the group. The cores must be
    /// driven on until it returns.
    pub async fn shutdown(mut self) {
        drop(self.commands.send(Command::Stop));
        // An error means that the thread is gone: then it has stopped.
        drop(self.stopped.wait_for(|stopped| *stopped).await);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        drop(self.commands.try_send(Command::Stop));
    }
}

/// Joins a group, and returns its handle and one log per core.
///
/// Nothing is waited for: if no broker answers, the logs have nothing to give until one does.
///
/// # Errors
/// If the settings are not taken, or threads can't be started.
pub fn join(
    settings: &KafkaSettings,
    spec: GroupSpec,
    clock: Clock,
) -> Result<(Group, Vec<KafkaLog>), KafkaError> {
    spec.check()?;
    let config = settings.member(&spec.group, spec.read_committed, spec.prefetch_bytes)?;
    let consumer = BaseConsumer::from_config_and_context(&config, MemberContext::new(&spec.group))?;
    let consumer = Arc::new(consumer);
    let lease = Arc::new(Lease::default());
    let stats = Arc::new(Mutex::new(GroupStats::default()));
    let inputs = Arc::new(AtomicU64::new(1));
    let (helper, answers) = helper::start(&spec.group, Arc::clone(&consumer))?;

    let mut inboxes = Vec::with_capacity(spec.cores);
    let mut logs = Vec::with_capacity(spec.cores);
    for core in 0..spec.cores {
        let inbox = Arc::new(Inbox::default());
        inboxes.push(Arc::clone(&inbox));
        logs.push(KafkaLog::new(core::Parts {
            settings: settings.clone(),
            name: format!("{}-{core}", spec.group),
            read_committed: spec.read_committed,
            prefetch_bytes: spec.prefetch_bytes,
            produce_timeout: spec.produce_timeout,
            linger: spec.linger,
            clock: Arc::clone(&clock),
            inbox,
            lease: Arc::clone(&lease),
            inputs: Arc::clone(&inputs),
            helper: helper.clone(),
        })?);
    }

    let (commands, received) = std::sync::mpsc::sync_channel(16);
    let (stopped_tx, stopped) = tokio::sync::watch::channel(false);
    Control::start(control::Parts {
        spec,
        clock,
        consumer,
        inboxes,
        lease: Arc::clone(&lease),
        stats: Arc::clone(&stats),
        inputs,
        helper,
        answers,
        commands: received,
        stopped: stopped_tx,
    })?;
    Ok((Group { commands, stats, lease, stopped }, logs))
}
