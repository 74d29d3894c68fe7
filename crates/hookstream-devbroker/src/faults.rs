//! What goes wrong on purpose, by seed: connections that end or stall, answers that are errors.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use kafka_protocol::ResponseError;
pub use kafka_protocol::messages::ApiKey;

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done, and the answer is this error.
    Error(ResponseError),
    /// Nothing is done, and the connection ends.
    DropRequest,
    /// It is done, and the connection ends before the answer.
    DropAnswer,
    /// It is done, and answered so much later.
    Stall(Duration),
}

/// To which requests, and how often.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Of which kinds; none: of all but `ApiVersions`.
    pub apis: Vec<ApiKey>,
    pub percent: u32,
    pub fault: Fault,
}

/// What is to go wrong at present.
#[derive(Debug, Default)]
pub struct Faults {
    plan: Mutex<Plan>,
}

#[derive(Debug, Default)]
struct Plan {
    rules: Vec<Rule>,
    random: u64,
    injected: u64,
}

impl Faults {
    /// From now on these happen; each request meets the first rule that strikes.
    pub fn set(&self, seed: u64, rules: Vec<Rule>) {
        let mut plan = self.plan();
        plan.rules = rules;
        plan.random = seed;
    }

    /// Nothing goes wrong any more.
    pub fn clear(&self) {
        self.plan().rules.clear();
    }

    /// How often something went wrong.
    #[must_use]
    pub fn injected(&self) -> u64 {
        self.plan().injected
    }

    pub(crate) fn strike(&self, api: ApiKey) -> Option<Fault> {
        let mut plan = self.plan();
        if plan.rules.is_empty() {
            return None;
        }
        let Plan { rules, random, injected } = &mut *plan;
        let concerns = |rule: &Rule| match rule.apis.as_slice() {
            [] => api != ApiKey::ApiVersions,
            apis => apis.contains(&api),
        };
        let struck = rules
            .iter()
            .filter(|rule| concerns(rule))
            .find(|rule| next(random) % 100 < u64::from(rule.percent))
            .map(|rule| rule.fault);
        *injected += u64::from(struck.is_some());
        struck
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_strikes_the_same_requests() {
        let faults = Faults::default();
        let rule = Rule { apis: vec![ApiKey::Produce], percent: 30, fault: Fault::DropAnswer };
        let strikes = || {
            faults.set(7, vec![rule.clone()]);
            (0..1000).map(|_| faults.strike(ApiKey::Produce).is_some()).collect::<Vec<_>>()
        };
        let first = strikes();
        assert_eq!(first, strikes());
        let struck = first.iter().filter(|struck| **struck).count();
        assert!((250..350).contains(&struck), "{struck}");
        assert_eq!(faults.strike(ApiKey::Fetch), None);
        faults.clear();
        assert_eq!(faults.strike(ApiKey::Produce), None);
        assert_eq!(faults.injected(), 2 * struck as u64);
    }
}
