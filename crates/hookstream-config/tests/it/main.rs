//! The configuration on a real Kafka.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::sync::Arc;
use std::time::Duration;

use hookstream_config::change::Expected;
use hookstream_config::{
    Change, ConfigWriter, Follower, Keyring, Refused, WriteError, apply, change::EventTypeSpec,
};
use hookstream_log::KafkaSettings;
use hookstream_log::admin::{Admin, Cleanup, TopicSpec};
use hookstream_types::{SecretString, UnixMillis};

const PATIENCE: Duration = Duration::from_secs(60);

fn settings() -> KafkaSettings {
    let bootstrap_servers = hookstream_devbroker::testing::bootstrap_servers();
    KafkaSettings { bootstrap_servers, client_id: "hookstream-test".to_owned(), properties: Vec::new() }
}

fn keyring() -> Arc<Keyring> {
    let key = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    Arc::new(Keyring::from_key(&SecretString::new(key.to_owned())).unwrap())
}

/// A namespace of its own with its config topic.
async fn namespace(what: &str) -> (String, String) {
    let namespace = format!("test.{what}.{}", uuid::Uuid::new_v4().simple());
    let topic = format!("{namespace}.config");
    let spec = TopicSpec {
        name: topic.clone(),
        partitions: 1,
        replication_factor: 1,
        min_insync_replicas: 1,
        cleanup: Cleanup::Compact,
        log_append_time: true,
        max_message_bytes: 1024 * 1024,
        extra: Vec::new(),
    };
    Admin::new(&settings()).unwrap().create_missing(&[spec]).await.unwrap();
    (namespace, topic)
}

fn put(revision: Option<u64>, text: &str) -> Change {
    let event_type = EventTypeSpec {
        name: "contested".into(),
        description: Some(text.to_owned()),
        ..EventTypeSpec::default()
    };
    Change::PutEventType { event_type, expected: revision.map_or(Expected::Absent, Expected::Revision) }
}

/// Fifty changes, each expecting what was there when it was made; asked again when somebody else was first.
async fn contend(writer: ConfigWriter, name: &'static str) {
    for n in 0..50 {
        loop {
            let revision = writer.read(|state| state.event_type("contested").map(|e| e.meta.revision)).await;
            let Ok(revision) = revision else { continue };
            match writer.write(name, vec![put(revision, &format!("{name} {n}"))]).await {
                Ok(applied) => {
                    assert_eq!(applied.revisions[0].1, revision.map_or(1, |revision| revision + 1));
                    break;
                }
                Err(WriteError::Refused(Refused::RevisionMismatch { .. } | Refused::Exists { .. })) => {}
                Err(error) => panic!("{name} {n}: {error}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_writers_race_and_none_is_lost() {
    let (namespace, topic) = namespace("race").await;
    let writer = || ConfigWriter::on_kafka(settings(), &namespace, &topic, keyring()).unwrap();
    let (one, two) = (writer(), writer());
    let follower = Follower::start(&settings(), &topic, keyring()).unwrap();
    tokio::join!(contend(one.clone(), "one"), contend(two, "two"));
    let revision = one.read(|state| state.event_type("contested").unwrap().meta.revision).await.unwrap();
    assert_eq!(revision, 100, "each write stands on the one before");
    let end = one.read(|state| state.offset()).await.unwrap();
    tokio::time::timeout(PATIENCE, follower.reached(end)).await.unwrap();
    assert_eq!(follower.view().event_types["contested"].meta.revision, 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_applied_is_seen_by_followers() {
    let (namespace, topic) = namespace("apply").await;
    let follower = Follower::start(&settings(), &topic, keyring()).unwrap();
    tokio::time::timeout(PATIENCE, follower.caught_up()).await.unwrap();
    assert!(follower.view().webhooks.is_empty());

    let writer = ConfigWriter::on_kafka(settings(), &namespace, &topic, keyring()).unwrap();
    let text = include_str!("../../../../docs/examples/quickstart.yaml");
    let manifest = hookstream_config::Manifest::parse(text, &|_| Err("none".to_owned())).unwrap();
    let wanted = manifest.clone();
    let plan = |wanted: hookstream_config::Manifest| {
        move |state: &hookstream_config::State| {
            let options = apply::Options { prune: false, now: UnixMillis(1_700_000_000_000) };
            apply::diff(state, &wanted, options, &mut hookstream_config::os_random).unwrap()
        }
    };
    let first = writer.read(plan(wanted)).await.unwrap();
    let applied = first.execute(&writer, "test").await.unwrap().unwrap();
    tokio::time::timeout(PATIENCE, follower.reached(applied.offset)).await.unwrap();
    let view = follower.view();
    let webhook = view.webhooks.values().next().unwrap();
    assert_eq!((webhook.name.as_str(), webhook.secrets.len()), ("orders", 1));
    assert!(follower.problems().is_empty());
    assert!(writer.read(plan(manifest)).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_absent_broker_is_an_answer() {
    let mut settings = settings();
    settings.bootstrap_servers = "127.0.0.1:1".to_owned();
    let writer = ConfigWriter::on_kafka(settings, "test.absent", "test.absent.config", keyring()).unwrap();
    let answer = tokio::time::timeout(PATIENCE, writer.write("test", vec![put(None, "x")])).await.unwrap();
    assert!(matches!(answer, Err(WriteError::Unavailable { .. })), "{answer:?}");
}
