//! What a record of `hookstream.attempts` says, as the index sees it. Pure.

use hookstream_core::decision::{About, Verdict};
use hookstream_core::exchange::FailureKind;
use hookstream_core::ledger::Entry;
use hookstream_types::{DeliveryId, Generation, Offset, OwnerId, UnixMillis};
use hookstream_wire::attempt;

use crate::apply::Record;
use crate::fold::Outcome;
use crate::sql;

/// A decision that counts, with the exchange that it rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) offset: Offset,
    /// Which decision of its record.
    pub(crate) index: u32,
    /// The record's timestamp.
    pub(crate) at: UnixMillis,
    pub(crate) delivery: DeliveryId,
    pub(crate) generation: Generation,
    pub(crate) outcome: Outcome,
    pub(crate) reason: Option<&'static str>,
    pub(crate) due: Option<UnixMillis>,
    /// None of old records that do not say it.
    pub(crate) about: Option<About>,
    pub(crate) exchange: Option<Made>,
}

/// An exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) number: u32,
    pub(crate) started_at: UnixMillis,
    pub(crate) status: Option<u16>,
    pub(crate) failure: Option<FailureKind>,
    pub(crate) total_us: u64,
    pub(crate) revision: u64,
    pub(crate) unlisted: bool,
}

/// A record that could be read.
#[derive(Debug)]
pub(crate) enum Parsed {
    Owner(OwnerId),
    Decided { owner: OwnerId, changes: Vec<Change> },
}

/// Reads records; returns with them how many could not be read.
pub(crate) fn parse(records: &[Record]) -> (Vec<Parsed>, u64) {
    let mut bad = 0;
    let mut parsed = Vec::with_capacity(records.len());
    for record in records {
        match attempt::decode_outline(&record.value) {
            Ok((Entry::Owner(owner), _)) => parsed.push(Parsed::Owner(owner)),
            Ok((Entry::Decisions { owner, decisions }, outline)) => {
                let mut outline = outline;
                let changes = decisions.into_iter().zip(0..).filter_map(|(decision, index)| {
                    // The exchange belongs to the first decision.
                    let outline = outline.take();
                    let (outcome, reason) = match &decision.verdict {
                        Verdict::Deferred { .. } => return None,
                        Verdict::Delivered => (Outcome::Delivered, None),
                        Verdict::Retry { .. } => (Outcome::Waiting, None),
                        Verdict::Dead { reason } => (Outcome::Dead, Some(reason.label())),
                        Verdict::Skipped { reason } => (Outcome::Skipped, Some(reason.label())),
                    };
                    let about = outline.as_ref().map(|outline| About {
                        webhook: outline.webhook,
                        account: outline.account,
                        event: outline.event,
                        event_type: outline.event_type.as_str().into(),
                    });
                    let about = about.or_else(|| decision.about.map(|about| *about));
                    Some(Change {
                        offset: record.offset,
                        index,
                        at: record.at,
                        delivery: decision.delivery,
                        generation: decision.generation,
                        outcome,
                        reason,
                        due: decision.verdict.due(),
                        about: about.map(|about| About {
                            event_type: sql::storable(&about.event_type).into(),
                            ..about
                        }),
                        exchange: outline.map(|outline| Made {
                            number: outline.number,
                            started_at: outline.started_at,
                            status: outline.response.map(|response| response.status),
                            failure: outline.failure.map(|failure| failure.kind),
                            total_us: outline.timings.total_us,
                            revision: outline.revision,
                            unlisted: outline.unlisted,
                        }),
                    })
                });
                parsed.push(Parsed::Decided { owner, changes: changes.collect() });
            }
            Err(_) => bad += 1,
        }
    }
    (parsed, bad)
}

/// The decisions that count, who owns the partition after them, and how many are void.
pub(crate) fn valid(parsed: Vec<Parsed>, mut owner: Option<OwnerId>) -> (Vec<Change>, Option<OwnerId>, u64) {
    let mut valid = Vec::new();
    let mut void = 0;
    for record in parsed {
        match record {
            Parsed::Owner(next) => owner = Some(next),
            Parsed::Decided { owner: by, changes }
                if by == OwnerId::DIRECT || owner.is_none_or(|owner| owner == by) =>
            {
                valid.extend(changes);
            }
            Parsed::Decided { changes, .. } => void += changes.len() as u64,
        }
    }
    (valid, owner, void)
}
