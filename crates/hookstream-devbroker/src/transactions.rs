//! The transaction coordinator: who may write under a transactional id, and what its transaction has touched.
//!
//! One process is all brokers, so a transaction ends in one go: the decision is recorded, the markers are written, the
//! end is recorded. After a crash in between, what is decided and not ended is ended anew (KIP-98, "Data flow").

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::ResponseError;
use serde::{Deserialize, Serialize};

/// A producer's name in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Producer {
    pub id: i64,
    pub epoch: i16,
}

/// How far a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    /// Nothing is written since the producer came.
    Empty,
    Ongoing,
    /// Decided; the markers may be written or not.
    Ending {
        commit: bool,
    },
    Ended {
        commit: bool,
    },
}

/// A transactional id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Transaction {
    pub id: String,
    pub producer: Producer,
    /// The epoch from which its producer went on to this one: the answer to that may have been lost (KIP-360).
    #[serde(default)]
    pub went_on_from: Option<i16>,
    pub timeout_ms: u64,
    pub phase: Phase,
    /// Partitions that are written to.
    pub partitions: BTreeSet<(String, i32)>,
    /// Groups whose offsets it commits.
    pub groups: BTreeSet<String>,
    /// Since when it is ongoing, in wall time: it outlives the process.
    pub since_ms: i64,
}

/// What is to be done to end a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    pub id: String,
    /// Whose transaction it is; the markers have its epoch, which may be a newer one than the writer's.
    pub producer: Producer,
    pub commit: bool,
    pub partitions: BTreeSet<(String, i32)>,
    pub groups: BTreeSet<String>,
}

/// A request for a producer id under a transactional id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim<'a> {
    pub id: &'a str,
    pub timeout_ms: i32,
    /// Who the producer was, if it goes on after an error (KIP-360).
    pub known: Option<Producer>,
}

/// All transactional ids.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    by_id: BTreeMap<String, Transaction>,
    next_producer: i64,
    /// Transactions that were changed since the last look.
    changed: BTreeSet<String>,
}

/// The longest transaction that is allowed (`transaction.max.timeout.ms`).
const MAX_TIMEOUT_MS: i32 = 15 * 60 * 1000;

type Result<T> = std::result::Result<T, ResponseError>;

impl Transactions {
    /// A producer id that nobody had.
    pub(crate) fn fresh_producer(&mut self) -> Producer {
        let id = self.next_producer;
        self.next_producer += 1;
        Producer { id, epoch: 0 }
    }

    /// What a claim has to end first, if it has: the predecessor's transaction, which is fenced by that.
    pub(crate) fn before_claim(&mut self, claim: Claim<'_>) -> Result<Option<Ending>> {
        if claim.id.is_empty() {
            return Err(ResponseError::InvalidRequest);
        }
        if claim.timeout_ms <= 0 || claim.timeout_ms > MAX_TIMEOUT_MS {
            return Err(ResponseError::InvalidTransactionTimeout);
        }
        let Some(transaction) = self.by_id.get_mut(claim.id) else { return Ok(None) };
        if let Some(known) = claim.known
            && known != transaction.producer
            && !transaction.was_answered(known)
        {
            return Err(ResponseError::ProducerFenced);
        }
        match transaction.phase {
            Phase::Ongoing => Ok(Some(self.fence(claim.id))),
            Phase::Empty | Phase::Ended { .. } => Ok(None),
            Phase::Ending { .. } => Err(ResponseError::ConcurrentTransactions),
        }
    }

    /// Gives the id to a new producer, whose epoch is above all before. A repetition is answered as before.
    pub(crate) fn claim(&mut self, claim: Claim<'_>) -> Producer {
        if let (Some(known), Some(transaction)) = (claim.known, self.by_id.get(claim.id))
            && transaction.was_answered(known)
        {
            return transaction.producer;
        }
        let producer = match self.by_id.get(claim.id).map(|transaction| transaction.producer) {
            // The last epoch is for fencing.
            Some(Producer { id, epoch }) if epoch < i16::MAX - 1 => Producer { id, epoch: epoch + 1 },
            _ => self.fresh_producer(),
        };
        let transaction = Transaction {
            id: claim.id.to_owned(),
            producer,
            went_on_from: claim.known.filter(|known| known.id == producer.id).map(|known| known.epoch),
            timeout_ms: u64::try_from(claim.timeout_ms).unwrap_or(0),
            phase: Phase::Empty,
            partitions: BTreeSet::new(),
            groups: BTreeSet::new(),
            since_ms: 0,
        };
        self.by_id.insert(claim.id.to_owned(), transaction);
        self.changed.insert(claim.id.to_owned());
        producer
    }

    /// Aborts an ongoing transaction under a newer epoch, so that its producer can't write any more.
    fn fence(&mut self, id: &str) -> Ending {
        let transaction = self.by_id.get_mut(id).expect("the caller found it");
        transaction.producer.epoch = transaction.producer.epoch.saturating_add(1);
        self.decide(id, false)
    }

    /// Records the decision.
    fn decide(&mut self, id: &str, commit: bool) -> Ending {
        let transaction = self.by_id.get_mut(id).expect("the caller found it");
        transaction.phase = Phase::Ending { commit };
        self.changed.insert(id.to_owned());
        transaction.ending(commit)
    }

    /// Whether the producer is the id's.
    fn find(&mut self, id: &str, producer: Producer) -> Result<&mut Transaction> {
        let transaction = self.by_id.get_mut(id).ok_or(ResponseError::InvalidProducerIdMapping)?;
        if transaction.producer.id != producer.id {
            return Err(ResponseError::InvalidProducerIdMapping);
        }
        if transaction.producer.epoch != producer.epoch {
            return Err(ResponseError::ProducerFenced);
        }
        Ok(transaction)
    }

    /// Like [`Transactions::find`], in the words of what is not asked of a transaction's coordinator.
    fn find_writer(&mut self, id: &str, producer: Producer) -> Result<&mut Transaction> {
        self.find(id, producer).map_err(|error| match error {
            // A producer that is told this aborts; for a fenced one of the protocol's early days that is the same.
            ResponseError::ProducerFenced => ResponseError::InvalidProducerEpoch,
            other => other,
        })
    }

    /// Whether the producer may add to its transaction.
    fn open(&mut self, id: &str, producer: Producer, now_ms: i64) -> Result<&mut Transaction> {
        let transaction = self.find(id, producer)?;
        match transaction.phase {
            Phase::Ending { .. } => return Err(ResponseError::ConcurrentTransactions),
            Phase::Empty | Phase::Ended { .. } => {
                transaction.phase = Phase::Ongoing;
                transaction.since_ms = now_ms;
                transaction.partitions.clear();
                transaction.groups.clear();
            }
            Phase::Ongoing => {}
        }
        Ok(transaction)
    }

    pub(crate) fn add_partitions(
        &mut self,
        id: &str,
        producer: Producer,
        partitions: impl IntoIterator<Item = (String, i32)>,
        now_ms: i64,
    ) -> Result<()> {
        self.open(id, producer, now_ms)?.partitions.extend(partitions);
        self.changed.insert(id.to_owned());
        Ok(())
    }

    pub(crate) fn add_group(&mut self, id: &str, producer: Producer, group: &str, now_ms: i64) -> Result<()> {
        self.open(id, producer, now_ms)?.groups.insert(group.to_owned());
        self.changed.insert(id.to_owned());
        Ok(())
    }

    /// Whether a transactional write to the partition belongs to an ongoing transaction.
    pub(crate) fn may_write(
        &mut self,
        id: &str,
        producer: Producer,
        topic: &str,
        partition: i32,
    ) -> Result<()> {
        let transaction = self.find_writer(id, producer)?;
        let added = transaction.partitions.contains(&(topic.to_owned(), partition));
        if transaction.phase == Phase::Ongoing && added {
            return Ok(());
        }
        Err(ResponseError::InvalidTxnState)
    }

    /// Whether offsets may be committed for the group within the transaction.
    pub(crate) fn may_commit_offsets(&mut self, id: &str, producer: Producer, group: &str) -> Result<()> {
        let transaction = self.find_writer(id, producer)?;
        if transaction.phase == Phase::Ongoing && transaction.groups.contains(group) {
            return Ok(());
        }
        Err(ResponseError::InvalidTxnState)
    }

    /// Decides an ongoing transaction; none if it has ended so already: the request is a repetition.
    pub(crate) fn end(&mut self, id: &str, producer: Producer, commit: bool) -> Result<Option<Ending>> {
        let transaction = self.find(id, producer)?;
        match transaction.phase {
            Phase::Ongoing => Ok(Some(self.decide(id, commit))),
            Phase::Ended { commit: ended } if ended == commit => Ok(None),
            Phase::Ending { commit: ending } if ending == commit => {
                Err(ResponseError::ConcurrentTransactions)
            }
            Phase::Empty | Phase::Ended { .. } | Phase::Ending { .. } => Err(ResponseError::InvalidTxnState),
        }
    }

    /// The markers of an ending are written.
    pub(crate) fn ended(&mut self, id: &str) {
        let Some(transaction) = self.by_id.get_mut(id) else { return };
        if let Phase::Ending { commit } = transaction.phase {
            transaction.phase = Phase::Ended { commit };
            transaction.partitions.clear();
            transaction.groups.clear();
            self.changed.insert(id.to_owned());
        }
    }

    /// Decides to abort what has taken longer than its producer said it would.
    pub(crate) fn time_out(&mut self, now_ms: i64) -> Vec<Ending> {
        let late: Vec<String> = self
            .by_id
            .values()
            .filter(|transaction| transaction.deadline_ms().is_some_and(|deadline| deadline <= now_ms))
            .map(|transaction| transaction.id.clone())
            .collect();
        late.into_iter().map(|id| self.fence(&id)).collect()
    }

    /// When [`Transactions::time_out`] has something to do.
    pub(crate) fn next_deadline_ms(&self) -> Option<i64> {
        self.by_id.values().filter_map(Transaction::deadline_ms).min()
    }

    /// Whether this is decided and not ended.
    pub(crate) fn is_decided(&self, ending: &Ending) -> bool {
        self.by_id.get(&ending.id).is_some_and(|transaction| {
            transaction.producer == ending.producer
                && transaction.phase == Phase::Ending { commit: ending.commit }
        })
    }

    /// Whether anything is decided and not ended.
    pub(crate) fn has_unfinished(&self) -> bool {
        self.by_id.values().any(|transaction| matches!(transaction.phase, Phase::Ending { .. }))
    }

    /// What is decided and not ended.
    pub(crate) fn unfinished(&self) -> Vec<Ending> {
        let ending = |transaction: &Transaction| match transaction.phase {
            Phase::Ending { commit } => Some(transaction.ending(commit)),
            Phase::Empty | Phase::Ongoing | Phase::Ended { .. } => None,
        };
        self.by_id.values().filter_map(ending).collect()
    }

    /// The first producer id that nobody has.
    pub(crate) fn next_producer(&self) -> i64 {
        self.next_producer
    }

    /// What was changed since the last call, as it is now.
    pub(crate) fn take_changed(&mut self) -> Vec<Transaction> {
        let changed = std::mem::take(&mut self.changed);
        changed.iter().filter_map(|id| self.by_id.get(id)).cloned().collect()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Transaction> {
        self.by_id.values()
    }

    /// Takes a transaction as it was recorded.
    pub(crate) fn restore(&mut self, transaction: Transaction) {
        self.next_producer = self.next_producer.max(transaction.producer.id + 1);
        self.by_id.insert(transaction.id.clone(), transaction);
    }

    /// No producer id below this is given out.
    pub(crate) fn skip_producers_below(&mut self, next: i64) {
        self.next_producer = self.next_producer.max(next);
    }
}

impl Transaction {
    /// Whether the producer has gone on from this epoch to the present one already.
    fn was_answered(&self, known: Producer) -> bool {
        known.id == self.producer.id && self.went_on_from == Some(known.epoch)
    }

    fn ending(&self, commit: bool) -> Ending {
        Ending {
            id: self.id.clone(),
            producer: self.producer,
            commit,
            partitions: self.partitions.clone(),
            groups: self.groups.clone(),
        }
    }

    fn deadline_ms(&self) -> Option<i64> {
        let timeout = i64::try_from(self.timeout_ms).unwrap_or(i64::MAX);
        (self.phase == Phase::Ongoing).then(|| self.since_ms.saturating_add(timeout))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLAIM: Claim<'_> = Claim { id: "t", timeout_ms: 1000, known: None };

    fn claim(transactions: &mut Transactions) -> (Option<Ending>, Producer) {
        let ending = transactions.before_claim(CLAIM).unwrap();
        if let Some(ending) = &ending {
            transactions.ended(&ending.id);
        }
        (ending, transactions.claim(CLAIM))
    }

    fn ongoing() -> (Transactions, Producer) {
        let mut transactions = Transactions::default();
        let (_, producer) = claim(&mut transactions);
        transactions.add_partitions("t", producer, [("a".to_owned(), 0)], 5).unwrap();
        transactions.add_group("t", producer, "g", 5).unwrap();
        (transactions, producer)
    }

    #[test]
    fn a_transaction_is_ended_once_and_repetitions_are_fine() {
        let (mut transactions, producer) = ongoing();
        let ending = transactions.end("t", producer, true).unwrap().unwrap();
        assert_eq!((ending.commit, ending.producer), (true, producer));
        assert_eq!((ending.partitions.len(), ending.groups.len()), (1, 1));
        assert!(transactions.is_decided(&ending));
        assert!(!transactions.is_decided(&Ending { commit: false, ..ending.clone() }));
        assert_eq!(transactions.unfinished(), std::slice::from_ref(&ending));
        assert_eq!(transactions.end("t", producer, true), Err(ResponseError::ConcurrentTransactions));
        transactions.ended("t");
        assert_eq!(transactions.end("t", producer, true), Ok(None));
        assert_eq!(transactions.end("t", producer, false), Err(ResponseError::InvalidTxnState));
        assert!(transactions.unfinished().is_empty() && !transactions.is_decided(&ending));
    }

    #[test]
    fn who_claims_the_id_fences_who_had_it() {
        let (mut transactions, first) = ongoing();
        let (ending, second) = claim(&mut transactions);
        let ending = ending.unwrap();
        assert!(!ending.commit && ending.producer.epoch > first.epoch && ending.producer.id == first.id);
        assert!(second.epoch > ending.producer.epoch);
        for error in [
            transactions.add_partitions("t", first, [], 0),
            transactions.add_group("t", first, "g", 0),
            transactions.end("t", first, true).map(drop),
        ] {
            assert_eq!(error, Err(ResponseError::ProducerFenced));
        }
        for error in
            [transactions.may_write("t", first, "a", 0), transactions.may_commit_offsets("t", first, "g")]
        {
            assert_eq!(error, Err(ResponseError::InvalidProducerEpoch));
        }
        let known = Claim { known: Some(first), ..CLAIM };
        assert_eq!(transactions.before_claim(known), Err(ResponseError::ProducerFenced));
        let known = Claim { known: Some(second), ..CLAIM };
        for _ in 0..2 {
            // The second time it repeats itself.
            assert_eq!(transactions.before_claim(known), Ok(None));
            assert_eq!(transactions.claim(known), Producer { epoch: second.epoch + 1, ..second });
        }
    }

    #[test]
    fn only_what_was_added_may_be_written() {
        let (mut transactions, producer) = ongoing();
        assert_eq!(transactions.may_write("t", producer, "a", 0), Ok(()));
        assert_eq!(transactions.may_write("t", producer, "a", 1), Err(ResponseError::InvalidTxnState));
        assert_eq!(
            transactions.may_write("x", producer, "a", 0),
            Err(ResponseError::InvalidProducerIdMapping)
        );
        transactions.end("t", producer, false).unwrap();
        assert_eq!(transactions.may_write("t", producer, "a", 0), Err(ResponseError::InvalidTxnState));
        transactions.ended("t");
        // The next transaction of the same producer begins with nothing.
        transactions.add_partitions("t", producer, [("b".to_owned(), 0)], 9).unwrap();
        assert_eq!(transactions.may_write("t", producer, "a", 0), Err(ResponseError::InvalidTxnState));
    }

    #[test]
    fn a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced() {
        let (mut transactions, producer) = ongoing();
        assert_eq!(transactions.next_deadline_ms(), Some(1005));
        assert!(transactions.time_out(1004).is_empty());
        let late = transactions.time_out(1005);
        assert!(!late[0].commit);
        transactions.ended("t");
        assert_eq!(transactions.end("t", producer, true), Err(ResponseError::ProducerFenced));
        assert_eq!(transactions.next_deadline_ms(), None);
    }

    #[test]
    fn epochs_that_are_used_up_give_a_new_producer_id() {
        let mut transactions = Transactions::default();
        let (_, producer) = claim(&mut transactions);
        let worn = Producer { epoch: i16::MAX - 1, ..producer };
        let transaction = Transaction { producer: worn, ..transactions.by_id["t"].clone() };
        transactions.restore(transaction);
        let (_, next) = claim(&mut transactions);
        assert_eq!((next.id, next.epoch), (producer.id + 1, 0));
    }

    #[test]
    fn what_was_recorded_is_there_again() {
        let (mut transactions, producer) = ongoing();
        transactions.end("t", producer, true).unwrap();
        let recorded = transactions.take_changed();
        assert!(transactions.take_changed().is_empty());
        let mut again = Transactions::default();
        recorded.into_iter().for_each(|transaction| again.restore(transaction));
        assert_eq!(again.unfinished(), transactions.unfinished());
        assert_eq!(again.fresh_producer().id, producer.id + 1);
    }

    #[test]
    fn a_timeout_that_makes_no_sense_is_refused() {
        let mut transactions = Transactions::default();
        for timeout_ms in [0, -1, MAX_TIMEOUT_MS + 1] {
            let claim = Claim { timeout_ms, ..CLAIM };
            assert_eq!(transactions.before_claim(claim), Err(ResponseError::InvalidTransactionTimeout));
        }
    }
}
