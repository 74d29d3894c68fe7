//! The writer's log on Kafka.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use hookstream_log::fenced::{Claimant, FencedWriter, Outcome};
use hookstream_log::tail::Tail;
use hookstream_log::{KafkaError, KafkaSettings, OutRecord, RecordRef};
use hookstream_types::{Mono, Offset, Partition, UnixMillis};
use hookstream_wire::Topics;
use hookstream_wire::config::WRITE_HEADER;

use crate::envelope::os_random;
use crate::state::State;
use crate::writer::{
    ConfigWriter, Fault, Ledger, LedgerRecord, Machine, NewRecord, Surroundings, transactional_id,
};

/// The topics have one partition: the order of all changes is one.
const PARTITION: Partition = Partition(0);
/// For the coordinator to end what a dead claimant had begun.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(10);
/// To read what is new, or, at the start, everything.
const READ_TIMEOUT: Duration = Duration::from_secs(15);
/// How often progress without records is looked at.
const LOOK: Duration = Duration::from_millis(1);
/// Records read and not yet taken in; the reader waits.
const READ_AHEAD: usize = 1024;

/// `hookstream.config` with its audit topic, and the claim of its writer.
#[derive(Debug)]
pub struct KafkaLedger {
    settings: KafkaSettings,
    topic: String,
    audit: Arc<str>,
    transactional_id: String,
    writer: Option<FencedWriter>,
    /// Who claims next; connects on a thread of its own, while nobody waits for it.
    claimant: Option<JoinHandle<Result<Claimant, KafkaError>>>,
    reading: Option<Reading>,
    /// After the last record that we committed, until it is read.
    committed: Option<Offset>,
}

/// The receiver stands first: dropping it frees the tail's thread, which the tail's drop waits for.
#[derive(Debug)]
struct Reading {
    records: Receiver<Owned>,
    /// Came while more was waited for.
    early: VecDeque<Owned>,
    tail: Tail,
    /// Nothing was read to the end yet.
    fresh: bool,
}

/// How far is read.
#[derive(Clone, Copy, Debug)]
enum Until {
    EndAtStart,
    End(Offset),
    Offset(Offset),
}

#[derive(Debug)]
struct Owned {
    offset: Offset,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    write: Option<Vec<u8>>,
}

impl KafkaLedger {
    #[must_use]
    pub fn new(settings: KafkaSettings, namespace: &str, topic: &str) -> Self {
        Self {
            settings,
            topic: topic.to_owned(),
            audit: Topics::audit_of(namespace),
            transactional_id: transactional_id(namespace),
            writer: None,
            claimant: None,
            reading: None,
            committed: None,
        }
    }

    /// Has a claimant connect.
    fn prepare(&mut self) {
        if self.claimant.is_some() {
            return;
        }
        let (settings, id) = (self.settings.clone(), self.transactional_id.clone());
        let connect = move || Claimant::prepare(&settings, &id, CLAIM_TIMEOUT);
        // Without a thread the claim connects itself.
        self.claimant = std::thread::Builder::new().name("config-claimant".to_owned()).spawn(connect).ok();
    }

    fn start_reading(&self) -> Result<Reading, KafkaError> {
        let (sender, records) = sync_channel(READ_AHEAD);
        let tail =
            Tail::start(&self.settings, &self.topic, PARTITION, move |record| hand_over(&sender, record))?;
        Ok(Reading { records, early: VecDeque::new(), tail, fresh: true })
    }
}

impl Ledger for KafkaLedger {
    fn claim(&mut self) -> Result<(), Fault> {
        self.writer = None;
        self.committed = None;
        // The end that a reader asked for before the claim may lack what the former claimant still committed.
        if let Some(reading) = &mut self.reading {
            reading.fresh = false;
        }
        let by = Instant::now() + CLAIM_TIMEOUT;
        let prepared = self.claimant.take();
        let has_rivals = prepared.is_some();
        let claimant = match prepared.and_then(|thread| thread.join().ok()) {
            Some(claimant) => claimant,
            None => Claimant::prepare(&self.settings, &self.transactional_id, CLAIM_TIMEOUT),
        };
        let began = Instant::now();
        let left = by.saturating_duration_since(began);
        self.writer = Some(claimant.and_then(|claimant| claimant.claim(left)).map_err(failed)?);
        tracing::debug!(has_rivals, took = ?began.elapsed(), "the right to write the configuration is claimed");
        if has_rivals {
            self.prepare();
        }
        Ok(())
    }

    fn read_to_end(&mut self, each: &mut dyn FnMut(LedgerRecord<'_>)) -> Result<(), Fault> {
        let deadline = Instant::now() + READ_TIMEOUT;
        let mut reading = match self.reading.take() {
            Some(reading) => reading,
            None => self.start_reading().map_err(failed)?,
        };
        // A reader that was just started asks for the end itself; what we committed ourselves needs no asking.
        let until = match self.committed.take() {
            Some(after) => Ok(Until::Offset(after)),
            None if reading.fresh => Ok(Until::EndAtStart),
            None => reading.tail.end().and_then(|end| end.ask()).map(Until::End).map_err(failed),
        };
        reading.early.drain(..).for_each(|record| each(record.as_ref()));
        let outcome = until.and_then(|until| reading.read(until, deadline, each));
        reading.fresh &= outcome.is_err();
        self.reading = Some(reading);
        outcome
    }

    fn wait_for_more(&mut self, most: Duration) {
        // Whom we wait for has claimed or will, so that our next write begins with a claim.
        self.prepare();
        let Some(reading) = &mut self.reading else { return std::thread::sleep(most) };
        if reading.early.is_empty() {
            reading.early.extend(reading.records.recv_timeout(most));
        }
    }

    fn commit(&mut self, records: &[NewRecord]) -> Result<(), Fault> {
        let writer = self.writer.as_mut().ok_or_else(|| Fault::Failed("nothing is claimed".into()))?;
        let headers: Vec<Vec<(&str, &[u8])>> = records
            .iter()
            .map(|record| record.headers.iter().map(|(name, value)| (*name, value.as_slice())).collect())
            .collect();
        let config = records.iter().zip(&headers);
        let config = config.map(|(record, headers)| OutRecord {
            topic: &self.topic,
            partition: PARTITION,
            key: Some(&record.key),
            value: record.value.as_deref(),
            headers,
        });
        let audit = records.iter().zip(&headers).filter_map(|(record, headers)| {
            let value = Some(record.audit.as_deref()?);
            Some(OutRecord {
                topic: &self.audit,
                partition: PARTITION,
                key: Some(&record.key),
                value,
                headers,
            })
        });
        let out: Vec<OutRecord<'_>> = config.chain(audit).collect();
        let began = Instant::now();
        let outcome = writer.write(&out);
        tracing::debug!(records = records.len(), took = ?began.elapsed(), "the configuration is written: {outcome:?}");
        match outcome {
            Outcome::Committed { offsets } => {
                // Only those of the configuration, which come first, say how far it is to be read.
                self.committed = offsets.into_iter().take(records.len()).max().map(Offset::next);
                Ok(())
            }
            Outcome::Fenced | Outcome::Unknown { is_fenced: true } => Err(Fault::Fenced),
            Outcome::Unknown { is_fenced: false } => {
                Err(Fault::Failed("the transaction's outcome is not known".into()))
            }
            Outcome::NotWritten { reason } => Err(Fault::Failed(reason.into())),
        }
    }
}

impl Reading {
    fn read(
        &self,
        until: Until,
        deadline: Instant,
        each: &mut dyn FnMut(LedgerRecord<'_>),
    ) -> Result<(), Fault> {
        loop {
            // Looked at before the records: it moves only after those below it were handed over.
            let progress = self.tail.progress();
            let is_read = match until {
                Until::EndAtStart => progress.is_caught_up(),
                Until::End(end) => progress.is_at(end),
                Until::Offset(offset) => progress.position >= offset,
            };
            while let Ok(record) = self.records.try_recv() {
                each(record.as_ref());
            }
            if is_read {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(Fault::Failed(
                    "the configuration could not be read to its end in time: is its topic there?".into(),
                ));
            }
            match self.records.recv_timeout(LOOK) {
                Ok(record) => each(record.as_ref()),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Fault::Failed("the reader of the configuration has ended".into()));
                }
            }
        }
    }
}

impl Owned {
    fn as_ref(&self) -> LedgerRecord<'_> {
        LedgerRecord {
            offset: self.offset,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            write: self.write.as_deref(),
        }
    }
}

fn hand_over(sender: &SyncSender<Owned>, record: RecordRef<'_>) {
    let owned = Owned {
        offset: record.offset,
        key: record.key.map(<[u8]>::to_vec),
        value: record.value.map(<[u8]>::to_vec),
        write: record.header(WRITE_HEADER).map(<[u8]>::to_vec),
    };
    // Nobody reads any more: the ledger is being dropped, and the tail with it.
    drop(sender.send(owned));
}

fn failed(error: KafkaError) -> Fault {
    Fault::Failed(Box::new(error))
}

/// The real clocks and randomness, for the writer's thread.
#[derive(Debug)]
pub struct System {
    started: Instant,
}

impl Default for System {
    fn default() -> Self {
        Self { started: Instant::now() }
    }
}

impl Surroundings for System {
    fn mono(&mut self) -> Mono {
        Mono(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    fn wall(&mut self) -> UnixMillis {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        os_random(bytes);
    }

    fn pause(&mut self, wait: Duration) {
        std::thread::sleep(wait);
    }
}

impl ConfigWriter {
    /// A writer of the topic `hookstream.config` of this namespace.
    ///
    /// # Errors
    /// If the operating system gives no thread. An absent broker is an answer to each write.
    pub fn on_kafka(
        settings: KafkaSettings,
        namespace: &str,
        topic: &str,
        keyring: Arc<crate::Keyring>,
    ) -> Result<Self, std::io::Error> {
        let ledger = KafkaLedger::new(settings, namespace, topic);
        Self::start(move || (Machine::new(ledger, State::new(keyring)), System::default()))
    }
}
