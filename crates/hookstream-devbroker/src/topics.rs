//! Topics: what they are called, how they are set, and the logs of their partitions.

mod configs;
mod partition;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

pub(crate) use self::configs::{Configs, DEFINITIONS, Definition, Kind, check, log_config};
pub(crate) use self::partition::Partition;
use crate::log::OpenError;

/// A topic. What it is made of never changes; a change makes another value.
#[derive(Debug)]
pub(crate) struct Topic {
    pub name: String,
    pub id: Uuid,
    pub configs: Configs,
    pub partitions: Vec<Arc<Partition>>,
}

/// All topics, by name.
pub(crate) type Topics = BTreeMap<String, Arc<Topic>>;

/// The longest name of a topic.
const MAX_NAME: usize = 249;

/// Whether this can be the name of a topic, by Kafka's rules; it is the name of a directory too.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME
        && name != "."
        && name != ".."
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

impl Topic {
    /// Opens the logs of a topic's partitions, which are made if there are none.
    pub(crate) fn open(
        data: &Path,
        name: &str,
        id: Uuid,
        partitions: i32,
        configs: Configs,
        now_ms: i64,
    ) -> Result<Self, OpenError> {
        let dir = Self::dir_of(data, name, id);
        let partitions = (0..partitions)
            .map(|partition| open_partition(&dir, name, partition, &configs, now_ms))
            .collect::<Result<_, _>>()?;
        Ok(Self { name: name.to_owned(), id, configs, partitions })
    }

    /// The same topic with more partitions.
    pub(crate) fn grown(&self, data: &Path, count: i32, now_ms: i64) -> Result<Self, OpenError> {
        let dir = self.dir(data);
        let mut partitions = self.partitions.clone();
        for partition in self.count()..count {
            partitions.push(open_partition(&dir, &self.name, partition, &self.configs, now_ms)?);
        }
        Ok(Self { name: self.name.clone(), id: self.id, configs: self.configs.clone(), partitions })
    }

    /// The same topic, set otherwise.
    pub(crate) fn set_otherwise(&self, configs: Configs) -> Self {
        let log_config = log_config(&configs);
        for partition in &self.partitions {
            partition.log().set_config(log_config.clone());
        }
        Self { name: self.name.clone(), id: self.id, configs, partitions: self.partitions.clone() }
    }

    pub(crate) fn count(&self) -> i32 {
        i32::try_from(self.partitions.len()).unwrap_or(i32::MAX)
    }

    pub(crate) fn partition(&self, index: i32) -> Option<&Arc<Partition>> {
        self.partitions.get(usize::try_from(index).ok()?)
    }

    pub(crate) fn dir(&self, data: &Path) -> PathBuf {
        Self::dir_of(data, &self.name, self.id)
    }

    /// With the id, so that a topic of the same name that is made later finds nothing of this one. Names of files
    /// have up to 255 bytes, so a long one is shortened.
    fn dir_of(data: &Path, name: &str, id: Uuid) -> PathBuf {
        topics_dir(data).join(format!("{name:.200}-{}", id.simple()))
    }
}

fn open_partition(
    dir: &Path,
    topic: &str,
    partition: i32,
    configs: &Configs,
    now_ms: i64,
) -> Result<Arc<Partition>, OpenError> {
    let partition = Partition::open(&dir.join(partition.to_string()), log_config(configs), now_ms)
        .inspect_err(|_| tracing::error!(topic, partition, "the partition's log can't be opened"))?;
    Ok(Arc::new(partition))
}

fn topics_dir(data: &Path) -> PathBuf {
    data.join("topics")
}

/// Removes what a crash left of topics that are deleted.
pub(crate) fn remove_strangers(data: &Path, topics: &Topics) {
    let known: Vec<PathBuf> = topics.values().map(|topic| topic.dir(data)).collect();
    let Ok(entries) = fs::read_dir(topics_dir(data)) else { return };
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| !known.contains(path)) {
        remove(&path);
    }
}

/// Removes a directory; what can't be removed is tried again at the next start.
pub(crate) fn remove(path: &Path) {
    if let Err(error) = fs::remove_dir_all(path) {
        tracing::warn!(path = %path.display(), "a deleted topic's directory can't be removed: {error}");
    }
}
