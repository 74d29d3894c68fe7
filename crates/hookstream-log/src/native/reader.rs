//! A reader of one partition that no group assigns.

use std::any::Any;
use std::ffi::CString;
use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use rdkafka::bindings as sys;
use rdkafka::types::RDKafka;

use super::queue::Queue;

/// Reads a partition into a queue of its own until it is dropped.
///
/// A client can have one reader of a partition at a time. Dropping waits for the client's own threads (not for a
/// broker), so it is done where waiting is allowed.
pub(crate) struct Reader {
    topic: NonNull<sys::rd_kafka_topic_t>,
    partition: i32,
    /// Destroyed after `drop` stopped filling it.
    queue: Queue,
}

// SAFETY: librdkafka's topics are thread safe.
unsafe impl Send for Reader {}
// SAFETY: as above.
unsafe impl Sync for Reader {}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("partition", &self.partition).finish_non_exhaustive()
    }
}

/// librdkafka's name for the first record that is still there.
pub(crate) const BEGINNING: i64 = -2;

impl Reader {
    /// Starts to read at `offset` (or [`Reader::BEGINNING`]). Does not block. None if the topic's name can't be
    /// one, or the client already belongs to a group.
    pub(crate) fn start(
        client: &Arc<dyn Any + Send + Sync>,
        native: *mut RDKafka,
        topic: &str,
        partition: i32,
        offset: i64,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Option<Self> {
        let name = CString::new(topic).ok()?;
        let mut queue = Queue::new(Arc::clone(client), native);
        queue.set_wake(wake);
        // SAFETY: `native` is `client`'s, which is alive; the topic gets the client's default configuration.
        let topic = NonNull::new(unsafe { sys::rd_kafka_topic_new(native, name.as_ptr(), ptr::null_mut()) })?;
        // SAFETY: topic and queue are valid and belong to the same client.
        let err =
            unsafe { sys::rd_kafka_consume_start_queue(topic.as_ptr(), partition, offset, queue.as_ptr()) };
        if err != 0 {
            // SAFETY: the topic is valid and not used after this.
            unsafe { sys::rd_kafka_topic_destroy(topic.as_ptr()) };
            return None;
        }
        Some(Self { topic, partition, queue })
    }

    pub(crate) const BEGINNING: i64 = BEGINNING;

    pub(crate) fn queue(&self) -> &Queue {
        &self.queue
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // SAFETY: the topic is valid and not used after this; reading of the partition was started by `start`.
        unsafe {
            sys::rd_kafka_consume_stop(self.topic.as_ptr(), self.partition);
            sys::rd_kafka_topic_destroy(self.topic.as_ptr());
        }
    }
}
