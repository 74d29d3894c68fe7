//! Keeps a service's view of the configuration current.
//!
//! The log's reader takes records into the [`State`] on a thread of its own; a task publishes views. Before the
//! reader has caught up there is one empty view. Between two views there are at least [`COALESCE`] and
//! [`REST`] times what the last one took, so that a burst of changes never takes more than a quarter of a core. A
//! view is published for each advance, even if no record was of interest: stages wait for its offset (rule 10).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use hookstream_core::config::View;
use hookstream_log::tail::{Progress, Tail};
use hookstream_log::{KafkaError, KafkaSettings};
use hookstream_types::{Offset, Partition};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::envelope::Keyring;
use crate::state::{Problem, State};

/// Shortest time between two views.
const COALESCE: Duration = Duration::from_millis(5);
/// The time between two views is at least so many times what making one took...
const REST: u32 = 3;
/// ...but no more than this: a stage that waits for a view is not to be held up for longer.
const LONGEST_REST: Duration = Duration::from_millis(500);

/// Follows the configuration until it is dropped.
#[derive(Debug)]
pub struct Follower {
    shared: Arc<Shared>,
    published: watch::Receiver<Option<Offset>>,
    publisher: AbortHandle,
    tail: Tail,
    /// Those who want to know the log's end.
    askers: AtomicU64,
    asked: tokio::sync::Mutex<Asked>,
}

/// Where the log ended when it was last asked.
#[derive(Debug, Default)]
struct Asked {
    /// The last of those who had come before it was asked.
    last: u64,
    end: Offset,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    view: ArcSwap<View>,
}

impl Follower {
    /// Starts to follow; call it within a tokio runtime.
    ///
    /// # Errors
    /// If the settings are not taken or a thread can't be started. An absent broker or topic is waited for.
    pub fn start(settings: &KafkaSettings, topic: &str, keyring: Arc<Keyring>) -> Result<Self, KafkaError> {
        let shared = Arc::new(Shared { state: Mutex::new(State::new(keyring)), view: ArcSwap::default() });
        let applying = Arc::clone(&shared);
        let tail = Tail::start(settings, topic, Partition(0), move |record| {
            applying.state().apply(record.offset, record.key, record.value);
        })?;
        let (publish, published) = watch::channel(None);
        let publisher =
            tokio::spawn(publish_views(Arc::clone(&shared), tail.watch(), publish)).abort_handle();
        let (askers, asked) = (AtomicU64::default(), tokio::sync::Mutex::default());
        Ok(Self { shared, published, publisher, tail, askers, asked })
    }

    /// The newest view; empty before [`Follower::caught_up`]. Cheap and lock-free.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.shared.view.load_full()
    }

    /// Waits until the view shows everything that was there at the start.
    pub async fn caught_up(&self) {
        self.wait(|offset| offset.is_some()).await;
    }

    /// Waits until the view reaches this offset.
    pub async fn reached(&self, offset: Offset) {
        self.wait(|published| published.is_some_and(|published| published >= offset)).await;
    }

    /// Waits for the next view after the call. To miss none between two calls, use [`Follower::subscribe`].
    pub async fn changed(&self) {
        let mut published = self.published.clone();
        published.mark_unchanged();
        if published.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The published views' offsets.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Option<Offset>> {
        self.published.clone()
    }

    /// Looks at everything that was read so far, which may be more than the view shows.
    pub fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.shared.state())
    }

    /// Waits until everything below `offset` was read, which the view may not show yet.
    pub async fn has_read(&self, offset: Offset) {
        self.tail.reached(offset).await;
    }

    /// Waits until everything was read that is there now, by whomever it was written.
    ///
    /// # Errors
    /// If no broker says where the configuration ends.
    pub async fn refresh(&self) -> Result<(), KafkaError> {
        self.tail.at(self.end().await?).await;
        Ok(())
    }

    /// The log's end. Those who come while one asks wait, and are all served by the next question.
    async fn end(&self) -> Result<Offset, KafkaError> {
        let me = self.askers.fetch_add(1, Ordering::Relaxed) + 1;
        let mut asked = self.asked.lock().await;
        if asked.last < me {
            let last = self.askers.load(Ordering::Relaxed);
            let end = self.tail.end()?;
            let found = tokio::task::spawn_blocking(move || end.ask()).await;
            let end = found.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
            *asked = Asked { last, end };
        }
        Ok(asked.end)
    }

    /// Records that are left out of the view, or held there, and why.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        self.shared.state().problems().collect()
    }

    /// The partition count that the cluster was made with, if that is on record.
    #[must_use]
    pub fn partitions(&self) -> Option<i32> {
        self.shared.state().cluster().map(|cluster| cluster.partitions)
    }

    async fn wait(&self, done: impl Fn(Option<Offset>) -> bool) {
        let mut published = self.published.clone();
        if published.wait_for(|offset| done(*offset)).await.is_err() {
            // The publisher ends only with the runtime.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.publisher.abort();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic within `apply` would be a bug; each record is applied as a whole or not at all.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn rest_after(work: Duration) -> Duration {
    (work * REST).clamp(COALESCE, LONGEST_REST)
}

async fn publish_views(
    shared: Arc<Shared>,
    mut progress: watch::Receiver<Progress>,
    publish: watch::Sender<Option<Offset>>,
) {
    let mut listed: BTreeSet<Problem> = BTreeSet::new();
    loop {
        let current = *progress.borrow_and_update();
        if current.is_caught_up() {
            let started = Instant::now();
            let (view, problems) = {
                let mut state = shared.state();
                state.reached(current.position);
                let view = state.view();
                (view, state.problems().collect::<BTreeSet<_>>())
            };
            let offset = view.offset;
            shared.view.store(Arc::new(view));
            publish.send_replace(Some(offset));
            for problem in problems.difference(&listed) {
                tracing::error!(key = problem.key, "configuration can't be used: {}", problem.message);
            }
            listed = problems;
            tokio::time::sleep(rest_after(started.elapsed())).await;
        }
        if progress.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_between_two_views() {
        let millis = Duration::from_millis;
        assert_eq!(rest_after(millis(0)), COALESCE);
        assert_eq!(rest_after(millis(50)), millis(150));
        assert_eq!(rest_after(millis(900)), LONGEST_REST);
    }
}
