//! How far the log is durable, and making it so without holding the log.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use super::error::{IoContext, IoFailed};

/// Everything below an offset is durable.
#[derive(Debug)]
pub(crate) struct Durability {
    offset: AtomicI64,
    /// A sync failed. The system may have dropped what it could not write, so a later one proves nothing.
    broken: AtomicBool,
}

impl Durability {
    pub(crate) fn new(offset: i64) -> Self {
        Self { offset: AtomicI64::new(offset), broken: AtomicBool::new(false) }
    }

    pub(crate) fn offset(&self) -> i64 {
        self.offset.load(Ordering::Acquire)
    }

    /// Syncs a file; then everything below `offset` is durable.
    pub(crate) fn sync(&self, file: &File, path: &Path, offset: i64) -> Result<(), IoFailed> {
        if self.offset() >= offset {
            return Ok(());
        }
        if self.broken.load(Ordering::Acquire) {
            let reason = "an earlier sync failed; what was written since may be lost: open the log again";
            return Err(io::Error::other(reason)).context("sync", path);
        }
        let synced = file.sync_data();
        if synced.is_err() {
            self.broken.store(true, Ordering::Release);
        }
        synced.context("sync", path)?;
        self.offset.fetch_max(offset, Ordering::AcqRel);
        Ok(())
    }
}

/// Makes durable what the log held when this was made. It needs no access to the log.
#[derive(Clone, Debug)]
pub struct Syncer {
    pub(crate) file: Arc<File>,
    pub(crate) path: Arc<Path>,
    pub(crate) offset: i64,
    pub(crate) durability: Arc<Durability>,
}

impl Syncer {
    /// The offset below which everything is durable after [`Syncer::sync`].
    #[must_use]
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// Whether there is anything to do.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        self.durability.offset() < self.offset
    }

    /// Waits until the storage has it. Returns the offset below which everything is durable.
    ///
    /// # Errors
    /// If the system can't write; then every later sync of the log fails as well, until it is opened anew.
    pub fn sync(&self) -> Result<i64, IoFailed> {
        self.durability.sync(&self.file, &self.path, self.offset)?;
        Ok(self.durability.offset())
    }
}
