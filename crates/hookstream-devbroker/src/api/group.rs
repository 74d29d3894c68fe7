//! Consumer groups: membership, offsets, and what administrators ask.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, GroupId,
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, ListGroupsRequest, ListGroupsResponse, OffsetCommitRequest, OffsetCommitResponse,
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetFetchRequest, OffsetFetchResponse, SyncGroupRequest,
    SyncGroupResponse, TopicName, TxnOffsetCommitRequest,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::{Ctx, NONE, text};
use crate::groups::error::GroupError;
use crate::groups::message::{
    self, Answer, CommitOffset, FetchedOffset, GroupState, JoinRefused, JoinRequest, Joined, Leaver,
    PartitionOutcome, SyncRequest, TopicPartition, TxnCommitRequest, Wanted,
};
use crate::transactions::Producer;

fn owned(text: Option<StrBytes>) -> Option<String> {
    text.map(|text| text.to_string())
}

fn code(result: Result<(), GroupError>) -> i16 {
    result.err().map_or(NONE, GroupError::code)
}

/// Partitions by topic, in the order of their names.
fn by_topic<T>(partitions: impl IntoIterator<Item = (TopicPartition, T)>) -> BTreeMap<String, Vec<(i32, T)>> {
    let mut topics: BTreeMap<String, Vec<(i32, T)>> = BTreeMap::new();
    for (partition, of_it) in partitions {
        topics.entry(partition.topic).or_default().push((partition.partition, of_it));
    }
    topics
}

// --- membership ---

pub(super) async fn join(ctx: &Ctx<'_>, request: JoinGroupRequest) -> Option<JoinGroupResponse> {
    let refused = |code: i16, member_id: String| {
        JoinGroupResponse::default()
            .with_error_code(code)
            .with_generation_id(-1)
            .with_protocol_name((ctx.version < 7).then(StrBytes::new))
            .with_member_id(text(member_id))
    };
    if let Some(error) = ctx.fault {
        return Some(refused(error.code(), request.member_id.to_string()));
    }
    let request = JoinRequest {
        group: request.group_id.to_string(),
        member_id: request.member_id.to_string(),
        require_known_member_id: ctx.version >= 4,
        supports_skip_assignment: ctx.version >= 9,
        instance_id: owned(request.group_instance_id),
        client_id: ctx.client_id.clone(),
        client_host: format!("/{}", ctx.peer.ip()),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: if ctx.version == 0 { -1 } else { request.rebalance_timeout_ms },
        protocol_type: request.protocol_type.to_string(),
        protocols: request
            .protocols
            .into_iter()
            .map(|protocol| (protocol.name.to_string(), protocol.metadata))
            .collect(),
        fresh_id: Uuid::new_v4().to_string(),
    };
    let answer = ctx.broker.ask_group(|groups, now, token| groups.join(now, token, request)).await?;
    match answer {
        Answer::Join(Ok(joined)) => Some(joined_response(joined)),
        Answer::Join(Err(JoinRefused { error, member_id })) => Some(refused(error.code(), member_id)),
        Answer::Sync(_) => None,
    }
}

fn joined_response(joined: Joined) -> JoinGroupResponse {
    let members = joined.members.into_iter().map(|member| {
        JoinGroupResponseMember::default()
            .with_member_id(text(member.member_id))
            .with_group_instance_id(member.instance_id.map(text))
            .with_metadata(member.metadata)
    });
    JoinGroupResponse::default()
        .with_generation_id(joined.generation)
        .with_protocol_type(Some(text(joined.protocol_type)))
        .with_protocol_name(Some(text(joined.protocol)))
        .with_leader(text(joined.leader))
        .with_skip_assignment(joined.skip_assignment)
        .with_member_id(text(joined.member_id))
        .with_members(members.collect())
}

pub(super) async fn sync(ctx: &Ctx<'_>, request: SyncGroupRequest) -> Option<SyncGroupResponse> {
    if let Some(error) = ctx.fault {
        return Some(SyncGroupResponse::default().with_error_code(error.code()));
    }
    let request = SyncRequest {
        group: request.group_id.to_string(),
        generation: request.generation_id,
        member_id: request.member_id.to_string(),
        instance_id: owned(request.group_instance_id),
        protocol_type: owned(request.protocol_type),
        protocol: owned(request.protocol_name),
        assignments: request
            .assignments
            .into_iter()
            .map(|assignment| (assignment.member_id.to_string(), assignment.assignment))
            .collect(),
    };
    let answer = ctx.broker.ask_group(|groups, now, token| groups.sync(now, token, request)).await?;
    match answer {
        Answer::Sync(Ok(synced)) => Some(
            SyncGroupResponse::default()
                .with_protocol_type(Some(text(synced.protocol_type)))
                .with_protocol_name(Some(text(synced.protocol)))
                .with_assignment(synced.assignment),
        ),
        Answer::Sync(Err(error)) => Some(SyncGroupResponse::default().with_error_code(error.code())),
        Answer::Join(_) => None,
    }
}

pub(super) fn heartbeat(ctx: &Ctx<'_>, request: HeartbeatRequest) -> HeartbeatResponse {
    let error = match ctx.fault {
        Some(error) => error.code(),
        None => {
            let request = message::HeartbeatRequest {
                group: request.group_id.to_string(),
                generation: request.generation_id,
                member_id: request.member_id.to_string(),
                instance_id: owned(request.group_instance_id),
            };
            ctx.broker.with_groups(|groups, now| code(groups.heartbeat(now, &request))).0
        }
    };
    HeartbeatResponse::default().with_error_code(error)
}

pub(super) fn leave(ctx: &Ctx<'_>, request: LeaveGroupRequest) -> LeaveGroupResponse {
    if let Some(error) = ctx.fault {
        return LeaveGroupResponse::default().with_error_code(error.code());
    }
    let leavers = if ctx.version < 3 {
        vec![Leaver { member_id: request.member_id.to_string(), instance_id: None }]
    } else {
        let leaver = |member: kafka_protocol::messages::leave_group_request::MemberIdentity| Leaver {
            member_id: member.member_id.to_string(),
            instance_id: owned(member.group_instance_id),
        };
        request.members.into_iter().map(leaver).collect()
    };
    let (left, _) = ctx.broker.with_groups(|groups, now| groups.leave(now, &request.group_id, leavers));
    match left {
        Err(error) => LeaveGroupResponse::default().with_error_code(error.code()),
        Ok(left) if ctx.version < 3 => {
            let outcome = left.first().map_or(Ok(()), |left| left.outcome);
            LeaveGroupResponse::default().with_error_code(code(outcome))
        }
        Ok(left) => {
            let members = left.into_iter().map(|left| {
                MemberResponse::default()
                    .with_member_id(text(left.leaver.member_id))
                    .with_group_instance_id(left.leaver.instance_id.map(text))
                    .with_error_code(code(left.outcome))
            });
            LeaveGroupResponse::default().with_members(members.collect())
        }
    }
}

// --- offsets ---

pub(super) async fn commit(ctx: &Ctx<'_>, request: OffsetCommitRequest) -> Option<OffsetCommitResponse> {
    let offsets = request.topics.into_iter().flat_map(|topic| {
        let name = topic.name.to_string();
        topic.partitions.into_iter().map(move |partition| CommitOffset {
            topic: name.clone(),
            partition: partition.partition_index,
            offset: partition.committed_offset,
            leader_epoch: partition.committed_leader_epoch,
            metadata: owned(partition.committed_metadata),
        })
    });
    let (known, unknown) = split_known(ctx, offsets.collect());
    let request = message::CommitRequest {
        group: request.group_id.to_string(),
        generation: request.generation_id_or_member_epoch,
        member_id: request.member_id.to_string(),
        instance_id: owned(request.group_instance_id),
        offsets: known,
    };
    let (outcomes, ticket) = ctx.broker.with_groups(|groups, now| groups.commit(now, request));
    ctx.broker.durability.settled(ticket).await.ok()?;
    let all = outcomes.into_iter().map(|of| (of.partition, code(of.outcome))).chain(unknown);
    let topics = by_topic(all).into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(index, error)| {
            OffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(error)
        });
        OffsetCommitResponseTopic::default()
            .with_name(TopicName(text(name)))
            .with_partitions(partitions.collect())
    });
    Some(OffsetCommitResponse::default().with_topics(topics.collect()))
}

/// Offsets of partitions that there are; for the others, or all of them if a fault wants that, the error.
fn split_known(ctx: &Ctx<'_>, offsets: Vec<CommitOffset>) -> (Vec<CommitOffset>, Vec<(TopicPartition, i16)>) {
    let is_known = |offset: &CommitOffset| {
        ctx.fault.is_none() && ctx.broker.partition(&offset.topic, offset.partition).is_some()
    };
    let (known, unknown): (Vec<_>, Vec<_>) = offsets.into_iter().partition(is_known);
    let error = ctx.fault.unwrap_or(ResponseError::UnknownTopicOrPartition).code();
    let refused = unknown
        .into_iter()
        .map(|CommitOffset { topic, partition, .. }| (TopicPartition { topic, partition }, error));
    (known, refused.collect())
}

/// What became of each partition, and what to wait for.
type TxnCommitted = (Vec<(TopicName, Vec<(i32, i16)>)>, Result<u64, ResponseError>);

/// Commits offsets with a transaction's end.
pub(super) fn commit_in_transaction(ctx: &Ctx<'_>, request: &TxnOffsetCommitRequest) -> TxnCommitted {
    let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
    let offsets = request.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| CommitOffset {
            topic: topic.name.to_string(),
            partition: partition.partition_index,
            offset: partition.committed_offset,
            leader_epoch: partition.committed_leader_epoch,
            metadata: owned(partition.committed_metadata.clone()),
        })
    });
    let (known, mut results) = split_known(ctx, offsets.collect());
    let mut coordination = ctx.broker.coordination();
    let may =
        coordination.transactions.may_commit_offsets(&request.transactional_id, producer, &request.group_id);
    let ticket = match may {
        Ok(()) => {
            let commit = TxnCommitRequest {
                group: request.group_id.to_string(),
                producer_id: producer.id,
                generation: request.generation_id,
                member_id: request.member_id.to_string(),
                instance_id: owned(request.group_instance_id.clone()),
                offsets: known,
            };
            let outcomes = coordination.groups.txn_commit(ctx.broker.now(), commit);
            results.extend(
                outcomes
                    .into_iter()
                    .map(|PartitionOutcome { partition, outcome }| (partition, code(outcome))),
            );
            Ok(ctx.broker.settle(&mut coordination))
        }
        Err(error) => {
            results.extend(known.into_iter().map(|CommitOffset { topic, partition, .. }| {
                (TopicPartition { topic, partition }, error.code())
            }));
            Err(error)
        }
    };
    let topics = by_topic(results).into_iter().map(|(name, partitions)| (TopicName(text(name)), partitions));
    (topics.collect(), ticket)
}

pub(super) fn fetch_offsets(ctx: &Ctx<'_>, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let error = ctx.fault.map_or(NONE, |error| error.code());
    if ctx.version >= 8 {
        let groups = request.groups.into_iter().map(|asked| {
            let wanted = asked.topics.map(|topics| {
                topics.into_iter().map(|topic| (topic.name, topic.partition_indexes)).collect()
            });
            let found = look_up(ctx, &asked.group_id, wanted, request.require_stable);
            let topics = found.into_iter().map(|(name, offsets)| {
                let partitions = offsets.into_iter().map(|(index, offset)| {
                    OffsetFetchResponsePartitions::default()
                        .with_partition_index(index)
                        .with_committed_offset(offset.offset)
                        .with_committed_leader_epoch(offset.leader_epoch)
                        .with_metadata(Some(text(offset.metadata)))
                        .with_error_code(code(offset.error.map_or(Ok(()), Err)))
                });
                OffsetFetchResponseTopics::default()
                    .with_name(TopicName(text(name)))
                    .with_partitions(partitions.collect())
            });
            OffsetFetchResponseGroup::default()
                .with_group_id(asked.group_id)
                .with_error_code(error)
                .with_topics(topics.collect())
        });
        return OffsetFetchResponse::default().with_groups(groups.collect());
    }
    let wanted = request
        .topics
        .map(|topics| topics.into_iter().map(|topic| (topic.name, topic.partition_indexes)).collect());
    let found = look_up(ctx, &request.group_id, wanted, request.require_stable);
    let topics = found.into_iter().map(|(name, offsets)| {
        let partitions = offsets.into_iter().map(|(index, offset)| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(index)
                .with_committed_offset(offset.offset)
                .with_committed_leader_epoch(offset.leader_epoch)
                .with_metadata(Some(text(offset.metadata)))
                .with_error_code(code(offset.error.map_or(Ok(()), Err)))
        });
        OffsetFetchResponseTopic::default()
            .with_name(TopicName(text(name)))
            .with_partitions(partitions.collect())
    });
    OffsetFetchResponse::default().with_error_code(error).with_topics(topics.collect())
}

/// Committed offsets by topic; none if a fault wants that.
fn look_up(
    ctx: &Ctx<'_>,
    group: &str,
    wanted: Option<Vec<(TopicName, Vec<i32>)>>,
    require_stable: bool,
) -> BTreeMap<String, Vec<(i32, FetchedOffset)>> {
    if ctx.fault.is_some() {
        return BTreeMap::new();
    }
    let partitions: Option<Vec<TopicPartition>> = wanted.map(|topics| {
        let partitions = topics.into_iter().flat_map(|(name, indexes)| {
            let topic = name.to_string();
            indexes.into_iter().map(move |partition| TopicPartition { topic: topic.clone(), partition })
        });
        partitions.collect()
    });
    let coordination = ctx.broker.coordination();
    let wanted = partitions.as_deref().map_or(Wanted::All, Wanted::These);
    let found = coordination.groups.fetch(group, wanted, require_stable);
    by_topic(found.into_iter().map(|offset| (offset.partition.clone(), offset)))
}

pub(super) fn delete_offsets(ctx: &Ctx<'_>, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    if let Some(error) = ctx.fault {
        return OffsetDeleteResponse::default().with_error_code(error.code());
    }
    let partitions = request.topics.into_iter().flat_map(|topic| {
        let name = topic.name.to_string();
        topic.partitions.into_iter().map(move |partition| TopicPartition {
            topic: name.clone(),
            partition: partition.partition_index,
        })
    });
    let partitions = partitions.collect();
    let (deleted, _) =
        ctx.broker.with_groups(|groups, now| groups.delete_offsets(now, &request.group_id, partitions));
    match deleted {
        Err(error) => OffsetDeleteResponse::default().with_error_code(error.code()),
        Ok(outcomes) => {
            let topics = by_topic(outcomes.into_iter().map(|of| (of.partition, of.outcome)));
            let topics = topics.into_iter().map(|(name, partitions)| {
                let partitions = partitions.into_iter().map(|(index, outcome)| {
                    OffsetDeleteResponsePartition::default()
                        .with_partition_index(index)
                        .with_error_code(code(outcome))
                });
                OffsetDeleteResponseTopic::default()
                    .with_name(TopicName(text(name)))
                    .with_partitions(partitions.collect())
            });
            OffsetDeleteResponse::default().with_topics(topics.collect())
        }
    }
}

// --- administration ---

pub(super) fn list(ctx: &Ctx<'_>, request: ListGroupsRequest) -> ListGroupsResponse {
    /// The only kind of group that there is here (KIP-848).
    const CLASSIC: &str = "classic";
    if let Some(error) = ctx.fault {
        return ListGroupsResponse::default().with_error_code(error.code());
    }
    let types = &request.types_filter;
    if !types.is_empty() && !types.iter().any(|name| name.eq_ignore_ascii_case(CLASSIC)) {
        return ListGroupsResponse::default();
    }
    let states: Vec<GroupState> =
        request.states_filter.iter().filter_map(|name| GroupState::of_name(name)).collect();
    // States that are asked for and unknown here are those of no group.
    let none = states.is_empty() && !request.states_filter.is_empty();
    let listed = if none { Vec::new() } else { ctx.broker.coordination().groups.list(&states) };
    let groups = listed.into_iter().map(|listing| {
        ListedGroup::default()
            .with_group_id(GroupId(text(listing.group)))
            .with_protocol_type(text(listing.protocol_type))
            .with_group_state(text(listing.state.name()))
            .with_group_type(text(CLASSIC))
    });
    ListGroupsResponse::default().with_groups(groups.collect())
}

pub(super) fn describe(ctx: &Ctx<'_>, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let coordination = ctx.broker.coordination();
    let groups = request.groups.into_iter().map(|group| {
        let described = coordination.groups.describe(&group);
        let members = described.members.into_iter().map(|member| {
            DescribedGroupMember::default()
                .with_member_id(text(member.member_id))
                .with_group_instance_id(member.instance_id.map(text))
                .with_client_id(text(member.client_id))
                .with_client_host(text(member.client_host))
                .with_member_metadata(member.metadata)
                .with_member_assignment(member.assignment)
        });
        DescribedGroup::default()
            .with_error_code(ctx.fault.map_or(NONE, |error| error.code()))
            .with_group_id(group)
            .with_group_state(text(described.state.name()))
            .with_protocol_type(text(described.protocol_type))
            .with_protocol_data(text(described.protocol))
            .with_members(members.collect())
    });
    DescribeGroupsResponse::default().with_groups(groups.collect())
}

pub(super) fn delete(ctx: &Ctx<'_>, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let results = request.groups_names.into_iter().map(|group| {
        let error = match ctx.fault {
            Some(error) => error.code(),
            None => ctx.broker.with_groups(|groups, now| code(groups.delete(now, &group))).0,
        };
        DeletableGroupResult::default().with_group_id(group).with_error_code(error)
    });
    DeleteGroupsResponse::default().with_results(results.collect())
}
