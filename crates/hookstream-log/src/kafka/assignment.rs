//! What the control thread and a core tell each other.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hookstream_types::{Mono, Offset, Partition};
use tokio::sync::Notify;

use crate::log::{Input, Lost};
use crate::native::Queue;

/// One assignment of one partition to one core.
#[derive(Debug)]
pub(crate) struct Assignment {
    pub(crate) input: Input,
    pub(crate) topic: Arc<str>,
    pub(crate) partition: Partition,
    /// What is to be committed; the latest wins.
    commit: Mutex<Option<(Offset, String)>>,
    /// The core is done with it.
    released: AtomicBool,
    /// The core doesn't hold the queue any more.
    let_go: AtomicBool,
}

impl Assignment {
    pub(crate) fn new(input: Input, topic: Arc<str>, partition: Partition) -> Self {
        Self {
            input,
            topic,
            partition,
            commit: Mutex::new(None),
            released: AtomicBool::new(false),
            let_go: AtomicBool::new(false),
        }
    }

    pub(crate) fn set_commit(&self, offset: Offset, metadata: String) {
        *self.commit.lock().unwrap_or_else(PoisonError::into_inner) = Some((offset, metadata));
    }

    pub(crate) fn take_commit(&self) -> Option<(Offset, String)> {
        self.commit.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(crate) fn release(&self) {
        self.released.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_released(&self) -> bool {
        self.released.load(Ordering::SeqCst)
    }

    pub(crate) fn let_go(&self) {
        self.let_go.store(true, Ordering::SeqCst);
    }

    pub(crate) fn was_let_go(&self) -> bool {
        self.let_go.load(Ordering::SeqCst)
    }
}

/// What the control and helper threads tell a core.
#[derive(Debug)]
pub(crate) enum ToCore {
    Assigned {
        assignment: Arc<Assignment>,
        queue: Queue,
        base: Offset,
        metadata: Option<String>,
    },
    Revoking {
        input: Input,
        by: Mono,
    },
    Lost {
        input: Input,
        why: Lost,
    },
    /// All losses up to this epoch were told before this.
    Epoch(u64),
    /// Where a reader that was opened by time starts; none: it can't be told.
    ReadFrom {
        input: Input,
        offset: Option<i64>,
    },
}

/// A core's inbox. A handful of messages per assignment and reader at most, so it needs no bound of its own.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    messages: Mutex<VecDeque<ToCore>>,
    /// Wakes the core: for a message, for records, for acknowledgements.
    pub(crate) wake: Arc<Notify>,
}

impl Inbox {
    pub(crate) fn push(&self, message: ToCore) {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).push_back(message);
        self.wake.notify_one();
    }

    pub(crate) fn pop(&self) -> Option<ToCore> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}
