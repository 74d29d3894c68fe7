//! When what was written is safe from a crash of the machine.
//!
//! A crash of the process loses nothing that was written: the operating system has it. With [`Fsync::Always`] an answer
//! waits until the storage has it too; all that was written in the meantime shares one sync.

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::journal::Journal;
use crate::log::Syncer;
use crate::topics::Partition;

/// When what was written is handed to the storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// Before it is acknowledged: a crash of the machine loses nothing.
    Always,
    /// From time to time: a crash of the machine loses what came since.
    Every(Duration),
}

/// How many writes there were.
type Ticket = u64;

#[derive(Debug)]
pub(crate) struct Durability {
    policy: Fsync,
    pending: Mutex<Pending>,
    wake: Notify,
    synced: watch::Sender<Synced>,
    /// The last thing that was to be written was not.
    unwritten: AtomicBool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Synced {
    to: Ticket,
    /// The system may have dropped what it could not sync, so a later sync proves nothing.
    failed: bool,
}

#[derive(Debug, Default)]
struct Pending {
    tickets: Ticket,
    partitions: Vec<Arc<Partition>>,
    journal: Option<Arc<File>>,
}

/// The storage failed: nothing that is written can be promised any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StorageFailed;

impl Durability {
    pub(crate) fn new(policy: Fsync) -> Self {
        Self {
            policy,
            pending: Mutex::default(),
            wake: Notify::new(),
            synced: watch::Sender::default(),
            unwritten: AtomicBool::new(false),
        }
    }

    /// Something was written to a partition.
    pub(crate) fn wrote(&self, partition: &Arc<Partition>) -> Ticket {
        self.note(|pending| {
            if !pending.partitions.iter().any(|known| Arc::ptr_eq(known, partition)) {
                pending.partitions.push(Arc::clone(partition));
            }
        })
    }

    /// Whether writing fails at present: then nothing may be acknowledged.
    pub(crate) fn set_unwritten(&self, unwritten: bool) {
        self.unwritten.store(unwritten, Ordering::Release);
    }

    /// The last write so far.
    pub(crate) fn latest(&self) -> Ticket {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).tickets
    }

    /// Something was written to the journal.
    pub(crate) fn journaled(&self, journal: &Journal) -> Ticket {
        self.note(|pending| pending.journal = Some(journal.file()))
    }

    fn note(&self, add: impl FnOnce(&mut Pending)) -> Ticket {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        add(&mut pending);
        pending.tickets += 1;
        let ticket = pending.tickets;
        drop(pending);
        if self.policy == Fsync::Always {
            self.wake.notify_one();
        }
        ticket
    }

    /// Waits until a write may be acknowledged.
    pub(crate) async fn settled(&self, ticket: Ticket) -> Result<(), StorageFailed> {
        if self.unwritten.load(Ordering::Acquire) {
            return Err(StorageFailed);
        }
        let at_once = self.policy != Fsync::Always;
        let mut synced = self.synced.subscribe();
        let synced = synced.wait_for(|synced| synced.failed || at_once || synced.to >= ticket).await;
        match synced {
            Ok(synced) if !synced.failed => Ok(()),
            Ok(_) | Err(_) => Err(StorageFailed),
        }
    }

    /// Syncs what was written, as the policy says, until told to stop; then once more.
    pub(crate) async fn run(&self, stop: &CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.due() => self.sync().await,
            }
        }
        self.sync().await;
    }

    async fn due(&self) {
        match self.policy {
            Fsync::Always => self.wake.notified().await,
            Fsync::Every(interval) => tokio::time::sleep(interval).await,
        }
    }

    async fn sync(&self) {
        let pending = {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            let tickets = pending.tickets;
            std::mem::replace(&mut *pending, Pending { tickets, ..Pending::default() })
        };
        let Pending { tickets, partitions, journal } = pending;
        if partitions.is_empty() && journal.is_none() {
            return;
        }
        let syncing = move || -> Result<(), String> {
            let syncers: Vec<Syncer> = partitions.iter().map(|partition| partition.log().syncer()).collect();
            for syncer in syncers.iter().filter(|syncer| syncer.is_needed()) {
                syncer.sync().map_err(|error| error.to_string())?;
            }
            journal.map_or(Ok(()), |journal| journal.sync_data().map_err(|error| error.to_string()))
        };
        match tokio::task::spawn_blocking(syncing).await {
            Ok(Ok(())) => self.synced.send_modify(|synced| synced.to = tickets),
            Ok(Err(error)) => {
                self.synced.send_modify(|synced| synced.failed = true);
                tracing::error!(
                    "the storage failed, so nothing is acknowledged any more; mend it, and start again: {error}"
                );
            }
            // The runtime is ending.
            Err(_) => {}
        }
    }
}
