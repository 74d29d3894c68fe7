//! A consumer as the simulation plays it.

use super::*;

pub(super) const HEARTBEAT_MS: u64 = 3000;

/// What the client does next, or waits for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum State {
    Down,
    Join,
    Joining(Token),
    Sync(Joined),
    Syncing(Token),
    /// It takes part, and sends heartbeats.
    Member,
}

/// A client. What it is does not change; where it stands does.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) instance_id: Option<String>,
    session_timeout_ms: i32,
    rebalance_timeout_ms: i32,
    /// It speaks a version of the protocol that has KIP-394 and KIP-814.
    modern: bool,
    pub(super) topics: u8,
    pub(super) state: State,
    pub(super) member_id: String,
    pub(super) generation: i32,
    /// When it acts next.
    pub(super) due: u64,
    /// How long it takes to join once it is told to; it sends heartbeats until then.
    pub(super) slowness_ms: u64,
    /// It was told to join again, and will then.
    rejoin_at: Option<u64>,
}

impl Client {
    /// Two are dynamic, two are static, and the last two share their instance id.
    pub(super) fn new(idx: usize) -> Self {
        let instance_id = match idx {
            1 | 3 => Some(format!("instance-{idx}")),
            4 | 5 => Some("shared".to_owned()),
            _ => None,
        };
        Self {
            instance_id,
            session_timeout_ms: [6000, 10_000, 20_000][idx % 3],
            rebalance_timeout_ms: [5000, 15_000][idx % 2],
            modern: idx.is_multiple_of(3),
            topics: 0,
            state: State::Down,
            member_id: String::new(),
            generation: -1,
            due: u64::MAX,
            slowness_ms: 0,
            rejoin_at: None,
        }
    }

    pub(super) fn start(&mut self, now: u64) {
        self.member_id.clear();
        self.join_at(now);
    }

    pub(super) fn stop(&mut self) {
        self.state = State::Down;
        self.due = u64::MAX;
        self.rejoin_at = None;
    }

    /// The token that it waits for.
    pub(super) fn waits_for(&self) -> Option<Token> {
        match self.state {
            State::Joining(token) | State::Syncing(token) => Some(token),
            _ => None,
        }
    }

    pub(super) fn join_at(&mut self, at: u64) {
        self.state = State::Join;
        self.due = at;
        self.rejoin_at = None;
    }

    /// It does not dawdle any more.
    pub(super) fn hurry(&mut self, now: u64) {
        self.slowness_ms = 0;
        if self.state == State::Member && self.rejoin_at.is_some() {
            self.join_at(now);
        }
    }

    pub(super) fn request(&self) -> JoinRequest {
        let topic = format!("topic-{}", self.topics);
        JoinRequest {
            member_id: self.member_id.clone(),
            instance_id: self.instance_id.clone(),
            session_timeout_ms: self.session_timeout_ms,
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            protocols: vec![("range".to_owned(), subscription(&[&topic]))],
            require_known_member_id: self.modern,
            supports_skip_assignment: self.modern,
            ..consumer("client")
        }
    }

    /// Every member is assigned the generation.
    pub(super) fn sync_request(&self, joined: &Joined) -> SyncRequest {
        let leads = joined.leader == joined.member_id && !joined.skip_assignment;
        let generation = Bytes::from(joined.generation.to_string());
        let assignments = joined.members.iter().map(|member| (member.member_id.clone(), generation.clone()));
        let assignments = if leads { assignments.collect() } else { Vec::new() };
        SyncRequest { instance_id: self.instance_id.clone(), assignments, ..sync(joined) }
    }

    /// Whether it sends a heartbeat now; else it joins again.
    pub(super) fn beats(&self, now: u64) -> bool {
        self.rejoin_at.is_none_or(|rejoin_at| rejoin_at > now)
    }

    pub(super) fn on_heartbeat(&mut self, outcome: Result<(), GroupError>, now: u64) {
        self.due = now + HEARTBEAT_MS;
        match outcome {
            Ok(()) => {}
            Err(GroupError::RebalanceInProgress) => {
                let rejoin_at = *self.rejoin_at.get_or_insert(now + self.slowness_ms);
                self.due = self.due.min(rejoin_at.max(now));
            }
            Err(error) => self.on_error(error, now),
        }
    }

    pub(super) fn on_answer(&mut self, answer: Answer, now: u64) {
        match answer {
            Answer::Join(Ok(joined)) => {
                assert!(joined.generation >= self.generation, "{joined:?} after {}", self.generation);
                self.member_id.clone_from(&joined.member_id);
                self.generation = joined.generation;
                self.state = State::Sync(joined);
                self.due = now + self.slowness_ms.min(1000);
            }
            Answer::Join(Err(refused)) if refused.error == GroupError::MemberIdRequired => {
                self.member_id = refused.member_id;
                self.join_at(now + self.slowness_ms.min(1000));
            }
            Answer::Join(Err(refused)) => self.on_error(refused.error, now),
            Answer::Sync(Ok(synced)) => {
                // Whoever assigned, and whoever joined in between: it is this generation's.
                assert_eq!(synced.assignment, self.generation.to_string());
                self.state = State::Member;
                self.due = now + HEARTBEAT_MS;
            }
            Answer::Sync(Err(error)) => self.on_error(error, now),
        }
    }

    fn on_error(&mut self, error: GroupError, now: u64) {
        match error {
            GroupError::RebalanceInProgress | GroupError::IllegalGeneration => self.join_at(now),
            GroupError::UnknownMemberId => self.start(now),
            GroupError::FencedInstanceId => self.stop(),
            other => panic!("a client did nothing to get `{other}`"),
        }
    }
}
