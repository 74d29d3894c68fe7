//! Whether a record that was not acknowledged is certainly not in the log.

use rdkafka::bindings as sys;
use rdkafka::message::BorrowedMessage;

/// Whether librdkafka knows that no broker has the record: it never left, or was refused.
pub(crate) fn is_not_persisted(message: &BorrowedMessage<'_>) -> bool {
    // SAFETY: the pointer is that of a message which its event keeps alive, and the call only reads it.
    let status = unsafe { sys::rd_kafka_message_status(message.ptr()) };
    status == sys::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED
}
