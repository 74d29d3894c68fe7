//! What requests do: one function for each kind, and the table of kinds and versions.
//!
//! A kind or version that is not in the table is answered with UNSUPPORTED_VERSION, and the connection ends: what
//! the answer would look like is not known either.

mod cluster;
mod configs;
mod fetch;
mod group;
mod offsets;
mod produce;
mod topics;
mod transactions;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes, VersionRange};

use crate::broker::Broker;
use crate::faults::Fault;

/// What becomes of a request.
#[derive(Debug)]
pub(crate) enum Reply {
    Send(Bytes),
    /// The client asked for no answer.
    Nothing,
    /// This is sent, and the connection ends.
    Close(Bytes),
}

/// A request, beside what it asks for.
pub(crate) struct Ctx<'a> {
    pub broker: &'a Broker,
    pub version: i16,
    pub client_id: String,
    pub peer: SocketAddr,
    /// The address that the client came to: what it is told to use.
    pub local: SocketAddr,
    /// What the answer is to be, whatever is asked.
    pub fault: Option<ResponseError>,
}

/// No error.
const NONE: i16 = 0;
/// The only broker.
const NODE: i32 = 1;
/// No leader is ever replaced.
const LEADER_EPOCH: i32 = 0;

macro_rules! apis {
    // A handler that may wait, or give no answer.
    (@answer wait $call:expr) => { $call.await };
    (@answer now $call:expr) => { Some($call) };
    ($($key:ident $min:literal..=$max:literal $when:ident $module:ident::$handler:ident,)*) => {
        /// What is served.
        pub(crate) const APIS: &[(ApiKey, VersionRange)] =
            &[$((ApiKey::$key, VersionRange { min: $min, max: $max })),*];

        /// Answers a request of a version that is served.
        async fn dispatch(ctx: &Ctx<'_>, key: ApiKey, id: i32, body: Bytes) -> Result<Reply, Unreadable> {
            match key {
                $(ApiKey::$key => {
                    let request = read(body, ctx.version)?;
                    write(id, ctx.version, apis!(@answer $when $module::$handler(ctx, request)))
                })*
                _ => Ok(unsupported(id)),
            }
        }
    };
}

apis! {
    Produce 3..=11 wait produce::produce,
    Fetch 4..=12 wait fetch::fetch,
    ListOffsets 1..=8 now offsets::list,
    Metadata 0..=12 now cluster::metadata,
    OffsetCommit 2..=8 wait group::commit,
    OffsetFetch 1..=8 now group::fetch_offsets,
    FindCoordinator 0..=5 now cluster::find_coordinator,
    JoinGroup 0..=9 wait group::join,
    Heartbeat 0..=4 now group::heartbeat,
    LeaveGroup 0..=5 now group::leave,
    SyncGroup 0..=5 wait group::sync,
    DescribeGroups 0..=5 now group::describe,
    ListGroups 0..=5 now group::list,
    ApiVersions 0..=4 now cluster::api_versions,
    CreateTopics 2..=7 wait topics::create,
    DeleteTopics 1..=6 wait topics::delete,
    DeleteRecords 0..=2 now offsets::delete_records,
    InitProducerId 0..=4 wait transactions::init_producer_id,
    OffsetForLeaderEpoch 2..=4 now offsets::for_leader_epoch,
    AddPartitionsToTxn 0..=3 wait transactions::add_partitions,
    AddOffsetsToTxn 0..=3 wait transactions::add_offsets,
    EndTxn 0..=3 wait transactions::end,
    TxnOffsetCommit 0..=3 wait transactions::commit_offsets,
    DescribeConfigs 1..=4 now configs::describe,
    CreatePartitions 0..=3 wait topics::create_partitions,
    DeleteGroups 0..=2 now group::delete,
    IncrementalAlterConfigs 0..=1 now configs::alter,
    OffsetDelete 0..=0 now group::delete_offsets,
    DescribeCluster 0..=1 now cluster::describe,
}

/// A request that is not what it says it is.
#[derive(Debug)]
struct Unreadable(String);

/// Reads a request's header, and has it answered.
pub(crate) async fn answer(broker: &Broker, peer: SocketAddr, local: SocketAddr, mut frame: Bytes) -> Reply {
    let Some((head, _)) = frame.split_first_chunk::<8>() else { return Reply::Close(Bytes::new()) };
    let [k0, k1, v0, v1, id @ ..] = *head;
    let (key, version) = (i16::from_be_bytes([k0, k1]), i16::from_be_bytes([v0, v1]));
    let id = i32::from_be_bytes(id);
    let served = APIS.iter().find(|(served, _)| *served as i16 == key);
    let Some((key, versions)) = served else { return unsupported(id) };
    if version < versions.min || version > versions.max {
        // A client that is newer than the broker asks for what there is in this way (KIP-511).
        return if *key == ApiKey::ApiVersions { cluster::older_api_versions(id) } else { unsupported(id) };
    }
    let header = match RequestHeader::decode(&mut frame, key.request_header_version(version)) {
        Ok(header) => header,
        Err(error) => return unreadable(peer, *key, &error.to_string()),
    };
    let fault = broker.faults.strike(*key);
    if fault == Some(Fault::DropRequest) {
        return Reply::Close(Bytes::new());
    }
    let ctx = Ctx {
        broker,
        version,
        client_id: header.client_id.map(|id| id.to_string()).unwrap_or_default(),
        peer,
        local,
        fault: match fault {
            Some(Fault::Error(error)) => Some(error),
            _ => None,
        },
    };
    let reply = match dispatch(&ctx, *key, id, frame).await {
        Ok(reply) => reply,
        Err(Unreadable(problem)) => return unreadable(peer, *key, &problem),
    };
    match fault {
        Some(Fault::DropAnswer) => Reply::Close(Bytes::new()),
        Some(Fault::Stall(time)) => {
            tokio::time::sleep(time).await;
            reply
        }
        _ => reply,
    }
}

fn unreadable(peer: SocketAddr, key: ApiKey, problem: &str) -> Reply {
    tracing::warn!(%peer, "a {key:?} request can't be read, and its connection is closed: {problem}");
    Reply::Close(Bytes::new())
}

/// Most answers start with a throttle time and an error; who reads another one fails as well.
fn unsupported(id: i32) -> Reply {
    let mut out = BytesMut::new();
    out.put_i32(4 + 4 + 2);
    out.put_i32(id);
    out.put_i32(0);
    out.put_i16(ResponseError::UnsupportedVersion.code());
    Reply::Close(out.freeze())
}

/// Bytes that follow are passed over, as Kafka does: librdkafka's Metadata has some.
fn read<Q: Decodable>(mut body: Bytes, version: i16) -> Result<Q, Unreadable> {
    Q::decode(&mut body, version).map_err(|error| Unreadable(error.to_string()))
}

/// Writes an answer; none if the client wants none.
fn write<R: Encodable + HeaderVersion>(
    id: i32,
    version: i16,
    response: Option<R>,
) -> Result<Reply, Unreadable> {
    let Some(response) = response else { return Ok(Reply::Nothing) };
    let header = ResponseHeader::default().with_correlation_id(id);
    let mut out = BytesMut::new();
    let written = response.compute_size(version).and_then(|size| {
        out.reserve(4 + 16 + size);
        out.put_u32(0);
        header.encode(&mut out, R::header_version(version))?;
        response.encode(&mut out, version)
    });
    written.map_err(|error| Unreadable(format!("its answer can't be written: {error}")))?;
    let length = u32::try_from(out.len() - 4).unwrap_or(u32::MAX);
    out[..4].copy_from_slice(&length.to_be_bytes());
    Ok(Reply::Send(out.freeze()))
}

/// A text of the protocol.
fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

/// A time of the protocol; negative ones are none.
fn millis(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

/// The code of what came of something.
fn code<T>(result: &Result<T, ResponseError>) -> i16 {
    result.as_ref().err().map_or(NONE, ResponseError::code)
}
