//! What `attempts` says: every decision, and the exchanges they rest on.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::kafka::Record;

/// One decision that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// `delivered`, `retry`, `deferred`, `dead` or `skipped`.
    pub verdict: String,
    pub reason: Option<String>,
    /// Retries and deferrals before it.
    pub n: u64,
    /// When it is due again, in milliseconds since the epoch.
    pub due: Option<i64>,
}

/// The content of `attempts`, by delivery id.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    decisions: BTreeMap<String, Vec<Decided>>,
    /// Records that hold an exchange: requests whose decision is durable.
    pub exchanges: Vec<Value>,
    /// Decisions that an owner wrote after it had been replaced.
    pub void: usize,
    /// Records that stand there once more, to the byte: their first acknowledgement was lost, so that they were
    /// written again. They decide nothing new.
    pub copies: usize,
}

impl Ledger {
    /// Reads the records of all partitions; those of each are in order.
    #[must_use]
    pub fn of(records: &[Record]) -> Self {
        let mut ledger = Self::default();
        let mut owners: BTreeMap<i64, Value> = BTreeMap::new();
        let mut known = BTreeSet::new();
        for record in records {
            // An owner's name is good for one assignment, and a decision holds the offset that it is about.
            if !known.insert((record.partition, &record.value)) {
                ledger.copies += 1;
                continue;
            }
            let entry = record.json();
            if entry["attempt"].is_object() {
                ledger.exchanges.push(entry["attempt"].clone());
            }
            let decisions = entry["decisions"].as_array().map(Vec::as_slice).unwrap_or_default();
            if decisions.is_empty() {
                owners.insert(record.partition, entry["owner"].clone());
                continue;
            }
            if owners.get(&record.partition) != Some(&entry["owner"]) {
                ledger.void += decisions.len();
                continue;
            }
            for decision in decisions {
                let text = |name: &str| decision[name].as_str().map(str::to_owned);
                let decided = Decided {
                    verdict: text("verdict").unwrap_or_default(),
                    reason: text("reason"),
                    n: decision["generation"]["n"].as_u64().unwrap_or_default(),
                    due: decision["due"].as_i64(),
                };
                ledger.decisions.entry(text("delivery").unwrap_or_default()).or_default().push(decided);
            }
        }
        ledger
    }

    /// What was decided about a delivery, in order.
    #[must_use]
    pub fn of_delivery(&self, id: &str) -> &[Decided] {
        self.decisions.get(id).map(Vec::as_slice).unwrap_or_default()
    }

    /// Deliveries that ended with this verdict.
    #[must_use]
    pub fn ended(&self, verdict: &str) -> usize {
        self.decisions.values().filter(|list| list.iter().any(|decided| decided.verdict == verdict)).count()
    }

    /// Deliveries that were decided to be at their end more than once.
    #[must_use]
    pub fn ended_twice(&self) -> Vec<&str> {
        let ends = |list: &[Decided]| {
            list.iter()
                .filter(|decided| matches!(decided.verdict.as_str(), "delivered" | "dead" | "skipped"))
                .count()
        };
        self.decisions.iter().filter(|(_, list)| ends(list) > 1).map(|(id, _)| id.as_str()).collect()
    }

    /// Ids of the deliveries about which something was decided.
    pub fn deliveries(&self) -> impl Iterator<Item = &str> {
        self.decisions.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(partition: i64, value: &str) -> Record {
        let value = Some(value.to_owned());
        Record { partition, offset: 0, timestamp: 0, key: None, headers: Vec::new(), value }
    }

    #[test]
    fn what_is_written_again_is_not_decided_again() {
        let decision = |offset: i64| {
            format!(
                r#"{{"v":1,"owner":"a","decisions":[{{"offset":{offset},"delivery":"d","generation":{{"run":0,"n":0}},"verdict":"delivered"}}],"attempt":{{"number":1}}}}"#
            )
        };
        let (owner, first) = (record(0, r#"{"v":1,"owner":"a"}"#), record(0, &decision(1)));
        let again = Ledger::of(&[owner.clone(), first.clone(), first.clone()]);
        assert_eq!((again.copies, again.exchanges.len()), (1, 1));
        assert!(again.ended_twice().is_empty());
        let twice = Ledger::of(&[owner, first, record(0, &decision(2))]);
        assert_eq!((twice.copies, twice.ended_twice()), (0, vec!["d"]));
    }

    #[test]
    fn what_a_replaced_owner_decides_is_void() {
        let decision = |owner: &str, verdict: &str| {
            format!(
                r#"{{"v":1,"owner":"{owner}","decisions":[{{"delivery":"d","generation":{{"run":0,"n":0}},"verdict":"{verdict}"}}]}}"#
            )
        };
        let ledger = Ledger::of(&[
            record(0, r#"{"v":1,"owner":"a"}"#),
            record(0, &decision("a", "retry")),
            record(0, r#"{"v":1,"owner":"b"}"#),
            record(0, &decision("a", "delivered")),
            record(0, &decision("b", "delivered")),
        ]);
        assert_eq!(ledger.void, 1);
        assert_eq!(ledger.of_delivery("d").len(), 2);
        assert_eq!(ledger.ended("delivered"), 1);
        assert!(ledger.ended_twice().is_empty());
    }
}
