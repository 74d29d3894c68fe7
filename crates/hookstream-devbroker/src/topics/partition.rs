//! A partition: its log, and who waits for more of it.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use crate::log::{LogConfig, LogError, OpenError, PartitionLog};

#[derive(Debug)]
pub(crate) struct Partition {
    log: Mutex<PartitionLog>,
    /// Readers that found too little.
    waiting: Mutex<Vec<Weak<Notify>>>,
}

/// A list of waiting readers is cleared of those that are gone when it is longer than this.
const WAITING: usize = 16;

impl Partition {
    pub(super) fn open(dir: &Path, config: LogConfig, now_ms: i64) -> Result<Self, OpenError> {
        let (log, recovery) = PartitionLog::open(dir, config, now_ms)?;
        if let Some(cut) = recovery.cut {
            tracing::warn!(
                path = %cut.path.display(),
                bytes = cut.bytes,
                "the end of the log was not finished, and is cut: {}",
                cut.fault
            );
        }
        Ok(Self { log: Mutex::new(log), waiting: Mutex::default() })
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, PartitionLog> {
        // A log that panicked has written all of a batch or nothing that counts: its state is set afterwards.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Deletes and compacts what the topic does not keep. One at a time.
    pub(crate) fn maintain(&self, now_ms: i64) -> Result<(), LogError> {
        let compaction = {
            let mut log = self.log();
            log.expire(now_ms)?;
            if log.is_worth_compacting(now_ms) { log.compaction(now_ms) } else { None }
        };
        if let Some(compaction) = compaction {
            // The log goes on in the meantime.
            let cleaned = compaction.clean()?;
            self.log().install(cleaned)?;
        }
        Ok(())
    }

    /// Tells `reader` once there is more, or may be.
    pub(crate) fn call(&self, reader: &Arc<Notify>) {
        let reader = Arc::downgrade(reader);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.iter().any(|known| known.ptr_eq(&reader)) {
            return;
        }
        if waiting.len() >= WAITING {
            waiting.retain(|reader| reader.strong_count() > 0);
        }
        waiting.push(reader);
    }

    /// There is more.
    pub(crate) fn grown(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        waiting.iter().filter_map(Weak::upgrade).for_each(|reader| reader.notify_one());
    }
}
