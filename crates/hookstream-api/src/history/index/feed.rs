//! One topic into the index.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hookstream_history::{Applied, Batch, Feed, History, HistoryError};
use hookstream_log::KafkaSettings;
use hookstream_log::admin::Admin;
use hookstream_log::scan::{Scan, ScanSpec, Scanned, Wanted};
use hookstream_runtime::HealthHandle;
use hookstream_types::{Chain, Offset, Partition};
use tokio_util::sync::CancellationToken;

use super::gather::{Gathered, cut};
use super::{Backoff, HistoryMetrics, reason};

/// For how long records are gathered: so much the lists are behind, and so seldom there is a transaction.
const GATHER: Duration = Duration::from_millis(200);
/// How often it is asked whether the topic is still the same, and how far it goes.
const CHECK: Duration = Duration::from_secs(30);
/// For asking.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Feeder {
    pub(super) feed: Feed,
    pub(super) topic: Arc<str>,
    pub(super) history: History,
    pub(super) kafka: KafkaSettings,
    pub(super) admin: Arc<Admin>,
    pub(super) health: HealthHandle,
    pub(super) metrics: HistoryMetrics,
    pub(super) stop: CancellationToken,
}

/// Why a topic is not read on.
#[derive(Debug, PartialEq, Eq)]
enum Break {
    Stopped,
    /// The index is elsewhere, or the topic is another: positions are to be asked for again.
    Anew,
    /// Records that the index has are not in the topic any more.
    CutOff,
}

impl Feeder {
    pub(super) async fn run(self) {
        let mut cut_off = false;
        let mut backoff = Backoff::new();
        loop {
            let started = Instant::now();
            match self.round(cut_off).await {
                Break::Stopped => return,
                Break::Anew => cut_off = false,
                Break::CutOff => cut_off = true,
            }
            if started.elapsed() > CHECK {
                backoff = Backoff::new();
            }
            if self.stop.run_until_cancelled(backoff.wait()).await.is_none() {
                return;
            }
        }
    }

    async fn round(&self, cut_off: bool) -> Break {
        match self.prepare(cut_off).await {
            Ok((id, positions)) => {
                // Of events there are only attributes in the index, and these are headers.
                let wanted = match self.feed {
                    Feed::Events => Wanted::Headers,
                    Feed::Attempts | Feed::Audit => Wanted::Values,
                };
                let spec = ScanSpec::new(&*self.topic, positions.clone(), wanted);
                let mut scan = match Scan::start(&self.kafka, spec) {
                    Ok(scan) => scan,
                    Err(error) => {
                        tracing::error!(error = %Chain(&error), topic = &*self.topic, "the topic can't be read");
                        self.health.unready(Chain(&error).to_string());
                        return Break::Anew;
                    }
                };
                self.health.ready();
                let ended = self.follow(&mut scan, id.as_deref(), positions).await;
                // Its thread may be waiting for a broker.
                drop(tokio::task::spawn_blocking(move || drop(scan)));
                ended
            }
            Err(ended) => ended,
        }
    }

    /// The topic's id, if brokers give ids, and from where to read.
    async fn prepare(&self, cut_off: bool) -> Result<(Option<String>, BTreeMap<Partition, Offset>), Break> {
        let id = self.topic_id().await?;
        // What comes of no topic is another than any.
        let another = cut_off && self.insist(|| self.history.follow(self.feed, "")).await?;
        // Without an id, a topic that is another is told by its being shorter alone.
        let known = id.as_deref().unwrap_or("-");
        if self.insist(|| self.history.follow(self.feed, known)).await? || another {
            self.metrics.rebuilds_total.with_label_values(&[self.feed.label()]).inc();
            tracing::warn!(
                topic = &*self.topic,
                "the topic was made anew or cut off: its index is built again"
            );
        }
        let positions = self.insist(|| self.history.positions(self.feed)).await?;
        Ok((id, positions.into_iter().map(|(partition, position)| (partition, position.next)).collect()))
    }

    /// Waits until the topic is there.
    async fn topic_id(&self) -> Result<Option<String>, Break> {
        let mut backoff = Backoff::new();
        loop {
            if let Some(id) = self.ask_id().await {
                return Ok(Some(id));
            }
            let asked = tokio::time::timeout(PATIENCE, self.admin.topics());
            match self.stop.run_until_cancelled(asked).await.ok_or(Break::Stopped)? {
                Ok(Ok(topics)) if topics.contains_key(&*self.topic) => return Ok(None),
                Ok(Ok(_)) => self.health.unready(format!("there is no topic `{}`", self.topic)),
                Ok(Err(error)) => self.health.unready(Chain(&error).to_string()),
                Err(_) => self.health.unready("Kafka does not answer"),
            }
            self.stop.run_until_cancelled(backoff.wait()).await.ok_or(Break::Stopped)?;
        }
    }

    async fn ask_id(&self) -> Option<String> {
        let topics = [&*self.topic];
        let asked = self.admin.topic_ids(&topics);
        let ids = self.stop.run_until_cancelled(tokio::time::timeout(PATIENCE, asked)).await?.ok()?.ok()?;
        ids.into_iter().next().flatten()
    }

    async fn follow(
        &self,
        scan: &mut Scan,
        id: Option<&str>,
        mut positions: BTreeMap<Partition, Offset>,
    ) -> Break {
        let mut check = tokio::time::interval(CHECK);
        check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let first = tokio::select! {
                () = self.stop.cancelled() => return Break::Stopped,
                _ = check.tick() => {
                    if let (Some(id), Some(found)) = (id, self.ask_id().await)
                        && id != found
                    {
                        return Break::Anew;
                    }
                    self.measure(&positions).await;
                    continue;
                }
                first = scan.next() => first,
            };
            let mut gathered = Gathered::default();
            let until = tokio::time::Instant::now() + GATHER;
            let mut next = first;
            loop {
                match next {
                    Some(Scanned::Batch { partition, from, next, records }) => {
                        gathered.add(partition, from, next, records);
                    }
                    Some(Scanned::Restarted { .. }) => return Break::CutOff,
                    None => return Break::Anew,
                }
                if gathered.is_full() {
                    break;
                }
                match tokio::time::timeout_at(until, scan.next()).await {
                    Ok(scanned) => next = scanned,
                    Err(_) => break,
                }
            }
            for batch in gathered.into_batches() {
                let (partition, next) = (batch.partition, batch.next);
                if let Err(ended) = self.take_in(batch).await {
                    return ended;
                }
                positions.insert(partition, next);
            }
        }
    }

    async fn take_in(&self, mut batch: Batch) -> Result<(), Break> {
        let feed = self.feed.label();
        loop {
            let started = Instant::now();
            let applied = self.insist(|| self.history.apply(self.feed, &batch)).await?;
            match applied {
                Applied::Done { rows, bad, void } => {
                    let seconds = started.elapsed().as_secs_f64();
                    self.metrics.batch_seconds.with_label_values(&[feed]).observe(seconds);
                    self.metrics.rows_total.with_label_values(&[feed]).inc_by(rows);
                    self.metrics.bad_records_total.with_label_values(&[feed]).inc_by(bad);
                    self.metrics.void_decisions_total.inc_by(void);
                    return Ok(());
                }
                // Another replica feeds the same index.
                Applied::Elsewhere { next } if next >= batch.next => return Ok(()),
                Applied::Elsewhere { next } if next > batch.from => cut(&mut batch, next),
                Applied::Elsewhere { .. } => return Err(Break::Anew),
            }
        }
    }

    /// Asks the database until it answers.
    async fn insist<T, F: Future<Output = Result<T, HistoryError>>>(
        &self,
        ask: impl Fn() -> F,
    ) -> Result<T, Break> {
        let mut backoff = Backoff::new();
        let mut failed = false;
        loop {
            // What is under way ends: a transaction that is broken off would be repeated.
            match ask().await {
                Ok(answer) => {
                    if failed {
                        self.health.ready();
                    }
                    return Ok(answer);
                }
                Err(error) => {
                    failed = true;
                    self.metrics.failures_total.with_label_values(&[self.feed.label()]).inc();
                    self.health.unready(reason(&error));
                }
            }
            self.stop.run_until_cancelled(backoff.wait()).await.ok_or(Break::Stopped)?;
        }
    }

    /// Sets the lag to what is there and not yet read.
    async fn measure(&self, positions: &BTreeMap<Partition, Offset>) {
        let Ok(Ok(topics)) = tokio::time::timeout(PATIENCE, self.admin.topics()).await else { return };
        let mut lag = 0;
        for partition in (0..topics.get(&*self.topic).copied().unwrap_or(0)).map(Partition) {
            let ended = tokio::time::timeout(PATIENCE, self.admin.end(&self.topic, partition));
            let Some(Ok(Ok(end))) = self.stop.run_until_cancelled(ended).await else { return };
            lag += end.0.saturating_sub(positions.get(&partition).map_or(0, |next| next.0)).max(0);
        }
        self.metrics.lag_records.with_label_values(&[self.feed.label()]).set(lag);
    }
}
