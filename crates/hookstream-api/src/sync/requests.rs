//! Calls that come as Kafka records, and are answered where they ask to be: request and reply.
//!
//! A source with `delivery: sync` names the topics of the requests, and those that answers may go to. A request has the
//! headers `reply-topic` and `correlation-id` (or Spring's `kafka_replyTopic`, `kafka_correlationId` and
//! `kafka_replyPartition`), and `deadline` if it has another than [`DEFAULT_DEADLINE`], counted from the record's
//! timestamp. The answer has the same `correlation-id` as header and as key.
//!
//! The replicas share the topics as one group. A request is committed when its answer is written, or given up; one that is
//! repeated after a crash makes requests with the same `webhook-id`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hookstream_config::{Base, Follower};
use hookstream_core::config::{DeliveryMode, View};
use hookstream_core::event::EventAttributes;
use hookstream_core::ingest::{Coordinates, Routes, SourceRecord, decode};
use hookstream_log::appender::{Appender, NotAppended};
use hookstream_log::kafka::{Group, GroupSpec, KafkaLog, join};
use hookstream_log::pipe::{Applied, Driver, Function, Outputs, Pipe, Place, Signals};
use hookstream_log::{Full, Input, OutRecord, RecordRef};
use hookstream_runtime::{Clock, Ctx, ServiceError};
use hookstream_types::limits::MAX_RECORD_BYTES;
use hookstream_types::{Chain, Offset, Partition, UnixMillis};
use hookstream_wire::Topics;
use hookstream_wire::rejected::{self, Original, Rejected};
use regex::RegexSet;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tracing::{info, warn};

use super::{Caller, DEFAULT_DEADLINE, deadline};

/// Requests of a partition that are under way; then the next has to wait.
const MOST_OF_A_PARTITION: usize = 256;
/// How long an answer is tried to be written.
const WRITING: Duration = Duration::from_secs(30);
const WRITE_AGAIN: Duration = Duration::from_millis(500);
/// The partition that librdkafka chooses by the key.
const ANY_PARTITION: Partition = Partition(-1);
/// What the events are named after, with the topic.
const CLUSTER: &str = "sync";

/// Why a request is not answered at all.
const UNANSWERABLE: &str = "no_reply_topic";

hookstream_runtime::metrics! { "hookstream_api"
    /// What is told of requests in Kafka.
    pub(super) struct RequestMetrics {
        /// Requests in Kafka, by outcome: `answered`, `refused` (with the reason as answer), `unanswerable`, or `unwritten`.
        sync_requests_total: IntCounterVec["outcome"],
    }
}

/// The group that reads requests, and its thread.
#[derive(Debug)]
pub(crate) struct Requests {
    group: Group,
    threads: Vec<Driver>,
    stop: watch::Sender<bool>,
    changed: watch::Sender<()>,
    follower: Arc<Follower>,
    subscribed: Vec<String>,
}

/// Begins to read the requests of all sync sources.
///
/// # Errors
/// If Kafka's settings are not taken, a thread can't be started, or the metrics are there already.
pub(crate) fn start(ctx: &Ctx, base: &Base, caller: &Arc<Caller>) -> Result<Requests, ServiceError> {
    let metrics = RequestMetrics::register(&ctx.registry)?;
    let outcomes = ["answered", "refused", "unanswerable", "unwritten"];
    hookstream_runtime::touch(&metrics.sync_requests_total, &[&outcomes]);
    let follower = Arc::clone(&base.follower);
    let subscribed = routes(&follower).topics().to_vec();
    let spec = GroupSpec::new(base.topics.group("sync"), subscribed.clone(), 1);
    let (group, logs) = join(&base.kafka, spec, ctx.clock.mono_fn())?;
    let (changed, seen) = watch::channel(());
    let (stop, stopped) = watch::channel(false);
    let shared = Arc::new(Shared {
        caller: Arc::clone(caller),
        appender: Appender::start(&base.kafka)?,
        clock: ctx.clock,
        metrics,
        runtime: Handle::current(),
    });
    let mut threads = Vec::new();
    for log in logs {
        let (follower, shared) = (Arc::clone(&follower), Arc::clone(&shared));
        let (topics, partitions) = (Arc::clone(&base.topics), base.partitions);
        let view = follower.view();
        let make = move || Calls {
            shared,
            sources: Sources::of(&view),
            view,
            topics,
            partitions,
            under_way: BTreeMap::new(),
        };
        let signals = Signals { changed: seen.clone(), stopped: stopped.clone() };
        let look = move |pipe: &mut Pipe<KafkaLog, Calls>| pipe.function().set_view(&follower.view());
        threads.push(Driver::start("sync".to_owned(), log, ctx.clock.mono_fn(), signals, make, look)?);
    }
    Ok(Requests { group, threads, stop, changed, follower, subscribed })
}

fn routes(follower: &Follower) -> Routes {
    Routes::build(follower.view().sources.values(), DeliveryMode::Sync).0
}

impl Requests {
    /// Follows the sources until `until` is done, gives the partitions back, and ends.
    ///
    /// # Errors
    /// If the thread panicked, which can be before `until` is done.
    pub(crate) async fn run(mut self, until: impl Future<Output = ()>) -> Result<(), ServiceError> {
        let follow = async {
            let mut views = self.follower.subscribe();
            loop {
                let topics = routes(&self.follower).topics().to_vec();
                if topics != self.subscribed {
                    info!(?topics, "subscribing to the topics of sync requests");
                    self.group.resubscribe(topics.clone());
                    self.subscribed = topics;
                }
                self.changed.send_replace(());
                // An error means that the process is ending.
                if views.changed().await.is_err() {
                    return std::future::pending().await;
                }
            }
        };
        tokio::select! {
            () = until => {}
            panicked = Driver::first_end(&mut self.threads) => return Err(panicked.into()),
            () = follow => {}
        }
        self.group.shutdown().await;
        self.stop.send_replace(true);
        Driver::join(self.threads).await?;
        Ok(())
    }
}

/// What answering needs.
struct Shared {
    caller: Arc<Caller>,
    appender: Appender,
    clock: Clock,
    metrics: RequestMetrics,
    runtime: Handle,
}

/// Calls the webhooks of each request, and holds the commit back until it is answered.
struct Calls {
    shared: Arc<Shared>,
    view: Arc<View>,
    sources: Sources,
    topics: Arc<Topics>,
    partitions: i32,
    /// By input, in the order of offsets: each ends when it is answered.
    under_way: BTreeMap<Input, VecDeque<(Offset, oneshot::Receiver<()>)>>,
}

/// Sync sources, compiled.
struct Sources {
    routes: Routes,
    /// By source: where its answers may go.
    replies: BTreeMap<String, ReplyTopics>,
}

#[derive(Default)]
struct ReplyTopics {
    names: BTreeSet<String>,
    patterns: RegexSet,
}

impl Sources {
    fn of(view: &View) -> Self {
        let sync = view.sources.values().filter(|source| source.delivery == DeliveryMode::Sync);
        let replies = sync.map(|source| (source.name.clone(), ReplyTopics::of(&source.reply_topics)));
        Self {
            replies: replies.collect(),
            routes: Routes::build(view.sources.values(), DeliveryMode::Sync).0,
        }
    }
}

impl ReplyTopics {
    fn of(topics: &[String]) -> Self {
        let (patterns, names): (Vec<_>, Vec<_>) = topics.iter().partition(|topic| topic.starts_with('^'));
        // They were checked when they were written.
        let patterns = RegexSet::new(patterns).unwrap_or_default();
        Self { names: names.into_iter().cloned().collect(), patterns }
    }

    fn allow(&self, topic: &str) -> bool {
        self.names.contains(topic) || self.patterns.is_match(topic)
    }
}

/// Where an answer goes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ReplyTo {
    topic: String,
    partition: Partition,
    /// The name of the header as it came, and its value.
    correlation: Option<(&'static str, Vec<u8>)>,
}

/// Why it goes nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum NoReply {
    #[error("the request has no header `reply-topic`: it could not be answered, and nobody was called")]
    Unnamed,
    #[error("the source `{of}` does not let answers go to the topic `{topic}`: add it to its `replyTopics`")]
    NotAllowed { of: String, topic: String },
}

/// `own` is the namespace of hookstream's topics, where no answer may go.
fn reply_to(
    source: &str,
    allowed: &ReplyTopics,
    own: &str,
    record: RecordRef<'_>,
) -> Result<ReplyTo, NoReply> {
    let first = |names: &[&'static str]| {
        names.iter().find_map(|name| record.header(name).map(|value| (*name, value)))
    };
    let (_, topic) = first(&["reply-topic", "kafka_replyTopic"]).ok_or(NoReply::Unnamed)?;
    let topic = String::from_utf8_lossy(topic).into_owned();
    let is_own = topic.strip_prefix(own).is_some_and(|rest| rest.starts_with('.'));
    if is_own || !allowed.allow(&topic) {
        return Err(NoReply::NotAllowed { of: source.to_owned(), topic });
    }
    let partition = record.header("kafka_replyPartition").and_then(|bytes| bytes.try_into().ok());
    let partition = partition.map_or(ANY_PARTITION, |bytes| Partition(i32::from_be_bytes(bytes)));
    let correlation = first(&["correlation-id", "kafka_correlationId"]);
    let correlation = correlation.map(|(name, value)| (name, value.to_vec()));
    Ok(ReplyTo { topic, partition, correlation })
}

/// How long a request that was made at `made` may still take; text that is none counts as none.
fn left(record: RecordRef<'_>, now: UnixMillis) -> Duration {
    let text = record.header("deadline").and_then(|value| std::str::from_utf8(value).ok());
    let patience = text.and_then(|text| deadline(text).ok()).unwrap_or(DEFAULT_DEADLINE);
    let age = now.0.saturating_sub(record.timestamp.0);
    // A clock that is behind does not make anybody wait longer.
    patience.saturating_sub(Duration::from_millis(u64::try_from(age).unwrap_or(0)))
}

impl Calls {
    /// Decides by another view from here on.
    fn set_view(&mut self, view: &Arc<View>) {
        if Arc::ptr_eq(view, &self.view) {
            return;
        }
        if view.sources != self.view.sources {
            self.sources = Sources::of(view);
        }
        self.view = Arc::clone(view);
    }

    /// How many requests of the input are under way.
    fn settle(&mut self, input: Input) -> usize {
        let Some(calls) = self.under_way.get_mut(&input) else { return 0 };
        calls.retain_mut(|(_, answered)| {
            matches!(answered.try_recv(), Err(oneshot::error::TryRecvError::Empty))
        });
        calls.len()
    }
}

impl Function for Calls {
    type Cursor = ();

    fn apply(
        &mut self,
        record: RecordRef<'_>,
        from: &Place,
        (): &mut (),
        outputs: &mut Outputs<'_>,
    ) -> Result<Applied, Full> {
        if self.settle(from.input) >= MOST_OF_A_PARTITION {
            return Ok(Applied::Wait);
        }
        // Of no source any more: the partition is about to be taken from us.
        let Some(source) = self.sources.routes.source(&from.topic) else { return Ok(Applied::Wait) };
        let Some(allowed) = self.sources.replies.get(&source.name) else { return Ok(Applied::Wait) };
        let to = match reply_to(&source.name, allowed, &self.topics.namespace, record) {
            Ok(to) => to,
            Err(why) => {
                self.shared.metrics.sync_requests_total.with_label_values(&["unanswerable"]).inc();
                let message = why.to_string();
                return self.reject(record, from, &source.name, &message, outputs).map(|()| Applied::Done);
            }
        };
        let began = Instant::now();
        let deadline = began + left(record, self.shared.clock.wall());
        // The topic's id would do as well, but has to be asked for: a topic that is made anew has other times.
        let named = format!("{}@{}", from.topic, record.timestamp.0);
        let at = Coordinates {
            cluster: CLUSTER,
            topic_id: &named,
            partition: from.partition,
            offset: record.offset,
        };
        let input =
            SourceRecord { timestamp: record.timestamp, value: record.value, headers: record.headers };
        let (mut events, mut refused) = (Vec::new(), None);
        decode(source, input, at, &self.view, |_, outcome| match outcome {
            Ok(decoded) => events.push((decoded.attributes, Bytes::from(decoded.data.into_owned()))),
            Err(rejection) => refused = Some(rejection.message),
        });
        let asked = match (refused, events.pop()) {
            (Some(reason), _) => Err(reason),
            (None, Some(event)) if events.is_empty() => Ok(event),
            (None, Some(_)) => Err("a request has one event, not a batch".to_owned()),
            (None, None) => Err("the record holds no event".to_owned()),
        };
        let (answer, answered) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        self.shared.runtime.spawn(async move {
            shared.answer(asked, deadline, &to).await;
            answer.send(()).ok();
        });
        self.under_way.entry(from.input).or_default().push_back((record.offset, answered));
        Ok(Applied::Done)
    }

    fn too_large(
        &mut self,
        record: RecordRef<'_>,
        from: &Place,
        nth: u32,
        outputs: &mut Outputs<'_>,
    ) -> Result<(), Full> {
        // Only a rejected request is produced here, which fits if most of it is left out.
        if nth > 0 {
            return Ok(());
        }
        let empty = RecordRef { value: None, key: None, headers: &[], ..record };
        self.reject(empty, from, "", "a request without `reply-topic` is too large to be kept", outputs)
    }

    fn before_commit(
        &mut self,
        from: &Place,
        _: Offset,
        end: Offset,
        _: &mut Outputs<'_>,
    ) -> Result<Applied, Full> {
        self.settle(from.input);
        let calls = self.under_way.get(&from.input);
        let waits = calls.is_some_and(|calls| calls.iter().any(|(offset, _)| *offset < end));
        Ok(if waits { Applied::Wait } else { Applied::Done })
    }

    fn forget(&mut self, from: &Place) {
        self.under_way.remove(&from.input);
    }
}

impl Calls {
    fn reject(
        &self,
        record: RecordRef<'_>,
        from: &Place,
        source: &str,
        message: &str,
        outputs: &mut Outputs<'_>,
    ) -> Result<(), Full> {
        let rejected = Rejected {
            reason: UNANSWERABLE,
            message,
            topic: &from.topic,
            partition: from.partition,
            offset: record.offset,
            index: 0,
            source,
            produced_at: record.timestamp,
            value_bytes: record.value.map_or(0, <[u8]>::len),
        };
        let original = Original { key: record.key, value: record.value, headers: record.headers };
        let partition = Partition(from.partition.0.rem_euclid(self.partitions));
        rejected::encode(&rejected, original, MAX_RECORD_BYTES, |key, value, headers| {
            outputs.produce(OutRecord { topic: &self.topics.rejected, partition, key, value, headers })
        })
    }
}

impl Shared {
    /// Calls whom an event concerns, and writes what they answered.
    async fn answer(&self, asked: Result<(EventAttributes, Bytes), String>, deadline: Instant, to: &ReplyTo) {
        let (outcome, answer) = match self.called(asked, deadline).await {
            Ok(answers) => ("answered", answers),
            Err(reason) => ("refused", json!({ "results": [], "reason": reason })),
        };
        let outcome = if self.reply(to, answer.to_string().as_bytes()).await { outcome } else { "unwritten" };
        self.metrics.sync_requests_total.with_label_values(&[outcome]).inc();
    }

    async fn called(
        &self,
        asked: Result<(EventAttributes, Bytes), String>,
        deadline: Instant,
    ) -> Result<serde_json::Value, String> {
        let (event, data) = asked?;
        self.caller.validate(&event, &data).await.map_err(|problem| problem.detail)?;
        let answers = self.caller.call(event, data, deadline).await.map_err(|crowded| crowded.to_string())?;
        serde_json::to_value(answers).map_err(|error| error.to_string())
    }

    /// Writes an answer. Returns whether it is there.
    async fn reply(&self, to: &ReplyTo, value: &[u8]) -> bool {
        let by = Instant::now() + WRITING;
        let content_type: (&str, &[u8]) = ("content-type", b"application/json");
        let mut headers = vec![content_type];
        headers.extend(to.correlation.iter().map(|(name, value)| (*name, value.as_slice())));
        let record = OutRecord {
            topic: &to.topic,
            partition: to.partition,
            key: to.correlation.as_ref().map(|(_, value)| value.as_slice()),
            value: Some(value),
            headers: &headers,
        };
        loop {
            match self.appender.append(&[record]).await {
                Ok(()) => return true,
                // Whoever waits for it takes the first of two.
                Err(NotAppended::Unknown { .. }) if Instant::now() < by => {
                    tokio::time::sleep(WRITE_AGAIN).await;
                }
                Err(error) => {
                    warn!(kafka.topic = to.topic, error = %Chain(&error), "an answer is not written");
                    return false;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_795_000_000_000);

    fn record<'a>(headers: &'a [(&'a str, &'a [u8])], timestamp: i64) -> RecordRef<'a> {
        let (key, value) = (None, Some(&b"{}"[..]));
        RecordRef { offset: Offset(1), timestamp: UnixMillis(timestamp), key, value, headers }
    }

    fn to(topics: &[&str], headers: &[(&str, &[u8])]) -> Result<ReplyTo, String> {
        let topics: Vec<String> = topics.iter().map(|topic| (*topic).to_owned()).collect();
        let found = reply_to("asks", &ReplyTopics::of(&topics), "hookstream", record(headers, 0));
        found.map_err(|error| error.to_string())
    }

    #[test]
    fn where_answers_go() {
        let plain: [(&str, &[u8]); 2] = [("reply-topic", b"a.replies"), ("correlation-id", b"\x00\x01")];
        let expected = ReplyTo {
            topic: "a.replies".into(),
            partition: ANY_PARTITION,
            correlation: Some(("correlation-id", vec![0, 1])),
        };
        for allowed in [&["a.replies"][..], &["x", "^[a-c]\\.replies$"]] {
            assert_eq!(to(allowed, &plain), Ok(expected.clone()));
        }
        let spring: [(&str, &[u8]); 3] = [
            ("kafka_replyTopic", b"b.replies"),
            ("kafka_correlationId", b"c"),
            ("kafka_replyPartition", &[0, 0, 1, 2]),
        ];
        let expected = ReplyTo {
            topic: "b.replies".into(),
            partition: Partition(258),
            correlation: Some(("kafka_correlationId", b"c".to_vec())),
        };
        assert_eq!(to(&["b.replies"], &spring), Ok(expected));
    }

    #[test]
    fn where_answers_do_not_go() {
        assert!(to(&["a"], &[]).unwrap_err().contains("no header `reply-topic`"));
        let topic = |name: &'static str| [("reply-topic", name.as_bytes())];
        assert!(to(&["a"], &topic("b")).unwrap_err().contains("add it to its `replyTopics`"));
        assert!(to(&[], &topic("b")).is_err());
        // Whatever is allowed, not hookstream's own.
        assert!(to(&["^.*$"], &topic("hookstream.config")).is_err());
        assert!(to(&["^.*$"], &topic("hookstreams.own")).is_ok());
    }

    #[test]
    fn how_long_is_left() {
        let left = |deadline: &'static str, age: i64| {
            left(record(&[("deadline", deadline.as_bytes())], NOW.0 - age), NOW)
        };
        assert_eq!(left("2s", 500), Duration::from_millis(1_500));
        assert_eq!(left("2s", 2_500), Duration::ZERO);
        assert_eq!(left("2s", -60_000), Duration::from_secs(2), "a clock that is ahead");
        for none in ["", "soon", "1h", "-1s"] {
            assert_eq!(left(none, 0), DEFAULT_DEADLINE, "{none}");
        }
        assert_eq!(super::left(record(&[], NOW.0), NOW), DEFAULT_DEADLINE);
    }
}
