//! What can go wrong, with the file it went wrong in.

use std::io;
use std::path::{Path, PathBuf};

use super::batch::Fault;

/// The operating system refused something.
#[derive(Debug, thiserror::Error)]
#[error("could not {action} `{}`", path.display())]
pub struct IoFailed {
    pub action: &'static str,
    pub path: PathBuf,
    #[source]
    pub source: io::Error,
}

impl IoFailed {
    pub(crate) fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self { action, path: path.to_owned(), source }
    }
}

/// A batch that was whole once and is not any more.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{}` is damaged at byte {position}: {fault}; restore the file, or delete the partition's directory to \
     start it anew",
    path.display()
)]
pub struct CorruptBatch {
    pub path: PathBuf,
    /// Where in the file the batch starts.
    pub position: u64,
    pub fault: Fault,
}

/// Why the log could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error(transparent)]
    Io(#[from] IoFailed),
    #[error(transparent)]
    Corrupt(#[from] CorruptBatch),
}

/// Why the log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Io(#[from] IoFailed),
    #[error(transparent)]
    Corrupt(#[from] CorruptBatch),
    /// The file that says where the log starts holds something else.
    #[error("`{}` holds no offset; delete it, and the log starts with its oldest segment again", path.display())]
    StartOffset { path: PathBuf },
}

impl From<LogError> for OpenError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Io(error) => Self::Io(error),
            LogError::Corrupt(error) => Self::Corrupt(error),
        }
    }
}

/// Why nothing was appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// `CORRUPT_MESSAGE`
    #[error("the record batch at byte {position} is damaged: {fault}")]
    Corrupt { position: usize, fault: Fault },
    /// `UNSUPPORTED_FOR_MESSAGE_FORMAT`
    #[error("the records have format {magic}; only format 2 is taken, which clients since Kafka 0.11 write")]
    Magic { magic: i8 },
    /// `MESSAGE_TOO_LARGE`
    #[error("a record batch of {size} bytes is larger than the topic's `max.message.bytes`, {max}")]
    TooLarge { size: usize, max: usize },
    /// `INVALID_RECORD`
    #[error("the record batch is not valid: {0}")]
    InvalidRecord(&'static str),
    /// `OUT_OF_ORDER_SEQUENCE_NUMBER`
    #[error("producer {producer_id} sent the sequence number {sequence}, but {expected} is next")]
    OutOfOrderSequence { producer_id: i64, sequence: i32, expected: i32 },
    /// `INVALID_PRODUCER_EPOCH`
    #[error("producer {producer_id} has the epoch {epoch}, but {current} took its place")]
    InvalidProducerEpoch { producer_id: i64, epoch: i16, current: i16 },
    /// `INVALID_TXN_STATE`
    #[error("producer {producer_id} wrote outside of the transaction that it has open")]
    InvalidTxnState { producer_id: i64 },
    /// `KAFKA_STORAGE_ERROR`
    #[error(transparent)]
    Io(#[from] IoFailed),
}

/// An offset that the log does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log has no offset {offset}: it starts at {start} and ends at {end}")]
pub struct OutOfRange {
    pub offset: i64,
    pub start: i64,
    pub end: i64,
}

/// Why nothing was read, or deleted.
#[derive(Debug, thiserror::Error)]
pub enum RangeError {
    /// `OFFSET_OUT_OF_RANGE`
    #[error(transparent)]
    OutOfRange(#[from] OutOfRange),
    /// `KAFKA_STORAGE_ERROR`
    #[error(transparent)]
    Log(#[from] LogError),
}

impl From<IoFailed> for RangeError {
    fn from(error: IoFailed) -> Self {
        Self::Log(error.into())
    }
}

/// Says what was done to which file when it failed.
pub(crate) trait IoContext<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, IoFailed>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, IoFailed> {
        self.map_err(|source| IoFailed::new(action, path, source))
    }
}
