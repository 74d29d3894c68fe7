//! Topics: made, compared, deleted.

use std::time::Duration;

use hookstream_log::KafkaSettings;
use hookstream_log::admin::{Admin, Cleanup, What};

use crate::kafka::{Kafka, topic_spec, unique};

#[test]
fn topics_are_made_once_and_compared() {
    let bench = Kafka::new();
    let admin = bench.admin();
    let (plain, compact) = (unique("admin"), unique("admin"));
    let mut specs = vec![topic_spec(&plain, 3), topic_spec(&compact, 1)];
    specs[1].cleanup = Cleanup::Compact;
    specs[1].log_append_time = false;
    bench.block_on(async {
        admin.wait_for_broker(Some(Duration::from_secs(10))).await.unwrap();
        let missing = admin.check(&specs).await.unwrap();
        assert!(missing.len() == 2 && missing.iter().all(|difference| difference.what == What::Missing));
        assert_eq!(admin.create_missing(&specs).await.unwrap().len(), 2);
        assert_eq!(admin.create_missing(&specs).await.unwrap(), Vec::<String>::new());
        assert_eq!(admin.check(&specs).await.unwrap(), Vec::new());
        assert_eq!(admin.topics().await.unwrap()[&plain], 3);

        specs[0].partitions = 4;
        specs[0].cleanup = Cleanup::Delete(Some(Duration::from_secs(7200)));
        specs[1].log_append_time = true;
        let told: Vec<What> = admin.check(&specs).await.unwrap().into_iter().map(|d| d.what).collect();
        let (needed, found) = (Some(Duration::from_secs(7200)), Duration::from_secs(3600));
        assert_eq!(
            told,
            [
                What::Partitions { needed: 4, found: 3 },
                What::Retention { needed, found },
                What::NotLogAppendTime
            ]
        );

        assert!(!admin.cluster_id().await.unwrap().is_empty());
        let ids = admin.topic_ids(&[&plain, "no.such.topic", &compact]).await.unwrap();
        assert!(ids[0].is_some() && ids[1].is_none() && ids[2].is_some(), "{ids:?}");
        assert_ne!(ids[0], ids[2]);

        admin.delete(&[&plain, &compact]).await.unwrap();
        admin.delete(&[&plain]).await.unwrap();
    });
}

#[test]
fn an_absent_broker_is_named() {
    let settings = KafkaSettings {
        bootstrap_servers: "127.0.0.1:1".to_owned(),
        client_id: "test".to_owned(),
        properties: Vec::new(),
    };
    let admin = Admin::new(&settings).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(admin.wait_for_broker(Some(Duration::from_millis(10)))).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("no broker of `127.0.0.1:1` answers: "), "{text}");
    assert!(text.contains("Connection refused"), "{text}");
}
