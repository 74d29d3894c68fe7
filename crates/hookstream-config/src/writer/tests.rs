use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use hookstream_types::AccountUid;
use hookstream_wire::config::Key;
use uuid::Uuid;

use super::*;
use crate::change::{EventTypeSpec, Expected, SourceSpec};
use crate::testing::{self, counter};

/// What a fake log does instead of what it is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Script {
    Works,
    /// Not done, and says so with an error.
    FailsUndone,
    /// Done, and says it failed.
    FailsDone,
    /// Done once the id is claimed again: a commit that was still on its way.
    DoneAtNextClaim,
    /// Somebody else claims first and writes this event type.
    Fenced(&'static str),
}

#[derive(Default)]
struct Log {
    records: Vec<NewRecord>,
    late: Vec<NewRecord>,
    claimant: u32,
    claims_fail: usize,
    reads_fail: usize,
    claims: usize,
    tries: usize,
    /// Waits for others, and what they write meanwhile.
    waits: Vec<Duration>,
    meanwhile: VecDeque<&'static str>,
}

impl Log {
    /// Another claims, and adds an event type.
    fn rival(&mut self, name: &str) {
        self.claimant += 1;
        let mut state = testing::state();
        let mut undo = Undo::new();
        let author = Author { actor: "rival", now: UnixMillis(0), request: None };
        let planned = plan(&mut state, &[add(name)], author, &mut counter(), &mut undo).unwrap();
        let by = By { actor: "rival", at: UnixMillis(0), write: WriteId(Uuid::from_u128(999)) };
        self.records.push(new_record(&planned[0], None, by));
    }
}

#[derive(Clone)]
struct Fake {
    log: Rc<RefCell<Log>>,
    commits: Rc<RefCell<VecDeque<Script>>>,
    me: u32,
    position: usize,
}

impl Fake {
    fn new(commits: &[Script]) -> Self {
        let commits = Rc::new(RefCell::new(commits.iter().copied().collect()));
        Self { log: Rc::default(), commits, me: 0, position: 0 }
    }

    fn failed() -> Fault {
        Fault::Failed("scripted".into())
    }
}

impl Ledger for Fake {
    fn claim(&mut self) -> Result<(), Fault> {
        let mut log = self.log.borrow_mut();
        log.claims += 1;
        if log.claims_fail > 0 {
            log.claims_fail -= 1;
            return Err(Self::failed());
        }
        let late = std::mem::take(&mut log.late);
        log.records.extend(late);
        log.claimant += 1;
        self.me = log.claimant;
        Ok(())
    }

    fn read_to_end(&mut self, each: &mut dyn FnMut(LedgerRecord<'_>)) -> Result<(), Fault> {
        let mut log = self.log.borrow_mut();
        if log.reads_fail > 0 {
            log.reads_fail -= 1;
            return Err(Self::failed());
        }
        while let Some(record) = log.records.get(self.position) {
            each(LedgerRecord {
                offset: Offset(i64::try_from(self.position).unwrap()),
                key: Some(&record.key),
                value: record.value.as_deref(),
                write: record
                    .headers
                    .iter()
                    .find(|(name, _)| *name == WRITE_HEADER)
                    .map(|(_, v)| v.as_slice()),
            });
            self.position += 1;
        }
        Ok(())
    }

    fn wait_for_more(&mut self, most: Duration) {
        let mut log = self.log.borrow_mut();
        log.waits.push(most);
        if let Some(name) = log.meanwhile.pop_front() {
            log.rival(name);
        }
    }

    fn commit(&mut self, records: &[NewRecord]) -> Result<(), Fault> {
        let mut log = self.log.borrow_mut();
        if log.claimant != self.me {
            return Err(Fault::Fenced);
        }
        log.tries += 1;
        match self.commits.borrow_mut().pop_front().unwrap_or(Script::Works) {
            Script::Works => {
                log.records.extend_from_slice(records);
                Ok(())
            }
            Script::FailsUndone => Err(Self::failed()),
            Script::FailsDone => {
                log.records.extend_from_slice(records);
                Err(Self::failed())
            }
            Script::DoneAtNextClaim => {
                log.late.extend_from_slice(records);
                Err(Self::failed())
            }
            Script::Fenced(name) => {
                log.rival(name);
                Err(Fault::Fenced)
            }
        }
    }
}

#[derive(Default)]
struct Around {
    mono: Mono,
    waits: Vec<Duration>,
    next: u8,
}

impl Surroundings for Around {
    fn mono(&mut self) -> Mono {
        self.mono
    }

    fn wall(&mut self) -> UnixMillis {
        UnixMillis(1_000)
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.next;
            self.next = self.next.wrapping_add(7);
        }
    }

    fn pause(&mut self, wait: Duration) {
        self.mono = self.mono + wait;
        self.waits.push(wait);
    }
}

fn add(name: &str) -> Change {
    let event_type = EventTypeSpec { name: name.to_owned(), ..EventTypeSpec::default() };
    Change::PutEventType { event_type, expected: Expected::Absent }
}

fn change(name: &str, revision: u64) -> Change {
    let event_type = EventTypeSpec {
        name: name.to_owned(),
        description: Some("changed".into()),
        ..EventTypeSpec::default()
    };
    Change::PutEventType { event_type, expected: Expected::Revision(revision) }
}

fn write(id: u128, changes: Vec<Change>) -> Write {
    Write { id: WriteId(Uuid::from_u128(id)), actor: "ann".into(), request: None, changes }
}

/// Writes that are all there at once, or come as they are asked for; and their answers.
#[derive(Default)]
struct Counter {
    writes: VecDeque<Write>,
    /// Writes that are there only after so many have been asked for.
    later: VecDeque<Write>,
    answers: BTreeMap<WriteId, Answer>,
}

impl Desk for Counter {
    fn more(&mut self, most: usize) -> Vec<Write> {
        let here = self.writes.len().min(most);
        let more = self.writes.drain(..here).collect();
        self.writes.append(&mut self.later);
        more
    }

    fn answer(&mut self, write: WriteId, answer: Answer) {
        assert!(self.answers.insert(write, answer).is_none(), "each is answered once");
    }
}

/// The answers to a group, in its order.
fn run(machine: &mut Machine<Fake>, group: Vec<Write>, around: &mut Around) -> Vec<Answer> {
    run_then(machine, group, Vec::new(), around)
}

/// As [`run`], with writes that come while the first are under way.
fn run_then(
    machine: &mut Machine<Fake>,
    group: Vec<Write>,
    later: Vec<Write>,
    around: &mut Around,
) -> Vec<Answer> {
    let ids: Vec<WriteId> = group.iter().chain(&later).map(|write| write.id).collect();
    let mut counter = Counter { writes: group.into(), later: later.into(), ..Counter::default() };
    while let Some(first) = counter.writes.pop_front() {
        machine.run(first, &mut counter, around);
    }
    ids.iter().map(|id| counter.answers.remove(id).expect("an answer")).collect()
}

fn revisions(answer: &Answer) -> Vec<(Key, u64)> {
    let written = answer.as_ref().unwrap().written.iter();
    written.map(|written| (written.key.clone(), written.revision)).collect()
}

fn machine(fake: &Fake) -> Machine<Fake> {
    Machine::new(fake.clone(), testing::state())
}

fn keys(fake: &Fake) -> Vec<String> {
    fake.log.borrow().records.iter().map(|r| String::from_utf8(r.key.clone()).unwrap()).collect()
}

#[test]
fn a_group_is_judged_in_its_order() {
    let fake = Fake::new(&[]);
    let mut machine = machine(&fake);
    let group = vec![
        write(1, vec![add("a")]),
        write(2, vec![add("a")]),
        write(3, vec![change("a", 1)]),
        write(4, vec![add("b"), change("a", 1)]),
        write(5, vec![add("b")]),
    ];
    let answers = run(&mut machine, group, &mut Around::default());
    assert_eq!(revisions(&answers[0]), [(Key::EventType("a".into()), 1)]);
    let Err(WriteError::Refused { refused: Refused::Exists { .. }, offset }) = answers[1] else {
        panic!("{answers:?}");
    };
    assert_eq!(offset, Offset(3), "who looks there sees what it was refused by");
    assert_eq!(revisions(&answers[2]), [(Key::EventType("a".into()), 2)]);
    assert!(matches!(
        answers[3],
        Err(WriteError::Refused { refused: Refused::RevisionMismatch { found: 2, .. }, .. })
    ));
    assert!(answers[4].is_ok(), "nothing of a refused write stays");
    assert_eq!(keys(&fake), ["event-type/a", "event-type/a", "event-type/b"]);
    assert_eq!(machine.state().event_types().count(), 2);
}

/// The audit record of each record says what stood there before it, refused writes apart.
#[test]
fn each_record_has_its_audit_record() {
    let fake = Fake::new(&[Script::FailsDone]);
    let group = vec![
        write(1, vec![add("a"), change("a", 1)]),
        write(2, vec![add("b"), change("b", 7)]),
        write(3, vec![Change::DeleteEventType { name: "a".into(), expected: Expected::Revision(2) }]),
    ];
    run(&mut machine(&fake), group, &mut Around::default());
    let log = fake.log.borrow();
    let audits: Vec<_> = log
        .records
        .iter()
        .map(|record| hookstream_wire::audit::decode(record.audit.as_deref().unwrap()).unwrap())
        .collect();
    let seen: Vec<_> = audits
        .iter()
        .map(|audit| (audit.write.as_u128(), audit.action.label(), audit.revision, audit.at.0, &*audit.actor))
        .collect();
    assert_eq!(
        seen,
        [(1, "create", 1, 1_000, "ann"), (1, "update", 2, 1_000, "ann"), (3, "delete", 0, 1_000, "ann")]
    );
    assert_eq!(audits[0].before, None);
    assert_eq!((&audits[1].before, &audits[2].before), (&audits[0].after, &audits[1].after));
    assert_eq!(audits[2].after, None);
}

#[test]
fn the_claim_is_kept_until_something_fails() {
    let fake = Fake::new(&[]);
    let mut machine = machine(&fake);
    for n in 0..3 {
        run(&mut machine, vec![write(n, vec![add(&format!("t{n}"))])], &mut Around::default())[0]
            .as_ref()
            .unwrap();
    }
    assert_eq!(fake.log.borrow().claims, 1);
}

#[test]
fn what_is_refused_by_what_is_there_claims_nothing() {
    let fake = Fake::new(&[]);
    run(&mut machine(&fake), vec![write(1, vec![add("a")])], &mut Around::default())[0].as_ref().unwrap();
    let mut other = machine(&Fake { me: 0, position: 0, ..fake.clone() });
    let answers = run(&mut other, vec![write(2, vec![add("a")])], &mut Around::default());
    assert!(matches!(answers[0], Err(WriteError::Refused { refused: Refused::Exists { .. }, .. })));
    assert_eq!(fake.log.borrow().claims, 1);
}

#[test]
fn what_is_refused_by_a_write_that_never_came_is_not_refused() {
    let fake = Fake::new(&[]);
    fake.log.borrow_mut().claims_fail = usize::MAX;
    let group = vec![write(1, vec![add("a")]), write(2, vec![add("a")])];
    for answer in run(&mut machine(&fake), group, &mut Around::default()) {
        assert!(matches!(answer, Err(WriteError::Unavailable { .. })), "{answer:?}");
    }
}

#[test]
fn a_write_that_happened_unseen_is_found_and_not_repeated() {
    for script in [Script::FailsDone, Script::DoneAtNextClaim] {
        let fake = Fake::new(&[script]);
        let answers = run(&mut machine(&fake), vec![write(1, vec![add("a")])], &mut Around::default());
        assert_eq!(revisions(&answers[0]), [(Key::EventType("a".into()), 1)], "{script:?}");
        assert_eq!(keys(&fake), ["event-type/a"], "{script:?}");
    }
}

#[test]
fn a_write_that_did_not_happen_is_tried_again() {
    let fake = Fake::new(&[Script::FailsUndone, Script::FailsUndone]);
    let answers = run(&mut machine(&fake), vec![write(1, vec![add("a")])], &mut Around::default());
    assert!(answers[0].is_ok());
    assert_eq!(keys(&fake), ["event-type/a"]);
}

#[test]
fn a_fenced_writer_waits_and_judges_anew() {
    let fake = Fake::new(&[Script::Fenced("a")]);
    let mut around = Around::default();
    let answers =
        run(&mut machine(&fake), vec![write(1, vec![add("a")]), write(2, vec![add("b")])], &mut around);
    assert!(
        matches!(answers[0], Err(WriteError::Refused { refused: Refused::Exists { .. }, .. })),
        "the rival was first"
    );
    assert!(answers[1].is_ok());
    let waits = &fake.log.borrow().waits;
    assert_eq!(waits.len(), 1);
    assert!((50..=400).contains(&waits[0].as_millis()));
}

#[test]
fn who_writes_beside_others_leaves_them_the_next_group() {
    let fake = Fake::new(&[]);
    let mut machine = machine(&fake);
    let mut around = Around::default();
    let mut add = |name| run(&mut machine, vec![write(rand_id(), vec![add(name)])], &mut around).remove(0);
    add("a").unwrap();
    assert!(fake.log.borrow().waits.is_empty(), "nobody else is there");
    fake.log.borrow_mut().rival("b");
    add("c").unwrap();
    assert_eq!(fake.log.borrow().waits.len(), 1, "it was fenced");
    fake.log.borrow_mut().meanwhile.push_back("d");
    let answer = add("d");
    assert!(matches!(answer, Err(WriteError::Refused { refused: Refused::Exists { .. }, .. })), "{answer:?}");
    assert_eq!(
        (fake.log.borrow().waits.len(), fake.log.borrow().claims),
        (2, 2),
        "it is known without a claim"
    );
    add("e").unwrap();
    add("f").unwrap();
    add("g").unwrap();
    assert_eq!(fake.log.borrow().waits.len(), 3, "who does not use it is not waited for again");
}

#[test]
fn what_comes_during_a_claim_goes_with_it() {
    let fake = Fake::new(&[]);
    let later = vec![write(2, vec![add("b")]), write(3, vec![add("a")])];
    let answers =
        run_then(&mut machine(&fake), vec![write(1, vec![add("a")])], later, &mut Around::default());
    assert!(answers[0].is_ok() && answers[1].is_ok(), "{answers:?}");
    assert!(matches!(answers[2], Err(WriteError::Refused { .. })), "it came after");
    assert_eq!(fake.log.borrow().tries, 1);
}

#[test]
fn of_writes_that_exclude_each_other_the_one_who_waits_longest_is_first() {
    let fake = Fake::new(&[]);
    let mut machine = machine(&fake);
    let by = |id, actor: &str, changes| Write { actor: actor.to_owned(), ..write(id, changes) };
    let mut around = Around::default();
    run(&mut machine, vec![by(1, "ann", vec![add("a")])], &mut around)[0].as_ref().unwrap();
    let group = vec![
        by(2, "ann", vec![change("a", 1)]),
        by(3, "bob", vec![change("a", 1)]),
        by(4, "bob", vec![change("a", 2)]),
    ];
    let answers = run(&mut machine, group, &mut around);
    assert!(answers[0].is_err() && answers[1].is_ok(), "{answers:?}");
    assert!(answers[2].is_ok(), "one actor's stay in their order: {answers:?}");
}

#[test]
fn what_is_outdated_waits_for_no_claim() {
    let fake = Fake::new(&[]);
    let writes = vec![write(1, vec![add("a")]), write(2, vec![change("a", 1)])];
    assert!(run(&mut machine(&fake), writes, &mut Around::default()).iter().all(Result::is_ok));
    let mut other = machine(&Fake { me: 0, position: 0, ..fake.clone() });
    fake.log.borrow_mut().claims_fail = usize::MAX;
    let group = vec![write(3, vec![change("a", 1)]), write(4, vec![change("a", 2)])];
    let answers = run(&mut other, group, &mut Around::default());
    let Err(WriteError::Refused { refused: Refused::RevisionMismatch { found: 2, .. }, offset }) = answers[0]
    else {
        panic!("{answers:?}");
    };
    assert_eq!(offset, Offset(2));
    assert!(matches!(answers[1], Err(WriteError::Unavailable { .. })), "{answers:?}");
}

/// A writer does not know that it was fenced before it writes: what it refuses must not rest on what it has read then.
#[test]
fn what_is_refused_is_judged_by_what_others_have_written_too() {
    let fake = Fake::new(&[]);
    let (mut one, mut other) = (machine(&fake), machine(&fake));
    let mut around = Around::default();
    let mut run = |machine: &mut Machine<Fake>, changes| {
        run(machine, vec![write(rand_id(), changes)], &mut around).pop().unwrap()
    };
    let delete = |name: &str| Change::DeleteEventType { name: name.to_owned(), expected: Expected::Present };
    assert!(run(&mut one, vec![add("a")]).is_ok());
    assert!(run(&mut other, vec![add("b")]).is_ok());
    assert!(run(&mut one, vec![change("b", 1)]).is_ok(), "it is there by now");
    assert!(run(&mut other, vec![delete("a")]).is_ok());
    assert!(run(&mut one, vec![add("a")]).is_ok(), "its name is free by now");
    let refused = run(&mut other, vec![add("a")]);
    assert!(
        matches!(refused, Err(WriteError::Refused { refused: Refused::Exists { .. }, .. })),
        "{refused:?}"
    );
}

/// What one write of a group makes impossible for another is possible if the first comes to nothing.
#[test]
fn nothing_is_refused_for_the_sake_of_what_is_not_written() {
    let fake = Fake::new(&[Script::Fenced("a")]);
    let mut machine = machine(&fake);
    let group = vec![write(1, vec![add("a"), add("b")]), write(2, vec![add("b")])];
    let answers = run(&mut machine, group, &mut Around::default());
    assert!(
        matches!(answers[0], Err(WriteError::Refused { refused: Refused::Exists { .. }, .. })),
        "{answers:?}"
    );
    assert!(answers[1].is_ok(), "{answers:?}");
}

#[test]
fn a_log_that_is_down_is_an_answer_in_time() {
    let fake = Fake::new(&[]);
    fake.log.borrow_mut().claims_fail = usize::MAX;
    let mut around = Around::default();
    let answers = run(&mut machine(&fake), vec![write(1, vec![add("a")])], &mut around);
    assert!(matches!(answers[0], Err(WriteError::Unavailable { .. })));
    assert!(around.mono.since(Mono::default()) <= PATIENCE);
}

#[test]
fn an_outcome_that_can_not_be_read_is_not_guessed() {
    let fake = Fake::new(&[Script::DoneAtNextClaim]);
    let mut machine = machine(&fake);
    run(&mut machine, vec![write(1, vec![add("first")])], &mut Around::default())[0].as_ref().unwrap();
    *fake.commits.borrow_mut() = [Script::FailsDone].into();
    fake.log.borrow_mut().claims_fail = usize::MAX;
    let answers = run(&mut machine, vec![write(2, vec![add("a")])], &mut Around::default());
    assert!(matches!(answers[0], Err(WriteError::OutcomeUnknown { .. })));

    // The next group finds the truth and judges by it.
    fake.log.borrow_mut().claims_fail = 0;
    let answers = run(&mut machine, vec![write(3, vec![add("a")])], &mut Around::default());
    assert!(matches!(answers[0], Err(WriteError::Refused { refused: Refused::Exists { .. }, .. })));
}

#[test]
fn a_failed_read_after_the_commit_is_no_second_commit() {
    let fake = Fake::new(&[]);
    let mut machine = machine(&fake);
    run(&mut machine, vec![write(1, vec![add("a")])], &mut Around::default())[0].as_ref().unwrap();
    fake.log.borrow_mut().reads_fail = 2;
    let answers = run(&mut machine, vec![write(2, vec![add("b")])], &mut Around::default());
    assert!(answers[0].is_ok());
    assert_eq!(keys(&fake), ["event-type/a", "event-type/b"]);
}

#[test]
fn references_and_names_are_checked() {
    let fake = Fake::new(&[]);
    let mut machine = machine(&fake);
    let uid = AccountUid(Uuid::from_u128(1));
    let account = Change::PutAccount { uid, account: testing::account("acme"), expected: Expected::Absent };
    let webhook = |id, change: &dyn Fn(&mut crate::change::WebhookSpec)| {
        let mut spec = testing::webhook(uid);
        change(&mut spec);
        Change::PutWebhook {
            id: testing::webhook_id(id),
            webhook: Box::new(spec),
            expected: Expected::Absent,
        }
    };
    let mut run =
        |changes| run(&mut machine, vec![write(rand_id(), changes)], &mut Around::default()).remove(0);
    assert!(matches!(
        run(vec![webhook(1, &|_| {})]),
        Err(WriteError::Refused { refused: Refused::BrokenReference { .. }, .. })
    ));
    run(vec![account, webhook(1, &|_| {})]).unwrap();
    assert!(matches!(
        run(vec![webhook(2, &|_| {})]),
        Err(WriteError::Refused { refused: Refused::NameTaken { .. }, .. })
    ));
    let named = |spec: &mut crate::change::WebhookSpec| spec.name = "other".into();
    let without_secret = webhook(2, &|spec| {
        named(spec);
        spec.secrets = None;
    });
    assert!(matches!(
        run(vec![without_secret]),
        Err(WriteError::Refused { refused: Refused::NoSecret { .. }, .. })
    ));
    let of_source = webhook(2, &|spec| {
        named(spec);
        spec.source = Some("shop".into());
    });
    assert!(matches!(
        run(vec![of_source]),
        Err(WriteError::Refused { refused: Refused::BrokenReference { .. }, .. })
    ));
    let again = Change::PutAccount {
        uid: AccountUid(Uuid::from_u128(2)),
        account: testing::account("acme"),
        expected: Expected::Absent,
    };
    assert!(matches!(run(vec![again]), Err(WriteError::Refused { refused: Refused::NameTaken { .. }, .. })));
    let delete = Change::DeleteAccount { uid, expected: Expected::Present };
    assert!(matches!(
        run(vec![delete.clone()]),
        Err(WriteError::Refused { refused: Refused::InUse { .. }, .. })
    ));
    let delete_webhook =
        Change::DeleteWebhook { id: testing::webhook_id(1), expected: Expected::Revision(1) };
    run(vec![delete_webhook, delete]).unwrap();
    assert_eq!(machine.state().accounts().count(), 0);
}

#[test]
fn a_webhook_is_disabled_only_as_it_was_tried() {
    let fake = Fake::new(&[]);
    let mut machine = machine(&fake);
    let uid = AccountUid(Uuid::from_u128(1));
    let id = testing::webhook_id(1);
    let account = Change::PutAccount { uid, account: testing::account("acme"), expected: Expected::Absent };
    let webhook =
        Change::PutWebhook { id, webhook: Box::new(testing::webhook(uid)), expected: Expected::Absent };
    let disable =
        |revision, url: &str| Change::DisableWebhook { id, revision, url: url.into(), reason: "410".into() };
    let url = testing::webhook(uid).url;
    let mut run = |changes| {
        run(&mut machine, vec![write(rand_id(), changes)], &mut Around::default()).remove(0).unwrap()
    };
    run(vec![account, webhook]);
    assert!(run(vec![disable(2, &url)]).written.is_empty());
    assert!(run(vec![disable(1, "https://elsewhere.example")]).written.is_empty());
    assert_eq!(revisions(&Ok(run(vec![disable(1, &url)]))), [(Key::Webhook(id), 2)]);
    assert!(run(vec![disable(1, &url)]).written.is_empty(), "asking twice does no harm");
    let record = machine.state().webhook(id).unwrap();
    assert_eq!(record.disabled_reason.as_deref(), Some("410"));
    assert_eq!(record.meta.actor, "ann");
}

#[test]
fn the_cluster_is_fixed_once() {
    let fake = Fake::new(&[]);
    let mut machine = machine(&fake);
    let init = |partitions| Change::InitCluster { namespace: "hookstream".into(), partitions, format: 1 };
    let mut run =
        |changes| run(&mut machine, vec![write(rand_id(), changes)], &mut Around::default()).remove(0);
    assert_eq!(run(vec![init(64)]).unwrap().written.len(), 1);
    assert!(run(vec![init(64)]).unwrap().written.is_empty());
    assert!(matches!(
        run(vec![init(32)]),
        Err(WriteError::Refused { refused: Refused::ClusterFixed { .. }, .. })
    ));
}

#[test]
fn a_source_can_not_name_hookstreams_own_topics() {
    let fake = Fake::new(&[]);
    let mut machine = machine(&fake);
    let init = Change::InitCluster { namespace: "hookstream".into(), partitions: 64, format: 1 };
    let source = |topic: &str| {
        let topics = vec!["orders".to_owned(), topic.to_owned()];
        let source = SourceSpec { name: topic.to_owned(), topics, ..SourceSpec::default() };
        Change::PutSource { source, expected: Expected::Absent }
    };
    let mut run =
        |changes| run(&mut machine, vec![write(rand_id(), changes)], &mut Around::default()).remove(0);
    let error = run(vec![init, source("hookstream.events")]).unwrap_err();
    assert!(matches!(error, WriteError::Refused { refused: Refused::OwnTopic { .. }, .. }), "{error}");
    run(vec![source("hookstream-orders")]).unwrap();
}

#[tokio::test]
async fn the_thread_answers() {
    let make = || {
        let machine = Machine::new(Fake::new(&[Script::FailsUndone]), testing::state());
        (machine, Around::default())
    };
    let writer = ConfigWriter::start(make).unwrap();
    writer.write("ann", vec![add("a")]).await.unwrap();
    assert!(writer.write("ann", vec![add("a")]).await.is_err());
    let count = |state: &State| state.event_types().count();
    assert_eq!(writer.read(count).await.unwrap(), 1);
    // A rehearsal shows what would be, and leaves nothing behind.
    let rehearse = |changes| writer.rehearse(changes, UnixMillis(5), count);
    assert_eq!(rehearse(vec![add("b"), add("c")]).await, Ok(3));
    assert!(matches!(rehearse(vec![add("b"), add("a")]).await, Err(WriteError::Refused { .. })));
    assert_eq!(writer.read(count).await.unwrap(), 1);
}

fn rand_id() -> u128 {
    Uuid::new_v4().as_u128()
}

/// Whatever the log does, each write is there once or not at all, and no answer says otherwise.
mod any_script {
    use proptest::prelude::*;

    use super::*;

    fn script() -> impl Strategy<Value = Script> {
        prop_oneof![
            3 => Just(Script::Works),
            1 => Just(Script::FailsUndone),
            1 => Just(Script::FailsDone),
            1 => Just(Script::DoneAtNextClaim),
        ]
    }

    proptest! {
        #[test]
        fn answers_are_true(
            scripts in prop::collection::vec(script(), 0..12),
            faults in prop::collection::vec((0usize..3, 0usize..3), 8),
        ) {
            let fake = Fake::new(&scripts);
            let mut machine = machine(&fake);
            for (n, (claims_fail, reads_fail)) in (0u128..).zip(faults) {
                {
                    let mut log = fake.log.borrow_mut();
                    log.claims_fail = if n % 3 == 2 { claims_fail * 1_000 } else { claims_fail };
                    log.reads_fail = reads_fail;
                }
                let group = vec![write(2 * n, vec![add(&format!("a{n}"))]), write(2 * n + 1, vec![add(&format!("b{n}"))])];
                let answers = run(&mut machine, group, &mut Around::default());
                fake.log.borrow_mut().claims_fail = 0;
                fake.log.borrow_mut().reads_fail = 0;
                let there = keys(&fake);
                let late: Vec<_> = fake.log.borrow().late.iter().map(|r| String::from_utf8(r.key.clone()).unwrap()).collect();
                for (answer, name) in answers.iter().zip(["a", "b"]) {
                    let key = format!("event-type/{name}{n}");
                    let times = there.iter().chain(&late).filter(|found| **found == key).count();
                    match answer {
                        Ok(_) => prop_assert_eq!(times, 1),
                        Err(WriteError::Unavailable { .. }) => prop_assert_eq!(times, 0),
                        Err(WriteError::OutcomeUnknown { .. }) => prop_assert!(times <= 1),
                        Err(error) => prop_assert!(false, "{error}"),
                    }
                }
            }
        }
    }
}
