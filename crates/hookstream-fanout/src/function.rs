//! What fan-out does to an event: one job per webhook that it concerns, and evidence of that.
//!
//! An event waits until the view here has reached its maker's (rule 10). A job carries the config offset that it was
//! made by, so that the sender can do the same. Evidence of a range of events is durable before the range is
//! committed: see [`hookstream_wire::matched`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use hookstream_core::config::{View, Webhook};
use hookstream_core::job::JobState;
use hookstream_core::mutant::{Mutant, on};
use hookstream_log::pipe::{Applied, Function, Outputs, Place};
use hookstream_log::{Full, Input, OutRecord, RecordRef};
use hookstream_types::limits::MAX_RECORD_BYTES;
use hookstream_types::{Chain, DeliveryId, Offset, Partition};
use hookstream_wire::job::{EncodedEvent, deliveries_partition, partition_key};
use hookstream_wire::matched::{self, ENTRY_BYTES, Matched, Range};
use hookstream_wire::rejected::{Original, Rejected};
use hookstream_wire::{Topics, event, rejected};
use tracing::error;

use crate::metrics::{BAD_EVENT, FanoutMetrics, TOO_LARGE};

/// What the function works with.
#[derive(Debug)]
pub struct Parts {
    pub topics: Arc<Topics>,
    /// Of `deliveries`, `matched` and `rejected`.
    pub partitions: i32,
    pub metrics: FanoutMetrics,
    pub view: Arc<View>,
}

/// Fan-out's function.
#[derive(Debug)]
pub struct Match {
    parts: Parts,
    evidence: BTreeMap<Input, VecDeque<Proof>>,
    // Buffers that are used again.
    event: EncodedEvent,
    value: Vec<u8>,
    webhooks: Vec<Arc<Webhook>>,
}

/// What was made of the event at an offset.
#[derive(Clone, Copy, Debug)]
struct Proof {
    offset: Offset,
    /// The view that it was matched by.
    config: Offset,
    matched: Matched,
}

/// An event whose jobs did not fit into the producer's queue at once. What it concerns stays as it was found, even
/// if the view changes in between.
#[derive(Debug)]
pub struct Rest {
    webhooks: Vec<Arc<Webhook>>,
    next: usize,
    config: Offset,
    matched: Matched,
}

impl Match {
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self {
            parts,
            evidence: BTreeMap::new(),
            event: EncodedEvent::default(),
            value: Vec::new(),
            webhooks: Vec::new(),
        }
    }

    /// Decides by another view from here on.
    pub fn set_view(&mut self, view: Arc<View>) {
        self.parts.view = view;
    }

    /// Takes note of what was made of an event; what was noted before of the same offset is replaced.
    fn note(&mut self, from: &Place, proof: Proof) {
        let proofs = self.evidence.entry(from.input).or_default();
        if proofs.back().is_none_or(|last| last.offset < proof.offset) {
            proofs.push_back(proof);
            return;
        }
        match proofs.binary_search_by_key(&proof.offset, |proof| proof.offset) {
            Ok(at) => proofs[at] = proof,
            Err(at) => proofs.insert(at, proof),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "each is a part of one record")]
    fn reject(
        &self,
        record: RecordRef<'_>,
        from: &Place,
        source: &str,
        reason: &'static str,
        message: &str,
        limit: usize,
        outputs: &mut Outputs<'_>,
    ) -> Result<(), Full> {
        let rejected = Rejected {
            reason,
            message,
            topic: &from.topic,
            partition: from.partition,
            offset: record.offset,
            index: 0,
            source,
            produced_at: record.timestamp,
            value_bytes: record.value.map_or(0, <[u8]>::len),
        };
        let original = Original { key: record.key, value: record.value, headers: record.headers };
        let partition = self.beside(from);
        rejected::encode(&rejected, original, limit, |key, value, headers| {
            let topic = &self.parts.topics.rejected;
            outputs.produce(OutRecord { topic, partition, key, value, headers })
        })?;
        self.parts.metrics.rejected_total.with_label_values(&[reason]).inc();
        Ok(())
    }

    /// The partition of `matched` and `rejected` that belongs to one of `events`.
    fn beside(&self, from: &Place) -> Partition {
        Partition(from.partition.0.rem_euclid(self.parts.partitions))
    }
}

impl Function for Match {
    type Cursor = Option<Box<Rest>>;

    /// The evidence of a commit fits into one record, with room for its first line.
    const COMMIT_SPAN: i64 = ((MAX_RECORD_BYTES - 1024) / ENTRY_BYTES) as i64;

    fn apply(
        &mut self,
        record: RecordRef<'_>,
        from: &Place,
        cursor: &mut Option<Box<Rest>>,
        outputs: &mut Outputs<'_>,
    ) -> Result<Applied, Full> {
        let (attributes, config) = match event::decode(record.headers) {
            Ok(decoded) => decoded,
            Err(bad) => {
                let message = format!("{}: only the ingester may write to this topic", Chain(&bad));
                self.reject(record, from, "", BAD_EVENT, &message, MAX_RECORD_BYTES, outputs)?;
                return Ok(Applied::Done);
            }
        };
        if !self.parts.view.reaches(config) && !on(Mutant::FanoutStaleView) {
            return Ok(Applied::Wait);
        }
        let mut rest = match cursor.take() {
            Some(rest) => *rest,
            None => {
                let view = &self.parts.view;
                let mut webhooks = std::mem::take(&mut self.webhooks);
                let data = record.value.unwrap_or_default();
                view.index().matches(&attributes, data, |webhook| webhooks.push(Arc::clone(webhook)));
                let matched = Matched::new(attributes.event);
                Rest { webhooks, next: 0, config: view.offset, matched }
            }
        };
        if !rest.webhooks.is_empty() {
            self.event.set(&attributes, record.value.unwrap_or_default());
        }
        while let Some(webhook) = rest.webhooks.get(rest.next) {
            let state = JobState::new(DeliveryId::of(attributes.event, webhook.id), webhook.id, rest.config);
            self.value.clear();
            self.event.append(&state, &mut self.value);
            let produced = outputs.produce(OutRecord {
                topic: &self.parts.topics.deliveries,
                partition: deliveries_partition(webhook.id, self.parts.partitions),
                key: Some(&partition_key(webhook.id)),
                value: Some(&self.value),
                headers: &[],
            });
            if produced.is_err() {
                *cursor = Some(Box::new(rest));
                return Err(Full);
            }
            rest.matched.add(state.delivery);
            rest.next += 1;
        }
        let metrics = &self.parts.metrics;
        metrics.events_total.inc();
        metrics.jobs_total.inc_by(u64::from(rest.matched.count));
        if rest.matched.count == 0 {
            metrics.unmatched_total.inc();
        }
        self.note(from, Proof { offset: record.offset, config: rest.config, matched: rest.matched });
        self.webhooks = rest.webhooks;
        self.webhooks.clear();
        Ok(Applied::Done)
    }

    fn too_large(
        &mut self,
        record: RecordRef<'_>,
        from: &Place,
        nth: u32,
        outputs: &mut Outputs<'_>,
    ) -> Result<(), Full> {
        /// Even a topic with the smallest limit that makes sense takes this.
        const SMALLEST: usize = 2048;
        let limit = (MAX_RECORD_BYTES >> nth.min(16)).max(SMALLEST);
        let topics = &self.parts.topics;
        error!(
            kafka.topic = %if nth == 0 { &topics.deliveries } else { &topics.rejected },
            "the topic refuses records that hookstream makes it for: set its `max.message.bytes` to {MAX_RECORD_BYTES}"
        );
        let message = format!(
            "a job of this event is larger than the topic `{}` takes: set that topic's `max.message.bytes` to \
             {MAX_RECORD_BYTES}",
            topics.deliveries
        );
        let source = event::decode(record.headers).map(|(event, _)| event.source).unwrap_or_default();
        self.reject(record, from, &source, TOO_LARGE, &message, limit, outputs)
    }

    fn before_commit(
        &mut self,
        from: &Place,
        start: Offset,
        end: Offset,
        outputs: &mut Outputs<'_>,
    ) -> Result<Applied, Full> {
        let proofs = self.evidence.entry(from.input).or_default();
        let covered = proofs.partition_point(|proof| proof.offset < end);
        let config = proofs.range(..covered).map(|proof| proof.config).max();
        let range = Range {
            partition: from.partition,
            from: start,
            to: end,
            config: config.unwrap_or(self.parts.view.offset),
        };
        // An event that is not listed matched nothing.
        let matched: Vec<Matched> =
            proofs.range(..covered).map(|proof| proof.matched).filter(|matched| matched.count > 0).collect();
        self.value.clear();
        matched::encode(&range, matched.iter().copied(), &mut self.value);
        let partition = self.beside(from);
        let proof = outputs.produce(OutRecord {
            topic: &self.parts.topics.matched,
            partition,
            key: Some(from.partition.to_string().as_bytes()),
            value: Some(&self.value),
            headers: &[],
        });
        proof.map(|()| Applied::Done)
    }

    fn committed(&mut self, from: &Place, end: Offset) {
        if let Some(proofs) = self.evidence.get_mut(&from.input) {
            let covered = proofs.partition_point(|proof| proof.offset < end);
            proofs.drain(..covered);
        }
    }

    fn forget(&mut self, from: &Place) {
        self.evidence.remove(&from.input);
    }
}

#[cfg(test)]
mod tests;
