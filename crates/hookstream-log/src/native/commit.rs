//! Commits whose answers are seen, and commit metadata that may be anything.

use std::any::Any;
use std::ffi::CStr;
use std::fmt;
use std::ptr;
use std::slice;
use std::sync::Arc;

use rdkafka::bindings as sys;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafka;

use super::queue::{Code, Queue};

/// Where the answers to a consumer's asynchronous commits arrive.
pub(crate) struct Commits {
    native: *mut RDKafka,
    answers: Queue,
}

// SAFETY: librdkafka's clients are thread safe.
unsafe impl Send for Commits {}

impl fmt::Debug for Commits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commits").finish_non_exhaustive()
    }
}

/// The answer to one commit.
#[derive(Debug)]
pub(crate) struct CommitAnswer {
    /// The request's own error, or that of a partition.
    pub(crate) code: Code,
    pub(crate) entries: Vec<Entry>,
}

/// One element of a list of partitions.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    /// Negative: none.
    pub(crate) offset: i64,
    /// What was committed with it; bytes that are not UTF-8 are replaced.
    pub(crate) metadata: Option<String>,
    pub(crate) code: Code,
}

impl Commits {
    pub(crate) fn new(client: Arc<dyn Any + Send + Sync>, native: *mut RDKafka) -> Self {
        Self { native, answers: Queue::new(client, native) }
    }

    /// Commits `offsets`. Does not block; the answer comes out of [`Commits::answer`].
    pub(crate) fn commit(&self, offsets: &TopicPartitionList) -> Result<(), Code> {
        // SAFETY: the client is alive (the queue keeps it); the list is copied; with a queue the call doesn't wait.
        let err = unsafe {
            sys::rd_kafka_commit_queue(
                self.native,
                offsets.ptr(),
                self.answers.as_ptr(),
                None,
                ptr::null_mut(),
            )
        };
        match Code::from(err) {
            Code::NoError => Ok(()),
            code => Err(code),
        }
    }

    /// The answer to a commit, if one is there.
    pub(crate) fn answer(&self) -> Option<CommitAnswer> {
        loop {
            // SAFETY: the queue is valid; the event is ours until it is destroyed below.
            let event = unsafe { sys::rd_kafka_queue_poll(self.answers.as_ptr(), 0) };
            if event.is_null() {
                return None;
            }
            // SAFETY: the event is valid; its list of partitions is its own and only read here.
            let answer = unsafe {
                (sys::rd_kafka_event_type(event) == sys::RD_KAFKA_EVENT_OFFSET_COMMIT).then(|| CommitAnswer {
                    code: Code::from(sys::rd_kafka_event_error(event)),
                    entries: read(sys::rd_kafka_event_topic_partition_list(event)),
                })
            };
            // SAFETY: the event is destroyed once, and nothing refers to it.
            unsafe { sys::rd_kafka_event_destroy(event) };
            if answer.is_some() {
                return answer;
            }
        }
    }
}

/// What stands in `list`.
pub(crate) fn entries(list: &TopicPartitionList) -> Vec<Entry> {
    // SAFETY: the list is valid as long as it is borrowed.
    unsafe { read(list.ptr()) }
}

/// # Safety
/// `list` is null or a valid list of partitions.
unsafe fn read(list: *const sys::rd_kafka_topic_partition_list_t) -> Vec<Entry> {
    if list.is_null() {
        return Vec::new();
    }
    // SAFETY: the list is valid, has `cnt` elements, and each has a topic's name and, maybe, metadata.
    unsafe {
        let count = usize::try_from((*list).cnt).unwrap_or(0);
        if count == 0 {
            return Vec::new();
        }
        slice::from_raw_parts((*list).elems, count)
            .iter()
            .map(|elem| Entry {
                topic: CStr::from_ptr(elem.topic).to_string_lossy().into_owned(),
                partition: elem.partition,
                offset: elem.offset,
                metadata: (!elem.metadata.is_null() && elem.metadata_size > 0).then(|| {
                    let bytes = slice::from_raw_parts(elem.metadata.cast::<u8>(), elem.metadata_size);
                    String::from_utf8_lossy(bytes).into_owned()
                }),
                code: Code::from(elem.err),
            })
            .collect()
    }
}
