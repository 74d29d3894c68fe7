//! A client that says exactly what a test wants said, and finds the broker to say it to.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::marker::PhantomData;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{
    ApiKey, CreateTopicsRequest, DeleteTopicsRequest, ListOffsetsRequest, MetadataRequest, MetadataResponse,
    RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};

use crate::broker::{Broker, PATIENCE, broker, unique, until};

/// The newest version of each request that both brokers speak: what tests use that do not name one.
pub const VERSIONS: &[(ApiKey, i16, i16)] = &[
    (ApiKey::Produce, 3, 11),
    (ApiKey::Fetch, 4, 12),
    (ApiKey::ListOffsets, 1, 8),
    (ApiKey::Metadata, 0, 12),
    (ApiKey::OffsetCommit, 2, 8),
    (ApiKey::OffsetFetch, 1, 8),
    (ApiKey::FindCoordinator, 0, 5),
    (ApiKey::JoinGroup, 0, 9),
    (ApiKey::Heartbeat, 0, 4),
    (ApiKey::LeaveGroup, 0, 5),
    (ApiKey::SyncGroup, 0, 5),
    (ApiKey::DescribeGroups, 0, 5),
    (ApiKey::ListGroups, 0, 5),
    (ApiKey::ApiVersions, 0, 4),
    (ApiKey::CreateTopics, 2, 7),
    (ApiKey::DeleteTopics, 1, 6),
    (ApiKey::DeleteRecords, 0, 2),
    (ApiKey::InitProducerId, 0, 4),
    (ApiKey::OffsetForLeaderEpoch, 2, 4),
    (ApiKey::AddPartitionsToTxn, 0, 3),
    (ApiKey::AddOffsetsToTxn, 0, 3),
    (ApiKey::EndTxn, 0, 3),
    (ApiKey::TxnOffsetCommit, 0, 3),
    (ApiKey::DescribeConfigs, 1, 4),
    (ApiKey::CreatePartitions, 0, 3),
    (ApiKey::DeleteGroups, 0, 2),
    (ApiKey::IncrementalAlterConfigs, 0, 1),
    (ApiKey::OffsetDelete, 0, 0),
    (ApiKey::DescribeCluster, 0, 1),
];

/// The newest version that both brokers speak.
fn newest<Q: Request>() -> i16 {
    let found = VERSIONS.iter().find(|(key, ..)| *key as i16 == Q::KEY);
    found.expect("the table has every request that is tested").2
}

/// The error of a code; none if it is none.
pub fn error(code: i16) -> Option<ResponseError> {
    ResponseError::try_from_code(code)
}

pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// A connection to one broker.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    correlation: i32,
}

impl Connection {
    pub fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, correlation: 0 }
    }

    /// Sends bytes as they are, after their length.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut framed = BytesMut::new();
        framed.put_u32(u32::try_from(bytes.len()).unwrap());
        framed.put_slice(bytes);
        self.stream.write_all(&framed)
    }

    /// The next answer, without its length; none if the connection ends.
    pub fn receive_bytes(&mut self) -> io::Result<Option<Bytes>> {
        let mut length = [0; 4];
        match self.stream.read_exact(&mut length) {
            Ok(()) => {}
            Err(error)
                if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
        let mut answer = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
        self.stream.read_exact(&mut answer)?;
        Ok(Some(answer.into()))
    }

    pub fn send<Q: Request>(&mut self, version: i16, request: &Q) {
        self.correlation += 1;
        let header = RequestHeader::default()
            .with_request_api_key(Q::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(text("contract")));
        let mut out = BytesMut::new();
        header.encode(&mut out, Q::header_version(version)).unwrap();
        request.encode(&mut out, version).unwrap();
        self.send_bytes(&out).unwrap();
    }

    pub fn receive<R: Decodable + HeaderVersion>(&mut self, version: i16) -> R {
        let mut answer = self.receive_bytes().unwrap().unwrap_or_else(|| {
            panic!("no {} in version {version}: the connection ended", std::any::type_name::<R>())
        });
        let header = ResponseHeader::decode(&mut answer, R::header_version(version)).unwrap();
        assert_eq!(header.correlation_id, self.correlation, "answers come in the order of their requests");
        let response = R::decode(&mut answer, version).unwrap();
        assert!(answer.is_empty(), "{} bytes follow the answer", answer.len());
        response
    }

    pub fn ask<Q: Request>(&mut self, version: i16, request: &Q) -> Q::Response {
        self.send(version, request);
        self.receive(version)
    }
}

/// A request on a connection of its own, whose answer may take a while.
#[derive(Debug)]
pub struct Waiting<R> {
    connection: Connection,
    version: i16,
    answer: PhantomData<R>,
}

impl<R: Decodable + HeaderVersion> Waiting<R> {
    /// Whether the answer comes within a time.
    pub fn is_answered_within(&self, time: Duration) -> bool {
        self.connection.stream.set_read_timeout(Some(time)).unwrap();
        let peeked = self.connection.stream.peek(&mut [0]);
        self.connection.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        matches!(peeked, Ok(1))
    }

    pub fn answer(mut self) -> R {
        self.connection.receive(self.version)
    }
}

/// Whom a request is for.
#[derive(Clone, Copy, Debug)]
pub enum To<'a> {
    /// Whoever: most requests that are not about records are answered, or passed on, by all.
    Any,
    Leader(&'a str, i32),
    Group(&'a str),
    Transaction(&'a str),
}

/// All that a test does with a broker. The topics that it made are deleted in the end.
#[derive(Debug)]
pub struct Client {
    pub broker: Arc<Broker>,
    connections: HashMap<String, Connection>,
    /// What was found for [`To`].
    pub(crate) found: HashMap<String, String>,
    topics: Vec<String>,
}

impl Client {
    pub fn new() -> Self {
        Self { broker: broker(), connections: HashMap::new(), found: HashMap::new(), topics: Vec::new() }
    }

    /// Asks in the newest version that both brokers speak.
    pub fn ask<Q: Request>(&mut self, to: To<'_>, request: &Q) -> Q::Response {
        self.ask_in(newest::<Q>(), to, request)
    }

    pub fn ask_in<Q: Request>(&mut self, version: i16, to: To<'_>, request: &Q) -> Q::Response {
        let address = self.address(to);
        self.connection(&address).ask(version, request)
    }

    /// Asks on a connection of its own, and does not wait for the answer.
    pub fn start<Q: Request>(&mut self, to: To<'_>, request: &Q) -> Waiting<Q::Response> {
        let version = newest::<Q>();
        let mut connection = Connection::open(&self.address(to));
        connection.send(version, request);
        Waiting { connection, version, answer: PhantomData }
    }

    fn connection(&mut self, address: &str) -> &mut Connection {
        self.connections.entry(address.to_owned()).or_insert_with(|| Connection::open(address))
    }

    /// Where a request is to go.
    pub fn address(&mut self, to: To<'_>) -> String {
        match to {
            To::Any => self.broker.addresses[0].clone(),
            To::Leader(topic, partition) => self.leader(topic, partition),
            To::Group(group) => self.coordinator(0, group),
            To::Transaction(id) => self.coordinator(1, id),
        }
    }

    fn leader(&mut self, topic: &str, partition: i32) -> String {
        let key = format!("leader of {topic}-{partition}");
        if let Some(address) = self.found.get(&key) {
            return address.clone();
        }
        let address = until("a leader", || {
            let metadata = self.metadata(&[topic]);
            let partitions = &metadata.topics[0].partitions;
            let found = partitions.iter().find(|found| found.partition_index == partition);
            let Some(found) = found else { return Some(self.broker.addresses[0].clone()) };
            let leader = metadata.brokers.iter().find(|broker| broker.node_id == found.leader_id)?;
            Some(format!("{}:{}", leader.host, leader.port))
        });
        self.found.insert(key, address.clone());
        address
    }

    pub fn metadata(&mut self, topics: &[&str]) -> MetadataResponse {
        let address = self.address(To::Any);
        self.metadata_of(&address, topics)
    }

    fn metadata_of(&mut self, address: &str, topics: &[&str]) -> MetadataResponse {
        let topics =
            topics.iter().map(|name| MetadataRequestTopic::default().with_name(Some(topic_name(name))));
        let request = MetadataRequest::default()
            .with_topics(Some(topics.collect()))
            .with_allow_auto_topic_creation(false);
        self.connection(address).ask(newest::<MetadataRequest>(), &request)
    }

    pub fn topic_metadata(&mut self, topic: &str) -> MetadataResponseTopic {
        self.metadata(&[topic]).topics.remove(0)
    }

    /// Makes a topic with one partition.
    pub fn topic(&mut self) -> String {
        self.topic_with(1, &[])
    }

    /// Makes a topic, and waits until it can be used at each broker.
    pub fn topic_with(&mut self, partitions: i32, configs: &[(&str, &str)]) -> String {
        let name = unique("topic");
        let topic = new_topic(&name, partitions, configs);
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
        let made = self.ask(To::Any, &request);
        assert_eq!(error(made.topics[0].error_code), None, "{:?}", made.topics[0].error_message);
        self.deletes(&name);
        self.await_topic(&name, partitions);
        name
    }

    /// Waits until each broker knows the topic with so many partitions, and they are led.
    pub fn await_topic(&mut self, name: &str, partitions: i32) {
        for address in self.broker.addresses.clone() {
            until("the topic at each broker", || {
                let known = &self.metadata_of(&address, &[name]).topics[0].partitions;
                (i32::try_from(known.len()) == Ok(partitions)
                    && known.iter().all(|partition| partition.error_code == 0))
                .then_some(())
            });
        }
        for partition in 0..partitions {
            until("leaders at work", || {
                self.found.clear();
                let asked =
                    ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(-2);
                let topic = ListOffsetsTopic::default()
                    .with_name(topic_name(name))
                    .with_partitions(vec![asked.with_current_leader_epoch(-1)]);
                let request =
                    ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
                let answer = self.ask(To::Leader(name, partition), &request);
                (answer.topics[0].partitions[0].error_code == 0).then_some(())
            });
        }
    }

    /// Remembers a topic to be deleted in the end.
    pub fn deletes(&mut self, topic: &str) {
        self.topics.push(topic.to_owned());
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if self.topics.is_empty() || std::thread::panicking() {
            return;
        }
        let names = self.topics.iter().map(|name| topic_name(name)).collect();
        let request = DeleteTopicsRequest::default().with_topic_names(names).with_timeout_ms(30_000);
        // Some are deleted by then, which is as good.
        self.ask_in(5, To::Any, &request);
    }
}

pub fn new_topic(name: &str, partitions: i32, configs: &[(&str, &str)]) -> CreatableTopic {
    let configs = configs.iter().map(|(name, value)| {
        CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
    });
    CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(partitions)
        .with_replication_factor(1)
        .with_configs(configs.collect())
}
