//! A member of a group, step by step.

use bytes::{BufMut as _, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest,
    SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;

use crate::client::{Client, To, Waiting, error, text};
use crate::coordination::group_id;

/// The least that both brokers allow.
pub const SESSION_MS: i32 = 6000;

/// Somebody who joins a group.
#[derive(Debug)]
pub struct Member {
    pub client: Client,
    pub group: String,
    pub member_id: String,
    pub instance_id: Option<String>,
    pub generation: i32,
    pub session_ms: i32,
    pub rebalance_ms: i32,
    pub protocols: Vec<(&'static str, Bytes)>,
}

impl Member {
    pub fn new(group: &str) -> Self {
        Self {
            client: Client::new(),
            group: group.to_owned(),
            member_id: String::new(),
            instance_id: None,
            generation: -1,
            session_ms: 30_000,
            rebalance_ms: 30_000,
            protocols: vec![("range", subscription(&[]))],
        }
    }

    pub fn fixed(group: &str, instance_id: &str) -> Self {
        Self { instance_id: Some(instance_id.to_owned()), ..Self::new(group) }
    }

    pub fn subscribed(self, topic: &str) -> Self {
        Self { protocols: vec![("range", subscription(&[topic]))], ..self }
    }

    pub fn id(&self) -> StrBytes {
        text(&self.member_id)
    }

    fn instance(&self) -> Option<StrBytes> {
        self.instance_id.as_deref().map(text)
    }

    pub fn join_request(&self) -> JoinGroupRequest {
        let protocols = self.protocols.iter().map(|(name, metadata)| {
            JoinGroupRequestProtocol::default().with_name(text(name)).with_metadata(metadata.clone())
        });
        JoinGroupRequest::default()
            .with_group_id(group_id(&self.group))
            .with_session_timeout_ms(self.session_ms)
            .with_rebalance_timeout_ms(self.rebalance_ms)
            .with_member_id(self.id())
            .with_group_instance_id(self.instance())
            .with_protocol_type(text("consumer"))
            .with_protocols(protocols.collect())
    }

    /// Gets a member id, unless there is one or none is needed.
    pub fn introduce(&mut self) {
        if !self.member_id.is_empty() || self.instance_id.is_some() {
            return;
        }
        let answer = self.try_join();
        assert_eq!(error(answer.error_code), Some(ResponseError::MemberIdRequired));
        self.member_id = answer.member_id.to_string();
    }

    /// Asks to join, once.
    pub fn try_join(&mut self) -> JoinGroupResponse {
        let request = self.join_request();
        self.client.ask(To::Group(&self.group), &request)
    }

    /// Asks to join; the answer comes when the rebalance is over.
    pub fn start_join(&mut self) -> Waiting<JoinGroupResponse> {
        self.introduce();
        let request = self.join_request();
        self.client.start(To::Group(&self.group), &request)
    }

    /// Takes what the answer to its join says.
    pub fn joined(&mut self, answer: &JoinGroupResponse) {
        assert_eq!(error(answer.error_code), None);
        self.member_id = answer.member_id.to_string();
        self.generation = answer.generation_id;
    }

    /// Joins.
    pub fn join(&mut self) -> JoinGroupResponse {
        let answer = self.start_join().answer();
        self.joined(&answer);
        answer
    }

    /// Joins as the only member, which gets all there is.
    pub fn join_alone(&mut self) {
        let answer = self.join();
        assert_eq!(answer.leader, answer.member_id);
        assert_eq!(self.sync(&[(&self.member_id.clone(), b"all")]), Ok(Bytes::from_static(b"all")));
    }

    pub fn sync_request(&self, assignments: &[(&str, &'static [u8])]) -> SyncGroupRequest {
        let assignments = assignments.iter().map(|(member, assignment)| {
            SyncGroupRequestAssignment::default()
                .with_member_id(text(member))
                .with_assignment(Bytes::from_static(assignment))
        });
        SyncGroupRequest::default()
            .with_group_id(group_id(&self.group))
            .with_generation_id(self.generation)
            .with_member_id(self.id())
            .with_group_instance_id(self.instance())
            .with_protocol_type(Some(text("consumer")))
            .with_protocol_name(Some(text(self.protocols[0].0)))
            .with_assignments(assignments.collect())
    }

    /// Gets the assignment; the leader brings all.
    pub fn sync(&mut self, assignments: &[(&str, &'static [u8])]) -> Result<Bytes, ResponseError> {
        let request = self.sync_request(assignments);
        let answer = self.client.ask(To::Group(&self.group), &request);
        error(answer.error_code).map_or(Ok(answer.assignment), Err)
    }

    /// Asks for the assignment; the answer comes when the leader has brought it.
    pub fn start_sync(&mut self) -> Waiting<SyncGroupResponse> {
        let request = self.sync_request(&[]);
        self.client.start(To::Group(&self.group), &request)
    }

    pub fn heartbeat(&mut self) -> Option<ResponseError> {
        let request = HeartbeatRequest::default()
            .with_group_id(group_id(&self.group))
            .with_generation_id(self.generation)
            .with_member_id(self.id())
            .with_group_instance_id(self.instance());
        error(self.client.ask(To::Group(&self.group), &request).error_code)
    }

    pub fn leave(&mut self) {
        assert_eq!(self.try_leave(), None);
    }

    pub fn try_leave(&mut self) -> Option<ResponseError> {
        let member =
            MemberIdentity::default().with_member_id(self.id()).with_group_instance_id(self.instance());
        let request =
            LeaveGroupRequest::default().with_group_id(group_id(&self.group)).with_members(vec![member]);
        let answer = self.client.ask(To::Group(&self.group), &request);
        error(answer.error_code).or_else(|| error(answer.members[0].error_code))
    }
}

/// A consumer's metadata: the topics that it subscribes to, and nothing else.
pub fn subscription(topics: &[&str]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(0);
    out.put_i32(i32::try_from(topics.len()).unwrap());
    for topic in topics {
        out.put_i16(i16::try_from(topic.len()).unwrap());
        out.put_slice(topic.as_bytes());
    }
    out.put_i32(-1);
    out.freeze()
}
