//! Topic ids: what a topic is, however often its name was used.

use std::any::Any;
use std::ffi::{CStr, CString};
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings as sys;
use rdkafka::types::RDKafka;

use super::queue::{Code, Queue};

/// The ids of `topics`, in their order; blocks up to `timeout`. None: the topic does not exist, may not be described,
/// or the broker gives no ids.
pub(crate) fn topic_ids(
    client: Arc<dyn Any + Send + Sync>,
    native: *mut RDKafka,
    topics: &[&str],
    timeout: Duration,
) -> Result<Vec<Option<String>>, Code> {
    if topics.is_empty() {
        return Ok(Vec::new());
    }
    let names = topics.iter().map(|topic| CString::new(*topic)).collect::<Result<Vec<_>, _>>();
    let names = names.map_err(|_| Code::InvalidTopic)?;
    let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
    let answers = Queue::new(client, native);
    // SAFETY: client and queue are valid; the names outlive the call, which copies them; the collection is
    // destroyed once, after the request was made.
    unsafe {
        let collection = sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        sys::rd_kafka_DescribeTopics(native, collection, ptr::null(), answers.as_ptr());
        sys::rd_kafka_TopicCollection_destroy(collection);
    }
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the queue is valid; the event is ours until it is destroyed below.
    let event = unsafe { sys::rd_kafka_queue_poll(answers.as_ptr(), timeout_ms) };
    if event.is_null() {
        return Err(Code::OperationTimedOut);
    }
    // SAFETY: the event is valid, and what the result refers to lives as long as it; it is destroyed once.
    unsafe {
        let code = Code::from(sys::rd_kafka_event_error(event));
        let ids = if code == Code::NoError { Ok(read(event, topics)) } else { Err(code) };
        sys::rd_kafka_event_destroy(event);
        ids
    }
}

/// # Safety
/// `event` is a valid event that answers a request to describe topics.
unsafe fn read(event: *mut sys::rd_kafka_event_t, topics: &[&str]) -> Vec<Option<String>> {
    let mut found = vec![None; topics.len()];
    // SAFETY: the result belongs to the event; its descriptions and their names and ids are valid as long as it.
    unsafe {
        let result = sys::rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return found;
        }
        let mut count = 0;
        let descriptions = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        for index in 0..count {
            let description = *descriptions.add(index);
            let error = sys::rd_kafka_TopicDescription_error(description);
            if !error.is_null() && Code::from(sys::rd_kafka_error_code(error)) != Code::NoError {
                continue;
            }
            let name = CStr::from_ptr(sys::rd_kafka_TopicDescription_name(description)).to_string_lossy();
            let id = sys::rd_kafka_TopicDescription_topic_id(description);
            let zero = sys::rd_kafka_Uuid_most_significant_bits(id) == 0
                && sys::rd_kafka_Uuid_least_significant_bits(id) == 0;
            let Some(position) = topics.iter().position(|topic| *topic == name) else { continue };
            if !zero {
                found[position] =
                    Some(CStr::from_ptr(sys::rd_kafka_Uuid_base64str(id)).to_string_lossy().into_owned());
            }
        }
    }
    found
}
