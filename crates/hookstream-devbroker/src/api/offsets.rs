//! Offsets of partitions: where they begin and end, what stands at a time, and what is deleted.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{
    DeleteRecordsRequest, DeleteRecordsResponse, ListOffsetsRequest, ListOffsetsResponse,
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};

use super::{Ctx, LEADER_EPOCH, code};
use crate::log::{LogError, RangeError, TimedOffset};
use crate::topics::Partition;

/// Special timestamps (KIP-79, KIP-734, KIP-405).
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;

fn partition(ctx: &Ctx<'_>, topic: &str, index: i32) -> Result<Arc<Partition>, ResponseError> {
    match ctx.fault {
        Some(error) => Err(error),
        None => ctx.broker.partition(topic, index).ok_or(ResponseError::UnknownTopicOrPartition),
    }
}

fn storage_failed(error: &LogError) -> ResponseError {
    tracing::error!("a log can't be read: {error}");
    ResponseError::KafkaStorageError
}

pub(super) fn list(ctx: &Ctx<'_>, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let committed = request.isolation_level == 1;
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|asked| {
            let found = partition(ctx, &topic.name, asked.partition_index)
                .and_then(|partition| look_up(&partition, asked.timestamp, committed));
            let answer = ListOffsetsPartitionResponse::default()
                .with_partition_index(asked.partition_index)
                .with_error_code(code(&found));
            match found {
                Ok(Some(found)) => answer
                    .with_offset(found.offset)
                    .with_timestamp(found.timestamp)
                    // Older versions do not have it.
                    .with_leader_epoch(if ctx.version >= 4 { LEADER_EPOCH } else { -1 }),
                Ok(None) | Err(_) => answer.with_offset(-1).with_timestamp(-1).with_leader_epoch(-1),
            }
        });
        let partitions = partitions.collect();
        ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(partitions)
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

fn look_up(
    partition: &Partition,
    timestamp: i64,
    committed: bool,
) -> Result<Option<TimedOffset>, ResponseError> {
    let log = partition.log();
    let end = if committed { log.last_stable_offset() } else { log.end_offset() };
    let at = |offset| Some(TimedOffset { offset, timestamp: -1 });
    match timestamp {
        LATEST => Ok(at(end)),
        EARLIEST | EARLIEST_LOCAL => Ok(at(log.start_offset())),
        MAX_TIMESTAMP => log.max_timestamp().map_err(|error| storage_failed(&error)),
        0.. => {
            let found = log.offset_for_time(timestamp).map_err(|error| storage_failed(&error))?;
            // What is not committed yet may be aborted.
            Ok(found.filter(|found| found.offset < end))
        }
        _ => Err(ResponseError::InvalidRequest),
    }
}

pub(super) fn delete_records(ctx: &Ctx<'_>, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    /// All that is there.
    const END: i64 = -1;
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|asked| {
            let deleted = partition(ctx, &topic.name, asked.partition_index).and_then(|partition| {
                let mut log = partition.log();
                let offset = if asked.offset == END { log.end_offset() } else { asked.offset };
                log.delete_before(offset).map_err(|error| match error {
                    RangeError::OutOfRange(_) => ResponseError::OffsetOutOfRange,
                    RangeError::Log(error) => storage_failed(&error),
                })
            });
            DeleteRecordsPartitionResult::default()
                .with_partition_index(asked.partition_index)
                .with_error_code(code(&deleted))
                .with_low_watermark(deleted.unwrap_or(-1))
        });
        let partitions = partitions.collect();
        DeleteRecordsTopicResult::default().with_name(topic.name).with_partitions(partitions)
    });
    DeleteRecordsResponse::default().with_topics(topics.collect())
}

pub(super) fn for_leader_epoch(
    ctx: &Ctx<'_>,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|asked| {
            let end =
                partition(ctx, &topic.topic, asked.partition).map(|partition| partition.log().end_offset());
            let answer =
                EpochEndOffset::default().with_partition(asked.partition).with_error_code(code(&end));
            match end {
                Ok(end) if asked.leader_epoch == LEADER_EPOCH => {
                    answer.with_leader_epoch(LEADER_EPOCH).with_end_offset(end)
                }
                // There has been no other epoch.
                Ok(_) | Err(_) => answer.with_leader_epoch(-1).with_end_offset(-1),
            }
        });
        let partitions = partitions.collect();
        OffsetForLeaderTopicResult::default().with_topic(topic.topic).with_partitions(partitions)
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}
