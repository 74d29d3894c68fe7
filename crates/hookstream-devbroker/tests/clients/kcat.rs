//! kcat: librdkafka as Debian has it, which is years older than the one that we build.

use std::process::Command;

use serde_json::Value;

use crate::programs::Bench;

impl Bench {
    fn kcat(&self, args: &[&str], input: &str) -> String {
        self.run(Command::new("kcat").args(["-b", &self.address, "-q"]).args(args), input)
    }

    fn topic(&self, name: &str, partitions: i32) {
        use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
        use rdkafka::client::DefaultClientContext;
        let admin: AdminClient<DefaultClientContext> = self.client().create().unwrap();
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let made = runtime.block_on(admin.create_topics([&topic], &AdminOptions::new())).unwrap();
        assert_eq!(made, [Ok(name.to_owned())]);
    }
}

#[test]
fn what_is_produced_is_consumed_whatever_the_codec() {
    let bench = Bench::start();
    bench.topic("words", 1);
    let codecs = ["none", "gzip", "snappy", "lz4", "zstd"];
    for codec in codecs {
        bench.kcat(
            &["-P", "-t", "words", "-K:", "-z", codec, "-H", "via=kcat"],
            &format!("{codec}:one\n{codec}:two\n"),
        );
    }
    let read = bench.kcat(&["-C", "-t", "words", "-o", "beginning", "-e", "-f", "%o %k %s %h\n"], "");
    let expected: Vec<String> = codecs
        .iter()
        .flat_map(|codec| [(*codec, "one"), (*codec, "two")])
        .enumerate()
        .map(|(offset, (codec, value))| format!("{offset} {codec} {value} via=kcat"))
        .collect();
    assert_eq!(read.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn an_idempotent_producer_writes_each_record_once() {
    let bench = Bench::start();
    bench.topic("words", 1);
    let input: String = (0..1000).map(|n| format!("{n}\n")).collect();
    bench.kcat(&["-P", "-t", "words", "-X", "enable.idempotence=true", "-X", "linger.ms=0"], &input);
    assert_eq!(bench.kcat(&["-C", "-t", "words", "-o", "beginning", "-e"], ""), input);
}

#[test]
fn brokers_and_topics_are_listed() {
    let bench = Bench::start();
    bench.topic("words", 3);
    let listed: Value = serde_json::from_str(&bench.kcat(&["-L", "-J"], "")).unwrap();
    assert_eq!(listed["brokers"], serde_json::json!([{"id": 1, "name": bench.address}]));
    assert_eq!(listed["topics"][0]["topic"], "words");
    assert_eq!(listed["topics"][0]["partitions"].as_array().unwrap().len(), 3);
}

#[test]
fn offsets_are_queried_by_time() {
    let bench = Bench::start();
    bench.topic("words", 1);
    bench.kcat(&["-P", "-t", "words"], "one\ntwo\n");
    let times = bench.kcat(&["-C", "-t", "words", "-o", "beginning", "-e", "-f", "%T\n"], "");
    let first: i64 = times.lines().next().unwrap().parse().unwrap();
    let at = |time: i64| bench.kcat(&["-Q", "-t", &format!("words:0:{time}")], "");
    assert_eq!(at(first).trim(), "words [0] offset 0");
    assert_eq!(at(first - 1000).trim(), "words [0] offset 0");
    assert_eq!(at(first + 3_600_000).trim(), "words [0] offset -1");
    assert_eq!(at(-1).trim(), "words [0] offset 2");
}

#[test]
fn members_of_a_group_share_what_there_is() {
    let bench = Bench::start();
    bench.topic("words", 4);
    // Partition by partition, so that each has something.
    for partition in 0..4 {
        bench.kcat(&["-P", "-t", "words", "-p", &partition.to_string()], &format!("{partition}\n"));
    }
    let group = ["-G", "readers", "-X", "auto.offset.reset=earliest", "-c", "4", "-f", "%p=%s\n", "words"];
    let mut read: Vec<String> = bench.kcat(&group, "").lines().map(str::to_owned).collect();
    read.sort_unstable();
    assert_eq!(read, ["0=0", "1=1", "2=2", "3=3"]);
    // It goes on where it stopped.
    bench.kcat(&["-P", "-t", "words", "-p", "2"], "more\n");
    let group = ["-G", "readers", "-X", "auto.offset.reset=earliest", "-c", "1", "-f", "%p=%s\n", "words"];
    assert_eq!(bench.kcat(&group, ""), "2=more\n");
}

/// librdkafka 0.11 and others of that age speak the oldest versions that there are.
#[test]
fn a_client_that_asks_for_no_versions_is_served() {
    let bench = Bench::start();
    bench.topic("words", 1);
    let old = ["-X", "api.version.request=false", "-X", "broker.version.fallback=0.11.0"];
    let produce: Vec<&str> = ["-P", "-t", "words"].iter().chain(&old).copied().collect();
    bench.kcat(&produce, "one\n");
    let consume: Vec<&str> =
        ["-C", "-t", "words", "-o", "beginning", "-e"].iter().chain(&old).copied().collect();
    assert_eq!(bench.kcat(&consume, ""), "one\n");
}
