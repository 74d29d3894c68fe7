//! Events that keep coming, at a steady rate, from a client that we did not write.

use std::io::Write as _;
use std::process::{Child, ChildStdin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use crate::kafka::{Kafka, Message};

/// How often some are written.
const TICK: Duration = Duration::from_millis(20);

/// The headers of CloudEvents in structured mode.
pub const CLOUDEVENTS: &[(&str, &str)] = &[("content-type", "application/cloudevents+json; charset=UTF-8")];

/// The CloudEvent of this type and with this number as its id.
pub(crate) fn cloudevent(event_type: &str, n: usize) -> Message {
    let subject = format!("customer-{}", n % 97);
    let value = format!(
        r#"{{"specversion":"1.0","id":"{n}","source":"/e2e","type":"{event_type}","subject":"{subject}","datacontenttype":"application/json","data":{{"n":{n}}}}}"#
    );
    Message { key: subject, value }
}

/// A producer in the background.
#[derive(Debug)]
pub struct Feed {
    stop: Arc<AtomicBool>,
    writer: Option<JoinHandle<usize>>,
    kcat: Child,
}

impl Feed {
    /// Produces events of type `order.created`, numbered from 0, until it is told to finish.
    #[must_use]
    pub fn start(kafka: &Kafka, topic: &str, per_second: usize) -> Self {
        Self::of(kafka, topic, per_second, |n| cloudevent("order.created", n))
    }

    /// Produces the events that `make` makes of their numbers, from 0, until it is told to finish.
    #[must_use]
    pub fn of(
        kafka: &Kafka,
        topic: &str,
        per_second: usize,
        make: impl Fn(usize) -> Message + Send + 'static,
    ) -> Self {
        let (kcat, stdin) = kafka.producer(topic, CLOUDEVENTS);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let writer = std::thread::spawn(move || write(stdin, per_second, &make, &stopped));
        Self { stop, writer: Some(writer), kcat }
    }

    /// Ends it, and returns how many events there are, all of them acknowledged.
    ///
    /// # Panics
    /// If the producer failed.
    pub fn finish(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let writer = self.writer.take().expect("it is taken only here and at the end");
        let written = writer.join().unwrap_or_else(|_| panic!("the producer does not take events any more"));
        // Its input has ended: it ends when all is acknowledged.
        let status = self.kcat.wait().expect("a child can be waited for");
        assert!(status.success(), "kcat failed ({status})");
        written
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.kcat.kill().ok();
        self.kcat.wait().ok();
    }
}

fn write(
    mut stdin: ChildStdin,
    per_second: usize,
    make: &dyn Fn(usize) -> Message,
    stop: &AtomicBool,
) -> usize {
    let started = Instant::now();
    let mut written = 0;
    while !stop.load(Ordering::Relaxed) {
        let due =
            usize::try_from(started.elapsed().as_millis()).expect("a test is short") * per_second / 1000;
        let mut lines = String::new();
        for n in written..due {
            lines.push_str(&make(n).line());
        }
        written = due;
        stdin.write_all(lines.as_bytes()).expect("kcat reads its input");
        sleep(TICK);
    }
    written
}
