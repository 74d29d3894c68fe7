//! A pipe on a small log in memory, step by step.

use super::*;
use crate::log::Lost;
use crate::memory::{MemoryLog, Stored};

/// Makes as many outputs as the record's value has words.
#[derive(Debug, Default)]
struct Words {
    closed: bool,
    evidence: bool,
    /// What it began is not done yet.
    waits: bool,
}

impl Function for Words {
    type Cursor = usize;

    const COMMIT_SPAN: i64 = 100;

    fn apply(
        &mut self,
        record: RecordRef<'_>,
        from: &Place,
        cursor: &mut usize,
        outputs: &mut Outputs<'_>,
    ) -> Result<Applied, Full> {
        if self.closed {
            return Ok(Applied::Wait);
        }
        assert_eq!(record.header("name"), Some(b"value".as_slice()));
        let text = std::str::from_utf8(record.value.unwrap()).unwrap();
        for word in text.split_whitespace().skip(*cursor) {
            outputs.produce(out("words", from.partition, word.as_bytes()))?;
            *cursor += 1;
        }
        Ok(Applied::Done)
    }

    fn too_large(
        &mut self,
        _: RecordRef<'_>,
        from: &Place,
        nth: u32,
        outputs: &mut Outputs<'_>,
    ) -> Result<(), Full> {
        outputs.produce(out("rejected", from.partition, format!("{nth}").as_bytes()))
    }

    fn before_commit(
        &mut self,
        from: &Place,
        start: Offset,
        end: Offset,
        outputs: &mut Outputs<'_>,
    ) -> Result<Applied, Full> {
        if self.waits {
            return Ok(Applied::Wait);
        }
        if self.evidence {
            outputs.produce(out("matched", from.partition, format!("{start}-{end}").as_bytes()))?;
        }
        Ok(Applied::Done)
    }
}

fn out<'a>(topic: &'a str, partition: Partition, value: &'a [u8]) -> OutRecord<'a> {
    OutRecord { topic, partition, key: None, value: Some(value), headers: &[] }
}

const IN: Input = Input(1);
const SECOND: u64 = 1_000_000;

struct Test {
    pipe: Pipe<MemoryLog, Words>,
    now: u64,
}

impl Test {
    fn new() -> Self {
        let pipe = Pipe::new(MemoryLog::default(), Words::default(), Limits::default());
        let mut test = Self { pipe, now: 0 };
        test.assign(IN);
        test
    }

    fn assign(&mut self, input: Input) {
        self.pipe.log.assign(input, "in");
    }

    fn event(&mut self, event: LogEvent) {
        self.pipe.log.events.push_back(event);
    }

    fn put(&mut self, input: Input, offset: i64, value: &str) {
        let headers = vec![("name".to_owned(), b"value".to_vec())];
        let value = Some(value.as_bytes().to_vec());
        self.pipe.log.put(input, Stored { offset, value, headers, ..Stored::default() });
    }

    /// Lets a second pass, then steps.
    fn step(&mut self) {
        self.now += SECOND;
        self.pipe.step(Mono(self.now));
    }

    /// What was produced since the last call.
    fn produced(&mut self) -> Vec<(Token, String)> {
        let produced = self.pipe.log.drain();
        produced
            .into_iter()
            .map(|record| (record.token, format!("{} {}", record.topic, record.text())))
            .collect()
    }

    #[track_caller]
    fn expect(&mut self, values: &[&str]) -> Vec<Token> {
        let produced = self.produced();
        assert_eq!(produced.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>(), values);
        produced.into_iter().map(|(token, _)| token).collect()
    }

    fn answer(&mut self, token: Token, result: Result<(), ProduceError>) {
        self.pipe.log.answer(token, result);
    }

    fn acknowledge(&mut self, tokens: &[Token]) {
        for token in tokens {
            self.answer(*token, Ok(()));
        }
    }
}

#[test]
fn commits_the_contiguous_prefix() {
    let mut test = Test::new();
    for (offset, value) in [(0, "a b"), (2, "c"), (3, "")] {
        test.put(IN, offset, value);
    }
    test.step();
    let tokens = test.expect(&["words a", "words b", "words c"]);
    test.acknowledge(&[tokens[2], tokens[0]]);
    test.step();
    assert_eq!(test.pipe.log.commits, []);
    test.acknowledge(&[tokens[1]]);
    test.step();
    assert_eq!(test.pipe.log.commits, [(IN, 4)]);
    assert_eq!(test.pipe.stats().in_flight, 0);
    assert_eq!(test.pipe.stats().bytes, 0);
}

#[test]
fn an_offset_that_comes_twice_is_handled_once() {
    let mut test = Test::new();
    test.put(IN, 0, "a");
    test.put(IN, 0, "a");
    test.step();
    test.expect(&["words a"]);
    assert_eq!(test.pipe.stats().repeated, 1);
}

#[test]
fn a_full_producer_is_gone_on_with_where_it_stopped() {
    let mut test = Test::new();
    test.pipe.log.room = 2;
    test.put(IN, 0, "a b c");
    test.put(IN, 1, "d");
    test.step();
    let first = test.expect(&["words a", "words b"]);
    assert!(test.pipe.next_deadline().is_some());
    test.acknowledge(&first);
    test.pipe.log.room = usize::MAX;
    test.step();
    let rest = test.expect(&["words c", "words d"]);
    test.acknowledge(&rest);
    test.step();
    assert_eq!(test.pipe.log.commits, [(IN, 2)]);
}

#[test]
fn failed_outputs_are_made_again_after_a_while() {
    for error in [ProduceError::Unknown, ProduceError::Refused] {
        let mut test = Test::new();
        test.put(IN, 0, "a b");
        test.put(IN, 1, "c");
        test.step();
        let tokens = test.expect(&["words a", "words b", "words c"]);
        test.answer(tokens[0], Err(error));
        test.acknowledge(&tokens[1..]);
        let before = Mono(test.now);
        test.pipe.step(before);
        assert_eq!(test.pipe.stuck(), Some(Stuck::Failing { since: before, error }));
        assert_eq!(test.pipe.next_deadline(), Some(before + FIRST_BACKOFF));
        test.expect(&[]);
        test.step();
        let again = test.expect(&["words a", "words b"]);
        assert_eq!(test.pipe.log.commits, []);
        test.acknowledge(&again);
        test.step();
        assert_eq!(test.pipe.log.commits, [(IN, 2)]);
        assert_eq!(test.pipe.stuck(), None);
    }
}

#[test]
fn what_is_too_large_is_never_retried() {
    let mut test = Test::new();
    test.put(IN, 0, "a b");
    test.step();
    let tokens = test.expect(&["words a", "words b"]);
    test.answer(tokens[0], Err(ProduceError::TooLarge));
    // The other outcome does not hide it.
    test.answer(tokens[1], Err(ProduceError::Unknown));
    test.step();
    let rejected = test.expect(&["rejected 0"]);
    test.answer(rejected[0], Err(ProduceError::TooLarge));
    test.step();
    // From here on with a delay: it is the topic that takes nothing.
    test.expect(&[]);
    test.step();
    let smaller = test.expect(&["rejected 1"]);
    test.acknowledge(&smaller);
    test.step();
    assert_eq!(test.pipe.log.commits, [(IN, 1)]);
}

#[test]
fn what_waits_holds_only_its_own_partition() {
    const OTHER: Input = Input(2);
    let mut test = Test::new();
    test.assign(OTHER);
    test.pipe.function().closed = true;
    test.put(IN, 0, "a");
    test.step();
    test.put(IN, 1, "b");
    test.step();
    test.expect(&[]);
    let since = Mono(SECOND);
    assert_eq!(test.pipe.stuck(), Some(Stuck::Waiting { since }));
    assert_eq!(test.pipe.stats().taken, 1);
    test.pipe.function().closed = false;
    test.put(OTHER, 0, "c");
    test.step();
    let mut values: Vec<_> = test.produced().into_iter().map(|(_, value)| value).collect();
    values.sort();
    assert_eq!(values, ["words a", "words b", "words c"]);
    assert_eq!(test.pipe.stuck(), None);
}

#[test]
fn evidence_is_acknowledged_before_the_commit() {
    let mut test = Test::new();
    test.pipe.function().evidence = true;
    test.put(IN, 0, "a");
    test.put(IN, 1, "b");
    test.step();
    let tokens = test.expect(&["words a", "words b"]);
    test.acknowledge(&tokens[..1]);
    test.step();
    let evidence = test.expect(&["matched 0-1"]);
    test.acknowledge(&tokens[1..]);
    test.step();
    assert_eq!(test.pipe.log.commits, []);
    test.answer(evidence[0], Err(ProduceError::Unknown));
    test.step();
    test.step();
    let evidence = test.expect(&["matched 0-2"]);
    test.acknowledge(&evidence);
    test.step();
    assert_eq!(test.pipe.log.commits, [(IN, 2)]);
}

#[test]
fn a_commit_waits_for_what_was_begun_and_nothing_else_does() {
    let mut test = Test::new();
    test.pipe.function().waits = true;
    test.put(IN, 0, "a");
    test.step();
    let first = test.expect(&["words a"]);
    test.acknowledge(&first);
    test.step();
    test.put(IN, 1, "b");
    test.step();
    let second = test.expect(&["words b"]);
    test.acknowledge(&second);
    test.step();
    assert_eq!(test.pipe.log.commits, []);
    assert!(test.pipe.next_deadline() > Some(Mono(test.now)), "it is not asked again at once");
    test.pipe.function().waits = false;
    test.step();
    assert_eq!(test.pipe.log.commits, [(IN, 2)]);
}

#[test]
fn a_commit_covers_no_more_than_its_evidence_can() {
    let mut test = Test::new();
    test.pipe.function().evidence = true;
    for offset in 0..150 {
        test.put(IN, offset, "");
    }
    test.step();
    test.step();
    let evidence = test.expect(&["matched 0-100"]);
    test.acknowledge(&evidence);
    test.step();
    assert_eq!(test.pipe.log.commits, [(IN, 100)]);
    test.step();
    test.expect(&["matched 100-150"]);
}

#[test]
fn a_drain_waits_for_what_is_produced_and_for_nothing_else() {
    let mut test = Test::new();
    test.pipe.function().evidence = true;
    test.pipe.log.room = 2;
    for (offset, value) in [(0, "a"), (1, "b c"), (2, "d")] {
        test.put(IN, offset, value);
    }
    test.step();
    let tokens = test.expect(&["words a", "words b"]);
    test.pipe.log.room = usize::MAX;
    test.event(LogEvent::Revoking { input: IN, by: Mono::MAX });
    test.put(IN, 3, "e");
    test.step();
    test.expect(&[]);
    assert_eq!(test.pipe.log.released, []);
    test.acknowledge(&tokens);
    test.step();
    let evidence = test.expect(&["matched 0-1"]);
    assert_eq!(test.pipe.log.released, []);
    test.acknowledge(&evidence);
    test.step();
    assert_eq!(test.pipe.log.commits, [(IN, 1)]);
    assert_eq!(test.pipe.log.released, [IN]);
    assert_eq!(test.pipe.stats().bytes, 0);
}

#[test]
fn an_idle_input_is_released_at_once() {
    let mut test = Test::new();
    test.step();
    test.event(LogEvent::Revoking { input: IN, by: Mono::MAX });
    test.step();
    assert_eq!(test.pipe.log.released, [IN]);
}

#[test]
fn what_is_lost_is_never_committed() {
    const OTHER: Input = Input(2);
    let mut test = Test::new();
    test.assign(OTHER);
    test.put(IN, 0, "a");
    test.step();
    test.put(OTHER, 0, "b");
    test.step();
    let tokens = test.expect(&["words a", "words b"]);
    test.event(LogEvent::Lost { input: IN, why: Lost::SessionEnded });
    test.step();
    // Its slot is used again, and the late acknowledgement is not taken for the new record's.
    test.put(OTHER, 1, "c");
    test.step();
    let later = test.expect(&["words c"]);
    test.acknowledge(&tokens);
    test.step();
    assert_eq!(test.pipe.log.commits, [(OTHER, 1)]);
    test.acknowledge(&later);
    test.step();
    assert_eq!(test.pipe.log.commits, [(OTHER, 1), (OTHER, 2)]);
    assert_eq!(test.pipe.log.released, []);
}

#[test]
fn what_is_in_flight_is_bounded() {
    let mut test = Test::new();
    test.pipe.limits = Limits { records_per_input: 10, ..Limits::default() };
    for offset in 0..100 {
        test.put(IN, offset, "a");
    }
    test.step();
    assert_eq!(test.pipe.stats().taken, 10);
    let large = Limits { bytes_per_input: 100_000, ..Limits::default() };
    let mut test = Test::new();
    test.pipe.limits = large;
    for offset in 0..100 {
        test.put(IN, offset, &"a ".repeat(10_000));
    }
    test.step();
    assert!(test.pipe.stats().bytes < 130_000, "{:?}", test.pipe.stats());
    assert_ne!(test.pipe.next_deadline(), Some(Mono(0)));
}

/// Whatever the producer answers, and in whatever order: nothing is committed before all its outputs are durable
/// (rule 2), and in the end everything is.
#[test]
fn nothing_is_committed_before_it_is_durable() {
    for seed in 1..=60u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        const RECORDS: i64 = 120;
        let inputs = [IN, Input(2)];
        let mut test = Test::new();
        test.assign(inputs[1]);
        test.pipe.function().evidence = true;
        let words = |input: Input, offset: i64| -> Vec<String> {
            (0..offset % 4).map(|word| format!("{}-{offset}-{word}", input.0)).collect()
        };
        for input in inputs {
            for offset in 0..RECORDS {
                test.put(input, offset, &words(input, offset).join(" "));
            }
        }
        let mut durable = std::collections::BTreeSet::new();
        let mut open: Vec<(Token, String)> = Vec::new();
        let mut committed = [0; 2];
        for step in 0..2_000 {
            // Faults end at some time, so that the rest can be done.
            let calm = step > 1_000;
            test.pipe.function().closed = !calm && random(10) == 0;
            test.pipe.log.room = if calm { usize::MAX } else { usize::try_from(random(40)).unwrap() };
            test.now += random(400_000);
            test.pipe.step(Mono(test.now));
            open.extend(test.produced());
            for _ in 0..random(30) {
                if open.is_empty() {
                    break;
                }
                let at = usize::try_from(random(open.len() as u64)).unwrap();
                let (token, value) = open.swap_remove(at);
                let result = match random(12) {
                    0 if !calm => Err(ProduceError::Unknown),
                    1 if !calm => Err(ProduceError::Refused),
                    _ => Ok(()),
                };
                if result.is_ok() {
                    durable.insert(value.trim_start_matches("words ").to_owned());
                }
                test.answer(token, result);
            }
            for (input, end) in std::mem::take(&mut test.pipe.log.commits) {
                let which = usize::from(input == inputs[1]);
                assert!(end > committed[which], "seed {seed}: a commit goes back");
                for offset in committed[which]..end {
                    for word in words(input, offset) {
                        assert!(
                            durable.contains(&word),
                            "seed {seed}: {input:?} {offset} is committed, {word} is lost"
                        );
                    }
                }
                committed[which] = end;
            }
        }
        assert_eq!(committed, [RECORDS; 2], "seed {seed}");
        assert_eq!((test.pipe.stats().in_flight, test.pipe.stats().bytes), (0, 0), "seed {seed}");
        assert_eq!(test.pipe.stuck(), None);
    }
}
