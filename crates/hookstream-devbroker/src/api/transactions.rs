//! Producer ids and transactions (KIP-98).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    EndTxnRequest, EndTxnResponse, InitProducerIdRequest, InitProducerIdResponse, ProducerId,
    TxnOffsetCommitRequest, TxnOffsetCommitResponse,
};

use super::{Ctx, code, group};
use crate::broker::wall_ms;
use crate::transactions::{Claim, Producer};

type Result<T> = std::result::Result<T, ResponseError>;

/// A fenced producer is told so in the words of its version: before KIP-588 there was only the epoch.
fn fenced(ctx: &Ctx<'_>, since: i16, error: ResponseError) -> ResponseError {
    match error {
        ResponseError::ProducerFenced if ctx.version < since => ResponseError::InvalidProducerEpoch,
        other => other,
    }
}

/// Waits until what was done is safe; without that there is no answer, and the client asks again.
async fn settled(ctx: &Ctx<'_>, ticket: &Result<u64>) -> Option<()> {
    match ticket {
        Ok(ticket) => ctx.broker.durability.settled(*ticket).await.ok(),
        Err(_) => Some(()),
    }
}

pub(super) async fn init_producer_id(
    ctx: &Ctx<'_>,
    request: InitProducerIdRequest,
) -> Option<InitProducerIdResponse> {
    let claimed = init(ctx, &request).await.map_err(|error| fenced(ctx, 4, error));
    settled(ctx, &claimed.map(|(_, ticket)| ticket)).await?;
    let response = InitProducerIdResponse::default().with_error_code(code(&claimed));
    Some(match claimed {
        Ok((producer, _)) => {
            response.with_producer_id(ProducerId(producer.id)).with_producer_epoch(producer.epoch)
        }
        Err(_) => response.with_producer_id(ProducerId(-1)).with_producer_epoch(-1),
    })
}

async fn init(ctx: &Ctx<'_>, request: &InitProducerIdRequest) -> Result<(Producer, u64)> {
    if let Some(error) = ctx.fault {
        return Err(error);
    }
    let known = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
    match &request.transactional_id {
        Some(id) => {
            let known = (ctx.version >= 3 && known.id >= 0).then_some(known);
            ctx.broker.claim(Claim { id, timeout_ms: request.transaction_timeout_ms, known }).await
        }
        None => {
            let mut coordination = ctx.broker.coordination();
            let producer = coordination.transactions.fresh_producer();
            Ok((producer, ctx.broker.settle(&mut coordination)))
        }
    }
}

pub(super) async fn add_partitions(
    ctx: &Ctx<'_>,
    request: AddPartitionsToTxnRequest,
) -> Option<AddPartitionsToTxnResponse> {
    let producer =
        Producer { id: request.v3_and_below_producer_id.0, epoch: request.v3_and_below_producer_epoch };
    let topics = request.v3_and_below_topics;
    let unknown = |topic: &str, index: i32| ctx.broker.partition(topic, index).is_none();
    let partitions: Vec<(String, i32)> = topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|index| (topic.name.to_string(), *index)))
        .collect();
    let any_unknown = partitions.iter().any(|(topic, index)| unknown(topic, *index));
    let added = match ctx.fault {
        Some(error) => Err(error),
        None if any_unknown => Err(ResponseError::OperationNotAttempted),
        None => {
            let mut coordination = ctx.broker.coordination();
            let id = &request.v3_and_below_transactional_id;
            let added = coordination.transactions.add_partitions(id, producer, partitions, wall_ms());
            added.map(|()| ctx.broker.settle(&mut coordination)).map_err(|error| fenced(ctx, 2, error))
        }
    };
    settled(ctx, &added).await?;
    let results = topics.into_iter().map(|topic| {
        let results = topic.partitions.iter().map(|index| {
            let error = if unknown(&topic.name, *index) {
                ResponseError::UnknownTopicOrPartition.code()
            } else {
                code(&added)
            };
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(*index)
                .with_partition_error_code(error)
        });
        let results = results.collect();
        AddPartitionsToTxnTopicResult::default().with_name(topic.name).with_results_by_partition(results)
    });
    Some(AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(results.collect()))
}

pub(super) async fn add_offsets(
    ctx: &Ctx<'_>,
    request: AddOffsetsToTxnRequest,
) -> Option<AddOffsetsToTxnResponse> {
    let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
    let added = match ctx.fault {
        Some(error) => Err(error),
        None => {
            let mut coordination = ctx.broker.coordination();
            let added = coordination.transactions.add_group(
                &request.transactional_id,
                producer,
                &request.group_id,
                wall_ms(),
            );
            added.map(|()| ctx.broker.settle(&mut coordination)).map_err(|error| fenced(ctx, 2, error))
        }
    };
    settled(ctx, &added).await?;
    Some(AddOffsetsToTxnResponse::default().with_error_code(code(&added)))
}

pub(super) async fn end(ctx: &Ctx<'_>, request: EndTxnRequest) -> Option<EndTxnResponse> {
    let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
    let ended = match ctx.fault {
        Some(error) => Err(error),
        None => ctx
            .broker
            .end_transaction(&request.transactional_id, producer, request.committed)
            .await
            .map_err(|error| fenced(ctx, 2, error)),
    };
    Some(EndTxnResponse::default().with_error_code(code(&ended)))
}

pub(super) async fn commit_offsets(
    ctx: &Ctx<'_>,
    request: TxnOffsetCommitRequest,
) -> Option<TxnOffsetCommitResponse> {
    let (results, ticket) = group::commit_in_transaction(ctx, &request);
    settled(ctx, &ticket).await?;
    let topics = results.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(index, error)| {
            TxnOffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(error)
        });
        TxnOffsetCommitResponseTopic::default().with_name(name).with_partitions(partitions.collect())
    });
    Some(TxnOffsetCommitResponse::default().with_topics(topics.collect()))
}
