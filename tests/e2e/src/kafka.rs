//! The Kafka that tests share, through clients that are not ours.

use std::io::{BufRead as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::OnceLock;

use hookstream_devbroker::testing;
use serde_json::Value;
use xtask::kafka::protocol::{self, NewTopic};
use xtask::kafka::{Cluster, Node};

/// The cluster that tests share.
#[derive(Clone, Debug)]
pub struct Kafka {
    pub bootstrap_servers: String,
    brokers: usize,
    /// Where the cluster lives, if it is one of xtask's.
    dir: Option<PathBuf>,
}

/// A record as kcat shows it.
#[derive(Clone, Debug)]
pub struct Record {
    pub partition: i64,
    pub offset: i64,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    pub key: Option<String>,
    pub headers: Vec<(String, String)>,
    pub value: Option<String>,
}

/// A record to be produced.
#[derive(Clone, Debug)]
pub struct Message {
    pub key: String,
    /// No line breaks.
    pub value: String,
}

impl Message {
    /// As kcat reads it.
    pub(crate) fn line(&self) -> String {
        assert!(!self.value.contains('\n') && !self.key.contains('\t'), "one line each");
        format!("{}\t{}\n", self.key, self.value)
    }
}

impl Record {
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// The value as JSON.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        let value = self.value.as_deref().unwrap_or_default();
        serde_json::from_str(value).unwrap_or_else(|error| panic!("not JSON ({error}): {value}"))
    }
}

impl Kafka {
    /// The tests' Kafka: the one that `cargo xtask test` started, or a development broker of this process's own.
    ///
    /// # Panics
    /// If kcat is missing.
    #[must_use]
    pub fn shared() -> Self {
        static SHARED: OnceLock<Kafka> = OnceLock::new();
        let open = || {
            let bootstrap_servers = testing::bootstrap_servers();
            let kcat = Command::new("kcat").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
            assert!(kcat.is_ok(), "`kcat` is missing (Debian: `apt-get install kcat`)");
            let dir = std::env::var_os("HOOKSTREAM_TEST_KAFKA_DIR").map(PathBuf::from);
            let mut kafka = Kafka { bootstrap_servers, brokers: 0, dir };
            kafka.brokers = kafka.ask(protocol::metadata).brokers.len();
            kafka
        };
        SHARED.get_or_init(open).clone()
    }

    /// A broker of a test's own.
    #[must_use]
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self { bootstrap_servers: address.to_string(), brokers: 1, dir: None }
    }

    /// How many copies of each record tests ask for.
    #[must_use]
    pub fn replicas(&self) -> usize {
        self.brokers.min(3)
    }

    /// The brokers' processes, to be killed; none if the cluster is not one of xtask's.
    #[must_use]
    pub fn nodes(&self) -> Vec<Node> {
        let cluster = self.dir.as_deref().and_then(|dir| Cluster::open(dir).ok());
        cluster.map(|cluster| cluster.nodes().to_vec()).unwrap_or_default()
    }

    /// Kills a broker: one of three, or the only one if it is this process's own.
    ///
    /// # Panics
    /// If the Kafka is somebody else's.
    pub fn break_one(&self) {
        if let Some(own) = testing::own_if_none_is_named() {
            own.crash();
            return;
        }
        let nodes = self.nodes();
        let victim =
            nodes.get(1).expect("a cluster of xtask's with three brokers: `cargo xtask test` starts one");
        victim.kill().expect("a running broker can be killed");
    }

    /// Starts the brokers that were killed, and waits for them.
    ///
    /// # Panics
    /// If they don't come.
    pub fn heal(&self) {
        if let Some(own) = testing::own_if_none_is_named() {
            own.restart();
            return;
        }
        let dir = self.dir.as_deref().expect("only a cluster of xtask's is ever broken");
        let healed = Cluster::open(dir).and_then(|cluster| cluster.start());
        healed.unwrap_or_else(|error| panic!("the killed broker does not come back: {error:#}"));
    }

    /// The address of a broker.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.addresses().next().expect("the bootstrap servers name a broker")
    }

    fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.bootstrap_servers
            .split(',')
            .map(|address| address.parse().expect("xtask gives addresses, not names"))
    }

    /// Asks one broker after the other, since one may be down.
    fn ask<T>(&self, request: impl Fn(SocketAddr) -> anyhow::Result<T>) -> T {
        let mut last = String::new();
        for address in self.addresses() {
            match request(address) {
                Ok(answer) => return answer,
                Err(error) => last = format!("{error:#}"),
            }
        }
        panic!("no broker of {} does as asked: {last}", self.bootstrap_servers)
    }

    /// Makes a topic.
    pub fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let replication_factor = i16::try_from(self.replicas()).expect("a handful of brokers");
        let topic = NewTopic { name, partitions, replication_factor, settings };
        self.ask(|broker| protocol::create_topics(broker, std::slice::from_ref(&topic)));
    }

    /// Names of the topics that begin with `prefix`.
    #[must_use]
    pub fn topics(&self, prefix: &str) -> Vec<String> {
        let topics = self.ask(protocol::metadata).topics.into_iter().map(|topic| topic.name);
        topics.filter(|name| name.starts_with(prefix)).collect()
    }

    /// Deletes the topics that begin with `prefix`.
    pub fn delete_topics(&self, prefix: &str) {
        let topics = self.topics(prefix);
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        self.ask(|broker| protocol::delete_topics(broker, &names));
    }

    /// Produces messages with these headers, acknowledged by all replicas.
    pub fn produce(&self, topic: &str, headers: &[(&str, &str)], messages: &[Message]) {
        let lines: String = messages.iter().map(Message::line).collect();
        run(self.producer_command(topic, headers), lines.into_bytes());
    }

    /// A kcat that produces what is written to its input.
    pub(crate) fn producer(&self, topic: &str, headers: &[(&str, &str)]) -> (Child, ChildStdin) {
        let mut child = self
            .producer_command(topic, headers)
            .stdin(Stdio::piped())
            .spawn()
            .expect("kcat was there when the tests began");
        let stdin = child.stdin.take().expect("it is piped");
        (child, stdin)
    }

    fn producer_command(&self, topic: &str, headers: &[(&str, &str)]) -> Command {
        let mut command = self.kcat();
        // A broker that is away for a moment is not the end (-E).
        command.args([
            "-P",
            "-E",
            "-t",
            topic,
            "-K",
            "\t",
            "-X",
            "acks=all",
            "-X",
            "enable.idempotence=true",
        ]);
        for (name, value) in headers {
            command.args(["-H", &format!("{name}={value}")]);
        }
        command
    }

    /// Produces one message, whatever its bytes and size.
    pub fn produce_raw(&self, topic: &str, value: &[u8]) {
        let file = std::env::temp_dir().join(format!("{topic}-{}", value.len()));
        std::fs::write(&file, value).expect("a file in the temporary directory");
        let mut command = self.kcat();
        // Files that are named are one message each.
        command.args(["-P", "-t", topic, "-X", "message.max.bytes=20000000"]).arg(&file);
        run(command, Vec::new());
        std::fs::remove_file(&file).ok();
    }

    /// Produces any number of messages, which are made while they are sent.
    ///
    /// # Panics
    /// If kcat fails.
    pub fn produce_all(
        &self,
        topic: &str,
        headers: &[(&str, &str)],
        messages: impl Iterator<Item = Message>,
    ) {
        let (mut kcat, stdin) = self.producer(topic, headers);
        let mut stdin = std::io::BufWriter::with_capacity(1 << 20, stdin);
        for message in messages {
            stdin.write_all(message.line().as_bytes()).expect("kcat reads its input");
        }
        // Its input ends, so it ends when all is acknowledged.
        drop(stdin.into_inner().expect("kcat reads its input"));
        let status = kcat.wait().expect("a child can be waited for");
        assert!(status.success(), "kcat failed ({status})");
    }

    /// Everything in a topic.
    #[must_use]
    pub fn read(&self, topic: &str) -> Vec<Record> {
        let mut records = Vec::new();
        self.scan(topic, None, |record| records.push(record));
        records
    }

    /// Everything that was ever written to a topic and is still there, aborted transactions included.
    #[must_use]
    pub fn read_uncommitted(&self, topic: &str) -> Vec<Record> {
        let mut records = Vec::new();
        let mut command = self.kcat();
        command.args(["-X", "isolation.level=read_uncommitted"]);
        consume(command, topic, None, |record| records.push(record));
        records
    }

    /// Shows each record of a topic, or of one partition from an offset on, without keeping them.
    ///
    /// # Panics
    /// If kcat fails.
    pub fn scan(&self, topic: &str, from: Option<(usize, i64)>, see: impl FnMut(Record)) {
        consume(self.kcat(), topic, from, see);
    }

    /// The next offset of each partition: how many records were ever written to it.
    ///
    /// # Panics
    /// If the topic is not there.
    #[must_use]
    pub fn end_offsets(&self, topic: &str) -> Vec<i64> {
        let partitions = self.partitions(topic);
        let mut command = self.kcat();
        command.arg("-Q");
        for partition in 0..partitions {
            command.args(["-t", &format!("{topic}:{partition}:-1")]);
        }
        let output = run(command, Vec::new());
        let mut offsets = vec![0; partitions];
        // `topic [3] offset 17`
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let (at, offset) = line.rsplit_once("] offset ").unwrap_or_else(|| panic!("kcat says: {line}"));
            let at = at
                .rsplit_once('[')
                .and_then(|(_, at)| at.parse::<usize>().ok())
                .expect("kcat names the partition");
            offsets[at] = offset.trim().parse().expect("kcat prints an offset");
        }
        offsets
    }

    /// What a group has committed for each partition of a topic; 0 where it has committed nothing.
    #[must_use]
    pub fn committed(&self, group: &str, topic: &str) -> Vec<i64> {
        let partitions = i32::try_from(self.partitions(topic)).expect("a topic has few partitions");
        self.ask(|broker| protocol::committed(broker, group, topic, partitions))
    }

    fn partitions(&self, topic: &str) -> usize {
        let topics = self.ask(protocol::metadata).topics;
        let found = topics.iter().find(|other| other.name == topic);
        found.unwrap_or_else(|| panic!("there is no topic `{topic}`")).leaders.len()
    }

    fn kcat(&self) -> Command {
        let mut command = Command::new("kcat");
        command.args(["-b", &self.bootstrap_servers, "-X", "topic.metadata.refresh.interval.ms=1000"]);
        command
    }
}

/// Shows each record of a topic, or of one partition from an offset on.
fn consume(mut command: Command, topic: &str, from: Option<(usize, i64)>, mut see: impl FnMut(Record)) {
    command.args(["-C", "-t", topic, "-e", "-q", "-J"]);
    match from {
        Some((partition, offset)) => {
            command.args(["-p", &partition.to_string(), "-o", &offset.to_string()]);
        }
        None => {
            command.args(["-o", "beginning"]);
        }
    }
    let mut kcat = command.stdout(Stdio::piped()).spawn().expect("kcat was there when the tests began");
    let stdout = kcat.stdout.take().expect("it is piped");
    for line in std::io::BufReader::with_capacity(1 << 20, stdout).split(b'\n') {
        let line = line.expect("kcat's output can be read");
        see(record(&String::from_utf8_lossy(&line)));
    }
    let status = kcat.wait().expect("a child can be waited for");
    assert!(status.success(), "kcat failed ({status})");
}

fn record(line: &str) -> Record {
    let line: Value =
        serde_json::from_str(line).unwrap_or_else(|error| panic!("kcat printed no JSON ({error}): {line}"));
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let number = |name: &str| line[name].as_i64().unwrap_or(-1);
    let headers: Vec<String> =
        line["headers"].as_array().into_iter().flatten().map(|part| text(part).unwrap_or_default()).collect();
    Record {
        partition: number("partition"),
        offset: number("offset"),
        timestamp: number("ts"),
        key: text(&line["key"]),
        headers: headers.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect(),
        value: text(&line["payload"]),
    }
}

/// Runs `command` with `input`, to its end.
fn run(mut command: Command, input: Vec<u8>) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kcat was there when the tests began");
    let mut stdin = child.stdin.take().expect("it is piped");
    // Beside the reading: neither side can wait for the other with a full pipe.
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("a child can be waited for");
    let written = writer.join().expect("writing does not panic");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "kcat failed ({}): {said}", output.status);
    written.unwrap_or_else(|error| panic!("kcat did not read all of its input ({error}): {said}"));
    output
}
