//! One member of a group.

use bytes::Bytes;

use super::message::{JoinRequest, MemberDescription, Token};
use super::settings::Settings;

/// A request of a member that has no answer yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Wait {
    #[default]
    None,
    For(Token),
    /// The client that sent it has gone. The member counts as if it still waited, as in Kafka, where nobody notices:
    /// when the wait is over, its session ends it unless the client comes back.
    Abandoned,
}

impl Wait {
    pub(super) fn is_on(self) -> bool {
        self != Self::None
    }

    /// Ends the wait. Returns whom to answer.
    pub(super) fn end(&mut self) -> Option<Token> {
        match std::mem::take(self) {
            Self::For(token) => Some(token),
            Self::None | Self::Abandoned => None,
        }
    }
}

/// A member that has joined, or waits to.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) id: String,
    pub(super) instance_id: Option<String>,
    client_id: String,
    client_host: String,
    session_timeout_ms: u64,
    pub(super) rebalance_timeout_ms: u64,
    /// In the order that the member prefers.
    pub(super) protocols: Vec<(String, Bytes)>,
    pub(super) assignment: Bytes,
    /// When it was last heard of.
    pub(super) seen_at: u64,
    /// It has not had an answer to its first join.
    pub(super) is_new: bool,
    /// It joined with the id, or has been told it since.
    knows_id: bool,
    pub(super) join: Wait,
    pub(super) sync: Wait,
}

impl Member {
    /// A new member, which waits in its join.
    pub(super) fn new(id: String, request: JoinRequest, token: Token, now: u64) -> Self {
        let (session_timeout_ms, rebalance_timeout_ms) = timeouts(&request);
        Self {
            id,
            knows_id: !request.member_id.is_empty(),
            instance_id: request.instance_id,
            client_id: request.client_id,
            client_host: request.client_host,
            session_timeout_ms,
            rebalance_timeout_ms,
            protocols: request.protocols,
            assignment: Bytes::new(),
            seen_at: now,
            is_new: true,
            join: Wait::For(token),
            sync: Wait::None,
        }
    }

    /// It joins again, perhaps with other metadata.
    pub(super) fn update(&mut self, request: JoinRequest, now: u64) {
        (self.session_timeout_ms, self.rebalance_timeout_ms) = timeouts(&request);
        self.knows_id |= !request.member_id.is_empty();
        self.client_id = request.client_id;
        self.client_host = request.client_host;
        self.protocols = request.protocols;
        self.seen_at = now;
    }

    pub(super) fn is_static(&self) -> bool {
        self.instance_id.is_some()
    }

    pub(super) fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    /// Its metadata for a protocol.
    pub(super) fn metadata(&self, protocol: &str) -> Bytes {
        let found = self.protocols.iter().find(|(name, _)| name == protocol);
        found.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }

    /// Its first join has been answered.
    pub(super) fn settle(&mut self, now: u64) {
        self.seen_at = now;
        self.is_new = false;
        self.knows_id = true;
    }

    /// When it is removed unless it is heard of; none while it waits.
    pub(super) fn session_end(&self, settings: &Settings) -> Option<u64> {
        let lost = self.join == Wait::Abandoned && !self.knows_id && !self.is_static();
        if lost {
            // The client is gone and never learned its id, so it can't come back as this member.
            return Some(self.seen_at);
        }
        if self.is_new && self.join.is_on() {
            return Some(self.seen_at.saturating_add(settings.new_member_join_timeout_ms));
        }
        if self.join.is_on() || self.sync.is_on() {
            return None;
        }
        Some(self.seen_at.saturating_add(self.session_timeout_ms))
    }

    /// The token is not wanted any more.
    pub(super) fn forget(&mut self, token: Token) {
        for wait in [&mut self.join, &mut self.sync] {
            if *wait == Wait::For(token) {
                *wait = Wait::Abandoned;
            }
        }
    }

    /// The protocol that the group chose is given if it is stable: else metadata and assignment are not told.
    pub(super) fn describe(&self, stable_protocol: Option<&str>) -> MemberDescription {
        let shown = stable_protocol.map(|protocol| (self.metadata(protocol), self.assignment.clone()));
        let (metadata, assignment) = shown.unwrap_or_default();
        MemberDescription {
            member_id: self.id.clone(),
            instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            metadata,
            assignment,
        }
    }
}

/// Session and rebalance timeout. That the session's is positive has been checked.
fn timeouts(request: &JoinRequest) -> (u64, u64) {
    let session = u64::try_from(request.session_timeout_ms).unwrap_or(0);
    (session, u64::try_from(request.rebalance_timeout_ms).unwrap_or(session))
}
