//! The thread that waits for brokers, so that neither the control thread nor a core has to.

use std::any::Any;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use hookstream_types::{Partition, UnixMillis};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset as RdOffset, TopicPartitionList};

use super::assignment::{Inbox, ToCore};
use super::control::MemberContext;
use super::readers::ReaderContext;
use crate::error::KafkaError;
use crate::log::Input;
use crate::native::{self, Code};

/// A partition of a topic.
pub(crate) type Key = (Arc<str>, Partition);

/// How long one request may take before it is tried again.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Far more than there are partitions to ask for at once; each job is short of data.
const JOBS: usize = 4096;

/// The timestamp that asks for a partition's first offset.
const EARLIEST: RdOffset = RdOffset::Beginning;
/// The timestamp that asks for a partition's end.
const LATEST: RdOffset = RdOffset::End;

/// What there is to do.
pub(crate) enum Job {
    /// Where to begin: what is committed, and what is still there.
    Starts { ticket: u64, partitions: Vec<Key> },
    /// Where partitions end.
    Ends { partitions: Vec<Key> },
    /// Where a reader begins that was opened by time.
    ReadFrom {
        consumer: Arc<BaseConsumer<ReaderContext>>,
        topic: Arc<str>,
        partition: Partition,
        at: UnixMillis,
        input: Input,
        inbox: Arc<Inbox>,
    },
    /// Something whose drop may wait.
    Drop(Box<dyn Any + Send>),
}

/// The helper's answers to the control thread.
pub(crate) enum Answer {
    Starts { ticket: u64, starts: Vec<(Key, Result<Start, String>)> },
    Ends(Vec<(Key, i64)>),
}

/// Where a partition begins for the group.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) base: i64,
    pub(crate) metadata: Option<String>,
}

/// Where jobs go. The helper ends when the last one is gone.
#[derive(Clone)]
pub(crate) struct Helper {
    jobs: SyncSender<Job>,
}

impl Helper {
    /// Gives it a job; the job comes back if there are far too many.
    pub(crate) fn give(&self, job: Job) -> Result<(), Job> {
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(job) | TrySendError::Disconnected(job) => job,
        })
    }
}

/// Starts the helper of a group.
pub(crate) fn start(
    group: &str,
    consumer: Arc<BaseConsumer<MemberContext>>,
) -> Result<(Helper, Receiver<Answer>), KafkaError> {
    let (jobs, received) = sync_channel::<Job>(JOBS);
    // The control thread has at most one question of each kind open.
    let (answers, answered) = sync_channel(JOBS);
    let name = format!("{group}-helper");
    // The consumer is the control thread's: it must not be closed here.
    let consumer = Arc::downgrade(&consumer);
    std::thread::Builder::new()
        .name(name.clone())
        .spawn(move || {
            while let Ok(job) = received.recv() {
                let answer = match job {
                    Job::Starts { ticket, partitions } => {
                        let Some(consumer) = consumer.upgrade() else { continue };
                        Answer::Starts { ticket, starts: starts(&consumer, partitions) }
                    }
                    Job::Ends { partitions } => {
                        let Some(consumer) = consumer.upgrade() else { continue };
                        Answer::Ends(ends(&consumer, partitions))
                    }
                    Job::ReadFrom { consumer, topic, partition, at, input, inbox } => {
                        let offset = read_from(&consumer, &topic, partition, at);
                        inbox.push(ToCore::ReadFrom { input, offset });
                        continue;
                    }
                    Job::Drop(what) => {
                        drop(what);
                        continue;
                    }
                };
                if answers.send(answer).is_err() {
                    // The control thread is gone, but cores may still close readers.
                }
            }
        })
        .map_err(|source| KafkaError::Thread { name, source })?;
    Ok((Helper { jobs }, answered))
}

fn list(partitions: &[Key], offset: RdOffset) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for (topic, partition) in partitions {
        list.add_partition_offset(topic, partition.0, offset)
            .expect("the logical offsets have a representation");
    }
    list
}

/// What librdkafka found for each partition, in their order.
fn by_key<T>(
    partitions: &[Key],
    found: Result<TopicPartitionList, rdkafka::error::KafkaError>,
    read: impl Fn(&native::Entry) -> T,
) -> Vec<Result<T, String>> {
    let entries = match found {
        Ok(list) => native::entries(&list),
        Err(error) => return partitions.iter().map(|_| Err(error.to_string())).collect(),
    };
    partitions
        .iter()
        .map(|(topic, partition)| {
            let entry = entries.iter().find(|entry| entry.topic == **topic && entry.partition == partition.0);
            match entry {
                Some(entry) if entry.code == Code::NoError => Ok(read(entry)),
                Some(entry) => Err(entry.code.to_string()),
                None => Err("the broker did not answer for it".to_owned()),
            }
        })
        .collect()
}

fn offsets_at<C: rdkafka::consumer::ConsumerContext>(
    consumer: &BaseConsumer<C>,
    partitions: &[Key],
    at: RdOffset,
) -> Vec<Result<i64, String>> {
    by_key(partitions, consumer.offsets_for_times(list(partitions, at), REQUEST_TIMEOUT), |entry| {
        entry.offset
    })
}

fn starts(consumer: &BaseConsumer<MemberContext>, partitions: Vec<Key>) -> Vec<(Key, Result<Start, String>)> {
    let committed = consumer.committed_offsets(list(&partitions, RdOffset::Invalid), REQUEST_TIMEOUT);
    let committed = by_key(&partitions, committed, |entry| (entry.offset, entry.metadata.clone()));
    let first = offsets_at(consumer, &partitions, EARLIEST);
    let end = offsets_at(consumer, &partitions, LATEST);
    partitions
        .into_iter()
        .zip(committed.into_iter().zip(first.into_iter().zip(end)))
        .map(|(key, (committed, (first, end)))| {
            let start = committed.and_then(|(offset, metadata)| {
                let (first, end) = (first?, end?);
                let (base, why) = base(offset, first, end);
                if let Some(why) = why {
                    tracing::warn!(topic = &*key.0, partition = key.1.0, committed = offset, base, "{why}");
                }
                Ok(Start { base, metadata })
            });
            (key, start)
        })
        .collect()
}

/// Where to begin, and what to say if that is not where the group had got to.
fn base(committed: i64, first: i64, end: i64) -> (i64, Option<&'static str>) {
    if committed < 0 {
        (first, None)
    } else if committed < first {
        (
            first,
            Some(
                "retention deleted records that were not complete; reading on at the first one that is left",
            ),
        )
    } else if committed > end {
        // What was appended since the log was cut can't be told from what was complete before, so nothing is skipped.
        (
            first,
            Some(
                "the partition ends before the committed offset: its log was cut; reading it from its beginning",
            ),
        )
    } else {
        (committed, None)
    }
}

fn ends(consumer: &BaseConsumer<MemberContext>, partitions: Vec<Key>) -> Vec<(Key, i64)> {
    let ends = offsets_at(consumer, &partitions, LATEST);
    partitions.into_iter().zip(ends).filter_map(|(key, end)| Some((key, end.ok()?))).collect()
}

fn read_from(
    consumer: &BaseConsumer<ReaderContext>,
    topic: &Arc<str>,
    partition: Partition,
    at: UnixMillis,
) -> Option<i64> {
    let key = [(Arc::clone(topic), partition)];
    let at = RdOffset::Offset(at.0.max(0));
    let first = |found: Vec<Result<i64, String>>| found.into_iter().next().and_then(Result::ok);
    // Before the first: a record appended in between is then read, not missed.
    let end = first(offsets_at(consumer, &key, LATEST))?;
    let offset = first(offsets_at(consumer, &key, at))?;
    // No record is that young.
    Some(if offset < 0 { end } else { offset })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_is_never_below_what_is_still_there() {
        assert_eq!(base(-1001, 7, 20).0, 7, "nothing committed");
        assert_eq!(base(5, 7, 20).0, 7, "retention passed");
        assert_eq!(base(7, 7, 20), (7, None));
        assert_eq!(base(20, 7, 20), (20, None));
        assert_eq!(base(21, 7, 20).0, 7, "the log was cut");
    }
}
