//! The simulated log as a bench of the contract suite: no faults, and time passes as the suite says.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use hookstream_core::ladder::Ladder;
use hookstream_log::contract::Bench;
use hookstream_types::Mono;
use hookstream_wire::Topics;

use super::books::Books;
use super::cluster::{Cluster, Event, Life, MS, Shared};
use super::log::SimLog;
use super::rng::Rng;

/// A simulated cluster without faults.
#[derive(Debug)]
pub struct SimBench {
    shared: Shared,
    topics: BTreeMap<String, i32>,
    groups: BTreeMap<String, usize>,
}

/// A process that is a member of a group.
#[derive(Debug)]
pub struct SimMember {
    life: Life,
}

impl SimBench {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let topics = Arc::new(Topics::new("sim", &Ladder::default()));
        let books = Books::new(topics, Vec::new(), true, Vec::new());
        let mut cluster = Cluster::new(Rng::new(seed), true, books);
        cluster.at(0, Event::Heartbeat);
        Self { shared: Rc::new(RefCell::new(cluster)), topics: BTreeMap::new(), groups: BTreeMap::new() }
    }
}

impl Bench for SimBench {
    type Log = SimLog;
    type Member = SimMember;

    fn topic(&mut self, partitions: i32) -> String {
        let name = format!("contract.{}", self.topics.len());
        self.shared.borrow_mut().create_topic(&Arc::from(name.as_str()), partitions);
        self.topics.insert(name.clone(), partitions);
        name
    }

    fn join(&mut self, group: &str, topic: &str) -> (SimMember, SimLog) {
        let mut cluster = self.shared.borrow_mut();
        let group = *self
            .groups
            .entry(group.to_owned())
            .or_insert_with(|| cluster.create_group(&[(Arc::from(topic), self.topics[topic])]));
        let life = cluster.begin_life(0, 0);
        let id = cluster.join(life, group);
        drop(cluster);
        (SimMember { life }, SimLog { shared: Rc::clone(&self.shared), id, life })
    }

    fn leave(&mut self, member: SimMember) -> SimMember {
        self.shared.borrow_mut().leave(member.life);
        member
    }

    fn has_left(&mut self, member: &SimMember) -> bool {
        self.shared.borrow().owns_nothing(member.life)
    }

    fn kill(&mut self, member: SimMember, _log: SimLog) {
        self.shared.borrow_mut().crash(member.life);
    }

    fn step(&mut self) {
        let mut cluster = self.shared.borrow_mut();
        let end = cluster.now + 2 * MS;
        while let Some(at) = cluster.next_event_at().filter(|at| *at <= end) {
            cluster.now = at.max(cluster.now);
            if let Some(event) = cluster.pop_event() {
                // There is no script.
                cluster.handle(event);
            }
        }
        cluster.now = end;
    }

    fn now(&self) -> Mono {
        Mono(self.shared.borrow().now)
    }
}
