//! The indexer on a real log.

use hookstream_core::decision::Verdict;
use hookstream_history::Filter;
use hookstream_log::admin::Admin;
use hookstream_runtime::Component;
use hookstream_runtime::prometheus::Registry;
use tempfile::TempDir;

use super::*;
use crate::history::tests::world::{
    A, W1, changed, create, delivery, event, happened, settings, topic, tried, write, write_events,
};

struct Bench {
    dir: TempDir,
    attempts: String,
    audit: String,
    events: String,
    health: Health,
    metrics: HistoryMetrics,
}

impl Bench {
    fn is_ready(&self) -> bool {
        self.health.components().iter().all(|(_, component)| component.unready.is_none())
    }

    async fn new() -> Self {
        Self {
            dir: TempDir::new().unwrap(),
            attempts: topic(2).await,
            audit: topic(1).await,
            events: topic(1).await,
            health: Health::default(),
            metrics: HistoryMetrics::register(&Registry::new()).unwrap(),
        }
    }

    fn start(&self, path: &str) -> Indexer {
        let spec = IndexSpec {
            backend: Backend::Sqlite { path: self.dir.path().join(path) },
            kafka: settings(),
            attempts: self.attempts.as_str().into(),
            audit: self.audit.as_str().into(),
            events: self.events.as_str().into(),
            retention: Retention { age: None, rows: None, bytes: None },
        };
        Indexer::start(spec, Clock::start(), &self.health, self.metrics.clone()).unwrap()
    }

    fn rows(&self, feed: Feed) -> u64 {
        self.metrics.rows_total.with_label_values(&[feed.label()]).get()
    }
}

fn delivered(n: u64) -> Vec<u8> {
    tried(n, W1, 1, Ok(200), Verdict::Delivered, false)
}

/// Waits until something is so.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), wait).await.is_ok(), "{what}");
}

async fn count(history: &History) -> usize {
    history.executions(Some(A), &Filter::default(), None, 500).await.unwrap().items.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_is_in_the_index_once_whoever_stops_meanwhile() {
    let bench = Bench::new().await;
    for partition in 0..2 {
        let values: Vec<Vec<u8>> = (0..100).map(|n| delivered(n * 2 + partition)).collect();
        write(&bench.attempts, i32::try_from(partition).unwrap(), &values);
    }
    write(&bench.audit, 0, &[changed(1, "source/x", None, "ann"), b"nonsense".to_vec()]);
    write_events(&bench.events, &[happened(1, A, None), happened(2, A, None), happened(1, A, None)]);
    let indexer = bench.start("h.db");
    until("the feeds are ready", async || bench.is_ready()).await;
    let all = [(Feed::Attempts, 200), (Feed::Audit, 1), (Feed::Events, 2)];
    until("all is there", async || all.iter().all(|(feed, rows)| bench.rows(*feed) == *rows)).await;
    let history = indexer.index().history().unwrap().clone();
    assert_eq!(count(&history).await, 200);
    write(&bench.attempts, 1, &[delivered(1_000)]);
    until("what is new is there", async || count(&history).await == 201).await;
    indexer.stop().await;
    history.close().await;

    write(&bench.attempts, 0, &[delivered(1_001)]);
    let indexer = bench.start("h.db");
    until("what came meanwhile is there", async || bench.rows(Feed::Attempts) == 202).await;
    let history = indexer.index().history().unwrap().clone();
    assert_eq!(count(&history).await, 202);
    assert!(history.execution(Some(A), delivery(1_001, W1)).await.unwrap().is_some());
    assert_eq!(history.event(Some(A), event(2)).await.unwrap().map(|row| row.id).as_deref(), Some("e-2"));
    assert_eq!(bench.metrics.bad_records_total.with_label_values(&["audit"]).get(), 1, "taken in once");
    assert_eq!(bench.metrics.rebuilds_total.with_label_values(&["attempts"]).get(), 0);
    indexer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_made_anew_makes_an_index_anew() {
    let bench = Bench::new().await;
    write(&bench.attempts, 0, &[delivered(1), delivered(2)]);
    let indexer = bench.start("h.db");
    until("it is there", async || bench.rows(Feed::Attempts) == 2).await;
    indexer.stop().await;
    let admin = Admin::new(&settings()).unwrap();
    admin.delete(&[&bench.attempts]).await.unwrap();
    until("the topic is gone", async || !admin.topics().await.unwrap().contains_key(&bench.attempts)).await;
    create(&bench.attempts, 2).await;
    write(&bench.attempts, 0, &[delivered(3), delivered(4), delivered(5)]);
    let indexer = bench.start("h.db");
    until("what is new is there", async || bench.rows(Feed::Attempts) == 5).await;
    let history = indexer.index().history().unwrap().clone();
    assert_eq!(count(&history).await, 3, "and nothing else");
    assert_eq!(bench.metrics.rebuilds_total.with_label_values(&["attempts"]).get(), 1);
    indexer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_away_is_waited_for() {
    let bench = Bench::new().await;
    write(&bench.attempts, 0, &[delivered(1)]);
    let indexer = bench.start("later/h.db");
    let said = |text: &str| {
        let says = |component: &Component| component.unready.as_ref().is_some_and(|why| why.contains(text));
        bench.health.components().iter().all(|(_, component)| says(component) && !component.is_needed)
    };
    until("it says why", async || said("can't open the history index")).await;
    assert!(indexer.index().history().is_none());
    std::fs::create_dir(bench.dir.path().join("later")).unwrap();
    until("it is there", async || bench.rows(Feed::Attempts) == 1).await;
    until("it is ready", async || bench.is_ready()).await;
    indexer.stop().await;
}
