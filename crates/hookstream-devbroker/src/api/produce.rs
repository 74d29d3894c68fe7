//! Produce: records are appended to partitions.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::PartitionProduceData;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};

use super::{Ctx, text};
use crate::broker::wall_ms;
use crate::log::{AppendError, Appended, producer_of};
use crate::transactions::Producer;

/// What went wrong with the records of a partition, in the client's terms and in words.
struct Refused {
    error: ResponseError,
    message: Option<String>,
}

impl From<ResponseError> for Refused {
    fn from(error: ResponseError) -> Self {
        Self { error, message: None }
    }
}

impl From<AppendError> for Refused {
    fn from(error: AppendError) -> Self {
        let code = match &error {
            AppendError::Corrupt { .. } => ResponseError::CorruptMessage,
            // As Kafka does since it has no other format to convert to.
            AppendError::Magic { magic: 0 | 1 } => ResponseError::InvalidRecord,
            AppendError::Magic { .. } => ResponseError::CorruptMessage,
            AppendError::TooLarge { .. } => ResponseError::MessageTooLarge,
            AppendError::InvalidRecord(_) => ResponseError::InvalidRecord,
            AppendError::OutOfOrderSequence { .. } => ResponseError::OutOfOrderSequenceNumber,
            AppendError::InvalidProducerEpoch { .. } => ResponseError::InvalidProducerEpoch,
            AppendError::InvalidTxnState { .. } => ResponseError::InvalidTxnState,
            AppendError::Io(_) => ResponseError::KafkaStorageError,
        };
        if matches!(code, ResponseError::KafkaStorageError) {
            tracing::error!("records can't be written: {error}");
        }
        Self { error: code, message: Some(error.to_string()) }
    }
}

pub(super) async fn produce(ctx: &Ctx<'_>, request: ProduceRequest) -> Option<ProduceResponse> {
    let transaction = request.transactional_id.as_ref().map(|id| id.0.as_str());
    let mut last = None;
    let mut responses = Vec::with_capacity(request.topic_data.len());
    for topic in request.topic_data {
        let answers = topic.partition_data.into_iter().map(|data| {
            let index = data.index;
            let appended = match ctx.fault {
                Some(error) => Err(error.into()),
                None if !matches!(request.acks, -1..=1) => Err(ResponseError::InvalidRequiredAcks.into()),
                None => append(ctx, transaction, &topic.name, data),
            };
            if let Ok((_, ticket)) = &appended {
                last = last.max(Some(*ticket));
            }
            answer(index, appended.map(|(appended, _)| appended))
        });
        let answers = answers.collect();
        responses
            .push(TopicProduceResponse::default().with_name(topic.name).with_partition_responses(answers));
    }
    if request.acks == 0 {
        return None;
    }
    let settled = match last {
        Some(ticket) => ctx.broker.durability.settled(ticket).await,
        None => Ok(()),
    };
    if settled.is_err() {
        for answer in responses.iter_mut().flat_map(|topic| &mut topic.partition_responses) {
            answer.error_code = ResponseError::KafkaStorageError.code();
        }
    }
    Some(ProduceResponse::default().with_responses(responses))
}

fn append(
    ctx: &Ctx<'_>,
    transaction: Option<&str>,
    topic: &str,
    data: PartitionProduceData,
) -> Result<(Appended, u64), Refused> {
    let broker = ctx.broker;
    let partition = broker.partition(topic, data.index).ok_or(ResponseError::UnknownTopicOrPartition)?;
    let records = data.records.unwrap_or_default();
    if has_more_than_one_batch(&records) {
        let message = Some("a request has one batch of a partition".to_owned());
        return Err(Refused { error: ResponseError::InvalidRecord, message });
    }
    // A transaction must not end between being looked at and being written for.
    let mut coordination = None;
    if let Some((id, epoch, transactional)) = producer_of(&records)
        && transactional
    {
        let transaction = transaction.ok_or(ResponseError::TransactionalIdAuthorizationFailed)?;
        let held = coordination.insert(broker.coordination());
        let may = held.transactions.may_write(transaction, Producer { id, epoch }, topic, data.index);
        may.map_err(|error| match error {
            // A producer that is told so aborts and goes on (KIP-890).
            ResponseError::InvalidTxnState if ctx.version >= 11 => ResponseError::TransactionAbortable,
            other => other,
        })?;
    }
    let appended = partition.log().append(&records, wall_ms())?;
    drop(coordination);
    partition.grown();
    Ok((appended, broker.durability.wrote(&partition)))
}

/// What is no batch at all is for the log to refuse.
fn has_more_than_one_batch(records: &[u8]) -> bool {
    /// The base offset, and the length of what follows.
    const PREFIX: usize = 8 + 4;
    let Some((length, _)) = records.get(8..).and_then(<[u8]>::split_first_chunk::<4>) else { return false };
    let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    records.len() > PREFIX.saturating_add(length)
}

fn answer(index: i32, appended: Result<Appended, Refused>) -> PartitionProduceResponse {
    let answer = PartitionProduceResponse::default().with_index(index);
    match appended {
        Ok(appended) => answer
            .with_base_offset(appended.base_offset)
            .with_log_append_time_ms(appended.append_time.unwrap_or(-1))
            .with_log_start_offset(appended.start_offset),
        Err(refused) => answer
            .with_error_code(refused.error.code())
            .with_base_offset(-1)
            .with_log_append_time_ms(-1)
            .with_log_start_offset(-1)
            .with_error_message(refused.message.map(text)),
    }
}
