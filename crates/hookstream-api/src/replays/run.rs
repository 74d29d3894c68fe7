//! Carries replays out: reads what is selected, and makes jobs of it.
//!
//! One replica does, the one that has the partition of `hookstream.commands`; how far each replay has got stands in its record,
//! so the next one goes on from there. Two that think they lead make the same jobs twice, which the sender recognises by
//! delivery and run; the one that loses is told by the revision of the record.
//!
//! A replay never floods a webhook: [`Window`] bounds what is on its way, and decisions are read in `hookstream.attempts` to know
//! what has arrived. So the log is the queue, and live events find lanes that are not full.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hookstream_config::writer::WriteError;
use hookstream_config::{Base, Change, ConfigWriter, Expected, Follower, Refused};
use hookstream_core::config::{View, Webhook};
use hookstream_core::decision::Decision;
use hookstream_core::event::EventAttributes;
use hookstream_core::job::{Job, JobState};
use hookstream_core::ledger::Entry;
use hookstream_core::matching::{Interest, is_matched};
use hookstream_core::replay::{Picked, Progress, Replay, ReplayState, Selection, Span, Windows};
use hookstream_history::Outcome;
use hookstream_log::OutRecord;
use hookstream_log::appender::{Appender, NotAppended};
use hookstream_log::fetch::{At, FetchError, Fetcher};
use hookstream_log::scan::{OwnRecord, Scan, ScanSpec, Scanned, Wanted};
use hookstream_log::{KafkaError, KafkaSettings};
use hookstream_runtime::Clock;
use hookstream_types::{
    AccountUid, Chain, DeliveryId, Generation, Offset, Partition, ReplayId, UnixMillis, WebhookId,
};
use hookstream_wire::dead_letter::{self, DeadLetter};
use hookstream_wire::job::{deliveries_partition, partition_key};
use hookstream_wire::{Topics, attempt, event, job};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::history::Index;

/// Who changes a replay, as the configuration shows it.
const ACTOR: &str = "replay";
/// Replays that read a log at a time, and those of one account among them; others wait for their turn. Single deliveries
/// don't: they are done at once.
const AT_A_TIME: usize = 32;
const OF_AN_ACCOUNT: usize = 4;
/// Records that are read at a time: of half a MiB at most.
const CHUNK: i64 = 64;
/// Jobs that wait for room in windows: an event may be for thousands of webhooks.
const MOST_SELECTED: usize = 1_000;
/// What is remembered of somebody else's jobs: those of the few seconds since they last wrote down how far they were.
const MOST_DECIDED: usize = 100_000;
/// How often it is written down how far a replay has got.
const NOTE: Duration = Duration::from_secs(5);
/// How often those that wait look whether they may go on.
const LOOK: Duration = Duration::from_millis(200);
/// Before what failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);
const DEADLINE: Duration = Duration::from_secs(15);
/// By how much the clocks of brokers and of replicas may differ.
const CLOCKS_APART: Duration = Duration::from_secs(60);
/// How long those that ended are kept, and how many at most. Of those that were cancelled more: their jobs may still wait.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
const MOST_KEPT: usize = 1_000;
const MOST_CANCELLED: usize = 10_000;
/// How often what is too old is looked for.
const TIDY: Duration = Duration::from_secs(60);

/// What replays are carried out with.
pub(crate) struct Replayer {
    follower: Arc<Follower>,
    writer: ConfigWriter,
    kafka: KafkaSettings,
    topics: Arc<Topics>,
    partitions: i32,
    fetcher: Fetcher,
    appender: Appender,
    index: Index,
    clock: Clock,
}

/// Why a replay does not go on for now.
#[derive(Debug, thiserror::Error)]
enum Stopped {
    /// It was cancelled, or another replica has it.
    #[error("it is not this replica's any more")]
    Taken,
    /// It can't be carried out, whoever tries.
    #[error("{0}")]
    Impossible(String),
    #[error("what was decided before is not read in time")]
    Decisions,
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Append(#[from] NotAppended),
    #[error(transparent)]
    Write(WriteError),
    #[error(transparent)]
    Scan(#[from] KafkaError),
}

impl From<WriteError> for Stopped {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Refused {
                refused: Refused::RevisionMismatch { .. } | Refused::Ended { .. } | Refused::Missing { .. },
                ..
            } => Self::Taken,
            other => Self::Write(other),
        }
    }
}

impl Replayer {
    /// # Errors
    /// If the Kafka clients can't be made.
    pub(crate) fn new(
        base: &Base,
        writer: ConfigWriter,
        index: Index,
        clock: Clock,
    ) -> Result<Arc<Self>, KafkaError> {
        Ok(Arc::new(Self {
            follower: Arc::clone(&base.follower),
            writer,
            kafka: base.kafka.clone(),
            topics: Arc::clone(&base.topics),
            partitions: base.partitions,
            fetcher: Fetcher::new(&base.kafka)?,
            appender: Appender::start(&base.kafka)?,
            index,
            clock,
        }))
    }

    /// Carries out what there is whenever this replica leads, until it is told to stop.
    pub(crate) async fn run(self: Arc<Self>, mut leads: watch::Receiver<bool>, stop: CancellationToken) {
        let mut running: BTreeMap<ReplayId, tokio::task::AbortHandle> = BTreeMap::new();
        let mut tasks = JoinSet::new();
        let mut changed = self.follower.subscribe();
        let mut tidy_at = Instant::now();
        loop {
            let does_lead = *leads.borrow_and_update();
            if does_lead {
                for id in next(&self.waiting(), |id| running.contains_key(&id)) {
                    let replayer = Arc::clone(&self);
                    let task = tasks.spawn(async move {
                        replayer.carry_out(id).await;
                        id
                    });
                    running.insert(id, task);
                }
                if tidy_at <= Instant::now() {
                    tidy_at = Instant::now() + TIDY;
                    self.tidy().await;
                }
            } else {
                running.values().for_each(tokio::task::AbortHandle::abort);
            }
            tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = tasks.join_next(), if !tasks.is_empty() => match ended {
                    Ok(id) => drop(running.remove(&id)),
                    Err(error) => {
                        if error.is_panic() {
                            warn!(%error, "a replay broke off; it goes on");
                        }
                        running.retain(|_, task| !task.is_finished());
                    }
                },
                gone = leads.changed() => if gone.is_err() { break },
                gone = changed.changed() => if gone.is_err() { break },
                () = tokio::time::sleep_until(tidy_at), if does_lead => {}
            }
        }
        tasks.shutdown().await;
    }

    /// Those that are to be carried out, in the order in which they were asked for.
    fn waiting(&self) -> Vec<Arc<Replay>> {
        let is_waiting = |replay: &&Arc<Replay>| replay.state == ReplayState::Running;
        self.follower.look(|state| state.replays().filter(is_waiting).cloned().collect())
    }

    async fn carry_out(&self, id: ReplayId) {
        loop {
            let latest = self.follower.look(|state| state.replay(id).cloned());
            let Some(replay) = latest.filter(|replay| replay.state == ReplayState::Running) else { return };
            let mut run = Run::new(self, &replay);
            let stopped = match run.carry_out().await {
                Ok(()) => {
                    info!(replay.id = %id, sent = run.progress.sent, "the replay is done");
                    return;
                }
                Err(Stopped::Taken) => return,
                Err(Stopped::Impossible(reason)) => {
                    match run.note(ReplayState::Failed, Some(reason.clone())).await {
                        Ok(()) => {
                            warn!(replay.id = %id, reason, "the replay has failed");
                            return;
                        }
                        Err(Stopped::Taken) => return,
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            warn!(replay.id = %id, error = %Chain(&stopped), "the replay does not go on now; trying again");
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Takes out what ended long ago, and what is left of accounts that are gone.
    async fn tidy(&self) {
        let until = UnixMillis(self.clock.wall().0 - i64::try_from(KEPT.as_millis()).unwrap_or(i64::MAX));
        let old: Vec<Change> = self.follower.look(|state| {
            let (mut kept, mut cancelled) = (0, 0);
            let is_old = |replay: &&Arc<Replay>| {
                let (newer, most) = match replay.state {
                    ReplayState::Running => return false,
                    ReplayState::Cancelled => (&mut cancelled, MOST_CANCELLED),
                    ReplayState::Done | ReplayState::Failed => (&mut kept, MOST_KEPT),
                };
                *newer += 1;
                *newer > most || replay.meta.updated_at < until || state.account(replay.account).is_none()
            };
            let old = state.replays().rev().filter(is_old);
            old.map(|replay| Change::DeleteReplay { id: replay.id }).collect()
        });
        for changes in old.chunks(100) {
            if let Err(error) = self.writer.write(ACTOR, changes.to_vec()).await {
                warn!(error = %Chain(&error), "old replays are not taken out now");
                return;
            }
        }
    }
}

/// Which of those that wait are to be begun, the oldest first.
fn next(waiting: &[Arc<Replay>], is_running: impl Fn(ReplayId) -> bool) -> Vec<ReplayId> {
    let reads = |replay: &Replay| !matches!(replay.selection, Selection::Deliveries { .. });
    let mut accounts: HashMap<AccountUid, usize> = HashMap::new();
    let mut all = 0;
    for replay in waiting.iter().filter(|replay| reads(replay) && is_running(replay.id)) {
        *accounts.entry(replay.account).or_default() += 1;
        all += 1;
    }
    let mut begun = Vec::new();
    for replay in waiting.iter().filter(|replay| !is_running(replay.id)) {
        if reads(replay) {
            let of_account = accounts.entry(replay.account).or_default();
            if all >= AT_A_TIME || *of_account >= OF_AN_ACCOUNT {
                continue;
            }
            *of_account += 1;
            all += 1;
        }
        begun.push(replay.id);
    }
    begun
}

/// A job that is to be made: for which webhook.
struct Selected {
    webhook: WebhookId,
    job: Job,
}

/// One replay as it is carried out.
struct Run<'a> {
    by: &'a Replayer,
    replay: &'a Replay,
    revision: u64,
    progress: Progress,
    noted: Instant,
    windows: Windows,
    decisions: Option<Scan>,
    /// What was made by who had it before, and has been decided about.
    decided: HashSet<DeliveryId>,
}

impl<'a> Run<'a> {
    fn new(by: &'a Replayer, replay: &'a Replay) -> Self {
        Self {
            by,
            replay,
            revision: replay.meta.revision,
            progress: replay.progress.clone(),
            noted: Instant::now(),
            windows: Windows::default(),
            decisions: None,
            decided: HashSet::new(),
        }
    }

    async fn carry_out(&mut self) -> Result<(), Stopped> {
        let (topic, from, until) = match &self.replay.selection {
            Selection::Deliveries { deliveries } => {
                for picked in deliveries {
                    self.again(picked).await?;
                }
                return self.note(ReplayState::Done, None).await;
            }
            Selection::Events { from, until, .. } => (Arc::clone(&self.by.topics.events), *from, *until),
            Selection::DeadLetters { from, until, .. } => {
                (Arc::clone(&self.by.topics.dead_letter), *from, *until)
            }
        };
        if self.progress.spans.is_empty() {
            self.progress.spans = self.spans(&topic, from, until).await?;
            self.note(ReplayState::Running, None).await?;
        }
        if !self.replay.dry_run {
            self.listen().await?;
        }
        while !self.progress.is_read() {
            let partitions: Vec<Partition> = self.progress.spans.keys().copied().collect();
            for partition in partitions {
                self.step(&topic, partition).await?;
            }
        }
        self.note(ReplayState::Done, None).await
    }

    /// From where to where each partition is read.
    async fn spans(
        &self,
        topic: &str,
        from: UnixMillis,
        until: UnixMillis,
    ) -> Result<BTreeMap<Partition, Span>, Stopped> {
        let partitions = match (&self.replay.selection, self.replay.webhook) {
            // A webhook's stand in the partition of its deliveries.
            (Selection::DeadLetters { .. }, Some(webhook)) => {
                vec![deliveries_partition(webhook, self.by.partitions)]
            }
            _ => self.all(),
        };
        let firsts = self.by.fetcher.offsets(topic, partitions.clone(), At::Time(from)).await?;
        let ends = self.by.fetcher.offsets(topic, partitions, At::Time(until)).await?;
        let span = |(partition, first): (Partition, Offset)| {
            let end = ends.get(&partition).copied().unwrap_or(first).max(first);
            (partition, Span { first, next: first, end })
        };
        Ok(firsts.into_iter().map(span).collect())
    }

    /// Whether somebody has begun before.
    fn is_resumed(&self) -> bool {
        !self.replay.progress.spans.is_empty()
    }

    fn all(&self) -> Vec<Partition> {
        (0..self.by.partitions).map(Partition).collect()
    }

    /// Hears of what is decided about the jobs that are made. If somebody has begun before, first of what was decided since
    /// that was written down: those jobs are not made again, and nobody would decide about them a second time.
    async fn listen(&mut self) -> Result<(), Stopped> {
        let partitions = match self.replay.webhook {
            Some(webhook) => vec![deliveries_partition(webhook, self.by.partitions)],
            None => self.all(),
        };
        let (topic, fetcher) = (&self.by.topics.attempts, &self.by.fetcher);
        let ends = fetcher.offsets(topic, partitions.clone(), At::End).await?;
        let firsts = if !self.is_resumed() {
            ends.clone()
        } else {
            let noted = self.replay.meta.updated_at.0;
            let since = UnixMillis(noted - i64::try_from(CLOCKS_APART.as_millis()).unwrap_or(i64::MAX));
            fetcher.offsets(topic, partitions, At::Time(since)).await?
        };
        let mut behind: BTreeMap<Partition, Offset> = ends;
        behind.retain(|partition, end| firsts.get(partition).is_some_and(|first| first < end));
        let spec =
            ScanSpec { only_those: true, waiting: 2, ..ScanSpec::new(&**topic, firsts, Wanted::Values) };
        let mut scan = Scan::start(&self.by.kafka, spec)?;
        while !behind.is_empty() {
            let scanned = tokio::time::timeout(DEADLINE, scan.next()).await;
            let Ok(Some(Scanned::Batch { partition, next, records, .. })) = scanned else {
                return Err(Stopped::Decisions);
            };
            self.decided.extend(decisions(&records, self.replay.run).map(|decision| decision.delivery));
            if behind.get(&partition).is_some_and(|end| next >= *end) {
                behind.remove(&partition);
            }
        }
        self.decisions = Some(scan);
        Ok(())
    }

    /// Reads on in a partition, and hands on what is selected.
    async fn step(&mut self, topic: &str, partition: Partition) -> Result<(), Stopped> {
        let Some(span) = self.progress.spans.get(&partition).copied() else { return Ok(()) };
        let count = (span.end.0 - span.next.0).min(CHUNK);
        let Ok(wanted @ 1..) = usize::try_from(count) else { return Ok(()) };
        let records = self.by.fetcher.fetch(topic, partition, span.next, wanted, DEADLINE).await?;
        let view = self.by.follower.view();
        let mut selected = VecDeque::new();
        for record in records {
            self.progress.looked += 1;
            match self.replay.selection {
                Selection::DeadLetters { .. } => selected.extend(self.dead(record, &view).await),
                Selection::Events { .. } => selected.extend(self.event(record, &view)?),
                Selection::Deliveries { .. } => {}
            }
            if selected.len() >= MOST_SELECTED {
                self.hand_on(std::mem::take(&mut selected)).await?;
            }
        }
        self.hand_on(selected).await?;
        self.progress.spans.insert(partition, Span { next: Offset(span.next.0 + count), ..span });
        if self.noted.elapsed() >= NOTE {
            self.note(ReplayState::Running, None).await?;
        }
        self.is_mine()
    }

    /// What an event is selected for.
    fn event(&self, record: OwnRecord, view: &View) -> Result<Vec<Selected>, Stopped> {
        let Some((attributes, data)) = self.read(record) else { return Ok(Vec::new()) };
        let mut selected = Vec::new();
        let mut select = |webhook: &Webhook| {
            let delivery = DeliveryId::of(attributes.event, webhook.id);
            let job = Job {
                state: self.state(delivery, webhook.id, view.offset),
                event: Arc::clone(&attributes),
                data: data.clone(),
            };
            selected.push(Selected { webhook: webhook.id, job });
        };
        match self.replay.webhook {
            None => view.index().matches(&attributes, &data, |webhook| select(webhook)),
            Some(id) => {
                let webhook = view.webhook(id).ok_or_else(|| gone("the webhook is deleted"))?;
                if !is_matched(webhook.state) {
                    return Err(gone("the webhook is not published any more"));
                }
                if Interest::from(&**webhook).mismatches(&attributes, &data).is_empty() {
                    select(webhook);
                }
            }
        }
        Ok(selected)
    }

    /// An event of the account and of a selected type.
    fn read(&self, record: OwnRecord) -> Option<(Arc<EventAttributes>, Bytes)> {
        let (attributes, _) = event::decode(&record.header_refs()).ok()?;
        let is_selected =
            attributes.account == self.replay.account && self.replay.selection.takes(&attributes.event_type);
        is_selected.then(|| (Arc::new(attributes), Bytes::from(record.value)))
    }

    /// A dead letter, if it is selected and its delivery is still dead.
    async fn dead(&self, record: OwnRecord, view: &View) -> Option<Selected> {
        let Selection::DeadLetters { reason, .. } = &self.replay.selection else { return None };
        let header = record.headers.iter().find(|(name, _)| name == dead_letter::HEADER)?;
        let why: DeadLetter = serde_json::from_slice(&header.1).ok()?;
        let mut job = job::decode(&record.value).ok()?;
        let webhook = job.state.webhook;
        let is_selected = job.event.account == self.replay.account
            && self.replay.webhook.is_none_or(|wanted| wanted == webhook)
            && reason.is_none_or(|reason| reason == why.reason)
            && self.replay.selection.takes(&job.event.event_type)
            && view.webhook(webhook).is_some_and(|webhook| is_matched(webhook.state));
        if !is_selected || !self.is_still_dead(job.state.delivery).await {
            return None;
        }
        job.state = self.state(job.state.delivery, webhook, view.offset);
        Some(Selected { webhook, job })
    }

    /// What the history does not know, or can't tell now, is taken for dead: it is better delivered twice than not at all.
    async fn is_still_dead(&self, delivery: DeliveryId) -> bool {
        let Some(history) = self.by.index.history() else { return true };
        match history.execution(Some(self.replay.account), delivery).await {
            Ok(Some((execution, _))) => execution.outcome == Outcome::Dead,
            Ok(None) | Err(_) => true,
        }
    }

    /// One delivery once more.
    async fn again(&mut self, picked: &Picked) -> Result<(), Stopped> {
        let topic = &self.by.topics.events;
        let records = self.by.fetcher.fetch(topic, picked.partition, picked.offset, 1, DEADLINE).await?;
        self.progress.looked += 1;
        let found = records.into_iter().next().and_then(|record| self.read(record));
        let is_same = |(event, _): &(Arc<EventAttributes>, Bytes)| {
            DeliveryId::of(event.event, picked.webhook) == picked.delivery
        };
        let Some((event, data)) = found.filter(is_same) else {
            return Err(gone("the event's data is not kept any more"));
        };
        self.progress.selected += 1;
        if !self.replay.dry_run {
            let config = self.by.follower.view().offset;
            let state = self.state(picked.delivery, picked.webhook, config);
            self.append(&[Selected { webhook: picked.webhook, job: Job { state, event, data } }]).await?;
        }
        Ok(())
    }

    fn state(&self, delivery: DeliveryId, webhook: WebhookId, config: Offset) -> JobState {
        let generation = Generation { run: self.replay.run, n: 0 };
        JobState { generation, ..JobState::new(delivery, webhook, config) }
    }

    /// Makes jobs as their webhooks' windows have room for them.
    async fn hand_on(&mut self, mut selected: VecDeque<Selected>) -> Result<(), Stopped> {
        self.progress.selected += selected.len() as u64;
        if self.replay.dry_run {
            return Ok(());
        }
        while !selected.is_empty() {
            let mut ready = Vec::new();
            while let Some(next) = selected.front() {
                if self.decided.remove(&next.job.state.delivery) {
                    self.progress.sent += 1;
                    selected.pop_front();
                    continue;
                }
                if !self.windows.take(next.webhook, next.job.state.delivery, self.by.clock.mono()) {
                    break;
                }
                ready.extend(selected.pop_front());
            }
            if !ready.is_empty() {
                self.append(&ready).await?;
            }
            // What has been decided meanwhile is taken note of; it is waited for only if there is no room.
            self.hear(!selected.is_empty()).await?;
        }
        Ok(())
    }

    async fn append(&mut self, selected: &[Selected]) -> Result<(), Stopped> {
        let encoded: Vec<(Vec<u8>, [u8; 36], Partition)> = selected
            .iter()
            .map(|Selected { webhook, job }| {
                let mut value = Vec::new();
                job::append(job, &mut value);
                (value, partition_key(*webhook), deliveries_partition(*webhook, self.by.partitions))
            })
            .collect();
        let records: Vec<OutRecord<'_>> = encoded
            .iter()
            .map(|(value, key, partition)| OutRecord {
                topic: &self.by.topics.deliveries,
                partition: *partition,
                key: Some(key),
                value: Some(value),
                headers: &[],
            })
            .collect();
        self.by.appender.append(&records).await?;
        self.progress.sent += records.len() as u64;
        Ok(())
    }

    /// Takes note of decisions; if `wait`, of one at least, or of nothing for a while.
    async fn hear(&mut self, wait: bool) -> Result<(), Stopped> {
        let mut patience = if wait { LOOK } else { Duration::ZERO };
        let is_resumed = self.is_resumed();
        while let Some(scan) = &mut self.decisions {
            let Ok(scanned) = tokio::time::timeout(patience, scan.next()).await else { break };
            let Some(Scanned::Batch { records, .. }) = scanned else { break };
            let mut heard = false;
            for decision in decisions(&records, self.replay.run) {
                if self.windows.decided(decision.delivery, &decision.verdict) {
                    heard = true;
                } else if is_resumed && self.decided.len() < MOST_DECIDED {
                    self.decided.insert(decision.delivery);
                }
            }
            if heard {
                patience = Duration::ZERO;
            }
        }
        if wait {
            self.is_mine()?;
        }
        Ok(())
    }

    /// Whether it still runs.
    fn is_mine(&self) -> Result<(), Stopped> {
        let id = self.replay.id;
        let state = self.by.follower.look(|state| state.replay(id).map(|replay| replay.state));
        if state == Some(ReplayState::Running) { Ok(()) } else { Err(Stopped::Taken) }
    }

    /// Writes down how far it has got.
    async fn note(&mut self, state: ReplayState, reason: Option<String>) -> Result<(), Stopped> {
        let change = Change::SetReplay {
            id: self.replay.id,
            state,
            reason,
            progress: self.progress.clone(),
            expected: Expected::Revision(self.revision),
        };
        let applied = self.by.writer.write(ACTOR, vec![change]).await?;
        self.by.follower.reached(applied.offset).await;
        self.revision += 1;
        self.noted = Instant::now();
        Ok(())
    }
}

/// What was decided about the jobs of a run.
fn decisions(records: &[OwnRecord], run: i64) -> impl Iterator<Item = Decision> {
    let entries = records.iter().filter_map(|record| attempt::decode(&record.value).ok());
    let all = entries.flat_map(|entry| match entry {
        Entry::Decisions { decisions, .. } => decisions,
        Entry::Owner(_) => Vec::new(),
    });
    all.filter(move |decision| decision.generation.run == run)
}

fn gone(reason: &str) -> Stopped {
    Stopped::Impossible(reason.to_owned())
}

#[cfg(test)]
mod tests {
    use hookstream_core::config::Meta;
    use uuid::Uuid;

    use super::*;

    fn replay(n: u128, account: u128, selection: Selection) -> Arc<Replay> {
        Arc::new(Replay {
            id: ReplayId(Uuid::from_u128(n)),
            run: 1,
            by: String::new(),
            account: AccountUid(Uuid::from_u128(account)),
            webhook: None,
            selection,
            dry_run: false,
            state: ReplayState::Running,
            reason: None,
            progress: Progress::default(),
            meta: Meta::default(),
        })
    }

    #[test]
    fn nobody_takes_all_places_and_single_deliveries_need_none() {
        let events =
            || Selection::Events { from: UnixMillis(0), until: UnixMillis(1), event_types: Vec::new() };
        let single = || Selection::Deliveries { deliveries: Vec::new() };
        // One account with many, then many accounts with one, then a single delivery.
        let mut waiting: Vec<_> = (0..50).map(|n| replay(n, 1, events())).collect();
        waiting.extend((50..150).map(|n| replay(n, n, events())));
        waiting.push(replay(150, 1, single()));
        let numbers = |ids: Vec<ReplayId>| -> Vec<u128> { ids.iter().map(|id| id.0.as_u128()).collect() };
        let begun = numbers(next(&waiting, |_| false));
        let expected: Vec<u128> = (0..4).chain(50..78).chain([150]).collect();
        assert_eq!(begun, expected);
        let is_running = |id: ReplayId| expected.contains(&id.0.as_u128());
        assert_eq!(numbers(next(&waiting, is_running)), Vec::<u128>::new());
        // One ended: the next of the account that has room goes on.
        let is_running = |id: ReplayId| id.0.as_u128() != 2 && expected.contains(&id.0.as_u128());
        assert_eq!(numbers(next(&waiting, is_running)), [2]);
    }
}
