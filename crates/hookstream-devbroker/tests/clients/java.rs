//! Kafka's own tools, and in them its Java clients.

use std::process::Command;
use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::programs::{Bench, from_environment};

const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
const PRODUCER: &str = "org.apache.kafka.tools.ConsoleProducer";
const CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";
const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
const CONFIGS: &str = "kafka.admin.ConfigCommand";
const OFFSETS: &str = "org.apache.kafka.tools.GetOffsetShell";
const DELETE_RECORDS: &str = "org.apache.kafka.tools.DeleteRecordsCommand";
const PERFORMANCE: &str = "org.apache.kafka.tools.ProducerPerformance";
const VERIFIABLE: &str = "org.apache.kafka.tools.VerifiableProducer";

/// How long a consumer waits for records that do not come, in milliseconds.
const IDLE: &str = "30000";

impl Bench {
    /// One of the tools; `args` are separated by spaces.
    fn tool(&self, class: &str, args: &str) -> Command {
        let jars = from_environment("HOOKSTREAM_TEST_KAFKA_HOME");
        let mut command = Command::new("java");
        // Quick to start, and small; what they log goes to standard error.
        command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-Xmx128m"]);
        command
            .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=error")
            .arg("-cp")
            .arg(jars.join("*"))
            .arg(class);
        command.args(["--bootstrap-server", &self.address]).args(args.split_whitespace());
        command
    }

    fn java(&self, class: &str, args: &str) -> String {
        self.run(&mut self.tool(class, args), "")
    }
}

/// The words of each line, for tables whose columns are as wide as they please.
fn table(text: &str) -> Vec<Vec<&str>> {
    text.lines()
        .map(|line| line.split_whitespace().collect())
        .filter(|words: &Vec<_>| !words.is_empty())
        .collect()
}

#[test]
fn topics_are_created_listed_described_altered_and_deleted() {
    let bench = Bench::start();
    let made = bench.java(TOPICS, "--create --topic orders --partitions 2 --config retention.ms=60000");
    assert!(made.contains("Created topic orders."), "{made}");
    assert_eq!(bench.java(TOPICS, "--list").trim(), "orders");
    bench.java(TOPICS, "--alter --topic orders --partitions 3");
    let described = bench.java(TOPICS, "--describe --topic orders");
    let lines = table(&described);
    assert_eq!(lines.len(), 4, "{described}");
    assert!(
        described.contains("PartitionCount: 3") && described.contains("ReplicationFactor: 1"),
        "{described}"
    );
    assert!(described.contains("Configs: retention.ms=60000"), "{described}");
    assert!(lines[3].windows(4).any(|words| words == ["Leader:", "1", "Replicas:", "1"]), "{described}");
    bench.java(TOPICS, "--delete --topic orders");
    assert_eq!(bench.java(TOPICS, "--list").trim(), "");
}

#[test]
fn what_the_console_producer_writes_the_console_consumer_reads() {
    let bench = Bench::start();
    bench.java(TOPICS, "--create --topic words --partitions 1");
    let producer = "--topic words --reader-property parse.key=true --reader-property key.separator=: --compression-codec lz4";
    bench.run(&mut bench.tool(PRODUCER, producer), "a:one\nb:two\na:three\n");
    let consumer = format!(
        "--topic words --from-beginning --max-messages 3 --timeout-ms {IDLE} --formatter-property print.key=true \
         --formatter-property key.separator=: --formatter-property print.offset=true"
    );
    let read = bench.java(CONSUMER, &consumer);
    assert_eq!(read.lines().collect::<Vec<_>>(), ["Offset:0:a:one", "Offset:1:b:two", "Offset:2:a:three"]);
}

#[test]
fn a_group_goes_on_where_it_stopped_and_is_described_reset_and_deleted() {
    let bench = Bench::start();
    bench.java(TOPICS, "--create --topic words --partitions 1");
    bench.run(&mut bench.tool(PRODUCER, "--topic words"), "1\n2\n3\n4\n5\n");
    let read = |count: u32| {
        let args = format!(
            "--topic words --group readers --from-beginning --max-messages {count} --timeout-ms {IDLE}"
        );
        bench.java(CONSUMER, &args)
    };
    assert_eq!(read(2), "1\n2\n");
    assert_eq!(read(1), "3\n");
    assert_eq!(bench.java(GROUPS, "--list").trim(), "readers");
    let described = bench.java(GROUPS, "--describe --group readers");
    let row = table(&described).pop().unwrap();
    // Group, topic, partition, offset, end, lag.
    assert!(row.starts_with(&["readers", "words", "0", "3", "5", "2"]), "{described}");
    let state = bench.java(GROUPS, "--describe --group readers --state");
    assert!(table(&state).pop().unwrap().contains(&"Empty"), "{state}");
    bench.java(GROUPS, "--reset-offsets --group readers --topic words --to-offset 1 --execute");
    assert_eq!(read(4), "2\n3\n4\n5\n");
    let deleted = bench.java(GROUPS, "--delete --group readers");
    assert!(deleted.contains("successful"), "{deleted}");
    assert_eq!(bench.java(GROUPS, "--list").trim(), "");
}

#[test]
fn aborted_transactions_are_not_read_by_careful_consumers() {
    let bench = Bench::start();
    bench.java(TOPICS, "--create --topic ledger --partitions 1");
    let producer: BaseProducer = bench.client().set("transactional.id", "writer").create().unwrap();
    let time = Duration::from_secs(30);
    producer.init_transactions(time).unwrap();
    for (value, commit) in [("no", false), ("yes", true), ("neither", false), ("too", true)] {
        producer.begin_transaction().unwrap();
        producer.send(BaseRecord::<str, str>::to("ledger").payload(value)).unwrap();
        producer.flush(time).unwrap();
        if commit {
            producer.commit_transaction(time).unwrap()
        } else {
            producer.abort_transaction(time).unwrap()
        }
    }
    let read = |level: &str, count: u32| {
        let args = format!(
            "--topic ledger --from-beginning --isolation-level {level} --max-messages {count} --timeout-ms {IDLE}"
        );
        bench.java(CONSUMER, &args)
    };
    assert_eq!(read("read_committed", 2), "yes\ntoo\n");
    assert_eq!(read("read_uncommitted", 4), "no\nyes\nneither\ntoo\n");
}

#[test]
fn settings_are_altered_and_described() {
    let bench = Bench::start();
    bench.java(TOPICS, "--create --topic orders --partitions 1");
    let topic = "--entity-type topics --entity-name orders";
    bench.java(CONFIGS, &format!("{topic} --alter --add-config retention.ms=1000,cleanup.policy=compact"));
    let described = bench.java(CONFIGS, &format!("{topic} --describe"));
    assert!(
        described.contains("retention.ms=1000") && described.contains("cleanup.policy=compact"),
        "{described}"
    );
    bench.java(CONFIGS, &format!("{topic} --alter --delete-config retention.ms"));
    let described = bench.java(CONFIGS, &format!("{topic} --describe"));
    assert!(
        !described.contains("retention.ms=") && described.contains("cleanup.policy=compact"),
        "{described}"
    );
}

#[test]
fn records_are_deleted_and_offsets_told() {
    let bench = Bench::start();
    bench.java(TOPICS, "--create --topic words --partitions 1");
    bench.run(&mut bench.tool(PRODUCER, "--topic words"), "1\n2\n3\n4\n5\n");
    assert_eq!(bench.java(OFFSETS, "--topic words").trim(), "words:0:5");
    let plan = bench.file(
        "plan.json",
        r#"{"partitions": [{"topic": "words", "partition": 0, "offset": 3}], "version": 1}"#,
    );
    let deleted = bench.java(DELETE_RECORDS, &format!("--offset-json-file {}", plan.display()));
    assert!(deleted.contains("partition: words-0\tlow_watermark: 3"), "{deleted}");
    assert_eq!(bench.java(OFFSETS, "--topic words --time earliest").trim(), "words:0:3");
    assert_eq!(bench.java(OFFSETS, "--topic words --time latest").trim(), "words:0:5");
}

#[test]
fn a_producer_writes_as_fast_as_it_can_in_transactions() {
    let bench = Bench::start();
    bench.java(TOPICS, "--create --topic load --partitions 2");
    let args = "--topic load --num-records 20000 --record-size 100 --throughput -1 --transactional-id load \
                --transaction-duration-ms 200";
    let said = bench.java(PERFORMANCE, args);
    assert!(said.contains("20000 records sent"), "{said}");
    let told = bench.java(OFFSETS, "--topic load");
    let ends: Vec<u64> = told.lines().map(|line| line.rsplit(':').next().unwrap().parse().unwrap()).collect();
    // And a marker for each transaction in each partition that it wrote to.
    assert!(ends.iter().sum::<u64>() > 20_000, "{told}");
}

#[test]
fn a_verifiable_producer_is_acknowledged_each_record() {
    let bench = Bench::start();
    bench.java(TOPICS, "--create --topic sure --partitions 1");
    let said = bench.java(VERIFIABLE, "--topic sure --max-messages 500 --acks -1 --throughput -1");
    assert_eq!(said.matches("producer_send_success").count(), 500, "{said}");
    assert_eq!(said.matches("producer_send_error").count(), 0, "{said}");
    assert_eq!(bench.java(OFFSETS, "--topic sure").trim(), "sure:0:500");
}
