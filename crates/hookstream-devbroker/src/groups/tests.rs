//! The rules of the coordinator, each in a test that bears its name, and a simulation of clients.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Groups;
use super::error::GroupError;
use super::journal::Entry;
use super::message::{
    Answer, CommitOffset, CommitRequest, GroupState, HeartbeatRequest, JoinRefused, JoinRequest, Joined,
    Leaver, PartitionOutcome, SyncRequest, Synced, Token, TopicPartition, TxnCommitRequest, Wanted,
};
use super::settings::Settings;

mod administration;
mod committing;
mod durability;
mod joining;
mod leaving;
mod simulation;
mod static_members;
mod syncing;
mod time;
mod transactions;

const GROUP: &str = "billing";
const SESSION_MS: u64 = 10_000;
const REBALANCE_MS: u64 = 60_000;

/// The groups, and a time that passes when the test says so.
struct Broker {
    groups: Groups,
    now: u64,
    tokens: Token,
    answers: BTreeMap<Token, Answer>,
    journal: Vec<Entry>,
}

impl Broker {
    fn new() -> Self {
        Self::with(Settings::default())
    }

    fn with(settings: Settings) -> Self {
        let groups = Groups::new(settings);
        Self { groups, now: 1_000_000, tokens: 0, answers: BTreeMap::new(), journal: Vec::new() }
    }

    fn token(&mut self) -> Token {
        self.tokens += 1;
        self.tokens
    }

    /// Takes in what the last call brought. No token is answered twice.
    fn collect(&mut self) {
        self.journal.extend(self.groups.drain_journal());
        while let Some((token, answer)) = self.groups.next_answer() {
            assert_eq!(self.answers.insert(token, answer), None, "{token}");
        }
    }

    /// Lets time pass, with a poll at each deadline.
    fn pass(&mut self, ms: u64) {
        let end = self.now + ms;
        loop {
            let next = self.groups.next_deadline().map_or(end, |deadline| deadline.clamp(self.now, end));
            self.now = next;
            self.groups.poll(self.now);
            self.collect();
            if self.now == end && self.groups.next_deadline().is_none_or(|deadline| deadline > end) {
                return;
            }
        }
    }

    fn join(&mut self, mut request: JoinRequest) -> Token {
        let token = self.token();
        request.fresh_id = token.to_string();
        self.groups.join(self.now, token, request);
        self.collect();
        token
    }

    fn waits(&self, token: Token) -> bool {
        !self.answers.contains_key(&token)
    }

    #[track_caller]
    fn joined(&self, token: Token) -> Joined {
        match self.answers.get(&token) {
            Some(Answer::Join(Ok(joined))) => joined.clone(),
            other => panic!("{token} has {other:?}"),
        }
    }

    #[track_caller]
    fn refused(&self, token: Token) -> JoinRefused {
        match self.answers.get(&token) {
            Some(Answer::Join(Err(refused))) => refused.clone(),
            other => panic!("{token} has {other:?}"),
        }
    }

    /// The error of a join that is refused at once.
    #[track_caller]
    fn join_error(&mut self, request: JoinRequest) -> GroupError {
        let token = self.join(request);
        self.refused(token).error
    }

    fn sync(&mut self, request: SyncRequest) -> Token {
        let token = self.token();
        self.groups.sync(self.now, token, request);
        self.collect();
        token
    }

    #[track_caller]
    fn synced(&self, token: Token) -> Synced {
        match self.answers.get(&token) {
            Some(Answer::Sync(Ok(synced))) => synced.clone(),
            other => panic!("{token} has {other:?}"),
        }
    }

    #[track_caller]
    fn sync_error(&self, token: Token) -> GroupError {
        match self.answers.get(&token) {
            Some(Answer::Sync(Err(error))) => *error,
            other => panic!("{token} has {other:?}"),
        }
    }

    fn heartbeat(&mut self, joined: &Joined) -> Result<(), GroupError> {
        let outcome = self.groups.heartbeat(
            self.now,
            &HeartbeatRequest {
                group: GROUP.to_owned(),
                generation: joined.generation,
                member_id: joined.member_id.clone(),
                instance_id: None,
            },
        );
        self.collect();
        outcome
    }

    fn leave(&mut self, member_id: &str, instance_id: Option<&str>) -> Result<(), GroupError> {
        let leaver = Leaver { member_id: member_id.to_owned(), instance_id: instance_id.map(str::to_owned) };
        let left = self.groups.leave(self.now, GROUP, vec![leaver]).expect("the group id is not empty");
        self.collect();
        left[0].outcome
    }

    fn state(&self) -> GroupState {
        self.groups.describe(GROUP).state
    }

    /// The ids of all members.
    fn members(&self) -> Vec<String> {
        self.groups.describe(GROUP).members.into_iter().map(|member| member.member_id).collect()
    }

    /// One member joins an empty group, and is given the assignment `all`.
    fn stable_alone(&mut self, request: JoinRequest) -> Joined {
        let token = self.join(request);
        let joined = self.joined(token);
        let token = self.sync(leader_sync(&joined));
        self.synced(token);
        joined
    }

    /// A stable group of a leader and a follower.
    fn stable_pair(&mut self, leader: JoinRequest, follower: JoinRequest) -> (Joined, Joined) {
        let first = self.stable_alone(leader.clone());
        let follower = self.join(follower);
        let again = self.join(JoinRequest { member_id: first.member_id, ..leader });
        let (leader, follower) = (self.joined(again), self.joined(follower));
        assert_eq!(leader.leader, leader.member_id);
        let tokens = [self.sync(sync(&follower)), self.sync(leader_sync(&leader))];
        for token in tokens {
            self.synced(token);
        }
        assert_eq!(self.state(), GroupState::Stable);
        (leader, follower)
    }

    fn commit(&mut self, request: CommitRequest) -> Vec<Result<(), GroupError>> {
        let outcomes = self.groups.commit(self.now, request);
        self.collect();
        outcomes_of(&outcomes)
    }

    fn txn_commit(&mut self, request: TxnCommitRequest) -> Vec<Result<(), GroupError>> {
        let outcomes = self.groups.txn_commit(self.now, request);
        self.collect();
        outcomes_of(&outcomes)
    }

    fn end_txn(&mut self, producer_id: i64, committed: bool) {
        self.groups.end_txn(self.now, producer_id, committed);
        self.collect();
    }

    /// The committed offset of one partition.
    fn offset(&self, topic: &str, partition: i32) -> i64 {
        self.fetch(topic, partition, false).expect("only stable offsets can be refused")
    }

    fn fetch(&self, topic: &str, partition: i32, require_stable: bool) -> Result<i64, GroupError> {
        let partition = TopicPartition { topic: topic.to_owned(), partition };
        let fetched = self.groups.fetch(GROUP, Wanted::These(&[partition]), require_stable);
        fetched[0].error.map_or(Ok(fetched[0].offset), Err)
    }
}

fn outcomes_of(outcomes: &[PartitionOutcome]) -> Vec<Result<(), GroupError>> {
    outcomes.iter().map(|outcome| outcome.outcome).collect()
}

/// A consumer's metadata.
fn subscription(topics: &[&str]) -> Bytes {
    let mut bytes = 1i16.to_be_bytes().to_vec();
    bytes.extend(i32::try_from(topics.len()).expect("few").to_be_bytes());
    for topic in topics {
        bytes.extend(i16::try_from(topic.len()).expect("short").to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes.extend((-1i32).to_be_bytes());
    bytes.into()
}

/// A consumer of the topic `orders` that wants to join.
fn consumer(client_id: &str) -> JoinRequest {
    JoinRequest {
        group: GROUP.to_owned(),
        member_id: String::new(),
        instance_id: None,
        client_id: client_id.to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        session_timeout_ms: i32::try_from(SESSION_MS).expect("short"),
        rebalance_timeout_ms: i32::try_from(REBALANCE_MS).expect("short"),
        protocol_type: "consumer".to_owned(),
        protocols: vec![("range".to_owned(), subscription(&["orders"]))],
        require_known_member_id: false,
        supports_skip_assignment: false,
        fresh_id: String::new(),
    }
}

/// The same as a static member.
fn static_consumer(instance_id: &str) -> JoinRequest {
    JoinRequest { instance_id: Some(instance_id.to_owned()), ..consumer("static") }
}

/// The request of a member to join again.
fn again(request: &JoinRequest, joined: &Joined) -> JoinRequest {
    JoinRequest { member_id: joined.member_id.clone(), ..request.clone() }
}

/// A consumer with these protocols.
fn preferring(client_id: &str, protocols: &[&str]) -> JoinRequest {
    let protocols = protocols.iter().map(|name| ((*name).to_owned(), subscription(&["orders"]))).collect();
    JoinRequest { protocols, ..consumer(client_id) }
}

fn sync(joined: &Joined) -> SyncRequest {
    SyncRequest {
        group: GROUP.to_owned(),
        generation: joined.generation,
        member_id: joined.member_id.clone(),
        instance_id: None,
        protocol_type: Some(joined.protocol_type.clone()),
        protocol: Some(joined.protocol.clone()),
        assignments: Vec::new(),
    }
}

/// The leader's sync: it assigns each member its own id.
fn leader_sync(joined: &Joined) -> SyncRequest {
    let own = |member_id: &String| (member_id.clone(), Bytes::from(member_id.clone()));
    let assignments = joined.members.iter().map(|member| own(&member.member_id)).collect();
    SyncRequest { assignments, ..sync(joined) }
}

fn offset(topic: &str, partition: i32, offset: i64) -> CommitOffset {
    CommitOffset { topic: topic.to_owned(), partition, offset, leader_epoch: -1, metadata: None }
}

/// A commit of who takes no part in the group.
fn simple_commit(offsets: Vec<CommitOffset>) -> CommitRequest {
    CommitRequest {
        group: GROUP.to_owned(),
        generation: -1,
        member_id: String::new(),
        instance_id: None,
        offsets,
    }
}

/// A commit of a member.
fn member_commit(joined: &Joined, offsets: Vec<CommitOffset>) -> CommitRequest {
    CommitRequest {
        generation: joined.generation,
        member_id: joined.member_id.clone(),
        ..simple_commit(offsets)
    }
}
