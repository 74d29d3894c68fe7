//! The ids of topics: part of the identity of events that have none of their own.
//!
//! An id is asked for once while partitions of the topic are ours, and forgotten when the last of them is gone: a
//! topic that is deleted and made anew has another id, and its offsets mean other records. As long as the answer is
//! outstanding, records wait: an id that is guessed would not be the same after a restart.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hookstream_log::admin::Admin;
use hookstream_types::Chain;
use tokio::sync::{Notify, watch};
use tracing::warn;

/// The ids of the topics whose partitions are ours, shared by all cores.
#[derive(Debug, Default)]
pub struct TopicIds {
    topics: Mutex<BTreeMap<Arc<str>, Known>>,
    wanted: Notify,
}

#[derive(Debug)]
struct Known {
    id: Option<Arc<str>>,
    /// Inputs that read the topic.
    users: usize,
}

impl TopicIds {
    /// An input begins to read `topic`.
    pub(crate) fn acquire(&self, topic: &Arc<str>) {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let known = topics.entry(Arc::clone(topic)).or_insert(Known { id: None, users: 0 });
        known.users += 1;
        if known.id.is_none() {
            self.wanted.notify_one();
        }
    }

    /// The topic's id, once it is known.
    pub(crate) fn get(&self, topic: &str) -> Option<Arc<str>> {
        let topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        topics.get(topic)?.id.clone()
    }

    /// An input is gone.
    pub(crate) fn release(&self, topic: &str) {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = topics.get_mut(topic) {
            known.users -= 1;
            if known.users == 0 {
                topics.remove(topic);
            }
        }
    }

    fn unknown(&self) -> Vec<Arc<str>> {
        let topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        topics.iter().filter(|(_, known)| known.id.is_none()).map(|(topic, _)| Arc::clone(topic)).collect()
    }

    /// Sets the id of a topic: its name, if the broker gives none.
    pub fn learn(&self, topic: &str, id: Option<&str>) {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = topics.get_mut(topic) {
            known.id = Some(id.unwrap_or(topic).into());
        }
    }

    /// Asks for ids as they are wanted.
    pub(crate) async fn serve(&self, admin: &Admin, changed: &watch::Sender<()>) {
        const RETRY: Duration = Duration::from_millis(500);
        loop {
            let unknown = self.unknown();
            if unknown.is_empty() {
                self.wanted.notified().await;
                continue;
            }
            let names: Vec<&str> = unknown.iter().map(AsRef::as_ref).collect();
            match admin.topic_ids(&names).await {
                Ok(ids) => {
                    for (name, id) in names.iter().zip(&ids) {
                        self.learn(name, id.as_deref());
                    }
                    changed.send_replace(());
                }
                Err(error) => {
                    warn!(error = %Chain(&error), "cannot learn the ids of topics; trying again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}
