//! Clients that start, crash, dawdle and lose connections, in every order: what holds whatever they do.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

mod client;

use client::{Client, HEARTBEAT_MS, State};

const N_CLIENTS: usize = 6;
/// The longest timeouts of [`Client::new`].
const LONGEST_MS: u64 = 20_000 + 15_000;

#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Start(usize),
    Crash {
        client: usize,
        noticed: bool,
    },
    Leave(usize),
    /// Its connection breaks while it waits, and it joins again.
    Reconnect(usize),
    Dawdle(usize, u64),
    Resubscribe(usize, u8),
    Rebalance,
    Commit(usize, i64),
    TxnCommit(usize, i64),
    EndTxn(i64, bool),
    DeleteTopic(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..N_CLIENTS;
    prop_oneof![
        6 => (0u64..12_000).prop_map(Step::Pass),
        6 => client.clone().prop_map(Step::Start),
        2 => (client.clone(), any::<bool>()).prop_map(|(client, noticed)| Step::Crash { client, noticed }),
        1 => client.clone().prop_map(Step::Leave),
        1 => client.clone().prop_map(Step::Reconnect),
        1 => (client.clone(), 0u64..30_000).prop_map(|(client, ms)| Step::Dawdle(client, ms)),
        1 => (client.clone(), 0u8..3).prop_map(|(client, topics)| Step::Resubscribe(client, topics)),
        1 => Just(Step::Rebalance),
        2 => (client.clone(), 0i64..100).prop_map(|(client, offset)| Step::Commit(client, offset)),
        2 => (client, 0i64..3).prop_map(|(client, producer)| Step::TxnCommit(client, producer)),
        1 => (0i64..3, any::<bool>()).prop_map(|(producer, committed)| Step::EndTxn(producer, committed)),
        1 => (0u8..3).prop_map(Step::DeleteTopic),
    ]
}

struct World {
    broker: Broker,
    clients: Vec<Client>,
    forgotten: BTreeSet<Token>,
    generation: i32,
}

// === impl World: time ===

impl World {
    fn new(initial_rebalance_delay_ms: u64) -> Self {
        // A group that is dropped and founded again has new generations, so it is kept here.
        let empty_group_retention_ms = u64::MAX;
        let settings =
            Settings { initial_rebalance_delay_ms, empty_group_retention_ms, ..Settings::default() };
        Self {
            broker: Broker::with(settings),
            clients: (0..N_CLIENTS).map(Client::new).collect(),
            forgotten: BTreeSet::new(),
            generation: 0,
        }
    }

    /// Lets time pass: whatever is due happens at its time.
    fn pass(&mut self, ms: u64) {
        let end = self.broker.now + ms;
        loop {
            self.deliver();
            let clients = self.clients.iter().map(|client| client.due);
            let next = clients.chain(self.broker.groups.next_deadline()).min().unwrap_or(end);
            if next > end {
                break;
            }
            self.broker.now = self.broker.now.max(next);
            self.broker.groups.poll(self.broker.now);
            self.broker.collect();
            for idx in 0..N_CLIENTS {
                if self.clients[idx].due <= self.broker.now {
                    self.act(idx);
                }
            }
            self.check();
        }
        self.broker.now = end;
    }

    /// Hands the answers to the clients that wait for them.
    fn deliver(&mut self) {
        for client in &mut self.clients {
            let answer = client.waits_for().and_then(|token| self.broker.answers.get(&token));
            if let Some(answer) = answer {
                client.on_answer(answer.clone(), self.broker.now);
            }
        }
    }

    fn act(&mut self, idx: usize) {
        let (broker, client) = (&mut self.broker, &mut self.clients[idx]);
        client.due = u64::MAX;
        match client.state.clone() {
            State::Join => client.state = State::Joining(broker.join(client.request())),
            State::Sync(joined) => client.state = State::Syncing(broker.sync(client.sync_request(&joined))),
            State::Member if client.beats(broker.now) => {
                let request = HeartbeatRequest {
                    group: GROUP.to_owned(),
                    generation: client.generation,
                    member_id: client.member_id.clone(),
                    instance_id: client.instance_id.clone(),
                };
                let outcome = broker.groups.heartbeat(broker.now, &request);
                client.on_heartbeat(outcome, broker.now);
            }
            State::Member => client.join_at(broker.now),
            State::Down | State::Joining(_) | State::Syncing(_) => {}
        }
    }
}

// === impl World: steps ===

impl World {
    fn take(&mut self, step: Step) {
        let now = self.broker.now;
        match step {
            Step::Pass(ms) => self.pass(ms),
            Step::Start(idx) => {
                if self.clients[idx].state == State::Down {
                    self.clients[idx].start(now);
                }
            }
            Step::Crash { client, noticed } => {
                if noticed {
                    self.disconnect(client);
                }
                self.clients[client].stop();
            }
            Step::Leave(idx) => self.leave(idx),
            Step::Reconnect(idx) => {
                if self.disconnect(idx) {
                    self.clients[idx].join_at(now);
                }
            }
            Step::Dawdle(idx, ms) => self.clients[idx].slowness_ms = ms,
            Step::Resubscribe(idx, topics) => {
                let client = &mut self.clients[idx];
                client.topics = topics;
                if client.state == State::Member {
                    client.join_at(now);
                }
            }
            // There may be no group yet.
            Step::Rebalance => self.broker.groups.force_rebalance(now, GROUP).unwrap_or_default(),
            Step::Commit(idx, position) => drop(self.broker.commit(self.commit_of(idx, position))),
            Step::TxnCommit(idx, producer_id) => self.txn_commit(idx, producer_id),
            Step::EndTxn(producer_id, committed) => self.broker.end_txn(producer_id, committed),
            Step::DeleteTopic(topic) => self.broker.groups.topic_deleted(now, &format!("topic-{topic}")),
        }
        self.broker.collect();
        self.check();
    }

    /// The broker notices that the client has gone. False if it waited for nothing.
    fn disconnect(&mut self, idx: usize) -> bool {
        let token = self.clients[idx].waits_for().filter(|token| self.broker.waits(*token));
        if let Some(token) = token {
            self.broker.groups.forget(token);
            self.forgotten.insert(token);
        }
        token.is_some()
    }

    fn leave(&mut self, idx: usize) {
        let client = &mut self.clients[idx];
        let (member_id, instance_id) = (client.member_id.clone(), client.instance_id.clone());
        client.stop();
        // It may be no member any more, or not yet.
        self.broker.leave(&member_id, instance_id.as_deref()).ok();
    }

    fn commit_of(&self, idx: usize, position: i64) -> CommitRequest {
        let client = &self.clients[idx];
        let topic = format!("topic-{}", client.topics);
        CommitRequest {
            generation: client.generation,
            member_id: client.member_id.clone(),
            instance_id: client.instance_id.clone(),
            ..simple_commit(vec![offset(&topic, 0, position), offset(&topic, 1, position)])
        }
    }

    fn txn_commit(&mut self, idx: usize, producer_id: i64) {
        let CommitRequest { group, generation, member_id, instance_id, mut offsets } =
            self.commit_of(idx, 1000);
        offsets.pop();
        let request = TxnCommitRequest { group, producer_id, generation, member_id, instance_id, offsets };
        self.broker.txn_commit(request);
    }
}

// === impl World: what holds ===

impl World {
    /// What holds at any time.
    fn check(&mut self) {
        assert!(
            self.forgotten.iter().all(|token| self.broker.waits(*token)),
            "a forgotten token was answered"
        );
        let group = self.broker.groups.describe(GROUP);
        if group.state == GroupState::Dead {
            return;
        }
        assert!(group.generation >= self.generation, "{} after {}", group.generation, self.generation);
        self.generation = group.generation;
        assert_eq!(group.members.is_empty(), group.leader.is_none(), "{group:?}");
        if group.state != GroupState::Stable {
            return;
        }
        for member in &group.members {
            assert_eq!(member.assignment, group.generation.to_string(), "{member:?}");
        }
        for client in self.clients.iter().filter(|client| client.state == State::Member) {
            let known = group.members.iter().any(|member| member.member_id == client.member_id);
            // A static member may have missed the rebalance, and be about to be told so.
            let missed = client.instance_id.is_some() && client.generation < group.generation;
            assert!(!known || missed || client.generation == group.generation, "{client:?} in {group:?}");
        }
    }

    /// Without faults the group comes to rest, with exactly those who live.
    fn settle(&mut self) {
        for client in &mut self.clients {
            client.hurry(self.broker.now);
        }
        self.pass(LONGEST_MS + 3 * HEARTBEAT_MS);
        let living = self.clients.iter().filter(|client| client.state != State::Down);
        let mut living: Vec<String> = living.map(|client| client.member_id.clone()).collect();
        living.sort();
        let group = self.broker.groups.describe(GROUP);
        let expected = if living.is_empty() { GroupState::Empty } else { GroupState::Stable };
        assert!(group.state == expected || group.state == GroupState::Dead && living.is_empty(), "{group:?}");
        assert_eq!(self.broker.members(), living);
        for client in self.clients.iter().filter(|client| client.state != State::Down) {
            assert_eq!((&client.state, client.generation), (&State::Member, group.generation));
        }
        for token in 1..=self.broker.tokens {
            assert_eq!(self.broker.waits(token), self.forgotten.contains(&token), "{token}");
        }
    }

    /// Neither a restart nor a compaction of the journal changes what is durable.
    fn restart(self) {
        let mut groups = self.broker.groups;
        let snapshot = groups.snapshot();
        let histories = [self.broker.journal, snapshot.clone()];
        let mut restored = histories.map(|entries| Groups::restore(Settings::default(), 0, entries));
        for restored in &mut restored {
            assert_eq!(by_partition(restored.snapshot()), by_partition(snapshot.clone()));
            assert_eq!(restored.fetch(GROUP, Wanted::All, true), groups.fetch(GROUP, Wanted::All, true));
            assert_eq!(restored.drain_journal(), []);
        }
        for (producer_id, committed) in [(2, true), (0, false), (1, true)] {
            groups.end_txn(self.broker.now, producer_id, committed);
            for restored in &mut restored {
                restored.end_txn(self.broker.now, producer_id, committed);
                assert_eq!(restored.fetch(GROUP, Wanted::All, true), groups.fetch(GROUP, Wanted::All, true));
            }
        }
    }
}

/// What a snapshot says of each partition: its offsets in the order of their commits, with who holds them. How the
/// commits of different partitions are ordered means nothing.
fn by_partition(snapshot: Vec<Entry>) -> BTreeMap<TopicPartition, Vec<(Option<i64>, i64)>> {
    let mut found: BTreeMap<TopicPartition, Vec<(Option<i64>, i64)>> = BTreeMap::new();
    for entry in snapshot {
        let (producer_id, offsets) = match entry {
            Entry::Committed { offsets, .. } => (None, offsets),
            Entry::Held { producer_id, offsets, .. } => (Some(producer_id), offsets),
            other => panic!("a snapshot has no {other:?}"),
        };
        for entry in offsets {
            found.entry(entry.partition).or_default().push((producer_id, entry.offset));
        }
    }
    found
}

proptest! {
    #[test]
    fn the_group_holds_together_whatever_clients_do(
        delay_ms in prop_oneof![Just(0u64), Just(3000)],
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        let mut world = World::new(delay_ms);
        for step in steps {
            world.take(step);
        }
        world.settle();
        world.restart();
    }
}
