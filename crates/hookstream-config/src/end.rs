//! Where the configuration ends, for who must not decide by a view that is behind.
//!
//! A view is a fraction of a second late. Mostly that is harmless; but an event of an account that was made just
//! before it must not be rejected. So who is about to reject asks where the configuration ends *now*, and decides
//! when its view has reached that.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hookstream_log::admin::Admin;
use hookstream_types::{Chain, Offset, Partition};
use tokio::sync::{Notify, watch};
use tracing::warn;

/// A question for the end: how many were asked before it and with it.
pub type Question = u64;

/// The questions for the configuration's end, and the newest answer; shared by all threads of a service.
#[derive(Debug, Default)]
pub struct ConfigEnd {
    state: Mutex<State>,
    wanted: Notify,
}

#[derive(Debug, Default)]
struct State {
    asked: Question,
    /// The newest question that was there before its answer was looked for.
    answered: Question,
    end: Offset,
}

impl ConfigEnd {
    /// Asks where the configuration ends at this moment or later.
    pub fn ask(&self) -> Question {
        let mut state = self.state();
        state.asked += 1;
        self.wanted.notify_one();
        state.asked
    }

    /// The answer, once it is there: everything that was written before the question is below it.
    #[must_use]
    pub fn answer(&self, question: Question) -> Option<Offset> {
        let state = self.state();
        (state.answered >= question).then_some(state.end)
    }

    /// The newest question without an answer: one answer does for all before it.
    #[must_use]
    pub fn pending(&self) -> Option<Question> {
        let state = self.state();
        (state.asked > state.answered).then_some(state.asked)
    }

    /// Answers a question and those before it, with an end that was looked for after it was asked.
    pub fn learn(&self, question: Question, end: Offset) {
        let mut state = self.state();
        state.answered = state.answered.max(question);
        state.end = state.end.max(end);
    }

    /// Looks for answers as they are wanted, and tells of each.
    pub async fn serve(&self, admin: &Admin, topic: &str, changed: &watch::Sender<()>) {
        const RETRY: Duration = Duration::from_millis(500);
        loop {
            let Some(question) = self.pending() else {
                self.wanted.notified().await;
                continue;
            };
            match admin.end(topic, Partition(0)).await {
                Ok(end) => {
                    self.learn(question, end);
                    changed.send_replace(());
                }
                Err(error) => {
                    warn!(error = %Chain(&error), "cannot learn where the configuration ends; trying again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_for_the_questions_before_it() {
        let end = ConfigEnd::default();
        let first = end.ask();
        let seen = end.pending().unwrap();
        let second = end.ask();
        assert_eq!(end.answer(first), None);
        end.learn(seen, Offset(5));
        assert_eq!((end.answer(first), end.answer(second)), (Some(Offset(5)), None));
        assert_eq!(end.pending(), Some(second));
        end.learn(second, Offset(9));
        assert_eq!((end.answer(first), end.answer(second)), (Some(Offset(9)), Some(Offset(9))));
        assert_eq!(end.pending(), None);
    }
}
