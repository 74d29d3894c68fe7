//! Fetch: records are read, or waited for.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::{AbortedTransaction, FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse, ProducerId};
use tokio::sync::Notify;

use super::{Ctx, NONE, millis};
use crate::log::{LogError, OutOfRange};

/// What a request may have at most, whatever it asks for: the answer is built in memory.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// What was found for all partitions at one moment.
struct Found {
    topics: Vec<FetchableTopicResponse>,
    bytes: usize,
    /// The client has to learn of something else than records.
    news: bool,
}

pub(super) async fn fetch(ctx: &Ctx<'_>, request: FetchRequest) -> Option<FetchResponse> {
    if request.session_id != 0 {
        // Sessions are never given out: the client sends all that it wants each time (KIP-227).
        let error = ResponseError::FetchSessionIdNotFound;
        return Some(FetchResponse::default().with_error_code(error.code()));
    }
    let deadline = Instant::now() + millis(request.max_wait_ms);
    let enough = usize::try_from(request.min_bytes).unwrap_or(0);
    // Woken by partitions that have more. They are asked to before the last look, so that nothing is missed.
    let called = Arc::new(Notify::new());
    let mut calling = false;
    loop {
        let found = read_all(ctx, &request);
        let left = deadline.saturating_duration_since(Instant::now());
        if found.bytes >= enough || found.news || left.is_zero() {
            return Some(FetchResponse::default().with_responses(found.topics));
        }
        if calling {
            // On time-out it is read once more.
            drop(tokio::time::timeout(left, called.notified()).await);
        } else {
            call_on_growth(ctx, &request, &called);
        }
        calling = !calling;
    }
}

/// Has each partition tell once when it grows.
fn call_on_growth(ctx: &Ctx<'_>, request: &FetchRequest, called: &Arc<Notify>) {
    for topic in &request.topics {
        let Some(found) = ctx.broker.topic(&topic.topic) else { continue };
        let indexes = topic.partitions.iter().map(|asked| asked.partition);
        indexes.filter_map(|index| found.partition(index)).for_each(|partition| partition.call(called));
    }
}

fn read_all(ctx: &Ctx<'_>, request: &FetchRequest) -> Found {
    let committed = request.isolation_level == 1;
    let most = usize::try_from(request.max_bytes).unwrap_or(0).min(MAX_BYTES);
    let mut found = Found { topics: Vec::with_capacity(request.topics.len()), bytes: 0, news: false };
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let room = most.saturating_sub(found.bytes);
            // The first records come whatever their size, or a client would never get past them.
            let answer = read(ctx, topic, asked, committed, room, found.bytes == 0);
            found.news |= answer.error_code != NONE;
            found.bytes += answer.records.as_ref().map_or(0, Bytes::len);
            partitions.push(answer);
        }
        let answer = FetchableTopicResponse::default().with_topic(topic.topic.clone());
        found.topics.push(answer.with_partitions(partitions));
    }
    found
}

fn read(
    ctx: &Ctx<'_>,
    topic: &FetchTopic,
    asked: &FetchPartition,
    committed: bool,
    room: usize,
    at_least_one: bool,
) -> PartitionData {
    let nothing = PartitionData::default()
        .with_partition_index(asked.partition)
        .with_high_watermark(-1)
        .with_last_stable_offset(-1)
        .with_log_start_offset(-1)
        .with_preferred_read_replica(BrokerId(-1))
        .with_records(Some(Bytes::new()));
    if let Some(error) = ctx.fault {
        return nothing.with_error_code(error.code());
    }
    let Some(partition) = ctx.broker.partition(&topic.topic, asked.partition) else {
        return nothing.with_error_code(ResponseError::UnknownTopicOrPartition.code());
    };
    let most = usize::try_from(asked.partition_max_bytes).unwrap_or(0).min(room);
    let plan = partition.log().plan_read(asked.fetch_offset, most, committed, at_least_one);
    let plan = match plan {
        Ok(plan) => plan,
        Err(OutOfRange { start, end, .. }) => {
            return nothing
                .with_error_code(ResponseError::OffsetOutOfRange.code())
                .with_high_watermark(end)
                .with_log_start_offset(start);
        }
    };
    match plan.run() {
        Ok(read) => {
            let aborted = read.aborted.into_iter().map(|(producer, first)| {
                AbortedTransaction::default().with_producer_id(ProducerId(producer)).with_first_offset(first)
            });
            nothing
                .with_high_watermark(read.end)
                .with_last_stable_offset(read.last_stable)
                .with_log_start_offset(read.start)
                .with_aborted_transactions(committed.then(|| aborted.collect()))
                .with_records(Some(read.records))
        }
        Err(error) => {
            tracing::error!(topic = %topic.topic.as_str(), partition = asked.partition, "records can't be read: {error}");
            let error = match error {
                LogError::Io(_) => ResponseError::KafkaStorageError,
                LogError::Corrupt(_) => ResponseError::CorruptMessage,
            };
            nothing.with_error_code(error.code())
        }
    }
}
