//! The suite's bench on a real Kafka.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hookstream_log::KafkaSettings;
use hookstream_log::admin::{Admin, Cleanup, TopicSpec};
use hookstream_log::kafka::{self, Clock, Group, GroupSpec, KafkaLog};
use hookstream_types::{Mono, limits};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use uuid::Uuid;

use hookstream_log::contract::Bench;

pub fn settings() -> KafkaSettings {
    let bootstrap_servers = hookstream_devbroker::testing::bootstrap_servers();
    KafkaSettings { bootstrap_servers, client_id: "hookstream-test".to_owned(), properties: Vec::new() }
}

pub fn unique(what: &str) -> String {
    format!("test.{what}.{}", Uuid::new_v4().simple())
}

pub fn topic_spec(name: &str, partitions: i32) -> TopicSpec {
    TopicSpec {
        name: name.to_owned(),
        partitions,
        replication_factor: 1,
        min_insync_replicas: 1,
        cleanup: Cleanup::Delete(Some(Duration::from_secs(3600))),
        log_append_time: true,
        max_message_bytes: limits::MAX_RECORD_BYTES,
        extra: Vec::new(),
    }
}

pub fn clock() -> Clock {
    let started = Instant::now();
    Arc::new(move || Mono(u64::try_from(started.elapsed().as_micros()).unwrap()))
}

pub struct Kafka {
    runtime: tokio::runtime::Runtime,
    settings: KafkaSettings,
    clock: Clock,
    topics: Vec<String>,
    /// Before the groups' names: tests that run at once must not share a group.
    prefix: String,
}

pub enum Member {
    In(Group),
    Leaving(tokio::task::JoinHandle<()>),
}

impl Kafka {
    pub fn new() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { runtime, settings: settings(), clock: clock(), topics: Vec::new(), prefix: unique("group") }
    }

    pub fn admin(&self) -> Admin {
        Admin::new(&self.settings).unwrap()
    }

    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub fn settings(&self) -> &KafkaSettings {
        &self.settings
    }

    pub fn create(&mut self, spec: &TopicSpec) {
        let admin = self.admin();
        self.runtime.block_on(admin.create_missing(std::slice::from_ref(spec))).unwrap();
        self.topics.push(spec.name.clone());
    }

    pub fn join_as(&self, mut spec: GroupSpec) -> (Member, Vec<KafkaLog>) {
        spec.group = format!("{}.{}", self.prefix, spec.group);
        let (group, logs) = kafka::join(&self.settings, spec, Arc::clone(&self.clock)).unwrap();
        (Member::In(group), logs)
    }
}

/// What hookstream itself never does, but others may.
impl Kafka {
    /// Deletes the records of partition 0 below `offset`, as retention would.
    pub fn delete_records(&self, topic: &str, offset: i64) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 0, Offset::Offset(offset)).unwrap();
        self.runtime.block_on(admin.delete_records(&list, &AdminOptions::new())).unwrap();
    }

    pub fn produce_header_that_is_not_utf8(&self, topic: &str) {
        let producer: BaseProducer = self.client().create().unwrap();
        let headers = OwnedHeaders::new();
        let name = b"not \xff utf-8\0";
        let list = std::ptr::from_ref(headers.as_borrowed()).cast_mut().cast();
        #[expect(unsafe_code, reason = "the crate can't make a header whose name is not UTF-8")]
        // SAFETY: a borrowed list of headers is librdkafka's own; the name and the value are copied.
        let error = unsafe {
            rdkafka::bindings::rd_kafka_header_add(list, name.as_ptr().cast(), -1, name.as_ptr().cast(), 1)
        };
        assert_eq!(error, rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR);
        let headers = headers.insert(Header { key: "fine", value: Some("1") });
        producer.send(BaseRecord::<str, str>::to(topic).partition(0).payload("v").headers(headers)).unwrap();
        producer.flush(Duration::from_secs(10)).unwrap();
    }

    pub fn commit_as_somebody_else(&self, group: &str, topic: &str, offset: i64, metadata: &str) {
        let group = format!("{}.{group}", self.prefix);
        let consumer: BaseConsumer = self.client().set("group.id", group).create().unwrap();
        let mut list = TopicPartitionList::new();
        let mut element = list.add_partition(topic, 0);
        element.set_offset(Offset::Offset(offset)).unwrap();
        element.set_metadata(metadata);
        consumer.commit(&list, CommitMode::Sync).unwrap();
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.settings.bootstrap_servers);
        config
    }
}

impl Bench for Kafka {
    type Log = KafkaLog;
    type Member = Member;

    fn topic(&mut self, partitions: i32) -> String {
        let name = unique("contract");
        self.create(&topic_spec(&name, partitions));
        name
    }

    fn join(&mut self, group: &str, topic: &str) -> (Member, KafkaLog) {
        let (member, mut logs) = self.join_as(GroupSpec::new(group, vec![topic.to_owned()], 1));
        (member, logs.remove(0))
    }

    fn leave(&mut self, member: Member) -> Member {
        match member {
            Member::In(group) => Member::Leaving(self.runtime.spawn(group.shutdown())),
            leaving @ Member::Leaving(_) => leaving,
        }
    }

    fn has_left(&mut self, member: &Member) -> bool {
        matches!(member, Member::Leaving(task) if task.is_finished())
    }

    fn kill(&mut self, member: Member, log: KafkaLog) {
        // A process can't be killed from within; giving up without having committed looks the same to the others.
        drop(log);
        let member = self.leave(member);
        if let Member::Leaving(task) = member {
            self.runtime.block_on(task).unwrap();
        }
    }

    fn step(&mut self) {
        std::thread::sleep(Duration::from_millis(2));
    }

    fn now(&self) -> Mono {
        (self.clock)()
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        let admin = self.admin();
        let topics: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        if let Err(error) = self.runtime.block_on(admin.delete(&topics)) {
            eprintln!("test topics are left behind: {error}");
        }
    }
}
