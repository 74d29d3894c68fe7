//! Filters mean what Event Ruler, the code behind EventBridge, says they mean.
//!
//! Left out is where it errs (1.8.1): what is no IPv4 address is one of `0.0.0.0/0`; beside other alternatives of a field
//! `equals-ignore-case` takes `æb` for `Ab` or forgets that it is turned round, and of two `exists: false` one is not
//! always looked at. What is taken here and not there: the upper bound of a range first, and `/32`. And what has no
//! meaning: names that stand twice in an object (RFC 8259 §4).

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use hookstream_core::event::EventAttributes;
use hookstream_core::filter::{Facts, Filter};
use hookstream_e2e::package;
use hookstream_types::{AccountUid, EventId, UnixMillis};
use serde_json::{Value, json};
use uuid::Uuid;

/// Pairs that are compared.
const PAIRS: usize = 100_000;
/// Of the pairs.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// Few names and values, so that patterns and events have to do with each other.
struct Chance(u64);

impl Chance {
    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[usize::try_from(self.below(of.len() as u64)).expect("it is below a length")]
    }

    fn name(&mut self) -> String {
        self.pick(&["a", "b", "c", "d"]).to_owned()
    }

    fn text(&mut self) -> String {
        const TEXTS: [&str; 16] = [
            "",
            "a",
            "b",
            "ab",
            "abc",
            "bab",
            "Ab",
            "ABC",
            "æb",
            "ÆB",
            "*",
            "a*b",
            "\\",
            "10.0.0.1",
            "10.1.0.7",
            "2001:db8::7",
        ];
        self.pick(&TEXTS).to_owned()
    }

    /// In a notation of several.
    fn number(&mut self) -> String {
        const NUMBERS: [&str; 16] = [
            "0",
            "1",
            "1.0",
            "10e-1",
            "-1",
            "2",
            "2.5",
            "25e-1",
            "3",
            "300",
            "3.0e2",
            "-0.5",
            "1e3",
            "1000",
            "0.1",
            "123456789.123",
        ];
        self.pick(&NUMBERS).to_owned()
    }

    /// JSON text.
    fn scalar(&mut self) -> String {
        match self.below(8) {
            0..4 => json!(self.text()).to_string(),
            4..6 => self.number(),
            6 => self.pick(&["true", "false"]).to_owned(),
            _ => "null".to_owned(),
        }
    }

    fn value(&mut self, depth: u32) -> String {
        match self.below(if depth == 0 { 6 } else { 10 }) {
            0..5 => self.scalar(),
            5 if depth == 0 => self.scalar(),
            5..8 => self.object(depth - 1),
            _ => {
                let count = self.below(4);
                let elements: Vec<String> = (0..count).map(|_| self.value(depth - 1)).collect();
                format!("[{}]", elements.join(","))
            }
        }
    }

    fn object(&mut self, depth: u32) -> String {
        let mut out = String::from("{");
        for name in ["a", "b", "c", "d"] {
            if !self.one_in(3) {
                let comma = if out.len() > 1 { "," } else { "" };
                out += &format!("{comma}\"{name}\":{}", self.value(depth));
            }
        }
        out + "}"
    }

    fn part(&mut self) -> String {
        let text = self.text();
        if text.is_empty() { "a".to_owned() } else { text }
    }

    fn wildcard(&mut self) -> String {
        self.pick(&["*", "a*", "*b", "a*b", "*a*", "*.0.*", "a*b*c", "\\*", "*\\\\*", "ab", "*B*"]).to_owned()
    }

    fn numeric(&mut self) -> String {
        let (low, high) = (self.pick(&["-1", "0", "1.0", "2"]), self.pick(&["2.5", "3", "300", "1e3"]));
        match self.below(5) {
            0 => format!("[\"=\",{}]", self.number()),
            1 => format!("[\">\",{low}]"),
            2 => format!("[\"<=\",{high}]"),
            3 => format!("[\">=\",{low},\"<\",{high}]"),
            // The upper bound first is taken here, and not there.
            _ => format!("[\">\",{low},\"<=\",{high}]"),
        }
    }

    fn condition(&mut self) -> String {
        let any_case = |text: String| format!("{{\"equals-ignore-case\":{}}}", json!(text));
        match self.below(18) {
            0..6 => self.scalar(),
            6 => format!("{{\"prefix\":{}}}", json!(self.part())),
            7 => format!("{{\"suffix\":{}}}", json!(self.part())),
            8 => format!("{{\"prefix\":{}}}", any_case(self.part())),
            9 => format!("{{\"suffix\":{}}}", any_case(self.part())),
            10 => any_case(self.part()),
            11 => format!("{{\"wildcard\":{}}}", json!(self.wildcard())),
            12 => format!("{{\"numeric\":{}}}", self.numeric()),
            13 => format!("{{\"exists\":{}}}", self.one_in(2)),
            14 => format!(
                "{{\"cidr\":\"{}\"}}",
                self.pick(&["10.0.0.0/24", "10.0.0.0/8", "2001:db8::/32", "10.1.0.6/31"])
            ),
            _ => format!("{{\"anything-but\":{}}}", self.anything_but()),
        }
    }

    fn conditions(&mut self) -> String {
        let conditions: Vec<String> = (0..=self.below(2)).map(|_| self.condition()).collect();
        let is_odd = |condition: &&String| {
            ["{\"anything-but\":{\"equals-ignore-case\"", "{\"equals-ignore-case\"", "{\"exists\":false}"]
                .iter()
                .any(|odd| condition.starts_with(odd))
        };
        match conditions.iter().find(is_odd) {
            Some(alone) => format!("[{alone}]"),
            None => format!("[{}]", conditions.join(",")),
        }
    }

    fn anything_but(&mut self) -> String {
        let several = |this: &mut Self, make: fn(&mut Self) -> String| {
            let made: Vec<String> = (0..=this.below(2)).map(|_| json!(make(this)).to_string()).collect();
            format!("[{}]", made.join(","))
        };
        match self.below(8) {
            0 => json!(self.text()).to_string(),
            1 => self.number(),
            2 => several(self, Self::text),
            3 => format!("[{},{}]", self.number(), self.number()),
            4 => format!("{{\"prefix\":{}}}", json!(self.part())),
            5 => format!("{{\"suffix\":{}}}", several(self, Self::part)),
            6 => format!("{{\"equals-ignore-case\":{}}}", several(self, Self::part)),
            _ => format!("{{\"wildcard\":{}}}", json!(self.wildcard())),
        }
    }

    fn pattern(&mut self, depth: u32) -> String {
        let mut members = Vec::new();
        for name in ["a", "b", "c", "d"] {
            if self.one_in(3) {
                let member =
                    if depth > 0 && self.one_in(3) { self.pattern(depth - 1) } else { self.conditions() };
                members.push(format!("\"{name}\":{member}"));
            }
        }
        if members.is_empty() {
            let name = self.name();
            members.push(format!("\"{name}\":[{}]", self.condition()));
        }
        // Of fields that stand nowhere else.
        if self.one_in(8) && depth > 0 {
            let left: Vec<&str> = ["a", "b", "c", "d"]
                .into_iter()
                .filter(|name| !members.iter().any(|member| member.starts_with(&format!("\"{name}\""))))
                .collect();
            if left.len() >= 2 {
                let (one, other) = (left[0], left[1]);
                members.push(format!(
                    "\"$or\":[{{\"{one}\":[{}]}},{{\"{other}\":[{}]}}]",
                    self.condition(),
                    self.condition()
                ));
            }
        }
        format!("{{{}}}", members.join(","))
    }
}

/// A pattern with `exists: false` once at most.
fn rule(chance: &mut Chance) -> String {
    loop {
        let pattern = chance.pattern(2);
        if pattern.matches("\"exists\":false").count() <= 1 {
            return format!("{{\"data\":{pattern}}}");
        }
    }
}

fn event() -> EventAttributes {
    EventAttributes {
        event: EventId(Uuid::nil()),
        account: AccountUid(Uuid::nil()),
        source: "s".into(),
        id: "1".into(),
        ce_source: "s".into(),
        event_type: "a.b".into(),
        subject: None,
        time: "2026-01-01T00:00:00Z".into(),
        content_type: None,
        extensions: Vec::new(),
        produced_at: UnixMillis(0),
    }
}

/// Event Ruler's answers, in the order of the questions.
fn ruler(questions: &[(String, String)]) -> Vec<String> {
    let jars = package("HOOKSTREAM_TEST_EVENT_RULER");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/EventRuler.java");
    let mut java = Command::new("java")
        .arg("-cp")
        .arg(format!("{}/*", jars.display()))
        .arg(source)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Java was there when the packages were fetched");
    let mut stdin = java.stdin.take().expect("it is piped");
    let lines: String = questions
        .iter()
        .map(|(rule, event)| format!("{}\n", json!({ "rule": rule, "event": event })))
        .collect();
    let writing = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = java.wait_with_output().expect("it ran");
    writing.join().expect("it does not panic").expect("Java reads to the end");
    assert!(output.status.success());
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn filters_mean_what_event_ruler_says() {
    let mut chance = Chance(SEED);
    let questions: Vec<(String, String)> =
        (0..PAIRS).map(|_| (rule(&mut chance), format!("{{\"data\":{}}}", chance.object(3)))).collect();
    let answers = ruler(&questions);
    assert_eq!(answers.len(), questions.len());
    let attributes = event();
    let (mut matched, mut refused, mut differ) = (0, 0, Vec::new());
    for ((rule, event), theirs) in questions.iter().zip(&answers) {
        let pattern: Value = serde_json::from_str(rule).unwrap();
        let ours = match Filter::compile(&Arc::new(pattern)) {
            Err(error) => format!("error {error}"),
            Ok(filter) => {
                let data = event.strip_prefix("{\"data\":").and_then(|rest| rest.strip_suffix('}')).unwrap();
                filter.matches(&Facts::of(&attributes, data.as_bytes())).to_string()
            }
        };
        matched += usize::from(ours == "true");
        refused += usize::from(ours.starts_with("error"));
        let same = ours == *theirs || (ours.starts_with("error") && theirs.starts_with("error"));
        if !same {
            differ.push(format!("{rule}\n  {event}\n  ours: {ours}; theirs: {theirs}"));
        }
    }
    println!("{PAIRS} pairs, {matched} match, {refused} refused by both");
    let shown = differ.iter().take(10).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(differ.is_empty(), "{} of {PAIRS} differ:\n{shown}", differ.len());
    assert!(matched > PAIRS / 20, "{matched}");
    assert!(refused < PAIRS / 20, "{refused}");
}
