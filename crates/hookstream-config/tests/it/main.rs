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
use hookstream_log::tail::Tail;
use hookstream_types::{Partition, SecretString, UnixMillis};
use hookstream_wire::{Topics, audit};

const PATIENCE: Duration = Duration::from_secs(60);

fn settings() -> KafkaSettings {
    let bootstrap_servers = hookstream_devbroker::testing::bootstrap_servers();
    KafkaSettings { bootstrap_servers, client_id: "hookstream-test".to_owned(), properties: Vec::new() }
}

fn keyring() -> Arc<Keyring> {
    let key = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    Arc::new(Keyring::from_key(&SecretString::new(key.to_owned())).unwrap())
}

/// A namespace of its own with the topics that the writer writes to.
async fn namespace(what: &str) -> (String, String) {
    let namespace = format!("test.{what}.{}", uuid::Uuid::new_v4().simple());
    let topic = format!("{namespace}.config");
    let spec = |name: &str, cleanup| TopicSpec {
        name: name.to_owned(),
        partitions: 1,
        replication_factor: 1,
        min_insync_replicas: 1,
        cleanup,
        log_append_time: true,
        max_message_bytes: 1024 * 1024,
        extra: Vec::new(),
    };
    let specs = [
        spec(&topic, Cleanup::Compact),
        spec(&Topics::audit_of(&namespace), Cleanup::Delete(Some(PATIENCE))),
    ];
    Admin::new(&settings()).unwrap().create_missing(&specs).await.unwrap();
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
                    assert_eq!(applied.written[0].revision, revision.map_or(1, |revision| revision + 1));
                    break;
                }
                Err(WriteError::Refused {
                    refused: Refused::RevisionMismatch { .. } | Refused::Exists { .. },
                    ..
                }) => {}
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

    // Fenced, failed and repeated transactions have left one audit record of each change.
    let (sender, audits) = std::sync::mpsc::channel();
    let audit_topic = Topics::audit_of(&namespace);
    let tail = Tail::start(&settings(), &audit_topic, Partition(0), move |record| {
        let audit = audit::decode(record.value.unwrap_or_default()).unwrap();
        sender.send((record.key.map(<[u8]>::to_vec), audit)).unwrap();
    });
    let tail = tail.unwrap();
    let mut progress = tail.watch();
    let read = progress.wait_for(|progress| progress.is_caught_up());
    tokio::time::timeout(PATIENCE, read).await.unwrap().unwrap();
    let audits: Vec<_> = audits.try_iter().collect();
    let revisions: Vec<_> = audits.iter().map(|(_, audit)| audit.revision).collect();
    assert_eq!(revisions, (1..=100).collect::<Vec<_>>());
    assert!(audits.windows(2).all(|two| two[1].1.before == two[0].1.after));
    assert!(audits.iter().all(|(key, audit)| key.as_deref() == Some(audit.key.as_bytes())));
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

fn keyring_of(bytes: &[u8]) -> Arc<Keyring> {
    let keys: Vec<_> = bytes
        .iter()
        .map(|byte| {
            use base64::Engine;
            SecretString::new(base64::engine::general_purpose::STANDARD.encode([*byte; 32]))
        })
        .collect();
    Arc::new(Keyring::from_keys(&keys).unwrap())
}

/// While the key is replaced nobody loses a secret; afterwards the new key is enough, and the old one is of no use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_is_replaced_while_a_service_follows() {
    let (namespace, topic) = namespace("rotate").await;
    let old = ConfigWriter::on_kafka(settings(), &namespace, &topic, keyring_of(&[1])).unwrap();
    let text = include_str!("../../../../docs/examples/quickstart.yaml");
    let manifest = hookstream_config::Manifest::parse(text, &|_| Err("none".to_owned())).unwrap();
    let plan = old.read(move |state: &hookstream_config::State| {
        let options = apply::Options { prune: false, now: UnixMillis(1_700_000_000_000) };
        apply::diff(state, &manifest, options, &mut hookstream_config::os_random).unwrap()
    });
    plan.await.unwrap().execute(&old, "test").await.unwrap();

    let running = Follower::start(&settings(), &topic, keyring_of(&[1, 2])).unwrap();
    tokio::time::timeout(PATIENCE, running.caught_up()).await.unwrap();
    let new = ConfigWriter::on_kafka(settings(), &namespace, &topic, keyring_of(&[2, 1])).unwrap();
    let uids = new.read(|state| state.accounts().map(|record| record.account.uid).collect::<Vec<_>>());
    let rewrap = uids.await.unwrap().into_iter().map(|uid| Change::RewrapAccount { uid }).collect();
    let rotated = new.write("test", rewrap).await.unwrap();
    assert!(!rotated.written.is_empty());
    tokio::time::timeout(PATIENCE, running.reached(rotated.offset)).await.unwrap();
    let secrets = |follower: &Follower| follower.view().webhooks.values().next().unwrap().secrets.clone();
    assert!(running.problems().is_empty() && !secrets(&running).is_empty());

    let only_new = Follower::start(&settings(), &topic, keyring_of(&[2])).unwrap();
    tokio::time::timeout(PATIENCE, only_new.caught_up()).await.unwrap();
    assert!(only_new.problems().is_empty());
    assert_eq!(secrets(&only_new), secrets(&running));

    let only_old = Follower::start(&settings(), &topic, keyring_of(&[1])).unwrap();
    tokio::time::timeout(PATIENCE, only_old.caught_up()).await.unwrap();
    let problems = only_old.problems();
    assert!(problems[0].message.contains("add it to `secrets.previous_keys`"), "{problems:?}");
    assert!(secrets(&only_old).is_empty(), "held, and nothing leaves unsigned");
}

#[tokio::test]
async fn an_absent_broker_is_an_answer() {
    let mut settings = settings();
    settings.bootstrap_servers = "127.0.0.1:1".to_owned();
    let writer = ConfigWriter::on_kafka(settings, "test.absent", "test.absent.config", keyring()).unwrap();
    let answer = tokio::time::timeout(PATIENCE, writer.write("test", vec![put(None, "x")])).await.unwrap();
    assert!(matches!(answer, Err(WriteError::Unavailable { .. })), "{answer:?}");
}
