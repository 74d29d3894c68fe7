//! What librdkafka calls back as a member of a group.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hookstream_types::Partition;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

use super::super::helper::Key;
use crate::client::{Reports, report_through};
use crate::native::entries;

/// A rebalance that librdkafka waits for us to answer.
pub(super) enum Rebalance {
    Assign(Vec<Key>),
    Revoke { partitions: Vec<Key>, lost: bool },
}

/// Notes what librdkafka wants.
pub(crate) struct MemberContext {
    reports: Reports,
    rebalances: Mutex<VecDeque<Rebalance>>,
    /// Nobody follows rebalances any more: answer them here.
    closing: AtomicBool,
}

impl MemberContext {
    pub(crate) fn new(group: &str) -> Self {
        Self { reports: Reports::new(group), rebalances: Mutex::default(), closing: AtomicBool::new(false) }
    }

    /// Rebalances are answered by the callback from here on.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }

    /// Whether it is time to say `what` again.
    pub(super) fn due(&self, what: &str) -> bool {
        self.reports.due(what)
    }

    pub(super) fn next_rebalance(&self) -> Option<Rebalance> {
        self.rebalances.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

report_through!(MemberContext);

impl ConsumerContext for MemberContext {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions = entries(list)
            .into_iter()
            .map(|entry| (Arc::from(entry.topic), Partition(entry.partition)))
            .collect();
        let rebalance = match what {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Rebalance::Assign(partitions),
            _ => Rebalance::Revoke { partitions, lost: consumer.assignment_lost() },
        };
        if self.closing.load(Ordering::SeqCst) {
            let nothing = TopicPartitionList::new();
            // The client is being dropped; an error changes nothing any more.
            drop(match rebalance {
                Rebalance::Assign(_) => consumer.incremental_assign(&nothing),
                Rebalance::Revoke { .. } => consumer.unassign(),
            });
            return;
        }
        self.rebalances.lock().unwrap_or_else(PoisonError::into_inner).push_back(rebalance);
    }
}
