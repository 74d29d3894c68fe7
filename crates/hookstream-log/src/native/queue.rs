//! A queue of one partition's records, polled in batches, with a wake-up.

use std::any::Any;
use std::ffi::{CStr, CString, c_void};
use std::fmt;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use hookstream_types::{Offset, UnixMillis};
use rdkafka::bindings as sys;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::types::RDKafka;

use crate::log::RecordRef;

/// librdkafka's error code.
pub(crate) type Code = RDKafkaErrorCode;

/// How many records one call to librdkafka hands over.
const BATCH: usize = 64;

type Wake = Box<dyn Fn() + Send + Sync>;

/// A client's queue.
pub(crate) struct Queue {
    queue: NonNull<sys::rd_kafka_queue_t>,
    /// What librdkafka calls when the queue becomes non-empty; boxed twice, because it keeps a thin pointer.
    wake: Option<Box<Wake>>,
    /// Keeps the client that the queue belongs to alive.
    _client: Arc<dyn Any + Send + Sync>,
}

// SAFETY: librdkafka's queues are thread safe: they may be polled and destroyed on any thread.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

/// One thing that came out of a queue.
pub(crate) enum Polled<'a> {
    Record(Record<'a>),
    /// The partition has nothing more at this offset, for now.
    End(Offset),
    Failed(Code, String),
}

/// A consumed record, in librdkafka's memory.
pub(crate) struct Record<'a> {
    message: &'a sys::rd_kafka_message_t,
}

impl Queue {
    /// The queue of an assigned partition, taken out of the consumer's main queue. To be called before the
    /// partition is assigned: what is fetched earlier stays in the main queue.
    ///
    /// None if the topic's name can't be one.
    pub(crate) fn of_partition(
        client: Arc<dyn Any + Send + Sync>,
        native: *mut RDKafka,
        topic: &str,
        partition: i32,
    ) -> Option<Self> {
        let topic = CString::new(topic).ok()?;
        // SAFETY: `native` is `client`'s, which is alive; the topic's name is a C string that outlives the call.
        let queue =
            NonNull::new(unsafe { sys::rd_kafka_queue_get_partition(native, topic.as_ptr(), partition) })?;
        // SAFETY: the queue is valid; no destination means "to its own".
        unsafe { sys::rd_kafka_queue_forward(queue.as_ptr(), ptr::null_mut()) };
        Some(Self { queue, wake: None, _client: client })
    }

    /// A queue of its own.
    pub(crate) fn new(client: Arc<dyn Any + Send + Sync>, native: *mut RDKafka) -> Self {
        // SAFETY: `native` is `client`'s, which is alive.
        let queue = unsafe { sys::rd_kafka_queue_new(native) };
        Self {
            queue: NonNull::new(queue).expect("librdkafka aborts when it has no memory"),
            wake: None,
            _client: client,
        }
    }

    /// The client's main queue: where a producer's delivery reports arrive.
    pub(crate) fn main(client: Arc<dyn Any + Send + Sync>, native: *mut RDKafka) -> Self {
        // SAFETY: `native` is `client`'s, which is alive.
        let queue = unsafe { sys::rd_kafka_queue_get_main(native) };
        Self {
            queue: NonNull::new(queue).expect("every client has a main queue"),
            wake: None,
            _client: client,
        }
    }

    pub(crate) fn as_ptr(&self) -> *mut sys::rd_kafka_queue_t {
        self.queue.as_ptr()
    }

    /// Calls `wake` when the queue becomes non-empty, on a thread of librdkafka: it must be short and not block.
    pub(crate) fn set_wake(&mut self, wake: impl Fn() + Send + Sync + 'static) {
        unsafe extern "C" fn call(_: *mut RDKafka, opaque: *mut c_void) {
            // SAFETY: `opaque` is the box that `set_wake` keeps until another call took its place or none.
            let wake = unsafe { &*opaque.cast::<Wake>() };
            wake();
        }
        let wake: Box<Wake> = Box::new(Box::new(wake));
        let opaque = ptr::from_ref::<Wake>(&wake).cast_mut().cast::<c_void>();
        // SAFETY: the queue is valid, and `wake` lives until it is replaced here or unset on drop. librdkafka
        // takes the queue's lock both to set and to call it, so none is called after it was replaced.
        unsafe { sys::rd_kafka_queue_cb_event_enable(self.queue.as_ptr(), Some(call), opaque) };
        self.wake = Some(wake);
    }

    /// Hands what is there, up to `max`, to `sink`, and returns how many it was. Waits up to `wait` for the first.
    pub(crate) fn drain(&self, max: usize, wait: Duration, sink: &mut dyn FnMut(Polled<'_>)) -> usize {
        let mut messages: [*mut sys::rd_kafka_message_t; BATCH] = [ptr::null_mut(); BATCH];
        let mut total = 0;
        let mut wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        while total < max {
            // A call that waits goes on waiting until it has all it asked for, so it asks for one.
            let want = if wait_ms > 0 { 1 } else { BATCH.min(max - total) };
            // SAFETY: the queue is valid, and `messages` has room for `want`.
            let n = unsafe {
                sys::rd_kafka_consume_batch_queue(self.queue.as_ptr(), wait_ms, messages.as_mut_ptr(), want)
            };
            wait_ms = 0;
            let n = usize::try_from(n).unwrap_or(0);
            for message in &messages[..n] {
                let message = Owned(*message);
                // SAFETY: librdkafka filled the first `n` with messages, which are ours until they are destroyed.
                let borrowed = unsafe { &*message.0 };
                sink(Polled::of(borrowed));
            }
            total += n;
            if n < want {
                break;
            }
        }
        total
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the queue is valid and not used after this; without a callback nothing refers to `wake`.
        unsafe {
            if self.wake.is_some() {
                sys::rd_kafka_queue_cb_event_enable(self.queue.as_ptr(), None, ptr::null_mut());
            }
            sys::rd_kafka_queue_destroy(self.queue.as_ptr());
        }
    }
}

/// A message that is given back, also when the sink panics.
struct Owned(*mut sys::rd_kafka_message_t);

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: the message came from `rd_kafka_consume_batch_queue` and is destroyed once.
        unsafe { sys::rd_kafka_message_destroy(self.0) };
    }
}

impl<'a> Polled<'a> {
    fn of(message: &'a sys::rd_kafka_message_t) -> Self {
        match Code::from(message.err) {
            Code::NoError => Self::Record(Record { message }),
            Code::PartitionEOF => Self::End(Offset(message.offset)),
            code => {
                let text = bytes(message.payload, message.len).unwrap_or_default();
                Self::Failed(code, String::from_utf8_lossy(text).into_owned())
            }
        }
    }
}

impl<'a> Record<'a> {
    pub(crate) fn offset(&self) -> Offset {
        Offset(self.message.offset)
    }

    /// The record with its headers, which are collected in `headers`. A header whose name is not UTF-8 is left out.
    pub(crate) fn with_headers<'b>(&'b self, headers: &'b mut Vec<(&'a str, &'a [u8])>) -> RecordRef<'b> {
        headers.clear();
        self.collect_headers(headers);
        RecordRef {
            offset: self.offset(),
            timestamp: self.timestamp(),
            key: bytes(self.message.key, self.message.key_len),
            value: bytes(self.message.payload, self.message.len),
            headers,
        }
    }

    fn timestamp(&self) -> UnixMillis {
        // SAFETY: the message is valid; the type is optional.
        let millis = unsafe { sys::rd_kafka_message_timestamp(self.message, ptr::null_mut()) };
        UnixMillis(millis.max(0))
    }

    fn collect_headers(&self, into: &mut Vec<(&'a str, &'a [u8])>) {
        let mut headers = ptr::null_mut();
        // SAFETY: the message is valid; the headers stay its own.
        let err = unsafe { sys::rd_kafka_message_headers(self.message, &raw mut headers) };
        if Code::from(err) != Code::NoError {
            return;
        }
        for index in 0.. {
            let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
            // SAFETY: the headers are valid as long as the message; the three are set on success.
            let err = unsafe {
                sys::rd_kafka_header_get_all(headers, index, &raw mut name, &raw mut value, &raw mut size)
            };
            if Code::from(err) != Code::NoError {
                return;
            }
            // SAFETY: a header's name is a C string that lives as long as the message.
            if let Ok(name) = unsafe { CStr::from_ptr(name) }.to_str() {
                into.push((name, bytes(value.cast_mut(), size).unwrap_or_default()));
            }
        }
    }
}

/// The bytes at `at`, which live as long as the message they belong to; none if there are none.
fn bytes<'a>(at: *mut c_void, len: usize) -> Option<&'a [u8]> {
    if at.is_null() {
        return None;
    }
    // SAFETY: librdkafka gives a pointer to `len` bytes of the message; callers bind the lifetime to it.
    Some(unsafe { slice::from_raw_parts(at.cast::<u8>(), len) })
}
