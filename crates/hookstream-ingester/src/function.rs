//! What the ingester does to a record: its events go to `hookstream.events`, what is no event to `hookstream.rejected`.

use std::collections::BTreeMap;
use std::sync::Arc;

use hookstream_config::ConfigEnd;
use hookstream_config::end::Question;
use hookstream_core::config::{DeliveryMode, Source, View};
use hookstream_core::ingest::{Coordinates, Decoded, Reason, Rejection, Routes, SourceRecord, decode};
use hookstream_core::mutant::{Mutant, on};
use hookstream_log::pipe::{Applied, Function, Outputs, Place};
use hookstream_log::{Full, Input, OutRecord, RecordRef};
use hookstream_types::limits::MAX_RECORD_BYTES;
use hookstream_types::{Offset, partition_for};
use hookstream_wire::rejected::{Original, Rejected};
use hookstream_wire::{Topics, event, rejected};
use prometheus::IntCounter;
use tracing::{error, warn};

use crate::metrics::IngesterMetrics;
use crate::topic_ids::TopicIds;

/// What the function works with.
#[derive(Debug)]
pub struct Parts {
    pub cluster: Arc<str>,
    pub topics: Arc<Topics>,
    /// Of `events` and of `rejected`.
    pub partitions: i32,
    pub topic_ids: Arc<TopicIds>,
    pub config_end: Arc<ConfigEnd>,
    pub metrics: IngesterMetrics,
    pub view: Arc<View>,
}

/// The ingester's function.
#[derive(Debug)]
pub struct Ingest {
    parts: Parts,
    routes: Routes,
    /// What each input's topic is, as of the view.
    inputs: BTreeMap<Input, Known>,
}

#[derive(Clone, Debug)]
struct Known {
    topic: Arc<str>,
    topic_id: Option<Arc<str>>,
    role: Role,
    /// The view has all of the configuration that was there when a record below this was taken.
    judged_below: Offset,
    /// Asked, so that the view may judge the records below an offset.
    asked: Option<(Question, Offset)>,
}

/// What a topic is to us.
#[derive(Clone, Debug)]
enum Role {
    /// Of a source.
    Source { source: Arc<Source>, events: IntCounter, bytes: IntCounter },
    /// Hookstream's own, which a source's pattern matches: its records are not events.
    Own,
    /// Of no source any more: its partitions are about to be taken from us.
    Nobody,
}

impl Ingest {
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let (routes, _) = Routes::build(parts.view.sources.values(), DeliveryMode::Async);
        Self { parts, routes, inputs: BTreeMap::new() }
    }

    /// Decides by another view from here on.
    pub fn set_view(&mut self, view: &Arc<View>) {
        if Arc::ptr_eq(view, &self.parts.view) {
            return;
        }
        let same = view.sources == self.parts.view.sources;
        self.parts.view = Arc::clone(view);
        if same {
            return;
        }
        self.routes = Routes::build(view.sources.values(), DeliveryMode::Async).0;
        let mut inputs = std::mem::take(&mut self.inputs);
        for known in inputs.values_mut() {
            known.role = self.role(&known.topic);
        }
        self.inputs = inputs;
    }

    fn role(&self, topic: &str) -> Role {
        let own = topic.strip_prefix(&*self.parts.topics.namespace).is_some_and(|rest| rest.starts_with('.'));
        if own {
            warn!(
                "a source's pattern matches hookstream's own topic `{topic}`, whose records are passed over"
            );
            return Role::Own;
        }
        let Some(source) = self.routes.source(topic) else { return Role::Nobody };
        if let Some(problem) = self.routes.conflict(topic) {
            warn!("{problem}");
        }
        let metrics = &self.parts.metrics;
        Role::Source {
            source: Arc::clone(source),
            events: metrics.events_total.with_label_values(&[&source.name]),
            bytes: metrics.event_bytes_total.with_label_values(&[&source.name]),
        }
    }

    /// What is known of an input; asks for what is missing.
    fn known(&mut self, from: &Place) -> &Known {
        if !self.inputs.contains_key(&from.input) {
            self.parts.topic_ids.acquire(&from.topic);
            let role = self.role(&from.topic);
            let known = Known {
                topic: Arc::clone(&from.topic),
                topic_id: None,
                role,
                judged_below: Offset(0),
                asked: None,
            };
            self.inputs.insert(from.input, known);
        }
        let known = self.inputs.get_mut(&from.input).expect("it was inserted");
        if known.topic_id.is_none() {
            known.topic_id = self.parts.topic_ids.get(&known.topic);
        }
        known
    }

    /// Whether the view is as new as a record: has what was configured before the record was taken. If that is not
    /// known yet, it is asked for all that is taken by now at once.
    fn may_judge(&mut self, offset: Offset, from: &Place) -> bool {
        let Parts { config_end, view, .. } = &self.parts;
        let Some(known) = self.inputs.get_mut(&from.input) else { return false };
        if let Some((question, below)) = known.asked
            && config_end.answer(question).is_some_and(|end| view.reaches(end))
        {
            known.judged_below = below;
            known.asked = None;
        }
        if offset < known.judged_below || on(Mutant::RejectByStaleView) {
            return true;
        }
        if known.asked.is_none() {
            known.asked = Some((config_end.ask(), from.taken));
        }
        false
    }

    fn accept(
        &self,
        decoded: &Decoded<'_>,
        counters: (&IntCounter, &IntCounter),
        outputs: &mut Outputs<'_>,
    ) -> Result<(), Full> {
        let Decoded { attributes, data } = decoded;
        let key = attributes.key();
        let partition = partition_for(key.as_bytes(), self.parts.partitions);
        event::encode(attributes, self.parts.view.offset, |headers| {
            outputs.produce(OutRecord {
                topic: &self.parts.topics.events,
                partition,
                key: Some(key.as_bytes()),
                value: Some(data),
                headers,
            })
        })?;
        counters.0.inc();
        counters.1.inc_by(data.len() as u64);
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "each is a part of one record")]
    fn reject(
        &self,
        record: RecordRef<'_>,
        from: &Place,
        source: &str,
        index: u32,
        rejection: &Rejection,
        limit: usize,
        outputs: &mut Outputs<'_>,
    ) -> Result<(), Full> {
        let rejected = Rejected {
            reason: rejection.reason.label(),
            message: &rejection.message,
            topic: &from.topic,
            partition: from.partition,
            offset: record.offset,
            index,
            source,
            produced_at: record.timestamp,
            value_bytes: record.value.map_or(0, <[u8]>::len),
        };
        let original = Original { key: record.key, value: record.value, headers: record.headers };
        // Spread as the original is.
        let partition = hookstream_types::Partition(from.partition.0.rem_euclid(self.parts.partitions));
        rejected::encode(&rejected, original, limit, |key, value, headers| {
            let topic = &self.parts.topics.rejected;
            outputs.produce(OutRecord { topic, partition, key, value, headers })
        })?;
        self.parts.metrics.rejected_total.with_label_values(&[rejection.reason.label()]).inc();
        Ok(())
    }
}

impl Function for Ingest {
    /// How many of the record's outcomes are produced.
    type Cursor = u32;

    fn apply(
        &mut self,
        record: RecordRef<'_>,
        from: &Place,
        cursor: &mut u32,
        outputs: &mut Outputs<'_>,
    ) -> Result<Applied, Full> {
        let known = self.known(from);
        let (source, events, bytes) = match &known.role {
            Role::Source { source, events, bytes } => (Arc::clone(source), events.clone(), bytes.clone()),
            Role::Nobody => return Ok(Applied::Wait),
            Role::Own => {
                self.parts.metrics.own_records_total.inc();
                return Ok(Applied::Done);
            }
        };
        let Some(topic_id) = known.topic_id.clone() else { return Ok(Applied::Wait) };
        // The decoder holds on to the view, while the function takes note of what is asked.
        let (view, cluster) = (Arc::clone(&self.parts.view), Arc::clone(&self.parts.cluster));
        let at = Coordinates {
            cluster: &cluster,
            topic_id: &topic_id,
            partition: from.partition,
            offset: record.offset,
        };
        let input =
            SourceRecord { timestamp: record.timestamp, value: record.value, headers: record.headers };
        let mut result = Ok(Applied::Done);
        decode(&source, input, at, &view, |index, outcome| {
            if result != Ok(Applied::Done) || index < *cursor {
                return;
            }
            let produced = match outcome {
                Ok(decoded) => self.accept(&decoded, (&events, &bytes), outputs),
                Err(rejection) => {
                    if rejection.reason.depends_on_configuration() && !self.may_judge(record.offset, from) {
                        result = Ok(Applied::Wait);
                        return;
                    }
                    self.reject(record, from, &source.name, index, &rejection, MAX_RECORD_BYTES, outputs)
                }
            };
            match produced {
                Ok(()) => *cursor = index + 1,
                Err(full) => result = Err(full),
            }
        });
        result
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
        if nth > 0 {
            error!(
                kafka.topic = %self.parts.topics.rejected,
                bytes = limit * 2,
                "the topic refuses records that hookstream makes it for: set its `max.message.bytes` to {MAX_RECORD_BYTES}"
            );
        }
        let message = format!(
            "an event of this record is larger than the topic `{}` takes: set that topic's `max.message.bytes` to \
             {MAX_RECORD_BYTES}",
            self.parts.topics.events
        );
        let source = match &self.known(from).role {
            Role::Source { source, .. } => source.name.clone(),
            Role::Own | Role::Nobody => String::new(),
        };
        let rejection = Rejection::new(Reason::TooLarge, message);
        self.reject(record, from, &source, 0, &rejection, limit, outputs)
    }

    fn forget(&mut self, from: &Place) {
        if self.inputs.remove(&from.input).is_some() {
            self.parts.topic_ids.release(&from.topic);
        }
    }
}

#[cfg(test)]
mod tests;
