//! The books of the ingester and of fan-out: what must come of each source record.
//!
//! They match by a rule of their own, and know the configuration as the run made it: webhook n exists from config
//! offset n + 1 on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hookstream_core::config::Webhook;
use hookstream_core::event::EventAttributes;
use hookstream_core::job::Job;
use hookstream_types::{DeliveryId, EventId, Offset, UnixMillis, partition_for};
use hookstream_wire::job::{deliveries_partition, partition_key};
use hookstream_wire::matched::Matched;
use hookstream_wire::{Topics, event, job, matched, rejected};

use crate::sim::cluster::{PartitionLog, Record, TopicPartition};
use crate::sim::run::PARTITIONS;

/// What is to come of a source record.
#[derive(Debug, Clone)]
pub(in crate::sim) struct Expected {
    pub(in crate::sim) events: Vec<EventId>,
    /// It, or a part of it, is no event.
    pub(in crate::sim) rejected: bool,
}

/// An event as it stands in `events`, without what may differ from copy to copy.
#[derive(Debug)]
struct Accepted {
    attributes: EventAttributes,
    key: Vec<u8>,
    data: Vec<u8>,
    /// The config offsets of its copies.
    configs: BTreeSet<Offset>,
}

#[derive(Debug)]
pub(super) struct Intake {
    topics: Arc<Topics>,
    webhooks: Vec<Arc<Webhook>>,
    expected: BTreeMap<(TopicPartition, Offset), Expected>,
    /// When the source records of an event were appended.
    times: BTreeMap<EventId, BTreeSet<UnixMillis>>,
    accepted: BTreeMap<EventId, Accepted>,
    /// What stands where in `events`, and the config offset that it was made by.
    places: BTreeMap<(i32, i64), (EventId, Offset)>,
    rejected: BTreeSet<(TopicPartition, Offset)>,
    /// The first record of each job, with nothing in it that may differ from copy to copy.
    jobs: BTreeMap<DeliveryId, Vec<u8>>,
    /// Ranges of `events` of which there is evidence, by partition.
    evidence: BTreeMap<i32, Vec<(i64, i64)>>,
}

impl Intake {
    pub(super) fn new(topics: Arc<Topics>, webhooks: Vec<Arc<Webhook>>) -> Self {
        Self {
            topics,
            webhooks,
            expected: BTreeMap::new(),
            times: BTreeMap::new(),
            accepted: BTreeMap::new(),
            places: BTreeMap::new(),
            rejected: BTreeSet::new(),
            jobs: BTreeMap::new(),
            evidence: BTreeMap::new(),
        }
    }

    pub(super) fn expect(&mut self, tp: &TopicPartition, offset: Offset, at: UnixMillis, expected: Expected) {
        for event in &expected.events {
            self.times.entry(*event).or_default().insert(at);
        }
        self.expected.insert((tp.clone(), offset), expected);
    }

    /// Deliveries of an event by the configuration of an offset.
    fn matches(&self, event: &EventAttributes, config: Offset) -> Vec<DeliveryId> {
        (1i64..)
            .zip(&self.webhooks)
            .filter(|(since, webhook)| *since <= config.0 && concerns(webhook, event))
            .map(|(_, webhook)| DeliveryId::of(event.event, webhook.id))
            .collect()
    }

    pub(super) fn on_append(&mut self, tp: &TopicPartition, record: &Record) -> Vec<String> {
        if tp.0 == self.topics.events {
            self.on_event(tp, record)
        } else if tp.0 == self.topics.rejected {
            self.on_rejected(record)
        } else if tp.0 == self.topics.matched {
            self.on_evidence(record)
        } else {
            Vec::new()
        }
    }

    fn on_event(&mut self, tp: &TopicPartition, record: &Record) -> Vec<String> {
        let (mut attributes, config) = match event::decode(&record.payload.headers()) {
            Ok(decoded) => decoded,
            Err(error) => return vec![format!("events holds a record that can't be read: {error}")],
        };
        let id = attributes.event;
        let mut problems = Vec::new();
        match self.times.get(&id) {
            None => problems.push(format!("nobody produced the event {id}")),
            Some(times) if !times.contains(&attributes.produced_at) => {
                problems.push(format!("the event {id} was not produced at {:?}", attributes.produced_at));
            }
            Some(_) => {}
        }
        attributes.produced_at = UnixMillis(0);
        let key = record.payload.key.clone().unwrap_or_default();
        if partition_for(&key, PARTITIONS).0 != tp.1 || key != attributes.key().as_bytes() {
            problems.push(format!("the event {id} stands in a partition that is not its key's"));
        }
        self.places.insert((tp.1, record.offset.0), (id, config));
        let data = record.payload.value().to_vec();
        let fresh = Accepted { attributes, key, data, configs: BTreeSet::new() };
        let accepted = self.accepted.entry(id).or_insert(fresh);
        accepted.configs.insert(config);
        let same = accepted.data == record.payload.value()
            && Some(&accepted.key) == record.payload.key.as_ref()
            && event::decode(&record.payload.headers()).is_ok_and(|(mut copy, _)| {
                copy.produced_at = UnixMillis(0);
                copy == accepted.attributes
            });
        if !same {
            problems.push(format!("the event {id} was made anew and is another"));
        }
        problems
    }

    fn on_rejected(&mut self, record: &Record) -> Vec<String> {
        let headers = record.payload.headers();
        let rejected = match rejected::decode(&headers) {
            Ok(rejected) => rejected,
            Err(error) => return vec![format!("rejected holds a record that can't be read: {error}")],
        };
        let place = ((Arc::from(rejected.topic), rejected.partition.0), rejected.offset);
        let fine = self.expected.get(&place).is_some_and(|expected| expected.rejected);
        let problem =
            (!fine).then(|| format!("{place:?} is rejected and should not be: {}", rejected.message));
        self.rejected.insert(place);
        problem.into_iter().collect()
    }

    /// A job of fan-out's.
    pub(super) fn on_job(&mut self, tp: &TopicPartition, record: &Record, made: &Job) -> Vec<String> {
        let (id, config) = (made.state.delivery, made.state.config);
        let Some(accepted) = self.accepted.get(&made.event.event) else {
            return vec![format!("the job {id} stands there before its event")];
        };
        let mut problems = Vec::new();
        if accepted.configs.first().is_some_and(|needed| config < *needed) {
            problems.push(format!("the job {id} was made by a stale view: {config} before its event's"));
        }
        let webhook = made.state.webhook;
        if !self.matches(&accepted.attributes, config).contains(&id)
            || id != DeliveryId::of(made.event.event, webhook)
        {
            problems.push(format!("the job {id} is for {webhook}, whom its event does not concern"));
        }
        if !self.times.get(&made.event.event).is_some_and(|times| times.contains(&made.event.produced_at)) {
            problems.push(format!("the job {id} has another time than its event"));
        }
        if deliveries_partition(webhook, PARTITIONS).0 != tp.1
            || record.payload.key.as_deref() != Some(&partition_key(webhook))
        {
            problems.push(format!("the job {id} stands in a partition that is not its webhook's"));
        }
        let mut bytes = Vec::new();
        job::append(made, &mut bytes);
        if bytes != record.payload.value() {
            problems.push(format!("the job {id} is not written as jobs are"));
        }
        let mut bare = made.clone();
        bare.state.config = Offset(0);
        Arc::make_mut(&mut bare.event).produced_at = UnixMillis(0);
        bytes.clear();
        job::append(&bare, &mut bytes);
        if *self.jobs.entry(id).or_insert_with(|| bytes.clone()) != bytes {
            problems.push(format!("the job {id} was made anew and is another"));
        }
        problems
    }

    fn on_evidence(&mut self, record: &Record) -> Vec<String> {
        let (range, entries) = match matched::decode(record.payload.value()) {
            Ok(decoded) => decoded,
            Err(error) => return vec![format!("matched holds a record that can't be read: {error}")],
        };
        let mut problems = Vec::new();
        // The copies of an event in the range, by the config offsets that they were made by.
        let mut copies: BTreeMap<EventId, Vec<Offset>> = BTreeMap::new();
        for offset in range.from.0..range.to.0 {
            match self.places.get(&(range.partition.0, offset)) {
                Some((event, config)) => copies.entry(*event).or_default().push(*config),
                None => problems.push(format!("evidence of {range:?}, where {offset} is not there yet")),
            }
        }
        for (event, configs) in copies {
            let Some(accepted) = self.accepted.get(&event) else { continue };
            let told: Vec<&Matched> = entries.iter().filter(|entry| entry.event == event).collect();
            let lowest = configs.iter().min().copied().unwrap_or_default();
            let needed = configs
                .iter()
                .filter(|config| !self.matches(&accepted.attributes, **config).is_empty())
                .count();
            if told.len() < needed || told.len() > configs.len() {
                problems.push(format!("evidence of {range:?} names {event} {} times", told.len()));
            }
            for entry in told {
                let agrees = (lowest.0..=range.config.0).any(|config| {
                    let deliveries = self.matches(&accepted.attributes, Offset(config));
                    let mut sum = Matched::new(event);
                    deliveries.iter().for_each(|id| sum.add(*id));
                    sum == *entry && deliveries.iter().all(|id| self.jobs.contains_key(id))
                });
                if !agrees {
                    problems.push(format!("evidence of {range:?} does not agree with the jobs of {event}"));
                }
            }
        }
        self.evidence.entry(range.partition.0).or_default().push((range.from.0, range.to.0));
        problems
    }

    /// Rule 2 for the ingester and for fan-out.
    pub(super) fn on_commit(
        &self,
        tp: &TopicPartition,
        from: i64,
        to: i64,
        log: &PartitionLog,
    ) -> Vec<String> {
        let mut problems = Vec::new();
        for record in log.from(from).iter().take_while(|record| record.offset.0 < to) {
            let offset = record.offset;
            let place = (tp.clone(), offset);
            if let Some(expected) = self.expected.get(&place) {
                if !self.is_taken_in(&place, expected) {
                    problems.push(format!("{tp:?} was committed past {offset}, which is not taken in"));
                }
            } else if tp.0 == self.topics.events {
                let covered = self
                    .evidence
                    .get(&tp.1)
                    .is_some_and(|ranges| ranges.iter().any(|(from, to)| (*from..*to).contains(&offset.0)));
                if !covered {
                    problems.push(format!("{tp:?} was committed past {offset} without evidence of it"));
                }
                if let Some((event, config)) = self.places.get(&(tp.1, offset.0))
                    && let Some(missing) = self.missing(*event, *config)
                {
                    problems.push(format!("{tp:?} was committed past {offset} without the job {missing}"));
                }
            }
        }
        problems
    }

    fn is_taken_in(&self, place: &(TopicPartition, Offset), expected: &Expected) -> bool {
        expected.events.iter().all(|event| self.accepted.contains_key(event))
            && (!expected.rejected || self.rejected.contains(place))
    }

    /// A delivery that an event must have by the configuration of an offset, and has not.
    fn missing(&self, event: EventId, config: Offset) -> Option<DeliveryId> {
        let accepted = self.accepted.get(&event)?;
        self.matches(&accepted.attributes, config).into_iter().find(|id| !self.jobs.contains_key(id))
    }

    /// Whether all that was produced was taken in, and all that was accepted has its jobs; else what has not.
    pub(super) fn at_the_end(&self) -> Vec<String> {
        let lost = self
            .expected
            .iter()
            .filter(|(place, expected)| !self.is_taken_in(place, expected))
            .map(|(place, _)| format!("{place:?} was never taken in"));
        let jobless = self.accepted.iter().filter_map(|(event, accepted)| {
            let missing = self.missing(*event, *accepted.configs.last()?)?;
            Some(format!("the event {event} has no job {missing}"))
        });
        lost.chain(jobless).take(3).collect()
    }
}

/// Whether an event concerns a webhook, said as simply as it can be.
fn concerns(webhook: &Webhook, event: &EventAttributes) -> bool {
    webhook.account == event.account
        && webhook.source.as_ref().is_none_or(|source| *source == event.source)
        && webhook.event_types.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => event.event_type.starts_with(prefix),
            None => *pattern == event.event_type,
        })
}
