//! Answers on their way out, and which requests still wait for theirs.

use std::collections::{BTreeMap, VecDeque};

use super::error::GroupError;
use super::message::{Answer, JoinRefused, Joined, Synced, Token};
use super::settings::Settings;

/// What every step of a group needs from outside.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    pub(super) now: u64,
    pub(super) settings: &'a Settings,
    pub(super) out: &'a mut Outbox,
}

/// Every token that comes in is either answered, or waits in one group, or was forgotten.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    answers: VecDeque<(Token, Answer)>,
    /// The group in which a token waits.
    waiting: BTreeMap<Token, String>,
}

impl Outbox {
    pub(super) fn wait(&mut self, token: Token, group: &str) {
        self.waiting.insert(token, group.to_owned());
    }

    pub(super) fn join(&mut self, token: Token, answer: Result<Joined, JoinRefused>) {
        self.answer(token, Answer::Join(answer));
    }

    pub(super) fn sync(&mut self, token: Token, answer: Result<Synced, GroupError>) {
        self.answer(token, Answer::Sync(answer));
    }

    fn answer(&mut self, token: Token, answer: Answer) {
        self.waiting.remove(&token);
        self.answers.push_back((token, answer));
    }

    pub(super) fn next(&mut self) -> Option<(Token, Answer)> {
        self.answers.pop_front()
    }

    /// Nobody wants the token's answer any more. Returns the group in which it waits.
    pub(super) fn forget(&mut self, token: Token) -> Option<String> {
        self.answers.retain(|(answered, _)| *answered != token);
        self.waiting.remove(&token)
    }
}
